"""GMP*: gradual magnitude pruning, well tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude
from smcbench.losses import distilled
from smcbench.sparsifier import Count, Fraction, Interval, Positive
from smcbench.sparsity.schedules import Window, cubic


@dataclass(frozen=True)
class GMPStar(Sparsifier):
    """Gradual magnitude pruning with a large first step, cyclic rates and distillation (Kurtic & Alistarh, 2022).

    The dense network, trained by the recipe, teaches; the student starts where it did. At the start of the window much
    of the sparsity is there at once, the rest follows the cubic schedule, and the learning rate falls in a line and
    rises again in cycles, so that it is high while weights are removed. Times are those of the paper's 30 epochs: 2
    dense ones, pruning until 26, two updates an epoch, cycles of 4, as in the authors' recipes of oBERT; the threshold
    is global. The paper's first step is to 70 % for targets of 80 to 97 %; here it is a share of the target, and 70 %
    at .9. It counts as iterative because its teacher is trained too.
    """

    start: Fraction = 1 / 15
    stop: Fraction = 13 / 15
    interval: Interval = 1 / 60
    jump: Fraction = 0.78
    """Sparsity of the first step, as a share of the target."""
    cycles: Count = 7
    hardness: Fraction = 1.0
    """The teacher's share of the loss; 0 trains without a teacher."""
    temperature: Positive = 2.0
    """Of the distillation; the paper takes 2 for fine-tuning and 5.5 for language modelling."""

    paper: ClassVar[str] = "arXiv:2210.06384"
    category: ClassVar = ("iterative", "dense-to-sparse", "static")
    cost: ClassVar[str] = "1.44 + 0.89 * d"

    def sparsify(self, session: Session, sparsity: float) -> None:
        loss = None
        if self.hardness:
            teacher = session.fork(name="teacher")
            teacher.train()
            loss = distilled(session, teacher, self.hardness, self.temperature)
        initial = min(max(self.jump * sparsity, session.mask.sparsity), sparsity)
        window = Window(self.start, self.stop, self.interval).on(session.recipe)
        recipe = session.recipe.replace(schedule="linear", drops=(), cycles=self.cycles)
        for step in session.steps(recipe=recipe, loss=loss):
            if step.index in window:
                now = cubic(window.progress(step.index), initial, sparsity)
                session.prune(magnitude(session), density=1 - now)
