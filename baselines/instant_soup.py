"""Instant soup: a network pruned by what several weakly trained copies of it would keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from smcbench import Mask, Session
from smcbench.criteria import magnitude
from smcbench.sparsifier import Count, Fraction, Interval
from smcbench.sparsity.keep import only

from .progressive import Progressive, spaced


@dataclass(frozen=True)
class InstantSoup(Progressive):
    """Instant soup pruning: in each round the union of cheap, noisy masks, within one training (Jaiswal et al., 2023).

    Each round trains the network a little further, forks denoisers that are weakly trained on other batches, prunes
    each by global magnitude and joins their masks. The weights are never rewound; after the rounds the network is
    trained to the end. Here the union, which is larger than each mask, is trimmed by the network's own magnitudes to
    the density of the round. Rounds of half an epoch and weak training of a tenth of one are fractions of the authors'
    20 epochs. Denoisers go on with the network's optimizer and learning rate; the authors start a fresh optimizer with
    a warm-up of its own. With one denoiser that is not trained it is progressive pruning.

    Preset ``authors``: the union stays as it is (``isp_all.py``). Rounds go on until less than 5 points of sparsity are
    missing, or half of the run is over, and one last cut by magnitude makes up for those. The authors measure sparsity
    by the weights that are zero and report the best epoch on the test split.
    """

    of: Literal["all", "remaining"] = "remaining"
    interval: Interval = 0.025
    denoisers: Count = 5
    """Copies trained per round."""
    weak: Fraction = 0.005
    """How long each is trained, as a fraction of the run; a step at least, unless it is 0."""
    trim: bool = True
    """Whether the union is trimmed to the density of the round."""
    gap: Fraction = 0.05
    """Untrimmed only: the sparsity that the last cut may add."""

    category: ClassVar = ("iterative", "dense-to-sparse", "static")
    cost: ClassVar[str] = "0.4 + 0.6 * d"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"authors": {"trim": False}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        for step, density in self.rounds(session, sparsity).items():
            session.train(session.position, step)
            if self.trim:
                session.prune(only(self.soup(session, density), magnitude(session)), density)
            elif sparsity - session.mask.sparsity >= self.gap:
                session.mask = self.soup(session, max(density, (1 - self.rate) * session.mask.density))
            else:
                break
        session.prune(magnitude(session), density=1 - sparsity)
        session.train(session.position)

    def rounds(self, session: Session, sparsity: float) -> dict[int, float]:
        """The density to prune to after each of some steps; untrimmed, the least that a denoiser keeps."""
        if self.trim:
            return super().rounds(session, sparsity)
        steps = spaced(session.recipe, round(self.stop / self.interval), self.interval, self.stop)
        return dict.fromkeys(steps, 1 - sparsity)

    def soup(self, session: Session, density: float) -> Mask:
        """The union of what the denoisers keep at ``density``."""
        weak = max(1, session.recipe.at(self.weak)) if self.weak else 0
        stop = min(session.position + weak, session.recipe.steps)
        soup = Mask.empty(session.weights)
        for number in range(self.denoisers):
            denoiser = session.fork(seed=session.seed + 1 + number)
            denoiser.train(denoiser.position, stop)
            denoiser.prune(magnitude(denoiser), density)
            soup |= denoiser.mask
        return soup
