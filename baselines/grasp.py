"""GraSP: pruning before training that preserves the gradient flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import gradient_flow
from smcbench.sparsifier import Count, Positive
from smcbench.sparsity.keep import only


@dataclass(frozen=True)
class GraSP(Sparsifier):
    """Remove the weights without which the gradient would be largest, then train (Wang et al., 2020, algorithm 1).

    The paper removes the largest ``-w * Hg``; kept here are the largest ``w * Hg``, the same weights. The network is in
    training mode, its outputs are divided by the temperature, the threshold is global. The authors' code keeps one
    weight more, and halves each batch, which only saves memory. A number is divided by the temperature as logits are.
    """

    batches: Count = 4
    """Training batches over which g and Hg are averaged. The paper takes 25 examples a class of CIFAR, 10 of ImageNet:
    250 for ten classes, which are four batches of 64."""
    temperature: Positive = 200.0

    paper: ClassVar[str] = "arXiv:2002.07376"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        scores = gradient_flow(session, self.batches, self.temperature)
        session.prune(only(session.mask, scores), density=1 - sparsity)
        session.train()
