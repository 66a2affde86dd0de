"""The formulas of cost that ``smcbench list`` shows, against what the engine bills where every weight is prunable."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from torch import nn

from smcbench import Recipe, Session, plugins, testing
from smcbench.session import build_model

OURS = sorted(name for name, plugin in plugins.installed("sparsifiers").items() if plugin.distribution == "smcbench")
TOLERANCE = 0.15


@dataclass(frozen=True)
class Plain(testing.ToyTask):
    """Toy images for a network of matrices only."""

    width: int = 32

    def build_model(self) -> nn.Module:
        sizes = [16, *[self.width] * 3, 4]
        layers = [(nn.Linear(a, b, bias=False), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
        return nn.Sequential(nn.Flatten(), *(layer for pair in layers for layer in pair))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("density", [0.8**10, 0.8**4])  # levels, for which methods of rounds state theirs
def test_the_formula_is_what_is_billed(name: str, density: float) -> None:
    sparsifier, task = plugins.load_sparsifier(name).sparsifier, Plain(recipe=Recipe(steps=200, batch_size=8, lr=0.01))
    if name == "dense":
        density = 1.0
    assert sparsifier.skip(task, 1 - density) is None
    network = sparsifier.network(task, 1 - density)
    session = Session(network, build_model(network, 0), task.recipe)
    sparsifier.sparsify(session, 1 - density)
    dense = Session(task, build_model(task, 0), task.recipe).flops.step()
    # Scores before training cost as much on any run, and little on a long one.
    billed = (session.account.train_flops / dense - session.account.gradient_evaluations) / task.recipe.steps
    assert billed == pytest.approx(eval(sparsifier.cost, {"d": density}), abs=TOLERANCE, rel=0.05)
