"""The leaderboard as data frames of pandas: what ``smcbench.load_leaderboard()`` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import smcbench
from smcbench.errors import InvalidInput, UsageError
from smcbench.results.aggregate import BreakPoint, Row
from smcbench.results.leaderboard import Board, read_board
from smcbench.results.ranking import Standing

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
What = Literal["entries", "standings", "break_points"]

BOARD = "leaderboard/leaderboard.json"


def _of(name: str, part: str) -> Callable[[Standing], Any]:
    """A part of an estimate of a standing; None where it has none."""
    return lambda s: getattr(getattr(s, name), part, None)


_ROW: Mapping[str, Callable[[Row], Any]] = {
    "submission": lambda r: r.submission,
    "sparsifier": lambda r: r.sparsifier,
    "task": lambda r: r.task.name,
    "family": lambda r: r.task.family,
    "scope": lambda r: r.task.scope,
    "budget": lambda r: r.budget,
    "sparsity": lambda r: r.sparsity,
    "metric": lambda r: r.metric.name,
    "unit": lambda r: r.metric.unit,
    "higher_is_better": lambda r: r.metric.higher_is_better,
    "chance": lambda r: r.metric.chance,
    "seeds": lambda r: r.n,
    "mean": lambda r: r.mean,
    "std": lambda r: r.std,
    "low": lambda r: r.low,
    "high": lambda r: r.high,
    "dense_mean": lambda r: r.dense and r.dense.mean,
    "dense_std": lambda r: r.dense and r.dense.std,
    "difference": lambda r: r.difference,
    "margin": lambda r: r.margin,
    "matching": lambda r: r.matching,
    "normalised": lambda r: r.normalised,
    "steps": lambda r: r.cost.steps,
    "gradient_evaluations": lambda r: r.cost.gradient_evaluations,
    "train": lambda r: r.cost.train,
    "inference": lambda r: r.cost.inference,
    "seconds": lambda r: r.cost.seconds,
    "when": lambda r: r.category and r.category.when,
    "start": lambda r: r.category and r.category.start,
    "mask": lambda r: r.category and r.category.mask,
    "track": lambda r: r.track,
    "level": lambda r: r.level,
    "task_digest": lambda r: r.task.digest,
    "battery": lambda r: r.battery,
    "runs": lambda r: " ".join(r.runs),
}
_STANDING: Mapping[str, Callable[[Standing], Any]] = {
    "submission": lambda s: s.submission,
    "sparsifier": lambda s: s.sparsifier,
    "scope": lambda s: s.scope,
    "track": lambda s: s.track,
    "when": lambda s: s.category.when,
    "start": lambda s: s.category.start,
    "mask": lambda s: s.category.mask,
    "control": lambda s: s.control,
    "retracted": lambda s: s.retracted,
    "tier": lambda s: s.tier,
    **{
        f"{name}{end}": _of(name, part)
        for name in ("quality", "area", "breaks")
        for end, part in (("", "mean"), ("_low", "low"), ("_high", "high"))
    },
    "open": lambda s: s.open,
    "train": lambda s: s.train,
    "inference": lambda s: s.inference,
    "seeds": lambda s: " ".join(map(str, s.seeds)),
    "cells": lambda s: s.cells,
    "missing": lambda s: s.missing,
    "level": lambda s: s.level,
    "beats_small_dense": lambda s: s.beats.get("small-dense"),
    "beats_shuffled": lambda s: s.beats.get("shuffled"),
    "separation": lambda s: s.separation,
    "battery": lambda s: s.battery,
}
_BREAK: Mapping[str, Callable[[BreakPoint], Any]] = {
    "submission": lambda p: p.submission,
    "sparsifier": lambda p: p.sparsifier,
    "task": lambda p: p.task,
    "budget": lambda p: p.budget,
    "estimate": lambda p: p.estimate,
    "low": lambda p: p.low,
    "high": lambda p: p.high,
    "open": lambda p: p.open,
    "sparsity": lambda p: p.sparsity,
    "monotone": lambda p: p.monotone,
    "task_digest": lambda p: p.task_digest,
    "battery": lambda p: p.battery,
}
_TYPES = {
    **dict.fromkeys(("std", "low", "high", "dense_mean", "dense_std", "difference", "margin", "normalised"), "float64"),
    **dict.fromkeys((name for name in _STANDING if name.startswith(("quality", "area", "breaks"))), "float64"),
    "sparsity": "float64",
    **dict.fromkeys(("matching", "higher_is_better", "control", "retracted", "monotone"), "boolean"),
    "tier": "Int64",
}
"""Of what may be unknown; the rest are whole numbers and texts."""


def load_leaderboard(path: str | Path | None = None, what: What = "entries") -> pd.DataFrame:
    """The leaderboard as a data frame, with all digits.

    Args:
        path: a ``leaderboard.json`` or the folder that holds it. By default the one of the working directory, else that
            of the checkout that smcbench was installed from.
        what: ``entries`` (one row a sparsifier, task, sparsity and budget, over its seeds), ``standings`` (one a
            submission among its equals) or ``break_points`` (one a sparsifier and task).

    Raises:
        InvalidInput: there is none, or it is not one.
        UsageError: ``what`` is none of the three.
    """
    return frame(read_board(_found(path)), what)


def frame(board: Board, what: What = "entries") -> pd.DataFrame:
    """A board as a data frame; see ``load_leaderboard``.

    Raises:
        UsageError: ``what`` is none of the three.
    """
    if what == "entries":
        return _framed(board.entries, _ROW)
    if what == "standings":
        return _framed(board.standings, _STANDING)
    if what == "break_points":
        return _framed(board.break_points, _BREAK)
    raise UsageError(f"what is {what!r}, it must be entries, standings or break_points")


def csv(rows: Sequence[Row]) -> str:
    """Rows of a board or a comparison as text: a header, then one line each, with all digits; empty is unknown."""
    return str(_framed(rows, _ROW).to_csv(index=False, lineterminator="\n"))


def _framed(rows: Sequence[T], columns: Mapping[str, Callable[[T], Any]]) -> pd.DataFrame:
    import pandas as pd

    values = {name: [value(row) for row in rows] for name, value in columns.items()}
    return pd.DataFrame({name: pd.Series(each, dtype=_TYPES.get(name)) for name, each in values.items()})


def _found(path: str | Path | None) -> Path:
    if path is not None:
        return Path(path) / Path(BOARD).name if Path(path).is_dir() else Path(path)
    places = [Path(BOARD), Path(smcbench.__file__).parent.parent / BOARD]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InvalidInput(f"{BOARD}: no such file here; name the leaderboard.json, or the folder that holds it")
    return found
