"""Sparsifiers for the tests of the contract and of resuming: some that keep it, and one for each way to break it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude, random_scores
from smcbench.sparsity.distributions import count
from smcbench.sparsity.keep import keep

FILE = os.path.abspath(__file__)
TOY = "smcbench.testing:ToyTask"


# -- good ones


@dataclass(frozen=True)
class Stepwise(Sparsifier):
    """Prunes a little every other step by noisy magnitudes; with ``KILL_AT`` set, kills its process at that step."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        memory = session.memory
        memory["noise"] = random_scores(session)[next(iter(session.weights))]
        for step in session.steps():
            memory["steps"] = int(memory.get("steps", 0)) + 1  # type: ignore[arg-type]
            if step.index % 2 == 0:
                noise = random_scores(session)
                scores = {name: w.detach().abs() + noise[name] / 10 for name, w in session.weights.items()}
                session.prune(scores, density=1 - sparsity * (step.index + 1) / session.recipe.steps)
            if step.index == int(os.environ.get("KILL_AT", -1)):
                os.kill(os.getpid(), signal.SIGKILL)
        session.prune(magnitude(session), density=1 - sparsity)


@dataclass(frozen=True)
class Forks(Sparsifier):
    """Draws its ticket from two weakly trained copies."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        total = {name: torch.zeros_like(w) for name, w in session.weights.items()}
        for seed in (1, 2):
            copy = session.fork(seed)
            for step in copy.steps(0, 6):
                if step.index == 3:
                    copy.prune(random_scores(copy), density=0.9)
            for name, weight in copy.weights.items():
                total[name] += weight.detach().abs()
        session.prune(total, density=1 - sparsity)
        session.train()


# -- bad ones: each breaks the promise it is named for


@dataclass(frozen=True)
class _Bad(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        session.train()
        self.spoil(session, sparsity)

    def spoil(self, session: Session, sparsity: float) -> None:
        raise NotImplementedError


@dataclass
class Mutable(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)


@dataclass(frozen=True)
class NoJSON(_Bad):
    dtype: torch.dtype = torch.float32

    def spoil(self, session: Session, sparsity: float) -> None:
        pass


@dataclass(frozen=True)
class ByHand(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.train()
        for name, kept in keep(magnitude(session), 1 - sparsity).items():
            session.weights[name].data.mul_(kept)


@dataclass(frozen=True)
class OneTooMany(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        total = session.mask.total
        session.mask = ~session.mask | session.mask
        session.prune(random_scores(session), density=(count(1 - sparsity, total) + 1) / total)
        for name, weight in session.weights.items():
            weight.data[session.mask[name]] = 1.0


@dataclass(frozen=True)
class OneTooFew(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        total = session.mask.total
        session.prune(magnitude(session), density=(count(1 - sparsity, total) - 1) / total)


@dataclass(frozen=True)
class Revives(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        for step in session.steps():
            if step.index == 5:
                for weight in session.weights.values():
                    weight.data += 1
        session.prune(magnitude(session), density=1 - sparsity)


@dataclass(frozen=True)
class PrunesBiases(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        session.model.get_parameter("head.bias").data[0] = 0


@dataclass(frozen=True)
class Thaws(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        session.model.get_parameter("project.weight").data *= 1.01


@dataclass(frozen=True)
class Mislabelled(_Bad):
    category: ClassVar = ("after", "dense-to-sparse", "static")

    def spoil(self, session: Session, sparsity: float) -> None:
        pass


@dataclass(frozen=True)
class DrawsFromTorch(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune({name: torch.rand(w.shape) for name, w in session.weights.items()}, density=1 - sparsity)
        session.train()


@dataclass(frozen=True)
class DrawsFromNumPy(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.train()
        scores = {name: torch.from_numpy(np.random.rand(*w.shape)) for name, w in session.weights.items()}
        session.prune(scores, density=1 - sparsity)


@dataclass(frozen=True)
class ForgetsOnRestart(Sparsifier):
    """Counts its steps in a local variable instead of the session's memory."""

    def sparsify(self, session: Session, sparsity: float) -> None:
        seen = 0
        for _ in session.steps():
            seen = seen + 1
            if seen == 10:
                session.prune(magnitude(session), density=1 - sparsity)
        session.prune(magnitude(session), density=1 - sparsity)


@dataclass(frozen=True)
class Raises(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        raise ValueError("this one\nalways fails")


@dataclass(frozen=True)
class Puts(_Bad):
    """Uses what torch cannot do twice alike."""

    def spoil(self, session: Session, sparsity: float) -> None:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.arange(2.0))


@dataclass(frozen=True)
class Leaves(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        raise SystemExit(7)


@dataclass(frozen=True)
class LeavesNaN(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        next(iter(session.weights.values())).data.view(-1)[0] = float("nan")


@dataclass(frozen=True)
class ScoresNaN(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune({name: w.detach() * float("nan") for name, w in session.weights.items()}, density=1 - sparsity)


@dataclass(frozen=True)
class Explodes(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        next(iter(session.weights.values())).data *= float("inf")
        session.train()


@dataclass(frozen=True)
class Wraps(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        session.model = nn.Sequential(session.model)


@dataclass(frozen=True)
class WrapsByPrune(_Bad):
    def spoil(self, session: Session, sparsity: float) -> None:
        prune.l1_unstructured(session.model.get_submodule("head"), "weight", 0.5)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Exits(Sparsifier):
    def sparsify(self, session: Session, sparsity: float) -> None:
        time.sleep(0.5)
        os._exit(1)
