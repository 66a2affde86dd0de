"""How fast exact global selection is, beside one pass over the weights and beside the usual ways.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/bench_selection.py --benchmark-enable -o python_files='bench_*.py' -s

One thread, best of several rounds, all ratios from the same process. Memory is the peak resident set (VmHWM of
/proc/self/status, reset through clear_refs) less the resident set just before, after malloc_trim has given back what
earlier work freed; elsewhere than on Linux with glibc it is left out.
Takes a few minutes and at most 6 GB, which is why the usual ways run at the smaller size only: ``topk`` alone pairs
each weight with an index, 16 bytes a weight.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from smcbench.sparsity.keep import Elementwise, _Vector, drop_and_grow, keep
from smcbench.sparsity.mask import Mask

DENSITY = 0.1


def bert(layers: int, width: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a BERT encoder, biases and norms included."""
    shapes: dict[str, tuple[int, ...]] = {"words": (vocabulary, width), "places": (512, width), "norm": (width,)}
    for i in range(layers):
        for name in ("query", "key", "value", "output"):
            shapes |= {f"{i}.{name}": (width, width), f"{i}.{name}.bias": (width,)}
        shapes |= {f"{i}.up": (4 * width, width), f"{i}.up.bias": (4 * width,)}
        shapes |= {f"{i}.down": (width, 4 * width), f"{i}.down.bias": (width,)}
        shapes |= {f"{i}.{norm}": (width,) for norm in ("norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift")}
    return shapes


SIZES = {"110M": bert(12, 768, 30522), "355M": bert(24, 1024, 50265)}


@pytest.fixture(scope="module", params=SIZES)
def weights(request: pytest.FixtureRequest) -> Any:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator).mul_(0.02 if "." in name else 0.05)
        for name, shape in SIZES[request.param].items()
    }
    yield tensors
    tensors.clear()
    gc.collect()


def best(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def extra_memory(work: Callable[[], object]) -> int | None:
    """Bytes the work takes beyond what is resident before it, at its peak and with its result."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        result = work()
        peak = status("VmHWM")
        del result
    except (OSError, AttributeError):
        return None
    return peak - before


def report(benchmark: Any, weights: dict[str, Tensor], work: Callable[[], object], rounds: int = 7) -> None:
    """Times the work and the floor, one ``sum()`` over each tensor, in turn, and notes the ratio and the memory."""
    n = sum(weight.numel() for weight in weights.values())

    def floor() -> float:
        return float(sum(weight.sum().item() for weight in weights.values()))

    work()
    floors = [best(floor, 3)]
    benchmark.pedantic(work, rounds=rounds, setup=lambda: floors.append(best(floor, 1)))
    floors.append(best(floor, 3))
    used = extra_memory(work)
    info = benchmark.extra_info
    info |= {"weights": n, "tensors": len(weights), "seconds": benchmark.stats.stats.min, "floor": min(floors)}
    info |= {"ratio": info["seconds"] / info["floor"], "memory": None if used is None else used / (4 * n)}
    print(
        f"\n{benchmark.name}: {info['seconds']:.3f} s = {info['ratio']:.1f} x sum() ({info['floor']:.3f} s), "
        f"extra memory {'unknown' if used is None else f'{used / (4 * n):.1%} of the weights'}, {n / 1e6:.0f} M"
    )


def concatenate_and_topk(scores: dict[str, Tensor]) -> Mask:
    """The usual way to keep the highest scores of all tensors."""
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    kept = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    kept[flat.topk(round(DENSITY * len(flat)), sorted=False).indices] = True
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return Mask({name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)})


def test_threshold_of_magnitudes(benchmark: Any, weights: dict[str, Tensor]) -> None:
    lazy = Elementwise(torch.abs, weights)
    k = round(DENSITY * sum(weight.numel() for weight in weights.values()))
    report(benchmark, weights, lambda: _Vector(lazy, list(lazy)).highest(k))


def test_threshold_of_scores(benchmark: Any, weights: dict[str, Tensor]) -> None:
    scores = Elementwise(lambda score: score, {name: weight.abs() for name, weight in weights.items()})
    k = round(DENSITY * sum(weight.numel() for weight in weights.values()))
    report(benchmark, weights, lambda: _Vector(scores, list(scores)).highest(k))


def test_keep_by_magnitude(benchmark: Any, weights: dict[str, Tensor]) -> None:
    report(benchmark, weights, lambda: keep(Elementwise(torch.abs, weights), DENSITY))


def test_keep_by_score(benchmark: Any, weights: dict[str, Tensor]) -> None:
    scores = {name: weight.abs() for name, weight in weights.items()}
    report(benchmark, weights, lambda: keep(scores, DENSITY))


def test_keep_with_zeros(benchmark: Any, weights: dict[str, Tensor]) -> None:
    """95 % of the scores tie at zero, and the threshold is among them."""
    scores = {name: (weight.abs() - weight.std() * 2).clamp_(min=0) for name, weight in weights.items()}
    report(benchmark, weights, lambda: keep(scores, DENSITY))


def test_drop_and_grow(benchmark: Any, weights: dict[str, Tensor]) -> None:
    if sum(weight.numel() for weight in weights.values()) > 200e6:
        pytest.skip("the smaller size will do")
    magnitudes = {name: weight.abs() for name, weight in weights.items()}
    mask = keep(magnitudes, DENSITY)
    report(benchmark, weights, lambda: drop_and_grow(mask, magnitudes, magnitudes, 0.3), rounds=3)


def test_the_usual_ways(benchmark: Any, weights: dict[str, Tensor]) -> None:
    """Concatenate and ``topk``; ``torch.nn.utils.prune.global_unstructured``: how many times slower they are."""
    if sum(weight.numel() for weight in weights.values()) > 200e6:
        pytest.skip("more memory than this benchmark allows itself")
    scores = {name: weight.abs() for name, weight in weights.items()}
    n = sum(score.numel() for score in scores.values())

    def global_unstructured() -> None:
        modules = [nn.Module() for _ in weights]
        for module, weight in zip(modules, weights.values(), strict=True):
            module.weight = nn.Parameter(weight, requires_grad=False)
        prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=n - round(DENSITY * n))

    ours = best(lambda: keep(scores, DENSITY), 5)
    assert concatenate_and_topk(scores) == keep(scores, DENSITY)
    topk = best(lambda: concatenate_and_topk(scores), 2)
    torch_prune = best(global_unstructured, 1)
    benchmark.pedantic(lambda: keep(scores, DENSITY), rounds=3)
    benchmark.extra_info |= {"topk": topk / ours, "global_unstructured": torch_prune / ours, "seconds": ours}
    print(
        f"\nkeep {ours:.3f} s; concatenate + topk {topk:.2f} s, {topk / ours:.0f} x; "
        f"global_unstructured {torch_prune:.2f} s, {torch_prune / ours:.0f} x"
    )
