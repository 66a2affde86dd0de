"""Two ways to the same numbers: phases, micro-batches, processes, compiled graphs, reparametrisation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from toy import Toy, bits, session

from smcbench import Recipe, Session, State, plugins
from smcbench.cache import Cache
from smcbench.criteria import magnitude
from smcbench.errors import NotFinite
from smcbench.journal import Journal
from smcbench.sparsity.keep import keep
from smcbench.sparsity.reparam import effective


@pytest.mark.parametrize("k", [1, 7, 19])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_two_phases_equal_one(k: int, optimizer: str) -> None:
    task = Toy(Toy().recipe.replace(optimizer=optimizer, warmup=0.2))
    whole, parts = session(task=task), session(task=task)
    for s in (whole, parts):
        s.prune(magnitude(s), 0.5)
    whole.train()
    parts.train(0, k)
    parts.train(k)
    assert bits(whole.model) == bits(parts.model)


def test_a_phase_from_elsewhere_has_a_fresh_optimizer() -> None:
    first, second = session(), session()
    first.train(0, 10)
    state = first.snapshot()
    first.train(5)  # not where it stopped
    second.restore(state)
    second.train(5)
    assert bits(first.model) == bits(second.model)


def test_the_order_of_looking_does_not_matter() -> None:
    """R2: extra gradients, evaluations and draws in between change nothing in training."""
    plain, curious = session(), session()
    plain.train()
    for step in curious.steps():
        if step.index == 3:
            curious.evaluate()
            torch.rand(100)
            torch.rand(3, generator=curious.generator)
    assert bits(plain.model) == bits(curious.model)


def test_gradients_leave_no_trace() -> None:
    plain, curious = session(), session()
    plain.train(0, 10)
    curious.train(0, 10)
    curious.gradients(3)
    plain.train(10)
    curious.train(10)
    assert bits(plain.model) == bits(curious.model)


def test_accumulation_equals_one_batch() -> None:
    one = session(task=Toy())
    four = session(task=Toy(Toy().recipe.replace(accumulate=4)))
    for s in (one, four):
        s.prune(magnitude(s), 0.4)
        s.train()
    for a, b in zip(one.model.parameters(), four.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


_WORKER = """
import json, sys
import torch, torch.distributed as dist
from smcbench import plugins
from toy import Toy, session
torch.set_num_threads(1)
if len(sys.argv) > 2:
    dist.init_process_group("gloo")
s = session(task=Toy(Toy().recipe.replace(accumulate=2)))
plugins.load_sparsifier("rigl").sparsifier.sparsify(s, 0.6)
if not dist.is_initialized() or dist.get_rank() == 0:
    json.dump([p.tolist() for p in s.model.parameters()], open(sys.argv[1], "w"))
if dist.is_initialized():
    dist.barrier()  # a rank that leaves while the other still talks to it makes that one abort
    dist.destroy_process_group()
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for prefix, *arguments in (([], "one"), (launcher, "two", "distributed")):
        command = [sys.executable, *prefix, str(script), str(tmp_path / arguments[0]), *arguments[1:]]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        assert ((np.array(a) == 0) == (np.array(b) == 0)).all()


@pytest.mark.parametrize("name", ["rigl(interval=0.1)", "gmp(interval=0.1)"])
def test_compiled_masks_equal_eager_ones(name: str) -> None:
    eager, compiled = session(), session(compile="aot_eager")
    trajectories = []
    for s in (eager, compiled):
        masks = trajectories.append([]) or trajectories[-1]
        prune = type(s).mask.fset

        class Watching(type(s)):  # type: ignore[misc]
            mask = property(type(s).mask.fget, lambda self, new, m=masks, p=prune: (m.append(new), p(self, new))[1])

        s.__class__ = Watching
        plugins.load_sparsifier(name).sparsifier.sparsify(s, 0.7)
    assert len(trajectories[0]) > 3
    assert trajectories[0] == trajectories[1]
    for a, b in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class _Soft(nn.Module):
    def __init__(self, threshold: nn.Parameter) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return torch.sign(w) * torch.relu(w.abs() - torch.sigmoid(self.threshold))


def test_reparametrisation_equals_parametrize() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 6, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    threshold = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))
    soft = _Soft(threshold)
    weights = {"0.weight": net[0].weight, "2.weight": net[2].weight}
    before = {name: w.detach().clone() for name, w in weights.items()}
    with effective(weights, [threshold], lambda w, _: {name: soft(t) for name, t in w.items()}, 0):
        net(x).square().sum().backward()
    ours = [weights["0.weight"].grad, weights["2.weight"].grad, threshold.grad, net[0].bias.grad]
    assert all(torch.equal(w, before[name]) for name, w in weights.items())
    for p in (*net.parameters(), threshold):
        p.grad = None
    for layer in (net[0], net[2]):
        parametrize.register_parametrization(layer, "weight", soft)
    net(x).square().sum().backward()
    originals = [net[i].parametrizations.weight.original.grad for i in (0, 2)]
    for a, b in zip(ours, [*originals, threshold.grad, net[0].bias.grad], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_training_under_a_reparametrisation_trains_the_extra_parameters() -> None:
    s = session()
    thresholds = s.parameters("threshold", {"t": torch.tensor(-5.0, dtype=torch.float64)}, lr=0.1)
    soft = _Soft(thresholds["t"])
    before = float(thresholds["t"].detach())
    for _ in s.steps(reparam=lambda w, _: {name: soft(t) for name, t in w.items()}):
        pass
    assert float(thresholds["t"].detach()) != before
    assert s.conduct.peak_density == 1.0


def test_a_rigl_update_equals_plain_numpy() -> None:
    s = session()
    sparsifier = plugins.load_sparsifier("rigl(interval=0.2, drop_fraction=0.4)").sparsifier
    seen = []
    steps = s.steps

    def watched(*arguments: int) -> object:
        for step in steps(*arguments):
            before = {n: (w.detach().numpy().copy(), s.mask[n].numpy().copy()) for n, w in s.weights.items()}
            gradients = {n: w.grad.numpy().copy() for n, w in s.weights.items()}
            yield step
            seen.append((step.index, before, gradients, {n: m.numpy().copy() for n, m in s.mask.items()}))

    s.steps = watched  # type: ignore[method-assign, assignment]
    sparsifier.sparsify(s, 0.5)
    updates = [entry for entry in seen if entry[0] in (4, 8, 12, 15)]
    assert len(updates) == 4
    for index, before, gradients, after in updates:
        fraction = 0.4 / 2 * (1 + np.cos(np.pi * index / 15))  # equation 1 of the paper, T_end = 15
        for name, (w, mask) in before.items():
            active = np.flatnonzero(mask)
            drop = int(fraction * len(active))
            kept = active[np.argsort(-np.abs(w.ravel()[active]), kind="stable")][: len(active) - drop]
            free = np.setdiff1d(np.arange(w.size), kept)
            grown = free[np.argsort(-np.abs(gradients[name].ravel()[free]), kind="stable")][:drop]
            expected = np.zeros(w.size, dtype=bool)
            expected[kept] = expected[grown] = True
            assert (expected == after[name].ravel()).all(), (index, name)


def test_snip_scores_are_the_gradients_of_the_mask() -> None:
    from smcbench.criteria import connection_sensitivity

    s = session()
    scores = connection_sensitivity(s)
    gates = {name: torch.ones_like(w, requires_grad=True) for name, w in s.weights.items()}
    gated = {name: p.detach() for name, p in s.model.named_parameters()}
    batch = s._feed_for(s.recipe)(0)[0]
    outputs = torch.func.functional_call(s.model, {**gated, **{n: gated[n] * g for n, g in gates.items()}}, batch["x"])
    nn.functional.cross_entropy(outputs, batch["y"]).backward()
    for name, gate in gates.items():
        torch.testing.assert_close(scores[name], gate.grad.abs(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_fp32_weights(precision: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4))
    x = torch.randn(64, 12)
    y = x[:, :4].argmax(1)
    s = Session.of(
        net,
        loss=lambda m, b: nn.functional.cross_entropy(m(b[0]).float(), b[1]),
        batches=[(x, y)],
        recipe=Recipe(steps=40, batch_size=64, lr=0.02, precision=precision),  # type: ignore[arg-type]
    )
    s.prune(magnitude(s), 0.5)
    losses = [float(step.loss) for step in s.steps()]
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert all(bool((w[~s.mask[name]] == 0).all()) for name, w in s.weights.items())


def _steep(factor: float) -> Session:
    net = nn.Linear(4, 2)
    return Session.of(
        net,
        loss=lambda m, b: (m(b).float() * factor).square().mean(),
        batches=[torch.ones(2, 4)],
        recipe=Recipe(steps=3, batch_size=2, lr=0.01, precision="fp16"),
    )


def test_an_overflow_is_computed_again_at_a_smaller_scale_and_billed() -> None:
    s = _steep(100.0)
    seen = [(step.index, step.overflows, bool(torch.isfinite(step.gradients()["weight"]).all())) for step in s.steps()]
    assert [index for index, _, _ in seen] == [0, 1, 2]
    assert all(finite for _, _, finite in seen)
    assert seen[0][1] > 0
    assert s.account.gradient_evaluations == sum(overflows for _, overflows, _ in seen)
    assert s.account.steps == 3


def test_an_overflow_at_any_scale_is_an_error() -> None:
    with pytest.raises(NotFinite, match="overflow in fp16 at step 0"):
        _steep(1e25).train()


def test_gradients_within_a_step_leave_the_step_alone() -> None:
    plain, curious = session(), session()
    plain.train()
    for step in curious.steps():
        if step.index in (0, 5):
            before = {name: g.clone() for name, g in step.gradients().items()}
            extra = curious.gradients(2)
            assert all(torch.equal(before[name], g) for name, g in step.gradients().items())
            if step.index == 0:
                fresh = session().gradients(2)
                assert all(torch.equal(extra[name], fresh[name]) for name in fresh)
    assert bits(plain.model) == bits(curious.model)


def test_an_empty_phase_elsewhere_ends_the_optimizer() -> None:
    one, two = session(), session()
    for s in (one, two):
        s.train()
    one.train(0, 0)
    for s in (one, two):
        s.train()
    assert bits(one.model) == bits(two.model)


def test_a_frozen_parameter_is_part_of_the_key(tmp_path: Path) -> None:
    first = session(journal=Journal(tmp_path / "a", "a", Cache(tmp_path / "cache")))
    first.train()
    second = session(journal=Journal(tmp_path / "b", "b", Cache(tmp_path / "cache")))
    second.model[0].weight.requires_grad_(False)
    before = second.model[0].weight.clone()
    second.train()
    assert torch.equal(second.model[0].weight, before)
    assert second.account.seconds_cached == 0


def test_a_search_in_a_fork_is_part_of_the_conduct() -> None:
    s = session()
    fork = s.fork()
    fork.train()
    s.prune(magnitude(fork), 0.1)
    s.train()
    assert s.conduct.peak_density == 1.0
    assert s.account.steps == 40


def test_a_phase_with_its_own_batch_size_is_billed_by_it() -> None:
    s = session()
    s.train(0, 4)
    once = s.account.train_flops
    s.train(0, 4, recipe=s.recipe.replace(batch_size=32))
    assert s.account.train_flops == 3 * once


def test_moments_are_empty_outside_old_and_new() -> None:
    s = session()
    s.prune(magnitude(s), 0.5)
    old = s.mask
    for step in s.steps():
        if step.index == 10:
            s.mask = keep({n: w.grad.abs() for n, w in s.weights.items()}, 0.5)
            for name, weight in s.weights.items():
                both = old[name] & s.mask[name]
                for slot in ("exp_avg", "exp_avg_sq"):
                    moment = s._optimizer.state[weight][slot]
                    assert bool((moment[~both] == 0).all())
                    assert bool((moment[both] != 0).any())
            grown = {n: s.mask[n] & ~old[n] for n in s.weights}
            assert all(bool((w[grown[n]] == 0).all()) for n, w in s.weights.items())
    assert s.conduct.regrown == sum(int(g.sum()) for g in grown.values()) > 0


def test_a_state_digest_is_pinned() -> None:
    """Reduction order, chunking and device must not move it."""
    draw = torch.arange(600_001, dtype=torch.float32) / 7
    state = State({"a": draw, "b": torch.arange(5, dtype=torch.int64)}, keep({"a": torch.arange(5.0)}, 0.4))
    assert state.digest() == "34551ac68fbfa446bf9b3e3e8b85292cf8083b6f6386804114cc1bb3ca9bfdf7"
    assert State({**state.tensors, "b": torch.tensor([0, 1, 2, 4, 3])}, state.mask).digest() != state.digest()
