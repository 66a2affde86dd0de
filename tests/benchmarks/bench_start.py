"""How long a user waits for the command line: ``--help`` and ``list`` in fresh processes, beside Python's own start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import pytest


def _median(command: list[str], rounds: int = 5) -> float:
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


@pytest.mark.parametrize(
    "arguments", [["--help"], ["compare", "--help"], ["list", "batteries"], ["list"]], ids=" ".join
)
def test_start(benchmark: Any, arguments: list[str]) -> None:
    """Seconds, and multiples of an empty Python process. Goal for ``--help``: 0.3 s without torch."""
    command = [sys.executable, "-m", "smcbench", *arguments]
    ours, python = _median(command), _median([sys.executable, "-c", ""])
    found = subprocess.run(
        [sys.executable, "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True
    )
    benchmark.extra_info |= {
        "seconds": ours,
        "over an empty Python": ours / python,
        "imports torch": any(line.split("|")[-1].strip() == "torch" for line in found.stderr.splitlines()),
    }
    print("\n", *arguments, benchmark.extra_info)
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
