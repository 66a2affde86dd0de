"""Comparisons and boards as text, Markdown, CSV and JSON. Plain strings: colour is the terminal's business."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from smcbench.results import ranking
from smcbench.results.aggregate import BreakPoint, Row, Spread
from smcbench.results.battery import show_sparsity
from smcbench.results.compare import Comparison, Contrast
from smcbench.results.frame import csv
from smcbench.results.leaderboard import Board
from smcbench.results.ranking import Estimate, Group, Standing
from smcbench.results.submission import BatteryRef

Form = Literal["text", "markdown", "csv", "json"]
NONE = "-"
FEW = 3
"""Pairs that are shown cell by cell."""
_TEXTS = ("category", "verified")
"""Columns that are no numbers."""


@dataclass(frozen=True)
class Block:
    """One table: a title, a header, cells, and what to say below them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def render(what: Comparison | Board, form: Form = "text", *, mix: bool = False) -> str:
    """A comparison or a board in one of the four forms; ``csv`` and ``json`` keep all digits.

    With ``mix``, a board shows all submissions in one order, each marked with its track and category.
    """
    if form == "json":
        return json.dumps(what.to_json(), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "csv":
        return csv(what.rows if isinstance(what, Comparison) else what.entries)
    blocks, notes = comparison_blocks(what) if isinstance(what, Comparison) else board_blocks(what, mix=mix)
    return (text if form == "text" else markdown)(blocks, notes)


def text(blocks: Iterable[Block], notes: Iterable[str]) -> str:
    """Aligned columns."""
    parts = []
    for block in blocks:
        table = [block.header, *block.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(block.header))]
        left = [i == 0 or name in _TEXTS for i, name in enumerate(block.header)]
        lines = [_aligned(row, widths, left) for row in table]
        lines.insert(1, "-" * max(map(len, lines)))
        parts.append("\n".join([block.title, *lines, *(f"* {note}" for note in block.notes)]))
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
        below = ["", *(f"* {_escaped(note)}" for note in block.notes)] if block.notes else []
        parts.append("\n".join([f"**{_escaped(block.title)}**", "", *lines, *below]))
    if notes := list(notes):
        parts.append("\n".join(f"* {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def comparison_blocks(comparison: Comparison) -> tuple[list[Block], list[str]]:
    """A block a task and budget, then break-points, differences, and ranks."""
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
        blocks.append(_break_block(comparison.break_points, {(s, ""): s for s in comparison.sparsifiers}))
    blocks += _contrast_blocks(comparison)
    for ranks in comparison.ranks:
        ordered = sorted(ranks.ranks.items(), key=lambda item: item[1])
        title = f"Mean rank over {_cells(ranks.cells)}, among: {ranks.category}"
        blocks.append(Block(title, ("sparsifier", "rank"), tuple((name, f"{rank:.2f}") for name, rank in ordered)))
    tested = (
        "p: do the methods differ, with other seeds and examples (Holm over the cells); p of these: do these networks",
    )
    return blocks, [*comparison.notes, *(tested if comparison.contrasts else ()), *_legend(comparison.rows)]


def board_blocks(board: Board, *, mix: bool = False) -> tuple[list[Block], list[str]]:
    """For each battery its groups (with ``mix``, one of all), break-points, then a block a task: one row a sparsifier,
    one column a sparsity."""
    blocks = []
    for battery in board.batteries:
        rows = [r for r in board.entries if r.battery == battery.digest]
        points = [p for p in board.break_points if p.battery == battery.digest]
        standings = [s for s in board.standings if s.battery == battery.digest]
        names = _names(dict.fromkeys((s.sparsifier, s.submission) for s in standings))
        title = f"Battery {battery.name} ({battery.digest[:8]})"
        if mix:
            blocks.append(_mixed_block(title, board, battery, names))
        else:
            for group in (g for g in board.groups if g.battery == battery.digest):
                equals = [s for s in standings if (s.track, s.category) == (group.track, group.category)]
                blocks.append(_group_block(title, group, battery, equals, names))
        if points:
            blocks.append(_break_block(points, names))
        blocks += [_task_block(rows, table, names) for table in dict.fromkeys(r.table for r in rows)]
    retracted = [f"{r.submission} was retracted on {r.date}: {r.reason}" for r in board.retractions]
    return blocks, [*retracted, *(_READING if board.standings else ()), *_legend(board.entries)]


_READING = (
    "ranked are equals: same battery, scope, training (that of the dearest cell) and category, both as measured",
    "tier: who shares one cannot be told apart (5 %, Holm); control and retracted ones are not ranked",
    "quality: (score - chance) / (dense - chance), mean over the group's cells (95 % interval); [over other cells]",
    "small, shuffle: does it beat a narrower dense network, and its own layer-wise shuffle; ? if that is not certain",
)


def _group_block(
    title: str, group: Group, battery: BatteryRef, standings: Sequence[Standing], names: Mapping[Who, str]
) -> Block:
    cells = sum(len(t.sparsities) for t in battery.tasks)
    over = f"; ranked over {len(group.cells)} of {cells} cells" if group.cells else ""
    header = ("sparsifier", "tier", "quality", "break", *_COMMON)
    rows = tuple(
        (names[_who(s)], _tier(s), _quality(s.quality, s.tier is not None), _mean_break(s), *_common(s))
        for s in standings
    )
    return Block(
        f"{title}, {group.scope}, {group.track}: {group.category}{over}", header, rows, _separations(standings, names)
    )


_COMMON = ("train", "infer", "cells", "small", "shuffle", "verified")


def _common(standing: Standing) -> tuple[str, ...]:
    beats = {"yes": "yes", "no": "no", "undecided": "?", "untested": NONE}
    return (
        _times(standing.train),
        _times(standing.inference),
        f"{standing.cells - standing.missing}/{standing.cells}",
        *(beats[standing.beats.get(name, "untested")] for name in (ranking.SMALL_DENSE, ranking.SHUFFLED)),
        standing.level,
    )


def _mixed_block(title: str, board: Board, battery: BatteryRef, names: Mapping[Who, str]) -> Block:
    mixed = ranking.mixed(board.entries, board.standings, battery.digest)
    header = ("sparsifier", "quality", "break", "train", "infer", "cells", "track", "category")
    rows = tuple(
        (
            names[_who(s)], NONE if quality is None else f"{quality:.3f}", _mean_break(s), *_common(s)[:3],
            s.track, str(s.category),
        )
        for s, quality in mixed.order
    )  # fmt: skip
    return Block(f"{title}, all together, over {_cells(len(mixed.cells))}", header, rows)


def _separations(standings: Sequence[Standing], names: Mapping[Who, str]) -> tuple[str, ...]:
    """What it would take to tell members of a tier apart, with all of whom it holds."""
    of: dict[str, list[str]] = defaultdict(list)
    for s in standings:
        if s.separation:
            of[s.separation].append(names[_who(s)])
    return tuple(f"{', '.join(who)}: {text}" for text, who in of.items())


def _task_block(
    everybody: Sequence[Row],
    table: tuple[str, str, float],
    names: Mapping[Who, str],
) -> Block:
    rows = [r for r in everybody if r.table == table]
    ladder = sorted({r.sparsity for r in rows if r.sparsity > 0})
    cells = {(_who(r), r.sparsity): r for r in rows}
    lines = []
    for who, name in names.items():
        mine = [cells.get((who, s)) for s in ladder]
        if any(mine):
            lines.append((name, *(_marked(r) for r in mine)))
    header = ("sparsifier", *(f"{show_sparsity(s)}  " for s in ladder))
    return Block(_title(rows[0], everybody), header, tuple(lines))


def _break_block(points: Sequence[BreakPoint], names: Mapping[Who, str]) -> Block:
    tables = list(dict.fromkeys(map(_at, points)))
    by = {(_who(p), _at(p)): p for p in points}
    budgets = len({t[2] for t in tables}) > 1
    versions = len({t[:2] for t in tables}) > len({t[0] for t in tables})
    header = tuple(t[0] + (f" x{t[2]:g}" if budgets else "") + (f" {t[1][:6]}" if versions else "") for t in tables)
    rows = tuple(
        (name, *(_broken(by.get((who, t))) for t in tables))
        for who, name in names.items()
        if any((who, t) in by for t in tables)
    )
    return Block("Break-point: the sparsity up to which it matches dense", ("sparsifier", *header), rows)


def _contrast_blocks(comparison: Comparison) -> list[Block]:
    """Cell by cell for each pair; of many pairs only what they come to."""
    pairs: dict[str, list[Contrast]] = defaultdict(list)
    for each in comparison.contrasts:
        pairs[each.other].append(each)
    if len(pairs) <= FEW:
        return [_contrast_block(each, comparison.rows) for each in pairs.values()]
    overall = [each for each in comparison.contrasts if each.task is None]
    lines = tuple(
        (c.other, str(c.cells), f"{c.estimate:+.3f}", _interval(c.low, c.high, 3), _probability(c.p)) for c in overall
    )
    title = f"Quality of {comparison.sparsifiers[0]} minus that of the others, over the cells that both have"
    return [Block(title, ("sparsifier", "cells", "difference", "95 %", "p"), lines)]


def _contrast_block(contrasts: Sequence[Contrast], rows: Sequence[Row]) -> Block:
    """Differences of a pair: a row a cell, then all together."""
    one, other = contrasts[0].one, contrasts[0].other
    means: dict[tuple[object, ...], str] = {
        (r.sparsifier, r.task.digest, r.budget, r.sparsity): f"{r.mean:.2f}" for r in rows
    }
    budgets = len({c.budget for c in contrasts if c.task}) > 1
    lines = []
    for c in contrasts:
        cell = (c.task_digest, c.budget, c.sparsity)
        name = f"all {_cells(c.cells)}, quality" if c.task is None else c.task + (f" x{c.budget:g}" if budgets else "")
        lines.append(
            (
                name,
                NONE if c.sparsity is None else show_sparsity(c.sparsity),
                means.get((one, *cell), NONE),
                means.get((other, *cell), NONE),
                f"{c.estimate:+.3f}" if c.task is None else f"{c.estimate:+.2f}",
                _interval(c.low, c.high, 3 if c.task is None else 2),
                _probability(c.p),
                _probability(c.networks),
            )
        )
    header = ("task", "sparsity", one, other, "difference", "95 %", "p", "p of these")
    last = contrasts[-1]
    more = last.more_seeds if last.task is None else None
    seeds = (f"about {more} more seeds would tell {one} from {other}",) if more else ()
    return Block(f"{one} minus {other}", header, tuple(lines), seeds)


Who = tuple[str, str]
"""A sparsifier by label and submission."""


def _who(what: Row | BreakPoint | Standing) -> Who:
    return what.sparsifier, what.submission or ""


def _at(point: BreakPoint) -> tuple[str, str, float]:
    return point.task, point.task_digest, point.budget


def _names(order: Iterable[Who]) -> dict[Who, str]:
    """Labels; where two submissions share one, with the submission's name."""
    order = list(order)
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
        "break: up to which sparsity it matches, interpolated (95 % interval); > beyond the highest, ~ lower ones miss",
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
    value = ("~" if not point.monotone else "") + (">" if point.open else "") + f"{point.estimate:.2f}"
    return value if point.low is None or point.high is None else f"{value} ({point.low:.2f}-{point.high:.2f})"


def _mean_break(standing: Standing) -> str:
    return NONE if standing.breaks is None else (">" if standing.open else "") + f"{standing.breaks.mean:.2f}"


def _tier(standing: Standing) -> str:
    if standing.tier is not None:
        return str(standing.tier)
    return "retracted" if standing.retracted else "control" if standing.control else "lacks cells"


def _quality(quality: Estimate | None, ranked: bool) -> str:
    if quality is None:
        return NONE
    text = f"{quality.mean:.3f}"
    if quality.low is not None and quality.high is not None:
        text += f" ({quality.low:.3f}-{quality.high:.3f})"
    return text if ranked else f"[{text}]"


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return NONE if low is None or high is None else f"{low:+.{digits}f} to {high:+.{digits}f}"


def _cells(n: int) -> str:
    return f"{n} cell{'s' * (n != 1)}"


def _probability(p: float | None) -> str:
    return NONE if p is None else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def _aligned(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    cells = zip(row, widths, left, strict=True)
    return "  ".join(cell.ljust(width) if is_left else cell.rjust(width) for cell, width, is_left in cells).rstrip()


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").strip()
