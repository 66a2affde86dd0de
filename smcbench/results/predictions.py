"""Predictions on disk: one line of canonical JSON per example, compressed; the evidence behind every score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smcbench import files
from smcbench.errors import InvalidInput

NAME = "predictions.jsonl.zst"
LIMIT = 1 << 30
"""Bytes that a file may unfold to."""
_ALWAYS, _TIMES = 1 << 24, 256
"""Bytes that any file may unfold to, and how many times its size a larger one may."""


def encode(predictions: Mapping[str, Any], run: str | None = None) -> bytes:
    """The uncompressed bytes, by sorted example id; their SHA-256 is the digest of the predictions.

    With ``run``, every line also names its run, so that the predictions of several can share a file.
    """
    extra = {} if run is None else {"run": run}
    return b"".join(
        files.canonical({"id": key, "prediction": predictions[key], **extra}).encode() + b"\n"
        for key in sorted(predictions)
    )


def write(path: Path, predictions: Mapping[str, Any]) -> str:
    """Write the predictions of one run and return their digest."""
    try:
        raw = encode(predictions)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{path}: predictions must be plain JSON by example id ({error})") from None
    files.write(path, compress(raw))
    return files.sha256(raw)


def read(path: Path) -> dict[str, Any]:
    """Read the predictions of one run.

    Raises:
        InvalidInput: missing, not zstandard, not JSON lines, an id twice; the message names file and line.
    """
    return _read(path, LIMIT, shared=False).get("", {})


def read_runs(path: Path, limit: int = LIMIT) -> dict[str, dict[str, Any]]:
    """Read the predictions of several runs that share a file of at most ``limit`` bytes unfolded, by run."""
    return _read(path, limit, shared=True)


def _read(path: Path, limit: int, shared: bool) -> dict[str, dict[str, Any]]:
    keys = {"id", "prediction", "run"} if shared else {"id", "prediction"}
    result: dict[str, dict[str, Any]] = {}
    for number, line in _lines(path, limit):
        where = f"{path}:{number}"
        value = files.parse_json(line, where)
        if not isinstance(value, dict) or set(value) != keys:
            raise InvalidInput(f"{where}: must be an object with the keys {', '.join(sorted(keys))}")
        run, key = value.get("run", ""), value["id"]
        if not isinstance(run, str) or not isinstance(key, str):
            raise InvalidInput(f"{where}: id and run must be texts")
        if key in result.setdefault(run, {}):
            raise InvalidInput(f"{where}: example {key!r} stands twice")
        result[run][key] = value["prediction"]
    return result


def compress(raw: bytes) -> bytes:
    """Zstandard at a fixed level: the same bytes for the same bytes."""
    import zstandard

    return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(raw)


def _lines(path: Path, limit: int) -> Iterator[tuple[int, str]]:
    """Numbered lines of a compressed file."""
    return ((number, line) for number, line in enumerate(unfold(path, limit).split("\n"), 1) if line)


def unfold(path: Path, limit: int) -> str:
    """The text of a file that :func:`compress` made.

    How large it is stands at its beginning, so that what is too large is refused before any of it is unfolded.

    Raises:
        InvalidInput: missing, not zstandard-compressed UTF-8 text, or too much; the message names the file.
    """
    import zstandard

    try:
        raw = path.read_bytes()
        limit, size = min(limit, max(_ALWAYS, _TIMES * len(raw))), zstandard.frame_content_size(raw)
        if size < 0:
            raise InvalidInput(f"{path}: does not say how large it is unfolded; compress it as a whole")
        if size > limit:
            raise InvalidInput(f"{path}: unfolds to more than {limit} bytes")
        return zstandard.ZstdDecompressor().decompress(raw, allow_extra_data=False).decode()
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not zstandard-compressed UTF-8 text ({error})") from None
