"""Random pruning, before and after training: the floor every criterion must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from smcbench import Session, Sparsifier
from smcbench.criteria import random_scores
from smcbench.sparsity.distributions import DISTRIBUTIONS


@dataclass(frozen=True)
class RandomBefore(Sparsifier):
    """Remove random weights of the initial network, then train (Liu et al., 2022, arXiv:2202.02643).

    Every layer keeps an exact share; SMC-Bench draws each weight with probability ``density``, so that its counts
    scatter. ``uniform`` is SMC-Bench's distribution; ``er`` and ``erk`` give small layers more,
    and the latter is the stronger one.
    """

    distribution: Literal["uniform", "er", "erk"] = "uniform"

    paper: ClassVar[str] = "arXiv:2202.02643"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"er": {"distribution": "er"}, "erk": {"distribution": "erk"}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        densities = DISTRIBUTIONS[self.distribution](session.weights, 1 - sparsity)
        session.prune(random_scores(session), densities)
        session.train()


@dataclass(frozen=True)
class RandomAfter(RandomBefore):
    """Train, remove random weights, retrain with the same recipe (SMC-Bench's "Random After")."""

    paper: ClassVar[str] = "arXiv:2303.02141"
    category: ClassVar = ("after", "dense-to-sparse", "static")
    cost: ClassVar[str] = "1 + d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.train()
        super().sparsify(session, sparsity)
