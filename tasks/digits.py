"""Handwritten digits: scikit-learn's 1,797 images of 8x8 and a small residual network; seconds on one CPU core."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from smcbench.recipe import Recipe
from smcbench.task import Batch, Outputs, Scope, Split, nearest

from ._labelled import Labelled
from ._networks import ResNet
from ._recipes import recipe

_TRAIN, _VALIDATION = 1000, 197


class Digit(NamedTuple):
    """An image of shape (1, 8, 8) in [0, 1]; the id holds its index in scikit-learn's order."""

    id: str
    image: Tensor
    label: int


@functools.cache
def splits() -> dict[str, list[Digit]]:
    """All digits, in three splits stratified by class; the seed of the split is part of the task's version."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    everything = list(range(len(labels)))
    train, rest = train_test_split(everything, train_size=_TRAIN, stratify=labels, random_state=0)
    validation, test = train_test_split(rest, train_size=_VALIDATION, stratify=labels[rest], random_state=0)
    tensor = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return {
        split: [Digit(f"digits/{i:04d}", tensor[i], int(labels[i])) for i in sorted(indices)]
        for split, indices in (("train", train), ("validation", validation), ("test", test))
    }


@dataclass(frozen=True)
class Digits(Labelled):
    """Which digit is it? Accuracy on 600 images that training never sees."""

    family: ClassVar[str] = "vision"
    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    scope: Scope = "all"
    widths: tuple[int, ...] = (12, 24)
    """Channels of the residual blocks."""
    limit: int | None = None
    """Most examples of a split; none: all."""

    @property
    def classes(self) -> int:
        """Ten."""
        return 10

    def build_model(self) -> nn.Module:
        return ResNet(self.widths, classes=self.classes)

    def scaled(self, width: float) -> Digits:
        """With fewer channels."""
        return dataclasses.replace(self, widths=tuple(nearest(each * width) for each in self.widths))

    def data(self, split: Split) -> Sequence[Digit]:
        return splits()[split][: self.limit]

    def collate(self, examples: list[Any]) -> Batch:
        return {
            "image": torch.stack([example.image for example in examples]),
            "label": torch.tensor([example.label for example in examples]),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        return Outputs(model(batch["image"]))

    def facts(self) -> dict[str, Any]:
        """With what the splits are."""
        return {"data": "scikit-learn's digits (UCI, CC BY 4.0), split by class", **super().facts()}

    def tiny(self) -> Digits:
        recipe = self.recipe.replace(steps=12, batch_size=32)
        return dataclasses.replace(self, name=f"{self.name}-tiny", recipe=recipe, widths=(4,), limit=128)


digits = Digits(name="digits", recipe=recipe("digits"))
