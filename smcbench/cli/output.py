"""What the verbs print with: aligned columns, JSON, notes."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smcbench.errors import SmcbenchError

if TYPE_CHECKING:
    from smcbench.results.compare import Comparison
    from smcbench.results.leaderboard import Board


class Form(StrEnum):
    """Ways to print a comparison or a board."""

    TEXT = "text"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


Format = Annotated[Form, typer.Option("--format", help="How to print it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Short for --format json.")]


class NothingMeasured(SmcbenchError):
    """There is no result to show."""

    exit_code = 5


_ROOM = 24
"""Characters below which a column is not folded: hardly a word would stand in a line."""


def terminal() -> int | None:
    """Characters a line of the terminal has; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(header: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Cells in columns, the last one ragged, or folded to ``width`` characters a line where that leaves it some room.

    >>> print(columns(("name", "from"), [("digits", "smcbench")]))
    name    from
    ------  --------
    digits  smcbench
    >>> print(columns(("name", "about"), [("digits", "which of the ten digits it is")], width=32))
    name    about
    ------  ------------------------
    digits  which of the ten digits
            it is
    """
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *body]) for i in range(len(header))]
    room = (width or 0) - sum(widths[:-1]) - 2 * len(widths[:-1])
    if _ROOM <= room < widths[-1]:
        widths[-1] = room
        body = [
            list(line)
            for *first, last in body
            for line in zip_longest(*([cell] for cell in first), textwrap.wrap(last, room), fillvalue="")
        ]
    lines = [list(header), ["-" * width for width in widths], *body]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """One fact a line, names in a column; those without a value are left out."""
    known = [(name, value) for name, value in pairs if value]
    width = max(len(name) for name, _ in known)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in known)


def print_json(value: Any) -> None:
    """JSON for scripts, on stdout."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False))


def print_results(what: Comparison | Board, form: Form, json: bool, *, mix: bool = False) -> None:
    """A comparison or a board, as asked for; with ``mix`` a board's submissions all in one order."""
    from smcbench.results.table import render

    match Form.JSON if json else form:
        case Form.TEXT:
            text = render(what, "text", mix=mix)
        case Form.MARKDOWN:
            text = render(what, "markdown", mix=mix)
        case Form.CSV:
            text = render(what, "csv")
        case Form.JSON:
            text = render(what, "json")
    sys.stdout.write(text)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on a terminal's stderr while something takes seconds; nothing elsewhere."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False).status(escape(what)):
        yield


def complain(message: str) -> None:
    """A line on stderr that is an error, whatever is in the message."""
    line = " ".join(message.split())
    print("smcbench:", "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), file=sys.stderr)


def note(message: str) -> None:
    """A line on stderr that is no error."""
    print("smcbench: note:", " ".join(message.split()), file=sys.stderr)


def paragraph(documentation: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((documentation or "").strip().split("\n\n")[0].split())
