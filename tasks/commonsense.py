"""Commonsense reasoning: CommonsenseQA, WinoGrande and RACE, the family on which SMC-Bench saw every method fail.

Three scales, one adapter. Full: RoBERTa-large and SMC-Bench's recipes; CommonsenseQA and RACE rank the choices with a
head on the first token, WinoGrande compares what the (tied) language-model head thinks of the two candidates. Small:
the same data with MiniLM-L6, which has no language-model head, so WinoGrande is ranked by a head too. Mini: generated
(:mod:`_commonsense_mini`).

Where SMC-Bench's code differs we follow the papers' protocol: its dev sets are the test sets here too (test labels are
withheld), but nothing is selected on them: validation is carved from the training split.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from smcbench.errors import InvalidInput
from smcbench.files import parse_json
from smcbench.recipe import Recipe
from smcbench.sources import Contents, Dataset, Located
from smcbench.task import Batch, Outputs, Scope, Split

from . import _commonsense_mini as mini
from . import _metrics
from ._datasets import carve, dataset, held_out
from ._recipes import recipe
from ._rows import json_lines, one_of, rows, text, texts, value_of
from ._text import MINILM, ROBERTA_LARGE, Corpus, Encoder, Example, TextTask

Splits = Mapping[Split, Sequence[Example]]

ALPHA, BETA = 5.0, 0.4
"""Weight and width of WinoGrande's margin (fairseq's ``wsc_criterion``, as SMC-Bench runs it)."""

_NOT_PRUNED = ("lm_head.dense.weight", "roberta.embeddings.token_type_embeddings.weight")
_LETTERS = ("A", "B", "C", "D", "E")


# -- CommonsenseQA (Talmor et al., 2019)


def _csqa(source: Dataset) -> Splits:
    def examples(file: str, split: str, hub: str) -> Iterator[Example]:
        for located in rows(source, file, hub, _csqa_rows):
            offered = value_of(located, "choices")
            choices = texts(located, "choices", offered["text"], len(_LETTERS))
            if list(offered["label"]) != list(_LETTERS):
                raise InvalidInput(f"{located.where}: choices are labelled {offered['label']}, not A to E in turn")
            question = "Q: " + text(located, "question")
            yield Example(
                f"csqa/{split}/{text(located, 'id')}",
                tuple((question, f"A: {choice}") for choice in choices),
                one_of(located, "answerKey", _LETTERS),
            )

    train = list(examples("train_rand_split.jsonl", "train", "train"))
    validation, train = carve(train, held_out(len(train)), lambda example: example.id)
    return {"train": train, "validation": validation,
            "test": list(examples("dev_rand_split.jsonl", "dev", "validation"))}  # fmt: skip


def _csqa_rows(contents: Contents) -> Iterator[Located]:
    for where, row in json_lines(contents):
        try:
            asked = row["question"]
            choices = {key: [choice[key] for choice in asked["choices"]] for key in ("label", "text")}
            yield Located(where, {**row, "question": asked["stem"], "choices": choices})
        except (KeyError, TypeError):
            raise InvalidInput(
                f"{where}: not a row of CommonsenseQA (id, answerKey, question with stem and choices)"
            ) from None


# -- WinoGrande (Sakaguchi et al., 2020)


def _winogrande(source: Dataset, size: str) -> Splits:
    """Twin sentences have the same two options, by which they stay together when validation is carved."""

    def examples(file: str, split: str, hub: str) -> Iterator[Example]:
        for number, located in enumerate(rows(source, file, hub, json_lines)):
            before, gap, after = text(located, "sentence").partition("_")
            if not gap:
                raise InvalidInput(f"{located.where}: 'sentence' has no gap '_'")
            space = " " if before.endswith(" ") else ""
            options = texts(located, "option", [text(located, name) for name in ("option1", "option2")], 2)
            yield Example(
                f"winogrande/{split}/{number}",
                tuple((before.removesuffix(" "), space + option, after) for option in options),
                one_of(located, "answer", ("1", "2")),
            )

    train = list(examples(f"train_{size}.jsonl", f"train_{size}", "train"))
    validation, train = carve(train, held_out(len(train)), lambda e: " / ".join(sorted(t[1] for t in e.texts)))
    return {"train": train, "validation": validation, "test": list(examples("dev.jsonl", "dev", "validation"))}


def _joined(splits: Splits) -> Splits:
    """The gap filled: what stands before it, and the option with what follows."""
    return {
        split: [e._replace(texts=tuple((before, span + after) for before, span, after in e.texts)) for e in examples]
        for split, examples in splits.items()
    }


# -- RACE (Lai et al., 2017)


def _race(source: Dataset) -> Splits:
    local = source.state() == "local"
    members = _race_members(source.read("RACE.tar")) if local else {}

    def examples(split: str, hub: str) -> Iterator[Example]:
        asked: dict[str, int] = {}
        for located in members.get(split, []) if local else source.rows(hub):
            passage = text(located, "example_id").removesuffix(".txt")
            asked[passage] = number = asked.get(passage, -1) + 1
            article, question = (" ".join(text(located, key).split()) for key in ("article", "question"))
            options = texts(located, "options", value_of(located, "options"), 4)
            options = [" ".join(option.split()) for option in options]
            yield Example(
                f"race/{split}/{passage}/{number}",
                tuple((_answered(question, option), article) for option in options),
                one_of(located, "answer", _LETTERS[:4]),
            )

    found = {"train": ("train", "train"), "validation": ("dev", "validation"), "test": ("test", "test")}
    return {split: sorted(examples(*names), key=lambda e: e.id) for split, names in found.items()}  # type: ignore[misc]


def _answered(question: str, option: str) -> str:
    """The option in the gap of the question, or after it."""
    return question.replace("_", option) if "_" in question else f"{question} {option}"


def _race_members(contents: Contents) -> dict[str, list[Located]]:
    """The rows of an archive ``RACE/{train,dev,test}/{middle,high}/N.txt``, by split, one a question."""
    found: dict[str, list[Located]] = {"train": [], "dev": [], "test": []}
    if not contents.raw.endswith(bytes(1024)):  # what ends an archive; tarfile would not miss it
        raise InvalidInput(f"{contents.where}: a torn archive; fetch it again")
    try:
        with tarfile.open(fileobj=io.BytesIO(contents.raw)) as archive:
            for member in archive:
                parts = member.name.split("/")
                file = archive.extractfile(member) if member.isfile() and len(parts) == 4 else None
                if file is None or parts[1] not in found:
                    continue
                where = f"{contents.where}:{member.name}"
                try:
                    whole = parse_json(file.read().decode(), where)
                    asked = zip(whole["questions"], whole["options"], whole["answers"], strict=True)
                    for question, options, answer in asked:
                        row = {"example_id": f"{parts[2]}{parts[3]}", "article": whole["article"],
                               "question": question, "options": options, "answer": answer}  # fmt: skip
                        found[parts[1]].append(Located(where, row))
                except UnicodeDecodeError:
                    raise InvalidInput(f"{where}: not UTF-8 text") from None
                except (KeyError, TypeError, ValueError) as error:
                    raise InvalidInput(f"{where}: not a passage of RACE ({error!r})") from None
    except tarfile.TarError as error:
        raise InvalidInput(f"{contents.where}: a torn archive ({error}); fetch it again") from None
    return found


# -- the corpora

_CARVED = "the public dev set is the test set; validation is a tenth of train (at most 1,000), carved by a fixed rule"
_GENERATED = "generated; see the module _commonsense_mini"
_TINY = (96, 32, 64)
_SIZES = dict.fromkeys(("csqa", "winogrande", "race"), (20000, 500, 2000))
"""Examples of the generated corpora: train, validation, test."""
_MINI = Encoder("bert", 96, 96, 2, 4, 192, positions=24, dropout=0.0, init=0.15)


def _corpora() -> Iterator[Corpus]:
    csqa, race = dataset("csqa"), dataset("race")
    yield Corpus("csqa", functools.partial(_csqa, csqa), _CARVED, csqa)
    for size in ("xl", "l"):
        source = dataset(f"winogrande-{size}")
        read = functools.partial(_winogrande, source, size)
        yield Corpus(f"winogrande-{size}", read, f"train_{size}; {_CARVED}", source)
        yield Corpus(f"winogrande-{size}-joined", lambda read=read: _joined(read()), f"train_{size}; {_CARVED}", source)  # type: ignore[misc]
    yield Corpus("race", functools.partial(_race, race), "train, dev and test as published, of both levels", race)
    for shape, generate in (("csqa", mini.csqa), ("winogrande", mini.winogrande), ("race", mini.race)):
        yield Corpus(f"{shape}-mini", functools.partial(generate, *_SIZES[shape]), _GENERATED)
        yield Corpus(f"{shape}-tiny", functools.partial(generate, *_TINY), _GENERATED)
    yield Corpus("winogrande-tiny-gap", lambda: _gapped(mini.winogrande(*_TINY)), _GENERATED)


def _gapped(splits: Splits) -> Splits:
    """Each choice as a word to be guessed: before, span, after."""
    return {
        split: [e._replace(texts=tuple((" ".join(t[:-1]), t[-1], ".") for t in e.texts)) for e in examples]
        for split, examples in splits.items()
    }


CORPORA = {corpus.name: corpus for corpus in _corpora()}


# -- the adapter


@dataclass(frozen=True)
class Commonsense(TextTask):
    """Which of the choices is right? Accuracy; of RACE also for middle and high school apart."""

    family: ClassVar[str] = "commonsense"
    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    source: str
    """Name of the corpus."""
    encoder: Encoder
    longest: int
    """Most tokens of a sequence; longer texts lose their ends."""
    scope: Scope = "all"
    """With embeddings and heads, as SMC-Bench prunes; ``NAME@encoder`` leaves them dense."""
    limit: int | None = None
    """Most training examples, chosen by a fixed rule."""

    @property
    def corpus(self) -> Corpus:
        """Where its examples are from."""
        return CORPORA[self.source]

    @property
    def shape(self) -> str:
        """Which of the three it is."""
        return self.source.split("-")[0]

    @property
    def classes(self) -> int:
        """Choices."""
        return {"csqa": 5, "winogrande": 2, "race": 4}[self.shape]

    @property
    def layout(self) -> Literal["choices", "words"]:
        """RoBERTa guesses WinoGrande's words; all else ranks."""
        return "words" if self.shape == "winogrande" and self.encoder.kind == "roberta" else "choices"

    @property
    def first_longest(self) -> int | None:
        """128 tokens of question and option in RACE (fairseq's ``max-option-length``)."""
        return 128 if self.source == "race" else None

    def prunable(self, model: nn.Module) -> list[str]:
        """The scope, without what SMC-Bench does not prune, the dense layer of the language-model head, and what its
        RoBERTa does not have, transformers' single segment embedding.
        """
        return [name for name in super().prunable(model) if not name.endswith(_NOT_PRUNED)]

    @property
    def pair(self) -> Literal["single", "double"]:
        """One separator in CommonsenseQA (fairseq's own format for it), RoBERTa's two in RACE."""
        return "single" if self.shape == "csqa" else super().pair

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy over the choices; of WinoGrande's two candidates, -log p(right) plus a margin over the other.

        ``-q + alpha max(0, c - q + beta)`` with mean log-probabilities q of the right and c of the other candidate.
        """
        if self.layout == "choices":
            return super().loss(outputs, batch)
        right = outputs.logits.gather(1, batch["label"][:, None])[:, 0]
        other = outputs.logits.gather(1, 1 - batch["label"][:, None])[:, 0]
        return (ALPHA * F.relu(other - right + BETA) - right).sum(), len(right)

    def score(self, split: Split, predictions: Sequence[Any]) -> dict[str, float]:
        """Accuracy; of RACE also that of each level."""
        scores = super().score(split, predictions)
        if self.source == "race":
            data = self.data(split)
            for level in ("middle", "high"):
                places = [i for i, key in enumerate(data.ids) if key.split("/")[2].startswith(level)]
                labels, given = ([some[i] for i in places] for some in (data.labels, predictions))
                scores[f"accuracy/{level}"] = _metrics.accuracy(labels, given) if places else 0.0
        return scores

    def tiny(self) -> Commonsense:
        words = self.layout == "words"
        source = f"{self.shape}-tiny" + ("-gap" if words else "")
        encoder = Encoder(self.encoder.kind, 256, 32, 2, 2, 64, 130, dropout=0.0)
        name = f"{self.shape}-{self.encoder.kind}-tiny"
        return Commonsense(name, recipe("tiny-text"), source, encoder, 128, self.scope)


csqa = Commonsense("csqa", recipe("csqa"), "csqa", ROBERTA_LARGE, 512)
winogrande = Commonsense("winogrande", recipe("winogrande"), "winogrande-xl", ROBERTA_LARGE, 512)
race = Commonsense("race", recipe("race"), "race", ROBERTA_LARGE, 512)
csqa_small = Commonsense("csqa-small", recipe("csqa-small"), "csqa", MINILM, 128)
winogrande_small = Commonsense("winogrande-small", recipe("winogrande-small"), "winogrande-l-joined", MINILM, 128)
race_small = Commonsense("race-small", recipe("race-small"), "race", MINILM, 128, limit=4000)
csqa_mini, winogrande_mini, race_mini = (
    Commonsense(f"{shape}-mini", recipe(f"{shape}-mini"), f"{shape}-mini", _MINI, _MINI.positions) for shape in _SIZES
)
