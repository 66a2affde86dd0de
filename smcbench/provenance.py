"""Where a result comes from: recorded with every run, part of no identity."""

from __future__ import annotations

import contextlib
import functools
import platform
import resource
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

import smcbench
from smcbench.results.record import Provenance, Source
from smcbench.trainer import ENGINE


def provenance(device: torch.device, source: Source) -> Provenance:
    """The software and the machine, as they are now."""
    commit, dirty = _checkout()
    return Provenance(
        smcbench=smcbench.__version__,
        engine=ENGINE,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        torch=str(torch.__version__),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({_processor()})",
        threads=torch.get_num_threads(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source,
    )


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of :func:`peak_memory`, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Largest memory held, in bytes: on the GPU what was allocated there, on the CPU the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def _checkout() -> tuple[str | None, bool | None]:
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", "smcbench/provenance.py") is None:
        return None, None
    return git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no") != ""


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
