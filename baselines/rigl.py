"""RigL: dynamic sparse training that grows by gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.distributions import DISTRIBUTIONS
from smcbench.sparsity.keep import drop_and_grow
from smcbench.sparsity.schedules import cosine, updates
from smcbench.trainer import Step


@dataclass(frozen=True)
class RigL(Sparsifier):
    """Rigging the lottery: drop by magnitude, grow by gradient, at constant density (Evci et al., 2020, algorithm 1).

    As in the authors' code: ERK densities, a drop fraction that decays by a cosine to zero at ``stop``, an update that
    replaces the optimizer step, grown weights that start at zero with empty moments, and just dropped ones eligible to
    grow. Times are fractions of the run: the paper updates every 100 of 32,000 steps until 25,000, 250 times; the
    default interval of 2 %, ten steps at least, leaves weights some to grow. With an interval beyond ``stop`` the mask
    is static.

    Preset ``smc``: SMC-Bench's "Random + RigL": uniform densities, fraction .5 decaying to .005 over the whole run, an
    update every 500 of 3,000 steps beside the optimizer step instead of in its place. (SMC-Bench leaves the moments of
    masked weights running; the engine clears them for every method.)
    """

    interval: Interval = 0.02
    drop_fraction: Fraction = 0.3
    final_fraction: Fraction = 0.0
    stop: Fraction = 0.75
    distribution: Literal["uniform", "er", "erk"] = "erk"
    replaces_step: bool = True

    paper: ClassVar[str] = "arXiv:1911.11134"
    version: ClassVar[int] = 2
    category: ClassVar = ("during", "sparse-to-sparse", "dynamic")
    cost: ClassVar[str] = "d"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smc": {
            "interval": 1 / 6,
            "drop_fraction": 0.5,
            "final_fraction": 0.005,
            "stop": 1.0,
            "distribution": "uniform",
            "replaces_step": False,
        }
    }

    def sparsify(self, session: Session, sparsity: float) -> None:
        densities = DISTRIBUTIONS[self.distribution](session.weights, 1 - sparsity)
        session.prune(random_scores(session), densities)
        events, stop = updates(session.recipe, self.interval, self.stop), session.recipe.at(self.stop)
        for step in session.steps():
            if step.index in events:
                fraction = cosine(step.index / stop, self.drop_fraction, self.final_fraction)
                session.mask = drop_and_grow(session.mask, magnitude(session), self.grow(session, step), fraction)
                step.skip = self.replaces_step

    def grow(self, session: Session, step: Step) -> dict[str, Tensor]:
        """The scores of growth: the magnitude of the dense gradient."""
        return {name: gradient.abs() for name, gradient in step.gradients().items()}
