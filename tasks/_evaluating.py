"""What all tasks need around an evaluation: a module in evaluation mode, left as it was found, and even batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

_T = TypeVar("_T")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; gives the model's device, and restores every mode.

    In the precision of its weights, however it was trained: in bf16, near ties fall differently with the size of a
    batch, and scores could not be had again elsewhere.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield device
    finally:
        for module, mode in modes:
            module.training = mode


def chunks(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    """Consecutive lists of at most ``size`` items.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def buckets(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in batches of like length, the longest first; padded to its longest, a batch has at most ``most`` tokens.

    >>> list(buckets([2, 9, 3, 2], 9))
    [[1], [2, 0, 3]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
