"""Comparisons and boards as text, Markdown, CSV and JSON. Plain strings: colour is the terminal's business."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from smcbench.results.aggregate import BreakPoint, Row, Spread
from smcbench.results.battery import show_sparsity
from smcbench.results.compare import Comparison
from smcbench.results.leaderboard import Board

Form = Literal["text", "markdown", "csv", "json"]
NONE = "-"


@dataclass(frozen=True)
class Block:
    """One table: a title, a header, and cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(what: Comparison | Board, form: Form = "text") -> str:
    """A comparison or a board in one of the four forms; ``csv`` and ``json`` keep all digits."""
    if form == "json":
        return json.dumps(what.to_json(), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "csv":
        return _csv(what.rows if isinstance(what, Comparison) else what.entries)
    blocks, notes = comparison_blocks(what) if isinstance(what, Comparison) else board_blocks(what)
    return (text if form == "text" else markdown)(blocks, notes)


def text(blocks: Iterable[Block], notes: Iterable[str]) -> str:
    """Aligned columns."""
    parts = []
    for block in blocks:
        table = [block.header, *block.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(block.header))]
        left = [i == 0 or name == "category" for i, name in enumerate(block.header)]
        lines = [_aligned(row, widths, left) for row in table]
        lines.insert(1, "-" * max(map(len, lines)))
        parts.append("\n".join([block.title, *lines]))
    if notes := list(notes):
        parts.append("\n".join(f"* {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def markdown(blocks: Iterable[Block], notes: Iterable[str]) -> str:
    """GitHub tables."""
    parts = []
    for block in blocks:
        rule = ["---", *["---:"] * (len(block.header) - 1)]
        lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in [block.header, *block.rows]]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        parts.append("\n".join([f"**{_escaped(block.title)}**", "", *lines]))
    if notes := list(notes):
        parts.append("\n".join(f"* {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def comparison_blocks(comparison: Comparison) -> tuple[list[Block], list[str]]:
    """A block a task and budget, then break-points, then ranks."""
    blocks = []
    for table in dict.fromkeys(r.table for r in comparison.rows):
        rows = [r for r in comparison.rows if r.table == table]
        cells = tuple(
            (
                r.sparsifier,
                show_sparsity(r.sparsity),
                _score(r.mean, r.std),
                _signed(r.difference),
                {True: "yes", False: "no", None: NONE}[r.matching],
                str(r.n),
                _times(r.cost.train),
                _times(r.cost.inference),
                str(r.category or "seeds disagree"),
            )
            for r in rows
        )
        header = ("sparsifier", "sparsity", rows[0].metric.name, "to dense", "matching", "seeds", "train", "infer",
                  "category")  # fmt: skip
        blocks.append(Block(_title(rows[0], comparison.rows), header, cells))
    if comparison.break_points:
        blocks.append(_break_block(comparison.break_points, comparison.sparsifiers))
    for ranks in comparison.ranks:
        ordered = sorted(ranks.ranks.items(), key=lambda item: item[1])
        title = f"Mean rank over {ranks.cells} cells, among: {ranks.category}"
        blocks.append(Block(title, ("sparsifier", "rank"), tuple((name, f"{rank:.2f}") for name, rank in ordered)))
    return blocks, [*comparison.notes, *_legend(comparison.rows)]


def board_blocks(board: Board) -> tuple[list[Block], list[str]]:
    """For each battery an overview, then a block a task with one row a sparsifier and one column a sparsity."""
    blocks = []
    for battery in board.batteries:
        rows = [r for r in board.entries if r.battery == battery.digest]
        points = [p for p in board.break_points if p.battery == battery.digest]
        tables = list(dict.fromkeys(r.table for r in rows))
        free = [t.task for t in battery.tasks if t.sparsifiers is None] or [t.task for t in battery.tasks]
        merit = {who: _merit([r for r in rows if _who(r) == who], rows, free) for who in dict.fromkeys(map(_who, rows))}
        order = sorted(merit, key=lambda who: (merit[who] is None, -(merit[who] or 0.0), who))
        names = _names(order)
        lacking = {e.name: e for e in board.submissions}
        overview = []
        for who in order:
            mine = [r for r in rows if _who(r) == who]
            kinds = {str(r.category) for r in mine}
            entrant = lacking.get(who[1])
            overview.append(
                (
                    names[who],
                    NONE if merit[who] is None else f"{merit[who]:.3f}",
                    *(_broken(next((p for p in points if _who(p) == who and _at(p) == t), None)) for t in tables),
                    _times(statistics.fmean(r.cost.train for r in mine)),
                    _times(statistics.fmean(r.cost.inference for r in mine)),
                    f"{entrant.cells - entrant.missing}/{entrant.cells}" if entrant else NONE,
                    kinds.pop() if len(kinds) == 1 else "mixed",
                )
            )
        header = ("sparsifier", "merit", *(f"break {t[0]}" for t in tables), "train", "infer", "cells", "category")
        blocks.append(Block(f"Battery {battery.name} ({battery.digest[:8]})", header, tuple(overview)))
        blocks += [_task_block(rows, t, order, names) for t in tables]
    return blocks, [
        "merit: (score - chance) / (dense - chance) at the highest sparsity, mean over the tasks that all run; no test",
        *_legend(board.entries),
    ]


def _task_block(
    everybody: Sequence[Row],
    table: tuple[str, str, float],
    order: Sequence[tuple[str, str]],
    names: dict[tuple[str, str], str],
) -> Block:
    rows = [r for r in everybody if r.table == table]
    ladder = sorted({r.sparsity for r in rows if r.sparsity > 0})
    cells = {(_who(r), r.sparsity): r for r in rows}
    lines = []
    for who in order:
        mine = [cells.get((who, s)) for s in ladder]
        if any(mine):
            lines.append((names[who], *(_marked(r) for r in mine)))
    header = ("sparsifier", *(f"{show_sparsity(s)}  " for s in ladder))
    return Block(_title(rows[0], everybody), header, tuple(lines))


def _break_block(points: Sequence[BreakPoint], sparsifiers: Sequence[str]) -> Block:
    tables = list(dict.fromkeys(map(_at, points)))
    by = {(p.sparsifier, _at(p)): p for p in points}
    budgets = len({t[2] for t in tables}) > 1
    versions = len({t[:2] for t in tables}) > len({t[0] for t in tables})
    header = tuple(t[0] + (f" x{t[2]:g}" if budgets else "") + (f" {t[1][:6]}" if versions else "") for t in tables)
    names = [s for s in sparsifiers if any(p.sparsifier == s for p in points)]
    rows = tuple((s, *(_broken(by.get((s, t))) for t in tables)) for s in names)
    return Block("Break-point sparsity: the highest one measured that matches dense", ("sparsifier", *header), rows)


def _merit(mine: Sequence[Row], everybody: Sequence[Row], open_to_all: Collection[str]) -> float | None:
    """Mean over tasks of the normalised score at the highest sparsity (dense: at 0); None if a task is lacking."""
    scores = []
    for table in dict.fromkeys(r.table for r in everybody if r.task.name in open_to_all):
        highest = max(r.sparsity for r in everybody if r.table == table)
        is_dense = all(r.sparsity == 0 for r in mine)
        row = next((r for r in mine if r.table == table and (is_dense or r.sparsity == highest)), None)
        if row is None or row.normalised is None:
            return None
        scores.append(row.normalised)
    return statistics.fmean(scores) if scores else None


def _who(what: Row | BreakPoint) -> tuple[str, str]:
    return what.sparsifier, what.submission or ""


def _at(point: BreakPoint) -> tuple[str, str, float]:
    return point.task, point.task_digest, point.budget


def _names(order: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Labels; where two submissions share one, with the submission's name."""
    labels = [label for label, _ in order]
    return {who: who[0] if labels.count(who[0]) == 1 else f"{who[0]} ({who[1]})" for who in order}


def _title(row: Row, among: Sequence[Row]) -> str:
    """What a block shows, with the digest of the task where two versions of it stand side by side."""
    metric, dense = row.metric, row.dense
    version = (
        f" ({row.task.digest[:8]})" if len({r.task.digest for r in among if r.task.name == row.task.name}) > 1 else ""
    )
    better = "" if metric.higher_is_better else ", lower is better"
    budget = "" if row.budget == 1 else f", budget {row.budget:g}"
    reference = "no dense reference" if dense is None else f"dense {_spread(dense)}"
    name = f"{row.task.name}{version}{budget}"
    return f"{name}: {metric.name} in {metric.unit}{better}; {reference}, chance {metric.chance:g}"


def _legend(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["no results yet"]
    seeds = sorted({r.n for r in rows})
    shown = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return [
        f"mean +- standard deviation over {shown} seed{'' if seeds == [1] else 's'}; = matches dense: not behind it by "
        "more than the battery's margin",
        "break: the highest sparsity that matches dense, ~ if a lower one does not",
        "train: x one dense training of the same budget; infer: x one dense forward pass (FLOPs)",
    ]


def _marked(row: Row | None) -> str:
    if row is None:
        return NONE
    return _score(row.mean, row.std) + (" =" if row.matching else "  ")


def _score(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" if std is None else f"{mean:.2f} +- {std:.2f}"


def _spread(value: Spread) -> str:
    return f"{_score(value.mean, value.std)} ({value.n} seed{'s' * (value.n != 1)})"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _broken(point: BreakPoint | None) -> str:
    if point is None:
        return NONE
    return "none" if point.sparsity is None else ("" if point.monotone else "~") + show_sparsity(point.sparsity)


def _aligned(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    cells = zip(row, widths, left, strict=True)
    return "  ".join(cell.ljust(width) if is_left else cell.rjust(width) for cell, width, is_left in cells).rstrip()


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").strip()


def _csv(rows: Iterable[Row]) -> str:
    columns: dict[str, Callable[[Row], object]] = {
        "submission": lambda r: r.submission,
        "sparsifier": lambda r: r.sparsifier,
        "task": lambda r: r.task.name,
        "task_digest": lambda r: r.task.digest,
        "scope": lambda r: r.task.scope,
        "budget": lambda r: r.budget,
        "sparsity": lambda r: r.sparsity,
        "metric": lambda r: r.metric.name,
        "seeds": lambda r: r.n,
        "mean": lambda r: r.mean,
        "std": lambda r: r.std,
        "dense_mean": lambda r: r.dense and r.dense.mean,
        "dense_std": lambda r: r.dense and r.dense.std,
        "difference": lambda r: r.difference,
        "margin": lambda r: r.margin,
        "matching": lambda r: None if r.matching is None else str(r.matching).lower(),
        "normalised": lambda r: r.normalised,
        "steps": lambda r: r.cost.steps,
        "gradient_evaluations": lambda r: r.cost.gradient_evaluations,
        "train": lambda r: r.cost.train,
        "inference": lambda r: r.cost.inference,
        "when": lambda r: r.category and r.category.when,
        "start": lambda r: r.category and r.category.start,
        "mask": lambda r: r.category and r.category.mask,
        "runs": lambda r: " ".join(r.runs),
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([value(row) for value in columns.values()] for row in rows)
    return out.getvalue()
