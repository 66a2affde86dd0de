"""The session's smaller verbs, and what the scopes of a task leave to be pruned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import Toy, session

from smcbench import Session, plugins
from smcbench.criteria import magnitude
from smcbench.errors import UsageError
from smcbench.session import build_model


def _prunable(name: str, scope: str) -> tuple[nn.Module, list[str]]:
    task = replace(plugins.load_task(name).tiny(), scope=scope)  # type: ignore[type-var]
    model = build_model(task, 0)
    return model, task.prunable(model)


@pytest.mark.parametrize("name", ["digits", "cldr-2to2"])
def test_scope_fld_is_all_but_the_first_and_the_last(name: str) -> None:
    _, everything = _prunable(name, "all")
    assert _prunable(name, "fld")[1] == everything[1:-1]


def test_scope_encoder_leaves_out_embeddings_and_what_is_tied_to_them() -> None:
    model, names = _prunable("cldr-2to2", "encoder")
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    embeddings = {id(m.weight) for m in modules.values() if isinstance(m, nn.Embedding)}
    linear = {n for n in parameters if isinstance(modules[n.rpartition(".")[0]], nn.Linear) and n.endswith("weight")}
    assert set(names) == {n for n in linear if id(parameters[n]) not in embeddings}
    assert len(_prunable("cldr-2to2", "all")[1]) > len(names) > 0


def test_a_tied_matrix_counts_once() -> None:
    model, names = _prunable("cldr-2to2", "all")
    parameters = dict(model.named_parameters())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert len({id(parameters[n]) for n in names}) == len(names)


def test_what_is_not_trainable_stands_still() -> None:
    s = session()
    before = {name: p.detach().clone() for name, p in s.model.named_parameters()}
    s.train(trainable=["2.weight", "2.bias"])
    moved = {name for name, p in s.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"2.weight", "2.bias"}
    with pytest.raises(UsageError, match="no parameter 'nothing'"):
        s.train(trainable=["nothing"])


def test_restore_brings_the_mask_back_and_rewind_does_not() -> None:
    s = session()
    start = s.snapshot()
    s.train()
    s.prune(magnitude(s), 0.25)
    pruned = s.mask
    s.rewind(start)
    assert s.mask == pruned
    assert all(torch.equal(w, start.tensors[n] * pruned[n]) for n, w in s.weights.items())
    s.restore(start)
    assert s.mask.is_dense
    assert s.snapshot().digest() == start.digest()


def test_another_initialisation_is_that_of_its_seed() -> None:
    assert session(seed=0).initial(7).digest() == session(seed=7).snapshot().digest()


def test_test_scores_are_not_for_methods() -> None:
    with pytest.raises(UsageError, match="'validation' only"):
        session().evaluate("test")


def test_recalibration_takes_plain_means_and_is_billed() -> None:
    task = plugins.load_task("digits").tiny()
    s = Session(task, build_model(task, 0), task.recipe)
    norm = next(m for m in s.model.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3)).detach()))
    flops = s.flops.inference()
    seen.clear()
    s.recalibrate(3)
    hook.remove()
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0))
    assert norm.momentum == 0.1
    assert s.account.train_flops == 3 * round(flops)


def test_a_model_with_nothing_to_prune_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is prunable under scope 'fld'"):
        session(task=Toy(scope="fld"))
