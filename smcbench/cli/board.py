"""``smcbench board``: the leaderboard, which is a function of its submissions and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smcbench.cli.options import BOARD, RUNS, BatteryName, BoardFolder, sparsifier_names
from smcbench.cli.output import AsJson, Form, Format, NothingMeasured, note, print_results
from smcbench.errors import InvalidInput
from smcbench.results.battery import DENSE, STANDARD, Battery
from smcbench.results.record import slug

FILE = "leaderboard.json"

app = typer.Typer(help="Build, show and extend the leaderboard.", rich_markup_mode=None, no_args_is_help=False)


@app.callback(invoke_without_command=True)
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def build(
    board: BoardFolder = BOARD,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; leave with 1 if it would change.")] = False,
) -> None:
    """Rebuild leaderboard.json, byte for byte, from the submissions."""
    from smcbench import files
    from smcbench.results import leaderboard

    found = leaderboard.build(board / "submissions")
    path, text = board / FILE, found.text()
    same = path.is_file() and path.read_bytes() == text.encode()
    size = f"{len(found.submissions)} submissions, {len(found.entries)} entries"
    if same:
        print(f"{path}: unchanged ({size})")
    elif check:
        print(f"{path}: is not what its submissions make ({size}); `smcbench board build --board {board}` mends it")
        raise typer.Exit(1)
    else:
        files.write(path, text)
        print(f"{path}: written ({size})")


@app.command()
def show(
    board: BoardFolder = BOARD,
    form: Format = Form.TEXT,
    json: AsJson = False,
) -> None:
    """Print the leaderboard."""
    from smcbench.results.leaderboard import read_board

    path = board / FILE
    if not path.exists():
        raise NothingMeasured(f"{path}: no such file; `smcbench board build --board {board}` makes it")
    print_results(read_board(path), form, json)


@app.command()
def add(
    source: Annotated[Path, typer.Option("--from", help="The store that holds the runs.")] = RUNS,
    battery: BatteryName = STANDARD,
    sparsifier: Annotated[
        list[str] | None,
        typer.Option(help="By label; repeatable. Default: all there are.", autocompletion=sparsifier_names),
    ] = None,
    board: BoardFolder = BOARD,
    allow_incomplete: Annotated[bool, typer.Option("--allow-incomplete", help="Though cells are missing.")] = False,
    authors: Annotated[str | None, typer.Option(help="Who stands behind the submission.")] = None,
    paper: Annotated[str | None, typer.Option(help="Where the method is described.")] = None,
) -> None:
    """Pack finished runs as submissions, one a sparsifier; then build the leaderboard."""
    from smcbench.cli.planning import pinned
    from smcbench.results.store import Store
    from smcbench.results.submission import pack

    whole, digests = pinned(Battery.load(battery))
    store = Store(source)
    there = {
        record.spec.sparsifier.label: None
        for record in store.find()
        if digests.get(record.spec.task.name) == record.spec.task.digest
    }
    for problem in store.problems:
        note(problem)
    if not there:
        raise NothingMeasured(
            f"{source}: holds no run of battery {whole.name}; `smcbench run --out {source}` makes some"
        )
    failed = 0
    for label in sparsifier or sorted(there, key=lambda label: (label != DENSE, label)):
        try:
            folder = pack(
                store, whole, label, slug(label).lower()[:60], board / "submissions", digests,
                allow_incomplete=allow_incomplete, authors=authors, paper=paper,
            )  # fmt: skip
        except InvalidInput as error:
            if sparsifier:
                raise
            note(f"left out: {error}")
            failed += 1
        else:
            print(f"{folder}: packed")
    build(board)
    if failed:
        raise typer.Exit(3)
