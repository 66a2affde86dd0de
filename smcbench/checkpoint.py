"""Sparse checkpoints made by any tool: read, put into a task's model, scored, their zeros counted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from smcbench.cell import denominators
from smcbench.errors import InvalidInput, describe
from smcbench.results.record import Denominators
from smcbench.session import build_model
from smcbench.task import Task

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files of ``torch.save`` and of ``pickle`` begin."""


def evaluate(
    path: Path,
    task: Task,
    *,
    trust: bool = False,
    device: str = "cpu",
    through: Callable[[nn.Module], nn.Module] | None = None,
) -> tuple[dict[str, float], Denominators]:
    """The scores of a checkpoint on the test split of ``task``, and its zeros under the four denominators.

    ``through`` gives what is scored in the model's place, such as the same weights in another library's class.

    Raises:
        InvalidInput: it cannot be read, is of another model, or holds NaN; the message names it.
    """
    model = build_model(task, 0, device)
    fill(model, read(path, trust=trust), str(path), task.name)
    parameters = dict(model.named_parameters())
    return task.evaluate(through(model) if through else model, "test").scores, denominators(
        model, {name: parameters[name] for name in task.prunable(model)}
    )


def read(path: Path, *, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle if it is trusted.

    Raises:
        InvalidInput: no such file, a pickle that is not trusted, or no checkpoint at all.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror}); name a .safetensors file") from None
    if begin.startswith(PICKLES):
        if not trust:
            raise InvalidInput(
                f"{path}: is a pickle, which can run code of whoever made it; convert it to safetensors, "
                "or say --trusted if you trust its origin"
            )
        return _unpickled(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"{path}: not a safetensors file, or torn ({error})") from None


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str, task: str) -> None:
    """Copy a checkpoint into a model, in place.

    Prefixes of wrappers go, masks of ``torch.nn.utils.prune`` are multiplied in, and of tied tensors one suffices.

    Raises:
        InvalidInput: names or shapes are not those of the model, tied tensors differ, or a value is not finite.
    """
    own: dict[str, Tensor] = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    required = {id(own[name]): name for name in reversed(model.state_dict()) if name in own}
    filled: dict[int, str] = {}
    with torch.no_grad():
        for name, tensor in plain(tensors).items():
            target = own.get(name)
            if target is None:
                near = difflib.get_close_matches(name, own, n=1, cutoff=0.0)
                raise InvalidInput(f"{where}: not a checkpoint of {task}: its model has no {name!r}, but {near[0]!r}")
            if target.shape != tensor.shape:
                raise InvalidInput(
                    f"{where}: not a checkpoint of {task}: {name!r} has shape {tuple(tensor.shape)}, "
                    f"not {tuple(target.shape)}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise InvalidInput(f"{where}: {name!r} holds NaN or infinite values")
            value = tensor.to(target)
            if id(target) in filled and not torch.equal(target, value):
                raise InvalidInput(
                    f"{where}: {name!r} and {filled[id(target)]!r} are tied in the model, but differ here"
                )
            target.copy_(value)
            filled[id(target)] = name
    if missing := [name for key, name in required.items() if key not in filled]:
        raise InvalidInput(
            f"{where}: not a checkpoint of {task}: {len(missing)} tensors are missing, such as {missing[0]!r}"
        )


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the model's own names: no prefixes of wrappers, masks multiplied in."""
    named = dict(tensors)
    for prefix in PREFIXES * 2:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    for name in [name for name in named if name.endswith("_orig")]:
        mask = named.pop(name.removesuffix("_orig") + "_mask", None)
        if mask is not None:
            named[name.removesuffix("_orig")] = named.pop(name) * mask
    return named


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InvalidInput(f"{path}: cannot be read as a pickle ({describe(error)})") from None
    if isinstance(found, nn.Module):
        return dict(found.state_dict())
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InvalidInput(f"{path}: holds a {type(found).__name__}, not tensors by name; save model.state_dict()")
    return {str(name): tensor for name, tensor in found.items()}
