"""Proteins: how stable is one in heat? SMC-Bench's family of thermostability, at three scales.

Full: HotProtein (Chen et al., 2023, ICLR) and the Meltome Atlas (Jarzab et al., 2020, Nature Methods 17, 495) with the
models and hyper-parameters of SMC-Bench: TAPE's transformer and ESM-1b on HP-S, ESM-1b on HP-S2C2 and the Atlas, the
encoder of ESM-IF1 on the backbones of HP-S2C5. Unlike in SMC-Bench's code, where ESM-1b's head and ESM-IF1's encoder
stay as they began, both are trained here, the head at its own rate, and rates follow their schedule step by step.
Small: public data of growth temperature and of mutations with a little ESM trained from scratch, or ESM-2 of 8 M
parameters (``NAME@esm2``). Mini: lattice proteins (:mod:`_lattice`).

A sequence is one token a residue between two special ones, cut at its end. The head sees the mean state of the
residues; of a mutation, the state of the mutant's residue less that of the wild type's.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.recipe import Recipe
from smcbench.sources import DATA, Requirement, prepared, root_of
from smcbench.task import SPLITS, Batch, Outputs, Scope, Split, nearest

from ._datasets import dataset
from ._evaluating import buckets, chunks
from ._inverse_folding import ESM_IF1, IF1, Folded, Sizes
from ._inverse_folding import load as load_released
from ._labelled import Labelled, Lazy
from ._protein_encoders import CHECKPOINTS, ESM1B, ESM2_8M, TAPE, Encoder, Kind, tokens
from ._protein_sets import CARVED, CORPORA, FULL, LITTLE, TINY, WINDOW, Structure, stamp, structures, tiny_structures
from ._recipes import recipe
from ._text import Corpus, Packed, _some, pack

_TOKENS = {"cpu": 1 << 12, "cuda": 1 << 16}
"""Padded tokens of a batch for evaluation."""


class _Thermostability(Labelled):
    """What sequences and backbones have in common; subclasses are frozen dataclasses with these fields."""

    family: ClassVar[str] = "protein"
    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    scope: Scope
    head_lr: float | None

    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """Padded tokens of each training example."""

    def head(self) -> tuple[str, ...]:
        """The classifier."""
        return ("head",)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The usual groups, those of the head apart and at its own peak rate."""
        if self.head_lr is None:
            return super().parameter_groups(model)
        trained = [(name.startswith("head."), p) for name, p in model.named_parameters() if p.requires_grad]
        groups = []
        for in_head in (False, True):
            rate = {"lr": self.head_lr} if in_head else {}
            matrices = [p for own, p in trained if own == in_head and p.ndim > 1]
            vectors = [p for own, p in trained if own == in_head and p.ndim <= 1]
            groups += [{"params": matrices, **rate}, {"params": vectors, "weight_decay": 0.0, **rate}]
        return groups

    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """Batches of like length."""
        lengths = self.data(split).lengths  # type: ignore[attr-defined]
        if batch_size is None:
            return buckets(lengths, _TOKENS.get(device, _TOKENS["cpu"]))
        return chunks(sorted(range(len(lengths)), key=lambda i: -lengths[i]), batch_size)

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scope."""
        other: Scope = "encoder" if self.scope == "all" else "all"
        return {other: {"scope": other}}


class _Ready(NamedTuple):
    splits: dict[Split, Packed]
    digest: str


@functools.lru_cache(maxsize=16)
def _ready(corpus: Corpus, kind: Kind, longest: int, limit: int | None, root: Path | None) -> _Ready:
    """The splits of a corpus in an encoder's tokens, from the cache if they are there; once a process."""
    vocabulary = tokens(kind)

    def build() -> dict[str, Any]:
        found = corpus.read()
        arrays: dict[str, Any] = {}
        lines: list[Any] = []
        for split in SPLITS:
            some = _some(found[split], limit if split == "train" else None)
            if not some:
                raise InvalidInput(f"corpus {corpus.name}: the split {split!r} is empty")
            lines += [[split, *e] for e in some]
            arrays |= {f"{split}-{name}": array for name, array in pack(some, vocabulary, "single", longest).items()}
        return {**arrays, "digest": np.asarray(files.digest(lines))}

    if corpus.dataset is None:
        arrays = build()
    else:
        key = {"corpus": corpus.fingerprint(), "folder": stamp(corpus.dataset), "tokens": vocabulary.digest,
               "longest": longest, "limit": limit, "version": 1}  # fmt: skip
        arrays = prepared(corpus.name, key, build)
    splits: dict[Split, Packed] = {
        split: Packed({name[len(split) + 1 :]: a for name, a in arrays.items() if name.startswith(f"{split}-")})
        for split in SPLITS
    }
    return _Ready(splits, str(arrays["digest"]))


@dataclass(frozen=True)
class Protein(_Thermostability):
    """A class of stability, or a number, from sequences."""

    name: str
    recipe: Recipe
    source: str
    """Name of the corpus."""
    count: int | None
    """How many classes; none: a number."""
    encoder: Encoder
    longest: int
    """Most tokens of a sequence, the two special ones too."""
    scope: Scope = "encoder"
    """The matrices of attention and feed-forward, as SMC-Bench; ``NAME@all`` prunes embeddings and head too."""
    head_lr: float | None = None
    """Peak rate of the head; none: the recipe's."""
    limit: int | None = None
    """Most training examples, chosen by a fixed rule."""

    @property
    def corpus(self) -> Corpus:
        """Where its examples are from."""
        return CORPORA[self.source]

    @property
    def classes(self) -> int | None:
        """How many classes; none: a number."""
        return self.count

    @property
    def metrics(self) -> tuple[str, ...]:
        """Accuracy; of numbers, correlations."""
        return ("accuracy",) if self.count else ("spearman", "pearson")

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from a checkpoint."""
        return self.encoder.checkpoint is not None and self.encoder.pretrained

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scope; of pretrained weights, a random start; of a little encoder on public data, ESM-2."""
        found = dict(super().variants)
        if self.pretrained:
            found["scratch"] = {"encoder": dataclasses.replace(self.encoder, pretrained=False)}
        elif self.encoder.checkpoint is None and self.corpus.dataset is not None:
            found["esm2"] = {"encoder": ESM2_8M, "recipe": recipe("esm2-small")}
        return found

    def requirements(self) -> Sequence[Requirement]:
        """The data set, and the checkpoint if its weights are taken."""
        source = self.corpus.dataset
        return [
            *([source] if source else []),
            *([CHECKPOINTS[self.encoder.checkpoint or ""]] if self.pretrained else []),
        ]

    def build_model(self) -> nn.Module:
        """The encoder under its head."""
        return self.encoder.build(self.count or 1)

    def architecture(self) -> nn.Module:
        """The encoder under its head, at random."""
        return dataclasses.replace(self.encoder, pretrained=False).build(self.count or 1)

    def scaled(self, width: float) -> Protein:
        """With a narrower encoder and head."""
        return dataclasses.replace(self, encoder=self.encoder.scaled(width))

    def data(self, split: Split) -> Packed:
        """Packed examples."""
        return self._ready().splits[split]

    def labels(self, split: Split) -> Sequence[Any]:
        """The labels of a split, in order."""
        return self.data(split).labels

    def lengths(self) -> Sequence[int]:
        """Padded tokens of each training example."""
        return self.data("train").lengths

    def collate(self, examples: list[Any]) -> Batch:
        """Tokens of shape (examples, sequences, length), which are no padding, and which are pooled."""
        rows = [row for example in examples for row in example.sequences]
        spans = np.asarray([span for example in examples for span in example.spans])
        sizes = np.asarray([len(row) for row in rows])[:, None]
        places = np.arange(sizes.max())
        real = places < sizes
        ids = np.full(real.shape, tokens(self.encoder.kind).pad, dtype=np.int64)
        ids[real] = np.concatenate(rows)
        whole = (places >= 1) & (places < sizes - 1)
        chosen = (places >= spans[:, :1]) & (places < spans[:, 1:])
        pooled = np.where(spans[:, :1] == spans[:, 1:], whole, chosen)
        shape = (len(examples), len(rows) // len(examples), -1)
        label = [example.label for example in examples]
        return {
            "tokens": torch.from_numpy(ids).view(shape),
            "real": torch.from_numpy(real).view(shape),
            "pooled": torch.from_numpy(pooled).view(shape),
            "label": torch.tensor(label, dtype=torch.float32 if self.count is None else torch.int64),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of the classes, or the number."""
        return Outputs(model(batch["tokens"], batch["real"], batch["pooled"]))

    def identity(self) -> dict[str, Any]:
        """With digests of the examples, of the vocabulary, and of the weights."""
        weights = {"weights": CHECKPOINTS[self.encoder.checkpoint or ""].digest()} if self.pretrained else {}
        vocabulary = tokens(self.encoder.kind).digest
        return {**super().identity(), "examples": self._ready().digest, "tokens": vocabulary, **weights}

    def facts(self) -> dict[str, Any]:
        """With what the splits are, and how a protein is put to the encoder."""
        asked = "the mean of its residues' states"
        if self.source == "fireprotdb":
            asked = f"the mutant's state of the residue less the wild type's, in windows of {2 * WINDOW + 1} residues"
        some = f"; {self.limit:,} training examples, chosen by a fixed rule" if self.limit else ""
        counted = {}
        if self.count:
            sizes = Counter(self.labels("train"))
            counted = {"classes": f"{', '.join(f'{sizes[i]:,}' for i in range(self.count))} training examples"}
        return {
            "data": f"{self.corpus.note}{some}",
            "input": f"a head on {asked}; at most {self.longest} tokens",
            **counted,
            **super().facts(),
        }

    def tiny(self) -> Protein:
        """The same kind of encoder, narrow, on made-up proteins."""
        kind = "ddg" if self.source == "fireprotdb" else str(self.count) if self.count else "tm"
        encoder = Encoder(self.encoder.kind, 32, 2, 2, 64, 64, 16, init=0.1)
        name = f"protein-{self.encoder.kind}-{kind}-tiny"
        rate = None if self.head_lr is None else 0.01
        return Protein(name, recipe("tiny-text"), f"tiny-{kind}", self.count, encoder, 64, self.scope, rate)

    def _ready(self) -> _Ready:
        return _ready(self.corpus, self.encoder.kind, self.longest, self.limit, root_of(DATA))


class _Backbones(Lazy):
    """Structures over packed arrays."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._atoms, self._ends = arrays["atoms"], arrays["ends"]
        self.ids: list[str] = arrays["ids"].tolist()
        self.labels: list[int] = arrays["labels"].tolist()
        self.lengths: list[int] = (np.diff(self._ends) + 2).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def made(self, index: int) -> Structure:
        """One structure."""
        atoms = self._atoms[self._ends[index] : self._ends[index + 1]]
        return Structure(self.ids[index], atoms, self.labels[index])


@functools.lru_cache(maxsize=4)
def _folded(source: str, longest: int, root: Path | None) -> tuple[dict[Split, _Backbones], str]:
    """The splits, from the cache if they are there, and a digest of them."""
    data = dataset(source) if source else None

    def build() -> dict[str, Any]:
        found = structures(data, 5, "d2_clean") if data else tiny_structures(TINY)
        arrays: dict[str, Any] = {}
        lines = []
        for split in SPLITS:
            some = found[split]
            if not some:
                raise InvalidInput(f"{source}: the split {split!r} is empty")
            atoms = [one.atoms[: longest - 2] for one in some]
            lines += [[split, one.id, files.sha256(a.tobytes()), one.label] for one, a in zip(some, atoms, strict=True)]
            arrays |= {
                f"{split}-atoms": np.concatenate(atoms),
                f"{split}-ends": np.cumsum([0, *map(len, atoms)]),
                f"{split}-ids": np.asarray([one.id for one in some]),
                f"{split}-labels": np.asarray([one.label for one in some]),
            }
        return {**arrays, "digest": np.asarray(files.digest(lines))}

    key = {"source": data.fingerprint(), "folder": stamp(data), "longest": longest, "version": 2} if data else {}
    arrays = prepared(source, key, build) if data else build()
    splits: dict[Split, _Backbones] = {
        split: _Backbones({name[len(split) + 1 :]: a for name, a in arrays.items() if name.startswith(f"{split}-")})
        for split in SPLITS
    }
    return splits, str(arrays["digest"])


@dataclass(frozen=True)
class Fold(_Thermostability):
    """A class of stability from a backbone, by the encoder of ESM-IF1."""

    name: str
    recipe: Recipe
    source: str
    """Name of the data set; none: made-up structures."""
    sizes: Sizes = IF1
    longest: int = FULL
    """Most places: residues, one before and one after them."""
    from_released: bool = True
    """Whether ESM-IF1's weights are taken."""
    scope: Scope = "encoder"
    """The matrices of attention and feed-forward, as SMC-Bench; ``NAME@all`` prunes perceptrons and head too."""
    head_lr: float | None = None
    """Peak rate of the head; none: the recipe's."""

    @property
    def classes(self) -> int:
        """HotProtein's five."""
        return 5

    @property
    def pretrained(self) -> bool:
        """Whether ESM-IF1's weights are taken."""
        return self.from_released

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scope, and a random start."""
        return {**super().variants, **({"scratch": {"from_released": False}} if self.from_released else {})}

    def requirements(self) -> Sequence[Requirement]:
        """The data set, and ESM-IF1 if its weights are taken."""
        return [*([dataset(self.source)] if self.source else []), *([ESM_IF1] if self.from_released else [])]

    def head(self) -> tuple[str, ...]:
        """The classifier, and what stands before the transformer."""
        return ("head", "backbone.embed", "backbone.gvp_encoder")

    def architecture(self) -> nn.Module:
        """The encoder under its head, at random."""
        return Folded(self.sizes, self.classes)

    def build_model(self) -> nn.Module:
        """The encoder under its head."""
        model = Folded(self.sizes, self.classes)
        if self.from_released:
            load_released(model.backbone)
        return model

    def scaled(self, width: float) -> Fold:
        """With narrower perceptrons, encoder and head."""
        sizes = self.sizes
        found = dataclasses.replace(
            sizes,
            width=nearest(sizes.width * width, sizes.heads),
            inner=nearest(sizes.inner * width),
            node=(nearest(sizes.node[0] * width), nearest(sizes.node[1] * width)),
            edge=(nearest(sizes.edge[0] * width), nearest(sizes.edge[1] * width)),
            head=nearest(sizes.head * width),
        )
        return dataclasses.replace(self, sizes=found)

    def data(self, split: Split) -> _Backbones:
        """Structures."""
        return _folded(self.source, self.longest, root_of(DATA))[0][split]

    def labels(self, split: Split) -> Sequence[Any]:
        """The labels of a split, in order."""
        return self.data(split).labels

    def lengths(self) -> Sequence[int]:
        """Places of each training example."""
        return self.data("train").lengths

    def collate(self, examples: list[Any]) -> Batch:
        """Atoms of shape (examples, places, 3, 3), which places are residues, and which are no padding."""
        sizes = np.asarray([len(one.atoms) for one in examples])[:, None]
        places = np.arange(sizes.max() + 2)
        known, real = (places >= 1) & (places <= sizes), places < sizes + 2
        atoms = np.zeros((*known.shape, 3, 3), dtype=np.float32)
        atoms[known] = np.concatenate([one.atoms for one in examples])
        return {
            "atoms": torch.from_numpy(atoms),
            "known": torch.from_numpy(known),
            "real": torch.from_numpy(real),
            "label": torch.tensor([one.label for one in examples]),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of the classes."""
        return Outputs(model(batch["atoms"], batch["known"], batch["real"]))

    def identity(self) -> dict[str, Any]:
        """With digests of the examples and of the weights."""
        weights = {"weights": ESM_IF1.digest()} if self.from_released else {}
        return {**super().identity(), "examples": _folded(self.source, self.longest, root_of(DATA))[1], **weights}

    def facts(self) -> dict[str, Any]:
        """With what the splits are, and how a protein is put to the encoder."""
        return {
            "data": f"HotProtein's train and test; {CARVED}; no backbone stands twice",
            "input": f"N, CA and C of chain A, at most {self.longest - 2} residues; a head on the mean of their states",
            **super().facts(),
        }

    def tiny(self) -> Fold:
        """A narrow encoder on made-up structures."""
        sizes = Sizes(32, 2, 4, 64, (16, 8), (8, 1), 2, 6, 0.0, 16)
        rate = None if self.head_lr is None else 0.01
        return Fold("protein-if1-tiny", recipe("tiny-text"), "", sizes, 32, False, self.scope, rate)


_LITTLE = Encoder("esm2", 96, 3, 4, 384, 512, 96, 0.1, 0.1, init=0.05)
_MINI = Encoder("tape", 96, 1, 4, 192, 32, 96, init=0.15)

hp_s_tape = Protein("hp-s-tape", recipe("hp-s-tape"), "hp-s", 5, TAPE, FULL)
hp_s_esm1b = Protein("hp-s-esm1b", recipe("hp-s-esm1b"), "hp-s", 5, ESM1B, FULL, head_lr=2e-2)
hp_s2c2_esm1b = Protein("hp-s2c2-esm1b", recipe("hp-s2c2-esm1b"), "hp-s2c2", 2, ESM1B, FULL, head_lr=2e-2)
meltome_esm1b = Protein("meltome-esm1b", recipe("meltome-esm1b"), "meltome", 5, ESM1B, FULL, head_lr=2e-2)
hp_s2c5_if1 = Fold("hp-s2c5-if1", recipe("hp-s2c5-if1"), "hp-s2c5", head_lr=2e-2)
thermoprot_small = Protein("thermoprot-small", recipe("thermoprot-small"), "thermoprot", 4, _LITTLE, LITTLE)
bertthermo_small = Protein("bertthermo-small", recipe("bertthermo-small"), "bertthermo", 2, _LITTLE, LITTLE)
fireprotdb_small = Protein("fireprotdb-small", recipe("fireprotdb-small"), "fireprotdb", None, _LITTLE, LITTLE)
lattice_protein_mini = Protein("lattice-protein-mini", recipe("lattice-protein-mini"), "lattice", 4, _MINI, 27, "all")
lattice_tm_mini = Protein("lattice-tm-mini", recipe("lattice-tm-mini"), "lattice-tm", None, _MINI, 27, "all")
