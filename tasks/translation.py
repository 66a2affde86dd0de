"""Translation from and into English by one mBART for all directions, SMC-Bench's multilingual family.

Three scales, one adapter. Full: mBART-large, fine-tuned on two, five or ten languages as SMC-Bench does, on OPUS-100 or
any parallel corpus, and tested on all ten. Small: public corpora of some thousand sentences with a small mBART from
scratch. Mini: phrases of Unicode's CLDR (:mod:`_cldr`), tested on the directions that are trained.

Languages are counted with English, but for ``cldr-2to2``, which has two beside it. SMC-Bench does not say which it
takes; ours are nested: French (the first in its list), then the largest others, in three scripts, then all ten.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench import files
from smcbench.feed import to_device
from smcbench.recipe import Recipe
from smcbench.results.outcomes import Outcomes, outcomes
from smcbench.sources import DATA, MODELS, Requirement, root_of
from smcbench.task import Batch, Evaluation, Metric, Outputs, Qualification, Scope, Split, Task, in_order, nearest

from . import _cldr, _qualified, _recipes
from ._beam import beam_search, greedy
from ._evaluating import buckets, chunks, evaluating
from ._mbart import CHECKPOINTS, LARGE, MBART, code, learnt
from ._pairs import Packed, Pair, Ready, Selection, ready
from ._parallel import manifests

TWO = ("fr",)
FIVE = ("fr", "ru", "de", "zh")
TEN = ("cs", "de", "fr", "gu", "my", "ro", "ru", "vi", "zh")
"""Beside English."""

_BEAMS = 5
_TOKENS = {"cpu": 1 << 10, "cuda": 1 << 14}
"""Padded source tokens of a batch for evaluation, before there are beams."""
_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Most logits of a step: sentences x beams x vocabulary; 128 MiB and 1 GiB in fp32."""
_LONGEST = 1 << 14
"""Characters of a translation that somebody sends."""
_TOKENIZERS = {"my": "char", "zh": "zh"}
"""sacreBLEU's, of target languages that put no spaces between words; for all others, Gujarati too, 13a."""


class Translation(Task):
    """Pairs of sentences, and an mBART that is told their languages; subclasses say where the pairs are from."""

    family: ClassVar[str] = "translation"
    metric: ClassVar[Metric] = Metric("bleu", unit="BLEU")

    name: str

    @property
    @abstractmethod
    def network(self) -> MBART:
        """The model."""

    @property
    def smoothing(self) -> float:
        """Label smoothing of the training loss."""
        return 0.1

    @abstractmethod
    def texts(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """What token ids say."""

    @abstractmethod
    def write(self, model: nn.Module, source: Tensor, start: Tensor, split: Split) -> list[list[int]]:
        """Translations of a batch, as token ids."""

    @abstractmethod
    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """Indices of a split in batches of like length for evaluation."""

    @abstractmethod
    def score(self, split: Split, predictions: Mapping[str, str]) -> dict[str, float]:
        """All scores of translations by the id of their pair."""

    def build_model(self) -> nn.Module:
        """An mBART with tied embeddings."""
        return self.network.build()

    def architecture(self) -> nn.Module:
        """The same, at random."""
        return dataclasses.replace(self.network, pretrained=False).build()

    def collate(self, examples: list[Any]) -> Batch:
        """Tokens of shape (examples, longest): ``source``, what the ``decoder`` reads, and the ``labels`` after it."""
        source = self._padded([pair.source_tokens for pair in examples])
        target = self._padded([pair.target_tokens for pair in examples])
        return {"source": source, "decoder": target[:, :-1], "labels": target[:, 1:]}

    def _padded(self, sequences: list[Sequence[int]]) -> Tensor:
        longest = max(map(len, sequences))
        return torch.tensor([[*tokens, *[self.network.pad] * (longest - len(tokens))] for tokens in sequences])

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of every target token, given those before it."""
        source = batch["source"]
        output = model(
            input_ids=source,
            attention_mask=(source != self.network.pad).long(),
            decoder_input_ids=batch["decoder"],
            use_cache=False,
        )
        return Outputs(output.logits, batch["labels"] != self.network.pad)

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        """Summed cross-entropy of the target tokens, with smoothed labels."""
        logits, labels = outputs.logits[outputs.valid], batch["labels"][outputs.valid]
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.smoothing), len(labels)

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """BLEU of the translations, which are the predictions."""
        pairs = self.data(split)
        written: dict[str, list[int]] = {}
        with evaluating(sparse_model) as device:
            for part in self.batches(split, batch_size, device.type):
                some = [pairs[i] for i in part]
                batch = to_device(self.collate(some), device)
                tokens = self.write(sparse_model, batch["source"], batch["decoder"][:, :1], split)
                written |= zip((pair.id for pair in some), tokens, strict=True)
        ids = [pair.id for pair in pairs]
        predictions = dict(zip(ids, self.texts([written[id_] for id_ in ids]), strict=True))
        return Evaluation(self.score(split, predictions), predictions)

    def rescored(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """All scores of translations."""
        self._given(predictions)
        return self.score("test", predictions)

    def outcomes(self, predictions: Mapping[str, Any]) -> Outcomes:
        """Which n-grams match; a sentence is drawn for all directions it stands in."""
        pairs = self._given(predictions)
        corpora = {d: {p.corpus for p in pairs if p.direction == d} for d in {p.direction for p in pairs}}
        return outcomes(
            "bleu",
            {pair.id: _matches(pair, predictions[pair.id]) for pair in pairs},
            {pair.id: f"{pair.direction}/{pair.corpus}" for pair in pairs},
            {f"{d}/{corpus}": 1 / len(some) for d, some in corpora.items() for corpus in some},
            {pair.id: pair.sentence for pair in pairs},
        )

    def _given(self, predictions: Mapping[str, Any]) -> Sequence[Pair]:
        """The test pairs, each of which has a translation now."""
        pairs, wanted = self.data("test"), f"a text of at most {_LONGEST} characters"
        ids = (pair.id for pair in pairs)
        in_order(ids, predictions, wanted, lambda value: isinstance(value, str) and len(value) <= _LONGEST)
        return pairs

    @property
    def qualification(self) -> Qualification | None:
        """As measured."""
        return _qualified.qualification(self)


# -- scores


def _bleu(pairs: Sequence[Pair], predictions: Mapping[str, str]) -> float:
    """Of one direction. sacrebleu's arithmetic gives a perfect corpus a little more than 100, hence the bound."""
    from sacrebleu import corpus_bleu

    tokenizer = _tokenizer(pairs[0].direction)
    found = corpus_bleu([predictions[p.id] for p in pairs], [[p.target for p in pairs]], tokenize=tokenizer)
    return min(100.0, float(found.score))


def _tokenizer(direction: str) -> str:
    return _TOKENIZERS.get(direction.split("-")[1], "13a")


def _matches(pair: Pair, prediction: str) -> list[float]:
    """Matching n-grams, all n-grams, and the lengths of translation and reference: a corpus of one sentence."""
    found = _counter(_tokenizer(pair.direction)).corpus_score([prediction], [[pair.target]])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


@functools.cache
def _counter(tokenizer: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer)


def _chrf(pairs: Sequence[Pair], predictions: Mapping[str, str]) -> float:
    from sacrebleu import corpus_chrf

    found = corpus_chrf([predictions[p.id] for p in pairs], [[p.target for p in pairs]])
    return min(100.0, float(found.score))


def _scores(pairs: Sequence[Pair], predictions: Mapping[str, str]) -> dict[str, float]:
    """BLEU of each direction and the mean of them, and chrF of all sentences."""
    directions = {d: [pair for pair in pairs if pair.direction == d] for d in sorted({p.direction for p in pairs})}
    each = {f"bleu/{direction}": _bleu(some, predictions) for direction, some in directions.items()}
    return {"bleu": _mean(each.values()), "chrf": _chrf(list(pairs), predictions), **each}


def _averaged(pairs: Sequence[Pair], predictions: Mapping[str, str], trained: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of each corpus and direction, and their means.

    ``bleu`` is the mean over directions, each of which is the mean over the corpora that have it; ``bleu/trained`` that
    over directions whose languages are all ``trained``; ``bleu/CORPUS`` over those of one corpus, where there are more.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.direction, pair.corpus), []).append(pair)
    names = sorted({corpus for _, corpus in groups})
    scores: dict[str, float] = {}
    for name, score in (("bleu", _bleu), ("chrf", _chrf)):
        each = {group: score(some, predictions) for group, some in sorted(groups.items())}
        by_direction = {
            direction: _mean([each[d, c] for d, c in each if d == direction])
            for direction in sorted({d for d, _ in each})
        }
        scores[name] = _mean(by_direction.values())
        known = [d for d in by_direction if {*d.split("-")} <= {"en", *trained}]
        scores[f"{name}/trained"] = _mean([by_direction[d] for d in known])
        scores |= {f"{name}/{direction}": value for direction, value in by_direction.items()}
        if len(names) > 1:
            scores |= {f"{name}/{corpus}": _mean([each[d, c] for d, c in each if c == corpus]) for corpus in names}
            scores |= {f"{name}/{corpus}/{direction}": value for (direction, corpus), value in each.items()}
    return scores


def _mean(values: Any) -> float:
    values = list(values)
    return float(sum(values) / len(values))


def _signatures(languages: Sequence[str]) -> str:
    """sacreBLEU's, which are to be quoted with a score."""
    from sacrebleu.metrics import BLEU

    by_tokenizer: dict[str, list[str]] = {}
    for language in ("en", *languages):
        by_tokenizer.setdefault(_TOKENIZERS.get(language, "13a"), []).append(language)
    found = []
    for tokenizer, some in by_tokenizer.items():
        bleu = BLEU(tokenize=tokenizer)
        bleu.corpus_score(["."], [["."]])
        found.append(f"into {', '.join(some)}: {bleu.get_signature()}")
    return "; ".join(found)


# -- parallel corpora


@dataclass(frozen=True)
class ParallelTranslation(Translation):
    """Sentences of parallel corpora; the score is the mean BLEU of all directions of ten languages, trained or not.

    Where a direction has several test sets, its BLEU is their mean. Tested is with beam search, at a beam of five;
    ``validation`` is translated greedily, and holds at most 500 pairs.
    """

    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    model: MBART
    languages: tuple[str, ...]
    """Beside English, to train on."""
    corpora: tuple[str, ...] = ("opus-100",)
    tests: tuple[str, ...] = ("flores200",)
    tested: tuple[str, ...] = TEN
    """Beside English, to test."""
    limit: int | None = None
    """Most training sentences of a language beside English, chosen by a fixed rule."""
    test_limit: int | None = None
    """Most test sentences of a corpus and a language, chosen by a fixed rule."""
    longest: int = 256
    """Most tokens of a sentence; longer ones are not trained on, and lose their end where they are tested."""
    scope: Scope = "all"

    @property
    def network(self) -> MBART:
        """As said."""
        return self.model

    @property
    def pretrained(self) -> bool:
        """Whether the model starts from a checkpoint."""
        return self.model.checkpoint is not None and self.model.pretrained

    def scaled(self, width: float) -> ParallelTranslation:
        """With a narrower mBART."""
        return dataclasses.replace(self, model=self.model.scaled(width))

    @property
    def smoothing(self) -> float:
        """fairseq's for mBART, else the usual one."""
        return 0.2 if self.model.checkpoint is not None else super().smoothing

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """A random start where there is a checkpoint; and of the same, each corpus in files of one's own."""
        if self.model.checkpoint is None:
            return {}
        scratch = {"scratch": {"model": dataclasses.replace(self.model, pretrained=False)}}
        return {**scratch, **{name: {"corpora": (name,)} for name in manifests() if name not in scratch}}

    @property
    def selection(self) -> Selection:
        """What is taken from the corpora."""
        return Selection(
            self.corpora, self.tests, self.languages, self.tested, self.limit, self.test_limit, self.longest
        )

    def requirements(self) -> Sequence[Requirement]:
        """Every corpus, and the checkpoint, or for a random start its tokenizer."""
        some = (*self.selection.train_corpora(), *self.selection.test_corpora())
        data = {corpus.dataset.name: corpus.dataset for corpus in some if corpus.dataset is not None}
        return [*data.values(), *([self.model.needs] if self.model.needs is not None else [])]

    def data(self, split: Split) -> Packed:
        """Packed pairs."""
        return self._ready().splits[split]

    def lengths(self) -> Sequence[int]:
        """Tokens of each training pair."""
        return self.data("train").lengths()

    def texts(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Detokenised."""
        return self._ready().tokens.decode(tokens)

    def write(self, model: nn.Module, source: Tensor, start: Tensor, split: Split) -> list[list[int]]:
        """At most twice as many tokens as the source has, and ten; what has not ended there counts as it stands."""
        special = {"pad": self.network.pad, "eos": self.network.eos}
        if split == "validation":
            return greedy(model, source, start, self.longest, **special)
        limits = (2 * (source != self.network.pad).sum(dim=1) + 10).clamp(max=self.longest)
        return beam_search(model, source, start, limits, _BEAMS, **special)

    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """The longest first."""
        lengths = self.data(split).sources()
        if batch_size is None:
            logits = self.model.vocabulary * (1 if split == "validation" else _BEAMS)
            most = max(1, _LOGITS.get(device, _LOGITS["cpu"]) // logits)
            even = buckets(lengths, _TOKENS.get(device, _TOKENS["cpu"]))
            return (part for batch in even for part in chunks(batch, most))
        return chunks(sorted(range(len(lengths)), key=lambda i: -lengths[i]), batch_size)

    def score(self, split: Split, predictions: Mapping[str, str]) -> dict[str, float]:
        """BLEU and chrF by direction, and where there are several, by corpus."""
        return _averaged(self.data(split), predictions, self.languages)

    def facts(self) -> dict[str, Any]:
        """Where recipe and sentences are from, what was left out, and how it is scored."""
        out = ", ".join(f"{count:,} {reason}" for reason, count in self._ready().out.items())
        return {
            "languages": f"English from and into {', '.join(self.languages)}: {1 + len(self.languages)}, counted with "
            "English; SMC-Bench does not say which",
            "data": f"{', '.join(self.corpora)}; pairs left out of training: {out}",
            "test": f"{', '.join(self.tests)}, English from and into {', '.join(self.tested)}; beam {_BEAMS}, "
            f"log-probability over length, at most twice the source's tokens and ten, and {self.longest}; what has not "
            "ended there counts as it stands; validation greedily",
            "signature": _signatures(self.tested),
            "tokenizers": "char for Burmese, which has no spaces between words; 13a for Gujarati, which has",
            "recipe from": _recipes.source_of(self.recipe),
        }

    def identity(self) -> dict[str, Any]:
        """With digests of the sentences, of the tokenizer, and of the weights."""
        found = self._ready()
        weights = {"weights": CHECKPOINTS[self.model.checkpoint or ""].digest()} if self.pretrained else {}
        return {**super().identity(), "sentences": found.digest, "tokens": found.tokens.digest, **weights}

    def tiny(self) -> ParallelTranslation:
        """On phrases of CLDR."""
        model = MBART(420, 16, 1, 2, 32, 64, init=0.25)
        return ParallelTranslation(
            "translation-tiny", _recipes.recipe("tiny-text"), model, ("fr",), ("cldr",), ("cldr",), ("fr", "ru"),
            longest=64,
        )  # fmt: skip

    def _ready(self) -> Ready:
        return ready(self.selection, self.model, (root_of(DATA), root_of(MODELS)))


# -- phrases


class _Phrases(NamedTuple):
    splits: dict[str, list[Pair]]
    tokenizer: Any


@dataclass(frozen=True)
class CLDRTranslation(Translation):
    """Dates, times, amounts and enumerations, from and into English; the score is the mean BLEU of all directions.

    Phrases are split by key: no phrase of the test split is in the training split, in any language. A phrase that has
    no translation of its own in a language is left out there.
    """

    version: ClassVar[int] = 1

    name: str
    recipe: Recipe
    scope: Scope = "all"
    languages: tuple[str, ...] = ("fr", "ru")
    """Beside English."""
    train: int = 4000
    """Phrases, each translated in every direction; so are those of the other splits."""
    validation: int = 25
    test: int = 75
    vocabulary: int = 640
    """Entries of the byte-pair encoding, special tokens included."""
    width: int = 64
    layers: int = 2
    """Of the encoder, and as many of the decoder."""
    heads: int = 4
    positions: int = 48
    """Longest sequence of tokens, and the limit of what the decoder may write."""

    @property
    def network(self) -> MBART:
        """From scratch, without dropout."""
        return MBART(
            self.vocabulary, self.width, self.layers, self.heads, 2 * self.width, self.positions, init=self.width**-0.5
        )

    def scaled(self, width: float) -> CLDRTranslation:
        """With a narrower mBART."""
        return dataclasses.replace(self, width=nearest(self.width * width, self.heads))

    @property
    def bytewise(self) -> bool:
        """Whether tokens are made of bytes: the scripts of more languages have too many characters."""
        return len(self.languages) > 2

    def data(self, split: Split) -> Sequence[Pair]:
        """Pairs of phrases."""
        return self._corpus().splits[split]

    def lengths(self) -> Sequence[int]:
        """Tokens of each training pair."""
        return [len(pair.source_tokens) + len(pair.target_tokens) for pair in self.data("train")]

    def texts(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Detokenised."""
        return self._corpus().tokenizer.decode_batch([list(row) for row in tokens])  # type: ignore[no-any-return]

    def write(self, model: nn.Module, source: Tensor, start: Tensor, split: Split) -> list[list[int]]:
        """Greedily, on ``test`` too: phrases are short."""
        return greedy(model, source, start, self.positions, pad=self.network.pad, eos=self.network.eos)

    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """The shortest first."""
        pairs = self.data(split)
        return chunks(sorted(range(len(pairs)), key=lambda i: len(pairs[i].source_tokens)), batch_size or 75)

    def score(self, split: Split, predictions: Mapping[str, str]) -> dict[str, float]:
        """BLEU by direction, and chrF of all."""
        return _scores(self.data(split), predictions)

    def facts(self) -> dict[str, Any]:
        """Where recipe and phrases are from."""
        return {
            "data": "phrases of Unicode's CLDR (licence Unicode-3.0) by Babel, split by key",
            "signature": _signatures(self.languages),
            "recipe from": _recipes.source_of(self.recipe),
        }

    def tiny(self) -> CLDRTranslation:
        return dataclasses.replace(
            self,
            name=f"{self.name}-tiny",
            recipe=self.recipe.replace(steps=12, batch_size=16),
            train=24,
            validation=2,
            test=3,
            vocabulary=400 if self.bytewise else 200,
            width=16,
            layers=1,
            heads=2,
            positions=max(self.positions, 96) if self.bytewise else self.positions,
        )

    def identity(self) -> dict[str, Any]:
        """With a digest of the phrases, which may differ between versions of Babel."""
        splits = self._corpus().splits
        return {**super().identity(), "corpus": files.digest({name: [p[:3] for p in splits[name]] for name in splits})}

    def _corpus(self) -> _Phrases:
        return _corpus(self.languages, (self.train, self.validation, self.test), self.vocabulary, self.bytewise)


@functools.cache
def _corpus(languages: tuple[str, ...], sizes: tuple[int, int, int], vocabulary: int, bytewise: bool) -> _Phrases:
    """The splits, and the byte-pair encoding learnt from the training split alone."""
    _, validation, test = sizes
    keys = _cldr.keys(sum(sizes))
    parts = {"test": keys[:test], "validation": keys[test : test + validation], "train": keys[test + validation :]}
    everyone = ("en", *languages)
    tokenizer = learnt(
        (_cldr.render(key, language) for key in parts["train"] for language in everyone),
        everyone,
        vocabulary,
        bytewise=bytewise,
    )
    codes = {language: tokenizer.token_to_id(code(language)) for language in everyone}
    directions = [direction for other in languages for direction in (("en", other), (other, "en"))]

    def pairs(part: list[str]) -> list[Pair]:
        tokens = {
            (key, language): tokenizer.encode(_cldr.render(key, language)).ids for key in part for language in everyone
        }
        return [
            Pair(
                f"cldr/{source}-{target}/{key}",
                _cldr.render(key, source),
                _cldr.render(key, target),
                (*tokens[key, source], 1, codes[source]),
                (codes[target], *tokens[key, target], 1),
            )
            for key, (source, target) in itertools.product(part, directions)
            if _cldr.translated(key, target if source == "en" else source)
        ]

    splits = {split: pairs(part) for split, part in parts.items()}
    seen = {(pair.direction, pair.source) for pair in splits["train"]}
    for split in ("validation", "test"):
        splits[split] = [pair for pair in splits[split] if (pair.direction, pair.source) not in seen]
    return _Phrases(splits, tokenizer)


# -- the tasks


def _full(name: str, languages: tuple[str, ...]) -> ParallelTranslation:
    return ParallelTranslation(name, _recipes.recipe(name), LARGE, languages, limit=100_000)


_SMALL = MBART(8000, 128, 3, 4, 512, 128, dropout=0.1, attention_dropout=0.1, init=128**-0.5)
_PUBLIC = ("tatoeba", "multi30k", "wmt", "mlqe-pe", "mypar", "bible")


def _small(name: str, languages: tuple[str, ...]) -> ParallelTranslation:
    return ParallelTranslation(
        name, _recipes.recipe(name), _SMALL, languages, _PUBLIC,
        ("flores200", "tatoeba-test", *_PUBLIC[1:]), limit=20_000, test_limit=100, longest=128,
    )  # fmt: skip


def _mini(name: str, languages: tuple[str, ...], vocabulary: int) -> CLDRTranslation:
    return CLDRTranslation(
        name=name, recipe=_recipes.recipe(name), languages=languages, vocabulary=vocabulary, positions=64
    )


mbart_2to2 = _full("mbart-2to2", TWO)
mbart_5to5 = _full("mbart-5to5", FIVE)
mbart_10to10 = _full("mbart-10to10", TEN)
translation_2to2_small = _small("translation-2to2-small", TWO)
translation_5to5_small = _small("translation-5to5-small", FIVE)
translation_10to10_small = _small("translation-10to10-small", TEN)
cldr_2to2 = CLDRTranslation(name="cldr-2to2", recipe=_recipes.recipe("cldr-2to2"))
cldr_5to5 = _mini("cldr-5to5", FIVE, 1000)
cldr_10to10 = _mini("cldr-10to10", TEN, 1400)
