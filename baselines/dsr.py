"""DSR: dynamic sparse training with one threshold, across layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Mask, Session, Sparsifier
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsifier import Fraction, Interval, Positive
from smcbench.sparsity.distributions import apportion, uniform
from smcbench.sparsity.keep import drop_and_grow
from smcbench.sparsity.schedules import updates


@dataclass(frozen=True)
class DSR(Sparsifier):
    """Dynamic sparse reparameterization (Mostafa & Wang, 2019, algorithm 1).

    All weights below one threshold go, in whichever layer; as many grow at random places, shared out over the layers
    in proportion to the weights that survived there. The threshold is doubled after an update that removed too few
    weights, and halved after one that removed too many. The total is constant to the weight.

    The paper gives the number of weights to remove, 20,000 for a WRN-28-2, which at 50 to 90 % sparsity is 3 to 14 % of
    those it keeps; here it is a fraction of them. Its updates, at first every 100 steps and in the end every 800, stop
    at 190 of 200 epochs; here they come evenly. A removed weight that is drawn again at the same update keeps its
    value.
    """

    interval: Interval = 0.02
    stop: Fraction = 0.95
    fraction: Fraction = 0.1
    """Of the kept weights, how many an update is to remove."""
    threshold: Positive = 0.001
    """On magnitudes, at the first update."""
    tolerance: Fraction = 0.1
    """How far the number removed may be off, relatively, before the threshold is changed."""

    paper: ClassVar[str] = "arXiv:1902.05967"
    category: ClassVar = ("during", "sparse-to-sparse", "dynamic")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(random_scores(session), uniform(session.weights, 1 - sparsity))
        session.memory["threshold"] = self.threshold
        events = updates(session.recipe, self.interval, self.stop)
        for step in session.steps():
            if step.index in events:
                self.update(session)

    def update(self, session: Session) -> None:
        """Remove, adapt the threshold, grow."""
        threshold = session.memory["threshold"]
        assert isinstance(threshold, float)
        stays = session.mask & Mask({name: scores >= threshold for name, scores in magnitude(session).items()})
        removed, wanted = session.mask.kept - stays.kept, self.fraction * session.mask.kept
        if removed < (1 - self.tolerance) * wanted:
            session.memory["threshold"] = threshold * 2
        elif removed > (1 + self.tolerance) * wanted:
            session.memory["threshold"] = threshold / 2
        survivors = [int(bits.count_nonzero()) for bits in stays.values()]
        counts = dict(zip(stays, apportion(survivors, [removed] * len(stays), removed), strict=True))
        session.mask = drop_and_grow(stays, magnitude(session), random_scores(session), 0.0, counts)
