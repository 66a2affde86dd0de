"""SNIP: pruning before training by connection sensitivity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import connection_sensitivity


@dataclass(frozen=True)
class SNIP(Sparsifier):
    """Keep the weights whose removal would change the loss most, then train (Lee et al., 2019, algorithm 1).

    Scores ``|w * dL/dw|`` on the task's own initialisation with the network in training mode, one global threshold.
    The authors' code also prunes biases; here the task says what is prunable. SMC-Bench's protein scripts leave out the
    factor ``w``, which is no SNIP.
    """

    batches: int = 1
    """Training batches over which the gradient is averaged; the paper takes one."""

    paper: ClassVar[str] = "arXiv:1810.02340"
    category: ClassVar = ("before", "sparse-to-sparse", "static")

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(connection_sensitivity(session, self.batches), density=1 - sparsity)
        session.train()
