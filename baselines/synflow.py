"""SynFlow: pruning before training without data, by synaptic flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier, Task
from smcbench.criteria import SynapticFlow
from smcbench.sparsifier import Count
from smcbench.sparsity.keep import only


@dataclass(frozen=True)
class SynFlow(Sparsifier):
    """Remove, in many rounds, the weights through which least flows, then train (Tanaka et al., 2020, algorithm 1).

    Round k of n keeps exactly ``d^(k/n)`` of all weights. What flows is said at
    :class:`~smcbench.criteria.SynapticFlow`; of the data only the form of one example plays a part. The authors' code
    computes in single precision.
    """

    rounds: Count = 100
    """n; the paper's."""

    paper: ClassVar[str] = "arXiv:2006.05467"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        flow = SynapticFlow(session)
        for k in range(1, self.rounds + 1):
            session.prune(only(session.mask, flow()), density=(1 - sparsity) ** (k / self.rounds))
        session.train()

    def skip(self, task: Task, sparsity: float) -> str | None:
        if getattr(task, "source", None) == "fireprotdb":
            return "it compares a mutant with its wild type, which are the same where data play no part: nothing flows"
        return None
