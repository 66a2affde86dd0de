"""Which differences between rows are real: tests, intervals and tiers, from the outcomes of every example.

A score varies for two reasons: another seed gives another network, and another test set has other examples. The
evidence of a row is crossed: every seed is tested on the same examples, and so is every other row of the task. Two
questions follow, and they have different answers. Whether *these networks* differ on such examples needs one seed of
each (:func:`example_test`). Whether the *methods* differ needs the variance between seeds as well (:func:`difference`);
it is what ranks. Neither says anything of other tasks, nor of other hyper-parameters.

All is deterministic: whatever is drawn, is drawn from a generator whose seed is the digest of the examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smcbench.errors import UsageError
from smcbench.results.outcomes import BOUNDS, Floats, Ints, Outcomes, correlation, ranked, reduced, slopes

Evidence = Mapping[int, Outcomes]
"""Of a row: outcomes by seed."""

_CHUNK = 1 << 22
"""Numbers that are held at once while resampling: 32 MiB."""
_SMALL = 5
"""Strata of fewer units are put together: of one unit there is no variance."""
_TAIL = 0.975
"""Quantile that bounds a 95 % interval."""


class Interval(NamedTuple):
    """From low to high."""

    low: float
    high: float


# -- these networks


def mcnemar(b: int, c: int) -> float:
    """McNemar's exact test (McNemar 1947): two-sided p of ``b`` examples that only one has right, ``c`` only the other.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(min(b, c), b + c, 0.5)))


def example_test(a: Evidence, b: Evidence, resamples: int = 10_000) -> float | None:
    """Whether these networks differ: two-sided p, paired by example, over the seeds that both have; None without any.

    The seeds of an example are no independent witnesses, so they are added up before a test, and what is tested is the
    sum. The null hypothesis is that whose network is whose does not matter, for all seeds of an example (of a unit) at
    once. Of accuracies the test is exact, with one seed just McNemar's. Of other means it is a permutation of signs
    (Fisher 1935). Of corpus scores there is no sum to permute; they are bootstrapped in pairs (Koehn 2004). For BLEU, p
    is then as sacreBLEU defines it, which is about half of the usual two-sided one: it takes the differences as
    absolute before it centres them; but no difference has p = 1. For the others it is the usual one.

    Raises:
        UsageError: the rows are not of the same examples.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    rows = [{seed: side[seed] for seed in shared} for side in (a, b)]
    first = _alike(rows)
    if first.kind in ("accuracy", "mean"):
        share = first.weights / np.bincount(first.groups, minlength=len(first.weights))
        gaps = sum(a[seed].values[:, 0] - b[seed].values[:, 0] for seed in shared)
        by_unit = np.bincount(first.units, gaps * (share / share.max())[first.groups]).astype(np.float64)
        return _signs(by_unit, first, resamples)
    gap = float(np.mean([a[seed].score() - b[seed].score() for seed in shared]))
    scores = np.concatenate(list(_resampled(rows, resamples, _generator(first))))
    gaps = (scores[:, : len(shared)] - scores[:, len(shared) :]).mean(axis=1)
    if gap == 0:
        return 1.0
    if first.kind == "bleu":
        gaps = np.abs(gaps)
        beyond = gaps - gaps.mean() > abs(gap)
    else:
        beyond = np.abs(gaps - gaps.mean()) >= abs(gap)
    return float(beyond.sum() + 1) / (resamples + 1)


def _signs(gaps: Floats, first: Outcomes, resamples: int) -> float:
    """How often a sum with random signs is as far from 0; exact where the gaps are whole numbers."""
    reached, sizes = abs(gaps.sum()), np.abs(gaps[gaps != 0])
    if np.array_equal(sizes, sizes.round()):
        known, counts = np.unique(sizes.astype(int), return_counts=True)
        if len(known) <= 1:
            return mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum()))
        return _exactly(known, counts, int(reached.round()))
    draw, beyond = _generator(first), 0
    for some in _chunks(resamples, len(sizes)):
        bits = np.frombuffer(draw.bytes(some * -(-len(sizes) // 8)), dtype=np.uint8).reshape(some, -1)
        sums = 2 * (np.unpackbits(bits, axis=1, count=len(sizes)) @ sizes) - sizes.sum()
        beyond += int((np.abs(sums) >= reached * (1 - 1e-12)).sum())
    return (beyond + 1) / (resamples + 1)


def _exactly(sizes: Ints, counts: Ints, reached: int) -> float:
    """By convolution: of each size, the number that point up is binomial."""
    from scipy.signal import convolve
    from scipy.stats import binom

    chance = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        spaced = np.zeros(2 * size * count + 1)
        spaced[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chance = convolve(chance, spaced)
    sums = np.arange(len(chance)) - len(chance) // 2
    return float(np.clip(chance[np.abs(sums) >= reached].sum(), 0.0, 1.0))


# -- resampling


def bootstrap(rows: Sequence[Evidence], resamples: int = 2000, noise: Sequence[Noise | None] | None = None) -> Floats:
    """Scores of rows of one task, each the mean over its seeds, in ``resamples`` of seeds and examples.

    Examples, or units of them, are drawn with replacement, the same for all seeds and rows: it is one test set. They
    are drawn within strata, which are groups, or sets of groups that a unit stands in. Of S seeds S - 1 are drawn with
    replacement, the same for all rows that have the same ones: with S draws the variance would be too small by
    (S - 1) / S, which for three seeds matters (Rao and Wu 1988). One seed has no variance to be seen, and of two or
    three the percentiles are still too close: of three seeds, a 95 % interval holds the truth about nine times in ten.
    Then give ``noise``, and in place of drawing seeds the mean over all of them is moved by a draw from Student's
    distribution, independently for each row, as far as the metric reaches: no accuracy is above 100 %.

    Args:
        rows: at least one seed each; all of the same examples.
        resamples: how many.
        noise: of each row, as :func:`seed_noise` finds it; None: seeds are drawn.

    Returns:
        Of shape (rows, resamples).

    Raises:
        UsageError: the rows are not of the same examples.
    """
    first = _alike(rows)
    draw = _generator(first)
    drawn: dict[tuple[int, ...], Floats] = {}
    scores = np.concatenate(list(_resampled(rows, resamples, draw)))
    found, place = np.empty((len(rows), resamples)), 0
    for at, row in enumerate(rows):
        mine, seeds = scores[:, place : place + len(row)], tuple(sorted(row))
        place += len(row)
        if noise is not None and (known := noise[at]) is not None:
            moved = draw.standard_t(known.degrees, resamples)
            found[at] = (mine.mean(axis=1) + math.sqrt(known.variance / len(row)) * moved).clip(*BOUNDS[first.kind])
            continue
        if seeds not in drawn:
            take = max(1, len(seeds) - 1)
            drawn[seeds] = draw.multinomial(take, np.full(len(seeds), 1 / len(seeds)), resamples) / take
        found[at] = (mine * drawn[seeds]).sum(axis=1)
    return found


def interval(samples: Floats, level: float = 0.95) -> Interval:
    """The percentile interval of samples, which may be infinite."""
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


class _Stratum(NamedTuple):
    """Units that are drawn from each other, those with equal outcomes counted as one pattern.

    Attributes:
        groups: that they have examples in.
        patterns: sums over the examples of a unit, of shape (patterns, groups x columns).
        counts: units of each pattern.
    """

    groups: Ints
    patterns: NDArray[Any]
    counts: Ints


def _resampled(rows: Sequence[Evidence], resamples: int, draw: np.random.Generator) -> Iterator[Floats]:
    """Scores of every seed of every row in turn, in chunks of shape (resamples, seeds of all rows).

    Where many examples have the same outcomes in all networks, as right and wrong are, drawing how often each pattern
    of outcomes occurs is the same as drawing examples, and much less work.
    """
    each = [row[seed] for row in rows for seed in sorted(row)]
    if each[0].kind == "spearman":
        return _ranked(each, resamples, draw)
    return _summed(each, resamples, draw)


def _summed(each: Sequence[Outcomes], resamples: int, draw: np.random.Generator) -> Iterator[Floats]:
    first = each[0]
    features = np.stack([one.features for one in each], axis=1).reshape(len(first), -1)
    strata = list(_patterns(first, features))
    columns = len(first.weights) * (features.shape[1] + 1)
    for some in _chunks(resamples, max(columns, len(first))):
        sums = np.zeros((some, len(first.weights), features.shape[1] + 1))
        for stratum in strata:
            often = _often(stratum.counts, some, draw, stratum.patterns.dtype)
            sums[:, stratum.groups] += (often @ stratum.patterns).reshape(some, len(stratum.groups), -1)
        apart = sums[..., :-1].reshape(some, len(first.weights), len(each), -1)
        yield np.einsum("rgc,g->rc", reduced(first.kind, apart, sums[..., -1:]), first.weights)


def _ranked(each: Sequence[Outcomes], resamples: int, draw: np.random.Generator) -> Iterator[Floats]:
    """Of ranks there are no sums; but how often each example stands is enough."""
    first = each[0]
    strata = _strata(first)
    for some in _chunks(resamples, 16 * len(first)):
        often = np.zeros((some, len(strata)))
        for stratum in range(int(strata.max()) + 1):
            inside = np.flatnonzero(strata == stratum)
            often[:, inside] = _often(np.ones(len(inside), dtype=np.int64), some, draw)
        scores = np.zeros((some, len(each)))
        for group, weight in enumerate(first.weights):
            inside = np.flatnonzero(first.groups == group)
            counts = often[:, first.units[inside]]
            total, label = counts.sum(axis=-1), first.values[inside, 1]
            right = ranked(label, counts)  # all networks are measured by the same
            for at, one in enumerate(each):
                x, y = one.values[inside].T
                mine = right if np.array_equal(y, label) else ranked(y, counts)
                scores[:, at] += weight * correlation(ranked(x, counts), mine, total)
        yield scores


def _often(counts: Ints, resamples: int, draw: np.random.Generator, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """How often each pattern of so many units is drawn, by whichever way is shorter; of shape (resamples, patterns)."""
    units, patterns = int(counts.sum()), len(counts)
    if 8 * patterns < units:
        return draw.multinomial(units, counts / units, resamples).astype(dtype)
    if patterns == units:
        often, draw.bit_generator.state = _each(units, resamples, _State(draw.bit_generator.state))
        return often.astype(dtype)
    drawn = np.repeat(np.arange(patterns, dtype=np.int32), counts)[_drawn(units, resamples, draw)]
    return _counted(drawn, patterns, dtype)


class _State(dict[str, Any]):
    """Where a generator stands, as a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))


@functools.lru_cache(maxsize=32)
def _each(units: int, resamples: int, state: _State) -> tuple[NDArray[np.uint8], _State]:
    """How often each of so many units is drawn, and where the generator stands then.

    All comparisons on one test set draw the same. It is kept, up to 32 pieces of 4 MB: enough for 10,000 resamples of
    13,000 units. The probability that 256 of n draws hit the same of n units is below 1 / 256!, so that a byte will do.
    """
    draw = np.random.default_rng()
    draw.bit_generator.state = state
    often = _counted(_drawn(units, resamples, draw), units, np.uint8)
    return often, _State(draw.bit_generator.state)


def _drawn(units: int, resamples: int, draw: np.random.Generator) -> NDArray[np.int32]:
    return draw.integers(0, units, (resamples, units), dtype=np.int32)


def _counted(drawn: NDArray[np.int32], patterns: int, dtype: DTypeLike) -> NDArray[Any]:
    often = np.empty((len(drawn), patterns), dtype)
    for row, mine in zip(often, drawn, strict=True):  # one by one: its counts stay in the cache
        row[:] = np.bincount(mine, minlength=patterns)
    return often


def _chunks(resamples: int, columns: int) -> Iterator[int]:
    size = max(1, _CHUNK // columns)
    return (min(size, resamples - start) for start in range(0, resamples, size))


def _patterns(first: Outcomes, features: Floats) -> Iterator[_Stratum]:
    """The strata; the last column of their sums counts examples."""
    strata = _strata(first)
    counted = np.hstack([features, np.ones((len(features), 1))])
    for stratum in range(int(strata.max()) + 1):
        inside = np.flatnonzero(strata[first.units] == stratum)
        groups, group = np.unique(first.groups[inside], return_inverse=True)
        units, unit = np.unique(first.units[inside], return_inverse=True)
        if len(units) == len(inside) and len(groups) == 1:
            sums = counted[inside]
        else:
            sums = np.zeros((len(units), len(groups), counted.shape[1]))
            np.add.at(sums, (unit, group), counted[inside])
        patterns, counts = np.unique(sums.reshape(len(units), -1), axis=0, return_counts=True)
        often = np.argsort(-counts, kind="stable")  # the rare ones last: most resamples are complete before them
        yield _Stratum(groups, _short(patterns[often], len(units)), counts[often])


def _short(patterns: Floats, units: int) -> NDArray[Any]:
    """In single precision, where all sums of so many are exact in it: they are whole numbers, and not too large."""
    whole = bool((patterns == np.rint(patterns)).all() and np.abs(patterns).max() * units < 1 << 24)
    return patterns.astype(np.float32) if whole else patterns


@functools.lru_cache(maxsize=1024)
def _strata(of: Outcomes) -> Ints:
    """The stratum of each unit: by how many examples it has in each group."""
    count = np.zeros((int(of.units.max()) + 1, len(of.weights)), dtype=np.int64)
    np.add.at(count, (of.units, of.groups), 1)
    _, stratum, size = np.unique(count, axis=0, return_inverse=True, return_counts=True)
    stratum = np.where(size[stratum] < _SMALL, len(size), stratum)
    return np.unique(stratum, return_inverse=True)[1]


def _alike(rows: Sequence[Evidence]) -> Outcomes:
    """One of the outcomes, if all are of the same examples."""
    each = [one for row in rows for one in row.values()]
    if not all(rows):
        raise UsageError("a row has no seeds")
    for one in each[1:]:
        if not _same(one, each[0]):
            raise UsageError("the outcomes are not of the same examples, so that they cannot be paired")
    return each[0]


def _same(one: Outcomes, other: Outcomes) -> bool:
    return one.kind == other.kind and _paired(one, other)


def _paired(one: Outcomes, other: Outcomes) -> bool:
    return (
        one.examples == other.examples
        and np.array_equal(one.units, other.units)
        and (np.array_equal(one.groups, other.groups) and np.array_equal(one.weights, other.weights))
    )


def _generator(of: Outcomes) -> np.random.Generator:
    return np.random.default_rng(int(of.examples[:16], 16))


# -- seeds


class Noise(NamedTuple):
    """How a score varies from seed to seed: its variance, and how well that is known, in degrees of freedom."""

    variance: float
    degrees: float


def seed_noise(row: Evidence, others: Sequence[Evidence] = ()) -> Noise | None:
    """That of a row, moderated by that of other rows of its table; None: one seed everywhere."""
    one, *more = (_noise_of([each], np.ones(1)) for each in (row, *others) if each)
    return moderated(one, more)


def _noise(scores: Sequence[float] | Floats) -> Noise:
    return Noise(float(np.var(scores, ddof=1)) if len(scores) > 1 else 0.0, max(0, len(scores) - 1))


def moderated(own: Noise, others: Sequence[Noise]) -> Noise | None:
    """A variance of few degrees of freedom, drawn towards those of its like; None: there are no degrees at all.

    As in limma (Smyth 2004), true variances are taken to be scattered from row to row as inverse chi-squares; how wide,
    in degrees of freedom, and about what, is estimated from the logarithms of the others' variances, so that a row that
    collapses from seed to seed does not speak for those that do not. Own and others are averaged by their degrees.
    Where rows differ much, the others have few degrees, and little say. One more row is made up, of the guess that the
    others have two degrees: so a few rows are not trusted to be alike. Nor have they more than they have together.

    >>> moderated(Noise(1.0, 2), [])
    Noise(variance=1.0, degrees=2)
    """
    prior = _prior(others)
    if prior is None:
        return own if own.degrees > 0 else None
    degrees = prior.degrees + own.degrees
    return Noise((prior.degrees * prior.variance + own.degrees * own.variance) / degrees, degrees)


def _prior(others: Sequence[Noise]) -> Noise | None:
    """What other rows say of the variance of one more; None: nothing."""
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    variances, degrees = np.array([each for each in others if each.degrees > 0], dtype=np.float64).reshape(-1, 2).T
    if not variances.any():
        return None
    variances = np.maximum(variances, 1e-5 * np.median(variances[variances > 0]))
    logarithms = np.log(variances) - digamma(degrees / 2) + np.log(degrees / 2)
    rows = len(logarithms)
    scatter = np.var(logarithms, ddof=1) - polygamma(1, degrees / 2).mean() if rows > 1 else 0.0
    scatter = (max(0.0, scatter) * (rows - 1) + polygamma(1, 1.0)) / rows
    half = brentq(lambda x: polygamma(1, x) - scatter, 1e-3, 1e6)
    half = min(half, degrees.sum() / 2)
    return Noise(float(np.exp(logarithms.mean() + digamma(half) - np.log(half))), 2 * half)


# -- methods


@dataclass(frozen=True)
class Difference:
    """A difference of two methods, and how sure it is.

    Attributes:
        estimate: the first less the second, a mean over cells.
        standard_error: of the estimate; None, and all that follows from it, if nothing is known of seeds.
        degrees: of freedom of its square.
        p: two-sided.
        low: lower end of the 95 % interval.
        high: upper end.
        seeds: fewest of a side of a cell.
        seed_variance: part of the squared error that more seeds would lower.
        example_variance: part that only more examples would.
    """

    estimate: float
    standard_error: float | None
    degrees: float | None
    p: float | None
    low: float | None
    high: float | None
    seeds: int
    seed_variance: float | None
    example_variance: float


def difference(
    pairs: Sequence[tuple[Evidence, Evidence]],
    scales: Sequence[float] | None = None,
    pooled: Sequence[Sequence[Evidence]] | None = None,
) -> Difference:
    """The difference of two methods, as a mean over cells: on other seeds, and on other examples of the same kind.

    Its variance has two parts, for crossed random effects. Between seeds: the variance of the mean over the cells of a
    task from seed to seed, so that what a seed's cells share, such as their dense parent, counts; of each side by
    itself, over its number of seeds. That two sides begin alike at equal seeds is not made use of, which errs on the
    safe side. Between examples: the variance of the difference that an example makes, averaged over seeds, added up
    over the cells of a task, which share their examples; less what of it is due to the seeds having been tested on few
    examples, which the first part holds already. With one seed a side the latter cannot be told and stays: the error is
    then too large rather than too small. Of scores that are not means, the part of an example is the derivative of the
    score by its weight (the infinitesimal jackknife, Efron 1982). Tasks are fixed and independent.

    Few seeds tell little of a variance, so that it is moderated by those of other methods (:func:`moderated`), and
    tested by Student's t with the degrees of Welch (1947) and Satterthwaite (1946). In simulations the level of 5 % was
    kept within two points with three seeds a side or more, also with one if many other methods had three; with two, or
    with one and few other methods, it was up to 9 %; and a method that varies much more than the others shows it only
    by its own seeds.

    Args:
        pairs: for each cell the two rows, each with one seed or more.
        scales: what a point is worth in each cell; default: 1.
        pooled: for each other method its rows in the order of the pairs, an empty one where it has none. The two
            methods themselves are left out, if they are among them.

    Raises:
        UsageError: there is no cell, or the two rows of a cell are not of the same examples.
    """
    if not pairs:
        raise UsageError("there is no cell that both methods have")
    weights = np.array(scales if scales is not None else [1.0] * len(pairs), dtype=np.float64) / len(pairs)
    tests: dict[str, list[int]] = {}
    for cell, pair in enumerate(pairs):
        tests.setdefault(_alike(pair).examples, []).append(cell)
    parts: list[Noise] = []
    estimate, example_variance, degrees, known = 0.0, 0.0, math.inf, True
    for cells in tests.values():
        a, b = (_Side([pairs[cell][side] for cell in cells], weights[cells]) for side in (0, 1))
        taken = {id(row) for cell in cells for row in pairs[cell]}
        others = [[method[cell] for cell in cells] for method in pooled or ()]
        noises = [_noise_of(rows, weights[cells]) for rows in others if all(rows) and not taken & set(map(id, rows))]
        estimate += a.score - b.score
        example_variance += max(0.0, _variance(a.first, a.parts.mean(0) - b.parts.mean(0)) - a.residual - b.residual)
        degrees = min(degrees, len(a.parts[0]) - 1)
        some = _between_seeds(a, b, noises)
        parts, known = parts + some, known and bool(some)
    seeds = min(len(row) for pair in pairs for row in pair)
    if not known:
        return Difference(estimate, None, None, None, None, None, seeds, None, example_variance)
    seed_variance = sum(part.variance for part in parts)
    return _judged(estimate, seeds, seed_variance, [*parts, Noise(example_variance, max(1, degrees))])


def _judged(estimate: float, seeds: int, seed_variance: float, parts: Sequence[Noise]) -> Difference:
    """By Student's t, with the degrees of freedom of a sum of independent variances."""
    from scipy.stats import t

    variance = sum(part.variance for part in parts)
    example_variance = parts[-1].variance
    if variance == 0:  # all examples and all seeds say the same
        p = 1.0 if estimate == 0 else 0.0
        return Difference(estimate, 0.0, math.inf, p, estimate, estimate, seeds, 0.0, 0.0)
    shares = [(part.variance / variance) ** 2 / part.degrees for part in parts if part.variance > 0]
    degrees, error = 1 / sum(shares), math.sqrt(variance)
    reach = float(t.ppf(_TAIL, degrees)) * error
    p = float(2 * t.sf(abs(estimate) / error, degrees))
    low, high = estimate - reach, estimate + reach
    return Difference(estimate, error, degrees, p, low, high, seeds, seed_variance, example_variance)


class _Side:
    """One method on the cells of one test set.

    Attributes:
        score: weighted sum over cells.
        first: one of its outcomes.
        seeds: fewest of a cell.
        noise: of the weighted sum, from seed to seed, over the seeds that all cells have.
        parts: what each unit adds to the weighted sum, to first order, by seed: of shape (seeds, units). Where cells
            have different seeds, there is one line, the mean of each cell over its own.
        residual: part of the variance of the units' means that is due to the seeds.
    """

    def __init__(self, rows: Sequence[Evidence], weights: Floats) -> None:
        self.first = next(iter(rows[0].values()))
        for row in rows:
            if not all(_paired(one, self.first) for one in row.values()):
                raise UsageError("outcomes of the same examples disagree on their groups or units")
        self.seeds = min(map(len, rows))
        self.score = sum(w * _mean_score(row) for w, row in zip(weights, rows, strict=True))
        self.noise = _noise_of(rows, weights)
        shared = _shared(rows)
        if even := all(len(row) == len(shared) for row in rows):
            by_seed = [[row[seed]] for seed in shared for row in rows]
        else:
            by_seed = [list(row.values()) for row in rows]
        means = [np.mean([_parts(one) for one in some], axis=0) for some in by_seed]
        count = len(shared) if even else 1
        self.parts = np.einsum("scu,c->su", np.reshape(means, (count, len(rows), -1)), weights)
        self.residual = 0.0
        if count > 1:
            spread = self.parts - self.parts.mean(axis=0)
            self.residual = sum(_variance(self.first, each) for each in spread) / (count - 1) / count


def _between_seeds(a: _Side, b: _Side, others: Sequence[Noise]) -> list[Noise]:
    """The variance between seeds of a difference, in independent parts; none, if nothing is known of seeds.

    That of each side is moderated by other methods; without any, a side of one seed is taken to vary as the other one
    does, which is then known the less. What sides of one seed take over is one and the same, hence one part.
    """
    (noise, share), (other, rest) = ((moderated(side.noise, others), 1 / side.seeds) for side in (a, b))
    if noise is None or other is None:
        known = noise or other
        return [Noise(known.variance * (share + rest), min(2.0, known.degrees))] if known else []
    if a.noise.degrees == b.noise.degrees == 0:
        return [Noise(noise.variance * (share + rest), noise.degrees)]
    return [Noise(noise.variance * share, noise.degrees), Noise(other.variance * rest, other.degrees)]


def _variance(of: Outcomes, parts: Floats) -> float:
    """Of a sum over units that are drawn within strata, from what each adds."""
    strata = _strata(of)
    size = np.bincount(strata)
    apart = parts - (np.bincount(strata, parts) / size)[strata]
    return float(np.bincount(strata, apart**2) @ (size / np.maximum(1, size - 1)))


@functools.lru_cache(maxsize=1024)
def _parts(of: Outcomes) -> Floats:
    """What each unit adds to the score, to first order."""
    return np.bincount(of.units, slopes(of)).astype(np.float64)


@functools.lru_cache(maxsize=4096)
def _score(of: Outcomes) -> float:
    return of.score()


def _mean_score(row: Evidence) -> float:
    return float(np.mean([_score(one) for one in row.values()]))


def _shared(rows: Sequence[Evidence]) -> list[int]:
    """The seeds that all have."""
    return sorted(set.intersection(*(set(row) for row in rows)))


def _noise_of(rows: Sequence[Evidence], weights: Floats) -> Noise:
    """Of the weighted sum of a method's cells, over the seeds that all of them have."""
    return _noise([sum(w * _score(r[seed]) for w, r in zip(weights, rows, strict=True)) for seed in _shared(rows)])


# -- many comparisons


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of several tests, by Holm (1979): at most a fraction alpha of families has a false one below alpha.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = highest
    return adjusted


def tiers(names: Sequence[Any], p_of: Callable[[int, int], float | None], alpha: float = 0.05) -> list[int]:
    """The tier of each, from 1: the best with all that cannot be told from it; then likewise the best of the rest.

    The leader's tests are corrected together, by Holm. A tier says who may be as good as its leader, and not that its
    members are equal; one that is told from the leader may well be no worse than one that is not.

    Args:
        names: the best first.
        p_of: of the difference of two, by their places; None: they cannot be told apart.
        alpha: of each leader's family of tests.

    >>> tiers("abcd", lambda i, j: 0.001 if i < 2 <= j else 0.5)
    [1, 1, 2, 2]
    """
    found = [0] * len(names)
    left, tier = list(range(len(names))), 0
    while left:
        tier += 1
        leader, *rest = left
        found[leader] = tier
        left = []
        for other, p in zip(rest, holm([1.0 if (p := p_of(leader, i)) is None else p for i in rest]), strict=True):
            if p < alpha:
                left.append(other)
            else:
                found[other] = tier
    return found


def more_seeds(difference: Difference, alpha: float = 0.05, most: int = 1000) -> int | None:
    """About how many more seeds of both sides would make a difference of this size significant.

    None: none would, as the test set is too small, or it would take more than ``most``; or nothing is known of seeds.
    """
    from scipy.stats import t

    found = difference
    if found.p is None or found.degrees is None or found.seed_variance is None:
        return None
    if found.p < alpha:
        return 0
    for more in range(1, most + 1):
        variance = found.seed_variance * found.seeds / (found.seeds + more) + found.example_variance
        if abs(found.estimate) > t.isf(alpha / 2, found.degrees + 2 * more) * math.sqrt(variance):
            return more
    return None
