"""Rows of upstream's text files, in the form in which the hub has them; whatever is wrong is named by file and line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from smcbench.errors import InvalidInput
from smcbench.files import parse_json
from smcbench.sources import Contents, Dataset, Located


def rows(dataset: Dataset, file: str, split: str, local: Callable[[Contents], Iterator[Located]]) -> Iterator[Located]:
    """The rows of one file: read by ``local`` if the data set lies here, else the hub's split of that name."""
    return local(dataset.read(file)) if dataset.state() == "local" else dataset.rows(split)


def json_lines(contents: Contents) -> Iterator[Located]:
    """One JSON object a line."""
    for where, line in contents.lines():
        row = parse_json(line, where)
        if not isinstance(row, dict):
            raise InvalidInput(f"{where}: must be a JSON object")
        yield Located(where, row)


def tab_separated(contents: Contents, header: Sequence[str] | None = None, malformed: int = 0) -> Iterator[Located]:
    """Fields between tabs, without quoting; named by the first line, or by ``header`` where the file has none.

    Up to ``malformed`` lines may have another number of fields; they are left out, as by everybody.
    """
    names = header
    for where, line in contents.lines():
        fields = line.split("\t")
        if names is None:
            names = fields
        elif len(fields) == len(names):
            yield Located(where, dict(zip(names, fields, strict=True)))
        elif malformed > 0:
            malformed -= 1
        else:
            raise InvalidInput(f"{where}: has {len(fields)} fields, it must have {len(names)}: {', '.join(names)}")


def comma_separated(contents: Contents, columns: Sequence[str]) -> Iterator[Located]:
    """The rows of a CSV file with a header, which must have these columns.

    Raises:
        InvalidInput: a column is missing, or a row has not as many fields as the header.
    """
    text = io.StringIO("\n".join(line for _, line in contents.lines()))
    reader = csv.reader(text)
    header = next(reader, [])
    for column in columns:
        if column not in header:
            raise InvalidInput(f"{contents.where}:1: has no column {column!r}, only {', '.join(header)}")
    for fields in reader:
        here = f"{contents.where}:{reader.line_num}"
        if len(fields) != len(header):
            raise InvalidInput(f"{here}: has {len(fields)} fields, it must have {len(header)}")
        yield Located(here, dict(zip(header, fields, strict=True)))


def text(located: Located, field: str) -> str:
    """A field that must be text."""
    value = value_of(located, field)
    if not isinstance(value, str):
        raise InvalidInput(f"{located.where}: {field!r} is {value!r}, it must be text")
    return value


def value_of(located: Located, field: str) -> Any:
    """A field that must be there."""
    if field not in located.row:
        raise InvalidInput(f"{located.where}: has no column {field!r}, only {', '.join(map(str, located.row))}")
    return located.row[field]


def one_of(located: Located, field: str, known: Sequence[Any]) -> int:
    """Which of the known values a field has, by index."""
    value = value_of(located, field)
    if value not in known:
        raise InvalidInput(f"{located.where}: {field!r} is {value!r}, it must be one of {', '.join(map(repr, known))}")
    return known.index(value)


def texts(located: Located, field: str, value: Any, count: int) -> list[str]:
    """So many texts, none of them empty; ``field`` is what to name."""
    if not isinstance(value, list) or len(value) != count:
        raise InvalidInput(f"{located.where}: {field!r} must be {count} texts, not {value!r}")
    for each in value:
        if not isinstance(each, str) or not each.strip():
            raise InvalidInput(f"{located.where}: {field!r} has {each!r}, where there must be text")
    return value


def number_in(located: Located, column: str) -> float:
    """A field that must be a finite number."""
    text = located.row[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"{located.where}: {column!r} is {text!r}, it must be a number")
    return value
