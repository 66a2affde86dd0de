"""Controls: what they take from the method they control, what they do not, and how they are named and billed."""

from __future__ import annotations

from pathlib import Path

import methods
import pytest
import torch

from smcbench import Session, cell, plugins, testing
from smcbench.controls import Reinit, Shuffled
from smcbench.errors import UsageError
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
    ],
)
def test_a_method_that_is_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plugins.load_sparsifier(text)


def test_the_method_is_part_of_the_identity() -> None:
    task = testing.ToyTask()

    def identity(text: str) -> str:
        return cell.spec_of(task, plugins.load_sparsifier(text), SPARSITY, 0, 1.0).run_id(1)

    same = {identity("shuffled(rigl)"), identity("shuffled(rigl(stop=0.75))"), identity("shuffled(method='rigl')")}
    assert len(same) == 1
    assert len({identity(f"shuffled({m})") for m in ("rigl", "rigl@smc", "gmp")} | {identity("reinit(rigl)")}) == 4


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


def test_small_dense_says_where_there_is_no_smaller_network() -> None:
    small_dense = plugins.load_sparsifier("small-dense").sparsifier
    assert "narrowest network" in str(small_dense.skip(testing.ToyTask(), 0.95))
    assert "task's own" in str(small_dense.skip(testing.ToyTask(), 0.0))
    assert "pretrained weights" in str(small_dense.skip(plugins.load_task("csqa"), 0.5))
