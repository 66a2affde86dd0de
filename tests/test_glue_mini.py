"""The generated tasks of sentence understanding: right labels, by independent means, and no shortcuts to them."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections import Counter

import pytest

from smcbench.files import digest
from smcbench_tasks import _glue_mini as mini

SPLITS = ("train", "validation", "test")
MADE = {"cola": mini.acceptability, "mnli": mini.entailment, "sts-b": mini.similarity}
SIZES = {"train": 3000, "validation": 300, "test": 900}


@functools.cache
def made(name):
    return MADE[name](*SIZES.values())


def texts(name, split, which):
    return [example.texts[0][which] for example in made(name)[split]]


def labels(name, split):
    return [example.label for example in made(name)[split]]


@pytest.mark.parametrize("name", MADE)
def test_sizes_ids_and_words(name):
    splits = made(name)
    assert {split: len(splits[split]) for split in SPLITS} == SIZES
    for split in SPLITS:
        assert [example.id for example in splits[split]] == [f"{name}-mini/{split}/{n}" for n in range(SIZES[split])]
    for example in itertools.chain(*splits.values()):
        assert len(example.texts) == 1
        for text in example.texts[0]:
            assert text == " ".join(text.split()) == text.lower()
            assert 2 <= len(text.split()) <= 12
    words = [{w for e in splits[split] for t in e.texts[0] for w in t.split()} for split in SPLITS]
    assert words[2] <= words[0] and words[1] <= words[0]  # noqa: PT018


def test_examples_are_the_same_in_every_process():
    code = (
        "from smcbench_tasks import _glue_mini as m; from smcbench.files import digest; "
        "made = [f(60, 30, 30) for f in (m.acceptability, m.entailment, m.similarity)]; "
        "print(digest([list(e) for some in made for split in some.values() for e in split]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [list(e) for make in MADE.values() for split in make(60, 30, 30).values() for e in split]
    assert run.stdout.strip() == digest(here)


@pytest.mark.parametrize("name", MADE)
def test_nothing_appears_twice(name):
    """Also not the other way round; of entailment the hypotheses of a split are its own."""
    everything = [frozenset(e.texts[0]) for split in SPLITS for e in made(name)[split]]
    if name != "mnli":
        assert len(everything) == len(set(everything))
    pairs = [e.texts[0] for split in SPLITS for e in made(name)[split]]
    assert len(pairs) == len(set(pairs))
    if name == "mnli":
        hypotheses = [set(texts(name, split, 1)) for split in SPLITS]
        assert sum(map(len, hypotheses)) == len(set.union(*hypotheses))


# -- no shortcuts


def fitted(train, test, ngrams=1):
    """Counts of words for scikit-learn."""
    from sklearn.feature_extraction.text import CountVectorizer

    count = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, ngrams))
    return count.fit_transform(train), count.transform(test)


def bag_accuracy(train, train_labels, test, test_labels, ngrams=1):
    from sklearn.linear_model import LogisticRegression

    x, y = fitted(train, test, ngrams)
    return LogisticRegression(max_iter=1000).fit(x, train_labels).score(y, test_labels)


def test_a_bag_of_words_knows_nothing_of_acceptability():
    train, test = ((texts("cola", s, 0), labels("cola", s)) for s in ("train", "test"))
    assert abs(bag_accuracy(*train, *test) - 1 / 2) < 0.05


def test_no_word_tells_acceptability():
    everything = [(t, y) for s in SPLITS for t, y in zip(texts("cola", s, 0), labels("cola", s), strict=True)]
    right, wrong = (Counter(w for t, y in everything if y == label for w in set(t.split())) for label in (1, 0))
    for word in right | wrong:
        assert abs(right[word] - wrong[word]) < 4 * (right[word] + wrong[word]) ** 0.5, word


def test_hypotheses_know_nothing_of_entailment():
    train, test = ((texts("mnli", s, 1), labels("mnli", s)) for s in ("train", "test"))
    assert abs(bag_accuracy(*train, *test, ngrams=2) - 1 / 3) < 0.03
    by_hypothesis = Counter(zip(*test, strict=True))
    for hypothesis in set(test[0]):
        assert len({by_hypothesis[hypothesis, label] for label in range(3)}) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_neither_text_knows_the_similarity(which):
    from scipy.stats import pearsonr
    from sklearn.linear_model import Ridge

    x, y = fitted(texts("sts-b", "train", which), texts("sts-b", "test", which), 2)
    predicted = Ridge(30).fit(x, labels("sts-b", "train")).predict(y)
    assert abs(pearsonr(predicted, labels("sts-b", "test"))[0]) < 0.1


@pytest.mark.parametrize(("name", "classes"), [("cola", 2), ("mnli", 3)])
def test_classes_are_equally_many(name, classes):
    for split in SPLITS:
        assert Counter(labels(name, split)) == dict.fromkeys(range(classes), SIZES[split] // classes)


# -- acceptability by a recogniser


def recognised(text):
    """Whether a sentence is one of the grammar: all readings from left to right, with what agreement needs of each."""
    words = text.split()
    return any(
        end == len(words)
        for at, gender, number in _subjects(words)
        if words[at : at + 1] and words[at] in mini.ADVERBS
        for end in _predicates(words, at + 1, gender, number)
    )


def _noun_phrases(words, at):
    """Ends, genders and numbers of the phrases of determiner and noun that begin here."""
    if len(words) < at + 2:
        return
    for gender, number in itertools.product(range(2), range(2)):
        nouns = [noun + "s" * number for noun in mini.NOUNS[gender]]
        if words[at] in [pair[number] for pair in mini.DETERMINERS] and words[at + 1] in nouns:
            yield at + 2, gender, number


def _verbs(words, at, stems, number):
    if at < len(words) and words[at] in [stem + "s" * (1 - number) for stem in stems]:
        yield at + 1


def _places(words, at):
    if words[at : at + 1] and words[at] in mini.PREPOSITIONS:
        yield from (end for end, *_ in _noun_phrases(words, at + 1))


def _subjects(words):
    for pronoun, gender, number in (("he", 0, 0), ("she", 1, 0), ("they", 0, 1)):
        if words[0] == pronoun:
            yield 1, gender, number
    for end, gender, number in _noun_phrases(words, 0):
        yield end, gender, number
        yield from ((after, gender, number) for after in _places(words, end))
        if words[end : end + 1] == ["that"]:
            for after in _verbs(words, end + 1, mini.TRANSITIVE, number):
                yield from ((last, gender, number) for last, *_ in _noun_phrases(words, after))
            for after, _, other in _noun_phrases(words, end + 1):
                yield from ((last, gender, number) for last in _verbs(words, after, mini.TRANSITIVE, other))


def _predicates(words, at, gender, number):
    for after in _verbs(words, at, mini.INTRANSITIVE, number):
        yield from _places(words, after)
    for after in _verbs(words, at, mini.TRANSITIVE, number):
        yield from (end for end, *_ in _noun_phrases(words, after))
        reflexive = "themselves" if number else ("himself", "herself")[gender]
        if words[after : after + 1] and words[after] in ("him", "her", "them", reflexive):
            yield after + 1


def test_the_grammar_says_what_is_acceptable():
    for split in SPLITS:
        for text, label in zip(texts("cola", split, 0), labels("cola", split), strict=True):
            assert recognised(text) == bool(label), text


def test_pairs_differ_in_one_word():
    for split in SPLITS:
        rows = texts("cola", split, 0)
        for one, two in zip(rows[::2], rows[1::2], strict=True):
            assert sum(a != b for a, b in zip(one.split(), two.split(), strict=True)) == 1


# -- entailment by models


def _above(word):
    found = [above for above, below in mini.BELOW.items() if word in below.split()]
    return [*found, *(higher for above in found for higher in _above(above))]


@functools.cache
def individuals():
    """The words true of each possible individual: it has a most specific word of each dimension, or none."""
    dimensions = [[w for w in _all() if d in _above(w)] + [""] for d in ("kind", "motion", "size")]
    return [{w for own in some for w in [own, *_above(own)]} for some in itertools.product(*dimensions)]


def _all():
    return sorted({word for below in mini.BELOW.values() for word in below.split()})


def parsed(text):
    quantifier, *subject, verb = text.split()
    return quantifier, frozenset(subject), verb


@functools.cache
def profiles(*words):
    """Which combinations of these sets of words an individual can have."""
    return frozenset(tuple(some <= each for some in words) for each in individuals())


@functools.cache
def by_models(quantifiers, kinds):
    """The label from all models of up to four individuals, which as many existential statements need at most."""
    outcomes = set()
    for size in range(1, 5):
        for model in itertools.combinations(sorted(kinds), size):
            if not (any(k[0] for k in model) and any(k[2] for k in model)):
                continue  # there is something of either subject
            premise, hypothesis = (
                {
                    "every": all(k[i + 1] for k in model if k[i]),
                    "some": any(k[i + 1] for k in model if k[i]),
                    "no": not any(k[i + 1] for k in model if k[i]),
                }[quantifier]
                for i, quantifier in zip((0, 2), quantifiers, strict=True)
            )
            if premise:
                outcomes.add(hypothesis)
    assert outcomes, "the premise can be true"
    return mini.NEUTRAL if len(outcomes) == 2 else mini.ENTAILMENT if outcomes == {True} else mini.CONTRADICTION


def test_models_decide_as_the_rules_do():
    for split in ("train", "test"):
        for example in made("mnli")[split]:
            (q1, s1, v1), (q2, s2, v2) = map(parsed, example.texts[0])
            kinds = profiles(s1, frozenset([v1]), s2, frozenset([v2]))
            assert by_models((q1, q2), kinds) == example.label, example.texts


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        ("every animal moves", "some poodle moves", mini.ENTAILMENT),
        ("some dog runs", "some poodle runs", mini.NEUTRAL),
        ("every dog runs", "no small animal moves", mini.NEUTRAL),
        ("every dog runs", "no animal moves", mini.CONTRADICTION),
        ("every dog runs", "no dog flies", mini.ENTAILMENT),
        ("every large dog runs", "every small dog flies", mini.NEUTRAL),
        ("no small dog moves", "every small poodle moves", mini.CONTRADICTION),
    ],
)
def test_relations(premise, hypothesis, label):
    statements = []
    for text in (premise, hypothesis):
        quantifier, *adjectives, noun, verb = text.split()
        statements.append(mini.Statement(quantifier, "".join(adjectives), noun, verb))
    assert mini.relation(*statements) == label


# -- similarity from the texts


def roles(text):
    words = text.split()
    if "is" in words:
        _, patient, _, action, _, _, agent = words
    else:
        _, agent, action, _, patient = words
    stem = next(s for group in mini.ACTIONS for s in group.split() if action in (f"{s}s", f"{s}ed", f"{s}d"))
    return agent, stem, patient


def test_scores_follow_from_the_roles():
    for split in SPLITS:
        for example in made("sts-b")[split]:
            one, two = map(roles, example.texts[0])
            groups = [*mini.ACTORS, *mini.ACTIONS]
            alike = [any({a, b} <= set(group.split()) for group in groups) for a, b in zip(one, two, strict=True)]
            same = [a == b for a, b in zip(one, two, strict=True)]
            assert example.label == 5 * (sum(alike) + sum(same)) / 2 / 3
            assert isinstance(example.label, float)


def test_scores_fill_the_range():
    found = Counter(labels("sts-b", "train"))
    assert set(found) == {5 * n / 2 / 3 for n in range(7)}
