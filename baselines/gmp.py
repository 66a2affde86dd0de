"""GMP: gradual magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude
from smcbench.sparsifier import Fraction, Interval
from smcbench.sparsity.schedules import Window, cubic


@dataclass(frozen=True)
class GMP(Sparsifier):
    """Gradual magnitude pruning on a cubic schedule within one training (Zhu & Gupta, 2017, eq. 1).

    Times are fractions of the run: the paper's step counts would not fit a short recipe. The threshold is global, as
    in SMC-Bench; the paper prunes each layer alike. What is pruned stays pruned.

    Preset ``smc``: the window .1 to .8 and updates every 500 of 3,000 steps. SMC-Bench has no event at the end of the
    window and so stops at 99.3 % of the sparsity asked for; here the last step of the window is always an event.
    Its events are counted from step 0, so that the first falls at .167; here the first falls at .1, and prunes nothing.
    """

    start: Fraction = 0.1
    stop: Fraction = 0.7
    interval: Interval = 0.01

    paper: ClassVar[str] = "arXiv:1710.01878"
    category: ClassVar = ("during", "dense-to-sparse", "static")
    cost: ClassVar[str] = "0.25 + 0.75 * d"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"smc": {"stop": 0.8, "interval": 1 / 6}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        initial = min(session.mask.sparsity, sparsity)
        window = Window(self.start, self.stop, self.interval).on(session.recipe)
        for step in session.steps():
            if step.index in window:
                now = cubic(window.progress(step.index), initial, sparsity)
                session.prune(magnitude(session), density=1 - now)
