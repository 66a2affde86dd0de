"""GLUE: nine tasks of sentence understanding, the field's language benchmark beside SMC-Bench's harder ones.

Three scales, one adapter. Full: BERT-base, for the comparisons of Instant Soup (battery ``glue-isp``) and, started from
a public BERT-base that is 90 % sparse (``NAME@sparse90``), of AC/DC++ (``glue-transfer``). Small: the same data with
MiniLM-L6. Mini: generated (:mod:`_glue_mini`). Test labels are withheld, so the dev sets are the test sets, and
validation is carved from the training split.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smcbench.errors import InvalidInput
from smcbench.recipe import Recipe
from smcbench.sources import Contents, Dataset, Located
from smcbench.task import Scope, Split

from . import _glue_mini as mini
from . import _metrics
from ._datasets import carve, dataset, held_out
from ._recipes import recipe
from ._rows import one_of, rows, tab_separated, text, value_of
from ._text import BERT_BASE, BERT_SPARSE, MINILM, Corpus, Encoder, Example, TextTask

Splits = Mapping[Split, Sequence[Example]]


@dataclass(frozen=True)
class _Set:
    """One of the nine: its texts and labels as upstream and the hub name them, and how it is scored.

    Attributes:
        texts: the hub's columns of text.
        local: upstream's columns of the same, and that of the label.
        labels: upstream's labels in the order of the hub's numbers; none: a number.
        metrics: GLUE's own, the one that ranks first.
        header: of a file without one.
        tiny: the generated shape that stands for it where there is no data.
    """

    texts: tuple[str, ...]
    local: tuple[str, ...]
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...] = ("accuracy",)
    header: tuple[str, ...] | None = None
    tiny: str = "pairs"


_ENTAILED = ("entailment", "not_entailment")
SETS = {
    "cola": _Set(("sentence",), ("sentence", "label"), ("0", "1"), ("matthews", "accuracy"),
                 ("source", "label", "mark", "sentence"), "cola"),
    "sst-2": _Set(("sentence",), ("sentence", "label"), ("0", "1"), tiny="cola"),
    "mrpc": _Set(("sentence1", "sentence2"), ("#1 String", "#2 String", "Quality"), ("0", "1"), ("accuracy", "f1")),
    "sts-b": _Set(("sentence1", "sentence2"), ("sentence1", "sentence2", "score"), None, ("pearson", "spearman"),
                  tiny="sts-b"),
    "qqp": _Set(("question1", "question2"), ("question1", "question2", "is_duplicate"), ("0", "1"),
                ("accuracy", "f1")),
    "mnli": _Set(("premise", "hypothesis"), ("sentence1", "sentence2", "gold_label"),
                 ("entailment", "neutral", "contradiction"), tiny="mnli"),
    "qnli": _Set(("question", "sentence"), ("question", "sentence", "label"), _ENTAILED),
    "rte": _Set(("sentence1", "sentence2"), ("sentence1", "sentence2", "label"), _ENTAILED),
    "wnli": _Set(("sentence1", "sentence2"), ("sentence1", "sentence2", "label"), ("0", "1")),
}  # fmt: skip


def _hub_rows(kind: _Set, contents: Contents, malformed: int) -> Iterator[Located]:
    """Upstream's rows with the hub's columns and numbers."""
    *columns, label = kind.local
    for located in tab_separated(contents, kind.header, malformed):
        row: dict[str, Any] = dict(zip(kind.texts, (text(located, column) for column in columns), strict=True))
        if kind.labels is not None:
            row["label"] = one_of(located, label, kind.labels)
        else:
            try:
                row["label"] = float(text(located, label))
            except ValueError:
                raise InvalidInput(f"{located.where}: {label!r} is {located.row[label]!r}, not a number") from None
        yield Located(located.where, row)


def _examples(name: str, source: Dataset, file: str, hub: str, split: str) -> Iterator[Example]:
    kind = SETS[name]
    broken = next(f.malformed for f in source.files if f.names[0] == file)
    for number, located in enumerate(rows(source, file, hub, lambda contents: _hub_rows(kind, contents, broken))):
        if kind.labels is None:
            label: int | float = float(value_of(located, "label"))
            if not (math.isfinite(label) and 0 <= label <= 5):
                raise InvalidInput(f"{located.where}: 'label' is {label!r}, it must lie in [0, 5]")
        else:
            label = one_of(located, "label", range(len(kind.labels)))
        yield Example(f"{name}/{split}/{number}", (tuple(text(located, column) for column in kind.texts),), label)


def _glue(name: str, source: Dataset) -> Splits:
    train = list(_examples(name, source, "train.tsv", "train", "train"))
    validation, train = carve(train, held_out(len(train)), lambda example: example.id)
    if name == "mnli":
        test = [*_examples(name, source, "dev_matched.tsv", "validation_matched", "m"),
                *_examples(name, source, "dev_mismatched.tsv", "validation_mismatched", "mm")]  # fmt: skip
    else:
        test = list(_examples(name, source, "dev.tsv", "validation", "dev"))
    return {"train": train, "validation": validation, "test": test}


def _mnli_small(source: Dataset) -> Splits:
    """The matched dev set cut into 7,815 / 1,000 / 1,000, hypotheses of one premise together."""
    rest = list(_examples("mnli", source, "dev_matched.tsv", "validation_matched", "m"))
    test, rest = carve(rest, min(1000, len(rest) // 4), _premise)
    validation, rest = carve(rest, min(1000, len(rest) // 4), _premise)
    if source.state() != "local" or source.has("dev_mismatched.tsv"):
        test += _examples("mnli", source, "dev_mismatched.tsv", "validation_mismatched", "mm")
    return {"train": rest, "validation": validation, "test": test}


def _premise(example: Example) -> str:
    return example.texts[0][0]


# -- the corpora

_CARVED = "GLUE's dev set is the test set; validation is a tenth of train (at most 1,000), carved by a fixed rule"
_GENERATED = "generated; see the module _glue_mini"
_TINY = (96, 32, 64)
_SIZES = {"cola": (8000, 500, 2000), "mnli": (9000, 600, 1500), "sts-b": (8000, 500, 2000)}
"""Examples of the generated corpora: train, validation, test."""
_MINI = Encoder("bert", 64, 48, 2, 4, 128, positions=24, dropout=0.0, init=0.15)


def _pairs(splits: Splits) -> Splits:
    """Entailed or not: two classes of the three."""
    return {split: [e._replace(label=min(int(e.label), 1)) for e in examples] for split, examples in splits.items()}


def _corpora() -> Iterator[Corpus]:
    for name in SETS:
        source = dataset(name.replace("-", ""))
        yield Corpus(name, functools.partial(_glue, name, source), _CARVED, source)
    source = dataset("mnli-dev")
    note = "MNLI's matched dev set, cut by premise into train, validation and test (7,815, 1,000, 1,000)"
    yield Corpus("mnli-small", functools.partial(_mnli_small, source), note, source, beside="mnli/mm/")
    generators: dict[str, Callable[[int, int, int], Splits]] = {
        "cola": mini.acceptability, "mnli": mini.entailment, "sts-b": mini.similarity
    }  # fmt: skip
    for name, generate in generators.items():
        yield Corpus(f"{name}-mini", functools.partial(generate, *_SIZES[name]), _GENERATED)
        yield Corpus(f"{name}-tiny", functools.partial(generate, *_TINY), _GENERATED)
    yield Corpus("pairs-tiny", lambda: _pairs(mini.entailment(*_TINY)), _GENERATED)


CORPORA = {corpus.name: corpus for corpus in _corpora()}


# -- the adapter


@dataclass(frozen=True)
class GLUE(TextTask):
    """One of GLUE's nine tasks, by GLUE's own metrics; of MNLI the matched accuracy ranks, the mismatched stands by."""

    family: ClassVar[str] = "glue"
    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    which: str
    """Which of the nine."""
    source: str
    """Name of the corpus."""
    encoder: Encoder
    longest: int = 128
    """Most tokens of a sequence; the longer text loses its end first."""
    scope: Scope = "encoder"
    """The linear weights of the blocks, as oBERT and movement pruning; ``NAME@all`` prunes embeddings and head too."""
    limit: int | None = None
    """Most training examples, chosen by a fixed rule."""

    @property
    def corpus(self) -> Corpus:
        """Where its examples are from."""
        return CORPORA[self.source]

    @property
    def classes(self) -> int | None:
        """Two, three, or none: a number."""
        labels = SETS[self.which].labels
        return len(labels) if labels is not None else None

    @property
    def metrics(self) -> tuple[str, ...]:
        """GLUE's own; the first one ranks."""
        return SETS[self.which].metrics

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """Scopes, a random start, and of BERT-base one that is 90 % sparse."""
        sparse = {"sparse90": {"encoder": BERT_SPARSE}} if self.encoder == BERT_BASE else {}
        return {**super().variants, **sparse}

    def score(self, split: Split, predictions: Sequence[Any]) -> dict[str, float]:
        """The metrics; of MNLI those of the mismatched genres apart, where they are there."""
        if self.source not in ("mnli", "mnli-small"):
            return super().score(split, predictions)
        data, scores = self.data(split), {}
        for part, name in (("mm", "accuracy/mm"), ("m", "accuracy")):
            places = [i for i, key in enumerate(data.ids) if (key.split("/")[1] == "mm") == (part == "mm")]
            if places:
                labels, given = ([some[i] for i in places] for some in (data.labels, predictions))
                scores[name] = _metrics.accuracy(labels, given)
        return scores

    def shares(self) -> tuple[Mapping[str, str], Mapping[str, float]] | tuple[None, None]:
        """The mismatched genres have no part in the score that ranks."""
        if self.source not in ("mnli", "mnli-small"):
            return None, None
        return {key: "mm" if key.split("/")[1] == "mm" else "m" for key in self.data("test").ids}, {"m": 1, "mm": 0}

    def tiny(self) -> GLUE:
        shape = SETS[self.which].tiny
        which = {"cola": "cola", "sts-b": "sts-b", "mnli": "mnli", "pairs": "rte"}[shape]
        encoder = Encoder("bert", 256, 32, 2, 2, 64, 66, dropout=0.0)
        return GLUE(f"{which}-tiny", recipe("tiny-text"), which, f"{shape}-tiny", encoder, 64, self.scope)


def _full(name: str) -> GLUE:
    return GLUE(name, recipe(f"bert-base-{name}"), name, name, BERT_BASE)


def _small(name: str) -> GLUE:
    source = "mnli-small" if name == "mnli" else name
    return GLUE(f"{name}-small", recipe(f"{name}-small"), name, source, MINILM)


def _mini(name: str) -> GLUE:
    return GLUE(f"{name}-mini", recipe(f"{name}-mini"), name, f"{name}-mini", _MINI, _MINI.positions)


cola, sst_2, mrpc, sts_b, qqp, mnli, qnli, rte, wnli = map(_full, SETS)
cola_small, sst_2_small, mrpc_small, sts_b_small, qqp_small, mnli_small, qnli_small, rte_small, wnli_small = map(
    _small, SETS
)
cola_mini, mnli_mini, sts_b_mini = map(_mini, ("cola", "mnli", "sts-b"))
