"""Schedules, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smcbench.errors import UsageError
from smcbench.sparsity.distributions import count
from smcbench.sparsity.schedules import Window, cosine, cubic, imp_densities, updates


def test_cubic_at_five_points() -> None:
    # 0.9 - 0.8 * (1, 27/64, 1/8, 1/64, 0)
    got = [cubic(p, 0.1, 0.9) for p in (0, 0.25, 0.5, 0.75, 1)]
    assert got == pytest.approx([0.1, 0.5625, 0.8, 0.8875, 0.9], abs=1e-15)
    assert got[-1] == 0.9
    assert (cubic(-1, 0.0, 0.5), cubic(2, 0.0, 0.5)) == (0.0, 0.5)


def test_cosine_at_five_points() -> None:
    half = math.sqrt(0.5)
    got = [cosine(p, 0.3) for p in (0, 0.25, 0.5, 0.75, 1)]
    assert got == pytest.approx([0.3, 0.15 * (1 + half), 0.15, 0.15 * (1 - half), 0.0], abs=1e-15)
    assert got[-1] == 0
    assert cosine(1, 0.5, 0.005) == 0.005
    assert cosine(0.5, 0.5, 0.1) == pytest.approx(0.3)


def test_ten_rounds_of_imp_on_750_weights() -> None:
    counts = [count(density, 750) for density in imp_densities(0.8**10)]
    assert counts == [600, 480, 384, 307, 246, 197, 157, 126, 101, 81]


@given(st.integers(0, 30), st.sampled_from([0.1, 0.2, 0.5]), st.sampled_from([0, 5e-10, -5e-10]))
def test_a_level_takes_its_number_of_rounds(level: int, rate: float, error: float) -> None:
    density = min(1.0, (1 - rate) ** level * (1 + error))
    densities = imp_densities(density, rate)
    assert len(densities) == level
    assert densities[-1:] == [density] * (level > 0)


@given(st.floats(1e-4, 1), st.floats(0.05, 0.9))
def test_no_round_removes_more_than_the_rate(density: float, rate: float) -> None:
    densities = imp_densities(density, rate)
    steps = [b / a for a, b in zip([1.0, *densities], densities, strict=False)]
    assert all(step >= (1 - rate) * (1 - 2e-9) for step in steps)
    assert all(step == pytest.approx(1 - rate) for step in steps[:-1])
    assert densities == sorted(densities, reverse=True)
    assert (densities or [1.0])[-1] == pytest.approx(density, rel=1e-8)


def test_imp_ends_exactly_where_asked() -> None:
    assert imp_densities(1.0) == []
    assert imp_densities(0.9) == [0.9]
    assert imp_densities(0.5)[-2:] == [0.8**3, 0.5]


def test_imp_from_a_sparse_start() -> None:
    # 0.27 * 0.8^k, until the next would fall below 0.1
    assert imp_densities(0.1, start=0.27) == pytest.approx([0.216, 0.1728, 0.13824, 0.110592, 0.1])
    assert imp_densities(0.1, start=0.27)[-1] == 0.1
    assert imp_densities(0.2, rate=0.5, start=0.4) == [0.2]
    assert imp_densities(0.27, start=0.27) == imp_densities(0.27 * 0.8**10, start=0.27 * 0.8**10) == []
    assert len(imp_densities(0.27 * 0.8**10, start=0.27)) == 10


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, math.nan])
def test_imp_refuses_densities(density: float) -> None:
    with pytest.raises(UsageError):
        imp_densities(density)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, math.nan])
def test_imp_refuses_rates(rate: float) -> None:
    with pytest.raises(UsageError):
        imp_densities(0.5, rate)


@dataclass
class Run:
    steps: int


@pytest.mark.parametrize(
    ("window", "steps", "events"),
    [
        (Window(0.1, 0.7, 0.2), 100, [10, 30, 50, 70]),
        (Window(0.1, 0.7, 25), 100, [10, 35, 60, 70]),  # the last one is short of an interval
        (Window(0.0, 1.0, 0.5), 10, [0, 5, 9]),  # the run has no step 10
        (Window(0.0, 0.75, 100), 8, [0, 6]),  # an interval longer than the window
        (Window(0.0, 0.5, 0.001), 8, [0, 1, 2, 3, 4]),  # at least one step
        (Window(0.5, 0.5, 0.1), 10, [5]),
        (Window(1.0, 1.0, 1), 10, [9]),
        (Window(0.0, 1.0, 1), 1, [0]),
    ],
)
def test_events_of_windows(window: Window, steps: int, events: list[int]) -> None:
    bound = window.on(steps)
    assert bound.events() == events
    assert [index for index in range(-3, steps + 3) if index in bound] == events
    assert bound.progress(events[-1]) == 1.0
    assert bound.progress(events[0]) == (0.0 if len(events) > 1 else 1.0)
    assert window.on(Run(steps)) == bound


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1) | st.integers(1, 50), st.integers(1, 300))
def test_windows_end_on_their_last_step(a: float, b: float, interval: float | int, steps: int) -> None:
    start, stop = sorted((a, b))
    window = Window(start, stop, interval).on(steps)
    events = window.events()
    assert events[-1] == min(round(stop * steps), steps - 1)
    assert events == sorted(set(events))
    assert all((index in window) == (index in events) for index in range(steps))
    progress = [window.progress(index) for index in events]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


@pytest.mark.parametrize(
    ("start", "stop", "interval"),
    [(-0.1, 0.5, 1), (0.6, 0.5, 1), (0.0, 1.1, 1), (0.0, 1.0, 0), (0.0, 1.0, -0.1), (0.0, 1.0, math.nan)],
)
def test_windows_that_cannot_be(start: float, stop: float, interval: Any) -> None:
    with pytest.raises(UsageError, match="window"):
        Window(start, stop, interval)


def test_a_run_has_steps() -> None:
    with pytest.raises(UsageError, match="step"):
        Window(0.0, 1.0, 1).on(0)


@pytest.mark.parametrize(
    ("steps", "interval", "stop", "events"),
    [
        (1000, 0.25, 1.0, [250, 500, 750]),
        (1000, 0.1, 0.75, [100, 200, 300, 400, 500, 600, 700]),
        (100, 0.25, 0.75, [25, 50]),  # none at the stop
        (100, 0.02, 0.45, [10, 20, 30, 40]),  # ten steps apart
        (100, 0.11, 0.45, [11, 22, 33, 44]),
        (40, 0.02, 0.75, [8, 16, 24]),  # or a fifth of the run
        (16, 0.02, 0.75, [3, 6, 9]),
        (4, 0.02, 1.0, [1, 2, 3]),
        (1, 0.5, 1.0, []),
        (1000, 1.0, 1.0, []),
        (1000, 0.8, 0.75, []),
        (1000, 0.02, 0.0, []),
    ],
)
def test_updates_of_dynamic_training(steps: int, interval: float, stop: float, events: list[int]) -> None:
    assert list(updates(Run(steps), interval, stop)) == events


@given(st.integers(1, 3000), st.floats(0.001, 1), st.floats(0, 1))
def test_updates_come_before_their_end(steps: int, interval: float, stop: float) -> None:
    events = [0, *updates(Run(steps), interval, stop)]
    apart = {b - a for a, b in pairwise(events)}
    assert len(apart) <= 1
    assert all(gap >= max(1, min(10, steps // 5)) for gap in apart)
    assert all(gap == pytest.approx(interval * steps, abs=0.5) for gap in apart if gap > 10)
    assert events[-1] < stop * steps or len(events) == 1
