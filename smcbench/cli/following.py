"""Running planned cells under the eyes of the user: a bar, a line a cell, and what came of it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from smcbench.cli.planning import Planned
from smcbench.engines import local


@dataclass
class Result:
    """What became of the planned cells."""

    planned: Sequence[Planned]
    before: int = 0
    """Done already."""
    done: int = 0
    skipped: list[tuple[Planned, str]] = field(default_factory=list)
    failed: list[tuple[Planned, str]] = field(default_factory=list)
    busy: list[tuple[Planned, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """5 if nothing is measured, 4 if a cell failed or another process has it, else 0."""
        if not self.before + self.done:
            return 5
        return 4 if self.failed or self.busy else 0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""

        def listed(cells: Sequence[tuple[Planned, str]]) -> list[dict[str, Any]]:
            return [
                {
                    "task": each.task.name, "sparsifier": each.label, "sparsity": each.request.sparsity,
                    "seed": each.request.seed, "budget": each.request.budget, "message": message,
                }
                for each, message in cells
            ]  # fmt: skip

        return {
            "cells": len(self.planned), "done": self.before + self.done, "done_before": self.before,
            "skipped": listed(self.skipped), "failed": listed(self.failed), "busy": listed(self.busy),
        }  # fmt: skip

    def summary(self) -> str:
        """A line of counts, then a line for each reason."""
        counts = [f"{self.before + self.done} of {len(self.planned)} cells are done"]
        if self.before:
            counts.append(f"{self.before} of them before")
        lines = []
        for what, cells in (("skipped", self.skipped), ("failed", self.failed), ("in other hands", self.busy)):
            if cells:
                counts.append(f"{len(cells)} {what}")
            reasons = Counter(message for _, message in cells)
            for message, times in reasons.items():
                first = next(" ".join(str(each).split()) for each, m in cells if m == message)
                more = f" and {times - 1} more" if times > 1 else ""
                lines.append(f"  {what}: {first}{more}: {message}")
        return "\n".join([", ".join(counts), *lines])


def follow(planned: Sequence[Planned], workers: int, console: Console) -> Result:
    """Run what is not done; whatever happens to a cell, the others go on."""
    result = Result(planned, before=sum(each.record is not None for each in planned))
    result.skipped = [(each, each.skip) for each in planned if each.record is None and each.skip is not None]
    todo = [each for each in planned if each.record is None and each.skip is None]
    if not todo:
        return result
    of = {_key(each.request): each for each in todo}
    with (
        _bar(console, len(todo)) as progress,
        contextlib.closing(
            local.run([each.request for each in todo], min(workers, len(todo)))  # type: ignore[type-var]
        ) as outcomes,
    ):
        for outcome in outcomes:
            each = of[_key(outcome.request)]
            if outcome.state == "done":
                result.done += 1
                metric = each.task.metric
                score = f"{metric.name} {outcome.score:.2f} {metric.unit}".strip()
                progress.line(f"{each}  {score}  {outcome.seconds:.1f} s")
            else:
                group = {"skipped": result.skipped, "failed": result.failed, "busy": result.busy}[outcome.state]
                group.append((each, outcome.message))
                progress.line(f"{each}  {outcome.state}: {outcome.message}")
            progress.advance()
    return result


def _key(request: local.Request) -> tuple[str, str, float, int, float]:
    return request.task, request.sparsifier, request.sparsity, request.seed, request.budget


class _Bar:
    """Cells done, rate and time left; without a terminal only the lines."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0
        self._begin = time.monotonic()
        self.progress = Progress(
            TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self.progress.add_task("cells", total=total, pace="")

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self) -> None:
        self._done += 1
        each = (time.monotonic() - self._begin) / self._done
        left = each * (self._total - self._done)
        pace = f"{60 / max(each, 1e-9):.3g} a minute, {_duration(left)} left"
        self.progress.update(self._task, advance=1, pace=pace)


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[_Bar]:
    bar = _Bar(console, total)
    with bar.progress:
        yield bar


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{seconds:02d}"
