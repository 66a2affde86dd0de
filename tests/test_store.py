"""The store: folders, completeness, failures, predictions."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import zstandard
from records import ENGINE, answers, put, record

from smcbench import files
from smcbench.errors import InvalidInput, SmcbenchError
from smcbench.results import predictions
from smcbench.results.store import RECORD, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_folders_can_be_read_by_people(store: Store) -> None:
    one = record("rigl", 0.9450244186112, 2)
    assert store.folder(one.spec, ENGINE) == store.root / "digits" / f"rigl-0.945-s2-{one.run}"
    short = record("./my own.py:Mine", 0.5, budget=0.2)
    assert store.folder(short.spec, ENGINE).name == f"my-own.py-Mine-0.5-x0.2-s0-{short.run}"


def test_a_run_is_there_once_it_is_complete(store: Store) -> None:
    one = record()
    assert store.record(one.spec, ENGINE) is None
    store.write_predictions(one.spec, ENGINE, answers(0))
    assert store.record(one.spec, ENGINE) is None
    store.write(one)
    assert store.record(one.spec, ENGINE) == one
    assert list(store.find()) == [one]
    assert store.problems == []
    assert sorted(os.listdir(store.folder(one.spec, ENGINE))) == ["predictions.jsonl.zst", RECORD]


def test_an_unreadable_record_is_named_and_stops_nobody(store: Store) -> None:
    good, torn, foreign, moved = (record(seed=seed) for seed in range(4))
    put(store, good, torn, foreign, moved)
    path = store.folder(torn.spec, ENGINE) / RECORD
    path.write_text(path.read_text()[:100])
    (store.folder(foreign.spec, ENGINE) / RECORD).write_text('{"what": "is this"}')
    home = store.folder(moved.spec, ENGINE)
    shutil.copytree(home, home.with_name("copy-000000000000"))
    assert {r.run for r in store.find()} == {good.run, moved.run}
    assert len(store.problems) == 3
    assert any(str(path) in problem for problem in store.problems)
    with pytest.raises(InvalidInput, match="not valid JSON"):
        store.record(torn.spec, ENGINE)


def test_failures_are_classified_and_forgotten(store: Store) -> None:
    one = record()
    store.fail(one.spec, ENGINE, "missed-sparsity", "fc.weight: 3 weights too many")
    failure = store.failure(one.spec, ENGINE)
    assert failure is not None
    assert (failure.kind, failure.run, failure.spec) == ("missed-sparsity", one.run, one.spec)
    assert [f.run for f in store.failures()] == [one.run]
    store.write(one)
    assert store.failure(one.spec, ENGINE) is None
    store.clear_failure(one.spec, ENGINE)


def test_a_record_with_nan_is_not_written(store: Store) -> None:
    from dataclasses import replace

    one = replace(record(), scores={"accuracy": float("nan")})
    with pytest.raises(InvalidInput, match="scores: accuracy"):
        store.write(one)
    assert list(store.find()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(store: Store) -> None:
    store.root.mkdir()
    store.root.chmod(0o500)
    with pytest.raises(SmcbenchError, match="cannot be written"):
        store.write(record())


def test_a_file_in_the_way_is_one_line(store: Store) -> None:
    store.root.write_text("not a folder")
    with pytest.raises(SmcbenchError, match="cannot be written"):
        store.write(record())
    assert list(store.find()) == []


def test_predictions_are_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    by_id = {"b": "été", "a": 1, "c": [0.5, None]}
    one, two = tmp_path / "1.zst", tmp_path / "2.zst"
    digest = predictions.write(one, by_id)
    assert predictions.write(two, dict(sorted(by_id.items()))) == digest
    assert one.read_bytes() == two.read_bytes()
    raw = '{"id":"a","prediction":1}\n{"id":"b","prediction":"été"}\n{"id":"c","prediction":[0.5,null]}\n'
    assert zstandard.decompress(one.read_bytes(), max_output_size=1000).decode() == raw
    assert digest == files.sha256(raw)
    assert predictions.read(one) == by_id


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"id":"a","prediction":1}\n{"id":"a","prediction":2}\n', "1.zst:2: example 'a' stands twice"),
        (b'{"id":"a"}\n', "1.zst:1: must be an object with the keys"),
        (b'{"id":3,"prediction":1}\n', "must be texts"),
        (b'{"id":"a","prediction":NaN}\n', "NaN is not a JSON number"),
        (b"\xff\n", "not zstandard-compressed UTF-8"),
    ],
)
def test_bad_predictions_are_refused_by_line(tmp_path: Path, raw: bytes, told: str) -> None:
    path = tmp_path / "1.zst"
    path.write_bytes(zstandard.compress(raw))
    with pytest.raises(InvalidInput, match=told):
        predictions.read(path)


def test_what_is_no_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.zst"
    with pytest.raises(InvalidInput, match="no such file"):
        predictions.read(path)
    path.write_bytes(b"hello")
    with pytest.raises(InvalidInput, match="not zstandard"):
        predictions.read(path)
    monkeypatch.setattr(predictions, "LIMIT", 1000)
    path.write_bytes(zstandard.compress(b" " * 100_000))
    with pytest.raises(InvalidInput, match="unfolds to more than 1000 bytes"):
        predictions.read(path)
    with pytest.raises(InvalidInput, match="must be plain JSON"):
        predictions.write(path, {"a": float("nan")})
