"""What the verbs print with: aligned columns, JSON, notes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from smcbench.errors import SmcbenchError


class NothingMeasured(SmcbenchError):
    """There is no result to show."""

    exit_code = 5


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells in columns, the last one ragged.

    >>> print(columns(("name", "from"), [("digits", "smcbench")]))
    name    from
    ------  --------
    digits  smcbench
    """
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *body]) for i in range(len(header))]
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


def note(message: str) -> None:
    """A line on stderr that is no error."""
    print("smcbench: note:", " ".join(message.split()), file=sys.stderr)


def paragraph(documentation: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((documentation or "").strip().split("\n\n")[0].split())
