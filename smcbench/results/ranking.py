"""Who is how good: submissions among their equals, in tiers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeVar, get_args

import numpy as np

from smcbench.results import statistics
from smcbench.results.aggregate import SLACK, BreakPoint, Level, Row, Table, Track, lowest, rounded
from smcbench.results.battery import DENSE
from smcbench.results.curve import Curve
from smcbench.results.outcomes import Floats
from smcbench.results.record import Category, SparsifierRef
from smcbench.results.shape import Digest, Line, Name
from smcbench.results.statistics import Evidence
from smcbench.results.submission import BatteryRef

T = TypeVar("T", bound=Hashable)

ALPHA = 0.05
"""Of a tier, and of whether a control is beaten."""
MANY = 100
"""More seeds than this nobody trains."""
SMALL_DENSE = "small-dense"
SHUFFLED = "shuffled"
BOUNDS: Mapping[Track, float] = {"one-shot": 0.02, "1x": 1.1, "2.5x": 2.75, "5x": 5.5, "10x": 11.0}
"""Up to how many dense trainings a track goes: its name, give or take a tenth. Iterative magnitude pruning to 0.945
takes 5.2 and belongs to 5x. One-shot is no training after the checkpoint, but for looking at a few batches."""

_TRACKS = get_args(Track)
_WHEN = ("never", "before", "during", "after", "iterative")
_START = ("dense", "sparse-to-sparse", "dense-to-sparse")
_MASK = ("static", "dynamic")

Beaten = Literal["yes", "no", "undecided", "untested"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval over seeds and examples; without outcomes there is no interval."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """A task at a budget and a sparsity."""

    task: Line
    budget: float
    sparsity: float


@dataclass(frozen=True)
class Group:
    """Equals: what is ranked together, and over which cells."""

    battery: Digest
    scope: Line
    track: Track
    category: Category
    cells: tuple[Cell, ...]
    """Those that all ranked members have: the largest table without gaps."""


@dataclass(frozen=True)
class Standing:
    """A submission among its equals: those of the same battery, scope, track and category."""

    submission: Name
    sparsifier: Line
    battery: Digest
    scope: Line
    """Of the tasks of the battery; each task has one, so that no cell compares two."""
    track: Track
    category: Category
    """As measured; where the cells differ, on each axis the most that any of them did."""
    control: bool
    """Dense, a narrower dense network, a shuffle: shown beside the others, never ranked."""
    tier: int | None
    """1 is best, members of a tier cannot be told apart. None: not ranked (control, retracted, or cells lack)."""
    separation: Line | None
    """What it would take to tell it from the best of its tier."""
    quality: Estimate | None
    """0 is chance, 1 is dense; the mean over the cells of the group if ranked, else over those it has."""
    over: int
    """How many cells that mean is over."""
    area: Estimate | None
    """Under the curve of that quality over level, from 1 at dense to the highest level, divided by the highest level;
    mean over tasks. None if the highest level lacks on some task."""
    breaks: Estimate | None
    """The break-point sparsity, interpolated, mean over the tasks it has."""
    open: int
    """On how many tasks the break-point lies beyond the highest sparsity."""
    train: float
    """Mean cost of a run, in dense trainings of the standard budget."""
    inference: float
    """Mean cost of a forward pass, in dense ones."""
    seeds: tuple[int, ...]
    cells: int
    """Runs of the battery at the budgets of this track, as many as a complete submission has."""
    missing: int
    level: Level
    """That of its least verified row."""
    beats: Mapping[str, Beaten]
    """Whether it is better than ``small-dense`` and its own ``shuffled``, over the cells that both have."""
    retracted: bool


# -- what places a submission


def track_of(trainings: float) -> Track:
    """The track for so many dense trainings of the standard budget.

    >>> track_of(0.0), track_of(1.1), track_of(1.11), track_of(5.2), track_of(40.0)
    ('one-shot', '1x', '2.5x', '5x', 'beyond')
    """
    return next((track for track, bound in BOUNDS.items() if trainings <= bound + SLACK), "beyond")


def tracks(rows: Iterable[Row]) -> dict[float, Track]:
    """The tracks of the rows of a submission, by budget: that of the dearest."""
    dearest: dict[float, float] = defaultdict(float)
    for row in rows:
        dearest[row.budget] = max(dearest[row.budget], row.cost.train * row.budget)
    return {budget: track_of(trainings) for budget, trainings in dearest.items()}


def most(categories: Collection[Category]) -> Category:
    """On each axis the most that any did: a method that for once regrew nothing is a dynamic one all the same."""
    return Category(
        max((c.when for c in categories), key=_WHEN.index),
        max((c.start for c in categories), key=_START.index),
        max((c.mask for c in categories), key=_MASK.index),
    )


def is_control(sparsifier: SparsifierRef, searched: bool) -> bool:
    """Whether a sparsifier is there to be compared with: dense, narrower dense, or some method's control.

    Args:
        sparsifier: as the records name it.
        searched: whether they bill a search apart, which only controls of a method do.
    """
    return sparsifier.name in (DENSE, SMALL_DENSE) or searched


# -- ranking

Place = tuple[Table, float]
"""A cell as contenders have it: the table of a row, and its sparsity."""


@dataclass(frozen=True, eq=False)
class Contender:
    """A submission in one track, before it is ranked."""

    submission: Name
    sparsifier: SparsifierRef
    battery: BatteryRef
    track: Track
    category: Category
    curves: tuple[Curve, ...]
    control: bool
    retracted: bool
    cells: int
    missing: int

    @property
    def points(self) -> list[BreakPoint]:
        """Break-points, one a task."""
        return [curve.break_point for curve in self.curves if curve.break_point is not None]

    @cached_property
    def places(self) -> dict[Place, tuple[Curve, int]]:
        """The cells in which its quality is known, with the curve and the place of the row on it."""
        return {
            (curve.table, row.sparsity): (curve, i)
            for curve in self.curves
            if curve.normalised is not None
            for i, row in enumerate(curve.rows)
        }

    def evidence(self, place: Place) -> Evidence | None:
        """The outcomes of a cell, if it has that cell and they are there."""
        if place not in self.places:
            return None
        curve, i = self.places[place]
        return curve.evidence[i]

    def quality(self, places: Collection[Place]) -> Estimate | None:
        """Mean over these cells, all of which it must have; None if there are none."""
        found = [self.places[place] for place in places]
        values = [curve.normalised[i] for curve, i in found if curve.normalised is not None]
        samples = [None if (drawn := curve.normalised_samples) is None else drawn[i] for curve, i in found]
        return _mean(values, samples)

    def area(self) -> Estimate | None:
        """Mean over the tasks of the battery at the budgets it has; None where a curve does not reach the end."""
        ends = {(t.task, t.budget): max(t.sparsities, default=0.0) for t in self.battery.tasks}
        if any(curve.rows[-1].sparsity != ends.get((curve.table[0], curve.table[2])) for curve in self.curves):
            return None
        areas = [area for curve in self.curves if (area := curve.area()) is not None]
        return _mean(areas, [c.area_samples() for c in self.curves]) if len(areas) == len(self.curves) else None

    def breaks(self) -> Estimate | None:
        """Mean break-point over the tasks it has; None without a dense reference."""
        samples = [curve.break_samples() for curve in self.curves if curve.break_point is not None]
        return _mean([point.estimate for point in self.points], samples)


def standings(contenders: Iterable[Contender], scopes: Mapping[Digest, str]) -> tuple[list[Group], list[Standing]]:
    """All contenders among their equals, group by group, the best of each first.

    Args:
        contenders: of any batteries, tracks and categories.
        scopes: of the tasks of each battery.
    """
    contenders = sorted(contenders, key=lambda each: (each.submission, each.track))
    labels = _labels(contenders)
    equals: dict[tuple[str, str, Track, Category], list[Contender]] = defaultdict(list)
    fields: dict[Digest, _Field] = {
        digest: _Field(c for c in contenders if c.battery.digest == digest) for digest in scopes
    }
    for each in contenders:
        equals[each.battery.name, each.battery.digest, each.track, each.category].append(each)
    groups, found = [], []
    for (_, battery, track, category), members in sorted(equals.items(), key=lambda item: _place_of(*item[0])):
        ranked = _Ranked(members, fields[battery])
        cells = tuple(Cell(place[0][0], place[0][2], place[1]) for place in ranked.places)
        groups.append(Group(battery, scopes[battery], track, category, cells))
        mine = [_standing(each, ranked, scopes[battery], fields[battery], labels) for each in members]
        found += sorted(mine, key=_order)
    return groups, found


def widest(of: Mapping[T, Collection[Place]]) -> tuple[list[T], list[Place]]:
    """The largest table without gaps: members and cells that all of them have, as many entries as can be had.

    Greedy: from the member with the most cells on, that one joins which loses the fewest. So whoever lacks much is
    left out while the others keep their cells, and where most have part of the ladder, that part ranks them.

    >>> widest({"a": [1, 2, 3], "b": [1, 2, 3], "c": [3]})
    (['a', 'b'], [1, 2, 3])
    >>> widest({"a": [1, 2, 3, 4], "b": [1, 2], "c": [1, 2]})
    (['a', 'b', 'c'], [1, 2])
    """
    alike: dict[frozenset[Place], list[T]] = defaultdict(list)
    for member, cells in of.items():
        alike[frozenset(cells)].append(member)
    alike.pop(frozenset(), None)
    joined: list[T] = []
    shared = frozenset[Place]().union(*alike)
    best: tuple[int, int, frozenset[Place]] = (0, 0, shared)
    while alike:
        next_ = max(alike, key=lambda cells: len(shared & cells))
        joined += alike.pop(next_)
        shared &= next_
        best = max(best, (len(joined) * len(shared), len(joined), shared), key=lambda entry: entry[:2])
    members = set(joined[: best[1]])
    return [member for member in of if member in members], sorted(best[2]) if members else []


@dataclass(frozen=True)
class Mixed:
    """All submissions of a battery in one order, best first, whatever their track and category; no test.

    ``order`` has the quality of each over ``cells``, those of the largest table without gaps; None of who lacks some.
    """

    cells: tuple[Cell, ...]
    order: tuple[tuple[Standing, float | None], ...]


def mixed(entries: Iterable[Row], standings: Iterable[Standing], battery: Digest) -> Mixed:
    """The submissions of one battery in one order, from the rows and standings of a board."""
    rows: dict[tuple[Name, Track | None], list[Row]] = defaultdict(list)
    for row in entries:
        if row.battery == battery and row.submission is not None and row.normalised is not None:
            rows[row.submission, row.track].append(row)
    standings = [s for s in standings if s.battery == battery]
    quality = [
        {(row.table, row.sparsity): row.normalised or 0.0 for row in rows[s.submission, s.track]} for s in standings
    ]
    _, places = widest({i: each for i, each in enumerate(quality) if standings[i].tier is not None})
    means = [
        sum(each[place] for place in places) / len(places) if places and each.keys() >= set(places) else None
        for each in quality
    ]
    order = sorted(zip(standings, means, strict=True), key=lambda e: (e[1] is None, -(e[1] or 0.0), e[0].submission))
    return Mixed(tuple(Cell(p[0][0], p[0][2], p[1]) for p in places), tuple(order))


class _Field:
    """All of a battery that count: whom to test, against which controls, and what is known of the noise of seeds."""

    def __init__(self, contenders: Iterable[Contender]) -> None:
        self.contenders = [each for each in contenders if not each.retracted]
        self._controls = [each for each in self.contenders if each.control]

    def difference(self, one: Contender, other: Contender, places: Sequence[Place]) -> statistics.Difference | None:
        """Of the quality of two over cells that both have; None without outcomes."""
        pairs, scales = [], []
        for place in places:
            a, b = one.evidence(place), other.evidence(place)
            curve, i = one.places[place]
            scale = curve.rows[i].scale
            if a is None or b is None or scale is None:
                return None
            pairs.append((a, b))
            scales.append(scale)
        return statistics.difference(pairs, scales, self._pooled(tuple(places)))

    @lru_cache(maxsize=1)  # noqa: B019 - the cells stay the same for all pairs of a group
    def _pooled(self, places: tuple[Place, ...]) -> list[list[Evidence]]:
        """Of whoever has several seeds, the rows of these cells."""
        rows = [[each.evidence(place) or {} for place in places] for each in self.contenders]
        return [each for each in rows if any(len(row) > 1 for row in each)]

    def control(self, name: str, method: str) -> list[Contender]:
        """The controls of this name: of a method, or of all where that is empty."""
        return [
            c
            for c in self._controls
            if c.sparsifier.name == name and c.sparsifier.parameters.get("method", "") == method
        ]


class _Ranked:
    """The members of a group that are ranked: over which cells, in which tiers, behind whom."""

    def __init__(self, members: Sequence[Contender], field: _Field) -> None:
        able = {each: each.places for each in members if not each.control and not each.retracted}
        ranked, self.places = widest(able)
        means = {each: quality.mean for each in ranked if (quality := each.quality(self.places)) is not None}
        order = sorted(means, key=lambda each: (-means[each], each.submission))
        self._found: dict[tuple[Contender, Contender], statistics.Difference | None] = {}
        self._field = field

        def p_of(i: int, j: int) -> float | None:
            found = self.difference(order[i], order[j])
            return None if found is None else found.p

        self.tiers = dict(zip(order, statistics.tiers(order, p_of, ALPHA), strict=True))
        self.leaders: dict[int, Contender] = {}
        for each, tier in self.tiers.items():
            self.leaders.setdefault(tier, each)

    def difference(self, one: Contender, other: Contender) -> statistics.Difference | None:
        """Of two members, computed once."""
        if (one, other) not in self._found:
            self._found[one, other] = self._field.difference(one, other, self.places)
        return self._found[one, other]

    def separation(self, member: Contender, labels: Mapping[Contender, str]) -> str | None:
        """What it would take to tell a member from the best of its tier, in which all tests are corrected together."""
        tier = self.tiers[member]
        leader = self.leaders[tier]
        if leader is member:
            return None
        found = self.difference(leader, member)
        if found is None:
            return f"without outcomes it cannot be told from {labels[leader]}"
        if found.p is None:
            return f"one seed: only these networks could be told from those of {labels[leader]}"
        family = sum(other == tier for other in self.tiers.values()) - 1
        more = statistics.more_seeds(found, ALPHA / family, MANY)
        if more is None:
            return f"not even {MANY} more seeds would separate it from {labels[leader]} on these examples"
        return f"about {more} more seed{'s' * (more != 1)} would separate it from {labels[leader]}"


def _standing(of: Contender, ranked: _Ranked, scope: str, field: _Field, labels: Mapping[Contender, str]) -> Standing:
    tier = ranked.tiers.get(of)
    places = ranked.places if tier else sorted(of.places)
    rows = [row for curve in of.curves for row in curve.rows]
    wanted = {} if of.control else {SMALL_DENSE: "", SHUFFLED: of.sparsifier.label}
    return Standing(
        submission=of.submission,
        sparsifier=of.sparsifier.label,
        battery=of.battery.digest,
        scope=scope,
        track=of.track,
        category=of.category,
        control=of.control,
        tier=tier,
        separation=ranked.separation(of, labels) if tier else None,
        quality=of.quality(places),
        over=len(places),
        area=of.area(),
        breaks=of.breaks(),
        open=sum(point.open for point in of.points),
        train=rounded(np.mean([row.cost.train * row.budget for row in rows])),
        inference=rounded(np.mean([row.cost.inference for row in rows])),
        seeds=tuple(sorted({int(seed) for row in rows for seed in row.scores})),
        cells=of.cells,
        missing=of.missing,
        level=lowest(row.level for row in rows),
        beats={name: _beats(of, field.control(name, method), field) for name, method in wanted.items()},
        retracted=of.retracted,
    )


def _beats(method: Contender, controls: Sequence[Contender], field: _Field) -> Beaten:
    """Against the control that shares the most cells with it."""
    shared = [(sorted(method.places.keys() & control.places.keys()), control) for control in controls]
    places, control = max(shared, key=lambda each: len(each[0]), default=([], method))
    if not places:
        return "untested"
    found = field.difference(method, control, places)
    if found is None or found.p is None or found.p >= ALPHA:
        return "undecided"
    return "yes" if found.estimate > 0 else "no"


def _mean(values: Sequence[float], samples: Sequence[Floats | None]) -> Estimate | None:
    """The mean of several values, with its interval if all are resampled; None of none."""
    if not values:
        return None
    mean = rounded(np.mean(values))
    drawn = [each for each in samples if each is not None]
    if len(drawn) < len(values):
        return Estimate(mean)
    means = np.mean(drawn, axis=0)
    found = statistics.interval(means[np.isfinite(means)])
    return Estimate(mean, rounded(found.low), rounded(found.high))


def _labels(contenders: Iterable[Contender]) -> dict[Contender, str]:
    """What to call them: by their label, or by submission where two of a battery share one."""
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    contenders = list(contenders)
    for each in contenders:
        names[each.battery.digest, each.sparsifier.label].add(each.submission)
    return {
        each: each.sparsifier.label if len(names[each.battery.digest, each.sparsifier.label]) == 1 else each.submission
        for each in contenders
    }


def _place_of(battery: str, digest: str, track: Track, category: Category) -> tuple[str, str, int, int, int, int]:
    """The order of groups: the cheap first, and what prunes early."""
    return (
        battery, digest, _TRACKS.index(track),
        _WHEN.index(category.when), _START.index(category.start), _MASK.index(category.mask),
    )  # fmt: skip


def _order(standing: Standing) -> tuple[bool, bool, int, float, str]:
    """The order within a group: the ranked by tier, then those who lack cells, controls, the retracted."""
    quality = standing.quality.mean if standing.quality else -np.inf
    return standing.retracted, standing.control, standing.tier or len(_TRACKS) ** 9, -quality, standing.submission
