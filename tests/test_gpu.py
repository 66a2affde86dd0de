"""What a CUDA device must do as a CPU does: every plug-in's contract, half precision, compiled graphs, bills."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_contract import FIRST, SPARSIFIERS, hold

from smcbench import Session, plugins, run, testing
from smcbench.cell import Options
from smcbench.criteria import magnitude
from smcbench.seeds import be_deterministic
from smcbench.session import build_model

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", SPARSIFIERS)
def test_sparsifier(name: str) -> None:
    hold(name, testing.ToyTask(), device="cuda")


@pytest.mark.parametrize("name", FIRST)
def test_task(name: str) -> None:
    testing.check_task(name, device="cuda")


def trained(name: str, steps: int, **changes: object) -> tuple[Session, list[float]]:
    """A task trained for some steps at a tenth of its weights, and its losses."""
    task = plugins.load_task(name).tiny()
    recipe = task.recipe.replace(steps=steps, **changes)
    session = Session(task, build_model(task, 0, "cuda"), recipe)
    losses = []
    for step in session.steps():
        losses.append(step.loss.item())
        if step.index == steps // 2:
            session.prune(magnitude(session), density=0.1)
    return session, losses


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["digits", "cldr-2to2", "mnli-mini", "svamp-mini"])
def test_half_precision_learns_what_single_precision_does(name: str, precision: str) -> None:
    whole, half = trained(name, 20), trained(name, 20, precision=precision)
    assert half[1] == pytest.approx(whole[1], rel=0.1)
    assert half[1] != whole[1], "it was computed in single precision"
    for n, weight in half[0].weights.items():
        assert weight.dtype is torch.float32
        assert not weight[~half[0].mask[n]].any()
    assert half[0].mask.density == whole[0].mask.density


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["digits", "cldr-2to2", "mnli-mini", "svamp-mini"])
def test_the_same_seed_gives_the_same_bits(name: str, precision: str) -> None:
    """Of attention, torch's fastest kernels do so only where it is asked to fail rather than not to."""
    be_deterministic()
    one, other = (trained(name, 10, precision=precision) for _ in range(2))
    assert one[0].snapshot().digest() == other[0].snapshot().digest()


@pytest.mark.parametrize("name", ["digits", "cldr-2to2", "csqa-mini", "sts-b-mini", "svamp-mini", "lattice-tm-mini"])
def test_scores_are_those_of_a_cpu(name: str) -> None:
    session, _ = trained(name, 20)
    there = session.task.evaluate(session.model)
    here = session.task.evaluate(session.model.cpu())
    assert there.scores == pytest.approx(here.scores, rel=0.02, abs=0.5)
    if name != "svamp-mini":  # hardly trained, many an expression is as likely as the next
        other = [key for key, found in here.predictions.items() if not testing._alike(found, there.predictions[key])]
        assert len(other) <= 0.01 * len(here.predictions)


@pytest.mark.parametrize("name", ["digits", "mnli-mini"])
def test_a_compiled_graph_computes_what_an_eager_one_does(name: str) -> None:
    task = plugins.load_task(name).tiny()
    found = []
    for backend in (None, "inductor"):
        session = Session(task, build_model(task, 0, "cuda"), task.recipe.replace(steps=10), compile=backend)
        session.prune(magnitude(session), density=0.1)
        found.append([step.loss.item() for step in session.steps()])
        assert all(not weight[~session.mask[n]].any() for n, weight in session.weights.items())
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_run_on_a_gpu(tmp_path: Path) -> None:
    """Where the mask follows from the initialisation, devices agree on it, on the bill and nearly on the score."""
    on = {kind: run("digits", "omp-before", 0.738, out=tmp_path / kind, options=Options(device=kind))
          for kind in ("cpu", "cuda")}  # fmt: skip
    assert on["cuda"].digests.mask == on["cpu"].digests.mask
    assert on["cuda"].sparsity == on["cpu"].sparsity
    assert on["cuda"].cost.train_flops == on["cpu"].cost.train_flops
    assert on["cuda"].cost.inference_flops == on["cpu"].cost.inference_flops
    assert on["cuda"].scores["accuracy"] == pytest.approx(on["cpu"].scores["accuracy"], abs=2)
    assert on["cuda"].provenance.device == torch.cuda.get_device_name()
    assert 0 < on["cuda"].cost.peak_memory == torch.cuda.max_memory_allocated()
