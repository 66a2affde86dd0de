"""Lottery pools: the last ticket of a chain, interpolated with those before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from smcbench import Session
from smcbench.sparsifier import Count
from smcbench.sparsity.keep import Elementwise, keep
from smcbench.state import State

from .lth import LTH

T = TypeVar("T")

ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of the candidate in a mixture, as in the authors' code."""


@dataclass(frozen=True)
class LotteryPool(LTH):
    """Iterative magnitude pruning, then a greedy pool of its solutions (Yin et al., 2022).

    The chain is that of :class:`LTH`, whose trainings it shares. The last ticket is then interpolated with the trained
    tickets before it, nearest first; each mixture is pruned back to the exact density by global magnitude, its
    batch-norm statistics are computed anew over 16 training batches (the authors take the whole training set), and the
    best coefficient is taken if it beats the pool so far on the validation split. The authors take candidates from both
    sides, 19 of them; here none is sparser, as the chain ends at the ticket, and the nearest three are tried, in
    3 * 11 + 1 = 34 evaluations.

    Preset ``authors``: 19 candidates, or as many as the chain has.
    """

    neighbours: Count = 3
    """Tickets tried, the nearest first; of a chain of one there is none."""

    paper: ClassVar[str] = "arXiv:2208.10842"
    category: ClassVar = ("iterative", "dense-to-sparse", "dynamic")  # a mixture may keep what a ticket had lost
    presets: ClassVar[dict[str, dict[str, Any]]] = {"authors": {"neighbours": 19}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        chain: deque[State] = deque(maxlen=self.neighbours + 1)
        for _ in self.levels(session, sparsity):
            chain.append(session.snapshot().cpu())
        ticket, *others = reversed(chain)

        def mix(pool: State, other: State, alpha: float) -> State:
            session.restore(interpolated(pool, other, alpha, density=1 - sparsity))
            session.recalibrate()
            return session.snapshot().cpu()

        def score(state: State) -> float:
            session.restore(state)
            metric = session.task.metric
            return session.evaluate()[metric.name] * (1 if metric.higher_is_better else -1)

        session.restore(greedy(ticket, others, ALPHAS, mix, score))


def greedy(
    pool: T, others: Iterable[T], alphas: Sequence[float], mix: Callable[[T, T, float], T], score: Callable[[T], float]
) -> T:
    """The pool after it was mixed with each of the others in turn, at the share that scores best, where that helps."""
    record = score(pool)
    for other in others:
        best = pool
        for alpha in alphas:
            mixture = mix(pool, other, alpha)
            reached = score(mixture)
            if reached > record:
                best, record = mixture, reached
        pool = best
    return pool


def interpolated(pool: State, other: State, alpha: float, density: float) -> State:
    """``alpha`` of one state in another, parameters and buffers, pruned to a density; whole numbers are the pool's."""

    def between(name: str, tensor: Tensor) -> Tensor:
        return torch.lerp(tensor, other.tensors[name], alpha) if tensor.is_floating_point() else tensor

    tensors = {name: between(name, tensor) for name, tensor in pool.tensors.items()}
    mask = keep(Elementwise(torch.abs, {name: tensors[name] for name in pool.mask}), density)
    return State(tensors | {name: tensors[name] * bits for name, bits in mask.items()}, mask)
