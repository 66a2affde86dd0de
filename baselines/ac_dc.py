"""AC/DC: alternating compressed and decompressed training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch

from smcbench import Recipe, Session, Sparsifier, Task
from smcbench.criteria import magnitude, random_scores
from smcbench.errors import UsageError
from smcbench.losses import smoothed
from smcbench.sparsifier import Fraction, Interval


@dataclass(frozen=True)
class ACDC(Sparsifier):
    """Train dense and sparse in turns, and end sparse (Peste et al., 2021, algorithm 1).

    At the start of a compressed phase global magnitude pruning chooses the mask, which then stands; at its end the
    removed weights are free again, start from zero, and the optimizer forgets its moments. Times are the fractions of
    the paper's ResNet-50 on 100 epochs: dense until 10, turns of 5, a last dense phase from 75 to 85, sparse to 100.
    The authors' code keeps one weight fewer than asked for (``>`` on a threshold).

    Where a compressed phase left a channel no weight at all, batch norm divides its first change by nearly nothing: the
    weights that come back there grow until the next mask is theirs. Narrow networks at high sparsity suffer from it.

    Preset ``sparse-decompression``: weights come back to 50 % sparsity only (Kuznedelev et al., 2023, section 3.6).
    """

    warmup: Fraction = 0.1
    """Fraction of the run that is dense at first."""
    phase: Interval = 0.05
    """Length of the alternating phases."""
    last: Fraction = 0.1
    """Length of the last dense phase."""
    final: Fraction = 0.15
    """Length of the compressed phase at the end."""
    decompressed: Fraction = 0.0
    """Sparsity of the decompressed phases; among the weights that are zero, which come back is drawn."""

    paper: ClassVar[str] = "arXiv:2106.12379"
    category: ClassVar = ("during", "dense-to-sparse", "dynamic")
    cost: ClassVar[str] = "(1 + d) / 2"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"sparse-decompression": {"decompressed": 0.5}}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup + self.phase > 1 - self.last - self.final + 1e-9:
            raise UsageError("warmup, last and final leave no room for a phase; they are fractions of the run")

    def sparsify(self, session: Session, sparsity: float) -> None:
        for start, stop, is_compressed in self.phases(session.recipe):
            if is_compressed:
                session.prune(magnitude(session), density=1 - sparsity)
            elif session.mask.density < 1 - self.decompressed:
                self.decompress(session)
            self.train(session, start, stop)

    def skip(self, task: Task, sparsity: float) -> str | None:
        if task.starts_sparse:
            return "it trains the whole network in turns, and a sparse checkpoint would be lost"
        if self.decompressed >= sparsity:
            return f"at sparsity {sparsity:.3f} nothing comes back, as its decompressed phases are that sparse"
        return None

    def phases(self, recipe: Recipe) -> Iterator[tuple[int, int, bool]]:
        """Start and stop of each phase in steps, and whether it is compressed: the first is not, the last is."""
        turns = round((1 - self.final - self.last - self.warmup) / self.phase)
        edges = [0.0, *(self.warmup + turn * self.phase for turn in range(turns + turns % 2)), 1 - self.final, 1.0]
        for number, (start, stop) in enumerate(pairwise(map(recipe.at, edges))):
            if start < stop:
                yield start, stop, number % 2 == 1

    def decompress(self, session: Session) -> None:
        draws = random_scores(session)
        scores = {name: torch.where(session.mask[name], 2.0, draws[name]) for name in session.weights}
        session.prune(scores, density=1 - self.decompressed)
        session.reset_optimizer()

    def train(self, session: Session, start: int, stop: int) -> None:
        session.train(start, stop)


@dataclass(frozen=True)
class ACDCPlusPlus(ACDC):
    """AC/DC with the recipe of long training: smoothed labels, a rate that falls in a line (Kuznedelev et al., 2023).

    Section 3.3 of the paper trains 1, 2.5, 5 and 10 times as long and reports the best: ``--budget 1,2.5,5,10``. First
    and last layers left dense are the task's scope ``fld``, as for every method; progressive resizing is the task's
    augmentation. Labels that the task's own loss smooths are not smoothed twice. The rate rises as in the FFCV recipe
    that the paper follows, over 2 of 88 epochs, unless the task's own rise is longer.
    """

    smoothing: Fraction = 0.1
    rise: Fraction = 0.02

    paper: ClassVar[str] = "arXiv:2308.02060"

    def train(self, session: Session, start: int, stop: int) -> None:
        rise = max(self.rise, session.recipe.warmup)
        recipe = session.recipe.replace(schedule="linear", drops=(), final=0.0, warmup=rise)
        is_smoothed = self.smoothing and not getattr(session.task, "smoothing", 0.0)
        session.train(start, stop, recipe=recipe, loss=smoothed(session, self.smoothing) if is_smoothed else None)
