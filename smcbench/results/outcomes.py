"""Outcomes: what each example of a test split adds to the score that ranks; all statistics stand on them.

A score is a function of sums over examples: of the right answers, of a confusion matrix, of the n-grams that match. So
these few numbers an example are enough to give a score an interval, and to compare two networks example by example,
without the task, its references, or torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.results import predictions

Kind = Literal["accuracy", "mean", "f1", "matthews", "pearson", "spearman", "bleu"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS: Mapping[Kind, int] = {
    "accuracy": 1, "mean": 1, "f1": 4, "matthews": 4, "pearson": 2, "spearman": 2, "bleu": 10
}  # fmt: skip
"""Numbers of an example."""
_SHARE, _CORRELATION = (0.0, 100.0), (-100.0, 100.0)
BOUNDS: Mapping[Kind, tuple[float, float]] = {
    "accuracy": _SHARE, "f1": _SHARE, "bleu": _SHARE, "mean": (-np.inf, np.inf),
    "matthews": _CORRELATION, "pearson": _CORRELATION, "spearman": _CORRELATION,
}  # fmt: skip
"""Between what a score lies."""
LIMIT = 1 << 26
"""Bytes that a file of outcomes may unfold to."""
_ORDERS = 4
"""Of BLEU's n-grams."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each example of a test split adds to the score that ranks; examples in the order of their sorted ids.

    Attributes:
        kind: how the score follows.
        examples: digest of the sorted ids; the outcomes of two networks can be paired iff it is equal.
        values: of shape (examples, width of the kind): right (0 or 1); a number to be averaged; true and false
            positives, false and true negatives (one of them 1); prediction and label; matching n-grams of orders 1
            to 4, all n-grams of orders 1 to 4, length, length of the reference.
        groups: of each example, such as a direction of translation, from 0: groups are scored apart.
        weights: of each group; the score is the weighted mean of theirs. They sum to 1; a weight may be 0.
        units: of each example, from 0: those of one unit were drawn together, such as a phrase in all directions, and
            are resampled together.
    """

    kind: Kind
    examples: str
    values: Floats
    groups: Ints
    weights: Floats
    units: Ints

    def __len__(self) -> int:
        return len(self.values)

    @functools.cached_property
    def features(self) -> Floats:
        """What is summed, of shape (examples, features): the values; for a correlation by moments, those moments.

        Of ranks, which depend on the whole, there is no sum: for ``spearman`` these are prediction and label.
        """
        if self.kind != "pearson":
            return self.values
        spread = np.ptp(self.values, axis=0) > 0  # what is constant is so exactly
        x, y = np.where(spread, self.values - self.values.mean(axis=0), 0.0).T
        return np.stack([x, y, x * x, y * y, x * y], axis=1)

    def score(self) -> float:
        """The score, in the unit of the metric (in per cent, where that is of shares and correlations)."""
        count = np.arange(len(self.weights))[:, None] == self.groups
        if self.kind == "spearman":
            each = np.array([spearman(self.values[some]) for some in count])
        else:
            each = reduced(self.kind, count @ self.features, count.sum(axis=1))
        return float(each @ self.weights)


def outcomes(
    kind: Kind,
    values: Mapping[str, Sequence[float]],
    groups: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
) -> Outcomes:
    """Outcomes from values by example id.

    Args:
        kind: how the score follows.
        values: as many numbers as the kind has.
        groups: of each example; default: all are one.
        weights: of each group; default: all alike.
        units: of each example; default: each is its own.

    >>> outcomes("accuracy", {"b": [1], "a": [0]}).score()
    50.0
    """
    ids = sorted(values)
    of = [groups[id_] if groups else "" for id_ in ids]
    names = sorted(set(of))
    share = [weights[name] if weights else 1.0 for name in names]
    unit: dict[str, int] = {}
    return Outcomes(
        kind,
        files.digest(ids),
        np.array([values[id_] for id_ in ids], dtype=np.float64).reshape(len(ids), WIDTHS[kind]),
        np.array([names.index(name) for name in of], dtype=np.int64),
        np.array(share) / sum(share),
        np.array([unit.setdefault(units[id_] if units else id_, len(unit)) for id_ in ids], dtype=np.int64),
    )


# -- scores from sums


def reduced(kind: Kind, sums: Floats, counts: NDArray[Any]) -> Floats:
    """Scores from sums of features, over any leading axes: (…, features) and (…) give (…).

    What is not defined, such as the correlation of a constant, is 0, as in the tasks. ``spearman`` has no sums.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _REDUCED[kind](np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64))


def _accuracy(sums: Floats, counts: Floats) -> Floats:
    return 100 * _mean(sums, counts)


def _mean(sums: Floats, counts: Floats) -> Floats:
    return _defined(sums[..., 0] / counts)


def _f1(sums: Floats, counts: Floats) -> Floats:
    """Harmonic mean of precision and recall of class 1, in per cent."""
    right, false, missed, _ = np.moveaxis(sums, -1, 0)
    return _defined(200 * right / (2 * right + false + missed))


def _matthews(sums: Floats, counts: Floats) -> Floats:
    """Correlation of two classes (Matthews 1975), in per cent."""
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    return _defined(100 * (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _pearson(sums: Floats, counts: Floats) -> Floats:
    """From the sums of x, y, x², y² and xy, in per cent; a variance that is rounding noise is none."""
    x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    of_x, of_y = counts * xx - x * x, counts * yy - y * y
    vague = (of_x <= 1e-12 * counts * xx) | (of_y <= 1e-12 * counts * yy)
    return np.where(vague, 0.0, _defined(100 * (counts * xy - x * y) / np.sqrt(of_x) / np.sqrt(of_y)))


def _bleu(sums: Floats, counts: Floats) -> Floats:
    """sacreBLEU's corpus BLEU (Post 2018) with its exponential smoothing, bounded by 100."""
    right, total = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    length, reference = sums[..., -2], sums[..., -1]
    halved = 0.5 ** np.cumsum((right == 0) & (total > 0), axis=-1)
    precision = np.where(right == 0, halved, right) / total
    defined = (total > 0).all(axis=-1) & (right > 0).any(axis=-1)
    brevity = np.minimum(0.0, 1 - reference / length)
    return np.where(defined, np.minimum(100.0, 100 * np.exp(brevity + np.log(precision).mean(axis=-1))), 0.0)


_REDUCED: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "accuracy": _accuracy, "mean": _mean, "f1": _f1, "matthews": _matthews, "pearson": _pearson, "bleu": _bleu
}  # fmt: skip


def _defined(scores: Floats) -> Floats:
    return np.where(np.isfinite(scores), scores, 0.0)


def spearman(values: Floats, counts: NDArray[Any] | None = None) -> Floats:
    """Spearman's rank correlation, in per cent, ties sharing the mean of their ranks; 0 where one is constant.

    Args:
        values: two numbers an example, of shape (examples, 2).
        counts: how often each example stands, of shape (…, examples); default: once. A resample need not be sorted
            again: the ranks of all its examples follow from how many lie below each.
    """
    weights = np.ones(len(values)) if counts is None else np.asarray(counts, dtype=np.float64)
    x, y = values.T
    return correlation(ranked(x, weights), ranked(y, weights), weights.sum(axis=-1))


class Ranked(NamedTuple):
    """Ranks of numbers that stand more than once, less their mean: (…, numbers), and the sum of their squares: (…)."""

    ranks: Floats
    weighted: Floats
    square: Floats


def ranked(x: Floats, weights: Floats) -> Ranked:
    """The ranks of numbers that stand ``weights`` (…, numbers) times each."""
    ranks = _below(x, weights)
    ranks -= weights.sum(axis=-1)[..., None] / 2
    weighted = weights * ranks
    return Ranked(ranks, weighted, np.einsum("...n,...n->...", weighted, ranks))


def correlation(one: Ranked, other: Ranked, total: Floats) -> Floats:
    """Of ranks with the same weights, whose sum is ``total``, in per cent; 0 where one of them is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        vague = (one.square <= 1e-12 * total**3) | (other.square <= 1e-12 * total**3)
        both = np.einsum("...n,...n->...", one.weighted, other.ranks)
        return np.where(vague, 0.0, _defined(100 * both / np.sqrt(one.square) / np.sqrt(other.square)))


def slopes(of: Outcomes) -> Floats:
    """What one more of each example would change of the score, to first order; of shape (examples,).

    The derivative of the score by the weight of an example (its empirical influence over their number),
    centred in its group; the squares of these are what the score varies by with other examples (Efron 1982).
    """
    found = np.zeros(len(of))
    for group, weight in enumerate(of.weights):
        inside = np.flatnonzero(of.groups == group)
        features = of.features[inside]
        each = _rank_slopes(*features.T) if of.kind == "spearman" else _sum_slopes(of.kind, features)
        found[inside] = weight * (each - each.mean())
    return found


def _sum_slopes(kind: Kind, features: Floats) -> Floats:
    """By central differences in the sums; a feature that no example has makes no difference."""
    columns = np.hstack([features, np.ones((len(features), 1))])
    sums, steps = columns.sum(axis=0), 1e-5 * np.abs(columns).sum(axis=0)
    moved = np.stack([sums + np.diag(steps), sums - np.diag(steps)])
    up, down = reduced(kind, moved[..., :-1], moved[..., -1])
    result: Floats = columns @ ((up - down) / np.where(steps > 0, 2 * steps, 1.0))
    return result


def _rank_slopes(x: Floats, y: Floats) -> Floats:
    """Of a rank correlation: an example counts itself, and lifts the ranks of all that stand above it."""
    n = len(x)
    u, v = (_below(each, np.ones(n)) / n - 0.5 for each in (x, y))
    uu, vv, uv = u @ u, v @ v, u @ v
    if min(uu, vv) <= 1e-12 * n:
        return np.zeros(n)

    def lifted(by: Floats, ranked: Floats) -> Floats:
        return _below(-ranked, by) / n

    of_uu, of_vv = u * u + 2 * lifted(u, x), v * v + 2 * lifted(v, y)
    of_uv = u * v + lifted(v, x) + lifted(u, y)
    return 100 * (of_uv - uv / 2 * (of_uu / uu + of_vv / vv)) / np.sqrt(uu * vv)


def _below(x: Floats, weights: Floats) -> Floats:
    """How many stand below each example, and half of those level with it: its mean rank but for 1/2."""
    _, place = np.unique(x, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    level = np.add.reduceat(weights[..., order], starts, axis=-1)
    result: Floats = (np.cumsum(level, axis=-1) - level / 2)[..., place]
    return result


# -- on disk


def encode(by_run: Mapping[str, Outcomes]) -> bytes:
    """The compressed file of the runs on one task, which share its examples; equal content gives equal bytes."""
    first = next(iter(by_run.values()))
    for run, each in by_run.items():
        if _header(each) != _header(first):
            raise InvalidInput(f"run {run}: its outcomes are of other examples than those of the others")
    values = {run: _written(each) for run, each in by_run.items()}
    return predictions.compress(files.canonical({**_header(first), "runs": values}).encode())


def _header(of: Outcomes) -> dict[str, Any]:
    """What the runs on a task share; that all examples are one group, or each its own unit, is not written out."""
    found: dict[str, Any] = {"kind": of.kind, "examples": of.examples, "n": len(of)}
    if len(of.weights) > 1:
        found |= {"groups": of.groups.tolist(), "weights": of.weights.tolist()}
    if of.units.max(initial=-1) < len(of) - 1:
        found["units"] = of.units.tolist()
    return found


def _written(of: Outcomes) -> Any:
    if of.kind == "accuracy":
        return "".join(map(str, of.values[:, 0].astype(int)))
    plain = [[int(v) if v == int(v) else v for v in row] for row in of.values.tolist()]
    return plain if WIDTHS[of.kind] > 1 else [v for (v,) in plain]


def read_runs(path: Path, limit: int = LIMIT) -> dict[str, Outcomes]:
    """Outcomes by run, of a file that :func:`encode` wrote, of at most ``limit`` bytes unfolded.

    Raises:
        InvalidInput: missing, not zstandard, not strict JSON, or not outcomes; the message names the file and the run.
    """
    text = predictions.unfold(path, limit)
    found = files.parse_json(text, str(path))
    known = {"kind", "examples", "n", "runs"}
    if not isinstance(found, dict) or not known <= found.keys() <= known | {"groups", "weights", "units"}:
        raise InvalidInput(f"{path}: must be an object with the keys {', '.join(sorted(known))}")
    kind, examples, n, runs = found["kind"], found["examples"], found["n"], found["runs"]
    if kind not in get_args(Kind):
        raise InvalidInput(f"{path}: kind must be one of {', '.join(get_args(Kind))}")
    if not isinstance(examples, str) or len(examples) != 64 or not set(examples) <= set("0123456789abcdef"):
        raise InvalidInput(f"{path}: examples must be a SHA-256")
    if type(n) is not int or not 0 < n <= len(text):
        raise InvalidInput(f"{path}: n must be the number of examples")
    if not isinstance(runs, dict):
        raise InvalidInput(f"{path}: runs must be an object")
    if ("groups" in found) != ("weights" in found):
        raise InvalidInput(f"{path}: groups and weights go together")
    groups = _places(found["groups"], n, f"{path}: groups") if "groups" in found else np.zeros(n, np.int64)
    weights = _numbers(found.get("weights", [1]), (int(groups.max()) + 1,), f"{path}: weights")
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-9:
        raise InvalidInput(f"{path}: weights must be positive and sum to 1")
    units = _places(found["units"], n, f"{path}: units") if "units" in found else np.arange(n)
    return {
        run: Outcomes(kind, examples, _values(kind, given, n, f"{path}: run {run!r:.80}"), groups, weights, units)
        for run, given in runs.items()
    }


def _values(kind: Kind, given: Any, n: int, where: str) -> Floats:
    if kind == "accuracy":
        if not isinstance(given, str) or len(given) != n or given.strip("01"):
            raise InvalidInput(f"{where}: must be a text of {n} times 0 or 1")
        return (np.frombuffer(given.encode(), np.uint8) - ord("0")).astype(np.float64)[:, None]
    width = WIDTHS[kind]
    values = _numbers(given, (n, width) if width > 1 else (n,), where).reshape(n, width)
    if kind in ("f1", "matthews") and not (((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()):
        raise InvalidInput(f"{where}: every example must be one of tp, fp, fn and tn")
    if kind == "bleu" and not (
        (values >= 0).all()
        and (values == np.floor(values)).all()
        and (values[:, :_ORDERS] <= values[:, _ORDERS : 2 * _ORDERS]).all()
    ):
        raise InvalidInput(f"{where}: must be counts of n-grams, of which no more match than there are")
    return values


def _numbers(given: Any, size: tuple[int, ...], where: str) -> Floats:
    """Finite numbers of just this shape, none of which is a text or a truth value."""
    wanted = f"{where}: must be {' times '.join(map(str, size))} finite numbers"
    if not isinstance(given, list) or len(given) != size[0]:
        raise InvalidInput(wanted)
    rows = given if len(size) > 1 else [given]
    if not all(isinstance(row, list) and len(row) == size[-1] for row in rows):
        raise InvalidInput(wanted)
    if not all(type(value) in (int, float) for row in rows for value in row):
        raise InvalidInput(wanted)
    try:
        found = np.array(given, dtype=np.float64)
    except OverflowError:
        raise InvalidInput(wanted) from None
    if not (np.abs(found) <= _LARGEST).all():
        raise InvalidInput(wanted)
    return found


_LARGEST = 1e100
"""Sums of squares of numbers up to here are finite."""


def _places(given: Any, n: int, where: str) -> Ints:
    """Whole numbers from 0, each used."""
    found = _numbers(given, (n,), where)
    if not np.array_equal(np.unique(found), np.arange(found.max() + 1 if found.max() < n else 0)):
        raise InvalidInput(f"{where}: must be numbered from 0, without gaps")
    return found.astype(np.int64)
