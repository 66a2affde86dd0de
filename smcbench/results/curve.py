"""A sparsity-quality curve: one sparsifier on one task, up its ladder, and what one reads off it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smcbench.results import statistics
from smcbench.results.aggregate import SLACK, BreakPoint, Row, Table, rounded
from smcbench.results.outcomes import Floats, Outcomes
from smcbench.results.statistics import Evidence, Noise

RESAMPLES = 2000


def level_of(sparsity: float) -> float:
    """How many rounds that each remove a fifth of what is left make this sparsity; the axis on which curves are read.

    >>> round(level_of(0.488), 9), level_of(0.0)
    (3.0, 0.0)
    """
    return math.log1p(-sparsity) / math.log(0.8) + 0.0


@dataclass(frozen=True, eq=False)
class Curve:
    """One sparsifier in one table, by rising sparsity, with its resamples where there are outcomes.

    Attributes:
        rows: at least one; all of one submission and table.
        evidence: of each row; None if it has no outcomes, or of other examples than those of dense.
        samples: resampled means, of shape (rows, resamples); NaN where a row has no outcomes, None if none has.
        reference: those of dense, drawn together with them, of shape (resamples,).
    """

    rows: tuple[Row, ...]
    evidence: tuple[Evidence | None, ...]
    samples: Floats | None = None
    reference: Floats | None = None

    @property
    def table(self) -> Table:
        """That of its rows."""
        return self.rows[0].table

    def with_intervals(self) -> list[Row]:
        """The rows, each with the interval of its mean."""
        if self.samples is None:
            return list(self.rows)
        found = [None if np.isnan(each).any() else statistics.interval(each) for each in self.samples]
        return [
            row if each is None else replace(row, low=rounded(each.low), high=rounded(each.high))
            for row, each in zip(self.rows, found, strict=True)
        ]

    @cached_property
    def normalised(self) -> Floats | None:
        """The mean score of each row, 0 at chance and 1 at dense; None without a dense reference, or if that is chance.

        Of shape (rows,).
        """
        values = [row.normalised for row in self.rows]
        return None if any(value is None for value in values) else np.array(values, dtype=np.float64)

    @cached_property
    def normalised_samples(self) -> Floats | None:
        """Those of the resamples, each relative to the dense of its own resample; of shape (rows, resamples)."""
        if self.samples is None or self.reference is None or self.normalised is None or not self._whole:
            return None
        chance = self.rows[0].metric.chance
        room = self.reference - chance
        return (self.samples - chance) / np.where(room == 0, np.nan, room)

    def area(self) -> float | None:
        """Under the normalised curve over level, from 1 at dense to its last row, as a share of that stretch."""
        return None if self.normalised is None else float(area(self._levels, self.normalised))

    def area_samples(self) -> Floats | None:
        """Of the resamples, of shape (resamples,)."""
        return None if self.normalised_samples is None else area(self._levels, self.normalised_samples)

    @cached_property
    def break_point(self) -> BreakPoint | None:
        """Up to where it matches dense; None without a dense reference, and for dense itself."""
        first, last = self.rows[0], self.rows[-1]
        if first.sparsity == 0 or first.dense is None or first.margin is None:
            return None
        matching = [r.sparsity for r in self.rows if r.matching]
        highest = max(matching, default=None)
        means = np.array([r.mean for r in self.rows])
        estimate, crosses = self._crossing(means, np.float64(first.dense.mean), first.margin)
        samples = self.break_samples()
        within = None if samples is None else statistics.interval(samples)
        return BreakPoint(
            sparsifier=first.sparsifier,
            task=first.task.name,
            task_digest=first.task.digest,
            budget=first.budget,
            sparsity=highest,
            monotone=all(r.matching for r in self.rows if highest is not None and r.sparsity <= highest),
            ladder=tuple(r.sparsity for r in self.rows),
            estimate=rounded(estimate) if crosses else last.sparsity,
            open=not crosses,
            low=within and rounded(within.low),
            high=within and rounded(within.high),
            submission=first.submission,
            battery=first.battery,
        )

    def break_samples(self) -> Floats | None:
        """Break-point sparsities of the resamples, of shape (resamples,); the margin stays what it is."""
        margin = self.rows[0].margin
        if self.samples is None or self.reference is None or margin is None or not self._whole:
            return None
        return self._crossing(self.samples, self.reference, margin)[0]

    @property
    def _whole(self) -> bool:
        return all(each is not None for each in self.evidence)

    @property
    def _levels(self) -> Floats:
        return np.array([level_of(r.sparsity) for r in self.rows])

    def _crossing(self, scores: Floats, dense: Floats | np.float64, margin: float) -> tuple[Floats, NDArray[np.bool_]]:
        sign = 1 if self.rows[0].metric.higher_is_better else -1
        level, crosses = crossing(self._levels, sign * (scores - dense) + margin, margin)
        return 1 - 0.8**level, crosses


def crossing(levels: Floats, surplus: Floats, start: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Where a piecewise linear curve first falls below 0, and whether it does; where not, the last level.

    Args:
        levels: rising, above 0, of shape (rows,).
        surplus: of shape (rows, ...).
        start: the surplus at level 0, not negative.

    >>> [x.item() for x in crossing(np.array([2.0, 4.0]), np.array([1.0, -1.0]), 1.0)]
    [3.0, True]
    """
    at = np.concatenate([[0.0], levels])
    values = np.concatenate([np.full_like(surplus[:1], start), surplus])
    below = values[1:] < -SLACK
    first, crosses = below.argmax(axis=0), np.asarray(below.any(axis=0))
    left = np.maximum(np.take_along_axis(values, first[None], axis=0)[0], 0.0)
    right = np.take_along_axis(values, first[None] + 1, axis=0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = left / (left - right)
        return np.where(crosses, at[first] + share * (at[first + 1] - at[first]), levels[-1]), crosses


def area(levels: Floats, quality: Floats) -> Floats:
    """Trapezoids under quality (rows, ...) over levels (rows,), from 1 at level 0; divided by the last level.

    >>> area(np.array([1.0, 2.0]), np.array([1.0, 0.0])).item()
    0.75
    """
    width = np.diff(levels, prepend=0.0)
    high = np.concatenate([np.ones_like(quality[:1]), quality])
    total: Floats = np.tensordot(width, (high[1:] + high[:-1]) / 2, axes=1) / levels[-1]
    return total


Others = Mapping[tuple[Table, float], Sequence[Row]]
"""By table and sparsity the rows that tell how much scores vary from seed to seed there."""


def by_cell(rows: Iterable[Row]) -> Others:
    """The rows of several seeds, by table and sparsity."""
    found: dict[tuple[Table, float], list[Row]] = defaultdict(list)
    for row in rows:
        if row.n > 1:
            found[row.table, row.sparsity].append(row)
    return found


def curves(
    rows: Iterable[Row],
    outcomes: Mapping[str, Outcomes],
    dense: Mapping[Table, Mapping[int, str]],
    others: Others,
    resamples: int = RESAMPLES,
) -> list[Curve]:
    """The curves that rows make: by sparsifier, submission and table, dense apart.

    Args:
        rows: of any sparsifiers and tables.
        outcomes: by run; runs may lack.
        dense: by table, the runs of the dense reference by seed.
        others: rows of all sparsifiers, these among them; few seeds borrow from them how much seeds matter.
        resamples: how many.
    """
    ladders: dict[tuple[str, str, Table, bool], list[Row]] = defaultdict(list)
    for row in rows:
        ladders[row.sparsifier, row.submission or "", row.table, row.sparsity > 0].append(row)
    found = []
    for (_, _, table, _), ladder in ladders.items():
        ladder.sort(key=lambda r: r.sparsity)
        reference = evidence_of(dense.get(table, {}), outcomes)
        evidence = [evidence_of(row.by_seed, outcomes) for row in ladder]
        found.append(_resampled(ladder, evidence, reference, others, resamples))
    return found


def alike(one: Evidence, other: Evidence) -> bool:
    """Whether the outcomes of two rows are of the same examples, so that they can be paired."""
    first, *rest = (_examined(each) for side in (one, other) for each in side.values())
    return all(each == first for each in rest)


def _examined(of: Outcomes) -> tuple[object, ...]:
    return of.kind, of.examples, of.groups.tobytes(), of.weights.tobytes(), of.units.tobytes()


def evidence_of(runs: Mapping[int, str], outcomes: Mapping[str, Outcomes]) -> Evidence | None:
    """The outcomes of these runs, by seed; None unless all are there, and of the same examples."""
    found = {seed: outcomes[run] for seed, run in runs.items() if run in outcomes}
    return found if found and len(found) == len(runs) and alike(found, {}) else None


def _resampled(
    ladder: Sequence[Row],
    evidence: Sequence[Evidence | None],
    reference: Evidence | None,
    others: Others,
    resamples: int,
) -> Curve:
    first = reference or next((each for each in evidence if each is not None), None)
    paired = tuple(each if each is not None and first is not None and alike(first, each) else None for each in evidence)
    able = [i for i, each in enumerate(paired) if each is not None]
    if not able:
        return Curve(tuple(ladder), paired)
    given = [each for each in paired if each is not None]
    noise = [_noise(ladder[i], others.get((ladder[i].table, ladder[i].sparsity), ())) for i in able]
    samples = np.full((len(ladder), resamples), np.nan)
    if reference is None:
        samples[able] = statistics.bootstrap(given, resamples, noise)
        return Curve(tuple(ladder), paired, samples)
    of_dense = ladder[0].dense
    own = None if of_dense is None or of_dense.std is None else Noise(of_dense.std**2, of_dense.n - 1)
    drawn = statistics.bootstrap([reference, *given], resamples, [own, *noise])
    samples[able] = drawn[1:]
    return Curve(tuple(ladder), paired, samples, drawn[0])


def _noise(row: Row, others: Sequence[Row]) -> Noise | None:
    """How much a row varies from seed to seed: as its own seeds tell, and those of others."""
    known = [Noise(other.std**2, other.n - 1) for other in others if other is not row and other.std is not None]
    return statistics.moderated(Noise((row.std or 0.0) ** 2, row.n - 1), known)
