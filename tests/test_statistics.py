"""Statistics: against hand computation, closed forms, plain loops, sacreBLEU and scipy; and simulations.

In the simulations a network has an example right iff a latent number is above 0: a constant, how good the method is,
how good its seed is, how easy the example is, how well it suits the method, and noise of this seed on this example.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from test_outcomes import bleu_rows, numbered, sentences

from smcbench.errors import UsageError
from smcbench.results import statistics
from smcbench.results.outcomes import Kind, Outcomes, outcomes, slopes
from smcbench.results.statistics import Difference, Noise, difference, example_test

DRAW = np.random.default_rng(0)


def of(kind: Kind, rows: Any, units: Any = None) -> Outcomes:
    rows = np.asarray(rows, dtype=float)
    n = len(rows)
    return Outcomes(kind, "ab" * 32, rows.reshape(n, -1), np.zeros(n, int), np.ones(1),
                    np.arange(n) if units is None else np.asarray(units))  # fmt: skip


def some(kind: Kind, n: int = 60) -> Outcomes:
    """Two networks of one kind share their labels and lengths of references."""
    label = np.random.default_rng(1).integers(0, 5, n).astype(float)
    match kind:
        case "accuracy":
            return of(kind, DRAW.random(n) < 0.8)
        case "mean":
            return of(kind, DRAW.normal(size=n))
        case "f1" | "matthews":
            return of(kind, np.eye(4)[DRAW.choice(4, n, p=[0.4, 0.1, 0.2, 0.3])])
        case "pearson" | "spearman":
            return of(kind, np.stack([label + DRAW.normal(0, 2, n).round(), label], axis=1))
    hypotheses, references = sentences(n, random.Random(int(DRAW.integers(1000))))
    return of(kind, bleu_rows(hypotheses, references))


KINDS: Sequence[Kind] = ("accuracy", "mean", "f1", "matthews", "pearson", "spearman", "bleu")


def taken(one: Outcomes, places: Any) -> Outcomes:
    return of(one.kind, one.values[places])


# -- these networks


def test_mcnemar() -> None:
    assert statistics.mcnemar(0, 0) == 1.0
    assert statistics.mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
    for b, c in itertools.product(range(8), repeat=2):
        if b + c:
            assert statistics.mcnemar(b, c) == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue)


def test_one_seed_of_accuracies_is_mcnemar() -> None:
    a, b = of("accuracy", [1] * 9 + [0] * 2 + [1] * 4), of("accuracy", [0] * 9 + [1] * 2 + [1] * 4)
    assert example_test({0: a}, {0: b}) == pytest.approx(statistics.mcnemar(9, 2))
    assert example_test({0: a}, {0: a}) == 1.0


def test_seeds_of_an_example_are_no_independent_witnesses() -> None:
    """Three seeds that say the same are worth one."""
    a, b = of("accuracy", [1] * 5), of("accuracy", [0] * 5)
    assert example_test(dict.fromkeys(range(3), a), dict.fromkeys(range(3), b)) == pytest.approx(1 / 16)


def test_the_permutation_of_signs_is_exact() -> None:
    a, b = ({seed: of("accuracy", DRAW.random(9) < rate) for seed in range(3)} for rate in (0.9, 0.4))
    gaps = sum(a[s].values - b[s].values for s in range(3))[:, 0]
    sums = [np.dot(signs, gaps) for signs in itertools.product([-1, 1], repeat=9)]
    expected = np.mean(np.abs(sums) >= abs(gaps.sum()))
    assert example_test(a, b) == pytest.approx(expected)


def test_the_permutation_of_means_is_that_of_scipy() -> None:
    a, b = some("mean", 40), some("mean", 40)
    found = scipy.stats.permutation_test((a.values[:, 0], b.values[:, 0]), lambda x, y: np.mean(x - y),
                                         permutation_type="samples", n_resamples=5000, rng=1)  # fmt: skip
    assert example_test({0: a}, {0: b}) == pytest.approx(found.pvalue, abs=0.03)


def test_bleu_is_tested_as_sacrebleu_does() -> None:
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    draw = random.Random(3)
    one, references = sentences(120, draw, 0.8)
    other = [" ".join(w if draw.random() < 0.985 else "cat" for w in text.split()) for text in one]
    found = PairedTest([("a", one), ("b", other)], {"BLEU": BLEU(references=[references])}, None, "bs", 2000)()[1]
    p = example_test(*({0: of("bleu", bleu_rows(each, references))} for each in (one, other)), resamples=4000)
    assert 0.002 < found["BLEU"][1].p_value < 0.6
    assert p == pytest.approx(found["BLEU"][1].p_value, rel=0.2)


def test_without_a_shared_seed_there_is_no_test() -> None:
    assert example_test({0: some("accuracy")}, {1: some("accuracy")}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_networks_never_differ(kind: Kind) -> None:
    one = some(kind)
    assert example_test({0: one}, {0: one}, 200) > 0.9


def test_other_examples_cannot_be_paired() -> None:
    one, other = some("accuracy"), dataclasses.replace(some("accuracy"), examples="cd" * 32)
    for call in (example_test, lambda a, b: statistics.bootstrap([a, b]), lambda a, b: difference([(a, b)])):
        with pytest.raises(UsageError, match="not of the same examples"):
            call({0: one}, {0: other})


# -- resampling


@pytest.mark.parametrize("kind", KINDS)
def test_the_bootstrap_is_that_of_a_plain_loop(kind: Kind) -> None:
    rows = [{seed: some(kind) for seed in range(3)} for _ in range(2)]
    found = statistics.bootstrap(rows, 3000)
    assert found.shape == (2, 3000)
    plain = np.empty((2, 400))
    for at in range(400):
        places = DRAW.integers(0, 60, 60)
        seeds = DRAW.integers(0, 3, 2)
        for row, each in enumerate(rows):
            plain[row, at] = np.mean([taken(each[int(s)], places).score() for s in seeds])
    assert found.mean(axis=1) == pytest.approx(plain.mean(axis=1), abs=4 * plain.std() / 20)
    assert found.std(axis=1) == pytest.approx(plain.std(axis=1), rel=0.2)
    assert (found[0] - found[1]).std() == pytest.approx((plain[0] - plain[1]).std(), rel=0.2)


def test_the_bootstrap_of_a_share_has_the_closed_form() -> None:
    one = of("accuracy", [1] * 300 + [0] * 100)
    error = statistics.bootstrap([{0: one}], 20_000)[0].std()
    assert error == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 400), rel=0.03)


def test_the_bootstrap_of_seeds_has_the_variance_of_a_mean() -> None:
    """Examples that all agree leave the seeds: s squared over three, not two thirds of it."""
    rows = {seed: of("mean", np.full(9, value)) for seed, value in enumerate((1.0, 2.0, 6.0))}
    assert statistics.bootstrap([rows], 20_000)[0].var() == pytest.approx(np.var([1, 2, 6], ddof=1) / 3, rel=0.05)


def test_what_is_kept_of_drawing_is_what_would_be_drawn() -> None:
    for seed in (1, 2, 1):
        kept, plain = np.random.default_rng(seed), np.random.default_rng(seed)
        for _ in range(3):
            found = statistics._often(np.ones(40, dtype=np.int64), 30, kept)
            drawn = plain.integers(0, 40, (30, 40), dtype=np.int32)
            assert np.array_equal(found, [np.bincount(row, minlength=40) for row in drawn])
            found[:] = -1
        assert kept.bit_generator.state == plain.bit_generator.state


def test_rows_share_seeds_and_examples() -> None:
    one = {seed: some("accuracy") for seed in range(3)}
    found = statistics.bootstrap([one, dict(one)], 500)
    assert np.array_equal(found[0], found[1])


def test_noise_moves_the_mean_by_student() -> None:
    rows = {seed: of("mean", np.full(9, value)) for seed, value in enumerate((1.0, 2.0, 6.0))}
    found = statistics.bootstrap([rows, rows], 20_000, [Noise(3.0, 2.0), None])
    wanted = 3 + scipy.stats.t.ppf([0.025, 0.5, 0.975], 2)
    assert np.quantile(found[0], [0.025, 0.5, 0.975]) == pytest.approx(wanted, rel=0.1)
    assert len(np.unique(found[1])) == 6  # pairs of three seeds


@pytest.mark.parametrize(("kind", "least"), [("accuracy", 0), ("bleu", 0), ("pearson", -100), ("spearman", -100)])
def test_noise_moves_no_score_beyond_its_metric(kind: Kind, least: float) -> None:
    found = statistics.bootstrap([{0: some(kind)}], 2000, [Noise(1e6, 2.0)])
    assert (found.min(), found.max()) == (least, 100)
    inside = np.mean((found > least) & (found < 100))
    assert 0.01 < inside < 0.3, "what is inside stays what it is"


def test_units_are_drawn_together() -> None:
    """A phrase in four directions is one phrase: copies of an example are no more examples."""
    right = DRAW.random(100) < 0.7
    alone = of("accuracy", right)
    copied = of("accuracy", np.repeat(right, 4), np.repeat(np.arange(100), 4))
    one, four = (statistics.bootstrap([{0: each}], 5000)[0].std() for each in (alone, copied))
    assert four == pytest.approx(one, rel=0.06)
    naive = statistics.bootstrap([{0: dataclasses.replace(copied, units=np.arange(400))}], 5000)[0].std()
    assert naive == pytest.approx(one / 2, rel=0.06)


def test_groups_are_strata() -> None:
    """Groups of one outcome each do not vary, however they differ."""
    values = numbered([[float(i % 2)] for i in range(40)])
    groups = {key: "ab"[int(value[0])] for key, value in values.items()}
    assert statistics.bootstrap([{0: outcomes("mean", values, groups)}], 200)[0].std() == 0
    units = {key: str(int(key) // 2) for key in values}  # pairs of one example of each group
    assert statistics.bootstrap([{0: outcomes("mean", values, groups, None, units)}], 200)[0].std() < 1e-12


def test_an_interval_bears_infinity() -> None:
    samples = np.array([-np.inf, *range(98), np.inf])
    assert statistics.interval(samples, 0.9) == (3, 93)
    assert statistics.interval(np.array([-np.inf, np.inf])) == (-np.inf, np.inf)


# -- the derivative of a score


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_what_one_more_of_an_example_changes(kind: Kind) -> None:
    one = some(kind, 400)
    found = slopes(one)
    assert found.sum() == pytest.approx(0, abs=1e-6)
    for at in range(12):
        up = taken(one, [*range(400), at]).score()
        down = taken(one, [i for i in range(400) if i != at]).score()
        assert found[at] == pytest.approx((up - down) / 2, abs=0.01 * np.abs(found).max() + 1e-3), at


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_give_the_standard_error_of_the_bootstrap(kind: Kind) -> None:
    one = some(kind, 300)
    assert np.sqrt((slopes(one) ** 2).sum()) == pytest.approx(statistics.bootstrap([{0: one}], 3000).std(), rel=0.1)


# -- methods


def test_a_difference_by_hand() -> None:
    """Two seeds a side, three examples: every part of the variance."""
    a = {0: of("mean", [1, 2, 6]), 1: of("mean", [3, 4, 5])}  # means 3 and 4
    b = {0: of("mean", [0, 1, 2]), 5: of("mean", [1, 2, 6])}  # means 1 and 3
    found = difference([(a, b)])
    assert found.estimate == pytest.approx(1.5)
    seeds = 0.5 / 2 + 2 / 2
    assert found.seed_variance == pytest.approx(seeds)
    gaps = np.array([2 - 0.5, 3 - 1.5, 5.5 - 4])  # all alike: the examples add nothing
    assert gaps.std() == 0
    assert found.example_variance == pytest.approx(0)
    assert found.standard_error == pytest.approx(np.sqrt(seeds))
    assert found.degrees == pytest.approx(seeds**2 / (0.25**2 / 1 + 1.0**2 / 1))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(1.5 / np.sqrt(seeds), found.degrees))
    assert (found.low + found.high) / 2 == pytest.approx(1.5)
    assert found.seeds == 2


def test_what_seeds_add_to_examples_is_counted_once() -> None:
    a = {0: of("mean", [1, 2, 6, 0]), 1: of("mean", [3, 4, 5, 1])}
    b = {0: of("mean", [0, 1, 2, 7])}
    found = difference([(a, b)])
    gaps = np.array([2, 3, 5.5, 0.5]) - np.array([0, 1, 2, 7])
    apart = (a[0].values - a[0].values.mean() - a[1].values + a[1].values.mean())[:, 0]
    expected = gaps.var(ddof=1) / 4 - (apart**2 / 2).sum() / 16 * 4 / 3 / 2
    assert found.example_variance == pytest.approx(expected)
    assert found.seeds == 1
    assert found.seed_variance == pytest.approx(np.var([2.25, 3.25], ddof=1) * (1 / 2 + 1))  # b is taken to vary as a
    assert found.degrees is not None


def test_cells_of_a_task_share_their_seeds_and_examples() -> None:
    """Twice the same cell tells no more than one; two tasks of the same spread tell more."""
    a, b = ({seed: some("accuracy") for seed in range(3)} for _ in range(2))
    one = difference([(a, b)])
    twice = difference([(a, b), (dict(a), dict(b))])
    assert dataclasses.astuple(twice) == pytest.approx(dataclasses.astuple(one))
    elsewhere = [{s: dataclasses.replace(o, examples="cd" * 32) for s, o in side.items()} for side in (a, b)]
    two = difference([(a, b), (elsewhere[0], elsewhere[1])])
    assert one.standard_error is not None
    assert two.standard_error == pytest.approx(one.standard_error / np.sqrt(2))


def test_scales_are_what_a_point_is_worth() -> None:
    a, b = ({seed: some("accuracy") for seed in range(3)} for _ in range(2))
    one, double = difference([(a, b)]), difference([(a, b)], [2.0])
    assert one.standard_error is not None
    assert double.estimate == pytest.approx(2 * one.estimate)
    assert double.standard_error == pytest.approx(2 * one.standard_error)
    assert double.p == pytest.approx(one.p)


def test_one_seed_everywhere_tells_nothing_of_methods() -> None:
    a, b, c = ({0: some("accuracy")} for _ in range(3))
    found = difference([(a, b)], pooled=[[c]])
    assert (found.p, found.standard_error, found.low, found.seed_variance) == (None, None, None, None)
    assert found.estimate == pytest.approx(a[0].score() - b[0].score())
    assert found.example_variance > 0
    assert statistics.more_seeds(found) is None
    third = {seed: some("accuracy") for seed in range(3)}
    assert difference([(a, b)], pooled=[[{}], [third]]).p is not None


def test_a_method_is_not_pooled_with_itself() -> None:
    a, b = ({seed: some("accuracy") for seed in range(3)} for _ in range(2))
    assert difference([(a, b)], pooled=[[a], [b]]) == difference([(a, b)])


def test_the_same_everywhere_is_no_difference() -> None:
    perfect = {seed: of("accuracy", [1] * 9) for seed in range(3)}
    found = difference([(perfect, perfect)])
    assert (found.estimate, found.p, found.standard_error) == (0.0, 1.0, 0.0)


def test_variances_are_moderated() -> None:
    own = Noise(4.0, 2)
    alike = statistics.moderated(own, [Noise(v, 2) for v in DRAW.chisquare(2, 200) / 2])
    assert alike is not None
    assert 0.8 < alike.variance < 1.6
    assert alike.degrees > 10
    apart = statistics.moderated(own, [Noise(10.0**k, 2) for k in range(-6, 7)])
    assert apart is not None
    assert apart.variance == pytest.approx(4, rel=0.35)
    assert apart.degrees < 3
    assert statistics.moderated(own, [Noise(0.0, 2), Noise(0.0, 0)]) == own
    assert statistics.moderated(Noise(0.0, 0), [Noise(0.0, 0)]) is None
    collapsed = statistics.moderated(own, [Noise(1.0, 2)] * 8 + [Noise(1e4, 2)])
    assert collapsed is not None
    assert collapsed.variance < 4


def test_the_scatter_of_variances_is_found() -> None:
    """Of inverse chi-squares with eight degrees about three."""
    true = 3 * 8 / DRAW.chisquare(8, 4000)
    found = statistics._prior([Noise(v * DRAW.chisquare(2) / 2, 2) for v in true])
    assert found is not None
    assert found.variance == pytest.approx(3, rel=0.1)
    assert found.degrees == pytest.approx(8, rel=0.2)


# -- many comparisons


def test_holm() -> None:
    assert statistics.holm([]) == []
    assert statistics.holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_tiers() -> None:
    apart = {(0, 3), (0, 4), (0, 5), (3, 5)}
    assert statistics.tiers("abcdef", lambda i, j: 0.001 if (i, j) in apart else 0.9) == [1, 1, 1, 2, 2, 3]
    assert statistics.tiers("ab", lambda i, j: None) == [1, 1]
    assert statistics.tiers("abc", lambda i, j: 0.03) == [1, 1, 1]  # Holm: 0.06
    assert statistics.tiers([], lambda i, j: 0.0) == []


def test_more_seeds() -> None:
    small = Difference(1.0, 1.0, 8.0, 0.35, -1.3, 3.3, 3, 1.0, 0.0)
    more = statistics.more_seeds(small)
    assert more is not None
    for add, enough in ((more, True), (more - 1, False)):
        reach = scipy.stats.t.isf(0.025, 8 + 2 * add) * np.sqrt(3 / (3 + add))
        assert (reach < 1.0) == enough
    assert statistics.more_seeds(dataclasses.replace(small, p=0.01)) == 0
    assert statistics.more_seeds(dataclasses.replace(small, example_variance=0.3)) is None


# -- what is real


def networks(
    draw: np.random.Generator, better: Sequence[float], seeds: int, n: int = 400, seed_sd: float = 0.1, own: float = 0.0
) -> list[Mapping[int, Outcomes]]:
    easy = draw.normal(size=n)
    return [
        {
            seed: of("accuracy", 1.3 + good + seed_sd * draw.normal() + easy + suits + 0.7 * draw.normal(size=n) > 0)
            for seed in range(seeds)
        }
        for good in better
        for suits in [own * draw.normal(size=n)]
    ]


def rate(count: int, times: int) -> float:
    """Largest rate that ``count`` of ``times`` is not at odds with, at one in a thousand."""
    return float(scipy.stats.beta.ppf(0.001, count, times - count + 1)) if count else 0.0


@pytest.mark.parametrize(("seeds", "times"), [(3, 500), (5, 200), (10, 100)])
def test_two_copies_of_a_method_are_one_tier(seeds: int, times: int) -> None:
    draw, apart = np.random.default_rng(seeds), 0
    for _ in range(times):
        a, b = sorted(networks(draw, [0, 0], seeds), key=lambda row: -np.mean([o.score() for o in row.values()]))
        apart += statistics.tiers("ab", lambda i, j, a=a, b=b: difference([(a, b)]).p) == [1, 2]
    assert rate(apart, times) <= 0.05, apart


def test_two_copies_of_one_seed_are_one_tier_by_the_seeds_of_others() -> None:
    draw, apart = np.random.default_rng(1), 0
    for _ in range(200):
        a, b, *others = networks(draw, [0, 0, 0.1, -0.1, 0.2, -0.2, 0], 3)
        found = difference([({0: a[0]}, {0: b[0]})], pooled=[[each] for each in others])
        assert found.p is not None
        apart += found.p < 0.05
    assert rate(apart, 200) <= 0.05, apart


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.5), (5, 0.85), (10, 0.98)])
def test_two_standard_deviations_of_seeds_are_found(seeds: int, least: float) -> None:
    """Four other methods tell of the variance; ``least`` is the power that is asked for, at odds of one in a thousand.

    Student's test of the scores alone has a power of 0.46, 0.79 and 0.99.
    """
    draw = np.random.default_rng(seeds)
    make = functools.partial(networks, draw, n=1000, seed_sd=0.15)

    def scores(good: float) -> Any:
        return np.array([[o.score() for o in row.values()] for row in make([good] * 8, 10)])

    known = scores(0.0)
    shift = 0.3 * 2 * np.sqrt(known.var(axis=1, ddof=1).mean()) / (scores(0.3).mean() - known.mean())
    found, times = 0, 60
    for _ in range(times):
        a, b, *others = make([0.0, shift, 0.1, -0.1, 0.2, -0.2], seeds)
        p = difference([(b, a)], pooled=[[each] for each in others]).p
        found += p is not None and p < 0.05
    assert 1 - rate(times - found, times) >= least, found


def test_intervals_of_differences_cover() -> None:
    """Methods that differ by example too; the truth is that of very many seeds and examples."""
    draw = np.random.default_rng(2)
    (a,), (b,) = (networks(draw, [good], 40, 20_000, own=0.5) for good in (0.0, 0.1))
    truth = np.mean([o.score() for o in b.values()]) - np.mean([o.score() for o in a.values()])
    outside = 0
    for _ in range(200):
        one, other, *others = networks(draw, [0.0, 0.1, 0.2, -0.1, 0.0, 0.1], 3, own=0.5)
        found = difference([(other, one)], pooled=[[each] for each in others])
        assert found.low is not None
        assert found.high is not None
        outside += not found.low <= truth <= found.high
    assert rate(outside, 200) <= 0.05, outside


def test_intervals_of_rows_cover_with_noise() -> None:
    """Of three seeds drawn again, the percentiles are too close; with the noise of others they are not."""
    draw, outside = np.random.default_rng(3), np.zeros(2, int)
    truth = np.mean([o.score() for o in networks(draw, [0.0], 60, 20_000)[0].values()])
    for _ in range(150):
        row, *others = networks(draw, [0.0, 0.1, -0.1, 0.2, -0.2], 3)
        noise = statistics.seed_noise(row, others)
        for at, given in enumerate((None, [noise])):
            low, high = statistics.interval(statistics.bootstrap([row], 400, given)[0])
            outside[at] += not low <= truth <= high
    assert rate(int(outside[1]), 150) <= 0.05, outside
    assert outside[0] > outside[1]
    assert outside[0] < 0.25 * 150
