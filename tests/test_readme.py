"""The README says what is so: its code runs, its method is that of ``smcbench init``, its figures are the board's."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from string import Template
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import smcbench

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_method_is_the_one_that_init_writes() -> None:
    template = (Path(smcbench.__file__).parent / "cli/templates/sparsifier.py.txt").read_text()
    [method] = [block for block in blocks("python") if "class Mine" in block]
    assert method in Template(template).substitute(kind="Mine")


def test_a_session_on_ones_own_network() -> None:
    [code] = [block for block in blocks("python") if "Session.of" in block]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    loader = [(torch.randn(16, 20), torch.randint(4, (16,))) for _ in range(3)]
    exec(code.replace("steps=1000", "steps=5"), {"model": model, "loader": loader, "F": F})
    assert sum(int(torch.count_nonzero(p)) for p in model.parameters() if p.ndim == 2) == round(0.1 * (600 + 120))


TASKS = ("digits", "cldr-2to2", "csqa-mini", "mnli-mini", "svamp-mini", "lattice-protein-mini")


def table(first: str, sign: str = "") -> dict[str, list[str]]:
    """Of the table with this first heading, and this sign in its cells, the cells that each row has for a task."""
    found = []
    for text in re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
        if header[0].strip("| ") == first and (sign in text if sign else "±" not in text):
            found.append({row[0].strip("`| "): row[1 : len(header) - (header[-1].startswith("cost"))] for row in rows})
    [only] = found
    return only


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return json.loads((ROOT / "leaderboard" / "leaderboard.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str, float], float]:
    """Scores of seed 0, by sparsifier, task and sparsity."""
    found = {}
    lines = (path.read_text().splitlines() for path in (ROOT / "leaderboard" / "submissions").glob("*/records.jsonl"))
    for record in map(json.loads, itertools.chain(*lines)):
        spec = record["spec"]
        if spec["seed"] == 0 and spec["budget"] == 1:
            score = record["scores"][record["metric"]["name"]]
            found[spec["sparsifier"]["label"], spec["task"]["name"], round(spec["sparsity"], 3)] = score
    return found


def test_the_figures_of_three_seeds(board: dict[str, Any]) -> None:
    entries = {
        (e["sparsifier"], e["task"]["name"]): e
        for e in board["entries"]
        if e["budget"] == 1 and round(e["sparsity"], 3) in (0.0, 0.945)
    }
    rows = table("method", "±")
    assert len(rows) == 10
    for name, cells in rows.items():
        for task, cell in zip(TASKS, cells, strict=True):
            entry = entries[name, task]
            mean, deviation = map(float, cell.split(" ± "))
            assert entry["n"] == 3
            assert (mean, deviation) == pytest.approx((entry["mean"], entry["std"]), abs=0.051), (name, task)


def test_the_break_points(board: dict[str, Any]) -> None:
    points = {(p["sparsifier"], p["task"]): p for p in board["break_points"] if p["budget"] == 1}
    rows = table("break-point")
    assert len(rows) == 9
    for name, cells in rows.items():
        for task, cell in zip(TASKS, cells, strict=True):
            point = points[name, task]
            assert point["open"] == cell.startswith("≥"), (name, task)
            assert float(cell.removeprefix("≥ ")) == pytest.approx(point["estimate"], abs=0.0051), (name, task)


def test_the_figures_of_one_seed(measured: dict[tuple[str, str, float], float]) -> None:
    rows = table("method")
    assert len(rows) > 20
    for name, cells in rows.items():
        for task, cell in zip(TASKS, cells, strict=True):
            assert float(cell) == pytest.approx(measured[name, task, 0.945], abs=0.051), (name, task)


def test_the_figures_of_shuffles(measured: dict[tuple[str, str, float], float]) -> None:
    for name, cells in table("method / its shuffle").items():
        for task, cell in zip(TASKS, cells, strict=True):
            there = (measured[name, task, 0.945], measured[f"shuffled({name})", task, 0.945])
            assert tuple(map(float, cell.split(" / "))) == pytest.approx(there, abs=0.051), (name, task)


def test_the_figures_on_real_data(measured: dict[tuple[str, str, float], float]) -> None:
    checked = 0
    for name, cells in table("real data").items():
        for task, cell in zip(("cifar10", "csqa", "sst-2", "thermoprot"), cells, strict=True):
            sparsities = (0.0,) if name == "dense" else (0.738, 0.945)
            for sparsity, score in zip(sparsities, cell.split(" / "), strict=True):
                if score != "-":
                    assert float(score) == pytest.approx(measured[name, f"{task}-small", sparsity], abs=0.051)
                    checked += 1
    assert checked > 40
