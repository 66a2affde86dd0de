"""The leaderboard: packing, checking, building byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from records import BATTERY, DIGESTS, ENGINE, full_store, put, record

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import leaderboard, predictions, table
from smcbench.results.battery import Battery
from smcbench.results.leaderboard import Board, build
from smcbench.results.store import Store
from smcbench.results.submission import MANIFEST, RECORDS, BatteryRef, from_records, pack, read_submission

SCHEMA = Path(__file__).parents[1] / "leaderboard" / "schema.json"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return full_store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def packed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three submissions; tests that change them copy the folder first."""
    out = tmp_path_factory.mktemp("board") / "submissions"
    for name in ("dense", "omp", "rigl"):
        pack(store, BATTERY, name, name, out, DIGESTS)
    return out


@pytest.fixture
def submissions(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "submissions"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_submission_reads_as_it_was_packed(submissions: Path) -> None:
    assert sorted(contents(submissions / "omp")) == [
        MANIFEST,
        "predictions/cldr-2to2.jsonl.zst",
        "predictions/digits.jsonl.zst",
        RECORDS,
    ]
    submission = read_submission(submissions / "omp")
    assert submission.manifest.sparsifier == "omp"
    assert submission.manifest.missing == ()
    assert len(submission.records) == 2 * 2 * 3
    assert sorted(p.name for p in submissions.iterdir()) == ["dense", "omp", "rigl"]


def test_packing_again_gives_the_same_bytes(store: Store, submissions: Path) -> None:
    before = contents(submissions)
    pack(store, BATTERY, "omp", "omp", submissions, DIGESTS)
    assert contents(submissions) == before


def test_what_is_missing_is_said_before_anything_is_written(tmp_path: Path) -> None:
    store, out = Store(tmp_path / "runs"), tmp_path / "submissions"
    put(store, record("omp", 0.5, 0), record("omp", 0.5, 1), record("omp", 0.9, 0, task="cldr-2to2"))
    with pytest.raises(InvalidInput, match=r"on pair: 9 of 12 cells are missing [(]digits at 0.9 seed 0, cldr-2to2 at"):
        pack(store, BATTERY, "omp", "omp", out, DIGESTS)
    assert not out.exists()
    pack(store, BATTERY, "omp", "omp", out, DIGESTS, allow_incomplete=True)
    assert len(read_submission(out / "omp").manifest.missing) == 9
    assert [(e.cells, e.missing) for e in build(out).submissions] == [(12, 9)]


def test_who_is_packed_must_be_known_and_clear(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records of 'rigle'; there are some of rigl"):
        pack(store, BATTERY, "rigle", "x", tmp_path, DIGESTS)
    two = Store(tmp_path / "two")
    put(two, record("rigl", label="rigl(a=1)", parameters={"a": 1}))
    put(two, record("rigl", label="rigl(a=2)", parameters={"a": 2}))
    with pytest.raises(UsageError, match=r"'rigl' may mean rigl\(a=1\) or rigl\(a=2\); say which"):
        pack(two, BATTERY, "rigl", "x", tmp_path, DIGESTS)


@pytest.mark.parametrize("name", ["../evil", "Omp", "", ".hidden", "a b", "a/b", "ömp"])
def test_a_name_is_a_plain_one(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: must be a text like"):
        pack(store, BATTERY, "omp", name, tmp_path / "out", DIGESTS)
    assert not (tmp_path / "out").exists()


def test_only_the_newest_version_is_packed_and_never_a_mixture(tmp_path: Path) -> None:
    store = Store(tmp_path)
    battery = BATTERY.narrowed(tasks=["digits"], sparsities=[0.5], seeds=[0, 1])
    digests = {"digits": DIGESTS["digits"]}
    put(store, record(seed=0), record(seed=1), record(seed=0, version=2, score=95.0))
    with pytest.raises(InvalidInput, match=r"come from different versions or parameters .engine 1, version 1 and"):
        pack(store, battery, "omp", "omp", tmp_path / "out", digests)
    put(store, record(seed=1, version=2, score=96.0))
    folder = pack(store, battery, "omp", "omp", tmp_path / "out", digests)
    assert [r.score for r in read_submission(folder).records] == [95.0, 96.0]


def test_predictions_must_be_those_of_the_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = record()
    put(store, one)
    store.write_predictions(one.spec, ENGINE, {"e0": 3})
    battery = BATTERY.narrowed(tasks=["digits"], sparsities=[0.5], seeds=[0])
    with pytest.raises(InvalidInput, match=r"predictions.jsonl.zst: not the predictions of its record"):
        pack(store, battery, "omp", "omp", tmp_path / "out", DIGESTS)


def test_the_board_by_hand(submissions: Path) -> None:
    board = build(submissions)
    row = next(r for r in board.entries if (r.sparsifier, r.task.name, r.sparsity) == ("omp", "digits", 0.5))
    assert row.dense is not None
    assert (row.dense.mean, row.dense.std, row.dense.n) == (98.0, 1.0, 3)
    assert (row.n, row.mean, row.std, row.scores) == (3, 98.0, 1.0, {"0": 97.0, "1": 98.0, "2": 99.0})
    assert (row.difference, row.margin, row.matching, row.normalised) == (0.0, 1.0, True, 1.0)
    assert (row.cost.train, row.cost.inference, row.cost.steps) == (2.0, 0.5, 200.0)
    assert (str(row.category), row.submission) == ("after, dense-to-sparse, static", "omp")
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


def test_a_board_of_ones_own_runs_has_the_same_rows(store: Store, submissions: Path) -> None:
    own = build(from_records(store.find(), BATTERY, DIGESTS))
    assert own.to_json()["entries"] == build(submissions).to_json()["entries"]


def test_without_dense_there_is_no_difference(submissions: Path) -> None:
    shutil.rmtree(submissions / "dense")
    board = build(submissions)
    assert {r.matching for r in board.entries} == {None}
    assert board.break_points == ()
    assert "no dense reference" in table.render(board)


def test_the_schema_is_the_one_of_the_code_and_fits(submissions: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == leaderboard.schema(), "write leaderboard.schema() to leaderboard/schema.json"
    jsonschema.Draft202012Validator.check_schema(schema)

    def check(name: str, value: Any) -> None:
        jsonschema.validate(value, {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})

    jsonschema.validate(build(submissions).to_json(), schema)
    check("Manifest", files.read_json(submissions / "omp" / MANIFEST))
    for line in (submissions / "omp" / RECORDS).read_text().splitlines():
        check("RunRecord", json.loads(line))
    with pytest.raises(jsonschema.ValidationError):
        check("RunRecord", {**record().to_json(), "note": 1})


def test_a_committed_board_is_a_function_of_its_submissions() -> None:
    path = SCHEMA.with_name("leaderboard.json")
    if not path.exists():
        pytest.skip("no board is committed yet")
    assert build(SCHEMA.with_name("submissions")).text() == path.read_text()


def redo(folder: Path) -> None:
    """Bring the digests of a manifest up to date, as a careful forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: files.sha256((folder / name).read_bytes()) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def edit_manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))

    return change


def edit_records(*edits: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = (folder / RECORDS).read_text().splitlines()
        for edit in edits:
            edit(lines)
        (folder / RECORDS).write_text("".join(line + "\n" for line in lines))
        redo(folder)

    return change


def edit_first(old: str, new: str) -> Callable[[Path], None]:
    def edit(lines: list[str]) -> None:
        assert old in lines[0]
        lines[0] = lines[0].replace(old, new, 1)

    return edit_records(edit)


def swap_answers(folder: Path) -> None:
    path = folder / "predictions" / "digits.jsonl.zst"
    runs = predictions.read_runs(path)
    first = next(iter(runs.values()))
    first["e0"], first["e1"] = first["e1"], first["e0"]
    path.write_bytes(predictions.compress(b"".join(predictions.encode(by_id, run) for run, by_id in runs.items())))
    redo(folder)


def drop_line(lines: list[str]) -> None:
    del lines[3]


def add_link(folder: Path) -> None:
    (folder / "predictions" / "link").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda f: (f / RECORDS).write_bytes((f / RECORDS).read_bytes() + b"\n"),
            "records.jsonl: does not have the dig",
        ),
        (
            lambda f: (f / "predictions/digits.jsonl.zst").write_bytes(b"x"),
            "digits.jsonl.zst: does not have the",
        ),
        (lambda f: (f / "predictions/digits.jsonl.zst").unlink(), "digits.jsonl.zst: cannot be read"),
        (lambda f: (f / "setup.py").write_text("evil"), "setup.py: the manifest does not name this file"),
        (add_link, "link: is a link"),
        (lambda f: (f / MANIFEST).unlink(), "manifest.json: no such file"),
        (lambda f: (f / MANIFEST).write_text('{"schema": 1, "schema": 1}'), "key 'schema' stands twice"),
        (edit_manifest(name="other"), "name is 'other', but the folder is called 'omp'"),
        (edit_manifest(schema=2), "schema: must be one of 1"),
        (edit_manifest(extra=1), "unknown key 'extra'"),
        (edit_manifest(files={"../x": "ab" * 32}), "'../x' is no file of a submission"),
        (edit_manifest(files={}), "records.jsonl is missing"),
        (edit_manifest(sparsifier="rigl"), "a record of omp, in a submission of rigl"),
        (edit_manifest(missing=[{"task": "digits", "sparsity": 0.5, "seed": 0}]), "missing: not the cells that"),
        (edit_records(drop_line), "missing: not the cells that records.jsonl lacks"),
        (edit_records(lambda lines: lines.append(lines[0])), "records.jsonl:13: .* stands twice"),
        (edit_records(list.clear), "holds no record"),
        (edit_first('"seed":0', '"seed":9'), "records.jsonl:1: run is .* it was edited"),
        (edit_first('"accuracy":97.0', '"accuracy":NaN'), "records.jsonl:1: NaN is not a JSON number"),
        (edit_first('"accuracy":97.0', '"accuracy":"97"'), "records.jsonl:1: scores: accuracy: must be a number"),
        (edit_first('"accuracy":97.0', '"accuracy":97.0,"accuracy":99.0'), "key 'accuracy' stands twice"),
        (edit_first('{"category"', '{"category'), "records.jsonl:1: not valid JSON"),
        (swap_answers, "digits.jsonl.zst: the predictions of run .* are not those of its record"),
    ],
)
def test_what_was_tampered_with_is_named(submissions: Path, change: Callable[[Path], Any], told: str) -> None:
    change(submissions / "omp")
    with pytest.raises(InvalidInput, match=told) as caught:
        build(submissions)
    assert str(submissions / "omp") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_widened_battery_is_noticed(submissions: Path) -> None:
    manifest = json.loads((submissions / "omp" / MANIFEST).read_text())
    manifest["battery"]["margin"] = 0.2
    (submissions / "omp" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidInput, match="battery: the digest is not that of"):
        build(submissions)


def test_records_of_another_task_version_are_refused(submissions: Path, tmp_path: Path) -> None:
    other = record(digest="ee" * 32).text()
    edit_records(lambda lines: lines.__setitem__(0, other))(submissions / "omp")
    with pytest.raises(InvalidInput, match="digits is another task, or another version"):
        build(submissions)


def test_a_run_stands_in_one_submission_only(submissions: Path) -> None:
    shutil.copytree(submissions / "omp", submissions / "omp-again")
    edit_manifest(name="omp-again")(submissions / "omp-again")
    with pytest.raises(InvalidInput, match=r"omp-again: run .* stands in omp already"):
        build(submissions)


def test_the_text_fits_and_ranks(submissions: Path) -> None:
    text = table.render(build(submissions))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    order = [line.split()[0] for line in lines[3:6]]
    assert order == ["dense", "rigl", "omp"]
    assert next(line for line in lines if line.startswith("omp")).split()[:4] == ["omp", "0.909", "0.5", "0.5"]
    assert "98.00 +- 1.00 =" in text
    assert "90.00 +- 0.00" in text
    assert "12/12" in text


def test_merit_is_over_the_tasks_that_all_run(store: Store) -> None:
    first, second = BATTERY.tasks
    battery = replace(BATTERY, tasks=(first, replace(second, sparsifiers=("omp",))))
    board = build(from_records(store.find(), battery, DIGESTS))
    assert [(e.sparsifier, e.cells, e.missing) for e in board.submissions] == [
        ("dense", 6, 0),
        ("omp", 12, 0),
        ("rigl", 6, 0),
    ]
    line = next(line for line in table.render(board).splitlines() if line.startswith("rigl"))
    assert line.split()[:4] == ["rigl", "0.994", "-", "~0.9"]


def test_an_empty_board_is_a_board(tmp_path: Path) -> None:
    board = build(tmp_path)
    assert board == Board(1, (), (), (), ())
    assert "no results yet" in table.render(board)
    with pytest.raises(InvalidInput, match="no such folder"):
        build(tmp_path / "none")


def test_the_standard_battery_packs_dense_alone(tmp_path: Path) -> None:
    mini = Battery.load("mini")
    ref = BatteryRef.of(mini, {entry.task: "d1" * 32 for entry in mini.tasks})
    assert {c.sparsity for c in ref.cells("dense")} == {0.0}
    assert len(ref.cells("dense")) == 18
    assert len(ref.cells("rigl(interval=3)")) == 72


def test_results_of_a_demonstration_never_enter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="battery demo never enter a leaderboard"):
        pack(Store(tmp_path), Battery.load("demo"), "rigl", "rigl", tmp_path / "out", {})
