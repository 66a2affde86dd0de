"""Collections of labelled images in three splits, prepared once and memory-mapped, or read file by file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from smcbench import files
from smcbench.sources import DATA, Dataset, prepared, root_of
from smcbench.task import SPLITS, Split

from . import _datasets
from . import _image_files as read_from
from ._datasets import dataset
from ._pictures import Arrays, Pictures, Shape, Splits

_SIDE = 256
"""Of the square that is kept of an image of ImageNet; networks see a part of it."""


@dataclass(frozen=True)
class Collection:
    """A source of labelled images in three splits.

    Attributes:
        name: as ids begin.
        classes: how many.
        shape: of every image; what is larger in its file is scaled to that, the longer side cut to its middle.
        read: makes the splits: arrays, which are cached, or examples that stay in their files.
        mean: of each channel, where black is 0 and white is 1.
        std: likewise.
        note: what the splits are and how they are made, for people.
        dataset: what has to be had for it; none: it is generated, or comes with a dependency.
        white: the byte that means white.
        version: of the reader or generator, bumped when the examples change.
    """

    name: str
    classes: int
    shape: Shape
    read: Callable[[], Splits]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str
    dataset: Dataset | None = None
    white: int = 255
    version: int = 1

    @property
    def names(self) -> Sequence[str]:
        """The classes in words, where CLIP's prompts have some."""
        return tuple(_entry(self.name).get("classes", ()))

    @property
    def prompts(self) -> Sequence[str]:
        """CLIP's prompts for this data set, with a place for a class."""
        return tuple(_entry(self.name).get("prompts", ()))

    def splits(self) -> dict[Split, Pictures]:
        """The examples."""
        return _ready(self, root_of(DATA)).splits

    def digest(self) -> str:
        """SHA-256 of the examples: ids, labels and pixels; of those that stay in their files, ids and labels alone."""
        return _ready(self, root_of(DATA)).digest


class _Ready(NamedTuple):
    splits: dict[Split, Pictures]
    digest: str


@functools.lru_cache(maxsize=8)
def _ready(collection: Collection, root: Path | None) -> _Ready:
    """The splits of a collection, from the cache if they are there; once a process and data root."""
    name, source = collection.name, collection.dataset
    if isinstance(source, read_from.Tree) and not source.flat:
        return _listed(collection)

    def build() -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        digest = hashlib.sha256()
        for split, part in collection.read().items():
            assert isinstance(part, Arrays)
            pixels, labels = np.ascontiguousarray(part.pixels), np.asarray(part.labels, dtype=np.int64)
            digest.update(files.canonical([split, list(part.ids), labels.tolist(), pixels.shape]).encode())
            digest.update(pixels.tobytes())
            arrays |= {f"{split}-pixels": pixels, f"{split}-labels": labels, f"{split}-ids": np.asarray(part.ids)}
        return {**arrays, "digest": np.asarray(digest.hexdigest())}

    key = {"name": name, "version": collection.version, "shape": list(collection.shape)}
    arrays = build() if source is None else prepared(name, {**key, "source": source.fingerprint()}, build)
    splits: dict[Split, Pictures] = {
        split: Pictures(
            arrays[f"{split}-ids"], arrays[f"{split}-labels"].tolist(), arrays[f"{split}-pixels"].__getitem__
        )
        for split in SPLITS
    }
    return _Ready(splits, str(arrays["digest"]))


def _listed(collection: Collection) -> _Ready:
    splits: dict[Split, Pictures] = {}
    for split, part in collection.read().items():
        assert isinstance(part, Pictures)
        splits[split] = part
    return _Ready(splits, files.digest([[split, list(part.ids), list(part.labels)] for split, part in splits.items()]))


def _entry(key: str) -> dict[str, Any]:
    return _datasets.entries().get(key, {})


# -- the collections


def _generated() -> Splits:
    """A bright blob on noise: the class says in which quarter it lies and what colour it has."""
    draw = np.random.default_rng(0)
    found: dict[Split, Arrays] = {}
    spots = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), axis=-1)
    for split, size in zip(SPLITS, (96, 32, 48), strict=True):
        labels = np.arange(size) % 4
        centre = np.stack((4 + 8 * (labels // 2), 4 + 8 * (labels % 2)), axis=1) + draw.integers(-2, 3, (size, 2))
        blob = np.exp(-((spots - centre[:, None, None]) ** 2).sum(axis=-1) / 8)
        colour = np.asarray([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])[labels]
        pixels = 90 * draw.random((size, 16, 16, 3)) + 160 * blob[..., None] * colour[:, None, None]
        found[split] = Arrays(pixels.astype(np.uint8), labels, [f"blobs/{split}/{i}" for i in range(size)])
    return found


def _digits() -> Splits:
    """The splits of the task ``digits``, as bytes of 0 to 16."""
    from .digits import splits

    def part(split: str) -> Arrays:
        some = splits()[split]
        pixels = (torch.stack([digit.image for digit in some]) * 16).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return Arrays(pixels, np.asarray([digit.label for digit in some]), [digit.id for digit in some])

    return {split: part(split) for split in SPLITS}


_CARVED = "validation is a tenth of the training images, at most 1,000, chosen by the SHA-256 of their ids"
_HALF, _QUARTER = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def _plain(
    name: str, shape: Shape, classes: int, mean: tuple[float, ...], std: tuple[float, ...], local: Any, image: str,
    label: str,
) -> Collection:  # fmt: skip
    read = read_from.files_of(name, shape, classes, local, image, label)
    return Collection(name, classes, shape, read, mean, std, f"test is upstream's, {_CARVED}", dataset(name))


def _tree(name: str, side: int, classes: int, known: Sequence[str], note: str) -> Collection:
    source, shape = read_from.Tree.of(name, flat=True), (side, side, 3)
    read = read_from.tree(source, shape, known)
    return Collection(name, classes, shape, read, _HALF, _QUARTER, f"test is upstream's, {_CARVED}{note}", source)


def _imagenet() -> Collection:
    source = read_from.Tree.of("imagenet", flat=False)
    note = f"test is upstream's validation split, {_CARVED}"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Collection("imagenet", 1000, (_SIDE, _SIDE, 3), read_from.imagenet(source, 1000), mean, std, note, source)


COLLECTIONS: dict[str, Callable[[], Collection]] = {
    "blobs": lambda: Collection("blobs", 4, (16, 16, 3), _generated, _HALF, _QUARTER, "generated"),
    "digits": lambda: Collection(
        "digits", 10, (8, 8, 1), _digits, (0.3,), (0.38,), "scikit-learn's, split by class", white=16
    ),
    "mnist": lambda: _plain("mnist", (28, 28, 1), 10, (0.1307,), (0.3081,), read_from.idx_pair, "image", "label"),
    "fashion-mnist": lambda: _plain(
        "fashion-mnist", (28, 28, 1), 10, (0.2860,), (0.3530,), read_from.idx_pair, "image", "label"
    ),
    "cifar10": lambda: _plain(
        "cifar10", (32, 32, 3), 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        read_from.npy_pair, "img", "label",
    ),
    "cifar100": lambda: _plain(
        "cifar100", (32, 32, 3), 100, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762),
        read_from.npy_pair, "img", "fine_label",
    ),
    "svhn": lambda: _plain("svhn", (32, 32, 3), 10, _HALF, _QUARTER, read_from.mat_pair, "image", "label"),
    "gtsrb": lambda: _tree(
        "gtsrb", 128, 43, [f"{i:05d}" for i in range(43)],
        "; photographs of one and the same sign may be on both sides, so it is easier than test",
    ),
    "cars": lambda: _tree("cars", 224, 196, [name.replace("/", "-") for name in _entry("cars")["classes"]], ""),
    "imagenet": _imagenet,
}  # fmt: skip
"""The collections by name."""


@functools.cache
def collection(name: str) -> Collection:
    """The collection of this name."""
    return COLLECTIONS[name]()
