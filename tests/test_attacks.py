"""Hostile submissions: each is refused in one clear line that names the file, soon, in little memory.

Every attack starts from an honest submission, changes one thing, and mends the digests of the manifest, so that nothing
but the thing itself can be what is refused.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import resource
import signal
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from records import BATTERY, DIGESTS
from safetensors.numpy import save

from smcbench import files
from smcbench.cli import main
from smcbench.errors import InvalidInput
from smcbench.results import predictions, shape
from smcbench.results.battery import Battery, Entry
from smcbench.results.record import RunSpec
from smcbench.results.submission import CARD, MANIFEST, RECORDS, BatteryRef, read_submission

PREDICTIONS, OUTCOMES, WEIGHTS = (
    "predictions/digits.jsonl.zst",
    "outcomes/digits.json.zst",
    "weights/digits.safetensors",
)
NAME = "honest"
MINI = replace(BATTERY, name="mini")
"""Of the name whose submissions may be small only."""
DIGITS = 1
"""Which record has the weights."""
SECONDS, MEMORY = 2.0, 500_000_000
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


class Folder:
    """A submission to be tampered with; all changes leave the digests of the manifest right."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, raw: bytes | str) -> None:
        """Replace a file and its digest."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw)
        if name != MANIFEST:
            self.change_manifest(lambda m: m["files"].update({name: files.sha256(path.read_bytes())}))

    def text(self, name: str) -> str:
        return (self.path / name).read_text()

    def change_manifest(self, change: Callable[[dict[str, Any]], Any]) -> None:
        value = json.loads(self.text(MANIFEST))
        change(value)
        self.put(MANIFEST, json.dumps(value))

    def change_records(self, change: Callable[[list[dict[str, Any]]], Any]) -> None:
        values = [json.loads(line) for line in self.text(RECORDS).splitlines()]
        change(values)
        self.put(RECORDS, "".join(json.dumps(value) + "\n" for value in values))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Those of a compressed file."""
        return [json.loads(line) for line in predictions.unfold(self.path / name, 1 << 20).splitlines()]

    def put_lines(self, name: str, lines: Sequence[Any]) -> None:
        self.put(name, predictions.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


Change = Callable[[Folder], Any]


@cache
def honest() -> dict[str, bytes]:
    """The files of a small submission: two tasks, outcomes, weights, a card; some cells are missing."""
    import tempfile

    first, mask = folders.weighed(folders.method("omp", [90.0])[0], [i % 2 == 0 for i in range(10)])
    records = [first, *folders.method("omp", [90.0, 85.0])[1:], *folders.method("omp", [80.0], task="cldr-2to2")]
    with tempfile.TemporaryDirectory() as at:
        made = folders.write(
            Path(at) / NAME, records, battery=MINI, more={WEIGHTS: mask, CARD: b"# A method\n"}, authors="A. Author"
        )
        return folders.contents(made)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return laid_out(tmp_path / "board" / NAME)


def laid_out(at: Path) -> Folder:
    for name, raw in honest().items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(raw)
    return Folder(at)


# -- what may be changed


def at(path: str, value: Any, name: str = MANIFEST, *, renew: bool = False) -> Change:
    """Set a value in the manifest, or in the record with the weights; a text ``@X`` stands for X, raw."""

    def change(tree: Any) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in way:
            tree = tree[key]
        tree[last] = value

    def changed(folder: Folder) -> None:
        if name == MANIFEST:
            folder.change_manifest(change)
        else:
            folder.change_records(lambda records: (change(records[DIGITS]), renew and renewed(records[DIGITS])))
        if isinstance(value, str) and value.startswith("@"):
            folder.put(name, folder.text(name).replace(json.dumps(value), value[1:]))

    return changed


def record(path: str, value: Any, *, renew: bool = False) -> Change:
    return at(path, value, RECORDS, renew=renew)


def every_record(path: str, value: Any, only: Sequence[int] | None = None) -> Change:
    """Set a value in several records, with their run ids, and in what else names them."""

    def changed(folder: Folder) -> None:
        names: dict[str, str] = {}

        def change(records: list[dict[str, Any]]) -> None:
            for number in range(len(records)) if only is None else only:
                *way, last = path.split("/")
                tree = records[number]
                for key in way:
                    tree = tree[key]
                tree[last] = value
                old = records[number]["run"]
                names[old] = renewed(records[number])

        folder.change_records(change)
        follow(folder, names)

    return changed


def renewed(value: dict[str, Any]) -> str:
    """Give a record the run id that its spec has."""
    value["run"] = RunSpec.from_json(value["spec"]).run_id(value["provenance"]["engine"])
    return str(value["run"])


def follow(folder: Folder, names: dict[str, str]) -> None:
    """Rename runs in predictions, outcomes and weights."""
    for name in (
        PREDICTIONS,
        OUTCOMES,
        PREDICTIONS.replace("digits", "cldr-2to2"),
        OUTCOMES.replace("digits", "cldr-2to2"),
    ):
        raw = predictions.unfold(folder.path / name, 1 << 20)
        for old, new in names.items():
            raw = raw.replace(old, new)
        folder.put(name, predictions.compress(raw.encode()))
    raw_weights = (folder.path / WEIGHTS).read_bytes()
    for old, new in names.items():
        raw_weights = raw_weights.replace(old.encode(), new.encode())
    folder.put(WEIGHTS, raw_weights)


def put(name: str, raw: bytes | str | Callable[[], bytes | str]) -> Change:
    return lambda folder: folder.put(name, raw() if callable(raw) else raw)


def beside(name: str, raw: bytes = b"x") -> Change:
    """A file that the manifest does not name."""

    def change(folder: Folder) -> None:
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)

    return change


def stale(name: str, change: Callable[[bytes], bytes]) -> Change:
    """Change a file, but not its digest."""
    return lambda folder: (folder.path / name).write_bytes(change((folder.path / name).read_bytes()))


def swapped(old: str, new: str, name: str) -> Change:
    return lambda folder: folder.put(name, folder.text(name).replace(old, new))


def linked(name: str, kind: str = "file") -> Change:
    """Put a link where a file or a folder was, to the same outside."""

    def change(folder: Folder) -> None:
        path, away = folder.path / name, folder.path.parent.parent / "away"
        os.rename(path, away)
        path.symlink_to(away, target_is_directory=kind == "folder")

    return change


def special(name: str, make: Callable[[Path], Any]) -> Change:
    """Put something that is no file where a file was."""

    def change(folder: Folder) -> None:
        (folder.path / name).unlink()
        make(folder.path / name)

    return change


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/{path.name}")  # the name of a socket may have 107 bytes only
        finally:
            os.close(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root can make a device")


def lines(change: Callable[[list[dict[str, Any]]], Any], name: str = PREDICTIONS) -> Change:
    """Change the predictions, and nothing that tells of them."""

    def changed(folder: Folder) -> None:
        found = folder.lines(name)
        change(found)
        folder.put_lines(name, found)

    return changed


def outcomes(**values: Any) -> Change:
    def changed(folder: Folder) -> None:
        (found,) = folder.lines(OUTCOMES)
        for key, value in values.items():
            found[key] = value(found[key]) if callable(value) else value
        folder.put_lines(OUTCOMES, [found])

    return changed


def every(value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The same outcomes for all runs."""
    return lambda runs: dict.fromkeys(runs, value)


def unfolding(size: int, declared: int | None = None, byte: bytes = b"0") -> bytes:
    """A Zstandard frame that repeats a byte, a few bytes for each 128 KiB; it may declare its size, or another."""
    head = b"\x28\xb5\x2f\xfd" + (b"\x00\x58" if declared is None else b"\xc0\x58" + declared.to_bytes(8, "little"))
    block, blocks = 1 << 17, []
    for begin in range(0, size, block):
        length = min(block, size - begin)
        blocks.append(((length << 3) | 2 | (begin + length >= size)).to_bytes(3, "little") + byte)
    return head + b"".join(blocks)


def lists() -> bytes:
    """60 MB of JSON that take twenty times as much in memory."""
    return zstandard.ZstdCompressor(level=1).compress(b"[" + b"[]," * 20_000_000 + b"[]]")


def header(change: Callable[[dict[str, Any]], Any], data: Callable[[bytes], bytes] = lambda data: data) -> Change:
    """Change the header of the weights, or what follows it."""

    def changed(folder: Folder) -> None:
        raw = (folder.path / WEIGHTS).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        value = json.loads(raw[8 : 8 + length])
        change(value)
        folder.put(WEIGHTS, framed(json.dumps(value), data(raw[8 + length :])))

    return changed


def framed(text: str, data: bytes) -> bytes:
    raw = text.encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + data


def weights(change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: folder.put(WEIGHTS, change((folder.path / WEIGHTS).read_bytes()))


def twin_tensor(raw: bytes) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    text = raw[8 : 8 + length].decode().rstrip()
    return framed(text[:-1] + "," + text[text.index('"fc"') :], raw[8 + length :])


def words(*values: int) -> Callable[[bytes], bytes]:
    """The five kept values, as bits of float32, before the mask."""
    return lambda data: struct.pack("<5I", *values) + data[20:]


def deep(levels: int) -> str:
    return "@" + "[" * levels + "]" * levels


def many_keys(count: int) -> str:
    return "@{" + ",".join(f'"k{i}":1' for i in range(count)) + ',"k0":1}'


# -- the attacks


@dataclass(frozen=True)
class Attack:
    """What is changed, the file that the complaint names, and words of it."""

    name: str
    change: Change
    file: str
    told: str


ONE = 0x3F800000
"""1.0 as bits of a float32."""
TASK = "battery/tasks/0/task"
NAMES = [
    ("climbs", "../honest"), ("is-absolute", "/etc/passwd"), ("is-a-folder-up", ".."), ("is-hidden", ".honest"),
    ("is-upper-case", "Honest"), ("looks-alike", "hоnest"), ("is-full-width", "ｈonest"),
    ("ends-with-a-dot", "honest."),
    ("has-nul", "honest\0.txt"), ("is-overlong", "h" * 65), ("has-a-newline", "honest\n"), ("is-a-device", "con"),
    ("is-a-device-with-ending", "nul.txt"), ("is-empty", ""), ("has-a-backslash", "a\\b"), ("is-markup", SCRIPT),
    ("is-bidirectional", "honest\u202e"), ("is-a-number", 7), ("is-null", None),
    ("is-a-list", ["honest"]),
]  # fmt: skip
FILES = [
    "../evil.jsonl", "/etc/passwd", "predictions/../../evil", "predictions/digits.jsonl.zst/../../../evil",
    "predictions//digits.jsonl.zst", "./records.jsonl", "Records.jsonl", "records.jsonl.", "records.jsonl\0",
    "predictions\\digits.jsonl.zst", "predictions/DIGITS.jsonl.zst", "predictions/dіgits.jsonl.zst", "manifest.json",
    "__init__.py", "conftest.py", "evil.pth", "predictions/other.jsonl.zst", "weights/digits.pt", "", "a" * 100_000,
]  # fmt: skip
NUMBERS = [
    "@NaN", "@Infinity", "@-Infinity", "@1e400", "@-1e999999999", "@1" + "0" * 4000, "@1" + "0" * 100_000,
    "1", None, True, [], {},
]  # fmt: skip
EXTRAS = [
    "evil.py", "__init__.py", "evil.pth", "setup.cfg", "conftest.py", "weights/digits.pt", "records.jsonl.bak",
    ".gitattributes", "predictions/.hidden", "naïve.txt", "a\nb.txt", "\x1b]0;evil\x07.txt", "Manifest.json",
]  # fmt: skip


def attacks() -> Iterator[Attack]:
    """All of them."""
    # names and places
    for what, value in NAMES:
        yield Attack(f"name-{what}", at("name", value), MANIFEST, "name: must be a text like")
    for number, name in enumerate(FILES):
        told = "is no file of a submission"
        yield Attack(f"file-{number}", named_file(name), MANIFEST, told)
        yield Attack(f"elsewhere-{number}", elsewhere(name), MANIFEST, told)
    for value in ("../evil", "/etc/passwd", "..", "evil.py:X", "digits@evil.py:X", "digits@/../evil.py:X", "os:system",
                  "dіgits", "digits\0", "a\\b", SCRIPT):  # fmt: skip
        yield Attack(f"task-{value[:12]!r}", task_called(value), MANIFEST, "task")
    yield Attack("task-case-trick", twin_task("Digits"), MANIFEST, "would share their files")
    yield Attack("task-slug-trick", twin_task("digits."), MANIFEST, "would share their files")
    yield Attack("elsewhere-in-the-folder", elsewhere(WEIGHTS), MANIFEST, "must be weights that are not in the folder")
    yield Attack("elsewhere-records", elsewhere(RECORDS), MANIFEST, "must be weights that are not in the folder")
    yield Attack(
        "elsewhere-of-less-than-nothing", elsewhere("weights/cldr-2to2.safetensors", -1), MANIFEST, "elsewhere"
    )
    for name, kind in ((RECORDS, "file"), (MANIFEST, "file"), (WEIGHTS, "file"), ("predictions", "folder")):
        yield Attack(f"link-{name}", linked(name, kind), name, "is a link")
    yield Attack("link-dangling", special(CARD, lambda p: p.symlink_to("/nowhere")), CARD, "is a link")
    yield Attack("link-around", special(CARD, lambda p: p.symlink_to(".")), CARD, "is a link")
    for what, make in (("fifo", os.mkfifo), ("socket", bound), ("device", device)):
        for name in (MANIFEST, RECORDS, WEIGHTS):
            yield Attack(f"{what}-{name}", special(name, make), name, "is no plain file")
    yield Attack("folder-for-a-file", special(WEIGHTS, Path.mkdir), WEIGHTS, "is no folder of a submission")
    yield Attack("folder-extra", beside("src/a"), "src", "is no folder of a submission")
    yield Attack(
        "folder-nested", beside("predictions/weights/a"), "predictions/weights", "is no folder of a submission"
    )
    for number, name in enumerate(EXTRAS):
        yield Attack(f"extra-{number}", beside(name), "", "the manifest does not name this file")

    # sizes
    yield Attack("size-manifest", put(MANIFEST, lambda: " " * 70_000_000), MANIFEST, "bytes")
    yield Attack("size-manifest-of-lists", put(MANIFEST, lambda: "[" + "[]," * 3_000_000 + "[]]"), MANIFEST, "bytes")
    yield Attack("size-records", put(RECORDS, "\n" * 1_000_001), RECORDS, "bytes; on mini a file may have 1,000,000")
    yield Attack("size-extra", beside("core", b"\0" * 70_000_000), "core", "bytes")
    yield Attack("size-sparse-file", special(CARD, lambda p: (p.touch(), os.truncate(p, 1 << 40))), CARD, "bytes")
    yield Attack("size-folder", too_much, "", "on mini a submission may have 3,000,000")
    for what, raw in (
        ("2-gb", unfolding(2 << 30)), ("2-gb-declared", unfolding(2 << 30, 2 << 30)), ("200-mb", unfolding(200 << 20)),
        ("lies-small", unfolding(2 << 30, 10)), ("lies-large", unfolding(10, 1 << 62)), ("lists", lists),
        ("two-frames", unfolding(10, 10) + unfolding(2 << 30, 2 << 30)),
        ("nested", predictions.compress(unfolding(1 << 30))),
        ("torn", unfolding(1 << 20)[:-9]), ("no-zstandard", b"PK\x03\x04" + b"\0" * 100), ("empty", b""),
        ("2-gb-number", predictions.compress(b'{"id":1') + unfolding(2 << 30)),
    ):  # fmt: skip
        yield Attack(f"bomb-predictions-{what}", put(PREDICTIONS, raw), PREDICTIONS, "")
        yield Attack(f"bomb-outcomes-{what}", put(OUTCOMES, raw), OUTCOMES, "")
    yield Attack("bomb-of-many-examples", outcomes(n=1 << 26, runs={}), OUTCOMES, "n")
    yield Attack("bomb-of-parts", record("sparsity/parts", 10**9), RECORDS, "parts")
    yield Attack("bomb-of-cells", at("battery/seeds", list(range(60_000))), MANIFEST, "cells")
    yield Attack("bomb-of-keys", at("authors", many_keys(40_000)), MANIFEST, "'k0' stands twice")

    # JSON
    for name in (MANIFEST, RECORDS):
        for what, raw in (
            ("is-empty", b""), ("is-binary", bytes(range(256))), ("is-utf-16", "{}".encode("utf-16")),
            ("has-a-bom", b"\xef\xbb\xbf" + honest()[name]), ("is-no-object", b"[]\n"), ("is-two", honest()[name] * 2),
            ("is-an-lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64),
            ("is-a-pickle", pickle.dumps({"a": 1})), ("is-torn", honest()[name][:-40]), ("is-nul", b"\0" * 100),
            ("is-a-number-of-many-digits", b"1" * 900_000), ("is-deep", b"[" * 400_000),
            ("is-deep-in-objects", b'{"a":' * 100_000),
        ):  # fmt: skip
            yield Attack(f"{name}-{what}", put(name, raw), name, "")
        yield Attack(
            f"{name}-twice-a-key", swapped('"schema"', '"schema": 1, "schema"', name), name, "'schema' stands twice"
        )
        yield Attack(f"{name}-unknown-key", at("evil", 1, name), name, "unknown key 'evil'")
        yield Attack(f"{name}-unknown-long-key", at("e" * 500_000, 1, name), name, "unknown key")
        yield Attack(f"{name}-unknown-key-of-the-terminal", at("\x1b[2J\n::error::", 1, name), name, "unknown key")
        for value in (0, 3, "2", -1, 2.0, True, None, [2], 10**400, "__class__"):
            yield Attack(f"{name}-schema-{str(value)[:9]}", at("schema", value, name), name, "schema")
    yield Attack("crlf-records", put(RECORDS, honest()[RECORDS].replace(b"\n", b"\r\n")), RECORDS, "line")
    yield Attack("cr-records", put(RECORDS, honest()[RECORDS].replace(b"\n", b"\r")), RECORDS, "line")
    for place in ("sparsity/measured", "cost/train_flops", "conduct/regrown", "metric/chance", "scores/accuracy",
                  "sparsity/layers/fc.weight", "spec/budget", "spec/sparsity"):  # fmt: skip
        for value in NUMBERS:
            yield Attack(f"number-{place}-{str(value)[:12]}", record(place, value), RECORDS, "")
    for place in ("battery/margin", "battery/tasks/0/budget", "battery/tasks/0/sparsities/0"):
        for value in NUMBERS:
            yield Attack(f"number-{place}-{str(value)[:12]}", at(place, value), MANIFEST, "")
    for value in ("@NaN", "@1e400", deep(900), "@[Infinity]", r'@"\ud800"', "\x1b[2J", ["a\x1b"], {"\x9b": 1}):
        yield Attack(f"parameter-{str(value)[:9]!r}", record("spec/sparsifier/parameters/a", value), RECORDS, "")
    for place in ("spec/seed", "cost/steps", "sparsity/kept", "sparsity/denominators/scope/zeros"):
        for value in (1.0, "1", True, None, -1, 10**4000):
            yield Attack(f"count-{place}-{str(value)[:9]}", record(place, value), RECORDS, "")

    # texts
    for text in ("a\nb", "\x1b[2J", "\x9b2J", "\u202egnp", "\u2028", "x" * 201, "", "a\0", 1, ["a"]):
        yield Attack(f"authors-{str(text)[:9]!r}", at("authors", text), MANIFEST, "authors: must be a text")
    for place in ("device", "torch", "python", "smcbench", "commit"):
        for text in ("\x1b[2Jcpu", "a\n::error::", "x" * 1000):
            yield Attack(
                f"{place}-{text[:5]!r}", record(f"provenance/{place}", text), RECORDS, f"{place}: must be a text"
            )
    for place in ("run", "digests/mask", "category/when", "provenance/created", "provenance/source/task"):
        yield Attack(f"markup-{place}", record(place, SCRIPT), RECORDS, place.rpartition("/")[2])
    for place in ("battery/digest", "battery/tasks/0/digest", "schema", "name"):
        yield Attack(f"markup-{place}", at(place, SCRIPT), MANIFEST, place.rpartition("/")[2])
    yield Attack("score-key-of-the-terminal", record("scores", {"accuracy": 90.0, "\x1b[2J\n": 1.0}), RECORDS, "scores")
    yield Attack("score-key-is-long", record("scores", {"accuracy": 90.0, "x" * 300_000: "1"}), RECORDS, "scores")
    yield Attack("layer-key-of-the-terminal", record("sparsity/layers", {"fc\x1b": 0.5}), RECORDS, "layers")
    for what, raw in (
        ("is-binary", b"\x7fELF" + bytes(range(256))), ("is-huge", b"a" * 60_000), ("has-escapes", b"\x1b[2J"),
        ("has-nul", b"a\0b"), ("is-utf-16", "card".encode("utf-16")), ("has-c1-controls", "\x9b2J".encode()),
        ("is-bidirectional", "\u202e".encode()),
    ):  # fmt: skip
        yield Attack(f"card-{what}", put(CARD, raw), CARD, "")

    # digests
    for name in (RECORDS, CARD, PREDICTIONS, OUTCOMES, WEIGHTS):
        yield Attack(f"stale-{name}", stale(name, lambda raw: raw + b"\n"), name, "it was changed")
        yield Attack(f"gone-{name}", special(name, lambda path: None), name, "cannot be read")
    yield Attack("gone-manifest", special(MANIFEST, lambda path: None), MANIFEST, "no such file")
    yield Attack(
        "stale-by-line-ends", stale(RECORDS, lambda raw: raw.replace(b"\n", b"\r\n")), RECORDS, "it was changed"
    )
    yield Attack(
        "short-digest",
        lambda f: f.change_manifest(lambda m: m["files"].update({RECORDS: m["files"][RECORDS][:8]})),
        RECORDS,
        "it was changed",
    )

    # batteries
    yield Attack("battery-digest-forged", at("battery/digest", "ab" * 32), MANIFEST, "the digest is not that of")
    yield Attack("battery-widened", at("battery/margin", 0.5), MANIFEST, "the digest is not that of")
    for what, entry in (
        ("margin-below-nothing", {"margin": -0.5}), ("margin-of-all", {"margin": 1.0}),
        ("seed-twice", {"seeds": (0, 1, 1)}),
        ("seed-negative", {"seeds": (0, 1, -2)}), ("no-seeds", {"seeds": ()}), ("no-tasks", {"tasks": ()}),
        ("sparsity-of-all", {"tasks": (Entry("digits", (0.5, 1.0)), Entry("cldr-2to2", (0.5,)))}),
        ("sparsity-negative", {"tasks": (Entry("digits", (0.5, -0.5)), Entry("cldr-2to2", (0.5,)))}),
        ("sparsity-twice", {"tasks": (Entry("digits", (0.5, 0.5)), Entry("cldr-2to2", (0.5,)))}),
        ("budget-of-nothing", {"tasks": (*MINI.tasks, Entry("digits", (0.5,), 0.0))}),
        ("task-twice", {"tasks": (Entry("digits", (0.5,)), Entry("digits", (0.5,)), Entry("cldr-2to2", (0.5,)))}),
    ):  # fmt: skip
        yield Attack(f"battery-{what}", battery(replace(MINI, **entry)), MANIFEST, "battery")
    yield Attack("battery-of-two-digests", two_digests, MANIFEST, "digest")
    yield Attack("missing-says-too-little", at("missing", []), MANIFEST, "missing: not the cells")
    yield Attack(
        "missing-twice",
        lambda f: f.change_manifest(lambda m: m["missing"].append(m["missing"][0])),
        MANIFEST,
        "missing",
    )
    yield Attack(
        "missing-elsewhere",
        lambda f: f.change_manifest(lambda m: m["missing"][0].update(task="evil")),
        MANIFEST,
        "missing",
    )

    # records
    yield Attack("run-does-not-fit", record("run", "ab" * 6), RECORDS, "it was edited")
    yield Attack("spec-edited", record("spec/seed", 2), RECORDS, "it was edited")
    yield Attack("seed-of-another-battery", record("spec/seed", 7, renew=True), RECORDS, "the battery has no cell")
    yield Attack(
        "budget-of-another-battery", record("spec/budget", 3.0, renew=True), RECORDS, "the battery has no cell"
    )
    yield Attack(
        "record-twice",
        lambda f: f.put(RECORDS, f.text(RECORDS) + f.text(RECORDS).splitlines()[0] + "\n"),
        RECORDS,
        "stands twice",
    )
    yield Attack("records-none", put(RECORDS, "\n"), RECORDS, "holds no record")
    yield Attack(
        "task-of-another-version", record("spec/task/digest", "ee" * 32, renew=True), RECORDS, "another version"
    )
    yield Attack("task-of-nowhere", record("spec/task/name", "evil", renew=True), RECORDS, "is another task")
    yield Attack(
        "sparsifier-of-another-version", record("spec/sparsifier/version", 2, renew=True), RECORDS, "different versions"
    )
    yield Attack(
        "engine-of-another-version", record("provenance/engine", 99, renew=True), RECORDS, "different versions"
    )
    yield Attack(
        "parameters-of-another",
        record("spec/sparsifier/parameters", {"a": 1}, renew=True),
        RECORDS,
        "different versions",
    )
    yield Attack("label-of-another", record("spec/sparsifier/label", "rigl"), RECORDS, "a record of rigl")
    yield Attack("two-methods-under-one-label", record("spec/sparsifier/name", "rigl", renew=True), RECORDS, "rigl")
    yield Attack("label-of-another-method", every_record("spec/sparsifier/name", "rigl"), RECORDS, "rigl")
    yield Attack("chance-forged", every_record("metric/chance", -1000.0, [DIGITS]), RECORDS, "metric")
    yield Attack("metric-turned", every_record("metric/higher_is_better", False, [DIGITS]), RECORDS, "metric")
    yield Attack("scope-forged", every_record("spec/task/scope", "mine", [DIGITS]), RECORDS, "scope")
    yield Attack("metric-not-scored", record("metric/name", "f1"), RECORDS, "which is the metric")
    yield Attack("score-above-all", record("scores/accuracy", 101.0), RECORDS, "per cent")
    yield Attack("score-edited", record("scores/accuracy", 90.1), OUTCOMES, "by its outcomes")
    for key in ("steps", "gradient_evaluations", "train_flops", "seconds", "seconds_cached", "inference_flops"):
        yield Attack(f"cost-negative-{key}", record(f"cost/{key}", -1), RECORDS, f"cost: {key} is -1")
    yield Attack("cost-of-all-the-world", record("cost/train_flops_dense", 1e40), RECORDS, "which no run costs")
    yield Attack("cost-above-dense", record("cost/train_flops", 1e9), RECORDS, "of the same, dense")
    yield Attack("inference-above-dense", record("cost/inference_flops", 11.0), RECORDS, "of the dense network")
    yield Attack("cost-of-no-budget", record("cost/budget_flops", 0.0), RECORDS, "can be 0")
    yield Attack(
        "category-prettier",
        record("category", {"when": "before", "start": "dense-to-sparse", "mask": "static"}),
        RECORDS,
        "its conduct",
    )
    yield Attack("category-dynamic", record("category/mask", "dynamic"), RECORDS, "its conduct")
    yield Attack("conduct-contradicts", record("conduct/mask_updates", 0), RECORDS, "do not fit each other")
    yield Attack("conduct-beyond", record("conduct/peak_density", 1.5), RECORDS, "peak_density")
    yield Attack(
        "zeros-above-weights", record("sparsity/denominators/linear", {"weights": 10, "zeros": 11}), RECORDS, "linear"
    )
    yield Attack("zeros-claimed", record("sparsity/measured", 0.9), RECORDS, "does not add up")
    yield Attack(
        "layers-contradict", record("sparsity/layers", {"fc.weight": 0.9}), RECORDS, "no mean of the densities"
    )
    yield Attack("layers-above-one", record("sparsity/layers", {"fc.weight": 1.5}), RECORDS, "density")
    for when in ("2999-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "yesterday", "0000-00-00", "", "2026-13-01"):
        yield Attack(f"clock-{when[:10]}", record("provenance/created", when), RECORDS, "created")

    # predictions and outcomes
    yield Attack(
        "predictions-of-validation",
        lines(lambda ls: [x.update(id="v" + x["id"]) for x in ls]),
        PREDICTIONS,
        "are not those of its record",
    )
    yield Attack(
        "predictions-of-another-task",
        lambda f: f.put(PREDICTIONS, (f.path / PREDICTIONS.replace("digits", "cldr-2to2")).read_bytes()),
        PREDICTIONS,
        "are not those of its record",
    )
    yield Attack("predictions-fewer", lines(lambda ls: ls.pop()), PREDICTIONS, "are not those of its record")
    yield Attack(
        "predictions-more",
        lines(lambda ls: ls.append({**ls[0], "id": "more"})),
        PREDICTIONS,
        "are not those of its record",
    )
    yield Attack("predictions-twice", lines(lambda ls: ls.append(ls[0])), PREDICTIONS, "stands twice")
    yield Attack(
        "predictions-swapped", lines(lambda ls: ls[0].update(prediction=9)), PREDICTIONS, "are not those of its record"
    )
    yield Attack(
        "predictions-of-other-runs",
        lines(lambda ls: ls.append({**ls[0], "run": "f" * 12})),
        PREDICTIONS,
        "which has no record",
    )
    yield Attack(
        "predictions-of-a-run-of-the-terminal",
        lines(lambda ls: ls.append({**ls[0], "run": "\x1b[2J\n" * 99_999})),
        PREDICTIONS,
        "which has no record",
    )
    yield Attack(
        "predictions-none",
        lambda f: (special(PREDICTIONS, lambda p: None)(f), f.change_manifest(lambda m: m["files"].pop(PREDICTIONS))),
        PREDICTIONS,
        "there must be predictions",
    )
    for text in ("NaN", "Infinity", "1e400", "[" * 900 + "]" * 900, "[" * 99_999, '"\\ud800"', "1" * 5000, "{}}"):
        yield Attack(f"prediction-{text[:9]}", one_prediction(text), PREDICTIONS, "")
    for key, value in (("id", 1), ("run", None), ("evil", 1)):
        yield Attack(f"predictions-{key}", lines(lambda ls, k=key, v=value: ls[0].update({k: v})), PREDICTIONS, "")
    yield Attack("outcomes-edited", outcomes(runs=every("1" * 20)), OUTCOMES, "by its outcomes")
    yield Attack("outcomes-of-fewer", outcomes(n=10, runs=every("1" * 9 + "0")), OUTCOMES, "")
    yield Attack("outcomes-of-others", outcomes(examples="ab" * 32), OUTCOMES, "other examples")
    yield Attack("outcomes-longer", outcomes(runs=every("1" * 21)), OUTCOMES, "must be a text of 20 times")
    yield Attack("outcomes-of-markup", outcomes(kind=SCRIPT), OUTCOMES, "kind must be one of")
    yield Attack("outcomes-of-a-list-kind", outcomes(kind=["accuracy"]), OUTCOMES, "kind must be one of")
    yield Attack(
        "outcomes-without-a-run",
        outcomes(runs=lambda runs: dict(itertools.islice(runs.items(), 1))),
        OUTCOMES,
        "has no outcomes",
    )
    yield Attack(
        "outcomes-of-another-run",
        outcomes(runs=lambda runs: {**runs, "f" * 12: "1" * 20}),
        OUTCOMES,
        "which has no record",
    )
    yield Attack("outcomes-of-no-number", outcomes(kind="bleu", runs=every([[1] * 8 + [0, 0]] * 20)), OUTCOMES, "")
    for value in (float("nan"), 1e200, 10**400, "1", True, None):
        yield Attack(f"outcomes-{str(value)[:9]}", outcomes(kind="mean", runs=every([value] * 20)), OUTCOMES, "")
    for n in (0, -1, True, 20.0, 21, 10**400, 1 << 62, "20"):
        yield Attack(f"outcomes-n-{str(n)[:9]}", outcomes(n=n), OUTCOMES, "")
    yield Attack(
        "outcomes-of-heavy-groups", outcomes(groups=[0] * 10 + [1] * 10, weights=[2.0, -1.0]), OUTCOMES, "weights"
    )
    yield Attack(
        "outcomes-of-gapped-groups", outcomes(groups=[0] * 10 + [2] * 10, weights=[0.5, 0.5]), OUTCOMES, "groups"
    )
    yield Attack("outcomes-of-far-groups", outcomes(groups=[0] * 19 + [1e99], weights=[1]), OUTCOMES, "groups")
    yield Attack("outcomes-of-half-units", outcomes(units=[0.5] * 20), OUTCOMES, "units")

    # weights
    for what, raw in (
        ("is-a-pickle", pickle.dumps({"fc": [1.0]})), ("is-empty", b""), ("is-torch", b"PK\x03\x04" + b"\0" * 200),
        ("is-numpy", b"\x93NUMPY" + b"\0" * 99), ("has-a-header-of-2-63", (1 << 63).to_bytes(8, "little") + b"{}" * 40),
        ("has-a-header-of-no-bytes", (0).to_bytes(8, "little")),
        ("has-a-header-that-is-torn", (800).to_bytes(8, "little") + b'{"a'),
        ("is-another-safetensors", save({"fc": np.ones(10, np.float32)})),
        ("is-deep", framed('{"a":' + "[" * 90_000, b"")),
        ("is-deep-but-closed", framed('{"a":' + "[" * 900 + "]" * 900 + "}", b"")),
        ("is-a-list", framed("[1,2,3]", b"")),
        ("has-a-header-of-utf-16", framed("{}", b"").replace(b"{}", b"\xff\xfe")),
        ("has-a-surrogate", framed('{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', b"")),
    ):  # fmt: skip
        yield Attack(f"weights-{what}", put(WEIGHTS, raw), WEIGHTS, "")
    yield Attack("weights-twin-tensor", weights(twin_tensor), WEIGHTS, "stands twice")
    yield Attack("weights-more-bytes", weights(lambda raw: raw + b"\0" * 8), WEIGHTS, "belong to no tensor")
    yield Attack("weights-fewer-bytes", weights(lambda raw: raw[:-1]), WEIGHTS, "")
    for what, offsets in (
        ("overlap", [4, 24]), ("gap", [8, 28]), ("out-of-bounds", [0, 1 << 30]), ("backwards", [20, 0]),
        ("negative", [-4, 16]),
        ("far", [1 << 63, (1 << 63) + 20]), ("three", [0, 4, 20]), ("texts", ["0", "20"]), ("true", [False, 20]),
        ("floats", [0.0, 20.0]), ("null", None), ("empty", [0, 0]),
    ):  # fmt: skip
        yield Attack(
            f"weights-offsets-{what}", header(lambda h, o=offsets: h["fc"].update(data_offsets=o)), WEIGHTS, "'fc'"
        )
    yield Attack("weights-of-one-place", header(lambda h: h["mask/fc"].update(data_offsets=[0, 2])), WEIGHTS, "")
    yield Attack(
        "weights-misaligned",
        header(lambda h: (h["mask/fc"].update(data_offsets=[0, 2]), h["fc"].update(data_offsets=[2, 22]))),
        WEIGHTS,
        "no multiple",
    )
    for dtype in ("F8_E4M3", "f32", "I32", "F64", "BOOL", "U64", "object", "", None, ["F32"], SCRIPT, "F32\0"):
        yield Attack(f"weights-type-{str(dtype)[:9]}", header(lambda h, d=dtype: h["fc"].update(dtype=d)), WEIGHTS, "")
    for size in ([4], [6], [-5], [5, 1 << 62], [1 << 31, 1 << 31], [5.0], "5", [[5]], [1] * 9, [True] * 5, [], [0]):
        yield Attack(
            f"weights-shape-{str(size)[:14]}", header(lambda h, s=size: h["fc"].update(shape=s)), WEIGHTS, "'fc'"
        )
    for size in ([17], [8], [100], [1 << 30] * 8, [-10], [10.0], "10", [0], [], None):
        yield Attack(f"weights-unfolding-{str(size)[:14]}", meta(shapes=json.dumps({"fc": size})), WEIGHTS, "")
    yield Attack(
        "weights-mask-of-other-bits",
        header(lambda h: None, lambda d: d[:20] + b"\x57\x01"),
        WEIGHTS,
        "its mask keeps 6",
    )
    yield Attack("weights-mask-beyond", header(lambda h: None, lambda d: d[:20] + b"\x55\x81"), WEIGHTS, "bits beyond")
    yield Attack(
        "weights-mask-of-another-run",
        header(lambda h: None, lambda d: d[:20] + b"\xaa\x02"),
        WEIGHTS,
        "is not that of the record",
    )
    for what, bits in (
        ("nan", 0x7FC00000),
        ("signalling", 0x7F800001),
        ("infinite", 0x7F800000),
        ("minus-infinite", 0xFF800000),
    ):
        yield Attack(
            f"weights-{what}", header(lambda h: None, words(ONE, ONE, bits, ONE, ONE)), WEIGHTS, "NaN or infinite"
        )
    yield Attack("weights-of-another-run", meta(run="ab" * 6), WEIGHTS, "which has no record here")
    yield Attack("weights-of-another-task", meta(task="cldr-2to2"), WEIGHTS, "which has no record here")
    yield Attack("weights-of-another-form", meta(format="smcbench sparse 9"), WEIGHTS, "this version reads")
    yield Attack("weights-run-climbs", meta(run="../../../evil"), WEIGHTS, "run: must be a text like")
    yield Attack("weights-more-metadata", meta(evil="1"), WEIGHTS, "unknown key 'evil'")
    yield Attack("weights-metadata-of-numbers", meta(format=1), WEIGHTS, "metadata must be texts")
    yield Attack("weights-shapes-of-nothing", meta(shapes='{"evil": [1]}'), WEIGHTS, "'evil'")
    yield Attack("weights-shapes-twice", meta(shapes='{"fc": [10], "fc": [10]}'), WEIGHTS, "stands twice")
    yield Attack("weights-shapes-deep", meta(shapes="[" * 50_000), WEIGHTS, "shapes")
    yield Attack("weights-shapes-a-list", meta(shapes="[]"), WEIGHTS, "shapes must be an object")
    yield Attack("weights-whole-and-pruned", meta(whole='["fc"]'), WEIGHTS, "whole")
    yield Attack("weights-whole-a-mask", meta(whole='["mask/fc"]'), WEIGHTS, "whole")
    yield Attack("weights-whole-unhashable", meta(whole='[["fc"]]'), WEIGHTS, "whole")
    yield Attack("weights-a-mask-alone", meta(shapes="{}"), WEIGHTS, "belongs to no pruned tensor")
    yield Attack("weights-more-keys", header(lambda h: h["fc"].update(evil=1)), WEIGHTS, "nothing else")


def named_file(name: str) -> Change:
    return lambda folder: folder.change_manifest(lambda m: m["files"].update({name: "ab" * 32}))


def elsewhere(name: str, size: int = 9) -> Change:
    where = {"sha256": "ab" * 32, "bytes": size, "where": "https://example.org"}
    return lambda folder: folder.change_manifest(lambda m: m["elsewhere"].update({name: where}))


def battery(of: Battery) -> Change:
    """Another battery, with the right digest, and all of its cells missing that were not run."""

    def change(m: dict[str, Any]) -> None:
        m["battery"] = shape.plain(BatteryRef.of(of, DIGESTS))
        m["missing"] = [
            {"task": t.task, "sparsity": s, "seed": seed} for seed in of.seeds for t in of.tasks for s in t.sparsities
        ]

    return lambda folder: folder.change_manifest(change)


def task_called(name: str) -> Change:
    """The first task under another name, everywhere, with all digests right."""

    def change(folder: Folder) -> None:
        folder.change_manifest(lambda m: m["battery"]["tasks"][0].update(task=name))
        folder.change_manifest(lambda m: [x.update(task=name) for x in m["missing"] if x["task"] == "digits"])
        folder.change_records(
            lambda rs: [r["spec"]["task"].update(name=name) for r in rs if r["spec"]["task"]["name"] == "digits"]
        )

    return change


def twin_task(name: str) -> Change:
    """One more task, whose files would be those of the first."""

    def change(m: dict[str, Any]) -> None:
        tasks = m["battery"]["tasks"]
        tasks.append({**tasks[0], "task": name})

    return lambda folder: folder.change_manifest(change)


def two_digests(folder: Folder) -> None:
    """A task twice, first under a digest that is not its own, which the digest of the battery does not hold."""
    battery(replace(MINI, tasks=(Entry("digits", (0.5, 0.9)), *MINI.tasks[1:], Entry("digits", (0.5,), 2.0))))(folder)
    folder.change_manifest(lambda m: m["battery"]["tasks"][0].update(digest="ee" * 32))


def too_much(folder: Folder) -> None:
    """Files that are small enough, each."""
    for name in (RECORDS, PREDICTIONS, OUTCOMES, WEIGHTS):
        folder.put(name, b"\0" * 999_999)


def one_prediction(text: str) -> Change:
    """A prediction that is this text, in the digest of the record too."""

    def change(folder: Folder) -> None:
        found = folder.lines(PREDICTIONS)
        raw = "".join(json.dumps(line) + "\n" for line in found[1:])
        raw += json.dumps({**found[0], "prediction": "@"}).replace('"@"', text) + "\n"
        folder.put(PREDICTIONS, predictions.compress(raw.encode()))

    return change


def meta(**values: Any) -> Change:
    return header(lambda h: h["__metadata__"].update(values))


ATTACKS = list(attacks())


@pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS])
def test_it_is_refused_in_one_line(attack: Attack, folder: Folder) -> None:
    attack.change(folder)
    before = listing(folder.path.parent.parent)
    with bounded(), pytest.raises(InvalidInput) as caught:
        read_submission(folder.path)
    told = str(caught.value)
    assert told.startswith(str(folder.path / attack.file))
    assert attack.told in told
    assert attack.name in UNSEEN or told.isprintable()
    assert len(told) < 700 + len(str(folder.path))
    assert listing(folder.path.parent.parent) == before


UNSEEN = {f"extra-{number}" for number, name in enumerate(EXTRAS) if not name.isprintable()}
"""Whose message names a file that has such a name."""


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(a, id=a.name)
        for n, a in enumerate(ATTACKS)
        if n % 25 == 0 or a.name in UNSEEN or "bomb-pre" in a.name
    ],
)
def test_the_command_says_so(attack: Attack, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    attack.change(folder)
    before = listing(folder.path.parent.parent)
    with bounded():
        code = main(["verify", str(folder.path), "--level", "claimed"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (3, "", 1), err
    assert err.startswith(f"smcbench: {folder.path / attack.file}"), err
    assert "unforeseen" not in err
    assert err[:-1].isprintable()
    assert listing(folder.path.parent.parent) == before


def listing(around: Path) -> dict[str, tuple[int, int, int]]:
    """All that is there, with mode, size and time of the last change."""
    found = ((path, path.lstat()) for path in around.rglob("*"))
    return {str(path): (how.st_mode, how.st_size, how.st_mtime_ns) for path, how in found}


class TooSlow(BaseException):
    """Raised where the time is up; nothing catches it."""


@contextmanager
def bounded() -> Iterator[None]:
    """That what happens here is soon over and needs little memory: more than there may be raises MemoryError."""

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS} seconds")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What a verification imports, before memory is counted."""
    import smcbench.verify  # noqa: F401


def test_the_honest_one_is_not(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    with bounded():
        assert len(read_submission(folder.path).records) == 3


# -- what chance finds

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.integers(-2, 2) | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["", "digits", "omp", "0" * 12, "ab" * 32, "\ud800", "F32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SETTINGS = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def mutated(tree: Any, draw: Callable[[int], int], value: Any) -> Any:
    """A tree of JSON in which a value somewhere was replaced, doubled, or taken out."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    if not keys or draw(6) == 0:
        return value
    key = keys[draw(len(keys))]
    copied = tree.copy()
    match draw(8):
        case 0:
            del copied[key]
        case 1 if isinstance(tree, dict):
            copied[str(value)] = copied[key]
        case 1:
            copied.append(copied[key])
        case _:
            copied[key] = mutated(copied[key], draw, value)
    return copied


def chosen(data: st.DataObject) -> Callable[[int], int]:
    return lambda count: data.draw(st.integers(0, count - 1))


def survives(folder: Folder) -> None:
    """It is read, or refused by a line that names the file or the folder."""
    told = str(folder.path)
    try:
        read_submission(folder.path)
    except InvalidInput as error:
        told = str(error)
    assert told.startswith(str(folder.path))


@pytest.mark.parametrize("name", [MANIFEST, RECORDS, PREDICTIONS, OUTCOMES, WEIGHTS])
@SETTINGS
@given(data=st.data())
def test_any_json_is_read_or_refused(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, draw, value = fresh(tmp_path_factory), chosen(data), data.draw(VALUES)
    if name == MANIFEST:
        folder.put(name, json.dumps(mutated(json.loads(folder.text(name)), draw, value)))
    elif name == RECORDS:
        records = [json.loads(line) for line in folder.text(name).splitlines()]
        number = draw(len(records))
        records[number] = mutated(records[number], draw, value)
        folder.put(name, "".join(json.dumps(each) + "\n" for each in records))
    elif name == WEIGHTS:
        raw = (folder.path / name).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        folder.put(name, framed(json.dumps(mutated(json.loads(raw[8 : 8 + length]), draw, value)), raw[8 + length :]))
    else:
        found = folder.lines(name)
        number = draw(len(found))
        found[number] = mutated(found[number], draw, value)
        folder.put_lines(name, found)
    survives(folder)


@pytest.mark.parametrize("name", [MANIFEST, RECORDS, PREDICTIONS, OUTCOMES, WEIGHTS, CARD])
@SETTINGS
@given(data=st.data())
def test_any_bytes_are_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = fresh(tmp_path_factory)
    packed = name in (PREDICTIONS, OUTCOMES) and data.draw(st.booleans())
    raw = bytearray(predictions.unfold(folder.path / name, 1 << 20).encode() if packed else honest()[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(raw) - 1)))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    folder.put(name, predictions.compress(bytes(raw)) if packed else bytes(raw))
    survives(folder)


def fresh(factory: pytest.TempPathFactory) -> Folder:
    """The honest submission again; one place serves all, since only known files are written."""
    return laid_out(factory.getbasetemp() / "fuzz" / NAME)


@pytest.mark.parametrize(
    "text", [SCRIPT, "Ünïcödé ✓ 作者", "a; rm -rf / $(id) `id`", "{{7*7}} ${7*7} %n%s", "=1+1", "'; DROP TABLE"]
)
def test_text_is_text(folder: Folder, text: str) -> None:
    """Where people write, anything that can be seen is allowed; who shows it must escape it."""
    folder.change_manifest(lambda m: m.update(authors=text, paper=text, checker=text))
    folder.put(CARD, text)
    assert read_submission(folder.path).manifest.authors == text


def test_nothing_named_by_a_submission_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label or a task is looked up among what is installed; no spelling of a path makes a file be executed."""
    from smcbench.cli.board import _Scorers
    from smcbench.plugins import known as installed
    from smcbench.results.record import TaskRef

    monkeypatch.chdir(tmp_path)
    for name in ("evil.py", "digits@evil.py"):
        (tmp_path / name).write_text("raise SystemExit('executed')")
    for label in ("evil.py:X", "shuffled(evil.py:X)", "shuffled(method='evil.py:X')",
                  r"shuffled(method='evil.py\x3aX')",
                  r"shuffled(method='evil.py\N{COLON}X')", r"shuffled(method='evil.py\72X')", "shuffled('this' ':d')",
                  "shuffled(shuffled(evil.py:X))", "./evil.py:X(a=1)"):  # fmt: skip
        assert installed(label) is None
    for name in ("evil.py:X", "digits@evil.py:X", "digits@/../evil.py:X", "this:d"):
        assert _Scorers()(TaskRef(name, 1, "ab" * 32, "all", "digits")) is None
