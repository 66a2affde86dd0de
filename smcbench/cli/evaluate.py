"""``smcbench eval``: the score and the zeros of a checkpoint, whatever tool made it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from smcbench.cli.options import DataFolder, Device, Json, ModelFolder, Trusted, task_names
from smcbench.cli.output import columns, print_json


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A safetensors file with the weights of the task's model.")],
    task: Annotated[str, typer.Option("--task", help="The task to score it on.", autocompletion=task_names)],
    trusted: Trusted = False,
    fairseq: Annotated[
        bool, typer.Option("--fairseq", help="Let fairseq's own class stand for the model, a RoBERTa or an mBART.")
    ] = False,
    device: Device = "cpu",
    data: DataFolder = None,
    models: ModelFolder = None,
    json: Json = False,
) -> None:
    """Score any sparse checkpoint. Its zeros are counted over four denominators."""
    from smcbench import plugins
    from smcbench.checkpoint import evaluate as score
    from smcbench.cli.planning import usable

    usable(device, None)
    found = plugins.load_task(task)
    if fairseq:
        from smcbench.fairseq import twin

        scores, zeros = score(checkpoint, found, trust=trusted, device=device, through=twin)
    else:
        scores, zeros = score(checkpoint, found, trust=trusted, device=device)
    counts = dataclasses.asdict(zeros)
    if json:
        print_json({"task": found.name, "scores": scores, "zeros": counts})
        return
    unit = found.metric.unit
    for name, value in sorted(scores.items(), key=lambda item: item[0] != found.metric.name):
        note = f" {unit} (chance {found.metric.chance:g})" if name == found.metric.name else ""
        print(f"{found.name}: {name} {value:.2f}{note}")
    rows = [
        (name, f"{c['weights']:,}", f"{c['zeros']:,}", f"{c['zeros'] / max(1, c['weights']):.6f}")
        for name, c in counts.items()
    ]
    print("\n" + columns(("counted over", "weights", "zeros", "sparsity"), rows))
