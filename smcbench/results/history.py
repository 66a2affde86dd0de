"""The history of a board: one line an event, each naming the digest of the line before; nothing is ever taken out.

Line by line it says which runs of which submission were taken up, corrected, retracted and verified, by digest. So any
board of the past can be rebuilt from the folders of today, and whoever edits a line breaks the chain.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from smcbench import __version__, files
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import shape
from smcbench.results.aggregate import Level
from smcbench.results.leaderboard import Past, Retraction
from smcbench.results.shape import Digest, Line, Name, RunId

FILE = "history.jsonl"
LEVELS: tuple[Level, ...] = get_args(Level)
"""How far a run was verified, the lowest first."""

Change = Literal["add", "extend", "correct", "retract", "verify", "rebuild"]
Day = Annotated[str, shape.Pattern(r"\d{4}-\d{2}-\d{2}")]
TAKEN: tuple[Change, ...] = ("add", "extend", "correct")
"""What takes up the folder of a submission."""
_NEEDS: Mapping[Change, tuple[str, ...]] = {
    **dict.fromkeys(TAKEN, ("submission", "manifest", "sparsifier", "battery", "records", "outcomes")),
    "correct": ("submission", "manifest", "sparsifier", "battery", "records", "outcomes", "reason"),
    "retract": ("submission", "manifest", "reason", "evidence"),
    "verify": ("submission", "manifest", "levels"),
    "rebuild": (),
}


class BrokenHistory(InvalidInput):
    """A line was edited, removed or moved, or what stands on the board is not what the lines say."""


@dataclass(frozen=True)
class Event:
    """One change of the board.

    ``add`` takes up a submission, ``extend`` what it gained (its old records stand unchanged), ``correct`` one whose
    records changed (the folder that stood there is kept), ``retract`` takes it out of the ranking, ``verify`` holds
    receipts, and ``rebuild`` says that newer software makes another board of the same submissions.

    Attributes:
        schema: shape of the line.
        version: of the board, from 1: the number of the line.
        previous: SHA-256 of the line before.
        date: when, in UTC.
        change: what happened.
        smcbench: version of the software.
        source: digest of the part of the software that makes a board.
        submission: whose.
        manifest: SHA-256 of its ``manifest.json`` then.
        sparsifier: its label.
        battery: digest of its battery.
        authors: who stands behind it.
        paper: where the method is described.
        records: SHA-256 of each record's line: of the new runs (extend), or of all.
        outcomes: digest of the outcomes of runs, where they are new or changed (extend), or of all that have some.
        levels: how far runs were verified.
        reason: why it was corrected or retracted.
        evidence: what shows it.
        by: who did it.
        board: SHA-256 of ``leaderboard.json`` after this event; None if it was taken up together with the next one.
    """

    schema: Literal[1]
    version: int
    previous: Digest | None
    date: Day
    change: Change
    smcbench: Line
    source: Digest
    submission: Name | None = None
    manifest: Digest | None = None
    sparsifier: Line | None = None
    battery: Digest | None = None
    authors: Line | None = None
    paper: Line | None = None
    records: Mapping[RunId, Digest] | None = None
    outcomes: Mapping[RunId, Digest] | None = None
    levels: Mapping[Level, tuple[RunId, ...]] | None = None
    reason: Line | None = None
    evidence: Line | None = None
    by: Line | None = None
    board: Digest | None = None

    @functools.cached_property
    def line(self) -> str:
        """Its line, without the line break."""
        return files.canonical(shape.plain(self))

    @property
    def digest(self) -> str:
        """What the next line names."""
        return files.sha256(self.line)

    def __str__(self) -> str:
        counts = [(len(runs), f" at {level}") for level, runs in (self.levels or {}).items()]
        counts += [(len(self.records), "")] if self.records else []
        counted = ", ".join(f"{n} run{'s' * (n != 1)}{level}" for n, level in counts)
        return " ".join([self.change, self.submission or "", f"({counted})" if counted else ""]).strip()


@dataclass(frozen=True)
class Known:
    """A submission as the history knows it.

    Attributes:
        taken: the last event that took its folder up.
        records: SHA-256 of the record's line of each run.
        outcomes: digest of the outcomes of the runs that have some.
        levels: how far runs were verified; those that nobody verified are missing.
        retracted: how it was taken back, if it was.
    """

    taken: Event
    records: Mapping[RunId, Digest]
    outcomes: Mapping[RunId, Digest]
    levels: Mapping[RunId, Level]
    retracted: Retraction | None = None


@dataclass(frozen=True)
class History:
    """The events of a board, in order."""

    events: tuple[Event, ...] = ()

    @property
    def version(self) -> int:
        """Of the board: how many events there are."""
        return len(self.events)

    @functools.cached_property
    def known(self) -> dict[Name, Known]:
        """The submissions by name.

        Raises:
            BrokenHistory: an event is about a submission or a run that no event before it took up.
        """
        known: dict[Name, Known] = {}
        for event in self.events:
            if event.submission is not None:
                known[event.submission] = _after(known.get(event.submission), event)
        return known

    def past(self) -> Past:
        """What a board shows of its history."""
        return Past(
            version=self.version,
            head=replace(self.events[-1], board=None).digest if self.events else None,
            levels={run: level for each in self.known.values() for run, level in each.levels.items()},
            retractions=tuple(
                sorted((k.retracted for k in self.known.values() if k.retracted), key=lambda each: each.version)
            ),
        )

    def at(self, version: int) -> History:
        """As it was at a version of the board."""
        return History(self.events[:version])

    def kept(self, name: str, version: int) -> int | None:
        """Under which number the folder is kept that held a submission at a version; None if it stands there still.

        Folders only grow until a correction replaces them; the number is the version that last took the old one up.
        """
        last = None
        for event in self.events:
            if event.submission == name and event.change in TAKEN:
                if event.change == "correct" and event.version > version:
                    return last
                last = event.version
        return None

    def followed(self, events: Iterable[Event]) -> History:
        """With these events after its own, numbered and chained."""
        chain = list(self.events)
        for event in events:
            previous = chain[-1].digest if chain else None
            chain.append(replace(event, version=len(chain) + 1, previous=previous))
        return History(tuple(chain))

    def naming(self, board: str) -> History:
        """With the SHA-256 of the board in its last event."""
        return History((*self.events[:-1], replace(self.events[-1], board=board)))

    def text(self) -> str:
        """The bytes of ``history.jsonl``."""
        return "".join(f"{event.line}\n" for event in self.events)

    def write(self, folder: Path) -> None:
        """Write ``history.jsonl`` whole or not at all."""
        files.write(folder / FILE, self.text())

    @classmethod
    def read(cls, folder: Path) -> History:
        """The history of a board's folder; empty if none was begun.

        Raises:
            BrokenHistory: a line is not what it should be; the message names the first one.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            lines = path.read_bytes().decode().split("\n")
        except UnicodeDecodeError:
            raise BrokenHistory(f"{path}: not UTF-8 text") from None
        if lines.pop():
            raise BrokenHistory(f"{path}:{len(lines) + 1}: does not end as a line does; it was cut off")
        events: list[Event] = []
        for number, line in enumerate(lines, 1):
            event = _read(line, f"{path}:{number}")
            if event.version != number:
                raise BrokenHistory(
                    f"{path}:{number}: is version {event.version}; lines were removed or moved, restore them"
                )
            if event.previous != (events[-1].digest if events else None):
                raise BrokenHistory(
                    f"{path}:{max(number - 1, 1)}: is not the line that line {number} follows; "
                    "it was edited, restore it"
                )
            events.append(event)
        if events and events[-1].board is None:
            raise BrokenHistory(f"{path}:{len(events)}: names no board; lines after it were removed, restore them")
        history = cls(tuple(events))
        try:
            _ = history.known
        except InvalidInput as error:
            raise BrokenHistory(f"{path}:{error}") from None
        return history


@functools.cache
def source() -> str:
    """Digest of what makes a board of submissions: the same source makes the same bytes of them."""
    parts = {path.name: files.sha256(path.read_bytes()) for path in sorted(Path(__file__).parent.glob("*.py"))}
    return files.digest([parts, [importlib.metadata.version(name) for name in ("numpy", "scipy")]])


def event(change: Change, date: str, **what: object) -> Event:
    """An event that is in no history yet.

    Raises:
        UsageError: a text in it is no line.
    """
    made = Event(1, 0, None, date, change, f"smcbench {__version__}", source(), **what)  # type: ignore[arg-type]
    try:
        return shape.read(Event, shape.plain(made), change)
    except InvalidInput as error:
        raise UsageError(str(error)) from None


def _read(line: str, where: str) -> Event:
    try:
        event = shape.read(Event, files.parse_json(line, where), where)
    except InvalidInput as error:
        raise BrokenHistory(str(error)) from None
    if event.line != line:
        raise BrokenHistory(f"{where}: is not written as smcbench writes it; it was edited, restore it")
    for key in _NEEDS[event.change]:
        if getattr(event, key) is None:
            raise BrokenHistory(f"{where}: key {key!r} is missing in a line that says {event.change!r}")
    for level in event.levels or {}:
        if level not in LEVELS:
            raise BrokenHistory(f"{where}: levels: must be one of {', '.join(LEVELS)}, not {level!r}")
    return event


def _after(known: Known | None, event: Event) -> Known:
    """A submission after an event that is about it."""
    if (known is None) != (event.change == "add"):
        raise InvalidInput(f"{event.version}: says {event.change!r} of {event.submission}, which is " + (
            "there already" if known else "not there yet"))  # fmt: skip
    if known is None:
        return Known(event, event.records or {}, event.outcomes or {}, {})
    levels = dict(known.levels)
    if event.change == "retract":
        retraction = Retraction(event.submission, event.version, event.date, event.reason, event.evidence)  # type: ignore[arg-type]
        return replace(known, retracted=retraction)
    if event.change == "verify":
        for level, runs in (event.levels or {}).items():
            for run in runs:
                if run not in known.records:
                    raise InvalidInput(f"{event.version}: verifies run {run}, which {event.submission} does not hold")
                levels[run] = max(level, levels.get(run, LEVELS[0]), key=LEVELS.index)
        return replace(known, levels=levels)
    old = known if event.change == "extend" else replace(known, records={}, outcomes={})
    records = {**old.records, **(event.records or {})}
    levels = {run: level for run, level in levels.items() if records.get(run) == known.records[run]}
    return Known(event, records, {**old.outcomes, **(event.outcomes or {})}, levels, known.retracted)
