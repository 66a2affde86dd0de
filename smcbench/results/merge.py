"""Two folders of one submission made one: the union of their cells, each with its evidence from where it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from smcbench import files
from smcbench.results import outcomes, predictions
from smcbench.results.record import RunRecord
from smcbench.results.submission import (
    CARD,
    FILLED,
    MANIFEST,
    RECORDS,
    BatteryRef,
    Elsewhere,
    Submission,
    in_battery,
    outcomes_of,
    predictions_of,
    weights_of,
)

RESERVE = 20_000
"""Bytes kept free for the manifest."""

Read = tuple[Path, Submission]
"""A folder, and what was read from it."""
Cell = tuple[str, str, float, int, float]


def merged(first: Read, second: Read) -> dict[str, bytes]:
    """The files of a submission that holds the cells of both; where both have a cell, that of the first.

    The battery is that of the first; cells of the second that it does not have are left out. Packing everything at once
    gives the same bytes.

    Raises:
        InvalidInput: the two are of different versions or parameters.
    """
    manifest, ref = first[1].manifest, first[1].manifest.battery
    lines: dict[str, bytes] = {}
    chosen: dict[Cell, RunRecord] = {}
    for folder, submission in (first, second):
        text = [line for line in (folder / RECORDS).read_bytes().split(b"\n") if line]
        for record, line in zip(submission.records, text, strict=True):
            if chosen.setdefault(_cell(record), record) is record:
                lines[record.run] = line
    records, missing = in_battery(chosen.values(), ref, manifest.sparsifier)
    contents = {RECORDS: b"".join(lines[record.run] + b"\n" for record in records)}
    for task in sorted({record.spec.task.name for record in records}):
        contents |= _evidence(task, [r for r in records if r.spec.task.name == task], (first, second))
    cards = [(folder / CARD).read_bytes() for folder, each in (first, second) if CARD in each.manifest.files]
    if cards:  # what somebody wrote, rather than what was filled in
        contents[CARD] = min(cards, key=lambda text: text.rstrip().endswith(FILLED.encode()))
    paths = [weights_of(task) for task in ref.task_digests()]
    heavy = {path: contents.pop(path) for path in paths if path in contents}
    gone = without_room(heavy, ref, contents)
    contents |= {path: raw for path, raw in heavy.items() if path not in gone}
    elsewhere = {**second[1].manifest.elsewhere, **manifest.elsewhere, **gone}
    manifest = replace(
        manifest,
        files={path: files.sha256(raw) for path, raw in contents.items()},
        missing=missing,
        elsewhere={path: elsewhere[path] for path in paths if path in elsewhere and path not in contents},
        authors=manifest.authors or second[1].manifest.authors,
        paper=manifest.paper or second[1].manifest.paper,
    )
    return {**contents, MANIFEST: manifest.text().encode()}


def without_room(heavy: Mapping[str, bytes], ref: BatteryRef, others: Mapping[str, bytes]) -> dict[str, Elsewhere]:
    """The weights that a submission has no room for beside its other files, the largest first."""
    file_limit, folder_limit = ref.limits
    room = folder_limit - RESERVE - sum(map(len, others.values()))
    left = dict(sorted(heavy.items(), key=lambda item: (len(item[1]), item[0])))
    gone: dict[str, Elsewhere] = {}
    while left and (sum(map(len, left.values())) > room or len(next(reversed(left.values()))) > file_limit):
        path, raw = left.popitem()
        gone[path] = Elsewhere(files.sha256(raw), len(raw), "not published")
    return gone


def _evidence(task: str, records: Sequence[RunRecord], sources: Sequence[Read]) -> dict[str, bytes]:
    """Predictions, outcomes and weights of the runs on one task, each from the first folder that has just this run."""
    answers = [
        predictions.read_runs(folder / predictions_of(task))
        if predictions_of(task) in submission.manifest.files else {}
        for folder, submission in sources
    ]  # fmt: skip
    of = {record.run: _places(record, sources) for record in records}
    raw = b"".join(predictions.encode(answers[of[record.run][0]][record.run], record.run) for record in records)
    contents = {predictions_of(task): predictions.compress(raw)}
    known = {
        run: sources[place][1].outcomes[run]
        for run, places in of.items() for place in reversed(places) if run in sources[place][1].outcomes
    }  # fmt: skip
    if len(known) == len(records):  # all or none
        contents[outcomes_of(task)] = outcomes.encode(known)
    weighed = [
        (record.spec.seed, -record.spec.sparsity, place)
        for record in records for place in of[record.run] if sources[place][1].weights.get(task) == record.run
    ]  # fmt: skip
    if weighed:  # of the lowest seed, at the highest sparsity
        folder = sources[min(weighed)[2]][0]
        contents[weights_of(task)] = (folder / weights_of(task)).read_bytes()
    return contents


def _places(record: RunRecord, sources: Sequence[Read]) -> list[int]:
    """Which folders hold this very run: the same weights and predictions."""
    return [
        place for place, (_, submission) in enumerate(sources)
        if any(r.run == record.run and r.digests == record.digests for r in submission.records)
    ]  # fmt: skip


def _cell(record: RunRecord) -> Cell:
    spec = record.spec
    return spec.task.name, spec.task.digest, spec.sparsity, spec.seed, spec.budget
