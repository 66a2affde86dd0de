"""Mask updates at 110 M weights, as a share of the training between two of them. Goal: under 2 %.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/bench_updates.py --benchmark-enable -o python_files='bench_*.py' -s

The weights are the matrices of a BERT-base, embeddings included, with gradients and Adam's moments but without the
network; timed is the body of the method's own loop at an update, the masking of weights and moments included.

A training step is estimated from below, so that the shares are upper bounds: forward and backward of one of the twelve
layers of the encoder, 32 sequences of 128 tokens, times twelve; embeddings, head, loss and optimizer step come on top.
The layer is timed before and after the updates. All times are processor time of the one thread, so that other work on
the machine disturbs them little. Intervals are those of the papers: 100 steps for RigL and 1,000 for GraNet; a phase of
AC/DC is 5 % of the run, of the shortest and of the longest GLUE recipe here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from bench_selection import bert
from torch import nn

from smcbench import Mask, Recipe, Session, Sparsifier, plugins
from smcbench.criteria import magnitude
from smcbench.trainer import Step
from smcbench_baselines.granet import GraNet
from smcbench_baselines.rigl import RigL

LAYERS, SPARSITY, STEPS = 12, 0.9, 100_000


class _Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        shapes = {name: shape for name, shape in bert(LAYERS, 768, 30522).items() if len(shape) == 2}
        self.matrices = nn.ParameterList([nn.Parameter(torch.randn(shape) * 0.04) for shape in shapes.values()])


def _layer() -> float:
    """Seconds of one layer, forward and backward."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, dropout=0.1, activation="gelu", batch_first=True)
    tokens = torch.randn(32, 128, 768, requires_grad=True)
    times = []
    for _ in range(2):
        begin = time.process_time()
        layer(tokens).sum().backward()
        times.append(time.process_time() - begin)
    return min(times)


@pytest.fixture(scope="module")
def measured() -> tuple[Session, list[float]]:
    """A session in the middle of training, and the times of a layer."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    times = [_layer()]
    recipe = Recipe(steps=STEPS, batch_size=32, lr=1e-4)
    session = Session.of(_Weights(), loss=lambda m, b: torch.zeros(()), batches=[None], recipe=recipe)
    session._optimizer = session._fresh_optimizer(recipe, None)
    for weight in session.weights.values():
        weight.grad = torch.randn_like(weight)
    session._optimizer.step()
    return session, times


def _updates(session: Session, method: Sparsifier, indices: Sequence[int]) -> list[float]:
    """Seconds that the method's loop takes at these steps."""
    times = []

    def steps() -> Iterator[Step]:
        for index in indices:
            for name, weight in session.weights.items():  # what the steps between two updates do
                weight.data.normal_(std=0.04).mul_(session.mask[name])
                weight.grad.normal_()
            step = Step(index, torch.zeros(()), session.weights, session.mask)
            before, begin = session.mask, time.process_time()
            yield step
            times.append(time.process_time() - begin)
            assert session.mask is not before, f"step {index} is no update"

    session.steps = steps  # type: ignore[assignment]
    method.sparsify(session, SPARSITY)
    return times


def _compressions(session: Session, rounds: int) -> list[float]:
    """Seconds of AC/DC's change from dense to sparse."""
    times = []
    for _ in range(rounds):
        session.mask = Mask.dense(session.weights)
        for weight in session.weights.values():
            weight.data.normal_(std=0.04)
        begin = time.process_time()
        session.prune(magnitude(session), density=1 - SPARSITY)
        times.append(time.process_time() - begin)
    return times


def _report(benchmark: Any, times: list[float], layers: list[float], intervals: dict[str, int]) -> None:
    layers.append(_layer())
    update, step = statistics.median(times), LAYERS * statistics.median(layers)
    shares = {f"{what}, {steps:,} steps": update / (steps * step) for what, steps in intervals.items()}
    benchmark.extra_info |= {"update": update, "step": step, **shares}
    told = "; ".join(f"{share:.3%} of {what}" for what, share in shares.items())
    print(f"\n{benchmark.name}: {update:.2f} s, a step {step:.1f} s at least: {told}")
    benchmark.pedantic(lambda: None, rounds=1)


def test_rigl(benchmark: Any, measured: tuple[Session, list[float]]) -> None:
    """At the largest drop fraction."""
    times = _updates(measured[0], RigL(interval=100 / STEPS), [100, 200, 300])
    _report(benchmark, times[1:], measured[1], {"the interval": 100})


def test_granet(benchmark: Any, measured: tuple[Session, list[float]]) -> None:
    """Global pruning, then drop and growth."""
    times = _updates(measured[0], GraNet(interval=1000 / STEPS), [1000, 2000, 3000])
    _report(benchmark, times[1:], measured[1], {"the interval": 1000})


def test_ac_dc(benchmark: Any, measured: tuple[Session, list[float]]) -> None:
    recipes = {name: plugins.load_task(name).recipe for name in ("wnli", "mnli")}
    phases = {f"a phase on {name}": round(0.05 * recipe.steps) for name, recipe in recipes.items()}
    _report(benchmark, _compressions(measured[0], 3)[1:], measured[1], phases)
