"""Translation: beam search, parallel corpora, selection and packing, scores, models, and bad data."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import needs_data

from smcbench import files, plugins, sources
from smcbench.errors import InvalidInput, UsageError
from smcbench.session import Session, build_model
from smcbench.sources import Dataset, Located
from smcbench_tasks import _cldr, _mbart, _pairs, _parallel, translation
from smcbench_tasks._beam import beam_search, greedy
from smcbench_tasks._mbart import MBART, Tokens, learnt
from smcbench_tasks._pairs import Pair, Selection
from smcbench_tasks._parallel import Bitext, Files, corpora
from smcbench_tasks.translation import TEN, cldr_2to2, cldr_5to5, cldr_10to10, mbart_2to2, mbart_10to10

SMALL = [translation.translation_2to2_small, translation.translation_5to5_small, translation.translation_10to10_small]
FULL = [mbart_2to2, translation.mbart_5to5, mbart_10to10]
TINY = mbart_2to2.tiny()

# -- beam search


def random_model(seed: int, vocabulary: int = 40, init: float = 0.3) -> Any:
    torch.manual_seed(seed)
    return MBART(vocabulary, 16, 2, 4, 32, 64, init=init).build().eval()


@pytest.fixture(scope="module")
def trained() -> Any:
    session = Session(TINY, build_model(TINY, 0), TINY.recipe.replace(steps=80))
    session.train()
    return session.model.eval()


def sources_of(draw: random.Random, count: int, vocabulary: int = 40) -> torch.Tensor:
    rows = [[draw.randrange(2, vocabulary) for _ in range(draw.randrange(1, 9))] + [1] for _ in range(count)]
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def peers(model: Any, source: torch.Tensor, start: int, most: int, beams: int) -> list[list[int]]:
    """transformers' own search; it fills up with padding, so the model must not write any."""
    rows = model.generate(
        source, attention_mask=(source != 0).long(), decoder_start_token_id=start, num_beams=beams, do_sample=False,
        early_stopping=True, length_penalty=1.0, max_new_tokens=most, bad_words_ids=[[0]],
    ).tolist()  # fmt: skip
    return [list(itertools.takewhile(lambda token: token not in (0, 1), row[1:])) for row in rows]


def no_padding(model: Any) -> Any:
    """Padding is never written."""
    with torch.no_grad():
        model.final_logits_bias[:, 0] = -torch.inf
    return model


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_beam_search_writes_what_generate_writes(seed: int, beams: int) -> None:
    model, draw = no_padding(random_model(seed)), random.Random(seed)
    for most in (1, 2, 5, 20):
        source = sources_of(draw, 6)
        with torch.inference_mode():
            ours = beam_search(model, source, torch.full((6, 1), 5), torch.full((6,), most), beams, pad=0, eos=1)
            assert ours == peers(model, source, 5, most, beams)


def test_beam_search_writes_what_generate_writes_once_trained(trained: Any) -> None:
    model = no_padding(trained)
    pairs = list(TINY.data("test"))
    batch = TINY.collate(pairs)
    ended = 0
    with torch.inference_mode():
        ours = beam_search(
            model, batch["source"], batch["decoder"][:, :1], torch.full((len(pairs),), 30), 5, pad=0, eos=1
        )
        for pair, row in zip(pairs, ours, strict=True):
            alone = torch.tensor([pair.source_tokens])
            assert row == peers(model, alone, pair.target_tokens[0], 30, 5)[0]
            ended += len(row) < 29
    assert ended > len(pairs) // 4  # else nothing has left the batch


def test_every_sentence_has_its_own_limit_and_does_not_see_the_others() -> None:
    model, draw = random_model(3), random.Random(3)
    source = sources_of(draw, 9)
    limits = torch.tensor([draw.randrange(1, 15) for _ in source])
    starts = torch.tensor([[draw.randrange(2, 40)] for _ in source])
    with torch.inference_mode():
        together = beam_search(model, source, starts, limits, 4, pad=0, eos=1)
        for i, row in enumerate(source):
            alone = row[row != 0][None]
            assert beam_search(model, alone, starts[i : i + 1], limits[i : i + 1], 4, pad=0, eos=1) == [together[i]]
            assert len(together[i]) <= limits[i]


@pytest.mark.parametrize("seed", range(6))
def test_with_room_for_all_beam_search_is_exhaustive(seed: int) -> None:
    """Four tokens: padding, the end, and two more; all sentences of at most four tokens."""
    model, longest = random_model(seed, 4, 0.5), 4
    source, start = torch.tensor([[2, 3, 3, 1]]), 2
    best, answer = -torch.inf, None
    with torch.inference_mode():
        for length in range(1, longest + 1):
            for row in itertools.product((0, 2, 3), repeat=length - 1):
                for last in range(4) if length == longest else (1,):
                    tokens = [*row, last]
                    logits = model(input_ids=source, decoder_input_ids=torch.tensor([[start, *tokens[:-1]]])).logits
                    scores = logits[0].log_softmax(-1)[range(length), tokens]
                    if (value := scores.sum().item() / length) > best:
                        best, answer = value, tokens
        found = beam_search(model, source, torch.tensor([[start]]), torch.tensor([longest]), 4**longest, pad=0, eos=1)
    assert answer is not None
    assert found == [answer[:-1] if answer[-1] == 1 else answer]


def test_a_beam_of_one_is_greedy() -> None:
    model, source = random_model(5), sources_of(random.Random(5), 8)
    starts = torch.full((8, 1), 7)
    with torch.inference_mode():
        one = beam_search(model, source, starts, torch.full((8,), 12), 1, pad=0, eos=1)
        assert one == greedy(model, source, starts, 12, pad=0, eos=1)


# -- corpora in files

PAIRS = [(f"The sentence {i} is here.", f"La phrase {i} est ici.") for i in range(60)]


def lines(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a parallel corpus by a manifest, and FLORES-200 in French."""
    monkeypatch.setenv("SMCBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SMCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "data/translation"
    english, french = zip(*PAIRS, strict=True)
    lines(folder / "mine/train.en", list(english[:40]))
    lines(folder / "mine/train.fr", list(french[:40]))
    lines(folder / "mine/dev.tsv", [f"{i}\t{fr}\t{en}" for i, (en, fr) in enumerate(PAIRS[40:50])])
    lines(folder / "mine/test.json", [json.dumps([{"translation": {"en": e, "fr": f}} for e, f in PAIRS[50:]])])
    manifest(folder / "mine", TRAIN, DEV, TEST)
    return folder


TRAIN = {"split": "train", "en": "train.en", "fr": "train.fr"}
DEV = {"split": "validation", "file": "dev.tsv", "fr": 2, "en": 3}
TEST = {"split": "test", "file": "test.json", "en": "en", "fr": "fr"}


def manifest(folder: Path, *entries: dict[str, Any], more: str = "") -> None:
    text = more + "".join(
        "[[parallel]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
        for entry in entries
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parallel.toml").write_text(text)


def read(split: Any, language: str = "fr") -> list[tuple[str, str]]:
    (corpus,) = corpora("mine", [language])
    return [row.texts for row in corpus.rows(split, language)]


def test_lines_columns_and_json_are_read(root: Path) -> None:
    assert read("train") == PAIRS[:40]
    assert read("validation") == PAIRS[40:50]
    assert read("test") == PAIRS[50:]
    assert read("train", "de") == []


def test_options_of_a_manifest(root: Path) -> None:
    lines(root / "mine/a.txt", ["en | my", "  Do   you | နင် က ကိတ်မုန့် A B ။ က", "two | တစ်"])
    entry = {"split": "train", "file": "a.txt", "separator": " | ", "header": True, "en": 1, "my": 2}
    manifest(root / "mine", {**entry, "segmented": ["my"], "from": "my"})
    (corpus,) = corpora("mine", ["my"])
    rows = list(corpus.rows("train", "my"))
    assert rows[0].texts == ("Do you", "နင်ကကိတ်မုန့် A B ။က")
    assert [row.origin for row in rows] == ["my", "my"]
    manifest(root / "mine", {**TRAIN, "held_out": 7})
    test, train = read("test"), read("train")
    assert (len(test), len(train)) == (7, 33)
    assert sorted(test + train) == sorted(PAIRS[:40])
    assert test != PAIRS[:7]


def _broken(kind: str, folder: Path) -> None:
    if kind == "count":
        lines(folder / "train.fr", [french for _, french in PAIRS[:39]])
    elif kind == "empty":
        (folder / "train.fr").write_text("\n")
    elif kind == "absent":
        (folder / "train.fr").unlink()
    elif kind == "latin":
        (folder / "train.fr").write_bytes(b"caf\xe9\n" * 40)
    elif kind == "field":
        lines(folder / "dev.tsv", ["1\ta\tb", "2\tc"])
    elif kind == "json":
        lines(folder / "test.json", ["{"])
    elif kind == "list":
        lines(folder / "test.json", ["{}"])
    elif kind == "key":
        lines(folder / "test.json", ['[{"translation": {"en": "a"}}]'])
    elif kind == "torn":
        (folder / "train.fr").unlink()
        (folder / "train.fr.gz").write_bytes(gzip.compress(b"x")[:-4])
    elif kind == "toml":
        (folder / "parallel.toml").write_text("[[parallel")
    elif kind == "none":
        (folder / "parallel.toml").write_text('licence = "CC0"\n')
    elif kind == "gone":
        (folder / "parallel.toml").unlink()
    elif kind == "top":
        manifest(folder, TRAIN, more="pairs = 3\n")
    else:
        entry: dict[str, Any] = {
            "unknown": {**TRAIN, "Language": "x"},
            "split": {**TRAIN, "split": "dev"},
            "three": {**TRAIN, "de": "train.de"},
            "english": {"split": "train", "de": "train.de", "fr": "train.fr"},
            "column": {**DEV, "fr": 0},
            "file": {**TRAIN, "fr": 2},
            "type": {**DEV, "header": "yes"},
            "from": {**TRAIN, "from": "de"},
            "outside": {**TRAIN, "fr": "../train.fr"},
            "absolute": {**TRAIN, "fr": str(folder / "train.fr")},
            "nested": {**TRAIN, "fr": "a/../../mine/train.fr"},
            "all held out": {**TRAIN, "held_out": -1},
            "none held out": {**TRAIN, "held_out": 0},
            "test held out": {**TEST, "held_out": 3},
            "no separator": {**DEV, "separator": ""},
            "no file": {**TRAIN, "file": ""},
            "separator of two": {**TRAIN, "separator": "|"},
            "header of two": {**TRAIN, "header": True},
            "header of json": {**TEST, "header": False},
        }[kind]
        manifest(folder, entry)


BROKEN = [
    ("count", r"train\.en has 40 lines, .*train\.fr 39: they must pair by number"),
    ("empty", r"train\.fr: is empty"),
    ("absent", r"data set translation/mine is missing: there is no train\.fr"),
    ("latin", r"train\.fr:1: not UTF-8 text"),
    ("field", r"dev\.tsv:2: has 2 fields, it must have 3 or more"),
    ("json", r"test\.json: not valid JSON"),
    ("list", r"test\.json: must be a JSON list"),
    ("key", r"test\.json: row 0: has no 'translation' with text for en and fr"),
    ("torn", r"train\.fr\.gz: a torn archive"),
    ("toml", r"parallel\.toml: not valid TOML"),
    ("none", r"parallel\.toml: has no \[\[parallel\]\]"),
    ("gone", r"parallel corpus mine is missing: there is no .*translation/mine/parallel\.toml"),
    ("top", r"parallel\.toml: unknown key 'pairs'; known are licence, url, parallel"),
    ("unknown", r"\[\[parallel\]\] 1: unknown key 'Language'"),
    ("split", r"\[\[parallel\]\] 1: 'split' is 'dev', it must be one of 'train', 'validation', 'test'"),
    ("three", r"names the languages en, fr, de; there must be two"),
    ("english", r"names the languages de, fr; there must be two, and one 'en'"),
    ("column", r"'fr' is 0, it must be a column, counted from 1"),
    ("file", r"'fr' is 2, it must be the name of a file"),
    ("type", r"'header' is 'yes', it must be of type bool"),
    ("from", r"'from' has 'de', which is none of its languages"),
    ("outside", r"'\.\./train\.fr' is no file of its folder"),
    ("absolute", r"'/.*/train\.fr' is no file of its folder"),
    ("nested", r"'a/\.\./\.\./mine/train\.fr' is no file of its folder"),
    ("all held out", r"\[\[parallel\]\] 1: 'held_out' is -1, it must be 1 or more"),
    ("none held out", r"\[\[parallel\]\] 1: 'held_out' is 0, it must be 1 or more"),
    ("test held out", r"\[\[parallel\]\] 1: 'held_out' is of training rows, but 'split' is 'test'"),
    ("no separator", r"\[\[parallel\]\] 1: 'separator' is empty"),
    ("no file", r"\[\[parallel\]\] 1: 'file' is empty"),
    ("separator of two", r"\[\[parallel\]\] 1: 'separator' is of a file with columns, which this is not"),
    ("header of two", r"\[\[parallel\]\] 1: 'header' is of a file with columns, which this is not"),
    ("header of json", r"\[\[parallel\]\] 1: 'header' is of a file with columns, which this is not"),
]


@pytest.mark.parametrize(("kind", "message"), BROKEN)
def test_bad_corpora_are_one_clear_line_and_leave_no_cache(kind: str, message: str, root: Path, tmp_path: Path) -> None:
    _broken(kind, root / "mine")
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",))
    with pytest.raises(InvalidInput, match=message) as caught:
        task.data("train")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_corpus_of_ones_own_is_a_variant(root: Path) -> None:
    task = plugins.load_task("mbart-2to2@mine")
    assert task.corpora == ("mine",)
    assert task.requirements()[0].name == "translation/mine"
    assert task.requirements()[0].state() == "local"
    assert [need.state() for need in task.requirements()[1:]] == ["missing", "missing"]
    with pytest.raises(UsageError, match="has no variant 'yours'; it has scratch, mine"):
        mbart_2to2.variant("yours")


def test_a_corpus_of_ones_own_takes_the_place_of_nothing(root: Path) -> None:
    for name in ("scratch", "tatoeba", "flores200", "opus-100", "cldr"):
        manifest(root / name, TRAIN)
    assert list(mbart_2to2.variants) == ["scratch", "mine"]
    assert not mbart_2to2.variant("scratch").pretrained


@pytest.mark.parametrize("name", ["scratch", "trained", "en-fr", "my-en", "Scratch", "my corpus", "a@b", "-x", "ünï"])
def test_names_that_are_none_or_say_something_else_are_refused(name: str, root: Path) -> None:
    (root / "mine").rename(root / name)
    with pytest.raises(InvalidInput, match=f"parallel corpus '{name}': rename its folder; a name is") as caught:
        corpora(name, ["fr"])
    assert "\n" not in str(caught.value)
    (root / name).rename(root / "en-route-2")
    assert list(corpora("en-route-2", ["fr"])[0].rows("train", "fr"))


# -- OPUS-100


def test_opus_is_the_same_from_files_and_from_the_hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    english, french = (list(side) for side in zip(*PAIRS, strict=True))
    for split, some in (("train", slice(40)), ("dev", slice(40, 50)), ("test", slice(50, 60))):
        lines(root / f"opus-100/en-fr/opus.en-fr-{split}.en", english[some])
        lines(root / f"opus-100/en-fr/opus.en-fr-{split}.fr", french[some])
    (corpus,) = corpora("opus-100", ["fr"])
    assert corpus.dataset is not None
    assert corpus.dataset.state() == "local"
    local = {split: list(corpus.rows(split, "fr")) for split in ("train", "validation", "test")}
    assert [row.texts for row in local["train"]] == PAIRS[:40]

    def rows(self: Dataset, split: str) -> Any:
        parts = {"train": PAIRS[:40], "validation": PAIRS[40:50], "test": PAIRS[50:]}
        for i, (en, fr) in enumerate(parts[split]):
            yield Located(f"row {i}", {"translation": {"en": en, "fr": fr}})

    monkeypatch.setattr(Dataset, "rows", rows)
    monkeypatch.setattr(Dataset, "state", lambda self: "hub")
    assert {split: list(corpus.rows(split, "fr")) for split in local} == local


def test_opus_pairs_are_named_alphabetically() -> None:
    found = {corpus.dataset.hub.config for corpus in corpora("opus-100", TEN)}  # type: ignore[union-attr]
    assert found == {"cs-en", "de-en", "en-fr", "en-gu", "en-my", "en-ro", "en-ru", "en-vi", "en-zh"}


def test_without_data_the_first_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMCBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match=r"missing.* into .*translation"):
        translation.translation_2to2_small.data("train")
    with pytest.raises(InvalidInput, match=r"data set translation/flores200 is missing"):
        mbart_2to2.data("train")
    assert [need.state() for need in mbart_2to2.requirements()] == ["missing"] * 3


# -- what goes into which split


def selected(**changes: Any) -> Selection:
    return dataclasses.replace(Selection(("mine",), ("mine",), ("fr",), ("fr",), None, None, 64), **changes)


def test_what_stands_in_a_test_or_validation_row_is_not_trained_on(root: Path) -> None:
    english, french = (list(side) for side in zip(*PAIRS[:40], strict=True))
    english[0] = PAIRS[55][0].upper()  # in a test row, but for its case
    french[1] = PAIRS[52][1]
    french[2] = PAIRS[44][1]  # in a validation row
    english[3] = "  "
    lines(root / "mine/train.en", english)
    lines(root / "mine/train.fr", french)
    rows, out = selected().rows()
    assert [row.texts for row in rows["train"]] == list(zip(english, french, strict=True))[4:]
    assert out == {"in a test or validation row": 3, "empty": 1, "beyond the limit": 0}
    assert len(rows["test"]) == len(rows["validation"]) == 10
    rows, out = selected(test_limit=1, limit=30).rows()  # test rows that are not taken count all the same
    assert out == {"in a test or validation row": 3, "empty": 1, "beyond the limit": 6}
    assert (len(rows["train"]), len(rows["test"])) == (30, 1)


def test_spaces_and_forms_of_characters_do_not_hide_what_stands_in_a_test_row(root: Path) -> None:
    french = [french for _, french in PAIRS[:40]]
    lines(root / "mine/test.json", [json.dumps([{"translation": {"en": "It is open.", "fr": "Le café est ouvert !"}}])])
    seen = [
        unicodedata.normalize("NFD", "Le café est ouvert !"),
        "Le café est ouvert!",
        "Le café est ouvert\N{NARROW NO-BREAK SPACE}!",
        "Le caf\N{LATIN SMALL LETTER E WITH ACUTE} est ouvert\N{FULLWIDTH EXCLAMATION MARK}",
    ]
    lines(root / "mine/train.fr", [*seen, "Le cafe est ouvert !", *french[5:]])
    rows, out = selected().rows()
    assert [row.texts[1] for row in rows["train"]] == ["Le cafe est ouvert !", *french[5:]]
    assert out["in a test or validation row"] == 4


@pytest.mark.parametrize("kind", ["tested", "rows"])
def test_nothing_is_trained_where_nothing_trained_is_tested(kind: str, root: Path) -> None:
    lines(root / "mine/other.json", [json.dumps([{"translation": {"en": "One.", "ru": "Один."}}])])
    manifest(root / "mine", TRAIN, DEV, TEST, {"split": "test", "file": "other.json", "en": "en", "ru": "ru"})
    if kind == "rows":
        manifest(root / "mine", TRAIN, DEV, {"split": "test", "file": "other.json", "en": "en", "ru": "ru"})
    tested = ("ru",) if kind == "tested" else ("fr", "ru")
    with pytest.raises(InvalidInput, match=r"mine: no test rows of a language that is trained on \(fr\); tested are"):
        selected(tested=tested).rows()


def test_the_choice_is_by_key_not_by_order(root: Path) -> None:
    chosen = {row.key for row in selected(limit=12).rows()[0]["train"]}
    assert chosen == set(sorted((f"mine/train/{i}" for i in range(40)), key=files.sha256)[:12])
    assert chosen < {row.key for row in selected(limit=20).rows()[0]["train"]}


def test_without_validation_rows_some_are_held_out(root: Path) -> None:
    lines(root / "mine/train.en", [f"The sentence {i} stands." for i in range(400)])
    lines(root / "mine/train.fr", [f"La phrase {i} reste." for i in range(400)])
    manifest(root / "mine", TRAIN, TEST)
    rows, out = selected().rows()
    assert (len(rows["validation"]), len(rows["train"])) == (250, 150)
    assert out["in a test or validation row"] == 250
    assert not {r.key for r in rows["validation"]} & {r.key for r in rows["train"]}


def test_an_empty_split_is_an_error(root: Path) -> None:
    manifest(root / "mine", TRAIN, DEV)
    with pytest.raises(InvalidInput, match="parallel corpora mine, mine: no rows for 'test'"):
        selected().rows()


def test_rows_are_packed_in_both_directions(root: Path) -> None:
    manifest(root / "mine", TRAIN, DEV, TEST, {**TEST, "from": "fr"})
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",))
    counts = Counter(pair.direction for pair in task.data("test"))
    assert counts == {"en-fr": 10, "fr-en": 20}
    tokens = task._ready().tokens
    seen = set()
    for split in ("train", "validation", "test"):
        data = task.data(split)
        for i, pair in enumerate(data):
            one, two = pair.direction.split("-")
            source, target = tokens.encode([pair.source, pair.target])
            assert pair.source_tokens == (*source, 1, tokens.codes[one])
            assert pair.target_tokens == (tokens.codes[two], *target, 1)
            assert ((pair.source, pair.target) if one == "en" else (pair.target, pair.source)) in PAIRS
            assert data.sources()[i] == len(pair.source_tokens)
            assert data.lengths()[i] == len(pair.source_tokens) + len(pair.target_tokens)
            seen.add(pair.id)
    assert len(seen) == sum(len(task.data(split)) for split in ("train", "validation", "test"))


def test_long_rows_are_not_trained_on_and_lose_their_end_in_tests(root: Path) -> None:
    english = [english for english, _ in PAIRS]
    english[5] = "word " * 200 + "end"
    lines(root / "mine/train.en", english[:40])
    lines(root / "mine/test.json", [json.dumps([{"translation": {"en": english[5], "fr": "long"}}])])
    english[6] = english[5] + " again"
    lines(root / "mine/train.en", [*english[:5], english[6], *english[6:40]])
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",))
    assert task._ready().out["too long"] == 2
    assert len(task.data("train")) == 2 * 38
    (there, back) = task.data("test")
    assert there.source == english[5]
    assert len(there.source_tokens) == len(back.target_tokens) == task.longest
    assert there.source_tokens[-2:] == (1, task._ready().tokens.codes["en"])


def test_the_digest_follows_the_sentences(root: Path) -> None:
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",))
    before = task.digest()
    assert before == dataclasses.replace(task).digest()
    text = (root / "mine/train.en").read_text()
    (root / "mine/train.en").write_text(text.replace("sentence 7 ", "sentence 007 "))
    _pairs.ready.cache_clear()
    assert task.digest() != before


def test_tasks_on_fewer_languages_share_the_vocabulary() -> None:
    one = dataclasses.replace(TINY, languages=("fr",))
    two = dataclasses.replace(TINY, languages=("ru", "fr"))
    assert one._ready().tokens.digest == two._ready().tokens.digest
    assert {pair.direction for pair in one.data("train")} == {"en-fr", "fr-en"}
    assert {pair.direction for pair in two.data("train")} == {"en-fr", "fr-en", "en-ru", "ru-en"}
    assert {pair.direction for pair in one.data("test")} == {"en-fr", "fr-en", "en-ru", "ru-en"}


def test_a_vocabulary_is_learnt_anew_by_other_rules(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers

    def learnt_so_far() -> int:
        _pairs.ready.cache_clear()
        dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",)).data("train")
        return len(list((tmp_path / "cache/translation-vocabulary").iterdir()))

    assert learnt_so_far() == learnt_so_far() == 1
    monkeypatch.setattr(_pairs, "LEARNT", 0)
    assert learnt_so_far() == 2
    monkeypatch.setattr(tokenizers, "__version__", "0.0.0")
    assert learnt_so_far() == 3


def test_bytes_give_back_every_text() -> None:
    texts = ["Hello, world!  Twice", "ગુજરાતી ભાષા", "မြန်မာဘာသာ ။", "中文，没有空格", "Žluťoučký kůň", "5 🙂 \t x"]
    tokens = Tokens.read(learnt(texts[:2], ("en", "gu"), 300, bytewise=True).to_str(), ("en", "gu"))
    rows = tokens.encode(texts)
    assert tokens.decode(rows) == texts
    assert all(token >= 5 for row in rows for token in row)  # no special ones
    assert tokens.codes == {"en": 3, "gu": 4}


# -- scores


def test_scores_by_hand() -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    draw = random.Random(0)
    words = "the a cat dog sat ran on in mat house big small".split()  # noqa: SIM905

    def text() -> str:
        return " ".join(draw.choice(words) for _ in range(12))

    groups = [("x", "en-fr"), ("x", "fr-en"), ("x", "en-zh"), ("y", "en-fr")]
    pairs = [Pair(f"{c}/{d}/test/{i}", text(), text(), (), ()) for c, d in groups for i in range(5)]
    said = {pair.id: " ".join([*pair.target.split()[:6], *text().split()[:6]]) for pair in pairs}
    scores = translation._averaged(pairs, said, ["fr"])

    def by(measure: Any, corpus: str, direction: str, **options: Any) -> float:
        some = [pair for pair in pairs if (pair.corpus, pair.direction) == (corpus, direction)]
        return float(measure([said[p.id] for p in some], [[p.target for p in some]], **options).score)

    bleu = {group: by(corpus_bleu, *group, tokenize="zh" if group[1] == "en-zh" else "13a") for group in groups}
    for (corpus, direction), value in bleu.items():
        assert scores[f"bleu/{corpus}/{direction}"] == value
        assert scores[f"chrf/{corpus}/{direction}"] == by(corpus_chrf, corpus, direction)
    there = (bleu["x", "en-fr"] + bleu["y", "en-fr"]) / 2
    assert scores["bleu/en-fr"] == pytest.approx(there)
    assert scores["bleu"] == pytest.approx((there + bleu["x", "fr-en"] + bleu["x", "en-zh"]) / 3)
    assert scores["bleu/trained"] == pytest.approx((there + bleu["x", "fr-en"]) / 2)
    assert scores["bleu/x"] == pytest.approx((bleu["x", "en-fr"] + bleu["x", "fr-en"] + bleu["x", "en-zh"]) / 3)
    assert len(scores) == 2 * (2 + 3 + 2 + 4)


def test_one_test_set_is_not_named() -> None:
    pairs = [Pair(f"x/{d}/test/{i}", "a", "one two three four", (), ()) for d in ("en-fr", "fr-en") for i in range(2)]
    scores = translation._averaged(pairs, {pair.id: pair.target for pair in pairs}, ["fr"])
    assert scores == dict.fromkeys(
        ["bleu", "bleu/trained", "bleu/en-fr", "bleu/fr-en", "chrf", "chrf/trained", "chrf/en-fr", "chrf/fr-en"], 100.0
    )


def test_burmese_is_scored_by_character_and_gujarati_by_word() -> None:
    burmese = [Pair("x/en-my/test/0", "a", "မြန်မာဘာသာစကား", (), ())]
    gujarati = [Pair("x/en-gu/test/0", "a", "આ એક નાનું વાક્ય છે", (), ())]
    assert translation._bleu(burmese, {"x/en-my/test/0": "မြန်မာဘာသာ"}) > 50
    assert translation._bleu(gujarati, {"x/en-gu/test/0": "આએકનાનુંવાક્યછે"}) == 0
    signature = translation._signatures(TEN)
    assert re.search(r"into my: nrefs:1\|case:mixed\|eff:no\|tok:char", signature)
    assert re.search(r"into zh: nrefs:1\|case:mixed\|eff:no\|tok:zh", signature)
    assert re.search(r"into en, cs, de, fr, gu, ro, ru, vi: nrefs:1\|case:mixed\|eff:no\|tok:13a", signature)


def test_validation_is_greedy_and_test_is_by_beam(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("greedy", "beam_search"):
        real = getattr(translation, name)

        def watched(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            called.append(name)
            return real(*args, **options)

        monkeypatch.setattr(translation, name, watched)
    TINY.evaluate(trained, "validation")
    assert set(called) == {"greedy"}
    called.clear()
    found = TINY.evaluate(trained, "test", batch_size=5)
    assert set(called) == {"beam_search"}
    assert len(called) == -(-len(TINY.data("test")) // 5)
    assert found.scores == translation._averaged(TINY.data("test"), found.predictions, TINY.languages)


@pytest.mark.parametrize(("device", "most"), [("cpu", 1 << 25), ("cuda", 1 << 28)])
def test_a_batch_has_no_more_logits_than_there_is_room_for(device: str, most: int, root: Path) -> None:
    short = [{"translation": {"en": f"{i}", "fr": f"{i}."}} for i in range(150)]
    lines(root / "mine/test.json", [json.dumps(short)])
    lines(root / "mine/dev.tsv", [f"{i}\t{i}!\t{i}?" for i in range(150)])
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",))
    large = dataclasses.replace(task, model=dataclasses.replace(task.model, vocabulary=1 << 20))
    ready = task._ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation.ParallelTranslation, "_ready", lambda self: ready)
        for split, beams in (("test", 5), ("validation", 1)):
            batches = list(large.batches(split, None, device))
            assert sorted(i for batch in batches for i in batch) == list(range(len(ready.splits[split])))
            assert max(map(len, batches)) == most // (beams << 20)
            assert max(map(len, task.batches(split, None, device))) > most // (beams << 20)


def test_facts_say_how_is_searched() -> None:
    said = TINY.facts()["test"]
    assert "beam 5, log-probability over length, at most twice the source's tokens and ten, and 64" in said
    assert "what has not ended there counts as it stands" in said


# -- models


def test_the_full_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = mbart_10to10.architecture()
    assert sum(p.numel() for p in model.parameters()) == 610_851_840
    assert sum(model.get_parameter(name).numel() for name in mbart_10to10.prunable(model)) == 610_450_432
    assert mbart_10to10.scope == "all"
    names = mbart_10to10.prunable(model)
    assert [name for name in names if "shared" in name or "lm_head" in name] == ["model.shared.weight"]  # tied


def test_the_papers_table_by_hand() -> None:
    for task, batch in zip(FULL, (16, 32, 16), strict=True):
        recipe = task.recipe
        assert (recipe.steps, recipe.at(recipe.warmup), recipe.batch_size) == (40000, 2500, batch)
        assert (recipe.lr, recipe.weight_decay, recipe.betas, recipe.eps) == (3e-5, 0.0, (0.9, 0.98), 1e-6)
        assert (task.model.dropout, task.model.attention_dropout, recipe.clip) == (0.3, 0.1, None)
        assert task.smoothing == 0.2
        assert task.tested == TEN
        assert task.tests == ("flores200",)
    assert [1 + len(task.languages) for task in FULL] == [1 + len(task.languages) for task in SMALL] == [2, 5, 10]
    assert set(FULL[0].languages) < set(FULL[1].languages) < set(FULL[2].languages)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MBART:
    """A made-up checkpoint with mBART's special tokens, in a local folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import MBartConfig, MBartForConditionalGeneration

    monkeypatch.setenv("SMCBENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = sources.Checkpoint("some/mbart", "main", "MIT", weights=("model.safetensors", "pytorch_model.bin"))
    monkeypatch.setitem(_mbart.CHECKPOINTS, "some/mbart", known)
    folder = tmp_path / "models/some/mbart"
    torch.manual_seed(0)
    config = MBartConfig(vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                         decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
                         max_position_embeddings=64)  # fmt: skip
    MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", *_mbart._CODES.values()]
    texts = [text for pair in PAIRS for text in pair]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    tokenizer.save(str(folder / "tokenizer.json"))
    return MBART(300, 16, 1, 2, 32, 64, checkpoint="some/mbart")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_checkpoint_gives_weights_and_tokens(checkpoint: MBART, kind: str, root: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "models/some/mbart"
    stored = load_file(folder / "model.safetensors")
    if kind == "bin":
        torch.save(stored, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    model = checkpoint.build()
    for name, tensor in stored.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.lm_head.weight is model.model.shared.weight
    assert model.training

    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",), model=checkpoint)
    tokens = task._ready().tokens
    pair = task.data("test")[0]
    assert pair.source_tokens[-2:] == (2, tokens.tokenizer.token_to_id("en_XX"))
    assert pair.target_tokens[0] == tokens.tokenizer.token_to_id("fr_XX")
    assert task.pretrained
    assert task.texts([pair.target_tokens]) == [pair.target]
    batch = task.collate([pair, task.data("test")[7]])
    loss, count = task.loss(task.forward(model.eval(), batch), batch)
    labels = torch.where(batch["labels"] == 1, -100, batch["labels"])
    theirs = model(input_ids=batch["source"], attention_mask=(batch["source"] != 1).long(),
                   decoder_input_ids=batch["decoder"]).logits  # fmt: skip
    assert count == int((labels != -100).sum())
    plain = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), labels.flatten(), reduction="sum")
    spread = torch.nn.functional.log_softmax(theirs, -1).mean(-1)[labels != -100].sum()
    assert loss.item() == pytest.approx((0.8 * plain - 0.2 * spread).item(), rel=1e-5)
    before = task.digest()
    assert before != task.variant("scratch").digest()


def test_a_tokenizer_without_the_languages_is_refused(checkpoint: MBART, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "models/some/mbart/tokenizer.json"
    path.write_text(path.read_text().replace("gu_IN", "xx_XX"))
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",), model=checkpoint)
    with pytest.raises(InvalidInput, match=r"tokenizer\.json: no tokenizer of this model: it has no token gu_IN"):
        task.data("train")


def test_a_checkpoint_that_does_not_fill_the_model_is_refused(checkpoint: MBART) -> None:
    with pytest.raises(InvalidInput, match=r"does not fill the model: model\.decoder\.layers\.1"):
        dataclasses.replace(checkpoint, layers=2).build()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", r"some/mbart: cannot be read as some/mbart \(SafetensorError"),
        ("pytorch_model.bin", r"some/mbart: cannot be read as some/mbart \("),
        ("tokenizer.json", r"tokenizer\.json: cannot be read as a tokenizer \(.*\); fetch it again"),
    ],
)
def test_torn_files_of_a_checkpoint_are_one_line(file: str, message: str, checkpoint: MBART, tmp_path: Path) -> None:
    folder = tmp_path / "models/some/mbart"
    if file == "pytorch_model.bin":
        torch.save(checkpoint.build().state_dict(), folder / file)
        (folder / "model.safetensors").unlink()
    (folder / file).write_bytes((folder / file).read_bytes()[:1000])
    with pytest.raises(InvalidInput, match=message) as caught:
        _ = Tokens.of(_mbart.CHECKPOINTS["some/mbart"]) if file == "tokenizer.json" else checkpoint.build()
    assert "\n" not in str(caught.value)


def test_a_random_start_needs_no_more_than_the_tokenizer(checkpoint: MBART, root: Path, tmp_path: Path) -> None:
    task = dataclasses.replace(TINY, corpora=("mine",), tests=("mine",), tested=("fr",), model=checkpoint)
    scratch = task.variant("scratch")
    (tmp_path / "models/some/mbart/model.safetensors").unlink()
    assert scratch.prepare() == {"train": 80, "validation": 20, "test": 20}
    assert [verdict.file for need in scratch.requirements() for verdict in need.verify()][-1] == "tokenizer.json"
    with pytest.raises(InvalidInput, match=r"has no pytorch_model\.bin; fetch the whole of some/mbart"):
        task.prepare()
    (tmp_path / "models/some/mbart/tokenizer.json").unlink()
    with pytest.raises(InvalidInput, match=r"has no tokenizer\.json"):
        scratch.requirements()[-1].fetch()
    (tmp_path / "models/some/mbart/config.json").unlink()
    with pytest.raises(InvalidInput, match=r"put its files \(config\.json, tokenizer\.json from"):
        scratch.requirements()[-1].fetch()
    with pytest.raises(InvalidInput, match=r"put its files \(config\.json, model\.safetensors, tokenizer\.json from"):
        task.requirements()[-1].fetch()


# -- phrases


def test_what_is_in_cldr_2to2_has_not_changed() -> None:
    """Its results stand; the phrases may differ with the version of Babel, the rest may not."""
    fields = dict(cldr_2to2.identity())
    del fields["corpus"]
    assert files.digest(fields) == FIELDS
    assert len(cldr_2to2.data("train")) == 16000
    assert all(_cldr.translated(key, language) for key in _cldr.keys(4100) for language in ("fr", "ru"))


FIELDS = "bf275e9194f35738d419d86d3fddd1320cbcd192ddc6b9b6c287cb49b0fd7864"


@pytest.mark.parametrize("task", [cldr_5to5, cldr_10to10], ids=lambda task: task.name)
def test_phrases_are_translated_into_every_language_and_fit(task: Any) -> None:
    directions = {direction for other in task.languages for direction in (f"en-{other}", f"{other}-en")}
    decode = task._corpus().tokenizer.decode
    for split in ("train", "validation", "test"):
        pairs = task.data(split)
        assert {pair.direction for pair in pairs} == directions
        for pair in pairs:
            assert not re.search(r"\b(digital|duration|energy|length|mass|temperature|volume)-", pair.target), pair
            assert max(len(pair.source_tokens), len(pair.target_tokens)) <= task.positions
            assert decode(list(pair.target_tokens[1:-1])) == pair.target
    assert min(Counter(pair.direction for pair in task.data("test")).values()) > 40
    scripts = {"ru": "[а-я]", "zh": "[一-鿿]", "gu": "[઀-૿]", "my": "[က-႟]"}
    for pair in task.data("train"):
        target = pair.direction.split("-")[1]
        for language, letters in scripts.items():
            assert bool(re.search(letters, pair.target)) == (language == target), pair


def test_what_has_no_translation_is_told() -> None:
    assert not _cldr.translated("quantity/5 mass-gram+11 volume-liter/and", "my")
    assert not _cldr.translated("quantity/11 digital-byte/and", "gu")
    assert not _cldr.translated("list/DE+AR/and", "ro")  # Argentina
    assert _cldr.translated("list/DE+AR/and", "de")
    assert _cldr.translated("date/2031-04-05/full", "my")


# -- the real data

ROWS = {
    ("tatoeba", "de"): (30000, 0, 0), ("tatoeba", "zh"): (24818, 0, 0), ("tatoeba-test", "cs"): (0, 0, 1000),
    ("multi30k", "cs"): (29000, 1014, 1000), ("wmt", "ru"): (10994, 1002, 2016 + 2037), ("wmt", "de"): (0, 1002, 4021),
    ("mlqe-pe", "ro"): (7000, 1000, 1000), ("mypar", "my"): (14682 + 8394, 1838, 1838), ("bible", "gu"): (7507, 0, 300),
    ("flores200", "my"): (0, 0, 1012),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize(("name", "language"), ROWS)
def test_real_corpora_have_the_published_rows(name: str, language: str) -> None:
    (corpus,) = corpora(name, [language])
    found = tuple(len(list(corpus.rows(split, language))) for split in ("train", "validation", "test"))
    assert found == ROWS[name, language]
    assert isinstance(corpus, Files)
    assert all(verdict.known for verdict in corpus.dataset.verify())


@needs_data
def test_real_training_rows_stand_in_no_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of Romanian, whose Tatoeba shares 676 sentences with its test set."""
    task = dataclasses.replace(SMALL[2], languages=("ro",), corpora=("tatoeba", "mlqe-pe"), tested=("ro",))
    rows, out = task.selection.rows()
    test = {text.casefold() for name in task.tests for corpus in corpora(name, ["ro"])
            for row in corpus.rows("test", "ro") for text in row.texts}  # fmt: skip
    assert not {text.casefold() for row in rows["train"] for text in row.texts} & test
    assert out["in a test or validation row"] >= 676
    assert Counter(row.key.split("/")[0] for row in rows["test"]) == {"flores200": 100, "tatoeba-test": 100,
                                                                      "mlqe-pe": 100}  # fmt: skip


def test_every_bitext_is_in_its_files() -> None:
    for name, entry in _parallel.entries().items():
        if "parallel" in entry:
            known = {file for f in entry["files"] for file in f["names"]}
            bitexts = [Bitext.of(each, name) for each in entry["parallel"]]
            assert {file for bitext in bitexts for file in bitext.files()} == known, name
