"""Where data and pretrained models come from: local folders in upstream's own formats, else the Hugging Face hub.

A local folder wins over the hub, and what the hub gives is pinned to a revision. Nothing is unpickled. Needs no torch.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import logging
import lzma
import os
import textwrap
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from smcbench import files
from smcbench.errors import InvalidInput, describe

DATA, MODELS, CACHE = "SMCBENCH_DATA", "SMCBENCH_MODELS", "SMCBENCH_CACHE"
"""Environment variables: the folders of data sets, of pretrained models, and of what was prepared from them."""

_PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}
_TORN = (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error)

State = Literal["local", "hub", "missing"]


class Located(NamedTuple):
    """A row as the hub has it, and the place to name if it is wrong: file and line, or hub and row."""

    where: str
    row: dict[str, Any]


class Verdict(NamedTuple):
    """What is to be said of a file: whether its content is known, and which it is."""

    file: str
    known: bool
    text: str


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        names: upstream's own name first; then names under which a part of it goes around. ``.gz`` and ``.xz`` are read.
        rows: rows (examples, images, passages) as published.
        known: SHA-256 of unpacked contents that were seen, and what each is.
        header: lines before the first row.
        malformed: rows that upstream itself broke, and that everybody leaves out.
        optional: whether a task can do without.
    """

    names: tuple[str, ...]
    rows: int
    known: tuple[tuple[str, str], ...] = ()
    header: int = 0
    malformed: int = 0
    optional: bool = False

    def count(self, raw: bytes) -> int | None:
        """The rows in the bytes of such a file, where that can be told without reading it row by row."""
        name = self.names[0]
        if name.endswith((".tsv", ".csv", ".jsonl")):
            return raw.count(b"\n") + (not raw.endswith(b"\n")) - self.header - self.malformed
        if name.endswith("-ubyte"):
            return int.from_bytes(raw[4:8], "big")
        return None


@dataclass(frozen=True)
class Hub:
    """A repository of the hub, pinned to a commit."""

    id: str
    revision: str
    config: str | None = None

    def __str__(self) -> str:
        return f"{self.id}{'/' + self.config if self.config else ''}@{self.revision[:8]}"


@dataclass(frozen=True)
class Contents:
    """A file as it was read.

    Attributes:
        where: its path, for messages.
        raw: its bytes, unpacked.
    """

    where: str
    raw: bytes

    def lines(self) -> Iterator[tuple[str, str]]:
        """Text lines without their ends, each with the place to name if it is wrong; ends of lines are as upstream's.

        Raises:
            InvalidInput: a line is not UTF-8 text.
        """
        parts = self.raw.split(b"\n")
        if parts and not parts[-1]:
            parts.pop()
        for number, part in enumerate(parts, 1):
            here = f"{self.where}:{number}"
            try:
                yield here, part.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
            except UnicodeDecodeError:
                raise InvalidInput(f"{here}: not UTF-8 text") from None


@dataclass(frozen=True)
class Dataset:
    """A public data set: its files, and the hub's copy of it.

    Attributes:
        name: its folder under the data root, such as ``glue/CoLA``.
        url: where upstream describes and offers it.
        form: how the files must be, where upstream's are not read as they are.
    """

    name: str
    licence: str
    url: str
    files: tuple[File, ...]
    hub: Hub | None = None
    form: str = ""

    kind = "data"

    def state(self) -> State:
        """Whether it lies in the local folder, or can be asked of the hub."""
        root = root_of(DATA)
        if root is not None and all(f.optional or _found(root / self.name, f) for f in self.files):
            return "local"
        return "hub" if self.hub is not None and online() else "missing"

    def path(self, file: File) -> Path | None:
        """Where one of its files lies, or None."""
        root = root_of(DATA)
        return _found(root / self.name, file) if root is not None else None

    def read(self, name: str) -> Contents:
        """A local file by its first name, unpacked.

        Raises:
            InvalidInput: it is not there, cannot be read, or its archive is torn.
        """
        path = self.path(next(f for f in self.files if f.names[0] == name))
        if path is None:
            raise self.missing(f"there is no {name}")
        return unpacked(path)

    def has(self, name: str) -> bool:
        """Whether a file, by its first name, is there."""
        return self.path(next(f for f in self.files if f.names[0] == name)) is not None

    def rows(self, split: str) -> Iterator[Located]:
        """The hub's rows of a split, in the hub's order.

        Raises:
            InvalidInput: it has no hub, or the hub does not answer; the message says how to get the data.
        """
        if self.hub is None:
            raise self.missing()
        for number, row in enumerate(hub_split(self.hub, split, self.missing)):
            yield Located(f"{self.hub} {split} row {number}", row)

    def missing(self, why: str = "") -> InvalidInput:
        """The error of a data set that cannot be had: what is missing, and the ways to get it."""
        names = ", ".join(f.names[0] for f in self.files if not f.optional)
        root = root_of(DATA)
        where = f"{root / self.name}" if root is not None else f"${DATA}/{self.name}"
        hub = f"; or let `smcbench data prepare` fetch it from the hub ({self.hub})" if self.hub else ""
        origin = f"from {self.url}{', ' + self.form if self.form else ''}"
        return InvalidInput(
            f"data set {self.name} is missing{': ' + why if why else ''}; put {names} ({origin}) into {where}"
            f"{'' if root is not None else f' and set {DATA}'}{hub}"
        )

    def fetch(self) -> None:
        """See that it is here, or can be had.

        Raises:
            InvalidInput: it is missing.
        """
        if self.state() == "missing":
            raise self.missing()

    def fingerprint(self) -> str:
        """SHA-256 of what would be read now: the files as they lie there, or the hub's commit."""
        if self.state() == "local":
            found = {f.names[0]: path for f in self.files if (path := self.path(f)) is not None}
            return files.digest({name: _sha256_of(path, path.stat().st_mtime_ns) for name, path in found.items()})
        if self.hub is None:
            raise self.missing()
        # Even where the hub cannot be asked: what was prepared from it is in the cache.
        return files.digest([self.hub.id, self.hub.config, self.hub.revision])

    def verify(self) -> list[Verdict]:
        """Each local file against what is known of it; nothing to say if there are none."""
        root = root_of(DATA)
        if root is None or self.state() != "local":
            return []
        said = []
        for file in self.files:
            path = _found(root / self.name, file)
            if path is None:
                said.append(Verdict(file.names[0], True, f"not here; optional, {file.rows:,} rows as published"))
                continue
            raw = unpacked(path).raw
            sha256 = hashlib.sha256(raw).hexdigest()
            rows, edition = file.count(raw), dict(file.known).get(sha256)
            counted = f"{rows:,} of {file.rows:,} rows; " if rows is not None else ""
            if edition is None and not file.known and rows == file.rows:
                edition = "no SHA-256 is on record"
            text = counted + (edition or f"unknown SHA-256 {sha256}")
            said.append(Verdict(path.relative_to(root / self.name).as_posix(), edition is not None, text))
        return said


@dataclass(frozen=True)
class Checkpoint:
    """Pretrained weights on the hub, with their tokenizer, pinned to a commit; or a folder of the same files.

    Attributes:
        name: the hub's id, and the folder under the models root.
        revision: a commit; or a branch, where none could be confirmed.
        sha256: of the weights, where it is known.
        sparse: whether the weights are pruned.
        weights: names of the file of weights, the first that is there counts. A pickle is read as tensors only
            (``weights_only``), which runs no code.
    """

    name: str
    revision: str
    licence: str
    sha256: str | None = None
    sparse: bool = False
    weights: tuple[str, ...] = ("model.safetensors",)

    kind = "model"

    @property
    def url(self) -> str:
        """Its page on the hub."""
        return f"https://huggingface.co/{self.name}"

    def folder(self) -> Path | None:
        """The local folder that holds it, under its full name or its last part."""
        root = root_of(MODELS)
        for name in (self.name, self.name.rpartition("/")[2]):
            if root is not None and (root / name / "config.json").is_file():
                return root / name
        return None

    def state(self) -> State:
        """Whether it lies in a local folder, or can be asked of the hub."""
        return "local" if self.folder() is not None else "hub" if online() else "missing"

    def file(self, name: str) -> Path:
        """One file of it, fetched if need be.

        Raises:
            InvalidInput: it is neither here nor to be had.
        """
        folder = self.folder()
        if folder is not None:
            if not (folder / name).is_file():
                raise InvalidInput(f"{folder}: has no {name}; fetch the whole of {self.name} from {self.url}")
            return folder / name
        from huggingface_hub import hf_hub_download

        return Path(_asked(self.missing, hf_hub_download, self.name, name, revision=self.revision))

    def missing(self, why: str = "") -> InvalidInput:
        """The error of a model that cannot be had."""
        names = ", ".join(dict.fromkeys(["config.json", self.weights[0], "tokenizer.json"]))
        return InvalidInput(
            f"pretrained model {self.name} is missing{': ' + why if why else ''}; put its files ({names} "
            f"from {self.url}, revision {self.revision[:8]}) into "
            f"${MODELS}/{self.name}, or let "
            "`smcbench data prepare` fetch them where the hub can be reached"
        )

    def verified(self) -> Path:
        """The weights, once their SHA-256 is the known one.

        Raises:
            InvalidInput: they are missing, or other weights.
        """
        path = self._weights()
        if self.sha256 is not None and _sha256_of(path, path.stat().st_mtime_ns) != self.sha256:
            raise InvalidInput(f"{path}: not the weights of {self.name}@{self.revision[:8]} (SHA-256 differs)")
        return path

    def fetch(self) -> None:
        """See that configuration and weights are here.

        Raises:
            InvalidInput: they are not, and cannot be had.
        """
        self.file("config.json")
        self.verified()

    def digest(self) -> str:
        """SHA-256 of the weights, which stands for them in an identity: a folder may hold others than its name says."""
        path = self.verified()
        return self.sha256 or _sha256_of(path, path.stat().st_mtime_ns)

    def _weights(self) -> Path:
        for name in self.weights[:-1]:
            with contextlib.suppress(InvalidInput):
                return self.file(name)
        return self.file(self.weights[-1])

    def verify(self) -> list[Verdict]:
        """The local weights against their SHA-256, where that is on record."""
        if self.state() != "local":
            return []
        path = self._weights()
        sha256 = _sha256_of(path, path.stat().st_mtime_ns)
        text = "as published" if sha256 == self.sha256 else f"unknown SHA-256 {sha256}"
        return [Verdict(path.name, sha256 == self.sha256, text)]


Requirement = Dataset | Checkpoint
"""What a task needs that does not come with smcbench; each has a kind, a name, a licence, a state and a url."""


def root_of(variable: str) -> Path | None:
    """The folder an environment variable names, or None."""
    text = os.environ.get(variable)
    return Path(text).expanduser() if text else None


def online() -> bool:
    """Whether the hub may be asked at all."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE")


def unpacked(path: Path) -> Contents:
    """A file, unpacked if it is packed.

    Raises:
        InvalidInput: it cannot be read, or its archive is torn.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return Contents(str(path), _PACKED.get(path.suffix, bytes)(raw))
    except _TORN:
        raise InvalidInput(f"{path}: a torn archive; fetch it again") from None


def _found(folder: Path, file: File) -> Path | None:
    return next(
        (path for name in file.names for suffix in _PACKED if (path := folder / (name + suffix)).is_file()), None
    )


@functools.cache
def _sha256_of(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_split(hub: Hub, split: str, missing: Callable[[str], InvalidInput]) -> Any:
    """A split of the hub's, as ``datasets`` has it.

    Raises:
        InvalidInput: the hub does not answer; made by ``missing`` of the reason.
    """
    import datasets

    return _asked(missing, datasets.load_dataset, hub.id, hub.config, split=split, revision=hub.revision)


_UNREACHABLE = ("ConnectionError", "ConnectError", "ConnectTimeout", "LocalEntryNotFoundError")
_down: list[str] = []
"""Why the hub could not be reached, once it could not: it is not tried again and again."""


def _asked(missing: Callable[[str], InvalidInput], ask: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What the hub gives, or one line: no connection, no such file and no permission all end here."""
    if _down and online():
        raise missing(_down[0])
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would tell of every attempt
    try:
        return ask(*args, **options)
    except Exception as error:
        if not online():
            raise missing("") from None
        why = f"the hub did not answer ({textwrap.shorten(describe(error), 100, placeholder='...')})"
        if type(error).__name__ in _UNREACHABLE:
            _down.append(why)
        raise missing(why) from None
    finally:
        logger.setLevel(level)


# -- what was prepared once


def cache_folder() -> Path:
    """Where prepared data lie: ``$SMCBENCH_CACHE``, or ``smcbench`` under the user's cache folder."""
    named = root_of(CACHE)
    return named if named is not None else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smcbench"


def prepared(kind: str, key: Mapping[str, Any], build: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays by name, memory-mapped; built and written the first time, whole or not at all.

    Args:
        kind: a folder name, for people who look.
        key: all that decides the contents, as JSON; among it the fingerprint of the source.
        build: makes the arrays.
    """
    import shutil
    import tempfile

    import numpy as np

    folder = cache_folder() / kind / files.digest(key)[:24]
    if not folder.is_dir():
        arrays, begun = build(), None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            begun = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            begun.chmod(0o777 & ~files.UMASK)  # a cache may be shared
            for name, array in arrays.items():
                np.save(begun / f"{name}.npy", array, allow_pickle=False)
            try:
                begun.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was first, with the same arrays
                    raise
        except OSError as error:
            raise InvalidInput(
                f"{folder.parent}: cannot be written ({error.strerror}); free some space or set {CACHE}"
            ) from error
        finally:
            if begun is not None:
                shutil.rmtree(begun, ignore_errors=True)
    try:
        if not any(folder.iterdir()):
            raise OSError("it is empty")
        return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder}: cannot be read ({error}); delete it, and it is made again") from None
