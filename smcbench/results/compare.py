"""A comparison: some sparsifiers side by side, per task and sparsity, each against dense."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from smcbench.errors import UsageError
from smcbench.results import aggregate, shape, statistics
from smcbench.results.aggregate import BreakPoint, Row, Table, rounded
from smcbench.results.battery import nearest, resolve_sparsity, show_sparsity
from smcbench.results.curve import RESAMPLES, Curve, alike, by_cell, curves, evidence_of
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import RunRecord
from smcbench.results.shape import Digest, Line
from smcbench.results.statistics import Evidence
from smcbench.results.submission import choose

ALPHA = 0.05
"""From this p on a difference may be chance."""
MIXED = "mixed"
"""Category of a sparsifier that behaved differently from cell to cell."""


@dataclass(frozen=True)
class Ranks:
    """Mean rank (1 is best, ties share) of sparsifiers of one measured category over the cells that all of them have.

    A description, no test: with few cells and seeds, small differences in rank mean nothing.
    """

    category: str
    cells: int
    ranks: Mapping[str, float]


@dataclass(frozen=True)
class Contrast:
    """The first sparsifier minus another, in one cell or over all that both have.

    In a cell the difference is one of means, in the unit of the metric; over all (``task`` is None) it is one of mean
    quality, where 0 is chance and 1 is dense. ``p`` asks whether the *methods* differ, trained with other seeds and
    scored on other examples, ``networks`` whether *these networks* do. The former is corrected by Holm, over the cells
    of a pair and over the pairs.
    """

    one: Line
    other: Line
    cells: int
    estimate: float
    task: Line | None = None
    task_digest: Digest | None = None
    budget: float | None = None
    sparsity: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    networks: float | None = None
    more_seeds: int | None = None
    """About how many more seeds would separate them; None if they are, or if no number would."""


@dataclass(frozen=True)
class Comparison:
    """Rows and break-points in the order asked for, ranks within categories, and what the reader must know."""

    sparsifiers: tuple[str, ...]
    rows: tuple[Row, ...]
    break_points: tuple[BreakPoint, ...]
    ranks: tuple[Ranks, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        result: dict[str, Any] = shape.plain(self)
        return result


def compare(
    records: Iterable[RunRecord],
    sparsifiers: Sequence[str],
    fraction: float = 0.01,
    *,
    tasks: Collection[str] | None = None,
    sparsities: Collection[float] | None = None,
    outcomes: Mapping[str, Outcomes] | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Put sparsifiers side by side; results of different task versions or budgets stay apart, with a note.

    Args:
        records: from the board, a store, or both (the same run twice counts once); dense references among them.
        sparsifiers: names or labels.
        fraction: the margin of the battery, see ``aggregate.margin_of``.
        tasks: only these.
        sparsities: only these, give or take 0.0005.
        outcomes: by run; where they lack, there are neither intervals nor tests.
        resamples: how many make an interval.

    Raises:
        UsageError: nothing is known of one of the sparsifiers or tasks.
    """
    known, notes = aggregate.unique(records)
    for name in tasks or ():
        if name not in {r.spec.task.name for r in known}:
            raise UsageError(f"no records on task {name!r}; there are some on {nearest(name, _task_names(known))}")
    within = [r for r in known if tasks is None or r.spec.task.name in tasks]
    chosen = [choose(within, each) for each in dict.fromkeys(sparsifiers)]
    labels = tuple(dict.fromkeys(each[0].spec.sparsifier.label for each in chosen))
    found = aggregate.rows(
        (r for r in within if r.spec.sparsifier.label in labels), (r for r in within if r.is_dense), fraction
    )
    if sparsities is not None:
        found = [r for r in found if any(abs(r.sparsity - resolve_sparsity(s)[0]) <= 0.0005 for s in sparsities)]
    if not found:
        raise UsageError(f"no records of {' or '.join(labels)} at the sparsities asked for")
    outcomes = outcomes or {}
    dense: dict[Table, dict[int, str]] = defaultdict(dict)
    for record in within:
        if record.is_dense:
            dense[aggregate.table_of(record)][record.spec.seed] = record.run
    others = [row for row in aggregate.rows(within, [], fraction) if row.sparsifier not in labels]
    drawn = curves(found, outcomes, dense, by_cell([*found, *others]), resamples)
    found = [row for curve in drawn for row in curve.with_intervals()]
    found.sort(key=lambda r: (r.table, r.sparsity, labels.index(r.sparsifier)))
    points = [curve.break_point for curve in drawn if curve.break_point is not None]
    points.sort(key=lambda p: (p.task, p.budget, labels.index(p.sparsifier)))
    contrasts = tuple(_contrasts(drawn, labels, _evidence(others, outcomes)))
    return Comparison(
        labels, tuple(found), tuple(points), tuple(_ranks(found, labels)), contrasts, (*notes, *_notes(found, outcomes))
    )


Place = tuple[Table, float]
Known = dict[str, dict[Place, Evidence]]
"""By sparsifier and cell."""


def _evidence(rows: Iterable[Row], outcomes: Mapping[str, Outcomes]) -> Known:
    known: Known = defaultdict(dict)
    for row in rows:
        if (found := evidence_of(row.by_seed, outcomes)) is not None:
            known[row.sparsifier][row.table, row.sparsity] = found
    return known


def _contrasts(drawn: Sequence[Curve], labels: Sequence[str], others: Known) -> Iterator[Contrast]:
    """The first against each of the others, cell by cell and over all."""
    rows: dict[tuple[str, Place], Row] = {}
    known: Known = defaultdict(dict)
    for curve in drawn:
        for row, evidence in zip(curve.rows, curve.evidence, strict=True):
            if evidence is not None:
                rows[row.sparsifier, (row.table, row.sparsity)] = row
                known[row.sparsifier][row.table, row.sparsity] = evidence
    everybody = [*known.values(), *others.values()]

    def contrast(one: str, other: str, places: Sequence[Place], scales: Sequence[float] | None = None) -> Contrast:
        pairs = [(known[one][place], known[other][place]) for place in places]
        pooled = [[_paired(each.get(place), known[one][place]) for place in places] for each in everybody]
        found = statistics.difference(pairs, scales, [each for each in pooled if any(len(row) > 1 for row in each)])
        return Contrast(
            one,
            other,
            len(places),
            rounded(found.estimate),
            low=_optional(found.low),
            high=_optional(found.high),
            p=_optional(found.p),
            more_seeds=statistics.more_seeds(found, ALPHA) or None,
        )

    one, *rest = labels
    overall = []
    for other in rest:
        places = sorted(known[one].keys() & known[other].keys())
        places = [place for place in places if alike(known[one][place], known[other][place])]
        cells = _corrected([contrast(one, other, [place]) for place in places])
        for cell, place in zip(cells, places, strict=True):
            row = rows[one, place]
            yield replace(
                cell,
                task=row.task.name,
                task_digest=row.task.digest,
                budget=row.budget,
                sparsity=row.sparsity,
                networks=_optional(statistics.example_test(known[one][place], known[other][place])),
            )
        scaled = {place: scale for place in places if (scale := rows[one, place].scale) is not None}
        if scaled:
            overall.append(contrast(one, other, list(scaled), list(scaled.values())))
    yield from _corrected(overall)


def _corrected(family: Sequence[Contrast]) -> list[Contrast]:
    """With p corrected for how many there are."""
    adjusted = iter(statistics.holm([each.p for each in family if each.p is not None]))
    return [each if each.p is None else replace(each, p=rounded(next(adjusted))) for each in family]


def _paired(row: Evidence | None, other: Evidence) -> Evidence:
    """A row, or none if it is not of the same examples."""
    return row if row is not None and alike(row, other) else {}


def _optional(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def _ranks(rows: Sequence[Row], labels: Sequence[str]) -> Iterable[Ranks]:
    categories = {
        label: {str(r.category) for r in rows if r.sparsifier == label and r.sparsity > 0} for label in labels
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for label, several in categories.items():
        if several:
            groups[next(iter(several)) if len(several) == 1 and "None" not in several else MIXED].append(label)
    for category, members in groups.items():
        cells: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
        for row in rows:
            if row.sparsifier in members and row.sparsity > 0:
                sign = -1 if row.metric.higher_is_better else 1
                cells[*row.table, row.sparsity][row.sparsifier] = sign * row.mean
        shared = [_rank(cell) for cell in cells.values() if len(cell) == len(members)]
        if len(members) > 1 and category != MIXED and shared:
            yield Ranks(category, len(shared), {m: fmean(rank[m] for rank in shared) for m in members})


def _rank(values: Mapping[str, float]) -> dict[str, float]:
    """Ranks of values, the smallest first; ties share the mean of their places."""
    ordered = sorted(values.values())
    return {key: ordered.index(v) + (ordered.count(v) + 1) / 2 for key, v in values.items()}


def _notes(rows: Sequence[Row], outcomes: Mapping[str, Outcomes] | None) -> list[str]:
    notes = []
    if outcomes and (silent := sorted({r.sparsifier for r in rows if not all(run in outcomes for run in r.runs)})):
        notes.append(f"no outcomes of single examples, and so neither intervals nor tests, for {', '.join(silent)}")
    for task in sorted({r.task.name for r in rows}):
        mine = [r for r in rows if r.task.name == task]
        digests, budgets = sorted({r.task.digest for r in mine}), sorted({r.budget for r in mine})
        if len(digests) > 1:
            shown = ", ".join(d[:8] for d in digests)
            notes.append(f"{task}: results of {len(digests)} versions of the task ({shown}) are kept apart")
        if len(budgets) > 1:
            notes.append(f"{task}: results at the budgets {', '.join(f'{b:g}' for b in budgets)} are kept apart")
        if lacking := sorted({r.sparsifier for r in mine if r.dense is None}):
            notes.append(f"{task}: no dense reference for {', '.join(lacking)}; run dense at the same budget")
    cells: dict[tuple[Any, ...], set[frozenset[str]]] = defaultdict(set)
    for row in rows:
        cells[*row.table, row.sparsity].add(frozenset(row.scores))
    if uneven := [key for key, seeds in cells.items() if len(seeds) > 1]:
        shown = ", ".join(f"{key[0]} at {show_sparsity(key[-1])}" for key in uneven[:4])
        notes.append(f"not all have the same seeds, so that means are of different runs: {shown}")
    if len({str(r.category) for r in rows if r.sparsity > 0}) > 1:
        notes.append("the sparsifiers are of different categories and costs: see these columns before ranking them")
    return notes


def _task_names(records: Iterable[RunRecord]) -> set[str]:
    return {r.spec.task.name for r in records}
