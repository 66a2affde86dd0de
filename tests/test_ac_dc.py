"""AC/DC and GMP*: phases at hand-computed points, what comes back, and the limits in which they are other methods."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smcbench import Recipe, Session, Sparsifier, plugins, testing
from smcbench.criteria import magnitude
from smcbench.errors import UsageError
from smcbench.session import Loss, build_model
from smcbench.task import Batch, Outputs
from smcbench_baselines.ac_dc import ACDC, ACDCPlusPlus
from smcbench_baselines.gmp_star import GMPStar
from smcbench_baselines.omp import OMPAfter, OMPBefore

SPARSITY = 0.75


class Watched(Session):
    """Notes the density of each step, the recipe's learning rate, and what the optimizer knew when a phase began."""

    def _loop(self, *args: Any) -> Any:
        loop = super()._loop(*args)
        self.seen: list[tuple[int, float, float]] = getattr(self, "seen", [])
        run = loop.run

        def watched(start: int, stop: int) -> Any:
            self.begun = [*getattr(self, "begun", []), (start, self.mask.density, len(self._optimizer.state) > 0)]
            for step in run(start, stop):
                yield step
                rate = self._optimizer.param_groups[0]["lr"]
                self.seen.append((step.index, self.mask.density, rate))

        loop.run = watched
        return loop


def session_of(steps: int = 100, task: testing.ToyTask | None = None, **changes: Any) -> Watched:
    task = task or testing.ToyTask()
    return Watched(task, build_model(task, 0), task.recipe.replace(steps=steps, **changes))


def test_phases_of_the_papers_hundred_epochs() -> None:
    epochs = list(ACDC().phases(Recipe(steps=100, batch_size=1, lr=1.0)))
    pruned = [start for start, _, is_compressed in epochs if is_compressed]
    restored = [start for start, _, is_compressed in epochs[1:] if not is_compressed]
    assert pruned == [10, 20, 30, 40, 50, 60, 70, 85]
    assert restored == [15, 25, 35, 45, 55, 65, 75]
    assert [one[1] for one in epochs[:-1]] == [other[0] for other in epochs[1:]]
    assert epochs[-1][1] == 100


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 33, 2500])
@pytest.mark.parametrize("method", [ACDC(), ACDC(phase=0.1), ACDC(warmup=0.0, phase=0.2, last=0.2, final=0.4)])
def test_phases_cover_any_run_and_end_sparse(steps: int, method: ACDC) -> None:
    phases = list(method.phases(Recipe(steps=steps, batch_size=1, lr=1.0)))
    assert [i for start, stop, _ in phases for i in range(start, stop)] == list(range(steps))
    assert phases[-1][2] or steps < 4


def test_density_alternates_and_moments_are_forgotten_where_weights_come_back() -> None:
    session = session_of()
    ACDC().sparsify(session, SPARSITY)
    sparse = {i for a, b in ((10, 15), (20, 25), (30, 35), (40, 45), (50, 55), (60, 65), (70, 75), (85, 100))
              for i in range(a, b)}  # fmt: skip
    assert [(i, d) for i, d, _ in session.seen] == [(i, 1 - SPARSITY if i in sparse else 1.0) for i in range(100)]
    assert [start for start, density, knows in session.begun if not knows] == [0, 15, 25, 35, 45, 55, 65, 75]


def test_what_comes_back_starts_at_zero_and_is_drawn_by_the_session() -> None:
    session = session_of()
    session.prune(magnitude(session), density=0.1)
    before, kept = {n: w.detach().clone() for n, w in session.weights.items()}, session.mask
    ACDC(decompressed=0.5).decompress(session)
    total = session.mask.total
    assert session.mask.kept == round(0.5 * total)
    assert kept & session.mask == kept
    assert all(torch.equal(before[name], weight) for name, weight in session.weights.items())
    other = session_of()
    other.prune(magnitude(other), density=0.1)
    ACDC(decompressed=0.5).decompress(other)
    assert other.mask == session.mask  # the same generator
    other.prune(magnitude(other), density=0.1)
    ACDC(decompressed=0.5).decompress(other)
    assert other.mask != session.mask


def test_without_decompression_it_prunes_once() -> None:
    one, other = session_of(), session_of()
    ACDC(decompressed=SPARSITY).sparsify(one, SPARSITY)
    other.train(0, 10)
    other.prune(magnitude(other), density=1 - SPARSITY)
    other.train(10)
    assert one.snapshot().digest() == other.snapshot().digest()
    assert one.conduct.mask_updates == 1


def test_plus_plus_falls_in_a_line_over_all_phases() -> None:
    session = session_of(schedule="cosine", warmup=0.1)
    ACDCPlusPlus().sparsify(session, SPARSITY)
    rates = [rate / session.recipe.lr for _, _, rate in session.seen]
    assert rates[:11] == pytest.approx([*(i / 10 for i in range(1, 11)), 1.0])
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(1 / 90)


def test_plus_plus_without_its_recipe_is_ac_dc() -> None:
    one, other = session_of(schedule="linear", warmup=0.1), session_of(schedule="linear", warmup=0.1)
    ACDCPlusPlus(smoothing=0.0).sparsify(one, SPARSITY)
    ACDC().sparsify(other, SPARSITY)
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(one.weights.values(), other.weights.values(), strict=True)]
    assert all(same)


class SmoothToy(testing.ToyTask):
    """Its own loss smooths labels."""

    smoothing = 0.1

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int]:
        return F.cross_entropy(outputs.logits, batch["label"], reduction="sum", label_smoothing=0.1), 32


def trained_by_hand(loss: Loss | None, task: testing.ToyTask, **changes: Any) -> Session:
    """Dense until a tenth, then pruned: AC/DC++ in which nothing comes back."""
    session = session_of(50, task, **changes)
    recipe = session.recipe.replace(schedule="linear", warmup=0.1)
    session.train(0, 5, recipe=recipe, loss=loss)
    session.prune(magnitude(session), density=1 - SPARSITY)
    session.train(5, recipe=recipe, loss=loss)
    return session


def apart(one: Session, other: Session) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one.weights.values(), other.weights.values(), strict=True))


@pytest.mark.parametrize("task", [testing.ToyTask(), SmoothToy()], ids=["plain", "smooth"])
def test_plus_plus_smooths_labels_once(task: testing.ToyTask) -> None:
    def smooth(share: float) -> Loss:
        return lambda outputs, batch, index: (
            F.cross_entropy(outputs.logits, batch["label"], reduction="sum", label_smoothing=share),
            len(batch["label"]),
        )

    session = session_of(50, task, schedule="cosine")
    ACDCPlusPlus(decompressed=SPARSITY).sparsify(session, SPARSITY)
    assert apart(session, trained_by_hand(smooth(0.1), task)) < 1e-4
    assert apart(session, trained_by_hand(smooth(0.0), task)) > 1e-2
    assert apart(session, trained_by_hand(smooth(0.19), task)) > 1e-2  # a tenth, and of what is left again


@pytest.mark.parametrize("name", ["cldr-2to2", "mnli-mini", "resnet50-imagenet", "digits"])
def test_plus_plus_leaves_the_loss_to_tasks_that_smooth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = plugins.load_task(name)
    losses: list[Any] = []
    session = session_of()
    monkeypatch.setattr(session, "task", task)
    monkeypatch.setattr(session, "train", lambda *args, loss=None, **rest: losses.append(loss))
    ACDCPlusPlus().train(session, 0, 1)
    smooths = {"cldr-2to2": True, "mnli-mini": False, "resnet50-imagenet": True, "digits": False}
    assert (losses == [None]) == smooths[name]


def test_phases_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^ac-dc: warmup, last and final leave no room for a phase"):
        plugins.load_sparsifier("ac-dc(warmup=.9)")
    with pytest.raises(UsageError, match="no room for a phase"):
        ACDC(phase=0.7)
    assert ACDC(phase=0.65).phase == 0.65  # what .1, .1 and .15 leave


# -- GMP*


def test_gmp_star_jumps_then_follows_the_cubic_schedule() -> None:
    session = session_of(steps=60)
    GMPStar(hardness=0.0).sparsify(session, 0.9)
    of = {i: d for i, d, _ in session.seen[-60:]}
    total = session.mask.total

    def kept(sparsity: float) -> float:
        return round((1 - sparsity) * total) / total

    assert of[3] == 1.0
    assert of[4] == kept(0.78 * 0.9)
    assert of[28] == kept(0.9 - (0.22 * 0.9) / 8)  # half of the window 4 to 52
    assert of[52] == of[59] == kept(0.9)
    rates = [rate for _, _, rate in session.seen[-60:]]
    rises = [i for i, (a, b) in enumerate(itertools.pairwise(rates)) if b > a and i > session.recipe.at(0.1)]
    assert len(rises) == 6  # seven cycles


def test_gmp_star_is_taught_by_the_dense_network(monkeypatch: pytest.MonkeyPatch) -> None:
    taught = []

    def noted(session: Session, teacher: Session, *rest: float) -> Any:
        taught.append(teacher.snapshot().digest())
        return None  # the task's own loss

    monkeypatch.setattr("smcbench_baselines.gmp_star.distilled", noted)
    session, alone = session_of(steps=20), session_of(steps=20)
    GMPStar().sparsify(session, SPARSITY)
    alone.train()
    assert taught == [alone.snapshot().digest()]
    assert session.account.steps == 40


@pytest.mark.parametrize(("hardness", "temperature"), [(0.25, 3.0), (1.0, 2.0)])
def test_gmp_star_trains_by_the_distillation_loss(hardness: float, temperature: float) -> None:
    """At sparsity 0 only the loss is left of it."""
    session, other = session_of(steps=40), session_of(steps=40)
    GMPStar(hardness=hardness, temperature=temperature).sparsify(session, 0.0)
    teacher = session_of(steps=40)
    teacher.train()
    teacher.model.eval()

    def taught(outputs: Outputs, batch: Batch, index: int) -> tuple[Tensor, int]:
        with torch.no_grad():
            told = teacher.model(batch["image"])
        p, q = (torch.softmax(logits / temperature, 1) for logits in (told, outputs.logits))
        cross = -outputs.logits.softmax(1)[range(len(p)), batch["label"]].log().sum()
        return (1 - hardness) * cross + hardness * temperature**2 * (p * (p / q).log()).sum(), len(p)

    other.train(recipe=other.recipe.replace(schedule="linear", cycles=7), loss=taught)
    assert apart(session, other) < 1e-3
    alone = session_of(steps=40)
    GMPStar(hardness=0.0).sparsify(alone, 0.0)
    assert apart(session, alone) > 1e-2


# -- one-shot magnitude pruning, what all of these are compared with


@pytest.mark.parametrize(("method", "trains_first"), [(OMPBefore(), False), (OMPAfter(), True)])
def test_one_shot_magnitude_pruning_keeps_the_largest(method: Sparsifier, trains_first: bool) -> None:
    session, dense = session_of(steps=16), session_of(steps=16)
    method.sparsify(session, SPARSITY)
    if trains_first:
        dense.train()
    sizes = np.concatenate([w.detach().abs().numpy().ravel() for w in dense.weights.values()])
    kept = np.concatenate([mask.numpy().ravel() for mask in session.mask.values()])
    wanted = np.zeros(356, bool)
    wanted[np.argsort(sizes)[-89:]] = True
    assert np.array_equal(kept, wanted)
    assert session.account.steps == (32 if trains_first else 16)
