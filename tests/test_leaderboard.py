"""The leaderboard: a function of submissions and their history, byte for byte, with a schema of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from folders import put, references
from records import BATTERY, DIGESTS, dense, full_store, record

from smcbench import files
from smcbench.errors import InvalidInput
from smcbench.results import leaderboard, table
from smcbench.results.battery import Battery
from smcbench.results.history import History
from smcbench.results.leaderboard import Board, build
from smcbench.results.store import Store
from smcbench.results.submission import MANIFEST, RECORDS, BatteryRef, from_records

BOARD = Path(__file__).parents[1] / "leaderboard"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return full_store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three submissions; tests that change them copy the folder first."""
    board = tmp_path_factory.mktemp("board")
    put(board, "dense", [r for task in DIGESTS for r in references((0, 1, 2), task)])
    for name, scores in (("omp", (95.0, 80.0)), ("rigl", (85.0, 95.0))):
        runs = [
            record(name, sparsity, seed, score, task=task)
            for task in DIGESTS
            for sparsity, score in zip((0.5, 0.9), scores, strict=True)
            for seed in range(3)
        ]
        put(board, name, runs)
    return board / "submissions"


@pytest.fixture
def submissions(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "submissions"))


def test_the_board_by_hand(store: Store) -> None:
    board = build(from_records(store.find(), BATTERY, DIGESTS))
    row = next(r for r in board.entries if (r.sparsifier, r.task.name, r.sparsity) == ("omp", "digits", 0.5))
    assert row.dense is not None
    assert (row.dense.mean, row.dense.std, row.dense.n) == (98.0, 1.0, 3)
    assert (row.n, row.mean, row.std, row.scores) == (3, 98.0, 1.0, {"0": 97.0, "1": 98.0, "2": 99.0})
    assert (row.difference, row.margin, row.matching, row.normalised) == (0.0, 1.0, True, 1.0)
    assert (row.cost.train, row.cost.inference, row.cost.steps) == (2.0, 0.5, 200.0)
    assert (str(row.category), row.submission, row.track) == ("after, dense-to-sparse, static", "omp", "2.5x")
    assert len(row.runs) == 3
    lost = next(r for r in board.entries if (r.sparsifier, r.task.name, r.sparsity) == ("omp", "digits", 0.9))
    assert (lost.difference, lost.matching) == (-8.0, False)
    assert lost.normalised == pytest.approx(80 / 88)
    points = {(p.sparsifier, p.task): (p.sparsity, p.monotone) for p in board.break_points}
    assert points["omp", "digits"] == (0.5, True)
    assert points["rigl", "digits"] == (0.9, False)  # 96 at 0.5 is two below dense, 97.5 at 0.9 only a half
    assert "dense" not in {p.sparsifier for p in board.break_points}


def test_the_board_is_rebuilt_byte_for_byte(submissions: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    leaderboard.write_board(first, build(submissions))
    leaderboard.write_board(second, build(submissions))
    assert first.read_bytes() == second.read_bytes()
    moved = tmp_path / "elsewhere"
    for name in ("rigl", "omp", "dense"):
        shutil.copytree(submissions / name, moved / name)
    assert build(moved).text() == first.read_text()
    assert leaderboard.read_board(first) == build(submissions)
    assert b"2026" not in first.read_bytes()


def test_folders_and_records_give_the_same_rows(submissions: Path) -> None:
    read = build(submissions)
    records = [r for each in leaderboard.read_submissions(submissions) for r in each.records]
    own = build(from_records(records, BATTERY, DIGESTS))
    assert [replace(r, low=None, high=None) for r in read.entries] == list(own.entries)
    assert {r.low is None for r in read.entries} == {False}


def test_without_dense_there_is_no_difference(submissions: Path) -> None:
    shutil.rmtree(submissions / "dense")
    board = build(submissions)
    assert {r.matching for r in board.entries} == {None}
    assert board.break_points == ()
    assert {s.tier for s in board.standings} == {None}
    assert "no dense reference" in table.render(board)


def test_a_second_dense_submission_adds_the_seeds_that_lack(store: Store) -> None:
    records = [r for r in store.find() if not r.is_dense]
    one = from_records([*dense([98.0]), *records], BATTERY, DIGESTS)
    [more] = from_records(dense([90.0, 96.0], version=2), BATTERY, DIGESTS)
    board = build([*one, replace(more, manifest=replace(more.manifest, name="dense-2"))])
    row = next(r for r in board.entries if (r.sparsifier, r.task.name, r.sparsity) == ("omp", "digits", 0.5))
    assert row.dense is not None
    assert (row.dense.mean, row.dense.n) == (97.0, 2)  # 98 of seed 0 as it stood first, 96 of seed 1


def test_the_schema_is_the_one_of_the_code_and_fits(submissions: Path) -> None:
    schema = json.loads((BOARD / "schema.json").read_text())
    assert schema == leaderboard.schema(), "write leaderboard.schema() to leaderboard/schema.json"
    jsonschema.Draft202012Validator.check_schema(schema)

    def check(name: str, value: Any) -> None:
        jsonschema.validate(value, {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})

    jsonschema.validate(build(submissions).to_json(), schema)
    check("Manifest", files.read_json(submissions / "omp" / MANIFEST))
    for line in (submissions / "omp" / RECORDS).read_text().splitlines():
        check("RunRecord", json.loads(line))
    with pytest.raises(jsonschema.ValidationError):
        check("Manifest", {"schema": 1})


def test_a_committed_board_is_a_function_of_its_submissions() -> None:
    path = BOARD / "leaderboard.json"
    if not path.exists():
        pytest.skip("no board is committed yet")
    assert build(BOARD / "submissions", History.read(BOARD).past()).text() == path.read_text()


def test_merit_is_over_the_tasks_that_all_run(store: Store) -> None:
    first, second = BATTERY.tasks
    battery = replace(BATTERY, tasks=(first, replace(second, sparsifiers=("omp",))))
    board = build(from_records(store.find(), battery, DIGESTS))
    assert [(e.sparsifier, e.cells, e.missing) for e in board.submissions] == [
        ("dense", 6, 0),
        ("omp", 12, 0),
        ("rigl", 6, 0),
    ]
    assert {s.submission: (s.tier, s.over) for s in board.standings} == {
        "dense": (None, 2),
        "omp": (1, 2),
        "rigl": (1, 2),
    }


def test_an_empty_board_is_a_board(tmp_path: Path) -> None:
    board = build(tmp_path)
    assert board == Board(2, 0, None, (), (), (), (), (), (), ())
    assert "no results yet" in table.render(board)
    with pytest.raises(InvalidInput, match="no such folder"):
        build(tmp_path / "none")


def test_the_standard_battery_holds_dense_alone() -> None:
    mini = Battery.load("mini")
    ref = BatteryRef.of(mini, {entry.task: "d1" * 32 for entry in mini.tasks})
    assert {c.sparsity for c in ref.cells("dense")} == {0.0}
    assert len(ref.cells("dense")) == 18
    assert len(ref.cells("rigl(interval=3)")) == 72
