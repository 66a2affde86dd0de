"""Named streams of randomness: a stream's seed follows from its name, so adding one reshuffles no other."""

from __future__ import annotations

import hashlib
import os

import torch


def stream(*names: str | int) -> int:
    """A 63-bit seed for the stream of this name.

    >>> stream(0, "init") == stream(0, "init"), stream(0, "init") == stream(1, "init")
    (True, False)
    """
    text = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(device: torch.device, *names: str | int) -> None:
    """Put torch's global generators, the CPU's and the device's, at the start of the stream of this name.

    ``torch.manual_seed`` would note a stack trace for a GPU that is not there, at every step.
    """
    torch.default_generator.manual_seed(stream(*names))
    if device.type == "cuda":
        torch.cuda.manual_seed(stream(*names))


def generator(*names: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream of this name."""
    return torch.Generator().manual_seed(stream(*names))


def be_deterministic() -> None:
    """Ask torch for the same bits every time, from now on in this process; what it cannot give so raises.

    And for no TF32, which cuDNN would take for single precision: a recipe says ``bf16`` if that is what it means.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
