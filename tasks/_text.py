"""Text tasks: a transformer encoder over packed token sequences, from raw rows to batches.

An example is one or more sequences (one a choice) with a span each: the second of two texts, or the words to be
guessed. Texts are tokenised once and memory-mapped from then on.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.sources import DATA, MODELS, Checkpoint, Dataset, Requirement, prepared, root_of
from smcbench.task import SPLITS, Batch, Outputs, Scope, Split, nearest

from ._evaluating import buckets, chunks
from ._labelled import Labelled, Lazy
from ._pretrained import pretrained, tokenizer

_TOKENS = {"cpu": 1 << 10, "cuda": 1 << 17}
"""Padded tokens of a batch for evaluation: what fits a core's cache, and what fills a GPU."""
_CHUNK = 4096
"""Examples tokenised at a time."""
_VALIDATION = 1000
"""Most validation examples: methods look at them often."""


class Example(NamedTuple):
    """Text before it is tokenised.

    Attributes:
        texts: a sequence a choice, each of one text or two; or, to be guessed, of three: before, span, after.
        label: the right class or choice, or a number.
    """

    id: str
    texts: tuple[tuple[str, ...], ...]
    label: int | float


class Encoded(NamedTuple):
    """An example as token sequences; of each the bounds of its span, equal where there is none."""

    id: str
    sequences: tuple[Any, ...]
    spans: tuple[tuple[int, int], ...]
    label: int | float


@dataclass(frozen=True)
class Corpus:
    """A source of examples, in three splits.

    Attributes:
        name: as ids begin.
        read: makes the splits.
        note: what they are and how they are made, for people.
        dataset: what has to be had for it; none: it is generated.
        version: of the reader or generator, bumped when the examples change.
        beside: how ids begin of examples that are scored apart, where they are there, and are no part of the identity.
    """

    name: str
    read: Callable[[], Mapping[Split, Sequence[Example]]]
    note: str
    dataset: Dataset | None = None
    version: int = 1
    beside: str = " "

    def fingerprint(self) -> str:
        """What decides the examples."""
        return files.digest([self.name, self.version, self.dataset.fingerprint() if self.dataset else "generated"])


# -- encoders

CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59", "MIT"),
        Checkpoint("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", "MIT"),
        Checkpoint("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", "Apache-2.0"),
        Checkpoint(
            "sentence-transformers/all-MiniLM-L6-v2",
            "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            "Apache-2.0",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Checkpoint(
            "neuralmagic/oBERT-12-upstream-pruned-unstructured-90-v2",
            "main",
            "not stated on its card",
            sparse=True,
            weights=("model.safetensors", "pytorch_model.bin"),
        ),
    )
}


@dataclass(frozen=True)
class Encoder:
    """A BERT or RoBERTa: its sizes, and the checkpoint that gives it a tokenizer and, if pretrained, its weights."""

    kind: Literal["bert", "roberta"]
    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int = 512
    dropout: float = 0.1
    init: float = 0.02
    """Standard deviation of random weights: BERT's; narrow ones learn sooner with more."""
    checkpoint: str | None = None
    """None: a vocabulary of its own, and random weights."""
    pretrained: bool = True
    """Whether the checkpoint's weights are taken too."""

    def scaled(self, width: float) -> Encoder:
        """With narrower heads and layers; random weights deviate by more, as there are fewer of them in a sum."""
        found = nearest(self.width * width, self.heads)
        init = self.init * (self.width / found) ** 0.5
        return dataclasses.replace(self, width=found, inner=nearest(self.inner * width), init=init)

    def build(self, head: Literal["classes", "choices", "words", "states"], outputs: int) -> nn.Module:
        """The model in fp32 with a head for classes, for ranking choices, or the (tied) one of the language model.

        With ``states`` it has none, and no pooler: it gives the states of all tokens.

        Raises:
            InvalidInput: the checkpoint is missing, torn, or does not fill the model.
        """
        import transformers

        family = {"bert": "Bert", "roberta": "Roberta"}[self.kind]
        kind = {"classes": "ForSequenceClassification", "choices": "ForMultipleChoice", "words": "ForMaskedLM"}
        made = getattr(transformers, family + kind.get(head, "Model"))
        options = {"add_pooling_layer": False} if head == "states" else {}
        config = getattr(transformers, f"{family}Config")(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            max_position_embeddings=self.positions,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.init,
            num_labels=outputs,
            attn_implementation="sdpa",
            **({"type_vocab_size": 1, "layer_norm_eps": 1e-5} if self.kind == "roberta" else {}),
        )
        if self.checkpoint is None or not self.pretrained:
            return made(config, **options)  # type: ignore[no-any-return]
        new = ("classifier.", f"{self.kind}.pooler.") if head in ("classes", "choices") else ()
        return pretrained(made, config, CHECKPOINTS[self.checkpoint], new, **options)  # type: ignore[no-any-return]


ROBERTA_BASE = Encoder("roberta", 50265, 768, 12, 12, 3072, 514, checkpoint="FacebookAI/roberta-base")
ROBERTA_LARGE = Encoder("roberta", 50265, 1024, 24, 16, 4096, 514, checkpoint="FacebookAI/roberta-large")
BERT_BASE = Encoder("bert", 30522, 768, 12, 12, 3072, checkpoint="google-bert/bert-base-uncased")
BERT_SPARSE = dataclasses.replace(BERT_BASE, checkpoint="neuralmagic/oBERT-12-upstream-pruned-unstructured-90-v2")
MINILM = Encoder("bert", 30522, 384, 6, 12, 1536, checkpoint="sentence-transformers/all-MiniLM-L6-v2")


class Tokens:
    """Texts to token ids without special ones, and the special ones."""

    def __init__(self, encode: Callable[[list[str]], list[list[int]]], special: Sequence[int], digest: str) -> None:
        self.encode, self.digest = encode, digest
        self.pad, self.begin, self.end, self.mask = special

    @classmethod
    def of(cls, checkpoint: Checkpoint, kind: Literal["bert", "roberta"]) -> Tokens:
        """The tokenizer that a checkpoint brings."""
        path = checkpoint.file("tokenizer.json")
        found = tokenizer(path)
        names = {"bert": ("[PAD]", "[CLS]", "[SEP]", "[MASK]"), "roberta": ("<pad>", "<s>", "</s>", "<mask>")}[kind]
        known = {name: found.token_to_id(name) for name in names}
        special = [token for token in known.values() if token is not None]
        if len(special) < len(known):
            raise InvalidInput(f"{path}: no tokenizer of this model: it has not all of {', '.join(known)}")

        def encode(texts: list[str]) -> list[list[int]]:
            return [each.ids for each in found.encode_batch(texts, add_special_tokens=False)]

        return cls(encode, special, files.sha256(path.read_bytes()))

    @classmethod
    def words(cls, texts: Iterable[str]) -> Tokens:
        """One token a word of these texts, which are all there will be."""
        known = sorted({word for text in texts for word in text.split()})
        index = {word: 4 + i for i, word in enumerate(known)}
        return cls(lambda some: [[index[word] for word in text.split()] for text in some], (1, 0, 2, 3), "words")


def _sequence(
    parts: list[list[int]], tokens: Tokens, pair: str, longest: int, first_longest: int | None = None
) -> tuple[list[int], tuple[int, int]]:
    """Special tokens around one text, two, or a span in its context; and where the span lies.

    The first text, with the token that begins it, is cut to ``first_longest``; then the longer one until both fit.
    """
    if len(parts) == 3:
        before, span, after = parts
        kept = max(0, longest - 2 - len(span) - len(after))
        before = before[len(before) - min(kept, len(before)) :]
        return [tokens.begin, *before, *span, *after, tokens.end], (1 + len(before), 1 + len(before) + len(span))
    first, *rest = parts
    del first[(first_longest or longest) - 1 :]
    second = rest[0] if rest else []
    between = [tokens.end] * (2 if pair == "double" and rest else 1)
    over = len(first) + len(second) + 1 + len(between) + bool(rest) - longest
    while over > 0:  # from the end of the longer one
        longer = first if len(first) >= len(second) else second
        cut = max(1, min(over, abs(len(first) - len(second))))
        del longer[len(longer) - cut :]
        over -= cut
    row = [tokens.begin, *first, *between, *second, *([tokens.end] if rest else [])]
    start = 1 + len(first) + len(between)
    return row, (start, len(row)) if rest else (len(row), len(row))


def pack(
    examples: Sequence[Example], tokens: Tokens, pair: str, longest: int, first_longest: int | None = None
) -> dict[str, Any]:
    """Examples as flat arrays: tokens, where each sequence ends, spans, sequences an example, labels, ids."""
    flat: list[Any] = []
    ends: list[int] = [0]
    spans: list[tuple[int, int]] = []
    for part in chunks(examples, _CHUNK):
        texts = list(dict.fromkeys(text for example in part for choice in example.texts for text in choice))
        known = dict(zip(texts, tokens.encode(texts), strict=True))
        for example in part:
            for choice in example.texts:
                row, span = _sequence([list(known[text]) for text in choice], tokens, pair, longest, first_longest)
                flat.append(np.asarray(row, dtype=np.int32))
                ends.append(ends[-1] + len(row))
                spans.append(span)
    counts = {len(example.texts) for example in examples}
    assert len(counts) == 1, "every example has as many choices"
    whole = all(isinstance(example.label, int) for example in examples)
    return {
        "tokens": np.concatenate(flat),
        "ends": np.asarray(ends, dtype=np.int64),
        "spans": np.asarray(spans, dtype=np.int32),
        "choices": np.asarray(counts.pop()),
        "labels": np.asarray([e.label for e in examples], dtype=np.int64 if whole else np.float64),
        "ids": np.asarray([e.id for e in examples]),
    }


class Packed(Lazy):
    """Examples over packed arrays, made one at a time when asked for."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._tokens, self._ends, self._spans = arrays["tokens"], arrays["ends"], arrays["spans"]
        self.ids: list[str] = arrays["ids"].tolist()
        self.choices = int(arrays["choices"])
        self.labels: list[Any] = arrays["labels"].tolist()
        sizes = np.diff(self._ends).reshape(-1, self.choices)
        self.lengths: list[int] = (sizes.max(axis=1) * self.choices).tolist()
        """Padded tokens of each example."""

    def __len__(self) -> int:
        return len(self.labels)

    def made(self, index: int) -> Encoded:
        """The sequences of one example, their spans and its label."""
        rows = range(index * self.choices, (index + 1) * self.choices)
        return Encoded(
            self.ids[index],
            tuple(self._tokens[self._ends[row] : self._ends[row + 1]] for row in rows),
            tuple((int(self._spans[row, 0]), int(self._spans[row, 1])) for row in rows),
            self.labels[index],
        )


class _Ready(NamedTuple):
    splits: dict[Split, Packed]
    digest: str
    tokens: str
    mask: int
    pad: int


def _some(examples: Sequence[Example], most: int | None) -> Sequence[Example]:
    """At most so many, by a fixed rule that no order of rows disturbs."""
    if most is None or len(examples) <= most:
        return examples
    return sorted(examples, key=lambda example: files.sha256(example.id))[:most]


@functools.lru_cache(maxsize=32)
def _ready(
    corpus: Corpus, kind: Literal["bert", "roberta"], checkpoint: str | None, pair: str,
    longest: tuple[int, int | None], limit: int | None, roots: tuple[Any, ...],
) -> _Ready:  # fmt: skip
    """The splits of a corpus in an encoder's tokens, from the cache if they are there; once a process."""
    generated = corpus.dataset is None
    known: dict[str, Mapping[Split, Sequence[Example]]] = {}

    def examples() -> Mapping[Split, Sequence[Example]]:
        if "all" not in known:
            found = corpus.read()
            known["all"] = {
                "train": _some(found["train"], limit),
                "validation": _some(found["validation"], _VALIDATION),
                "test": found["test"],
            }
            for split in SPLITS:
                if not known["all"][split]:
                    raise InvalidInput(f"corpus {corpus.name}: the split {split!r} is empty")
        return known["all"]

    if checkpoint is not None and not generated:
        try:
            tokens = Tokens.of(CHECKPOINTS[checkpoint], kind)
        except InvalidInput:
            if corpus.dataset is not None:  # of two things that are missing, the data are named first
                corpus.dataset.fetch()
            raise
    else:
        tokens = Tokens.words(
            text for split in SPLITS for e in examples()[split] for choice in e.texts for text in choice
        )
    key = {"corpus": corpus.fingerprint(), "tokens": tokens.digest, "pair": pair, "longest": list(longest),
           "limit": limit}  # fmt: skip

    def build() -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        lines: list[Any] = []
        for split in SPLITS:
            some = examples()[split]
            lines += [[split, *e] for e in some if not e.id.startswith(corpus.beside)]
            arrays |= {f"{split}-{name}": array for name, array in pack(some, tokens, pair, *longest).items()}
        arrays["digest"] = np.asarray(files.digest(lines))
        return arrays

    arrays = build() if generated else prepared(corpus.name.replace("/", "-"), key, build)
    splits: dict[Split, Packed] = {
        split: Packed({name[len(split) + 1 :]: a for name, a in arrays.items() if name.startswith(f"{split}-")})
        for split in SPLITS
    }
    return _Ready(splits, str(arrays["digest"]), tokens.digest, tokens.mask, tokens.pad)


# -- the adapter


class TextTask(Labelled):
    """A corpus, an encoder and a head; subclasses are frozen dataclasses with these fields."""

    name: str
    scope: Scope
    encoder: Encoder
    longest: int
    limit: int | None

    @property
    @abstractmethod
    def corpus(self) -> Corpus:
        """Where its examples are from."""

    @property
    def layout(self) -> Literal["classes", "choices", "words"]:
        """Which head there is."""
        return "classes"

    @property
    def pair(self) -> Literal["single", "double"]:
        """How many separators stand between two texts: two in RoBERTa's own format."""
        return "double" if self.encoder.kind == "roberta" else "single"

    @property
    def first_longest(self) -> int | None:
        """Most tokens of the first text and the token before it; none: only the whole is limited."""
        return None

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from a checkpoint."""
        return self.encoder.checkpoint is not None and self.encoder.pretrained

    @property
    def starts_sparse(self) -> bool:
        """Whether the checkpoint is pruned."""
        return self.pretrained and CHECKPOINTS[self.encoder.checkpoint or ""].sparse

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The other scope, and where the weights are pretrained, a random start."""
        other = "encoder" if self.scope == "all" else "all"
        scratch = {"scratch": {"encoder": dataclasses.replace(self.encoder, pretrained=False)}}
        return {other: {"scope": other}, **(scratch if self.pretrained else {})}

    def requirements(self) -> Sequence[Requirement]:
        """The data set and the checkpoint."""
        dataset, checkpoint = self.corpus.dataset, self.encoder.checkpoint
        return [*([dataset] if dataset else []), *([CHECKPOINTS[checkpoint]] if checkpoint else [])]

    def head(self) -> tuple[str, ...]:
        """Pooler and classifier; the head of the language model is tied to the embeddings."""
        return (f"{self.encoder.kind}.pooler", "classifier", "lm_head", "cls")

    def build_model(self) -> nn.Module:
        """The encoder under its head."""
        return self._built(self.encoder)

    def architecture(self) -> nn.Module:
        """The encoder under its head, at random."""
        return self._built(dataclasses.replace(self.encoder, pretrained=False))

    def _built(self, encoder: Encoder) -> nn.Module:
        return encoder.build(self.layout, 1 if self.layout == "choices" else self.classes or 1)

    def scaled(self, width: float) -> TextTask:
        """With a narrower encoder."""
        changes: dict[str, Any] = {"encoder": self.encoder.scaled(width)}
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def data(self, split: Split) -> Packed:
        """Packed examples."""
        return self._ready().splits[split]

    def labels(self, split: Split) -> Sequence[Any]:
        """The labels of a split, in order."""
        return self.data(split).labels

    def lengths(self) -> Sequence[int]:
        """Padded tokens of each training example."""
        return self.data("train").lengths

    def batches(self, split: Split, batch_size: int | None, device: str) -> Iterator[list[int]]:
        """Batches of like length."""
        lengths = self.data(split).lengths
        if batch_size is None:
            return buckets(lengths, _TOKENS.get(device, _TOKENS["cpu"]))
        return chunks(sorted(range(len(lengths)), key=lambda i: -lengths[i]), batch_size)

    def collate(self, examples: list[Any]) -> Batch:
        """Tokens of shape (examples, choices, longest), which of them are real, and which are in the span."""
        ready = self._ready()
        rows = [row for example in examples for row in example.sequences]
        sizes = np.asarray([len(row) for row in rows])
        places = np.arange(sizes.max())
        real = places < sizes[:, None]
        tokens = np.full(real.shape, ready.pad, dtype=np.int64)
        tokens[real] = np.concatenate(rows)
        spans = np.asarray([span for example in examples for span in example.spans])
        inside = (places >= spans[:, :1]) & (places < spans[:, 1:])
        shape = (len(examples), len(rows) // len(examples), -1)
        label = [example.label for example in examples]
        return {
            "tokens": torch.from_numpy(tokens).view(shape),
            "real": torch.from_numpy(real).view(shape),
            "inside": torch.from_numpy(inside).view(shape),
            "label": torch.tensor(label, dtype=torch.float32 if self.classes is None else torch.int64),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """Logits of the classes, or a score of each choice."""
        tokens, real, inside = batch["tokens"], batch["real"], batch["inside"]
        if self.layout == "words":
            return Outputs(self._span_scores(model, tokens, real, inside))
        types: dict[str, Tensor] = {"token_type_ids": inside.long()} if self.encoder.kind == "bert" else {}
        words: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": real.long(), **types}
        if self.layout == "classes":
            words = {name: tensor.flatten(0, 1) for name, tensor in words.items()}
        return Outputs(model(**words).logits)

    def _span_scores(self, model: Any, tokens: Tensor, real: Tensor, inside: Tensor) -> Tensor:
        """Mean log-probability of the words of each choice's span, given the rest, by the language-model head."""
        hidden_words = torch.where(inside, self._ready().mask, tokens).flatten(0, 1)
        base = getattr(model, self.encoder.kind)
        hidden = base(input_ids=hidden_words, attention_mask=real.flatten(0, 1).long()).last_hidden_state
        head = model.lm_head if self.encoder.kind == "roberta" else model.cls
        where = inside.flatten(0, 1)
        with torch.autocast(hidden.device.type, enabled=False):  # in bf16, candidates would often tie
            logits = head(hidden[where].float())
        chosen = logits.log_softmax(-1).gather(1, tokens.flatten(0, 1)[where][:, None])[:, 0]
        row = where.nonzero()[:, 0]
        summed = torch.zeros(len(where), device=chosen.device).index_add(0, row, chosen)
        return (summed / where.sum(1)).view(tokens.shape[:2])

    def identity(self) -> dict[str, Any]:
        """With digests of the examples, of the tokenizer, and of the weights."""
        ready = self._ready()
        weights = {"weights": CHECKPOINTS[self.encoder.checkpoint or ""].digest()} if self.pretrained else {}
        return {**super().identity(), "examples": ready.digest, "tokens": ready.tokens, **weights}

    def facts(self) -> dict[str, Any]:
        """With what the splits are, and how an example is put to the encoder."""
        asked = {"classes": "a head on the first token", "choices": "a head on the first token ranks the choices",
                 "words": "the language-model head scores each candidate in its place"}[self.layout]  # fmt: skip
        some = f"; {self.limit:,} training examples, chosen by a fixed rule" if self.limit else ""
        return {
            "data": f"{self.corpus.note}{some}; at most {_VALIDATION:,} validation examples",
            "input": f"{asked}; at most {self.longest} tokens",
            **super().facts(),
        }

    def _ready(self) -> _Ready:
        kind, checkpoint, longest = self.encoder.kind, self.encoder.checkpoint, (self.longest, self.first_longest)
        roots = (root_of(DATA), root_of(MODELS))
        return _ready(self.corpus, kind, checkpoint, self.pair, longest, self.limit, roots)
