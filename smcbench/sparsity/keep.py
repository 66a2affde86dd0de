"""Selection: which weights a method keeps, exactly as many as it said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smcbench.errors import NotFinite, UsageError
from smcbench.sparsity.distributions import apportion, count
from smcbench.sparsity.mask import Mask


class Elementwise(Mapping[str, Tensor]):
    """Scores computed where they are needed: ``function`` of tensors of one shape, element by element.

    A mapping like any other, but :func:`keep` computes it piece by piece and never holds it as a whole, which for
    global magnitude pruning saves a copy of the network. The function must be elementwise: called on corresponding
    slices of its tensors, it returns that slice of the scores.

    Raises:
        UsageError: the tensors of one name differ in shape, or the mappings in names.

    >>> scores = Elementwise(torch.abs, {"w": torch.tensor([-3.0, 2.0, 1.0])})
    >>> scores["w"]
    tensor([3., 2., 1.])
    >>> keep(scores, density=1 / 3)["w"].tolist()
    [True, False, False]
    """

    def __init__(self, function: Callable[..., Tensor], *operands: Mapping[str, Tensor]) -> None:
        for other in operands[1:]:
            _matching(operands[0], other, "operands")
        self.function, self.operands = function, operands
        for name in self:
            shapes = [list(operand[name].shape) for operand in operands]
            if any(shape != shapes[0] for shape in shapes):
                raise UsageError(f"scores: the tensors of {name} differ in shape: {shapes}")

    def __getitem__(self, name: str) -> Tensor:
        return self.function(*(operand[name].detach() for operand in self.operands))

    def __iter__(self) -> Iterator[str]:
        return iter(self.operands[0])

    def __len__(self) -> int:
        return len(self.operands[0])

    def part(self, name: str, where: slice) -> Tensor:
        """Some scores of one flattened tensor; computes no others."""
        return self.function(*(operand[name].detach().reshape(-1)[where] for operand in self.operands))

    def numel(self, name: str) -> int:
        """Number of scores of one tensor; computes none."""
        return self.operands[0][name].numel()


def keep(scores: Mapping[str, Tensor], density: float | Mapping[str, float]) -> Mask:
    """The mask of the highest scores, exactly ``round(density * n)`` of them (:func:`.distributions.count`).

    A number is the density over all tensors together (global); a mapping, such as ``erk(...)``, holds the density of
    each tensor. Among equal scores the earlier wins: order of the names, then position in the flattened tensor.
    Infinite scores order as usual. Scores may be float64, float32, bfloat16 or float16, on any device.

    Raises:
        UsageError: a density is not in [0, 1], a tensor is not floating, or the names of the two mappings differ.
        NotFinite: a score is NaN.

    >>> scores = {"a": torch.tensor([0.3, 0.9, 0.3]), "b": torch.tensor([[0.3, 0.1]])}
    >>> {name: kept.tolist() for name, kept in keep(scores, density=0.4).items()}
    {'a': [True, True, False], 'b': [[False, False]]}
    >>> keep(scores, density={"a": 1 / 3, "b": 0.5}).layer_densities()
    {'a': 0.3333333333333333, 'b': 0.5}
    """
    lazy = scores if isinstance(scores, Elementwise) else Elementwise(_itself, scores)
    if not isinstance(density, Mapping):
        return Mask(_top(lazy, list(lazy), count(density, sum(map(lazy.numel, lazy)))))
    _matching(scores, density, "densities")
    kept: dict[str, Tensor] = {}
    for name in lazy:
        kept |= _top(lazy, [name], count(density[name], lazy.numel(name)))
    return Mask(kept)


def only(mask: Mask, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores, with minus infinity outside the mask: what is removed there is kept last.

    Raises:
        UsageError: the names of the mask and the scores differ.

    >>> mask = Mask({"w": torch.tensor([True, False, True])})
    >>> only(mask, {"w": torch.tensor([1.0, 3.0, 2.0])})
    {'w': tensor([1., -inf, 2.])}
    """
    _matching(mask, scores, "scores")
    return {name: tensor.masked_fill(~mask[name], -torch.inf) for name, tensor in scores.items()}


def drop_and_grow(
    mask: Mask,
    drop: Mapping[str, Tensor],
    grow: Mapping[str, Tensor],
    fraction: float,
    grow_counts: Mapping[str, int] | None = None,
) -> Mask:
    """The next mask of dynamic sparse training: drop the worst kept weights, grow the best others (RigL, algorithm 1).

    In each tensor ``int(fraction * kept)`` weights with the lowest ``drop`` scores go, and as many with the highest
    ``grow`` scores come, chosen among all that are then not kept, the just dropped included. Ties go to the earlier
    position, which is kept or grown. With ``grow_counts`` (SNFS, DSR) each tensor grows that many instead; what exceeds
    its free places flows to the other tensors, by :func:`.distributions.apportion`.

    Raises:
        UsageError: the fraction is not in [0, 1], the names differ, or there are fewer free places than to grow.
        NotFinite: a ``drop`` score of a kept weight, or a ``grow`` score of one that is not, is NaN.

    >>> mask = Mask({"w": torch.tensor([True, True, False, False])})
    >>> drop, grow = torch.tensor([0.1, 0.5, 0.0, 0.0]), torch.tensor([0.2, 0.9, 0.1, 0.7])
    >>> drop_and_grow(mask, {"w": drop}, {"w": grow}, fraction=0.5)["w"].tolist()
    [False, True, False, True]
    """
    if not 0 <= fraction <= 1:
        raise UsageError(f"the fraction to drop must lie in [0, 1], not {fraction!r}")
    _matching(mask, drop, "drop scores")
    _matching(mask, grow, "grow scores")
    kept, grown = {}, {}
    for name, old in mask.items():
        active = int(old.count_nonzero())
        grown[name] = int(fraction * active)
        kept[name] = _best(name, drop[name], old, active - grown[name])
    if grow_counts is not None:
        _matching(mask, grow_counts, "growth counts")
        free = [int((~stays).count_nonzero()) for stays in kept.values()]
        wanted = [grow_counts[name] for name in mask]
        grown = dict(zip(mask, apportion(wanted, free, sum(wanted)), strict=True))
    return Mask({name: stays | _best(name, grow[name], ~stays, grown[name]) for name, stays in kept.items()})


def _best(name: str, scores: Tensor, among: Tensor, k: int) -> Tensor:
    """The ``k`` highest scores of those where the bool tensor ``among`` is true, as a bool tensor."""
    lowered = Elementwise(lambda score, here: score.where(here, -math.inf), {name: scores}, {name: among})
    best = _top(lowered, [name], k)[name] & among
    missing = k - int(best.count_nonzero())
    if missing:  # the k-th is -inf, as is all outside
        best.view(-1)[(among & ~best).reshape(-1).nonzero().squeeze(1)[:missing]] = True
    return best


def _matching(names: Mapping[str, object], others: Mapping[str, object], what: str) -> None:
    if names.keys() != others.keys():
        name = sorted(names.keys() ^ others.keys())[0]
        raise UsageError(f"{what}: {name} is {'missing' if name in names else 'not a prunable weight here'}")


def _itself(scores: Tensor) -> Tensor:
    return scores


# -- exact selection
#
# The k-th highest score is found without sorting or copying the scores: a sorted sample gives two values that very
# likely enclose it; one pass counts what lies above them and gathers what lies between; the answer is among these few.
# Should it lie elsewhere, the next pass looks there: the sample decides how fast the answer comes, never what it is.
# On a CPU the work is NumPy's, whose comparisons, sorts and gathers are several times as fast as PyTorch's. On a GPU
# each answer that is waited for costs more than looking at a million scores: there small tensors are looked at
# together, and what fits into one piece is left to ``topk``.

SAMPLE = 1 << 18
"""About how many scores the sample holds; where there are no more, it holds them all."""
CHUNK = 1 << 18
"""How many scores a pass on a CPU looks at in one go, so that they stay in its cache."""
CHUNK_GPU = 1 << 25
"""The same on a GPU, where it bounds the memory: a piece, and twelve bytes for each of the scores ``topk`` gives."""


def _top(scores: Elementwise, names: list[str], k: int) -> dict[str, Tensor]:
    """The ``k`` highest scores over the tensors of these names, as bool tensors; ties to the earlier one."""
    vector = _Vector(scores, names)
    threshold, wanted, ties = vector.highest(max(1, k)) if vector.size else (math.inf, 0, 0)
    if k == 0:
        threshold, wanted = math.inf, 0
    inclusive = 0 < wanted == ties
    masks: dict[str, Tensor] = {}
    for name in names:
        like = scores.operands[0][name]
        masks[name] = torch.empty(like.shape, dtype=torch.bool, device=like.device)
        flat, start = masks[name].view(-1), 0
        for values in vector.chunks(name):
            part = flat[start : start + values.numel()]
            start += values.numel()
            if values.is_cpu:
                (np.greater_equal if inclusive else np.greater)(values.numpy(), threshold, out=part.numpy())
            else:
                (torch.ge if inclusive else torch.gt)(values, threshold, out=part)
            if wanted and not inclusive:
                first = (values == threshold).nonzero().squeeze(1)[:wanted]
                part[first] = True
                wanted -= len(first)
    return masks


class _Vector:
    """The scores of some tensors as one long vector, which is never laid out."""

    def __init__(self, scores: Elementwise, names: list[str]) -> None:
        self.scores, self.names = scores, names
        self.size = sum(map(scores.numel, names))
        types = {name: scores.part(name, slice(0)).dtype for name in names}
        for name, dtype in types.items():
            if not dtype.is_floating_point:
                raise UsageError(f"the scores of {name} are {dtype}, they must be floating")
        self.dtype = torch.float64 if torch.float64 in types.values() else torch.float32

    def chunks(self, name: str) -> Iterator[Tensor]:
        """The scores of one tensor piece by piece, in a type to which those of all the tensors convert exactly."""
        operands = [operand[name].detach().reshape(-1) for operand in self.scores.operands]
        size = CHUNK if operands[0].is_cpu else CHUNK_GPU
        for start in range(0, operands[0].numel(), size):
            yield self.scores.function(*(operand[start : start + size] for operand in operands)).to(self.dtype)

    def pieces(self) -> Iterator[Tensor]:
        """The scores of all tensors in order, on a GPU those of several at once."""
        waiting: list[Tensor] = []
        for name in self.names:
            for values in self.chunks(name):
                held = sum(map(len, waiting))
                if waiting and (values.device != waiting[0].device or held + len(values) > CHUNK_GPU):
                    piece, waiting = _joined(waiting), []  # while it is looked at, its parts are free
                    yield piece
                if values.is_cpu:
                    yield values
                else:
                    waiting.append(values)
        if waiting:
            piece, waiting = _joined(waiting), []
            yield piece

    def sample(self, stride: int) -> NDArray[Any]:
        """Every ``stride``-th score of the vector, sorted; NaN comes last."""
        parts, start = [], 0
        for name in self.names:
            parts.append(self.scores.part(name, slice(start, None, stride)).to(self.dtype))
            start = (start - self.scores.numel(name)) % stride
        if any(part.is_cpu for part in parts):
            return np.sort(torch.cat([part.cpu() for part in parts]).numpy())
        home = parts[0].device
        return torch.cat([part.to(home) for part in parts]).sort().values.cpu().numpy()

    def highest(self, k: int) -> tuple[float, int, int]:
        """The ``k``-th highest score, how many equal to it are among the ``k`` highest, and how many are there at all.

        Raises:
            NotFinite: a score is NaN.
        """
        if self.size <= CHUNK_GPU and not any(self.scores.operands[0][name].is_cpu for name in self.names):
            values = list(self.pieces())
            if len(values) == 1:  # they are on one GPU
                best = _highest_by_topk(values[0], k)
                if math.isnan(best[0]):
                    raise self.not_finite()
                return best
        stride = -(-self.size // SAMPLE) | 1  # odd, lest it follow a matrix's columns
        sample = self.sample(stride)
        if np.isnan(sample[-1]):
            raise self.not_finite()
        if stride == 1:
            return _highest(sample, k)
        density = k / self.size
        place, width = (1 - density) * len(sample), 4 + int(4 * math.sqrt(density * (1 - density) * len(sample)))
        sample = np.concatenate([sample.dtype.type([-math.inf]), sample, sample.dtype.type([math.inf])])
        i, j = max(0, int(place) - width), min(len(sample) - 1, int(place) + width)
        while True:
            low, high = sample[i], sample[j]
            above, found, between = self.look(low, high)
            if above < k <= above + found:
                return _highest(np.concatenate(between), k - above) if low < high else (float(low), k - above, found)
            width *= 8
            if low < high:  # next: is it the end it lies beyond?
                i = j = j if k <= above else i
            elif k <= above:
                i = int(np.searchsorted(sample, high, side="right")) - 1
                j = min(len(sample) - 1, i + width)
            else:
                j = int(np.searchsorted(sample, low, side="left"))
                i = max(0, j - width)

    def look(self, low: float, high: float) -> tuple[int, int, list[NDArray[Any]]]:
        """How many scores are ``high`` or more and how many strictly between, and these; in one pass.

        Where ``low == high``: how many are more, how many equal, and nothing.
        """
        above, found, between = 0, 0, list[NDArray[Any]]()
        for values in self.pieces():
            x: Any = values.numpy() if values.is_cpu else values
            over, under = x > low, x < high
            more = _count(over)
            seen = more + _count(under)  # all but NaN, and some twice
            if low == high:
                equal = _count(x == low)
                seen += equal
            else:
                under &= over
                between.append(x[under] if values.is_cpu else x[under].cpu().numpy())
                equal = len(between[-1])
                more -= equal
                seen -= equal
            if seen < len(x):
                raise self.not_finite()
            above += more
            found += equal
        return above, found, between

    def not_finite(self) -> NotFinite:
        """The error that names the first tensor with a NaN."""
        name = next(name for name in self.names if any(values.isnan().any() for values in self.chunks(name)))
        return NotFinite(f"a score of {name} is NaN")


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _count(flags: Any) -> int:
    return int(np.count_nonzero(flags) if isinstance(flags, np.ndarray) else flags.count_nonzero())


def _highest(values: NDArray[Any], k: int) -> tuple[float, int, int]:
    """The ``k``-th highest value, how many equal to it are among the ``k`` highest, and how many are there at all."""
    value = np.partition(values, len(values) - k)[len(values) - k]
    return float(value), k - int(np.count_nonzero(values > value)), int(np.count_nonzero(values == value))


def _highest_by_topk(values: Tensor, k: int) -> tuple[float, int, int]:
    """The same, where ``topk`` is fast: of the two ends, the one with fewer values. NaN, if one of the values is."""
    if 2 * k <= len(values):
        value = values.topk(k, sorted=False).values.min()
    else:
        value = values.topk(len(values) - k + 1, largest=False, sorted=False).values.max()
    value = value.where(~values.isnan().any(), math.nan)
    counts = [(values > value).count_nonzero(), (values == value).count_nonzero()]
    found, more, equal = torch.stack([value.double(), *(count.double() for count in counts)]).tolist()  # waits once
    return found, k - int(more), int(equal)
