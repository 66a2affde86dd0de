"""Selection: exact counts, ties, infinities, NaN, and the update of dynamic sparse training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smcbench.errors import NotFinite, UsageError
from smcbench.sparsity import keep as keep_module
from smcbench.sparsity.distributions import apportion, erk, uniform
from smcbench.sparsity.keep import Elementwise, drop_and_grow, keep, only
from smcbench.sparsity.mask import Mask

INF = float("inf")


def reference(scores: Mapping[str, Tensor], k: int) -> dict[str, list[bool]]:
    """The slow way: all (score, place) pairs sorted, the first ``k`` of them kept."""
    places = [(name, i, float(x)) for name, tensor in scores.items() for i, x in enumerate(tensor.reshape(-1).double())]
    best = sorted(range(len(places)), key=lambda p: -places[p][2])[:k]  # sorted() is stable
    kept = {name: [False] * tensor.numel() for name, tensor in scores.items()}
    for p in best:
        kept[places[p][0]][places[p][1]] = True
    return kept


def flat(mask: Mapping[str, Tensor]) -> dict[str, list[bool]]:
    return {name: tensor.reshape(-1).tolist() for name, tensor in mask.items()}


def check(scores: Mapping[str, Tensor], density: float) -> None:
    n = sum(tensor.numel() for tensor in scores.values())
    mask = keep(scores, density)
    assert mask.kept == round(density * n)
    assert mask.shapes() == {name: tuple(tensor.shape) for name, tensor in scores.items()}
    assert flat(mask) == reference(scores, round(density * n))


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes small vectors go the way of large ones, with a sample so poor that its guesses often miss."""
    monkeypatch.setattr(keep_module, "SAMPLE", 7)
    monkeypatch.setattr(keep_module, "CHUNK", 5)


shapes = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=4)
values = st.sampled_from([-INF, -1.5, -0.0, 0.0, 0.0, 0.25, 1.0, INF]) | st.floats(allow_nan=False, width=16)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


@st.composite
def score_dicts(draw: st.DrawFn) -> dict[str, Tensor]:
    scores = {}
    for i, shape in enumerate(draw(shapes)):
        n = int(np.prod(shape))
        numbers = draw(st.lists(values, min_size=n, max_size=n))
        scores[f"layer{i}"] = torch.tensor(numbers, dtype=torch.float64).reshape(shape).to(draw(dtypes))
    return scores


@given(score_dicts(), st.floats(0, 1))
@settings(deadline=None, max_examples=150)
def test_keeps_exactly_what_a_stable_sort_keeps(scores: dict[str, Tensor], density: float) -> None:
    check(scores, density)


@given(scores=score_dicts(), density=st.floats(0, 1), sample=st.integers(1, 9), chunk=st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_the_path_of_large_vectors_is_exact(scores: dict[str, Tensor], density: float, sample: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep_module, "SAMPLE", sample)
        patch.setattr(keep_module, "CHUNK", chunk)
        check(scores, density)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["normal", "zeros", "constant", "sorted", "two values", "tiny range", "infinite"])
@pytest.mark.parametrize("density", [0.0, 1e-5, 0.05, 0.3, 0.9, 1.0])
def test_large_vectors(kind: str, dtype: torch.dtype, density: float) -> None:
    n = 400_000  # more than a sample holds
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vector = {
        "normal": noise.abs(),
        "zeros": noise.abs() * (noise > 1.7),  # 95 % exact zeros
        "constant": torch.full((n,), 0.5),
        "sorted": torch.arange(n) / n,
        "two values": (noise > 0.5).double(),
        "tiny range": 1 + noise * 1e-12,
        "infinite": noise.where(noise.abs() < 1, noise.sign() * INF),
    }[kind].to(dtype)
    scores = {"a": vector[:100_000].reshape(100, -1), "b": vector[100_000:100_001], "c": vector[100_001:]}
    order = torch.sort(vector, descending=True, stable=True).indices
    expected = torch.zeros(n, dtype=torch.bool)
    expected[order[: round(density * n)]] = True
    mask = keep(scores, density)
    assert torch.equal(torch.cat([mask[name].reshape(-1) for name in scores]), expected)


def test_float64_scores_that_float32_cannot_tell_apart() -> None:
    scores = {"a": torch.ones(4), "b": 1 + torch.tensor([0, 3, 2, 1], dtype=torch.float64) * 1e-15}
    assert flat(keep(scores, 3 / 8)) == {"a": [False] * 4, "b": [False, True, True, True]}


def test_ties_go_to_the_earlier_tensor_and_place(small_sample: None) -> None:
    scores = {"b": torch.zeros(3, 7), "a": torch.zeros(30)}
    kept = keep(scores, 30 / 51)
    assert kept["b"].all()
    assert kept["a"].tolist() == [True] * 9 + [False] * 21


def test_empty_scalar_and_strided_tensors() -> None:
    assert keep({}, 0.5).total == 0
    assert keep({"none": torch.zeros(0, 3)}, 0.5)["none"].shape == (0, 3)
    scores = {"scalar": torch.tensor(2.0), "strided": torch.arange(12.0).reshape(3, 4).t()}
    check(scores, 0.5)
    check({"every other": torch.arange(20.0)[::2], "expanded": torch.ones(1).expand(6)}, 0.4)


def test_scores_may_require_gradients() -> None:
    assert keep({"w": torch.nn.Parameter(torch.arange(4.0))}, 0.5)["w"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("n", [10, 300_000])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("constant", [True, False])
def test_a_nan_is_an_error_that_names_the_tensor(n: int, density: float, constant: bool) -> None:
    scores = {"first": torch.ones(n) if constant else torch.randn(n), "second.weight": torch.ones(n)}
    scores["second.weight"][n - 3] = torch.nan
    with pytest.raises(NotFinite, match=r"second\.weight"):
        keep(scores, density)
    scores["second.weight"][:] = torch.nan
    with pytest.raises(NotFinite, match=r"second\.weight"):
        keep(scores, density)


def test_densities_by_name_are_counted_by_name() -> None:
    scores = {"a": torch.rand(10, 10), "b": torch.rand(7), "c": torch.rand(3, 5)}
    kept = keep(scores, {"a": 0.13, "b": 0.5, "c": 1.0})
    assert {name: int(kept[name].sum()) for name in kept} == {"a": 13, "b": 4, "c": 15}
    assert flat(kept)["b"] == reference({"b": scores["b"]}, 4)["b"]


@pytest.mark.parametrize("distribution", [uniform, erk])
def test_distributions_are_kept_to_the_last_weight(distribution: Any) -> None:
    scores = {str(i): torch.rand(7 + i, 3 * i + 1) for i in range(20)}
    n = sum(tensor.numel() for tensor in scores.values())
    for density in (0.01, 0.1, 0.333, 0.5, 0.77):
        assert keep(scores, distribution(scores, density)).kept == round(density * n)


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan"), {"w": 2.0}, {"v": 0.5}, {}])
def test_a_density_that_is_none_is_refused(density: Any) -> None:
    with pytest.raises(UsageError):
        keep({"w": torch.ones(3)}, density)


def test_whole_numbers_are_not_scores() -> None:
    with pytest.raises(UsageError, match=r"w are torch\.int64"):
        keep({"w": torch.arange(3)}, 0.5)


def test_elementwise_scores_equal_computed_ones(small_sample: None) -> None:
    weights = {"a": torch.randn(6, 5).t(), "b": torch.randn(11)}
    grads = {"a": torch.randn(5, 6), "b": torch.randn(11)}
    lazy = Elementwise(lambda w, g: (w * g).abs(), weights, grads)
    assert keep(lazy, 0.3) == keep({name: (weights[name] * grads[name]).abs() for name in weights}, 0.3)
    assert keep(lazy, {"a": 0.3, "b": 0.5}) == keep(dict(lazy), {"a": 0.3, "b": 0.5})
    with pytest.raises(UsageError, match="b"):
        Elementwise(torch.mul, weights, {"a": grads["a"]})
    with pytest.raises(UsageError, match="b differ in shape"):
        Elementwise(torch.mul, weights, grads | {"b": torch.ones(1)})


def test_only_keeps_inside_the_mask_first() -> None:
    scores = {"w": torch.tensor([5.0, 1.0, 4.0, 2.0])}
    mask = Mask({"w": torch.tensor([False, True, False, True])})
    assert only(mask, scores)["w"].tolist() == [-INF, 1.0, -INF, 2.0]
    assert keep(only(mask, scores), 0.25)["w"].tolist() == [False, False, False, True]
    assert keep(only(mask, scores), 0.75)["w"].tolist() == [True, True, False, True]  # then the others, in order
    with pytest.raises(UsageError):
        only(mask, {})


# -- drop and grow


def numpy_rigl(mask: Any, drop: Any, grow: Any, n_grow: int | None, fraction: float) -> Any:
    """One layer of RigL's update with nothing but sorting."""
    mask, drop, grow = mask.ravel(), drop.ravel(), grow.ravel()
    active = np.flatnonzero(mask)
    n = int(fraction * len(active))
    order = active[np.argsort(-drop[active], kind="stable")]
    new = np.zeros_like(mask)
    new[order[: len(active) - n]] = True
    candidates = np.flatnonzero(~new)
    order = candidates[np.argsort(-grow[candidates], kind="stable")]
    new[order[: n if n_grow is None else n_grow]] = True
    return new


@given(seed=st.integers(0, 2**31), fraction=st.floats(0, 1), levels=st.integers(1, 6), counts=st.booleans())
@settings(deadline=None, max_examples=100)
def test_drop_and_grow_is_the_update_in_numpy(seed: int, fraction: float, levels: int, counts: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = {"a": (4, 5), "b": (3, 2, 2, 2), "c": (1,)}
    mask = {name: rng.random(s) < rng.random() for name, s in shape.items()}
    drop = {name: rng.integers(0, levels, s).astype(np.float32) for name, s in shape.items()}
    grow = {name: rng.integers(0, levels, s).astype(np.float32) for name, s in shape.items()}
    n_grow: dict[str, int] | None = None
    if counts:
        dropped = {name: int(fraction * m.sum()) for name, m in mask.items()}
        free = [int((~m).sum()) + dropped[name] for name, m in mask.items()]
        wanted = rng.multinomial(sum(dropped.values()), [0.1, 0.3, 0.6]).tolist()
        n_grow = dict(zip(mask, wanted, strict=True))
        granted = dict(zip(mask, apportion(wanted, free, sum(wanted)), strict=True))
    tensors = [{name: torch.from_numpy(x) for name, x in arrays.items()} for arrays in (mask, drop, grow)]
    new = drop_and_grow(Mask(tensors[0]), tensors[1], tensors[2], fraction, n_grow)
    for name in mask:
        expected = numpy_rigl(mask[name], drop[name], grow[name], granted[name] if counts else None, fraction)
        assert new[name].reshape(-1).tolist() == expected.tolist()
    assert new.kept == sum(int(m.sum()) for m in mask.values())


def test_growth_beyond_the_free_places_of_a_layer_flows_to_the_others() -> None:
    mask = Mask({"a": torch.arange(4) < 3, "b": torch.arange(100) < 10})
    ones = {"a": torch.ones(4), "b": torch.ones(100)}
    new = drop_and_grow(mask, ones, ones, 0.4, {"a": 5, "b": 0})  # 2 and 6 stay, a has two free places
    assert {name: int(new[name].sum()) for name in new} == {"a": 4, "b": 9}


def test_drop_and_grow_ignores_nan_where_nobody_looks() -> None:
    mask = Mask({"w": torch.tensor([True, True, False, False])})
    nan = torch.nan
    drop, grow = torch.tensor([1.0, 2.0, nan, nan]), torch.tensor([0.0, nan, 1.0, 2.0])
    new = drop_and_grow(mask, {"w": drop}, {"w": grow}, 0.5)
    assert new["w"].tolist() == [False, True, False, True]
    with pytest.raises(NotFinite, match="w"):
        drop_and_grow(mask, {"w": drop}, {"w": torch.full((4,), nan)}, 0.5)
    with pytest.raises(NotFinite, match="w"):
        drop_and_grow(mask, {"w": torch.tensor([nan, 2.0, 0.0, 0.0])}, {"w": grow}, 0.5)


def test_drop_and_grow_keeps_active_weights_whatever_their_score() -> None:
    mask = Mask({"w": torch.tensor([False, True, True, False])})
    low = {"w": torch.full((4,), -INF)}
    assert drop_and_grow(mask, low, low, 0.0) == mask


@pytest.mark.parametrize(
    ("drop", "fraction", "counts"),
    [
        ({"v": torch.ones(4)}, 0.5, None),
        ({"w": torch.ones(3)}, 0.5, None),
        ({"w": torch.ones(4)}, 1.5, None),
        ({"w": torch.ones(4)}, 0.5, {"v": 1}),
        ({"w": torch.ones(4)}, 0.5, {"w": 4}),
    ],
)
def test_drop_and_grow_refuses(drop: dict[str, Tensor], fraction: float, counts: dict[str, int] | None) -> None:
    mask = Mask({"w": torch.tensor([True, True, False, False])})
    with pytest.raises(UsageError):
        drop_and_grow(mask, drop, {"w": torch.ones(4)}, fraction, counts)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("limits", [{}, {"CHUNK_GPU": 1 << 16, "SAMPLE": 1 << 10}])
def test_a_gpu_keeps_what_a_cpu_keeps(
    dtype: torch.dtype, density: float, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(keep_module, name, value)
    scores = {"a": torch.randn(500, 700).to(dtype), "b": torch.randn(99).to(dtype), "c": torch.zeros(1000).to(dtype)}
    on_gpu = {name: tensor.cuda() for name, tensor in scores.items()}
    assert keep(on_gpu, density).to("cpu") == keep(scores, density)
    mask = keep(scores, 0.3)
    assert drop_and_grow(mask.to("cuda"), on_gpu, on_gpu, 0.3).to("cpu") == drop_and_grow(mask, scores, scores, 0.3)
    on_gpu["b"][3] = torch.nan
    with pytest.raises(NotFinite, match="b"):
        keep(on_gpu, density)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors go the way of a GPU's."""
    monkeypatch.setattr(Tensor, "is_cpu", property(lambda self: False))


@pytest.mark.parametrize("limits", [(1 << 25, 1 << 18), (7, 5), (3, 2), (20, 3)])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_way_of_a_gpu(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_module, "CHUNK_GPU", limits[0])
    monkeypatch.setattr(keep_module, "SAMPLE", limits[1])
    draw = torch.Generator().manual_seed(0)
    for density in (0.0, 0.05, 0.3, 0.5, 0.9, 1.0):
        for ties in (False, True):
            scores = {str(i): torch.randn(n, generator=draw) for i, n in enumerate((4, 0, 11, 1, 17))}
            if ties:
                scores = {name: score.round() for name, score in scores.items()}
            check(scores, density)
    scores["2"][3] = torch.nan
    with pytest.raises(NotFinite, match="score of 2 is NaN"):
        keep(scores, 0.5)


@given(st.lists(values, min_size=1, max_size=30), st.data())
def test_topk_finds_what_partition_does(some: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(some)))
    tensor = torch.tensor(some)
    assert keep_module._highest_by_topk(tensor, k) == keep_module._highest(tensor.numpy(), k)
    tensor[data.draw(st.integers(0, len(some) - 1))] = torch.nan
    assert np.isnan(keep_module._highest_by_topk(tensor, k)[0])
