"""Weights as a submission carries them: a safetensors file in which pruned tensors are their kept values and a bitmask.

Nothing in it is taken on trust, and nothing is executed: the parser is written out here, because it must refuse what a
lenient reader would accept. Needs no torch.

A tensor ``X`` that a mask prunes is stored as ``X``, the kept values in order, and ``mask/X``, one bit a weight, the
first in the lowest bit (1 = kept). Removed weights are zero; those that are minus zero, which differs in its bits and
so in the digest of the record, are marked in ``zeros/X``, one bit a removed weight. All other tensors are stored as
they are. The metadata name the run, the task, and as JSON the ``shapes`` of the pruned tensors and the prunable ones
that a mask keeps ``whole``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.results import shape
from smcbench.results.shape import Line, RunId

FORMAT = "smcbench sparse 1"
LIMIT = 1 << 30
"""Bytes that a file may have."""
_HEADER = 1 << 20
"""Bytes that its header may have."""
_MASK, _ZEROS = "mask/", "zeros/"

Bits = NDArray[np.bool_]


class _Kind(NamedTuple):
    """How a type lies in memory: as words, of which those of floats have an exponent that marks what is not finite."""

    words: str
    exponent: int | None = None


_KINDS = {
    "F64": _Kind("<u8", 0x7FF0000000000000), "F32": _Kind("<u4", 0x7F800000), "F16": _Kind("<u2", 0x7C00),
    "BF16": _Kind("<u2", 0x7F80), "I64": _Kind("<u8"), "I32": _Kind("<u4"), "I16": _Kind("<u2"), "I8": _Kind("u1"),
    "U8": _Kind("u1"), "BOOL": _Kind("u1"),
}  # fmt: skip
"""By the names of safetensors."""


@dataclass(frozen=True, eq=False)
class Array:
    """A tensor as it lies in memory: ``words`` are its elements in order, as unsigned integers of their bits."""

    dtype: str
    shape: tuple[int, ...]
    words: NDArray[Any]

    @property
    def nonzero(self) -> Bits:
        """Which elements are other than zero, of either sign."""
        values = self.words << 1 if _KINDS[self.dtype].exponent else self.words
        found: Bits = values != 0
        return found

    @property
    def zeros(self) -> int:
        """How many are zero."""
        return len(self.words) - int(np.count_nonzero(self.nonzero))

    @property
    def is_finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        exponent = _KINDS[self.dtype].exponent
        return exponent is None or bool(((self.words & self.words.dtype.type(exponent)) != exponent).all())


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """What a run left behind: all tensors of its model by name, and which of the prunable weights its mask kept.

    Attributes:
        run: whose they are.
        task: its name.
        tensors: parameters and buffers, whole.
        mask: by prunable tensor, in order, True = kept.
    """

    run: str
    task: str
    tensors: Mapping[str, Array]
    mask: Mapping[str, Bits]

    def zeros(self) -> dict[str, int]:
        """How many elements of each tensor are zero, counted in the bytes."""
        return {name: array.zeros for name, array in self.tensors.items()}

    def mask_digest(self) -> str:
        """SHA-256 over the names and the packed bits: the ``digests.mask`` of a record."""
        total = hashlib.sha256()
        for name, bits in sorted(self.mask.items()):
            total.update(name.encode() + b"\0" + _packed(bits).tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class _Meta:
    """The metadata of a file, as text."""

    format: Line
    run: RunId
    task: Line
    shapes: str
    whole: str


# -- sparse


def encode(weights: SparseWeights) -> bytes:
    """The bytes of a file: the same for the same weights.

    Raises:
        InvalidInput: a removed weight is not zero, or a mask is of no tensor.
    """
    found: dict[str, Array] = dict(weights.tensors)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, kept in weights.mask.items():
        array = found.get(name)
        if array is None or len(array.words) != len(kept):
            raise InvalidInput(f"run {weights.run}: the mask of {name!r} fits no tensor")
        if kept.all():
            continue
        removed = array.words[~kept]
        if Array(array.dtype, (len(removed),), removed).nonzero.any():
            raise InvalidInput(f"run {weights.run}: {name!r} is other than zero outside its mask")
        shapes[name] = array.shape
        values = array.words[kept]
        found[name] = Array(array.dtype, (len(values),), values)
        found[_MASK + name] = _bytes(_packed(kept))
        if removed.any():
            found[_ZEROS + name] = _bytes(_packed(removed != 0))
    meta = _Meta(
        FORMAT,
        weights.run,
        weights.task,
        files.canonical(shapes),
        files.canonical(sorted(weights.mask.keys() - shapes)),
    )
    return serialise(found, shape.plain(meta))


def read(path: Path) -> SparseWeights:
    """Read and check the weights of a submission.

    Raises:
        InvalidInput: not a safetensors file of this form, or a value is NaN or infinite; names the file and the tensor.
    """
    arrays, header = parse(path)
    meta = shape.read(_Meta, header, f"{path}: metadata")
    if meta.format != FORMAT:
        raise InvalidInput(f"{path}: is {meta.format!r}, but this version reads {FORMAT!r}")
    shapes = files.parse_json(meta.shapes, f"{path}: shapes")
    whole = files.parse_json(meta.whole, f"{path}: whole")
    if not isinstance(shapes, dict) or not isinstance(whole, list):
        raise InvalidInput(f"{path}: shapes must be an object, and whole a list")
    tensors = {name: array for name, array in arrays.items() if not name.startswith((_MASK, _ZEROS))}
    mask: dict[str, Bits] = {}
    for name in whole:
        if not isinstance(name, str) or name not in tensors or name in shapes or name in mask:
            raise InvalidInput(f"{path}: whole: {name!r} is no tensor of this file, or stands twice")
        mask[name] = np.ones(len(tensors[name].words), dtype=np.bool_)
    for name, size in shapes.items():
        if name not in tensors or _MASK + name not in arrays:
            raise InvalidInput(f"{path}: {name!r:.80} has a shape, but no values and no mask")
        tensors[name], mask[name] = _unfolded(
            f"{path}: {name!r}", tensors[name], _size(size, f"{path}: {name!r}"),
            arrays.pop(_MASK + name), arrays.pop(_ZEROS + name, None),
        )  # fmt: skip
    for name in arrays:
        if name not in tensors:
            raise InvalidInput(f"{path}: {name!r} belongs to no pruned tensor")
    for name, array in tensors.items():
        if not array.is_finite:
            raise InvalidInput(f"{path}: {name!r} holds NaN or infinite values")
    return SparseWeights(meta.run, meta.task, tensors, mask)


def _unfolded(
    where: str, values: Array, size: tuple[int, ...], bits: Array, negative: Array | None
) -> tuple[Array, Bits]:
    """A pruned tensor and its mask from what is stored of it."""
    if _KINDS[values.dtype].exponent is None:
        raise InvalidInput(f"{where}: only floating-point numbers are pruned, and have a minus zero")
    if math.prod(size) * values.words.itemsize > LIMIT:
        raise InvalidInput(f"{where}: unfolds to more than {LIMIT} bytes")
    kept = unpacked(bits, math.prod(size), f"{where}: mask")
    if values.shape != (int(np.count_nonzero(kept)),):
        raise InvalidInput(f"{where}: has {len(values.words)} values, its mask keeps {int(np.count_nonzero(kept))}")
    words = np.zeros(len(kept), dtype=values.words.dtype)
    words[kept] = values.words
    if negative is not None:
        sign = unpacked(negative, len(kept) - len(values.words), f"{where}: zeros")
        words[~kept] = sign.astype(words.dtype) << (8 * words.dtype.itemsize - 1)
    return Array(values.dtype, size, words), kept


def _packed(bits: Bits) -> NDArray[np.uint8]:
    return np.packbits(bits, bitorder="little")


def unpacked(array: Array, count: int, where: str) -> Bits:
    """A mask from its bits, the first in the lowest bit of the first byte.

    Raises:
        InvalidInput: there are not as many bits.
    """
    if array.dtype != "U8" or array.shape != ((count + 7) // 8,):
        raise InvalidInput(f"{where}: must be {(count + 7) // 8} bytes of U8, not {array.dtype} {list(array.shape)}")
    bits = np.unpackbits(array.words, bitorder="little")
    if bits[count:].any():
        raise InvalidInput(f"{where}: has bits beyond its {count} weights")
    return bits[:count].astype(np.bool_)


def _bytes(words: NDArray[np.uint8]) -> Array:
    return Array("U8", words.shape, words)


# -- any safetensors file


def serialise(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: the largest types first, so that each lies at a multiple of its size, then by name."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, at = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].words.dtype.itemsize, item[0])):
        parts.append(array.words.tobytes())
        header[name] = {"dtype": array.dtype, "shape": list(array.shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def parse(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors of a safetensors file and its metadata.

    Raises:
        InvalidInput: the header is torn, too large or not strict; a tensor has an unknown type, the wrong number of
            bytes, an odd address, or a place that overlaps another's or leaves a gap; the message names it.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise InvalidInput(f"{path}: is larger than {LIMIT} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or not 2 <= length <= min(_HEADER, len(raw) - 8) or length % 8:
        raise InvalidInput(f"{path}: not a safetensors file, or torn (a header of {length} bytes in {len(raw)})")
    try:
        text = raw[8 : 8 + length].decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: its header is not UTF-8 text") from None
    header = files.parse_json(text, f"{path}: header")
    if not isinstance(header, dict):
        raise InvalidInput(f"{path}: its header must be an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidInput(f"{path}: its metadata must be texts by name")
    entries = [(_place(entry, f"{path}: {name!r}"), name) for name, entry in header.items()]
    data, at, arrays = memoryview(raw)[8 + length :], 0, {}
    for (begin, end, dtype, size), name in sorted(entries):
        words = np.dtype(_KINDS[dtype].words)
        if begin != at:
            what = "overlaps the tensor before it" if begin < at else "leaves a gap before it"
            raise InvalidInput(f"{path}: {name!r} {what}: it begins at byte {begin}, not {at}")
        if end - begin != math.prod(size) * words.itemsize or end > len(data):
            raise InvalidInput(
                f"{path}: {name!r} has {end - begin} bytes, not those of {dtype} {list(size)}, or too few"
            )
        if begin % words.itemsize:
            raise InvalidInput(f"{path}: {name!r} begins at byte {begin}, no multiple of the size of {dtype}")
        arrays[name] = Array(dtype, size, np.frombuffer(data[begin:end], dtype=words))
        if dtype == "BOOL" and (arrays[name].words > 1).any():
            raise InvalidInput(f"{path}: {name!r} holds a truth value other than 0 and 1")
        at = end
    if at != len(data):
        raise InvalidInput(f"{path}: {len(data) - at} bytes at its end belong to no tensor")
    return arrays, metadata


def _place(entry: Any, where: str) -> tuple[int, int, str, tuple[int, ...]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InvalidInput(f"{where}: must have a dtype, a shape and data_offsets, and nothing else")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _KINDS:
        raise InvalidInput(f"{where}: the type {str(entry['dtype'])[:20]!r} is none of {', '.join(_KINDS)}")
    offsets = _size(entry["data_offsets"], f"{where}: data_offsets")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InvalidInput(f"{where}: data_offsets must be where it begins and ends")
    return offsets[0], offsets[1], entry["dtype"], _size(entry["shape"], f"{where}: shape")


def _size(value: Any, where: str) -> tuple[int, ...]:
    """Whole numbers from 0 to the limit of a file, not more than eight."""
    if not isinstance(value, list) or len(value) > 8 or not all(type(n) is int and 0 <= n <= LIMIT for n in value):
        raise InvalidInput(f"{where}: must be a list of up to eight whole numbers")
    return tuple(value)
