"""The generated tasks of commonsense: right answers, by an independent reading, and none without the facts."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections import Counter

import pytest

from smcbench.files import digest
from smcbench_tasks import _commonsense_mini as mini
from smcbench_tasks import commonsense

SPLITS = ("train", "validation", "test")
MADE = {"csqa": mini.csqa, "winogrande": mini.winogrande, "race": mini.race}
CHOICES = {"csqa": 5, "winogrande": 2, "race": 4}
SIZES = {"train": 4000, "validation": 400, "test": 8000}
"""A test split so large that two points are four standard deviations of a guess."""


@functools.cache
def made(name):
    return MADE[name](*SIZES.values())


def everything(name):
    return itertools.chain(*made(name).values())


def words(example):
    return {word for choice in example.texts for text in choice for word in text.split()}


def percent(hits):
    hits = list(hits)
    return 100 * sum(hits) / len(hits)


def read(name, example):
    """The right thing, from the words of the passage and the question alone."""
    passage = example.texts[0][0].split()
    asked = example.texts[0][1].split()[-2]
    if name == "csqa":
        return passage[passage.index(asked) + 1]
    if name == "winogrande":
        (other,) = {choice[1].split()[-1] for choice in example.texts} - {passage[-1]}
        return {"lends": passage[-1], "borrows": other}[asked]
    _, likes, a, b, _, also, c, d = passage
    assert likes == also == "likes"
    (found,) = {"first": {a, b} - {c, d}, "second": {c, d} - {a, b}, "both": {a, b} & {c, d}}[asked]
    return found


@pytest.mark.parametrize("name", MADE)
def test_sizes_ids_and_words(name):
    assert {split: len(made(name)[split]) for split in SPLITS} == SIZES
    for split in SPLITS:
        numbers = range(SIZES[split])
        names = [f"{n // 2}-{n % 2 + 1}" if name == "winogrande" else str(n) for n in numbers]
        assert [example.id for example in made(name)[split]] == [f"{name}-mini/{split}/{n}" for n in names]
    for example in everything(name):
        assert len(example.texts) == len(set(example.texts)) == CHOICES[name]
        assert len({passage for passage, _ in example.texts}) == 1
        assert len({tuple(answer.split()[:-1]) for _, answer in example.texts}) == 1
        for text in itertools.chain(*example.texts):
            assert text == " ".join(text.split()) == text.lower()


@pytest.mark.parametrize("name", MADE)
def test_the_encoder_holds_every_word_and_every_text(name):
    task = getattr(commonsense, f"{name}_mini")
    known = set().union(*(words(example) for example in everything(name)))
    assert len(known) + 4 <= task.encoder.vocabulary
    longest = max(sum(len(text.split()) for text in choice) + 3 for e in everything(name) for choice in e.texts)
    assert longest <= task.longest <= task.encoder.positions


def test_examples_are_the_same_in_every_process():
    code = (
        "from smcbench_tasks import _commonsense_mini as m; from smcbench.files import digest; "
        "made = [f(60, 30, 30) for f in (m.csqa, m.winogrande, m.race)]; "
        "print(digest([list(e) for some in made for split in some.values() for e in split]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [list(e) for make in MADE.values() for split in make(60, 30, 30).values() for e in split]
    assert run.stdout.strip() == digest(here)


@pytest.mark.parametrize("name", MADE)
def test_a_longer_split_begins_with_a_shorter_one(name):
    for split, examples in MADE[name](60, 30, 40).items():
        assert examples == made(name)[split][: len(examples)]


@pytest.mark.parametrize("name", MADE)
def test_splits_share_every_word_and_no_fact(name):
    """A fact is that a name goes with a thing, also where a choice only claims it."""
    names, things = (set(itertools.chain(*groups)) for groups in (mini.NAMES, mini.THINGS))
    assert not names & things
    facts = {
        split: {pair for e in made(name)[split] for pair in itertools.product(words(e) & names, words(e) & things)}
        for split in SPLITS
    }
    assert all(facts.values())
    for one, two in itertools.combinations(SPLITS, 2):
        assert not facts[one] & facts[two]
    known = {split: set().union(*map(words, made(name)[split])) for split in SPLITS}
    assert known["validation"] | known["test"] <= known["train"]


@pytest.mark.parametrize("name", MADE)
def test_the_label_is_what_the_text_says(name):
    for example in everything(name):
        assert example.texts[example.label][1].split()[-1] == read(name, example), example


def test_twins_differ_in_the_verb_alone_and_have_opposite_answers():
    """So whoever does not read the verb is right in exactly half, wherever else it looks."""
    for split in SPLITS:
        rows = made("winogrande")[split]
        for one, two in zip(rows[::2], rows[1::2], strict=True):
            assert one.id[:-2] == two.id[:-2]
            assert (one.id[-2:], two.id[-2:]) == ("-1", "-2")
            assert {one.label, two.label} == {0, 1}
            verbs = [{choice[1].split()[1] for choice in e.texts} for e in (one, two)]
            assert verbs == [{"lends"}, {"borrows"}]
            same = [tuple((p, a.replace(" lends ", " borrows ")) for p, a in e.texts) for e in (one, two)]
            assert same[0] == same[1]


@pytest.mark.parametrize("name", MADE)
def test_every_place_is_right_equally_often(name):
    for split in ("train", "test"):
        places = Counter(example.label for example in made(name)[split])
        assert set(places) == set(range(CHOICES[name]))
        assert all(abs(100 * n / SIZES[split] - 100 / CHOICES[name]) < 2 for n in places.values())


@pytest.mark.parametrize(("name", "questions"), [("csqa", mini.RELATIONS), ("race", mini.QUESTIONS)])
def test_every_question_is_asked_equally_often(name, questions):
    asked = Counter(example.texts[0][1].split()[-2] for example in made(name)["test"])
    assert set(asked) == set(questions)
    assert all(abs(100 * n / SIZES["test"] - 100 / len(questions)) < 2 for n in asked.values())


@pytest.mark.parametrize("name", MADE)
def test_the_choices_alone_say_nothing(name):
    """A linear ranking of the answers by their words and pairs of words, learnt on the training split."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    def answers(split):
        return [answer for example in made(name)[split] for _, answer in example.texts]

    counts = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    right = [place == e.label for e in made(name)["train"] for place in range(CHOICES[name])]
    ranking = LogisticRegression(max_iter=1000).fit(counts.fit_transform(answers("train")), right)
    scores = ranking.decision_function(counts.transform(answers("test"))).reshape(-1, CHOICES[name])
    found = percent(given == e.label for given, e in zip(scores.argmax(axis=1), made(name)["test"], strict=True))
    assert abs(found - 100 / CHOICES[name]) < 2


@pytest.mark.parametrize(("name", "most"), [("csqa", 25), ("winogrande", 50), ("race", 100 / 3)])
def test_what_is_mentioned_is_not_yet_the_answer(name, most):
    """Any place of the passage, taken without the question, is right as often as any other that can be."""
    rows = made(name)["test"]
    for place in range(len(rows[0].texts[0][0].split())):
        hits = percent(e.texts[0][0].split()[place] == e.texts[e.label][1].split()[-1] for e in rows)
        assert hits < most + 2, place
