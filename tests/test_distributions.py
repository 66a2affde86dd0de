"""Distributions of density over layers, against solutions found another way."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smcbench.errors import UsageError
from smcbench.sparsity.distributions import apportion, count, er, erk, uniform


def resnet50() -> dict[str, tuple[int, ...]]:
    """The convolutions and the head of ResNet-50 for ImageNet: 54 tensors, 25 502 912 weights."""
    shapes: dict[str, tuple[int, ...]] = {"conv1": (64, 3, 7, 7)}
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(blocks):
            at = f"layer{stage + 1}.{block}"
            shapes[f"{at}.conv1"] = (inner, width, 1, 1)
            shapes[f"{at}.conv2"] = (inner, inner, 3, 3)
            shapes[f"{at}.conv3"] = (4 * inner, inner, 1, 1)
            if block == 0:
                shapes[f"{at}.downsample"] = (4 * inner, width, 1, 1)
            width = 4 * inner
    return shapes | {"fc": (1000, 2048)}


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def by_bisection(sizes: dict[str, int], ratios: dict[str, float], density: float) -> dict[str, float]:
    """Densities ``min(1, eps * ratio)`` with the ``eps`` that meets the total: RigL's solution without its loop."""
    total, low, high = density * sum(sizes.values()), 0.0, 1 / min(ratios.values())
    for _ in range(200):
        eps = (low + high) / 2
        if sum(sizes[name] * min(1, eps * ratios[name]) for name in sizes) < total:
            low = eps
        else:
            high = eps
    return {name: min(1, eps * ratio) for name, ratio in ratios.items()}


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_erk_of_resnet50(sparsity: float) -> None:
    shapes = resnet50()
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    assert (len(shapes), sum(sizes.values())) == (54, 25_502_912)
    ratios = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    expected = by_bisection(sizes, ratios, 1 - sparsity)
    got = erk(tensors(shapes), 1 - sparsity)
    assert list(got) == list(shapes)
    assert all(abs(got[name] - expected[name]) <= 1.5 / sizes[name] for name in shapes)
    assert sum(round(got[name] * sizes[name]) for name in shapes) == round((1 - sparsity) * 25_502_912)


@pytest.mark.parametrize(
    ("sparsity", "conv1", "first_1x1", "first_3x3", "last_3x3", "fc"),
    [
        (0.8, 0.8572, 1.0, 0.3619, 0.0435, 0.1482),
        (0.9, 0.4200, 1.0, 0.1773, 0.0213, 0.0726),
        (0.95, 0.2098, 0.7735, 0.0886, 0.0106, 0.0363),
    ],
)
def test_erk_of_resnet50_in_figures(
    sparsity: float, conv1: float, first_1x1: float, first_3x3: float, last_3x3: float, fc: float
) -> None:
    got = erk(tensors(resnet50()), 1 - sparsity)
    names = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer4.2.conv2", "fc")
    assert [got[name] for name in names] == pytest.approx([conv1, first_1x1, first_3x3, last_3x3, fc], abs=2e-4)


def test_erk_by_hand() -> None:
    # ratios 6/8, 20/100, 110/1000; counts are proportional to 6, 20, 110 until a layer is full
    shapes = tensors({"a": (2, 4), "b": (10, 10), "c": (10, 100)})
    assert erk(shapes, 68 / 1108) == {"a": 3 / 8, "b": 10 / 100, "c": 55 / 1000}
    assert erk(shapes, 203 / 1108) == {"a": 1.0, "b": 30 / 100, "c": 165 / 1000}  # a is full: 195 are left


def test_er_uses_the_first_two_dimensions() -> None:
    shapes = tensors({"a": (8, 4, 3, 3), "b": (10, 10), "bias": (7,)})
    sizes, ratios = {"a": 288, "b": 100, "bias": 7}, {"a": 12 / 32, "b": 20 / 100, "bias": 1.0}
    got, expected = er(shapes, 0.2), by_bisection(sizes, ratios, 0.2)
    assert all(abs(got[name] - expected[name]) <= 1 / sizes[name] for name in sizes)


def test_uniform() -> None:
    got = uniform(tensors({"a": (10, 10), "b": (1000,), "c": (3,)}), 0.37)
    assert {name: round(value, 2) for name, value in got.items()} == {"a": 0.37, "b": 0.37, "c": 0.33}


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=4).map(tuple), max_size=8),
    st.floats(0, 1),
    st.sampled_from([uniform, er, erk]),
)
def test_counts_are_whole_and_sum_to_the_total(shapes: list[tuple[int, ...]], density: float, solve: Any) -> None:
    weights = tensors({str(i): shape for i, shape in enumerate(shapes)})
    sizes = {name: weight.numel() for name, weight in weights.items()}
    got = solve(weights, density)
    counts = {name: round(got[name] * size) for name, size in sizes.items()}
    assert sum(counts.values()) == round(density * sum(sizes.values()))
    assert all(0 <= value <= 1 for value in got.values())
    assert all(got[name] == counts[name] / size for name, size in sizes.items() if size)


@pytest.mark.parametrize("solve", [uniform, er, erk])
@pytest.mark.parametrize("density", [-0.1, 1.01, float("nan"), float("inf")])
def test_densities_that_cannot_be(solve: Any, density: float) -> None:
    with pytest.raises(UsageError, match="density"):
        solve(tensors({"a": (2, 3)}), density)


def test_count_rounds_half_to_even() -> None:
    assert [count(0.5, n) for n in (1, 3, 5, 7)] == [0, 2, 2, 4]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), min_size=1, max_size=10), st.floats(0, 1))
def test_apportioned_shares(places: list[tuple[float, int]], fill: float) -> None:
    shares, capacities = [share for share, _ in places], [capacity for _, capacity in places]
    total = round(fill * sum(capacities))
    counts = apportion(shares, capacities, total)
    assert sum(counts) == total
    assert all(0 <= n <= capacity for n, capacity in zip(counts, capacities, strict=True))
    free = [i for i in range(len(counts)) if counts[i] < capacities[i] and shares[i] > 1e-6]
    if free:  # those that are not full are proportional
        eps = max((counts[i] - 1) / shares[i] for i in free)
        assert all(counts[i] + 1 >= eps * shares[i] * (1 - 1e-9) for i in free)


def test_largest_remainders_go_first() -> None:
    assert apportion([2.4, 3.3, 4.3], [10, 10, 10], 10) == [3, 3, 4]
    assert apportion([0, 0], [3, 5], 4) == [2, 2]  # 1.5 and 2.5: the earlier first
    assert apportion([], [], 0) == []


@pytest.mark.parametrize(
    ("shares", "capacities", "total"),
    [([1], [3], 4), ([1], [3], -1), ([-1, 1], [3, 3], 1), ([math.nan], [1], 1), ([1], [-1], 0), ([1, 2], [3], 1)],
)
def test_what_cannot_be_apportioned(shares: list[float], capacities: list[int], total: int) -> None:
    with pytest.raises(UsageError, match="apportion"):
        apportion(shares, capacities, total)
