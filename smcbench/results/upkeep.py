"""Everything that changes the folder of a board: submissions put there, and taken up into its history.

A board's folder holds ``submissions/NAME``; ``superseded/vN/NAME``, the folders that corrections replaced, by the
version that had taken them up; ``history.jsonl``; and ``leaderboard.json``, which follows from all of these. The
history is written before the leaderboard, each whole or not at all, and a folder is complete before it takes the place
of another: whatever is killed in between, ``build`` said again mends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smcbench import files
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results import history, leaderboard
from smcbench.results.aggregate import Level
from smcbench.results.battery import nearest
from smcbench.results.history import LEVELS, BrokenHistory, Event, History, Known
from smcbench.results.leaderboard import Board
from smcbench.results.merge import merged
from smcbench.results.outcomes import Outcomes
from smcbench.results.shape import RunId
from smcbench.results.submission import (
    MANIFEST,
    RECORDS,
    Submission,
    lacking,
    missing_of,
    read_submission,
    read_submissions,
)

FILE = "leaderboard.json"
SUBMISSIONS = "submissions"
SUPERSEDED = "superseded"
LOCK = ".lock"
STAGING = ".staging"

_held: set[Path] = set()


@dataclass(frozen=True)
class Built:
    """A board as it is now, the events that this took, and whether a file had to change for it."""

    board: Board
    events: tuple[Event, ...]
    changed: bool


@dataclass(frozen=True)
class Rebuilt:
    """A board of the past.

    Attributes:
        event: the last one of its history.
        board: as the software of now makes it.
        same: whether the bytes of its ``leaderboard.json`` are those that the event names; None where it
            was taken up together with the next one, so that no such board was ever written.
    """

    event: Event
    board: Board
    same: bool | None


@contextlib.contextmanager
def locked(board: Path) -> Iterator[None]:
    """Keep other processes from changing the board, and put right what one left that was killed.

    Raises:
        Busy: another process is changing it.
        InvalidInput: there is no such folder.
        SmcbenchError: it cannot be written.
    """
    place = board.resolve()
    if place in _held:
        yield
        return
    if not board.is_dir():
        raise InvalidInput(f"{board}: no such folder; name the one that holds the leaderboard with --board")
    with files.locked(board / LOCK, f"a change of the board {board}"):
        _held.add(place)
        try:
            _mend(board)
            yield
            _mend(board)
        except OSError as error:
            raise SmcbenchError(f"{board}: cannot be changed ({error.strerror or error})") from None
        finally:
            _held.discard(place)


def build(
    board: Path, check: bool = False, reason: str | None = None, evidence: str | None = None, by: str | None = None
) -> Built:
    """Take up what stands under ``submissions/`` and the history does not know, and write history and leaderboard.

    Args:
        board: the folder.
        check: write nothing.
        reason: of corrections; needed where records changed.
        evidence: of corrections.
        by: who says so.

    Raises:
        BrokenHistory: a line, or a folder that a line tells of, is not what it was.
        InvalidInput: a submission is not what it should be, or a folder was replaced and not kept.
        UsageError: there is a correction, and no reason.
    """
    if check:
        return _settled(board, write=False, reason=reason, evidence=evidence, by=by)
    with locked(board):
        return _settled(board, reason=reason, evidence=evidence, by=by)


def retract(board: Path, name: str, reason: str, evidence: str, by: str | None = None) -> Built:
    """Take a submission out of the ranking for good; its rows stay visible, with reason and evidence.

    Raises:
        UsageError: the board has no such submission, or it was retracted before.
    """
    with locked(board):
        known = _known(History.read(board), board, name)
        if known.retracted:
            raise UsageError(f"{name} was retracted in version {known.retracted.version}: {known.retracted.reason}")
        what = {"submission": name, "manifest": known.taken.manifest, "reason": reason, "evidence": evidence, "by": by}
        return _settled(board, _event("retract", **what))


def receive(board: Path, verified: Mapping[Path, Mapping[RunId, Level]], by: str | None = None) -> Built:
    """Write down how far the runs of submissions were verified; what is known already is not said again.

    Args:
        board: the folder of the board.
        verified: by the folder of the submission, which must be as the board has it, the levels by run.
        by: who verified.

    Raises:
        UsageError: the board has no such submission.
        InvalidInput: the folder is not what the board has, or does not hold such a run.
    """
    with locked(board):
        past = History.read(board)
        receipts = (_receipt(folder, _known(past, board, folder.resolve().name), levels, by)
                    for folder, levels in verified.items())  # fmt: skip
        return _settled(board, *(each for each in receipts if each))


def receivable(board: Path, folders: Iterable[Path]) -> None:
    """Whether :func:`receive` would write down what is found out about these folders; good to know before.

    Raises:
        UsageError: the board has no such submission.
        InvalidInput: the folder is not what the board has.
    """
    past = History.read(board)
    for folder in folders:
        _taken_up(folder, _known(past, board, folder.resolve().name))


def _taken_up(folder: Path, known: Known) -> str:
    """The digest of the manifest of a folder that is as the board has it."""
    try:
        manifest = files.sha256((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise InvalidInput(f"{folder / MANIFEST}: cannot be read ({error.strerror})") from None
    if manifest != known.taken.manifest:
        raise InvalidInput(
            f"{folder}: is not what version {known.taken.version} took up; `smcbench board build` comes first"
        )
    return manifest


def _receipt(folder: Path, known: Known, levels: Mapping[RunId, Level], by: str | None) -> Event | None:
    manifest = _taken_up(folder, known)
    news: dict[Level, list[RunId]] = {}
    for run, level in sorted(levels.items()):
        if run not in known.records:
            raise InvalidInput(f"{folder}: the board knows no run {run!r} of it")
        if LEVELS.index(level) > LEVELS.index(known.levels.get(run, LEVELS[0])):
            news.setdefault(level, []).append(run)
    if not news:
        return None
    said = {level: tuple(runs) for level, runs in news.items()}
    return _event("verify", submission=known.taken.submission, manifest=manifest, levels=said, by=by)


def at(board: Path, version: int) -> Rebuilt:
    """The board as it was, from the folders of now: each cut back to what the history knew of it then.

    Raises:
        UsageError: there is no such version.
        BrokenHistory: a line, or a folder that a line tells of, is not what it was.
    """
    whole = History.read(board)
    if not 1 <= version <= whole.version:
        there = f"1 to {whole.version}" if whole.version else "none yet; `smcbench board build` begins with them"
        raise UsageError(f"{board}: there is no version {version} of it; the versions are {there}")
    past = whole.at(version)
    made = leaderboard.build(_submissions(board, _standing(board), past, whole), past.past())
    event = past.events[-1]
    return Rebuilt(event, made, None if event.board is None else event.board == files.sha256(made.text()))


def place(board: Path, packed: Path, reason: str | None = None, whole: bool = False) -> Path:
    """Put a packed submission on the board, within :func:`locked`: what stands there of the same name grows by it.

    Cells that stand stay as they are. With a reason, which makes it a correction, the packed ones replace them, and the
    folder as it was is kept. The packed folder is left alone. With ``whole``, no cell of the battery may be missing
    then.

    Raises:
        InvalidInput: the two do not go together, such as two versions of a method; cells are missing; or what stands
            there was retracted.
        UsageError: it is of another battery or of other parameters than what stands there, and there is no reason.
    """
    new, standing = read_submission(packed), board / SUBMISSIONS / packed.resolve().name
    staged = _empty(board / STAGING / "new") / standing.name
    if not standing.exists():
        _complete(new, whole)
        shutil.copytree(packed, staged)
        standing.parent.mkdir(parents=True, exist_ok=True)
        os.rename(staged, standing)
        return standing
    old, known = read_submission(standing), History.read(board).known.get(standing.name)
    if not reason and _nature(old) != _nature(new):
        theirs, mine = (f"{each.manifest.sparsifier} on battery {each.manifest.battery.name}" for each in (old, new))
        same = old.manifest.sparsifier == new.manifest.sparsifier
        raise UsageError(
            f"{standing}: is of {theirs}{' in another version' if mine == theirs else f', not of {mine}'}; "
            f"choose another --name{', or replace it with --reason' if same else ''}"
        )
    contents = merged((packed, new), (standing, old)) if reason else merged((standing, old), (packed, new))
    for path, raw in contents.items():
        files.write(staged / path, raw)
    after = read_submission(staged)
    _complete(after, whole)
    if files.sha256(contents[MANIFEST]) == files.sha256((standing / MANIFEST).read_bytes()):
        return standing
    if known is not None:
        _not_retracted(standing, known)
        if not _extends(staged, after, known):
            _keep(board, standing, old, known)
    away = _empty(board / STAGING / "old") / standing.name
    os.rename(standing, away)
    os.rename(staged, standing)
    shutil.rmtree(away)
    return standing


# -- what the history says and what stands


def _settled(
    board: Path,
    *more: Event,
    write: bool = True,
    reason: str | None = None,
    evidence: str | None = None,
    by: str | None = None,
) -> Built:
    """History and leaderboard with what is new on the board, or with ``more`` events if there is nothing new."""
    past, current = History.read(board), _standing(board)
    news = _news(board, past, current, reason, evidence, by)
    if news and more:
        raise InvalidInput(f"{board}: there is more to take up ({news[0]}); `smcbench board build` comes first")
    whole, path = past.followed([*news, *more]), board / FILE
    _hold_against(path, past, board)
    result = leaderboard.build(_submissions(board, current, past, whole), past.past())
    if past.events and files.sha256(result.text()) != past.events[-1].board:
        if past.events[-1].source == history.source():
            raise BrokenHistory(
                f"{board / history.FILE}:{past.version}: names another board than the one its submissions make; "
                "the line, or a folder under submissions/ or superseded/, was edited: restore it"
            )
        if whole.version == past.version:
            whole = past.followed([_event("rebuild")])
    if whole.version > past.version:
        result = leaderboard.build(_submissions(board, current, whole, whole), whole.past())
        whole = whole.naming(files.sha256(result.text()))
    text = result.text()
    changed = whole.version > past.version or not path.is_file() or path.read_bytes() != text.encode()
    if write and changed:
        if whole.events:
            whole.write(board)
        files.write(path, text)
    return Built(result, whole.events[past.version :], changed)


def _news(
    board: Path,
    past: History,
    current: Mapping[str, Submission],
    reason: str | None,
    evidence: str | None,
    by: str | None,
) -> list[Event]:
    """What stands on the board and the history does not know."""
    found = []
    for name in sorted({*current, *past.known}):
        folder, known = board / SUBMISSIONS / name, past.known.get(name)
        if name not in current:
            raise BrokenHistory(
                f"{folder}: is gone, but the history knows it; restore it (to take it back there is `smcbench board "
                "retract`; if a command was killed, `smcbench board build` puts it back)"
            )
        submission = current[name]
        manifest = files.sha256((folder / MANIFEST).read_bytes())
        if known and manifest == known.taken.manifest:
            continue
        records, outcomes = _lines(folder, submission), _outcomes(submission)
        what: dict[str, Any] = {
            "submission": name,
            "manifest": manifest,
            "sparsifier": submission.manifest.sparsifier,
            "battery": submission.manifest.battery.digest,
            "authors": submission.manifest.authors,
            "paper": submission.manifest.paper,
        }
        if known is None:
            found.append(_event("add", **what, records=records, outcomes=outcomes))
            continue
        _not_retracted(folder, known)
        if _extends(folder, submission, known):
            records = {run: digest for run, digest in records.items() if run not in known.records}
            outcomes = {run: digest for run, digest in outcomes.items() if run not in known.outcomes}
            found.append(_event("extend", **what, records=records, outcomes=outcomes))
            continue
        kept = _kept(board, name, known.taken.version)
        if not kept.is_dir():
            raise InvalidInput(
                f"{folder}: records of version {known.taken.version} were changed or taken out, and the folder as it "
                f"was is not kept as {kept}; restore it there from git, or the records here"
            )
        if not reason:
            raise UsageError(
                f"{folder}: records of version {known.taken.version} were changed or taken out; "
                "say why with --reason, or restore them"
            )
        found.append(
            _event("correct", **what, records=records, outcomes=outcomes, reason=reason, evidence=evidence, by=by)
        )
    return found


def _standing(board: Path) -> dict[str, Submission]:
    return {each.manifest.name: each for each in read_submissions(board / SUBMISSIONS)}


def _submissions(board: Path, current: Mapping[str, Submission], past: History, whole: History) -> list[Submission]:
    """The submissions as ``past``, a beginning of the ``whole`` history, knew them."""
    found = []
    for name, known in sorted(past.known.items()):
        kept = whole.kept(name, past.version)
        folder = board / SUBMISSIONS / name if kept is None else _kept(board, name, kept)
        if kept is None and name not in current:
            raise BrokenHistory(f"{folder}: is gone, but the history knows it; restore it")
        found.append(_cut(folder, current[name] if kept is None else read_submission(folder), known))
    return found


def _cut(folder: Path, submission: Submission, known: Known) -> Submission:
    """A submission with no more than was known of it.

    Raises:
        BrokenHistory: it has less, or other records.
    """
    _same(folder, _lines(folder, submission), known.records, known, "record")
    _same(folder, _outcomes(submission), known.outcomes, known, "outcomes")
    records = tuple(r for r in submission.records if r.run in known.records)
    outcomes = {run: each for run, each in submission.outcomes.items() if run in known.outcomes}
    ref, taken = submission.manifest.battery, known.taken
    missing = missing_of(ref, submission.manifest.sparsifier, records)
    manifest = replace(submission.manifest, missing=missing, authors=taken.authors, paper=taken.paper)
    return replace(submission, manifest=manifest, records=records, outcomes=outcomes)


def _same(folder: Path, found: Mapping[str, str], wanted: Mapping[str, str], known: Known, what: str) -> None:
    for run, digest in wanted.items():
        if found.get(run) != digest:
            raise BrokenHistory(
                f"{folder}: the {what} of run {run} changed since version {known.taken.version} took it up; restore it"
            )


def _extends(folder: Path, submission: Submission, known: Known) -> bool:
    """Whether all that was known of a submission stands in it unchanged."""
    records, outcomes = _lines(folder, submission), _outcomes(submission)
    return (
        _nature(submission) == (known.taken.sparsifier, known.taken.battery)
        and known.records.items() <= records.items()
        and known.outcomes.items() <= outcomes.items()
    )


def _nature(submission: Submission) -> tuple[str, str]:
    return submission.manifest.sparsifier, submission.manifest.battery.digest


def _lines(folder: Path, submission: Submission) -> dict[RunId, str]:
    """SHA-256 of each record's line."""
    lines = [line for line in (folder / RECORDS).read_bytes().split(b"\n") if line]
    return {record.run: files.sha256(line) for record, line in zip(submission.records, lines, strict=True)}


def _outcomes(submission: Submission) -> dict[RunId, str]:
    """Digest of the outcomes of each run that has some."""
    return {run: _digest(each) for run, each in submission.outcomes.items()}


def _digest(outcomes: Outcomes) -> str:
    values = {field.name: getattr(outcomes, field.name) for field in dataclasses.fields(outcomes)}
    return files.digest({
        name: value if isinstance(value, str) else files.sha256(np.ascontiguousarray(value).tobytes())
        for name, value in values.items()
    })  # fmt: skip


def _known(past: History, board: Path, name: str) -> Known:
    if name not in past.known:
        raise UsageError(
            f"{board}: its history knows no submission {name!r}, only {nearest(name, past.known)}; "
            "`smcbench board build` takes up what stands under submissions/"
        )
    return past.known[name]


def _not_retracted(folder: Path, known: Known) -> None:
    if known.retracted:
        raise InvalidInput(
            f"{folder}: was retracted in version {known.retracted.version} ({known.retracted.reason}); "
            "leave it as it was, and submit under another name"
        )


def _hold_against(path: Path, past: History, board: Path) -> None:
    """Whether the leaderboard that stands is one that the history leads to, or older, whatever software made it."""
    try:
        raw = path.read_bytes()
        shown = json.loads(raw)
        version, head = shown["version"], shown["head"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # it is missing, edited or of an older schema: written anew
    if isinstance(version, int) and version > past.version:
        raise BrokenHistory(
            f"{board / history.FILE}:{past.version + 1}: is missing, for {path} is version {version}; "
            "lines at the end were removed, restore them"
        )
    if past.events and files.sha256(raw) == past.events[-1].board and head != past.past().head:
        raise BrokenHistory(
            f"{board / history.FILE}:{past.version}: is not the line that {path} was made after; "
            "it was edited, restore it"
        )


# -- folders


def _kept(board: Path, name: str, version: int) -> Path:
    return board / SUPERSEDED / f"v{version}" / name


def _complete(submission: Submission, whole: bool) -> None:
    manifest = submission.manifest
    if whole and manifest.missing:
        what = lacking(manifest.missing, manifest.battery, manifest.sparsifier)
        raise InvalidInput(f"{manifest.sparsifier} on {manifest.battery.name}: {what}")


def _keep(board: Path, standing: Path, old: Submission, known: Known) -> None:
    """Keep what stands on the board, before something takes its place that is no extension of it."""
    kept = _kept(board, standing.name, known.taken.version)
    if kept.exists():  # by a correction that was not taken up yet
        return
    _cut(standing, old, known)
    copy = _empty(board / STAGING / "kept") / standing.name
    shutil.copytree(standing, copy)
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.rename(copy, kept)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _mend(board: Path) -> None:
    """Put back a folder that was moved away for another that never came, and remove what is half written."""
    for away in (board / STAGING / "old").glob("*"):
        if not (board / SUBMISSIONS / away.name).exists():
            os.rename(away, board / SUBMISSIONS / away.name)
    shutil.rmtree(board / STAGING, ignore_errors=True)
    for left in (*board.glob(f".{FILE}.*.tmp"), *board.glob(f".{history.FILE}.*.tmp")):
        left.unlink(missing_ok=True)


def _event(change: history.Change, **what: Any) -> Event:
    return history.event(change, datetime.datetime.now(datetime.UTC).date().isoformat(), **what)
