"""Records: identity, strict reading, categories."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from records import record

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.results.record import Conduct, RunRecord, RunSpec, SparsifierRef, TaskRef, category_of

TASK = TaskRef("digits", 1, "d1" * 32, "all", "vision")
SPEC = RunSpec(TASK, SparsifierRef("rigl", "rigl(interval=100)", 1, {"interval": 100}), 0.488, 0, 1.0)


def spec(**changes: Any) -> RunSpec:
    value = SPEC.to_json()
    for path, item in changes.items():
        *outer, last = path.split("__")
        inner = value
        for key in outer:
            inner = inner[key]
        inner[last] = item
    return RunSpec.from_json(value)


def test_the_run_id_is_golden() -> None:
    identity = (
        '{"budget":1.0,"engine":1,"seed":0,"sparsifier":{"name":"rigl","parameters":{"interval":100},"version":1},'
        '"sparsity":0.488,"task":"' + "d1" * 32 + '"}'
    )
    assert SPEC.run_id(1) == files.sha256(identity)[:12] == "e12026d6187d"


@pytest.mark.parametrize(
    "changes",
    [
        {"task__digest": "e2" * 32},
        {"sparsifier__name": "set"},
        {"sparsifier__version": 2},
        {"sparsifier__parameters": {"interval": 200}},
        {"sparsifier__digest": "ab" * 32},
        {"sparsity": 0.5},
        {"seed": 1},
        {"budget": 2.0},
    ],
)
def test_what_changes_a_run_changes_its_id(changes: dict[str, Any]) -> None:
    assert spec(**changes).run_id(1) != SPEC.run_id(1)


def test_what_changes_nothing_keeps_the_id() -> None:
    assert spec(sparsifier__label="RigL, every 100", budget=1, task__scope="fld").run_id(1) == SPEC.run_id(1)
    assert SPEC.run_id(2) != SPEC.run_id(1)
    assert spec(sparsity=0).run_id(1) == spec(sparsity=-0.0).run_id(1)


@pytest.mark.parametrize(
    ("field", "value"), [("sparsity", 1.0), ("sparsity", -0.1), ("sparsity", math.nan), ("budget", 0.0), ("seed", -1)]
)
def test_impossible_specs_are_usage_errors(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"the {field} is"):
        RunSpec(**{**SPEC.__dict__, field: value})


def test_a_record_survives_the_round_trip() -> None:
    before = record()
    after = RunRecord.from_json(json.loads(before.text()))
    assert after == before
    assert after.text() == before.text()
    assert after.score == 90.0
    assert not after.is_dense


def _set(*path: str, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.pop("cost"), "key 'cost' is missing"),
        (_set("note", to=1), "unknown key 'note'"),
        (lambda v: v["cost"].pop("steps"), "cost: key 'steps' is missing"),
        (_set("cost", "steps", to=1.5), "cost: steps: must be a whole number"),
        (_set("cost", "steps", to=True), "cost: steps: must be a whole number"),
        (_set("scores", "accuracy", to=math.nan), "scores: accuracy: must be a finite number"),
        (_set("scores", "accuracy", to="97"), "scores: accuracy: must be a number"),
        (_set("scores", "accuracy", to=10**400), "scores: accuracy: must be a finite number"),
        (_set("scores", to={"bleu": 1.0}), "scores has no 'accuracy'"),
        (_set("spec", "sparsity", to=1.5), "spec: the sparsity is 1.5"),
        (_set("spec", "seed", to=7), "run is '.*', but its spec has the id"),
        (_set("spec", "sparsifier", "parameters", to={"x": math.inf}), "parameters: x: must be a finite number"),
        (_set("category", "when", to="later"), "category: when: must be one of never, before"),
        (_set("digests", "mask", to="../../etc"), "digests: mask: must be a text like"),
        (_set("schema", to=2), "schema 2, but this version reads 1"),
        (_set("provenance", "dirty", to="no"), "provenance: dirty: must be true or false"),
    ],
)
def test_a_bad_record_is_refused_by_key(change: Callable[[Any], None], told: str) -> None:
    value = copy.deepcopy(record().to_json())
    change(value)
    with pytest.raises(InvalidInput, match=f"^x.json: .*{told}") as caught:
        RunRecord.from_json(value, "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], 3, "text"])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="must be an object"):
        RunRecord.from_json(value)


@pytest.mark.parametrize(
    ("peak", "updates", "regrown", "last", "steps", "expected"),
    [
        (1.0, 0, 0.0, None, 200, "never, dense, static"),
        (0.5, 1, 0.0, 0, 200, "before, sparse-to-sparse, static"),
        (0.5, 100, 0.0, 0, 200, "before, sparse-to-sparse, static"),
        (1.0, 10, 0.0, 150, 200, "during, dense-to-sparse, static"),
        (0.5, 10, 0.1, 150, 200, "during, sparse-to-sparse, dynamic"),
        (1.0, 1, 0.0, 100, 200, "during, dense-to-sparse, static"),
        (1.0, 1, 0.0, 200, 400, "after, dense-to-sparse, static"),
        (1.0, 1, 0.0, 200, 200, "after, dense-to-sparse, static"),
        (1.0, 3, 0.0, 600, 800, "iterative, dense-to-sparse, static"),
    ],
)
def test_the_category_follows_from_the_conduct(
    peak: float, updates: int, regrown: float, last: int | None, steps: int, expected: str
) -> None:
    conduct = Conduct(peak, updates, regrown, 1, last, last)
    assert str(category_of(conduct, steps, 200)) == expected


@pytest.mark.parametrize(
    ("parts", "layers", "kept", "message"),
    [
        (2, ("0.w", "1.w"), 500, None),
        (2, ("0.w", "1.w"), 501, None),  # each part rounds for itself
        (2, ("0.w", "1.w"), 502, "does not add up"),
        (None, ("w",), 501, "does not add up"),
        (1, ("w",), 500, "layers of other parts than the 1 it claims"),
        (3, ("0.w", "1.w"), 500, "layers of other parts than the 3 it claims"),
        (1000, ("0.w", "1.w"), 900, "layers of other parts than the 1000 it claims"),
    ],
)
def test_a_task_in_parts_keeps_what_its_parts_may(
    parts: int | None, layers: tuple[str, ...], kept: int, message: str | None
) -> None:
    value = record(sparsity=0.5).to_json()
    value["sparsity"] |= {"measured": 1 - kept / 1000, "kept": kept, "layers": dict.fromkeys(layers, kept / 1000)}
    value["sparsity"]["denominators"]["scope"] = {"weights": 1000, "zeros": 1000 - kept}
    if parts is not None:
        value["sparsity"]["parts"] = parts
    if message is None:
        assert RunRecord.from_json(value).sparsity.parts == parts
    else:
        with pytest.raises(InvalidInput, match=message):
            RunRecord.from_json(value)
