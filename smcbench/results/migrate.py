"""What older versions wrote, in the shape of today: a step a schema, from each to the next, applied on reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smcbench.errors import InvalidInput

Step = Callable[[dict[str, Any]], dict[str, Any]]


def manifest(value: Any, where: str) -> Any:
    """The manifest of a submission, brought to the schema of today.

    Raises:
        InvalidInput: it is of a schema that nobody knows here.
    """
    return _brought(value, _MANIFEST, 2, where)


def record(value: Any, where: str) -> Any:
    """A record in a submission: there was one schema so far.

    Raises:
        InvalidInput: it is of another.
    """
    return _brought(value, {}, 1, where)


def _brought(value: Any, steps: Mapping[int, Step], to: int, where: str) -> Any:
    if not isinstance(value, dict):
        return value  # the reader says what it should be
    while value.get("schema") != to:
        step = steps.get(value["schema"]) if type(value.get("schema")) is int else None
        if step is None:
            known = ", ".join(map(str, [*steps, to]))
            raise InvalidInput(
                f"{where}: schema is {value.get('schema')!r:.40}, but this version reads {known}; use the smcbench "
                "that wrote it"
            )
        value = step(value)
    return value


def _elsewhere(value: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: files may stand elsewhere; there were neither outcomes nor weights, which may be missing."""
    return {**value, "schema": 2, "elsewhere": {}}


_MANIFEST: Mapping[int, Step] = {1: _elsewhere}
