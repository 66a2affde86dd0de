"""The recipes of all tasks, as data: ``recipes.toml``, every one with its source."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from smcbench.recipe import Recipe


@functools.cache
def _all() -> dict[str, tuple[Recipe, str]]:
    found = {}
    for name, values in tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8")).items():
        source = " ".join(values.pop("source").split())
        found[name] = (Recipe(**values), source)
    return found


def recipe(name: str) -> Recipe:
    """The recipe of this name."""
    return _all()[name][0]


def source_of(wanted: Recipe) -> str:
    """Where a recipe is from; of one that was changed, that it was."""
    return next((source for known, source in _all().values() if known == wanted), "changed from the task's own")
