"""``smcbench convert``: a checkpoint between fairseq and transformers, with its zeros."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smcbench.cli.options import Json, Trusted, task_names
from smcbench.cli.output import columns, print_json
from smcbench.errors import UsageError

if TYPE_CHECKING:
    from smcbench.convert import Conversion


class Library(StrEnum):
    """Whose names and files."""

    FAIRSEQ = "fairseq"
    TRANSFORMERS = "transformers"


SUFFIXES = {Library.FAIRSEQ: ".pt", Library.TRANSFORMERS: ".safetensors"}


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt of fairseq, or a .safetensors of transformers.")],
    source: Annotated[Library, typer.Option("--from", help="The library that wrote it.")],
    target: Annotated[Library, typer.Option("--to", help="The library that shall read it.")],
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="The task whose model it is: decides the head, checks the shapes.", autocompletion=task_names
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write. Default: the same, renamed.")] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Add a segment embedding, which fairseq has not, to every position.")
    ] = False,
    trusted: Trusted = False,
    json: Json = False,
) -> None:
    """Convert a RoBERTa or an mBART, weight by weight: zeros stay zeros. Needs no fairseq."""
    path = out or checkpoint.with_suffix(SUFFIXES[target])
    if source == target:
        raise UsageError(f"--from {source} --to {target}: nothing to convert")
    if path.exists():
        raise UsageError(f"{path}: is there already, and not overwritten; choose another file with --out")
    from smcbench import convert as converting
    from smcbench import plugins

    known = plugins.load_task(task) if task is not None else None
    beside = None
    if target == Library.TRANSFORMERS:
        found = converting.to_transformers(converting.read_fairseq(checkpoint, trusted=trusted), known)
        beside = converting.write_transformers(path, found)
    else:
        found = converting.to_fairseq(converting.read_transformers(checkpoint, trusted=trusted), known, fold=fold)
        converting.write_fairseq(path, found)
    _show(path, found, beside, json)


def _show(path: Path, found: Conversion, beside: Path | None, json: bool) -> None:
    counts = [
        ("read", found.read),
        ("written", found.written),
        *((f"dropped: {why}", count) for why, count in found.dropped.items()),
        *((f"added: {why}", count) for why, count in found.added.items()),
    ]
    if json:
        kind = {"architecture": found.architecture, "head": found.head, "assumed": found.assumed}
        written = {"file": str(path), "config": str(beside) if beside else None}
        print_json({**kind, **written, **{what: dataclasses.asdict(count) for what, count in counts}})
        return
    print(f"{path}: {found.architecture}{f' with a head for {found.head}' if found.head else ''}\n")
    rows = [(what, *(f"{number:,}" for number in dataclasses.astuple(count))) for what, count in counts]
    print(columns(("", "tensors", "parameters", "zeros"), rows))
    notes = [
        f"{key}: not told, {number} assumed, as in the published model of this width and as many layers"
        for key, number in found.assumed.items()
    ]
    if beside:
        notes.append(f"{beside}: written too; from_pretrained opens the folder if the tensors are in model.safetensors")
    elif "architectures" in found.options:
        notes.append(f"{path.with_name('config.json')}: is there already, and not overwritten")
    if notes:
        print("", *notes, sep="\n")
