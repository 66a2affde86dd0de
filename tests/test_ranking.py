"""Standings, worked out by hand: tracks, break-points, areas, qualities, groups, tiers, controls, retractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from records import BATTERY, DIGESTS, dense, record

from smcbench.results import leaderboard, ranking, table
from smcbench.results.aggregate import SLACK
from smcbench.results.battery import Battery, Entry, level
from smcbench.results.curve import area, crossing, level_of
from smcbench.results.leaderboard import Board, Past, Retraction, build
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.results.ranking import Standing, track_of, widest
from smcbench.results.record import Category, RunRecord
from smcbench.results.submission import Submission, from_records

N = 1000
"""Examples of a made-up test split."""
DIGITS = Battery("one", (Entry("digits", (0.5, 0.9)),), (0, 1, 2))
DURING = {"when": "during", "start": "dense-to-sparse", "mask": "dynamic"}
NEVER = {"when": "never", "start": "dense", "mask": "static"}


def ladder(name: str, at: Mapping[float, Sequence[float]], **others: Any) -> list[RunRecord]:
    """Records of one sparsifier: scores of the seeds by sparsity."""
    return [
        record(name, sparsity, seed, score, **others)
        for sparsity, scores in at.items()
        for seed, score in enumerate(scores)
    ]


def board(records: Sequence[RunRecord], battery: Battery = DIGITS, past: Past | None = None) -> Board:
    """Without outcomes."""
    return build(from_records(records, battery, DIGESTS), past)


def evident(records: Sequence[RunRecord], battery: Battery = DIGITS) -> list[Submission]:
    """Submissions with outcomes: of as many examples right as the score says, others for each run."""
    return [
        replace(s, outcomes={r.run: _outcomes(r) for r in s.records}) for s in from_records(records, battery, DIGESTS)
    ]


def _outcomes(of: RunRecord) -> Outcomes:
    right = np.arange(N) < round(of.score * N / 100)
    np.random.default_rng(int(of.run, 16)).shuffle(right)
    return outcomes("accuracy", {f"e{i:04}": [float(x)] for i, x in enumerate(right)})


def standing(of: Board, name: str) -> Standing:
    [found] = [s for s in of.standings if s.submission == name]
    return found


# -- tracks


@pytest.mark.parametrize(
    ("trainings", "track"),
    [
        (0.0, "one-shot"), (0.02, "one-shot"), (0.021, "1x"), (1.0, "1x"), (1.1, "1x"), (1.101, "2.5x"), (2.75, "2.5x"),
        (2.76, "5x"), (5.2, "5x"), (5.5, "5x"), (5.51, "10x"), (11.0, "10x"), (11.1, "beyond"),
    ],
)  # fmt: skip
def test_a_track_is_its_name_give_or_take_a_tenth(trainings: float, track: str) -> None:
    assert track_of(trainings) == track


def test_the_dearest_row_gives_the_track_of_all() -> None:
    rows = [*dense([98.0]), record("omp", 0.5, train=1.54), record("omp", 0.9, train=1.05)]
    found = board(rows)
    assert {(r.sparsity, r.track) for r in found.entries if r.sparsifier == "omp"} == {(0.5, "2.5x"), (0.9, "2.5x")}
    assert standing(found, "omp").track == "2.5x"
    assert standing(found, "omp").train == pytest.approx((1.54 + 1.05) / 2)


def test_a_budget_multiplies_and_budgets_stand_apart() -> None:
    both = Battery("both", (Entry("digits", (0.5,)), Entry("digits", (0.5,), 5.0)), (0,))
    rows = [*dense([98.0]), *dense([99.0], budget=5.0), record("a", train=0.6), record("a", train=0.9, budget=5.0)]
    found = [s for s in board(rows, both).standings if s.submission == "a"]
    assert [(s.track, s.train, s.cells, s.missing) for s in found] == [("1x", 0.6, 1, 0), ("5x", 4.5, 1, 0)]


# -- what is read off a curve


def test_levels_are_rounds_of_a_fifth() -> None:
    assert [level_of(level(k)) for k in (0, 1, 3, 13)] == pytest.approx([0, 1, 3, 13])


def test_the_first_crossing_is_interpolated() -> None:
    levels = np.array([3.0, 6.0, 10.0])
    for surplus, expected in (
        ([1.0, 1.0, 1.0], (10.0, False)),
        ([1.0, 1.0, -1.0], (8.0, True)),
        ([1.0, -3.0, 5.0], (3.75, True)),  # the first, whatever comes after
        ([-1.0, 2.0, 2.0], (1.5, True)),  # from the margin, 1, at level 0
        ([0.0, 0.0, -SLACK / 2], (10.0, False)),  # exactly at the margin still matches
        ([1.0, 0.0, -2.0], (6.0, True)),
    ):
        found, crosses = crossing(levels, np.array(surplus), 1.0)
        assert (float(found), bool(crosses)) == (pytest.approx(expected[0]), expected[1])
    many, _ = crossing(levels, np.array([[1.0, -1.0], [1.0, 2.0], [-1.0, 2.0]]), 1.0)
    assert many.tolist() == pytest.approx([8.0, 1.5])


def test_the_area_by_hand() -> None:
    # widths 3 and 3; (1 + .8) / 2 and (.8 + .2) / 2
    assert float(area(np.array([3.0, 6.0]), np.array([0.8, 0.2]))) == pytest.approx((3 * 0.9 + 3 * 0.5) / 6)
    assert float(area(np.array([5.0]), np.array([1.0]))) == 1.0


def test_a_break_point_by_hand() -> None:
    # dense 98, one seed: the margin is .98. At .5 it is .3 behind (surplus .68), at .9 it is 3 behind (surplus -2.02).
    [point] = board([*dense([98.0]), *ladder("omp", {0.5: [97.7], 0.9: [95.0]})]).break_points
    low, high = math.log(0.5) / math.log(0.8), math.log(0.1) / math.log(0.8)
    expected = 1 - 0.8 ** (low + (high - low) * 0.68 / (0.68 + 2.02))
    assert point.estimate == pytest.approx(expected)
    assert 0.5 < point.estimate < 0.9
    assert (point.sparsity, point.open, point.monotone, point.ladder) == (0.5, False, True, (0.5, 0.9))
    assert (point.low, point.high) == (None, None)


def test_a_break_point_below_the_ladder_and_one_beyond_it() -> None:
    rows = [*dense([98.0]), *ladder("low", {0.5: [96.04], 0.9: [95.0]}), *ladder("high", {0.5: [98.0], 0.9: [97.5]})]
    low, high = sorted(board(rows).break_points, key=lambda p: p.estimate)
    # the margin .98 at level 0, -.98 at the level of .5: half way, in level
    assert low.estimate == pytest.approx(1 - math.sqrt(0.5))
    assert (low.sparsity, low.open) == (None, False)
    assert (high.sparsity, high.open, high.estimate) == (0.9, True, 0.9)


def test_where_lower_is_better_the_break_point_turns_round() -> None:
    rows = [*dense([2.0], higher=False), *ladder("a", {0.5: [2.01], 0.9: [2.03]}, higher=False)]
    [point] = board(rows).break_points
    low, high = math.log(0.5) / math.log(0.8), math.log(0.1) / math.log(0.8)  # surplus .01 and -.01: half way
    assert point.estimate == pytest.approx(1 - 0.8 ** ((low + high) / 2))


# -- standings


def test_a_standing_by_hand() -> None:
    rows = [
        *dense([97.0, 98.0, 99.0]),
        *ladder("omp", {0.5: [97.0, 98.0, 99.0], 0.9: [76.0]}),
    ]
    found = board(rows)
    it = standing(found, "omp")
    assert (it.tier, it.over, it.cells, it.missing, it.seeds) == (1, 2, 6, 2, (0, 1, 2))
    quality = (1.0 + 66 / 88) / 2  # chance is 10: (76 - 10) / (98 - 10)
    assert it.quality is not None
    assert it.quality.mean == pytest.approx(quality)
    assert it.quality.low is None
    low, high = math.log(0.5) / math.log(0.8), math.log(0.1) / math.log(0.8)
    assert it.area is not None
    assert it.area.mean == pytest.approx((low * 1.0 + (high - low) * (1.0 + 0.75) / 2) / high)
    assert it.breaks is not None
    assert it.breaks.mean == found.break_points[0].estimate
    assert (it.scope, it.track, str(it.category)) == ("all", "2.5x", "after, dense-to-sparse, static")
    assert (it.train, it.inference, it.level, it.control, it.retracted) == (2.0, 0.5, "claimed", False, False)
    reference = standing(found, "dense")
    assert (reference.tier, reference.control, reference.beats) == (None, True, {})
    assert reference.quality is not None
    assert reference.quality.mean == 1.0


def test_the_area_needs_the_end_of_the_ladder() -> None:
    rows = [*dense([98.0]), *ladder("a", {0.5: [97.0]}), *ladder("b", {0.9: [97.0]})]
    found = board(rows)
    assert standing(found, "a").area is None
    assert standing(found, "b").area is not None


def test_quality_is_over_tasks_and_sparsities_alike() -> None:
    rows = [
        *dense([98.0]), *dense([50.0], task="cldr-2to2"),
        *ladder("a", {0.5: [98.0], 0.9: [54.0]}), *ladder("a", {0.5: [30.0], 0.9: [20.0]}, task="cldr-2to2"),
    ]  # fmt: skip
    it = standing(board(rows, BATTERY), "a")
    assert it.quality is not None
    assert it.quality.mean == pytest.approx((1.0 + 44 / 88 + 20 / 40 + 10 / 40) / 4)
    assert it.over == 4


def test_only_equals_are_ranked_together() -> None:
    rows = [
        *dense([98.0]),
        *ladder("a", {0.5: [97.0], 0.9: [96.0]}),
        *ladder("b", {0.5: [95.0], 0.9: [94.0]}),
        *ladder("dear", {0.5: [97.5], 0.9: [96.5]}, train=5.2),
        *ladder("other", {0.5: [93.0], 0.9: [90.0]}, category=DURING),
    ]
    found = board(rows)
    assert [(g.track, g.category.when, len(g.cells)) for g in found.groups] == [
        ("1x", "never", 0), ("2.5x", "during", 2), ("2.5x", "after", 2), ("5x", "after", 2),
    ]  # fmt: skip
    assert [s.submission for s in found.standings] == ["dense", "other", "a", "b", "dear"]
    assert standing(found, "other").tier == standing(found, "dear").tier == 1
    assert standing(found, "b").separation == "without outcomes it cannot be told from a"
    order = ranking.mixed(found.entries, found.standings, found.batteries[0].digest).order
    assert [(s.submission, q and round(q, 3)) for s, q in order] == [
        ("dear", 0.989), ("a", 0.983), ("b", 0.96), ("other", 0.926), ("dense", None),
    ]  # fmt: skip


def test_a_category_is_the_most_that_any_cell_did() -> None:
    rows = [
        *dense([98.0]),
        record("gmp", 0.5, category={"when": "during", "start": "sparse-to-sparse", "mask": "dynamic"}),
        record("gmp", 0.9, category={"when": "before", "start": "dense-to-sparse", "mask": "static"}),
    ]
    assert standing(board(rows), "gmp").category == Category("during", "dense-to-sparse", "dynamic")


def test_who_lacks_cells_is_not_ranked_while_the_others_keep_theirs() -> None:
    rows = [
        *dense([98.0]), *dense([98.0], task="cldr-2to2"),
        *(r for name in ("a", "b") for task in DIGESTS for r in ladder(name, {0.5: [97.0], 0.9: [90.0]}, task=task)),
        *ladder("partial", {0.9: [98.0]}),
    ]  # fmt: skip
    found = board(rows, BATTERY)
    [group] = [g for g in found.groups if g.category.when == "after"]
    assert len(group.cells) == 4
    assert [standing(found, n).tier for n in ("a", "b", "partial")] == [1, 1, None]
    assert standing(found, "partial").over == 1
    assert "lacks cells  [1.000]" in table.render(found)


def test_where_most_have_a_part_that_part_ranks() -> None:
    cells = {"whole": [1, 2, 3, 4], **{name: [2, 4] for name in "abc"}}
    assert widest(cells) == (["whole", "a", "b", "c"], [2, 4])  # 4 x 2 entries, not 1 x 4
    assert widest({"a": [1, 2, 3], "b": [2, 3, 4], "c": [9]}) == (["a", "b"], [2, 3])
    assert widest({"a": [], "b": []}) == ([], [])


def test_a_retracted_submission_stays_visible_and_counts_for_nothing() -> None:
    rows = [*dense([98.0]), *ladder("a", {0.5: [97.0], 0.9: [96.0]}), *ladder("b", {0.5: [99.0], 0.9: [99.0]})]
    taken = (Retraction("b", 4, "2026-01-02", "trained on the test split", "see there"),)
    found = board(rows, past=Past(4, "ab" * 32, {}, taken))
    assert (found.version, found.head, found.retractions) == (4, "ab" * 32, taken)
    assert len([r for r in found.entries if r.submission == "b"]) == 2
    assert (standing(found, "b").tier, standing(found, "b").retracted) == (None, True)
    assert standing(found, "a").tier == 1
    text = table.render(found)
    assert "b was retracted on 2026-01-02: trained on the test split" in text
    gone = board(rows, past=Past(retractions=(Retraction("dense", 1, "2026-01-02", "wrong data"),)))
    assert {r.matching for r in gone.entries} == {None}
    assert standing(gone, "a").quality is None


def test_a_row_shows_its_least_verified_run() -> None:
    rows = [*dense([98.0]), *ladder("a", {0.5: [97.0, 96.0], 0.9: [96.0]})]
    runs = [r.run for r in rows[1:]]
    found = board(rows, past=Past(levels={runs[0]: "recompute", runs[1]: "recompute (scores)", runs[2]: "retrain"}))
    assert [r.level for r in found.entries if r.sparsifier == "a"] == ["recompute (scores)", "retrain"]
    assert standing(found, "a").level == "recompute (scores)"
    assert standing(found, "dense").level == "claimed"


def test_two_submissions_of_one_label_go_by_their_names() -> None:
    one, two = (
        Submission(replace(s.manifest, name=f"mine-{i}"), s.records)
        for i in (1, 2)
        for s in from_records(ladder("mine", {0.5: [97.0], 0.9: [96.0]}, version=i), DIGITS, DIGESTS)
    )
    found = build([one, two, *from_records(dense([98.0]), DIGITS, DIGESTS)])
    assert standing(found, "mine-2").separation == "without outcomes it cannot be told from mine-1"
    assert "mine (mine-2)" in table.render(found)


# -- with outcomes


def test_an_interval_of_one_seed_is_that_of_a_share() -> None:
    found = build(evident([*dense([90.0]), *ladder("a", {0.5: [80.0], 0.9: [70.0]})]))
    [row] = [r for r in found.entries if r.sparsifier == "a" and r.sparsity == 0.5]
    assert row.low is not None
    assert row.high is not None
    half = 1.96 * math.sqrt(0.8 * 0.2 / N) * 100
    assert row.low == pytest.approx(80 - half, abs=0.25)
    assert row.high == pytest.approx(80 + half, abs=0.25)


def test_intervals_hold_their_estimates() -> None:
    found = build(evident([*dense([97.5, 98.0, 98.5]), *ladder("a", {0.5: [98.0, 97.9, 97.0], 0.9: [90.0] * 3})]))
    it, [point] = standing(found, "a"), found.break_points
    for mean, low, high in (
        (point.estimate, point.low, point.high),
        *((e.mean, e.low, e.high) for e in (it.quality, it.area, it.breaks) if e is not None),
    ):
        assert low is not None
        assert high is not None
        assert low <= mean <= high
        assert 0 < high - low < 0.5
    assert point.high is not None
    assert 0.5 < point.high < 0.9
    assert it.breaks is not None
    assert (it.breaks.low, it.breaks.high) == (point.low, point.high)


def rivals() -> list[RunRecord]:
    """A leader and its equal, one far behind; controls of the leader that are worse, and alike."""
    better = {0.5: [95.0, 95.3, 94.8], 0.9: [93.0, 93.2, 92.9]}
    same = {0.5: [95.1, 94.9, 95.0], 0.9: [93.1, 92.8, 93.0]}
    worse = {0.5: [80.0, 80.4, 79.8], 0.9: [70.0, 70.3, 69.9]}
    shuffled = ladder("shuffled", same, label="shuffled(leader)", parameters={"method": "leader"}, train=1.0)
    return [
        *dense([97.0, 97.2, 96.9]),
        *ladder("leader", better),
        *ladder("equal", same),
        *ladder("behind", worse),
        *ladder("small-dense", {0.5: [85.0, 85.3, 84.9], 0.9: [84.0, 84.1, 83.9]}, category=NEVER, train=0.2),
        *(replace(r, cost=replace(r.cost, searched=1.0)) for r in shuffled),
    ]


def test_tiers_controls_and_what_would_separate() -> None:
    found = build(evident(rivals()))
    assert {n: standing(found, n).tier for n in ("leader", "equal", "behind")} == {"leader": 1, "equal": 1, "behind": 2}
    told = standing(found, "equal").separation
    assert told is not None
    assert told.endswith("from leader") or "from leader on these examples" in told
    assert standing(found, "leader").separation is None
    assert standing(found, "behind").separation is None
    assert standing(found, "leader").beats == {"small-dense": "yes", "shuffled": "undecided"}
    assert standing(found, "behind").beats == {"small-dense": "no", "shuffled": "untested"}
    control = standing(found, "shuffled-leader")
    assert (control.control, control.tier, control.beats) == (True, None, {})


def test_the_same_submissions_in_any_order_give_the_same_bytes() -> None:
    submissions = evident(rivals())
    assert build(submissions).text() == build(submissions[::-1]).text()


def test_outcomes_of_other_examples_are_not_paired() -> None:
    submissions = evident([*dense([97.0]), *ladder("a", {0.5: [90.0], 0.9: [80.0]})])
    odd = {r.run: outcomes("accuracy", {"x": [1.0], "y": [0.0]}) for s in submissions for r in s.records if r.is_dense}
    found = build([replace(s, outcomes=odd) if s.manifest.name == "dense" else s for s in submissions])
    [point] = found.break_points
    assert point.low is None
    assert {r.low is None for r in found.entries if r.sparsifier == "a"} == {True}


def test_rows_without_outcomes_leave_the_others_theirs() -> None:
    records = [*dense([97.0]), *ladder("a", {0.5: [90.0], 0.9: [80.0]})]
    submissions = [
        replace(s, outcomes={r.run: s.outcomes[r.run] for r in s.records if r.spec.sparsity != 0.9})
        for s in evident(records)
    ]
    found = build(submissions)
    assert [(r.sparsity, r.low is None) for r in found.entries if r.sparsifier == "a"] == [(0.5, False), (0.9, True)]
    [point] = found.break_points
    assert point.low is None
    quality = standing(found, "a").quality
    assert quality is not None
    assert quality.low is None


def test_a_board_reads_as_it_was_written(tmp_path: Any) -> None:
    found = build(evident(rivals()), Past(3, None, {}, (Retraction("behind", 3, "2026-01-02", "why", "there"),)))
    leaderboard.write_board(tmp_path / "leaderboard.json", found)
    assert leaderboard.read_board(tmp_path / "leaderboard.json") == found
    lines = (tmp_path / "leaderboard.json").read_text().splitlines()
    assert sum('"normalised"' in line for line in lines) == len(found.entries)  # one row a line


def test_the_text_fits() -> None:
    found = build(evident(rivals()))
    for mix in (False, True):
        lines = table.render(found, mix=mix).splitlines()
        assert max(map(len, lines)) <= 120, max(lines, key=len)
    assert "| leader | 1 |" in table.render(found, "markdown")


def test_odd_outcomes_of_one_submission_harm_nobody() -> None:
    """Of other examples, or of some at one sparsity and others at the next: no test, and the others stand as before."""
    submissions = evident(rivals())
    whole = build(submissions)
    few = outcomes("accuracy", {"x": [1.0], "y": [0.0]})
    for sparsities in ((0.5,), (0.5, 0.9)):
        odd = [
            replace(s, outcomes={r.run: few if r.spec.sparsity in sparsities else s.outcomes[r.run] for r in s.records})
            if s.manifest.name == "behind"
            else s
            for s in submissions
        ]
        found = build(odd)
        assert standing(found, "behind").separation == "without outcomes it cannot be told from leader"
        for name in ("leader", "equal", "small-dense", "dense"):
            assert standing(found, name).quality == standing(whole, name).quality
