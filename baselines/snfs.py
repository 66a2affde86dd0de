"""SNFS: dynamic sparse training led by momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.distributions import apportion, uniform
from smcbench.sparsity.keep import drop_and_grow
from smcbench.sparsity.schedules import cosine, updates
from smcbench.trainer import Step


@dataclass(frozen=True)
class SNFS(Sparsifier):
    """Sparse networks from scratch, or sparse momentum (Dettmers & Zettlemoyer, 2019, algorithm 1).

    The dense gradient of every step is smoothed exponentially. At an update each layer drops a fraction of its weights
    by magnitude; the growth of all layers together is shared out in proportion to the mean momentum of the weights
    they had, and goes where the momentum of missing weights is largest. What a full layer cannot take, others grow.

    Uniform start, drop fraction .5 decaying by a cosine to .005 over the whole run, as in the authors' code; updates
    every epoch there, 100 to 250 in a run. That code reads the momentum from the optimizer, divided by the root of the
    second moment under Adam; here it is the smoothed gradient under every optimizer. It also rounds counts so that the
    density wanders; here it is constant.
    """

    interval: Interval = 0.02
    drop_fraction: Fraction = 0.5
    final_fraction: Fraction = 0.005
    smoothing: Fraction = 0.9
    """Share of the past in the momentum."""

    paper: ClassVar[str] = "arXiv:1907.04840"
    category: ClassVar = ("during", "sparse-to-sparse", "dynamic")
    cost: ClassVar[str] = "(1 + 2 * d) / 3"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(random_scores(session), uniform(session.weights, 1 - sparsity))
        for name, weight in session.weights.items():
            session.memory[f"momentum/{name}"] = torch.zeros_like(weight)
        events = updates(session.recipe, self.interval)
        for step in session.steps():
            smoothed = self.smoothed(session, step)
            if step.index in events:
                momentum = {name: tensor.abs() for name, tensor in smoothed.items()}
                fraction = cosine(step.index / session.recipe.steps, self.drop_fraction, self.final_fraction)
                counts = self.redistributed(session, momentum, fraction)
                session.mask = drop_and_grow(session.mask, magnitude(session), momentum, fraction, counts)

    def smoothed(self, session: Session, step: Step) -> dict[str, Tensor]:
        """The smoothed gradients, this step's taken in."""
        found = {}
        for name, gradient in step.gradients().items():
            past = session.memory[f"momentum/{name}"]
            assert isinstance(past, Tensor)
            found[name] = past.lerp_(gradient, 1 - self.smoothing)
        return found

    def redistributed(self, session: Session, momentum: dict[str, Tensor], fraction: float) -> dict[str, int]:
        """How many weights each layer grows, from the magnitudes of the momentum."""
        kept = {name: int(bits.count_nonzero()) for name, bits in session.mask.items()}
        means = [(momentum[name] * bits).sum().item() / max(1, kept[name]) for name, bits in session.mask.items()]
        dropped = sum(int(fraction * count) for count in kept.values())
        return dict(zip(kept, apportion(means, [dropped] * len(kept), dropped), strict=True))
