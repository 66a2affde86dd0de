"""Whether a record can be true at all: what may be seen of that without its task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from smcbench.errors import InvalidInput
from smcbench.results.record import Category, Count, RunRecord, category_of

_LARGEST = 1e30
_ROUNDING = 1 + 1e-9
_CLOCKS = timedelta(days=1)
"""By how much clocks and time zones may differ."""


def check(record: RunRecord, where: str) -> None:
    """Refuse a record whose numbers contradict each other.

    Raises:
        InvalidInput: the message says which ones.
    """
    for problem in _problems(record):
        raise InvalidInput(f"{where}: {problem}")


def _problems(record: RunRecord) -> Iterator[str]:
    cost, conduct, sparsity = record.cost, record.conduct, record.sparsity
    for name, value in dataclasses.asdict(cost).items():
        if value is not None and not 0 <= value <= _LARGEST:
            yield f"cost: {name} is {value!r:.40}, which no run costs"
    if cost.train_flops > cost.train_flops_dense * _ROUNDING:
        yield f"cost: train_flops is {cost.train_flops:g}, more than the {cost.train_flops_dense:g} of the same, dense"
    if cost.inference_flops > cost.inference_flops_dense * _ROUNDING:
        yield (
            f"cost: inference_flops is {cost.inference_flops:g}, more than the {cost.inference_flops_dense:g} of the "
            "dense network"
        )
    if not cost.budget_flops or not cost.inference_flops_dense:
        yield "cost: neither budget_flops nor inference_flops_dense can be 0"
    for name, share in (("peak_density", conduct.peak_density), ("explored", conduct.explored)):
        if share is not None and not 0 <= share <= 1:
            yield f"conduct: {name} is {share!r}, it must lie in [0, 1]"
    first, last = conduct.first_prune, conduct.last_prune
    if (first is None) != (last is None) or (conduct.mask_updates > 0) != (last is not None):
        yield "conduct: mask_updates, first_prune and last_prune do not fit each other"
    if min(conduct.mask_updates, conduct.regrown, conduct.phases) < 0 or not 0 <= (first or 0) <= (last or 0):
        yield "conduct: its counts must not be negative, and the first prune not after the last"
    if record.category not in _categories(record):
        yield f"category: {record.category}, which is not what its conduct amounts to"
    for name, density in sparsity.layers.items():
        if not 0 <= density <= 1:
            yield f"sparsity: layers: {name!r:.80} has the density {density!r}, it must lie in [0, 1]"
    counts: dict[str, Count] = {
        f.name: getattr(sparsity.denominators, f.name) for f in dataclasses.fields(sparsity.denominators)
    }
    for name, count in counts.items():
        if not 0 <= count.zeros <= count.weights:
            yield f"sparsity: {name} has {count.zeros} zeros in {count.weights} weights"
    scope, trainable, stored = counts["scope"], counts["trainable"], counts["stored"]
    for inner, outer in ((scope, trainable), (trainable, stored), (counts["linear"], stored)):
        if inner.weights > outer.weights or inner.zeros > outer.zeros:
            yield "sparsity: a denominator is larger than one that contains it"
    density = sparsity.kept / max(1, sparsity.total)
    if not min(sparsity.layers.values(), default=0) <= density * _ROUNDING or not density <= _ROUNDING * max(
        sparsity.layers.values(), default=1
    ):
        yield f"sparsity: no mean of the densities of its layers is {density:g}"
    for name, score in record.scores.items():
        if record.metric.unit == "%" and name == record.metric.name and not 0 <= score <= 100:
            yield f"scores: {name} is {score!r} per cent"
    yield from _when(record.provenance.created)


def _categories(record: RunRecord) -> set[Category]:
    """Those that the conduct may amount to: how long a training is, and of several each, the record does not say."""
    parts = record.sparsity.parts or 1
    return {
        category_of(record.conduct, steps, recipe)
        for steps in {record.cost.steps, record.cost.steps // parts, record.conduct.last_prune or record.cost.steps}
        for recipe in (steps, steps - 1)
        if parts > 1 or steps == record.cost.steps
    }


def _when(created: str) -> Iterator[str]:
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        yield f"provenance: created is {created!r:.40}, not a date and time"
        return
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when > datetime.now(UTC) + _CLOCKS:
        yield f"provenance: created is {created}, which is yet to come"
