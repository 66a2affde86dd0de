"""Criteria: scores for the prunable weights of a session; higher is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smcbench.session import Session
from smcbench.sparsity.keep import Elementwise


def magnitude(session: Session) -> Elementwise:
    """``|w|``, computed where it is needed (Han et al., 2015, arXiv:1506.02626)."""
    return Elementwise(torch.abs, session.weights)


def random_scores(session: Session) -> dict[str, Tensor]:
    """Uniform in [0, 1), from the session's generator: the same on every device."""
    return {
        name: torch.rand(weight.shape, generator=session.generator).to(weight.device)
        for name, weight in session.weights.items()
    }


def connection_sensitivity(session: Session, batches: int = 1) -> Elementwise:
    """``|g * w|`` with the gradient of the mean loss over some batches (SNIP, Lee et al., 2019, eq. 4-6).

    It equals the magnitude of the gradient with respect to a mask of ones; the paper's normalisation by the sum does
    not change the order.
    """
    gradients: Mapping[str, Tensor] = session.gradients(batches)
    return Elementwise(lambda g, w: (g * w).abs(), gradients, session.weights)
