"""``smcbench init``: the first file of one's own method, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from smcbench.errors import UsageError

app = typer.Typer(help="Write the first file of a new plug-in.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def sparsifier(
    name: Annotated[str, typer.Argument(help="Such as mine or my-method.")],
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
) -> None:
    """Write NAME.py, a working sparsifier to change, and test_NAME.py, which holds it to the contract."""
    from smcbench import files

    module = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
    if "/" in name or not module.isidentifier() or keyword.iskeyword(module):
        raise UsageError(f"{name!r} cannot name a Python file; use letters, digits and hyphens, such as my-method")
    if importlib.util.find_spec(module) is not None and not (folder / f"{module}.py").exists():
        raise UsageError(f"a module is called {module!r} already, which {module}.py would hide; choose another name")
    kind = "".join(part[0].upper() + part[1:] for part in module.split("_"))
    targets = {
        folder / f"{module}.py": "sparsifier.py.txt",
        folder / f"test_{module}.py": "test_sparsifier.py.txt",
    }
    for path in targets:
        if path.exists():
            raise UsageError(f"{path}: exists already, and is not overwritten; choose another name or move it away")
    for path, template in targets.items():
        text = resources.files("smcbench.cli").joinpath("templates", template).read_text(encoding="utf-8")
        files.write(path, Template(text).substitute(module=module, kind=kind))
        print(f"{path}: written")
    target = f"{folder / module}.py:{kind}" if folder.is_absolute() else f"./{folder / module}.py:{kind}"
    print("next:")
    print(f"  smcbench check {target}")
    print(f"  smcbench run --task digits --sparsifier {target} --sparsifier omp-after --seeds 1")
    print(f"  smcbench compare {target} omp-after")
