"""The sparsifier: hyper-parameters, and the plain Python that drives a session. This is what a newcomer writes."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from smcbench.errors import UsageError
from smcbench.task import Task

if TYPE_CHECKING:
    from smcbench.session import Session


@dataclass(frozen=True)
class Range:
    """What a number may be: part of the type of a hyper-parameter, checked when the sparsifier is made."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    """Whether ``low`` itself is excluded."""
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.high == math.inf:
            return f"{kind} above {self.low:g}" if self.above else f"{kind}, {self.low:g} or more"
        return f"{kind} in {'(' if self.above else '['}{self.low:g}, {self.high:g}]"


Fraction = Annotated[float, Range(0, 1)]
"""Of the run, of weights, of a loss."""
Interval = Annotated[float, Range(0, 1, above=True)]
"""A fraction that is not nothing: from one event to the next."""
Positive = Annotated[float, Range(0, above=True)]
Count = Annotated[int, Range(1, whole=True)]


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
        wraps: of a control, the hyper-parameter that names the method it controls, so that ``shuffled(rigl)`` can be
            written; the method is part of its ``fingerprint``.
    """

    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    category: ClassVar[tuple[str, str, str] | None] = None
    cost: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    wraps: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that their types exclude (:class:`Range`).

        Raises:
            UsageError: one is out of its range.
        """
        for name, hint in _hints(type(self)).items():
            for limit in getattr(hint, "__metadata__", ()):
                if isinstance(limit, Range) and (value := getattr(self, name)) not in limit:
                    raise UsageError(f"{name} is {value!r}, it must be {limit}")

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


@functools.cache
def _hints(kind: type[Sparsifier]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError:  # annotated with what is imported for type checkers only
        return {}
