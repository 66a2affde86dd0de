"""Masks: counts, algebra, packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smcbench.errors import UsageError
from smcbench.sparsity.mask import Mask

SHAPES = {"scalar": (), "none": (0, 3), "vector": (9,), "matrix": (3, 7), "kernel": (2, 3, 1, 4)}
SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())


def build(bits: int) -> Mask:
    tensors: dict[str, Tensor] = {}
    for name, shape in SHAPES.items():
        n = int(np.prod(shape))
        tensors[name] = torch.tensor([bits >> i & 1 == 1 for i in range(n)], dtype=torch.bool).reshape(shape)
        bits >>= n
    return Mask(tensors)


bits = st.integers(0, 2**SIZE - 1)
ALL = 2**SIZE - 1


@given(bits, bits)
@settings(deadline=None)
def test_algebra_is_that_of_sets(a: int, b: int) -> None:
    left, right = build(a), build(b)
    assert left | right == build(a | b)
    assert left & right == build(a & b)
    assert ~left == build(ALL ^ a)
    assert ~(left | right) == ~left & ~right
    assert (left == right) == (a == b)
    assert left.kept == a.bit_count()
    assert left.distance(right) == (a ^ b).bit_count() / SIZE
    assert left.iou(right) == ((a & b).bit_count() / (a | b).bit_count() if a | b else 1.0)
    assert left.is_dense == (a == ALL)


@given(bits)
@settings(deadline=None)
def test_packing_is_lossless_and_an_eighth(a: int) -> None:
    mask = build(a)
    packed = mask.pack()
    assert Mask.unpack(packed, mask.shapes()) == mask
    assert all(packed[name].numel() == -(-mask[name].numel() // 8) for name in mask)
    for name in mask:  # the bit order that NumPy calls little
        expected = np.packbits(mask[name].numpy().reshape(-1), bitorder="little")
        assert packed[name].tolist() == expected.tolist()


def test_counts() -> None:
    mask = Mask({"a": torch.tensor([[True, False], [False, False]]), "b": torch.tensor([True] * 6)})
    assert (mask.kept, mask.total, mask.density, mask.sparsity) == (7, 10, 0.7, 0.3)
    assert mask.layer_densities() == {"a": 0.25, "b": 1.0}
    assert repr(mask) == "Mask(7 of 10 kept, density 0.7, 2 tensors)"
    assert list(mask) == ["a", "b"]


def test_counting_is_done_once() -> None:
    tensor = torch.ones(3, dtype=torch.bool)
    mask = Mask({"a": tensor})
    assert mask.is_dense
    tensor[:] = False  # nobody may, but here it betrays a recount
    assert mask.kept == 3


def test_makers() -> None:
    weights = {"a": torch.nn.Parameter(torch.tensor([[0.0, -0.0], [1.0, float("nan")]])), "b": torch.zeros(0)}
    assert Mask.dense(weights).is_dense
    assert Mask.empty(weights).kept == 0
    assert Mask.of_nonzeros(weights)["a"].tolist() == [[False, False], [True, True]]
    assert not Mask.of_nonzeros(weights)["a"].requires_grad
    assert Mask.dense(weights).layer_densities() == {"a": 1.0, "b": 1.0}


def test_the_empty_mask_is_dense() -> None:
    nothing = Mask({})
    assert (nothing.density, nothing.sparsity, nothing.is_dense) == (1.0, 0.0, True)
    assert nothing.distance(nothing) == 0
    assert nothing.iou(nothing) == 1


def test_a_mask_does_not_change_with_the_dictionary_it_came_from() -> None:
    tensors = {"a": torch.tensor([True])}
    mask = Mask(tensors)
    tensors["b"] = torch.tensor([True])
    assert list(mask) == ["a"]
    with pytest.raises(TypeError):
        mask["b"] = torch.tensor([True])  # type: ignore[index]
    with pytest.raises(TypeError):
        hash(mask)


def test_equality_is_by_content() -> None:
    a, b = torch.tensor([True, False]), torch.tensor([False])
    assert Mask({"a": a, "b": b}) == Mask({"b": b.clone(), "a": a.clone()})
    assert Mask({"a": a}) != Mask({"b": a})
    assert Mask({"a": a}) != Mask({"a": a.reshape(1, 2)})
    assert Mask({"a": a}) != {"a": a}


def test_to_a_device() -> None:
    assert Mask({"a": torch.tensor([True])}).to("meta")["a"].device.type == "meta"


@pytest.mark.parametrize("other", [{"w": torch.ones(3, dtype=torch.bool)}, {}, {"w": torch.ones(2, dtype=torch.bool)}])
def test_masks_that_do_not_match_name_the_tensor(other: dict[str, Tensor]) -> None:
    mask = Mask({"w": torch.ones(2, dtype=torch.bool), "v": torch.ones(1, dtype=torch.bool)})
    for left, right in ((mask, Mask(other)), (Mask(other), mask)):
        for combine in (left.__or__, left.__and__, left.distance, left.iou):
            with pytest.raises(UsageError, match=r"[wv] is"):
                combine(right)
    with pytest.raises(UsageError):
        mask | {"w": mask["w"]}  # type: ignore[operator]


def test_what_is_no_mask() -> None:
    with pytest.raises(UsageError, match=r"w is torch\.float32"):
        Mask({"w": torch.ones(2)})


@pytest.mark.parametrize(
    ("packed", "shapes"),
    [
        ({"w": torch.zeros(2, dtype=torch.uint8)}, {"w": (8,)}),
        ({"w": torch.zeros(1)}, {"w": (8,)}),
        ({"w": torch.zeros(1, dtype=torch.uint8)}, {}),
        ({}, {"w": (8,)}),
    ],
)
def test_what_cannot_be_unpacked(packed: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="w "):
        Mask.unpack(packed, shapes)
