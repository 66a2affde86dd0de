"""Distillation and smoothed labels against formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smcbench import Session, testing
from smcbench.criteria import magnitude
from smcbench.losses import distilled, smoothed
from smcbench.session import build_model
from smcbench.task import Outputs


def session_of(task: testing.ToyTask | None = None) -> Session:
    task = task or testing.ToyTask()
    return Session(task, build_model(task, 0), task.recipe)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_distillation_is_the_formula() -> None:
    session = session_of()
    teacher = session.fork()
    batch = session.task.collate(list(session.task.data("train")[:8]))
    outputs = Outputs(torch.randn(8, 4))
    total, count = distilled(session, teacher, hardness=0.25, temperature=2.0)(outputs, batch, 0)
    teacher.model.eval()
    told, own = teacher.model(batch["image"]).detach().double().numpy(), outputs.logits.double().numpy()
    p, q = softmax(told / 2), softmax(own / 2)
    cross = -np.log(softmax(own)[range(8), batch["label"].numpy()]).sum()
    assert count == 8
    assert total.item() == pytest.approx(0.75 * cross + 0.25 * 4 * (p * np.log(p / q)).sum(), rel=1e-5)


def test_a_teacher_that_says_the_same_adds_nothing_but_its_bill() -> None:
    session = session_of()
    teacher = session.fork()
    batch = session.task.collate(list(session.task.data("train")[:32]))
    before = session.account.train_flops
    outputs = teacher.outputs(batch)
    assert session.account.train_flops - before == round(session.flops.inference())
    total, _ = distilled(session, teacher, hardness=1.0, temperature=5.5)(outputs, batch, 0)
    assert total.item() == pytest.approx(0, abs=1e-4)


def test_a_number_is_taught_by_squared_error() -> None:
    session = session_of()
    teacher = session.fork()
    told, own = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [4.0]])
    teacher.outputs = lambda batch: Outputs(told)  # type: ignore[method-assign]
    loss = distilled(session, teacher, hardness=1.0)
    batch = {"label": torch.zeros(2, dtype=torch.long)}
    assert loss(Outputs(own), batch, 0)[0].item() == pytest.approx(0.25 + 4.0)


def test_positions_that_do_not_count_are_not_taught() -> None:
    session = session_of()
    teacher = session.fork()
    valid = torch.tensor([True, False])
    told, own = torch.randn(2, 4), torch.randn(2, 4)
    teacher.outputs = lambda batch: Outputs(told, valid)  # type: ignore[method-assign]
    batch = {"label": torch.zeros(2, dtype=torch.long)}
    one = distilled(session, teacher)(Outputs(own, valid), batch, 0)[0]
    p, q = softmax(told[:1].double().numpy()), softmax(own[:1].double().numpy())
    assert one.item() == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)


def test_smoothing_is_that_of_pytorch() -> None:
    session = session_of()
    logits, batch = torch.randn(8, 4), {"label": torch.randint(4, (8,))}
    total, count = smoothed(session, 0.1)(Outputs(logits), batch, 0)
    expected = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="sum", label_smoothing=0.1)
    assert (total.item(), count) == (pytest.approx(expected.item(), rel=1e-6), 8)


def test_classes_that_are_not_offered_get_no_share() -> None:
    session = session_of()
    batch = {"label": torch.tensor([0, 1])}
    offered = torch.tensor([[0.3, -0.2, 0.9], [0.1, 0.5, -0.7]])
    barred = torch.cat([offered, torch.full((2, 1), torch.finfo(torch.float32).min)], dim=1)
    one, other = (smoothed(session, 0.1)(Outputs(logits), batch, 0)[0] for logits in (offered, barred))
    assert one.item() == pytest.approx(other.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_classes_that_are_not_offered_get_no_share_in_any_precision(dtype: torch.dtype) -> None:
    """The lowest number of the type stands for no class; smoothed are the log-probabilities of the others."""
    session = session_of()
    label = torch.tensor([0, 1])
    offered = torch.tensor([[0.25, -0.5, 0.75], [0.125, 0.5, -0.75]])  # which every type holds exactly
    logits = torch.cat([offered, torch.full((2, 1), torch.finfo(dtype).min)], dim=1).to(dtype)
    assert (logits[:, 3] == torch.finfo(dtype).min).all()
    logits = logits.requires_grad_()
    total, count = smoothed(session, 0.5)(Outputs(logits), {"label": label}, 0)
    total.backward()
    assert logits.grad is not None
    logs, wanted = np.log(softmax(offered.double().numpy())), np.eye(3)[label]
    # The task's half of the loss is computed in the type itself.
    loose = {"rel": 1e-5 if dtype == torch.float32 else 2e-2}
    assert (total.item(), count) == (
        pytest.approx(-(0.5 * (wanted * logs).sum() + 0.5 * logs.mean(1).sum()), **loose),
        2,
    )
    slope = softmax(offered.double().numpy()) - 0.5 * wanted - 0.5 / 3
    np.testing.assert_allclose(
        logits.grad[:, :3].double().numpy(), slope, atol=1e-6 if dtype == torch.float32 else 5e-3
    )
    assert not logits.grad[:, 3].any()


# -- asking a network


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("density", [1.0, 0.25])
def test_asking_is_in_evaluation_mode_without_graph_and_billed_and_changes_nothing(mode: bool, density: float) -> None:
    """Of 1 in 2 micro-batches; the toy has dropout, and batch norm whose statistics would move in training mode."""
    task = testing.ToyTask()
    session = Session(task, build_model(task, 0), task.recipe.replace(accumulate=2))
    session.prune(magnitude(session), density=density)
    session.model.train(mode)
    batch = task.collate(list(task.data("train")[:16]))
    before, bill = session.snapshot().digest(), (session.account.train_flops, session.account.train_flops_dense)
    found, again = session.outputs(batch).logits, session.outputs(batch).logits
    assert session.model.training is mode
    assert all(module.training is mode for module in session.model.modules())
    assert session.snapshot().digest() == before
    assert torch.equal(found, again)
    assert not found.requires_grad
    session.model.eval()
    assert torch.equal(found, session.model(batch["image"]))
    dense, sparse = session.flops.inference(), session.flops.inference(session.mask.layer_densities())
    assert (sparse < dense) == (density < 1)
    assert session.account.train_flops - bill[0] == 2 * round(sparse / 2)
    assert session.account.train_flops_dense - bill[1] == 2 * round(dense / 2)
    assert session.account.steps == 0
