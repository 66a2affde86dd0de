"""What a snapshot of a session holds, as flat names, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from smcbench.sparsity.mask import Mask
from smcbench.state import State

if TYPE_CHECKING:
    from smcbench.session import Session


def tensors_of(session: Session) -> dict[str, Tensor]:
    """All tensors of a session: model, mask, extra parameters, optimizer, memory, generator."""
    state = session.snapshot()
    return {
        **{f"model/{name}": tensor for name, tensor in state.tensors.items()},
        **{f"mask/{name}": bits for name, bits in state.mask.pack().items()},
        **{f"extra/{g}/{n}": p.detach() for g, group in session._extra.items() for n, p in group.items()},
        **optimizer_tensors(session._optimizer),
        **memory_tensors(session),
        **({} if session._explored is None else {f"explored/{n}": b for n, b in session._explored.pack().items()}),
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """The optimizer's moments and counters, by the place of their parameter."""
    if optimizer is None:
        return {}
    slots = optimizer.state_dict()["state"].items()
    return {f"optimizer/{i}/{slot}": torch.as_tensor(value) for i, state in slots for slot, value in state.items()
            if value is not None}  # fmt: skip


def memory_tensors(session: Session) -> dict[str, Tensor]:
    """The tensors and masks in ``session.memory``, and the state of its generator."""
    found: dict[str, Tensor] = {"generator": session.generator.get_state()}
    for key, value in session.memory.items():
        if isinstance(value, Mask):
            found |= {f"memory-mask/{key}/{name}": bits for name, bits in value.items()}
        elif isinstance(value, Tensor):
            found[f"memory/{key}"] = value
    return found


def scalars(session: Session) -> dict[str, Any]:
    """What else is in ``session.memory``: numbers and texts."""
    return {key: value for key, value in session.memory.items() if not isinstance(value, (Mask, Tensor))}


def meta_of(session: Session) -> dict[str, Any]:
    """The rest of a session, as JSON."""
    return {
        "position": session.position,
        "memory": scalars(session),
        "memories": list(session.memory),
        "rates": dict(session._extra_lr),
        "account": session.account.as_dict(),
        "conduct": session.conduct.as_dict(),
        "forks": session._forks,
        "scaler": session._scaler.state_dict(),
    }


def load(session: Session, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, whole: bool) -> None:
    """Restore a session; of a phase another run may have computed (not ``whole``), only what training changes."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): t.to(session.device) for k, t in tensors.items() if k.startswith(prefix)}

    optimizer = session._optimizer
    assert optimizer is not None
    shapes = {name: weight.shape for name, weight in session.weights.items()}
    packed = under("mask/")  # files have an order of their own, digests and ties go by that of the model
    session._mask = Mask.unpack({name: packed[name] for name in shapes}, shapes)
    State(under("model/"), session._mask).load_into(session.model)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in under("optimizer/").items():
        index, slot = key.split("/", 1)
        slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    session._scaler.load_state_dict(meta["scaler"])
    session.position = meta["position"]
    for key, tensor in under("extra/").items():
        group, _, name = key.rpartition("/")
        if group not in session._extra:  # made in the body of the phase
            session.parameters(group, {}, meta["rates"][group])
        if name in session._extra[group]:
            session._extra[group][name].data.copy_(tensor)
        else:
            session._extra[group][name] = nn.Parameter(tensor)
    if not whole:
        return
    explored = under("explored/")
    session._explored = Mask.unpack({name: explored[name] for name in shapes}, shapes) if explored else None
    session._seen = session._explored
    session.account.become(meta["account"])
    for field, value in meta["conduct"].items():
        setattr(session.conduct, field, value)
    session._saw(session.conduct.peak_density)
    session._forks = meta["forks"]
    session.generator.set_state(tensors["generator"].cpu())
    memory = {**meta["memory"], **under("memory/")}
    masks: dict[str, dict[str, Tensor]] = {}
    for key, bits in under("memory-mask/").items():
        name, _, weight = key.rpartition("/")
        masks.setdefault(name, {})[weight] = bits
    places = {name: place for place, name in enumerate(session.weights)}
    for name, tensors_of in masks.items():
        memory[name] = Mask(dict(sorted(tensors_of.items(), key=lambda item: (places.get(item[0], -1), item[0]))))
    session.memory.clear()  # a method may hold on to the dictionary itself
    session.memory.update((name, memory[name]) for name in meta["memories"])
