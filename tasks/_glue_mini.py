"""Three tasks of sentence understanding in the manner of GLUE, generated: they need no data set, and run anywhere.

Each is a small language whose rules decide every label, so that labels are right and a small encoder learns them from
nothing. Each is balanced by construction, so that all there is to learn lies in how words, or two texts, relate:

* acceptability, as CoLA: of two sentences that differ in one word one is grammatical. A word is wrong about as often
  as it is right, so that no word tells.
* entailment, as MNLI: quantified sentences over a lexical hierarchy. A hypothesis has as many premises of each label,
  so that no hypothesis tells.
* similarity, as STS-B: who does what to whom, told twice. The lexicon looks the same from each of its words, so that
  no text tells by itself.

Texts are words in lower case between single spaces. The same sizes give the same examples on every machine.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Container, Sequence
from itertools import islice, pairwise, product
from typing import NamedTuple

from smcbench.task import SPLITS, Split

from ._text import Example

_SEED = 0

# -- acceptability

NOUNS = (("boy", "king", "uncle"), ("girl", "queen", "aunt"))
"""Men, then women: reflexives agree with them."""
DETERMINERS = (("the", "the"), ("this", "these"), ("every", "all"))
PREPOSITIONS = ("near", "behind", "beside")
ADVERBS = ("always", "never", "often", "rarely", "sometimes", "still")
INTRANSITIVE, TRANSITIVE = ("arrive", "fall", "sleep", "smile"), ("admire", "hug", "like", "praise")
PRONOUNS = (("he", "him"), ("she", "her"), ("they", "them"))
REFLEXIVES = ("himself", "herself", "themselves")
PHENOMENA = ("determiner", "verb", "relative", "case", "object", "reflexive")
"""What a sentence may get wrong: the number of a determiner, of the verb or of that of a relative clause, the case of a
pronoun, whether the verb takes an object, and whom a reflexive refers to."""

_Slot = tuple[str, dict[str, str]]
"""A word, and by phenomenon a word that is wrong in its place."""


def acceptability(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Sentences of a phrase-structure grammar (1) and the same with one word wrong (0), as pairs in turn.

    The phenomena take turns too. No sentence appears twice, and both of a pair are in one split.
    """
    draw = random.Random(_SEED)
    taken: set[str] = set()
    splits: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, (train, validation, test), strict=True):
        rows: list[tuple[str, int]] = []
        while len(rows) < size:
            pair = _minimal_pair(PHENOMENA[len(rows) // 2 % len(PHENOMENA)], draw)
            texts = [text for text, _ in pair]
            if texts and taken.isdisjoint(texts):
                taken.update(texts)
                rows += pair
        splits[split] = [
            Example(f"cola-mini/{split}/{n}", ((text,),), label) for n, (text, label) in enumerate(rows[:size])
        ]
    return splits


def _minimal_pair(phenomenon: str, draw: random.Random) -> list[tuple[str, int]]:
    """A sentence and what spoils it, in any order; nothing if the phenomenon is not in it."""
    slots = _sentence(draw)
    slips = [(place, wrong[phenomenon]) for place, (_, wrong) in enumerate(slots) if phenomenon in wrong]
    plural = phenomenon == "reflexive" and slots[-1][0] == "themselves"
    if not slips or (plural and draw.randrange(2)):  # else "themselves" were right more often than wrong
        return []
    place, wrong = draw.choice(slips)
    words = [word for word, _ in slots]
    pair = [(" ".join(words), 1), (" ".join([*words[:place], wrong, *words[place + 1 :]]), 0)]
    draw.shuffle(pair)
    return pair


def _sentence(draw: random.Random) -> list[_Slot]:
    gender, plural = draw.randrange(2), draw.randrange(2)
    person = 2 if plural else gender
    slots = [*_noun_phrase(draw, gender, plural), *_modifier(draw, plural)]
    if draw.randrange(4) == 0:
        right, wrong = PRONOUNS[person]
        slots = [(right, {"case": wrong})]
    transitive = draw.randrange(2)
    stem, other = (draw.choice((INTRANSITIVE, TRANSITIVE)[kind]) for kind in (transitive, 1 - transitive))
    slots.append((draw.choice(ADVERBS), {}))
    slots.append((_verb(stem, plural), {"verb": _verb(stem, 1 - plural), "object": _verb(other, plural)}))
    return slots + (_object(draw, person) if transitive else _place(draw))


def _noun_phrase(draw: random.Random, gender: int, plural: int) -> list[_Slot]:
    determiner = draw.choice(DETERMINERS)
    right, wrong = determiner[plural], determiner[1 - plural]
    noun = draw.choice(NOUNS[gender]) + "s" * plural
    return [(right, {"determiner": wrong} if right != wrong else {}), (noun, {})]


def _modifier(draw: random.Random, plural: int) -> list[_Slot]:
    """Nothing, or as "near these girls", "that likes these girls" or "that these girls like"."""
    kind, other = draw.randrange(4), draw.randrange(2)
    phrase = _noun_phrase(draw, draw.randrange(2), other)
    stem, number = draw.choice(TRANSITIVE), other if kind == 3 else plural
    verb: _Slot = (_verb(stem, number), {"relative": _verb(stem, 1 - number)})
    kinds: list[list[_Slot]] = [
        [],
        _place(draw),
        [("that", {}), verb, *phrase],
        [("that", {}), *phrase, verb],
    ]
    return kinds[kind]


def _place(draw: random.Random) -> list[_Slot]:
    return [(draw.choice(PREPOSITIONS), {}), *_noun_phrase(draw, draw.randrange(2), draw.randrange(2))]


def _object(draw: random.Random, person: int) -> list[_Slot]:
    """A noun phrase, a reflexive, or (as often as a subject is one) a pronoun."""
    kind = draw.randrange(4)
    if kind == 0:
        return _noun_phrase(draw, draw.randrange(2), draw.randrange(2))
    if kind == 1:
        wrong = draw.choice([word for word in REFLEXIVES if word != REFLEXIVES[person]])
        return [(REFLEXIVES[person], {"reflexive": wrong})]
    wrong, right = PRONOUNS[(draw.randrange(2), 2)[draw.randrange(2)]]
    return [(right, {"case": wrong})]


def _verb(stem: str, plural: int) -> str:
    return stem if plural else f"{stem}s"


# -- entailment

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
QUANTIFIERS = ("every", "some", "no")
BELOW = {
    "kind": "animal",
    "animal": "dog bird fish",
    "dog": "poodle beagle",
    "bird": "robin crow",
    "fish": "trout pike",
    "motion": "moves",
    "moves": "runs flies",
    "runs": "sprints jogs",
    "flies": "hovers glides",
    "size": "small large",
}
"""The hierarchy: the words directly below a word, or below a dimension, which is no word. What is below a word is of
its kind; two words of one dimension have nothing in common unless one is above the other; else all is possible."""
_ABOVE = {word: above for above, words in BELOW.items() for word in words.split()}


class Statement(NamedTuple):
    """As "no small dog flies"; the adjective may be empty."""

    quantifier: str
    adjective: str
    noun: str
    verb: str

    @property
    def text(self) -> str:
        """The sentence."""
        return " ".join(filter(None, self))

    @property
    def subject(self) -> tuple[str, ...]:
        """What it is about: the words that all have to hold."""
        return (self.adjective, self.noun) if self.adjective else (self.noun,)


def relation(premise: Statement, hypothesis: Statement) -> int:
    """Whether the hypothesis must be true where the premise is, may be, or cannot be.

    "Some" says that the part of the subject within the predicate is not empty; "no" that it is, and "every" that the
    part outside is. That there is something of either subject is taken for granted, of other words it is not. So
    there are two questions to ask of two such parts: does one lie in the other, and do both make up a whole subject?

    >>> relation(Statement("every", "", "dog", "runs"), Statement("some", "", "animal", "moves"))
    0
    >>> relation(Statement("no", "", "dog", "moves"), Statement("every", "small", "poodle", "runs"))
    2
    """
    if premise.quantifier == "some":
        lies, whole = _inside(premise, hypothesis), False
    else:
        lies, whole = _inside(hypothesis, premise), _whole(premise, hypothesis)
    alike = (premise.quantifier == "some") == (hypothesis.quantifier == "some")
    yes, no = (lies, whole) if alike else (whole, lies)
    return ENTAILMENT if yes else CONTRADICTION if no else NEUTRAL


def _inside(a: Statement, b: Statement) -> bool:
    """Whether the part that ``a`` speaks of lies in that of ``b``."""
    x, y = (a.verb,), (b.verb,)
    outside = (a.quantifier == "every", b.quantifier == "every")
    parts = {(False, False): _under(x, y), (True, True): _under(y, x), (False, True): _apart(x, y)}
    return _under(a.subject, b.subject) and parts.get(outside, False)


def _whole(a: Statement, b: Statement) -> bool:
    """Whether the parts that both speak of make up all of one of their subjects."""
    if not (_under(a.subject, b.subject) or _under(b.subject, a.subject)):
        return False
    x, y = (a.verb,), (b.verb,)
    outside = (a.quantifier == "every", b.quantifier == "every")
    return {(True, True): _apart(x, y), (True, False): _under(x, y), (False, True): _under(y, x)}.get(outside, False)


@functools.cache
def _under(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether all that is ``a`` is ``b``."""
    return all(any(y in _chain(x) for x in a) for y in b)


@functools.cache
def _apart(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether nothing is both."""
    return any(_chain(x)[-1] == _chain(y)[-1] and not (_under((x,), (y,)) or _under((y,), (x,))) for x in a for y in b)


def _chain(word: str) -> list[str]:
    """A word and all above it, its dimension last."""
    return [word, *_chain(_ABOVE[word])] if word in _ABOVE else [word]


_WORDS = {dimension: [w for w in _ABOVE if _chain(w)[-1] == dimension] for dimension in ("size", "kind", "motion")}
_SLOTS = [list(QUANTIFIERS), ["", *_WORDS["size"]], _WORDS["kind"], _WORDS["motion"]]
_TRIES = 100
"""Premises drawn for a hypothesis before it is given up: nothing but itself entails "every animal glides"."""


def entailment(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Premises and hypotheses that differ in up to three words, as threes of one hypothesis and all labels.

    The hypotheses of the splits are disjoint, in proportion to their sizes; premises recur. No pair appears twice.
    Sizes are best multiples of three: a last three may be cut.

    Raises:
        ValueError: a split is to be larger than there are pairs.
    """
    draw = random.Random(_SEED)
    sizes = (train, validation, test)
    hypotheses = [Statement(*words) for words in product(*_SLOTS)]
    draw.shuffle(hypotheses)
    splits: dict[Split, list[Example]] = {}
    ends = [len(hypotheses) * sum(sizes[:i]) // sum(sizes) for i in range(4)]
    for split, size, (start, stop) in zip(SPLITS, sizes, pairwise(ends), strict=True):
        pairs: dict[tuple[Statement, Statement], int] = {}
        while len(pairs) < size:
            before = len(pairs)
            for hypothesis in hypotheses[start:stop]:
                pairs |= {(premise, hypothesis): label for label, premise in _premises(hypothesis, pairs, draw).items()}
            if len(pairs) == before:
                raise ValueError(f"there are only {before} pairs for the split {split!r}, not {size}")
        splits[split] = [
            Example(f"mnli-mini/{split}/{n}", ((premise.text, hypothesis.text),), label)
            for n, ((premise, hypothesis), label) in enumerate(islice(pairs.items(), size))
        ]
    return splits


def _premises(
    hypothesis: Statement, taken: Container[tuple[Statement, Statement]], draw: random.Random
) -> dict[int, Statement]:
    """A new premise by label; nothing if one of them is not to be found."""
    found: dict[int, Statement] = {}
    for _ in range(_TRIES):
        words = list(hypothesis)
        for place in draw.sample(range(4), draw.randint(1, 3)):
            words[place] = _other(words[place], _SLOTS[place], draw)
        premise = Statement(*words)
        if (premise, hypothesis) not in taken:
            found.setdefault(relation(premise, hypothesis), premise)
        if len(found) == 3:
            return found
    return {}


def _other(word: str, slot: Sequence[str], draw: random.Random) -> str:
    """Another word for a slot: in half of the cases, where there is one, of the same chain."""
    others = [other for other in slot if other != word]
    chain = [other for other in others if other in _chain(word) or word in _chain(other)]
    return draw.choice(chain if chain and draw.randrange(2) else others)


# -- similarity

ACTORS = ("dog wolf", "boy man", "girl woman")
ACTIONS = ("chase follow", "thank praise", "pull haul")
"""Groups of equal size, of words that are alike."""
_ROLES = (ACTORS, ACTIONS, ACTORS)
_GROUP = {word: words for groups in (ACTORS, ACTIONS) for words in groups for word in words.split()}


def likeness(a: str, b: str) -> float:
    """1 for the same word, one half for words of one group, else 0.

    >>> likeness("dog", "dog"), likeness("dog", "wolf"), likeness("dog", "boy")
    (1.0, 0.5, 0.0)
    """
    return ((a == b) + (_GROUP[a] == _GROUP[b])) / 2


def similarity(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Two events in active or passive voice; the label is 5 times the mean likeness of agents, actions and patients.

    A word of the second is that of the first, one of its group or one of another, each as often; of every fourth pair
    the second has agent and patient change places. In each, these are of different groups. No pair appears twice,
    nor the other way round; single texts do.
    """
    draw = random.Random(_SEED)
    taken: set[frozenset[str]] = set()
    splits: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, (train, validation, test), strict=True):
        rows: list[Example] = []
        while len(rows) < size:
            one = [draw.choice(draw.choice(groups).split()) for groups in _ROLES]
            two = [_alike(word, groups, draw) for word, groups in zip(one, _ROLES, strict=True)]
            if draw.randrange(4) == 0:
                two[0], two[2] = two[2], two[0]
            texts = _told(one, draw.randrange(2)), _told(two, draw.randrange(2))
            if likeness(one[0], one[2]) or likeness(two[0], two[2]) or frozenset(texts) in taken:
                continue
            taken.add(frozenset(texts))
            label = 5 * sum(map(likeness, one, two)) / len(one)
            rows.append(Example(f"sts-b-mini/{split}/{len(rows)}", (texts,), label))
        splits[split] = rows
    return splits


def _alike(word: str, groups: tuple[str, ...], draw: random.Random) -> str:
    wanted = draw.choice((1.0, 0.5, 0.0))
    return draw.choice([other for words in groups for other in words.split() if likeness(word, other) == wanted])


def _told(event: Sequence[str], passive: int) -> str:
    agent, action, patient = event
    if passive:
        return f"the {patient} is {action.removesuffix('e')}ed by the {agent}"
    return f"the {agent} {action}s the {patient}"
