"""Math word problems with one unknown: from upstream's rows to token ids, targets and graphs."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import DATA, MODELS, Contents, Dataset, Located, root_of
from smcbench.task import SPLITS, Split

from ._datasets import carve, held_out
from ._expressions import OPERATORS, place_of, value
from ._rows import comma_separated
from ._text import CHECKPOINTS, Encoder, Tokens
from ._trees import END

_SPOKEN = "NUM"
"""How every quantity reads, whatever its value."""
_COMMON = 5
"""How often a constant must occur in the training equations to be one of the outputs (GTS's rule)."""
_NEAR = 4
"""Words nearer than this to a quantity, and in its group, are its attributes (Graph2Tree's rule)."""


class Problem(NamedTuple):
    """A problem as text.

    Attributes:
        words: of the question; quantities are ``number0``, ``number1``, … in order.
        numbers: the values of the quantities.
        equation: in prefix form, over the quantities and constants.
        cells: places of the words that belong to the quantities, for the graph.
    """

    id: str
    words: tuple[str, ...]
    numbers: tuple[float, ...]
    equation: tuple[str, ...]
    cells: tuple[int, ...] = ()

    @property
    def answer(self) -> float:
        """The value of the equation. (Of MAWPS, the printed answer is sometimes rounded, or of another problem.)"""
        found = value(self.equation, self.numbers)
        assert found is not None, "equations are checked when they are read"
        return found


class Encoded(NamedTuple):
    """A problem for the network.

    Attributes:
        tokens: of the question, special ones included, shape (length,).
        word: which word each token belongs to, -1 for special ones, shape (length,).
        places: the first token of each quantity, shape (quantities,).
        targets: the equation in the output vocabulary, shape (tokens,); empty if it holds a constant that is not there.
        graph: which words are linked, in two graphs; shape (2, words, words).
    """

    id: str
    tokens: Any
    word: Any
    places: Any
    targets: Any
    graph: Any
    problem: Problem


@dataclass(frozen=True)
class Source:
    """A source of problems in three splits.

    Attributes:
        name: of the source.
        read: makes the splits of a fold (None: there are no folds).
        folds: how many there are; 0 if it is no cross-validation.
        note: what the splits are, for people.
        dataset: what has to be had for it; none: it is generated.
    """

    name: str
    read: Callable[[int | None], Mapping[Split, Sequence[Problem]]]
    note: str
    folds: int = 0
    dataset: Dataset | None = None


class Ready(NamedTuple):
    """A fold of a source in the tokens of an encoder; its constants are those of its own training split."""

    splits: dict[Split, list[Encoded]]
    vocabulary: int
    constants: tuple[str, ...]
    pad: int
    digest: str
    tokens: str

    def written(self, expression: Sequence[int]) -> str:
        """An expression of output tokens in words."""
        known = (*OPERATORS, *self.constants)
        return " ".join(known[t] if t < len(known) else f"number{t - len(known)}" for t in expression)


@functools.lru_cache(maxsize=32)
def _read(source: Source, fold: int | None, roots: tuple[Any, ...]) -> Mapping[Split, Sequence[Problem]]:
    return source.read(fold)


def problems(source: Source, fold: int | None) -> Mapping[Split, Sequence[Problem]]:
    """The problems of a fold as text; once a process."""
    return _read(source, fold, (root_of(DATA), root_of(MODELS)))


@functools.lru_cache(maxsize=32)
def _ready(source: Source, fold: int | None, encoder: Encoder | None, graphs: bool, roots: tuple[Any, ...]) -> Ready:
    read = _read(source, fold, roots)
    training = read["train"]
    if encoder is not None and encoder.checkpoint is not None and source.dataset is not None:
        tokens = Tokens.of(CHECKPOINTS[encoder.checkpoint], encoder.kind)
        space = " " if encoder.kind == "roberta" else ""  # its words begin with the space before them
        vocabulary = encoder.vocabulary
    else:
        tokens, vocabulary = _vocabulary(training)
        space = ""
    known = constants(training)
    outputs = {token: index for index, token in enumerate((*OPERATORS, *known))}

    def encoded(problem: Problem) -> Encoded:
        spoken = _spoken(problem)
        pieces = tokens.encode([word if at == 0 else space + word for at, word in enumerate(spoken)])
        row = [tokens.begin, *(piece for each in pieces for piece in each), tokens.end]
        word = [-1, *(at for at, each in enumerate(pieces) for _ in each), -1]
        first = {problem.words[at]: word.index(at) for at in range(len(pieces)) if pieces[at]}
        places = [first[f"number{k}"] for k in range(len(problem.numbers))]
        targets = [outputs.get(t, END) if (k := place_of(t)) is None else len(outputs) + k for t in problem.equation]
        return Encoded(
            problem.id, np.asarray(row), np.asarray(word), np.asarray(places),
            np.asarray([] if END in targets else targets, dtype=np.int64), graph(problem) if graphs else None, problem,
        )  # fmt: skip

    splits: dict[Split, list[Encoded]] = {split: [encoded(p) for p in read[split]] for split in SPLITS}
    splits["train"] = [e for e in splits["train"] if len(e.targets)]
    digest = files.digest([[split, *map(list, read[split])] for split in SPLITS])
    return Ready(splits, vocabulary, known, tokens.pad, digest, tokens.digest)


def ready(source: Source, fold: int | None, encoder: Encoder | None, graphs: bool) -> Ready:
    """The splits of a fold; once a process.

    Args:
        encoder: whose checkpoint brings the tokenizer; None: the words of the training split, one token each.
        graphs: whether they are wanted.
    """
    return _ready(source, fold, encoder, graphs, (root_of(DATA), root_of(MODELS)))


def _spoken(problem: Problem) -> list[str]:
    return [_SPOKEN if place_of(word) is not None else word for word in problem.words]


def constants(problems: Sequence[Problem]) -> tuple[str, ...]:
    """Those that occur at least five times, by size: the numbers that may be written without being given."""
    seen = Counter(token for p in problems for token in p.equation if place_of(token) is None)
    return tuple(
        sorted((t for t, n in seen.items() if t not in OPERATORS and n >= _COMMON), key=lambda t: (float(t), t))
    )


def _vocabulary(problems: Sequence[Problem]) -> tuple[Tokens, int]:
    """The words of some problems, one token each, and one for every word that is not among them."""
    known = sorted({word for p in problems for word in p.words if place_of(word) is None} | {_SPOKEN})
    index = {word: 5 + at for at, word in enumerate(known)}
    return Tokens(lambda words: [[index.get(word, 4)] for word in words], (1, 0, 2, 3), "words"), 5 + len(known)


def graph(problem: Problem) -> Any:
    """Two graphs over words, with self-loops, as Graph2Tree's heads use them (Zhang et al., 2020); shape (2, n, n).

    Greater: from a quantity to every one that is not greater. Attribute-between: a quantity and the words of its group
    less than four words away, both ways; and equal words of the groups, where every quantity reads alike.
    """
    size = len(problem.words)
    greater, attribute = (np.eye(size, dtype=bool) for _ in range(2))
    places = {at: k for at, word in enumerate(problem.words) if (k := place_of(word)) is not None}
    for one, k in places.items():
        for other, j in places.items():
            greater[one, other] |= problem.numbers[k] >= problem.numbers[j]
    cells = [cell for cell in problem.cells if cell < size]
    spoken = _spoken(problem)
    for at in places:
        for cell in cells:
            if cell not in places and abs(at - cell) < _NEAR:
                attribute[at, cell] = attribute[cell, at] = True
    for one in cells:
        for other in cells:
            if spoken[one] == spoken[other]:
                attribute[one, other] = attribute[other, one] = True
    return np.stack([greater, attribute])


# -- upstream's rows (MAWPS, ASDiv-A and SVAMP as Patel et al., 2021, distribute them)

_COLUMNS = ("Question", "Numbers", "Equation", "group_nums")


def table(contents: Contents, prefix: str) -> Iterator[Problem]:
    """The problems of a CSV file with a header line, numbered.

    Raises:
        InvalidInput: a column is missing; a quantity has no value; an equation has none.
    """
    for number, located in enumerate(comma_separated(contents, _COLUMNS)):
        yield _problem(located, f"{prefix}/{number}")


def _problem(located: Located, key: str) -> Problem:
    where, row = located
    words, equation = tuple(row["Question"].split()), tuple(row["Equation"].split())
    try:
        numbers = tuple(float(text) for text in row["Numbers"].split())
    except ValueError:
        raise InvalidInput(f"{where}: 'Numbers' is {row['Numbers']!r}, it must be numbers between spaces") from None
    asked = sorted(k for word in words if (k := place_of(word)) is not None)
    if asked != list(range(len(numbers))):
        raise InvalidInput(f"{where}: 'Question' must hold number0 to number{len(numbers) - 1}, each once")
    if value(equation, numbers) is None:
        raise InvalidInput(f"{where}: 'Equation' is {row['Equation']!r}, which has no value")
    try:
        cells = json.loads(row["group_nums"])
        if not all(isinstance(cell, int) and cell >= 0 for cell in cells):
            raise ValueError(cells)
    except (ValueError, TypeError):
        raise InvalidInput(f"{where}: 'group_nums' must be a list of places, such as [2, 3, 4]") from None
    return Problem(key, words, numbers, equation, tuple(cells))


def folds(dataset: Dataset, name: str, fold: int | None) -> dict[Split, Sequence[Problem]]:
    """A published fold: its dev part is the test split, and validation is carved from its training part.

    Equal questions stay together when it is carved.
    """
    place, number = (f"fold{fold}/", f"{fold}/") if fold is not None else ("", "")
    train = list(table(dataset.read(f"{place}train.csv"), f"{name}/{number}train"))
    test = list(table(dataset.read(f"{place}dev.csv"), f"{name}/{number}dev"))
    validation, train = carve(train, held_out(len(train)), lambda problem: " ".join(problem.words))
    return {"train": train, "validation": validation, "test": test}


def repeated(splits: Mapping[Split, Sequence[Problem]]) -> int:
    """Test problems whose question also stands in the training split."""
    known = {problem.words for problem in splits["train"]}
    return sum(problem.words in known for problem in splits["test"])
