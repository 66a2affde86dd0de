"""``smcbench check``: the executable contract of a sparsifier or task, promise by promise."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smcbench.cli.options import Device, Json, plugin_names, task_names
from smcbench.cli.output import print_json
from smcbench.errors import UsageError

if TYPE_CHECKING:
    from smcbench.testing import Check


def check(
    name: Annotated[str, typer.Argument(help="A sparsifier or task.", autocompletion=plugin_names)],
    task: Annotated[
        str | None,
        typer.Option(help="Try a sparsifier on the tiny variant of this task.", autocompletion=task_names),
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Put a plug-in to the test. Its contract is checked promise by promise, in under a minute."""
    from rich.console import Console

    from smcbench import plugins, testing
    from smcbench.cli.info import find
    from smcbench.cli.planning import usable
    from smcbench.results.battery import Battery
    from smcbench.task import Task

    usable(device, None)
    found = find(name)
    if isinstance(found, Battery):
        raise UsageError(f"{name} is a battery; check takes a sparsifier or a task")
    if isinstance(found, Task):
        checks = testing.task_checks(found, device)
    else:
        checks = testing.sparsifier_checks(name, plugins.load_task(task).tiny() if task else None, device=device)
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    results: list[dict[str, Any]] = []
    for each in checks:
        with console.status(each.name):
            state, message = _outcome(each)
        results.append({"check": each.name, "state": state, "message": message})
        console.print(f"[{_COLOURS[state]}]{state:<7}[/]", end=" ")
        console.print(each.name + (f": {message}" if message else ""), markup=False)
    failed = sum(result["state"] == "failed" for result in results)
    if json:
        print_json(results)
    elif failed:
        console.print(f"{failed} of {len(results)} promises are broken")
    else:
        console.print(f"next: smcbench run --sparsifier {shlex.quote(name)}" if not isinstance(found, Task) else
                      f"next: smcbench info {name} --qualify", markup=False)  # fmt: skip
    raise typer.Exit(1 if failed else 0)


_COLOURS = {"ok": "green", "skipped": "yellow", "failed": "red"}


def _outcome(check: Check) -> tuple[str, str]:
    from smcbench.cell import Skipped
    from smcbench.errors import describe

    try:
        check.run()
    except Skipped as reason:
        return "skipped", str(reason)
    except AssertionError as error:
        return "failed", str(error).removeprefix(f"{check.name}: ")
    except Exception as error:
        return "failed", describe(error)
    return "ok", ""
