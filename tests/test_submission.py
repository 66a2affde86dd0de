"""Submissions: packing them, reading older ones, and refusing what cannot be true."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest
from folders import contents, references
from records import BATTERY, DIGESTS, answers, full_store, put, record

from smcbench import files, packing
from smcbench.errors import InvalidInput, UsageError
from smcbench.packing import pack
from smcbench.results import migrate, outcomes, plausible, shape, weights
from smcbench.results.battery import Battery, Entry
from smcbench.results.merge import without_room
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import Category, Conduct, Count, RunRecord
from smcbench.results.store import Store
from smcbench.results.submission import (
    CARD,
    MANIFEST,
    RECORDS,
    BatteryRef,
    Manifest,
    read_submission,
    read_submissions,
)
from smcbench.results.weights import Array, SparseWeights

GOLDEN = Path(__file__).parent / "golden" / "schema-1"


@dataclass(frozen=True)
class Stub:
    """A task of which a made-up record is known; with a score it tells outcomes that make it."""

    name: str
    scores: bool = False

    def digest(self) -> str:
        return DIGESTS[self.name]

    def outcomes(self, by_id: Mapping[str, Any]) -> Outcomes:
        if not self.scores:
            raise UsageError("it cannot be scored from predictions")
        return outcomes.outcomes("mean", {id_: [90.0] for id_ in by_id})


TASKS: Any = {name: Stub(name) for name in DIGESTS}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = full_store(tmp_path_factory.mktemp("runs"))
    for task in DIGESTS:
        put(store, *references((0, 1, 2), task))
    return store


# -- packing


def test_it_is_packed_whole_and_the_same_again(store: Store, tmp_path: Path) -> None:
    folder = pack(store, BATTERY, "omp", "mine", tmp_path, tasks=TASKS, authors="a", paper="arXiv:1506.02626")
    first = contents(folder)
    assert sorted(first) == [CARD, MANIFEST, "predictions/cldr-2to2.jsonl.zst", "predictions/digits.jsonl.zst", RECORDS]
    found = read_submission(folder)
    assert (len(found.records), found.manifest.missing, found.outcomes, found.weights) == (12, (), {}, {})
    assert found.manifest.checker == "smcbench 0.1.0"
    assert "Paper: arXiv:1506.02626" in first[CARD].decode()
    pack(store, BATTERY, "omp", "mine", tmp_path, tasks=TASKS, authors="a", paper="arXiv:1506.02626")
    assert contents(folder) == first
    assert b"2026" not in first[MANIFEST] + first[CARD]


def test_outcomes_are_those_of_the_task(store: Store, tmp_path: Path) -> None:
    battery = BATTERY.narrowed(tasks=["digits"], sparsities=[0.9])
    folder = pack(store, battery, "omp", "mine", tmp_path, tasks={"digits": Stub("digits", scores=True)})  # type: ignore[dict-item]
    found = read_submission(folder)
    assert {r.run for r in found.records} == found.outcomes.keys()
    assert all(o.score() == 90.0 for o in found.outcomes.values())
    assert found.records[0].digests.predictions == files.sha256(
        b"".join(files.canonical({"id": k, "prediction": v}).encode() + b"\n" for k, v in sorted(answers(0).items()))
    )


@pytest.mark.parametrize(
    ("card", "told"),
    [("x" * 50_001, "at most 50,000 bytes"), ("a\x1b[31mb", "control"), ("a\rb", "control"), ("a\x7fb", "control")],
)
def test_a_card_is_plain_text(store: Store, tmp_path: Path, card: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=f"card.md: must be plain text .*{told}|card.md: .*{told}"):
        pack(store, BATTERY, "omp", "mine", tmp_path / "out", tasks=TASKS, card=card)
    assert not (tmp_path / "out").exists()


def test_what_has_no_room_stands_elsewhere() -> None:
    ref = BatteryRef.of(*packing.pinned(Battery("mini", (Entry("digits", (0.5,)),), (0,)), TASKS))
    heavy = {"weights/a.safetensors": b"a" * 1_000_001, "weights/b.safetensors": b"b" * 900_000,
             "weights/c.safetensors": b"c" * 800_000}  # fmt: skip
    gone = without_room(heavy, ref, {RECORDS: b"r" * 1_000_000})
    assert {path: each.bytes for path, each in gone.items()} == {"weights/a.safetensors": 1_000_001}
    assert gone["weights/a.safetensors"].sha256 == files.sha256(b"a" * 1_000_001)
    gone = without_room(heavy, ref, {RECORDS: b"r" * 1_300_000})
    assert list(gone) == ["weights/a.safetensors", "weights/b.safetensors"]
    other = replace(ref, name="small")
    assert without_room(heavy, other, {RECORDS: b"r" * 1_300_000}) == {}


def test_a_submission_of_the_standard_battery_is_small(store: Store, tmp_path: Path) -> None:
    battery = replace(BATTERY, name="mini")
    folder = pack(store, battery, "omp", "mine", tmp_path, tasks=TASKS, card="y" * 50_000)
    read_submission(folder)
    (folder / CARD).write_bytes(b"x" * 1_000_001)
    mend(folder)
    with pytest.raises(InvalidInput, match=r"card\.md: has 1,000,001 bytes; on mini a file may have 1,000,000"):
        read_submission(folder)


def test_weights_that_are_not_those_of_the_record_are_left_out(tmp_path: Path) -> None:
    """As where a record was fetched anew beside what an older run left."""
    store, one = Store(tmp_path), record()
    put(store, one)
    folder = store.folder(one.spec, 1)
    bits = {"fc.weight": Array("U8", (1,), np.array([1], np.uint8))}
    whole = {"fc.weight": Array("F32", (2,), np.array([1, 0], np.uint32))}
    (folder / "weights.safetensors").write_bytes(weights.serialise(whole, {}))
    (folder / "mask.safetensors").write_bytes(weights.serialise(bits, {}))
    found = packing._stored(folder, one)
    assert found is not None
    assert found.mask["fc.weight"].tolist() == [True, False]
    assert found.mask_digest() != one.digests.mask


# -- older schemas


def test_a_submission_of_schema_1_reads_as_ever(tmp_path: Path) -> None:
    (folder,) = GOLDEN.iterdir()
    found = read_submission(folder)
    raw = json.loads((folder / MANIFEST).read_text())
    assert raw["schema"] == 1
    assert (found.manifest.schema, found.manifest.name) == (2, raw["name"])
    assert found.manifest.files == raw["files"]
    assert (found.manifest.checker, found.manifest.elsewhere, found.outcomes, found.weights) == (None, {}, {}, {})
    lines = (folder / RECORDS).read_text().splitlines()
    assert [r.run for r in found.records] == [json.loads(line)["run"] for line in lines]
    assert [r.text() for r in found.records] == lines
    again = shape.read(Manifest, json.loads(found.manifest.text()), "again")
    assert again == found.manifest


@pytest.mark.parametrize("what", ["chance", "scope"])
def test_all_submissions_mean_the_same_by_a_task(tmp_path: Path, what: str) -> None:
    folders.put(tmp_path, "dense", references())
    other = folders.method("mine", [90.0, 85.0])
    if what == "chance":
        other = [replace(r, metric=replace(r.metric, chance=0.0)) for r in other]
    else:
        other = [replace(r, spec=replace(r.spec, task=replace(r.spec.task, scope="encoder"))) for r in other]
    folders.put(tmp_path, "mine", other)
    assert [read_submission(each).manifest.name for each in sorted((tmp_path / "submissions").iterdir())]
    with pytest.raises(InvalidInput, match="mine: has another metric, scope or family of digits than dense; smcbench"):
        read_submissions(tmp_path / "submissions")


def test_a_schema_of_the_future_is_refused() -> None:
    assert migrate.manifest({"schema": 1, "name": "x"}, "m") == {"schema": 2, "name": "x", "elsewhere": {}}
    assert migrate.manifest({"schema": 2}, "m") == {"schema": 2}
    for unknown in (3, "2", True, None, [], 0, 1.5):
        with pytest.raises(InvalidInput, match=r"m: schema is .*, but this version reads 1, 2; use the smcbench that"):
            migrate.manifest({"schema": unknown}, "m")
    with pytest.raises(InvalidInput, match="r: schema is 2, but this version reads 1"):
        migrate.record({"schema": 2}, "r")


# -- what cannot be true


def cost(**changes: Any) -> Callable[[RunRecord], RunRecord]:
    return lambda r: replace(r, cost=replace(r.cost, **changes))


def conduct(**changes: Any) -> Callable[[RunRecord], RunRecord]:
    return lambda r: replace(r, conduct=replace(r.conduct, **changes))


def layers(**densities: float) -> Callable[[RunRecord], RunRecord]:
    return lambda r: replace(r, sparsity=replace(r.sparsity, layers=densities))


def counts(**changes: Count) -> Callable[[RunRecord], RunRecord]:
    return lambda r: replace(r, sparsity=replace(r.sparsity, denominators=replace(r.sparsity.denominators, **changes)))


def created(when: str) -> Callable[[RunRecord], RunRecord]:
    return lambda r: replace(r, provenance=replace(r.provenance, created=when))


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cost(steps=-1), "cost: steps is -1"),
        (cost(steps=10**400), "cost: steps is 1000"),
        (cost(seconds=-0.5), "cost: seconds is -0.5"),
        (cost(train_flops=2001.0), "train_flops is 2001, more than the 2000 of the same, dense"),
        (cost(inference_flops=11.0), "inference_flops is 11, more than the 10"),
        (cost(budget_flops=0.0), "can be 0"),
        (conduct(peak_density=1.5), "peak_density is 1.5"),
        (conduct(last_prune=None), "do not fit each other"),
        (conduct(mask_updates=0), "do not fit each other"),
        (conduct(first_prune=101), "not after the last"),
        (conduct(regrown=5.0), "category: after, dense-to-sparse, static, which is not what its conduct"),
        (lambda r: replace(r, category=Category("before", "sparse-to-sparse", "static")), "category: before"),
        (layers(a=1.5), "'a' has the density 1.5"),
        (layers(a=0.4, b=0.3), "no mean of the densities of its layers is 0.5"),
        (counts(linear=Count(10, 11)), "linear has 11 zeros in 10"),
        (counts(stored=Count(999, 500)), "a denominator is larger than one that contains it"),
        (lambda r: replace(r, scores={"accuracy": 100.5}), "accuracy is 100.5 per cent"),
        (created(TOMORROW), "which is yet to come"),
        (created("yesterday"), "not a date and time"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(change: Callable[[RunRecord], RunRecord], told: str) -> None:
    plausible.check(record(), "here")
    with pytest.raises(InvalidInput, match=f"^here: .*{told}"):
        plausible.check(change(record()), "here")


def test_the_category_may_be_of_several_trainings() -> None:
    """A run pruned at step 100 of 200: after a training of 100 steps, or during one of 200; of 300 it is neither."""
    for when, updates in (("after", 1), ("during", 1), ("iterative", 2), ("during", 2)):
        changed = replace(record(), category=Category(when, "dense-to-sparse", "static"))  # type: ignore[arg-type]
        plausible.check(replace(changed, conduct=replace(changed.conduct, mask_updates=updates)), "here")
    never = replace(references()[0], conduct=Conduct(1.0, 0, 0.0, 1, None, None))
    plausible.check(never, "here")


def test_all_that_stands_on_the_board_is_plausible() -> None:
    for folder in (Path(__file__).parents[1] / "leaderboard" / "submissions").iterdir():
        for line in (folder / RECORDS).read_text().splitlines():
            plausible.check(RunRecord.from_json(json.loads(line)), folder.name)


# -- safetensors that a lenient reader would take


def file_of(header: Any, data: bytes, pad: bool = True) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, size: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": size, "data_offsets": [begin, end]}


F = entry("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "not a safetensors file"),
        (b"\x80\x04\x95", "not a safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 1 << 30) + b" " * 64, "not a safetensors file"),
        (file_of({"a": F}, b"\0" * 8, pad=False)[:7], "not a safetensors file"),
        (file_of(b'{"a": 1, "a": 2}', b""), "key 'a' stands twice"),
        (file_of(b"\xff\xff\xff\xff\xff\xff\xff\xff", b""), "not UTF-8"),
        (file_of([], b""), "must be an object"),
        (file_of({"a": F, "__metadata__": {"x": 1}}, b"\0" * 8), "metadata must be texts"),
        (file_of({"a": {**F, "more": 1}}, b"\0" * 8), "and nothing else"),
        (file_of({"a": {**F, "dtype": "OBJECT"}}, b"\0" * 8), "the type 'OBJECT' is none of"),
        (file_of({"a": {**F, "shape": [-2]}}, b"\0" * 8), "up to eight whole numbers"),
        (file_of({"a": {**F, "shape": [True, 2]}}, b"\0" * 8), "up to eight whole numbers"),
        (file_of({"a": {**F, "shape": [1 << 62, 4]}}, b"\0" * 8), "up to eight whole numbers"),
        (file_of({"a": {**F, "shape": [3]}}, b"\0" * 8), "which F32 .3. does not|not those of F32"),
        (file_of({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, b"\0" * 12), "'b' overlaps"),
        (file_of({"a": F, "b": entry("F32", [2], 12, 20)}, b"\0" * 20), "'b' leaves a gap"),
        (file_of({"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5)}, b"\0" * 5), "no multiple of the size"),
        (file_of({"a": F}, b"\0" * 9), "1 bytes at its end belong to no tensor"),
        (file_of({"a": F}, b"\0" * 4), "torn|too few"),
        (file_of({"a": entry("BOOL", [1], 0, 1)}, b"\2"), "a truth value other than 0 and 1"),
    ],
)
def test_a_file_of_tensors_is_read_strictly(tmp_path: Path, raw: bytes, told: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw)
    with pytest.raises(InvalidInput, match=told) as caught:
        weights.parse(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


KEPT = np.array([True, False, False, True, False, False, False, False, True])


def made(**changes: Any) -> tuple[dict[str, Array], dict[str, str]]:
    """The parts of a file with one pruned tensor, to be changed."""
    words = np.where(KEPT, np.float32(2.0).view(np.uint32), np.uint32(0))
    raw = weights.encode(SparseWeights("ab" * 6, "t", {"w": Array("F32", (3, 3), words)}, {"w": KEPT}))
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__")
    arrays = {
        name: Array(e["dtype"], tuple(e["shape"]), np.frombuffer(
            raw[8 + length + e["data_offsets"][0] : 8 + length + e["data_offsets"][1]],
            dtype={"F32": np.uint32, "U8": np.uint8}[e["dtype"]]))
        for name, e in header.items()
    }  # fmt: skip
    return arrays, {**metadata, **changes}


U8 = np.uint8


@pytest.mark.parametrize(
    ("arrays", "metadata", "told"),
    [
        ({}, {"format": "other"}, "is 'other', but this version reads 'smcbench sparse 1'"),
        ({}, {"run": "../../evil"}, "metadata: run: must be a text like"),
        ({}, {"extra": "x"}, "unknown key 'extra'"),
        ({}, {"shapes": "{"}, "shapes: not valid JSON"),
        ({}, {"shapes": "[]"}, "shapes must be an object"),
        ({}, {"shapes": '{"w": [3, 3, 1000000]}'}, "mask: must be 1125000 bytes"),
        ({}, {"shapes": '{"v": [9]}'}, "'v' has a shape, but no values"),
        ({}, {"whole": '["w"]'}, "whole: 'w' is no tensor of this file, or stands twice"),
        ({"mask/w": Array("U8", (2,), np.array([0b00001001, 0b11], U8))}, {}, "bits beyond its 9 weights"),
        ({"mask/w": Array("U8", (2,), np.array([0b00001011, 1], U8))}, {}, "has 3 values, its mask keeps 4"),
        ({"mask/x": Array("U8", (1,), np.array([0], U8))}, {}, "'mask/x' belongs to no pruned tensor"),
        ({"zeros/w": Array("U8", (2,), np.array([0, 0], U8))}, {}, "zeros: must be 1 bytes of U8"),
        ({"w": Array("F32", (3,), np.array([0x7FC00000, 1, 1], np.uint32))}, {}, "'w' holds NaN or infinite"),
        ({"v": Array("F32", (1,), np.array([0xFF800000], np.uint32))}, {}, "'v' holds NaN or infinite"),
    ],
)
def test_sparse_weights_are_read_strictly(
    tmp_path: Path, arrays: dict[str, Array], metadata: dict[str, str], told: str
) -> None:
    honest, meta = made()
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights.serialise(honest, meta))
    assert weights.read(path).zeros() == {"w": 6}
    path.write_bytes(weights.serialise({**honest, **arrays}, {**meta, **metadata}))
    with pytest.raises(InvalidInput, match=told) as caught:
        weights.read(path)
    assert str(path) in str(caught.value)


def test_weights_outside_their_mask_cannot_be_packed() -> None:
    words = np.ones(9, np.uint32)
    with pytest.raises(InvalidInput, match="'w' is other than zero outside its mask"):
        weights.encode(SparseWeights("ab" * 6, "t", {"w": Array("F32", (9,), words)}, {"w": KEPT}))
    with pytest.raises(InvalidInput, match="the mask of 'v' fits no tensor"):
        weights.encode(SparseWeights("ab" * 6, "t", {"w": Array("F32", (9,), words)}, {"v": KEPT}))


def mend(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: files.sha256((folder / name).read_bytes()) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_weights_of_another_run_are_refused(store: Store, tmp_path: Path) -> None:
    folder = pack(store, BATTERY, "omp", "mine", tmp_path, tasks=TASKS)
    honest, meta = made()
    (folder / "weights").mkdir()
    (folder / "weights" / "digits.safetensors").write_bytes(weights.serialise(honest, meta))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["weights/digits.safetensors"] = ""
    (folder / MANIFEST).write_text(json.dumps(manifest))
    mend(folder)
    with pytest.raises(InvalidInput, match=r"digits\.safetensors: weights of run \w+ on t, which has no record here"):
        read_submission(folder)
    shutil.rmtree(folder / "weights")
    with pytest.raises(InvalidInput, match=r"digits\.safetensors: cannot be read"):
        read_submission(folder)
