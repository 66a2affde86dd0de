"""Files that are whole or absent: canonical JSON, atomic writes, locks. Needs no torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smcbench.errors import Busy, InvalidInput, SmcbenchError


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN: equal values give equal text.

    >>> canonical({"b": 1, "a": [0.5, None]})
    '{"a":[0.5,null],"b":1}'
    """
    return _CANONICAL.encode(value)


def sha256(data: bytes | str) -> str:
    """Hexadecimal SHA-256 of bytes, or of text in UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return sha256(canonical(value))


def write(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Raises:
        SmcbenchError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    raw = data.encode() if isinstance(data, str) else data
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~UMASK)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_json(path: Path) -> Any:
    """Parse a JSON file; duplicate keys, NaN and infinities are errors.

    Raises:
        InvalidInput: the file is missing, unreadable, or not strict JSON; the message names it.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text") from None


DEPTH = 64
"""How deeply JSON may be nested: what is read goes through functions that call themselves."""


def parse_json(text: str, where: str) -> Any:
    """Parse strict JSON text; ``where`` names it in the error.

    Strict: no key twice, all numbers finite, all text Unicode, nothing nested more than ``DEPTH`` deep.

    >>> parse_json('{"a": 1, "a": 2}', "x.json")
    Traceback (most recent call last):
    smcbench.errors.InvalidInput: x.json: key 'a' stands twice
    """

    try:
        value = _STRICT.decode(text)
        if "\\u" in text:
            canonical(value).encode()  # which half of a surrogate pair cannot be
    except _Refused as error:
        raise InvalidInput(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not valid JSON ({error})") from None
    if text.count("[") + text.count("{") > DEPTH and _is_deep(value):
        raise InvalidInput(f"{where}: nested more than {DEPTH} deep")
    return value


class _Refused(ValueError):
    """JSON that others would take."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"key {twice!r:.80} stands twice")
    return result


def _constant(name: str) -> Any:
    raise _Refused(f"{name:.40} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _constant(digits)


# Made once: with millions of short lines, making them is what takes the time.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _is_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth <= DEPTH:
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [item for each in inner for item in (each.values() if isinstance(each, dict) else each)]
        depth += 1
    return bool(level)


@contextlib.contextmanager
def locked(path: Path, wanted: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` for a while; the system frees it when the process dies.

    Raises:
        Busy: another process holds it.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(handle)
        except OSError:
            raise Busy(f"{wanted} is being computed by another process ({path})") from None
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # once more: it may have been somebody who only looked
        time.sleep(0.05)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SmcbenchError(
            f"{path}: cannot be written ({reason}); {'free some space or ' if full else ''}choose another folder"
        ) from error


UMASK = os.umask(0)
os.umask(UMASK)
