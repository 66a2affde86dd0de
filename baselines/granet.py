"""GraNet: gradual pruning in which some of the weights are replaced at every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier, Task
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.distributions import erk
from smcbench.sparsity.keep import drop_and_grow, only
from smcbench.sparsity.schedules import Window, cosine, cubic, updates


@dataclass(frozen=True)
class GraNet(Sparsifier):
    """Gradual pruning with zero-cost neuroregeneration (Liu et al., 2021, algorithm 1), sparse to sparse.

    From a random ERK mask at half of the weights, global magnitude pruning goes down a cubic schedule; after each
    pruning a fraction of every layer, which decays by a cosine, is dropped by magnitude and as many weights grow by
    gradient, to the end of training. Without growth this is GMP from a sparse start. Asked for less sparsity than the
    start has, it starts at the sparsity asked for.

    Times are fractions of the run: the paper's CIFAR runs prune over 110 of 160 epochs, every 1,000 of 62,500 steps.
    As in the authors' code updates stand beside the optimizer step, and the start of the window neither prunes nor
    grows. That code has no event at the end of the window, and keeps one weight fewer (``>`` on a threshold); here the
    last step of the window is always an event, and reaches the sparsity exactly.
    """

    initial_density: Fraction = 0.5
    start: Fraction = 0.0
    stop: Fraction = 0.7
    """Where pruning ends; growth goes on."""
    interval: Interval = 0.02
    drop_fraction: Fraction = 0.5
    final_fraction: Fraction = 0.005

    paper: ClassVar[str] = "arXiv:2106.10404"
    category: ClassVar = ("during", "sparse-to-sparse", "dynamic")
    cost: ClassVar[str] = "0.09 + 0.83 * d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        initial = min(1 - self.initial_density, sparsity)
        session.prune(random_scores(session), erk(session.weights, 1 - initial))
        growing = updates(session.recipe, self.interval)
        pruning = Window(self.start, self.stop, growing.step).on(session.recipe)
        for step in session.steps():
            if step.index in pruning:
                now = cubic(pruning.progress(step.index), initial, sparsity)
                session.prune(only(session.mask, magnitude(session)), density=1 - now)
            if step.index in growing and step.index > pruning.first:
                fraction = cosine(step.index / session.recipe.steps, self.drop_fraction, self.final_fraction)
                grow = {name: gradient.abs() for name, gradient in step.gradients().items()}
                session.mask = drop_and_grow(session.mask, magnitude(session), grow, fraction)


@dataclass(frozen=True)
class GraNetDense(GraNet):
    """GraNet from a dense network: GMP with neuroregeneration."""

    initial_density: Fraction = 1.0

    category: ClassVar = ("during", "dense-to-sparse", "dynamic")
    cost: ClassVar[str] = "0.17 + 0.83 * d"

    def skip(self, task: Task, sparsity: float) -> str | None:
        return "it starts dense, and a sparse checkpoint would be lost" if task.starts_sparse else None
