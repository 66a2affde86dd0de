"""Schedules: how sparsity or a drop fraction moves over a run, and when a method acts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from smcbench.errors import UsageError


def cubic(progress: float, initial: float, final: float) -> float:
    """The sparsity of gradual pruning: ``final + (initial - final) * (1 - progress)^3`` (Zhu & Gupta, 2017, eq. 1).

    ``progress`` runs from 0 to 1 and is clamped to that; at 1 the value is exactly ``final``.

    >>> [cubic(p, 0.0, 0.8) for p in (0, 0.5, 1)]
    [0.0, 0.7000000000000001, 0.8]
    """
    return final + (initial - final) * (1 - _clamped(progress)) ** 3


def cosine(progress: float, initial: float, final: float = 0.0) -> float:
    """Half a cosine wave from ``initial`` to ``final``: RigL's drop fraction (Evci et al., 2020, section 3(2)).

    ``progress`` runs from 0 to 1 and is clamped to that; at 1 the value is exactly ``final``.

    >>> [round(cosine(p, 0.3), 3) for p in (0, 0.5, 1)]
    [0.3, 0.15, 0.0]
    """
    return final + (initial - final) / 2 * (1 + math.cos(math.pi * _clamped(progress)))


def imp_densities(density: float, rate: float = 0.2, start: float = 1.0) -> list[float]:
    """The density after each round of iterative pruning from ``start`` down to ``density`` (Frankle & Carbin, 2019).

    Each round removes ``rate`` of what remains; the last one removes less where that would overshoot, and ends at
    exactly ``density``. A density within 1e-9 of ``(1 - rate)^k`` takes ``k`` rounds; that of the start takes none.

    Raises:
        UsageError: the density is not in (0, 1], or the rate not in (0, 1).

    >>> [round(d, 3) for d in imp_densities(0.512)]
    [0.8, 0.64, 0.512]
    >>> [round(d, 3) for d in imp_densities(0.6)]
    [0.8, 0.64, 0.6]
    """
    if not 0 < density <= 1:
        raise UsageError(f"IMP needs a density in (0, 1], not {density!r}")
    kept, rounds = 1 - _checked(rate), 0
    while start * kept**rounds > density * (1 + 1e-9):
        rounds += 1
    return [start * kept**k for k in range(1, rounds)] + [density] * (rounds > 0)


class HasSteps(Protocol):
    """What knows its length in optimizer steps, as a recipe does."""

    @property
    def steps(self) -> int: ...


@dataclass(frozen=True)
class Window:
    """The stretch of a run in which a method acts now and then; :meth:`on` a run it knows its steps.

    Raises:
        UsageError: not ``0 <= start <= stop <= 1``, or an interval that is not positive.

    >>> Window(0.1, 0.7, 0.2).on(100).events()
    [10, 30, 50, 70]
    >>> Window(0.0, 0.75, 300).on(1000).events()                            # the end of the window is always an event
    [0, 300, 600, 750]
    """

    start: float
    """Where the window begins, as a fraction of the run."""
    stop: float
    """Where it ends, as a fraction of the run; the last event."""
    interval: float | int
    """From one event to the next: a float is a fraction of the run, an int a number of steps."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= 1:
            raise UsageError(f"a window needs 0 <= start <= stop <= 1, not {self.start!r} and {self.stop!r}")
        if not 0 < self.interval < math.inf:
            raise UsageError(f"the interval of a window must be positive, not {self.interval!r}")

    def on(self, run: HasSteps | int) -> BoundWindow:
        """The window on a run: a recipe, or a number of steps.

        It ends at the step ``round(stop * steps)``, or at the run's last one; events are at least one step apart.

        Raises:
            UsageError: the run has no step.
        """
        steps = run if isinstance(run, int) else run.steps
        if steps < 1:
            raise UsageError(f"a window needs a run of at least one step, not {steps!r}")
        last = min(round(self.stop * steps), steps - 1)
        interval = self.interval if isinstance(self.interval, int) else max(1, round(self.interval * steps))
        return BoundWindow(min(round(self.start * steps), last), last, interval)


@dataclass(frozen=True)
class BoundWindow:
    """The steps of a run at which a method acts: ``first``, every ``interval`` steps after it, and always ``last``.

    >>> window = Window(0.2, 1.0, 0.3).on(10)
    >>> window.events(), 5 in window, 6 in window
    ([2, 5, 8, 9], True, False)
    >>> [round(window.progress(index), 2) for index in window.events()]
    [0.0, 0.43, 0.86, 1.0]
    """

    first: int
    last: int
    interval: int

    def __contains__(self, index: int) -> bool:
        return index == self.last or (self.first <= index < self.last and (index - self.first) % self.interval == 0)

    def events(self) -> list[int]:
        """The indices of all steps in the window at which to act, in order."""
        return [*range(self.first, self.last, self.interval), self.last]

    def progress(self, index: int) -> float:
        """How far a step is through the window: 0 until the first event, 1 from the last one on."""
        return _clamped((index - self.first) / (self.last - self.first)) if self.last > self.first else 1.0


def updates(run: HasSteps, interval: float, stop: float = 1.0) -> range:
    """The steps at which dynamic sparse training changes its mask: every ``interval`` of the run, before ``stop``.

    None falls on ``stop`` itself (RigL, Evci et al., 2020, algorithm 1: ``t < T_end``), so that what grew last is still
    trained. They are ten steps apart at least, or a fifth of a very short run: a weight needs some to show what it is
    worth. With an interval as long as the run there is none.

    >>> class Run: steps = 1000
    >>> list(updates(Run, 0.25)), list(updates(Run, 0.001, stop=0.04)), list(updates(Run, 1.0))
    ([250, 500, 750], [10, 20, 30], [])
    """
    every = max(1, round(interval * run.steps), min(10, run.steps // 5))
    return range(every, round(stop * run.steps), every)


def _clamped(progress: float) -> float:
    return min(1.0, max(0.0, progress))


def _checked(rate: float) -> float:
    if not 0 < rate < 1:
        raise UsageError(f"an IMP rate must lie in (0, 1), not {rate!r}")
    return rate
