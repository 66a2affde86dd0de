"""The cache: states by key, so that nothing is trained twice. A file is whole or it is not there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.state import read_tensors, write_tensors


class Cache:
    """A folder of tensors under content keys; the least recently used go when it outgrows ``limit`` bytes."""

    def __init__(self, root: Path, limit: int = 20 << 30) -> None:
        self.root, self.limit = root, limit

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved under ``key``; a torn or corrupted file is named on stderr, removed, and None returned."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            found = read_tensors(path)
        except InvalidInput as error:
            print(f"smcbench: {error}; computing it again", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def save(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Keep tensors and metadata under ``key``."""
        write_tensors(self._path(key), tensors, meta)
        self._evict()

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        self._path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lease(self, key: str) -> Iterator[None]:
        """The right to compute ``key``, for one process at a time; freed by the system when the process dies.

        Raises:
            Busy: another process computes it.
        """
        path = self.root / f"{key}.lock"
        with files.locked(path, "a training phase"):
            yield
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def _evict(self) -> None:
        found = []
        for path in self.root.glob("*.safetensors"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found)[:-1]:
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size
