"""What ``smcbench info TASK --qualify`` measured, as data: ``qualification.toml``."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from smcbench.task import Qualification, Task


@functools.cache
def _all() -> dict[str, tuple[int, Qualification]]:
    text = Path(__file__).with_name("qualification.toml").read_text(encoding="utf-8")
    return {name: (entry.pop("version"), Qualification(**entry)) for name, entry in tomllib.loads(text).items()}


def qualification(task: Task) -> Qualification | None:
    """The figures of a task, unless they are of another version of it."""
    version, found = _all().get(task.name, (None, None))
    return found if version == task.version else None
