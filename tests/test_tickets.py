"""Lottery tickets and soups: late rewinding, progressive pruning, Early-Bird, Lottery Pools, Instant Soup."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import Toy

from smcbench import Mask, Recipe, Session, plugins, testing
from smcbench.cache import Cache
from smcbench.criteria import magnitude
from smcbench.journal import Journal
from smcbench.session import build_model
from smcbench.sparsity.keep import keep
from smcbench.state import State
from smcbench_baselines.early_bird import EarlyBird, agree, channel_norms, channel_scores, forget, shrink
from smcbench_baselines.instant_soup import InstantSoup
from smcbench_baselines.lottery_pool import LotteryPool, greedy, interpolated
from smcbench_baselines.lth import LTH, LTHRewind
from smcbench_baselines.progressive import Progressive, linear_densities


class Recording(Session):
    """Notes how many weights are kept whenever training goes on; not in its forks."""

    kept: Sequence[int] = ()

    def train(self, *arguments: Any, **named: Any) -> None:
        self.kept = [*self.kept, self.mask.kept]
        super().train(*arguments, **named)


def linear(inputs: int, outputs: int, recipe: Recipe, magnitudes: Sequence[float] = ()) -> Recording:
    """A regression with one prunable matrix."""
    torch.manual_seed(0)
    net = nn.Linear(inputs, outputs, bias=False).double()
    if magnitudes:
        net.weight.data.copy_(torch.tensor(magnitudes).reshape(outputs, inputs))
    batches = [(torch.randn(8, inputs).double(), torch.randn(8, outputs).double()) for _ in range(3)]
    return Recording.of(net, loss=lambda m, b: F.mse_loss(m(b[0]), b[1]), batches=batches, recipe=recipe)  # type: ignore[return-value]


STILL = Recipe(steps=40, batch_size=8, lr=1e-12, optimizer="sgd")


def toy(steps: int = 40) -> Recording:
    task = Toy(recipe=Toy().recipe.replace(steps=steps))
    return Recording(task, build_model(task, 0), task.recipe)


# -- late rewinding


def test_late_rewinding_is_this_loop() -> None:
    recipe = Recipe(steps=20, batch_size=8, lr=0.1, optimizer="sgd", momentum=0.0, schedule="constant")
    s = linear(4, 3, recipe)
    w = s.model.weight.detach().numpy().copy()  # type: ignore[union-attr,operator]
    batches = [[t.numpy() for t in s._feed(i)[0]] for i in range(3)]  # type: ignore[misc]

    def trained(w: Any, mask: Any, start: int, stop: int) -> Any:
        for i in range(start, stop):
            x, y = batches[i % 3]
            w = (w - 0.1 * 2 / y.size * (x @ w.T - y).T @ x) * mask
        return w

    mask = np.ones_like(w)
    early = trained(w, mask, 0, 1)  # 5 % of 20 steps
    w = trained(early, mask, 1, 20)
    for count in (10, 8):  # of 12, 0.8 and 0.64
        threshold = np.sort(np.abs(w * mask).ravel())[-count]
        mask = np.abs(w * mask) >= threshold
        assert mask.sum() == count
        w = trained(early * mask, mask, 1, 20)

    LTHRewind().sparsify(s, 0.36)
    assert np.array_equal(s.mask["weight"].numpy(), mask)
    np.testing.assert_allclose(s.model.weight.detach().numpy(), w, atol=1e-12)  # type: ignore[union-attr,operator]


# -- progressive pruning


def test_a_tenth_of_all_weights_is_ten_by_what_remains() -> None:
    remaining, found = 1.0, []
    for _ in range(9):
        remaining *= 1 - 10 / (100 - 100 * (1 - remaining))
        found.append(remaining)
    assert linear_densities(0.1) == pytest.approx(found)
    assert linear_densities(0.1)[-1] == 0.1
    assert linear_densities(1 - 0.3) == [0.9, 0.8, 1 - 0.3]
    assert linear_densities(1.0) == []


def test_rounds_of_progressive_pruning() -> None:
    run = Recipe(steps=200, batch_size=8, lr=1.0)
    rounds = Progressive().rounds(run, 0.5)
    assert list(rounds) == [20, 40, 60, 80, 100]
    assert list(rounds.values()) == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert list(Progressive().rounds(run, 0.9)) == [11, 22, 33, 44, 56, 67, 78, 89, 100]  # nine within the half
    assert Progressive().rounds(run.replace(steps=10), 0.9) == pytest.approx({1: 0.8, 2: 0.6, 3: 0.4, 4: 0.2, 5: 0.1})


def test_a_run_of_progressive_pruning() -> None:
    s = linear(10, 10, STILL)
    smallest_first = s.weights["weight"].detach().abs().flatten().argsort()
    Progressive().sparsify(s, 0.25)
    assert s.kept == [100, 90, 80, 75]
    assert not s.mask["weight"].flatten()[smallest_first[:25]].any()


# -- Early-Bird


def places(*kept: int, total: int = 20) -> Mask:
    return Mask({"w": torch.isin(torch.arange(total), torch.tensor(kept))})


def test_a_ticket_emerges_when_it_agrees_with_each_of_the_four_before_it() -> None:
    a, b, c = places(*range(10)), places(*range(9), 10), places(*range(8), 10, 11)
    assert (a.distance(b), b.distance(c), a.distance(c)) == (0.1, 0.1, 0.2)
    memory: dict[str, Any] = {}
    seen = [agree(memory, mask, 0.1) for mask in (a, b, a, b, c, b, a, b, b)]
    #   four before it:            (a)  (a b) (aba) abab  babc  abcb  bcba  cbab
    assert seen == [False, False, False, False, False, True, False, True, True]
    forget(memory)
    assert memory == {}


def test_when_the_ticket_is_drawn() -> None:
    run = STILL.replace(steps=100)
    for tolerance, settled, step in ((0.1, 1, 10), (-1.0, 0, 50)):  # the fifth look; the last one, by half of the run
        s = linear(10, 10, run)
        EarlyBird(tolerance=tolerance).sparsify(s, 0.5)
        assert s.memory == {"emerged": step, "settled": settled}
        assert (s.conduct.first_prune, s.conduct.mask_updates, s.account.steps) == (step, 1, 100)
        assert s.mask == keep(magnitude(linear(10, 10, run)), 0.5)


class Channels(nn.Module):
    """Modules stand in another order than they are called; one norm follows no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm2, self.conv1 = nn.BatchNorm2d(2), nn.Conv2d(1, 2, 2, bias=False)
        self.conv2, self.norm1, self.lone = nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 2)
        self.norm1.weight.data = torch.tensor([0.5, -2.0])
        self.norm2.weight.data = torch.tensor([1.0, 0.25])

    def forward(self, x: Tensor) -> Tensor:
        x = self.lone(F.relu(self.norm1(self.conv1(x))))
        return self.head(self.norm2(self.conv2(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def channels() -> Session:
    torch.manual_seed(0)
    batch = torch.randn(8, 1, 3, 3), torch.randint(2, (8,))
    recipe = Recipe(steps=100, batch_size=8, lr=1e-3, weight_decay=0.0)
    return Session.of(Channels(), loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]), batches=[batch], recipe=recipe)


def test_channel_scores() -> None:
    s = channels()
    before = s.snapshot().digest()
    norms = channel_norms(s)
    assert norms == {"conv1.weight": s.model.norm1, "conv2.weight": s.model.norm2}
    assert s.snapshot().digest() == before
    assert not any(module._forward_hooks for module in s.model.modules())
    scores = channel_scores(s.weights, norms)
    assert scores["conv1.weight"].flatten().tolist() == [0.5] * 4 + [2.0] * 4
    assert scores["conv2.weight"].flatten().tolist() == [1.0, 1.0, 0.25, 0.25]
    assert scores["head.weight"].isinf().all()
    # Eleven of sixteen: the head's 4, then the channels of scale 2 and 1 with 4 and 2, and one of the next.
    mask = keep(scores, 11 / 16)
    assert mask["head.weight"].all()
    assert mask["conv1.weight"].flatten().tolist() == [True] + [False] * 3 + [True] * 4
    assert mask["conv2.weight"].flatten().tolist() == [True, True, False, False]


def test_the_penalty_on_scales() -> None:
    model = Channels()
    model.norm1.weight.grad, model.norm2.weight.grad = torch.tensor([0.5, 0.5]), torch.zeros(2)
    shrink(model, 0.25)
    assert model.norm1.weight.grad.tolist() == [0.75, 0.25]
    assert model.norm2.weight.grad.tolist() == [0.25, 0.25]
    assert model.lone.weight.grad is None


def test_a_ticket_of_channels() -> None:
    s = channels()
    EarlyBird(by="channels").sparsify(s, 0.5)  # the head and the channel of the largest scale
    assert s.mask.layer_densities() == {"conv1.weight": 0.5, "conv2.weight": 0.0, "head.weight": 1.0}
    assert s.mask["conv1.weight"][1].all()
    testing.check_sparsifier(EarlyBird(by="channels"), plugins.load_task("digits").tiny())


def test_where_channels_are_no_choice() -> None:
    structured = EarlyBird(by="channels")
    assert "no batch norm" in str(structured.skip(Toy(), 0.5))
    assert "at most 28%" in str(structured.skip(testing.ToyTask(), 0.2))  # 36 + 64 of 356 weights make 4 channels
    digits = plugins.load_task("digits")
    assert structured.skip(digits, 0.9) is None
    assert EarlyBird().skip(testing.ToyTask(), 0.9) is None


# -- Lottery Pools


def test_the_greedy_choice_on_a_made_validation_curve() -> None:
    asked: list[float] = []

    def score(x: float) -> float:
        asked.append(x)
        return -abs(x - 0.42)

    def mix(pool: float, other: float, alpha: float) -> float:
        return alpha * other + (1 - alpha) * pool

    # 0 with 1: .5 is the best of .25, .5, .75; with 0: .375 of .375, .25, .125 beats it; with 1: .53 and more do not.
    assert greedy(0.0, [1.0, 0.0, 1.0], (0.25, 0.5, 0.75), mix, score) == 0.375
    assert asked == [0.0, 0.25, 0.5, 0.75, 0.375, 0.25, 0.125, 0.53125, 0.6875, 0.84375]
    assert greedy(0.42, [1.0, 0.0], (0.5,), mix, score) == 0.42
    assert greedy(0.1, [], (0.5,), mix, score) == 0.1


def test_interpolation_and_pruning_to_the_exact_density() -> None:
    draw = np.random.default_rng(0)

    def state() -> State:
        tensors = {
            key: torch.from_numpy(draw.normal(size=size)) for key, size in (("a", (3, 4)), ("b", 8), ("mean", 2))
        }
        mask = keep({key: tensors[key].abs() for key in ("a", "b")}, 0.5)
        return State({**{k: v * mask[k] if k in mask else v for k, v in tensors.items()},
                      "batches": torch.tensor(draw.integers(9))}, mask)  # fmt: skip

    pool, other = state(), state()
    mixed = interpolated(pool, other, 0.3, 0.4)
    expected = {key: 0.3 * other.tensors[key].numpy() + 0.7 * pool.tensors[key].numpy() for key in ("a", "b", "mean")}
    threshold = np.sort(np.abs(np.concatenate([expected["a"].ravel(), expected["b"]])))[-8]  # 0.4 of 20
    for key in ("a", "b"):
        expected[key][np.abs(expected[key]) < threshold] = 0
        assert np.array_equal(mixed.mask[key].numpy(), expected[key] != 0)
    for key, value in expected.items():
        np.testing.assert_allclose(mixed.tensors[key].numpy(), value, atol=1e-15)
    assert mixed.tensors["batches"] == pool.tensors["batches"]
    assert mixed.mask.kept == 8


def test_a_pool_shares_the_chain_of_lth_and_is_no_worse(tmp_path: Path) -> None:
    task = testing.ToyTask()
    found = {}
    for method in (LTH(), LotteryPool(neighbours=2)):
        journal = Journal(tmp_path / type(method).__name__, type(method).__name__, Cache(tmp_path / "cache"))
        s = Session(task, build_model(task, 0), task.recipe, journal=journal)
        method.sparsify(s, 0.5904)
        found[type(method)] = s, [entry["stored"] for entry in journal._entries]
    (chain, computed), (pool, shared) = found[LTH], found[LotteryPool]
    assert computed == [False] * 5  # dense, and four tickets
    assert shared == [True] * 5
    assert pool.account.steps == chain.account.steps
    assert pool.evaluate()["accuracy"] >= chain.evaluate()["accuracy"]
    assert pool.mask.kept == chain.mask.kept


# -- Instant Soup


class Denoiser:
    """A copy whose weak training has this outcome."""

    position = 0

    def __init__(self, *magnitudes: float) -> None:
        self.weights = {"weight": torch.tensor([magnitudes], dtype=torch.float64)}
        self.mask = Mask.dense(self.weights)

    def train(self, start: int, stop: int) -> None:
        """Done."""

    def prune(self, scores: Any, density: float) -> None:
        self.mask = keep(scores, density)


def test_the_union_and_its_trimming(monkeypatch: pytest.MonkeyPatch) -> None:
    main = linear(10, 1, STILL, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    made = {1: (10, 9, 8, 7, 6, 5, 4, 3, 2, 1), 2: (1, 2, 3, 10, 9, 8, 7, 4, 5, 6)}
    monkeypatch.setattr(Session, "fork", lambda self, seed: Denoiser(*made[seed]))
    both = [0, 1, 2, 3, 4, 5, 6, 9]  # the first keeps 0 to 4, the second 3 to 6 and 9
    assert InstantSoup(denoisers=2).soup(main, 0.5)["weight"].nonzero()[:, 1].tolist() == both
    InstantSoup(denoisers=2, rate=0.5).sparsify(main, 0.5)
    assert main.kept == [10, 5]
    assert main.mask["weight"].nonzero()[:, 1].tolist() == [3, 4, 5, 6, 9]  # without 7 and 8, its second and third

    # Untrimmed: 8 are left of the first union, 7 of the second, of 0 to 3 and 3 to 6, and of the 18 that are like it.
    main = linear(10, 1, STILL, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    InstantSoup(denoisers=2, rate=0.5, trim=False).sparsify(main, 0.6)
    assert main.kept == [10, 8, *[7] * 18, 4]
    assert main.mask["weight"].nonzero()[:, 1].tolist() == [3, 4, 5, 6]


ROUNDS = [
    (0.5, True, [100, 90, 81, 73, 66, 59, 53, 50]),  # 0.9^k of 100
    (0.5, False, [100, 90, 81, 73, 66, 59, 53, 50]),  # 3 points are left for the last cut
    (0.25, True, [100, 90, 81, 75]),
    (0.25, False, [100, 90, 81, 75, 75]),  # 6 points call for one more round, that must not go too far
    (0.22, False, [100, 90, 81, 78]),
]


@pytest.mark.parametrize(("sparsity", "trim", "kept"), ROUNDS)
def test_rounds_of_the_soup(sparsity: float, trim: bool, kept: list[int]) -> None:
    s = linear(10, 10, STILL)
    InstantSoup(trim=trim).sparsify(s, sparsity)  # nothing moves, so that all denoisers agree
    assert s.kept == kept


def test_denoisers_that_disagree_make_a_larger_soup() -> None:
    trimmed, untrimmed = toy(60), toy(60)
    total = trimmed.mask.total
    InstantSoup(weak=0.05).sparsify(trimmed, 0.5)
    InstantSoup(weak=0.05, trim=False).sparsify(untrimmed, 0.5)
    assert list(trimmed.kept) == [round(total * 0.9**k) for k in range(7)] + [total // 2]
    rounds = list(untrimmed.kept)
    grown = [after - round(0.9 * before) for before, after in itertools.pairwise(rounds[:-1])]
    assert min(grown) >= 0 < max(grown)
    assert untrimmed.mask.kept == total // 2


def test_all_rounds_end_by_half_of_the_run() -> None:
    run = Recipe(steps=400, batch_size=8, lr=1.0)
    few, many = InstantSoup().rounds(run, 0.5), InstantSoup().rounds(run, 0.95)
    assert list(few) == [10, 20, 30, 40, 50, 60, 70]
    assert (len(many), max(many)) == (29, 200)
    assert list(InstantSoup(trim=False).rounds(run, 0.95)) == [10 * k for k in range(1, 21)]


def test_one_denoiser_that_is_not_trained_is_progressive_pruning() -> None:
    soup, progressive = toy(), toy()
    InstantSoup(denoisers=1, weak=0.0, interval=0.1).sparsify(soup, 0.75)
    Progressive(of="remaining").sparsify(progressive, 0.75)
    assert soup.kept == progressive.kept
    assert len(set(soup.kept)) > 5
    assert soup.snapshot().digest() == progressive.snapshot().digest()
    assert soup.account.train_flops == progressive.account.train_flops
    trained = toy()
    InstantSoup(interval=0.1).sparsify(trained, 0.75)
    assert trained.snapshot().digest() != progressive.snapshot().digest()


def test_denoisers_leave_the_network_s_optimizer_alone() -> None:
    alone, forked = toy(), toy()
    for s in (alone, forked):
        s.train(0, 5)
    forked.fork(seed=1).train(5, 10)
    for s in (alone, forked):
        s.train(5)
    assert alone.snapshot().digest() == forked.snapshot().digest()


# -- what they cost
