"""``smcbench demo``: every method within minutes, ranked and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from smcbench.cli.options import Out, Workers
from smcbench.results.battery import Battery

BATTERY = "demo"
COMPARED = ("omp-after", "random-before")

SHOWN = (
    "random-before", "omp-before", "snip", "synflow", "omp-after", "lth", "early-bird", "instant-soup", "gmp", "set",
    "rigl", "granet", "ac-dc", "shuffled", "small-dense",
)  # fmt: skip
"""Some of every kind: all would take too long for a first look."""


def demo(out: Out = Path(BATTERY), workers: Workers = 2) -> None:
    """See it all within minutes. Sparsifiers of every kind on the demo battery, then leaderboard and comparison."""
    from rich.console import Console

    from smcbench import cell
    from smcbench.cli import planning
    from smcbench.cli.board import FILE
    from smcbench.cli.compare import scored
    from smcbench.cli.following import follow
    from smcbench.packing import pinned
    from smcbench.results import leaderboard
    from smcbench.results.compare import compare
    from smcbench.results.store import Store
    from smcbench.results.submission import from_records
    from smcbench.results.table import render

    battery = Battery.load(BATTERY)
    planned = planning.plan([battery], SHOWN, out, cell.Options())
    planning.writable(out)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    done = sum(each.record is not None for each in planned)
    console.print(f"{len(planned)} cells with shortened recipes, {done} of them done; the store is {out}")
    result = follow(planned, workers, console)

    store = Store(out)
    records = list(store.find())
    outcomes = scored(store, records)
    submissions = from_records(records, *pinned(battery))
    board = leaderboard.build([replace(each, outcomes=outcomes) for each in submissions])
    leaderboard.write_board(out / FILE, board)
    compared = compare(records, COMPARED, battery.margin, outcomes=outcomes)
    print(f"\nLEADERBOARD of the demo\n\n{render(board)}\n\nCOMPARISON\n\n{render(compared)}")
    print(result.summary())
    print(
        f"the leaderboard of these runs is {out / FILE}; trained so briefly and with one seed, it is no result\n"
        "next:\n"
        "  smcbench board show                          the leaderboard: every method on the battery mini\n"
        "  smcbench init sparsifier mine                a method of your own, in ten lines\n"
        "  smcbench check ./mine.py:Mine                does it keep the contract?\n"
        f"  smcbench run --battery {BATTERY} --task digits --sparsifier ./mine.py:Mine --out {out}\n"
        f"  smcbench compare ./mine.py:Mine omp-after --out {out}"
    )
    raise typer.Exit(result.exit_code)
