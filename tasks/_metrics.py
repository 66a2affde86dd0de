"""Metrics of labelled tasks, in per cent, by scikit-learn and scipy; a constant predictor has no correlation: 0."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from smcbench.results.outcomes import Kind

Scores = Sequence[float]


def accuracy(labels: Scores, predictions: Scores) -> float:
    """Share of right answers.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    75.0
    """
    return 100 * sum(a == b for a, b in zip(labels, predictions, strict=True)) / len(labels)


def f1(labels: Scores, predictions: Scores) -> float:
    """Harmonic mean of precision and recall of class 1.

    >>> round(f1([0, 1, 1, 0], [0, 1, 0, 0]), 6)
    66.666667
    """
    return 100 * float(_imported("sklearn.metrics").f1_score(labels, predictions, zero_division=0.0))


def matthews(labels: Scores, predictions: Scores) -> float:
    """Matthews correlation of two classes.

    >>> matthews([0, 0, 1, 1], [0, 0, 1, 1]), matthews([0, 1], [1, 1])
    (100.0, 0.0)
    """
    return 100 * float(_imported("sklearn.metrics").matthews_corrcoef(labels, predictions))


def pearson(labels: Scores, predictions: Scores) -> float:
    """Pearson's correlation.

    >>> round(pearson([1, 2, 3], [2, 4, 6]), 6), pearson([1, 2, 3], [5, 5, 5])
    (100.0, 0.0)
    """
    return _correlation("pearsonr", labels, predictions)


def spearman(labels: Scores, predictions: Scores) -> float:
    """Spearman's rank correlation.

    >>> round(spearman([1, 2, 3], [2, 4, 60]), 6)
    100.0
    """
    return _correlation("spearmanr", labels, predictions)


def _correlation(of: str, labels: Scores, predictions: Scores) -> float:
    if len(set(predictions)) < 2 or len(set(labels)) < 2:
        return 0.0
    value = float(getattr(_imported("scipy.stats"), of)(labels, predictions)[0])
    return 0.0 if math.isnan(value) else 100 * value


def _imported(name: str) -> Any:
    """A heavy module, when it is needed; its import draws from Python's generator, which an evaluation must not."""
    state = random.getstate()
    try:
        return importlib.import_module(name)
    finally:
        random.setstate(state)


def outcome(metric: str, label: float, prediction: float) -> tuple[float, ...]:
    """What one example adds to a metric, as :mod:`smcbench.results.outcomes` has it.

    >>> outcome("accuracy", 1, 1), outcome("f1", 1, 0)
    ((True,), (False, False, True, False))
    """
    if metric == "accuracy":
        return (label == prediction,)
    if metric in ("f1", "matthews"):
        yes, said = label == 1, prediction == 1
        return yes and said, said and not yes, yes and not said, not (yes or said)
    return prediction, label


METRICS: dict[str, Callable[[Scores, Scores], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
KINDS: dict[str, Kind] = {
    "accuracy": "accuracy",
    "f1": "f1",
    "matthews": "matthews",
    "pearson": "pearson",
    "spearman": "spearman",
}
"""What their outcomes are called."""
