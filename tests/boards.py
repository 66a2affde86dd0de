"""Made-up boards for the tests of the report: the size and the shape of the real one, numbers from a formula."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from records import record

from smcbench import files
from smcbench.results.aggregate import Bill, BreakPoint, Row, Spread, Track
from smcbench.results.leaderboard import Board, Entrant, Retraction
from smcbench.results.ranking import Cell, Estimate, Group, Standing
from smcbench.results.record import Category, MetricInfo, RunRecord, TaskRef
from smcbench.results.submission import BatteryRef, BatteryTask

LADDER = (0.488, 0.737856, 0.8926258176, 0.9450244186112)
TASKS = (  # name, family, scope, metric, unit, chance, dense
    ("digits", "vision", "all", "accuracy", "%", 10.0, 99.4),
    ("cldr-2to2", "translation", "all", "bleu", "BLEU", 0.0, 98.8),
    ("csqa-mini", "commonsense", "all", "accuracy", "%", 20.0, 99.8),
    ("mnli-mini", "glue", "encoder", "accuracy", "%", 33.333333333333336, 97.8),
    ("svamp-mini", "arithmetic", "all", "accuracy", "%", 0.0, 81.0),
    ("lattice-protein-mini", "protein", "all", "accuracy", "%", 25.0, 80.3),
)
BEFORE = Category("before", "sparse-to-sparse", "static")
DYNAMIC = Category("during", "sparse-to-sparse", "dynamic")
GRADUAL = Category("during", "dense-to-sparse", "static")
COMPRESSED = Category("during", "dense-to-sparse", "dynamic")
AFTER = Category("after", "dense-to-sparse", "static")
ITERATIVE = Category("iterative", "dense-to-sparse", "static")
METHODS = {  # how much quality it loses, cost, category
    "lr-rewind": (0.16, 5.2, ITERATIVE), "lth": (0.18, 5.2, ITERATIVE), "lth-rewind": (0.17, 5.0, ITERATIVE),
    "lottery-pool": (0.3, 5.2, ITERATIVE), "gmp": (0.5, 0.6, GRADUAL), "granet-dense": (0.46, 0.5, GRADUAL),
    "progressive": (0.8, 0.5, GRADUAL), "early-bird": (0.9, 0.4, GRADUAL), "granet": (0.5, 0.4, COMPRESSED),
    "ac-dc": (1.0, 0.6, COMPRESSED), "ac-dc-plus-plus": (0.8, 0.6, COMPRESSED), "omp-after": (0.7, 1.3, AFTER),
    "random-after": (1.1, 1.3, AFTER), "gmp-star": (0.75, 1.7, ITERATIVE), "instant-soup": (0.72, 0.9, ITERATIVE),
    "rigl": (0.85, 0.3, DYNAMIC), "set": (1.1, 0.3, DYNAMIC), "snfs": (0.95, 0.5, DYNAMIC), "dsr": (0.9, 0.3, DYNAMIC),
    "itop-rigl": (0.8, 0.3, DYNAMIC), "itop-set": (0.92, 0.3, DYNAMIC), "snip": (0.9, 0.3, BEFORE),
    "snip-iterative": (0.92, 0.35, BEFORE), "grasp": (0.95, 0.3, BEFORE), "synflow": (0.98, 0.3, BEFORE),
    "omp-before": (0.97, 0.3, BEFORE), "random-before": (1.15, 0.3, BEFORE), "static": (0.9, 0.3, BEFORE),
    "shuffled(omp-after)": (1.0, 0.3, BEFORE), "reinit(lth)": (1.02, 0.3, BEFORE),
    "reinit(omp-after)": (0.98, 0.3, BEFORE), "small-dense": (0.6, 0.1, Category("never", "dense", "static")),
}  # fmt: skip
CONTROLS = ("dense", "small-dense", "shuffled", "reinit")


@dataclass(frozen=True)
class Made:
    """A board and the records it rests on."""

    board: Board
    records: tuple[RunRecord, ...]


def battery(tasks: Sequence[str] = tuple(t[0] for t in TASKS)) -> BatteryRef:
    """The mini battery, with made-up digests."""
    return BatteryRef("mini", files.digest(["mini", *tasks]), 0.01, (0, 1, 2),
                      tuple(BatteryTask(t, files.digest(t), 1.0, LADDER) for t in tasks))  # fmt: skip


def made(seed: int = 0, *, copies: int = 1, with_records: bool = True) -> Made:
    """33 submissions; the first methods have three seeds, the others one; two are incomplete, one is retracted.

    Args:
        seed: another one makes other numbers.
        copies: how many submissions of each method: 13 make a board of 10,000 rows.
        with_records: also make the records.
    """
    chance = random.Random(seed)
    ref = battery()
    rows: list[Row] = []
    records: list[RunRecord] = []
    names = [("dense", (0.0, 1.0, Category("never", "dense", "static")))]
    names += [(name if i == 0 else f"{name}-{i}", how) for i in range(copies) for name, how in METHODS.items()]
    for place, (name, (loss, cost, category)) in enumerate(names):
        for task, family, scope, metric, unit, base, dense in TASKS:
            for sparsity in (0.0,) if name == "dense" else LADDER:
                if copies == 1 and (name, task) in (("lottery-pool", "svamp-mini"), ("reinit(lth)", "cldr-2to2")):
                    continue
                seeds = range(3 if place < 12 else 1)
                level = math.log1p(-sparsity) / math.log(0.8)
                fall = 1.3 * loss * level**3 / (level**3 + 8**3) * chance.uniform(0.5, 1.1)
                mean = base + (dense - base) * max(0.0, 1 - fall)
                scores = {k: round(mean + chance.gauss(0, 0.6), 4) for k in seeds}
                ref_ = TaskRef(task, 1, files.digest(task), scope, family)
                runs = []
                for k, score in scores.items():
                    run = files.digest([seed, name, task, sparsity, k])[:12]
                    runs.append(run)
                    if with_records:
                        records.append(_record(run, name, ref_, sparsity, k, score, metric, category, chance))
                rows.append(_row(name, ref_, sparsity, scores, (metric, unit, base), dense, category, cost, runs, ref))
    board = Board(
        schema=2,
        version=12,
        head=files.digest("head"),
        batteries=(ref,),
        submissions=tuple(sorted(_entrants(names, rows, ref), key=lambda e: e.name)),
        entries=tuple(rows),
        break_points=tuple(_breaks(rows)),
        groups=(),
        standings=(),
        retractions=(Retraction("synflow", 9, "2026-11-20", "scored on the validation split", "an independent run"),),
    )
    groups, standings = _standings(board)
    return Made(replace(board, groups=tuple(groups), standings=tuple(standings)), tuple(records))


def slug(label: str) -> str:
    return label.replace("(", "-").replace(")", "")


def track(cost: float) -> Track:
    return "1x" if cost <= 1.1 else "2.5x" if cost <= 2.75 else "5x"


def _row(
    name: str, task: TaskRef, sparsity: float, scores: dict[int, float], metric: tuple[str, str, float], dense: float,
    category: Category, cost: float, runs: list[str], ref: BatteryRef,
) -> Row:  # fmt: skip
    values = list(scores.values())
    mean = statistics.fmean(values)
    half = 2.2 if len(values) == 1 else 1.1
    return Row(
        sparsifier=name, task=task, budget=1.0, sparsity=sparsity,
        metric=MetricInfo(metric[0], metric[1], True, metric[2]), n=len(values), mean=mean,
        std=statistics.stdev(values) if len(values) > 1 else None, scores={str(k): v for k, v in scores.items()},
        dense=Spread(dense, 0.4, 3), difference=mean - dense, margin=0.01 * dense,
        matching=mean - dense >= -0.01 * dense,
        normalised=(mean - metric[2]) / (dense - metric[2]),
        cost=Bill(2000.0, 0.0, cost * (1 - 0.8 * sparsity) if cost < 1 else cost, 1.0 - sparsity, 55.5),
        category=category, runs=tuple(runs), low=mean - half, high=mean + half, submission=slug(name),
        battery=ref.digest, track=track(cost), level="recompute" if len(values) > 1 else "recompute (scores)",
    )  # fmt: skip


def _record(
    run: str, name: str, task: TaskRef, sparsity: float, seed: int, score: float, metric: str, category: Category,
    chance: random.Random,
) -> RunRecord:  # fmt: skip
    made = record(name, sparsity, seed, score, task="digits")
    layers = {f"blocks.{i}.{part}.weight": (1 - sparsity) * chance.uniform(0.2, 1.8)
              for i in range(4) for part in ("attention.query", "attention.value", "fc1", "fc2")}  # fmt: skip
    layers |= {"embed.weight": min(1.0, 3 * (1 - sparsity)), "head.weight": min(1.0, 5 * (1 - sparsity))}
    return replace(
        made, run=run, spec=replace(made.spec, task=task), scores={metric: score}, category=category,
        metric=replace(made.metric, name=metric), sparsity=replace(made.sparsity, layers=layers),
    )  # fmt: skip


def _entrants(names: Sequence[tuple[str, object]], rows: Sequence[Row], ref: BatteryRef) -> Iterator[Entrant]:
    for name, _ in names:
        cells = 18 if name == "dense" else 72
        have = sum(row.n for row in rows if row.submission == slug(name))
        yield Entrant(slug(name), name, ref.digest, cells, cells - have, "the smcbench authors", "arXiv:2303.02141")


def _breaks(rows: Sequence[Row]) -> Iterator[BreakPoint]:
    ladders = itertools.groupby((r for r in rows if r.sparsity > 0), key=lambda r: (r.submission, r.task.name))
    for _, group in ladders:
        ladder = list(group)
        first = ladder[0]
        highest = max((r.sparsity for r in ladder if r.matching), default=None)
        estimate = min(0.945, (highest or 0.2) + 0.03 + 0.01 * (len(first.sparsifier) % 5))
        yield BreakPoint(
            first.sparsifier, first.task.name, first.task.digest, first.budget, highest, True,
            tuple(r.sparsity for r in ladder), estimate, highest == LADDER[-1], estimate - 0.05, estimate + 0.02,
            first.submission, first.battery,
        )  # fmt: skip


def _standings(board: Board) -> tuple[list[Group], list[Standing]]:
    by_submission: dict[str, list[Row]] = {}
    for row in board.entries:
        by_submission.setdefault(row.submission or "", []).append(row)
    points: dict[str, list[BreakPoint]] = {}
    for point in board.break_points:
        points.setdefault(point.submission or "", []).append(point)
    entrants = {e.name: e for e in board.submissions}
    gone = {r.submission for r in board.retractions}
    found: dict[tuple[Track, Category], list[Standing]] = {}
    for name, rows in by_submission.items():
        first = rows[0]
        assert first.track is not None
        assert first.category is not None
        quality = statistics.fmean(r.normalised or 0.0 for r in rows)
        control = first.sparsifier.partition("(")[0] in CONTROLS
        mine = points.get(name, [])
        breaks = statistics.fmean(p.estimate for p in mine) if mine else None
        found.setdefault((first.track, first.category), []).append(Standing(
            submission=name, sparsifier=first.sparsifier, battery=first.battery or "", scope="all",
            track=first.track, category=first.category, control=control, tier=None, separation=None,
            quality=Estimate(quality, quality - 0.02, quality + 0.02), over=len(rows),
            area=Estimate(quality + 0.1, quality + 0.08, quality + 0.12),
            breaks=None if breaks is None else Estimate(breaks, breaks - 0.05, breaks + 0.02),
            open=sum(p.open for p in mine), train=statistics.fmean(r.cost.train for r in rows),
            inference=statistics.fmean(r.cost.inference for r in rows),
            seeds=tuple(sorted({int(s) for r in rows for s in r.scores})), cells=entrants[name].cells,
            missing=entrants[name].missing, level=rows[-1].level,
            beats={"small-dense": "yes" if quality > 0.7 else "no",
                   "shuffled": "undecided" if quality > 0.6 else "untested"},
            retracted=name in gone,
        ))  # fmt: skip
    groups, standings = [], []
    for (track_, category), members in sorted(found.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        cells = tuple(Cell(t[0], 1.0, s) for t in TASKS for s in LADDER)
        groups.append(Group(board.batteries[0].digest, "all", track_, category, cells))
        members.sort(key=lambda s: -(s.quality.mean if s.quality else 0.0))
        tier, leader = 1, None
        for s in members:
            if s.control or s.retracted or (s.missing and s.submission in ("lottery-pool",)):
                standings.append(s)
                continue
            assert s.quality is not None
            if leader is not None and leader.quality is not None and leader.quality.mean - s.quality.mean > 0.05:
                tier, leader = tier + 1, s
            shares = leader is not None and leader is not s
            leader = leader or s
            text = f"about 3 more seeds would separate it from {leader.sparsifier}" if shares else None
            standings.append(replace(s, tier=tier, separation=text))
    return groups, standings


def hostile(made: Made, text: str) -> Made:
    """The same with this text wherever a submission brings one."""
    board = made.board
    named = {"gmp", "lth"}

    def task(ref: TaskRef) -> TaskRef:
        return replace(ref, name=text, family=text, scope=text) if ref.name == "digits" else ref

    def row(each: Row) -> Row:
        label = text if each.submission in named else each.sparsifier
        metric = replace(each.metric, name=text, unit=text) if each.task.name == "digits" else each.metric
        return replace(each, sparsifier=label, task=task(each.task), metric=metric)

    def point(each: BreakPoint) -> BreakPoint:
        return replace(each, task=text) if each.task == "digits" else each

    def run(each: RunRecord) -> RunRecord:
        p = replace(each.provenance, smcbench=text, torch=text, python=text, device=text, created=text, commit=text)
        found = replace(each.sparsity, layers={f"{text}{name}": v for name, v in each.sparsity.layers.items()})
        scores = {text: each.score}
        return replace(
            each, provenance=p, sparsity=found, scores=scores, metric=replace(each.metric, name=text, unit=text)
        )

    return Made(
        replace(
            board,
            batteries=tuple(replace(b, name=text) for b in board.batteries),
            submissions=tuple(
                replace(e, authors=text, paper=text, sparsifier=text if e.name in named else e.sparsifier)
                for e in board.submissions
            ),
            entries=tuple(map(row, board.entries)),
            break_points=tuple(map(point, board.break_points)),
            standings=tuple(
                replace(s, separation=text, scope=text, sparsifier=text if s.submission in named else s.sparsifier)
                for s in board.standings
            ),
            retractions=tuple(replace(r, reason=text, evidence=text, date=text) for r in board.retractions),
        ),
        tuple(map(run, made.records)),
    )
