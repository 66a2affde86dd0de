"""Distributions: how a total density is shared out over the layers.

A distribution is a dictionary of densities by name that :func:`~smcbench.sparsity.keep.keep` takes in place of one
number (which means: whichever scores are highest, wherever they are). Its densities are whole counts divided by the
layer's size, and these counts sum to exactly ``round(density * total)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from torch import Tensor

from smcbench.errors import UsageError


def count(density: float, total: int) -> int:
    """How many of ``total`` weights a density keeps: the nearest whole number, and of two the even one.

    Raises:
        UsageError: the density is not in [0, 1].

    >>> count(0.1, 1000), count(0.5, 5), count(0.5, 7)
    (100, 2, 4)
    """
    if not 0 <= density <= 1:
        raise UsageError(f"a density must lie in [0, 1], not {density!r}")
    return round(density * total)


def uniform(weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
    """The same density in every layer, as near as whole counts allow.

    Raises:
        UsageError: the density is not in [0, 1].

    >>> import torch
    >>> weights = {"a": torch.zeros(10, 10), "b": torch.zeros(4, 5)}
    >>> uniform(weights, 0.3)
    {'a': 0.3, 'b': 0.3}
    """
    return _distribute(weights, density, math.prod)


def er(weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
    """Erdős-Rényi: density proportional to ``(in + out) / (in * out)``, the first two dimensions.

    From SET (Mocanu et al., 2018). Layers that this would fill beyond 1 are dense, and the others are solved again; a
    layer with fewer than two dimensions has ``in = 0``, as a bias has none.

    Raises:
        UsageError: the density is not in [0, 1].

    >>> import torch
    >>> weights = {"a": torch.zeros(10, 10), "b": torch.zeros(40, 10)}
    >>> er(weights, 0.14)                                                   # counts 20 : 50, as 10 + 10 : 40 + 10
    {'a': 0.2, 'b': 0.125}
    """
    return _distribute(weights, density, lambda shape: sum(shape[:2]) * math.prod(shape[2:]))


def erk(weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
    """Erdős-Rényi-kernel: density proportional to ``sum(shape) / prod(shape)``.

    From RigL (Evci et al., 2020, section 3 (1)). Layers that this would fill beyond 1 are dense, and the others are
    solved again. The counts are thus proportional to ``sum(shape)``, a whole number, which makes the solution exact.

    Raises:
        UsageError: the density is not in [0, 1].

    >>> import torch
    >>> weights = {"conv": torch.zeros(8, 4, 2, 2), "head": torch.zeros(8, 8)}
    >>> erk(weights, 1 / 3)                                                 # counts 32 : 32, as 16 : 16
    {'conv': 0.25, 'head': 0.5}
    >>> erk(weights, 0.75)                                                  # the head is full
    {'conv': 0.625, 'head': 1.0}
    """
    return _distribute(weights, density, sum)


DISTRIBUTIONS: dict[str, Callable[[Mapping[str, Tensor], float], dict[str, float]]] = {
    "uniform": uniform,
    "er": er,
    "erk": erk,
}
"""By name, as hyper-parameters have them."""


def apportion(shares: Sequence[float], capacities: Sequence[int], total: int) -> list[int]:
    """``total`` whole units divided in proportion to ``shares``, none above its capacity.

    What a full place cannot take flows to the others, still in proportion to their shares (and, once those are full,
    to places without a share, in proportion to their room). Computed in exact fractions and rounded by largest
    remainders, the earlier place first, so that the counts sum to exactly ``total``.

    Raises:
        UsageError: a share or capacity is negative, or the capacities cannot hold ``total``.

    >>> apportion([1, 1, 1], [10, 10, 10], 10)
    [4, 3, 3]
    >>> apportion([10, 5, 0], [4, 100, 100], 15)
    [4, 11, 0]
    """
    if len(shares) != len(capacities) or any(not 0 <= s < math.inf for s in shares) or min(capacities, default=0) < 0:
        raise UsageError(f"apportion: each share and capacity must be 0 or more: {list(shares)}, {list(capacities)}")
    if not 0 <= total <= sum(capacities):
        raise UsageError(f"apportion: {total} units do not fit into places for {sum(capacities)}")
    ideal = [Fraction(0)] * len(shares)
    weights = [Fraction(share) for share in shares]
    places = {i for i, capacity in enumerate(capacities) if capacity and weights[i]}
    left = Fraction(total)
    while left:
        if not places:  # those with a share are full: the rest, by their room
            places = {i for i, capacity in enumerate(capacities) if ideal[i] < capacity}
            for i in places:
                weights[i] = Fraction(capacities[i])
        scale = left / sum(weights[i] for i in places)
        full = {i for i in places if scale * weights[i] >= capacities[i]}
        for i in full or places:
            ideal[i] = Fraction(capacities[i]) if full else scale * weights[i]
            left -= ideal[i]
        places -= full
    counts = [math.floor(value) for value in ideal]
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - ideal[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _distribute(
    weights: Mapping[str, Tensor], density: float, share: Callable[[tuple[int, ...]], int]
) -> dict[str, float]:
    """Counts proportional to ``share(shape)``, as densities; ``round(density * n)`` gives back each count."""
    sizes = [weight.numel() for weight in weights.values()]
    shares = [share(tuple(weight.shape) or (1,)) for weight in weights.values()]
    counts = apportion(shares, sizes, count(density, sum(sizes)))
    return {name: n / size if size else 1.0 for name, n, size in zip(weights, counts, sizes, strict=True)}
