"""The leaderboard: a function of the submissions alone, the same bytes from the same folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from smcbench import files
from smcbench.results import aggregate, shape
from smcbench.results.aggregate import BreakPoint, Row
from smcbench.results.record import RunRecord
from smcbench.results.shape import Digest, Line, Name
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
class Board:
    """The leaderboard: generated, never edited, the same bytes from the same submissions."""

    schema: Literal[1]
    batteries: tuple[BatteryRef, ...]
    submissions: tuple[Entrant, ...]
    entries: tuple[Row, ...]
    break_points: tuple[BreakPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        result: dict[str, Any] = shape.plain(self)
        return result

    def text(self) -> str:
        """The bytes of ``leaderboard.json``."""
        return json.dumps(self.to_json(), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema of the board, with that of manifest and record among its ``$defs``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smcbench leaderboard, schema 1",
        "$ref": "#/$defs/Board",
        "$defs": shape.schema(Board, Manifest, RunRecord),
    }


def build(submissions: Path | Sequence[Submission]) -> Board:
    """The board of a folder of submissions; depends on their contents alone.

    A row's dense reference is the ``dense`` submission on the same battery digest.
    """
    if isinstance(submissions, Path):
        submissions = read_submissions(submissions)
    batteries = {s.manifest.battery.digest: s.manifest.battery for s in submissions}
    dense = {d: [r for s in submissions if s.manifest.battery.digest == d for r in s.records if r.is_dense]
             for d in batteries}  # fmt: skip
    entries, entrants = [], []
    for s in submissions:
        manifest, ref = s.manifest, s.manifest.battery
        entries += [
            replace(row, submission=manifest.name, battery=ref.digest)
            for row in aggregate.rows(s.records, dense[ref.digest], ref.margin)
        ]
        entrants.append(
            Entrant(
                manifest.name,
                manifest.sparsifier,
                ref.digest,
                len(ref.cells(manifest.sparsifier)),
                len(manifest.missing),
                manifest.authors,
                manifest.paper,
            )
        )
    ordered = tuple(sorted(batteries.values(), key=lambda b: (b.name, b.digest)))
    rank = {b.digest: i for i, b in enumerate(ordered)}
    entries.sort(key=lambda r: (rank[r.battery or ""], *r.table, r.sparsity, r.sparsifier, r.submission or ""))
    return Board(
        schema=1,
        batteries=ordered,
        submissions=tuple(sorted(entrants, key=lambda e: e.name)),
        entries=tuple(entries),
        break_points=tuple(
            p for b in ordered for p in aggregate.break_points(r for r in entries if r.battery == b.digest)
        ),
    )


def write_board(path: Path, board: Board) -> None:
    """Write ``leaderboard.json``."""
    files.write(path, board.text())


def read_board(path: Path) -> Board:
    """Read ``leaderboard.json``."""
    return shape.read(Board, files.read_json(path), str(path))
