"""The README says what is so: its code runs, its method is that of ``smcbench init``, its figures are the board's."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from string import Template

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


def test_the_figures_are_those_of_the_board() -> None:
    path = ROOT / "leaderboard" / "leaderboard.json"
    if not path.exists():
        pytest.skip("no leaderboard has been built yet")
    board = json.loads(path.read_text())
    rows = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", README, re.MULTILINE)
    checked = 0
    for name, cells in rows:
        shown = [float(x) for x in re.findall(r"(\d+\.\d)(?= ±)", cells)]
        entries = [e for e in board["entries"] if e["sparsifier"] == name and round(e["sparsity"], 3) in (0.738, 0.945)]
        for task in ("digits", "cldr-2to2"):
            for entry in sorted((e for e in entries if e["task"]["name"] == task), key=lambda e: e["sparsity"]):
                if shown:
                    assert shown.pop(0) == pytest.approx(entry["mean"], abs=0.051), (name, task, entry["sparsity"])
                    checked += 1
    assert checked >= 32


def test_the_figures_of_one_seed_are_those_of_the_submissions() -> None:
    lines = (path.read_text().splitlines() for path in (ROOT / "leaderboard" / "submissions").glob("*/records.jsonl"))
    measured = {}
    for record in map(json.loads, itertools.chain(*lines)):
        spec = record["spec"]
        if spec["seed"] == 0 and spec["budget"] == 1 and round(spec["sparsity"], 3) in (0.945, 0.0):
            score = record["scores"][record["metric"]["name"]]
            measured[spec["sparsifier"]["label"], spec["task"]["name"].partition("-protein")[0]] = score
    [header] = re.findall(r"^\| method \| (digits \| cldr.*) \| cost \|$", README, re.MULTILINE)
    rows = re.findall(r"^\| `([\w()-]+)` \| ([^±\n]*) \| [^|\n]*x \|$", README, re.MULTILINE)
    checked = 0
    for name, cells in rows:
        for task, cell in zip(header.split(" | "), cells.split(" | "), strict=True):
            if cell.strip():
                assert float(cell) == pytest.approx(measured[name, task], abs=0.051), (name, task)
                checked += 1
    assert checked >= 180
