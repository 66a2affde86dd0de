"""SNIP: pruning before training by connection sensitivity, at once and step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import connection_sensitivity
from smcbench.sparsifier import Count
from smcbench.sparsity.keep import only


@dataclass(frozen=True)
class SNIP(Sparsifier):
    """Keep the weights whose removal would change the loss most, then train (Lee et al., 2019, algorithm 1).

    Scores ``|w * dL/dw|`` on the task's own initialisation with the network in training mode, one global threshold.
    The authors' code also prunes biases; here the task says what is prunable. SMC-Bench's protein scripts leave out the
    factor ``w``, which is no SNIP.
    """

    batches: Count = 1
    """Training batches over which the gradient is averaged; the paper takes one."""

    paper: ClassVar[str] = "arXiv:1810.02340"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(connection_sensitivity(session, self.batches), density=1 - sparsity)
        session.train()


@dataclass(frozen=True)
class IterativeSNIP(Sparsifier):
    """SNIP in many rounds, each on what the last one left (Iterative SNIP, de Jorge et al., 2021, algorithm 1).

    Round k of T keeps ``d^(k/T)`` of all weights; the saliency is that of the pruned network, on the next batches of
    the run, and what is pruned stays pruned (the paper's FORCE lets it come back). On top of the training come T
    gradients, which count in a short run. The authors' code keeps all weights that tie with the last one.
    """

    rounds: Count = 60
    """T, as in the commands the authors publish; 1 is SNIP."""
    batches: Count = 1
    """Training batches a round; the authors take one for CIFAR-10, ten for CIFAR-100, forty for ImageNet."""

    paper: ClassVar[str] = "arXiv:2006.09081"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        for k in range(self.rounds):
            scores = connection_sensitivity(session, self.batches, first=k * self.batches % session.recipe.steps)
            session.prune(only(session.mask, scores), density=(1 - sparsity) ** ((k + 1) / self.rounds))
        session.train()
