"""Comparisons, with numbers worked out by hand, and the forms they are shown in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from records import DIGESTS, dense, full_store, record

from smcbench import plugins
from smcbench.cli import main
from smcbench.errors import UsageError
from smcbench.results import aggregate, table
from smcbench.results.aggregate import Spread, margin_of, spread
from smcbench.results.compare import compare
from smcbench.results.outcomes import Outcomes, outcomes
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
    assert (point.sparsity, point.monotone, point.open) == (0.9, False, False)
    assert "~0.0" in table.render(compare(records, ["a"]))


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
    assert (rows[0]["mean"], rows[0]["matching"], rows[1]["std"]) == ("97.5", "True", "")
    value = json.loads(table.render(result, "json"))
    assert value["rows"][0]["scores"] == {"0": 97.0, "1": 97.0, "2": 98.5}
    assert value == result.to_json()


# -- with outcomes

N = 1000


def evidence(records: Sequence[RunRecord]) -> dict[str, Outcomes]:
    """Of each run as many of a thousand examples right as its score says, others for each run."""
    found = {}
    for each in records:
        right = np.arange(N) < round(each.score * N / 100)
        np.random.default_rng(int(each.run, 16)).shuffle(right)
        found[each.run] = outcomes("accuracy", {f"e{i:03}": [float(x)] for i, x in enumerate(right)})
    return found


def test_one_seed_says_whether_these_networks_differ() -> None:
    records = [*dense([98.0]), *several("a", 0.5, [91.0]), *several("b", 0.5, [88.0])]
    known = evidence(records)
    cell, overall = compare(records, ["a", "b"], outcomes=known).contrasts
    a, b = (known[r.run].values[:, 0] for r in records[1:])
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    expected = scipy.stats.binomtest(only_a, only_a + only_b).pvalue
    assert cell.networks == pytest.approx(expected, abs=1e-8)
    assert (cell.estimate, cell.task, cell.sparsity, cell.p, cell.low) == (3.0, "digits", 0.5, None, None)
    assert (overall.task, overall.cells, overall.p) == (None, 1, None)
    assert overall.estimate == pytest.approx(3 / 88)  # chance is 10, dense 98


def test_few_seeds_borrow_from_the_others() -> None:
    others = [r for n in "cdef" for r in several(n, 0.5, [85.0, 85.4, 84.7])]
    records = [*dense([98.0]), *several("a", 0.5, [95.0]), *several("b", 0.5, [70.0]), *others]
    cell, overall = compare(records, ["a", "b"], outcomes=evidence(records)).contrasts
    assert cell.p is not None
    assert cell.p < 0.001
    assert cell.low is not None
    assert cell.high is not None
    assert 20 < cell.low < 25 < cell.high < 30
    assert overall.p == pytest.approx(cell.p, abs=1e-6)


def test_differences_of_cells_and_of_all() -> None:
    a = [*several("a", 0.5, [95.0, 95.2, 94.8]), *several("a", 0.9, [90.0, 90.2, 89.8])]
    b = [*several("b", 0.5, [95.1, 95.0, 94.9]), *several("b", 0.9, [80.0, 80.1, 79.9])]
    records = [*dense([98.0]), *a, *b]
    result = compare(records, ["a", "b"], outcomes=evidence(records))
    half, nine, overall = result.contrasts
    assert [half.estimate, nine.estimate] == pytest.approx([0.0, 10.0])
    assert overall.estimate == pytest.approx((0 + 10) / 2 / 88)
    assert half.p is not None
    assert nine.p is not None
    assert half.p > 0.5
    assert nine.p < 0.001
    assert {(r.low is None) for r in result.rows} == {False}
    text = table.render(result)
    assert max(map(len, text.splitlines())) <= 120
    block = text[text.index("a minus b") :].splitlines()
    assert block[1].split() == ["task", "sparsity", "a", "b", "difference", "95", "%", "p", "p", "of", "these"]
    assert block[4].split()[:5] == ["digits", "0.9", "90.00", "80.00", "+10.00"]
    assert block[5].startswith("all 2 cells, quality")
    assert compare(records, ["a", "b"]).contrasts == ()


def test_of_many_pairs_only_what_they_come_to_is_shown() -> None:
    records = [*dense([98.0]), *(r for n in "abcde" for r in several(n, 0.5, [95.0, 94.0]))]
    result = compare(records, list("abcde"), outcomes=evidence(records))
    assert [c.other for c in result.contrasts if c.task is None] == list("bcde")
    text = table.render(result)
    assert "Quality of a minus that of the others" in text
    assert "a minus b" not in text


def test_who_has_no_outcomes_is_named() -> None:
    records = [*dense([98.0]), *several("a", 0.5, [95.0]), *several("b", 0.5, [94.0])]
    known = evidence([r for r in records if r.spec.sparsifier.name != "b"])
    result = compare(records, ["a", "b"], outcomes=known)
    assert result.contrasts == ()
    assert any("neither intervals nor tests, for b" in note for note in result.notes)


# -- said on the command line


class Marked:
    """A task that marks predictions: right are the even ones."""

    def __init__(self, name: str) -> None:
        self.name = name

    def digest(self) -> str:
        return DIGESTS[self.name]

    def outcomes(self, predictions: dict[str, int]) -> Outcomes:
        return outcomes("accuracy", {id_: [float(value % 2 == 0)] for id_, value in predictions.items()})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return full_store(tmp_path / "runs").root


def test_own_runs_are_marked_by_their_task(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugins, "load_task", Marked)
    assert main(["compare", "omp", "rigl", "--task", "digits", "--resamples", "200", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [c.get("task") for c in found["contrasts"]] == ["digits", "digits", None]
    assert [c["estimate"] for c in found["contrasts"]] == [0.0, 0.0, 0.0]  # their predictions are the same
    assert all("low" in row for row in found["rows"])


def test_runs_of_another_version_have_no_tests_and_that_is_said(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Marked, "digest", lambda self: "ff" * 32)
    monkeypatch.setattr(plugins, "load_task", Marked)
    assert main(["compare", "omp", "rigl", "--task", "digits", "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["contrasts"] == []
    assert "digits: neither intervals nor tests, because the installed digits is another version" in said.err


def test_what_papers_report_stands_below(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "lth", "instant-soup", "--against", "published", "--task", "mnli"]) == 0
    said = capfd.readouterr()
    assert "82.71" in said.out  # Instant Soup, Table 3
    assert "nothing is measured here on mnli" in said.err
    assert main(["compare", "omp", "lth", "--against", "published", "--format", "md"]) == 0
    said = capfd.readouterr()
    assert said.out.index("| omp | 0.5 |") < said.out.index("82.6")
    assert "no results of 'lth'" in said.err
    assert main(["compare", "lth", "--against", "published", "--json"]) == 0
    assert {each["method"] for each in json.loads(capfd.readouterr().out)["published"]} >= {"lth", "dense"}
    for arguments, code, told in (
        (["--task", "nope"], 5, "nothing is measured here on nope, and nothing is published of it"),
        (["--format", "csv"], 2, "csv holds what was measured"),
    ):
        assert main(["compare", "lth", "--against", "published", *arguments]) == code
        assert told in capfd.readouterr().err
