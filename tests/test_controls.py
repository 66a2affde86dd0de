"""Controls: what they take from the method they control, what they do not, and how they are named and billed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import methods
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smcbench import Recipe, Session, cell, plugins, testing
from smcbench.controls import Reinit, Shuffled
from smcbench.errors import UsageError
from smcbench.results.record import RunSpec
from smcbench.session import build_model

SPARSITY = 0.75


def run(text: str) -> Session:
    task = testing.ToyTask()
    session = Session(task, build_model(task, 0), task.recipe)
    plugins.load_sparsifier(text).sparsifier.sparsify(session, SPARSITY)
    return session


@pytest.mark.parametrize("method", ["omp-after", "rigl", "snip", "gmp(stop=0.5)", "rigl@smc"])
def test_shuffled_keeps_the_counts_of_the_method_run_alone_and_no_more(method: str) -> None:
    control, alone = run(f"shuffled({method})"), run(method)
    assert control.mask.layer_densities() == alone.mask.layer_densities()
    # Two random masks of density d share d / (2 - d) of their weights: .14 at .25.
    assert control.mask.iou(alone.mask) < 0.35
    assert control.account.searched == alone.account.train_flops
    assert control.account.steps == control.recipe.steps
    assert control.conduct.peak_density == pytest.approx(0.25)


def test_a_control_of_a_control_bills_both_searches() -> None:
    lth, inner, outer = run("lth"), run("reinit(lth)"), run("shuffled(reinit(lth))")
    assert inner.account.searched == lth.account.train_flops
    assert outer.account.searched == lth.account.train_flops + inner.account.train_flops
    assert outer.account.steps == outer.recipe.steps
    assert outer.mask.layer_densities() == lth.mask.layer_densities()


def test_reinit_trains_the_ticket_from_other_weights() -> None:
    control, alone = run("reinit(lth)"), run("lth")
    assert control.mask == alone.mask
    task = testing.ToyTask()
    by_hand = Session(task, build_model(task, 0), task.recipe)
    by_hand.restore(by_hand.initial(10_000))
    by_hand.mask = alone.mask
    by_hand.train()
    assert control.snapshot().digest() == by_hand.snapshot().digest()
    frozen = "project.weight"
    assert torch.equal(control.model.get_parameter(frozen), alone.model.get_parameter(frozen))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("shuffled(rigl)", "shuffled(rigl)"),
        ("shuffled( rigl@smc )", "shuffled(rigl@smc)"),
        ("shuffled(rigl(stop = 0.75))", "shuffled(rigl)"),
        ("shuffled(method='gmp(stop=0.5)')", "shuffled(gmp(stop=0.5))"),
        ("reinit", "reinit(omp-after)"),
        ("shuffled(reinit(lth))", "shuffled(reinit(lth))"),
        (f"shuffled({methods.FILE}:Stepwise)", "shuffled(Stepwise)"),
        (f"shuffled(reinit({methods.FILE}:Stepwise()))", "shuffled(reinit(Stepwise))"),
    ],
)
def test_names(text: str, label: str) -> None:
    named = plugins.load_sparsifier(text)
    assert named.label == label
    if methods.FILE not in text:
        assert plugins.load_sparsifier(named.label).sparsifier == named.sparsifier


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shuffled(rigel)", "did you mean rigl"),
        ("shuffled(rigl(stop=2", "names no sparsifier"),
        ("reinit()(", "names no"),
        ("shuffled(nope)", "no sparsifier is called 'nope'"),
        ("shuffled(method=3)", "no sparsifier is called '3'"),
        ("shuffled(method='')", "names no sparsifier"),
        ("shuffled(reinit(nope))", "no sparsifier is called 'nope'"),
        ("shuffled(./nowhere.py:Mine)", "no such file"),
    ],
)
def test_a_method_that_is_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plugins.load_sparsifier(text)
    assert "\n" not in str(caught.value)


# -- identity


def spec(sparsifier: str | Shuffled) -> RunSpec:
    named = cell._unregistered(sparsifier) if isinstance(sparsifier, Shuffled) else plugins.load_sparsifier(sparsifier)
    return cell.spec_of(testing.ToyTask(), named, SPARSITY, 0, 1.0)


def identity(sparsifier: str | Shuffled) -> str:
    return spec(sparsifier).run_id(1)


def test_the_method_is_part_of_the_identity() -> None:
    same = {identity("shuffled(rigl)"), identity("shuffled(rigl(stop=0.75))"), identity("shuffled(method='rigl')")}
    assert len(same) == 1
    assert len({identity(f"shuffled({m})") for m in ("rigl", "rigl@smc", "gmp")} | {identity("reinit(rigl)")}) == 4


def test_one_method_has_one_identity_however_it_is_written() -> None:
    texts = ["shuffled(gmp)", "shuffled( gmp )", "shuffled(method='gmp()')", "shuffled(method=gmp)",
             "shuffled(gmp(stop=.7))", 'shuffled(method = "gmp")']  # fmt: skip
    assert {plugins.load_sparsifier(text).sparsifier for text in texts} == {Shuffled("gmp")}
    assert len({identity(written) for written in (*texts[:3], Shuffled(" gmp() "))}) == 1


METHOD = """
from dataclasses import dataclass

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude


@dataclass(frozen=True)
class Z(Sparsifier):
    method: str = "fast"
    strength: float = 0.5

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
        session.train()


@dataclass(frozen=True)
class Outer(Sparsifier):
    inner: str = "gmp"
    times: int = 1
    wraps = "inner"

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which work is done, and a method in it."""
    (tmp_path / "x.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["shuffled({})", "shuffled(reinit({}(strength=0.25)))"])
def test_a_file_is_the_same_wherever_it_lies_and_its_path_is_written_nowhere(text: str, here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "x.py").write_text(METHOD)
    places = ["x.py:Z", "./x.py:Z", f" {here}/x.py:Z", "elsewhere/x.py:Z"]
    specs = [spec(text.format(place)) for place in places] + [spec(Shuffled(text.format(f"{here}/x.py:Z")[9:-1]))]
    assert len({each.run_id(1) for each in specs}) == 1
    for each in specs:
        assert each == specs[0]
        assert "/" not in each.sparsifier.label + str(dict(each.sparsifier.parameters)) + each.sparsifier.name
    (here / "x.py").write_text(METHOD + "\n")
    assert identity(text.format("x.py:Z")) != specs[0].run_id(1)  # it is known by its source


def test_the_file_that_a_method_reads_is_found_from_within_controls(here: Path) -> None:
    cell.run(testing.ToyTask(), "omp-before", SPARSITY, out=here / "runs")
    path = next((here / "runs").rglob("mask.safetensors"))
    written = [f"shuffled(reinit(static(mask='{place}')))" for place in (path, path.relative_to(here))]
    one, other = map(spec, written)
    assert one == other
    assert one.sparsifier.label == "shuffled(reinit(static(mask='mask.safetensors')))"
    assert one.sparsifier.parameters == {"method": "reinit(static(mask='mask.safetensors'))"}
    assert run(written[0]).mask.kept == 89


def test_only_a_control_reads_a_method_there(here: Path) -> None:
    """A parameter called ``method`` is a parameter like any other."""
    named = plugins.load_sparsifier("x.py:Z(method='slow', strength=0.25)")
    assert named.label == "Z(method='slow', strength=0.25)"
    assert named.sparsifier.parameters() == {"method": "slow", "strength": 0.25}
    assert identity("x.py:Z(method='slow')") != identity("x.py:Z") == identity("x.py:Z(method='fast')")
    with pytest.raises(UsageError, match="name every parameter"):
        plugins.load_sparsifier("x.py:Z('slow')")
    assert plugins.load_sparsifier("shuffled(x.py:Z(method='slow'))").label == "shuffled(Z(method='slow'))"
    record = cell.run(testing.ToyTask(), "x.py:Z(method='slow')", SPARSITY, out=here / "runs")
    assert record.spec.sparsifier.parameters["method"] == "slow"


def test_a_strangers_control_may_have_parameters_too(here: Path) -> None:
    assert plugins.load_sparsifier("x.py:Outer(rigl)").label == "Outer(rigl)"
    named = plugins.load_sparsifier("x.py:Outer(inner='rigl(stop=0.75)', times=2)")
    assert named.label == "Outer(inner='rigl', times=2)"
    assert plugins.load_sparsifier(f"shuffled(x.py:{named.label})").label == f"shuffled({named.label})"
    assert identity(f"shuffled(x.py:{named.label})") != identity("shuffled(x.py:Outer(rigl))")


def test_a_new_version_of_the_method_is_another_control(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Shuffled("gmp").fingerprint()
    monkeypatch.setattr(type(plugins.load_sparsifier("gmp").sparsifier), "version", 2)
    assert Shuffled("gmp").fingerprint() != before


def test_what_does_not_apply_is_skipped_with_a_reason() -> None:
    assert "sparsity 0 only" in str(Shuffled("dense").skip(testing.ToyTask(), SPARSITY))

    class Pretrained(testing.ToyTask):
        pretrained = True

    assert "no other initialisation" in str(Reinit("lth").skip(Pretrained(), SPARSITY))
    assert Shuffled("lth").skip(Pretrained(), SPARSITY) is None


@pytest.mark.parametrize("control", ["shuffled(small-dense)", "reinit(small-dense)", "shuffled(reinit(small-dense))"])
def test_a_network_without_mask_has_no_control(control: str, tmp_path: Path) -> None:
    with pytest.raises(cell.Skipped, match="small-dense has a network of its own, and no mask to take"):
        cell.run(testing.ToyTask(), control, SPARSITY, out=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("small-dense", "of a network of your own there is no narrower one; make it, and train it with `dense`"),
        ("reinit", "a session on your own network does not know another initialisation; write a task for it"),
        ("shuffled(small-dense)", "no narrower one"),
        ("shuffled(reinit)", "does not know another initialisation"),
    ],
)
def test_what_your_own_network_has_not_is_said_before_anything_is_trained(text: str, message: str) -> None:
    x, y, recipe = torch.randn(16, 8), torch.randint(2, (16,)), Recipe(steps=3, batch_size=16, lr=0.1)
    own = Session.of(nn.Linear(8, 2), loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]), batches=[(x, y)], recipe=recipe)
    with pytest.raises(UsageError, match=message) as caught:
        plugins.load_sparsifier(text).sparsifier.sparsify(own, 0.5)
    assert "\n" not in str(caught.value)
    assert own.account.as_dict() == dataclasses.asdict(type(own.account)())


def test_the_record_holds_the_search_apart(tmp_path: Path) -> None:
    record = cell.run(testing.ToyTask(), "shuffled(omp-after)", SPARSITY, out=tmp_path)
    alone = cell.run(testing.ToyTask(), "omp-after", SPARSITY, out=tmp_path)
    assert record.cost.searched == alone.cost.train_flops
    assert record.cost.train_flops < alone.cost.train_flops
    assert str(record.category) == "before, sparse-to-sparse, static"
    assert record.spec.sparsifier.label == "shuffled(omp-after)"
    assert alone.cost.searched is None
    assert "searched" not in alone.text()


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_small_dense_is_the_narrower_network_trained_the_same_way(sparsity: float, tmp_path: Path) -> None:
    task = testing.ToyTask()
    record = cell.run(task, "small-dense", sparsity, out=tmp_path)
    smaller = task.smaller(1 - sparsity)
    by_hand = Session(smaller, build_model(smaller, 0), smaller.recipe)
    by_hand.train()
    assert record.digests.weights == by_hand.snapshot().digest()
    # 36 weights of the convolution, and width^2 + 4 width of the two matrices, of 356.
    width = max(w for w in range(1, 16) if 36 + w * w + 4 * w <= round((1 - sparsity) * 356))
    assert record.sparsity.kept == 36 + width * width + 4 * width
    assert record.sparsity.total == 356
    assert record.sparsity.layers["first.weight"] == pytest.approx(width * width / 256)
    dense = cell.run(task, "dense", 0.0, out=tmp_path)
    assert (record.cost.budget_flops, record.cost.train_flops_dense) == (dense.cost.budget_flops,) * 2
    assert record.cost.inference_flops_dense == dense.cost.inference_flops
    assert record.cost.inference_flops == by_hand.flops.inference() / smaller.recipe.batch_size
    assert record.spec.task == dense.spec.task
    assert str(record.category) == "never, dense, static"
    assert record.from_json(record.to_json()) == record


def test_small_dense_is_billed_as_dense_where_lengths_vary_and_the_budget_is_another(tmp_path: Path) -> None:
    tiny: Any = plugins.load_task("cldr-2to2").tiny()
    assert len(set(tiny.lengths())) > 1
    task = dataclasses.replace(tiny, recipe=tiny.recipe.replace(steps=8))
    small, dense = (
        cell.run(task, name, sparsity, budget=2.5, out=tmp_path)
        for name, sparsity in (("small-dense", SPARSITY), ("dense", 0.0))
    )
    assert small.cost.steps == dense.cost.steps == 20
    assert small.cost.budget_flops == dense.cost.budget_flops
    assert small.cost.train_flops_dense == dense.cost.train_flops_dense == dense.cost.train_flops
    assert small.cost.inference_flops_dense == dense.cost.inference_flops_dense == dense.cost.inference_flops
    assert small.cost.train_flops < dense.cost.train_flops


def test_small_dense_says_where_there_is_no_smaller_network() -> None:
    small_dense = plugins.load_sparsifier("small-dense").sparsifier
    assert "narrowest network" in str(small_dense.skip(testing.ToyTask(), 0.95))
    assert "task's own" in str(small_dense.skip(testing.ToyTask(), 0.0))
    assert "pretrained weights" in str(small_dense.skip(plugins.load_task("csqa"), 0.5))
