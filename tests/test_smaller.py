"""The narrower network of a task: the widest that has at most as many weights as the sparse one keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from smcbench import plugins
from smcbench.errors import UsageError
from smcbench.parts import Pooled
from smcbench.task import Task, prunable_weights
from smcbench.testing import ToyTask

RECORDS = Path(__file__).parent.parent / "leaderboard" / "submissions" / "dense" / "records.jsonl"
FOUR = (0.512, 0.262, 0.107, 0.055)
SHAPES = ("digits", "digits-vit", "mnist-small", "cldr-2to2", "csqa-mini", "mnli-mini", "svamp-mini",
          "lattice-protein-mini")  # fmt: skip
OTHERS = ("mnist-small-vit", "cifar100-small", "cldr-5to5", "cldr-10to10", "translation-2to2-small", "winogrande-mini",
          "race-mini", "cola-mini", "sts-b-mini", "lattice-tm-mini", "thermoprot-small", "mnli-small@scratch",
          "hp-s2c5-if1@scratch")  # fmt: skip
TINY = ("digits", "cifar10-small", "digits-vit", "resnet50-imagenet", "mobilenetv2-imagenet", "clip-cars", "cldr-2to2",
        "translation-2to2-small", "csqa-mini", "mnli-mini", "svamp-mini", "svamp-graph2tree-small", "svamp-graph2tree",
        "lattice-protein-mini", "thermoprot-small", "hp-s-esm1b", "hp-s2c5-if1")  # fmt: skip


def load(name: str) -> Task:
    name, _, variant = name.partition("@")
    task = plugins.load_task(name)
    return task.variant(variant) if variant else task


def stepped(task: Task) -> torch.Tensor:
    """Changes of all weights by one step of training."""
    torch.manual_seed(0)
    model = task.build_model()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    data = task.data("train")
    batch = task.collate([data[i] for i in range(8)])
    total, count = task.loss(task.forward(model, batch), batch)
    (total / count).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


@pytest.mark.parametrize(
    ("name", "densities"), [*((name, FOUR) for name in SHAPES), *((name, FOUR[1:2]) for name in OTHERS)]
)
def test_it_is_the_widest_that_fits(name: str, densities: tuple[float, ...]) -> None:
    task = load(name)
    whole = prunable_weights(task)
    widths = list(dict.fromkeys(task.scaled(step / 4096) for step in range(1, 4097)))
    assert widths[-1] == task
    for density in densities:
        found = task.smaller(density)
        most = round(density * whole)
        assert prunable_weights(found) <= most
        above = widths[widths.index(dataclasses.replace(found, name=task.name)) + 1]
        assert prunable_weights(above) > most
        assert found.recipe == task.recipe
        assert (found.scope, found.metric) == (task.scope, task.metric)
        assert found.name != task.name


@pytest.mark.parametrize("name", SHAPES)
def test_the_weights_that_are_made_are_those_that_were_counted(name: str) -> None:
    task = load(name)
    found = task.smaller(0.262)
    model = found.build_model()
    weights = dict(model.named_parameters())
    assert sum(weights[key].numel() for key in found.prunable(model)) == prunable_weights(found)


def test_counts_by_hand() -> None:
    # A convolution of 36, a square matrix used twice, a head of 4 w: 36 + w² + 4 w, which is 356 for a width of 16.
    widths = {density: ToyTask().smaller(density).width for density in (1.0, 0.5, 0.25, 0.115)}
    assert widths == {1.0: 16, 0.5: 10, 0.25: 5, 0.115: 1}  # of 356, 178, 89, 41: 356, 176, 81, 41
    # Stem 9 a, blocks 18 a² and 9 a b + 9 b² + a b, head 10 b: 11,004 for 12 and 24. Of 2,885: 2,838, not 3,133.
    assert load("digits").smaller(0.262144).widths == (6, 12)
    # 640 words and twice 50 places, two layers of 8 w² and 12 w² each: 740 w + 40 w². Of 55,365: 52,080, not 64,640.
    assert load("cldr-2to2").smaller(0.262144).width == 28


def test_every_part_has_its_own_width() -> None:
    task = Pooled("both", (ToyTask("toy.0"), ToyTask("toy.1", width=12)))
    found = task.smaller(0.5)
    assert [part.width for part in found.parts] == [10, 7]  # of 178 and of 114: 176 and 113
    assert len({found.name, task.name, *(part.name for part in (*found.parts, *task.parts))}) == 6
    assert [part.width for part in task.scaled(0.5).parts] == [8, 6]


@pytest.mark.parametrize("name", TINY)
def test_narrow_networks_can_be_trained(name: str) -> None:
    task = load(name).parts[0].tiny()
    for width in (0.6, 1 / 4096):
        changes = stepped(task.scaled(width))
        assert changes.isfinite().all()
        assert changes.any()


def test_a_narrow_network_is_scored_on_the_same_examples() -> None:
    for name in ("digits", "cldr-2to2", "svamp-mini"):
        task = load(name).tiny()
        found = task.smaller(0.262)
        scored = found.evaluate(found.build_model())
        assert list(scored.predictions) == [example.id for example in task.data("test")]


@pytest.mark.parametrize("name", sorted(plugins.installed("tasks")))
def test_the_whole_width_is_the_task_itself(name: str) -> None:
    task = load(name)
    if task.pretrained:
        with pytest.raises(UsageError, match="pretrained weights"):
            task.smaller(0.262)
    else:
        assert task.scaled(1.0) == task
        assert task.scaled(0.5) != task


def test_what_has_no_narrower_network_says_why() -> None:
    with pytest.raises(UsageError, match=r"its narrowest network has 41 prunable weights, more than the 20 of density"):
        ToyTask().smaller(0.055)
    with pytest.raises(UsageError, match="density must lie in"):
        ToyTask().smaller(1.5)

    class Rigid(ToyTask):
        scaled = Task.scaled  # type: ignore[assignment]

    with pytest.raises(UsageError, match="only one width"):
        Rigid().smaller(0.5)


def test_the_search_draws_nothing() -> None:
    task = load("lattice-tm-mini").tiny()
    before = torch.get_rng_state()
    task.smaller(0.333)
    assert torch.equal(torch.get_rng_state(), before)


def test_tasks_are_what_they_were_when_the_leaderboard_was_made() -> None:
    recorded = {
        task["name"]: task["digest"]
        for task in (json.loads(line)["spec"]["task"] for line in RECORDS.read_text().splitlines())
    }
    assert {"digits", "cldr-2to2"} <= set(recorded)
    assert recorded == {name: load(name).digest() for name in recorded}
