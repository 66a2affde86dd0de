"""Options that several verbs share, and what the shell completes them to. Completion imports no plug-in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from smcbench import plugins
from smcbench.errors import UsageError
from smcbench.results.battery import Battery
from smcbench.sources import DATA, MODELS


def task_names(incomplete: str) -> list[str]:
    """For completion."""
    return _starting(incomplete, plugins.installed("tasks"))


def sparsifier_names(incomplete: str) -> list[str]:
    """For completion."""
    return _starting(incomplete, plugins.installed("sparsifiers"))


def battery_names(incomplete: str) -> list[str]:
    """For completion."""
    return _starting(incomplete, Battery.names())


def all_names(incomplete: str) -> list[str]:
    """For completion."""
    return [*task_names(incomplete), *sparsifier_names(incomplete), *battery_names(incomplete)]


def plugin_names(incomplete: str) -> list[str]:
    """For completion."""
    return [*task_names(incomplete), *sparsifier_names(incomplete)]


def _starting(incomplete: str, names: object) -> list[str]:
    return [str(name) for name in names if str(name).startswith(incomplete)]  # type: ignore[attr-defined]


def _sets(variable: str) -> Callable[[Path | None], Path | None]:
    """An option that stands for an environment variable, so that worker processes see it too."""

    def callback(folder: Path | None) -> Path | None:
        if folder is not None:
            if not folder.is_dir():
                raise UsageError(f"{folder}: no such folder; name the one that {variable} would name")
            os.environ[variable] = str(folder.resolve())
        return folder

    return callback


DataFolder = Annotated[
    Path | None,
    typer.Option("--data", callback=_sets(DATA), help=f"The folder of data sets, instead of ${DATA}."),
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--models", callback=_sets(MODELS), help=f"The folder of pretrained models, instead of ${MODELS}."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Trusted = Annotated[
    bool,
    typer.Option("--trusted", "--trust", help="Open any pickle (.pt, .bin): it can run code of whoever made it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option("--out", help="The store: a folder with one folder a run.")]
BatteryName = Annotated[
    str, typer.Option("--battery", help="A battery, or FILE.toml[:NAME].", autocompletion=battery_names)
]
TaskNames = Annotated[
    list[str] | None,
    typer.Option("--task", help="Only this task, or module:attribute; repeatable.", autocompletion=task_names),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes, of one thread each.")]
BoardFolder = Annotated[Path, typer.Option("--board", help="The folder of the leaderboard and its submissions.")]

RUNS = Path("runs")
BOARD = Path("leaderboard")
