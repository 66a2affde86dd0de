"""The lottery ticket hypothesis: iterative magnitude pruning, with the weights or the learning rate rewound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.schedules import imp_densities


@dataclass(frozen=True)
class LTH(Sparsifier):
    """Iterative magnitude pruning with weight rewinding (Frankle & Carbin, 2019; Frankle et al., 2020).

    Each round trains to the end, removes ``rate`` of the surviving weights by global magnitude and goes back to the
    weights of step ``rewind_to``, with the learning rate of that step. Pruned are the weights of the last step, as in
    the authors' code; SMC-Bench takes the best checkpoint on its scored split. The last round removes what is left to
    the exact density.
    """

    rate: Interval = 0.2
    """Fraction of the surviving weights removed per round."""
    rewind_to: Fraction = 0.0
    """Where to rewind to, as a fraction of the run; 0 is the initialisation."""

    paper: ClassVar[str] = "arXiv:1803.03635"
    category: ClassVar = ("iterative", "dense-to-sparse", "static")
    cost: ClassVar[str] = "5 - 4 * d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        for _ in self.levels(session, sparsity):
            pass

    def levels(self, session: Session, sparsity: float) -> Iterator[None]:
        """The dense network, then ticket after ticket: at each yield the session holds one of them, trained."""
        start = session.recipe.at(self.rewind_to)
        session.train(0, start)
        ticket = session.snapshot()
        for density in imp_densities(1 - sparsity, self.rate, session.mask.density):
            session.train(start)
            yield
            session.prune(magnitude(session), density)
            session.rewind(ticket)
        session.train(start)
        yield


@dataclass(frozen=True)
class LTHRewind(LTH):
    """Iterative magnitude pruning, rewound to an early step instead of the initialisation (Frankle et al., 2020).

    In the paper a ticket matches the dense network once it is rewound to where training has become stable to the noise
    of SGD, a few per cent into it: later for large data sets, hence 5 % here for all. The dense network's first steps
    are trained once; each round then trains the other 95 %.
    """

    rewind_to: Fraction = 0.05

    paper: ClassVar[str] = "arXiv:1912.05671"
    cost: ClassVar[str] = "4.8 - 3.8 * d"


@dataclass(frozen=True)
class LRRewind(Sparsifier):
    """Iterative magnitude pruning with learning-rate rewinding (Renda et al., 2020, algorithm 1).

    The weights stay; only the schedule goes back, by default to its start (SMC-Bench's ``iterative_magnitude``).
    """

    rate: Interval = 0.2
    rewind_to: Fraction = 0.0

    paper: ClassVar[str] = "arXiv:2003.02389"
    category: ClassVar = ("iterative", "dense-to-sparse", "static")
    cost: ClassVar[str] = "5 - 4 * d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        densities = imp_densities(1 - sparsity, self.rate, session.mask.density)
        session.train()
        for density in densities:
            session.prune(magnitude(session), density)
            session.train(session.recipe.at(self.rewind_to))
