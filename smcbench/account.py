"""What a run cost and how it behaved, as the engine saw it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Account:
    """The bill of a run: everything computed for it, by whichever process and in whichever run it was computed first.

    A phase found in the cache is charged in full; only its seconds are booked apart. Operations are whole numbers, so
    that a sum does not depend on how it was split.
    """

    steps: int = 0
    gradient_evaluations: int = 0
    train_flops: int = 0
    train_flops_dense: int = 0
    seconds: float = 0.0
    seconds_cached: float = 0.0
    searched: int = 0
    """Operations of what a control did to learn how the method it controls does; in no other sum."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def become(self, fields: dict[str, Any]) -> None:
        """Take over the fields of another account, in place: forks share one object."""
        for name, value in fields.items():
            setattr(self, name, value)


@dataclass
class Conduct:
    """How the mask of a session behaved; the category of a method is derived from it, never declared.

    Attributes:
        peak_density: largest density at any optimizer step.
        mask_updates: how often the mask changed.
        regrown: weights that came back, summed over updates.
        phases: stretches of training.
        explored: fraction of the weights that the mask kept at some optimizer step: the exploration rate R_s of
            in-time over-parameterization (Liu et al., 2021, arXiv:2102.02887, section 3). Forks have their own.
        first_prune, last_prune: optimizer steps billed when the mask first and last changed; None if it never did.
    """

    peak_density: float = 0.0
    mask_updates: int = 0
    regrown: int = 0
    phases: int = 0
    explored: float = 0.0
    first_prune: int | None = None
    last_prune: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)
