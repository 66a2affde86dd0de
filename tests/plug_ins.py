"""Tiny tasks and odd sparsifiers for the tests of the command line: ``tests/plug_ins.py:NAME``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude
from smcbench.plugins import load_task
from smcbench.task import Task

tiny_digits = load_task("digits").tiny()


@dataclass(frozen=True)
class Plain(Sparsifier):
    """Magnitude, before training."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        session.train()


@dataclass(frozen=True)
class Misses(Sparsifier):
    """Leaves twice as many weights as it should."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=min(1.0, 2 * (1 - sparsity)))


@dataclass(frozen=True)
class Raises(Sparsifier):
    """Has a bug."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        raise RuntimeError("a bug\nover two lines")


@dataclass(frozen=True)
class MakesNaN(Sparsifier):
    """Divides zero by zero."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune({name: torch.zeros_like(w) / 0 for name, w in session.weights.items()}, density=1 - sparsity)


@dataclass(frozen=True)
class Wraps(Sparsifier):
    """Leaves another module in place of the model."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        session.model = torch.nn.Sequential(session.model)


@dataclass(frozen=True)
class Needs(Sparsifier):
    """Needs a package that nobody has."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        import a_package_that_nobody_has  # noqa: F401


@dataclass(frozen=True)
class Declines(Sparsifier):
    """Does not apply anywhere."""

    def skip(self, task: Task, sparsity: float) -> str | None:
        return "not today"

    def sparsify(self, session: Session, sparsity: float) -> None:
        raise AssertionError
