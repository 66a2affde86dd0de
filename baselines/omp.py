"""One-shot magnitude pruning, before and after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude


@dataclass(frozen=True)
class OMPBefore(Sparsifier):
    """Prune the initial weights by global magnitude, then train (SMC-Bench's "OMP Before").

    SMC-Bench keeps ``|w| >`` the k-th value, hence k - 1 weights; here exactly k are kept.
    """

    paper: ClassVar[str] = "arXiv:2303.02141"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        session.train()


@dataclass(frozen=True)
class OMPAfter(Sparsifier):
    """Train, prune once by global magnitude, retrain with the same recipe (Han et al., 2015; "OMP After").

    The second training starts from step 0 of the schedule with a fresh optimizer, as in SMC-Bench.
    """

    paper: ClassVar[str] = "arXiv:1506.02626"
    category: ClassVar = ("after", "dense-to-sparse", "static")
    cost: ClassVar[str] = "1 + d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.train()
        session.prune(magnitude(session), density=1 - sparsity)
        session.train()
