"""Translation between English and two more languages by one small mBART, on phrases of Unicode's CLDR."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smcbench import files
from smcbench.recipe import Recipe
from smcbench.task import Batch, Evaluation, Metric, Outputs, Qualification, Scope, Split, Task

from . import _cldr, _qualified, _recipes
from ._evaluating import chunks, evaluating

_PAD, _EOS = 0, 1
_SPECIAL = ["<pad>", "</s>", "<unk>"]
_SMOOTHING = 0.1


class Pair(NamedTuple):
    """A phrase in two languages; the id holds the direction and the phrase key."""

    id: str
    source: str
    target: str
    source_tokens: tuple[int, ...]
    """Ending, as in mBART, with the code of the source language."""
    target_tokens: tuple[int, ...]
    """Beginning with the code of the target language, which the decoder starts from."""

    @property
    def direction(self) -> str:
        return self.id.split("/")[1]


class _Corpus(NamedTuple):
    splits: dict[str, list[Pair]]
    tokenizer: Any


@dataclass(frozen=True)
class CLDRTranslation(Task):
    """Dates, times, amounts and enumerations, from and into English; the score is the mean BLEU of all directions.

    Phrases are split by key: no phrase of the test split is in the training split, in any language.
    """

    family: ClassVar[str] = "translation"
    version: ClassVar[int] = 1
    metric: ClassVar[Metric] = Metric("bleu", unit="BLEU")

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

    def build_model(self) -> nn.Module:
        from transformers import MBartConfig, MBartForConditionalGeneration

        config = MBartConfig(
            vocab_size=self.vocabulary,
            d_model=self.width,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=2 * self.width,
            decoder_ffn_dim=2 * self.width,
            max_position_embeddings=self.positions,
            init_std=self.width**-0.5,
            scale_embedding=True,
            dropout=0.0,
            pad_token_id=_PAD,
            bos_token_id=_EOS,
            eos_token_id=_EOS,
            forced_eos_token_id=None,
            attn_implementation="sdpa",
        )
        model: nn.Module = MBartForConditionalGeneration(config)
        return model

    def data(self, split: Split) -> Sequence[Pair]:
        return self._corpus().splits[split]

    def lengths(self) -> Sequence[int]:
        return [len(pair.source_tokens) + len(pair.target_tokens) for pair in self.data("train")]

    def collate(self, examples: list[Any]) -> Batch:
        source = _padded([pair.source_tokens for pair in examples])
        target = _padded([pair.target_tokens for pair in examples])
        return {"source": source, "decoder": target[:, :-1], "labels": target[:, 1:]}

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        source = batch["source"]
        output = model(
            input_ids=source,
            attention_mask=(source != _PAD).long(),
            decoder_input_ids=batch["decoder"],
            use_cache=False,
        )
        return Outputs(output.logits, batch["labels"] != _PAD)

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        logits, labels = outputs.logits[outputs.valid], batch["labels"][outputs.valid]
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=_SMOOTHING), len(labels)

    def evaluate(self, sparse_model: nn.Module, split: Split = "test", *, batch_size: int | None = None) -> Evaluation:
        """BLEU of greedy translations; on ``validation`` too, where the phrases are fewer."""
        pairs = self.data(split)
        written: dict[str, list[int]] = {}
        with evaluating(sparse_model) as device:
            for part in chunks(sorted(pairs, key=lambda pair: len(pair.source_tokens)), batch_size or 75):
                batch = {name: tensor.to(device) for name, tensor in self.collate(part).items()}
                tokens = _greedy(sparse_model, batch["source"], batch["decoder"][:, :1], self.positions)
                written |= zip((pair.id for pair in part), tokens, strict=True)
        texts = self._corpus().tokenizer.decode_batch([written[pair.id] for pair in pairs])
        predictions = dict(zip((pair.id for pair in pairs), texts, strict=True))
        return Evaluation(_scores(pairs, predictions), predictions)

    @property
    def qualification(self) -> Qualification | None:
        """As measured."""
        return _qualified.qualification(self)

    def facts(self) -> dict[str, Any]:
        """Where recipe and phrases are from."""
        return {
            "data": "phrases of Unicode's CLDR (licence Unicode-3.0) by Babel, split by key",
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
            vocabulary=200,
            width=16,
            layers=1,
            heads=2,
        )

    def identity(self) -> dict[str, Any]:
        """With a digest of the phrases, which may differ between versions of Babel."""
        splits = self._corpus().splits
        return {**super().identity(), "corpus": files.digest({name: [p[:3] for p in splits[name]] for name in splits})}

    def _corpus(self) -> _Corpus:
        return _corpus(self.languages, (self.train, self.validation, self.test), self.vocabulary)


@functools.cache
def _corpus(languages: tuple[str, ...], sizes: tuple[int, int, int], vocabulary: int) -> _Corpus:
    """The splits, and the byte-pair encoding learnt from the training split alone."""
    _, validation, test = sizes
    keys = _cldr.keys(sum(sizes))
    parts = {"test": keys[:test], "validation": keys[test : test + validation], "train": keys[test + validation :]}
    everyone = ("en", *languages)
    tokenizer = _tokenizer(
        (_cldr.render(key, language) for key in parts["train"] for language in everyone), everyone, vocabulary
    )
    code = {language: tokenizer.token_to_id(_code(language)) for language in everyone}
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
                (*tokens[key, source], _EOS, code[source]),
                (code[target], *tokens[key, target], _EOS),
            )
            for key, (source, target) in itertools.product(part, directions)
        ]

    splits = {split: pairs(part) for split, part in parts.items()}
    seen = {(pair.direction, pair.source) for pair in splits["train"]}
    for split in ("validation", "test"):
        splits[split] = [pair for pair in splits[split] if (pair.direction, pair.source) not in seen]
    return _Corpus(splits, tokenizer)


def _tokenizer(texts: Iterable[str], languages: Iterable[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = [*_SPECIAL, *map(_code, languages)]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _code(language: str) -> str:
    return f"<{language}>"


def _padded(sequences: list[tuple[int, ...]]) -> Tensor:
    longest = max(map(len, sequences))
    return torch.tensor([[*tokens, *[_PAD] * (longest - len(tokens))] for tokens in sequences])


def _greedy(model: Any, source: Tensor, start: Tensor, longest: int) -> list[list[int]]:
    """The likeliest next token until each sequence has ended; neither the start nor the end token is returned."""
    mask = (source != _PAD).long()
    encoded = model.get_encoder()(input_ids=source, attention_mask=mask)
    last, cache = start, None
    columns: list[Tensor] = []
    ended = torch.zeros_like(start, dtype=torch.bool)
    while len(columns) < longest and not ended.all():
        output = model(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=last, past_key_values=cache, use_cache=True
        )
        last, cache = output.logits[:, -1:].argmax(dim=-1), output.past_key_values
        columns.append(last)
        ended |= last == _EOS
    rows = torch.cat(columns, dim=1).tolist()
    return [list(itertools.takewhile(lambda token: token != _EOS, row)) for row in rows]


def _scores(pairs: Sequence[Pair], predictions: dict[str, str]) -> dict[str, float]:
    """BLEU of each direction and the mean of them, and chrF of all sentences.

    sacrebleu's arithmetic gives a perfect corpus a little more than 100, hence the bound.
    """
    from sacrebleu import corpus_bleu, corpus_chrf

    def texts(some: list[Pair]) -> tuple[list[str], list[list[str]]]:
        return [predictions[pair.id] for pair in some], [[pair.target for pair in some]]

    directions = {d: [pair for pair in pairs if pair.direction == d] for d in sorted({p.direction for p in pairs})}
    each = {f"bleu/{direction}": min(100.0, corpus_bleu(*texts(some)).score) for direction, some in directions.items()}
    return {"bleu": sum(each.values()) / len(each), "chrf": min(100.0, corpus_chrf(*texts(list(pairs))).score), **each}


cldr_2to2 = CLDRTranslation(name="cldr-2to2", recipe=_recipes.recipe("cldr-2to2"))
