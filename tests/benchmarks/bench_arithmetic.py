"""The tree decoder for a whole batch at once, beside the same decoder one example at a time.

One process, one thread, in alternation; the ratio is what counts.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_trees import END, OPS, expression
from trees import Memory, search_one, teach_one

from smcbench_tasks._solvers import Solver
from smcbench_tasks._trees import Problems, search, teach

BATCH, WORDS, NUMBERS = 64, 40, 3
SIZES = Solver("gts", 512, 768, dropout=0.0)


@pytest.mark.parametrize("what", ["teacher forcing and its gradients", "beam search of 5"])
def test_decoder(benchmark: Any, what: str) -> None:
    """Goal: at batch 64 at least ten times the examples a second, with SMC-Bench's sizes and MAWPS' lengths."""
    torch.manual_seed(0)
    network = SIZES.build(30, 2).eval()
    draw = random.Random(0)
    width = SIZES.width
    problems = Problems(
        torch.randn(BATCH, width), torch.randn(BATCH, WORDS, width), torch.ones(BATCH, WORDS, dtype=torch.bool),
        torch.randn(BATCH, NUMBERS, width), torch.ones(BATCH, NUMBERS, dtype=torch.bool),
    )  # fmt: skip
    rows = [expression(draw, 2 + NUMBERS, draw.choice((1, 1, 1, 2, 2, 3))) for _ in range(BATCH)]
    targets = torch.full((BATCH, max(map(len, rows))), END)
    for at, row in enumerate(rows):
        targets[at, : len(row)] = torch.tensor(row)
    constants = network.predict.constants[0]
    parts = network.predict, network.generate, network.merge

    def memory(at: int) -> Memory:
        return Memory(problems.goal[at], problems.words[at], torch.cat([constants, problems.numbers[at]]))

    def together() -> None:
        if what.startswith("beam"):
            with torch.no_grad():
                search(problems, 5, 7, *parts)
        else:
            logits = teach(problems, targets, *parts)[targets != END]
            torch.nn.functional.cross_entropy(logits, targets[targets != END]).backward()

    def alone() -> None:
        for at in range(BATCH):
            if what.startswith("beam"):
                with torch.no_grad():
                    search_one(network, memory(at), 5, 7)
            else:
                logits = torch.stack(teach_one(network, memory(at), rows[at]))
                torch.nn.functional.cross_entropy(logits, torch.tensor(rows[at])).backward()

    assert OPS == 4
    took: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(3):
        for name, run in (("together", together), ("alone", alone)):
            begin = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in took.items()}
    ratio = medians["alone"] / medians["together"]
    print(f"\n{what}: {1000 * medians['together']:.0f} ms, one at a time {medians['alone']:.2f} s: {ratio:.1f} x")
    benchmark.extra_info["ratio"] = ratio
    benchmark.pedantic(together, rounds=3)
