"""A comparison: some sparsifiers side by side, per task and sparsity, each against dense."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smcbench.errors import UsageError
from smcbench.results import aggregate, shape
from smcbench.results.aggregate import BreakPoint, Row
from smcbench.results.battery import nearest, resolve_sparsity, show_sparsity
from smcbench.results.record import RunRecord
from smcbench.results.submission import choose

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
class Comparison:
    """Rows and break-points in the order asked for, ranks within categories, and what the reader must know."""

    sparsifiers: tuple[str, ...]
    rows: tuple[Row, ...]
    break_points: tuple[BreakPoint, ...]
    ranks: tuple[Ranks, ...]
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
) -> Comparison:
    """Put sparsifiers side by side; results of different task versions or budgets stay apart, with a note.

    Args:
        records: from the board, a store, or both (the same run twice counts once); dense references among them.
        sparsifiers: names or labels.
        fraction: the margin of the battery, see ``aggregate.margin_of``.
        tasks: only these.
        sparsities: only these, give or take 0.0005.

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
    found.sort(key=lambda r: (r.table, r.sparsity, labels.index(r.sparsifier)))
    points = sorted(aggregate.break_points(found), key=lambda p: (p.task, p.budget, labels.index(p.sparsifier)))
    return Comparison(labels, tuple(found), tuple(points), tuple(_ranks(found, labels)), (*notes, *_notes(found)))


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
            yield Ranks(category, len(shared), {m: statistics.fmean(rank[m] for rank in shared) for m in members})


def _rank(values: Mapping[str, float]) -> dict[str, float]:
    """Ranks of values, the smallest first; ties share the mean of their places."""
    ordered = sorted(values.values())
    return {key: ordered.index(v) + (ordered.count(v) + 1) / 2 for key, v in values.items()}


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
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
