"""A toy task in double precision, without batch statistics and dropout: for tests that compare bit by bit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench import Evaluation, Metric, Outputs, Recipe, Session, Task
from smcbench.session import build_model
from smcbench.task import Batch, Scope, Split


@functools.cache
def _examples(split: str) -> list[tuple[str, Tensor, int]]:
    draw = torch.Generator().manual_seed({"train": 1, "validation": 2, "test": 3}[split])
    images = torch.randn(96, 12, generator=draw, dtype=torch.float64)
    return [(f"{split}/{i}", x, int(x[:4].argmax())) for i, x in enumerate(images)]


_RECIPE = Recipe(steps=20, batch_size=16, lr=0.02, clip=1.0, weight_decay=0.01)


@dataclass(frozen=True)
class Toy(Task):
    """Which of the first four of twelve numbers is the largest; a two-layer perceptron."""

    recipe: Recipe = _RECIPE
    scope: Scope = "all"
    name: str = "toy"

    family: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    metric: ClassVar[Metric] = Metric("accuracy", chance=25.0)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4)).double()

    def data(self, split: Split) -> Sequence[Any]:
        return _examples(split)

    def collate(self, examples: list[Any]) -> Batch:
        return {"x": torch.stack([e[1] for e in examples]), "y": torch.tensor([e[2] for e in examples])}

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        return Outputs(model(batch["x"]))

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        return F.cross_entropy(outputs.logits, batch["y"], reduction="sum"), len(batch["y"])

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        examples = self.data(split)
        mode = sparse_model.training
        sparse_model.eval()
        with torch.no_grad():
            found = sparse_model(self.collate(list(examples))["x"]).argmax(1).tolist()
        sparse_model.train(mode)
        right = sum(f == e[2] for f, e in zip(found, examples, strict=True))
        return Evaluation(
            {"accuracy": 100 * right / len(examples)}, {e[0]: f for e, f in zip(examples, found, strict=True)}
        )

    def tiny(self) -> Task:
        return self


def session(seed: int = 0, task: Task | None = None, **options: Any) -> Session:
    """A session on the toy."""
    task = task or Toy()
    return Session(task, build_model(task, seed), task.recipe, seed, **options)


def bits(model: nn.Module) -> list[bytes]:
    """The contents of all parameters."""
    return [p.detach().numpy().tobytes() for p in model.parameters()]
