"""SET: dynamic sparse training that grows at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from smcbench import Session
from smcbench.criteria import random_scores
from smcbench.sparsifier import Fraction
from smcbench.trainer import Step

from .rigl import RigL


@dataclass(frozen=True)
class SET(RigL):
    """Sparse evolutionary training: drop by magnitude, grow at random (Mocanu et al., 2018, algorithm 1).

    From an Erdős-Rényi start a constant fraction zeta of each layer is replaced, to the end of training; new weights
    start at zero. The paper drops zeta of the positive weights, the smallest, and zeta of the negative ones, the
    largest, which in both are those nearest to zero; here they are the nearest to zero of both together, as in RigL's
    and ITOP's SET, which is the same wherever a layer's weights are symmetric about zero. The paper draws the first
    mask weight by weight and leaves the last layer dense; here counts are exact, and the task says what is pruned. It
    replaces weights after every epoch, of 1,000 in its larger runs; the default interval of 2 % is RigL's.
    """

    drop_fraction: Fraction = 0.3
    final_fraction: Fraction = 0.3
    stop: Fraction = 1.0
    distribution: Literal["uniform", "er", "erk"] = "er"
    replaces_step: bool = False

    paper: ClassVar[str] = "arXiv:1707.04780"
    version: ClassVar[int] = 1
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def grow(self, session: Session, step: Step) -> dict[str, Tensor]:
        """The scores of growth: drawn."""
        return random_scores(session)
