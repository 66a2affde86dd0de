"""The contract, over every installed plug-in; what it catches; and golden runs of the plug-ins that come with smcbench.

The golden files pin what a plug-in does, so that its numbers cannot change without its ``version``. Where a change is
meant, bump the version (or ``trainer.ENGINE``, if the engine changed) and rewrite them:
``pytest tests/test_contract.py -k golden --regenerate``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import methods
import pytest
import torch

from smcbench import Session, Sparsifier, Task, files, plugins, testing
from smcbench.session import build_model
from smcbench.trainer import ENGINE

GOLDEN = Path(__file__).parent / "golden"
IN_FULL = ("digits", "cldr-2to2")
"""A convolutional and a transformer task: here sparsifiers keep the whole contract; on all others under ``slow``."""
IN_SHORT = ("csqa-mini", "mnli-mini", "svamp-mini", "lattice-protein-mini")
"""One task of each other family: here they show what a single run does."""
SPARSIFIERS = sorted(plugins.installed("sparsifiers"))
TASKS = sorted(plugins.installed("tasks"))


def ours(kind: plugins.Kind) -> list[str]:
    return sorted(name for name, plugin in plugins.installed(kind).items() if plugin.distribution == "smcbench")


def sparsity_for(sparsifier: str | Sparsifier, task: Task) -> float:
    """0.75, or 0 for what does not prune."""
    method = plugins.load_sparsifier(sparsifier).sparsifier if isinstance(sparsifier, str) else sparsifier
    return 0.0 if method.skip(task, 0.75) and not method.skip(task, 0.0) else 0.75


def hold(sparsifier: str | Sparsifier, task: Task, *, short: bool = False, device: str = "cpu") -> None:
    try:
        testing.check_sparsifier(sparsifier, task, sparsity_for(sparsifier, task), short=short, device=device)
    except testing.Skipped as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", SPARSIFIERS)
def test_sparsifier(name: str) -> None:
    hold(name, testing.ToyTask())


PRESETS = [
    f"{name}@{preset}" for name in ours("sparsifiers") for preset in plugins.load_sparsifier(name).sparsifier.presets
]


@pytest.mark.parametrize("name", PRESETS)
def test_preset(name: str) -> None:
    hold(name, testing.ToyTask())


@pytest.mark.parametrize("method", [methods.Stepwise(), methods.Forks()], ids=repr)
def test_sparsifiers_of_users(method: Sparsifier) -> None:
    hold(method, testing.ToyTask())


FIRST = list({plugins.load_task(name).tiny(): name for name in reversed(TASKS)}.values())
"""Of the tasks that share a tiny variant, one."""


@pytest.mark.parametrize("name", SPARSIFIERS)
@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t in IN_FULL else [pytest.mark.slow]) for t in FIRST])
def test_pair(task: str, name: str) -> None:
    hold(name, plugins.load_task(task).tiny())


@pytest.mark.parametrize("name", SPARSIFIERS)
@pytest.mark.parametrize("task", IN_SHORT)
def test_pair_in_short(task: str, name: str) -> None:
    hold(name, plugins.load_task(task).tiny(), short=True)


@pytest.mark.parametrize("name", [*FIRST, methods.TOY])
def test_task(name: str) -> None:
    testing.check_task(name)


@pytest.mark.parametrize("name", [name for name in TASKS if name not in FIRST])
def test_task_with_the_tiny_variant_of_another(name: str) -> None:
    promises = {check.name: check for check in testing.task_checks(name)}
    promises["its identity can be written down and is stable"].run()
    try:
        promises["its splits are disjoint"].run()
    except testing.Skipped as reason:
        pytest.skip(str(reason))


BROKEN = [
    (methods.Mutable(), "hyper-parameters are frozen", "Mutable can be changed; decorate it with"),
    (methods.NoJSON(), "hyper-parameters are frozen", "'dtype' is no JSON value"),
    (methods.OneTooMany(), "reaches the sparsity exactly", "at sparsity 0.75 it must be"),
    (methods.OneTooFew(), "reaches the sparsity exactly", "at sparsity 0.75 it must be"),
    (methods.Wraps(), "reaches the sparsity exactly", "left a wrapped or rebuilt model"),
    (methods.WrapsByPrune(), "reaches the sparsity exactly", "left a wrapped or rebuilt model"),
    (methods.Raises(), "reaches the sparsity exactly", "it raised ValueError: this one always fails (methods.py"),
    (methods.Revives(), "", "came back to life"),
    (methods.PrunesBiases(), "leaves all other weights alone", "1 weights of 'head.bias' are zero now"),
    (methods.Thaws(), "leaves all other weights alone", "the frozen parameter 'project.weight' was changed"),
    (methods.Mislabelled(), "conduct is that of its category", "measured is before, sparse-to-sparse, static"),
    (methods.DrawsFromTorch(), "same seed gives the same bits", "use session.generator"),
    (methods.DrawsFromNumPy(), "same seed gives the same bits", "use session.generator"),
    (methods.ForgetsOnRestart(), "killed and resumed", "belongs into session.memory"),
]


@pytest.mark.parametrize(("method", "promise", "message"), BROKEN, ids=[type(m).__name__ for m, _, _ in BROKEN])
def test_what_the_contract_catches(method: Sparsifier, promise: str, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        testing.check_sparsifier(method)
    text = str(caught.value)
    assert promise in text
    assert message in text
    assert "\n" not in text


def test_a_sparsifier_that_skips_is_skipped() -> None:
    with pytest.raises(testing.Skipped, match="sparsity 0 only"):
        testing.check_sparsifier("dense")


class _BadTask(testing.ToyTask):
    """Toy tasks that break one promise each."""

    def loss(self, outputs: Any, batch: Any) -> Any:
        total, count = super().loss(outputs, batch)
        return (total / count, count) if self.name == "mean" else (total, count)

    def data(self, split: Any) -> Any:
        return super().data("train" if self.name == "leak" else split)

    def evaluate(self, sparse_model: Any, split: Any = "test", *, batch_size: int | None = None) -> Any:
        found = super().evaluate(sparse_model, split, batch_size=batch_size)
        if self.name == "mode":
            sparse_model.eval()
        if self.name == "draws":
            torch.rand(1)
        if self.name == "batch":
            found.scores["accuracy"] = min(100, found.scores["accuracy"] / 2 + (batch_size or 1))
        if self.name == "percent":
            found.scores["accuracy"] *= 100
        return found

    def prunable(self, model: Any) -> Any:
        return [*super().prunable(model), "project.weight"] if self.name == "frozen" else super().prunable(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mean", "return the sum, not the mean"),
        ("leak", "is in 'train' and in 'validation'"),
        ("mode", "evaluate() changes the mode of module"),
        ("draws", "evaluate() draws from torch's global generator"),
        ("batch", "in batches of 3"),
        ("percent", "accuracy is"),
        ("frozen", "'project.weight' is frozen"),
    ],
)
def test_what_the_contract_of_tasks_catches(name: str, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        testing.check_task(_BadTask(name))
    assert message in str(caught.value)


# -- golden runs


def golden(name: str, found: dict[str, Any], regenerate: bool) -> dict[str, Any]:
    path = GOLDEN / f"{name}.json"
    if regenerate:
        files.write(path, json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert path.exists(), (
        f"{name} is new: write its golden file with pytest {Path(__file__).name} -k golden --regenerate"
    )
    pinned: dict[str, Any] = json.loads(path.read_text())
    for key in ("version", "engine"):
        assert found[key] == pinned[key], f"the {key} of {name} changed: rewrite its golden file with --regenerate"
    return pinned


CHANGED = "{} does something else than its golden run; mend it, or bump its version and --regenerate"


@pytest.mark.parametrize("name", [*ours("sparsifiers"), *PRESETS])
def test_golden_sparsifier(name: str, regenerate: bool) -> None:
    method, task = plugins.load_sparsifier(name).sparsifier, testing.ToyTask()
    session = Session(task, build_model(task, 0), task.recipe)
    method.sparsify(session, sparsity_for(name, task))
    found: dict[str, Any] = {
        "version": method.version,
        "engine": ENGINE,
        "parameters": method.parameters(),
        "steps": session.account.steps,
        "gradient_evaluations": session.account.gradient_evaluations,
        "mask_updates": session.conduct.mask_updates,
        "kept": {key: int(bits.sum()) for key, bits in session.mask.items()},
        "norm": {key: round(w.detach().norm().item(), 5) for key, w in session.weights.items()},
        "train_flops": session.account.train_flops,
    }
    pinned = golden(name, found, regenerate)
    for key in ("parameters", "steps", "gradient_evaluations", "mask_updates"):
        assert found[key] == pinned[key], f"{key}: " + CHANGED.format(name)
    # CPUs round differently, so a weight at the threshold may fall on its other side.
    total = sum(pinned["kept"].values())
    for key, count in pinned["kept"].items():
        assert abs(found["kept"][key] - count) <= 0.01 * total, f"{key}: " + CHANGED.format(name)
        assert found["norm"][key] == pytest.approx(pinned["norm"][key], rel=0.02), f"{key}: " + CHANGED.format(name)
    assert found["train_flops"] == pytest.approx(pinned["train_flops"], rel=0.01), CHANGED.format(name)


TINY = {plugins.load_task(name).tiny().name: plugins.load_task(name).tiny() for name in ours("tasks")}
"""Tasks that share an adapter and an architecture share a tiny variant."""


@pytest.mark.parametrize("name", TINY)
def test_golden_task(name: str, regenerate: bool) -> None:
    task = TINY[name]
    session = Session(task, build_model(task, 0), task.recipe)
    losses = [step.loss.item() for step in session.steps()]
    found = {
        "version": task.version,
        "engine": ENGINE,
        "recipe": task.recipe.as_dict(),
        "prunable": {key: list(w.shape) for key, w in session.weights.items()},
        "losses": [round(loss, 5) for loss in losses],
        "train_flops": session.account.train_flops,
    }
    pinned = golden(name, found, regenerate)
    for key in ("recipe", "prunable"):
        assert found[key] == pinned[key], f"{key}: " + CHANGED.format(name)
    assert found["losses"] == pytest.approx(pinned["losses"], rel=0.01), CHANGED.format(name)
    assert found["train_flops"] == pytest.approx(pinned["train_flops"], rel=0.01), CHANGED.format(name)
