"""``smcbench status``: what a store holds, without waiting for anybody."""

from __future__ import annotations

import fcntl
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from smcbench.cli.options import RUNS, Json, Out, battery_names
from smcbench.cli.output import NothingMeasured, columns, note, print_json
from smcbench.results.battery import DENSE, Battery, show_sparsity
from smcbench.results.record import RunSpec
from smcbench.results.store import FAILURE, RECORD, Failure, Store

WANT = Annotated[
    str | None, typer.Option("--battery", help="Count against this battery.", autocompletion=battery_names)
]


def status(out: Out = RUNS, battery: WANT = None, json: Json = False) -> None:
    """Show what a store holds. Cells are done, failed (and why), in flight or interrupted."""
    if not out.is_dir():
        raise NothingMeasured(f"{out}: no such folder, so nothing is done; `smcbench run --out {out}` begins")
    whole = Battery.load(battery) if battery else None
    store = Store(out)
    done = [record.spec for record in store.find()]
    problems = list(store.problems)
    failures = [f for f in store.failures() if f.spec not in done]
    problems += store.problems
    running, interrupted = _open(out)
    if whole is not None:
        done = [spec for spec in done if _within(spec, whole)]
        failures = [f for f in failures if _within(f.spec, whole)]
    groups = _groups(done, failures, whole)
    for problem in problems:
        note(problem)
    if json:
        listed = [{"class": f.kind, "message": f.message, "spec": f.spec.to_json()} for f in failures]
        print_json({"store": str(out), "groups": groups, "failed": listed, "in_flight": running,
                    "interrupted": interrupted, "unreadable": problems})  # fmt: skip
        return
    if groups:
        header = ("task", "sparsifier", "done", "failed", *(("of",) if whole else ()))
        print(columns(header, [[str(group[key]) for key in header] for group in groups]) + "\n")
    print(f"{len(done)} done, {len(failures)} failed, {len(running)} in flight, {len(interrupted)} interrupted")
    for failure in failures:
        spec = failure.spec
        where = f"{spec.task.name} {spec.sparsifier.label} {show_sparsity(spec.sparsity)} seed {spec.seed}"
        print(f"  failed ({failure.kind}): {where}: {failure.message}")
    for name in running:
        print(f"  in flight: {name}")
    for name in interrupted:
        print(f"  interrupted, goes on when it is run again: {name}")


def _groups(done: list[RunSpec], failures: list[Failure], battery: Battery | None) -> list[dict[str, Any]]:
    finished = Counter((s.task.name, s.sparsifier.label) for s in done)
    failed = Counter((f.spec.task.name, f.spec.sparsifier.label) for f in failures)
    names = {s.sparsifier.label: s.sparsifier.name for s in [*done, *(f.spec for f in failures)]}
    groups = []
    tasks = {entry.task for entry in battery.tasks} if battery else set()
    untouched = {(task, label) for _, label in {*finished, *failed} for task in tasks}
    for task, label in sorted({*finished, *failed, *untouched}):
        group: dict[str, Any] = {
            "task": task, "sparsifier": label, "done": finished[task, label], "failed": failed[task, label]
        }  # fmt: skip
        if battery is not None:
            is_dense = names[label] == DENSE
            cells = battery.cells([names[label]])
            group["of"] = sum(c.task == task and (c.sparsifier == DENSE) == is_dense for c in cells)
        groups.append(group)
    return groups


def _within(spec: RunSpec, battery: Battery) -> bool:
    wanted = {(c.task, c.sparsity, c.seed, c.budget) for c in battery.cells([spec.sparsifier.name])}
    return (spec.task.name, spec.sparsity, spec.seed, spec.budget) in wanted


def _open(out: Path) -> tuple[list[str], list[str]]:
    """Runs that are neither done nor failed: those somebody computes, and those nobody does."""
    running, interrupted = [], []
    for path in sorted(out.glob("*/*/lock")):
        name = path.parent.relative_to(out).as_posix()
        if _held(path):
            running.append(name)
        elif not (path.parent / RECORD).exists() and not (path.parent / FAILURE).exists():
            interrupted.append(name)
    return running, interrupted


def _held(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone since
        return False
    return False
