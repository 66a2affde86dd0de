"""The task: a dataset, a dense model, a recipe and a metric. It owns everything that must be equal for all methods."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.recipe import Recipe
from smcbench.results.outcomes import Outcomes
from smcbench.sources import Requirement
from smcbench.sparsity.distributions import count

SOURCE = "__smcbench_source__"
"""In a module loaded from a file: the digest of that file."""

Batch = dict[str, Tensor]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Scope = Literal["all", "encoder", "fld"]

_STEPS = 1 << 12
"""A narrower network's width is a whole number of these parts of the dense one's."""


@dataclass(frozen=True)
class Metric:
    """The score that ranks: its name, its unit, its direction, and what guessing reaches."""

    name: str
    unit: str = "%"
    higher_is_better: bool = True
    chance: float = 0.0


@dataclass(frozen=True)
class Qualification:
    """Whether a task can tell methods apart, as measured.

    Attributes:
        dense: mean test score of the dense network.
        spread: standard deviation of that over seeds.
        separation: by how much one-shot magnitude pruning after training beats random pruning before it at .945.
        seeds: how many.
    """

    STEADY: ClassVar[float] = 0.2
    """Largest spread that qualifies, as a fraction of the distance of the dense score from chance."""
    APART: ClassVar[float] = 5.0
    """Smallest separation that qualifies, in spreads."""

    dense: float
    spread: float
    separation: float
    seeds: int

    def qualifies(self, metric: Metric) -> bool:
        """Whether seeds agree and methods part.

        >>> Qualification(99.4, 0.4, 15.4, 3).qualifies(Metric("accuracy", chance=10.0))
        True
        """
        distance = abs(self.dense - metric.chance)
        return self.spread < self.STEADY * distance and self.separation > self.APART * self.spread


class Outputs(NamedTuple):
    """What a forward pass gives: logits, and which of their leading positions count (None: all)."""

    logits: Tensor
    valid: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores by name, and the prediction for each example by its stable id, from which the scores follow."""

    scores: dict[str, float]
    predictions: dict[str, Any]


class Task(ABC):
    """A dataset, a dense model, a recipe and a metric; frozen, cheap to construct, loads nothing until asked.

    Concrete tasks are frozen dataclasses; ``recipe`` and ``scope`` are fields, the rest may be class variables.
    """

    name: str
    family: ClassVar[str]
    version: ClassVar[int]
    recipe: Recipe
    scope: Scope

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The score that ranks."""

    @property
    def pretrained(self) -> bool:
        """Whether the dense model starts from weights trained elsewhere."""
        return False

    @property
    def starts_sparse(self) -> bool:
        """Whether those weights are sparse: the mask of a session then begins as their non-zeros."""
        return False

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """Variants that ``NAME@VARIANT`` names, each as the fields it changes: another scope, a random start."""
        return {}

    def variant(self, which: str) -> Task:
        """One of the variants, named ``NAME@VARIANT``.

        Raises:
            UsageError: there is none of this name.
        """
        if which not in self.variants:
            raise UsageError(f"task {self.name} has no variant {which!r}; it has {', '.join(self.variants) or 'none'}")
        changes = {"name": f"{self.name}@{which}", **self.variants[which]}
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def scaled(self, width: float) -> Task:
        """The same task with the widths of its network times ``width``, each the nearest that the network may have.

        Depth, heads of attention, vocabulary, positions and dropout stay. A wider one has no fewer weights, and 1 gives
        the task itself. Where weights are pretrained, there is no network of another width to take them.

        Raises:
            UsageError: its network has only one width, as has every task that does not say otherwise.
        """
        raise UsageError("its network has only one width")

    def smaller(self, density: float) -> Task:
        """The same task with a narrower dense network of the same family: what a sparse one of ``density`` must beat.

        It is the widest, in steps of 1/4,096 of the width, whose prunable weights are at most as many as this task's
        network keeps at that density, ``round(density * n)``.

        Raises:
            UsageError: there is none; the text says why, as a sparsifier's ``skip`` does.
        """
        if self.pretrained:
            raise UsageError("it starts from pretrained weights, which fit no narrower network")
        found = _widest(self, prunable_weights(self.scaled(1.0)), density)
        return dataclasses.replace(found, name=narrower(self.name, density))  # type: ignore[type-var]

    @property
    def parts(self) -> tuple[Task, ...]:
        """The trainings a run consists of: one; or one for each fold of a cross-validation (``parts.Pooled``)."""
        return (self,)

    def pooled(self, found: Sequence[Evaluation]) -> Evaluation:
        """The evaluation of the whole from those of its parts."""
        (only,) = found
        return only

    def requirements(self) -> Sequence[Requirement]:
        """The data sets and pretrained models it needs that do not come with the package."""
        return ()

    def prepare(self) -> dict[str, int]:
        """Get ready to run, offline from then on: fetch, read and cache everything; gives the size of each split.

        Raises:
            InvalidInput: something is missing or not what it should be.
        """
        sizes: dict[str, int] = {
            split: len(self.data(split)) for split in SPLITS
        }  # from the cache, if it was done before
        for requirement in self.requirements():
            if requirement.kind == "model":
                requirement.fetch()
        return sizes

    @property
    def qualification(self) -> Qualification | None:
        """The figures of ``smcbench info NAME --qualify``, if they were measured for this version."""
        return None

    def facts(self) -> dict[str, Any]:
        """What else a reader should know, by name: where the recipe is from, how splits are made, majority scores."""
        return {}

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The dense model in fp32 on the CPU; random parts from torch's global generator, which the caller seeds."""

    def architecture(self) -> nn.Module:
        """The dense model with any weights at all: for counting, on the meta device, where nothing is loaded."""
        return self.build_model()

    @abstractmethod
    def data(self, split: Split) -> Sequence[Any]:
        """The examples of a split, by index; the trainer owns their order. Loaded once, then kept."""

    @abstractmethod
    def collate(self, examples: list[Any]) -> Batch:
        """Tensors by name, on the CPU, for a list of examples."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Run ``model`` on a batch."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """The *sum* of the loss over what is counted, and the count; the trainer divides by that of the whole step."""

    @abstractmethod
    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """Score any module with the right forward, whatever made it. Pure: no training, weights and mode as before.

        ``validation`` may use a cheaper metric of the same name (it is for methods to look at); ``test`` ranks.
        """

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """All scores of predictions for the test split: those that :meth:`evaluate` gave with them, to the last bit.

        Raises:
            InvalidInput: an example has none, or one that cannot be; or there is one of an example that is not there.
            UsageError: the task has no scorer apart from :meth:`evaluate`.
        """
        raise self._no_scorer()

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """What each of these predictions adds to the score that ranks.

        Raises:
            InvalidInput: as :meth:`rescored`.
            UsageError: likewise.
        """
        raise self._no_scorer()

    def _no_scorer(self) -> UsageError:
        return UsageError(
            f"task {self.name} cannot be scored from predictions; give it the methods rescored and outcomes"
        )

    @abstractmethod
    def tiny(self) -> Task:
        """The same adapter on little data with a two-layer model and a recipe of some ten steps; seconds on a CPU."""

    def lengths(self) -> Sequence[int] | None:
        """Lengths of the training examples, if batches should gather examples of like length."""
        return None

    def head(self) -> tuple[str, ...]:
        """Prefixes of the parameters that make up the head, which scope ``encoder`` leaves out."""
        return ()

    def prunable(self, model: nn.Module) -> list[str]:
        """Names of the parameters that sparsifiers may prune: the task's scope, the same for every method.

        ``all``: every trainable matrix or convolution kernel (2-D or 4-D), embeddings and heads included, as SMC-Bench
        does; ``encoder``: the linear and convolution weights outside embeddings and head, as oBERT and movement
        pruning do; ``fld``: ``all`` but the first and the last. A tied parameter appears once.
        """
        names = [name for name, p in model.named_parameters() if p.requires_grad and p.ndim in (2, 4)]
        if self.scope == "fld":
            return names[1:-1]
        if self.scope == "encoder":
            embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
            parameters = dict(model.named_parameters())
            names = [
                name for name in names if id(parameters[name]) not in embeddings and not name.startswith(self.head())
            ]
        return names

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimizer groups; a group's ``lr`` is its own peak. Default: no weight decay on vectors (biases, norms)."""
        decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        return [{"params": decayed}, {"params": others, "weight_decay": 0.0}]

    def identity(self) -> dict[str, Any]:
        """Name, version, scope, recipe and parameters: what makes a result of this task comparable with another."""
        fields: dict[str, Any] = dataclasses.asdict(self) if dataclasses.is_dataclass(self) else {}
        if source := getattr(sys.modules.get(type(self).__module__), SOURCE, None):  # a file has no version to go by
            fields["source"] = source
        return {"name": self.name, "version": self.version, **fields, "recipe": self.recipe.as_dict()}

    def digest(self) -> str:
        """SHA-256 of the identity."""
        return files.digest(self.identity())


def in_order(
    ids: Iterable[str], predictions: Mapping[str, Any], wanted: str, valid: Callable[[Any], bool]
) -> list[Any]:
    """Predictions, which may be anybody's, in the order of their examples.

    >>> in_order(["a", "b"], {"b": 1, "a": 0}, "a whole number", lambda value: type(value) is int)
    [0, 1]
    >>> in_order(["a"], {"a": "0"}, "a whole number", lambda value: type(value) is int)
    Traceback (most recent call last):
    smcbench.errors.InvalidInput: example 'a': its prediction must be a whole number, not '0'

    Raises:
        InvalidInput: one is missing, is of no example, or is not what is ``wanted``; the message names the example.
    """
    known = dict.fromkeys(ids)
    for id_ in known:
        if id_ not in predictions:
            raise InvalidInput(f"example {id_!r} has no prediction")
        if not valid(predictions[id_]):
            raise InvalidInput(f"example {id_!r}: its prediction must be {wanted}, not {predictions[id_]!r:.40}")
    for id_ in predictions:
        if id_ not in known:
            raise InvalidInput(f"there is a prediction for {id_!r:.80}, which is no example of the test split")
    return [predictions[id_] for id_ in known]


def nearest(size: float, multiple: int = 1) -> int:
    """The multiple that is nearest to a size, but not none at all: a layer of a network that was made narrower.

    >>> nearest(28.8), nearest(28.8, 4), nearest(0.1, 4)
    (29, 28, 4)
    """
    return max(1, round(size / multiple)) * multiple


def narrower(name: str, density: float) -> str:
    """What a task with a narrower network is called.

    >>> narrower("digits", 0.262144)
    'digits-narrow-0.262144'
    """
    return f"{name}-narrow-{density:.6g}"


def prunable_weights(task: Task) -> int:
    """How many weights are in the scope, counted without making them."""
    with torch.device("meta"):
        model = task.architecture()
    shapes = dict(model.named_parameters())
    return sum(shapes[name].numel() for name in task.prunable(model))


@functools.lru_cache(maxsize=256)
def _widest(task: Task, whole: int, density: float) -> Task:
    """That of at most a density of the ``whole``, which is told because it may depend on data beside the task."""
    most = count(density, whole)
    widths = list(dict.fromkeys(task.scaled(step / _STEPS) for step in range(1, _STEPS + 1)))
    fits = bisect.bisect_right(widths, most, key=prunable_weights)
    if not fits:
        least = prunable_weights(widths[0])
        raise UsageError(
            f"its narrowest network has {least:,} prunable weights, more than the {most:,} of density {density:.6g}"
        )
    return widths[fits - 1]
