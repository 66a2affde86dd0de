"""Masks: which weights of a network are kept, and the algebra of such sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from smcbench.errors import UsageError


class Mask(Mapping[str, Tensor]):
    """The kept weights of a network: a bool tensor (True = kept) of the weight's shape, by parameter name.

    A mask is a value: nothing changes it or its tensors after it is made, and two masks that keep the same weights are
    equal. ``|``, ``&`` and ``~`` are union, intersection and complement of the kept sets. Masks that meet must have the
    same names and shapes; the order of the names is that of the left one.

    Raises:
        UsageError: a tensor is not bool, or two masks that meet differ in a name or a shape.

    >>> a = Mask({"w": torch.tensor([[True, False], [True, False]])})
    >>> b = Mask({"w": torch.tensor([[True, True], [False, False]])})
    >>> a
    Mask(2 of 4 kept, density 0.5, 1 tensor)
    >>> (a | b).kept, (a & b).kept, (~a).kept, a == ~~a
    (3, 1, 2, True)
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise UsageError(f"mask: {name} is {tensor.dtype}, a mask holds bool tensors (True = kept)")
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor]) -> Mask:
        """The mask that keeps every weight.

        >>> Mask.dense({"w": torch.zeros(2, 3)}).density
        1.0
        """
        return cls({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()})

    @classmethod
    def empty(cls, weights: Mapping[str, Tensor]) -> Mask:
        """The mask that keeps no weight.

        >>> Mask.empty({"w": torch.zeros(2, 3)}).kept
        0
        """
        return cls({name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in weights.items()})

    @classmethod
    def of_nonzeros(cls, weights: Mapping[str, Tensor]) -> Mask:
        """The mask that keeps the weights that are not zero: the one a sparse checkpoint carries in itself.

        >>> Mask.of_nonzeros({"w": torch.tensor([0.0, -2.0, 0.0, 1.0])})["w"].tolist()
        [False, True, False, True]
        """
        return cls({name: weight.detach() != 0 for name, weight in weights.items()})

    # -- as a mapping

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        tensors = f"{len(self)} tensor" + "s" * (len(self) != 1)
        return f"Mask({self.kept} of {self.total} kept, density {self.density:.4g}, {tensors})"

    # -- counts

    @cached_property
    def _kept(self) -> dict[str, int]:
        return {name: int(tensor.count_nonzero()) for name, tensor in self._tensors.items()}

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(self._kept.values())

    @property
    def total(self) -> int:
        """Number of weights, kept or not."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    @property
    def density(self) -> float:
        """Fraction of the weights that is kept; 1 where there is none to remove."""
        return self.kept / self.total if self.total else 1.0

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that is removed, counted rather than taken from ``1 - density``.

        >>> Mask({"w": torch.arange(10) == 0}).sparsity
        0.9
        """
        return (self.total - self.kept) / self.total if self.total else 0.0

    @property
    def is_dense(self) -> bool:
        """Whether every weight is kept."""
        return self.kept == self.total

    def layer_densities(self) -> dict[str, float]:
        """Fraction kept of each tensor; 1 for a tensor without elements.

        >>> Mask({"a": torch.arange(4) < 1, "b": torch.arange(2) < 1}).layer_densities()
        {'a': 0.25, 'b': 0.5}
        """
        return {name: self._kept[name] / tensor.numel() if tensor.numel() else 1.0 for name, tensor in self.items()}

    # -- algebra

    def __or__(self, other: Mask) -> Mask:
        return self._combine(other, torch.logical_or)

    def __and__(self, other: Mask) -> Mask:
        return self._combine(other, torch.logical_and)

    def __invert__(self) -> Mask:
        return Mask({name: ~tensor for name, tensor in self.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.shapes() == other.shapes() and all(torch.equal(self[name], other[name]) for name in self)

    __hash__ = None  # type: ignore[assignment]

    def distance(self, other: Mask) -> float:
        """The fraction of positions at which two masks differ (normalised Hamming distance, as in Early-Bird tickets).

        >>> a = Mask({"w": torch.tensor([True, True, False, False])})
        >>> a.distance(Mask({"w": torch.tensor([True, False, False, False])}))
        0.25
        """
        return self._combine(other, torch.logical_xor).kept / max(1, self.total)

    def iou(self, other: Mask) -> float:
        """The kept weights two masks share, over those that either keeps; 1 where both keep none.

        >>> a = Mask({"w": torch.tensor([True, True, False, False])})
        >>> a.iou(Mask({"w": torch.tensor([True, False, True, True])}))
        0.25
        """
        union = (self | other).kept
        return (self & other).kept / union if union else 1.0

    def _combine(self, other: Mask, operation: Callable[[Tensor, Tensor], Tensor]) -> Mask:
        if not isinstance(other, Mask):
            raise UsageError(f"a mask combines with a mask, not with {type(other).__name__}")
        for name in other:
            if name not in self:
                raise UsageError(f"masks do not match: {name} is in the right one only")
        for name, tensor in self.items():
            if name not in other:
                raise UsageError(f"masks do not match: {name} is in the left one only")
            if tensor.shape != other[name].shape:
                raise UsageError(f"masks do not match: {name} is {list(tensor.shape)} and {list(other[name].shape)}")
        return Mask({name: operation(tensor, other[name]) for name, tensor in self.items()})

    # -- elsewhere

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on a device.

        >>> Mask({"w": torch.tensor([True])}).to("cpu")["w"].device.type
        'cpu'
        """
        return Mask({name: tensor.to(device) for name, tensor in self.items()})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by name; what :meth:`unpack` needs beside the bits."""
        return {name: tuple(tensor.shape) for name, tensor in self.items()}

    def pack(self) -> dict[str, Tensor]:
        """The mask as bits: by name a uint8 vector of ``ceil(n / 8)`` bytes, the first weight in the lowest bit.

        >>> mask = Mask({"w": torch.tensor([[True, False, True], [False, False, True]])})
        >>> mask.pack()
        {'w': tensor([37], dtype=torch.uint8)}
        >>> Mask.unpack(mask.pack(), mask.shapes()) == mask
        True
        """
        return {name: _pack(tensor.reshape(-1)) for name, tensor in self.items()}

    @classmethod
    def unpack(cls, packed: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Mask:
        """The mask whose :meth:`pack` and :meth:`shapes` these are.

        Raises:
            UsageError: the names differ, or a vector is not uint8 or not as long as its shape wants.
        """
        if packed.keys() != shapes.keys():
            name = sorted(packed.keys() ^ shapes.keys())[0]
            raise UsageError(f"packed mask: {name} has no {'bits' if name in shapes else 'shape'}")
        return cls({name: _unpack(name, bits, tuple(shapes[name])) for name, bits in packed.items()})


def _pack(flat: Tensor) -> Tensor:
    packed = torch.zeros((flat.numel() + 7) // 8, dtype=torch.uint8, device=flat.device)
    for bit in range(8):
        plane = flat[bit::8]
        packed[: plane.numel()] |= plane.to(torch.uint8) << bit
    return packed


def _unpack(name: str, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    n = math.prod(shape)
    if packed.dtype != torch.uint8 or packed.shape != ((n + 7) // 8,):
        raise UsageError(
            f"packed mask: {name} is {packed.dtype} {list(packed.shape)}, the shape {list(shape)} wants "
            f"{(n + 7) // 8} bytes of torch.uint8"
        )
    flat = torch.empty(n, dtype=torch.bool, device=packed.device)
    for bit in range(8):
        plane = flat[bit::8]
        plane.copy_((packed[: plane.numel()] >> bit) & 1)
    return flat.reshape(shape)
