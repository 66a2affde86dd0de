"""Distillation and smoothed labels against formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smcbench import Session, testing
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
