"""The memory that each method takes beyond dense training, in multiples of the network's weights.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/bench_memory.py --benchmark-enable -o python_files='bench_*.py' -s

Each training has a process of its own, on a network of 16.8 M weights (64 MiB) with a batch so small that weights,
gradients and moments are what there is. Taken is the peak of the resident memory over what the process held before the
network was built. A mask is a byte a weight, a quarter of the weights.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from smcbench import plugins

MiB = 1 << 20
NETWORK = 64 * MiB
CHILD = """
import sys, torch
from torch import nn
from smcbench import Recipe, Session, plugins
from smcbench.provenance import peak_memory
from smcbench.testing import ToyTask
from smcbench.session import build_model

class Wide(ToyTask):
    def build_model(self):
        layers = [layer for _ in range(4) for layer in (nn.Linear(2048, 2048, bias=False), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 2048, bias=False), *layers, nn.Linear(2048, 4, bias=False))


torch.set_num_threads(1)
task = Wide(recipe=Recipe(steps=20, batch_size=4, lr=1e-4))
sparsifier = plugins.load_sparsifier(sys.argv[1]).sparsifier
before = peak_memory(torch.device("cpu"))
session = Session(task, build_model(task, 0), task.recipe)
sparsifier.sparsify(session, 0.0 if sys.argv[1] == "dense" else 0.9)
print(peak_memory(torch.device("cpu")) - before)
"""


@functools.cache
def taken(name: str) -> int:
    # What is freed goes back at once, so that the peak is what was in use and not how it was pieced together.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run([sys.executable, "-c", CHILD, name], capture_output=True, text=True, check=True, env=env)
    return int(done.stdout)


@pytest.mark.parametrize("name", sorted(set(plugins.installed("sparsifiers")) - {"dense", "small-dense"}))
@pytest.mark.benchmark(group="memory")
def test_memory(benchmark, name: str) -> None:  # type: ignore[no-untyped-def]
    dense = taken("dense")
    benchmark.pedantic(taken, (name,), rounds=1)
    more = (taken(name) - dense) / NETWORK
    benchmark.extra_info["more"] = more
    print(f"\n{name}: {taken(name) / dense:.2f} x dense training, {more:+.2f} networks more")
