"""On a CUDA device: selection beside ``topk``, a masked step and its memory beside a dense one, a mask update's share.

    pytest tests/benchmarks/bench_gpu.py --benchmark-enable -o python_files='bench_*.py' -s

Medians, the device waited for before and after each turn, both sides in alternation in one process. Memory is what
torch's allocator held at most beyond what it held before.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from bench_selection import DENSITY, SIZES, concatenate_and_topk
from bench_training import _alternate, _bert, _session
from torch import Tensor

from smcbench import Mask
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsity.distributions import uniform
from smcbench.sparsity.keep import Elementwise, drop_and_grow, keep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def seconds(works: dict[str, Callable[[], object]], rounds: int = 17) -> dict[str, float]:
    """Median seconds of each, in turns."""

    def waited(work: Callable[[], object]) -> None:
        work()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return _alternate({name: functools.partial(waited, work) for name, work in works.items()}, rounds)


def extra_memory(work: Callable[[], object]) -> int:
    """Bytes allocated at most while it works, beyond what was before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = work()
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


@pytest.fixture(scope="module", params=SIZES)
def scores(request: pytest.FixtureRequest) -> Iterator[dict[str, Tensor]]:
    draw = torch.Generator("cuda").manual_seed(0)
    yield {n: torch.randn(s, generator=draw, device="cuda").mul_(0.03) for n, s in SIZES[request.param].items()}
    torch.cuda.empty_cache()


def test_selection(benchmark: Any, scores: dict[str, Tensor]) -> None:
    """Global magnitude selection over one ``sum()`` of the weights, beside concatenating them for ``topk``."""
    n = sum(score.numel() for score in scores.values())

    def ours() -> Mask:
        return keep(Elementwise(torch.abs, scores), DENSITY)

    mask = ours()
    assert mask.to("cpu") == keep({name: score.abs().cpu() for name, score in scores.items()}, DENSITY)
    works: dict[str, Callable[[], object]] = {
        "sum": lambda: [float(score.sum()) for score in scores.values()],
        "keep": ours,
        "topk": lambda: concatenate_and_topk({name: score.abs() for name, score in scores.items()}),
        "drop and grow": lambda: drop_and_grow(mask, scores, scores, 0.3),
    }
    found = seconds(works)
    info = {f"{name} / sum": found[name] / found["sum"] for name in found if name != "sum"}
    info |= {f"memory of {name} / weights": extra_memory(works[name]) / (4 * n) for name in ("keep", "topk")}
    benchmark.extra_info |= {"weights": n, **{f"{name}, s": value for name, value in found.items()}, **info}
    print("\n", benchmark.extra_info)
    benchmark.pedantic(ours, rounds=3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_masked_step(benchmark: Any, precision: str) -> None:
    """A step of BERT-base, 32 sequences of 128 tokens, at density 0.1 over a dense one; and an update's share.

    The share is that of a global selection by magnitude every hundred steps.
    """
    model, batch = _bert("base", 32)
    batch = tuple(tensor.cuda() for tensor in batch)
    runs, memory = {}, {}
    for kind in ("dense", "masked"):
        made = _session(copy.deepcopy(model).cuda(), batch, 10_000, precision)
        if kind == "masked":
            made.prune(random_scores(made), uniform(made.weights, DENSITY))
        run = iter(made.steps())
        next(run), next(run)
        memory[kind] = extra_memory(lambda run=run: next(run))  # type: ignore[misc]
        runs[kind] = made, run
    works = {kind: (lambda run=run: next(run)) for kind, (_, run) in runs.items()}
    works["selection"] = lambda: keep(magnitude(runs["masked"][0]), DENSITY)
    found = seconds(works)
    benchmark.extra_info |= {
        **{f"{name}, s": value for name, value in found.items()},
        "masked / dense": found["masked"] / found["dense"],
        "memory, masked / dense": memory["masked"] / memory["dense"],
        "selection, share of 100 steps": found["selection"] / (100 * found["dense"]),
    }
    print("\n", precision, benchmark.extra_info)
    benchmark.pedantic(works["masked"], rounds=3)
