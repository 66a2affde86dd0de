"""What to run (``RunSpec``) and what happened (``RunRecord``)."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import shape

SCHEMA = 1
"""Shape of the record; another number is another shape."""


@dataclass(frozen=True)
class TaskRef:
    """A task by name and version, and the digest of all that makes its results comparable."""

    name: shape.Line
    version: int
    digest: shape.Digest
    scope: shape.Line
    family: shape.Line


@dataclass(frozen=True)
class SparsifierRef:
    """A sparsifier with its parameters; ``label`` is how people write it.

    ``digest`` stands for what the version does not: the source of what is not installed, a file that is read, the
    method that a control wraps.
    """

    name: shape.Line
    label: shape.Line
    version: int
    parameters: Mapping[str, Any]
    digest: shape.Digest | None = None


@dataclass(frozen=True)
class RunSpec:
    """One cell: this sparsifier on this task at this sparsity, with this seed and budget."""

    task: TaskRef
    sparsifier: SparsifierRef
    sparsity: float
    seed: int
    budget: float

    def __post_init__(self) -> None:
        for name, kind in (("sparsity", float), ("budget", float)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"the {name} is {value!r}, it must be a number")
            object.__setattr__(self, name, kind(value) + 0.0)
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"the sparsity is {self.sparsity!r}, it must lie in [0, 1): the fraction removed")
        if self.budget <= 0:
            raise UsageError(f"the budget is {self.budget!r}, it must be positive: the stretch of the recipe")
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed!r}, it must not be negative")

    def run_id(self, engine: int) -> str:
        """Twelve hexadecimal digits that equal specs share and different ones do not."""
        sparsifier = {k: v for k, v in shape.plain(self.sparsifier).items() if k != "label"}
        identity = {
            "task": self.task.digest,
            "sparsifier": sparsifier,
            "sparsity": self.sparsity,
            "seed": self.seed,
            "budget": self.budget,
            "engine": engine,
        }
        return files.digest(identity)[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return _to_json(self)

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> RunSpec:
        """Read strictly; ``where`` names the source in errors."""
        return shape.read(cls, value, where)


@dataclass(frozen=True)
class MetricInfo:
    """The score that ranks."""

    name: shape.Line
    unit: shape.Line
    higher_is_better: bool
    chance: float


@dataclass(frozen=True)
class Count:
    """How many weights there are and how many of them are exactly zero."""

    weights: int
    zeros: int


@dataclass(frozen=True)
class Denominators:
    """The four ways in which papers count: the task's scope, all linear and convolution weights, all, the file."""

    scope: Count
    linear: Count
    trainable: Count
    stored: Count


@dataclass(frozen=True)
class SparsityReport:
    """Zeros counted in the weights themselves; ``kept`` of ``total`` in the task's scope; densities by layer."""

    target: float
    measured: float
    kept: int
    total: int
    denominators: Denominators
    layers: Mapping[shape.Line, float]
    parts: int | None = None
    """Trainings that were pooled, where there was more than one: each kept its own count, rounded by itself."""


@dataclass(frozen=True)
class Cost:
    """What the run would cost from nothing; the cache saves time (``seconds_cached``), never the bill.

    Of a task in parts these are the sums over its trainings; inference is the mean of their models.
    """

    steps: int
    gradient_evaluations: int
    train_flops: float
    train_flops_dense: float
    """The same steps, dense."""
    budget_flops: float
    """One dense training of the recipe."""
    inference_flops: float
    inference_flops_dense: float
    seconds: float
    seconds_cached: float
    peak_memory: int | None
    searched: float | None = None
    """Of a control: operations of finding out how the method it controls does, which no other sum holds."""


@dataclass(frozen=True)
class Conduct:
    """How the mask behaved, in billed optimizer steps; ``first_prune`` and ``last_prune`` are None if it never did.

    Of a task in parts these are those of one training: the furthest that any went.
    """

    peak_density: float
    mask_updates: int
    regrown: float
    phases: int
    first_prune: int | None
    last_prune: int | None
    explored: float | None = None
    """Fraction of the weights that the mask kept at some optimizer step (R_s); runs of older versions lack it."""


@dataclass(frozen=True)
class Category:
    """What kind of method it was, by its conduct."""

    when: Literal["never", "before", "during", "after", "iterative"]
    start: Literal["dense", "dense-to-sparse", "sparse-to-sparse"]
    mask: Literal["static", "dynamic"]

    def __str__(self) -> str:
        return f"{self.when}, {self.start}, {self.mask}"


@dataclass(frozen=True)
class Digests:
    """SHA-256 of what the run left behind."""

    weights: shape.Digest
    mask: shape.Digest
    predictions: shape.Digest


@dataclass(frozen=True)
class Source:
    """SHA-256 of the source of the two plug-ins."""

    task: shape.Digest
    sparsifier: shape.Digest


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from; recorded, but no part of the identity (except ``engine``)."""

    smcbench: shape.Line
    engine: int
    commit: shape.Line | None
    dirty: bool | None
    python: shape.Line
    torch: shape.Line
    device: shape.Line
    threads: int
    created: shape.Line
    source: Source


@dataclass(frozen=True)
class RunRecord:
    """What happened in one run."""

    schema: Literal[1]
    run: shape.RunId
    spec: RunSpec
    metric: MetricInfo
    scores: Mapping[shape.Line, float]
    sparsity: SparsityReport
    cost: Cost
    conduct: Conduct
    category: Category
    digests: Digests
    provenance: Provenance

    @property
    def score(self) -> float:
        """The score that ranks."""
        return self.scores[self.metric.name]

    @property
    def is_dense(self) -> bool:
        """Whether this is the dense reference of its task, seed and budget."""
        return self.spec.sparsifier.name == "dense" and self.spec.sparsity == 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return _to_json(self)

    def text(self) -> str:
        """One line of canonical JSON."""
        return files.canonical(self.to_json())

    @classmethod
    def from_json(cls, value: Any, where: str = "record") -> RunRecord:
        """Read strictly; the run id must be that of the spec.

        Raises:
            InvalidInput: a key is unknown or missing, a type is wrong, a number is not finite, the id does not fit.
        """
        if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
            raise InvalidInput(
                f"{where}: schema {value['schema']!r}, but this version reads {SCHEMA}; use the smcbench that wrote it"
            )
        record = shape.read(cls, value, where)
        expected = record.spec.run_id(record.provenance.engine)
        if record.run != expected:
            raise InvalidInput(f"{where}: run is {record.run!r}, but its spec has the id {expected!r}; it was edited")
        found, scope = record.sparsity, record.sparsity.denominators.scope
        parts, prefixes = found.parts or 1, {name.partition(".")[0] for name in found.layers}
        if found.parts is not None and (
            parts < 2 or parts != len(prefixes) or prefixes != {str(n) for n in range(parts)}
        ):
            raise InvalidInput(f"{where}: sparsity has layers of other parts than the {parts} it claims")
        if (
            (found.total, found.kept) != (scope.weights, scope.weights - scope.zeros)
            or found.target != record.spec.sparsity
            or found.kept > round((1 - found.target) * found.total) + (parts + 1) // 2 * (parts > 1)
            or abs(found.measured * found.total - scope.zeros) > 0.5
        ):
            raise InvalidInput(f"{where}: sparsity does not add up to the {record.spec.sparsity!r} of its spec")
        if record.metric.name not in record.scores:
            raise InvalidInput(f"{where}: scores has no {record.metric.name!r}, which is the metric")
        return record


def category_of(conduct: Conduct, steps: int, recipe_steps: int) -> Category:
    """The category that the measured conduct amounts to.

    *When* the mask last changed: never -> ``never`` (with start ``dense``, or ``sparse-to-sparse`` where a sparse
    checkpoint kept its mask, and mask ``static``); before the first step -> ``before``; within one training of the
    recipe -> ``during``; later, or after the last step, with one mask update -> ``after``; with more than one ->
    ``iterative``. *Start*: dense-to-sparse iff some step ran fully dense. *Mask*: dynamic iff a removed weight came
    back.

    Args:
        conduct: as measured by the engine.
        steps: all optimizer steps that were billed.
        recipe_steps: the steps of one dense training at the budget of the run.
    """
    if conduct.last_prune is None:
        return Category("never", "sparse-to-sparse" if 0 < conduct.peak_density < 1 else "dense", "static")
    when: Literal["before", "during", "after", "iterative"]
    if conduct.last_prune == 0:
        when = "before"
    elif conduct.mask_updates == 1 and (steps > recipe_steps or conduct.last_prune >= steps):
        when = "after"
    else:
        when = "during" if steps <= recipe_steps else "iterative"
    return Category(
        when,
        "dense-to-sparse" if conduct.peak_density == 1.0 else "sparse-to-sparse",
        "dynamic" if conduct.regrown > 0 else "static",
    )


def slug(text: str) -> str:
    """A text as part of a file name.

    >>> slug("rigl(interval=100)")
    'rigl-interval-100'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def _to_json(value: Any) -> dict[str, Any]:
    assert dataclasses.is_dataclass(value)
    result = shape.plain(value)
    assert isinstance(result, dict)
    return result
