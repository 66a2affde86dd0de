"""Controls: what a method's result would be if only the part of it that a skeptic believes in mattered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from smcbench import files, plugins
from smcbench.criteria import random_scores
from smcbench.errors import UsageError
from smcbench.own import OwnTask
from smcbench.session import Session
from smcbench.sparsifier import Sparsifier
from smcbench.sparsity.mask import Mask
from smcbench.task import Task

_ELSEWHERE = 10_000
"""Added to a seed for another initialisation; beyond the seeds that batteries use."""


@dataclass(frozen=True)
class _Control(Sparsifier):
    """Runs a method apart, as it would run alone, and trains its own network from what it found."""

    method: str = "omp-after"
    """The method that is controlled, as it is written on the command line."""

    wraps: ClassVar = "method"
    category: ClassVar = ("before", "sparse-to-sparse", "static")
    cost: ClassVar[str] = "d"

    @cached_property
    def named(self) -> plugins.Named:
        """The method, with its name and label."""
        return plugins.load_sparsifier(self.method)

    @property
    def inner(self) -> Sparsifier:
        """The method itself."""
        return self.named.sparsifier

    def skip(self, task: Task, sparsity: float) -> str | None:
        if reason := self.inner.skip(task, sparsity):
            return reason
        has_own = self.inner.network(task, sparsity) is not task
        return f"{self.method} has a network of its own, and no mask to take" if has_own else None

    def parameters(self) -> dict[str, Any]:
        return {"method": self.named.label}

    def fingerprint(self) -> str:
        named, inner = self.named, self.inner
        source = None if named.versioned else named.source
        name = plugins.short(named.name)
        return files.digest([name, inner.version, inner.parameters(), inner.fingerprint(), source])

    def ticket(self, session: Session, sparsity: float) -> Mask:
        """The mask that the method ends with; what finding it takes is billed apart."""
        scout = session.fork(name="scout", apart=True)
        self.inner.sparsify(scout, sparsity)
        session.account.searched += scout.account.train_flops + scout.account.searched
        return scout.mask


@dataclass(frozen=True)
class Shuffled(_Control):
    """As many weights in each layer as METHOD keeps, at random positions, trained from the start.

    A method that does not beat this control has found layer-wise densities, no connections (Frankle et al., 2021,
    section 4; Su et al., 2020, arXiv:2009.11094).
    """

    paper: ClassVar[str] = "arXiv:2009.08576"

    def sparsify(self, session: Session, sparsity: float) -> None:
        densities = self.ticket(session, sparsity).layer_densities()
        session.prune(random_scores(session), densities)
        session.train()


@dataclass(frozen=True)
class Reinit(_Control):
    """METHOD's mask, trained from another initialisation: what a ticket owes to its first weights.

    From Frankle & Carbin (2019), section 2: a winning ticket that is drawn anew learns worse. Pretrained weights cannot
    be drawn.
    """

    paper: ClassVar[str] = "arXiv:1803.03635"

    def sparsify(self, session: Session, sparsity: float) -> None:
        other = session.initial(session.seed + _ELSEWHERE)
        ticket = self.ticket(session, sparsity)
        session.restore(other)
        session.mask = ticket
        session.train()

    def skip(self, task: Task, sparsity: float) -> str | None:
        if task.pretrained:
            return "the task starts from pretrained weights, there is no other initialisation"
        return super().skip(task, sparsity)


@dataclass(frozen=True)
class SmallDense(Sparsifier):
    """A narrower dense network of the same family, with at most as many weights as the sparse one keeps.

    Trained by the same recipe for as many steps: what a sparse network has to beat, if its zeros are to be worth their
    trouble (Zhu & Gupta, 2017, section 4; Li et al., 2020, arXiv:2002.11794). Counted are the prunable weights; biases
    and norms come on top in both.
    """

    paper: ClassVar[str] = "arXiv:1710.01878"
    category: ClassVar = ("never", "dense", "static")
    cost: ClassVar[str] = "d"

    def network(self, task: Task, sparsity: float) -> Task:
        return task.smaller(1 - sparsity)

    def sparsify(self, session: Session, sparsity: float) -> None:
        if isinstance(session.task, OwnTask):
            raise UsageError("of a network of your own there is no narrower one; make it, and train it with `dense`")
        session.train()

    def skip(self, task: Task, sparsity: float) -> str | None:
        if sparsity == 0:
            return "at sparsity 0 the dense network is the task's own"
        try:
            task.smaller(1 - sparsity)
        except UsageError as reason:
            return str(reason)
        return None
