"""Criteria before training: their time in passes, forward and backward, of the same network on the same batch.

On one thread; the passes that scores are measured against run in alternation with them, so that a noisy machine
disturbs both sides alike; selection has a benchmark of its own. A formula needs so many: SNIP one; GraSP of one batch
three, of which a product of the Hessian with a vector is two; SynFlow one a round, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_training import _alternate, _bert, _session
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from smcbench import Recipe, Session
from smcbench.criteria import SynapticFlow, connection_sensitivity, gradient_flow


def _perceptron() -> Session:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return Session.of(
        model,
        loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]),
        batches=[(torch.randn(256, 784), torch.randint(10, (256,)))],
        recipe=Recipe(steps=1, batch_size=256, lr=0.1),
    )


def _transformer() -> Session:
    return _session(*_bert("mini"), 1)


def _pass(session: Session) -> Callable[[], None]:
    """Forward and backward, for all weights; attention as it is differentiated twice."""
    weights = [p for p in session.model.parameters() if p.requires_grad]
    (batch,) = session._feed_for(session.recipe)(0)
    session.model.train()

    def once() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            torch.autograd.grad(session.task.forward(session.model, batch).logits, weights, allow_unused=True)

    return once


@pytest.mark.parametrize("network", [_perceptron, _transformer])
def test_scoring_from_gradients(benchmark: Any, network: Callable[[], Session]) -> None:
    """SNIP and GraSP over the passes they need. Goal: 1.2."""
    session = network()
    session.flops  # noqa: B018  traced once a task
    medians = _alternate(
        {
            "pass": _pass(session),
            "snip": lambda: connection_sensitivity(session),
            "grasp": lambda: gradient_flow(session),
        },
        12,
    )
    benchmark.extra_info |= {
        "snip / 1 pass": medians["snip"] / medians["pass"],
        "grasp / 3 passes": medians["grasp"] / (3 * medians["pass"]),
    }
    print("\n", network.__name__, benchmark.extra_info)
    benchmark.pedantic(lambda: gradient_flow(session), rounds=1)


@pytest.mark.parametrize("network", [_perceptron, _transformer])
def test_scoring_by_synaptic_flow(benchmark: Any, network: Callable[[], Session]) -> None:
    """A round of SynFlow over a pass in double precision. Goal: 1.2."""
    session = network()
    (batch,) = session._feed_for(session.recipe)(0)
    flow = SynapticFlow(session)
    double = network()
    double.model.double().eval()
    weights = list(double.weights.values())
    asked = torch.ones_like(batch[0], dtype=torch.float64) if batch[0].is_floating_point() else batch[0]

    def once() -> None:
        said = double.model(asked)
        torch.autograd.grad(getattr(said, "logits", said).sum(), weights)

    medians = _alternate({"pass": once, "round": flow}, 10)
    benchmark.extra_info["synflow / 1 pass"] = medians["round"] / medians["pass"]
    print("\n", network.__name__, benchmark.extra_info)
    benchmark.pedantic(flow, rounds=1)
