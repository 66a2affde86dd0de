"""``baselines/README.md`` is what the sparsifiers say of themselves; ``--regenerate`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smcbench import files, plugins
from smcbench.sparsifier import Sparsifier

PATH = Path(__file__).parent.parent / "baselines" / "README.md"
OURS = {
    name: plugins.load_sparsifier(name).sparsifier
    for name, plugin in plugins.installed("sparsifiers").items()
    if plugin.distribution == "smcbench"
}
KINDS = {
    "Before training": lambda when, start, mask: when == "before",
    "After training, or over more than one": lambda when, start, mask: when in ("after", "iterative"),
    "During training, from dense to sparse": lambda when, start, mask: start == "dense-to-sparse",
    "Sparse from start to end": lambda when, start, mask: start == "sparse-to-sparse",
    "Dense": lambda when, start, mask: when == "never",
}
CONTROLS = "Controls"

HEAD = """\
# The sparsifiers

Each follows its paper; where the authors' code differs, its docstring names the difference, and a preset
(`NAME@PRESET`) has the authors' or SMC-Bench's settings where they matter. All times are fractions of the run, so that
every method acts on short recipes and on any `--budget`. `smcbench info NAME` shows parameters and presets.

*Cost* is training operations in dense trainings at density `d`, as a formula that holds where all weights are prunable;
what a run really cost stands in its record. *Mask*: static, or dynamic where weights come back. *When*, *start* and
*mask* are measured by the engine in every run and part of the contract that `smcbench check` holds them to.

Controls take the method they control, as in `shuffled(rigl@smc)`; alone they mean `omp-after`. What it takes to run
that method first is no part of their cost, and stands in the record apart (`cost.searched`).
"""


def kind(sparsifier: Sparsifier) -> str:
    assert sparsifier.category is not None
    if type(sparsifier).__module__ == "smcbench.controls":
        return CONTROLS
    return next(name for name, fits in KINDS.items() if fits(*sparsifier.category))


def link(paper: str) -> str:
    return f"[{paper.removeprefix('arXiv:')}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})" if paper else ""


def written() -> Iterator[str]:
    yield HEAD
    for title in (*KINDS, CONTROLS):
        yield f"\n## {title}\n\n| name | method | start, mask | cost | presets | paper |\n|---|---|---|---|---|---|\n"
        for name, sparsifier in OURS.items():
            if kind(sparsifier) == title:
                assert sparsifier.category is not None
                about = " ".join((sparsifier.__doc__ or "").split("\n\n")[0].split())
                cost = sparsifier.cost.replace(" * ", "·")
                yield (
                    f"| `{name}` | {about} | {', '.join(sparsifier.category[1:])} | {cost} "
                    f"| {', '.join(f'`{p}`' for p in sparsifier.presets)} | {link(sparsifier.paper)} |\n"
                )


def test_the_sparsifiers_are_documented_as_they_are(regenerate: bool) -> None:
    text = "".join(written())
    if regenerate:
        files.write(PATH, text)
    assert PATH.read_text() == text, "baselines/README.md is not what the sparsifiers say; rewrite it with --regenerate"


@pytest.mark.parametrize("name", OURS)
def test_every_sparsifier_says_what_it_is(name: str) -> None:
    sparsifier = OURS[name]
    assert f"\n| `{name}` |" in PATH.read_text()
    assert sparsifier.paper or name == "dense"
    assert sparsifier.cost
