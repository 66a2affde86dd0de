"""From records to rows: mean and spread over seeds, distance to dense, matching, break-point, cost."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, SupportsFloat, get_args

from smcbench import files
from smcbench.results.record import Category, MetricInfo, RunRecord, TaskRef
from smcbench.results.shape import Digest, Line, Name, RunId

Track = Literal["one-shot", "1x", "2.5x", "5x", "10x", "beyond"]
"""How much training, from the public checkpoint on, in dense trainings of the standard budget."""
Level = Literal["claimed", "recompute (scores)", "recompute", "reevaluate", "retrain"]
"""How far a run was verified, from least to most."""
LEVELS: tuple[Level, ...] = get_args(Level)

Table = tuple[str, str, float]
"""What may be compared: a task by name and digest, and a budget."""
SLACK = 1e-9
"""Rounding noise that does not turn a match into a miss."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1; None for one seed) of a score."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Bill:
    """Mean cost of a run; ``train`` in dense trainings of the same budget, ``inference`` in dense forward passes."""

    steps: float
    gradient_evaluations: float
    train: float
    inference: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One sparsifier on one task at one sparsity and budget, over its seeds."""

    sparsifier: Line
    """Its label."""
    task: TaskRef
    budget: float
    sparsity: float
    metric: MetricInfo
    n: int
    mean: float
    std: float | None
    scores: Mapping[str, float]
    """By seed."""
    dense: Spread | None
    """The dense reference of the same task and budget; None if nobody ran it."""
    difference: float | None
    """Mean minus dense mean, in the unit of the metric."""
    margin: float | None
    """How far behind dense still counts as matching, in the unit of the metric."""
    matching: bool | None
    normalised: float | None
    """0 is chance, 1 is dense."""
    cost: Bill
    category: Category | None
    """As measured; None if the seeds disagree."""
    runs: tuple[RunId, ...]
    low: float | None = None
    high: float | None = None
    """95 % interval of the mean over seeds and examples; None without outcomes. Of few seeds it borrows from the other
    rows of the cell how much seeds matter; if nobody has several, it is over examples alone."""
    submission: Name | None = None
    battery: Digest | None = None
    track: Track | None = None
    """That of the dearest row of its submission at the same budget: among which it is ranked."""
    level: Level = "claimed"
    """How far the least verified of its runs was verified."""

    @property
    def table(self) -> Table:
        """Rows are comparable iff this is equal: task by name and digest, and budget."""
        return self.task.name, self.task.digest, self.budget

    @property
    def by_seed(self) -> dict[int, RunId]:
        """Its runs by seed."""
        return {int(seed): run for seed, run in zip(self.scores, self.runs, strict=True)}

    @property
    def scale(self) -> float | None:
        """What a point of the metric is in normalised quality; None without a dense reference, or if that is chance."""
        room = 0.0 if self.dense is None else self.dense.mean - self.metric.chance
        return 1 / room if room else None


@dataclass(frozen=True)
class BreakPoint:
    """Up to which sparsity a sparsifier matches dense on a task.

    ``sparsity`` is the highest one measured at which it does; None if it never does. ``monotone`` says whether it also
    matches at all lower ones measured; where it does not, treat the number with suspicion. ``estimate`` is where the
    distance to dense first crosses the margin, interpolated in level between the sparsities measured (``ladder``) and
    from dense itself at 0; ``low`` and ``high`` its 95 % interval. ``open``: it never crosses, the estimate is the
    highest sparsity measured and the true one lies beyond.
    """

    sparsifier: Line
    task: str
    task_digest: Digest
    budget: float
    sparsity: float | None
    monotone: bool
    ladder: tuple[float, ...]
    estimate: float
    open: bool
    low: float | None = None
    high: float | None = None
    submission: Name | None = None
    battery: Digest | None = None


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and count.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, std=1.0, n=3)
    """
    mean, n = statistics.fmean(values), len(values)
    squares = math.fsum((value - mean) * (value - mean) for value in values)
    return Spread(mean, math.sqrt(squares / (n - 1)) if n > 1 else None, n)


def margin_of(dense: Spread, fraction: float) -> float:
    """The non-inferiority margin: one standard deviation of the dense seeds, at least ``fraction`` of their mean.

    >>> margin_of(Spread(80.0, 0.5, 3), 0.01), margin_of(Spread(80.0, 1.5, 3), 0.01)
    (0.8, 1.5)
    """
    return max(dense.std or 0.0, fraction * abs(dense.mean))


def lowest(levels: Iterable[Level]) -> Level:
    """The least of some levels of verification.

    >>> lowest(["retrain", "recompute", "reevaluate"])
    'recompute'
    """
    return min(levels, key=LEVELS.index, default="claimed")


def rounded(value: SupportsFloat) -> float:
    """So far that the last bits of another machine's arithmetic do not show.

    >>> rounded(0.1 + 0.2)
    0.3
    """
    return round(float(value), 9) + 0.0


def rows(records: Iterable[RunRecord], dense: Iterable[RunRecord], fraction: float) -> list[Row]:
    """Rows by task, budget, sparsity and label; records of other task versions or budgets are never mixed.

    Args:
        records: what to summarise; at most one per cell and seed (see ``unique``).
        dense: dense references, of these and of other tasks.
        fraction: the margin of the battery.
    """
    references: dict[Table, list[float]] = defaultdict(list)
    for record in dense:
        references[table_of(record)].append(record.score)
    cells: dict[tuple[Table, float, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        cells[table_of(record), record.spec.sparsity, record.spec.sparsifier.label].append(record)
    known = {table: spread(scores) for table, scores in references.items()}
    return [_row(cells[key], known.get(key[0]), fraction) for key in sorted(cells)]


def unique(records: Iterable[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """At most one record per cell and seed, and notes on what was left out.

    The same run twice counts once. Of runs that differ only in engine or plug-in version, the newest versions count.
    Labels that stand for several parameters get their identity appended, so that no mean mixes them.
    """
    notes: list[str] = []
    runs: dict[str, RunRecord] = {}
    for record in records:
        first = runs.setdefault(record.run, record)
        if first.scores != record.scores:
            notes.append(f"run {record.run} ({_where(record)}) stands twice with different scores; the first counts")
    identities: dict[str, dict[str, RunRecord]] = defaultdict(dict)
    newest: dict[tuple[str, str], RunRecord] = {}
    for record in runs.values():
        key = (_identity(record), f"{table_of(record)} {record.spec.sparsity!r} {record.spec.seed}")
        other = newest.setdefault(key, record)
        if other is not record:
            old, newest[key] = sorted((other, record), key=_age)
            notes.append(f"run {old.run} ({_where(record)}) is of an older version; it is left out")
        identities[record.spec.sparsifier.label][_identity(record)] = record
    for label, several in sorted(identities.items()):
        if len(several) > 1:
            notes.append(f"{label} stands for {len(several)} sets of parameters; they are told apart by a digest")
    return [
        _relabelled(record, identity) if len(identities[record.spec.sparsifier.label]) > 1 else record
        for (identity, _), record in newest.items()
    ], notes


def _row(records: list[RunRecord], dense: Spread | None, fraction: float) -> Row:
    records = sorted(records, key=lambda r: r.spec.seed)
    first = records[0]
    score = spread([r.score for r in records])
    sign = 1 if first.metric.higher_is_better else -1
    difference = margin = matching = normalised = None
    if dense is not None:
        difference, margin = score.mean - dense.mean, margin_of(dense, fraction)
        matching = sign * difference >= -margin - SLACK
        if dense.mean != first.metric.chance:
            normalised = (score.mean - first.metric.chance) / (dense.mean - first.metric.chance)
    categories = {r.category for r in records}
    return Row(
        sparsifier=first.spec.sparsifier.label,
        task=first.spec.task,
        budget=first.spec.budget,
        sparsity=first.spec.sparsity,
        metric=first.metric,
        n=score.n,
        mean=score.mean,
        std=score.std,
        scores={str(r.spec.seed): r.score for r in records},
        dense=dense,
        difference=difference,
        margin=margin,
        matching=matching,
        normalised=normalised,
        cost=Bill(
            steps=statistics.fmean(r.cost.steps for r in records),
            gradient_evaluations=statistics.fmean(r.cost.gradient_evaluations for r in records),
            train=statistics.fmean(_ratio(r.cost.train_flops, r.cost.budget_flops) for r in records),
            inference=statistics.fmean(_ratio(r.cost.inference_flops, r.cost.inference_flops_dense) for r in records),
            seconds=statistics.fmean(r.cost.seconds for r in records),
        ),
        category=categories.pop() if len(categories) == 1 else None,
        runs=tuple(r.run for r in records),
    )


def table_of(record: RunRecord) -> Table:
    """The table that a record belongs to."""
    return record.spec.task.name, record.spec.task.digest, record.spec.budget


def _identity(record: RunRecord) -> str:
    """What a label stands for, but for versions."""
    sparsifier = record.spec.sparsifier
    return files.digest({"name": sparsifier.name, "parameters": dict(sparsifier.parameters)})[:8]


def _relabelled(record: RunRecord, identity: str) -> RunRecord:
    sparsifier = replace(record.spec.sparsifier, label=f"{record.spec.sparsifier.label} #{identity}")
    return replace(record, spec=replace(record.spec, sparsifier=sparsifier))


def _age(record: RunRecord) -> tuple[int, int, str, str]:
    return record.provenance.engine, record.spec.sparsifier.version, record.provenance.created, record.run


def _where(record: RunRecord) -> str:
    spec = record.spec
    return f"{spec.sparsifier.label} on {spec.task.name} at {round(spec.sparsity, 3):g}, seed {spec.seed}"


def _ratio(value: float, unit: float) -> float:
    return value / unit if unit else 0.0
