"""``smcbench info``: all about one task, sparsifier or battery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smcbench import plugins
from smcbench.cli.options import RUNS, DataFolder, Json, ModelFolder, Out, Workers, all_names
from smcbench.cli.output import facts, paragraph, print_json
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results.battery import DENSE, Battery, nearest, plain_name, show_sparsity

if TYPE_CHECKING:
    from smcbench.task import Task


def info(
    name: Annotated[str, typer.Argument(help="A task, sparsifier or battery.", autocompletion=all_names)],
    qualify: Annotated[bool, typer.Option("--qualify", help="Measure whether a task earns its place.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Seeds to qualify with.")] = 3,
    workers: Workers = 2,
    out: Out = RUNS,
    data: DataFolder = None,
    models: ModelFolder = None,
    json: Json = False,
) -> None:
    """Show all about one task, sparsifier or battery. With --qualify: can a task tell methods apart?"""
    found = find(name)
    if qualify:
        from smcbench.cli.qualify import qualify as measure
        from smcbench.task import Task

        if not isinstance(found, Task):
            raise UsageError(f"{name} is no task; only tasks can be qualified")
        measure(name, found, seeds, workers, Path(out), json)
        return
    about = _about(found)
    if json:
        print_json(about)
    else:
        print(facts((key, _shown(value)) for key, value in about.items()))


def find(name: str) -> Task | plugins.Named | Battery:
    """The task, sparsifier or battery of this name.

    Raises:
        UsageError: there is none; the message holds the nearest names.
    """
    if ".toml" in name or name in Battery.names():
        return Battery.load(name)
    if plain_name(name) in plugins.installed("tasks"):
        return plugins.load_task(name)
    if ":" in name:
        try:
            return plugins.load_task(name)
        except (InvalidInput, UsageError):
            return plugins.load_sparsifier(name)
    known = plugins.installed("sparsifiers")
    if plain_name(name) in known:
        return plugins.load_sparsifier(name)
    if name.endswith(".py") or "/" in name:
        raise UsageError(f"{name}: say which class of the file, as {name}:Name")
    everything = [*known, *plugins.installed("tasks"), *Battery.names()]
    raise UsageError(f"no task, sparsifier or battery is called {name!r}; the nearest are {nearest(name, everything)}")


def _about(found: Task | plugins.Named | Battery) -> dict[str, Any]:
    if isinstance(found, Battery):
        return _battery(found)
    return _sparsifier(found) if isinstance(found, plugins.Named) else _task(found)


def _task(task: Task) -> dict[str, Any]:
    """All about a task; what cannot be told without data or weights that are not here says what is missing."""
    from smcbench.task import SPLITS

    needs = {r: r.state() for r in task.requirements()}
    absent = [f"{r.kind} {r.name}" for r, state in needs.items() if state != "local"]

    def told(of: Callable[[], Any]) -> Any:
        """Looking must not start a download."""
        if absent:
            return f"unknown without {' and '.join(absent)} in a local folder"
        try:
            return of()
        except SmcbenchError as error:
            return f"unknown: {error}"

    facts = told(task.facts)
    return {
        "task": task.name,
        "about": paragraph(type(task.parts[0]).__doc__),
        "family": task.family,
        "version": task.version,
        "digest": told(task.digest),
        "metric": task.metric.name + (f" in {task.metric.unit}" if task.metric.unit else ""),
        "higher is better": task.metric.higher_is_better,
        "chance": task.metric.chance,
        "scope": task.scope,
        "variants": [f"{task.name}@{variant}" for variant in task.variants],
        **_counts(task),
        "examples": told(lambda: {split: len(task.data(split)) for split in SPLITS}),
        "needs": {f"{r.kind} {r.name}": f"{state}; {r.licence}; {r.url}" for r, state in needs.items()}
        or "nothing that does not come with it",
        "recipe": task.recipe.as_dict(),
        **(facts if isinstance(facts, dict) else {}),
        "qualified": _qualification(task),
    }


def _qualification(task: Task) -> dict[str, str] | str:
    from smcbench.cli.qualify import explained

    found = task.qualification
    return explained(found, task.metric) if found else f"not measured; smcbench info {task.name} --qualify"


def _counts(task: Task) -> dict[str, Any]:
    """Parameters, of the model built without memory or weights; of a task in parts, of the first one's."""
    import torch

    (task, *_) = task.parts

    try:
        with torch.device("meta"):
            model = task.architecture()
    except InvalidInput:
        return {"parameters": "unknown without its data, from which the sizes of the network follow"}
    parameters = dict(model.named_parameters())
    return {
        "parameters": sum(p.numel() for p in parameters.values()),
        "prunable": sum(parameters[name].numel() for name in task.prunable(model)),
    }


def _sparsifier(named: plugins.Named) -> dict[str, Any]:
    sparsifier = named.sparsifier
    return {
        "sparsifier": named.label,
        "about": paragraph(type(sparsifier).__doc__),
        "version": sparsifier.version,
        "paper": sparsifier.paper,
        "category": ", ".join(sparsifier.category or ()),
        "cost": f"{sparsifier.cost} dense trainings at density d" if sparsifier.cost else "",
        "parameters": sparsifier.parameters(),
        "presets": sparsifier.presets,
    }


def _battery(battery: Battery) -> dict[str, Any]:
    return {
        "battery": battery.name,
        "about": battery.description,
        "tasks": {
            entry.task: "sparsities "
            + ", ".join(map(show_sparsity, entry.sparsities))
            + (f"; budget {entry.budget:g}" if entry.budget != 1 else "")
            + (f"; only {', '.join(entry.sparsifiers)}" if entry.sparsifiers else "")
            for entry in battery.tasks
        },
        "seeds": list(battery.seeds),
        "margin": battery.margin,
        "cells of a sparsifier": sum(c.sparsifier != DENSE for c in battery.cells(["any"])),
        "dense references": sum(c.sparsifier == DENSE for c in battery.cells([])),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        inner = {
            key: ", ".join(f"{k} {x}" for k, x in v.items()) if isinstance(v, dict) else v for key, v in value.items()
        }
        return "; ".join(f"{key} {v}" for key, v in inner.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
