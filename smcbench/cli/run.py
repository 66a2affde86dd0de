"""``smcbench run``: a battery, or part of one, for some sparsifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smcbench.cli.options import (
    BOARD,
    RUNS,
    BatteryName,
    BoardFolder,
    DataFolder,
    Device,
    Json,
    ModelFolder,
    Out,
    TaskNames,
    Workers,
    sparsifier_names,
)
from smcbench.cli.output import print_json
from smcbench.errors import UsageError
from smcbench.results.battery import DENSE, STANDARD, Battery

Sparsifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--sparsifier",
        help="NAME, NAME@PRESET, NAME(parameter=value), shuffled(NAME), ./file.py:Class, or all; repeatable.",
        autocompletion=sparsifier_names,
    ),
]

Sparsities = Annotated[
    list[str] | None,
    typer.Option("--sparsity", help="Instead of the battery's; repeatable, or with commas.", metavar="<float,...>"),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", help="Stretch of the recipe; repeatable, or with commas.", metavar="<float,...>"),
]


def run(
    battery: BatteryName = STANDARD,
    sparsifier: Sparsifiers = None,
    task: TaskNames = None,
    sparsity: Sparsities = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, from 0.")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="This seed; repeatable.")] = None,
    budget: Budgets = None,
    out: Out = RUNS,
    workers: Workers = 1,
    device: Device = "cpu",
    compile: Annotated[str | None, typer.Option(help="A backend of torch.compile.")] = None,
    data: DataFolder = None,
    models: ModelFolder = None,
    board: BoardFolder = BOARD,
    anew: Annotated[bool, typer.Option("--anew", help="Also cells whose record stands on the board.")] = False,
    json: Json = False,
) -> None:
    """Run a battery. Said again it goes on where it stopped; amended, it runs the difference.

    What stands on the leaderboard is done, so that a fresh clone goes on where the last one stopped.
    """
    if seeds is not None and seed:
        raise UsageError("give either --seeds, how many, or --seed, which ones")
    whole, budgets, sparsities = Battery.load(battery), _numbers(budget, "--budget"), _numbers(sparsity, "--sparsity")

    from rich.console import Console

    from smcbench import cell
    from smcbench.cli import planning
    from smcbench.cli.following import follow

    wanted = planning.chosen(whole, task or (), sparsities, list(range(seeds)) if seeds is not None else seed or ())
    planning.tell_excluded(wanted, sparsifier or ())
    planning.usable(device, compile)
    options = cell.Options(device=device, compile=compile)
    standing = {} if anew else planning.standing(board)
    budgeted = planning.budgeted(wanted, budgets)
    planned = planning.plan(budgeted, planning.expanded(sparsifier or ()), out, options, standing)
    planning.writable(out)
    console = Console(stderr=json)
    done = sum(each.record is not None for each in planned)
    submitted = sum(each.record is not None and each.record is standing.get(each.record.run) for each in planned)
    there = f" ({submitted} stand on the board of {board}; --anew runs them too)" if submitted else ""
    console.print(
        f"{len(planned)} cells, {done} of them done{there}; the store is {out}", highlight=False, soft_wrap=True
    )
    result = follow(planned, workers, console)
    if json:
        print_json({"store": str(out), **result.to_json()})
    else:
        labels = list(dict.fromkeys(each.label for each in planned if each.label != DENSE))
        console.print(result.summary(), markup=False, highlight=False, soft_wrap=True)
        console.print(_next(labels, out, bool(result.failed)), markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(result.exit_code)


def _next(labels: list[str], out: Path, failed: bool) -> str:
    where = "" if out == RUNS else f" --out {out}"
    if failed:
        return f"next: mend what failed and say the command again; smcbench status{where} keeps the reasons"
    names = " ".join(f"'{label}'" if "(" in label else label for label in labels[:6]) or DENSE
    return f"next: smcbench compare {names}{where}"


def _numbers(texts: list[str] | None, option: str) -> list[float]:
    """The numbers of an option that is repeated, or given once with commas.

    Raises:
        UsageError: one of them is none.
    """
    found = []
    for text in (part.strip() for each in texts or () for part in each.split(",")):
        try:
            found.append(float(text))
        except ValueError:
            raise UsageError(f"{option}: {text!r} is no number; write numbers with commas, or repeat it") from None
    return found
