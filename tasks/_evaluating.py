"""What all tasks need around an evaluation: a module in evaluation mode, left as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

_T = TypeVar("_T")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; gives the model's device, and restores the mode of every submodule."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
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
