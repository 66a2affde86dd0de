"""The feed: which examples each optimizer step sees, a function of (task, recipe, seed, step index) alone (rule R2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from smcbench.errors import InvalidInput
from smcbench.recipe import Recipe
from smcbench.seeds import generator
from smcbench.task import Task

_POOL = 16
"""Batches whose examples are sorted by length together, where the task gives lengths."""


class Feed(Protocol):
    """The micro-batches of one optimizer step, for this process."""

    def __call__(self, index: int) -> list[Any]: ...


class TaskFeed:
    """Feeds a task's training split, reshuffled each epoch; the last, incomplete batch of an epoch is dropped.

    Every process takes its share of each micro-batch, so that a step sees the same examples on any number of them.
    """

    def __init__(self, task: Task, recipe: Recipe, seed: int, device: torch.device) -> None:
        self._task, self._recipe, self._seed, self._device = task, recipe, seed, device
        self._data = task.data("train")
        self._lengths = task.lengths()
        self._epoch = -1
        self._order: list[list[int]] = []
        if len(self._data) < recipe.batch_size:
            raise InvalidInput(
                f"task {task.name}: {len(self._data)} training examples do not fill one batch of {recipe.batch_size}"
            )

    def __call__(self, index: int) -> list[Any]:
        per_epoch = len(self._data) // self._recipe.batch_size
        epoch, place = divmod(index, per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch, per_epoch)
        examples = self._order[place]
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        size = len(examples) // self._recipe.accumulate
        micro = [examples[i * size : (i + 1) * size][rank::world] for i in range(self._recipe.accumulate)]
        return [to_device(self._task.collate([self._data[i] for i in part]), self._device) for part in micro]

    def _shuffled(self, epoch: int, per_epoch: int) -> list[list[int]]:
        draw = generator(self._seed, "order", epoch)
        size = self._recipe.batch_size
        order = torch.randperm(len(self._data), generator=draw).tolist()[: per_epoch * size]
        if self._lengths is None:
            return [order[i : i + size] for i in range(0, len(order), size)]
        batches: list[list[int]] = []
        for i in range(0, len(order), size * _POOL):
            pool = sorted(order[i : i + size * _POOL], key=self._lengths.__getitem__)
            batches += [pool[j : j + size] for j in range(0, len(pool), size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=draw).tolist()]


class OwnFeed:
    """Feeds a user's own batches: a sequence, taken in turn, or a function of the step index."""

    def __init__(self, batches: Any, device: torch.device) -> None:
        if not callable(batches) and not (isinstance(batches, Sequence) and len(batches)):
            raise InvalidInput(
                f"batches must be a non-empty list or a function of the step index, not {type(batches).__name__}; "
                "of a DataLoader make list(loader)"
            )
        self._batches, self._device = batches, device

    def __call__(self, index: int) -> list[Any]:
        batch = self._batches(index) if callable(self._batches) else self._batches[index % len(self._batches)]
        return [to_device(batch, self._device)]


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors in a nest of dicts, lists and tuples, moved."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    return value
