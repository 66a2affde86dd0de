"""On a CUDA device: selection beside ``topk``, a masked step and its memory beside a dense one, a mask update's share.

    pytest tests/benchmarks/bench_gpu.py --benchmark-enable -o python_files='bench_*.py' -s

Medians, the device waited for before and after each turn, both sides in alternation in one process. Memory is what
torch's allocator held at most beyond what it held before.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from bench_selection import DENSITY, SIZES
from torch import Tensor

from smcbench import Mask, Recipe, Session
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsity.distributions import uniform
from smcbench.sparsity.keep import Elementwise, drop_and_grow, keep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def seconds(works: dict[str, Callable[[], object]], rounds: int = 15) -> dict[str, float]:
    """Median seconds of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 2):
        for name, work in list(works.items())[:: 1 if turn % 2 else -1]:  # neither is always the first
            torch.cuda.synchronize()
            begin = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


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

    def topk() -> Mask:
        flat = torch.cat([score.abs().reshape(-1) for score in scores.values()])
        kept = torch.zeros(n, dtype=torch.bool, device="cuda")
        kept[flat.topk(round(DENSITY * n), sorted=False).indices] = True
        parts = torch.split(kept, [score.numel() for score in scores.values()])
        return Mask({name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)})

    def ours() -> Mask:
        return keep(Elementwise(torch.abs, scores), DENSITY)

    mask = ours()
    assert mask.to("cpu") == keep({name: score.abs().cpu() for name, score in scores.items()}, DENSITY)
    works: dict[str, Callable[[], object]] = {
        "sum": lambda: [float(score.sum()) for score in scores.values()],
        "keep": ours,
        "topk": topk,
        "drop and grow": lambda: drop_and_grow(mask, scores, scores, 0.3),
    }
    found = seconds(works)
    info = {f"{name} / sum": found[name] / found["sum"] for name in found if name != "sum"}
    info |= {f"memory of {name} / weights": extra_memory(works[name]) / (4 * n) for name in ("keep", "topk")}
    benchmark.extra_info |= {"weights": n, **{f"{name}, s": value for name, value in found.items()}, **info}
    print("\n", benchmark.extra_info)
    benchmark.pedantic(ours, rounds=3)


def bert(precision: str) -> tuple[torch.nn.Module, Any, Recipe]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)).cuda()
    batch = torch.randint(1000, (32, 128), device="cuda"), torch.zeros(32, dtype=torch.long, device="cuda")
    recipe = Recipe(steps=10_000, batch_size=32, lr=1e-5, schedule="constant", clip=1.0, precision=precision)
    return model, batch, recipe


def session(model: torch.nn.Module, batch: Any, recipe: Recipe) -> Session:
    return Session.of(
        model,
        loss=lambda m, b: m(input_ids=b[0], labels=b[1]).loss,
        batches=[batch],
        recipe=recipe,
        prunable=lambda name, p: p.ndim == 2 and "embeddings" not in name,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_masked_step(benchmark: Any, precision: str) -> None:
    """A step of BERT-base, 32 sequences of 128 tokens, at density 0.1 over a dense one; and an update's share.

    The share is that of a global selection by magnitude every hundred steps.
    """
    model, batch, recipe = bert(precision)
    runs, memory = {}, {}
    for kind in ("dense", "masked"):
        made = session(copy.deepcopy(model), batch, recipe)
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
