"""The leaderboard: a function of the submissions alone, the same bytes from the same folders."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from smcbench import files
from smcbench.results import aggregate, ranking, shape
from smcbench.results.aggregate import BreakPoint, Level, Row, Track, lowest
from smcbench.results.battery import DENSE
from smcbench.results.curve import Curve, Others, by_cell, curves
from smcbench.results.outcomes import Outcomes
from smcbench.results.ranking import Contender, Group, Standing
from smcbench.results.record import RunRecord
from smcbench.results.shape import Digest, Line, Name, RunId
from smcbench.results.submission import BatteryRef, Manifest, Submission, read_submissions


@dataclass(frozen=True)
class Entrant:
    """A submission as the board lists it."""

    name: Name
    sparsifier: Line
    battery: Digest
    cells: int
    missing: int
    authors: Line | None = None
    paper: Line | None = None


@dataclass(frozen=True)
class Retraction:
    """A submission that was taken back: its rows stay visible, and are never ranked."""

    submission: Name
    version: int
    date: Line
    reason: Line
    evidence: Line | None = None


@dataclass(frozen=True)
class Past:
    """What the history of a board adds to its submissions."""

    version: int = 0
    head: Digest | None = None
    levels: Mapping[RunId, Level] = field(default_factory=dict)
    """How far runs were verified; those that are not here are ``claimed``."""
    retractions: tuple[Retraction, ...] = ()


@dataclass(frozen=True)
class Board:
    """The leaderboard: generated, never edited, the same bytes from the same submissions."""

    schema: Literal[2]
    version: int
    """How many events its history has."""
    head: Digest | None
    """SHA-256 of the last line of its history without the digest of this board; None where it has none."""
    batteries: tuple[BatteryRef, ...]
    submissions: tuple[Entrant, ...]
    entries: tuple[Row, ...]
    break_points: tuple[BreakPoint, ...]
    groups: tuple[Group, ...]
    standings: tuple[Standing, ...]
    """In the order of the groups, in each the best first."""
    retractions: tuple[Retraction, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        result: dict[str, Any] = shape.plain(self)
        return result

    def text(self) -> str:
        """The bytes of ``leaderboard.json``: canonical JSON, one row a line, so that a change shows as what it is."""
        return "{\n" + ",\n".join(f'"{f.name}":{_lines(getattr(self, f.name))}' for f in fields(self)) + "\n}\n"


def schema() -> dict[str, Any]:
    """JSON Schema of the board, with that of manifest and record among its ``$defs``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smcbench leaderboard, schema 2",
        "$ref": "#/$defs/Board",
        "$defs": shape.schema(Board, Manifest, RunRecord),
    }


def build(submissions: Path | Sequence[Submission], past: Past | None = None) -> Board:
    """The board of a folder of submissions and of what their history adds; depends on their contents alone.

    A row's dense reference is the submission ``dense`` on the same battery digest, with the seeds that others add; one
    that was retracted is none.
    """
    if isinstance(submissions, Path):
        submissions = read_submissions(submissions)
    past = past or Past()
    retracted = {each.submission for each in past.retractions}
    batteries = {s.manifest.battery.digest: s.manifest.battery for s in submissions}
    references = {digest: _Reference() for digest in batteries}
    scopes: dict[str, set[str]] = {digest: set() for digest in batteries}
    for s in sorted(submissions, key=lambda s: (s.manifest.name != DENSE, s.manifest.name)):
        scopes[s.manifest.battery.digest] |= {record.spec.task.scope for record in s.records}
        if s.manifest.name not in retracted:
            references[s.manifest.battery.digest].add(s)
    rows = {s.manifest.name: _rows(s, references[s.manifest.battery.digest], past.levels) for s in submissions}
    seeds = {
        digest: by_cell(r for name, mine in rows.items() if name not in retracted for r in mine if r.battery == digest)
        for digest in batteries
    }
    contenders = [
        contender
        for s in submissions
        for contender in _contenders(
            s,
            rows[s.manifest.name],
            references[s.manifest.battery.digest],
            seeds[s.manifest.battery.digest],
            s.manifest.name in retracted,
        )
    ]
    ordered = tuple(sorted(batteries.values(), key=lambda b: (b.name, b.digest)))
    rank = {b.digest: i for i, b in enumerate(ordered)}
    groups, standings = ranking.standings(contenders, {d: " + ".join(sorted(each)) for d, each in scopes.items()})
    entries = [row for each in contenders for curve in each.curves for row in curve.with_intervals()]
    points = [point for each in contenders for point in each.points]
    return Board(
        schema=2,
        version=past.version,
        head=past.head,
        batteries=ordered,
        submissions=tuple(sorted(map(_entrant, submissions), key=lambda e: e.name)),
        entries=tuple(
            sorted(
                entries, key=lambda r: (rank[r.battery or ""], *r.table, r.sparsity, r.sparsifier, r.submission or "")
            )
        ),
        break_points=tuple(
            sorted(points, key=lambda p: (rank[p.battery or ""], p.sparsifier, p.submission or "", p.task, p.budget))
        ),
        groups=tuple(groups),
        standings=tuple(standings),
        retractions=past.retractions,
    )


class _Reference:
    """The dense runs of a battery: one a table and seed."""

    def __init__(self) -> None:
        self.records: list[RunRecord] = []
        self.runs: dict[aggregate.Table, dict[int, str]] = {}
        self.outcomes: dict[str, Outcomes] = {}

    def add(self, submission: Submission) -> None:
        """Take up the dense runs of a submission, of seeds that are not there yet."""
        for record in submission.records:
            seeds = self.runs.setdefault(aggregate.table_of(record), {})
            if record.is_dense and record.spec.seed not in seeds:
                seeds[record.spec.seed] = record.run
                self.records.append(record)
                if record.run in submission.outcomes:
                    self.outcomes[record.run] = submission.outcomes[record.run]


def _rows(submission: Submission, dense: _Reference, levels: Mapping[RunId, Level]) -> list[Row]:
    """The rows of a submission, each with its track and level."""
    manifest, ref = submission.manifest, submission.manifest.battery
    rows = aggregate.rows(submission.records, dense.records, ref.margin)
    track = ranking.tracks(rows)
    return [
        replace(
            row,
            submission=manifest.name,
            battery=ref.digest,
            track=track[row.budget],
            level=lowest(levels.get(run, "claimed") for run in row.runs),
        )
        for row in rows
    ]


def _contenders(
    submission: Submission, rows: Sequence[Row], dense: _Reference, others: Others, retracted: bool
) -> Iterator[Contender]:
    """One for each track that a submission has rows in."""
    manifest, ref = submission.manifest, submission.manifest.battery
    outcomes = ChainMap(dict(submission.outcomes), dense.outcomes)
    by_track: dict[Track, list[Curve]] = defaultdict(list)
    for curve in curves(rows, outcomes, dense.runs, others):
        by_track[curve.rows[0].track or "beyond"].append(curve)
    searched = any(record.cost.searched is not None for record in submission.records)
    for track, mine in by_track.items():
        budgets = {curve.table[2] for curve in mine}
        records = [record for record in submission.records if record.spec.budget in budgets]
        wanted = [cell for cell in ref.cells(manifest.sparsifier) if cell.budget in budgets]
        yield Contender(
            submission=manifest.name,
            sparsifier=records[0].spec.sparsifier,
            battery=ref,
            track=track,
            category=ranking.most([record.category for record in records]),
            curves=tuple(mine),
            control=ranking.is_control(records[0].spec.sparsifier, searched),
            retracted=retracted,
            cells=len(wanted),
            missing=len(wanted) - len(records),
        )


def _entrant(submission: Submission) -> Entrant:
    manifest = submission.manifest
    return Entrant(
        manifest.name,
        manifest.sparsifier,
        manifest.battery.digest,
        len(manifest.battery.cells(manifest.sparsifier)),
        len(manifest.missing),
        manifest.authors,
        manifest.paper,
    )


def _lines(value: Any) -> str:
    """JSON in one line, or one for each item of a list."""
    if not isinstance(value, tuple) or not value:
        return files.canonical(shape.plain(value))
    return "[\n" + ",\n".join(files.canonical(shape.plain(item)) for item in value) + "\n]"


def write_board(path: Path, board: Board) -> None:
    """Write ``leaderboard.json``."""
    files.write(path, board.text())


def read_board(path: Path) -> Board:
    """Read ``leaderboard.json``."""
    return shape.read(Board, files.read_json(path), str(path))
