"""From names to cells: what there is to run, what is done already, and what a sparsifier skips."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smcbench import cell, files, plugins
from smcbench.cli.output import note
from smcbench.engines.local import Request
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results import submission
from smcbench.results.battery import DENSE, Battery, Entry, plain_name
from smcbench.results.record import RunRecord, RunSpec
from smcbench.results.store import RECORD, Store
from smcbench.task import Task
from smcbench.trainer import ENGINE

ALL = "all"
"""Stands for every installed sparsifier."""


@dataclass(frozen=True)
class Planned:
    """A cell, with its record if it is done and the reason if it is skipped."""

    request: Request
    spec: RunSpec
    task: Task
    label: str
    record: RunRecord | None
    skip: str | None

    def __str__(self) -> str:
        budget = f" budget {self.request.budget:g}" if self.request.budget != 1 else ""
        sparsity = f"{self.request.sparsity:.3f}"
        return f"{self.task.name:<12} {self.label:<24} {sparsity} seed {self.request.seed}{budget}"


def chosen(
    battery: Battery,
    tasks: Sequence[str] = (),
    sparsities: Sequence[float] = (),
    seeds: Sequence[int] = (),
) -> Battery:
    """What was asked for of a battery; a task it does not have is run at all of its sparsities."""
    for value in sparsities:
        if remark := battery.resolve(value)[1]:
            note(remark)
    if tasks:
        every = tuple(sorted({s for entry in battery.tasks for s in entry.sparsities}))
        entries = [
            entry
            for name in dict.fromkeys(tasks)
            for entry in [e for e in battery.tasks if e.task == name] or [Entry(name, every)]
        ]
        battery = dataclasses.replace(battery, tasks=tuple(entries))
    return battery.narrowed(sparsities=sparsities or None, seeds=seeds or None)


def budgeted(battery: Battery, budgets: Sequence[float]) -> list[Battery]:
    """The battery at each budget instead of its own; as it is if there are none."""
    return [
        dataclasses.replace(
            battery, tasks=tuple(dict.fromkeys(dataclasses.replace(e, budget=b) for e in battery.tasks))
        )
        for b in dict.fromkeys(budgets)
    ] or [battery]


def tell_excluded(battery: Battery, sparsifiers: Sequence[str]) -> None:
    """Say which of the sparsifiers that were asked for a battery does not run everywhere."""
    for entry in battery.tasks:
        if entry.sparsifiers and any(plain_name(text) not in (*entry.sparsifiers, ALL) for text in sparsifiers):
            note(f"battery {battery.name} runs only {', '.join(entry.sparsifiers)} on {entry.task}")


def expanded(sparsifiers: Sequence[str]) -> list[str]:
    """The sparsifiers, with ``all`` replaced by every one that is installed and imports."""
    found: list[str] = []
    for text in sparsifiers:
        if text != ALL:
            found.append(text)
            continue
        for name in plugins.installed("sparsifiers"):
            try:
                plugins.load_sparsifier(name)
            except SmcbenchError as error:
                note(f"left out: {error}")
            else:
                found.append(name)
    return list(dict.fromkeys(found))


def plan(
    batteries: Sequence[Battery],
    sparsifiers: Sequence[str],
    out: Path,
    options: cell.Options,
    standing: Mapping[str, RunRecord] | None = None,
) -> list[Planned]:
    """All cells of some batteries for some sparsifiers, dense references included; everything is looked up first.

    A cell is done if its record is in the store ``out``, or among those that are ``standing`` on a board, by run.

    Raises:
        UsageError: an unknown name, a number out of range; nothing has been run.
        InvalidInput: a plug-in does not import.
    """
    tasks = {entry.task: plugins.load_task(entry.task) for battery in batteries for entry in battery.tasks}
    named = {text: plugins.load_sparsifier(text) for text in (DENSE, *sparsifiers)}
    store = Store(out)
    found = []
    for each in (c for battery in batteries for c in battery.cells(sparsifiers)):
        task, who = tasks[each.task], named[each.sparsifier]
        spec = cell.spec_of(task, who, each.sparsity, each.seed, each.budget)
        try:
            record = store.record(spec, ENGINE)
        except InvalidInput as error:
            path = store.folder(spec, ENGINE) / RECORD
            os.replace(path, path.with_suffix(".unreadable"))
            note(f"{error}; it is kept beside as {path.with_suffix('.unreadable').name}, and the run done again")
            record = None
        if record is None and standing:
            record = standing.get(spec.run_id(ENGINE))
        request = Request(each.task, each.sparsifier, each.sparsity, each.seed, each.budget, out, options)
        found.append(Planned(request, spec, task, who.label, record, _skip(who, task, each.sparsity)))
    return found


def standing(board: Path) -> dict[str, RunRecord]:
    """The records of a board by run; what cannot be read stands for nothing, and is said."""
    found: dict[str, RunRecord] = {}
    for path in sorted((board / "submissions").glob(f"*/{submission.RECORDS}")):
        try:
            found |= {record.run: record for record in submission.read_records(path)}
        except InvalidInput as error:
            note(f"not counted as done: {error}")
    return found


def usable(device: str, backend: str | None) -> None:
    """Whether torch has this device and this compiler.

    Raises:
        UsageError: it has not.
    """
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UsageError(f"device {device!r} is unknown to torch; use cpu, cuda or cuda:N") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r}: torch sees no CUDA device here; use --device cpu")
    if backend is not None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise UsageError(f"torch.compile has no backend {backend!r}; it has {', '.join(known)}")


def writable(out: Path) -> None:
    """Whether runs can be written to this folder, before anything is trained.

    Raises:
        SmcbenchError: they cannot.
    """
    probe = out / ".writable"
    try:
        files.write(probe, "")
    except SmcbenchError as error:
        raise SmcbenchError(f"{error} with --out") from None
    probe.unlink(missing_ok=True)


def _skip(named: plugins.Named, task: Task, sparsity: float) -> str | None:
    try:
        return named.sparsifier.skip(task, sparsity)
    except Exception:  # the cell will fail with it, and the others go on
        return None
