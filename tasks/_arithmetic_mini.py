"""Word problems of one or two steps, generated: they need no data set, and run anywhere.

In the manner of SVAMP (Patel et al., 2021), a problem is easy to write down and easy to get wrong: what is asked, the
order in which the quantities come, and quantities that do not matter vary independently of one another, so that no word
by itself gives the answer away.

A problem is about what people have. Facts are sentences with one quantity each; a question asks for a number that
follows from some of them:

=============  ============================================  =========================
kind           facts                                         expression
=============  ============================================  =========================
change         a has N, a gets / loses M: how many now?      ``+ N M`` or ``- N M``
before         a gets / loses N, a now has M: how many       ``- M N`` or ``+ M N``
               before?
difference     a has N, b has M: how many more has a (or     ``- N M`` or ``- M N``
               b)? how many together?                        or ``+ N M``
groups         N boxes with M each: how many? N in M boxes:  ``* N M`` or ``/ N M``
               how many in each?
two changes    a has N, gets M, loses K: how many now?       ``- + N M K`` and so on
boxes and      a has N boxes with M each, and gets or loses  ``+ * N M K`` or
change         K: how many now?                              ``- * N M K``
=============  ============================================  =========================

Verbs, and what things are kept in, vary. A distractor is one more such sentence about another person or thing, anywhere
before the question. Two facts that do not depend on one another come in either order. The network sees that there is a
quantity, not its value, so what must differ between the splits is the text: which person is asked about with which
thing decides the split, what reads like a problem of an earlier split is drawn again, and no two problems of the
validation or test split read alike.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from smcbench.task import SPLITS, Split

from ._problems import Problem

_SEED = 0
NAMES = ("adam", "bella", "carl", "dora", "emil", "fay")
THINGS = ("apples", "books", "cards", "dolls", "eggs", "flags")
GAINS = ("gets", "finds", "buys", "wins", "makes", "picks", "earns", "takes")
LOSSES = ("loses", "sells", "drops", "eats", "gives", "breaks", "spends", "burns")
HOLDERS = ("boxes", "bags", "jars", "cans", "tins", "crates")
_DISTRACTED = 0.3
"""Share of problems with a quantity that does not matter."""
_RESIDUES: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2, 3), "validation": (4,), "test": (5,)}
"""Which sums of the places of name and thing, modulo six, belong to a split."""

_Facts = list[tuple[str, int]]
"""Sentences in order, each with its quantity in place of ``#``."""


def problems(train: int, validation: int, test: int) -> dict[Split, list[Problem]]:
    """So many problems of each split; the same sizes give the same problems on every machine."""
    found: dict[Split, list[Problem]] = {}
    for split, size in zip(SPLITS, (train, validation, test), strict=True):
        draw = random.Random(f"{_SEED}/{split}")
        elsewhere = {problem.words for problems in found.values() for problem in problems}
        found[split] = []
        for kind in itertools.cycle(_KINDS):
            if len(found[split]) == size:
                break
            distracted = draw.random() < _DISTRACTED
            while (problem := _problem(draw, split, kind, len(found[split]), distracted)).words in elsewhere:
                pass
            found[split].append(problem)
            if split != "train":  # what reads alike is scored once
                elsewhere.add(problem.words)
    return found


def _problem(draw: random.Random, split: Split, kind: Callable[..., _Told], number: int, distracted: bool) -> Problem:
    name, thing = _cast(draw, split)
    other = draw.choice([each for each in NAMES if each != name])
    told = kind(draw, name, other, thing)
    facts = [(sentence, value, index) for index, (sentence, value) in enumerate(told.facts)]
    if told.loose and draw.random() < 0.5:
        facts.reverse()
    if distracted:
        else_ = draw.choice([each for each in THINGS if each != thing])
        third = draw.choice([each for each in NAMES if each not in (name, other)])
        who, what = draw.choice([(third, thing), (name, else_)])
        verb = draw.choice(("has", *GAINS, *LOSSES))
        facts.insert(draw.randint(0, len(facts)), (f"{who} {verb} # {what}", draw.randint(2, 99), -1))
    words: list[str] = []
    numbers: list[float] = []
    place: dict[int, int] = {}
    for sentence, value, index in facts:
        place[index] = len(numbers)
        words += sentence.replace("#", f"number{len(numbers)}").split()
        numbers.append(float(value))
    words += told.question.split()
    equation = tuple(f"number{place[int(t)]}" if t.isdigit() else t for t in told.equation.split())
    return Problem(f"svamp-mini/{split}/{number}", tuple(words), tuple(numbers), equation)


class _Told:
    """Facts, a question, the expression over the facts by number, and whether the facts may change places."""

    def __init__(self, facts: _Facts, question: str, equation: str, loose: bool = False) -> None:
        self.facts, self.question, self.equation, self.loose = facts, question, equation, loose


def _change(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    gain = draw.random() < 0.5
    had, by = draw.randint(50, 99), draw.randint(2, 49)
    verb = draw.choice(GAINS if gain else LOSSES)
    facts = [(f"{name} has # {thing}", had), (f"{name} {verb} # {thing}", by)]
    return _Told(facts, f"how many {thing} has {name} now ?", "+ 0 1" if gain else "- 0 1")


def _before(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    gain = draw.random() < 0.5
    by, has = draw.randint(2, 49), draw.randint(50, 99)
    verb = draw.choice(GAINS if gain else LOSSES)
    facts = [(f"{name} {verb} # {thing}", by), (f"then {name} has # {thing}", has)]
    return _Told(facts, f"how many {thing} had {name} before ?", "- 1 0" if gain else "+ 1 0")


def _difference(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    low, high = draw.randint(2, 49), draw.randint(50, 99)
    facts = [(f"{name} has # {thing}", high), (f"{other} has # {thing}", low)]
    which = draw.randrange(3)
    if which == 0:
        return _Told(facts, f"how many {thing} have {name} and {other} together ?", "+ 0 1", loose=True)
    if which == 1:
        return _Told(facts, f"how many more {thing} has {name} than {other} ?", "- 0 1", loose=True)
    facts = [(facts[0][0], low), (facts[1][0], high)]
    return _Told(facts, f"how many more {thing} has {other} than {name} ?", "- 1 0", loose=True)


def _groups(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    many, each, holders = draw.randint(2, 12), draw.randint(2, 12), draw.choice(HOLDERS)
    if draw.random() < 0.5:
        facts = [(f"{name} has # {holders}", many), (f"each holds # {thing}", each)]
        return _Told(facts, f"how many {thing} has {name} in all ?", "* 0 1", loose=True)
    facts = [(f"{name} has # {thing}", many * each), (f"they are in # {holders}", many)]
    return _Told(facts, f"how many {thing} of {name} are in each ?", "/ 0 1")


def _two_changes(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    gains = [draw.random() < 0.5 for _ in range(2)]
    facts = [(f"{name} has # {thing}", draw.randint(60, 99))]
    facts += [(f"{name} {draw.choice(GAINS if gain else LOSSES)} # {thing}", draw.randint(2, 29)) for gain in gains]
    first, second = ("+" if gain else "-" for gain in gains)
    return _Told(facts, f"how many {thing} has {name} now ?", f"{second} {first} 0 1 2")


def _boxes_and_change(draw: random.Random, name: str, other: str, thing: str) -> _Told:
    gain = draw.random() < 0.5
    boxes, each = draw.randint(3, 12), draw.randint(3, 12)
    facts = [(f"{name} has # {draw.choice(HOLDERS)}", boxes), (f"each holds # {thing}", each),
             (f"{name} {draw.choice(GAINS if gain else LOSSES)} # {thing}", draw.randint(2, 8))]  # fmt: skip
    return _Told(facts, f"how many {thing} has {name} now ?", f"{'+' if gain else '-'} * 0 1 2")


_KINDS: Sequence[Callable[..., _Told]] = (
    _change, _before, _difference, _groups, _two_changes, _boxes_and_change
)  # fmt: skip


def _cast(draw: random.Random, split: Split) -> tuple[str, str]:
    """Who and what: a pair that meets in this split alone."""
    name = draw.randrange(len(NAMES))
    thing = (draw.choice(_RESIDUES[split]) - name) % len(THINGS)
    return NAMES[name], THINGS[thing]
