"""Packing: from the runs of a store to the folder of a submission, with the evidence for all that it claims."""

from __future__ import annotations

import dataclasses
import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smcbench import __version__, evidence, files, plugins
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import outcomes, predictions, shape, weights
from smcbench.results.battery import Battery
from smcbench.results.merge import without_room
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import RunRecord
from smcbench.results.store import Store
from smcbench.results.submission import (
    CARD,
    FILLED,
    MANIFEST,
    RECORDS,
    BatteryRef,
    Manifest,
    Missing,
    check_card,
    check_name,
    in_battery,
    lacking,
    outcomes_of,
    predictions_of,
    weights_of,
    write_folder,
)
from smcbench.results.weights import SparseWeights
from smcbench.task import Task

TEMPLATE = Path(__file__).parent / "cli" / "templates" / "card.md.txt"


def pack(
    store: Store,
    battery: Battery,
    sparsifier: str,
    name: str,
    out: Path,
    *,
    tasks: Mapping[str, Task] | None = None,
    allow_incomplete: bool = False,
    authors: str | None = None,
    paper: str | None = None,
    card: str | None = None,
    about: str | None = None,
) -> Path:
    """Write the submission folder ``out/name`` from the runs of a store, whole or not at all; the same runs give the
    same bytes.

    Of each task it holds the weights of one run: of the first seed, at the highest sparsity whose weights the store has
    and are those of the record. Weights that a submission has no room for are named, with their digest,
    as standing elsewhere.

    Args:
        store: with records and predictions; weights may be missing.
        battery: whose cells are packed.
        sparsifier: by label, or by name if that means one label only.
        name: of the submission.
        out: where its folder goes; one that stands there is replaced.
        tasks: by the names in the battery; default: those that are installed.
        allow_incomplete: though cells are missing.
        authors: who stands behind it.
        paper: where the method is described.
        card: what people should know; default: what the records and an installed method tell.
        about: what the method says of itself, in such a card, where it is not installed.

    Raises:
        UsageError: the battery is one that no board ranks, or the sparsifier is unknown.
        InvalidInput: cells are missing (unless allowed), versions are mixed, or predictions do not fit their record.
    """
    if not battery.ranked:
        raise UsageError(f"results of battery {battery.name} never enter a leaderboard; run --battery mini for that")
    check_name(name)
    tasks = _loaded(battery) if tasks is None else tasks
    ref = BatteryRef.of(*pinned(battery, tasks))
    records, missing = in_battery(store.find(), ref, sparsifier)
    if not records or (missing and not allow_incomplete):
        raise InvalidInput(f"{sparsifier} on {battery.name}: {lacking(missing, ref, sparsifier)}")
    manifest = Manifest(
        schema=2,
        name=name,
        sparsifier=records[0].spec.sparsifier.label,
        battery=ref,
        files={},
        missing=missing,
        checker=f"smcbench {__version__}",
        authors=authors,
        paper=paper,
    )
    shape.read(Manifest, shape.plain(manifest), "manifest")  # bad authors fail here, before anything is written
    text = (filled(manifest, records, about) if card is None else card).encode()
    check_card(text, CARD)
    contents = {RECORDS: "".join(r.text() + "\n" for r in records).encode(), CARD: text}
    by_task: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_task[record.spec.task.name].append(record)
    of = {task.name: task for task in tasks.values()}
    heavy: dict[str, bytes] = {}
    for task, mine in by_task.items():
        contents |= _answers(store, of[task], mine)
        if (found := _weights(store, of[task], [r for r in mine if r.spec.seed == ref.seeds[0]])) is not None:
            heavy[weights_of(task)] = weights.encode(found)
    elsewhere = without_room(heavy, ref, contents)
    contents |= {path: raw for path, raw in heavy.items() if path not in elsewhere}
    manifest = dataclasses.replace(
        manifest, files={path: files.sha256(raw) for path, raw in contents.items()}, elsewhere=elsewhere
    )
    return write_folder(out / name, {**contents, MANIFEST: manifest.text().encode()})


def found(store: Store, battery: Battery, sparsifier: str) -> tuple[list[RunRecord], tuple[Missing, ...]]:
    """The records that there are to pack, and the cells of the battery that have none."""
    return in_battery(store.find(), BatteryRef.of(*pinned(battery)), sparsifier)


def _loaded(battery: Battery) -> dict[str, Task]:
    return {entry.task: plugins.load_task(entry.task) for entry in battery.tasks}


def pinned(battery: Battery, tasks: Mapping[str, Task] | None = None) -> tuple[Battery, dict[str, str]]:
    """The battery with its tasks by their own names, as results carry them, and their digests."""
    tasks = _loaded(battery) if tasks is None else tasks
    entries = tuple(dataclasses.replace(e, task=tasks[e.task].name) for e in battery.tasks)
    return dataclasses.replace(battery, tasks=entries), {task.name: task.digest() for task in tasks.values()}


def filled(manifest: Manifest, records: Sequence[RunRecord], about: str | None = None) -> str:
    """A card with what the records know, and what is said about the method; default: what an installed one says."""
    first = records[0].spec.sparsifier
    known = plugins.known(manifest.sparsifier)
    runs = {f"smcbench {r.provenance.smcbench}, torch {r.provenance.torch}, {r.provenance.device}" for r in records}
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=manifest.name,
        sparsifier=manifest.sparsifier,
        version=first.version,
        battery=manifest.battery.name,
        authors=manifest.authors or "not said",
        paper=manifest.paper or (known.sparsifier.paper if known else None) or "not said",
        method=about or (inspect.getdoc(known.sparsifier) if known else None) or "Not said.",
        parameters="\n".join(f"- {k}: {v!r}" for k, v in sorted(first.parameters.items())) or "- none",
        runs="\n".join(f"- {each}" for each in sorted(runs)),
        filled=FILLED,
    )


def _answers(store: Store, task: Task, records: Sequence[RunRecord]) -> dict[str, bytes]:
    """The files with the predictions on a task, and with the outcomes if it can tell them."""
    raw, found = [], dict[str, Outcomes]()
    for record in records:
        by_id: dict[str, Any] = store.read_predictions(record.spec, record.provenance.engine)
        if files.sha256(predictions.encode(by_id)) != record.digests.predictions:
            path = store.folder(record.spec, record.provenance.engine) / predictions.NAME
            raise InvalidInput(f"{path}: not the predictions of its record; run it again")
        raw.append(predictions.encode(by_id, record.run))
        try:
            found[record.run] = task.outcomes(by_id)
        except UsageError:  # it has no scorer apart: nothing of it can be recomputed
            continue
    contents = {predictions_of(task.name): predictions.compress(b"".join(raw))}
    return contents | ({outcomes_of(task.name): outcomes.encode(found)} if found else {})


def _weights(store: Store, task: Task, records: Sequence[RunRecord]) -> SparseWeights | None:
    """Those at the highest sparsity that the store has, if they are what the record tells of."""
    for record in sorted(records, key=lambda r: -r.spec.sparsity):
        found = _stored(store.folder(record.spec, record.provenance.engine), record)
        if found is not None and evidence.are_of(found, task, record):
            return found
    return None


def _stored(folder: Path, record: RunRecord) -> SparseWeights | None:
    """The weights in the folder of a run."""
    paths = folder / "weights.safetensors", folder / "mask.safetensors"
    if not all(path.exists() for path in paths):
        return None
    (tensors, _), (bits, _) = map(weights.parse, paths)
    mask = {
        name: weights.unpacked(array, len(tensors[name].words), f"{paths[1]}: {name!r}")
        for name, array in bits.items()
        if name in tensors
    }
    return SparseWeights(record.run, record.spec.task.name, tensors, mask)
