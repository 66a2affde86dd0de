"""Comparisons, with numbers worked out by hand, and the forms they are shown in."""

from __future__ import annotations

import csv
import io
import json

import pytest
from records import dense, record

from smcbench.errors import UsageError
from smcbench.results import aggregate, table
from smcbench.results.aggregate import Spread, margin_of, spread
from smcbench.results.compare import compare
from smcbench.results.record import RunRecord

DURING = {"when": "during", "start": "sparse-to-sparse", "mask": "dynamic"}


def several(sparsifier: str, sparsity: float, scores: list[float], **others: object) -> list[RunRecord]:
    return [record(sparsifier, sparsity, seed, s, **others) for seed, s in enumerate(scores)]  # type: ignore[arg-type]


def test_spread_and_margin() -> None:
    assert spread([95.0, 97.0, 99.0]) == Spread(97.0, 2.0, 3)
    assert spread([95.0]) == Spread(95.0, None, 1)
    assert margin_of(Spread(90.0, 0.5, 3), 0.01) == pytest.approx(0.9)
    assert margin_of(Spread(90.0, 2.0, 3), 0.01) == 2.0
    assert margin_of(Spread(90.0, None, 1), 0.01) == pytest.approx(0.9)


@pytest.mark.parametrize(("score", "matching"), [(89.2, True), (89.1, True), (89.09, False), (95.0, True)])
def test_matching_is_non_inferiority(score: float, matching: bool) -> None:
    reference = dense([90.0])
    [row] = aggregate.rows([record(score=score)], reference, 0.01)
    assert row.matching is matching


def test_lower_may_be_better() -> None:
    reference = dense([2.0], higher=False)
    for score, matching in ((1.5, True), (2.02, True), (2.03, False)):
        [row] = aggregate.rows([record(score=score, higher=False)], reference, 0.01)
        assert row.matching is matching
    assert row.normalised == pytest.approx((10 - 2.03) / (10 - 2))


def test_a_comparison_by_hand() -> None:
    records = [
        *dense([97.0, 98.0, 99.0]),
        *several("omp", 0.5, [97.0, 97.0, 98.5], train=2.0),
        *several("omp", 0.9, [90.0, 92.0, 94.0], train=2.0),
        *several("snip", 0.5, [95.0, 95.0, 95.0], train=1.0),
        *several("snip", 0.9, [93.0, 93.0, 93.0], train=1.0),
    ]
    result = compare(records, ["snip", "omp"])
    assert result.sparsifiers == ("snip", "omp")
    assert [(r.sparsity, r.sparsifier) for r in result.rows] == [
        (0.5, "snip"), (0.5, "omp"), (0.9, "snip"), (0.9, "omp"),
    ]  # fmt: skip
    by = {(r.sparsifier, r.sparsity): r for r in result.rows}
    assert by["omp", 0.5].mean == 97.5
    assert by["omp", 0.5].std == pytest.approx(0.75**0.5)  # deviations -.5, -.5, 1: squares sum to 1.5, over 2
    assert by["omp", 0.5].difference == -0.5
    assert by["omp", 0.5].margin == 1.0  # one std of dense; 1 % would be 0.98
    assert by["omp", 0.5].matching
    assert by["omp", 0.9].difference == -6.0
    assert by["snip", 0.9].cost.train == 1.0
    assert {p.sparsifier: p.sparsity for p in result.break_points} == {"snip": None, "omp": 0.5}
    [ranks] = result.ranks
    assert (ranks.cells, ranks.ranks) == (2, {"snip": 1.5, "omp": 1.5})


def test_ranks_share_ties_and_stay_in_their_category() -> None:
    records = [
        *dense([98.0]),
        *(r for name, score in (("a", 95.0), ("b", 95.0), ("c", 90.0)) for r in several(name, 0.5, [score])),
        *several("d", 0.5, [99.0], category=DURING),
    ]
    result = compare(records, ["a", "b", "c", "d"])
    [ranks] = result.ranks
    assert ranks.category == "after, dense-to-sparse, static"
    assert ranks.ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert any("different categories" in note for note in result.notes)


def test_a_break_point_says_when_the_ladder_is_not_monotone() -> None:
    records = [*dense([98.0]), *several("a", 0.5, [90.0]), *several("a", 0.9, [98.0])]
    [point] = compare(records, ["a"]).break_points
    assert (point.sparsity, point.monotone) == (0.9, False)
    assert "~0.9" in table.render(compare(records, ["a"]))


def test_budgets_and_task_versions_are_kept_apart() -> None:
    records = [
        *dense([98.0]),
        *dense([80.0], budget=0.2),
        *several("a", 0.5, [97.9]),
        *several("a", 0.5, [79.9], budget=0.2),
        *several("a", 0.5, [50.0], digest="ee" * 32),
    ]
    result = compare(records, ["a"])
    assert [(r.budget, r.mean, r.matching) for r in result.rows] == [
        (0.2, 79.9, True), (1.0, 97.9, True), (1.0, 50.0, None),
    ]  # fmt: skip
    notes = " / ".join(result.notes)
    assert "digits: results of 2 versions of the task (d1d1d1d1, eeeeeeee) are kept apart" in notes
    assert "digits: results at the budgets 0.2, 1 are kept apart" in notes
    assert "digits: no dense reference for a" in notes
    text = table.render(result)
    assert "digits (eeeeeeee): accuracy" in text
    assert "budget 0.2" in text


def test_different_seeds_are_noted() -> None:
    records = [*dense([98.0]), *several("a", 0.5, [97.0, 96.0]), *several("b", 0.5, [97.0])]
    assert any("not all have the same seeds" in note for note in compare(records, ["a", "b"]).notes)


def test_the_same_run_counts_once_and_the_newest_version_wins() -> None:
    one, newer = record(score=90.0), record(score=95.0, version=2)
    result = compare([*dense([98.0]), one, one], ["omp"])
    assert [(r.n, r.mean) for r in result.rows] == [(1, 90.0)]
    result = compare([*dense([98.0]), newer, one], ["omp"])
    assert [(r.n, r.mean) for r in result.rows] == [(1, 95.0)]
    assert any("older version" in note for note in result.notes)


def test_one_label_for_two_sets_of_parameters_is_told_apart() -> None:
    one, two = record(parameters={"a": 1}), record(parameters={"a": 2}, score=50.0)
    result, notes = aggregate.unique([one, two])
    assert len({r.spec.sparsifier.label for r in result}) == 2
    assert notes == ["omp stands for 2 sets of parameters; they are told apart by a digest"]


def test_a_filter_and_its_errors() -> None:
    records = [*dense([98.0]), *several("rigl", 0.488, [97.0]), *several("rigl", 0.9, [90.0])]
    assert [r.sparsity for r in compare(records, ["rigl"], sparsities=[0.4881]).rows] == [0.488]
    own = [*records, *several("mine.py:Mine", 0.5, [97.0])]
    assert compare(own, ["./methods/mine.py:Mine"]).sparsifiers == ("mine.py:Mine",)
    with pytest.raises(UsageError, match="no records of 'rgil'; there are some of rigl, dense"):
        compare(records, ["rgil"])
    with pytest.raises(UsageError, match="no records on task 'digit'; there are some on digits"):
        compare(records, ["rigl"], tasks=["digit"])
    with pytest.raises(UsageError, match="no records of rigl at the sparsities asked for"):
        compare(records, ["rigl"], sparsities=[0.7])
    with pytest.raises(UsageError, match="there are some of none"):
        compare([], ["rigl"])


def test_the_four_forms() -> None:
    records = [*dense([97.0, 98.0, 99.0]), *several("omp|x", 0.5, [97.0, 97.0, 98.5]), *several("b", 0.5, [90.0])]
    result = compare(records, ["omp|x", "b"])
    text = table.render(result)
    assert max(map(len, text.splitlines())) <= 120
    assert text.splitlines()[0] == "digits: accuracy in %; dense 98.00 +- 1.00 (3 seeds), chance 10"
    line = next(line for line in text.splitlines() if line.startswith("omp|x"))
    assert line.split() == [
        "omp|x", "0.5", "97.50", "+-", "0.87", "-0.50", "yes", "3", "2.00x", "0.50x",
        "after,", "dense-to-sparse,", "static",
    ]  # fmt: skip
    assert "| omp\\|x | 0.5 | 97.50 +- 0.87 | -0.50 | yes | 3 |" in table.render(result, "markdown")
    rows = list(csv.DictReader(io.StringIO(table.render(result, "csv"))))
    assert [row["sparsifier"] for row in rows] == ["omp|x", "b"]
    assert (rows[0]["mean"], rows[0]["matching"], rows[1]["std"]) == ("97.5", "true", "")
    value = json.loads(table.render(result, "json"))
    assert value["rows"][0]["scores"] == {"0": 97.0, "1": 97.0, "2": 98.5}
    assert value == result.to_json()
