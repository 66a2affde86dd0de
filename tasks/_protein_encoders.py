"""Encoders of protein sequences with a head on the mean of their residues: ESM-1b, ESM-2 and TAPE's transformer.

All are transformers' own: ESM's as ``EsmModel``, TAPE's as ``BertModel``, each over its vocabulary of one token a
residue. Poolers and the head that predicts contacts are left out: nothing trains them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from smcbench import files
from smcbench.sources import Checkpoint
from smcbench.task import nearest

from ._pretrained import pretrained
from ._sequences import LETTERS
from ._text import Tokens

Kind = Literal["esm1b", "esm2", "tape"]

_ESM = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>")
_TAPE = ("<pad>", "<mask>", "<cls>", "<sep>", "<unk>", *LETTERS)
VOCABULARIES: Mapping[Kind, tuple[str, ...]] = {"esm1b": _ESM, "esm2": _ESM, "tape": _TAPE}
_SPECIAL: Mapping[Kind, tuple[str, str, str, str]] = {
    "esm1b": ("<pad>", "<cls>", "<eos>", "<mask>"),
    "esm2": ("<pad>", "<cls>", "<eos>", "<mask>"),
    "tape": ("<pad>", "<cls>", "<sep>", "<mask>"),
}

CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("facebook/esm2_t6_8M_UR50D", "c731040fcd8d73dceaa04b0a8e6329b345b0f5df", "MIT"),
        # Of the next two no commit could be confirmed.
        Checkpoint("facebook/esm1b_t33_650M_UR50S", "main", "MIT", weights=("model.safetensors", "pytorch_model.bin")),
        # TAPE's own weights (bert-base of songlab-cal/tape), converted for transformers.
        Checkpoint("mlnotes/tape", "main", "BSD-3-Clause, as TAPE", weights=("model.safetensors", "pytorch_model.bin")),
    )
}


def tokens(kind: Kind) -> Tokens:
    """One token a residue, by the vocabulary of an encoder.

    >>> tokens("esm1b").encode(["LAX"])
    [[4, 5, 24]]
    """
    vocabulary = VOCABULARIES[kind]
    index = {token: number for number, token in enumerate(vocabulary)}
    special = [index[token] for token in _SPECIAL[kind]]
    return Tokens(lambda texts: [[index[c] for c in text] for text in texts], special, files.digest(list(vocabulary)))


@dataclass(frozen=True)
class Encoder:
    """An encoder of proteins: whose, its sizes, its head, and the checkpoint with its weights.

    Attributes:
        positions: most tokens; of ESM-2, whose positions are rotary, no limit.
        head: hidden units of the head (linear, layer norm, ReLU, dropout, linear).
        head_dropout: in the head.
        init: standard deviation of random weights.
        checkpoint: none: random weights.
        pretrained: whether the checkpoint's weights are taken.
    """

    kind: Kind
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    head: int
    dropout: float = 0.0
    head_dropout: float = 0.0
    init: float = 0.02
    checkpoint: str | None = None
    pretrained: bool = True

    def scaled(self, width: float) -> Encoder:
        """With narrower heads and layers; random weights deviate by more, as there are fewer of them in a sum."""
        found = nearest(self.width * width, self.heads * (2 if self.kind == "esm2" else 1))  # rotary ones turn pairs
        return dataclasses.replace(
            self,
            width=found,
            inner=nearest(self.inner * width),
            head=nearest(self.head * width),
            init=self.init * (self.width / found) ** 0.5,
        )

    def build(self, outputs: int) -> Protein:
        """The model in fp32.

        Raises:
            InvalidInput: the checkpoint is missing, torn, or does not fill the encoder.
        """
        import transformers

        sizes: dict[str, Any] = {
            "vocab_size": len(VOCABULARIES[self.kind]),
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "initializer_range": self.init,
            "attn_implementation": "sdpa",
        }
        special = tokens(self.kind)
        if self.kind == "tape":
            made: Any = transformers.BertModel
            config: Any = transformers.BertConfig(
                **sizes, max_position_embeddings=self.positions, type_vocab_size=1, pad_token_id=special.pad
            )
        else:
            made = transformers.EsmModel
            config = transformers.EsmConfig(
                **sizes,
                max_position_embeddings=self.positions + 2,  # counted from the padding token's number on
                position_embedding_type="absolute" if self.kind == "esm1b" else "rotary",
                emb_layer_norm_before=self.kind == "esm1b",
                token_dropout=True,
                pad_token_id=special.pad,
                mask_token_id=special.mask,
            )
        if self.checkpoint is None or not self.pretrained:
            backbone = made(config, add_pooling_layer=False)
        else:
            backbone = pretrained(
                made, config, CHECKPOINTS[self.checkpoint], ("contact_head.",), add_pooling_layer=False
            )
        if self.kind != "tape":
            del backbone.contact_head
        return Protein(backbone, self.width, self.head, outputs, self.head_dropout, self.init)


TAPE = Encoder("tape", 768, 12, 12, 3072, 8192, 512, 0.1, 0.1, checkpoint="mlnotes/tape")
ESM1B = Encoder("esm1b", 1280, 33, 20, 5120, 1024, 512, head_dropout=0.5, checkpoint="facebook/esm1b_t33_650M_UR50S")
ESM2_8M = Encoder("esm2", 320, 6, 20, 1280, 1024, 320, checkpoint="facebook/esm2_t6_8M_UR50D")


class Head(nn.Sequential):
    """Linear, layer norm, ReLU, dropout, linear: the head of HotProtein's and SMC-Bench's code."""

    def __init__(self, width: int, hidden: int, outputs: int, dropout: float, init: float) -> None:
        first, last = nn.Linear(width, hidden), nn.Linear(hidden, outputs)
        for linear in (first, last):
            nn.init.normal_(linear.weight, std=init)
            nn.init.zeros_(linear.bias)
        super().__init__(first, nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout), last)


class Protein(nn.Module):
    """An encoder, and a head on what is pooled of its residues."""

    def __init__(self, backbone: nn.Module, width: int, hidden: int, outputs: int, dropout: float, init: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Head(width, hidden, outputs, dropout, init)

    def forward(self, tokens: Tensor, real: Tensor, pooled: Tensor) -> Tensor:
        """Logits of shape (examples, outputs).

        Args:
            tokens: of shape (examples, sequences, length): one sequence, or two: a wild type and its mutant.
            real: which of them are no padding.
            pooled: whose states are averaged. Of two sequences the head sees the second average less the first.
        """
        flat = self.backbone(input_ids=tokens.flatten(0, 1), attention_mask=real.flatten(0, 1).long())
        states = flat.last_hidden_state.view(*tokens.shape, -1)
        weights = pooled.to(states.dtype)[..., None]
        mean = (states * weights).sum(2) / weights.sum(2)
        return self.head(mean[:, 0] if mean.shape[1] == 1 else mean[:, 1] - mean[:, 0])  # type: ignore[no-any-return]
