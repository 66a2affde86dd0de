"""Reparametrisation outside the model: run the network on f(w, s), train w and s.

The effective weights are written into the parameters for forward and backward; the gradient that arrives there is
carried to ``w`` and ``s`` by one vector-Jacobian product. Names, modules and compiled graphs never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smcbench.sparsity.mask import Mask


@dataclass(frozen=True)
class Effective:
    """Effective weights by name and, where they are sparse, the masks of the forward and of the backward pass."""

    weights: dict[str, Tensor]
    forward: Mask | None = None
    backward: Mask | None = None


Reparam = Callable[[Mapping[str, Tensor], int], Effective | dict[str, Tensor]]
"""``reparam(weights, step index)``: effective weights, differentiable in the weights and in extra parameters."""


@contextmanager
def effective(
    weights: Mapping[str, nn.Parameter], extra: Sequence[nn.Parameter], reparam: Reparam, index: int
) -> Iterator[Effective]:
    """Within the block the parameters hold the effective weights; after it, ``w`` again and its own gradient.

    The gradients equal those of ``torch.nn.utils.parametrize`` with the same function.
    """
    with torch.enable_grad():
        sources = {name: p.detach().requires_grad_() for name, p in weights.items()}
        made = reparam(sources, index)
        made = made if isinstance(made, Effective) else Effective(made)
    originals = {name: weights[name].detach().clone() for name in made.weights}
    values = {name: tensor.detach().clone() for name, tensor in made.weights.items()}
    try:
        _fill(weights, values)
        yield made
    finally:
        _fill(weights, originals)
    names = [name for name in made.weights if weights[name].grad is not None and made.weights[name].requires_grad]
    inputs = [*(sources[name] for name in made.weights), *extra]
    found = torch.autograd.grad(
        [made.weights[name] for name in names], inputs, [weights[name].grad for name in names], allow_unused=True
    )
    for parameter, gradient in zip([*(weights[name] for name in made.weights), *extra], found, strict=True):
        parameter.grad = None if gradient is None else gradient.detach()


def _fill(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Write values through ``.data``: the graph of the reparametrisation, which needs the originals again when they
    are back, is not to take the excursion for a change."""
    for name, value in values.items():
        weights[name].data.copy_(value)
