"""The store: one folder a run. ``record.json`` is written last, whole, and exists iff the run is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from smcbench import files
from smcbench.errors import InvalidInput, SmcbenchError
from smcbench.results import predictions, shape
from smcbench.results.record import RunRecord, RunSpec, slug

RECORD = "record.json"
FAILURE = "failure.json"

FailureClass = Literal["missed-sparsity", "nan", "error", "oom"]


@dataclass(frozen=True)
class Failure:
    """Why a run has no record yet: the class that ``retry`` selects by, and one line for people."""

    run: str
    spec: RunSpec
    kind: FailureClass
    message: str


class Store:
    """Runs on disk; ``ls`` is its query language, ``rm -r`` its invalidation.

    Several processes may use one store: a record appears at once or not at all.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.problems: list[str] = []
        """What the last ``find()`` or ``failures()`` could not read, one line each."""

    def folder(self, spec: RunSpec, engine: int) -> Path:
        """The folder of a run, made for reading: ``digits/rigl-0.488-s0-9f2c1e7ab034``."""
        parts = [slug(spec.sparsifier.name), f"{round(spec.sparsity, 3):g}"]
        if spec.budget != 1:
            parts.append(f"x{spec.budget:g}")
        parts += [f"s{spec.seed}", spec.run_id(engine)]
        return self.root / slug(spec.task.name) / "-".join(parts)

    def record(self, spec: RunSpec, engine: int) -> RunRecord | None:
        """The record of a run if it is complete.

        Raises:
            InvalidInput: there is a record, but it cannot be read; the message names the file.
        """
        path = self.folder(spec, engine) / RECORD
        return _record(path) if path.exists() else None

    def write(self, record: RunRecord) -> Path:
        """Complete a run: write its record, forget an earlier failure."""
        folder = self.folder(record.spec, record.provenance.engine)
        value = record.to_json()
        RunRecord.from_json(value, str(folder / RECORD))
        files.write(folder / RECORD, files.canonical(value) + "\n")
        self.clear_failure(record.spec, record.provenance.engine)
        return folder

    def find(self) -> Iterator[RunRecord]:
        """All complete runs, by folder name; what cannot be read goes to ``problems`` and stops nobody."""
        self.problems = []
        for path in sorted(self.root.glob(f"*/*/{RECORD}")):
            with self._noting():
                yield _record(path)

    def fail(self, spec: RunSpec, engine: int, kind: FailureClass, message: str) -> None:
        """Note why a run failed."""
        failure = Failure(spec.run_id(engine), spec, kind, message)
        files.write(self.folder(spec, engine) / FAILURE, files.canonical(shape.plain(failure)) + "\n")

    def failure(self, spec: RunSpec, engine: int) -> Failure | None:
        """Why a run failed, if it did."""
        path = self.folder(spec, engine) / FAILURE
        return shape.read(Failure, files.read_json(path), str(path)) if path.exists() else None

    def failures(self) -> Iterator[Failure]:
        """All failed runs, by folder name."""
        self.problems = []
        for path in sorted(self.root.glob(f"*/*/{FAILURE}")):
            with self._noting():
                yield shape.read(Failure, files.read_json(path), str(path))

    def clear_failure(self, spec: RunSpec, engine: int) -> None:
        """Forget a failure, before the next attempt."""
        path = self.folder(spec, engine) / FAILURE
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SmcbenchError(f"{path}: cannot be removed ({error.strerror}); make the folder writable") from None

    def write_predictions(self, spec: RunSpec, engine: int, by_id: Mapping[str, Any]) -> str:
        """Keep the prediction for each example; returns the digest that the record carries."""
        return predictions.write(self.folder(spec, engine) / predictions.NAME, by_id)

    def read_predictions(self, spec: RunSpec, engine: int) -> dict[str, Any]:
        """The prediction for each example of a run, by id."""
        return predictions.read(self.folder(spec, engine) / predictions.NAME)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except InvalidInput as error:
            self.problems.append(str(error))


def _record(path: Path) -> RunRecord:
    record = RunRecord.from_json(files.read_json(path), str(path))
    if not path.parent.name.endswith(record.run):
        raise InvalidInput(f"{path}: holds the run {record.run}, which belongs into another folder; remove the copy")
    return record
