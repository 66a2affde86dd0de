"""A submission: one sparsifier's records on one battery, in a folder that can be checked without running anything.

Nothing here executes code of a submission or needs the tasks installed: a git checkout is enough.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from smcbench import files
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results import aggregate, migrate, plausible, predictions, shape
from smcbench.results import outcomes as outcomes_
from smcbench.results import weights as weights_
from smcbench.results.battery import DENSE, STANDARD, Battery, Cell, Entry, nearest, plain_name, show_sparsity
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import MetricInfo, RunRecord, TaskRef, slug
from smcbench.results.shape import Digest, Line, Name, RunId, Word

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
CARD = "card.md"
FILLED = "(Filled in from the records; `smcbench submit --card FILE` puts a text of yours in its place.)"
"""Last line of a card that nobody wrote."""
PREDICTIONS, OUTCOMES, WEIGHTS = "predictions", "outcomes", "weights"
"""Folders with a file a task."""
_ENDINGS = {PREDICTIONS: "jsonl.zst", OUTCOMES: "json.zst", WEIGHTS: "safetensors"}

FILE_LIMIT, FOLDER_LIMIT = 1_000_000, 3_000_000
"""Bytes of a file, and of the whole, on the standard battery: its submissions stand in the repository."""
_LARGER = 64
"""How many times as much those on other batteries may hold, which stand elsewhere."""
_UNFOLDED = 16
"""How many times the bytes of a file its contents may have."""
_MOST_CELLS = 10_000
_CARD_LIMIT = 50_000


@dataclass(frozen=True)
class BatteryTask:
    """A task of a battery as it was when the submission was made."""

    task: Word
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

    @property
    def limits(self) -> tuple[int, int]:
        """Bytes that a file of a submission may have, and all of them together."""
        times = 1 if self.name == STANDARD else _LARGER
        return times * FILE_LIMIT, times * FOLDER_LIMIT

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
class Elsewhere:
    """A file that belongs to a submission but does not stand in its folder."""

    sha256: Digest
    bytes: int
    where: Line
    """An address, or why it is not published."""


@dataclass(frozen=True)
class Manifest:
    """What a submission is: one sparsifier on one battery, its files by SHA-256, and the cells it lacks."""

    schema: Literal[2]
    name: Name
    sparsifier: Line
    battery: BatteryRef
    files: Mapping[str, Digest]
    missing: tuple[Missing, ...]
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)
    checker: Line | None = None
    """The software that packed it; older ones do not say."""
    authors: Line | None = None
    paper: Line | None = None

    def text(self) -> str:
        """The bytes of ``manifest.json``."""
        return json.dumps(shape.plain(self), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Submission:
    """A manifest, its records, and the evidence beside them.

    Attributes:
        manifest: what it is.
        records: of its runs.
        outcomes: of each run by its id; a run without has no interval.
        weights: the run whose weights are in the folder, by task.
    """

    manifest: Manifest
    records: tuple[RunRecord, ...]
    outcomes: Mapping[RunId, Outcomes] = field(default_factory=dict)
    weights: Mapping[str, RunId] = field(default_factory=dict)


def check_name(name: str) -> None:
    """Whether a submission may be called so.

    Raises:
        UsageError: it may not.
    """
    try:
        shape.read_as(Name, name, "name")
    except InvalidInput:
        raise UsageError(
            f"{name!r:.80} cannot name a submission: use a to z, 0 to 9, and . _ - within, at most 64 characters, "
            "and no name that Windows keeps for itself"
        ) from None


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


def read_submission(folder: Path) -> Submission:
    """Read and check all that a submission claims, without its tasks and without torch.

    Checked are shapes, digests, sizes, names, duplicates, completeness, that no number is out of all bounds, and that
    records, predictions, outcomes and weights tell the same story. What is not checked is whether the story is true:
    that is for ``smcbench.verify``.

    Raises:
        InvalidInput: the message names the file.
    """
    sizes = _sizes(folder)
    manifest = _read_manifest(folder)
    _check_files(folder, manifest, sizes)
    records = read_records(folder / RECORDS)
    _check_records(folder, manifest, records)
    examples = _check_predictions(folder, manifest, records)
    outcomes = _read_outcomes(folder, manifest, records, examples)
    return Submission(manifest, tuple(records), outcomes, _check_weights(folder, manifest, records))


def read_submissions(folder: Path) -> list[Submission]:
    """All submissions of a board, by name.

    Raises:
        InvalidInput: one of them is not what it should be, or two hold the same run, or differ in what a task is.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no such folder; name the one that holds the submissions")
    found = [read_submission(each) for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    owners: dict[str, str] = {}
    kinds: dict[str, tuple[TaskRef, MetricInfo, str]] = {}
    for submission in found:
        for record in submission.records:
            kind = (record.spec.task, record.metric)
            *first, name = kinds.setdefault(record.spec.task.digest, (*kind, submission.manifest.name))
            if kind != tuple(first):
                raise InvalidInput(
                    f"{folder / submission.manifest.name}: has another metric, scope or family of "
                    f"{record.spec.task.name} than {name}; smcbench verify says which of them is wrong"
                )
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
        missing = missing_of(ref, mine[0].spec.sparsifier.name, mine)
        found.append(Submission(Manifest(2, name, label, ref, {}, missing), tuple(mine)))
    return found


def in_battery(
    records: Iterable[RunRecord], ref: BatteryRef, sparsifier: str
) -> tuple[list[RunRecord], tuple[Missing, ...]]:
    """The newest records of a sparsifier in the cells of a battery, in order, and the cells that have none.

    Raises:
        InvalidInput: they are of different versions, or of different parameters.
    """
    wanted = {_key(c.task, c.sparsity, c.seed, c.budget): c for c in ref.cells(sparsifier)}
    found, _ = aggregate.unique(r for r in choose(records, sparsifier) if _of(r, ref) and _cell(r) in wanted)
    found.sort(key=lambda r: (r.spec.task.name, r.spec.sparsity, r.spec.seed))
    _one_version(found, f"{sparsifier} on {ref.name}")
    return found, missing_of(ref, sparsifier, found)


def lacking(missing: Sequence[Missing], ref: BatteryRef, sparsifier: str) -> str:
    """What a submission lacks, and what to do about it, for people."""
    cells = f"{len(missing)} of {len(ref.cells(sparsifier))} cells are missing ({_some(missing)})"
    return f"{cells}; run them, or allow that with --allow-incomplete"


def _key(task: str, sparsity: float, seed: int, budget: float) -> tuple[str, float, int, float]:
    return task, sparsity, seed, budget


def _cell(record: RunRecord) -> tuple[str, float, int, float]:
    spec = record.spec
    return _key(spec.task.name, spec.sparsity, spec.seed, spec.budget)


def _of(record: RunRecord, ref: BatteryRef) -> bool:
    """Whether a record is of a task of this battery, in the same version."""
    return ref.task_digests().get(record.spec.task.name) == record.spec.task.digest


def missing_of(ref: BatteryRef, sparsifier: str, records: Iterable[RunRecord]) -> tuple[Missing, ...]:
    """The cells of a battery of which these records of a sparsifier hold none."""
    there = {_cell(r) for r in records}
    return tuple(
        Missing(c.task, c.sparsity, c.seed)
        for c in ref.cells(sparsifier)
        if _key(c.task, c.sparsity, c.seed, c.budget) not in there
    )


def _some(missing: Sequence[Missing]) -> str:
    return ", ".join(map(str, missing[:4])) + (", ..." if len(missing) > 4 else "")


def _one_version(records: Iterable[RunRecord], where: str) -> None:
    versions = {
        (f"{r.spec.sparsifier.name}, engine {r.provenance.engine}, version {r.spec.sparsifier.version}",
         r.spec.sparsifier.digest,
         files.canonical(dict(r.spec.sparsifier.parameters)))
        for r in records
    }  # fmt: skip
    if len(versions) > 1:
        shown = " and ".join(sorted({v[0] for v in versions}))
        shown += "" if " and " in shown else ", with other parameters or another source"
        raise InvalidInput(
            f"{where}: the records come from different versions or parameters ({shown}); run all with one"
        )


def predictions_of(task: str) -> str:
    """Where in a submission the predictions on a task stand.

    >>> predictions_of("digits")
    'predictions/digits.jsonl.zst'
    """
    return _path(PREDICTIONS, task)


def outcomes_of(task: str) -> str:
    """Where the outcomes stand."""
    return _path(OUTCOMES, task)


def weights_of(task: str) -> str:
    """Where the weights stand."""
    return _path(WEIGHTS, task)


def _path(kind: str, task: str) -> str:
    return f"{kind}/{slug(task)}.{_ENDINGS[kind]}"


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file of a folder that holds nothing but files and folders, before any of them is opened."""
    if folder.is_symlink() or not folder.is_dir():
        raise InvalidInput(f"{folder}: is no folder, or a link; a submission is a folder of files")
    sizes = {}
    for at, folders, names in os.walk(folder):
        for path in (Path(at, name) for name in sorted([*folders, *names])):
            name, found = path.relative_to(folder).as_posix(), path.lstat()
            if stat.S_ISLNK(found.st_mode):
                raise InvalidInput(f"{path}: is a link; a submission is a folder of files")
            if stat.S_ISDIR(found.st_mode) and name not in _ENDINGS:
                raise InvalidInput(f"{path}: is no folder of a submission; remove it")
            if not stat.S_ISDIR(found.st_mode):
                if not stat.S_ISREG(found.st_mode):
                    raise InvalidInput(f"{path}: is no plain file; remove it")
                sizes[name] = found.st_size
    for name, size in sizes.items():
        limit = FILE_LIMIT if name == MANIFEST else _LARGER * FILE_LIMIT
        if size > limit:
            raise InvalidInput(f"{folder / name}: has {size:,} bytes; a file like it may have {limit:,}")
    return sizes


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    manifest = shape.read(Manifest, migrate.manifest(files.read_json(path), str(path)), str(path))
    ref = manifest.battery
    if manifest.name != folder.resolve().name:
        raise InvalidInput(f"{path}: name is {manifest.name!r}, but the folder is called {folder.resolve().name!r}")
    if len(ref.seeds) * sum(len(t.sparsities) for t in ref.tasks) > _MOST_CELLS:
        raise InvalidInput(f"{path}: battery: has more than {_MOST_CELLS:,} cells")
    if len({slug(t.task).lower() for t in ref.tasks}) < len({t.task for t in ref.tasks}):
        raise InvalidInput(f"{path}: battery: two of its tasks would share their files")
    _check_battery(ref, f"{path}: battery")
    return manifest


def _check_battery(ref: BatteryRef, where: str) -> None:
    if ref != BatteryRef.of(ref.battery(), ref.task_digests()):
        raise InvalidInput(f"{where}: the digest is not that of the tasks, sparsities and seeds beside it")
    tables = {(t.task, t.budget) for t in ref.tasks}
    for ok, what in (
        (ref.tasks and ref.seeds, "has no tasks, or no seeds"),
        (0 <= ref.margin < 1, f"margin is {ref.margin!r}, it must lie in [0, 1)"),
        (all(seed >= 0 for seed in ref.seeds) and len({*ref.seeds}) == len(ref.seeds), "has a seed twice, or below 0"),
        (all(t.budget > 0 for t in ref.tasks), "has a budget that is not positive"),
        (all(0 < s < 1 for t in ref.tasks for s in t.sparsities), "has a sparsity outside (0, 1)"),
        (all(len({*t.sparsities}) == len(t.sparsities) for t in ref.tasks), "has a sparsity twice"),
        (len(tables) == len(ref.tasks), "has a task twice at one budget"),
    ):
        if not ok:
            raise InvalidInput(f"{where}: {what}")


def _check_files(folder: Path, manifest: Manifest, sizes: Mapping[str, int]) -> None:
    by_task = {_path(kind, t.task) for kind in _ENDINGS for t in manifest.battery.tasks}
    for name in [*manifest.files, *manifest.elsewhere]:
        if name not in {RECORDS, CARD, *by_task}:
            raise InvalidInput(f"{folder / MANIFEST}: files: {name!r:.80} is no file of a submission")
    for name, other in manifest.elsewhere.items():
        if not name.startswith(WEIGHTS) or name in manifest.files or other.bytes < 0:
            raise InvalidInput(f"{folder / MANIFEST}: elsewhere: {name!r} must be weights that are not in the folder")
    if RECORDS not in manifest.files:
        raise InvalidInput(f"{folder / MANIFEST}: files: {RECORDS} is missing")
    file_limit, folder_limit = manifest.battery.limits
    for name, size in sizes.items():
        if name != MANIFEST and name not in manifest.files:
            raise InvalidInput(f"{folder / name}: the manifest does not name this file; remove it")
        if size > file_limit:
            raise InvalidInput(f"{folder / name}: has {size:,} bytes; on {manifest.battery.name} a file may have "
                               f"{file_limit:,}")  # fmt: skip
    if sum(sizes.values()) > folder_limit:
        raise InvalidInput(f"{folder}: has {sum(sizes.values()):,} bytes; on {manifest.battery.name} a submission may "
                           f"have {folder_limit:,}")  # fmt: skip
    for name, expected in manifest.files.items():
        try:
            actual = files.sha256((folder / name).read_bytes())
        except OSError as error:
            raise InvalidInput(f"{folder / name}: cannot be read ({error.strerror})") from None
        if actual != expected:
            raise InvalidInput(f"{folder / name}: does not have the digest that {MANIFEST} names; it was changed")
    if CARD in manifest.files:
        check_card((folder / CARD).read_bytes(), str(folder / CARD))


def check_card(raw: bytes, where: str) -> None:
    """Whether this may be a card: not too long a text without control characters.

    Raises:
        InvalidInput: it may not.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: not UTF-8 text") from None
    if len(raw) > _CARD_LIMIT or not shape.is_text(text):
        raise InvalidInput(f"{where}: must be plain text without control characters, of at most {_CARD_LIMIT:,} bytes")


def read_records(path: Path) -> list[RunRecord]:
    """The records in a file of lines.

    Raises:
        InvalidInput: one of them is not what it should be; the message names the line.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text") from None
    if "\r" in text:
        raise InvalidInput(f"{path}: has line ends other than \\n; keep git or the editor from changing them")
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line]
    return [_read_record(line, where) for where, line in lines]


def _read_record(line: str, where: str) -> RunRecord:
    try:
        return RunRecord.from_json(migrate.record(files.parse_json(line, where), where), where)
    except OverflowError:
        raise InvalidInput(f"{where}: a number is out of all bounds") from None


def _check_records(folder: Path, manifest: Manifest, records: Sequence[RunRecord]) -> None:
    where, ref = str(folder / RECORDS), manifest.battery
    wanted = {_key(c.task, c.sparsity, c.seed, c.budget): c for c in ref.cells(manifest.sparsifier)}
    seen: set[tuple[str, float, int, float]] = set()
    kinds: dict[str, tuple[TaskRef, MetricInfo]] = {}
    if not records:
        raise InvalidInput(f"{where}: holds no record")
    for number, record in enumerate(records, 1):
        spec, cell = record.spec, _cell(record)
        here = f"{where}:{number}"
        if spec.sparsifier.label != manifest.sparsifier:
            raise InvalidInput(f"{here}: a record of {spec.sparsifier.label}, in a submission of {manifest.sparsifier}")
        if plain_name(spec.sparsifier.label) != plain_name(spec.sparsifier.name.rpartition(":")[2]):
            raise InvalidInput(f"{here}: a record of {spec.sparsifier.name}, under the label {spec.sparsifier.label}")
        if not _of(record, ref):
            raise InvalidInput(f"{here}: {spec.task.name} is another task, or another version, than in the battery")
        if cell not in wanted:
            raise InvalidInput(f"{here}: the battery has no cell {Missing(*cell[:3])} at budget {spec.budget:g}")
        if cell in seen:
            raise InvalidInput(f"{here}: {Missing(*cell[:3])} stands twice")
        seen.add(cell)
        if kinds.setdefault(spec.task.name, (spec.task, record.metric)) != (spec.task, record.metric):
            raise InvalidInput(f"{here}: has another metric, scope or family than those before on {spec.task.name}")
        plausible.check(record, here)
    _one_version(records, where)
    if Counter(manifest.missing) != Counter(missing_of(ref, manifest.sparsifier, records)):
        raise InvalidInput(f"{folder / MANIFEST}: missing: not the cells that {RECORDS} lacks")


def _by_task(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    by_task: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_task[record.spec.task.name].append(record)
    return by_task


def _there(folder: Path, manifest: Manifest, kind: str, tasks: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The files of a kind by task; none may be of a task that has no record."""
    tasks = set(tasks)
    for task in manifest.battery.task_digests():
        name = _path(kind, task)
        if name in manifest.files and task not in tasks:
            raise InvalidInput(f"{folder / name}: of a task that has no record; remove it")
        if name in manifest.files:
            yield task, folder / name


class _Examples(NamedTuple):
    """Of a test split: how many, and the digest of their ids."""

    n: int
    digest: str


def _check_predictions(folder: Path, manifest: Manifest, records: Sequence[RunRecord]) -> dict[RunId, _Examples]:
    """What was predicted, by run."""
    by_task, examples = _by_task(records), {}
    there = dict(_there(folder, manifest, PREDICTIONS, by_task))
    for task, mine in by_task.items():
        if task not in there:
            raise InvalidInput(f"{folder / predictions_of(task)}: there must be predictions of every task")
        path = there[task]
        found = predictions.read_runs(path, manifest.battery.limits[0] * _UNFOLDED)
        for record in mine:
            by_id = found.pop(record.run, {})
            if files.sha256(predictions.encode(by_id)) != record.digests.predictions:
                raise InvalidInput(f"{path}: the predictions of run {record.run} are not those of its record")
            examples[record.run] = _Examples(len(by_id), files.digest(sorted(by_id)))
        if found:
            raise InvalidInput(f"{path}: predictions of the run {next(iter(found))!r:.80}, which has no record")
    return examples


_SLACK = 1e-6
"""By how much a score may differ from that of its outcomes, whose sums are in another order."""


def _read_outcomes(
    folder: Path, manifest: Manifest, records: Sequence[RunRecord], examples: Mapping[RunId, _Examples]
) -> dict[RunId, Outcomes]:
    by_task, every = _by_task(records), {}
    for task, path in _there(folder, manifest, OUTCOMES, by_task):
        found = outcomes_.read_runs(path, manifest.battery.limits[0] * _UNFOLDED)
        for record in by_task[task]:
            here = f"{path}: run {record.run}"
            mine = found.pop(record.run, None)
            if mine is None:
                raise InvalidInput(f"{here}: has no outcomes; all runs on a task have some, or none")
            if (len(mine), mine.examples) != examples[record.run]:
                raise InvalidInput(f"{here}: its outcomes are of other examples than its predictions")
            score = mine.score()
            if not abs(score - record.score) <= _SLACK:
                raise InvalidInput(
                    f"{here}: {record.metric.name} is {record.score:.6f} in {RECORDS}, {score:.6f} by its outcomes"
                )
            every[record.run] = mine
        if found:
            raise InvalidInput(f"{path}: outcomes of the run {next(iter(found))!r:.80}, which has no record")
    return every


def _check_weights(folder: Path, manifest: Manifest, records: Sequence[RunRecord]) -> dict[str, RunId]:
    """The run by task."""
    by_task, found = _by_task(records), {}
    for task, path in _there(folder, manifest, WEIGHTS, by_task):
        weights = weights_.read(path)
        record = next((r for r in by_task[task] if r.run == weights.run), None)
        if record is None or weights.task != task:
            raise InvalidInput(f"{path}: weights of run {weights.run} on {weights.task}, which has no record here")
        if weights.mask_digest() != record.digests.mask:
            raise InvalidInput(f"{path}: its mask is not that of the record of run {weights.run}")
        found[task] = record.run
    return found


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
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
