"""What papers report: the numbers of their tables, shown beside measured ones and never ranked with them.

A file of ``published/`` is one table. Its columns say what is measured, its rows hold the numbers as printed, in the
order of the columns. A number may carry a standard deviation (``75.13+-0.34``) and a mark (``70.40^copied``), which the
file explains under ``marks``; ``-`` is an empty place. What looks like a slip of the source is marked, not mended.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from smcbench.errors import InvalidInput
from smcbench.results import shape
from smcbench.results.battery import DENSE, plain_name, show_sparsity
from smcbench.results.shape import Line

if TYPE_CHECKING:
    from smcbench.results.table import Block

NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:\+-(\d+(?:\.\d+)?))?(?:\^([a-z]+))?")
"""A number, its standard deviation, its mark."""
EMPTY = "-"
SIZES = ("-mini", "-small")
"""Endings of the tasks that stand for one of a paper with less data or a smaller model."""


@dataclass(frozen=True)
class Published:
    """One number of a table of a paper.

    Attributes:
        source: the paper, for people; ``paper`` is its identifier.
        row: the method as the table names it.
        method: the sparsifier that is the same thing, with preset or parameters where they make it so.
        task: the task that has the same data, model and metric, by the name and preset of ours.
        dataset: as the table names it.
        sparsity: 0 of a dense network; None where the table gives none.
        note: of this number, its row and its column: what is odd about them. ``about`` is of the whole table.
    """

    source: str
    paper: str
    table: str
    row: str
    method: str | None
    task: str | None
    dataset: str
    model: str
    sparsity: float | None
    score: float
    std: float | None
    unit: str
    metric: str
    note: str | None
    about: str | None


@dataclass(frozen=True)
class _Column:
    """What is measured; a number for each sparsity, or one where the row says its sparsity itself."""

    dataset: Line
    metric: Line
    unit: Line
    task: Line | None = None
    sparsities: tuple[float, ...] | None = None
    note: Line | None = None


@dataclass(frozen=True)
class _Row:
    """A method and its numbers; model, metric and unit where they differ from those of the table and the columns."""

    row: Line
    values: str
    method: Line | None = None
    sparsity: float | None = None
    model: Line | None = None
    metric: Line | None = None
    unit: Line | None = None
    preset: Line | None = None
    """Of the columns' tasks."""
    comparable: bool = True
    """False: it starts from something that none of our tasks starts from."""
    note: Line | None = None


@dataclass(frozen=True)
class _Table:
    """One table as its file spells it."""

    source: Line
    paper: Line
    table: Line
    model: Line
    columns: tuple[_Column, ...]
    rows: tuple[_Row, ...]
    note: str | None = None
    marks: Mapping[str, Line] = field(default_factory=dict)


@functools.cache
def load(folder: Path | None = None) -> tuple[Published, ...]:
    """All numbers of all tables, by file name and then as printed; of those that are shipped if no folder is given.

    Raises:
        InvalidInput: a file is not what it should be; the message names it and the row.
    """
    folder = folder or Path(__file__).with_name("published")
    return tuple(number for path in sorted(folder.glob("*.toml")) for number in read(path))


def read(path: Path) -> tuple[Published, ...]:
    """The numbers of one file.

    Raises:
        InvalidInput: as ``load``.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not valid TOML ({error})") from None
    table = shape.read(_Table, content, str(path))
    numbers: list[Published] = []
    marked: set[str] = set()
    for row in table.rows:
        where = f"{path}: row {row.row!r}"
        cells, texts = list(_cells(table, row, where)), row.values.split()
        if len(cells) != len(texts):
            raise InvalidInput(
                f"{where}: has {len(texts)} values, its columns make {len(cells)}; write {EMPTY} for none"
            )
        for (column, sparsity), text in zip(cells, texts, strict=True):
            if text == EMPTY:
                continue
            found = NUMBER.fullmatch(text)
            if not found:
                raise InvalidInput(f"{where}: {text!r} is no number like 75.13, 75.13+-0.34 or 75.13^mark")
            score, std, mark = found.groups()
            if mark and mark not in table.marks:
                raise InvalidInput(f"{where}: the mark of {text!r} is not explained; add {mark!r} to marks")
            marked |= {mark} if mark else set()
            numbers.append(_number(table, row, column, sparsity, float(score), std, mark))
    if unused := sorted(table.marks.keys() - marked):
        raise InvalidInput(f"{path}: no number has the mark {unused[0]!r}; take it out of marks")
    places = [(n.row, n.dataset, n.metric, n.sparsity) for n in numbers]
    if twice := next((place for i, place in enumerate(places) if place in places[:i]), None):
        raise InvalidInput(f"{path}: row {twice[0]!r}: has {twice[1]}, {twice[2]} at sparsity {twice[3]} twice")
    return tuple(numbers)


def _cells(table: _Table, row: _Row, where: str) -> Iterator[tuple[_Column, float | None]]:
    """The places of a row: a column and a sparsity each."""
    for column in table.columns:
        own = row.sparsity is not None or column.sparsities is None
        for sparsity in (row.sparsity,) if own else column.sparsities or ():
            if sparsity is not None and not 0 <= sparsity < 1:
                raise InvalidInput(f"{where}: the sparsity is {sparsity!r}, it must lie in [0, 1)")
            yield column, sparsity


def _number(
    table: _Table, row: _Row, column: _Column, sparsity: float | None, score: float, std: str | None, mark: str | None
) -> Published:
    notes = [note for note in (table.marks[mark] if mark else None, row.note, column.note) if note]
    preset = f"@{row.preset}" if row.preset else ""
    return Published(
        source=table.source,
        paper=table.paper,
        table=table.table,
        row=row.row,
        method=row.method,
        task=column.task + preset if column.task and row.comparable else None,
        dataset=column.dataset,
        model=row.model or table.model,
        sparsity=sparsity,
        score=score,
        std=None if std is None else float(std),
        unit=row.unit or column.unit,
        metric=row.metric or column.metric,
        note="; ".join(notes) or None,
        about=table.note,
    )


def for_task(name: str) -> tuple[Published, ...]:
    """What is published on a task, with any preset of it.

    Those on ``mnli`` are given for ``mnli-small`` and ``mnli-mini`` too: the same question, by other data or another
    model, which the numbers name.

    >>> {n.dataset for n in for_task("mnli-mini")}
    {'MNLI'}
    """
    return tuple(n for n in load() if n.task is not None and _same_task(n.task, name))


def for_method(name: str) -> tuple[Published, ...]:
    """What is published of a sparsifier, with any preset or parameters.

    >>> sorted({n.source for n in for_method("instant-soup")})
    ['Instant Soup (Jaiswal et al., 2023)']
    """
    return tuple(n for n in load() if n.method is not None and plain_name(n.method) == plain_name(name))


def beside(methods: Collection[str] = (), tasks: Collection[str] = ()) -> tuple[Published, ...]:
    """What is published of any of these sparsifiers on any of these tasks, and the dense networks of those tables.

    Empty means all; numbers that belong to none of our sparsifiers or tasks come only then.
    """
    wanted = {plain_name(m) for m in methods}
    on_task = [n for n in load() if not tasks or (n.task is not None and any(_same_task(n.task, t) for t in tasks))]

    def is_wanted(n: Published) -> bool:
        return not wanted or (n.method is not None and plain_name(n.method) in wanted)

    places = {_place(n) for n in on_task if is_wanted(n)}
    return tuple(n for n in on_task if is_wanted(n) or (n.method == DENSE and _place(n) in places))


def blocks(numbers: Iterable[Published]) -> tuple[list[Block], list[str]]:
    """A block a table and data set, for ``table.text`` and ``table.markdown``, and the notes under them.

    A line is a row of the paper's table. Its columns are sparsities, or metrics where there are several. ``[1]`` points
    to a note on a number.
    """
    from smcbench.results.table import Block

    tables: dict[tuple[str, ...], list[Published]] = {}
    for number in numbers:
        tables.setdefault(_place(number), []).append(number)
    made: list[Block] = []
    notes: dict[str, int] = {}
    for place, mine in tables.items():
        metrics = {f"{n.metric} in {n.unit}": None for n in mine}
        several = len(metrics) > 1
        columns = list(metrics) if several else [_shown(s) for s in sorted({n.sparsity for n in mine}, key=_order)]
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for n in mine:
            line = n.row, n.method or EMPTY, *([_shown(n.sparsity)] if several else [])
            column = f"{n.metric} in {n.unit}" if several else _shown(n.sparsity)
            lines.setdefault(line, {})[column] = _cell(n, notes)
        title = ", ".join(["published", *place, " and ".join(dict.fromkeys(n.model for n in mine))])
        header = ("row", "sparsifier", *(["sparsity"] if several else []), *columns)
        rows = tuple((*line, *(cells.get(column, EMPTY) for column in columns)) for line, cells in lines.items())
        made.append(Block(title if several else f"{title}: {next(iter(metrics))}", header, rows))
    about = {f"{n.source}, {n.table}: {n.about}": None for mine in tables.values() for n in mine if n.about}
    closing = ["published: from papers, with their data, models and budgets; beside measured results, never ranked"]
    return made, [*(f"[{i}] {note}" for note, i in notes.items()), *about, *(closing if made else [])]


def _place(number: Published) -> tuple[str, ...]:
    return number.source, number.table, number.dataset


def _cell(number: Published, notes: dict[str, int]) -> str:
    std = "" if number.std is None else f" +- {number.std:g}"
    note = f" [{notes.setdefault(number.note, len(notes) + 1)}]" if number.note else ""
    return f"{number.score:g}{std}{note}"


def _shown(sparsity: float | None) -> str:
    return EMPTY if sparsity is None else show_sparsity(sparsity)


def _order(sparsity: float | None) -> float:
    return -1.0 if sparsity is None else sparsity


def _same_task(published: str, name: str) -> bool:
    """Whether they are one task at different scales; presets do not count."""
    mine = plain_name(name)
    return plain_name(published) in (mine, *(mine.removesuffix(ending) for ending in SIZES))
