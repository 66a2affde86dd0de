"""smcbench: a benchmark for sparse neural networks.

Importing it is instant; torch is loaded with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smcbench.cell import run as run
    from smcbench.recipe import Recipe as Recipe
    from smcbench.results.frame import load_leaderboard as load_leaderboard
    from smcbench.session import Session as Session
    from smcbench.sparsifier import Sparsifier as Sparsifier
    from smcbench.sparsity.mask import Mask as Mask
    from smcbench.state import State as State
    from smcbench.task import Evaluation as Evaluation
    from smcbench.task import Metric as Metric
    from smcbench.task import Outputs as Outputs
    from smcbench.task import Task as Task
    from smcbench.trainer import Step as Step

__version__ = "0.1.0"

_HOMES = {
    "Evaluation": "task",
    "Mask": "sparsity.mask",
    "Metric": "task",
    "Outputs": "task",
    "Recipe": "recipe",
    "Session": "session",
    "Sparsifier": "sparsifier",
    "State": "state",
    "Step": "trainer",
    "Task": "task",
    "load_leaderboard": "results.frame",
    "run": "cell",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'smcbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"smcbench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
