"""Early-Bird tickets: a mask drawn as soon as it has settled."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smcbench import Mask, Session, Sparsifier, Task
from smcbench.criteria import magnitude
from smcbench.sparsifier import Fraction, Interval, Positive
from smcbench.sparsity.keep import keep
from smcbench.sparsity.schedules import Window

QUEUE = 5
"""Masks that must agree, the newest included."""


@dataclass(frozen=True)
class EarlyBird(Sparsifier):
    """Train densely until the mask one would draw stands still, then draw it (You et al., 2020, algorithm 1).

    Every 2 % of the run, 50 times a run, a mask is made; the ticket has emerged when it differs from each of the four
    before it in at most a tenth of all places. It keeps its weights and goes on where it was drawn on the schedule, as
    in the paper's EB Train. (The script of the authors' code that does this takes only the channel counts from the
    ticket, and starts it there with new weights.) Where none has emerged by half of the run, the mask of that moment is
    taken, so that it still can be trained; the paper does not say what then. At .95 sparsity and beyond, any two masks
    differ in less than a tenth of all places, and the fifth look draws. ``session.memory["emerged"]`` is the step
    of the draw, ``"settled"`` whether the masks agreed.

    By default masks are of global weight magnitude, as in the rows "EarlyBird" of Instant Soup (arXiv:2306.10460).

    Preset ``channels``: the paper's structured form. 1e-4 times the sign of the scales of batch norm is added to their
    gradient to the end, an L1 penalty; a channel's weights are scored by its ``|scale|``, under one global threshold.
    The count is of weights and exact, so the channel at the threshold is kept in part, and distances count weights too,
    where the authors count channels. Weights whose output no batch norm scales are kept, the earlier layers first where
    there are more of them than the density allows. The authors remove channels from the network; here a removed channel
    still gives its batch norm's shift, a constant.
    """

    by: Literal["magnitude", "channels"] = "magnitude"
    tolerance: Fraction = 0.1
    """Largest distance between masks that agree, as a fraction of all places."""
    interval: Interval = 0.02
    """From one look to the next, as a fraction of the run."""
    stop: Fraction = 0.5
    """The last look, as a fraction of the run."""
    penalty: Positive = 1e-4
    """Of the scales of batch norm; by channels only."""

    paper: ClassVar[str] = "arXiv:1909.11957"
    category: ClassVar = ("during", "dense-to-sparse", "static")
    cost: ClassVar[str] = "0.1 + 0.9 * d"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"channels": {"by": "channels"}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        norms = channel_norms(session) if self.by == "channels" else {}
        window = Window(self.interval, self.stop, self.interval).on(session.recipe)
        for step in session.steps():
            if self.by == "channels":
                shrink(session.model, self.penalty)
            if step.index in window and "emerged" not in session.memory:
                scores = channel_scores(session.weights, norms) if self.by == "channels" else magnitude(session)
                ticket = keep(scores, density=1 - sparsity)
                settled = agree(session.memory, ticket, self.tolerance)
                if settled or step.index == window.last:
                    session.mask = ticket
                    forget(session.memory)
                    session.memory |= {"emerged": step.index, "settled": int(settled)}

    def skip(self, task: Task, sparsity: float) -> str | None:
        if self.by == "magnitude":
            return None
        with torch.device("meta"):
            model = task.parts[0].architecture()
        widths = {norm.num_features for norm in scaling_norms(model)}
        if not widths:
            return "its network has no batch norm, whose scales would score channels"
        names, sizes = set(task.parts[0].prunable(model)), {"all": 0, "scored": 0}
        for name, weight in model.named_parameters():
            if name in names:
                sizes["all"] += weight.numel()
                sizes["scored"] += weight.numel() * (weight.shape[0] in widths)
        share = sizes["scored"] / sizes["all"]
        if share < max(0.5, sparsity):
            return f"at most {share:.0%} of its weights lie in channels that batch norm scales"
        return None


def agree(memory: MutableMapping[str, Any], ticket: Mask, tolerance: float) -> bool:
    """Put a mask into the queue of the last five; whether the four before it are all within ``tolerance`` of it."""
    looks = memory.get("looks", 0)
    place = looks % QUEUE
    earlier = [memory[f"look {i}"] for i in range(min(looks, QUEUE)) if i != place]
    memory.update({f"look {place}": ticket, "looks": looks + 1})
    return len(earlier) == QUEUE - 1 and all(ticket.distance(mask) <= tolerance for mask in earlier)


def forget(memory: MutableMapping[str, Any]) -> None:
    """Empty the queue."""
    for key in ["looks", *(f"look {i}" for i in range(QUEUE))]:
        memory.pop(key, None)


def scaling_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a network that have scales."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine]


def shrink(model: nn.Module, penalty: float) -> None:
    """Add the gradient of an L1 penalty to the scales of batch norm (Liu et al., 2017, arXiv:1708.06519)."""
    for norm in scaling_norms(model):
        if norm.weight.grad is not None:
            norm.weight.grad += penalty * norm.weight.detach().sign()


def channel_norms(session: Session) -> dict[str, _BatchNorm]:
    """By name of the weight: the batch norm whose input is the output of its convolution or linear layer.

    Found by running a batch: what a network computes does not show in the names of its modules.
    """
    names = {id(weight): name for name, weight in session.weights.items()}
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors too: the identity of one that is gone may be given again
    found: dict[str, _BatchNorm] = {}

    def layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[id(output)] = (names[id(module.weight)], output)

    def norm(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, _BatchNorm)
        name, _ = outputs.get(id(inputs[0]), ("", None))
        if name and session.weights[name].shape[0] == module.num_features:
            found[name] = module

    hooks = [m.register_forward_hook(norm) for m in scaling_norms(session.model)]
    hooks += [m.register_forward_hook(layer) for m in session.model.modules()
              if isinstance(m, nn.Linear | nn.Conv2d) and id(m.weight) in names]  # fmt: skip
    for _ in session.losses():
        pass
    for hook in hooks:
        hook.remove()
    return found


def channel_scores(weights: Mapping[str, Tensor], norms: Mapping[str, _BatchNorm]) -> dict[str, Tensor]:
    """The magnitude of its channel's scale for each weight; infinite where no batch norm follows."""

    def of(name: str, weight: Tensor) -> Tensor:
        if name not in norms:
            return torch.full_like(weight, math.inf, requires_grad=False)
        scale = norms[name].weight.detach().abs()
        return scale.reshape(-1, *[1] * (weight.ndim - 1)).expand_as(weight).contiguous()

    return {name: of(name, weight) for name, weight in weights.items()}
