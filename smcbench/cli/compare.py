"""``smcbench compare``: sparsifiers side by side, from the store and the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smcbench.cli.options import BOARD, RUNS, BatteryName, BoardFolder, Out, TaskNames, sparsifier_names
from smcbench.cli.output import AsJson, Form, Format, NothingMeasured, note, print_results
from smcbench.results.battery import DENSE, STANDARD, Battery, nearest
from smcbench.results.record import RunRecord

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Sparsifiers, by name or label.", autocompletion=sparsifier_names, metavar="A B ..."),
]


class Against(StrEnum):
    """Groups of sparsifiers to compare with."""

    LEADERBOARD = "leaderboard"


def compare(
    sparsifiers: Names = None,
    task: TaskNames = None,
    battery: BatteryName = STANDARD,
    out: Out = RUNS,
    board: BoardFolder = BOARD,
    against: Annotated[Against | None, typer.Option(help="Add all sparsifiers of the leaderboard.")] = None,
    form: Format = Form.TEXT,
    json: AsJson = False,
) -> None:
    """Compare sparsifiers. Per task and sparsity: score, distance to dense, matching, break-point, cost, category.

    The battery gives the margin within which a score matches dense; results at other tasks and sparsities are shown
    too.
    """
    from smcbench.results.compare import compare as compared

    margin = Battery.load(battery).margin
    submitted = _submitted(board)
    local = _local(out)
    names = list(sparsifiers or ())
    if against is not None:
        names += [each for each in dict.fromkeys(r.spec.sparsifier.label for r in submitted) if each != DENSE]
    records = [*local, *submitted]
    if not records:
        raise NothingMeasured(f"there are no results in {out} nor in {board}; `smcbench run --out {out}` makes some")
    labels = [_known(name, records) for name in names] or list(
        dict.fromkeys(r.spec.sparsifier.label for r in records if not r.is_dense)
    )
    found = compared(records, labels or [DENSE], margin, tasks=task or None)
    print_results(found, form, json)


def _local(out: Path) -> list[RunRecord]:
    from smcbench.results.store import Store

    store = Store(out)
    records = list(store.find())
    for problem in store.problems:
        note(problem)
    return records


def _submitted(board: Path) -> list[RunRecord]:
    from smcbench.results.submission import read_submissions

    folder = board / "submissions"
    return [record for each in read_submissions(folder) for record in each.records] if folder.is_dir() else []


def _known(name: str, records: Sequence[RunRecord]) -> str:
    """The sparsifier that is meant, if there are records of it.

    Raises:
        NothingMeasured: there are none; the message holds those that there are.
    """
    refs = [r.spec.sparsifier for r in records]
    for form in (name, name.rpartition("/")[2], name.rpartition(":")[2]):
        if any(form in (ref.label, ref.name) for ref in refs):
            return form
    raise NothingMeasured(
        f"there are no results of {name!r}; there are some of {nearest(name, {ref.label for ref in refs})}; "
        f"`smcbench run --sparsifier {name}` makes them"
    )
