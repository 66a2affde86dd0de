"""Criteria against independent computations: explicit masks, an explicit Hessian, explicit paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from smcbench import Recipe, Session, Sparsifier, Task, plugins, testing
from smcbench.criteria import SynapticFlow, connection_sensitivity, gradient_flow
from smcbench.errors import UsageError
from smcbench.session import build_model
from smcbench.task import Batch
from smcbench_baselines.grasp import GraSP
from smcbench_baselines.snip import SNIP, IterativeSNIP
from smcbench_baselines.synflow import SynFlow

WIDTHS = (5, 6, 4, 3)


def perceptron(bias: bool = True, rate: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.Tanh(), nn.Dropout(rate)]
    return nn.Sequential(*layers[:-2]).double()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(7, WIDTHS[0], generator=draw, dtype=torch.float64)
    return x, torch.randint(WIDTHS[-1], (7,), generator=draw)


def loss(model: Callable[[Tensor], Tensor], one: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(one[0]), one[1])


def session(model: nn.Module, batches: Sequence[Any], loss: Any = loss) -> Session:
    return Session.of(model, loss=loss, batches=batches, recipe=Recipe(steps=4, batch_size=7, lr=0.01))


def flat(scores: Any) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in scores.values()])


def masks_of(method: Sparsifier, s: Session, sparsity: float, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The masks a method goes through before it trains."""
    seen: list[Any] = []
    prune = Session.prune

    def watched(self: Session, *args: Any, **kwargs: Any) -> None:
        prune(self, *args, **kwargs)
        seen.append(self.mask)

    monkeypatch.setattr(Session, "prune", watched)
    monkeypatch.setattr(Session, "train", lambda self: None)
    method.sparsify(s, sparsity)
    monkeypatch.undo()
    return seen


# -- SNIP


def test_snip_is_the_gradient_of_explicit_masks() -> None:
    model, batches = perceptron(), [batch(1), batch(2)]
    s = session(model, batches)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    masks = {name: torch.ones_like(w).requires_grad_() for name, w in s.weights.items()}
    masked = {name: p * masks[name] if name in masks else p for name, p in parameters.items()}
    total = sum(loss(lambda x: functional_call(model, masked, (x,)), one) for one in batches) / 2
    wanted = torch.autograd.grad(total, list(masks.values()))  # type: ignore[arg-type]
    for score, gradient in zip(connection_sensitivity(s, 2).values(), wanted, strict=True):
        torch.testing.assert_close(score, gradient.abs())


def test_snip_looks_at_the_batches_asked_for() -> None:
    one = connection_sensitivity(session(perceptron(), [batch(1), batch(2)]), first=1)
    torch.testing.assert_close(flat(one), flat(connection_sensitivity(session(perceptron(), [batch(2)]))))


def test_one_round_of_iterative_snip_is_snip(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        masks_of(method, session(perceptron(), [batch(1)]), 0.6, monkeypatch)[-1]
        for method in (SNIP(), IterativeSNIP(rounds=1))
    ]
    assert found[0] == found[1]


def test_iterative_snip_scores_what_is_left_on_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [batch(1), batch(2), batch(3)]
    found = masks_of(IterativeSNIP(rounds=3), session(perceptron(), batches), 0.784, monkeypatch)
    model = perceptron()
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    weights = [model.get_parameter(name) for name in names]
    kept = np.ones(66, bool)
    for mask, one, count in zip(found, batches, (40, 24, 14), strict=True):  # 66 weights by .6, .36, .216
        scores = torch.cat(
            [
                (w * g).abs().flatten()
                for w, g in zip(weights, torch.autograd.grad(loss(model, one), weights), strict=True)
            ]
        )
        order = np.argsort(np.where(kept, scores.detach().numpy(), -1.0))
        kept = np.zeros(66, bool)
        kept[order[-count:]] = True
        assert np.array_equal(flat(mask).numpy(), kept)
        for w, part in zip(weights, torch.from_numpy(kept).split([w.numel() for w in weights]), strict=True):
            w.data *= part.view(w.shape)


# -- GraSP


def explicit(s: Session, data: Sequence[tuple[Tensor, Tensor]], temperature: float) -> tuple[Tensor, Tensor]:
    """The Hessian and the gradient of the mean loss by all weights, as one vector."""
    sizes = {name: w.shape for name, w in s.weights.items()}

    def total(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in sizes.values()])
        weights = {name: part.view(shape) for (name, shape), part in zip(sizes.items(), parts, strict=True)}
        losses = [loss(lambda x: functional_call(s.model, weights, (x,)) / temperature, one) for one in data]
        return torch.stack(losses).mean()

    w = flat(s.weights).detach()
    hessian: Tensor = torch.autograd.functional.hessian(total, w)  # type: ignore[assignment,no-untyped-call]
    gradient: Tensor = torch.autograd.functional.jacobian(total, w)  # type: ignore[no-untyped-call]
    return hessian, gradient


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_grasp_is_weight_times_hessian_times_gradient(batches: int, temperature: float) -> None:
    data = [batch(seed) for seed in range(batches)]
    s = session(perceptron(), data)
    w = flat(s.weights).detach()
    hessian, gradient = explicit(s, data, temperature)
    torch.testing.assert_close(flat(gradient_flow(s, batches, temperature)), w * (hessian @ gradient))
    assert s.account.gradient_evaluations == (3 if batches == 1 else 4 * batches)


def test_grasp_removes_what_holds_the_gradient_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one weight a, b each, loss a^2 + 2 b^2: g = (2a, 4b), Hg = (4a, 16b), w Hg = (4a^2, 16b^2)."""
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data = torch.tensor([[1.5, 1.0]], dtype=torch.float64)
    scale = torch.tensor([[1.0, 2.0]], dtype=torch.float64)

    def quadratic(m: Any, one: Tensor) -> Tensor:
        m(one)
        return (m.weight.square() * scale).sum()

    s = session(model, [scale], quadratic)
    torch.testing.assert_close(gradient_flow(s)["weight"], torch.tensor([[9.0, 16.0]], dtype=torch.float64))
    assert masks_of(GraSP(batches=1), s, 0.5, monkeypatch)[0]["weight"].tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("method", "asked"), [(GraSP(), (4, 200.0)), (GraSP(batches=1, temperature=1.0), (1, 1.0))], ids=["default", "one"]
)
def test_grasp_takes_the_batches_and_the_temperature_it_says(
    method: GraSP, asked: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the product with an explicit Hessian, for every number of batches and temperature: one of them is its own."""
    data = [batch(seed) for seed in range(4)]
    found: dict[tuple[int, float], list[bool]] = {}
    for batches, temperature in itertools.product((1, 4), (1.0, 200.0)):
        s = session(perceptron(), data)
        w = flat(s.weights).detach()
        hessian, gradient = explicit(s, data[:batches], temperature)
        found[batches, temperature] = (w * (hessian @ gradient) >= (w * (hessian @ gradient)).topk(26)[0][-1]).tolist()
    assert len(set(map(tuple, found.values()))) == len(found)
    mask = flat(masks_of(method, session(perceptron(), data), 0.6, monkeypatch)[0])  # 26 of 66
    assert mask.tolist() == found[asked]


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("accumulate", [2, 8])
def test_grasp_of_micro_batches_is_that_of_the_batch(batches: int, accumulate: int) -> None:
    whole, parts = (
        toy.session(task=replace(toy.Toy(), recipe=toy.Toy().recipe.replace(accumulate=number)))
        for number in (1, accumulate)
    )
    one, other = (flat(gradient_flow(s, batches, 3.0)) for s in (whole, parts))
    assert one.abs().max() > 1e-6
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-15)


class Recurrent(nn.Module):
    """What has fused kernels: a recurrent layer and attention; the output is an object with logits."""

    class Said:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        states, _ = self.lstm(x)
        return self.Said(self.head(F.scaled_dot_product_attention(states, states, states)[:, -1]))


def test_grasp_on_fused_kernels_is_the_slope_of_the_gradients_norm() -> None:
    torch.manual_seed(1)
    model, x, y = Recurrent().double(), torch.randn(4, 5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0])

    def soft(m: Any, one: Any) -> Tensor:
        return F.cross_entropy(m(one[0]).logits, one[1])

    s = session(model, [(x, y)], soft)
    found = gradient_flow(s, temperature=2.0)
    weights = list(s.weights.values())

    def norm() -> float:
        gradients = torch.autograd.grad(F.cross_entropy(model(x).logits / 2.0, y), weights)
        return sum(g.square().sum().item() for g in gradients)

    for name, weight in s.weights.items():  # w * d(g'g)/dw = 2 w * Hg
        step, value = 1e-5, weight.data[0, 0].item()
        weight.data[0, 0] = value + step
        above = norm()
        weight.data[0, 0] = value - step
        slope = (above - norm()) / (2 * step)
        weight.data[0, 0] = value
        assert found[name][0, 0].item() == pytest.approx(value * slope / 2, rel=1e-4, abs=1e-10)


# -- SynFlow


def paths(weights: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """For every weight the sum, over all paths through it, of the product of the magnitudes on the path."""
    scores = [np.zeros_like(w) for w in weights]
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    for path in itertools.product(*map(range, sizes)):
        edges = [(to, at) for at, to in itertools.pairwise(path)]
        product = np.prod([abs(w[edge]) for w, edge in zip(weights, edges, strict=True)])
        for score, edge in zip(scores, edges, strict=True):
            score[edge] += product
    return scores


def linear(bias: bool = False) -> nn.Module:
    """Like a perceptron with ReLU on magnitudes, which never cut."""
    torch.manual_seed(3)
    layers = [nn.Sequential(nn.Linear(a, b, bias=bias), nn.ReLU()) for a, b in itertools.pairwise(WIDTHS)]
    return nn.Sequential(*layers).double()


def test_synflow_is_the_sum_over_paths() -> None:
    s = session(linear(), [batch(1)])
    one = session(linear(), [tuple(tensor[:1] for tensor in batch(1))])
    wanted = paths([w.detach().numpy() for w in s.weights.values()])
    for score, path, examples in zip(SynapticFlow(one)().values(), wanted, SynapticFlow(s)().values(), strict=True):
        np.testing.assert_allclose(score.numpy(), path)
        np.testing.assert_allclose(examples.numpy(), 7 * path)  # as many as the batch holds: the same order


def test_synflow_scores_are_those_under_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    s = session(linear(), [batch(1)])
    weights = [w.detach().numpy().copy() for w in s.weights.values()]
    kept = np.ones(66, bool)
    for mask, count in zip(masks_of(SynFlow(rounds=3), s, 0.784, monkeypatch), (40, 24, 14), strict=True):
        scores = np.concatenate([score.ravel() for score in paths(weights)])
        kept = np.zeros(66, bool)
        kept[np.argsort(scores)[-count:]] = True
        assert np.array_equal(flat(mask).numpy(), kept)
        weights = [w * m.numpy() for w, m in zip(weights, mask.values(), strict=True)]


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    sums = [score.sum().item() for score in SynapticFlow(session(linear(), [batch(1)]))().values()]
    assert sums == pytest.approx([sums[0]] * 3)


def test_synflow_takes_the_magnitudes_of_buffers_and_the_evaluation_mode() -> None:
    """One weight w, batch norm with mean -1, variance 4, factor -3 and shift 5: R = 3 (|w| - 1) / 2 + 5."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0))
    norm: Any = model[1]
    for tensor, value in ((model[0].weight, -2.5), (norm.running_mean, -1.0), (norm.running_var, 4.0),
                          (norm.weight, -3.0), (norm.bias, 5.0)):  # fmt: skip
        tensor.data.fill_(value)  # type: ignore[union-attr,operator]
    s = session(model, [(torch.zeros(1, 1, 1, 1), torch.zeros(1))], lambda m, one: m(one[0]).sum())
    assert SynapticFlow(s)()["0.weight"].item() == pytest.approx(2.5 * 3 / 2)
    assert model[0].weight.item() == -2.5  # type: ignore[operator]


def test_synflow_keeps_the_counts_of_an_exponential_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 4, bias=False))
    s = session(model, [torch.zeros(1, 20)], lambda m, one: m(one).sum())
    assert s.mask.total == 720
    kept = [mask.kept for mask in masks_of(SynFlow(), s, 0.99, monkeypatch)]
    assert len(kept) == 100
    # .01^(k/100): .9550 after the first round, .1 after half of them, .0316 after three quarters
    assert [kept[k - 1] for k in (1, 25, 50, 75, 100)] == [688, 228, 72, 23, 7]


def test_synflow_sees_through_what_single_precision_cannot() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(60)])
    with torch.no_grad():
        for p in model.parameters():
            p *= 0.05
    scores = SynapticFlow(session(model, [torch.zeros(1, 8)], lambda m, one: m(one).sum()))()
    sums = [score.sum().item() for score in scores.values()]
    assert 0 < sums[0] < torch.finfo(torch.float32).tiny
    assert sums == pytest.approx([sums[0]] * 60, rel=1e-9)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(9, 4), nn.Embedding(6, 4), nn.Linear(4, 2, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words) + self.places(torch.arange(words.shape[1])))  # type: ignore[no-any-return]


def test_synflow_reads_a_table_of_words_as_a_matrix_under_equal_entries() -> None:
    torch.manual_seed(0)
    model = Words().double()
    s = session(model, [torch.tensor([[3, 1, 3, 8]])], lambda m, one: m(one).sum())
    found = SynapticFlow(s)()
    table, places, head = (w.detach().abs().numpy() for w in s.weights.values())
    flow = head.sum(axis=0)
    np.testing.assert_allclose(found["table.weight"], 4 / 9 * table * flow)  # at four places, a ninth each
    seen = np.arange(6)[:, None] < 4
    np.testing.assert_allclose(found["places.weight"], places * flow * seen)
    np.testing.assert_allclose(found["head.weight"], head * (4 * table.mean(axis=0) + places[:4].sum(axis=0)))


def test_synflow_leaves_a_task_through_which_nothing_flows() -> None:
    reason = SynFlow().skip(plugins.load_task("fireprotdb-small"), 0.5)
    assert reason is not None
    assert "mutant" in reason
    assert SynFlow().skip(plugins.load_task("lattice-protein-mini"), 0.5) is None


def other_data(one: Batch) -> Batch:
    """The same form, other content: what the network is asked about is drawn anew."""
    draw = torch.Generator().manual_seed(1)
    new = dict(one)
    for name in {"tokens", "source", "decoder"} & one.keys():
        words = one[name]
        new[name] = torch.where(words > 8, torch.randint(9, int(words.max()) + 1, words.shape, generator=draw), words)
    if "image" in one:
        new["image"] = 1 - one["image"]
    assert any(not torch.equal(new[name], one[name]) for name in one)
    return new


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "cifar10-small",
        "csqa-mini",
        "mnli-mini",
        "winogrande",
        "cldr-2to2",
        "svamp-mini",
        "lattice-protein-mini",
    ],
)
def test_synflow_does_not_look_at_the_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = plugins.load_task(name).tiny()
    found = []
    for change in (lambda one: one, other_data):
        monkeypatch.setattr(type(task), "collate", _changed(type(task).collate, change))
        s = Session(task, build_model(task, 0), replace(task.recipe, steps=1))
        found.append(masks_of(SynFlow(rounds=3), s, 0.9, monkeypatch)[-1])
    assert found[0] == found[1]


def _changed(collate: Any, change: Callable[[Batch], Batch]) -> Any:
    return lambda self, examples: change(collate(self, examples))


# -- all


@pytest.mark.parametrize("method", [SNIP(), IterativeSNIP(rounds=3), GraSP(), SynFlow(rounds=5)], ids=repr)
def test_a_tasks_network_and_the_same_as_your_own_are_pruned_alike(
    method: Sparsifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [masks_of(method, s, 0.75, monkeypatch) for s in the_same(testing.ToyTask(), method == SynFlow(rounds=5))]
    assert found[0] == found[1]
    assert found[0][-1].kept == 89


@pytest.mark.parametrize("task", [testing.ToyTask(), toy.Toy()], ids=["single", "double"])
@pytest.mark.parametrize(
    ("score", "alone"),
    [
        (connection_sensitivity, False),
        (lambda s: connection_sensitivity(s, 2, first=1), False),
        (gradient_flow, False),
        (lambda s: gradient_flow(s, 3, 2.0), False),
        (lambda s: SynapticFlow(s)(), True),
    ],
    ids=["SNIP", "SNIP of 2", "GraSP", "GraSP of 3", "SynFlow"],
)
def test_a_tasks_network_and_the_same_as_your_own_have_the_same_scores(score: Any, alone: bool, task: Task) -> None:
    one, other = (flat(score(s)) for s in the_same(task, alone))
    assert one.abs().max() > 0
    loose = 1e-10 if isinstance(task, toy.Toy) else 1e-4
    torch.testing.assert_close(one, other, rtol=loose, atol=loose * one.abs().max().item())


def the_same(task: Task, alone: bool) -> tuple[Session, Session]:
    """A task's session, and your own on the same network and batches, or, as SynFlow looks at it, on one example."""
    recipe = task.recipe
    theirs = Session(task, build_model(task, 0), recipe)

    def batches(index: int) -> Batch:
        (one,) = theirs._feed_for(recipe)(index)
        return task.collate([task.data("train")[0]]) if alone else one

    def mean(model: nn.Module, one: Batch) -> Tensor:
        answer = model(one["image"] if "image" in one else one["x"])
        return F.cross_entropy(answer, one["label"] if "label" in one else one["y"])

    mine = Session.of(build_model(task, 0), loss=mean, batches=batches, recipe=recipe, prunable=list(theirs.weights))
    return theirs, mine


@pytest.mark.parametrize("score", [lambda s: SynapticFlow(s)(), gradient_flow, connection_sensitivity])
def test_scoring_changes_nothing_and_is_billed(score: Any) -> None:
    model = perceptron(rate=0.5)
    s = session(model, [batch(1)])
    s.model.eval()
    before = s.snapshot().digest()
    first = flat(score(s))
    s.model.train()
    assert torch.equal(flat(score(s)), first)  # the mode is the paper's, not the one it happens to be in
    assert s.snapshot().digest() == before
    assert s.account.train_flops > 0


def test_dropout_is_at_work_for_snip_and_grasp_only() -> None:
    calm, noisy = (session(perceptron(rate=rate), [batch(1)]) for rate in (0.0, 0.5))
    assert not torch.allclose(flat(connection_sensitivity(calm)), flat(connection_sensitivity(noisy)))
    assert not torch.allclose(flat(gradient_flow(calm)), flat(gradient_flow(noisy)))
    torch.testing.assert_close(flat(SynapticFlow(calm)()), flat(SynapticFlow(noisy)()))


@pytest.mark.parametrize("score", [lambda s: SynapticFlow(s)(), gradient_flow])
def test_a_network_that_is_never_asked_as_a_whole_is_refused(score: Any) -> None:
    s = session(linear(), [batch(1)], lambda m, one: F.linear(one[0], m[0][0].weight).square().mean())
    with pytest.raises(UsageError, match="never calls it as a whole"):
        score(s)
