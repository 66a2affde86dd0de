"""The recipe: everything about a training run that must be equal for all sparsifiers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from smcbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training hyper-parameters of a task; times are optimizer steps, never epochs.

    The learning rate is a function of the step index alone (rule R2), so a phase may start anywhere on the schedule.
    """

    steps: int
    """Optimizer steps of one dense training."""
    batch_size: int
    """Examples per optimizer step, over all micro-batches and all processes."""
    lr: float
    """Peak learning rate; a parameter group of the task may name its own."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam and AdamW."""
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine", "step"] = "linear"
    drops: tuple[float, ...] = ()
    """Of schedule ``step``: the fractions of the run at which the rate is halved."""
    cycles: int = 1
    """How often the rate falls, each time from the peak, over equal parts of the run after the warm-up."""
    warmup: float = 0.0
    """Fraction of the steps over which the rate rises from zero."""
    final: float = 0.0
    """Rate at the end as a fraction of the peak."""
    clip: float | None = None
    """Largest global gradient norm."""
    accumulate: int = 1
    """Micro-batches per optimizer step."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        for name in ("betas", "drops"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, ok, must in (
            ("steps", self.steps >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", self.lr > 0 and math.isfinite(self.lr), "a positive number"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("final", 0 <= self.final <= 1, "in [0, 1]"),
            ("drops", all(0 < drop < 1 for drop in self.drops), "fractions in (0, 1)"),
            ("drops", not self.drops or self.schedule == "step", "empty unless the schedule is 'step'"),
            ("clip", self.clip is None or self.clip > 0, "positive, or none"),
            ("cycles", self.cycles >= 1, "at least 1"),
            ("accumulate", self.accumulate >= 1 and self.batch_size % self.accumulate == 0, "a divisor of batch_size"),
        ):
            if not ok:
                raise UsageError(f"recipe: {name} is {getattr(self, name)!r}, it must be {must}")

    def factor_at(self, index: int) -> float:
        """Learning rate of step ``index`` as a fraction of the peak.

        >>> r = Recipe(steps=100, batch_size=8, lr=1.0, schedule="linear", warmup=0.1)
        >>> [round(r.factor_at(i), 3) for i in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.011]
        >>> r = Recipe(steps=100, batch_size=8, lr=1.0, schedule="step", drops=(0.4, 0.8))
        >>> [r.factor_at(i) for i in (0, 39, 40, 79, 80)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
        >>> r = Recipe(steps=100, batch_size=8, lr=1.0, schedule="linear", cycles=4)
        >>> [round(r.factor_at(i), 3) for i in (0, 24, 25, 74, 75)]
        [1.0, 0.04, 1.0, 0.04, 1.0]
        """
        rise = self.at(self.warmup)
        if index < rise:
            return (index + 1) / rise
        progress = min(1.0, (index - rise) / max(1, self.steps - rise))
        if self.cycles > 1 and progress < 1:
            progress = self.cycles * progress % 1
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return 0.5 ** sum(index >= self.at(drop) for drop in self.drops)
        fall = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final + (1 - self.final) * fall

    def at(self, fraction: float) -> int:
        """The step index at a fraction of the run, in [0, 1].

        >>> Recipe(steps=200, batch_size=8, lr=1.0).at(0.25)
        50
        """
        if not 0 <= fraction <= 1:
            raise UsageError(f"a fraction of the run must lie in [0, 1], not {fraction!r}")
        return round(fraction * self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON has them; ``drops`` and ``cycles`` only where they say something."""
        fields = {**dataclasses.asdict(self), "betas": list(self.betas), "drops": list(self.drops)}
        silent = {"drops": [], "cycles": 1}
        return {name: value for name, value in fields.items() if name not in silent or value != silent[name]}

    def replace(self, **changes: Any) -> Recipe:
        """A recipe with some fields changed."""
        return dataclasses.replace(self, **changes)

    def stretched(self, budget: float) -> Recipe:
        """The same recipe over ``budget`` times the steps; schedules and windows given as fractions follow.

        >>> Recipe(steps=200, batch_size=8, lr=1.0).stretched(2.5).steps
        500
        """
        if not (budget > 0 and math.isfinite(budget)):
            raise UsageError(f"the budget is {budget!r}, it must be a positive number")
        return self if budget == 1 else self.replace(steps=max(1, round(self.steps * budget)))
