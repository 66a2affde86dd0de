"""The encoder of ESM-IF1 (Hsu et al., 2022, ICML): geometric vector perceptrons, then a transformer, on a backbone.

ESM-IF1 has 142 M parameters in an encoder and a decoder of amino acids; a head on the encoder's output needs no
decoder, so this is the encoder alone, of 108 M. It is written out here because the ``fair-esm`` package runs it on
``torch_scatter``, of which there are no wheels for current versions of torch. Weights have the names of that package,
so its checkpoint fits. Geometric vector perceptrons: Jing et al., 2021, ICLR.

A residue is a node with scalars and vectors; edges lead from each to its nearest, itself too. What the transformer sees
does not change when the protein is turned: vectors are put into the frame of their residue. Where it lies matters at
its ends alone: as in the package, the places before and after it are at the origin.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench.errors import InvalidInput
from smcbench.sources import MODELS, Checkpoint, State, root_of

from ._protein_encoders import Head

_PAD, _MASK, _TOKENS = 1, 32, 35
"""Numbers of two tokens, and the size, of ESM-IF1's vocabulary; the encoder sees no others."""


_RENAMED = (
    ("W_v", "embed_graph.embed_node"), ("W_e", "embed_graph.embed_edge"), ("embed_scores.0", "embed_confidence"),
    ("embed_score.", "embed_graph.embed_confidence."), ("embed_ingraham_features", "embed_dihedrals"),
    ("embed_gvp_in_local_frame.0", "embed_gvp_output"),
    ("embed_features_in_local_frame.0", "embed_gvp_input_features"),
)  # fmt: skip
"""What the published file calls some modules, and what the package does."""


class Features(NamedTuple):
    """Scalars of shape (..., channels) and vectors of shape (..., channels, 3)."""

    scalars: Tensor
    vectors: Tensor

    def __add__(self, other: Any) -> Features:
        return Features(self.scalars + other.scalars, self.vectors + other.vectors)

    def joined(self, *others: Features) -> Features:
        """The channels of all."""
        every = (self, *others)
        return Features(torch.cat([f.scalars for f in every], -1), torch.cat([f.vectors for f in every], -2))


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + 1e-8).sqrt()


def _bumps(values: Tensor, low: float, high: float, count: int = 16) -> Tensor:
    """How near values are to evenly spaced ones, as Gaussians, of shape (..., count)."""
    centers = torch.linspace(low, high, count, device=values.device)
    return torch.exp(-(((values[..., None] - centers) * count / (high - low)) ** 2))


def dihedrals(atoms: Tensor) -> Tensor:
    """Cosines, then sines, of phi, psi and omega, of shape (proteins, residues, 6); an angle that has no end is 0.

    Args:
        atoms: N, CA, C of shape (proteins, residues, 3, 3).
    """
    chain = atoms.flatten(1, 2)
    along = _unit(chain[:, 1:] - chain[:, :-1])
    first, second, third = along[:, :-2], along[:, 1:-1], along[:, 2:]
    before, after = _unit(first.cross(second, dim=-1)), _unit(second.cross(third, dim=-1))
    cosine = (before * after).sum(-1).clamp(-1 + 1e-7, 1 - 1e-7)
    angle = torch.sign((first * after).sum(-1)) * cosine.acos()
    angles = F.pad(angle, (1, 2)).view(len(atoms), -1, 3)
    return torch.cat([angles.cos(), angles.sin()], -1)


def frames(atoms: Tensor) -> Tensor:
    """The frame of each residue: three orthogonal unit vectors as rows, of shape (proteins, residues, 3, 3)."""
    nitrogen, middle, carbon = atoms.unbind(2)
    first = _unit(carbon - middle)
    other = nitrogen - middle
    second = _unit(other - first * (first * other).sum(-1, keepdim=True))
    return torch.stack([first, second, first.cross(second, dim=-1)], -2)


def nodes(atoms: Tensor) -> Features:
    """Six scalars (dihedrals) and three vectors: to the next residue, to the last one, and to the side chain."""
    nitrogen, middle, carbon = atoms.unbind(2)
    step = middle[:, 1:] - middle[:, :-1]
    forward, backward = F.pad(_unit(step), (0, 0, 0, 1)), F.pad(_unit(-step), (0, 0, 1, 0))
    to_carbon, to_nitrogen = _unit(carbon - middle), _unit(nitrogen - middle)
    bisector, across = _unit(to_carbon + to_nitrogen), _unit(to_carbon.cross(to_nitrogen, dim=-1))
    side = -bisector * math.sqrt(1 / 3) - across * math.sqrt(2 / 3)
    return Features(dihedrals(atoms), torch.stack([forward, backward, side], -2))


class Perceptron(nn.Module):
    """A geometric vector perceptron: vectors are only mixed and scaled, so they turn as the input turns."""

    def __init__(self, given: tuple[int, int], made: tuple[int, int], gated: bool = False, active: bool = True) -> None:
        super().__init__()
        hidden = max(given[1], made[1])
        self.wh = nn.Linear(given[1], hidden, bias=False)
        self.ws = nn.Linear(hidden + given[0], made[0])
        self.wv = nn.Linear(hidden, made[1], bias=False)
        self.wg = nn.Linear(made[0], made[1]) if gated else None
        self.active = active

    def forward(self, features: Features) -> Features:
        """Features of the channels ``made``."""
        mixed = self.wh(features.vectors.transpose(-1, -2))
        lengths = (mixed.square().sum(-2) + 1e-8).sqrt()
        scalars = self.ws(torch.cat([features.scalars, lengths], -1))
        vectors = self.wv(mixed).transpose(-1, -2)
        if not self.active:
            return Features(scalars, vectors)
        scalars = scalars.relu()
        gate = self.wg(scalars)[..., None] if self.wg else (vectors.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        return Features(scalars, vectors * gate.sigmoid())


class Norm(nn.Module):
    """Layer norm of scalars; vectors are divided by the root of the mean square of those that are not zero."""

    def __init__(self, scalars: int) -> None:
        super().__init__()
        self.scalar_norm = nn.LayerNorm(scalars)

    def forward(self, features: Features) -> Features:
        """Features of the same shape."""
        eps = 1e-4
        square = features.vectors.square().sum(-1, keepdim=True) + eps
        some = square > 2 * eps
        mean = (square * some).sum(-2, keepdim=True) / (eps + some.sum(-2, keepdim=True))
        return Features(self.scalar_norm(features.scalars), some * features.vectors / (mean + eps).sqrt())


class Dropout(nn.Module):
    """Drops scalars, and vectors as a whole."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Features) -> Features:
        """Features of the same shape."""
        if not self.training or self.rate == 0:
            return features
        whole = F.dropout(torch.ones_like(features.vectors[..., :1]), self.rate)
        return Features(F.dropout(features.scalars, self.rate), features.vectors * whole)


class Messages(nn.Module):
    """What a residue hears: the mean over incoming edges of a function of both ends and the edge."""

    def __init__(self, node: tuple[int, int], edge: tuple[int, int]) -> None:
        super().__init__()
        both = (2 * node[0] + edge[0], 2 * node[1] + edge[1])
        self.message_func = nn.Sequential(
            Perceptron(both, node, gated=True), Perceptron(node, node, gated=True), Perceptron(node, node, active=False)
        )

    def forward(self, node: Features, ends: Tensor, edge: Features) -> Features:
        """Features of all nodes; ``ends`` of shape (2, edges): from, to."""
        source, target = ends
        sent, heard = (Features(node.scalars[at], node.vectors[at]) for at in (source, target))
        said = self.message_func(sent.joined(edge, heard))
        count = torch.zeros(len(node.scalars), device=target.device).index_add(
            0, target, torch.ones_like(target).float()
        )
        count = count.clamp(min=1)[:, None]
        scalars = torch.zeros_like(node.scalars).index_add(0, target, said.scalars) / count
        vectors = torch.zeros_like(node.vectors).index_add(0, target, said.vectors) / count[..., None]
        return Features(scalars, vectors)


class Convolution(nn.Module):
    """Messages and a feed-forward part, each added and normalised."""

    def __init__(self, node: tuple[int, int], edge: tuple[int, int], dropout: float) -> None:
        super().__init__()
        wide = (4 * node[0], 2 * node[1])
        self.conv = Messages(node, edge)
        self.norm = nn.ModuleList([Norm(node[0]), Norm(node[0])])
        self.ff_func = nn.Sequential(Perceptron(node, wide, gated=True), Perceptron(wide, node, active=False))
        self.dropout = Dropout(dropout)

    def forward(self, node: Features, ends: Tensor, edge: Features) -> Features:
        """Features of all nodes."""
        node = self.norm[0](node + self.dropout(self.conv(node, ends, edge)))
        return self.norm[1](node + self.dropout(self.ff_func(node)))  # type: ignore[no-any-return]


class Graph(nn.Module):
    """Nodes and edges of backbones, embedded."""

    def __init__(self, node: tuple[int, int], edge: tuple[int, int], neighbours: int) -> None:
        super().__init__()
        self.embed_node = nn.Sequential(Perceptron((7, 3), node, active=False), Norm(node[0]))
        self.embed_edge = nn.Sequential(Perceptron((34, 1), edge, active=False), Norm(edge[0]))
        self.embed_confidence = nn.Linear(16, node[0])
        self.neighbours = neighbours

    def forward(self, atoms: Tensor, known: Tensor, confidence: Tensor) -> tuple[Features, Tensor, Features]:
        """Nodes of all residues in a row, the ends of the edges between those whose place is known, and these."""
        plain = nodes(atoms)
        given = Features(torch.cat([plain.scalars, known[..., None].float()], -1), plain.vectors)
        node = self.embed_node(given)
        scalars = node.scalars + self.embed_confidence(_bumps(confidence, 0.0, 1.0))

        middle = atoms[:, :, 1]
        length = middle.shape[1]
        distance = ((middle[:, None] - middle[:, :, None]).square().sum(-1) + 1e-8).sqrt()
        distance = distance.masked_fill(~(known[:, None] & known[:, :, None]), math.inf)
        nearest, target = distance.topk(min(self.neighbours, length), dim=-1, largest=False)
        protein, source, place = nearest.isfinite().nonzero(as_tuple=True)
        target = target[protein, source, place]
        apart = (source - target)[:, None] * torch.exp(
            torch.arange(0, 16, 2, device=atoms.device) * -(math.log(10000.0) / 16)
        )
        near = _bumps(nearest[protein, source, place], 0.0, 20.0)
        told = torch.cat([near, apart.cos(), apart.sin(), near.new_zeros(len(near), 2)], -1)
        edge = Features(told, _unit(middle[protein, source] - middle[protein, target])[:, None])
        ends = torch.stack([source, target]) + protein * length
        return Features(scalars.flatten(0, 1), node.vectors.flatten(0, 1)), ends, self.embed_edge(edge)


class Geometry(nn.Module):
    """The graph through its convolutions."""

    def __init__(
        self, node: tuple[int, int], edge: tuple[int, int], layers: int, neighbours: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed_graph = Graph(node, edge, neighbours)
        self.encoder_layers = nn.ModuleList([Convolution(node, edge, dropout) for _ in range(layers)])

    def forward(self, atoms: Tensor, known: Tensor, confidence: Tensor) -> Features:
        """Features of shape (proteins, residues, ...)."""
        node, ends, edge = self.embed_graph(atoms, known, confidence)
        for layer in self.encoder_layers:
            node = layer(node, ends, edge)
        return Features(*(part.view(*known.shape, *part.shape[1:]) for part in node))


class Attention(nn.Module):
    """Self-attention of all residues."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.dropout = heads, dropout

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """States of the same shape."""
        query, key, value = (
            project(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        rate = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, real[:, None, None], dropout_p=rate)
        return self.out_proj(found.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A layer of the transformer, norms first."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """States of the same shape."""
        states = states + self.dropout(self.self_attn(self.self_attn_layer_norm(states), real))
        return states + self.dropout(self.fc2(self.fc1(self.final_layer_norm(states)).relu()))  # type: ignore[no-any-return]


class _Normalize(nn.Module):
    """Layer norm as the dihedrals' embedding has it: by the unbiased deviation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, states: Tensor) -> Tensor:
        deviation = (states.var(-1, keepdim=True) + 1e-6).sqrt()
        return self.gain * (states - states.mean(-1, keepdim=True)) / (deviation + 1e-6) + self.bias


class _Dihedrals(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.node_embedding, self.norm_nodes = nn.Linear(6, width), _Normalize(width)

    def forward(self, atoms: Tensor) -> Tensor:
        return self.norm_nodes(self.node_embedding(dihedrals(atoms)))  # type: ignore[no-any-return]


def _positions(real: Tensor, width: int) -> Tensor:
    """Sines and cosines of places counted from the padding token's number on, of shape (proteins, residues, width)."""
    half = width // 2
    place = torch.arange(real.shape[1], device=real.device) + _PAD + 1
    waves = torch.exp(torch.arange(half, device=real.device) * -(math.log(10000.0) / (half - 1)))
    angles = place[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], -1) * real[..., None]


@dataclass(frozen=True)
class Sizes:
    """Of ESM-IF1's encoder, by default as published."""

    width: int = 512
    layers: int = 8
    heads: int = 8
    inner: int = 2048
    node: tuple[int, int] = (1024, 256)
    edge: tuple[int, int] = (32, 1)
    convolutions: int = 4
    neighbours: int = 30
    dropout: float = 0.1
    head: int = 128


IF1 = Sizes()


class Backbone(nn.Module):
    """The encoder."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.width = sizes.width
        self.embed_tokens = nn.Embedding(_TOKENS, sizes.width, padding_idx=_PAD)
        self.embed_gvp_input_features = nn.Linear(15, sizes.width)
        self.embed_confidence = nn.Linear(16, sizes.width)
        self.embed_dihedrals = _Dihedrals(sizes.width)
        self.gvp_encoder = Geometry(sizes.node, sizes.edge, sizes.convolutions, sizes.neighbours, sizes.dropout)
        self.embed_gvp_output = nn.Linear(sizes.node[0] + 3 * sizes.node[1], sizes.width)
        self.layers = nn.ModuleList(
            [Layer(sizes.width, sizes.heads, sizes.inner, sizes.dropout) for _ in range(sizes.layers)]
        )
        self.layer_norm = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, atoms: Tensor, known: Tensor, real: Tensor) -> Tensor:
        """States of shape (proteins, places, width).

        Args:
            atoms: N, CA, C of shape (proteins, places, 3, 3), in angstrom; 0 where there are none.
            known: which places are residues.
            real: those, and the place before the first and after the last one; the others are padding.
        """
        with torch.autocast(atoms.device.type, enabled=False):  # distances and angles need fp32
            states = self._embedded(atoms.float(), known, real)
        states = self.dropout(states) * real[..., None]
        for layer in self.layers:
            states = layer(states, real)
        return self.layer_norm(states)  # type: ignore[no-any-return]

    def _embedded(self, atoms: Tensor, known: Tensor, real: Tensor) -> Tensor:
        """What the transformer sees, of shape (proteins, places, width)."""
        confidence = known.float() - (~real).float()
        turn = frames(atoms)

        def local(vectors: Tensor) -> Tensor:
            return (vectors @ turn.transpose(-1, -2)).flatten(-2)

        scalars, vectors = self.gvp_encoder(atoms, known, confidence)
        plain = nodes(atoms)
        embedded: Tensor = (
            self.embed_tokens(torch.where(real, _MASK, _PAD)) * math.sqrt(self.width)
            + self.embed_dihedrals(atoms)
            + self.embed_gvp_output(torch.cat([scalars, local(vectors)], -1))
            + self.embed_confidence(_bumps(confidence, 0.0, 1.0))
            + self.embed_gvp_input_features(torch.cat([plain.scalars, local(plain.vectors)], -1))
            + _positions(real, self.width)
        )
        return embedded


class Folded(nn.Module):
    """The encoder under a head on the mean of its residues."""

    def __init__(self, sizes: Sizes, outputs: int) -> None:
        super().__init__()
        self.backbone = Backbone(sizes)
        self.head = Head(sizes.width, sizes.head, outputs, sizes.dropout, 0.02)

    def forward(self, atoms: Tensor, known: Tensor, real: Tensor) -> Tensor:
        """Logits of shape (proteins, outputs)."""
        weights = known.float()[..., None]
        states = self.backbone(atoms, known, real)
        return self.head((states * weights).sum(1) / weights.sum(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Released(Checkpoint):
    """A single file that its authors offer, under the models root or in a folder of its name."""

    address: str = ""

    @property
    def url(self) -> str:
        """Where the file is."""
        return self.address

    def folder(self) -> Path | None:
        """The folder it lies in."""
        root = root_of(MODELS)
        places = (root, root / self.name) if root is not None else ()
        return next((place for place in places if (place / self.weights[0]).is_file()), None)

    def state(self) -> State:
        """Whether it is here; it is not fetched."""
        return "local" if self.folder() is not None else "missing"

    def file(self, name: str) -> Path:
        """The file.

        Raises:
            InvalidInput: it is not here.
        """
        folder = self.folder()
        if folder is None:
            raise self.missing()
        return folder / name

    def missing(self, why: str = "") -> InvalidInput:
        """The error of a file that is not here."""
        return InvalidInput(
            f"pretrained model {self.name} is missing{': ' + why if why else ''}; put {self.weights[0]} "
            f"(from {self.url}) into the folder that {MODELS} names"
        )

    def fetch(self) -> None:
        """See that it is here.

        Raises:
            InvalidInput: it is not.
        """
        self.verified()


ESM_IF1 = Released(
    "esm_if1_gvp4_t16_142M_UR50",
    "released",
    "MIT",
    weights=("esm_if1_gvp4_t16_142M_UR50.pt",),
    address="https://dl.fbaipublicfiles.com/fair-esm/models/esm_if1_gvp4_t16_142M_UR50.pt",
)


def load(backbone: Backbone, checkpoint: Checkpoint = ESM_IF1) -> None:
    """Fill the encoder from ESM-IF1's file, read as tensors and plain settings only; its decoder is left aside.

    Raises:
        InvalidInput: the file is missing, torn, holds other things, or does not fill the encoder.
    """
    path = checkpoint.verified()
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)["model"]
        state = {name.removeprefix("encoder."): value for name, value in found.items() if name.startswith("encoder.")}
        for old, new in _RENAMED:
            state = {name.replace(old, new): value for name, value in state.items()}
        wanted = backbone.state_dict()
        wrong = sorted(name for name, value in wanted.items() if name not in state or state[name].shape != value.shape)
    except Exception as error:  # a torn file may raise anything
        what = " ".join(str(error).split())[:100]
        raise InvalidInput(f"{path}: cannot be read as {checkpoint.name} ({type(error).__name__}: {what})") from None
    if wrong:
        raise InvalidInput(f"{path}: does not fill the encoder: {wrong[0]} is missing or of another shape")
    backbone.load_state_dict({name: state[name] for name in wanted})
