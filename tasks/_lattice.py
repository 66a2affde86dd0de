"""Lattice proteins: a physical model of folding that is small enough to be solved exactly.

A chain of 25 residues fills a square of 5 x 5 sites. Up to rotation and reflection there are 1,081 ways to do that, the
folds, each with 16 pairs of residues that are neighbours in space but not in the chain. A contact has the energy that
Miyazawa and Jernigan found for the two amino acids in crystal structures (1996, J. Mol. Biol. 256, 623-644, table 3, in
units of kT), the energy of a sequence in a fold is the sum over its contacts, and the fold of the lowest energy is the
native one. At a temperature T a fold has the Boltzmann weight exp(-E/T) over the sum of all: the melting temperature is
where that of the native fold has fallen to one half. All folds count, so whether a mutation stabilises depends on the
whole sequence. Such models: Shakhnovich (1994, Phys. Rev. Lett. 72, 3907), Bloom et al. (2005, PNAS 102, 606).

For each of a few folds a sequence is designed by Metropolis steps that widen the gap to the next best fold; the data
are its mutants at 3 to 7 places, as long as the native fold is still the same. So a fold is a family, and what a
residue does depends on the family and on the residues around it. A sequence of the validation or test split differs
from every training sequence at three places or more.

The same sizes give the same sequences on every machine: energies are whole hundredths, hence exact.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from smcbench.sources import prepared
from smcbench.task import SPLITS, Split

from ._text import Example

SIDE, LENGTH = 5, 25
RESIDUES = "CMFILVWYAGTSNQDEHRKP"
_CONTACTS = """
-5.44 -4.99 -5.80 -5.50 -5.83 -4.96 -4.95 -4.16 -3.57 -3.16 -3.11 -2.86 -2.59 -2.85 -2.41 -2.27 -3.60 -2.57 -1.95 -3.07
-5.46 -6.56 -6.02 -6.41 -5.32 -5.55 -4.91 -3.94 -3.39 -3.51 -3.03 -2.95 -3.30 -2.57 -2.89 -3.98 -3.12 -2.48 -3.45
-7.26 -6.84 -7.28 -6.29 -6.16 -5.66 -4.81 -4.13 -4.28 -4.02 -3.75 -4.10 -3.48 -3.56 -4.77 -3.98 -3.36 -4.25
-6.54 -7.04 -6.05 -5.78 -5.25 -4.58 -3.78 -4.03 -3.52 -3.24 -3.67 -3.17 -3.27 -4.14 -3.63 -3.01 -3.76
-7.37 -6.48 -6.14 -5.67 -4.91 -4.16 -4.34 -3.92 -3.74 -4.04 -3.40 -3.59 -4.54 -4.03 -3.37 -4.20
-5.52 -5.18 -4.62 -4.04 -3.38 -3.46 -3.05 -2.83 -3.07 -2.48 -2.67 -3.58 -3.07 -2.49 -3.32
-5.06 -4.66 -3.82 -3.42 -3.22 -2.99 -3.07 -3.11 -2.84 -2.99 -3.98 -3.41 -2.69 -3.73
-4.17 -3.36 -3.01 -3.01 -2.78 -2.76 -2.97 -2.76 -2.79 -3.52 -3.16 -2.60 -3.19
-2.72 -2.31 -2.32 -2.01 -1.84 -1.89 -1.70 -1.51 -2.41 -1.83 -1.31 -2.03
-2.24 -2.08 -1.82 -1.74 -1.66 -1.59 -1.22 -2.15 -1.72 -1.15 -1.87
-2.12 -1.96 -1.88 -1.90 -1.80 -1.74 -2.42 -1.90 -1.31 -1.90
-1.67 -1.58 -1.49 -1.63 -1.48 -2.11 -1.62 -1.05 -1.57
-1.68 -1.71 -1.68 -1.51 -2.08 -1.64 -1.21 -1.53
-1.54 -1.46 -1.42 -1.98 -1.80 -1.29 -1.73
-1.21 -1.02 -2.32 -2.29 -1.68 -1.33
-0.91 -2.15 -2.27 -1.80 -1.26
-3.05 -2.16 -1.35 -2.25
-1.55 -0.59 -1.70
-0.12 -0.97
-1.75
"""  # the upper triangle, rows and columns in the order of RESIDUES

_SEED = 0
_STEPS, _HEAT = 2000, 30.0
"""Of a design: Metropolis steps, and the loss of gap, in hundredths, that is accepted one time in e."""
_MUTATIONS = (3, 7)
APART = 3
"""At how many places, at least, a held-out sequence differs from every training sequence."""
_DECIMALS = 4
_PART = 2000
"""Sequences whose energies are in memory at a time."""
_ROUNDS = 100
"""Of drawing mutants, at most, for each part of those asked for: so one in a hundred must be new and keep its fold."""

Walk = tuple[tuple[int, int], ...]


def contact_energies() -> Any:
    """Energies of contacts as a symmetric array of shape (20, 20), in hundredths of kT, by the order of RESIDUES."""
    table = np.zeros((20, 20))
    for i, line in enumerate(_CONTACTS.strip().splitlines()):
        table[i, i:] = table[i:, i] = np.rint(100 * np.asarray(line.split(), dtype=float))
    return table


def folds(side: int = SIDE) -> list[Walk]:
    """All walks that visit every site of a square once, one of each eight that are images of each other, sorted.

    >>> len(folds(3)), len(folds(4))
    (5, 69)
    """
    last = side - 1
    found: set[Walk] = set()

    def images(walk: Walk) -> Iterator[Walk]:
        for turned in (walk, tuple((y, x) for x, y in walk)):
            for flip_x, flip_y in itertools.product((False, True), repeat=2):
                yield tuple((last - x if flip_x else x, last - y if flip_y else y) for x, y in turned)

    def extend(walk: list[tuple[int, int]], seen: set[tuple[int, int]]) -> None:
        if len(walk) == side * side:
            found.add(min(images(tuple(walk))))
            return
        x, y = walk[-1]
        for site in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if site not in seen and 0 <= site[0] <= last and 0 <= site[1] <= last:
                walk.append(site)
                seen.add(site)
                extend(walk, seen)
                seen.remove(walk.pop())

    half = (side + 1) // 2
    for start in ((x, y) for x in range(half) for y in range(x, half)):  # every site is the image of one of these
        extend([start], {start})
    return sorted(found)


def contacts(walk: Walk) -> list[tuple[int, int]]:
    """Pairs of residues that are neighbours in space, but not in the chain.

    >>> contacts(((0, 0), (0, 1), (1, 1), (1, 0)))
    [(0, 3)]
    """
    at = {site: i for i, site in enumerate(walk)}
    pairs = ((i, at.get(site)) for (x, y), i in at.items() for site in ((x + 1, y), (x, y + 1)))
    return sorted((min(i, j), max(i, j)) for i, j in pairs if j is not None and abs(i - j) > 1)


class Lattice:
    """The folds of a square and the energy of any sequence in each of them."""

    def __init__(self, side: int = SIDE) -> None:
        self.folds = folds(side)
        self._pairs = np.triu_indices(side * side, 2)
        place = {pair: k for k, pair in enumerate(zip(*(some.tolist() for some in self._pairs), strict=True))}
        self._touching = np.zeros((len(place), len(self.folds)), dtype=np.float32)
        for number, walk in enumerate(self.folds):
            self._touching[[place[pair] for pair in contacts(walk)], number] = 1
        self._energies = contact_energies().astype(np.float32)

    def energies(self, sequences: Any) -> Any:
        """Energies in hundredths of kT, of shape (sequences, folds); ``sequences`` hold indices into RESIDUES."""
        first, second = self._pairs
        return self._energies[sequences[:, first], sequences[:, second]] @ self._touching  # exact: below 2^24


def melting_temperatures(energies: Any) -> Any:
    """Where the weight of the lowest energy falls to one half, in the unit of the energies; 0 where two share it.

    There the other states weigh as much as it: log sum exp(-(E - lowest) / T) = 0. As a function of 1/T that is convex
    and falls, so Newton's steps from its left side never pass the root. They begin at a bound: k states whose mean is m
    weigh at least k exp(-m / T), so 1/T is at least log k / m.

    Args:
        energies: of shape (sequences, states), at least three states.

    >>> melting_temperatures(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).round(6).tolist()
    [1.442695, 0.0]
    """
    lowest = np.sort(energies.astype(np.float64), axis=1)
    above = lowest[:, 1:] - lowest[:, :1]
    found = np.zeros(len(above))
    stable = above[:, 0] > 0
    above = above[stable]
    many = np.arange(1, above.shape[1] + 1)
    cold = (np.log(many) * many / np.cumsum(above, axis=1)).max(axis=1, initial=0.0)  # 1/T
    for _ in range(100):
        weights = np.exp(-cold[:, None] * above)
        total = weights.sum(axis=1)
        step = total * np.log(total) / (weights * above).sum(axis=1)
        cold += step
        if (np.abs(step) <= 1e-12 * cold).all():
            break
    found[stable] = 1 / cold
    return found


def design(lattice: Lattice, fold: int, draw: random.Random) -> tuple[Any, float]:
    """A sequence made for a fold, and by how much it lies below the next one, in hundredths of kT."""

    def gap(sequence: Any) -> float:
        energies = lattice.energies(sequence[None])[0]
        own = energies[fold]
        energies[fold] = np.inf
        return float(energies.min() - own)

    sequence = np.asarray([draw.randrange(20) for _ in range(LENGTH)])
    current = gap(sequence)
    for _ in range(_STEPS):
        other = sequence.copy()
        other[draw.randrange(LENGTH)] = draw.randrange(20)
        wider = gap(other)
        if wider >= current or draw.random() < math.exp((wider - current) / _HEAT):
            sequence, current = other, wider
    return sequence, current


def _mutants(lattice: Lattice, parent: Any, fold: int, count: int, draw: random.Random) -> tuple[Any, Any]:
    """So many different mutants that keep the fold, and their melting temperatures in kT.

    Raises:
        ValueError: that many are not found.
    """
    kept: dict[bytes, float] = {}
    for _ in range(_ROUNDS * math.ceil(count / _PART)):
        if len(kept) >= count:
            break
        some = np.repeat(parent[None].astype(np.int8), _PART, axis=0)
        for sequence in some:
            for place in draw.sample(range(LENGTH), draw.randint(*_MUTATIONS)):
                sequence[place] = (sequence[place] + draw.randrange(1, 20)) % 20
        energies = lattice.energies(some)
        lowest = energies.min(axis=1)
        native = (energies[:, fold] == lowest) & ((energies == lowest[:, None]).sum(axis=1) == 1)
        kept |= zip((row.tobytes() for row in some[native]), melting_temperatures(energies[native]) / 100, strict=True)
    if len(kept) < count:
        raise ValueError(f"only {len(kept)} of {count} mutants that keep fold {fold} are found")
    rows = list(kept.items())[:count]
    return np.asarray([list(row) for row, _ in rows], dtype=np.int8), np.asarray([t for _, t in rows])


def _distance(sequences: Any, others: Any) -> Any:
    """At how many places each sequence differs from the nearest of the others."""
    same = np.eye(20, dtype=np.float32)[others].reshape(len(others), -1).T
    nearest = [
        LENGTH - (np.eye(20, dtype=np.float32)[part].reshape(len(part), -1) @ same).max(axis=1)
        for part in np.array_split(sequences, max(1, len(sequences) // _PART))
    ]
    return np.concatenate(nearest)


def generate(families: int, candidates: int, count: int, held_out: int) -> dict[str, Any]:
    """Sequences of all families in any order, and their melting temperatures, rounded.

    Args:
        families: how many folds; of the candidates those whose designs have the widest gaps.
        candidates: how many folds a sequence is designed for.
        count: sequences in all, before those too near are left out.
        held_out: how many of them validation and test are chosen from.

    Returns:
        ``train`` and ``held`` of shape (sequences, 25), indices into RESIDUES, and ``train-tm`` and ``held-tm``.
    """
    draw, lattice = random.Random(_SEED), Lattice()
    designs = [(*design(lattice, fold, draw), fold) for fold in draw.sample(range(len(lattice.folds)), candidates)]
    chosen = sorted(designs, key=lambda found: -found[1])[:families]
    made = [_mutants(lattice, parent, fold, count // families, draw) for parent, _, fold in chosen]
    sequences, heat = (np.concatenate(some) for some in zip(*made, strict=True))
    order = list(range(len(sequences)))
    draw.shuffle(order)
    sequences, heat = sequences[order], heat[order].round(_DECIMALS)
    held, train = sequences[:held_out], sequences[held_out:]
    apart = _distance(held, train) >= APART
    return {
        "train": train, "train-tm": heat[held_out:], "held": held[apart], "held-tm": heat[:held_out][apart]
    }  # fmt: skip


def examples(
    sizes: tuple[int, int, int], classes: int | None, gap: float = 0.0, families: int = 3, candidates: int = 9
) -> Mapping[Split, list[Example]]:
    """Examples of the three splits: the class of stability, or the melting temperature in kT.

    Classes are equal shares of the training sequences by melting temperature. Between two of them a share of ``gap`` is
    left out in every split, so that no label hangs on a rounding.

    Raises:
        ValueError: fewer sequences are found, or left, than asked for.
    """
    share = 1 - gap * (classes - 1) if classes else 1.0
    held = math.ceil(2 * sum(sizes[1:]) / share)  # some two fifths are too near
    arguments = (families, candidates, math.ceil(1.02 * sizes[0] / share) + held, held)
    rules = (_SEED, _STEPS, _HEAT, _MUTATIONS, APART, _DECIMALS)
    key = {"arguments": arguments, "rules": rules, "version": 1}
    arrays = prepared("lattice-proteins", key, lambda: generate(*arguments))
    bounds = _bounds(arrays["train-tm"], classes, gap)
    rows = {part: list(_labelled(arrays[part], arrays[f"{part}-tm"], bounds)) for part in ("train", "held")}
    parts = {
        "train": rows["train"][: sizes[0]],
        "validation": rows["held"][: sizes[1]],
        "test": rows["held"][sizes[1] : sum(sizes[1:])],
    }
    found: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        if len(parts[split]) < size:
            raise ValueError(f"only {len(parts[split])} of {size} sequences are left for {split}")
        found[split] = [
            Example(f"lattice/{split}/{n}", ((text,),), label) for n, (text, label) in enumerate(parts[split])
        ]
    return found


def _bounds(heat: Any, classes: int | None, gap: float) -> list[tuple[float, float]] | None:
    """The lowest and highest melting temperature of each class; none: there are no classes."""
    if classes is None:
        return None
    ordered, share = np.sort(heat), (1 - gap * (classes - 1)) / classes
    starts = [number * (share + gap) for number in range(classes)]
    ends = [0.0, *(ordered[min(len(heat) - 1, round(s * len(heat)))] for s in starts[1:])]
    tops = [*(ordered[round((s + share) * len(heat)) - 1] for s in starts[:-1]), math.inf]
    return [(float(low), float(high)) for low, high in zip(ends, tops, strict=True)]


def _labelled(sequences: Any, heat: Any, bounds: list[tuple[float, float]] | None) -> Iterator[tuple[str, int | float]]:
    letters = np.asarray(list(RESIDUES))
    for row, value in zip(letters[sequences], heat.tolist(), strict=True):
        if bounds is None:
            yield "".join(row), value
            continue
        label = next((number for number, (low, high) in enumerate(bounds) if low <= value <= high), None)
        if label is not None:
            yield "".join(row), label
