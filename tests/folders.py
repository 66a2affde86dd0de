"""Made-up folders of submissions, with outcomes, for the tests of boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from records import BATTERY, DIGESTS, answers, dense, record

from smcbench import files
from smcbench.results import outcomes, predictions
from smcbench.results.battery import Battery
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import Category, Conduct, RunRecord
from smcbench.results.submission import (
    MANIFEST,
    RECORDS,
    BatteryRef,
    Manifest,
    missing_of,
    outcomes_of,
    predictions_of,
    write_folder,
)
from smcbench.results.weights import Array, SparseWeights, encode

NEVER = Conduct(1.0, 0, 0.0, 1, None, None)


def references(seeds: Sequence[int] = (0, 1), task: str = "digits") -> list[RunRecord]:
    """Dense runs, whose conduct is that of dense ones."""
    found = dense([95.0, 90.0, 100.0], task=task)
    return [replace(found[s], conduct=NEVER, category=Category("never", "dense", "static")) for s in seeds]


def method(name: str, scores: Sequence[float], sparsity: float = 0.5, **others: Any) -> list[RunRecord]:
    """Runs of seed 0, 1, ... with these scores, multiples of 5."""
    return [record(name, sparsity, seed, score, **others) for seed, score in enumerate(scores)]


def right(score: float) -> Outcomes:
    """Outcomes on the 20 examples of ``answers`` that make this score: the first ones are right."""
    ids = sorted(answers(0))
    return outcomes.outcomes("accuracy", {id_: [float(i < round(score / 5))] for i, id_ in enumerate(ids)})


def weighed(of: RunRecord, bits: Sequence[bool]) -> tuple[RunRecord, bytes]:
    """A record whose mask is this one, and a file of weights that has it."""
    mask = np.array(bits)
    words = np.where(mask, np.float32(1.0).view(np.uint32), np.uint32(0))
    made = SparseWeights(of.run, of.spec.task.name, {"fc": Array("F32", mask.shape, words)}, {"fc": mask})
    return replace(of, digests=replace(of.digests, mask=made.mask_digest())), encode(made)


def put(
    board: Path, name: str, records: Sequence[RunRecord], *, battery: Battery = BATTERY, with_outcomes: bool = True,
    **manifest: Any,
) -> Path:  # fmt: skip
    """Write ``board/submissions/name`` as packing would, in place of what stands there."""
    return write(board / "submissions" / name, records, battery=battery, with_outcomes=with_outcomes, **manifest)


def write(
    folder: Path, records: Sequence[RunRecord], *, battery: Battery = BATTERY, with_outcomes: bool = True,
    more: Mapping[str, bytes] | None = None, **manifest: Any,
) -> Path:  # fmt: skip
    """Write a submission as packing would; ``more`` are its other files."""
    ref = BatteryRef.of(battery, DIGESTS)
    records = sorted(records, key=lambda r: (r.spec.task.name, r.spec.sparsity, r.spec.seed))
    label = records[0].spec.sparsifier.label
    contents = {RECORDS: "".join(f"{r.text()}\n" for r in records).encode(), **(more or {})}
    for task in {r.spec.task.name for r in records}:
        mine = [r for r in records if r.spec.task.name == task]
        raw = b"".join(predictions.encode(answers(r.spec.seed), r.run) for r in mine)
        contents[predictions_of(task)] = predictions.compress(raw)
        if with_outcomes:
            contents[outcomes_of(task)] = outcomes.encode({r.run: right(r.score) for r in mine})
    digests = {path: files.sha256(raw) for path, raw in contents.items()}
    made = Manifest(2, folder.name, label, ref, digests, missing_of(ref, label, records), **manifest)
    return write_folder(folder, {**contents, MANIFEST: made.text().encode()})


def contents(folder: Path) -> dict[str, bytes]:
    """All files under a folder but those of locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
