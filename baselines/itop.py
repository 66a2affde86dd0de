"""ITOP: dynamic sparse training with time to explore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from smcbench.sparsifier import Fraction, Interval

from .rigl import RigL
from .set import SET


@dataclass(frozen=True)
class ITOPRigL(RigL):
    """In-time over-parameterization, with RigL (Liu et al., 2021, section 4).

    What counts is how many weights were ever trained, each for long enough: a large fraction is dropped at long
    intervals, to the end of training. The fraction of weights explored, R_s, is measured for every method. ERK start,
    a drop fraction of .5 that decays by a cosine to .005, and updates beside the optimizer step, as in the authors'
    code. The interval is the paper's: every 4,000 of about 97,750 steps. An interval beyond the run is static training.

    The authors' code draws the first mask weight by weight, and rounds the number of dropped weights up.
    """

    interval: Interval = 0.04
    drop_fraction: Fraction = 0.5
    final_fraction: Fraction = 0.005
    stop: Fraction = 1.0
    replaces_step: bool = False

    paper: ClassVar[str] = "arXiv:2102.02887"
    version: ClassVar[int] = 1
    presets: ClassVar[dict[str, dict[str, Any]]] = {}


@dataclass(frozen=True)
class ITOPSET(SET):
    """In-time over-parameterization, with SET, whose growth is random (Liu et al., 2021, section 4).

    As :class:`ITOPRigL` in all else. The paper updates SET every 1,500 of about 97,750 steps; on a short recipe that
    would leave weights few steps to grow, so the interval is that of RigL.
    """

    interval: Interval = 0.04
    drop_fraction: Fraction = 0.5
    final_fraction: Fraction = 0.005
    distribution: Literal["uniform", "er", "erk"] = "erk"

    paper: ClassVar[str] = "arXiv:2102.02887"
