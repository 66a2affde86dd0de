"""Dynamic sparse training: each update against NumPy, written from the papers' pseudo-code, and the methods' limits."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from toy import Toy, session

from smcbench import Mask, Recipe, Session, Sparsifier, testing
from smcbench.cell import run
from smcbench.errors import UsageError
from smcbench.sparsity.keep import drop_and_grow
from smcbench.state import write_tensors
from smcbench.trainer import Step
from smcbench_baselines.dsr import DSR
from smcbench_baselines.gmp import GMP
from smcbench_baselines.granet import GraNet, GraNetDense
from smcbench_baselines.itop import ITOPSET, ITOPRigL
from smcbench_baselines.random import RandomBefore
from smcbench_baselines.rigl import RigL
from smcbench_baselines.set import SET
from smcbench_baselines.snfs import SNFS
from smcbench_baselines.static import Static

STEPS = 100
TOY = Toy(recipe=replace(Toy().recipe, steps=STEPS))
"""384 prunable weights, 288 and 96, in double precision."""

Arrays = dict[str, NDArray[Any]]


@dataclass
class Moment:
    """What stood before and after a method looked at a step; tensors flattened."""

    index: int
    weights: Arrays
    gradients: Arrays
    draws: torch.Generator
    before: Arrays
    after: Arrays
    skipped: bool
    memory: dict[str, Any]


def _flat(tensors: Any) -> Arrays:
    return {name: tensor.detach().numpy().copy().reshape(-1) for name, tensor in tensors.items()}


def _watched(method: Sparsifier, sparsity: float, task: Toy = TOY) -> tuple[Session, list[Moment]]:
    """A run, and what happened at each of its steps."""
    s, moments = session(task=task), []
    steps = s.steps

    def watching(*args: Any, **options: Any) -> Iterator[Step]:
        for step in steps(*args, **options):
            draws = torch.Generator()
            draws.set_state(s.generator.get_state())
            gradients = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in s.weights.items()}
            found = step.index, _flat(s.weights), _flat(gradients), draws, _flat(s.mask)
            yield step
            memory = {key: value.clone() if isinstance(value, Tensor) else value for key, value in s.memory.items()}
            moments.append(Moment(*found, _flat(s.mask), step.skip, memory))

    s.steps = watching  # type: ignore[method-assign]
    method.sparsify(s, sparsity)
    return s, moments


def _best(scores: NDArray[Any], among: NDArray[Any], k: int) -> NDArray[Any]:
    """The k highest scores of those allowed, the earlier first."""
    places = sorted(np.flatnonzero(among), key=lambda i: (-scores[i], i))[:k]
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[places] = True
    return chosen


def _replaced(
    moment: Moment, grow: Arrays, fraction: float, counts: dict[str, int] | None = None, start: Arrays | None = None
) -> Arrays:
    """Drop a fraction of each layer by magnitude, then grow by score: algorithm 1 of RigL, SET and SNFS."""
    after = {}
    for name, mask in (start or moment.before).items():
        dropped = math.floor(fraction * mask.sum())
        stays = _best(abs(moment.weights[name]), mask, int(mask.sum()) - dropped)
        after[name] = stays | _best(grow[name], ~stays, dropped if counts is None else counts[name])
    return after


def _drawn(moment: Moment) -> Arrays:
    shapes = {"0.weight": (24, 12), "2.weight": (4, 24)}
    return {name: torch.rand(shape, generator=moment.draws).numpy().reshape(-1) for name, shape in shapes.items()}


def _shared(shares: list[float], total: int) -> list[int]:
    """Whole parts of a total, by largest remainders."""
    exact = [Fraction(share) * total / sum(map(Fraction, shares)) for share in shares]
    counts = [math.floor(part) for part in exact]
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _wave(progress: float, first: float, last: float) -> float:
    return last + (first - last) * math.cos(math.pi / 2 * progress) ** 2


def _equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _kept(masks: Arrays) -> int:
    return int(sum(mask.sum() for mask in masks.values()))


# -- updates


@pytest.mark.parametrize(
    ("method", "events", "rates"),
    [
        (RigL(interval=0.15), [15, 30, 45, 60], (75, 0.3, 0.0)),  # at 75 it has ended
        (RigL(**{**RigL.presets["smc"], "interval": 0.1}), [10, 20, 30, 40, 50, 60, 70, 80, 90], (100, 0.5, 0.005)),
        (ITOPRigL(interval=0.3), [30, 60, 90], (100, 0.5, 0.005)),
        (SET(), [10, 20, 30, 40, 50, 60, 70, 80, 90], (100, 0.3, 0.3)),  # ten steps apart, however short the interval
        (ITOPSET(interval=0.3), [30, 60, 90], (100, 0.5, 0.005)),
    ],
    ids=["rigl", "rigl@smc", "itop-rigl", "set", "itop-set"],
)
def test_layers_drop_by_magnitude_and_grow(method: RigL, events: list[int], rates: tuple[int, float, float]) -> None:
    _, moments = _watched(method, 0.8)
    end, first_rate, last_rate = rates
    for moment in moments:
        if moment.index not in events:
            assert _equal(moment.before, moment.after)
            assert not moment.skipped
            continue
        scores = _drawn(moment) if isinstance(method, SET) else {n: abs(g) for n, g in moment.gradients.items()}
        expected = _replaced(moment, scores, _wave(moment.index / end, first_rate, last_rate))
        assert _equal(moment.after, expected), moment.index
        assert moment.index > end / 2 or not _equal(moment.before, moment.after)  # later the wave drops few or none
        assert moment.skipped == method.replaces_step


@pytest.mark.parametrize(("steps", "skipped", "share"), [(16, [3, 6, 9], 1 / 3), (100, [*range(10, 71, 10)], 1 / 10)])
def test_updates_leave_steps_to_train(steps: int, skipped: list[int], share: float) -> None:
    """RigL's updates stand in the place of optimizer steps, of which a short recipe has few."""
    _, moments = _watched(RigL(), 0.8, Toy(recipe=replace(TOY.recipe, steps=steps)))
    assert [moment.index for moment in moments if moment.skipped] == skipped
    assert len(skipped) <= share * steps == share * len(moments)


def test_grown_weights_start_at_zero() -> None:
    _, moments = _watched(RigL(interval=0.1), 0.8)
    for moment, following in pairwise(moments):
        if moment.skipped:  # the weights are seen again before any update
            for name, mask in moment.after.items():
                assert np.array_equal(following.weights[name], moment.weights[name] * mask)
                assert not following.weights[name][mask & ~moment.before[name]].any()


@pytest.mark.parametrize("method", [GraNet(start=0.2), GraNetDense(interval=0.1, start=0.2)], ids=["s2s", "d2s"])
def test_granet_prunes_globally_and_replaces_in_layers(method: GraNet) -> None:
    _, moments = _watched(method, 0.9)
    first, initial = round(method.start * STEPS), 1 - method.initial_density
    for moment in moments:
        pruned = moment.before
        if first <= moment.index <= 70 and moment.index % 10 == 0:
            density = 0.1 + (0.9 - initial) * ((70 - moment.index) / (70 - first)) ** 3
            magnitudes = np.concatenate([abs(moment.weights[name]) for name in pruned])
            best = _best(magnitudes, np.concatenate(list(pruned.values())), round(density * 384))
            pruned = dict(zip(pruned, np.split(best, [288]), strict=True))
        expected = pruned
        if moment.index > first and moment.index % 10 == 0:
            scores = {name: abs(gradient) for name, gradient in moment.gradients.items()}
            expected = _replaced(moment, scores, _wave(moment.index / 100, 0.5, 0.005), start=pruned)
        assert _equal(moment.after, expected), moment.index
        assert not moment.skipped


def test_granet_follows_its_schedule() -> None:
    """384 (0.1 + 0.4 (1 - k/7)^3) for k = 0, 1, ..., 7."""
    _, moments = _watched(GraNet(), 0.9)
    by_hand = {0: 192, 10: 135, 20: 94, 30: 67, 40: 50, 50: 42, 60: 39, 70: 38}
    for moment in moments:
        assert _kept(moment.after) == by_hand[min(70, moment.index // 10 * 10)]
    _, moments = _watched(GraNet(), 0.6)
    assert [m.index for m in moments if m.index > 70 and not _equal(m.before, m.after)] == [80, 90]


def test_granet_asked_for_little_sparsity_starts_there() -> None:
    _, moments = _watched(GraNet(), 0.3)
    assert {_kept(moment.before) for moment in moments} == {round(0.7 * 384)}


def test_snfs_follows_its_momentum() -> None:
    method = SNFS(interval=0.1)
    _, moments = _watched(method, 0.8)
    momentum = {name: np.zeros_like(weight) for name, weight in moments[0].weights.items()}
    moved = 0
    for moment in moments:
        for name, gradient in moment.gradients.items():
            momentum[name] = 0.9 * momentum[name] + 0.1 * gradient
            assert np.allclose(momentum[name], moment.memory[f"momentum/{name}"].numpy().reshape(-1), atol=1e-15)
        expected = moment.before
        if moment.index and moment.index % 10 == 0:
            fraction = _wave(moment.index / 100, 0.5, 0.005)
            means = [float(abs(momentum[name][mask]).mean()) for name, mask in moment.before.items()]
            total = sum(math.floor(fraction * mask.sum()) for mask in moment.before.values())
            counts = dict(zip(momentum, _shared(means, total), strict=True))
            free = {name: int((~mask).sum() + math.floor(fraction * mask.sum())) for name, mask in expected.items()}
            if counts["2.weight"] > free["2.weight"]:  # what the small layer cannot take
                counts = {"0.weight": total - free["2.weight"], "2.weight": free["2.weight"]}
            expected = _replaced(moment, {name: abs(m) for name, m in momentum.items()}, fraction, counts)
        assert _equal(moment.after, expected), moment.index
        moved += int(moment.before["2.weight"].sum() != moment.after["2.weight"].sum())
    assert moved > 3


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))  # type: ignore[no-any-return]


def _two() -> Session:
    recipe = Recipe(steps=4, batch_size=1, lr=0.1, optimizer="sgd")
    return Session.of(_Two(), loss=lambda m, x: m(x).square().mean(), batches=[torch.ones(1, 4)], recipe=recipe)


def test_snfs_redistributes_by_mean_momentum() -> None:
    """a keeps 8 with mean momentum 3, b keeps 4 with mean 1; half go, 4 + 2 = 6; growth is 4.5 : 1.5, hence 5 : 1."""
    s = _two()
    kept = {"a.weight": torch.arange(16).reshape(4, 4) < 8, "b.weight": torch.arange(8).reshape(2, 4) < 4}
    momentum = {"a.weight": torch.full((4, 4), 9.0), "b.weight": torch.full((2, 4), 9.0)}
    momentum["a.weight"][kept["a.weight"]] = torch.tensor([1.0, 5.0, 2.0, 4.0, 0.0, 6.0, 3.0, 3.0])
    momentum["b.weight"][kept["b.weight"]] = torch.tensor([0.5, 1.5, 2.0, 0.0])
    s.mask = Mask(kept)
    counts = SNFS().redistributed(s, momentum, 0.5)
    assert counts == {"a.weight": 5, "b.weight": 1}
    grown = drop_and_grow(s.mask, momentum, momentum, 0.5, counts)
    assert {name: int(bits.sum()) for name, bits in grown.items()} == {"a.weight": 9, "b.weight": 3}
    # 6 + 3 go, and all growth is b's: it keeps 1 and has room for 7 of the 9, the other 2 flow back to a.
    momentum["a.weight"].zero_()
    counts = SNFS().redistributed(s, momentum, 0.75)
    assert counts == {"a.weight": 0, "b.weight": 9}
    grown = drop_and_grow(s.mask, momentum, momentum, 0.75, counts)
    assert {name: int(bits.sum()) for name, bits in grown.items()} == {"a.weight": 4, "b.weight": 8}


@pytest.mark.parametrize(("fraction", "following"), [(0.5, 0.5), (0.25, 0.125), (0.4, 0.25), (0.38, 0.25)])
def test_dsr_by_hand(fraction: float, following: float) -> None:
    """Of 8 + 4 kept weights 3 + 2 are below the threshold; 7 survive, 5 to 2, and 5 grow: 25/7 : 10/7, hence 4 : 1.

    Wanted are 6, of which 5 is less than nine tenths: the threshold doubles; 3, of which it is more than eleven tenths:
    it is halved; 4.8, within a tenth of it: it stays; 4.56, of which it is 1.096: it stays.
    """
    s = _two()
    s.mask = Mask({"a.weight": torch.arange(16).reshape(4, 4) < 8, "b.weight": torch.arange(8).reshape(2, 4) < 4})
    with torch.no_grad():
        s.weights["a.weight"].view(-1)[:8] = torch.tensor([0.3, -0.3, 0.1, 0.25, -0.1, 0.2, 0.9, -0.9])
        s.weights["b.weight"].view(-1)[:4] = torch.tensor([-0.2, 0.2, 0.25, -7.0])
    s.memory["threshold"] = 0.25
    DSR(fraction=fraction).update(s)
    assert s.memory["threshold"] == following
    assert {name: int(bits.sum()) for name, bits in s.mask.items()} == {"a.weight": 9, "b.weight": 3}
    assert s.mask["a.weight"].view(-1)[[0, 1, 3, 6, 7]].all()
    assert s.mask["b.weight"].view(-1)[[2, 3]].all()


def test_dsr_in_full() -> None:
    _, moments = _watched(DSR(interval=0.1, threshold=0.02), 0.8)
    threshold, seen = 0.02, set()
    for moment in moments:
        expected = moment.before
        if moment.index in range(10, 91, 10):
            stays = {name: mask & (abs(moment.weights[name]) >= threshold) for name, mask in moment.before.items()}
            removed, wanted = _kept(moment.before) - _kept(stays), 0.1 * _kept(moment.before)
            change = 2 if removed < 0.9 * wanted else 0.5 if removed > 1.1 * wanted else 1
            threshold, seen = threshold * change, seen | {change}
            counts = _shared([float(mask.sum()) for mask in stays.values()], removed)
            draws = _drawn(moment)
            expected = {
                name: mask | _best(draws[name], ~mask, k) for (name, mask), k in zip(stays.items(), counts, strict=True)
            }
        assert _equal(moment.after, expected), moment.index
        assert moment.memory["threshold"] == threshold
    assert {0.5, 2} <= seen


# -- what holds at every step

CONSTANT: list[Sparsifier] = [RigL(), SET(), ITOPSET(), ITOPRigL(), SNFS(), DSR(), Static()]


@pytest.mark.parametrize("method", CONSTANT, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("sparsity", [0.35, 0.99])
def test_the_density_is_constant_to_the_weight(method: Sparsifier, sparsity: float) -> None:
    """At 0.99 four weights are left: where int() says that none is to go, none goes."""
    s, moments = _watched(method, sparsity, Toy())
    wanted = round((1 - sparsity) * 384)
    for moment in moments:
        assert _kept(moment.before) == _kept(moment.after) == wanted
        assert sum(np.count_nonzero(weight) for weight in moment.weights.values()) <= wanted
    assert s.mask.kept == wanted


@pytest.mark.parametrize("method", [*CONSTANT, GraNet(), GraNetDense()], ids=lambda method: type(method).__name__)
def test_the_exploration_rate_is_that_of_the_union_of_masks(method: Sparsifier) -> None:
    s, moments = _watched(method, 0.9, Toy())
    masks = [moment.before for moment in moments] or [_flat(s.mask)]  # under which a step was taken
    union = {name: np.logical_or.reduce([mask[name] for mask in masks]) for name in masks[0]}
    assert s.conduct.explored == _kept(union) / 384
    assert (s.conduct.explored > 0.1) == (s.conduct.regrown > 0 or isinstance(method, GraNet))


# -- limits


@dataclass(frozen=True)
class _RandomRigL(RigL):
    """RigL, but for where it grows."""

    def grow(self, session: Session, step: Step) -> dict[str, Tensor]:
        return {name: torch.rand(tuple(w.shape), generator=session.generator) for name, w in session.weights.items()}


@functools.cache
def _bits(method: Sparsifier, sparsity: float) -> str:
    s = session(task=Toy(recipe=replace(TOY.recipe, steps=50)))  # updates at 10, 20, 30 and 40
    method.sparsify(s, sparsity)
    return s.snapshot().digest()


ONE_AND_THE_SAME: dict[str, tuple[Sparsifier, Sparsifier, float]] = {
    "RigL that grows at random is SET": (_RandomRigL(**SET().parameters()), SET(), 0.8),
    "and SET with ITOP's parameters is ITOP": (_RandomRigL(**ITOPSET().parameters()), ITOPSET(), 0.8),
    "SET that replaces the step is RigL that grows at random": (SET(**RigL().parameters()), _RandomRigL(), 0.8),
    "ITOP that never updates is static": (ITOPSET(interval=1.0), Static(), 0.8),
    "so is RigL beyond its window": (RigL(interval=0.8), Static(), 0.8),
    "so is one that drops nothing": (ITOPRigL(drop_fraction=0.0, final_fraction=0.0), Static(), 0.8),
    "static is random pruning before training": (Static(), RandomBefore("erk"), 0.8),
    "GraNet without growth is GMP": (
        GraNetDense(start=0.1, stop=0.7, interval=0.2, drop_fraction=0.0, final_fraction=0.0),
        GMP(start=0.1, stop=0.7, interval=0.2),
        0.9,
    ),
    "GraNet without pruning and growth is static": (GraNet(drop_fraction=0.0, final_fraction=0.0), Static(), 0.4),
}


@pytest.mark.parametrize(("one", "other", "sparsity"), ONE_AND_THE_SAME.values(), ids=ONE_AND_THE_SAME)
def test_limits(one: Sparsifier, other: Sparsifier, sparsity: float) -> None:
    assert _bits(one, sparsity) == _bits(other, sparsity)


@pytest.mark.parametrize("one", [RigL(), SET(), ITOPRigL(), GraNet(), SNFS(), DSR()], ids=lambda m: type(m).__name__)
def test_away_from_the_limits_they_differ(one: Sparsifier) -> None:
    assert _bits(one, 0.8) not in (_bits(Static(), 0.8), _bits(RandomBefore("uniform"), 0.8))


# -- a given mask


def _mask_of(folder: Path, sparsity: float) -> tuple[Any, str]:
    record = run(testing.ToyTask(), "random-before", sparsity, out=folder)
    return record, str(next(folder.rglob("mask.safetensors")))


def test_the_mask_of_a_finished_run(tmp_path: Path) -> None:
    """The task's weights under the mask that another run trained them under: the same network."""
    first, path = _mask_of(tmp_path / "a", 0.75)
    again = run(testing.ToyTask(), Static(path), 0.75)
    assert again.digests == first.digests
    assert (again.category.when, again.category.start, again.category.mask) == Static.category
    assert _mask_of(tmp_path / "b", 0.75)[0].digests.weights == first.digests.weights


def test_the_content_of_the_mask_is_part_of_the_identity(tmp_path: Path) -> None:
    _, path = _mask_of(tmp_path / "a", 0.75)
    one = Static(path).fingerprint()
    assert one == Static(path).fingerprint() != Static().fingerprint() is None
    Path(path).write_bytes(Path(_mask_of(tmp_path / "b", 0.5)[1]).read_bytes())
    assert Static(path).fingerprint() not in (one, None)


def test_a_mask_that_does_not_fit(tmp_path: Path) -> None:
    _, path = _mask_of(tmp_path, 0.75)
    weights = str(next(tmp_path.rglob("weights.safetensors")))
    other, short = tmp_path / "other.safetensors", tmp_path / "short.safetensors"
    mask = Mask({"0.weight": torch.ones(24, 12, dtype=torch.bool), "2.weight": torch.ones(4, 25, dtype=torch.bool)})
    write_tensors(other, mask.pack(), {"shapes": mask.shapes()})
    short.write_bytes(Path(path).read_bytes()[:-3])
    toy = session()
    for file, message in {
        path: f"the mask {path} is of another network: '0.weight' is missing there and",
        str(other): r"'2.weight' is \(4, 25\) there and \(4, 24\) here; name the mask of a run on this task",
        weights: "holds no mask; name the mask.safetensors of a finished run",
        str(short): "holds no mask",
        str(tmp_path / "none"): "holds no mask",
    }.items():
        with pytest.raises(UsageError, match=message) as caught:
            Static(file).sparsify(toy, 0.75)
        assert "\n" not in str(caught.value)
    assert toy.mask.is_dense
    with pytest.raises(UsageError, match=r"keeps 89 of 356 weights, which is sparsity 0\.75 and not 0\.5; ask for"):
        run(testing.ToyTask(), Static(path), 0.5)
    with pytest.raises(UsageError, match=r"none cannot be read \(No such file"):
        Static(str(tmp_path / "none")).fingerprint()
