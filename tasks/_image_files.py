"""Upstream's files of images, the hub's rows, and folders of image files: read, checked, and put into three splits."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smcbench import files, sources
from smcbench.errors import InvalidInput
from smcbench.sources import DATA, Contents, Dataset, Located, State, Verdict, root_of
from smcbench.task import Split

from ._datasets import carve, dataset, held_out
from ._pictures import Arrays, Encoded, Pictures, Shape, Splits
from ._rows import value_of

_IMAGE_FILES = (".jpeg", ".jpg", ".png", ".ppm")
_WORKERS = min(32, os.cpu_count() or 1)

# -- reading


def idx(contents: Contents, dimensions: int) -> Any:
    """The array of an IDX file of bytes (LeCun's format): magic number, sizes, then the items.

    Raises:
        InvalidInput: another magic number, or more or fewer bytes than its sizes say.
    """
    raw, start = contents.raw, 4 + 4 * dimensions
    if raw[:4] != bytes((0, 0, 8, dimensions)) or len(raw) < start:
        raise InvalidInput(f"{contents.where}: is no IDX file of bytes in {dimensions} dimensions")
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    if len(raw) - start != math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise InvalidInput(f"{contents.where}: must hold {sizes} bytes, but has {len(raw) - start:,}; fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def npy(contents: Contents) -> Any:
    """The array of a NumPy file, never unpickled.

    Raises:
        InvalidInput: it is none, or cut short.
    """
    try:
        return np.load(io.BytesIO(contents.raw), allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise InvalidInput(f"{contents.where}: is no whole NumPy file; fetch it again") from None


def mat(contents: Contents) -> tuple[Any, Any]:
    """Images and labels of one of SVHN's MATLAB files; there the digit 0 has the label 10.

    Raises:
        InvalidInput: it is no such file.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(io.BytesIO(contents.raw), variable_names=("X", "y"))
        return found["X"].transpose(3, 0, 1, 2), found["y"].reshape(-1) % 10
    except Exception:  # scipy raises whatever it stumbles over
        raise InvalidInput(f"{contents.where}: is no MATLAB file with images X and labels y; fetch it again") from None


def checked(pixels: Any, labels: Any, shape: Shape, classes: int, where: str) -> tuple[Any, Any]:
    """Images and labels that belong together, of this shape and these classes.

    Raises:
        InvalidInput: they are not; ``where`` is what to name.
    """
    if len(pixels) == 0:
        raise InvalidInput(f"{where}: holds no images")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
        found = " x ".join(map(str, pixels.shape[1:]))
        raise InvalidInput(f"{where}: images must be {' x '.join(map(str, shape))} bytes, not {found} {pixels.dtype}")
    if labels.ndim != 1 or len(labels) != len(pixels):
        raise InvalidInput(f"{where}: has {len(pixels):,} images, but {labels.size:,} labels")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInput(f"{where}: labels must be whole numbers, not {labels.dtype}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InvalidInput(
            f"{where}: image {wrong[0]} has the label {labels[wrong[0]]}, there are the classes 0 to {classes - 1}"
        )
    return pixels, labels.astype(np.int64)


def carved(name: str, train: tuple[Any, Any], test: tuple[Any, Any]) -> dict[Split, Arrays]:
    """Three splits of upstream's two, in upstream's order; which training images validate follows from their ids."""
    ids = [f"{name}/train/{i}" for i in range(len(train[0]))]
    validation, rest = carve(range(len(ids)), held_out(len(ids)), lambda i: ids[i])
    if not validation:
        raise InvalidInput(f"data set {name}: {len(ids)} training images are too few to hold some out for validation")

    def part(chosen: list[int]) -> Arrays:
        return Arrays(train[0][chosen], train[1][chosen], [ids[i] for i in chosen])

    whole = Arrays(*test, [f"{name}/test/{i}" for i in range(len(test[0]))])
    return {"train": part(rest), "validation": part(validation), "test": whole}


def _from_hub(source: Dataset, split: str, image: str, label: str, fit: Callable[[Any, str], Any]) -> tuple[Any, Any]:
    pillow()  # which decodes them
    pixels, labels = [], []
    for located in source.rows(split):
        picture = value_of(located, image)
        if not hasattr(picture, "convert"):
            raise InvalidInput(f"{located.where}: {image!r} is a {type(picture).__name__}, not an image")
        pixels.append(fit(picture, located.where))
        labels.append(_whole(located, label))
    if not pixels:
        raise InvalidInput(f"{source.hub} {split}: holds no images")
    return np.stack(pixels), np.asarray(labels)


def _whole(located: Located, label: str) -> int:
    value = value_of(located, label)
    if not isinstance(value, int):
        raise InvalidInput(f"{located.where}: {label!r} is {value!r}, it must be a whole number")
    return value


def exactly(shape: Shape) -> Callable[[Any, str], Any]:
    """Makes arrays of Pillow's images, which must have this shape (grey: one channel)."""

    def fit(picture: Any, where: str) -> Any:
        array = np.asarray(picture.convert("L" if shape[2] == 1 else "RGB"))
        array = array[..., None] if array.ndim == 2 else array
        if array.shape != shape:
            raise InvalidInput(
                f"{where}: an image of {' x '.join(map(str, array.shape))}, it must be {' x '.join(map(str, shape))}"
            )
        return array

    return fit


def files_of(
    name: str, shape: Shape, classes: int, local: Callable[[Dataset, str], tuple[Any, Any, str]], image: str, label: str
) -> Callable[[], Splits]:
    """Reads a data set of a few files with all its images, or the hub's rows; both are in upstream's order."""

    def read() -> Splits:
        source = dataset(name)

        def one(split: str) -> tuple[Any, Any]:
            if source.state() == "local":
                pixels, labels, where = local(source, split)
            else:
                pixels, labels = _from_hub(source, split, image, label, exactly(shape))
                where = f"{source.hub} {split}"
            return checked(pixels, labels, shape, classes, where)

        return carved(name, one("train"), one("test"))

    return read


def idx_pair(source: Dataset, split: str) -> tuple[Any, Any, str]:
    part = {"train": "train", "test": "t10k"}[split]
    images, labels = source.read(f"{part}-images-idx3-ubyte"), source.read(f"{part}-labels-idx1-ubyte")
    return idx(images, 3)[..., None], idx(labels, 1), images.where


def npy_pair(source: Dataset, split: str) -> tuple[Any, Any, str]:
    images, labels = source.read(f"{split}_images.npy"), source.read(f"{split}_labels.npy")
    return npy(images), npy(labels), images.where


def mat_pair(source: Dataset, split: str) -> tuple[Any, Any, str]:
    contents = source.read(f"{split}_32x32.mat")
    return *mat(contents), contents.where


# -- folders of image files


@dataclass(frozen=True)
class Tree(Dataset):
    """A data set that is a folder a split, in it a folder a class, in that image files.

    Attributes:
        flat: whether its images are decoded once and kept as arrays; else they stay in their files.
    """

    flat: bool = True

    @classmethod
    def of(cls, key: str, flat: bool) -> Tree:
        """The data set of this key."""
        found = dataset(key)
        return cls(found.name, found.licence, found.url, found.files, found.hub, found.form, flat)

    def state(self) -> State:
        """Whether its folders are there, or can be asked of the hub."""
        root = root_of(DATA)
        if root is not None and all((root / self.name / f.names[0]).is_dir() for f in self.files):
            return "local"
        return "hub" if self.hub is not None and sources.online() else "missing"

    def folder(self, split: str) -> Path:
        """Where a split lies.

        Raises:
            InvalidInput: there is no such folder.
        """
        root = root_of(DATA)
        if root is None or not (root / self.name / split).is_dir():
            raise self.missing(f"there is no folder {split}")
        return root / self.name / split

    def listing(self, split: str, known: Sequence[str]) -> list[tuple[int, str]]:
        """Class and path of each image, in the order of their names; text, for there may be a million.

        Args:
            known: names of the classes as folders, in order; none: they are numbered in the order of their names.

        Raises:
            InvalidInput: a folder is no class, or holds no image.
        """
        folder = self.folder(split)
        found = []
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        for label, name in enumerate(names):
            if known and name not in known:
                raise InvalidInput(f"{folder / name}: is no class of {self.name}; expected {known[0]!r} and the like")
            images = sorted(e.name for e in os.scandir(folder / name) if e.name.lower().endswith(_IMAGE_FILES))
            if not images:
                raise InvalidInput(f"{folder / name}: holds no images")
            number = known.index(name) if known else label
            found += [(number, f"{folder / name}{os.sep}{image}") for image in images]
        if not found:
            raise InvalidInput(f"{folder}: holds no folders of images")
        return found

    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of all files (where they are not read at once, sizes), or of the commit."""
        if self.state() != "local":
            return super().fingerprint()
        content = (lambda p: files.sha256(p.read_bytes())) if self.flat else lambda p: p.stat().st_size
        return files.digest(
            [[str(p.relative_to(folder)), content(p)] for folder in self._folders() for p in _beneath(folder)]
        )

    def verify(self) -> list[Verdict]:
        """How many of the published images are there; nothing to say if there are none."""
        if self.state() != "local":
            return []
        counts = [sum(1 for _ in _beneath(folder)) for folder in self._folders()]
        return [
            Verdict(f.names[0], count == f.rows, f"{count:,} of {f.rows:,} images")
            for f, count in zip(self.files, counts, strict=True)
        ]

    def _folders(self) -> list[Path]:
        return [self.folder(f.names[0]) for f in self.files]


def _beneath(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in _IMAGE_FILES)


def tree(source: Tree, shape: Shape, known: Sequence[str]) -> Callable[[], Splits]:
    """Reads a tree or the hub's rows, which are in no common order: they are sorted by class, then by content."""

    def read() -> Splits:
        def one(split: str) -> tuple[Any, Any]:
            if source.state() == "local":
                listed = source.listing(split, known)
                pixels, labels = (
                    decoded([_file(path) for _, path in listed], shape[0]),
                    np.asarray([label for label, _ in listed]),
                )
                where = str(source.folder(split))
            else:
                pixels, labels = _from_hub(source, split, "image", "label", lambda p, _: fitted(p, shape[0]))
                where = f"{source.hub} {split}"
            pixels, labels = checked(pixels, labels, shape, len(known), where)
            contents = [hashlib.sha256(image).hexdigest() for image in pixels]
            order = sorted(range(len(labels)), key=lambda i: (labels[i], contents[i]))
            return pixels[order], labels[order]

        return carved(source.name.rpartition("/")[2], one("train"), one("test"))

    return read


def imagenet(source: Tree, classes: int) -> Callable[[], Mapping[Split, Pictures]]:
    """Reads ImageNet's folders or the hub's table: class by class in the order of the WordNet ids, then by file name.

    The hub keeps the names of upstream's files (with the class once more at their end), so that both give the same ids.
    """

    def local(split: str) -> tuple[list[_Row], Callable[[Any], Encoded]]:
        listed = source.listing(split, ())
        if listed[-1][0] != classes - 1:
            raise InvalidInput(
                f"{source.folder(split)}: has {listed[-1][0] + 1:,} folders of classes, it must have {classes:,}"
            )
        return [(label, Path(path).stem, path) for label, path in listed], _file

    def remote(split: str) -> tuple[list[_Row], Callable[[Any], Encoded]]:
        import datasets

        assert source.hub is not None
        split = {"val": "validation"}.get(split, split)
        table = sources.hub_split(source.hub, split, source.missing).cast_column("image", datasets.Image(decode=False))
        # Arrow hands out the names without touching the bytes beside them, 150 GB of them.
        column = table.data.column("image")
        paths = column.flatten()[column.type.get_field_index("path")].to_pylist()
        labels = table.data.column("label").to_pylist()
        rows: list[_Row] = [
            (label, Path(path).stem.rpartition("_")[0] if path else f"{row:07d}", row)
            for row, (label, path) in enumerate(zip(labels, paths, strict=True))
        ]
        return rows, lambda row: Encoded(f"{source.hub} {split} row {row}", lambda: table[row]["image"]["bytes"])

    def read() -> Mapping[Split, Pictures]:
        one = local if source.state() == "local" else remote
        (train, opened), (test, reopened) = one("train"), one("val")
        for split, rows in (("train", train), ("val", test)):
            labels = np.asarray([row[0] for row in rows])
            checked(np.zeros((len(rows), 1, 1, 1), np.uint8), labels, (1, 1, 1), classes, f"{source.name} {split}")
        validation, rest = carve(sorted(train, key=_by_name), held_out(len(train)), lambda row: row[1])

        def part(rows: Sequence[_Row], split: str, opened: Callable[[Any], Encoded]) -> Pictures:
            ids = [f"imagenet/{split}/{name}" for _, name, _ in rows]
            return Pictures(ids, [label for label, _, _ in rows], lambda i: opened(rows[i][2]))

        return {
            "train": part(rest, "train", opened),
            "validation": part(validation, "train", opened),
            "test": part(sorted(test, key=_by_name), "val", reopened),
        }

    return read


_Row = tuple[int, str, Any]
"""Class, name, and what opens the image."""


def _by_name(row: _Row) -> tuple[int, str]:
    return row[:2]


def _file(path: str) -> Encoded:
    return Encoded(path, Path(path).read_bytes)


# -- decoding


def pillow() -> Any:
    """Pillow's module of images.

    Raises:
        InvalidInput: it is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise InvalidInput(
            "reading image files needs Pillow, which is not installed; install it with: pip install 'smcbench[vision]'"
        ) from None
    return Image


def fitted(picture: Any, side: int) -> Any:
    """One of Pillow's images in colour, the shorter side scaled to ``side`` (bicubic), the longer cut to its middle.

    Returns:
        Bytes of shape (side, side, 3).
    """
    picture = picture.convert("RGB")
    width, height = picture.size
    if (width, height) != (side, side):
        short = min(width, height)
        wide, high = max(side, side * width // short), max(side, side * height // short)
        picture = picture.resize((wide, high), pillow().Resampling.BICUBIC)
        left, top = round((wide - side) / 2), round((high - side) / 2)
        picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture)


def decoded(images: Sequence[Encoded], side: int) -> Any:
    """Image files as one array of bytes, (count, side, side, 3); many at a time, for Pillow lets go of Python's lock.

    Raises:
        InvalidInput: one cannot be read; or Pillow is missing.
    """
    opened = pillow()

    def one(image: Encoded) -> Any:
        try:
            with opened.open(io.BytesIO(image.read())) as picture:
                return fitted(picture, side)
        except (OSError, ValueError, SyntaxError, opened.DecompressionBombError):  # Pillow's own ways to say so
            raise InvalidInput(f"{image.where}: is no image that can be read; fetch it again") from None

    return np.stack(list(_threads().map(one, images)))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="decode")
