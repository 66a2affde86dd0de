"""The formulas of cost that ``smcbench list`` shows, against what the engine bills where every weight is prunable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smcbench import Recipe, Session, plugins
from smcbench.errors import UsageError

OURS = sorted(name for name, plugin in plugins.installed("sparsifiers").items() if plugin.distribution == "smcbench")
TOLERANCE = 0.15


def session_of() -> Session:
    torch.manual_seed(0)
    network = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(24, 24, bias=False), nn.ReLU()))).double()
    batches = [(torch.randn(16, 24, dtype=torch.float64), torch.randint(24, (16,))) for _ in range(4)]
    return Session.of(
        network,
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        batches=batches,
        recipe=Recipe(steps=100, batch_size=16, lr=0.01, optimizer="sgd"),
        evaluate=lambda model: 0.0,
    )


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("density", [0.8**10, 0.8**4])  # levels, for which methods of rounds state theirs
def test_the_formula_is_what_is_billed(name: str, density: float) -> None:
    sparsifier, session = plugins.load_sparsifier(name).sparsifier, session_of()
    assert sparsifier.cost, f"{name} says nothing of its cost"
    if reason := sparsifier.skip(session.task, 1 - density):
        pytest.skip(reason)
    try:
        sparsifier.sparsify(session, 1 - density)
    except UsageError as refused:  # a user's own network has no other initialisation
        pytest.skip(str(refused))
    billed = session.account.train_flops / (session.recipe.steps * session.flops.step())
    assert billed == pytest.approx(eval(sparsifier.cost, {"d": density}), abs=TOLERANCE, rel=0.1)
