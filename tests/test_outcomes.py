"""Outcomes: scores from sums against the libraries that define them, and files that are what they say."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import Toy

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.parts import Pooled
from smcbench.results import predictions
from smcbench.results.outcomes import Kind, Outcomes, encode, outcomes, read_runs, reduced, spearman
from smcbench.testing import ToyTask

DRAW = np.random.default_rng(0)
WORDS = ["the", "cat", "sat", "on", "a", "mat", ",", "and", "dogs", "did", "not", "."]


def numbered(rows: Any) -> dict[str, Any]:
    return {f"{i:04}": row for i, row in enumerate(rows)}


def bleu_rows(hypotheses: list[str], references: list[str]) -> list[list[float]]:
    from sacrebleu.metrics import BLEU

    each = [BLEU().corpus_score([h], [[r]]) for h, r in zip(hypotheses, references, strict=True)]
    return [[*e.counts, *e.totals, e.sys_len, e.ref_len] for e in each]


def sentences(count: int, draw: random.Random, keep: float = 0.8) -> tuple[list[str], list[str]]:
    references = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(count)]
    return [
        " ".join(w if draw.random() < keep else draw.choice(WORDS) for w in r.split()[draw.randint(0, 1) :])
        for r in references
    ], references


# -- scores


def test_shares_and_means() -> None:
    assert outcomes("accuracy", numbered([[1], [0], [1], [1]])).score() == 75.0
    assert outcomes("mean", numbered([[1.5], [2.5]])).score() == 2.0


def test_examples_stand_by_their_sorted_ids() -> None:
    found = outcomes("mean", {"b": [2], "c": [3], "a": [1]})
    assert found.values[:, 0].tolist() == [1, 2, 3]
    assert found.examples == files.digest(["a", "b", "c"])


def test_a_score_is_the_weighted_mean_of_its_groups() -> None:
    values = {"a": [1.0], "b": [2.0], "c": [6.0]}
    groups = {"a": "x", "b": "x", "c": "y"}
    assert outcomes("mean", values, groups).score() == pytest.approx((1.5 + 6) / 2)
    assert outcomes("mean", values, groups, {"x": 1, "y": 3}).score() == pytest.approx((1.5 + 3 * 6) / 4)
    assert outcomes("mean", values, groups, {"x": 1, "y": 0}).score() == pytest.approx(1.5)


@pytest.mark.parametrize("kind", ["f1", "matthews"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_two_classes(kind: Kind, rate: float) -> None:
    from sklearn.metrics import f1_score, matthews_corrcoef

    label, given = DRAW.random(50) < 0.4, DRAW.random(50) < rate
    rows = np.stack([given & label, given & ~label, ~given & label, ~given & ~label], axis=1)
    expected = f1_score(label, given, zero_division=0.0) if kind == "f1" else matthews_corrcoef(label, given)
    assert outcomes(kind, numbered(rows.tolist())).score() == pytest.approx(100 * expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_correlations(kind: Kind) -> None:
    import scipy.stats

    label = DRAW.integers(0, 6, 80) / 2  # ties
    given = label + DRAW.normal(0, 1, 80).round(1) + 1e4
    expected = getattr(scipy.stats, f"{kind}r")(given, label)[0]
    found = outcomes(kind, numbered(np.stack([given, label], axis=1).tolist()))
    assert found.score() == pytest.approx(100 * expected, abs=1e-9)
    constant = np.stack([np.full(80, 0.1), label], axis=1).tolist()
    assert outcomes(kind, numbered(constant)).score() == 0.0


def test_ranks_of_a_resample_need_no_sorting() -> None:
    import scipy.stats

    x, y = DRAW.integers(0, 9, 40).astype(float), DRAW.integers(0, 9, 40).astype(float)
    counts = DRAW.multinomial(40, np.full(40, 1 / 40), size=5)
    expected = [100 * scipy.stats.spearmanr(np.repeat(x, c), np.repeat(y, c))[0] for c in counts]
    assert spearman(np.stack([x, y], axis=1), counts) == pytest.approx(expected)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("count", [1, 40])
def test_bleu_is_that_of_sacrebleu(keep: float, count: int) -> None:
    from sacrebleu import corpus_bleu

    for seed in range(20):
        hypotheses, references = sentences(count, random.Random(seed), keep)
        expected = min(100.0, corpus_bleu(hypotheses, [references]).score)
        assert outcomes("bleu", numbered(bleu_rows(hypotheses, references))).score() == pytest.approx(expected)


def test_bleu_without_any_words() -> None:
    rows = bleu_rows(["", "a"], ["the cat", "a"])
    assert outcomes("bleu", numbered(rows[:1])).score() == 0.0
    assert reduced("bleu", np.array(rows, dtype=float), np.ones(2)).tolist() == [0.0, 0.0]  # no 4-grams


def test_sums_may_have_any_axes() -> None:
    sums = DRAW.integers(1, 9, (3, 2, 4)).astype(float)
    found = reduced("f1", sums, sums.sum(axis=-1))
    assert found.shape == (3, 2)
    assert found[1, 1] == pytest.approx(reduced("f1", sums[1, 1], sums[1, 1].sum()))


# -- on disk


def some(kind: Kind, n: int = 6) -> Outcomes:
    one = np.eye(4)[DRAW.integers(0, 4, n)]
    rows: dict[Kind, Any] = {
        "accuracy": DRAW.integers(0, 2, (n, 1)), "mean": DRAW.normal(size=(n, 1)), "f1": one, "matthews": one,
        "pearson": DRAW.normal(size=(n, 2)), "spearman": DRAW.normal(size=(n, 2)),
        "bleu": np.hstack([np.ones((n, 4)), DRAW.integers(1, 9, (n, 6))]),
    }  # fmt: skip
    groups = {f"{i:04}": "ab"[i % 2] for i in range(n)} if kind == "bleu" else None
    units = {f"{i:04}": str(i // 2) for i in range(n)} if kind == "bleu" else None
    return outcomes(kind, numbered(rows[kind].tolist()), groups, {"a": 1, "b": 2} if kind == "bleu" else None, units)


@pytest.mark.parametrize("kind", ["accuracy", "mean", "f1", "matthews", "pearson", "spearman", "bleu"])
def test_what_is_written_is_read(kind: Kind, tmp_path: Path) -> None:
    runs = {"b": some(kind), "a": some(kind)}
    raw = encode(runs)
    assert raw == encode(dict(sorted(runs.items())))
    path = tmp_path / "task.json.zst"
    path.write_bytes(raw)
    found = read_runs(path)
    assert found.keys() == runs.keys()
    for run, each in runs.items():
        again = found[run]
        assert (again.kind, again.examples) == (each.kind, each.examples)
        for field in ("values", "groups", "weights", "units"):
            assert np.array_equal(getattr(again, field), getattr(each, field)), field
        assert again.score() == each.score()


def test_a_file_is_of_one_set_of_examples() -> None:
    with pytest.raises(InvalidInput, match="run b: its outcomes are of other examples"):
        encode({"a": some("accuracy", 6), "b": some("accuracy", 7)})


def test_accuracies_are_short(tmp_path: Path) -> None:
    values = {f"{i:05}": [int(v)] for i, v in enumerate(DRAW.random(10_000) < 0.9)}
    path = tmp_path / "task.json.zst"
    path.write_bytes(encode({"a": outcomes("accuracy", values)}))
    assert path.stat().st_size < 1_000
    assert '"0' in predictions.unfold(path, 1 << 20) or '"1' in predictions.unfold(path, 1 << 20)


GOOD = {"kind": "accuracy", "examples": "0" * 64, "n": 3, "runs": {"r": "010"}}
MEAN = {**GOOD, "kind": "mean", "runs": {"r": [1, 2.5, 3]}}
F1 = {**GOOD, "kind": "f1", "n": 1, "runs": {"r": [[1, 0, 0, 0]]}}
BLEU = {**GOOD, "kind": "bleu", "n": 1, "runs": {"r": [[1, 0, 0, 0, 2, 1, 0, 0, 2, 2]]}}


def written(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(predictions.compress(text.encode()))
    return path


def test_the_good_ones_are_read(tmp_path: Path) -> None:
    for content in (GOOD, MEAN, F1, BLEU, {**GOOD, "groups": [0, 1, 0], "weights": [0.5, 0.5], "units": [0, 0, 1]}):
        assert list(read_runs(written(tmp_path / "x", content))) == ["r"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "not valid JSON"),
        ('{"kind": "mean", "kind": "mean"}', "stands twice"),
        (json.dumps(MEAN).replace("2.5", "NaN"), "NaN is not a JSON number"),
        (json.dumps(MEAN).replace("2.5", "1e999"), "1e999 is not a JSON number"),
        (json.dumps(MEAN).replace("2.5", "9" * 400), "finite numbers"),
        (json.dumps(MEAN).replace("2.5", "9" * 5000), "not valid JSON"),
        (json.dumps(MEAN).replace("2.5", "1e300"), "3 finite numbers"),
        ([], "must be an object"),
        ({**GOOD, "more": 1}, "must be an object with the keys"),
        ({**GOOD, "kind": "sums"}, "kind must be one of"),
        ({**GOOD, "kind": ["accuracy"]}, "kind must be one of"),
        ({**GOOD, "examples": "../../etc/passwd"}, "must be a SHA-256"),
        ({**GOOD, "n": True}, "number of examples"),
        ({**GOOD, "n": 1 << 60}, "number of examples"),
        ({**GOOD, "n": 0, "runs": {"r": ""}}, "number of examples"),
        ({**GOOD, "runs": []}, "runs must be an object"),
        ({**GOOD, "runs": {"r": "0101"}}, "run 'r': must be a text of 3 times 0 or 1"),
        ({**GOOD, "runs": {"r": "0²1"}}, "must be a text of 3"),
        ({**GOOD, "runs": {"r": [0, 1, 0]}}, "must be a text of 3"),
        ({**MEAN, "runs": {"r": [1, True, 3]}}, "3 finite numbers"),
        ({**MEAN, "runs": {"r": [1, "2", 3]}}, "3 finite numbers"),
        ({**MEAN, "runs": {"r": [[1], [2], [3]]}}, "3 finite numbers"),
        ({**F1, "runs": {"r": [[1, 1, 0, 0]]}}, "one of tp, fp, fn and tn"),
        ({**F1, "runs": {"r": [[1, 0, 0]]}}, "1 times 4 finite numbers"),
        ({**BLEU, "runs": {"r": [[3, 0, 0, 0, 2, 1, 0, 0, 2, 2]]}}, "no more match than there are"),
        ({**BLEU, "runs": {"r": [[-1, 0, 0, 0, 2, 1, 0, 0, 2, 2]]}}, "counts of n-grams"),
        ({**BLEU, "runs": {"r": [[0.5, 0, 0, 0, 2, 1, 0, 0, 2, 2]]}}, "counts of n-grams"),
        ({**GOOD, "groups": [0, 1, 0]}, "go together"),
        ({**GOOD, "groups": [0, 2, 0], "weights": [1]}, "without gaps"),
        ({**GOOD, "groups": [0, -1, 0], "weights": [1]}, "without gaps"),
        ({**GOOD, "groups": [0, 1 << 62, 0], "weights": [1]}, "without gaps"),
        ({**GOOD, "groups": [0, 1, 0], "weights": [1]}, "weights: must be 2 finite numbers"),
        ({**GOOD, "groups": [0, 1, 0], "weights": [2, -1]}, "sum to 1"),
        ({**GOOD, "units": [0.5, 1, 2]}, "units: must be numbered"),
    ],
)
def test_what_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "task.json.zst", content)
    with pytest.raises(InvalidInput) as caught:
        read_runs(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_unfolds_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(predictions.compress(b" " * (1 << 27)))
    assert path.stat().st_size < 100_000
    with pytest.raises(InvalidInput, match="unfolds to more than"):
        read_runs(path)


# -- tasks


@dataclass(frozen=True)
class Fold(ToyTask):
    """The toy under other ids."""

    def data(self, split: Any) -> Any:
        return [example._replace(id=f"{self.name}/{example.id}") for example in super().data(split)]


def test_parts_are_scored_together() -> None:
    task = Pooled("whole", (Fold("b"), Fold("a")))
    found = task.evaluate(task.build_model())
    assert task.rescored(found.predictions) == found.scores
    each = task.outcomes(found.predictions)
    assert each.examples == files.digest(sorted(found.predictions))
    assert each.score() == pytest.approx(found.scores["accuracy"], abs=1e-9)
    right = {e.id: found.predictions[e.id] == e.label for e in task.data("test")}
    assert each.values[:, 0].tolist() == [right[key] for key in sorted(right)]


@pytest.mark.parametrize("made", [lambda: Pooled("whole", (Fold("b"), Fold("a"))), ToyTask])
def test_predictions_of_other_examples_are_refused(made: Any) -> None:
    task = made()
    good = {example.id: 0 for example in task.data("test")}
    first = next(iter(good))
    for wrong, message in (
        ({key: value for key, value in good.items() if key != first}, f"example {first!r} has no prediction"),
        ({**good, "elsewhere/1": 0}, "'elsewhere/1', which is no example of the test split"),
        ({**good, first: "0"}, f"example {first!r}: its prediction must be"),
        ({**good, first: True}, f"example {first!r}: its prediction must be"),
        ({**good, first: 4}, f"example {first!r}: its prediction must be"),
    ):
        for method in (task.rescored, task.outcomes):
            with pytest.raises(InvalidInput, match=re.escape(message)):
                method(wrong)


def test_a_task_without_a_scorer_says_so() -> None:
    for method in (Toy().rescored, Toy().outcomes):
        with pytest.raises(UsageError, match="cannot be scored from predictions"):
            method({})


def test_mismatched_genres_have_no_share_in_the_score() -> None:
    values = {"mnli/m/1": [1], "mnli/m/2": [0], "mnli/mm/1": [1]}
    groups = {key: key.split("/")[1] for key in values}
    assert outcomes("accuracy", values, groups, {"m": 1, "mm": 0}).score() == 50.0
