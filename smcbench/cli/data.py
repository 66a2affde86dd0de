"""``smcbench data``: what tasks need, where it is from, and whether it is what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smcbench.cli.options import DataFolder, Json, ModelFolder, battery_names, task_names
from smcbench.cli.output import NothingMeasured, columns, print_json
from smcbench.errors import SmcbenchError

if TYPE_CHECKING:
    from smcbench.sources import Requirement
    from smcbench.task import Task

app = typer.Typer(help="Get data sets and pretrained models once, and check them.", rich_markup_mode=None)

Tasks = Annotated[
    list[str] | None, typer.Argument(help="Tasks; default: all that are installed.", autocompletion=task_names)
]
OfBattery = Annotated[
    str | None, typer.Option("--battery", help="All tasks of this battery.", autocompletion=battery_names)
]


@app.command("list")
def list_(
    tasks: Tasks = None,
    battery: OfBattery = None,
    data: DataFolder = None,
    models: ModelFolder = None,
    json: Json = False,
) -> None:
    """List what tasks need: where it is, from where it comes, under which licence."""
    found = [_described(need, names) for need, names in _needs(_tasks(tasks, battery))]
    if json:
        print_json(found)
        return
    if not found:
        print("nothing: these tasks bring all they need")
        return
    header = ("kind", "name", "state", "licence", "from")
    print(columns((*header, "for"), [[*(item[key] for key in header), _shortened(item["tasks"])] for item in found]))


@app.command()
def prepare(
    tasks: Tasks = None, battery: OfBattery = None, data: DataFolder = None, models: ModelFolder = None
) -> None:
    """Fetch what is missing, read and tokenise all of it. Afterwards runs start at once, and offline."""
    from rich.console import Console
    from rich.progress import track

    chosen = [task for task in _tasks(tasks, battery) if task.requirements()]
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    failed = []
    for task in track(chosen, "preparing", console=console, transient=True):
        try:
            sizes = task.prepare()
        except SmcbenchError as error:
            failed.append(error)
            console.print(f"! {task.name}: {error}", markup=False)
        else:
            console.print(f"{task.name}: " + ", ".join(f"{n:,} {split}" for split, n in sizes.items()), markup=False)
    console.print(f"{len(chosen) - len(failed)} of {len(chosen)} tasks are ready")
    raise typer.Exit(failed[0].exit_code if failed else 0)


@app.command()
def verify(
    tasks: Tasks = None,
    battery: OfBattery = None,
    data: DataFolder = None,
    models: ModelFolder = None,
    json: Json = False,
) -> None:
    """Check what lies in the local folders. Counts and SHA-256 are compared with those of the published files."""
    needs = _needs(_tasks(tasks, battery))
    found = [{"name": need.name, **verdict._asdict()} for need, _ in needs for verdict in need.verify()]
    if json:
        print_json(found)
    elif found:
        print(columns(("name", "file", "", "what it is"),
                      [(v["name"], v["file"], "ok" if v["known"] else "?", v["text"]) for v in found]))  # fmt: skip
    else:
        raise NothingMeasured(
            "none of it lies in a local folder; `smcbench data list` says what is needed and from where"
        )
    raise typer.Exit(0 if all(v["known"] for v in found) else 1)


def _tasks(names: list[str] | None, battery: str | None) -> list[Task]:
    from smcbench import plugins
    from smcbench.results.battery import Battery

    wanted = list(names or ())
    if battery is not None:
        wanted += [entry.task for entry in Battery.load(battery).tasks]
    return [plugins.load_task(name) for name in dict.fromkeys(wanted or plugins.installed("tasks"))]


def _needs(tasks: list[Task]) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement once, with the tasks that have it."""
    needs: dict[Requirement, list[str]] = {}
    for task in tasks:
        for need in task.requirements():
            needs.setdefault(need, []).append(task.name)
    return iter(needs.items())


def _described(need: Requirement, tasks: list[str]) -> dict[str, Any]:
    return {"kind": need.kind, "name": need.name, "state": need.state(), "licence": need.licence, "from": need.url,
            "tasks": tasks}  # fmt: skip


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
