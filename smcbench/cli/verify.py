"""``smcbench verify``: whether submissions are what they claim to be; nothing of them is executed."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smcbench.cli.options import BOARD, BoardFolder, DataFolder, Device, Json, ModelFolder, sparsifier_names
from smcbench.cli.output import complain, note, print_json, working
from smcbench.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from smcbench.verify import Report


class Depth(StrEnum):
    """How far to go."""

    CLAIMED = "claimed"
    RECOMPUTE = "recompute"
    REEVALUATE = "reevaluate"
    RETRAIN = "retrain"


def verify(
    submissions: Annotated[list[Path], typer.Argument(help="Folders of submissions.", metavar="SUBMISSION ...")],
    level: Annotated[Depth, typer.Option(help="How far to go; each level holds the ones before.")] = Depth.RECOMPUTE,
    subset: Annotated[
        int | None, typer.Option(min=1, help="Reevaluate on so many test examples, drawn at random.")
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            help="A method whose source you have read, ./mine.py:Mine; it may be run. Repeatable.",
            autocompletion=sparsifier_names,
        ),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Note the levels in the history of the board.")] = False,
    by: Annotated[str | None, typer.Option(help="Who verified, for --record.")] = None,
    board: BoardFolder = BOARD,
    device: Device = "cpu",
    data: DataFolder = None,
    models: ModelFolder = None,
    json: Json = False,
) -> None:
    """Check submissions. Leaves with 1 if something is not as claimed, with 3 if a folder contradicts itself."""
    from smcbench.cli.planning import usable
    from smcbench.results import shape, upkeep
    from smcbench.verify import verify as verified

    usable(device, None)
    for folder in submissions:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; name that of a submission, such as {board}/submissions/NAME")
    if record:  # before all the work
        upkeep.receivable(board, submissions)
    told: list[dict[str, Any]] = []
    received: dict[Path, Any] = {}
    wrong, refused = 0, 0
    for folder in submissions:
        try:
            with working(f"verifying {folder}"):
                report = verified(folder, level.value, subset=subset, trusted=trust or (), device=device)
        except InvalidInput as error:
            refused += 1
            told.append({"submission": folder.resolve().name, "refused": str(error)})
            complain(str(error))
            continue
        wrong += len(report.findings)
        told.append(shape.plain(report))
        if not json:
            print(f"{folder}: {_summary(report)}")
            for remark in report.notes:
                print(f"  note: {remark}")
            for finding in report.findings:
                print(f"  finding: {finding}")
        if record and report.findings:
            note(f"{folder}: not recorded, there are findings")
        elif record:
            received[folder] = report.reached
    if received:  # together: the board is built once
        upkeep.receive(board, received, by=by)
    if json:
        print_json(told)
    raise typer.Exit(InvalidInput.exit_code if refused else 1 if wrong else 0)


def _summary(report: Report) -> str:
    """What was found, and how far the runs got."""
    counts, n = Counter(report.reached.values()), len(report.findings)
    against = "nothing stands" if n == 0 else "1 finding stands" if n == 1 else f"{n} findings stand"
    reached = ", ".join(f"{how} {count} run{'s' * (count != 1)}" for how, count in counts.items())
    return f"{against} against it; {reached}"
