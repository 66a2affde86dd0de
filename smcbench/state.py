"""The state of a model at a moment, its content digest, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
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
    for name, tensor in tensors:
        low, high = _sums(tensor.detach())
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|{low}|{high}\n".encode())
    return total.hexdigest()


def _sums(tensor: Tensor) -> tuple[int, int]:
    flat = tensor.contiguous().reshape(-1)
    raw = flat.view(torch.uint8) if flat.dtype != torch.bool else flat.to(torch.uint8)
    whole = raw.numel() // 8 * 8
    parts = [raw[:whole].view(torch.int64)] if raw.data_ptr() % 8 == 0 else [raw[:whole].clone().view(torch.int64)]
    if whole < raw.numel():
        tail = raw.new_zeros(8)
        tail[: raw.numel() - whole] = raw[whole:]
        parts.append(tail.view(torch.int64))
    low = high = 0
    position = 0
    for part in parts:
        for words in torch.split(part, _WORDS):
            index = torch.arange(position, position + len(words), device=words.device, dtype=torch.int64)
            mixed = _mix(words ^ _mix(index + 0x1E3779B97F4A7C15))
            low += int(mixed.sum())
            high += int(_mix(mixed).sum())
            position += len(words)
    return low % 2**64, high % 2**64


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
