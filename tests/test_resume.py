"""Killed, torn, full, shared: whatever happens to a run, it ends as if nothing had, or says in one line why not."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import methods
import pytest
from methods import FILE, TOY

import smcbench
from smcbench import cell, files
from smcbench.engines import local
from smcbench.errors import Busy, InvalidInput, MissedSparsity, NotFinite, SmcbenchError, SparsifierError, UsageError
from smcbench.journal import Journal
from smcbench.phase import Phase
from smcbench.results.record import RunRecord
from smcbench.results.store import Store
from smcbench.state import read_tensors
from smcbench.testing import ToyTask
from smcbench.trainer import ENGINE

STEPS = ToyTask().recipe.steps


def result(record: RunRecord) -> dict[str, Any]:
    """A record without what the clock and the machine put into it."""
    found = record.to_json()
    del found["provenance"]
    for key in ("seconds", "seconds_cached", "peak_memory"):
        del found["cost"][key]
    return found


def journals(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in out.glob("*/*/journal.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are really computed, as they are."""
    steps: list[int] = []
    updated = Phase.updated

    def count(phase: Phase, step: Any, made: Any) -> None:
        steps.append(step.index)
        updated(phase, step, made)

    monkeypatch.setattr(Phase, "updated", count)
    return steps


# -- SIGKILL

HARNESS = """
    import os, signal, sys
    import smcbench
    from smcbench.journal import Journal
    from smcbench.phase import Phase

    Journal.is_due = lambda self: True
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def dying(function, at):
        calls = []
        def replacement(*arguments):
            calls.append(1)
            return die() if len(calls) == at else function(*arguments)
        return replacement

    what, at, sparsifier, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if what == "update":
        Phase.updated = dying(Phase.updated, at)
    if what == "rename":
        os.replace = dying(os.replace, at)
    smcbench.run("smcbench.testing:ToyTask", sparsifier, 0.75, out=out)
"""


@pytest.mark.parametrize(
    ("what", "at", "sparsifier", "least"),
    [
        ("own", 11, f"{FILE}:Stepwise", 9),  # in the body of a steps() loop
        ("update", 3 * STEPS + 7, "lth", 3 * STEPS + 5),  # in the middle of the fourth train() phase
        ("rename", STEPS + 3, "omp-after", STEPS),  # while a file is written, between two phases
    ],
)
def test_sigkill(what: str, at: int, sparsifier: str, least: int, tmp_path: Path, computed: list[int]) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HARNESS), what, str(at), sparsifier, str(tmp_path / "killed")]
    environment = {**os.environ, **({"KILL_AT": str(at)} if what == "own" else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(tmp_path.glob("killed/*/*/record.json"))

    expected = smcbench.run(TOY, sparsifier, 0.75, out=tmp_path / "undisturbed")
    whole = len(computed)
    computed.clear()
    assert result(smcbench.run(TOY, sparsifier, 0.75, out=tmp_path / "killed")) == result(expected)
    assert len(computed) <= whole - least, "what was finished or written when it was killed is not computed again"
    assert not list(tmp_path.glob("killed/*/*/resume")), "a complete run keeps nothing to resume it"
    assert not list(tmp_path.glob("killed/**/*.lock"))


def test_a_complete_run_is_not_run_again(tmp_path: Path, computed: list[int]) -> None:
    first = smcbench.run(TOY, "omp-after", 0.75, out=tmp_path)
    computed.clear()
    assert smcbench.run(TOY, "omp-after", 0.75, out=tmp_path) == first
    assert not computed


# -- torn and corrupted files


def truncate(raw: bytearray) -> None:
    del raw[len(raw) // 2 :]


def flip(place: Callable[[int, int], int]) -> Callable[[bytearray], None]:
    def damage(raw: bytearray) -> None:
        header = int.from_bytes(raw[:8], "little")
        raw[place(header, len(raw))] ^= 1

    return damage


DAMAGE = {
    "truncated": truncate,
    "emptied": bytearray.clear,
    "data": flip(lambda header, size: 8 + header + 5),
    "last byte": flip(lambda header, size: size - 1),
    "length": flip(lambda header, size: 1),
    **{f"header at {i}/8": flip(lambda header, size, i=i: 8 + header * i // 8) for i in range(8)},  # type: ignore[misc]
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_cache_is_named_and_mended(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], computed: list[int]
) -> None:
    expected = smcbench.run(TOY, "omp-after", 0.75, out=tmp_path / "clean")
    smcbench.run(TOY, "dense", 0.0, out=tmp_path / "damaged")
    [path] = tmp_path.glob("damaged/cache/*.safetensors")
    raw = bytearray(path.read_bytes())
    DAMAGE[damage](raw)
    path.write_bytes(raw)
    computed.clear()
    assert result(smcbench.run(TOY, "omp-after", 0.75, out=tmp_path / "damaged")) == result(expected)
    assert len(computed) == 2 * STEPS
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "computing it again" in line
    assert read_tensors(path)[1]["position"] == STEPS, "the cache is whole again"


def killed_in_process(out: Path, sparsifier: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    calls: list[int] = []
    updated = Phase.updated

    def die(phase: Phase, step: Any, made: Any) -> None:
        updated(phase, step, made)
        calls.append(1)
        if len(calls) == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "updated", die)
        patch.setattr(Journal, "is_due", lambda self: True)
        with pytest.raises(Killed):
            smcbench.run(TOY, sparsifier, 0.75, out=out)


def test_damage_in_a_snapshot_is_named_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = smcbench.run(TOY, f"{FILE}:Stepwise", 0.75, out=tmp_path / "clean")
    killed_in_process(tmp_path / "damaged", f"{FILE}:Stepwise", 10, monkeypatch)
    [path] = tmp_path.glob("damaged/*/*/resume/*.part.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert result(smcbench.run(TOY, f"{FILE}:Stepwise", 0.75, out=tmp_path / "damaged")) == result(expected)
    assert str(path) in capsys.readouterr().err


def test_the_journal_is_for_people_and_may_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = smcbench.run(TOY, "omp-after", 0.75, out=tmp_path / "clean")
    killed_in_process(tmp_path / "torn", "omp-after", STEPS + 5, monkeypatch)
    [path] = tmp_path.glob("torn/*/*/journal.jsonl")
    path.write_bytes(b"\xff{")
    assert result(smcbench.run(TOY, "omp-after", 0.75, out=tmp_path / "torn")) == result(expected)
    assert [entry["kind"] for entry in journals(tmp_path / "torn")] == ["train", "train"]


@pytest.mark.parametrize("text", ["", "{", '{"schema":1}', "[]"])
def test_a_corrupted_record_is_named_and_kept(text: str, tmp_path: Path) -> None:
    smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    [path] = tmp_path.glob("*/*/record.json")
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


# -- the bill


def test_the_cache_saves_time_but_never_the_bill(tmp_path: Path, computed: list[int]) -> None:
    shallow, deeper = 1 - 0.8**3, 1 - 0.8**6
    alone = smcbench.run(TOY, "lth", shallow, out=tmp_path / "alone")
    computed.clear()
    deep = smcbench.run(TOY, "lth", deeper, out=tmp_path / "shared")
    assert len(computed) == deep.cost.steps == 7 * STEPS
    computed.clear()
    shared = smcbench.run(TOY, "lth", shallow, out=tmp_path / "shared")
    assert result(shared) == result(alone)
    assert shared.cost.steps == 4 * STEPS
    assert not computed, "its rounds are the first ones of the other"
    assert shared.cost.seconds_cached > 0
    assert alone.cost.seconds_cached == deep.cost.seconds_cached == 0


# -- several processes


def request(sparsifier: str, out: Path, sparsity: float = 0.75, seed: int = 0) -> local.Request:
    return local.Request(TOY, sparsifier, sparsity, seed, 1.0, out)


def test_two_workers_train_what_they_share_once(tmp_path: Path) -> None:
    cells = [("dense", 0.0), ("omp-after", 0.75), ("random-after", 0.75), ("lth", 0.488), ("lth", 0.738)]
    outcomes = list(local.run([request(name, tmp_path, sparsity) for name, sparsity in cells], workers=2))
    assert [outcome.state for outcome in outcomes] == ["done"] * len(cells), [o.message for o in outcomes]
    entries = [entry for entry in journals(tmp_path) if entry["kind"] == "train"]
    dense = next(e["key"] for e in entries if e["phase"] == 0)
    assert sum(e["key"] == dense for e in entries) == len(cells)
    for key in {entry["key"] for entry in entries}:
        assert sum(e["key"] == key and not e["stored"] for e in entries) == 1, "every phase is trained exactly once"


def test_a_cell_that_another_process_runs_is_busy(tmp_path: Path) -> None:
    record = smcbench.run(TOY, "omp-before", 0.75, out=tmp_path / "other")
    folder = Store(tmp_path).folder(record.spec, ENGINE)
    with files.locked(folder / "lock", "the cell"), pytest.raises(Busy, match="being computed by another process"):
        smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    assert result(smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)) == result(record)


def test_a_worker_that_dies_fails_its_own_cell_only(tmp_path: Path) -> None:
    good = ["omp-before", "snip", "random-before", "gmp"]
    outcomes = list(local.run([request(name, tmp_path) for name in (f"{FILE}:Exits", *good)], workers=2))
    states = {outcome.request.sparsifier: outcome for outcome in outcomes}
    assert [states[name].state for name in good] == ["done"] * len(good)
    failed = states[f"{FILE}:Exits"]
    assert failed.state == "failed"
    assert "its worker died" in failed.message
    assert [failure.kind for failure in Store(tmp_path).failures()] == ["oom"]
    assert len(list(Store(tmp_path).find())) == len(good)


# -- sparsifiers that break the contract

FAILURES = [
    ("Raises", ValueError, "error", "Raises raised ValueError: this one always fails (methods.py, line"),
    (
        "Puts",
        RuntimeError,
        "error",
        "Puts: on this device torch has no put_ that gives the same bits again; use another",
    ),
    ("LeavesNaN", NotFinite, "nan", "left NaN or infinite values in"),
    ("ScoresNaN", NotFinite, "nan", "NaN"),
    ("Explodes", NotFinite, "nan", "the training loss is nan at step 0"),
    ("OneTooMany", MissedSparsity, "missed-sparsity", "OneTooMany left 90 of 356 prunable weights"),
    ("OneTooFew", MissedSparsity, "missed-sparsity", "OneTooFew left 88 of 356 prunable weights"),
    ("Revives", SparsifierError, "error", "came back to life"),
    ("Leaves", SystemExit, "error", "Leaves raised SystemExit: 7"),
    ("Wraps", SparsifierError, "error", "left a wrapped or rebuilt model"),
    ("WrapsByPrune", SparsifierError, "error", "left a wrapped or rebuilt model"),
]


@pytest.mark.parametrize(("name", "kind", "label", "message"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_broken_sparsifier_fails_by_name(
    name: str, kind: type[Exception], label: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind):
        smcbench.run(TOY, f"{FILE}:{name}", 0.75, out=tmp_path)
    store = Store(tmp_path)
    [failure] = store.failures()
    assert failure.kind == label
    assert message in failure.message
    assert "\n" not in failure.message
    assert not list(store.find())
    [outcome] = local.run([request(f"{FILE}:{name}", tmp_path)])
    assert outcome.state == "failed"
    assert outcome.message.endswith(failure.message)


def test_a_sparsity_that_leaves_nothing_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would leave none of the 356 prunable weights of toy"):
        smcbench.run(TOY, "omp-before", 0.9999, out=tmp_path)
    assert not list(tmp_path.glob("toy/*/journal.jsonl"))


def test_zeros_by_hand_without_a_mask_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissedSparsity, match="and a mask that keeps 356"):
        smcbench.run(TOY, f"{FILE}:ByHand", 0.75, out=tmp_path)


def test_success_clears_an_earlier_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cell, "verified", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    [folder] = tmp_path.glob("toy/*")
    assert {"failure.json", "traceback.txt"} <= {path.name for path in folder.iterdir()}
    smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    names = ["journal.jsonl", "mask.safetensors", "predictions.jsonl.zst", "record.json", "weights.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names


# -- disks


def full(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls: list[int] = []

    def limited(*arguments: Any, **words: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **words)

    return limited


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 3, 5])
def test_a_full_disk_loses_nothing_finished(
    name: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)
    expected = smcbench.run(TOY, "omp-after", 0.75, out=tmp_path / "clean")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, full(getattr(os, name), after))
        with pytest.raises(SmcbenchError, match=r"No space left on device.*free some space") as caught:
            smcbench.run(TOY, "omp-after", 0.75, out=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp")), "half a file stays behind"
    assert list(Store(tmp_path).find()) == [before]
    assert result(smcbench.run(TOY, "omp-after", 0.75, out=tmp_path)) == result(expected)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = [tmp_path / "file" / "runs"]
    (tmp_path / "closed").mkdir(mode=0o500)
    if not os.access(tmp_path / "closed", os.W_OK):  # not for root, who may write anywhere
        places.append(tmp_path / "closed")
    for place in places:
        with pytest.raises(SmcbenchError, match=r"cannot be written \(.*\); choose another folder") as caught:
            smcbench.run(TOY, "omp-before", 0.75, out=place)
        assert "\n" not in str(caught.value)


def test_a_store_becomes_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = smcbench.run(TOY, "omp-before", 0.75, out=tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SmcbenchError, match="Read-only file system"):
        smcbench.run(TOY, "omp-after", 0.75, out=tmp_path)
    assert smcbench.run(TOY, "omp-before", 0.75, out=tmp_path) == record, "what is complete can still be read"


def test_a_run_without_a_store_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = smcbench.run(TOY, methods.Forks(), 0.75)
    assert not list(tmp_path.iterdir())
    again = smcbench.run(TOY, methods.Forks(), 0.75, out=tmp_path)
    assert result(again) == result(dataclasses.replace(kept))
