"""The digest of a state: against plain integers, whatever is summed together."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from smcbench import state

MASK = 2**64 - 1


def mix(x: int) -> int:
    """The finalizer of splitmix64, as its authors write it."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def by_hand(tensors: list[tuple[str, Tensor]]) -> str:
    total = hashlib.sha256()
    for name, tensor in tensors:
        flat = tensor.contiguous().reshape(-1)
        raw = bytes(flat.view(torch.uint8).tolist() if flat.dtype != torch.bool else flat.to(torch.uint8).tolist())
        raw += b"\0" * (-len(raw) % 8)
        words = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
        once = [mix(word ^ mix((place + 0x1E3779B97F4A7C15) & MASK)) for place, word in enumerate(words)]
        low, high = sum(once) & MASK, sum(map(mix, once)) & MASK
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|{low}|{high}\n".encode())
    return total.hexdigest()


def tensors() -> list[tuple[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    return [
        ("matrix", some(3, 5)), ("transposed", some(4, 6).T), ("odd address", some(12)[1:]), ("scalar", some()),
        ("nothing", torch.empty(0)), ("large", some(40, 7)), ("half", some(5).half()), ("bfloat", some(3).bfloat16()),
        ("whole", torch.arange(11)), ("mask", some(13) > 0), ("double", some(2).double()), ("last", some(1)),
    ]  # fmt: skip


@pytest.mark.parametrize("words", [1, 20, 64, 1 << 18], ids="{} words together".format)
def test_a_digest_is_that_of_plain_integers(monkeypatch: pytest.MonkeyPatch, words: int) -> None:
    monkeypatch.setattr(state, "_WORDS", words)
    assert state.digest(tensors()) == by_hand(tensors())
    assert state.digest(tensors()[::-1]) == by_hand(tensors()[::-1])
    assert state.digest([]) == hashlib.sha256().hexdigest()


def test_one_bit_one_place_one_name_one_shape_make_another_digest() -> None:
    (name, tensor), *rest = tensors()
    changed = tensor.clone()
    changed.view(torch.int32)[0, 0] ^= 1
    others = [(name, changed), (name, tensor.flip(1)), ("other", tensor), (name, tensor.reshape(5, 3))]
    found = {state.digest([each, *rest]) for each in [(name, tensor), *others]}
    assert len(found) == 5
