"""The state of a model at a moment, its content digest, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.sparsity.mask import Mask

_WORDS = 1 << 18
"""64-bit words mixed at a time: 2 MiB, which stays in cache."""


@dataclass(frozen=True)
class State:
    """Parameters, buffers and mask of a model; a copy that later training does not touch."""

    tensors: dict[str, Tensor]
    mask: Mask

    @classmethod
    def of(cls, model: nn.Module, mask: Mask) -> State:
        """A copy of the model as it stands."""
        return cls({name: tensor.detach().clone() for name, tensor in named_tensors(model)}, mask)

    def cpu(self) -> State:
        """The same in main memory."""
        return State({name: tensor.cpu() for name, tensor in self.tensors.items()}, self.mask.to("cpu"))

    def digest(self) -> str:
        """Content digest over weights, buffers and mask."""
        return digest([*self.tensors.items(), *(("mask/" + name, bits) for name, bits in self.mask.items())])

    def load_into(self, model: nn.Module) -> None:
        """Copy the tensors into ``model``, in place.

        Raises:
            UsageError: names or shapes differ.
        """
        with torch.no_grad():
            own = dict(named_tensors(model))
            if own.keys() != self.tensors.keys():
                name = min(own.keys() ^ self.tensors.keys())
                raise UsageError(f"the state is of another model: tensor {name!r} is in one of them only")
            for name, tensor in own.items():
                if tensor.shape != self.tensors[name].shape:
                    raise UsageError(
                        f"the state is of another model: {name!r} has shape {tuple(self.tensors[name].shape)}, "
                        f"the model has {tuple(tensor.shape)}"
                    )
                tensor.copy_(self.tensors[name])


def named_tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters, then buffers, each tied tensor once."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, types, shapes and a 128-bit sum of the contents of each tensor.

    The sums wrap around in 64-bit integers, so they do not depend on the order of reduction and are the same on
    every device; each word is mixed with its position before it is added.
    """
    total = hashlib.sha256()
    for group in _groups(tensors):
        for (name, tensor), (low, high) in zip(group, _sums([tensor for _, tensor in group]), strict=True):
            total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|{low}|{high}\n".encode())
    return total.hexdigest()


def _groups(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    """Neighbours that are summed together, as many as have ``_WORDS`` words: of small ones the calls take the time."""
    group: list[tuple[str, Tensor]] = []
    room = 0
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size() // 8 + 1
        if group and (size > room or tensor.device != group[0][1].device):
            yield group
            group = []
        if not group:
            room = _WORDS
        group.append((name, tensor.detach()))
        room -= size
    if group:
        yield group


def _sums(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Of each tensor of a group the two sums of its mixed words."""
    words = [_words(tensor) for tensor in tensors]
    device = words[0].device
    sums = torch.zeros((2, len(words)), dtype=torch.int64, device=device)
    if len(words) == 1:
        for start in range(0, len(words[0]), _WORDS):
            some = words[0][start : start + _WORDS]
            sums[:, 0] += _mixed(some, torch.arange(start, start + len(some), device=device)).sum(dim=1)
    else:
        owner = torch.repeat_interleave(torch.tensor([len(each) for each in words], device=device))
        place = torch.cat([torch.arange(len(each), device=device) for each in words])
        sums.index_add_(1, owner, _mixed(torch.cat(words), place))
    return [(low % 2**64, high % 2**64) for low, high in sums.T.tolist()]


def _mixed(words: Tensor, place: Tensor) -> Tensor:
    """Words mixed with their places once, and twice."""
    once = _mix(words ^ _mix(place + 0x1E3779B97F4A7C15))
    return torch.stack([once, _mix(once)])


def _words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor as 64-bit words, the last one filled up with zeros."""
    flat = tensor.contiguous().reshape(-1)
    raw = flat.to(torch.uint8) if flat.dtype == torch.bool else flat.view(torch.uint8)
    if raw.numel() % 8:
        raw = torch.cat([raw, raw.new_zeros(-raw.numel() % 8)])
    return (raw if raw.data_ptr() % 8 == 0 else raw.clone()).view(torch.int64)


def _mix(x: Tensor) -> Tensor:
    """The finalizer of splitmix64 (Steele et al., 2014), with shifts made logical on signed words."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file, whole or not at all, with a digest of its contents."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta, sort_keys=True)
    header = {"meta": text, "digest": digest([*sorted(own.items()), (text, torch.empty(0))])}
    files.write(path, safetensors_bytes(own, metadata=header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote.

    Raises:
        InvalidInput: the file is torn, corrupted or foreign; the message names it.
    """
    try:
        raw = path.read_bytes()
        # Copies: views into the file would lie at odd addresses, where vectorised kernels may round differently.
        tensors = {name: tensor.clone() for name, tensor in parse_safetensors(raw).items()}
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])["__metadata__"]
        if digest([*sorted(tensors.items()), (header["meta"], torch.empty(0))]) == header["digest"]:
            return tensors, json.loads(header["meta"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: not a file of smcbench, or torn ({error})") from None
    raise InvalidInput(f"{path}: its contents do not match its digest")
