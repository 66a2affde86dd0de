"""Parallel corpora: pairs of sentences from upstream's files, from the hub, or from files of one's own.

Where the pairs of a corpus stand is said under ``parallel`` in ``datasets.toml``, and of files of one's own in the same
words in ``$SMCBENCH_DATA/translation/NAME/parallel.toml``:

    licence = "CC0"                 # and url = "..."; both optional

    [[parallel]]                    # two files, whose lines pair by number
    split = "train"
    en = "train.en"
    fr = "train.fr"

    [[parallel]]                    # one file, with columns counted from 1 between tabs, or another separator
    split = "test"
    file = "test.tsv"
    en = 1
    fr = 3

A third form is a file ``.json`` with a list of ``{"translation": {"en": "...", "fr": "..."}}``, where each language
names its key. Of two languages one is English. More options: ``header = true`` (the first line names the columns),
``separator``, ``from = "fr"`` (pairs for one direction only), ``held_out = 250`` (so many of these training rows,
chosen by a fixed rule, are the test split), ``segmented = ["my"]`` (spaces between letters of Burmese mark syllables or
words, as they do in no running text, and are taken out).

A NAME is of lowercase letters, digits and hyphens, and none that a corpus, variant or score already has.
"""

from __future__ import annotations

import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.files import parse_json
from smcbench.sources import DATA, Contents, Dataset, File, Hub, root_of
from smcbench.task import SPLITS, Split

from . import _cldr
from ._datasets import carve, dataset, entries

MANIFEST = "parallel.toml"
_OPTIONS: dict[str, type] = {
    "split": str, "file": str, "separator": str, "header": bool, "from": str, "held_out": int, "segmented": list
}  # fmt: skip
_NAME = re.compile("[a-z0-9][a-z0-9-]*")
_TAKEN = re.compile("scratch|trained|en-[a-z]{2,3}|[a-z]{2,3}-en")
_UNSPACED = {"my": re.compile(r"(?<=[က-႟]) (?=[က-႟])")}


class Row(NamedTuple):
    """A sentence in English and in another language.

    Attributes:
        key: corpus, split and number; unique among the pairs of these languages.
        languages: English and the other, in the order of the texts.
        origin: the language to translate from, where it is for one direction only.
    """

    key: str
    languages: tuple[str, str]
    texts: tuple[str, str]
    origin: str = ""


class Corpus(ABC):
    """Rows in three splits; any of them may be empty."""

    name: str
    """As keys begin."""
    dataset: Dataset | None
    """What has to be had for it; none: it is generated."""

    @abstractmethod
    def rows(self, split: Split, language: str) -> Iterator[Row]:
        """The rows of English and one other language, in upstream's order."""

    def fingerprint(self) -> str:
        """What decides the rows."""
        return files.digest([self.name, self.dataset.fingerprint() if self.dataset else "generated"])


@dataclass(frozen=True)
class Bitext:
    """Where the pairs of two languages stand.

    Attributes:
        places: for each of two languages, English first: a file, or in ``file`` a column or a key.
        origin: the language to translate from, if it is for one direction only.
        held_out: so many of the rows, chosen by a fixed rule, are the test split.
        segmented: languages whose spaces between letters are no part of the text.
    """

    split: str
    places: tuple[tuple[str, str | int], tuple[str, str | int]]
    file: str | None = None
    separator: str = "\t"
    header: bool = False
    origin: str = ""
    held_out: int = 0
    segmented: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any], where: str) -> Bitext:
        """As a table of TOML says it.

        Raises:
            InvalidInput: it does not; one line says what is wrong.
        """

        def fail(why: str) -> InvalidInput:
            return InvalidInput(f"{where}: {why}")

        for key, kind in _OPTIONS.items():
            if key in entry and type(entry[key]) is not kind:
                raise fail(f"{key!r} is {entry[key]!r}, it must be of type {kind.__name__}")
        if entry.get("split") not in SPLITS:
            raise fail(f"'split' is {entry.get('split')!r}, it must be one of {', '.join(map(repr, SPLITS))}")
        languages = {key: entry[key] for key in entry if key not in _OPTIONS}
        if unknown := [key for key in languages if not re.fullmatch("[a-z]{2,3}", key)]:
            raise fail(f"unknown key {unknown[0]!r}; known are {', '.join(_OPTIONS)}, and the codes of two languages")
        if len(languages) != 2 or "en" not in languages:
            raise fail(f"it names the languages {', '.join(languages) or 'none'}; there must be two, and one 'en'")
        for key in ("file", "separator"):
            if entry.get(key) == "":
                raise fail(f"{key!r} is empty")
        if entry.get("held_out", 1) < 1:
            raise fail(f"'held_out' is {entry['held_out']}, it must be 1 or more")
        if "held_out" in entry and entry["split"] != "train":
            raise fail(f"'held_out' is of training rows, but 'split' is {entry['split']!r}")
        file = entry.get("file")
        wanted, what = (int, "a column, counted from 1") if file else (str, "the name of a file")
        if file and file.endswith(".json"):
            wanted, what = str, "a key"
        if wanted is str and (option := next((key for key in ("separator", "header") if key in entry), None)):
            raise fail(f"{option!r} is of a file with columns, which this is not")
        for key, place in languages.items():
            if type(place) is not wanted or not place or (isinstance(place, int) and place < 1):
                raise fail(f"{key!r} is {place!r}, it must be {what}")
        for option in ("from", "segmented"):
            for code in [entry[option]] if option == "from" and option in entry else entry.get(option, []):
                if code not in languages:
                    raise fail(f"{option!r} has {code!r}, which is none of its languages")
        other = next(key for key in languages if key != "en")
        return cls(
            entry["split"], (("en", languages["en"]), (other, languages[other])), file, entry.get("separator", "\t"),
            entry.get("header", False), entry.get("from", ""), entry.get("held_out", 0),
            tuple(entry.get("segmented", ())),
        )  # fmt: skip

    @property
    def language(self) -> str:
        """The one beside English."""
        return self.places[1][0]

    def files(self) -> list[str]:
        """What it is read from."""
        return [self.file] if self.file else [str(place) for _, place in self.places]

    def read(self, source: Dataset) -> Iterator[tuple[str, str]]:
        """English and the other language.

        Raises:
            InvalidInput: a file is missing, empty, or a row of it is not what it should be.
        """
        if source.state() != "local" and source.hub is not None:
            rows = self._from_hub(source)
        elif self.file is None:
            rows = self._lines([source.read(str(place)) for _, place in self.places])
        elif self.file.endswith(".json"):
            rows = self._json(source.read(self.file))
        else:
            rows = self._columns(source.read(self.file))
        for pair in rows:
            yield self._plain(0, pair[0]), self._plain(1, pair[1])

    def _plain(self, side: int, text: str) -> str:
        language, plain = self.places[side][0], " ".join(text.split())
        return _UNSPACED[language].sub("", plain) if language in self.segmented and language in _UNSPACED else plain

    def _lines(self, both: Sequence[Contents]) -> Iterator[tuple[str, ...]]:
        lines = [[line for _, line in filled(contents)] for contents in both]
        if len(lines[0]) != len(lines[1]):
            (one, other), (first, second) = lines, both
            raise InvalidInput(
                f"{first.where} has {len(one):,} lines, {second.where} {len(other):,}: they must pair by number"
            )
        yield from zip(*lines, strict=True)

    def _columns(self, contents: Contents) -> Iterator[tuple[str, ...]]:
        places = [int(place) for _, place in self.places]
        for number, (where, line) in enumerate(filled(contents)):
            if number or not self.header:
                fields = line.split(self.separator)
                if len(fields) < max(places):
                    raise InvalidInput(f"{where}: has {len(fields)} fields, it must have {max(places)} or more")
                yield tuple(fields[place - 1] for place in places)

    def _json(self, contents: Contents) -> Iterator[tuple[str, ...]]:
        rows = parse_json("\n".join(line for _, line in filled(contents)), contents.where)
        if not isinstance(rows, list):
            raise InvalidInput(f"{contents.where}: must be a JSON list")
        for number, row in enumerate(rows):
            yield self._translation(row, f"{contents.where}: row {number}")

    def _from_hub(self, source: Dataset) -> Iterator[tuple[str, ...]]:
        for where, row in source.rows(self.split):
            yield self._translation(row, where, [language for language, _ in self.places])

    def _translation(self, row: Any, where: str, keys: Sequence[str] = ()) -> tuple[str, ...]:
        keys = keys or [str(place) for _, place in self.places]
        texts = row.get("translation") if isinstance(row, dict) else None
        if not isinstance(texts, dict) or not all(isinstance(texts.get(key), str) for key in keys):
            raise InvalidInput(f"{where}: has no 'translation' with text for {' and '.join(keys)}")
        return tuple(texts[key] for key in keys)


def filled(contents: Contents) -> Iterable[tuple[str, str]]:
    """The lines of a file that must have some."""
    if not contents.raw.strip():
        raise InvalidInput(f"{contents.where}: is empty")
    return contents.lines()


@dataclass(frozen=True)
class Files(Corpus):
    """A corpus in files, or a copy of them on the hub."""

    name: str
    dataset: Dataset
    bitexts: tuple[Bitext, ...]

    def rows(self, split: Split, language: str) -> Iterator[Row]:
        """As written, but with single spaces; training rows that are held out are in ``test``."""
        number = 0
        for bitext in self.bitexts:
            carved = bitext.held_out and split in ("train", "test")
            if bitext.language != language or (bitext.split != split and not carved):
                continue
            pairs: Iterable[tuple[str, str]] = bitext.read(self.dataset)
            if bitext.held_out:
                test, train = carve(list(pairs), bitext.held_out, lambda pair: pair[0])
                pairs = test if split == "test" else train
            for pair in pairs:
                yield Row(f"{self.name}/{split}/{number}", ("en", language), pair, bitext.origin)
                number += 1

    def fingerprint(self) -> str:
        """Where the pairs stand, too.

        Raises:
            InvalidInput: a file is missing.
        """
        absent = [file.names[0] for file in self.dataset.files if self.dataset.path(file) is None]
        if absent and self.dataset.hub is None:
            raise self.dataset.missing(f"there is no {absent[0]}")
        return files.digest([super().fingerprint(), repr(self.bitexts)])


@dataclass(frozen=True)
class Phrases(Corpus):
    """Generated: phrases of CLDR, for tests of what reads a corpus."""

    name: str = "cldr"
    sizes: tuple[int, int, int] = (60, 8, 12)
    dataset = None

    def rows(self, split: Split, language: str) -> Iterator[Row]:
        """The first ones are the training split, the last ones the test split."""
        start = sum(self.sizes[: SPLITS.index(split)])
        for number, key in enumerate(_cldr.keys(sum(self.sizes))[start : start + self.sizes[SPLITS.index(split)]]):
            texts = (_cldr.render(key, "en"), _cldr.render(key, language))
            yield Row(f"{self.name}/{split}/{number}", ("en", language), texts)


# -- by name


def corpora(name: str, languages: Sequence[str]) -> tuple[Corpus, ...]:
    """The corpora of this name that have pairs of these languages with English.

    Raises:
        InvalidInput: it is none that is known, and there is no manifest of that name, or a bad one.
    """
    if name == "opus-100":
        return tuple(_opus(language) for language in languages)
    if name == "cldr":
        return (Phrases(),)
    if "parallel" in entries().get(name, {}):
        bitexts = tuple(Bitext.of(entry, f"datasets.toml, {name}") for entry in entries()[name]["parallel"])
        return (Files(name, dataset(name), bitexts),)
    return (_of_manifest(name),)


def manifests() -> list[str]:
    """Names of the corpora in files of one's own; a corpus that is known goes before one of its name."""
    root = root_of(DATA)
    found = [path.parent.name for path in root.glob(f"translation/*/{MANIFEST}")] if root is not None else []
    known = {"opus-100", "cldr", *(name for name, entry in entries().items() if "parallel" in entry)}
    return sorted(set(found) - known)


def _of_manifest(name: str) -> Files:
    if not _NAME.fullmatch(name) or _TAKEN.fullmatch(name):
        raise InvalidInput(
            f"parallel corpus {name!r}: rename its folder; a name is of lowercase letters, digits and hyphens, and not "
            "what variants or scores are called: scratch, trained, or a direction such as en-fr"
        )
    root = root_of(DATA)
    if root is None or not (path := root / "translation" / name / MANIFEST).is_file():
        where = f"{root or f'${DATA}'}/translation/{name}/{MANIFEST}"
        raise InvalidInput(f"parallel corpus {name} is missing: there is no {where}, which says what its files are")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path}: not valid TOML ({error})") from None
    for key, value in content.items():
        if key not in ("licence", "url", "parallel"):
            raise InvalidInput(f"{path}: unknown key {key!r}; known are licence, url, parallel")
        if key != "parallel" and not isinstance(value, str):
            raise InvalidInput(f"{path}: {key!r} is {value!r}, it must be text")
    listed = content.get("parallel")
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        raise InvalidInput(f"{path}: has no [[parallel]]")
    bitexts = tuple(Bitext.of(entry, f"{path}, [[parallel]] {i}") for i, entry in enumerate(listed, 1))
    names = sorted({file for bitext in bitexts for file in bitext.files()})
    if outside := [file for file in names if file.startswith("/") or ".." in file.split("/")]:
        raise InvalidInput(f"{path}: {outside[0]!r} is no file of its folder")
    source = Dataset(
        f"translation/{name}", content.get("licence", "not stated"), content.get("url", "wherever they are from"),
        tuple(File((file,), 0) for file in names),
    )  # fmt: skip
    return Files(name, source, bitexts)


_OPUS_ROWS = {"gu": 318_306, "my": 24_594}
"""Training rows of the smaller pairs; the others have a million, and every pair 2,000 for validation and test."""


def _opus(language: str) -> Files:
    """A pair of OPUS-100 (Zhang et al., 2020, arXiv:2004.11867), in upstream's own files."""
    one, two = sorted(("en", language))
    splits: dict[Split, str] = {"train": "train", "validation": "dev", "test": "test"}
    rows = {"train": _OPUS_ROWS.get(language, 1_000_000), "validation": 2000, "test": 2000}

    def name(split: Split, code: str) -> str:
        return f"opus.{one}-{two}-{splits[split]}.{code}"

    source = Dataset(
        f"translation/opus-100/{one}-{two}",
        "unknown: that of the texts in OPUS",
        "https://opus.nlpl.eu/opus-100.php",
        tuple(File((name(split, code),), rows[split]) for split in SPLITS for code in (one, two)),
        Hub("Helsinki-NLP/opus-100", "805090dc28bf78897da9641cdf08b61287580df9", f"{one}-{two}"),
    )
    bitexts = (Bitext(split, (("en", name(split, "en")), (language, name(split, language)))) for split in SPLITS)
    return Files("opus-100", source, tuple(bitexts))
