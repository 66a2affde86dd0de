"""The one training loop. It knows no task and no method; a sparsifier looks in once per optimizer step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smcbench.errors import NotFinite
from smcbench.feed import Feed
from smcbench.recipe import Recipe
from smcbench.seeds import seed_everything
from smcbench.sparsity.mask import Mask
from smcbench.sparsity.reparam import Effective, Reparam, effective

ENGINE = 1
"""Bumped by hand when the numerics of training change; part of every identity."""

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

_SMALLEST_SCALE = 2.0**-16

LossOf = Callable[[Any, int], tuple[Tensor, int]]
"""``(micro-batch, step index)`` to the sum of the loss and the count it is to be divided by."""


@dataclass
class Step:
    """One optimizer step, seen after backward and before the update.

    Attributes:
        index: where on the recipe's schedule, in [0, steps).
        loss: mean loss over the whole batch, a tensor on the device.
        skip: set it to leave out the weight update of this step.
        mask: the mask under which the gradients were computed.
        overflows: how often half-precision gradients overflowed and were computed again at a smaller scale.
    """

    index: int
    loss: Tensor
    weights: Mapping[str, nn.Parameter] = field(repr=False)
    mask: Mask = field(repr=False)
    overflows: int = field(default=0, repr=False)
    skip: bool = False
    dense_gradients_used: bool = field(default=False, repr=False)

    def gradients(self) -> dict[str, Tensor]:
        """Dense gradients of the prunable weights, masked ones too; the step is billed a dense weight gradient."""
        self.dense_gradients_used = True
        return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in self.weights.items()}


def build_optimizer(groups: Sequence[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, fused; every group remembers its own peak learning rate."""
    groups = [{**group, "peak": group.get("lr", recipe.lr)} for group in groups if group["params"]]
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, betas=recipe.betas, eps=recipe.eps, **common)


def apply_mask(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    """Zero each tensor outside its mask, in place.

    The bool mask multiplies directly: a multiplier in the weights' type would be faster but cost as much memory as
    the weights once more.
    """
    with torch.no_grad():
        for tensor, mask in zip(tensors, masks, strict=True):
            tensor.mul_(mask)


class Loop:
    """Runs optimizer steps of one phase; iterate it, and it yields a :class:`Step` just before every update.

    Gradients are masked before clipping and the update, and setting a mask clears the moments of what it removes or
    adds. All optimizers here work element by element and map a zero weight with zero gradient and zero moments to
    zero, so a pruned weight stays exactly zero without a second pass over the weights.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, nn.Parameter],
        extra: Sequence[nn.Parameter],
        mask: Callable[[], Mask],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        feed: Feed,
        loss: LossOf,
        recipe: Recipe,
        seed: int,
        reparam: Reparam | None,
        updated: Callable[[Step, Effective | None], None],
    ) -> None:
        self._weights, self._extra, self._mask = weights, extra, mask
        self._optimizer, self._scaler, self._feed, self._loss = optimizer, scaler, feed, loss
        self._recipe, self._seed, self._reparam, self._updated = recipe, seed, reparam, updated
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def run(self, start: int, stop: int) -> Iterator[Step]:
        """Steps ``start`` to ``stop`` of the recipe."""
        recipe, scaler = self._recipe, self._scaler
        for index in range(start, stop):
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak"] * recipe.factor_at(index)
            loss, made, overflows = self._gradients(index)
            step = Step(index, loss, self._weights, self._mask(), overflows)
            yield step
            if not step.skip:
                mask = self._mask()
                if not mask.is_dense:
                    graded = [(w.grad, mask[name]) for name, w in self._weights.items() if w.grad is not None]
                    apply_mask([g for g, _ in graded], [m for _, m in graded])
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(self._parameters, recipe.clip)
                scaler.step(self._optimizer)
            if scaler.is_enabled():
                scaler.update()
            self._optimizer.zero_grad(set_to_none=True)
            self._updated(step, made)

    def _gradients(self, index: int) -> tuple[Tensor, Effective | None, int]:
        """Loss, effective weights, and the number of attempts that overflowed; gradients are finite and unscaled."""
        overflows = 0
        while True:
            made: Effective | None = None
            with contextlib.ExitStack() as stack:
                if self._reparam is not None:
                    made = stack.enter_context(effective(self._weights, self._extra, self._reparam, index))
                loss = self.backward(index)
            if not self._scaler.is_enabled():
                return loss, made, overflows
            self._scaler.unscale_(self._optimizer)
            if all(bool(torch.isfinite(p.grad).all()) for p in self._parameters if p.grad is not None):
                return loss, made, overflows
            self._optimizer.zero_grad(set_to_none=True)
            self._scaler.update()  # halves the scale
            overflows += 1
            if self._scaler.get_scale() < _SMALLEST_SCALE:
                raise NotFinite(f"gradients overflow in fp16 at step {index} at any loss scale; use bf16 or clip")

    def backward(self, index: int) -> Tensor:
        """Accumulate the gradient of the mean loss over all micro-batches of all processes; return that loss."""
        world = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        micro = self._feed(index)
        alone = len(micro) == 1 and world == 1
        device = self._parameters[0].device
        dtype = _AUTOCAST.get(self._recipe.precision)
        losses, total = [], 0
        for part, batch in enumerate(micro):
            seed_everything(device, self._seed, "step", index, part, rank)
            with torch.autocast(device.type, dtype=dtype) if dtype else contextlib.nullcontext():
                loss, count = self._loss(batch, index)
            share = loss / (max(count, 1) if alone else self._recipe.batch_size)
            self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            if alone:
                return share.detach()
            losses.append(loss.detach())
            total += count
        summed = torch.stack(losses).sum()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if world > 1:
            counted = torch.tensor(float(total), device=device)
            for tensor in (counted, summed, *gradients):
                dist.all_reduce(tensor)
            total = int(counted)
        for gradient in gradients:
            gradient.mul_(self._recipe.batch_size / max(total, 1))
        return summed / max(total, 1)


def check_finite(loss: Tensor, index: int) -> None:
    """Raise :class:`NotFinite` if the loss is NaN or infinite."""
    if not math.isfinite(value := loss.item()):
        raise NotFinite(f"the training loss is {value} at step {index}; a smaller learning rate or clipping may help")
