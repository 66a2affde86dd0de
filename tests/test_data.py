"""Sources and the ``data`` verb: what is needed, where it is, what is said of it, and what was prepared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import a_small_world, tsv
from tokenizers import Tokenizer, models, pre_tokenizers

from smcbench import plugins, sources
from smcbench.cli.app import main
from smcbench.errors import InvalidInput
from smcbench.sources import Checkpoint, Contents, Dataset, File
from smcbench_tasks import _text, glue
from smcbench_tasks._text import Encoder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data, no models, no hub."""
    for name in (sources.DATA, sources.MODELS):  # the options set them, hence set and not deleted here
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(sources.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def ready(offline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up data sets, and a small encoder with its tokenizer in the place of MiniLM."""
    from transformers import BertConfig, BertModel

    a_small_world(offline / "data")
    name = "some/bert"
    folder = offline / "models" / name
    BertModel(BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32, max_position_embeddings=64)).save_pretrained(folder)  # fmt: skip
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "one", "two", "sentence"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    monkeypatch.setitem(_text.CHECKPOINTS, name, Checkpoint(name, "0" * 40, "MIT"))
    encoder = Encoder("bert", 64, 16, 1, 2, 32, 64, checkpoint=name)
    monkeypatch.setattr(glue, "rte_small", dataclasses.replace(glue.rte_small, encoder=encoder))
    return offline


def options(folder: Path) -> list[str]:
    return ["--data", str(folder / "data"), "--models", str(folder / "models")]


def test_list_says_what_is_missing_and_from_where(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "rte-small", "csqa", "--json"]) == 0
    found = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert set(found) == {"glue/RTE", "sentence-transformers/all-MiniLM-L6-v2", "commonsense/commonsense_qa",
                          "FacebookAI/roberta-large"}  # fmt: skip
    assert {item["state"] for item in found.values()} == {"missing"}
    assert found["glue/RTE"]["kind"] == "data"
    assert found["commonsense/commonsense_qa"]["licence"] == "MIT"
    assert all(item["from"].startswith("http") for item in found.values())


def test_list_of_what_needs_nothing(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--battery", "mini"]) == 0
    assert "bring all they need" in capsys.readouterr().out


def test_prepare_caches_and_then_starts_from_the_cache(
    ready: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "prepare", "rte-small", *options(ready)]) == 0
    assert "rte-small: 36 train, 4 validation, 12 test" in capsys.readouterr().err
    assert list((ready / "cache" / "rte").iterdir())
    _text._ready.cache_clear()
    monkeypatch.setattr(_text, "pack", lambda *_: pytest.fail("tokenised again"))
    assert main(["data", "prepare", "rte-small", *options(ready)]) == 0


def test_prepare_goes_on_after_a_failure_and_says_how_to_mend_it(
    ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ready / "data/glue/WNLI/dev.tsv").unlink()
    assert main(["data", "prepare", "wnli-small", "rte-small", *options(ready)]) == 3
    told = capsys.readouterr().err
    assert "! wnli-small: data set glue/WNLI is missing; put train.tsv, dev.tsv" in told
    assert "rte-small: 36 train" in told
    assert "1 of 2 tasks are ready" in told


def test_verify_names_what_it_does_not_know(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "rte-small", *options(ready), "--json"]) == 1
    found = {item["file"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["train.tsv"]["text"].startswith("40 of 2,490 rows; unknown SHA-256")
    assert not found["train.tsv"]["known"]
    assert found["model.safetensors"]["text"].startswith("unknown SHA-256")


def test_verify_knows_what_it_has_seen(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"a\tb\n1\t2\n"
    file = File(("x.tsv",), 1, ((hashlib.sha256(raw).hexdigest(), "as published"),), header=1)
    missing = File(("y.tsv",), 7, optional=True)
    dataset = Dataset("some/set", "MIT", "http://nowhere", (file, missing))
    monkeypatch.setenv(sources.DATA, str(offline))
    assert dataset.state() == "missing"
    assert dataset.verify() == []
    (offline / "some/set").mkdir(parents=True)
    (offline / "some/set/x.tsv").write_bytes(raw)
    assert dataset.state() == "local"
    assert [tuple(v) for v in dataset.verify()] == [
        ("x.tsv", True, "1 of 1 rows; as published"),
        ("y.tsv", True, "not here; optional, 7 rows as published"),
    ]


def test_verify_of_nothing(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "rte-small"]) == 5
    assert "none of it lies in a local folder" in capsys.readouterr().err


def test_a_folder_that_is_not_there(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--data", str(offline / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_info_says_what_is_missing_and_what_is_known(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "csqa@encoder", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 355_360_769
    assert found["prunable"] == 301_989_888
    assert found["scope"] == "encoder"
    assert found["digest"] == found["examples"]
    assert found["digest"].startswith("unknown without data commonsense/commonsense_qa and model FacebookAI")


def test_info_of_a_task_whose_data_are_here(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "rte-small", *options(ready), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == {"train": 36, "validation": 4, "test": 12}
    assert found["majority"] == {"accuracy": "50.0"}
    assert "carved by a fixed rule" in found["data"]
    assert len(found["digest"]) == 64


def test_run_without_data_is_one_line(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", "--task", "rte-small", "--sparsifier", "omp-after", "--sparsity", "0.5",
                 "--out", str(offline / "runs")])  # fmt: skip
    assert code == 3
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "glue/RTE is missing" in told[0]
    assert "SMCBENCH_DATA" in told[0]


def test_every_task_is_constructed_without_data(offline: Path) -> None:
    for name in plugins.installed("tasks"):
        task = plugins.load_task(name)
        assert task.name == name
        assert 0 <= task.metric.chance <= 50
        for variant in task.variants:
            assert plugins.load_task(f"{name}@{variant}").name == f"{name}@{variant}"


# -- what was prepared


def test_prepared_builds_once_and_maps(offline: Path) -> None:
    built = []

    def build() -> dict[str, Any]:
        built.append(1)
        return {"a": np.arange(5), "name": np.asarray("text")}

    for _ in range(2):
        found = sources.prepared("kind", {"x": 1}, build)
        assert found["a"].tolist() == [0, 1, 2, 3, 4]
        assert str(found["name"]) == "text"
    assert len(built) == 1
    sources.prepared("kind", {"x": 2}, build)
    assert len(built) == 2


def test_a_build_that_fails_leaves_nothing(offline: Path) -> None:
    with pytest.raises(InvalidInput, match="no good"):
        sources.prepared("kind", {}, lambda: (_ for _ in ()).throw(InvalidInput("no good")))
    assert not any(path.is_file() for path in (offline / "cache").rglob("*"))


def test_a_full_disk_leaves_nothing(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = np.save, []

    def full(path: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(path, *args, **kwargs)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InvalidInput, match=r"No space left on device.*SMCBENCH_CACHE"):
        sources.prepared("kind", {}, lambda: {"a": np.arange(3), "b": np.arange(3)})
    assert not any(path.is_file() for path in (offline / "cache").rglob("*"))


def test_two_that_prepare_at_once_end_with_the_same(offline: Path) -> None:
    def meanwhile() -> dict[str, Any]:
        if not os.listdir(offline):
            sources.prepared("kind", {}, lambda: {"a": np.arange(3)})
        return {"a": np.arange(3)}

    assert sources.prepared("kind", {}, meanwhile)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["pickle", "torn"])
def test_a_cache_that_is_none_is_one_line_and_no_pickle_is_read(kind: str, offline: Path) -> None:
    sources.prepared("kind", {}, lambda: {"a": np.arange(3)})
    path = next((offline / "cache/kind").rglob("a.npy"))
    if kind == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InvalidInput, match=r"cannot be read .*; delete it, and it is made again"):
        sources.prepared("kind", {}, lambda: {"a": np.arange(3)})


def test_lines_name_their_place() -> None:
    contents = Contents("f.tsv", "\ufeffone\r\ntwo\n".encode())
    assert list(contents.lines()) == [("f.tsv:1", "one"), ("f.tsv:2", "two")]
    with pytest.raises(InvalidInput, match=r"f\.tsv:2: not UTF-8"):
        list(Contents("f.tsv", b"one\n\xff\n").lines())


def test_rows_are_counted_as_files_have_them() -> None:
    assert File(("a.tsv",), 0, header=1).count(b"h\n1\n2") == 2
    assert File(("a.jsonl",), 0).count(b"{}\n{}\n") == 2
    assert File(("x-images-idx3-ubyte",), 0).count(bytes([0, 0, 8, 3, 0, 0, 1, 4])) == 260
    assert File(("RACE.tar",), 0).count(b"") is None


def test_an_unreadable_file_is_one_line(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.DATA, str(offline))
    tsv(offline / "some/set/x.tsv", None, [["a"]])
    dataset = Dataset("some/set", "MIT", "http://nowhere", (File(("x.tsv",), 1),))
    (offline / "some/set/x.tsv").rename(offline / "some/set/x.tsv.xz")
    with pytest.raises(InvalidInput, match=r"x\.tsv\.xz: a torn archive"):
        dataset.read("x.tsv")
