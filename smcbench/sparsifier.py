"""The sparsifier: hyper-parameters, and the plain Python that drives a session. This is what a newcomer writes."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from smcbench.task import Task

if TYPE_CHECKING:
    from smcbench.session import Session


class Sparsifier(ABC):
    """Turns a dense network into a sparse one by driving a training session.

    Subclasses are frozen dataclasses: their fields are the hyper-parameters of the method, nothing else. When
    :meth:`sparsify` returns, exactly ``round((1 - sparsity) * n)`` of the prunable weights may be other than zero.

    Attributes:
        paper: where the method comes from, such as ``"arXiv:1911.11134"``.
        version: bumped when the method's numbers change; part of the identity of its results.
        category: what its conduct is to be measured as: when, start and mask, such as
            ``("during", "sparse-to-sparse", "dynamic")``; None promises nothing.
        cost: training operations in dense trainings, as a formula in the density ``d``, such as ``"1 + d"``; for
            people, who find what was measured in the records.
        presets: named settings, such as ``smc`` for those of SMC-Bench; ``rigl@smc`` selects one.
    """

    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    category: ClassVar[tuple[str, str, str] | None] = None
    cost: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @abstractmethod
    def sparsify(self, session: Session, sparsity: float) -> None:
        """Train ``session`` and leave it at ``sparsity``, the fraction of prunable weights removed, in [0, 1)."""

    def skip(self, task: Task, sparsity: float) -> str | None:
        """The reason this method does not apply to ``task`` at ``sparsity``, or None."""
        return None

    def network(self, task: Task, sparsity: float) -> Task:
        """The task whose network is trained: this one; a control may take one with a smaller network."""
        return task

    def fingerprint(self) -> str | None:
        """A digest of what else its numbers depend on: the contents of a file it reads, the method it wraps."""
        return None

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return dataclasses.asdict(self) if dataclasses.is_dataclass(self) else {}
