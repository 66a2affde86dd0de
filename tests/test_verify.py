"""Verification: what is forged is found, and named, by the lowest level that can see it; what is honest passes all."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import Toy

from smcbench import Task, cell, files, plugins
from smcbench.cli import main
from smcbench.errors import InvalidInput, UsageError
from smcbench.packing import pack
from smcbench.parts import Pooled
from smcbench.results import outcomes, predictions, weights
from smcbench.results.battery import Battery, Entry
from smcbench.results.outcomes import Outcomes
from smcbench.results.record import RunRecord
from smcbench.results.store import Store
from smcbench.results.submission import (
    MANIFEST,
    RECORDS,
    outcomes_of,
    predictions_of,
    read_records,
    read_submission,
    weights_of,
)
from smcbench.results.weights import SparseWeights
from smcbench.session import Session, build_model
from smcbench.task import Split, in_order
from smcbench.verify import DEPTHS, Depth, Report, verify

NAME = "digits-tiny"
BATTERY = Battery("small", (Entry(NAME, (0.5, 0.75)),), (0, 1))


@cache
def tasks() -> dict[str, Task]:
    """A convolutional network with batch norms, on a few images."""
    task = plugins.load_task("digits").tiny()
    return {NAME: replace(task, name=NAME)}  # type: ignore[type-var]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("runs")
    for each in BATTERY.cells(["omp-after", "small-dense", "rigl"]):
        if each.seed == 0 or each.sparsifier == "omp-after":
            cell.run(tasks()[NAME], each.sparsifier, each.sparsity, each.seed, out=out)
    return Store(out)


@pytest.fixture(scope="module")
def honest(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("packed")
    return {
        name: pack(store, BATTERY, name, name, out, tasks=tasks(), allow_incomplete=True)
        for name in ("dense", "omp-after", "small-dense", "rigl")
    }


@pytest.fixture
def folder(honest: Mapping[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest["omp-after"], tmp_path / "omp-after"))


def checked(folder: Path, level: Depth, **options: Any) -> Report:
    return verify(folder, level, tasks=tasks(), draw=random.Random(0), **options)


# -- what a forger does, who mends all digests that he can


class Forger:
    """A submission taken apart, and put together again with whatever was changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = read_records(folder / RECORDS)
        self.answers = predictions.read_runs(folder / predictions_of(NAME))
        self.outcomes = outcomes.read_runs(folder / outcomes_of(NAME))
        self.weights = weights.read(folder / weights_of(NAME))
        self.texts: list[tuple[str, str]] = []

    @property
    def run(self) -> str:
        """The one whose weights are there."""
        return self.weights.run

    @property
    def record(self) -> RunRecord:
        return next(r for r in self.records if r.run == self.run)

    def edit(self, **changes: Any) -> None:
        self.records = [replace(r, **changes) if r.run == self.run else r for r in self.records]

    def cost(self, **changes: Any) -> None:
        self.edit(cost=replace(self.record.cost, **changes))

    def score(self, value: float) -> None:
        self.edit(scores={**self.record.scores, self.record.metric.name: value})

    def result(self, by_id: Mapping[str, int], values: Mapping[str, list[float]]) -> None:
        """Other predictions and other outcomes."""
        self.answers[self.run] = dict(by_id)
        self.outcomes[self.run] = outcomes.outcomes("accuracy", values)
        raw = files.sha256(predictions.encode(by_id))
        self.edit(digests=replace(self.record.digests, predictions=raw))

    def values(self) -> dict[str, list[float]]:
        return dict(zip(sorted(self.answers[self.run]), self.outcomes[self.run].values.tolist(), strict=True))

    def words(self, name: str) -> Any:
        """The bits of a tensor, to be changed in place."""
        array = self.weights.tensors[name]
        changed = replace(array, words=array.words.copy())
        self.weights = replace(self.weights, tensors={**self.weights.tensors, name: changed})
        return changed.words

    def write(self) -> None:
        contents = {
            RECORDS: "".join(r.text() + "\n" for r in self.records).encode(),
            predictions_of(NAME): predictions.compress(
                b"".join(predictions.encode(self.answers[r.run], r.run) for r in self.records)
            ),
            weights_of(NAME): weights.encode(self.weights),
        }
        if len({o.examples for o in self.outcomes.values()}) == 1:
            contents[outcomes_of(NAME)] = outcomes.encode(self.outcomes)
        for path, raw in contents.items():
            (self.folder / path).write_bytes(raw)
        for path, text in self.texts:
            (self.folder / path).write_text(text)
        mend(self.folder)


def mend(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: files.sha256((folder / name).read_bytes()) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def some_kept(forger: Forger) -> tuple[str, int]:
    """A pruned tensor and the place of a kept weight in it."""
    name = next(n for n, kept in forger.weights.mask.items() if not kept.all())
    return name, int(np.flatnonzero(forger.weights.tensors[name].nonzero)[0])


def stale_digest(f: Forger) -> None:
    f.write()
    (f.folder / "card.md").write_text("nothing was changed")


def edited_score(f: Forger) -> None:
    f.score(f.record.score + 1)
    f.write()


def score_is_nan(f: Forger) -> None:
    text = "".join(r.text() + "\n" for r in f.records).replace(f'"accuracy":{f.record.score!r}', '"accuracy":NaN', 1)
    assert "NaN" in text
    f.texts = [(RECORDS, text)]
    f.write()


def weight_is_nan(f: Forger) -> None:
    name, place = some_kept(f)
    f.words(name)[place] = np.float32("nan").view(np.uint32)
    f.write()


def flipped_mask(f: Forger) -> None:
    name, place = some_kept(f)
    mask = {n: kept.copy() for n, kept in f.weights.mask.items()}
    mask[name][place] = False
    f.words(name)[place] = 0
    f.weights = replace(f.weights, mask=mask)
    f.write()


def duplicated_example(f: Forger) -> None:
    raw = b"".join(predictions.encode(f.answers[r.run], r.run) for r in f.records)
    f.write()
    (f.folder / predictions_of(NAME)).write_bytes(predictions.compress(raw + raw.split(b"\n")[0] + b"\n"))
    mend(f.folder)


def swapped(by_id: Mapping[str, Any]) -> dict[str, Any]:
    """With the predictions of two examples exchanged that differ."""
    ids = sorted(by_id)
    other = next(i for i in ids if by_id[i] != by_id[ids[0]])
    return {**by_id, ids[0]: by_id[other], other: by_id[ids[0]]}


def swapped_label(f: Forger) -> None:
    f.answers[f.run] = swapped(f.answers[f.run])
    f.write()


def swapped_label_and_digest(f: Forger) -> None:
    f.result(swapped(f.answers[f.run]), f.values())
    f.write()


def edited_outcomes(f: Forger) -> None:
    f.result(f.answers[f.run], {id_: [1.0] for id_ in f.answers[f.run]})
    f.write()


def moved_outcomes(f: Forger) -> None:
    """One that is right and one that is wrong, exchanged: their sum is the same."""
    values = f.values()
    right, wrong = (next(i for i in sorted(values) if values[i] == [v]) for v in (1.0, 0.0))
    f.result(f.answers[f.run], {**values, right: [0.0], wrong: [1.0]})
    f.write()


def better_than_it_was(f: Forger) -> None:
    f.result(f.answers[f.run], {id_: [1.0] for id_ in f.answers[f.run]})
    f.score(100.0)
    f.write()


def foreign_ids_of_predictions(f: Forger) -> None:
    by_id = {f"cldr/{i}": v for i, v in enumerate(f.answers[f.run].values())}
    values = f.values()
    f.result(by_id, dict(zip(by_id, values.values(), strict=True)))
    f.outcomes[f.run] = outcomes.outcomes("accuracy", values)
    f.write()


def foreign_ids(f: Forger) -> None:
    for record in f.records:
        by_id = {f"cldr/{i:03}": v for i, v in enumerate(f.answers[record.run].values())}
        values = f.outcomes[record.run].values.tolist()
        f.answers[record.run] = by_id
        f.outcomes[record.run] = outcomes.outcomes("accuracy", dict(zip(by_id, values, strict=True)))
    raw = {r.run: files.sha256(predictions.encode(f.answers[r.run])) for r in f.records}
    f.records = [replace(r, digests=replace(r.digests, predictions=raw[r.run])) for r in f.records]
    f.write()


def flipped_weight(f: Forger) -> None:
    name, place = some_kept(f)
    f.words(name)[place] ^= 1
    f.write()


def zeroed_weight(f: Forger) -> None:
    name, place = some_kept(f)
    f.words(name)[place] = 0
    f.write()


def edited_layer(f: Forger) -> None:
    sparsity = f.record.sparsity
    name = min(sparsity.layers, key=lambda n: sparsity.layers[n])
    f.edit(sparsity=replace(sparsity, layers={**sparsity.layers, name: sparsity.layers[name] * 0.9}))
    f.write()


def edited_denominator(f: Forger) -> None:
    sparsity = f.record.sparsity
    counts = sparsity.denominators
    stored = replace(counts.stored, weights=counts.stored.weights + 1)
    f.edit(sparsity=replace(sparsity, denominators=replace(counts, stored=stored)))
    f.write()


def edited_inference(f: Forger) -> None:
    f.cost(inference_flops=f.record.cost.inference_flops / 2)
    f.write()


def edited_budget(f: Forger) -> None:
    f.cost(budget_flops=f.record.cost.budget_flops * 2)
    f.write()


def free_training(f: Forger) -> None:
    f.cost(train_flops=1.0)
    f.write()


def other_network(f: Forger) -> None:
    """Another tensor for one of the same shape, with the digest of the weights mended."""
    from smcbench.evidence import digest_of

    for name, array in f.weights.tensors.items():
        if array.dtype == "F32" and len(array.shape) > 1:
            words = f.words(name)
            words[:] = np.where(array.nonzero, words ^ np.uint32(1 << 31), words)
    f.edit(digests=replace(f.record.digests, weights=digest_of(f.weights, tasks()[NAME])))
    f.write()


def other_chance(f: Forger) -> None:
    """What scales the quality: a chance below the task's makes any network look better."""
    f.records = [replace(r, metric=replace(r.metric, chance=0.0)) for r in f.records]
    f.write()


def other_scope(f: Forger) -> None:
    """What says with whom it is ranked."""
    f.records = [replace(r, spec=replace(r.spec, task=replace(r.spec.task, scope="encoder"))) for r in f.records]
    f.write()


def other_direction(f: Forger) -> None:
    f.records = [replace(r, metric=replace(r.metric, higher_is_better=False)) for r in f.records]
    f.write()


def cheaper_training(f: Forger) -> None:
    for record in f.records:
        cost = replace(record.cost, train_flops=record.cost.train_flops * 0.8)
        f.records = [replace(r, cost=cost) if r.run == record.run else r for r in f.records]
    f.write()


FORGERIES: list[tuple[Callable[[Forger], None], Depth, str]] = [
    (stale_digest, "claimed", r"card\.md: does not have the digest"),
    (edited_score, "claimed", r"outcomes/digits-tiny\.json\.zst: run \w+: accuracy is [\d.]+ in records\.jsonl"),
    (score_is_nan, "claimed", r"records\.jsonl:\d: NaN is not a JSON number"),
    (weight_is_nan, "claimed", r"weights/digits-tiny\.safetensors: '.*weight' holds NaN"),
    (flipped_mask, "claimed", r"weights/digits-tiny\.safetensors: its mask is not that of the record"),
    (duplicated_example, "claimed", r"predictions/digits-tiny\.jsonl\.zst:\d+: example '.*' stands twice"),
    (swapped_label, "claimed", r"predictions/digits-tiny\.jsonl\.zst: the predictions of run \w+ are not those"),
    (edited_outcomes, "claimed", r"outcomes/digits-tiny\.json\.zst: run \w+: accuracy is"),
    (foreign_ids_of_predictions, "claimed", r"its outcomes are of other examples than its predictions"),
    (swapped_label_and_digest, "recompute", r"example '.*' has the outcome|accuracy is .*, its predictions give"),
    (moved_outcomes, "recompute", r"outcomes/digits-tiny\.json\.zst: run \w+: example '.*' has the outcome"),
    (better_than_it_was, "recompute", r"records\.jsonl: run \w+: accuracy is 100\.0+, its predictions give"),
    (foreign_ids, "recompute", r"predictions/digits-tiny\.jsonl\.zst: run \w+: example '.*' has no prediction"),
    (flipped_weight, "recompute", r"weights/digits-tiny\.safetensors: run \w+: its tensors are not those of the run"),
    (zeroed_weight, "recompute", r"weights/.*: run \w+: \S*weight: the density is"),
    (edited_layer, "recompute", r"weights/.*: run \w+: \S*weight: the density is"),
    (edited_denominator, "recompute", r"weights/.*: stored: .* zeros in"),
    (edited_inference, "recompute", r"records\.jsonl: run \w+: cost: inference_flops is"),
    (edited_budget, "recompute", r"cost: budget_flops is"),
    (free_training, "recompute", r"cost: train_flops is 1, its steps take"),
    (other_chance, "recompute", r"records\.jsonl: run \w+: the metric is .*chance=0\.0\), here it is .*chance=10\.0"),
    (other_direction, "recompute", r"the metric is .*higher_is_better=False, .* here it is .*higher_is_better=True"),
    (other_scope, "recompute", r"records\.jsonl: run \w+: the task is .*scope='encoder', .* here it is .*scope='all'"),
    (other_network, "reevaluate", r"predictions/.*: \d+ of \d+ predictions differ from what the weights predict"),
    (cheaper_training, "retrain", r"records\.jsonl: run \w+: digits-tiny at 0\.\d+ seed \d: cost: train_flops is"),
]


@pytest.mark.parametrize(("forge", "level", "told"), FORGERIES, ids=[f[0].__name__ for f in FORGERIES])
def test_a_forgery_is_named_by_the_lowest_level_that_can_see_it(
    folder: Path, forge: Callable[[Forger], None], level: Depth, told: str
) -> None:
    forge(Forger(folder))
    if level == "claimed":
        with pytest.raises(InvalidInput, match=told):
            read_submission(folder)
        return
    assert not checked(folder, DEPTHS[DEPTHS.index(level) - 1]).findings
    found = checked(folder, level).findings
    assert found
    assert any(re.search(told, str(each)) for each in found), [str(each) for each in found]
    assert all(str(folder) in str(each) and "\n" not in str(each) for each in found)


# -- what is honest


@pytest.mark.parametrize("name", ["dense", "omp-after", "small-dense", "rigl"])
def test_the_honest_pass(honest: Mapping[str, Path], name: str) -> None:
    report = checked(honest[name], "reevaluate")
    assert report.findings == ()
    (run,) = read_submission(honest[name]).weights.values()
    assert report.reached[run] == "reevaluate"
    assert set(report.reached.values()) <= {"reevaluate", "recompute (scores)"}
    assert set(checked(honest[name], "recompute").reached.values()) <= {"recompute", "recompute (scores)"}
    assert set(checked(honest[name], "claimed").reached.values()) == {"claimed"}


def test_run_again_it_has_the_same_bits(honest: Mapping[str, Path]) -> None:
    report = checked(honest["omp-after"], "retrain")
    assert report.findings == ()
    assert list(report.reached.values()).count("retrain") == 1
    assert any("has the same bits" in note for note in report.notes)


def test_a_run_that_is_suspect_reaches_nothing(folder: Path) -> None:
    forger = Forger(folder)
    flipped_weight(forger)
    reached = checked(folder, "recompute").reached
    assert reached.pop(forger.run) == "claimed"
    assert set(reached.values()) == {"recompute (scores)"}


def test_some_examples_suffice(honest: Mapping[str, Path]) -> None:
    report = checked(honest["omp-after"], "reevaluate", subset=7)
    assert report.findings == ()
    assert f"{NAME}: all 7 predictions agree" in report.notes


def test_what_is_not_installed_is_not_run(honest: Mapping[str, Path], tmp_path: Path) -> None:
    """A label that names a file is never followed, be it that of a control of an installed name."""
    mark = tmp_path / "executed"
    evil = tmp_path / "evil.py"
    evil.write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    folder = Path(shutil.copytree(honest["omp-after"], tmp_path / "omp-after"))
    forger, label = Forger(folder), f"shuffled({evil}:Mine)"
    runs: dict[str, str] = {}
    for record in forger.records:
        spec = replace(record.spec, sparsifier=replace(record.spec.sparsifier, label=label, name="shuffled"))
        runs[record.run] = spec.run_id(record.provenance.engine)
        forger.records[forger.records.index(record)] = replace(record, spec=spec, run=runs[record.run])
    forger.answers = {runs[run]: by_id for run, by_id in forger.answers.items()}
    forger.outcomes = {runs[run]: found for run, found in forger.outcomes.items()}
    forger.weights = replace(forger.weights, run=runs[forger.run])
    forger.write()
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "sparsifier": label}))
    with pytest.raises(UsageError, match="read its source, then name it with --trust"):
        checked(folder, "retrain")
    assert not mark.exists()


def test_a_task_is_never_imported_by_the_name_a_submission_gives(folder: Path) -> None:
    report = verify(folder, "recompute")
    assert [str(f) for f in report.findings] == [
        f"{folder / RECORDS}: {NAME} cannot be verified here: it is not installed"
    ]
    assert set(report.reached.values()) == {"claimed"}


def test_a_method_that_was_read_may_be_run(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\nfrom smcbench import Sparsifier\n"
        "from smcbench.criteria import magnitude\n\n@dataclass(frozen=True)\nclass Mine(Sparsifier):\n"
        "    def sparsify(self, session, sparsity):\n        session.train()\n"
        "        session.prune(magnitude(session), density=1 - sparsity)\n"
    )
    one = Battery("one", (Entry(NAME, (0.5,)),), (0,))
    cell.run(tasks()[NAME], f"{mine}:Mine", 0.5, 0, out=tmp_path / "runs")
    folder = pack(Store(tmp_path / "runs"), one, "mine.py:Mine", "mine", tmp_path, tasks=tasks())
    with pytest.raises(UsageError, match="--trust"):
        checked(folder, "retrain")
    report = checked(folder, "retrain", trusted=[f"{mine}:Mine"])
    assert (report.findings, set(report.reached.values())) == ((), {"retrain"})
    mine.write_text(mine.read_text() + "# edited\n")
    with pytest.raises(
        UsageError, match=r"mine\.py:Mine is not what was run: its source, its version or its parameters"
    ):
        checked(folder, "retrain", trusted=[f"{mine}:Mine"])


# -- the arithmetic, against what was written down by the engine or follows by hand


def test_zeros_by_hand() -> None:
    words = np.array([0.0, -0.0, 1.5, 0.0, -2.0, 1e-45], dtype=np.float32).view(np.uint32)
    kept = np.array([False, False, True, False, True, True])
    made = SparseWeights("0" * 12, "t", {"w": weights.Array("F32", (2, 3), words)}, {"w": kept})
    assert made.zeros() == {"w": 3}  # a denormal number is not zero, minus zero is


def test_weights_come_back_bit_by_bit(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for dtype, words in (("F64", np.uint64), ("F32", np.uint32), ("F16", np.uint16), ("BF16", np.uint16)):
        kept = draw.random(77) < 0.2
        sign = words(1 << (8 * words().itemsize - 1))
        values = np.where(kept, words(0x3C00) + draw.integers(0, 99, 77).astype(words), words(0))
        values[~kept & (draw.random(77) < 0.5)] = sign  # minus zero
        buffer = weights.Array("I64", (), np.array([7], dtype=np.uint64))
        made = SparseWeights("ab" * 6, "t", {"w": weights.Array(dtype, (7, 11), values), "n": buffer}, {"w": kept})
        (tmp_path / "x").write_bytes(weights.encode(made))
        back = weights.read(tmp_path / "x")
        assert back.tensors["w"].shape == (7, 11)
        assert (back.tensors["w"].words == values).all()
        assert (back.mask["w"] == kept).all()
        assert back.tensors["n"].words.tolist() == [7]
        assert back.mask_digest() == made.mask_digest()


def test_the_file_is_one_that_safetensors_reads(honest: Mapping[str, Path], store: Store) -> None:
    from safetensors.torch import load_file

    path = honest["omp-after"] / weights_of(NAME)
    found, mine = load_file(path), weights.read(path)
    record = next(r for r in store.find() if r.run == mine.run)
    whole = load_file(store.folder(record.spec, record.provenance.engine) / "weights.safetensors")
    assert mine.tensors.keys() == whole.keys()
    for name, kept in mine.mask.items():
        assert torch.equal(found[name].flatten(), whole[name].flatten()[torch.from_numpy(kept)])
        assert mine.zeros()[name] == int((whole[name] == 0).sum())
        density = int(torch.count_nonzero(whole[name])) / whole[name].numel()
        assert record.sparsity.layers[name] == density


def test_operations_by_hand() -> None:
    """A two-layer perceptron: 2 x 12 x 24 + 2 x 24 x 4 operations an example, forward."""
    from smcbench.verify import _operations

    forward = 2 * 12 * 24 + 2 * 24 * 4
    assert _operations(Toy(), 1.0).inference() / Toy().recipe.batch_size == forward
    # No gradient of the input of the first layer is needed.
    assert _operations(Toy(), 1.0).step() == Toy().recipe.batch_size * (3 * forward - 2 * 12 * 24)


@dataclass(frozen=True)
class Part(Toy):
    """A toy whose examples have ids of their own."""

    def data(self, split: Split) -> Any:
        return [(f"{self.name}/{id_}", x, y) for id_, x, y in super().data(split)]

    def rescored(self, by_id: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": self.outcomes(by_id).score()}

    def outcomes(self, by_id: Mapping[str, Any]) -> Outcomes:
        found = in_order((e[0] for e in self.data("test")), by_id, "a class", lambda v: type(v) is int)
        return outcomes.outcomes(
            "accuracy", {e[0]: [float(v == e[2])] for e, v in zip(self.data("test"), found, strict=True)}
        )


def test_a_task_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Pooled("two", (Part(name="a"), Part(name="b")))
    monkeypatch.setattr(
        Pooled, "_apart",
        lambda self, by_id: [(p, {i: v for i, v in by_id.items() if i.startswith(f"{p.name}/")}) for p in self.of],
    )  # fmt: skip
    battery = Battery("one", (Entry("two", (0.5,)),), (0,))
    cell.run(task, "omp-after", 0.5, 0, out=tmp_path / "runs")
    folder = pack(Store(tmp_path / "runs"), battery, "omp-after", "omp-after", tmp_path, tasks={"two": task})
    report = verify(folder, "reevaluate", tasks={"two": task})
    assert (report.findings, set(report.reached.values())) == ((), {"reevaluate"})


# -- the command line


def test_the_command_line_says_it_in_one_line(
    folder: Path, honest: Mapping[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["verify", str(folder), "--level", "claimed"]) == 0
    assert capsys.readouterr().out == f"{folder}: nothing stands against it; claimed 4 runs\n"
    assert main(["verify", str(folder), "--level", "claimed", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["submission"], told["level"], told["findings"]) == ("omp-after", "claimed", [])
    assert main(["verify", str(folder)]) == 1  # the task is not installed
    (folder / "card.md").write_text("edited")
    assert main(["verify", str(folder)]) == 3
    other = tmp_path / "other" / "omp-after"
    shutil.copytree(honest["omp-after"], other)
    capsys.readouterr()
    assert main(["verify", str(folder), str(other), "--level", "claimed"]) == 3  # and the others are looked at
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == (f"{other}: nothing stands against it; claimed 4 runs\n", 1)
    assert "card.md: does not have the digest" in err
    assert main(["verify", str(other), "--record", "--board", str(tmp_path)]) == 2  # said before all the work
    assert "knows no submission 'omp-after', only none; `smcbench board build` takes up" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_submit(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user says it, in a battery of an installed task."""
    monkeypatch.setattr(plugins, "load_task", lambda name: tasks()[NAME])
    monkeypatch.setattr(plugins, "installed", lambda kind, was=plugins.installed: {**was(kind), NAME: None})
    battery = tmp_path / "b.toml"
    battery.write_text(f'[small]\nseeds = [0, 1]\nsparsities = [0.5, 0.75]\ntasks = [{{task = "{NAME}"}}]\n')
    said = ["submit", "--battery", str(battery), "--out", str(store.root), "--board", str(tmp_path / "board")]
    assert main([*said, "--sparsifier", "rigl"]) == 3  # cells are missing, nothing is written
    out, err = capsys.readouterr()
    assert f"  missing: {NAME} at 0.5, seed 1\n" in out
    assert "2 of 4 cells are missing" in err
    assert not (tmp_path / "board").exists()
    assert main([*said, "--sparsifier", "rigl", "--allow-incomplete", "--name", "Rigl"]) == 2
    assert "'Rigl' cannot name a submission: use a to z, 0 to 9" in capsys.readouterr().err
    assert main([*said, "--sparsifier", "rigl", "--card", str(tmp_path / "no.md")]) == 3
    assert f"{tmp_path / 'no.md'}: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert main([*said, "--sparsifier", "omp-after", "--authors", "somebody", "--paper", "arXiv:1506.02626"]) == 0
    placed = tmp_path / "board" / "submissions" / "omp-after"
    out, err = capsys.readouterr()
    assert f"{placed / 'card.md'}: filled in from the records" in out
    assert out.splitlines()[-1].startswith("next: open a pull request")
    submission = read_submission(placed)
    assert (len(submission.records), submission.manifest.authors) == (4, "somebody")
    assert "Authors: somebody" in (placed / "card.md").read_text()
    (tmp_path / "mine.md").write_text("what I did")
    assert main([*said, "--sparsifier", "omp-after", "--card", str(tmp_path / "mine.md")]) == 0
    assert (placed / "card.md").read_text() == "what I did"
    assert main([*said, "--sparsifier", "omp-after"]) == 0  # and no card that is filled in takes its place
    assert (placed / "card.md").read_text() == "what I did"
    assert read_submission(placed).manifest.authors == "somebody"
    assert main(["submit", "--sparsifier", "x", "--out", str(tmp_path / "empty")]) == 5


def test_the_engine_bills_as_verification_counts(store: Store) -> None:
    """The session that ran and the one that is asked now agree about the network's operations."""
    record = next(r for r in store.find() if r.is_dense)
    task = tasks()[NAME]
    session = Session(task, build_model(task, 3), task.recipe)
    assert record.cost.train_flops == task.recipe.steps * round(session.flops.step())
