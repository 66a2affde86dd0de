"""The dense reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Mask, Session, Sparsifier, Task


@dataclass(frozen=True)
class Dense(Sparsifier):
    """Train and prune nothing: what every sparse network is compared with.

    Of a checkpoint that starts sparse, all weights are trained, those that were pruned from zero on.
    """

    category: ClassVar = ("never", "dense", "static")
    cost: ClassVar[str] = "1"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.mask = Mask.dense(session.weights)
        session.train()

    def skip(self, task: Task, sparsity: float) -> str | None:
        return None if sparsity == 0 else "the dense reference has sparsity 0 only"
