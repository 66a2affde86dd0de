"""Scores said again by the scorers of now: which runs of a board would have another one, and their correction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from smcbench import files
from smcbench.results import outcomes, predictions
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import RunRecord, TaskRef
from smcbench.results.shape import Line, Name, RunId
from smcbench.results.submission import MANIFEST, RECORDS, Submission, outcomes_of, predictions_of

NOISE = 1e-9
"""Relative difference of two scores that is rounding."""


class Scorer(Protocol):
    """What a task says of predictions on its test split."""

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """All scores that its evaluation would give."""
        ...

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """What each example adds to the score that ranks."""
        ...


Scorers = Callable[[TaskRef], Scorer | None]
"""The scorer of a task in that version; None where it is not here, or scores no predictions."""


@dataclass(frozen=True)
class Rescored:
    """A run whose predictions score otherwise now than its record says."""

    submission: Name
    run: RunId
    task: Line
    sparsity: float
    seed: int
    old: Mapping[str, float]
    new: Mapping[str, float]


def scored_otherwise(folder: Path, submission: Submission, scorers: Scorers) -> Iterator[Rescored]:
    """The runs of a submission whose scores change."""
    for task, records in _by_task(submission.records).items():
        scorer = scorers(records[0].spec.task)
        if scorer is None:
            continue
        answers = predictions.read_runs(folder / predictions_of(task))
        for record in records:
            new = scorer.rescored(answers[record.run])
            if not _alike(record.scores, new):
                spec = record.spec
                yield Rescored(
                    submission.manifest.name, record.run, task, spec.sparsity, spec.seed, dict(record.scores), new
                )


def corrected(folder: Path, submission: Submission, found: Iterable[Rescored], scorers: Scorers) -> dict[str, bytes]:
    """The files of a submission with the scores of now in the records that were ``found``, and outcomes to match."""
    new = {each.run: each.new for each in found}
    records = [replace(r, scores=new.get(r.run, r.scores)) for r in submission.records]
    contents = {path: (folder / path).read_bytes() for path in submission.manifest.files}
    contents[RECORDS] = "".join(f"{record.text()}\n" for record in records).encode()
    for task, mine in _by_task(records).items():
        known = {record.run: submission.outcomes[record.run] for record in mine if record.run in submission.outcomes}
        if known and any(record.run in new for record in mine):
            scorer = scorers(mine[0].spec.task)
            assert scorer is not None  # or none of its runs were found
            answers = predictions.read_runs(folder / predictions_of(task))
            known = {run: scorer.outcomes(answers[run]) for run in known}
            contents[outcomes_of(task)] = outcomes.encode(known)
    digests = {path: files.sha256(raw) for path, raw in contents.items()}
    return {**contents, MANIFEST: replace(submission.manifest, files=digests).text().encode()}


def _by_task(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[record.spec.task.name].append(record)
    return dict(found)


def _alike(old: Mapping[str, float], new: Mapping[str, float]) -> bool:
    return old.keys() == new.keys() and all(
        math.isclose(old[name], new[name], rel_tol=NOISE, abs_tol=NOISE) for name in old
    )
