"""The leaderboard: what it takes to aggregate a hundred thousand records, and to compare two methods."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.typing import NDArray
from records import dense, record

from smcbench import files
from smcbench.results import leaderboard, statistics
from smcbench.results.battery import DENSE, Battery, Entry, level
from smcbench.results.compare import compare
from smcbench.results.outcomes import Kind, Outcomes
from smcbench.results.record import RunRecord, RunSpec
from smcbench.results.submission import from_records

TASKS = {f"task-{i}": hashlib.sha256(str(i).encode()).hexdigest() for i in range(6)}
BATTERY = Battery("large", tuple(Entry(task, tuple(map(level, (3, 6, 10, 13)))) for task in TASKS), (0, 1, 2))
EXAMPLES = 10_000
METHODS = 1389
"""A complete submission of each is a hundred thousand records."""


def lines() -> Iterator[str]:
    """Records as submissions hold them: one JSON line each."""
    template = json.dumps(record().to_json())
    draw = random.Random(0)
    for method in (DENSE, *(f"method-{i}" for i in range(METHODS))):
        for cell in BATTERY.cells([method]):
            if cell.sparsifier == method:
                yield _line(json.loads(template), method, cell.task, cell.sparsity, cell.seed, draw.gauss(90, 3))


def _line(value: Any, method: str, task: str, sparsity: float, seed: int, score: float) -> str:
    spec, kept = value["spec"], round(1000 * (1 - sparsity))
    spec["task"] |= {"name": task, "digest": TASKS[task], "family": task}
    spec["sparsifier"] |= {"name": method, "label": method}
    spec |= {"sparsity": sparsity, "seed": seed}
    count = {"weights": 1000, "zeros": 1000 - kept}
    value["scores"] = {"accuracy": score}
    value["sparsity"] |= {
        "target": sparsity, "measured": 1 - kept / 1000, "kept": kept,
        "denominators": dict.fromkeys(("scope", "linear", "trainable", "stored"), count),
    }  # fmt: skip
    value["run"] = RunSpec.from_json(spec).run_id(value["provenance"]["engine"])
    return files.canonical(value)


def test_a_hundred_thousand_records(benchmark: Any) -> None:
    """CPU seconds from records to the bytes of the board, and the memory of it all. Goals: 20 s, 1 GB."""
    records, read = [], 0.0
    for line in lines():
        begin = time.process_time()
        records.append(RunRecord.from_json(files.parse_json(line, "line"), "line"))
        read += time.process_time() - begin
    submissions = from_records(records, BATTERY, TASKS)
    begin = time.process_time()
    text = benchmark.pedantic(lambda: leaderboard.build(submissions).text(), rounds=1)
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    benchmark.extra_info |= {"records": len(records), "seconds": seconds, "to read them": read, "peak GB": peak}
    print("\n", benchmark.extra_info, f"{len(text) / 1e6:.0f} MB of board")
    assert len(records) >= 100_000 - 100
    assert seconds < 20
    assert peak < 1


def made(kind: Kind, quality: float, draw: np.random.Generator, hard: NDArray[Any]) -> NDArray[Any]:
    """What a network of this quality does on examples that are so hard: none has the outcomes of another."""
    skill = quality / 10 - hard + 0.7 * draw.normal(size=len(hard))
    if kind == "pearson":
        return np.stack([skill, -hard], axis=1)
    if kind == "bleu":
        words = 12 + np.arange(len(hard)) % 17
        every = np.stack([words - n for n in range(4)], axis=1)
        right = np.floor(every * scipy.special.expit(skill)[:, None] ** np.arange(1, 5))
        return np.hstack([right, every, words[:, None], words[:, None] + 1])
    return (skill > 8)[:, None] * 1.0 if kind == "accuracy" else skill[:, None]


@pytest.mark.parametrize(("kind", "goal"), [("accuracy", 2), ("bleu", 2), ("mean", 3), ("pearson", 4)])
def test_comparing_two_methods(benchmark: Any, kind: Kind, goal: float) -> None:
    """CPU seconds of a whole comparison: five seeds of ten thousand examples, ten thousand resamples.

    The goal is 2 s; where no two examples have the same outcomes, a hundred million are drawn, and correlations sum
    five things of each.
    """
    draw = np.random.default_rng(0)
    hard, ids = draw.normal(size=EXAMPLES), files.digest("examples")
    alone = np.zeros(EXAMPLES, np.int64), np.ones(1), np.arange(EXAMPLES)

    def run(name: str, seed: int, quality: float) -> tuple[RunRecord, Outcomes]:
        found = Outcomes(kind, ids, made(kind, quality, draw, hard), *alone)
        if name == DENSE:
            return dense([found.score()] * (seed + 1))[seed], found
        return record(name, 0.5, seed, found.score()), found

    told = [run(name, seed, q) for name, q in ((DENSE, 95), ("a", 93), ("b", 92.5)) for seed in range(5)]
    records, known = [each for each, _ in told], {each.run: found for each, found in told}
    compare(records, ["a", "b"], outcomes=known, resamples=100)  # scipy is loaded
    begin = time.process_time()
    found = benchmark.pedantic(lambda: compare(records, ["a", "b"], outcomes=known, resamples=10_000), rounds=1)
    seconds = time.process_time() - begin
    benchmark.extra_info |= {"seconds": seconds}
    print("\n", kind, benchmark.extra_info)
    assert len(found.contrasts) == 2
    assert seconds < goal


def test_bootstrap(benchmark: Any) -> None:
    """Resampling seeds and examples of two methods, over what scipy takes for the examples of one network. Goal: 1."""
    draw = np.random.default_rng(0)
    easy = draw.normal(size=EXAMPLES)
    alone = np.zeros(EXAMPLES, np.int64), np.ones(1), np.arange(EXAMPLES)
    rows = [
        {
            seed: Outcomes("accuracy", "ab" * 32, (easy + draw.normal(size=EXAMPLES) > -1.8)[:, None] * 1.0, *alone)
            for seed in range(5)
        }
        for _ in range(2)
    ]
    one = rows[0][0].values[:, 0]

    def theirs() -> Any:
        return scipy.stats.bootstrap((one,), np.mean, n_resamples=1000, method="percentile", batch=100, rng=0)

    took: dict[str, list[float]] = {"ours": [], "scipy": []}
    for _ in range(3):
        for name, run in (("ours", lambda: statistics.bootstrap(rows, 10_000)), ("scipy", theirs)):
            begin = time.process_time()
            run()
            took[name].append(time.process_time() - begin)
    ours, scipys = min(took["ours"]), 10 * min(took["scipy"])  # a tenth of the resamples
    benchmark.extra_info |= {"seconds": ours, "ratio": ours / scipys}
    print("\n", benchmark.extra_info)
    benchmark.pedantic(lambda: statistics.bootstrap(rows, 10_000), rounds=1)
    assert ours < 2
    assert ours < scipys
