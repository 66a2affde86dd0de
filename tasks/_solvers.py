"""Networks that solve word problems: GTS (Xie and Sun, 2019) and Graph2Tree (Zhang et al., 2020).

Five modules, as SMC-Bench counts and prunes them: embedding, encoder, predict, generate, merge. Words are embedded by
a table or by a pretrained transformer that is trained along; a bidirectional LSTM reads them; in Graph2Tree a graph
network joins what belongs together; and a tree decoder (:mod:`_trees`) writes the expression.

Where SVAMP's code, on which SMC-Bench stands, and the papers differ we follow the papers: a quantity is represented at
its own sub-word (there at the place of its word, which is another one), and the problem vector is the forward state at
the last real token (there at the end of the padding). Graph2Tree's own layer norm divides by the standard deviation
plus 1e-6; here it is torch's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench.task import Batch, nearest

from ._text import Encoder
from ._trees import Generate, Merge, Predict, Problems, search, teach

_HEADS = (0, 0, 1, 1)
"""Which of the graphs each head looks at: twice the comparison of quantities, twice their attributes."""
_GRAPH_DROPOUT = 0.3


@dataclass(frozen=True)
class Solver:
    """The sizes of a network.

    Attributes:
        kind: whether the encoder has a graph network.
        width: of LSTM and decoder.
        embedding: of a word, and of an operator.
        encoder: the transformer that embeds words; None: a table.
    """

    kind: Literal["gts", "graph2tree"]
    width: int
    embedding: int
    encoder: Encoder | None = None
    layers: int = 2
    dropout: float = 0.5

    def scaled(self, width: float) -> Solver:
        """With narrower modules; each head of the graph network has its share of the width."""
        encoder = self.encoder.scaled(width) if self.encoder is not None else None
        embedding = encoder.width if encoder is not None else nearest(self.embedding * width)
        found = nearest(self.width * width, len(_HEADS) if self.kind == "graph2tree" else 1)
        return dataclasses.replace(self, width=found, embedding=embedding, encoder=encoder)

    def build(self, vocabulary: int, constants: int) -> Network:
        """The network in fp32; ``vocabulary`` is the table's size."""
        return Network(self, vocabulary, constants)


class Network(nn.Module):
    """Word problems to expressions."""

    def __init__(self, sizes: Solver, vocabulary: int, constants: int) -> None:
        super().__init__()
        width, embedding, dropout = sizes.width, sizes.embedding, sizes.dropout
        table = sizes.encoder is None
        self.embedding: nn.Module = (
            nn.Embedding(vocabulary, embedding) if table else sizes.encoder.build("states", 0)  # type: ignore[union-attr]
        )
        self.encoder = Reader(embedding, width, sizes.layers, dropout, sizes.kind == "graph2tree")
        self.predict = Predict(width, constants, dropout)
        self.generate = Generate(width, embedding, dropout)
        self.merge = Merge(width, embedding, dropout)

    def problems(self, batch: Batch) -> Problems:
        """The encoded problems of a batch."""
        tokens, real = batch["tokens"], batch["real"]
        if isinstance(self.embedding, nn.Embedding):
            embedded = self.embedding(tokens)
        else:
            embedded = self.embedding(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        words, goal = self.encoder(embedded, real, batch.get("graph"))
        given = batch["places"] >= 0
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        return Problems(goal, words, real, words[rows, batch["places"].clamp(min=0)], given)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the tokens of the batch's own expressions; see :func:`_trees.teach`."""
        return teach(self.problems(batch), batch["targets"], self.predict, self.generate, self.merge)

    def solve(self, batch: Batch, beams: int, longest: int) -> list[list[int]]:
        """The expressions that beam search finds; see :func:`_trees.search`."""
        return search(self.problems(batch), beams, longest, self.predict, self.generate, self.merge)


class Reader(nn.Module):
    """A bidirectional LSTM whose directions are added, and perhaps a graph network over what it gives."""

    def __init__(self, embedding: int, width: int, layers: int, dropout: float, graph: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True, bidirectional=True, dropout=between)
        self.graph = Graph(width) if graph else None

    def forward(self, embedded: Tensor, real: Tensor, graph: Tensor | None) -> tuple[Tensor, Tensor]:
        """Words, shape (batch, length, width), and problem vectors: forward at the end plus backward at the start."""
        lengths = real.sum(dim=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(embedded), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], True, total_length=real.shape[1])
        forth, back = states.chunk(2, dim=2)
        rows = torch.arange(len(states), device=states.device)
        goal = forth[rows, lengths - 1] + back[:, 0]
        words = forth + back
        return (words if self.graph is None or graph is None else self.graph(words, graph)), goal


class Graph(nn.Module):
    """Four heads of a two-layer graph convolution, then a feed-forward layer, each added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in _HEADS])
        self.second = nn.ModuleList([nn.Linear(width, width // len(_HEADS)) for _ in _HEADS])
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(_GRAPH_DROPOUT)

    def forward(self, words: Tensor, graph: Tensor) -> Tensor:
        """Words of shape (batch, length, width); ``graph`` of shape (batch, graphs, length, length)."""
        heads = []
        for which, first, second in zip(_HEADS, self.first, self.second, strict=True):
            links = graph[:, which].to(words)
            hidden = self.dropout(F.relu(_convolved(first, words, links)))
            heads.append(_convolved(second, hidden, links))
        joined = self.norm(torch.cat(heads, dim=2)) + words
        return self.narrow(self.dropout(F.relu(self.wide(joined)))) + joined  # type: ignore[no-any-return]


def _convolved(layer: nn.Module, words: Tensor, links: Tensor) -> Tensor:
    """A graph convolution (Kipf and Welling, 2017) without normalisation: the sum over linked words, plus a bias."""
    assert isinstance(layer, nn.Linear)
    return links @ F.linear(words, layer.weight) + layer.bias
