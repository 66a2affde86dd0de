"""``smcbench info TASK --qualify``: whether a task can tell sparsifiers apart."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from smcbench import cell
from smcbench.cli import planning
from smcbench.cli.following import follow
from smcbench.cli.output import facts, print_json
from smcbench.results.battery import DENSE, Battery, Entry, level
from smcbench.results.store import Store
from smcbench.trainer import ENGINE

if TYPE_CHECKING:
    from smcbench.task import Task

LEVEL = 13
RANDOM, BEST = "random-before", "omp-after"
STEADY = 0.2
"""Largest spread of the dense score over seeds, as a fraction of its distance from chance."""
APART = 5.0
"""Smallest separation, in such spreads, of the best method from random at the highest sparsity."""


def qualify(name: str, task: Task, seeds: int, workers: int, out: Path, json: bool) -> None:
    """Run dense, a bad and a good method, and print the three figures; leaves with 1 if they do not suffice."""
    battery = Battery("qualify", (Entry(name, (level(LEVEL),)),), tuple(range(seeds)), (LEVEL,))
    planned = planning.plan([battery], [RANDOM, BEST], out, cell.Options())
    planning.writable(out)
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    result = follow(planned, workers, console)
    if result.failed or result.busy or result.skipped:
        console.print(result.summary(), markup=False)
        raise typer.Exit(result.exit_code or 4)

    store = Store(out)
    scores: dict[str, list[float]] = {DENSE: [], RANDOM: [], BEST: []}
    for each in planned:
        record = store.record(each.spec, ENGINE)
        assert record is not None
        scores[each.request.sparsifier].append(record.score)
    mean = {who: statistics.fmean(values) for who, values in scores.items()}
    distance = abs(mean[DENSE] - task.metric.chance)
    spread = statistics.stdev(scores[DENSE])
    separation = (mean[BEST] - mean[RANDOM]) * (1 if task.metric.higher_is_better else -1)
    apart = separation / spread if spread else float("inf") if separation > 0 else 0.0
    qualifies = spread < STEADY * distance and apart > APART
    if json:
        print_json({"task": task.name, "distance": distance, "spread": spread, "separation": separation,
                    "scores": scores, "qualifies": qualifies})  # fmt: skip
    else:
        chance, steady = task.metric.chance, spread / distance if distance else float("inf")
        print(
            facts(
                {
                    "dense, distance from chance": f"{distance:.2f} ({mean[DENSE]:.2f} from {chance:g})",
                    "dense, spread over seeds": f"{spread:.2f} ({steady:.3f} of that; under {STEADY:g} wanted)",
                    f"{BEST} - {RANDOM}": f"{separation:.2f} ({apart:.1f} spreads; over {APART:g} wanted)",
                    "qualifies": "yes" if qualifies else "no",
                }.items()
            )
        )
    raise typer.Exit(0 if qualifies else 1)
