"""What changed between two boards."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from smcbench.results.battery import show_sparsity
from smcbench.results.leaderboard import Board
from smcbench.results.shape import Line, Name


@dataclass(frozen=True)
class Difference:
    """One value that changed; ``old`` is None where there was none, ``new`` where there is none any more."""

    submission: Name
    where: Line
    what: Line
    old: Any
    new: Any


def differences(old: Board, new: Board) -> list[Difference]:
    """By submission: rows that came, went or have another mean, seeds or level; break-points; tiers; retractions."""
    before, after = _values(old), _values(new)
    return [
        Difference(submission, where, what, before.get(key), after.get(key))
        for key in sorted({**before, **after})
        for submission, where, what in [key]
        if before.get(key) != after.get(key)
    ]


def _values(board: Board) -> Mapping[tuple[str, str, str], Any]:
    names = {b.digest: f"{b.name} {b.digest[:8]}" for b in board.batteries}
    found: dict[tuple[str, str, str], Any] = {}

    def see(submission: Hashable, battery: str | None, where: str, **values: Any) -> None:
        for what, value in values.items():
            found[str(submission), f"{names.get(battery or '', '')}: {where}", what] = value

    for row in board.entries:
        where = f"{row.task.name} at {show_sparsity(row.sparsity)}, budget {row.budget:g}"
        see(row.submission, row.battery, where, seeds=row.n, mean=row.mean, matching=row.matching, level=row.level)
    for point in board.break_points:
        see(
            point.submission, point.battery, f"{point.task}, budget {point.budget:g}", **{"break-point": point.estimate}
        )
    for standing in board.standings:
        where = f"{standing.scope}, {standing.track}, {standing.category}"
        see(standing.submission, standing.battery, where, tier=standing.tier)
    for each in board.retractions:
        found[each.submission, "retracted", "reason"] = each.reason
    return found
