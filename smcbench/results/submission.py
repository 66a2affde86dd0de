"""A submission: one sparsifier's records on one battery, in a folder that can be checked without running anything.

Nothing here executes code of a submission or needs the tasks installed: a git checkout is enough.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smcbench import files
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results import aggregate, predictions, shape
from smcbench.results.battery import DENSE, Battery, Cell, Entry, nearest, plain_name, show_sparsity
from smcbench.results.record import RunRecord, slug
from smcbench.results.shape import Digest, Line, Name
from smcbench.results.store import Store

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class BatteryTask:
    """A task of a battery as it was when the submission was made."""

    task: Line
    digest: Digest
    budget: float
    sparsities: tuple[float, ...]
    sparsifiers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class BatteryRef:
    """A battery with the digests of its tasks; equal digests make one table."""

    name: Line
    digest: Digest
    margin: float
    seeds: tuple[int, ...]
    tasks: tuple[BatteryTask, ...]

    @classmethod
    def of(cls, battery: Battery, task_digests: Mapping[str, str]) -> BatteryRef:
        """Pin a battery to the tasks that are installed."""
        digest = battery.digest(task_digests)
        tasks = tuple(
            BatteryTask(e.task, task_digests[e.task], e.budget, e.sparsities, e.sparsifiers) for e in battery.tasks
        )
        return cls(battery.name, digest, battery.margin, battery.seeds, tasks)

    def battery(self) -> Battery:
        """The battery without the digests."""
        entries = tuple(Entry(t.task, t.sparsities, t.budget, t.sparsifiers) for t in self.tasks)
        return Battery(self.name, entries, self.seeds, margin=self.margin)

    def task_digests(self) -> dict[str, str]:
        """By task name."""
        return {t.task: t.digest for t in self.tasks}

    def cells(self, sparsifier: str) -> list[Cell]:
        """What a submission of this sparsifier holds when it is complete."""
        is_dense = plain_name(sparsifier) == DENSE
        return [c for c in self.battery().cells([sparsifier]) if (c.sparsifier == DENSE) == is_dense]


@dataclass(frozen=True)
class Missing:
    """A cell of the battery that a submission lacks."""

    task: str
    sparsity: float
    seed: int

    def __str__(self) -> str:
        return f"{self.task} at {show_sparsity(self.sparsity)} seed {self.seed}"


@dataclass(frozen=True)
class Manifest:
    """What a submission is: one sparsifier on one battery, its files by SHA-256, and the cells it lacks."""

    schema: Literal[1]
    name: Name
    sparsifier: Line
    battery: BatteryRef
    files: Mapping[str, Digest]
    missing: tuple[Missing, ...]
    authors: Line | None = None
    paper: Line | None = None


@dataclass(frozen=True)
class Submission:
    """A manifest and its records."""

    manifest: Manifest
    records: tuple[RunRecord, ...]


def choose(records: Iterable[RunRecord], sparsifier: str) -> list[RunRecord]:
    """The records of one sparsifier, by its label, or by its name if that means one label only.

    Raises:
        UsageError: there are none, or several labels; the message says which there are.
    """
    records = list(records)
    if exact := [r for r in records if r.spec.sparsifier.label == sparsifier]:
        return exact
    named = [r for r in records if r.spec.sparsifier.name == sparsifier.rpartition("/")[2]]  # ./mine.py:Mine
    labels = sorted({r.spec.sparsifier.label for r in named})
    if len(labels) == 1:
        return named
    if labels:
        raise UsageError(f"{sparsifier!r} may mean {' or '.join(labels)}; say which")
    known = {r.spec.sparsifier.label for r in records}
    raise UsageError(f"there are no records of {sparsifier!r}; there are some of {nearest(sparsifier, known)}")


def pack(
    store: Store,
    battery: Battery,
    sparsifier: str,
    name: str,
    out: Path,
    task_digests: Mapping[str, str],
    *,
    allow_incomplete: bool = False,
    authors: str | None = None,
    paper: str | None = None,
) -> Path:
    """Write the submission folder ``out/name`` from the runs of a store, whole or not at all; the same runs give the
    same bytes.

    Raises:
        UsageError: the battery is one that no board ranks.
        InvalidInput: cells are missing (unless allowed), versions are mixed, or predictions do not fit their record.
    """
    if not battery.ranked:
        raise UsageError(f"results of battery {battery.name} never enter a leaderboard; run --battery mini for that")
    ref = BatteryRef.of(battery, task_digests)
    wanted = {_key(c.task, c.sparsity, c.seed, c.budget): c for c in ref.cells(sparsifier)}
    chosen = [r for r in choose(store.find(), sparsifier) if _of(r, ref) and _cell(r) in wanted]
    records, _ = aggregate.unique(chosen)
    records.sort(key=lambda r: (r.spec.task.name, r.spec.sparsity, r.spec.seed))
    where = f"{sparsifier} on {battery.name}"
    _one_version(records, where)
    missing = _missing(wanted.values(), records)
    if not records or (missing and not allow_incomplete):
        raise InvalidInput(
            f"{where}: {len(missing)} of {len(wanted)} cells are missing ({_some(missing)}); run them, "
            "or pack it as incomplete"
        )
    contents = {RECORDS: "".join(r.text() + "\n" for r in records).encode()}
    by_task: dict[str, list[bytes]] = defaultdict(list)
    for record in records:
        by_id = store.read_predictions(record.spec, record.provenance.engine)
        if files.sha256(predictions.encode(by_id)) != record.digests.predictions:
            folder = store.folder(record.spec, record.provenance.engine)
            raise InvalidInput(f"{folder / predictions.NAME}: not the predictions of its record; run it again")
        by_task[record.spec.task.name].append(predictions.encode(by_id, record.run))
    for task, parts in by_task.items():
        contents[_predictions_of(task)] = predictions.compress(b"".join(parts))
    manifest = Manifest(
        schema=1,
        name=name,
        sparsifier=records[0].spec.sparsifier.label,
        battery=ref,
        files={path: files.sha256(raw) for path, raw in contents.items()},
        missing=missing,
        authors=authors,
        paper=paper,
    )
    shape.read(Manifest, shape.plain(manifest), "manifest")  # a bad name fails here, before anything is written
    text = json.dumps(shape.plain(manifest), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents[MANIFEST] = text.encode()
    return _write_folder(out / name, contents)


def read_submission(folder: Path) -> Submission:
    """Read and check a submission: shapes, digests, names, duplicates, completeness as claimed, predictions.

    Raises:
        InvalidInput: the message names the file.
    """
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink():
        raise InvalidInput(f"{folder}: is a link; a submission is a folder of files")
    manifest = shape.read(Manifest, files.read_json(path), str(path))
    if manifest.name != folder.resolve().name:
        raise InvalidInput(f"{path}: name is {manifest.name!r}, but the folder is called {folder.resolve().name!r}")
    if manifest.battery.digest != manifest.battery.battery().digest(manifest.battery.task_digests()):
        raise InvalidInput(f"{path}: battery: the digest is not that of the tasks, sparsities and seeds beside it")
    _check_files(folder, manifest)
    records = _read_records(folder / RECORDS)
    _check_records(folder, manifest, records)
    _check_predictions(folder, manifest, records)
    return Submission(manifest, tuple(records))


def read_submissions(folder: Path) -> list[Submission]:
    """All submissions of a board, by name.

    Raises:
        InvalidInput: one of them is not what it should be, or two hold the same run.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no such folder; name the one that holds the submissions")
    found = [read_submission(each) for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    owners: dict[str, str] = {}
    for submission in found:
        for record in submission.records:
            other = owners.setdefault(record.run, submission.manifest.name)
            if other != submission.manifest.name:
                raise InvalidInput(
                    f"{folder / submission.manifest.name}: run {record.run} stands in {other} already; remove one"
                )
    return found


def from_records(records: Iterable[RunRecord], battery: Battery, task_digests: Mapping[str, str]) -> list[Submission]:
    """Submissions as they would be packed from these records, one a label: a board of one's own runs."""
    ref = BatteryRef.of(battery, task_digests)
    by_label: dict[str, list[RunRecord]] = defaultdict(list)
    for record in aggregate.unique(r for r in records if _of(r, ref))[0]:
        by_label[record.spec.sparsifier.label].append(record)
    names = Counter[str]()
    found = []
    for label, mine in sorted(by_label.items()):
        wanted = {_key(c.task, c.sparsity, c.seed, c.budget): c for c in ref.cells(mine[0].spec.sparsifier.name)}
        mine = [r for r in mine if _cell(r) in wanted]
        if not mine:
            continue
        name = slug(label).lower()[:60]
        names[name] += 1
        name += f"-{names[name]}" if names[name] > 1 else ""
        found.append(Submission(Manifest(1, name, label, ref, {}, _missing(wanted.values(), mine)), tuple(mine)))
    return found


def _key(task: str, sparsity: float, seed: int, budget: float) -> tuple[str, float, int, float]:
    return task, sparsity, seed, budget


def _cell(record: RunRecord) -> tuple[str, float, int, float]:
    spec = record.spec
    return _key(spec.task.name, spec.sparsity, spec.seed, spec.budget)


def _of(record: RunRecord, ref: BatteryRef) -> bool:
    """Whether a record is of a task of this battery, in the same version."""
    return ref.task_digests().get(record.spec.task.name) == record.spec.task.digest


def _missing(wanted: Iterable[Cell], records: Iterable[RunRecord]) -> tuple[Missing, ...]:
    there = {_cell(r) for r in records}
    lacking = [c for c in wanted if _key(c.task, c.sparsity, c.seed, c.budget) not in there]
    return tuple(Missing(c.task, c.sparsity, c.seed) for c in lacking)


def _some(missing: Sequence[Missing]) -> str:
    return ", ".join(map(str, missing[:4])) + (", ..." if len(missing) > 4 else "")


def _one_version(records: Iterable[RunRecord], where: str) -> None:
    versions = {
        (f"engine {r.provenance.engine}, version {r.spec.sparsifier.version}", r.spec.sparsifier.digest,
         files.canonical(dict(r.spec.sparsifier.parameters)))
        for r in records
    }  # fmt: skip
    if len(versions) > 1:
        shown = " and ".join(sorted({v[0] for v in versions}))
        raise InvalidInput(
            f"{where}: the records come from different versions or parameters ({shown}); run all with one"
        )


def _predictions_of(task: str) -> str:
    return f"{PREDICTIONS}/{slug(task)}.jsonl.zst"


def _check_files(folder: Path, manifest: Manifest) -> None:
    allowed = {RECORDS, *(_predictions_of(t.task) for t in manifest.battery.tasks)}
    for name in manifest.files:
        if name not in allowed:
            raise InvalidInput(f"{folder / MANIFEST}: files: {name!r} is no file of a submission")
    if RECORDS not in manifest.files:
        raise InvalidInput(f"{folder / MANIFEST}: files: {RECORDS} is missing")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InvalidInput(f"{path}: is a link; a submission is a folder of files")
        if name not in (MANIFEST, PREDICTIONS) and name not in manifest.files:
            raise InvalidInput(f"{path}: the manifest does not name this file; remove it")
    for name, expected in manifest.files.items():
        try:
            actual = files.sha256((folder / name).read_bytes())
        except OSError as error:
            raise InvalidInput(f"{folder / name}: cannot be read ({error.strerror})") from None
        if actual != expected:
            raise InvalidInput(f"{folder / name}: does not have the digest that {MANIFEST} names; it was changed")


def _read_records(path: Path) -> list[RunRecord]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text") from None
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line]
    return [RunRecord.from_json(files.parse_json(line, where), where) for where, line in lines]


def _check_records(folder: Path, manifest: Manifest, records: Sequence[RunRecord]) -> None:
    where, ref = str(folder / RECORDS), manifest.battery
    wanted = {_key(c.task, c.sparsity, c.seed, c.budget): c for c in ref.cells(manifest.sparsifier)}
    seen: set[tuple[str, float, int, float]] = set()
    if not records:
        raise InvalidInput(f"{where}: holds no record")
    for number, record in enumerate(records, 1):
        spec, cell = record.spec, _cell(record)
        here = f"{where}:{number}"
        if spec.sparsifier.label != manifest.sparsifier:
            raise InvalidInput(f"{here}: a record of {spec.sparsifier.label}, in a submission of {manifest.sparsifier}")
        if not _of(record, ref):
            raise InvalidInput(f"{here}: {spec.task.name} is another task, or another version, than in the battery")
        if cell not in wanted:
            raise InvalidInput(f"{here}: the battery has no cell {Missing(*cell[:3])} at budget {spec.budget:g}")
        if cell in seen:
            raise InvalidInput(f"{here}: {Missing(*cell[:3])} stands twice")
        seen.add(cell)
    _one_version(records, where)
    if set(manifest.missing) != set(_missing(wanted.values(), records)):
        raise InvalidInput(f"{folder / MANIFEST}: missing: not the cells that {RECORDS} lacks")


def _check_predictions(folder: Path, manifest: Manifest, records: Sequence[RunRecord]) -> None:
    by_task: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_task[record.spec.task.name].append(record)
    for task in manifest.battery.task_digests():
        name = _predictions_of(task)
        if (name in manifest.files) != (task in by_task):
            raise InvalidInput(
                f"{folder / name}: there must be predictions of the tasks that have records, and no others"
            )
    for task, mine in by_task.items():
        path = folder / _predictions_of(task)
        found = predictions.read_runs(path)
        for record in mine:
            raw = predictions.encode(found.pop(record.run, {}))
            if files.sha256(raw) != record.digests.predictions:
                raise InvalidInput(f"{path}: the predictions of run {record.run} are not those of its record")
        if found:
            raise InvalidInput(f"{path}: predictions of the run {next(iter(found))!r}, which has no record")


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A folder whole or not at all: written beside, then put in place of what was there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise SmcbenchError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        for name, raw in contents.items():
            files.write(beside / "new" / name, raw)
        if folder.exists():
            os.rename(folder, beside / "old")
        os.rename(beside / "new", folder)
    except OSError as error:
        if (beside / "old").exists():
            os.rename(beside / "old", folder)
        raise SmcbenchError(f"{folder}: cannot be replaced ({error.strerror}); choose another folder") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder
