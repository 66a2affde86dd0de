"""The public data sets that tasks read, from ``datasets.toml``, and how a split is carved from another."""

from __future__ import annotations

import functools
import tomllib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from smcbench import files
from smcbench.sources import Dataset, File, Hub

_T = TypeVar("_T")


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """All that the file says, by key."""
    return tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))


def dataset(key: str) -> Dataset:
    """The data set of this key."""
    entry = entries()[key]
    found = (
        File(tuple(f["names"]), **{k: v for k, v in f.items() if k not in ("names", "known")},
             known=tuple(f.get("known", {}).items()))
        for f in entry["files"]
    )  # fmt: skip
    hub = Hub(**entry["hub"]) if "hub" in entry else None
    return Dataset(entry["name"], entry["licence"], entry["url"], tuple(found), hub, entry.get("form", ""))


def carve(items: Sequence[_T], size: int, group: Callable[[_T], str]) -> tuple[list[_T], list[_T]]:
    """Exactly ``size`` items whose groups are whole, and the others, both in the order given.

    Groups are taken in the order of the SHA-256 of their names, one that no longer fits is passed over: the same split
    on every machine, whatever the order of the rows.

    >>> carve(["a1", "b1", "a2", "c1"], 2, lambda item: item[0])
    (['b1', 'c1'], ['a1', 'a2'])
    """
    groups: dict[str, int] = defaultdict(int)
    for item in items:
        groups[group(item)] += 1
    chosen: set[str] = set()
    for name in sorted(groups, key=files.sha256):
        if groups[name] <= size:
            chosen.add(name)
            size -= groups[name]
    taken = [item for item in items if group(item) in chosen]
    return taken, [item for item in items if group(item) not in chosen]


def held_out(count: int) -> int:
    """How many of the training rows make the validation split where there is none: a tenth, at most 1,000.

    >>> held_out(635), held_out(67349)
    (63, 1000)
    """
    return min(1000, count // 10)
