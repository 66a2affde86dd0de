"""Floating-point operations of a training step, dense and under a mask, attributed to the weights that cause them.

Counts are those of ``torch.utils.flop_counter`` (2 for a multiply-add; matrix products, convolutions and attention;
elementwise work is not counted), the same on every device. A product with a weight of density d costs d times the dense
one in each of its three forms: forward, gradient of the input, gradient of the weight (the convention of RigL, Evci et
al., 2020, appendix H).
"""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Flops:
    """Operations of one optimizer step: those no mask can save, and by prunable weight those one can."""

    fixed_forward: float
    fixed_backward: float
    forward: dict[str, float]
    backward_input: dict[str, float]
    backward_weight: dict[str, float]

    def step(self, forward: Mapping[str, float] | None = None, backward: Mapping[str, float] | None = None) -> float:
        """One training step with layers at the given densities (None: dense), in the forward and weight-gradient pass.

        >>> f = Flops(10.0, 20.0, {"a": 100.0}, {"a": 100.0}, {"a": 100.0})
        >>> f.step(), f.step({"a": 0.1}, {"a": 0.1}), f.step({"a": 0.1})
        (330.0, 60.0, 150.0)
        """
        return (
            self.fixed_forward
            + self.fixed_backward
            + _weighted(self.forward, forward)
            + _weighted(self.backward_input, forward)
            + _weighted(self.backward_weight, backward)
        )

    def inference(self, densities: Mapping[str, float] | None = None) -> float:
        """One forward pass on the same batch."""
        return self.fixed_forward + _weighted(self.forward, densities)


def _weighted(flops: Mapping[str, float], densities: Mapping[str, float] | None) -> float:
    return sum(value * (1.0 if densities is None else densities.get(name, 1.0)) for name, value in flops.items())


def measure(loss: Callable[[], Tensor], weights: Mapping[str, nn.Parameter], trained: Sequence[Tensor]) -> Flops:
    """Trace one forward and backward pass of ``loss()`` and attribute the operations to ``weights``.

    Backward computes the gradients of ``trained``, which include those weights that are trained.

    An operation belongs to a weight if it reads the weight's memory, views included; weights may be views of one
    storage, as a recurrent layer's are on a GPU. No gradient is accumulated.
    """
    owners = sorted((p.data_ptr(), p.data_ptr() + p.nbytes, name) for name, p in weights.items())
    ahead, behind = _Trace(owners), _Trace(owners)
    attention = _Attention(ahead, behind)
    with _countable(attention):
        with ahead:
            value = loss()
        attention.now = behind
        with behind:
            torch.autograd.grad(value, trained, allow_unused=True)
    # The product that makes the gradient of a weight reads activations only, so it carries no name; it costs as much
    # as the forward product. A convolution makes both gradients in one operation, which does read the weight.
    backward_weight = {name: flops for name, flops in ahead.products.items() if weights[name].requires_grad}
    backward_input = dict(behind.products)
    for name, flops in behind.convolutions.items():
        backward_input[name] = backward_input.get(name, 0.0) + flops - ahead.convolutions[name]
        backward_weight[name] = backward_weight.get(name, 0.0) + ahead.convolutions[name]
    forward = {name: ahead.products.get(name, 0.0) + ahead.convolutions.get(name, 0.0) for name in weights}
    return Flops(
        fixed_forward=ahead.total - sum(forward.values()),
        fixed_backward=behind.total - sum(backward_input.values()) - sum(backward_weight.values()),
        forward=forward,
        backward_input=backward_input,
        backward_weight=backward_weight,
    )


@contextlib.contextmanager
def _countable(attention: Callable[..., Tensor]) -> Iterator[None]:
    """Kernels that are counted alike whatever the surroundings chose.

    A recurrent layer is the products it consists of, and attention what stands here for it; called by another name than
    torch's own, it is the products it consists of too.
    """
    changes: list[tuple[Any, str, Any]] = [
        (torch.backends.cudnn, "enabled", False),
        (torch.backends.mkldnn, "enabled", False),
        (nn.functional, "scaled_dot_product_attention", attention),
    ]
    with contextlib.ExitStack() as stack:
        for place, name, value in changes:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def mean(parts: list[Flops]) -> Flops:
    """The mean over several batches."""

    def average(pick: Callable[[Flops], Mapping[str, float]]) -> dict[str, float]:
        return {name: sum(pick(p).get(name, 0.0) for p in parts) / len(parts) for name in pick(parts[0])}

    return Flops(
        sum(p.fixed_forward for p in parts) / len(parts),
        sum(p.fixed_backward for p in parts) / len(parts),
        average(lambda p: p.forward),
        average(lambda p: p.backward_input),
        average(lambda p: p.backward_weight),
    )


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, owners: Sequence[tuple[int, int, str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owners, self._starts = owners, [start for start, _, _ in owners]
        self.total = 0.0
        self.products: dict[str, float] = {}
        self.convolutions: dict[str, float] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        count = flop_registry.get(packet)
        if count is None:
            return out
        flops = float(count(*args, **(kwargs or {}), out_val=out))
        self.total += flops
        name = next((owner for a in args if isinstance(a, Tensor) and (owner := self._owner(a))), None)
        if name is not None:
            table = self.convolutions if "convolution" in str(packet) else self.products
            table[name] = table.get(name, 0.0) + flops
        return out

    def _owner(self, tensor: Tensor) -> str | None:
        """The weight in whose memory a tensor begins."""
        pointer = tensor.data_ptr()
        place = bisect.bisect_right(self._starts, pointer) - 1
        return self._owners[place][2] if place >= 0 and pointer < self._owners[place][1] else None


class _Attention:
    """Counts attention as one operation, and does not compute it.

    Its kernel depends on device, type, dropout and alignment, and with the kernel whether backward computes the scores
    again. Counted is that it does, as fused kernels do: two products forward, five backward. In the place of the result
    stands something of its shape that depends on all that needs a gradient, so that each weight behind it gets one.

    Attributes:
        now: the trace that is under way; checkpointing calls attention going backward, too.
    """

    def __init__(self, ahead: _Trace, behind: _Trace) -> None:
        self.now, self._behind = ahead, behind

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *_: Any,
        enable_gqa: bool = False,
        **__: Any,
    ) -> Tensor:
        batch = query.shape[:-2]
        if not enable_gqa:  # there several heads of the query share one of the keys
            batch = torch.broadcast_shapes(batch, key.shape[:-2], value.shape[:-2])  # type: ignore[no-untyped-call]
        pairs = math.prod(batch) * query.shape[-2] * key.shape[-2]
        scores, mixture = 2 * pairs * query.shape[-1], 2 * pairs * value.shape[-1]
        self.now.total += scores + mixture
        out: Tensor = query.mean(-1, keepdim=True) + key.mean() + value.mean()
        if attn_mask is not None and attn_mask.requires_grad:
            out = out + attn_mask.tanh().mean()  # finite where the mask is not
        if out.requires_grad:
            out.register_hook(lambda _: self._add(3 * scores + 2 * mixture))  # type: ignore[no-untyped-call]
        shape = (*batch, query.shape[-2], value.shape[-1])
        # Laid out like the query, as torch's own results are.
        like = torch.empty_like(query) if query.shape == shape else query.new_empty(shape)
        return like.copy_(out)

    def _add(self, flops: float) -> None:
        self._behind.total += flops
