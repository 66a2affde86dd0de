"""``smcbench list``: what is installed, where it comes from, and what does not import."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from smcbench import plugins
from smcbench.cli.options import Json
from smcbench.cli.output import columns, paragraph, print_json, terminal
from smcbench.errors import SmcbenchError
from smcbench.results.battery import Battery, show_sparsity


class Kind(StrEnum):
    """What can be listed."""

    TASKS = "tasks"
    SPARSIFIERS = "sparsifiers"
    BATTERIES = "batteries"


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="One kind only.")] = None,
    json: Json = False,
) -> None:
    """List what is installed. A plug-in that does not import is listed with its error."""
    found = {str(each): _SHOWN[each]() for each in ([kind] if kind else Kind)}
    if json:
        print_json(found)
        return
    parts = []
    for name, items in found.items():
        header = list(dict.fromkeys(key for item in items for key in item if key != "error"))
        if {item.get("from") for item in items} == {__name__.partition(".")[0]}:  # all ours: nothing to tell apart
            header.remove("from")
        table = columns(header, [[_cell(item.get(key)) for key in header] for item in items], terminal())
        errors = [f"! {item['error']}" for item in items if "error" in item]
        parts.append("\n".join([f"{name}\n", table, *errors]))
    print("\n\n".join(parts))


def _tasks() -> list[dict[str, Any]]:
    def described(plugin: plugins.Plugin) -> dict[str, Any]:
        task = plugins.load_task(plugin.name)
        needs = {"missing": "missing", "hub": "from the hub", "local": "here"}
        states = {needs[requirement.state()] for requirement in task.requirements()}
        found = task.qualification
        return {
            "family": task.family,
            "metric": task.metric.name,
            "chance": round(task.metric.chance, 1),
            "scope": task.scope,
            "needs": ", ".join(sorted(states)) or "nothing",
            "qualified": "yes" if found and found.qualifies(task.metric) else "no" if found else "unqualified",
            "about": paragraph(type(task.parts[0]).__doc__).partition(". ")[0].partition("; ")[0],
        }

    return _plugins("tasks", described)


def _sparsifiers() -> list[dict[str, Any]]:
    def described(plugin: plugins.Plugin) -> dict[str, Any]:
        sparsifier = plugins.load_sparsifier(plugin.name).sparsifier
        return {
            "category": ", ".join(sparsifier.category or ()),
            "cost": sparsifier.cost,
            "presets": ", ".join(sparsifier.presets),
            "paper": sparsifier.paper,
        }

    return _plugins("sparsifiers", described)


def _plugins(kind: plugins.Kind, described: Callable[[plugins.Plugin], dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for plugin in plugins.installed(kind).values():
        item: dict[str, Any] = {"name": plugin.name, "from": plugin.distribution}
        try:
            item |= described(plugin)
        except SmcbenchError as error:
            item["error"] = " ".join(str(error).split())
        found.append(item)
    return found


def _batteries() -> list[dict[str, Any]]:
    found = []
    for name in Battery.names():
        battery = Battery.load(name)
        sparsities = sorted({s for entry in battery.tasks for s in entry.sparsities})
        found.append(
            {
                "name": name,
                "tasks": list(dict.fromkeys(entry.task for entry in battery.tasks)),
                "sparsities": sparsities,
                "seeds": list(battery.seeds),
                "about": battery.description,
            }
        )
    return found


_SHORT = 30
"""Characters of a list that a cell shows; `smcbench info` and --json tell it whole."""


def _cell(value: Any) -> str:
    if isinstance(value, list):
        told = [show_sparsity(v) if isinstance(v, float) else str(v) for v in value]
        whole = ", ".join(told)
        if len(whole) <= _SHORT:
            return whole
        return f"{len(value)}, {told[0]} to {told[-1]}" if isinstance(value[0], float) else str(len(value))
    return str(value or "-")


_SHOWN: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    Kind.TASKS: _tasks,
    Kind.SPARSIFIERS: _sparsifiers,
    Kind.BATTERIES: _batteries,
}
