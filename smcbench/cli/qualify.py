"""``smcbench info TASK --qualify``: whether a task can tell sparsifiers apart."""

from __future__ import annotations

import dataclasses
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
    from smcbench.task import Metric, Qualification, Task

LEVEL = 13
RANDOM, BEST = "random-before", "omp-after"


def qualify(name: str, task: Task, seeds: int, workers: int, out: Path, json: bool) -> None:
    """Run dense, a bad and a good method, and print the three figures; leaves with 1 if they do not suffice."""
    from smcbench.task import Qualification

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
    separation = (mean[BEST] - mean[RANDOM]) * (1 if task.metric.higher_is_better else -1)
    found = Qualification(mean[DENSE], statistics.stdev(scores[DENSE]), separation, seeds)
    qualifies = found.qualifies(task.metric)
    if json:
        print_json({"task": task.name, **dataclasses.asdict(found), "scores": scores, "qualifies": qualifies})
    else:
        print(facts(explained(found, task.metric).items()))
    raise typer.Exit(0 if qualifies else 1)


def explained(found: Qualification, metric: Metric) -> dict[str, str]:
    """The figures beside what is asked of them."""
    distance = abs(found.dense - metric.chance)
    steady = found.spread / distance if distance else float("inf")
    apart = found.separation / found.spread if found.spread else float("inf") if found.separation > 0 else 0.0
    return {
        "dense, distance from chance": f"{distance:.2f} ({found.dense:.2f} from {metric.chance:g})",
        "dense, spread over seeds": f"{found.spread:.2f} ({steady:.3f} of that; under {found.STEADY:g} wanted)",
        f"{BEST} - {RANDOM}": f"{found.separation:.2f} ({apart:.1f} spreads; over {found.APART:g} wanted)",
        "qualifies": "yes" if found.qualifies(metric) else "no",
    }
