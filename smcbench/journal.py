"""The journal of one run: its finished phases, its phase in flight, and the way back to both after a kill."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from smcbench import files
from smcbench.cache import Cache


class Journal:
    """Keeps the phases of a run so that replaying its sparsifier repeats no training.

    ``train`` phases depend on their inputs alone and lie in the cache all runs share; the ends of ``steps`` phases and
    the phase in flight are this run's own and lie in its folder until the run is complete.

    Args:
        folder: of the run.
        run: its identity; part of the keys of what is its own.
        shared: the cache of ``train`` phases; None keeps those in the folder too.
        every: seconds of training between snapshots of the phase in flight; writing them never takes more than a
            twentieth of the time.
        wait: whether to wait for a phase that another process is computing, rather than raise ``Busy``.
    """

    def __init__(
        self, folder: Path, run: str, shared: Cache | None = None, *, every: float = 30.0, wait: bool = False
    ) -> None:
        self.run, self.wait = run, wait
        self._folder, self._every = folder, every
        self._own = Cache(folder / "resume")
        self._shared = shared or self._own
        self._entries: list[dict[str, Any]] = []
        self._last, self._took = time.monotonic(), 0.0

    def store(self, shared: bool) -> Cache:
        """Where finished phases of a kind lie."""
        return self._shared if shared else self._own

    def is_due(self) -> bool:
        """Whether the phase in flight should be written now."""
        return time.monotonic() - self._last >= max(self._every, 20 * self._took)

    def snapshot(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write the phase in flight."""
        begin = time.monotonic()
        self._own.save(key + ".part", tensors, meta)
        self._last = time.monotonic()
        self._took = self._last - begin

    def in_flight(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last snapshot of an unfinished phase."""
        self._last = time.monotonic()
        return self._own.load(key + ".part")

    def finished(self, key: str, entry: Mapping[str, Any]) -> None:
        """Enter a finished phase in ``journal.jsonl`` and forget its snapshots."""
        self._entries.append(dict(entry))
        files.write(self._folder / "journal.jsonl", "".join(files.canonical(e) + "\n" for e in self._entries))
        self._own.drop(key + ".part")

    def note(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON value of this run until it is complete."""
        files.write(self._own.root / f"{key}.json", files.canonical(value))

    def noted(self, key: str) -> Any:
        """What was kept under this key, or None."""
        path = self._own.root / f"{key}.json"
        return files.read_json(path) if path.exists() else None

    def close(self) -> None:
        """The run is complete: what was kept to resume it goes."""
        shutil.rmtree(self._folder / "resume", ignore_errors=True)
