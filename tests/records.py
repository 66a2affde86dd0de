"""Made-up records for the tests of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smcbench import files
from smcbench.results import predictions
from smcbench.results.battery import Battery, Entry
from smcbench.results.record import RunRecord, RunSpec
from smcbench.results.store import Store

DIGESTS = {"digits": "d1" * 32, "cldr-2to2": "c2" * 32}
ENGINE = 1
BATTERY = Battery("pair", (Entry("digits", (0.5, 0.9)), Entry("cldr-2to2", (0.5, 0.9))), (0, 1, 2))
AFTER = {"when": "after", "start": "dense-to-sparse", "mask": "static"}


def answers(seed: int) -> dict[str, Any]:
    return {f"e{i}": (i * 7 + seed) % 10 for i in range(20)}


def record(
    sparsifier: str = "omp",
    sparsity: float = 0.5,
    seed: int = 0,
    score: float = 90.0,
    *,
    task: str = "digits",
    label: str | None = None,
    version: int = 1,
    parameters: Mapping[str, Any] | None = None,
    budget: float = 1.0,
    digest: str | None = None,
    engine: int = ENGINE,
    category: Mapping[str, str] = AFTER,
    train: float = 2.0,
    higher: bool = True,
) -> RunRecord:
    spec = {
        "task": {"name": task, "version": 1, "digest": digest or DIGESTS[task], "scope": "all", "family": task},
        "sparsifier": {
            "name": sparsifier, "label": label or sparsifier, "version": version, "parameters": dict(parameters or {}),
        },
        "sparsity": sparsity, "seed": seed, "budget": budget,
    }  # fmt: skip
    kept = round(1000 * (1 - sparsity))
    count = {"weights": 1000, "zeros": 1000 - kept}
    hash_ = "ab" * 32
    value = {
        "schema": 1,
        "run": "0" * 12,
        "spec": spec,
        "metric": {"name": "accuracy", "unit": "%", "higher_is_better": higher, "chance": 10.0},
        "scores": {"accuracy": score},
        "sparsity": {
            "target": sparsity, "measured": 1 - kept / 1000, "kept": kept, "total": 1000,
            "denominators": dict.fromkeys(("scope", "linear", "trainable", "stored"), count),
            "layers": {"fc.weight": kept / 1000},
        },
        "cost": {
            "steps": 200, "gradient_evaluations": 0, "train_flops": 1000.0 * train, "train_flops_dense": 2000.0,
            "budget_flops": 1000.0, "inference_flops": 5.0, "inference_flops_dense": 10.0, "seconds": 1.5,
            "seconds_cached": 0.0, "peak_memory": None,
        },
        "conduct": {
            "peak_density": 1.0, "mask_updates": 1, "regrown": 0.0, "phases": 2, "first_prune": 100, "last_prune": 100,
        },
        "category": dict(category),
        "digests": {"weights": hash_, "mask": hash_, "predictions": files.sha256(predictions.encode(answers(seed)))},
        "provenance": {
            "smcbench": "0.1.0", "engine": engine, "commit": None, "dirty": None, "python": "3.11", "torch": "2.9",
            "device": "cpu", "threads": 1, "created": "2026-01-01T00:00:00Z",
            "source": {"task": hash_, "sparsifier": hash_},
        },
    }  # fmt: skip
    value["run"] = RunSpec.from_json(spec).run_id(engine)
    return RunRecord.from_json(value)


def dense(scores: Sequence[float], **others: Any) -> list[RunRecord]:
    kind = {"when": "never", "start": "dense", "mask": "static"}
    others = {"category": kind, "train": 1.0, **others}
    return [record("dense", 0.0, seed, score, **others) for seed, score in enumerate(scores)]


def put(store: Store, *records: RunRecord) -> None:
    for each in records:
        store.write_predictions(each.spec, each.provenance.engine, answers(each.spec.seed))
        store.write(each)


def full_store(root: Path) -> Store:
    """Dense and two methods on the whole battery."""
    store = Store(root)
    for task in DIGESTS:
        put(store, *dense([97.0, 98.0, 99.0], task=task))
        for seed in range(3):
            put(store, record("omp", 0.5, seed, 97.0 + seed, task=task), record("omp", 0.9, seed, 90.0, task=task))
            put(store, record("rigl", 0.5, seed, 96.0, task=task), record("rigl", 0.9, seed, 97.5, task=task))
    return store
