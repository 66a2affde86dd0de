"""Tasks whose examples have one label each: classes, choices, or a number. The vision and text adapters stand on it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from smcbench.feed import to_device
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.task import Batch, Evaluation, Metric, Outputs, Qualification, Split, Task, in_order

from . import _metrics, _qualified, _recipes
from ._evaluating import chunks, evaluating

_DECIMALS = 5
"""Of a predicted number: more would tell one batch size from another."""
_LARGEST = 1e100
"""Prediction of a number: the sums of the squares of such are finite."""


class Lazy(Sequence[Any]):
    """Examples that are put together one at a time, when asked for."""

    @abstractmethod
    def made(self, index: int) -> Any:
        """The example at an index in [0, length)."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.made(index % len(self))


class Labelled(Task):
    """Logits against one label an example.

    Subclasses say how many classes (or choices) there are, none for a number, and by which metrics they are scored,
    the first of which ranks. Batches hold ``label``, examples have ``id`` and ``label``.
    """

    @property
    @abstractmethod
    def classes(self) -> int | None:
        """How many classes or choices; none: the label is a number."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names in :mod:`_metrics`; the first one ranks."""
        return ("accuracy",)

    @property
    def smoothing(self) -> float:
        """Label smoothing of the training loss."""
        return 0.0

    @property
    def metric(self) -> Metric:
        """The first of the metrics; guessing among the classes reaches one in as many, and no correlation."""
        name = self.metrics[0]
        if name != "accuracy" or self.classes is None:
            return Metric(name, unit="x 100")
        return Metric(name, chance=100 / self.classes)

    def labels(self, split: Split) -> Sequence[Any]:
        """The labels of a split, in order."""
        return [example.label for example in self.data(split)]

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Summed cross-entropy, or squared error."""
        label = batch["label"]
        if self.classes is None:
            return F.mse_loss(outputs.logits.flatten().float(), label, reduction="sum"), len(label)
        smoothing = self.smoothing
        return F.cross_entropy(outputs.logits, label, reduction="sum", label_smoothing=smoothing), len(label)

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """The metrics, and per example the class predicted, or the number."""
        data = self.data(split)
        found: list[Any] = [None] * len(data)
        with evaluating(sparse_model) as device:
            for part in self.batches(split, batch_size, device.type):
                batch = to_device(self.collate([data[i] for i in part]), device)
                logits = self.forward(sparse_model, batch).logits.float()
                decided = logits.flatten() if self.classes is None else logits.argmax(dim=1)
                for index, value in zip(part, decided.tolist(), strict=True):
                    found[index] = round(value, _DECIMALS) if self.classes is None else value
        predictions = dict(zip((example.id for example in data), found, strict=True))
        return Evaluation(self.score(split, found), predictions)

    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """Indices of a split in batches for evaluation, in any order."""
        return chunks(range(len(self.data(split))), batch_size or (1024 if device == "cuda" else 256))

    def score(self, split: Split, predictions: Sequence[Any]) -> dict[str, float]:
        """All scores of predictions in the order of the split."""
        labels = self.labels(split)
        return {name: _metrics.METRICS[name](labels, predictions) for name in self.metrics}

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """All scores of predictions by id."""
        return self.score("test", self._given(predictions))

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """Which are right; of two classes their confusion; of numbers the pairs of prediction and label."""
        found = zip(self._ids(), self.labels("test"), self._given(predictions), strict=True)
        values = {id_: _metrics.outcome(self.metrics[0], label, given) for id_, label, given in found}
        return outcomes(_metrics.KINDS[self.metrics[0]], values, *self.shares())

    def shares(self) -> tuple[Mapping[str, str], Mapping[str, float]] | tuple[None, None]:
        """Groups of the test examples by id, and what share of the score each is; none: all examples count alike."""
        return None, None

    def _ids(self) -> list[str]:
        return [example.id for example in self.data("test")]

    def _given(self, predictions: Mapping[str, Any]) -> list[Any]:
        """In the order of the test split."""
        if (classes := self.classes) is None:
            return in_order(self._ids(), predictions, "a number", lambda value: type(value) in (int, float)
                            and math.isfinite(value) and abs(value) <= _LARGEST)  # fmt: skip
        wanted = f"one of {classes} classes, from 0"
        return in_order(self._ids(), predictions, wanted, lambda value: type(value) is int and 0 <= value < classes)

    def majority(self) -> Mapping[str, float]:
        """The scores on the test split of always giving the commonest training label (of a number: their mean)."""
        labels = self.labels("train")
        constant = sum(labels) / len(labels) if self.classes is None else Counter(labels).most_common(1)[0][0]
        return self.score("test", [constant] * len(self.labels("test")))

    @property
    def qualification(self) -> Qualification | None:
        """As measured."""
        return _qualified.qualification(self)

    def facts(self) -> dict[str, Any]:
        """The recipe's source and what always giving the same answer reaches."""
        majority = {name: f"{value:.1f}" for name, value in self.majority().items()}
        return {"recipe from": _recipes.source_of(self.recipe), "majority": majority}
