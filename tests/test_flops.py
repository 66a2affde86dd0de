"""Operations counted against torch's own counter and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from toy import session

from smcbench.criteria import _twice_differentiable
from smcbench.flops import Flops, measure

ATTENTION = nn.functional.scaled_dot_product_attention
"""As somebody imports it by name."""


def _convnet() -> tuple[nn.Module, torch.Tensor]:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(72, 5)
    )
    return net, torch.randn(6, 1, 8, 8)


def _attention() -> tuple[nn.Module, torch.Tensor]:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(3, 7, 16)


@pytest.mark.parametrize(("make", "scores"), [(_convnet, 0), (_attention, 2 * 3 * 7 * 7 * 16)])
def test_dense_counts_equal_those_of_torch(make, scores) -> None:  # type: ignore[no-untyped-def]
    """But for the scores of attention, which fused kernels compute again going backward, and the plain one does not."""
    net, x = make()
    weights = {name: p for name, p in net.named_parameters() if p.ndim > 1}
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        ours = measure(lambda: net(x).square().sum(), weights, list(net.parameters()))
        with FlopCounterMode(display=False) as counter:
            net(x).square().sum().backward()
    assert ours.step() == counter.get_total_flops() + scores


def test_a_perceptron_by_hand() -> None:
    s = session()  # batch 16, 12 -> 24 -> 4
    forward = {"0.weight": 2 * 16 * 12 * 24, "2.weight": 2 * 16 * 24 * 4}
    flops = s.flops
    assert flops.forward == forward
    assert flops.backward_weight == forward
    assert flops.backward_input == {"2.weight": forward["2.weight"]}  # the first layer's input needs no gradient
    half = dict.fromkeys(forward, 0.5)
    assert flops.step(half, half) == flops.step() / 2
    assert flops.inference(half) == sum(forward.values()) / 2


def test_a_run_is_billed_for_its_density() -> None:
    s = session()
    s.prune({name: torch.rand_like(w) for name, w in s.weights.items()}, dict.fromkeys(s.weights, 0.25))
    s.train()
    assert s.account.steps == 20
    assert s.account.train_flops == pytest.approx(20 * s.flops.step() * 0.25)
    assert s.account.train_flops_dense == pytest.approx(20 * s.flops.step())
    s.gradients(2)  # dense weight gradients: a sparse forward, a sparse input gradient
    expected = 20 * 0.25 * s.flops.step() + 2 * s.flops.step(dict.fromkeys(s.weights, 0.25))
    assert s.account.train_flops == pytest.approx(expected)
    assert s.account.gradient_evaluations == 2


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_is_counted_whatever_its_kernel(dropout: float) -> None:
    """Of 8 queries with 6 keys of width 16 and values of width 12, in 2 x 4 heads."""
    q, k, v = (torch.randn(2, 4, *shape, requires_grad=True) for shape in ((8, 16), (6, 16), (6, 12)))
    bias = torch.randn(8, 6, requires_grad=True)
    heads = 2 * 4 * 8 * 6

    def attend() -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, value=v, attn_mask=bias, dropout_p=dropout)

    ours = measure(lambda: attend().sum(), {}, [q, k, v, bias])
    assert ours.fixed_forward == 2 * heads * (16 + 12)
    assert ours.fixed_backward == 2 * heads * (3 * 16 + 2 * 12)
    assert measure(lambda: bias.sum() + attend().detach().sum(), {}, [bias]).fixed_backward == 0


class _Heads(nn.Module):
    """Projections apart, a bias that is learned, behind a layer they share; in the layout that packing gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bias = nn.Linear(16, 16, bias=False), nn.Linear(16, 7, bias=False)
        self.query, self.key, self.value = (nn.Linear(16, 16, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor, attend: Any = None) -> torch.Tensor:
        flat = torch.Tensor.reshape if attend else torch.Tensor.view  # the plain kernel lays its result out otherwise
        attend = attend or nn.functional.scaled_dot_product_attention
        hidden = self.first(x)
        parts = (layer(hidden).view(3, 7, 2, 8).transpose(1, 2) for layer in (self.query, self.key, self.value))
        causal = torch.full((7, 7), -torch.inf).triu(1) + self.bias(hidden)[:, None]
        return flat(attend(*parts, causal).transpose(1, 2), (3, 7, 16))


def _bill(net: nn.Module, run: Any) -> Flops:
    return measure(run, {name: p for name, p in net.named_parameters() if p.ndim > 1}, list(net.parameters()))


def test_weights_behind_attention_are_billed_each() -> None:
    net, x = _Heads(), torch.randn(3, 7, 16)
    products = {name: 2 * 3 * 7 * p.numel() for name, p in net.named_parameters()}
    found = _bill(net, lambda: net(x).sum())
    assert found.forward == found.backward_weight == products
    assert found.backward_input == {name: flops for name, flops in products.items() if name != "first.weight"}
    assert found.fixed_backward == 5 * found.fixed_forward / 2 == 5 * 2 * (3 * 2 * 7 * 7 * 8)
    outputs: list[torch.Tensor] = []
    _bill(net, lambda: (outputs.append(net(x)), outputs[0].sum())[1])
    assert outputs[0].isfinite().all(), "a causal mask is not, and a loss may ask"


def test_attention_by_another_name_is_the_products_it_consists_of() -> None:
    net, x = _Heads(), torch.randn(3, 7, 16)
    whole, apart = _bill(net, lambda: net(x).sum()), _bill(net, lambda: net(x, ATTENTION).sum())
    assert apart.fixed_forward == whole.fixed_forward
    assert apart.fixed_backward == 2 * whole.fixed_forward
    assert (apart.forward, apart.backward_weight) == (whole.forward, whole.backward_weight)


def test_what_is_computed_again_going_backward_is_billed_there() -> None:
    net, x = _Heads(), torch.randn(3, 7, 16, requires_grad=True)
    plain = _bill(net, lambda: net(x).sum())
    again = _bill(net, lambda: checkpoint(net, x, use_reentrant=False).sum())
    assert again.inference() == plain.inference()
    assert again.step() == plain.step() + plain.inference()


def test_attention_of_one_batch_with_another() -> None:
    query, key = torch.randn(1, 4, 8, 16, requires_grad=True), torch.randn(2, 4, 6, 16)
    found = measure(lambda: nn.functional.scaled_dot_product_attention(query, key, key).sum(), {}, [query])
    assert found.fixed_forward == 2 * 2 * (2 * 4 * 8 * 6 * 16)


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_gpu_is_billed_what_a_cpu_is(dropout: float) -> None:
    net = nn.TransformerEncoderLayer(20, 4, 32, dropout=dropout, batch_first=True)  # heads of 5 fit no fast kernel
    bills = []
    for device in ("cpu", "cuda"):
        net, x = net.to(device), torch.randn(3, 7, 20, device=device)
        weights = {name: p for name, p in net.named_parameters() if p.ndim > 1}
        bills.append(measure(lambda net=net, x=x: net(x).sum(), weights, list(net.parameters())))  # type: ignore[misc]
    assert bills[0] == bills[1]


def test_weights_that_are_views_of_one_storage() -> None:
    """As a recurrent layer's are on a GPU: each is billed for itself."""
    torch.manual_seed(0)
    apart = nn.Sequential(nn.Linear(12, 24, bias=False), nn.Linear(24, 4, bias=False))
    joined = nn.Sequential(nn.Linear(12, 24, bias=False), nn.Linear(24, 4, bias=False))
    flat = torch.cat([w.detach().flatten() for w in apart.parameters()])
    joined[0].weight.data, joined[1].weight.data = flat[:288].view(24, 12), flat[288:].view(4, 24)
    x = torch.randn(5, 12)
    found = [
        measure(lambda net=net: net(x).square().sum(), dict(net.named_parameters()), list(net.parameters()))  # type: ignore[misc]
        for net in (apart, joined)
    ]
    assert found[0] == found[1]
    assert found[1].forward == {"0.weight": 2 * 5 * 12 * 24, "1.weight": 2 * 5 * 24 * 4}


def test_a_recurrent_layer_by_hand() -> None:
    """Four gates, each a product with the input and one with the state, for every step of packed sequences."""
    net = nn.LSTM(6, 5, batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(2, 4, 6), torch.tensor([4, 2]), batch_first=True)
    weights = {name: p for name, p in net.named_parameters() if p.ndim == 2}
    flops = measure(lambda: net(packed)[0].data.sum(), weights, list(net.parameters()))
    steps = 4 + 2
    assert flops.forward == {"weight_ih_l0": 2 * steps * 6 * 20, "weight_hh_l0": 2 * steps * 5 * 20}


def test_surroundings_do_not_matter() -> None:
    """Nor do the kernels that a criterion needs, or that the processor has for a whole recurrent layer."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(6, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states = self.recurrent(x)[0][:, None]
            return nn.functional.scaled_dot_product_attention(states, states, states)

    net, x = Both(), torch.randn(2, 3, 6)
    weights = {name: p for name, p in net.named_parameters() if p.ndim == 2}

    def found() -> Flops:
        return measure(lambda: net(x).sum(), weights, list(net.parameters()))

    plain = found()
    with _twice_differentiable(net):
        assert found() == plain
    assert plain.forward == {"recurrent.weight_ih_l0": 2 * 6 * 6 * 16, "recurrent.weight_hh_l0": 2 * 6 * 4 * 16}
    assert plain.fixed_forward == 2 * 2 * (2 * 3 * 3 * 4)
