"""``tasks/README.md`` is what the tasks say of themselves; ``--regenerate`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from smcbench import files, plugins
from smcbench.errors import InvalidInput
from smcbench.sources import DATA
from smcbench.task import Qualification, Task
from smcbench_tasks import _recipes

PATH = Path(__file__).parent.parent / "tasks" / "README.md"
SCALES = {"mini": "no download", "small": "public data, small models", "full": "the papers' models and recipes"}

HEAD = """\
# The tasks

Three scales share one adapter a family. `mini` needs no download, `small` reads real public data with models that one
GPU trains in minutes, `full` is the model and recipe of the papers. `smcbench data list` says what a task needs and
where it is looked for: a local folder (`SMCBENCH_DATA`, `SMCBENCH_MODELS`, or `--data`, `--models`) in upstream's own
formats, or the Hugging Face hub, pinned to a commit. `smcbench info TASK` says all about one.

*Qualified*: over seeds, the dense score and its standard deviation, and by how much one-shot magnitude pruning after
training beats random pruning before it at sparsity .945; a task qualifies if the deviation is under a fifth of the
dense score's distance from chance, and that difference over five deviations. *Variants* are named `TASK@VARIANT`:
another scope, a random or a sparse start. Times of recipes are in optimizer steps. Parameters are those of one
model, also where a cross-validation trains one a fold; tables of words have the size of their data.
"""


def scale_of(name: str, task: Task) -> str:
    return "small" if "-small" in name else "full" if task.requirements() or "imagenet" in name else "mini"


def qualified(found: Qualification | None, task: Task) -> str:
    if found is None:
        return "unqualified"
    figures = f"{found.dense:.1f} ± {found.spread:.1f}, {found.separation:.1f}"
    return f"{'yes' if found.qualifies(task.metric) else 'no'}: {figures}"


def written() -> Iterator[str]:
    yield HEAD
    tasks = {
        name: plugins.load_task(name) for name, p in plugins.installed("tasks").items() if p.distribution == "smcbench"
    }
    numbers: dict[str, int] = {}
    for family in sorted({task.family for task in tasks.values()}):
        yield f"\n## {family.upper() if family == 'glue' else family.capitalize()}\n"
        own = {name: task for name, task in tasks.items() if task.family == family}
        for scale, about in SCALES.items():
            some = {name: task for name, task in own.items() if scale_of(name, task) == scale}
            if not some:
                continue
            yield f"\n### {scale}: {about}\n"
            yield "\n| task | metric (chance) | scope, variants | parameters | data, weights | recipe | qualified |"
            yield "\n|---|---|---|---:|---|---|---|"
            for name, task in sorted(some.items()):
                try:
                    with torch.device("meta"):
                        parameters = f"{sum(p.numel() for p in task.parts[0].architecture().parameters()):,}"
                except InvalidInput:
                    parameters = "by its words"
                source = _recipes.source_of(task.recipe)
                recipe = numbers.setdefault(source, len(numbers) + 1)
                needs = [f"[{r.name}]({r.url}) ({r.licence})" for r in task.requirements()]
                variants = ", ".join([task.scope, *(f"@{variant}" for variant in task.variants)])
                yield (
                    f"\n| `{name}` | {task.metric.name} ({task.metric.chance:.3g}) | {variants} | {parameters} "
                    f"| {', '.join(needs) or 'comes with it'} | {task.recipe.steps:,} steps [{recipe}] "
                    f"| {qualified(task.qualification, task)} |"
                )
            yield "\n"
    yield "\n## Sources of the recipes\n\n"
    yield from (f"{number}. {source}\n" for source, number in numbers.items())


def test_the_tasks_are_documented_as_they_are(regenerate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)  # what is written must not depend on what lies here
    text = "".join(written())
    if regenerate:
        files.write(PATH, text)
    assert PATH.read_text() == text, "tasks/README.md is not what the tasks say; rewrite it with --regenerate"


@pytest.mark.parametrize("name", sorted(plugins.installed("tasks")))
def test_every_task_has_its_row(name: str) -> None:
    assert f"\n| `{name}` |" in PATH.read_text()
