"""Three tasks of commonsense reasoning, generated: they need no data set, and run anywhere.

They have the shapes of CommonsenseQA, WinoGrande and RACE, but ask for reasoning and not for recall: names and things
are made up, and the facts an answer needs stand before the question. A fact is that a name goes with a thing. Names and
things come in five groups each, and which groups meet decides the split, so that no fact of the test or validation
split is among those of training, though every word is: what is learnt there is to look facts up.

* CommonsenseQA: a name with a thing for each of four relations; the question names a relation. The choices are the four
  things and a fifth.
* WinoGrande: a name has a thing; of two things, which does it lend, and which does it borrow? Twins differ in that verb
  alone, and have opposite answers.
* RACE: two names like two things each, one of them in common; what does only the one like, only the other, or both? Two
  facts have to be joined: that the one likes a thing, and that the other does or does not.

Which of the choices is right follows from the facts and nothing else: whoever sees the choices alone guesses, 20, 50
and 25 %. Texts are words in lower case between single spaces. The same sizes give the same examples on every machine.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from smcbench.task import SPLITS, Split

from ._text import Example

_SEED = 0
_GROUPS, _EACH = 5, 8
_MEETINGS: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2), "validation": (3,), "test": (4,)}
"""How many groups further than the names' the things' group is."""
RELATIONS = ("madeof", "usedfor", "foundin", "partof")
VERBS = ("lends", "borrows")
QUESTIONS = ("first", "second", "both")

_made = ["".join(parts) for parts in itertools.product("bdgklmnp", "aeiou", ("x", "r"))]
NAMES = [_made[group::_GROUPS][:_EACH] for group in range(_GROUPS)]
THINGS = [[f"{word}s" for word in names] for names in NAMES]

_One = Callable[[random.Random, Split], list[Example]]


def csqa(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Five choices; the relation asked for and the places of the choices are drawn."""

    def one(draw: random.Random, split: Split) -> list[Example]:
        (name,), things = _cast(draw, split, 1, 5)
        told = " ".join([name, *(f"{relation} {thing}" for relation, thing in zip(RELATIONS, things, strict=False))])
        asked = draw.randrange(len(RELATIONS))
        choices = draw.sample(things, len(things))
        texts = tuple((told, f"{RELATIONS[asked]} {choice}") for choice in choices)
        return [Example("", texts, choices.index(things[asked]))]

    return _splits("csqa", (train, validation, test), one)


def winogrande(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Two choices; twins in turn, so sizes are even."""

    def one(draw: random.Random, split: Split) -> list[Example]:
        (name,), things = _cast(draw, split, 1, 2)
        choices = draw.sample(things, 2)
        return [
            Example("", tuple((f"{name} has {things[0]}", f"{name} {verb} {choice}") for choice in choices),
                    choices.index(thing))
            for verb, thing in zip(VERBS, things, strict=True)
        ]  # fmt: skip

    return _splits("winogrande", (train, validation, test), one)


def race(train: int, validation: int, test: int) -> dict[Split, list[Example]]:
    """Four choices: what only the first likes, only the second, both, and neither."""

    def one(draw: random.Random, split: Split) -> list[Example]:
        (first, second), things = _cast(draw, split, 2, 4)
        liked = [[things[2], things[0]], [things[2], things[1]]]
        for some in liked:
            draw.shuffle(some)
        passage = " ".join([first, "likes", *liked[0], second, "likes", *liked[1]])
        asked = draw.randrange(len(QUESTIONS))
        choices = draw.sample(things, len(things))
        texts = tuple((passage, f"{QUESTIONS[asked]} {choice}") for choice in choices)
        return [Example("", texts, choices.index(things[asked]))]

    return _splits("race", (train, validation, test), one)


def _cast(draw: random.Random, split: Split, names: int, things: int) -> tuple[list[str], list[str]]:
    """Some names of a group, and some things of one that they meet in this split."""
    group = draw.randrange(_GROUPS)
    met = (group + draw.choice(_MEETINGS[split])) % _GROUPS
    return draw.sample(NAMES[group], names), draw.sample(THINGS[met], things)


def _splits(shape: str, sizes: tuple[int, int, int], one: _One) -> dict[Split, list[Example]]:
    """So many examples of each split, numbered; of several at a time (twins), the place in the group is in the id."""
    found: dict[Split, list[Example]] = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        draw = random.Random(f"{_SEED}/{shape}/{split}")
        rows: list[Example] = []
        for number in itertools.count():
            if len(rows) >= size:
                break
            group = one(draw, split)
            for place, example in enumerate(group, 1):
                twin = f"-{place}" if len(group) > 1 else ""
                rows.append(example._replace(id=f"{shape}-mini/{split}/{number}{twin}"))
        found[split] = rows
    return found
