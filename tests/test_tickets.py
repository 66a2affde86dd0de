"""Lottery tickets and soups: rewinding, progressive pruning, Early-Bird, Lottery Pools, Instant Soup."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import Toy

from smcbench import Evaluation, Mask, Metric, Recipe, Session, Sparsifier, plugins, testing
from smcbench.cache import Cache
from smcbench.criteria import magnitude
from smcbench.feed import TaskFeed
from smcbench.journal import Journal
from smcbench.session import build_model
from smcbench.sparsity.keep import keep
from smcbench.state import State
from smcbench.task import Split
from smcbench_baselines.early_bird import EarlyBird, agree, channel_norms, channel_scores, forget, shrink
from smcbench_baselines.gmp import GMP
from smcbench_baselines.instant_soup import InstantSoup
from smcbench_baselines.lottery_pool import ALPHAS, LotteryPool, greedy, interpolated
from smcbench_baselines.lth import LTH, LRRewind, LTHRewind
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


# -- rewinding


Rewind = tuple[LTH | LRRewind, float, bool]
REWINDS: dict[str, Rewind] = {
    "lth": (LTH(), 0.0, True),
    "lth-rewind": (LTHRewind(), 0.05, True),
    "lr-rewind": (LRRewind(), 0.0, False),
    "lr-rewind to a quarter": (LRRewind(rewind_to=0.25), 0.25, False),
}


@pytest.mark.parametrize(("method", "rewind_to", "weights_too"), REWINDS.values(), ids=REWINDS)
def test_rewinding_is_this_loop(method: LTH | LRRewind, rewind_to: float, weights_too: bool) -> None:
    """Round by round, gradient descent on least squares, whose rate falls in a line; to step 0, 1 or 5 of 20."""
    recipe = Recipe(steps=20, batch_size=8, lr=0.2, optimizer="sgd", momentum=0.0, schedule="linear")
    s = linear(4, 3, recipe)
    w = s.model.weight.detach().numpy().copy()  # type: ignore[union-attr,operator]
    batches = [[t.numpy() for t in s._feed(i)[0]] for i in range(3)]  # type: ignore[misc]

    def trained(w: Any, mask: Any, start: int, stop: int) -> Any:
        for i in range(start, stop):
            x, y = batches[i % 3]
            w = (w - 0.2 * (1 - i / 20) * 2 / y.size * (x @ w.T - y).T @ x) * mask
        return w

    mask, start = np.ones_like(w), round(rewind_to * 20)
    early = trained(w, mask, 0, start)
    w = trained(early, mask, start, 20)
    for count in (10, 8):  # of 12, 0.8 and 0.64
        threshold = np.sort(np.abs(w * mask).ravel())[-count]
        mask = np.abs(w * mask) >= threshold
        assert mask.sum() == count
        w = trained((early if weights_too else w) * mask, mask, start, 20)

    method.sparsify(s, 0.36)
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
    assert linear_densities(0.1, start=0.27) == pytest.approx([0.17, 0.1])
    assert linear_densities(0.07, start=0.27) == pytest.approx([0.17, 0.07])
    assert linear_densities(0.27, start=0.27) == []


def test_rounds_of_progressive_pruning() -> None:
    s = linear(10, 10, STILL.replace(steps=200))
    rounds = Progressive().rounds(s, 0.5)
    assert list(rounds) == [20, 40, 60, 80, 100]
    assert list(rounds.values()) == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert list(Progressive().rounds(s, 0.9)) == [11, 22, 33, 44, 56, 67, 78, 89, 100]  # nine within the half
    short = linear(10, 10, STILL.replace(steps=10))
    assert Progressive().rounds(short, 0.9) == pytest.approx({1: 0.8, 2: 0.6, 3: 0.4, 4: 0.2, 5: 0.1})
    s.prune(magnitude(s), density=0.65)  # as a sparse checkpoint may be: the rounds start there
    assert Progressive().rounds(s, 0.6) == pytest.approx({20: 0.55, 40: 0.45, 60: 0.4})
    assert Progressive(of="remaining").rounds(s, 0.6) == pytest.approx(
        {20: 0.585, 40: 0.5265, 60: 0.47385, 80: 0.426465, 100: 0.4}
    )
    assert Progressive().rounds(s, 0.35) == {}


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
    still = STILL.replace(steps=100)
    moving = still.replace(lr=1.0, schedule="constant")  # so far at each step that no five masks are the same
    for run, settled, step in ((still, 1, 10), (moving, 0, 50)):  # the fifth look; the last one, by half of the run
        s, dense = linear(10, 10, run), linear(10, 10, run)
        EarlyBird(tolerance=0.0).sparsify(s, 0.5)
        assert s.memory == {"emerged": step, "settled": settled}
        assert (s.conduct.first_prune, s.conduct.mask_updates, s.account.steps) == (step, 1, 100)
        dense.train(0, step)
        assert s.mask == keep(magnitude(dense), 0.5)


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


def channels(recipe: Recipe, importance: float = 1.0) -> Session:
    """A session that trains on the loss so many times."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return importance * F.cross_entropy(model(batch[0]), batch[1])

    torch.manual_seed(0)
    batch = torch.randn(8, 1, 3, 3), torch.randint(2, (8,))
    return Session.of(Channels(), loss=loss, batches=[batch], recipe=recipe)


LEARNS = Recipe(steps=100, batch_size=8, lr=1e-3, weight_decay=0.0)


def test_channel_scores() -> None:
    s = channels(LEARNS)
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


def test_the_penalty_goes_on_after_the_draw() -> None:
    """Without a loss, a hundred steps at a rate of 0.1 move each scale by 100 * 0.1 * 0.01 towards zero."""
    recipe = Recipe(steps=100, batch_size=8, lr=0.1, optimizer="sgd", momentum=0.0, schedule="constant")
    s = channels(recipe, importance=0.0)
    EarlyBird(by="channels", penalty=0.01).sparsify(s, 0.5)
    assert s.memory["emerged"] == 10
    assert s.model.norm1.weight.tolist() == pytest.approx([0.4, -1.9], abs=1e-4)  # type: ignore[union-attr,operator]
    assert s.model.norm2.weight.tolist() == pytest.approx([0.9, 0.15], abs=1e-4)  # type: ignore[union-attr,operator]
    untouched = channels(recipe, importance=0.0)
    EarlyBird(by="magnitude", penalty=0.01).sparsify(untouched, 0.5)
    assert untouched.model.norm1.weight.tolist() == [0.5, -2.0]  # type: ignore[union-attr,operator]


def test_a_ticket_of_channels() -> None:
    s = channels(LEARNS)
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


class Normed(Toy):
    """The toy with a batch norm, which is looked at for its validation loss, in one direction or the other."""

    sign: ClassVar[int] = -1
    metric: ClassVar[Metric] = Metric("minus loss", unit="")

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        batch = self.collate(list(self.data(split)))
        sparse_model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(sparse_model(batch["x"]), batch["y"]).item()
        return Evaluation({self.metric.name: self.sign * loss}, {})


class LowerIsBetter(Normed):
    sign = 1
    metric = Metric("loss", unit="", higher_is_better=False)


def test_the_pool_is_this_loop() -> None:
    """In NumPy: a pool of five trained tickets of which the last four count, in either direction of the metric."""
    task = Normed(recipe=Toy().recipe.replace(steps=60, lr=0.05, schedule="constant"))
    chain = Session(task, build_model(task, 0), task.recipe)
    states = [{k: v.numpy() for k, v in chain.snapshot().tensors.items()} for _ in LTH().levels(chain, 0.5904)]
    feed, validation = TaskFeed(task, task.recipe, 0, torch.device("cpu")), task.collate(list(task.data("validation")))
    x, y = validation["x"].numpy(), validation["y"].numpy()
    inputs = [feed(i)[0]["x"].numpy() for i in range(16)]

    def mixed(pool: Any, other: Any, alpha: float) -> Any:
        found = {k: v if k == "1.num_batches_tracked" else alpha * other[k] + (1 - alpha) * v for k, v in pool.items()}
        threshold = np.sort(np.concatenate([abs(found[k]).ravel() for k in ("0.weight", "3.weight")]))[-52]
        for k in ("0.weight", "3.weight"):  # 0.4096 of 128 weights
            found[k] = found[k] * (abs(found[k]) >= threshold)
        hidden = [batch @ found["0.weight"].T for batch in inputs]
        found["1.running_mean"] = np.mean([h.mean(0) for h in hidden], axis=0)
        found["1.running_var"] = np.mean([h.var(0, ddof=1) for h in hidden], axis=0)
        return found

    def loss(state: Any) -> float:
        hidden = (x @ state["0.weight"].T - state["1.running_mean"]) / np.sqrt(state["1.running_var"] + 1e-5)
        logits = np.maximum(hidden * state["1.weight"] + state["1.bias"], 0) @ state["3.weight"].T + state["3.bias"]
        return float((np.log(np.exp(logits).sum(1)) - logits[range(len(y)), y]).mean())

    pool, taken = states[4], []
    for candidate in (3, 2, 1):
        mixtures = {alpha: mixed(pool, states[candidate], alpha) for alpha in ALPHAS} | {0.0: pool}
        taken.append(min(mixtures, key=lambda alpha: loss(mixtures[alpha])))
        pool = mixtures[taken[-1]]
    assert min(taken) > 0  # each of the three is mixed in

    for kind in (Normed, LowerIsBetter):
        s = Session(kind(recipe=task.recipe), build_model(task, 0), task.recipe)
        LotteryPool(neighbours=3).sparsify(s, 0.5904)
        found = s.snapshot()
        assert found.mask.kept == 52
        for key in pool.keys() - {"1.num_batches_tracked"}:
            np.testing.assert_allclose(found.tensors[key].numpy(), pool[key], atol=1e-10)


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
    s = linear(10, 10, STILL.replace(steps=400))
    few, many = InstantSoup().rounds(s, 0.5), InstantSoup().rounds(s, 0.95)
    assert list(few) == [10, 20, 30, 40, 50, 60, 70]
    assert (len(many), max(many)) == (29, 200)
    assert list(InstantSoup(trim=False).rounds(s, 0.95)) == [10 * k for k in range(1, 21)]


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


# -- a sparse start


class Sparse(Toy):
    """A checkpoint that keeps 104 of 384 weights."""

    @property
    def starts_sparse(self) -> bool:
        return True

    def build_model(self) -> nn.Module:
        model = super().build_model()
        names = ["0.weight", "2.weight"]
        for name, bits in keep({name: model.get_parameter(name).detach().abs() for name in names}, 0.27).items():
            model.get_parameter(name).data *= bits
        return model


class Watching(Session):
    """Notes the mask of each of its steps and of its forks'."""

    masks: ClassVar[list[Mask]] = []

    def _charge(self, steps: int, mask: Mask, *arguments: Any, **named: Any) -> None:
        self.masks.append(mask)
        super()._charge(steps, mask, *arguments, **named)


SPARSE_STARTS: dict[str, tuple[Sparsifier, int, int]] = {  # events, trainings
    "gmp": (GMP(interval=0.1), 6, 1),  # six after the start of the window
    "lth": (LTH(), 5, 6),  # 0.27 * 0.8^k for k = 1 to 4, and 0.1
    "lr-rewind": (LRRewind(), 5, 6),
    "progressive": (Progressive(), 2, 1),  # 0.17, 0.1
    "instant-soup": (InstantSoup(denoisers=2), 10, 1),  # 0.27 * 0.9^k for k = 1 to 9, and 0.1
}


@pytest.mark.parametrize(("method", "events", "trainings"), SPARSE_STARTS.values(), ids=SPARSE_STARTS)
def test_a_sparse_start_only_gets_sparser(
    method: Sparsifier, events: int, trainings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Mask] = []
    monkeypatch.setattr(Watching, "masks", masks)
    task = Sparse(recipe=Toy().recipe.replace(steps=40))
    s = Watching(task, build_model(task, 0), task.recipe)
    checkpoint = Mask.of_nonzeros(s.weights)
    assert checkpoint.kept == 104
    method.sparsify(s, 0.9)
    assert masks[0] == checkpoint
    assert masks[-1].kept == s.mask.kept == 38
    assert all((mask & ~checkpoint).kept == 0 for mask in masks)
    assert (Mask.of_nonzeros(s.weights) & ~s.mask).kept == 0
    assert s.conduct.peak_density == 104 / 384
    assert (s.conduct.mask_updates, s.conduct.regrown) == (events, 0)
    extra = 2 * 10 if isinstance(method, InstantSoup) else 0  # a step of each denoiser
    assert s.account.steps == 40 * trainings + extra == len(masks)
