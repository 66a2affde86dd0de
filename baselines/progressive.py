"""Progressive pruning: magnitude pruning at intervals within one training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from smcbench import Recipe, Session, Sparsifier
from smcbench.criteria import magnitude
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.schedules import imp_densities


@dataclass(frozen=True)
class Progressive(Sparsifier):
    """Train, remove a tenth of the weights by global magnitude, and so on within one training ("Progressive [Mag]").

    The baseline of Instant Soup (Jaiswal et al., 2023, table 2). Its authors remove ``10 / (100 - s)`` of what remains
    at ``s`` per cent: always a tenth of all weights, so that sparsity rises in a straight line. They prune after every
    second of 20 epochs and read off each sparsity on the way; here the last round removes what is left to the exact
    density, and where the rounds would go on beyond half of the run they follow each other faster.
    """

    rate: Interval = 0.1
    """Fraction of the weights removed per round."""
    of: Literal["all", "remaining"] = "all"
    """Of which weights that is the fraction."""
    interval: Interval = 0.1
    """From one round to the next, as a fraction of the run, or less so that all fit before ``stop``."""
    stop: Fraction = 0.5
    """The last round comes no later, as a fraction of the run."""

    paper: ClassVar[str] = "arXiv:2306.10460"
    category: ClassVar = ("during", "dense-to-sparse", "static")
    cost: ClassVar[str] = "0.25 + 0.75 * d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        for step, density in self.rounds(session, sparsity).items():
            session.train(session.position, step)
            session.prune(magnitude(session), density)
        session.train(session.position)

    def rounds(self, session: Session, sparsity: float) -> dict[int, float]:
        """The density to prune to after each of some steps; in a short run, rounds that share a step are one."""
        schedule = {"all": linear_densities, "remaining": imp_densities}[self.of]
        densities = schedule(1 - sparsity, self.rate, session.mask.density)
        return dict(zip(spaced(session.recipe, len(densities), self.interval, self.stop), densities, strict=True))


def linear_densities(density: float, points: float = 0.1, start: float = 1.0) -> list[float]:
    """The density after each round that removes ``points`` of all weights; the last one ends at exactly ``density``.

    >>> [round(d, 3) for d in linear_densities(0.75)]
    [0.9, 0.8, 0.75]
    """
    rounds = max(0, math.ceil((start - density) / points - 1e-9))
    return [start - points * k for k in range(1, rounds)] + [density] * (rounds > 0)


def spaced(recipe: Recipe, rounds: int, interval: float, stop: float) -> list[int]:
    """Steps of rounds ``interval`` of the run apart, or as close together as it takes to end by ``stop``.

    At least one step comes before the first.

    >>> spaced(Recipe(steps=100, batch_size=8, lr=1.0), 3, 0.1, 0.5)
    [10, 20, 30]
    >>> spaced(Recipe(steps=100, batch_size=8, lr=1.0), 10, 0.1, 0.5)
    [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    """
    return [max(1, recipe.at(k * min(interval, stop / rounds))) for k in range(1, rounds + 1)]
