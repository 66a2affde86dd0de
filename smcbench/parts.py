"""A task in parts, such as the folds of a cross-validation: a training for each part, one score for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from smcbench.errors import UsageError
from smcbench.recipe import Recipe
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.sources import Requirement
from smcbench.task import Batch, Evaluation, Metric, Outputs, Qualification, Scope, Split, Task, narrower


@dataclass(frozen=True)
class Pooled(Task):
    """Several trainings that are one task: each part has its own model and data, and the predictions are pooled.

    The engine runs a sparsifier on every part by itself, at the same sparsity and seed. A score must be a mean over
    examples: the pooled one is the sum over all parts divided by the number of their examples. Its model, for scoring
    a checkpoint, is the list of the parts' models, whose weights are named ``0.…``, ``1.…``. The parts must have equal
    recipes and disjoint ids.
    """

    name: str
    of: tuple[Task, ...]

    def __post_init__(self) -> None:
        settings = {(repr(part.recipe), part.scope) for part in self.of}
        if len(self.of) < 2 or len(settings) > 1:
            raise UsageError(f"task {self.name}: its parts must be two or more, with the same recipe and scope")

    @property
    def parts(self) -> tuple[Task, ...]:
        """The trainings."""
        return self.of

    @property
    def family(self) -> str:  # type: ignore[override]
        """That of its parts."""
        return self.of[0].family

    @property
    def version(self) -> int:  # type: ignore[override]
        """That of its parts."""
        return self.of[0].version

    @property
    def recipe(self) -> Recipe:  # type: ignore[override]
        """That of each part."""
        return self.of[0].recipe

    @property
    def scope(self) -> Scope:  # type: ignore[override]
        """That of each part."""
        return self.of[0].scope

    @property
    def metric(self) -> Metric:
        """That of each part."""
        return self.of[0].metric

    @property
    def pretrained(self) -> bool:
        """Whether the parts start from weights trained elsewhere."""
        return self.of[0].pretrained

    @property
    def starts_sparse(self) -> bool:
        """Whether those are sparse."""
        return self.of[0].starts_sparse

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """Those of the parts."""
        return self.of[0].variants

    def variant(self, which: str) -> Pooled:
        """The variant of every part."""
        if which not in self.variants:
            raise UsageError(f"task {self.name} has no variant {which!r}; it has {', '.join(self.variants) or 'none'}")
        return Pooled(f"{self.name}@{which}", tuple(part.variant(which) for part in self.of))

    def scaled(self, width: float) -> Pooled:
        """Every part scaled."""
        return Pooled(self.name, tuple(part.scaled(width) for part in self.of))

    def smaller(self, density: float) -> Pooled:
        """Every part with the widest network that fits it: their vocabularies, and so their widths, may differ."""
        return Pooled(narrower(self.name, density), tuple(part.smaller(density) for part in self.of))

    def requirements(self) -> Sequence[Requirement]:
        """What any part needs, once."""
        return list(dict.fromkeys(need for part in self.of for need in part.requirements()))

    @property
    def qualification(self) -> Qualification | None:
        """The parts are not qualified one by one."""
        return None

    def facts(self) -> dict[str, Any]:
        """Those of the first part, and how many there are."""
        return {"parts": f"{len(self.of)} trainings a run, predictions pooled; what follows is of the first one",
                **self.of[0].facts()}  # fmt: skip

    def build_model(self) -> nn.Module:
        """The list of the parts' models."""
        return nn.ModuleList([part.build_model() for part in self.of])

    def architecture(self) -> nn.Module:
        """The list of the parts' architectures."""
        return nn.ModuleList([part.architecture() for part in self.of])

    def prunable(self, model: nn.Module) -> list[str]:
        """The scopes of all parts."""
        return prefixed(part.prunable(inner) for part, inner in zip(self.of, _models(model), strict=True))

    def data(self, split: Split) -> Sequence[Any]:
        """The examples of all parts, in turn."""
        return [example for part in self.of for example in part.data(split)]

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """The parts' models scored each on its own part, and pooled."""
        return self.pooled(
            [
                part.evaluate(inner, split, batch_size=batch_size)
                for part, inner in zip(self.of, _models(sparse_model), strict=True)
            ]
        )

    def pooled(self, found: Sequence[Evaluation]) -> Evaluation:
        """One evaluation of those of the parts: means weighted by examples, and all predictions."""
        sizes = [len(each.predictions) for each in found]
        scores = {
            name: sum(size * each.scores[name] for size, each in zip(sizes, found, strict=True)) / sum(sizes)
            for name in found[0].scores
        }
        predictions = {key: value for each in found for key, value in each.predictions.items()}
        if len(predictions) < sum(sizes):
            raise UsageError(f"task {self.name}: two of its parts have a test example of the same id")
        return Evaluation(scores, predictions)

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Those of the parts, pooled."""
        found = [Evaluation(part.rescored(some), some) for part, some in self._apart(predictions)]
        return self.pooled(found).scores

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """Those of the parts, which are shares or means, together."""
        values: dict[str, list[float]] = {}
        for part, some in self._apart(predictions):
            found = part.outcomes(some)
            values |= zip(sorted(some), found.values.tolist(), strict=True)
        return outcomes(found.kind, values)

    def _apart(self, predictions: Mapping[str, Any]) -> list[tuple[Task, dict[str, Any]]]:
        """Predictions by part; what belongs to none goes to the last, which refuses it."""
        apart, rest = [], dict(predictions)
        for part in self.of:
            ids = [example.id for example in part.data("test")]
            apart.append((part, {id_: rest.pop(id_) for id_ in ids if id_ in rest}))
        apart[-1][1].update(rest)
        return apart

    def identity(self) -> dict[str, Any]:
        """The identities of the parts."""
        return {"name": self.name, "version": self.version, "scope": self.scope, "recipe": self.recipe.as_dict(),
                "parts": [part.identity() for part in self.of]}  # fmt: skip

    def tiny(self) -> Task:
        """That of one part."""
        return self.of[0].tiny()

    def collate(self, examples: list[Any]) -> Batch:
        """Nothing can be trained on the whole."""
        raise self._not_whole()

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Nothing can be trained on the whole."""
        raise self._not_whole()

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Nothing can be trained on the whole."""
        raise self._not_whole()

    def _not_whole(self) -> UsageError:
        return UsageError(f"task {self.name} has parts, each trained by itself: take a session on one of task.parts")


def prefixed(groups: Iterable[Iterable[str]]) -> list[str]:
    """Names under the number of their part.

    >>> prefixed([["a"], ["a", "b"]])
    ['0.a', '1.a', '1.b']
    """
    return [f"{number}.{name}" for number, names in enumerate(groups) for name in names]


def _models(model: nn.Module) -> Iterator[Any]:
    return model.children()
