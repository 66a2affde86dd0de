"""The history of a board: chained lines, boards of the past byte for byte, and what kills and edits do to it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from folders import contents, method, put, references, right, weighed, write
from records import record

from smcbench import files
from smcbench.errors import Busy, InvalidInput, SmcbenchError, UsageError
from smcbench.results import history, leaderboard, upkeep
from smcbench.results.affected import corrected, scored_otherwise
from smcbench.results.diff import differences
from smcbench.results.history import BrokenHistory, Event, History
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import TaskRef
from smcbench.results.submission import CARD, read_submission, weights_of


def grow(board: Path, name: str, *records: Any, reason: str | None = None, **manifest: Any) -> None:
    """Put packed runs on the board, as ``board add`` does."""
    board.mkdir(exist_ok=True)
    with upkeep.locked(board):
        upkeep.place(board, write(board.parent / "packed" / name, records, **manifest), reason)


OMP, RIGL = method("omp", [95, 90]), method("rigl", [85, 80, 85])
MORE = record("omp", 0.9, 0, 70)
BETTER = replace(OMP[0], scores={"accuracy": 100.0})


def events(board: Path) -> dict[int, bytes]:
    """A board with every kind of event but one, and its leaderboard as it stood after each build."""
    stood = {}

    def note() -> None:
        stood[History.read(board).version] = (board / upkeep.FILE).read_bytes()

    put(board, "dense", references())
    put(board, "omp", OMP, authors="they")
    upkeep.build(board)
    note()
    grow(board, "omp", MORE)
    upkeep.build(board)
    note()
    upkeep.receive(board, {board / "submissions" / "omp": {OMP[0].run: "reevaluate", MORE.run: "recompute"}}, by="me")
    note()
    grow(board, "omp", BETTER, reason="scored wrongly", authors="they and I")
    upkeep.build(board, reason="scored wrongly")
    note()
    put(board, "rigl", RIGL)
    upkeep.build(board)
    note()
    upkeep.retract(board, "rigl", "trained on the test split", "https://example.org/1")
    note()
    return stood


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, bytes]]:
    board = tmp_path_factory.mktemp("whole") / "board"
    return board, events(board)


@pytest.fixture
def board(whole: tuple[Path, dict[int, bytes]], tmp_path: Path) -> Path:
    """A copy, for tests that change it."""
    return Path(shutil.copytree(whole[0], tmp_path / "board"))


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def lines(board: Path) -> list[str]:
    return (board / history.FILE).read_text().splitlines()


# -- the chain


def test_every_line_names_the_one_before_and_the_last_one_the_board(whole: tuple[Path, dict[int, bytes]]) -> None:
    board, stood = whole
    found = [json.loads(line) for line in lines(board)]
    assert [(e["version"], e["change"], e.get("submission")) for e in found] == [
        (1, "add", "dense"), (2, "add", "omp"), (3, "extend", "omp"), (4, "verify", "omp"), (5, "correct", "omp"),
        (6, "add", "rigl"), (7, "retract", "rigl"),
    ]  # fmt: skip
    sha = [sha256(line.encode()) for line in lines(board)]
    assert [e["previous"] for e in found] == [None, *sha[:-1]]
    assert [e.get("board") for e in found] == [
        None if e["version"] not in stood else sha256(stood[e["version"]]) for e in found
    ]
    shown = json.loads((board / upkeep.FILE).read_bytes())
    but_for_the_board = lines(board)[-1].replace(f'"board":"{sha256(stood[7])}",', "")
    assert (shown["version"], shown["head"]) == (7, sha256(but_for_the_board.encode()))
    said = {key: found[4][key] for key in ("reason", "authors", "sparsifier")}
    assert said == {"reason": "scored wrongly", "authors": "they and I", "sparsifier": "omp"}
    record_lines = (board / "submissions" / "omp" / "records.jsonl").read_bytes().splitlines()
    assert found[4]["records"] == {json.loads(each)["run"]: sha256(each) for each in record_lines}
    assert list(found[2]["records"]) == [MORE.run]


def test_a_history_reads_as_it_was_written(whole: tuple[Path, dict[int, bytes]]) -> None:
    read = History.read(whole[0])
    assert read.text() == (whole[0] / history.FILE).read_text()
    assert History.read(whole[0] / "nowhere") == History()
    assert [str(e) for e in read.events[3:6]] == [
        "verify omp (1 run at recompute, 1 run at reevaluate)", "correct omp (3 runs)", "add rigl (3 runs)",
    ]  # fmt: skip


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def changed(line: str) -> str:
        value = json.loads(line)
        change(value)
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    return changed


def _moved(found: list[str], at: int, to: int) -> None:
    found.insert(to, found.pop(at))


def _set(found: list[str], at: int, change: Callable[[str], str]) -> None:
    found[at] = change(found[at])


@pytest.mark.parametrize(
    ("spoil", "number", "why"),
    [
        (lambda f: _set(f, 1, edit(lambda e: e.update(authors="I"))), 2, "is not the line that line 3 follows"),
        (lambda f: _set(f, 2, edit(lambda e: e["records"].clear())), 3, "is not the line that line 4 follows"),
        (lambda f: _set(f, 6, edit(lambda e: e.update(reason="none"))), 7, "is not the line that .* was made after"),
        (lambda f: _set(f, 6, edit(lambda e: e.update(board="0" * 64))), 7, "names another board"),
        (lambda f: _set(f, 6, edit(lambda e: e.update(by="I"))), 7, "is not the line that .* was made after"),
        (lambda f: _set(f, 6, edit(lambda e: e.update(source="ab" * 32))), 7, "is not the line that .* was made after"),
        (lambda f: _set(f, 3, edit(lambda e: e.update(change="praise"))), 4, "must be one of add, extend"),
        (lambda f: _set(f, 3, edit(lambda e: e.update(more=1))), 4, "unknown key 'more'"),
        (lambda f: _set(f, 3, edit(lambda e: e["levels"].update(perfect=[]))), 4, "levels: must be one of claimed"),
        (lambda f: _set(f, 4, edit(lambda e: e.pop("reason"))), 5, "key 'reason' is missing in a line that says"),
        (lambda f: _set(f, 2, lambda line: line.replace(":", ": ", 1)), 3, "is not written as smcbench writes it"),
        (lambda f: _set(f, 2, lambda line: line[:40]), 3, "not valid JSON"),
        (lambda f: f.pop(0), 1, "is version 2; lines were removed or moved"),
        (lambda f: f.pop(3), 4, "is version 5; lines were removed or moved"),
        (lambda f: f.pop(), 7, "is missing, for"),
        (lambda f: f.__delitem__(slice(1, None)), 1, "names no board; lines after it were removed"),
        (lambda f: _moved(f, 1, 4), 2, "is version 3; lines were removed or moved"),
        (lambda f: _moved(f, 6, 0), 1, "is version 7; lines were removed or moved"),
    ],
)
def test_the_first_line_of_a_broken_chain_is_named(
    board: Path, spoil: Callable[[list[str]], object], number: int, why: str
) -> None:
    found = lines(board)
    spoil(found)
    (board / history.FILE).write_text("".join(f"{line}\n" for line in found))
    before = contents(board)
    for check in (True, False):
        with pytest.raises(BrokenHistory, match=rf"history\.jsonl:{number}: .*{why}"):
            upkeep.build(board, check)
    assert contents(board) == before


def test_a_line_that_was_cut_off_is_named(board: Path) -> None:
    (board / history.FILE).write_bytes((board / history.FILE).read_bytes()[:-5])
    with pytest.raises(BrokenHistory, match=r"history\.jsonl:7: does not end as a line does"):
        History.read(board)


def test_a_history_forged_from_its_first_line_on_must_still_make_sense(tmp_path: Path) -> None:
    runs = {"submission": "x", "manifest": "ab" * 32, "sparsifier": "x", "battery": "ab" * 32, "outcomes": {}}
    first = history.event("add", "2026-01-01", **runs, records={"0" * 12: "ab" * 32})
    verify = {"submission": "x", "manifest": "ab" * 32, "levels": {"retrain": ("1" * 12,)}}
    for event, why in (
        (first, "2: says 'add' of x, which is there already"),
        (replace(first, change="extend", submission="y"), "2: says 'extend' of y, which is not there yet"),
        (history.event("verify", "2026-01-01", **verify), f"2: verifies run {'1' * 12}, which x does not hold"),
    ):
        History().followed([first, event]).naming("ab" * 32).write(tmp_path)
        with pytest.raises(BrokenHistory, match=rf"history\.jsonl:{why}"):
            History.read(tmp_path)


# -- boards of the past


def test_every_board_of_the_past_is_rebuilt_byte_for_byte(whole: tuple[Path, dict[int, bytes]]) -> None:
    board, stood = whole
    assert set(stood) == {2, 3, 4, 5, 6, 7}
    assert len(set(stood.values())) == 6
    for version, text in stood.items():
        rebuilt = upkeep.at(board, version)
        assert rebuilt.board.text().encode() == text
        assert rebuilt.same is True
        assert rebuilt.event.version == version


def test_a_version_between_two_builds_is_the_board_that_a_build_would_have_made(
    whole: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    put(tmp_path, "dense", references())
    alone = upkeep.build(tmp_path)
    rebuilt = upkeep.at(whole[0], 1)
    assert rebuilt.board.text() == alone.board.text()
    assert rebuilt.same is None


def test_a_board_of_the_past_knows_what_was_said_then(whole: tuple[Path, dict[int, bytes]]) -> None:
    boards = {version: leaderboard.read_board(_saved(whole, version)) for version in whole[1]}
    authors = {v: next(e.authors for e in b.submissions if e.name == "omp") for v, b in boards.items()}
    assert authors == {2: "they", 3: "they", 4: "they", 5: "they and I", 6: "they and I", 7: "they and I"}
    missing = {v: next(e.missing for e in b.submissions if e.name == "omp") for v, b in boards.items()}
    assert missing == {2: 10, 3: 9, 4: 9, 5: 9, 6: 9, 7: 9}
    mean = {
        v: next(r.mean for r in b.entries if r.submission == "omp" and r.sparsity == 0.5) for v, b in boards.items()
    }
    assert mean == {2: 92.5, 3: 92.5, 4: 92.5, 5: 95.0, 6: 95.0, 7: 95.0}


def _saved(whole: tuple[Path, dict[int, bytes]], version: int) -> Path:
    path = whole[0].parent / f"{version}.json"
    path.write_bytes(whole[1][version])
    return path


def test_outcomes_that_came_later_are_not_in_the_board_of_before(tmp_path: Path) -> None:
    put(tmp_path, "dense", references(), with_outcomes=False)
    put(tmp_path, "omp", OMP, with_outcomes=False)
    upkeep.build(tmp_path)
    before = (tmp_path / upkeep.FILE).read_bytes()
    put(tmp_path, "omp", OMP)
    (event,) = upkeep.build(tmp_path).events
    assert (event.change, event.records) == ("extend", {})
    assert event.outcomes is not None
    assert sorted(event.outcomes) == sorted(r.run for r in OMP)
    assert upkeep.at(tmp_path, 2).board.text().encode() == before
    assert upkeep.build(tmp_path, check=True).changed is False


def test_there_is_no_board_before_the_first_or_after_the_last(board: Path, tmp_path: Path) -> None:
    for version in (0, -1, 8):
        with pytest.raises(UsageError, match="the versions are 1 to 7"):
            upkeep.at(board, version)
    with pytest.raises(UsageError, match="the versions are none yet"):
        upkeep.at(tmp_path, 1)


def test_a_folder_that_was_edited_under_the_history_is_named(board: Path) -> None:
    write(board / upkeep.SUPERSEDED / "v3" / "omp", [replace(OMP[0], scores={"accuracy": 85.0}), OMP[1], MORE])
    assert upkeep.at(board, 5).same
    with pytest.raises(BrokenHistory, match=rf"superseded/v3/omp: the record of run {OMP[0].run} changed"):
        upkeep.at(board, 3)
    shutil.rmtree(board / "submissions" / "omp")
    for what in (lambda: upkeep.build(board), lambda: upkeep.at(board, 6)):
        with pytest.raises(BrokenHistory, match="submissions/omp: is gone, but the history knows it"):
            what()


# -- what stands, and what comes


def test_building_again_changes_nothing(board: Path) -> None:
    before = contents(board)
    built = upkeep.build(board)
    assert (built.events, built.changed) == ((), False)
    assert contents(board) == before


def test_a_check_writes_nothing_and_says_what_it_would(board: Path) -> None:
    put(board, "snip", method("snip", [50]))
    before = contents(board)
    built = upkeep.build(board, check=True)
    assert ([str(e) for e in built.events], built.changed) == (["add snip (1 run)"], True)
    assert contents(board) == before
    (board / upkeep.FILE).unlink()
    shutil.rmtree(board / "submissions" / "snip")
    assert upkeep.build(board, check=True).changed
    assert not (board / upkeep.FILE).exists()


def test_an_edited_leaderboard_is_written_anew(board: Path) -> None:
    before = (board / upkeep.FILE).read_bytes()
    for edited in (before.replace(b"95.0", b"99.0"), b"edited", b"[]", b"\xff"):
        (board / upkeep.FILE).write_bytes(edited)
        assert upkeep.build(board, check=True).changed
        assert upkeep.build(board).events == ()
        assert (board / upkeep.FILE).read_bytes() == before


def test_newer_software_that_makes_another_board_is_an_event(
    board: Path, whole: tuple[Path, dict[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = leaderboard.Board.text
    monkeypatch.setattr(leaderboard.Board, "text", lambda self: text(self).replace("\n", "\n "))
    with pytest.raises(BrokenHistory, match=r"history\.jsonl:7: names another board"):
        upkeep.build(board)
    monkeypatch.setattr(history, "source", lambda: "cd" * 32)
    (event,) = upkeep.build(board).events
    assert (event.change, event.version, event.submission) == ("rebuild", 8, None)
    assert event.board == files.sha256((board / upkeep.FILE).read_bytes())
    assert upkeep.at(board, 8).same is True
    assert upkeep.at(board, 7).same is False
    monkeypatch.undo()
    assert upkeep.at(board, 7).board.text().encode() == whole[1][7]


def test_what_stands_grows_by_what_is_packed(tmp_path: Path) -> None:
    board = tmp_path / "board"
    grow(board, "omp", *OMP)
    upkeep.build(board)
    again = replace(OMP[0], cost=replace(OMP[0].cost, seconds=9.0))  # the same run, done once more elsewhere
    grow(board, "omp", again, MORE, record("omp", 0.5, 2, 80, task="cldr-2to2"))
    (event,) = upkeep.build(board).events
    assert (event.change, len(event.records or {})) == ("extend", 2)
    everything = write(tmp_path / "all" / "omp", [*OMP, MORE, record("omp", 0.5, 2, 80, task="cldr-2to2")])
    assert contents(board / "submissions" / "omp") == contents(everything)
    assert not (board / upkeep.SUPERSEDED).exists()
    assert not (board / upkeep.STAGING).exists()


def test_what_grows_takes_its_evidence_from_both(tmp_path: Path) -> None:
    """Weights of the higher sparsity; the card that stands; outcomes of old runs too, where one of the two has them."""
    board, path = tmp_path / "board", weights_of("digits")
    low, at_low = weighed(OMP[0], [True, False])
    high, at_high = weighed(MORE, [True, False, False])
    first = {CARD: b"first", path: at_low}
    grow(board, "omp", low, OMP[1], more=first, with_outcomes=False)
    grow(board, "omp", low, OMP[1], high, more={CARD: b"second", path: at_high}, paper="https://example.org")
    everything = write(
        tmp_path / "all" / "omp", [low, OMP[1], high], more={CARD: b"first", path: at_high}, paper="https://example.org"
    )
    assert contents(board / "submissions" / "omp") == contents(everything)
    grow(board, "omp", low, more=first)
    assert contents(board / "submissions" / "omp") == contents(everything)


def test_nothing_mixes_versions_or_parameters(tmp_path: Path) -> None:
    board = tmp_path / "board"
    grow(board, "omp", *OMP)
    with pytest.raises(InvalidInput, match="come from different versions or parameters"):
        grow(board, "omp", record("omp", 0.9, 0, 70, version=2))
    with pytest.raises(
        UsageError, match=r"omp: is of omp on battery pair, not of omp.a=1. on battery pair; choose another --name$"
    ):
        grow(board, "omp", *method("omp(a=1)", [50], parameters={"a": 1}))
    grow(board, "omp", *method("omp(a=1)", [50], parameters={"a": 1}), reason="renamed")
    assert [r.score for r in read_submission(board / "submissions" / "omp").records] == [50.0]


def test_a_whole_battery_may_be_asked_for(tmp_path: Path) -> None:
    packed = write(tmp_path / "packed" / "omp", OMP)
    with upkeep.locked(tmp_path), pytest.raises(InvalidInput, match="10 of 12 cells are missing"):
        upkeep.place(tmp_path, packed, whole=True)
    assert not (tmp_path / "submissions").exists()


# -- corrections


def test_a_correction_needs_a_reason_and_the_folder_that_it_replaced(board: Path) -> None:
    before = contents(board / "submissions" / "dense")
    put(board, "dense", references([0]))
    kept = board / upkeep.SUPERSEDED / "v1" / "dense"
    with pytest.raises(
        InvalidInput, match=r"submissions/dense: records of version 1 were changed .*superseded/v1/dense"
    ):
        upkeep.build(board)
    for path, raw in before.items():
        files.write(kept / path, raw)
    with pytest.raises(UsageError, match="say why with --reason"):
        upkeep.build(board)
    (event,) = upkeep.build(board, reason="seed 1 was no dense run", evidence="its log", by="me").events
    assert (event.change, event.version, event.reason, event.by) == ("correct", 8, "seed 1 was no dense run", "me")
    assert event.records is not None
    assert len(event.records) == 1
    assert upkeep.at(board, 7).same


def test_a_packed_correction_keeps_what_it_replaces(whole: tuple[Path, dict[int, bytes]]) -> None:
    kept = whole[0] / upkeep.SUPERSEDED
    assert sorted(p.relative_to(kept).as_posix() for p in kept.glob("*/*")) == ["v3/omp"]
    assert [r.score for r in read_submission(kept / "v3" / "omp").records] == [95.0, 90.0, 70.0]
    assert [r.score for r in read_submission(whole[0] / "submissions" / "omp").records] == [100.0, 90.0, 70.0]


# -- receipts


def test_receipts_count_while_the_record_stands(whole: tuple[Path, dict[int, bytes]]) -> None:
    read = History.read(whole[0])
    assert read.at(4).past().levels == {OMP[0].run: "reevaluate", MORE.run: "recompute"}
    assert read.past().levels == {MORE.run: "recompute"}  # the other was corrected since
    shown = {r.sparsity: r.level for r in upkeep.at(whole[0], 4).board.entries if r.submission == "omp"}
    assert shown == {0.5: "claimed", 0.9: "recompute"}  # a row is as good as its least verified run


def test_a_receipt_raises_and_never_lowers(board: Path) -> None:
    folder = board / "submissions" / "omp"
    assert upkeep.receive(board, {folder: {MORE.run: "recompute (scores)"}}).events == ()
    (event,) = upkeep.receive(board, {folder: {MORE.run: "retrain", BETTER.run: "claimed"}}).events
    assert event.levels == {"retrain": (MORE.run,)}
    assert History.read(board).past().levels == {MORE.run: "retrain"}


def test_receipts_of_several_submissions_make_one_board(board: Path) -> None:
    dense, omp = (board / "submissions" / name for name in ("dense", "omp"))
    runs = [r.run for r in read_submission(dense).records]
    events = upkeep.receive(board, {dense: dict.fromkeys(runs, "recompute"), omp: {BETTER.run: "recompute"}}).events
    assert [(e.submission, e.board is None) for e in events] == [("dense", True), ("omp", False)]
    assert len(History.read(board).past().levels) == 4


def test_a_receipt_is_of_what_the_board_has(board: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other" / "omp", OMP)
    with pytest.raises(InvalidInput, match=r"other/omp: is not what version 5 took up"):
        upkeep.receive(board, {other: {OMP[0].run: "recompute"}})
    with pytest.raises(InvalidInput, match="the board knows no run '000000000000' of it"):
        upkeep.receive(board, {board / "submissions" / "omp": {"0" * 12: "recompute"}})
    with pytest.raises(
        UsageError, match=r"knows no submission 'snip', only .*omp.*; `smcbench board build` takes up what"
    ):
        upkeep.receive(board, {write(tmp_path / "other" / "snip", method("snip", [50])): {}})
    put(board, "snip", method("snip", [50]))
    with pytest.raises(InvalidInput, match=r"there is more to take up .add snip .1 run..; `smcbench board build`"):
        upkeep.receive(board, {board / "submissions" / "omp": {OMP[0].run: "recompute"}})


# -- retractions


def test_what_was_retracted_stays_visible_and_is_not_ranked(whole: tuple[Path, dict[int, bytes]]) -> None:
    board = leaderboard.read_board(whole[0] / upkeep.FILE)
    (each,) = board.retractions
    assert (each.submission, each.version, each.reason, each.evidence) == (
        "rigl", 7, "trained on the test split", "https://example.org/1",
    )  # fmt: skip
    assert [r.mean for r in board.entries if r.submission == "rigl"] == [pytest.approx(250 / 3)]
    before = upkeep.at(whole[0], 6).board
    assert [(s.retracted, s.tier is None) for s in board.standings if s.submission == "rigl"] == [(True, True)]
    assert [s.retracted for s in before.standings if s.submission == "rigl"] == [False]
    assert before.retractions == ()


def test_what_was_retracted_stays_as_it_was(board: Path) -> None:
    with pytest.raises(UsageError, match="rigl was retracted in version 7: trained on the test split"):
        upkeep.retract(board, "rigl", "again", "again")
    with pytest.raises(InvalidInput, match=r"submissions/rigl: was retracted in version 7"):
        grow(board, "rigl", record("rigl", 0.9, 0, 100))
    put(board, "rigl", [*RIGL, record("rigl", 0.9, 0, 100)])
    with pytest.raises(InvalidInput, match=r"was retracted in version 7 .*submit under another name"):
        upkeep.build(board)
    with pytest.raises(UsageError, match="knows no submission 'nobody'"):
        upkeep.retract(board, "nobody", "x", "y")


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 201, "\x1b[31m"])
def test_what_is_said_is_a_line(board: Path, text: str) -> None:
    before = contents(board)
    with pytest.raises(UsageError, match="retract: reason: must be a text like"):
        upkeep.retract(board, "omp", text, "y")
    assert contents(board) == before


# -- a change of the scorer


class Harsher:
    """A scorer that finds one answer less right than before in some runs."""

    def __init__(self, *runs: float) -> None:
        self.old = runs

    def rescored(self, predictions: Any) -> dict[str, float]:
        return {"accuracy": self._score(predictions)}

    def outcomes(self, predictions: Any) -> Outcomes:
        return right(self._score(predictions))

    def _score(self, predictions: Any) -> float:
        seed = predictions["e0"]  # answers(seed)
        return self.old[seed] - 5 if seed == 0 else self.old[seed]


def test_a_change_of_the_scorer_is_a_correction(board: Path, tmp_path: Path) -> None:
    folder = board / "submissions" / "dense"
    before = read_submission(folder)
    stood = (board / upkeep.FILE).read_bytes()

    def scorers(task: TaskRef) -> Harsher | None:
        return Harsher(95.0, 90.0) if task.name == "digits" else None

    found = list(scored_otherwise(folder, before, scorers))
    assert [(f.submission, f.seed, f.old, f.new) for f in found] == [
        ("dense", 0, {"accuracy": 95.0}, {"accuracy": 90.0})
    ]
    assert list(scored_otherwise(folder, before, lambda task: None)) == []
    for path, raw in corrected(folder, before, found, scorers).items():
        files.write(tmp_path / "rescored" / "dense" / path, raw)
    with upkeep.locked(board):
        upkeep.place(board, tmp_path / "rescored" / "dense", reason="commas count")
    (event,) = upkeep.build(board, reason="commas count").events
    assert (event.change, event.submission) == ("correct", "dense")
    after = read_submission(folder)
    assert [r.score for r in after.records] == [90.0, 90.0]
    assert [after.outcomes[r.run].score() for r in after.records] == [90.0, 90.0]
    assert upkeep.at(board, 7).board.text().encode() == stood
    assert list(scored_otherwise(folder, after, scorers)) == []


def test_what_changed_between_two_boards(board: Path) -> None:
    old, new = upkeep.at(board, 3).board, upkeep.at(board, 5).board
    means = [
        (d.submission, d.where.partition(": ")[2], d.old, d.new) for d in differences(old, new) if d.what == "mean"
    ]
    assert means == [("omp", "digits at 0.5, budget 1", 92.5, 95.0)]
    came = [(d.submission, d.old, d.new) for d in differences(new, upkeep.at(board, 6).board) if d.what == "seeds"]
    assert came == [("rigl", None, 3)]
    gone = differences(upkeep.at(board, 7).board, upkeep.at(board, 6).board)
    assert [(d.old, d.new) for d in gone if d.where == "retracted"] == [("trained on the test split", None)]
    assert differences(old, old) == []


# -- kills and other processes


def killed(at: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed at its ``at``-th change of a file or folder; whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    left = [at]

    def dying(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return change(*arguments, **options)

        return call

    try:
        for name in ("replace", "rename", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        work()
        os._exit(0)
    finally:
        os._exit(3)


def test_whatever_is_killed_the_same_command_mends(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every change of a file or folder, of a correction and the build that takes it up."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # what is killed loses nothing; a disk without power would
    corrected = write(tmp_path / "packed" / "dense", [replace(references()[0], scores={"accuracy": 100.0})])

    def work(board: Path) -> None:
        with upkeep.locked(board):
            upkeep.place(board, corrected, reason="why")
            upkeep.build(board, reason="why")

    wanted = Path(shutil.copytree(board, tmp_path / "wanted"))
    work(wanted)
    assert History.read(wanted).version == 8
    at = 0
    while True:
        mine = Path(shutil.copytree(board, tmp_path / f"at-{at}"))
        if not killed(at, lambda mine=mine: work(mine)):  # type: ignore[misc]
            break
        work(mine)
        assert contents(mine) == contents(wanted), f"killed at change {at}"
        shutil.rmtree(mine)
        at += 1
    assert at > 12


def test_a_build_that_was_killed_is_mended_by_a_build(board: Path, tmp_path: Path) -> None:
    put(board, "snip", method("snip", [50]))
    wanted = Path(shutil.copytree(board, tmp_path / "wanted"))
    upkeep.build(wanted)
    at = 0
    while True:
        mine = Path(shutil.copytree(board, tmp_path / f"at-{at}"))
        if not killed(at, lambda mine=mine: upkeep.build(mine)):  # type: ignore[misc]
            break
        upkeep.build(mine)
        assert contents(mine) == contents(wanted), f"killed at change {at}"
        at += 1
    assert at >= 2  # the history, the leaderboard


def _build(board: Path) -> None:
    while True:
        try:
            upkeep.build(board)
            return
        except Busy:
            pass


def _hold(board: Path, held: Any, done: Any) -> None:
    with upkeep.locked(board):
        held.set()
        done.wait(60)


def test_one_process_at_a_time(board: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(board, held, done))
    other.start()
    assert held.wait(60)
    for change in (
        lambda: upkeep.build(board),
        lambda: upkeep.retract(board, "omp", "x", "y"),
        lambda: upkeep.receive(board, {board / "submissions" / "omp": {}}),
    ):
        with pytest.raises(Busy, match=r"a change of the board .* by another process"):
            change()
    assert upkeep.build(board, check=True).changed is False  # to look is free
    done.set()
    other.join(60)
    assert upkeep.build(board).changed is False


def test_two_processes_take_up_a_submission_once(board: Path) -> None:
    put(board, "snip", method("snip", [50]))
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_build, args=(board,)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
        assert each.exitcode == 0
    assert [str(e) for e in History.read(board).events[7:]] == ["add snip (1 run)"]
    assert isinstance(History.read(board).events[7], Event)
    assert upkeep.build(board, check=True).changed is False


def test_a_change_that_fails_leaves_the_board_as_it_was(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename = contents(board), os.rename

    def full(source: Any, target: Any) -> None:
        if Path(target) == board / "submissions" / "dense" and "new" in Path(source).parts:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(SmcbenchError, match=r"board: cannot be changed .No space left on device."):
        grow(board, "dense", replace(references()[0], scores={"accuracy": 100.0}), reason="why")
    monkeypatch.undo()
    upkeep.build(board)
    after = contents(board)
    assert {path for path in after if path not in before} == {f"superseded/v1/dense/{path}" for path in _dense(board)}
    assert {path: after[path] for path in before} == before


def _dense(board: Path) -> set[str]:
    return set(contents(board / "submissions" / "dense"))


def test_a_board_is_a_folder_that_is_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for what in (
        lambda: upkeep.build(nowhere),
        lambda: upkeep.build(nowhere, check=True),
        lambda: upkeep.retract(nowhere, "omp", "x", "y"),
    ):
        with pytest.raises(InvalidInput, match="no such folder"):
            what()
    assert not nowhere.exists()


def test_no_character_of_the_history_can_change_unseen(board: Path) -> None:
    """One in every line, and each in turn of the last line's keys and values."""
    path, whole = board / history.FILE, lines(board)
    places = [(number, len(line) // 2) for number, line in enumerate(whole)]
    places += [(len(whole) - 1, at) for at in range(1, len(whole[-1]), 23)]
    for number, at in places:
        line = whole[number]
        edited = [*whole]
        edited[number] = line[:at] + ("a" if line[at] != "a" else "b") + line[at + 1 :]
        path.write_text("".join(f"{each}\n" for each in edited))
        with pytest.raises(InvalidInput, match=r"history\.jsonl:"):
            upkeep.build(board, check=True)
