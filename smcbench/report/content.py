"""What the page shows, as plain JSON: the board in columns, the published rows, and the evidence behind each number."""

from __future__ import annotations

import dataclasses
import itertools
import os.path
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from smcbench import __version__
from smcbench.results import shape
from smcbench.results.aggregate import Level, Row, Track
from smcbench.results.battery import plain_name
from smcbench.results.leaderboard import Board
from smcbench.results.published import Published
from smcbench.results.ranking import mixed
from smcbench.results.record import RunRecord

_COLUMNS = ("sparsity", "n", "mean", "std", "low", "high", "difference", "margin", "matching", "normalised", "track",
            "level")  # fmt: skip
_COSTS = ("steps", "train", "inference", "seconds")
_EARLY = re.compile(r"stem|embed|shared")
_LATE = re.compile(r"head|classifier|pooler|predict")

Json = dict[str, Any]


def standfirst(board: Board) -> str:
    """The sentence under the title."""
    runs = sum(len(row.runs) for row in board.entries)
    tasks = len({row.task.name for row in board.entries})
    highest = max((row.sparsity for row in board.entries), default=0.0)
    return (
        f"{len(board.submissions)} submissions on {tasks} tasks, with up to {100 * highest:.1f} % of the weights "
        f"removed: {runs:,} runs. Every number opens the runs that it comes from."
    )


def board_of(board: Board, published: Iterable[Published] = (), submissions_at: str | None = None) -> Json:
    """The board, as the script of the page reads it (``model.js``).

    Args:
        board: any, with or without standings.
        published: numbers of papers.
        submissions_at: where the folders of the submissions lie, relative to the page; ends with a slash.
    """
    batteries = {b.digest: i for i, b in enumerate(board.batteries)}
    names = {e.name: i for i, e in enumerate(board.submissions)}
    tables = _tables(board)
    order = {s.submission: i for i, s in reversed(list(enumerate(board.standings)))}
    labels = [(e.battery, e.sparsifier) for e in board.submissions]
    categories = {*(row.category for row in board.entries), *(s.category for s in board.standings)}
    controls = {s.submission for s in board.standings if s.control}
    retracted = {r.submission: shape.plain(r) for r in board.retractions}
    version = f"version {board.version}" + (f" ({board.head[:12]})" if board.head else "")
    return {
        "batteries": [
            {
                "name": b.name, "digest": b.digest, "margin": b.margin, "seeds": list(b.seeds),
                "shared": len(mixed(board.entries, board.standings, b.digest).cells),
            }
            for b in board.batteries
        ],
        "tables": [_table(rows, batteries, tables) for rows in _by_table(board).values()],
        "tracks": [t for t in get_args(Track) if any(t == row.track for row in board.entries)],
        "levels": list(get_args(Level)),
        "categories": sorted(map(str, categories - {None})),
        "submissions": [
            {
                "name": e.name, "sparsifier": e.sparsifier, "battery": batteries[e.battery], "authors": e.authors,
                "paper": e.paper, "cells": e.cells, "have": e.cells - e.missing, "order": order.get(e.name, len(names)),
                "control": e.name in controls, "method": plain_name(e.sparsifier),
                "shared": labels.count((e.battery, e.sparsifier)) > 1, "retracted": retracted.get(e.name),
                "standings": [],
            }
            for e in board.submissions
        ],
        "standings": _standings(board, names),
        "entries": _entries(board, names, tables),
        "breaks": {
            "submission": [names[p.submission or ""] for p in board.break_points],
            "table": [tables[p.battery or "", p.task, p.task_digest, p.budget] for p in board.break_points],
            **{
                name: [_short(getattr(p, name)) for p in board.break_points]
                for name in ("sparsity", "estimate", "low", "high", "open", "monotone")
            },
        },
        "published": _published(list(published)),
        "retractions": list(retracted.values()),
        "links": {"submissions": submissions_at},
        "footer": f"Board {version}, made by smcbench {__version__} from the submissions alone.",
    }  # fmt: skip


def evidence_of(board: Board, records: Iterable[RunRecord] = ()) -> Json:
    """The runs behind each entry, and its densities by layer (in ten-thousandths, mean over seeds)."""
    by_run = {record.run: record for record in records}
    tables = _tables(board)
    layers: dict[int, list[str]] = {}
    software: dict[str, int] = {}
    sources: dict[tuple[str, str], int] = {}
    runs: dict[str, list[Any]] = {
        name: [] for name in ("entry", "run", "seed", "score", "created", "software", "source", "zeros", "weights",
                              "measured", "digests")
    }  # fmt: skip
    densities: list[list[int] | None] = []
    for i, row in enumerate(board.entries):
        mine = [by_run[run] for run in row.runs if run in by_run]
        for r in mine:
            for name, value in {
                "entry": i,
                "run": r.run,
                "seed": r.spec.seed,
                "score": r.score,
                "created": r.provenance.created[:16].replace("T", " "),
                "software": software.setdefault(_software(r), len(software)),
                "source": sources.setdefault((r.provenance.source.sparsifier, r.provenance.source.task), len(sources)),
                "zeros": r.sparsity.denominators.scope.zeros,
                "weights": r.sparsity.total,
                "measured": _short(r.sparsity.measured),
                "digests": [r.digests.weights, r.digests.mask, r.digests.predictions],
            }.items():
                runs[name].append(value)
        if mine and row.sparsity:
            order = layers.setdefault(tables[_place(row)], sorted(mine[0].sparsity.layers, key=_position))
            kept = [[r.sparsity.layers.get(name, 0.0) for r in mine] for name in order]
            densities.append([round(10_000 * statistics.fmean(each)) for each in kept])
        else:
            densities.append(None)
    return {
        "runs": runs,
        "layers": densities,
        "names": {str(table): _shortened(names) for table, names in layers.items()},
        "software": list(software),
        "sources": [list(pair) for pair in sources],
    }


def link(folder: str, page: str) -> str:
    """The way from the folder of the page to another, as an address."""
    return os.path.relpath(folder, page).replace(os.sep, "/") + "/"


def _by_table(board: Board) -> dict[tuple[str, str, str, float], list[Row]]:
    """Rows of one battery and table, batteries and tasks in the order of the battery."""
    found: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in board.entries:
        found.setdefault(_place(row), []).append(row)
    known = {b.digest: [(t.task, t.budget) for t in b.tasks] for b in board.batteries}
    rank = list(known)

    def place(at: tuple[str, str, str, float]) -> tuple[int, int]:
        tasks = known.get(at[0], [])
        return rank.index(at[0]) if at[0] in rank else -1, tasks.index((at[1], at[3])) if (at[1], at[3]) in tasks else 0

    return {at: found[at] for at in sorted(found, key=place)}


def _tables(board: Board) -> dict[tuple[str, str, str, float], int]:
    return {at: i for i, at in enumerate(_by_table(board))}


def _place(row: Row) -> tuple[str, str, str, float]:
    return row.battery or "", *row.table


def _table(rows: Sequence[Row], batteries: Mapping[str, int], tables: Iterable[tuple[str, str, str, float]]) -> Json:
    first = rows[0]
    at = _place(first)
    alike = [t for t in tables if t[:2] == at[:2]]
    key = first.task.name
    if len({t[3] for t in alike}) > 1:
        key += f" ×{first.budget:g}"
    if len({t[2] for t in alike}) > 1:
        key += f" {first.task.digest[:8]}"
    reference = next((row for row in rows if row.dense is not None), first)
    metric = first.metric
    return {
        "key": key, "battery": batteries.get(at[0], 0), "task": first.task.name, "digest": first.task.digest,
        "family": first.task.family, "scope": first.task.scope, "budget": first.budget, "metric": metric.name,
        "unit": metric.unit, "higher": metric.higher_is_better, "chance": metric.chance,
        "dense": shape.plain(reference.dense), "margin": reference.margin,
        "sparsities": sorted({_short(row.sparsity) for row in rows}),
    }  # fmt: skip


def _standings(board: Board, names: Mapping[str, int]) -> list[Json]:
    """With ``mixed``, the quality over the cells that all of the battery share, where a standing has those."""
    together = {
        (s.submission, s.track): quality
        for b in board.batteries
        for s, quality in mixed(board.entries, board.standings, b.digest).order
    }
    return [
        {
            **shape.plain(s),
            "submission": names[s.submission],
            "category": str(s.category),
            "seeds": list(s.seeds),
            "mixed": together.get((s.submission, s.track)),
        }
        for s in board.standings
    ]


def _entries(board: Board, names: Mapping[str, int], tables: Mapping[tuple[str, str, str, float], int]) -> Json:
    rows = board.entries
    return {
        "submission": [names[row.submission or ""] for row in rows],
        "table": [tables[_place(row)] for row in rows],
        **{name: [_short(getattr(row, name)) for row in rows] for name in _COLUMNS},
        **{name: [_short(getattr(row.cost, name)) for row in rows] for name in _COSTS},
        "category": [row.category and str(row.category) for row in rows],
        "runs": [list(row.runs) for row in rows],
    }


def _published(rows: Sequence[Published]) -> Json:
    """In columns; each text once, in ``pool``, and by its number where it stands."""
    pool: dict[str, int] = {}
    columns: dict[str, list[Any]] = {}
    for field in dataclasses.fields(Published):
        values = [getattr(row, field.name) for row in rows]
        columns[field.name] = [pool.setdefault(v, len(pool)) if isinstance(v, str) else v for v in values]
    texts = [name for name in columns if name not in ("sparsity", "score", "std")]
    return {"texts": texts, "columns": columns, "pool": list(pool)}


def _short(value: Any) -> Any:
    """Numbers as they are read: eight digits are more than any of them is good for. The files beside keep all."""
    if isinstance(value, float):
        rounded = float(f"{value:.8g}")
        return int(rounded) if rounded.is_integer() else rounded
    return value


def _software(record: RunRecord) -> str:
    p = record.provenance
    commit = f", commit {p.commit[:12]}{' with changes' if p.dirty else ''}" if p.commit else ""
    return f"smcbench {p.smcbench}, engine {p.engine}, torch {p.torch}, Python {p.python}, {p.device}{commit}"


def _position(name: str) -> tuple[int, bool, list[tuple[int, str]]]:
    """About where a layer is in its network: embeddings first, heads last, an encoder before its decoder."""
    stage = 0 if _EARLY.search(name) else 2 if _LATE.search(name) else 1
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
    return stage, "decoder" in name, parts


def _shortened(names: Sequence[str]) -> list[str]:
    """Without what all begin with, and without ``.weight``."""
    split = [name.split(".") for name in names]
    alike = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    cut = sum(1 for _ in alike) if len(names) > 1 else 0
    return [".".join(parts[cut:]).removesuffix(".weight") or name for parts, name in zip(split, names, strict=True)]
