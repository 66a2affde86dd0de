"""Sentence pairs for translation: which rows of parallel corpora go into which split, as packed tokens."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import heapq
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.files import parse_json
from smcbench.sources import prepared
from smcbench.task import SPLITS, Split

from ._evaluating import chunks
from ._labelled import Lazy
from ._mbart import CHECKPOINTS, LEARNT, MBART, Tokens, learnt
from ._parallel import Corpus, Row, corpora

VALIDATION = 500
"""Most validation examples: methods look at them often."""
_CHUNK = 4096
"""Rows tokenised at a time."""
_VERSION = 2
"""Of the rules below, bumped when other rows are chosen."""


class Pair(NamedTuple):
    """A sentence in two languages; the id holds the corpus, the direction, and what tells the sentence."""

    id: str
    source: str
    target: str
    source_tokens: Sequence[int]
    """Ending, as in mBART, with the code of the source language."""
    target_tokens: Sequence[int]
    """Beginning with the code of the target language, which the decoder starts from."""

    @property
    def corpus(self) -> str:
        return self.id.split("/")[0]

    @property
    def direction(self) -> str:
        return self.id.split("/")[1]

    @property
    def sentence(self) -> str:
        """What is said, whichever the languages."""
        corpus, _, rest = self.id.split("/", 2)
        return f"{corpus}/{rest}"


@dataclass(frozen=True)
class Selection:
    """What is taken from which corpora, each by a fixed rule that no order of rows disturbs.

    Attributes:
        corpora: names of those to train on.
        tests: names of those whose test splits are the test split.
        languages: beside English, to train on.
        tested: beside English, to test.
        limit: most training rows of a language; none: all.
        test_limit: most test rows of a corpus and a language; none: all.
        longest: most tokens of a sentence, its end and its language among them; longer ones are not trained on.
    """

    corpora: tuple[str, ...]
    tests: tuple[str, ...]
    languages: tuple[str, ...]
    tested: tuple[str, ...]
    limit: int | None
    test_limit: int | None
    longest: int

    def train_corpora(self) -> list[Corpus]:
        """Those to train on."""
        return [corpus for name in self.corpora for corpus in corpora(name, self.languages)]

    def test_corpora(self) -> list[Corpus]:
        """Those to test on."""
        return [corpus for name in self.tests for corpus in corpora(name, self.tested)]

    def fingerprint(self) -> str:
        """What decides the rows."""
        known = {corpus.fingerprint() for corpus in (*self.train_corpora(), *self.test_corpora())}
        return files.digest([_VERSION, repr(self), sorted(known)])

    def rows(self) -> tuple[dict[Split, list[Row]], Counter[str]]:
        """The rows of each split, and how many training rows were left out, by reason.

        A training row is left out if either of its sentences also stands in a test or validation row, whatever the case
        of its letters, its spaces, and the form of its characters (Unicode's NFKC). Validation rows are the corpora's
        own; where a language has none, training rows.

        Raises:
            InvalidInput: a split has no rows, or no language to train on is tested.
        """
        test: list[Row] = []
        standing: set[tuple[str, str]] = set()  # also in test rows beyond the limit
        for corpus in self.test_corpora():
            for language in self.tested:
                by_origin: dict[str, list[Row]] = {}
                for row in corpus.rows("test", language):
                    if all(row.texts):
                        by_origin.setdefault(row.origin, []).append(row)
                        standing.update(_sentences(row))
                for rows in by_origin.values():
                    test += _some(rows, self.test_limit)

        if test and not {row.languages[1] for row in test} & set(self.languages):
            raise InvalidInput(
                f"parallel corpora {', '.join(self.tests)}: no test rows of a language that is trained on "
                f"({', '.join(self.languages)}); tested are {', '.join(self.tested)}"
            )
        train: list[Row] = []
        validation: list[Row] = []
        out: Counter[str] = Counter()
        fresh = functools.partial(_fresh, self.train_corpora(), standing)
        most = max(1, VALIDATION // (2 * len(self.languages)))
        for language in self.languages:
            validation += _some(fresh("validation", language), most) or _some(fresh("train", language), most)
        standing |= {sentence for row in validation for sentence in _sentences(row)}
        for language in self.languages:
            train += _some(fresh("train", language, out), self.limit)
        out["beyond the limit"] = out.pop("fresh", 0) - len(train)

        found: dict[Split, list[Row]] = {"train": train, "validation": validation, "test": test}
        for split, rows in found.items():
            if not rows:
                raise InvalidInput(f"parallel corpora {', '.join(self.corpora + self.tests)}: no rows for {split!r}")
        return found, out


def _fresh(
    some: Sequence[Corpus], standing: set[tuple[str, str]], split: Split, language: str, out: Counter[str] | None = None
) -> Iterator[Row]:
    """The rows neither of whose sentences stands elsewhere; ``out`` counts them and the others."""
    out = Counter() if out is None else out
    for corpus in some:
        for row in corpus.rows(split, language):
            if not all(row.texts):
                out["empty"] += 1
            elif standing.intersection(_sentences(row)):
                out["in a test or validation row"] += 1
            else:
                out["fresh"] += 1
                yield row


def _some(rows: Iterable[Row], most: int | None) -> list[Row]:
    """At most so many rows, in the order of the SHA-256 of their keys; without a limit all, in their own."""
    return list(rows) if most is None else heapq.nsmallest(most, rows, key=lambda row: files.sha256(row.key))


def _sentences(row: Row) -> tuple[tuple[str, str], ...]:
    plain = ("".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in row.texts)
    return tuple(zip(row.languages, plain, strict=True))


# -- packed


class Packed(Lazy):
    """Pairs over packed rows, made one at a time when asked for: each row in both directions, but for those of one."""

    def __init__(self, arrays: Mapping[str, Any], codes: Mapping[str, int], eos: int) -> None:
        """Takes what :func:`pack` gives, the token of each language, and that which ends a sentence."""
        self._arrays, self._codes, self._eos = arrays, codes, eos
        self._pairs = arrays["pairs"]

    def __len__(self) -> int:
        return len(self._pairs)

    def made(self, index: int) -> Pair:
        """One pair."""
        row, turned = self._pairs[index].tolist()
        corpus, rest = bytes(self._arrays["keys"][row]).decode().split("/", 1)
        languages = bytes(self._arrays["languages"][row]).decode().split("-")
        sides = (1, 0) if turned else (0, 1)
        source, target = (languages[side] for side in sides)
        texts = [self._sentence("text", 2 * row + side).tobytes().decode() for side in sides]
        tokens = [self._sentence("token", 2 * row + side).tolist() for side in sides]
        return Pair(
            f"{corpus}/{source}-{target}/{rest}",
            texts[0],
            texts[1],
            (*tokens[0], self._eos, self._codes[source]),
            (self._codes[target], *tokens[1], self._eos),
        )

    def _sentence(self, kind: str, which: int) -> Any:
        ends = self._arrays[f"{kind}-ends"]
        return self._arrays[f"{kind}s"][ends[which] : ends[which + 1]]

    def lengths(self) -> list[int]:
        """Tokens of each pair, both sides together."""
        sizes = np.diff(self._arrays["token-ends"]).reshape(-1, 2).sum(axis=1) + 4
        return sizes[self._pairs[:, 0]].tolist()  # type: ignore[no-any-return]

    def sources(self) -> list[int]:
        """Tokens of each source."""
        sizes = np.diff(self._arrays["token-ends"]) + 2
        return sizes[2 * self._pairs[:, 0] + self._pairs[:, 1]].tolist()  # type: ignore[no-any-return]


def pack(rows: Sequence[Row], tokens: Tokens, longest: int, *, whole: bool) -> tuple[dict[str, Any], str]:
    """Rows as flat arrays, and a digest of their texts.

    Args:
        rows: what to pack.
        tokens: the tokenizer.
        longest: most tokens of a sentence with its end and its language.
        whole: whether rows with a longer sentence are left out; else it loses its end.
    """
    kept: list[Row] = []
    flat: list[Any] = []
    digest = hashlib.sha256()
    for part in chunks(rows, _CHUNK):
        encoded = tokens.encode([text for row in part for text in row.texts])
        for i, row in enumerate(part):
            both = encoded[2 * i : 2 * i + 2]
            if not whole or max(map(len, both)) <= longest - 2:
                kept.append(row)
                flat += (np.asarray(side[: longest - 2], dtype=np.int32) for side in both)
                digest.update("\t".join([row.key, *row.languages, row.origin, *row.texts, ""]).encode())
    if not kept:
        raise InvalidInput(f"no row of {rows[0].key.split('/')[0]} has at most {longest} tokens")
    texts = [np.frombuffer(text.encode(), dtype=np.uint8) for row in kept for text in row.texts]
    pairs = [
        (number, turned)
        for number, row in enumerate(kept)
        for turned in (0, 1)
        if row.origin in ("", row.languages[turned])
    ]
    return {
        "tokens": np.concatenate(flat),
        "token-ends": np.cumsum([0, *map(len, flat)]),
        "texts": np.concatenate(texts),
        "text-ends": np.cumsum([0, *map(len, texts)]),
        "keys": np.asarray([row.key.encode() for row in kept]),
        "languages": np.asarray(["-".join(row.languages).encode() for row in kept]),
        "pairs": np.asarray(pairs, dtype=np.int32),
    }, digest.hexdigest()


class Ready(NamedTuple):
    """Splits in tokens, the tokenizer, a digest of the texts, and what was left out of training, by reason."""

    splits: dict[Split, Packed]
    tokens: Tokens
    digest: str
    out: dict[str, int]


@functools.lru_cache(maxsize=8)
def ready(selection: Selection, model: MBART, roots: tuple[Any, ...]) -> Ready:
    """A selection in a model's tokens, from the cache if it is there; once a process.

    A vocabulary of its own is learnt from the training rows of all languages that are tested, English in as many rows
    as each other one; so tasks that train on some of them have the same.
    """
    generated = all(corpus.dataset is None for corpus in (*selection.train_corpora(), *selection.test_corpora()))
    stored = (lambda kind, key, build: build()) if generated else prepared
    chosen = selection.fingerprint()  # of two things that are missing, the data are named first
    if model.checkpoint is not None:
        tokens = Tokens.of(CHECKPOINTS[model.checkpoint])
    else:
        import tokenizers

        everything = dataclasses.replace(selection, languages=selection.tested)

        def learn() -> dict[str, Any]:
            rows = everything.rows()[0]["train"]
            turns = len(everything.languages)
            texts = (text for n, row in enumerate(rows) for text in row.texts[(n % turns != 0) :])
            learned = learnt(texts, ("en", *everything.languages), model.vocabulary, bytewise=True)
            return {"json": np.frombuffer(learned.to_str().encode(), dtype=np.uint8)}

        key = {
            "rows": everything.fingerprint(),
            "vocabulary": model.vocabulary,
            "rules": [LEARNT, tokenizers.__version__],
        }
        json = stored("translation-vocabulary", key, learn)["json"]
        tokens = Tokens.read(json.tobytes().decode(), ("en", *everything.languages))

    def build() -> dict[str, Any]:
        rows, out = selection.rows()
        arrays: dict[str, Any] = {}
        digests = []
        for split in SPLITS:
            packed, digest = pack(rows[split], tokens, selection.longest, whole=split == "train")
            arrays |= {f"{split}-{name}": array for name, array in packed.items()}
            digests.append(digest)
        out["too long"] = len(rows["train"]) - len(arrays["train-keys"])
        arrays["digest"] = np.asarray(files.digest(digests))
        arrays["out"] = np.asarray(files.canonical(out))
        return arrays

    arrays = stored("translation", {"rows": chosen, "tokens": tokens.digest}, build)
    splits: dict[Split, Packed] = {}
    for split in SPLITS:
        own = {name[len(split) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{split}-")}
        splits[split] = Packed(own, tokens.codes, model.eos)
    return Ready(splits, tokens, str(arrays["digest"]), parse_json(str(arrays["out"]), "what was left out"))
