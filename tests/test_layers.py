"""Imports point down: the layers of the package, held as data, against what its source imports."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import smcbench

ROOT = Path(smcbench.__file__).parent

LAYERS = """
    __main__
    cli
    engines
    testing
    fairseq
    convert
    packing
    verify
    evidence
    checkpoint  naming
    cell  controls
    plugins  provenance
    --- the plug-in API: tasks/ and baselines/ import nothing above this line
    criteria  losses  parts
    sparsifier
    session
    phase
    snapshot
    journal
    cache  own  trainer
    account  feed  flops
    state  task
    recipe  seeds
    sparsity
    --- no torch below this line
    report
    results  sources
    files
    errors
"""
"""From top to bottom; a module imports from lower lines, and from its own package, never in a circle."""

LINES = [line.split() for line in LAYERS.strip().splitlines()]
RANK = {name: -place for place, line in enumerate(LINES) if line[0] != "---" for name in line}
API, NO_TORCH = (-place for place, line in enumerate(LINES) if line[0] == "---")
TORCH_FREE_TO_IMPORT = ("plugins", "results", "files", "errors")
"""What ``smcbench list`` and the leaderboard load, beside the command line: torch comes when something is computed."""


class Import(NamedTuple):
    """That ``line`` of ``source`` imports ``target``; ``lazily`` if inside a function."""

    source: str
    target: str
    line: int
    lazily: bool

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, imports {self.target}"


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def modules(package: str) -> dict[str, Path]:
    """The modules of a package by name; templates are text."""
    folder = folder_of(package)
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if "templates" not in parts:
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


@cache
def imports(package: str) -> list[Import]:
    """All imports of a package but those for type checkers."""
    return [found for name, path in modules(package).items() for found in _imports(name, path)]


def _imports(name: str, path: Path) -> Iterator[Import]:
    known = modules("smcbench")
    home = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def targets(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                public = smcbench._HOMES.get(alias.name) if base == "smcbench" else None
                inner = f"smcbench.{public}" if public else f"{base}.{alias.name}"
                yield inner if inner in known else base

    def walk(node: ast.AST, lazily: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    yield from walk(other, lazily)
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(name, target, child.lineno, lazily) for target in targets(child))
            yield from walk(child, lazily or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    return walk(ast.parse(path.read_text(encoding="utf-8")), False)


def layer(module: str) -> str:
    """The name on the list that a module of ``smcbench`` falls under; ``""`` for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_its_place() -> None:
    for module in modules("smcbench"):
        assert not layer(module) or layer(module) in RANK, f"{module} is in no layer: add it to LAYERS"
    assert {layer(module) for module in modules("smcbench")} - {""} == set(RANK), "LAYERS names what is not there"


def test_imports_point_down() -> None:
    for found in imports("smcbench"):
        here, there = layer(found.source), layer(found.target)
        if found.target.partition(".")[0] == "smcbench" and here and there and here != there:
            assert RANK[there] < RANK[here], f"{found}: that is upward, or across"


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules("smcbench")}
    for found in imports("smcbench"):
        # A package that gathers names from its modules, and a module of it, are no circle.
        if found.target in graph and not found.source.startswith(found.target):
            graph[found.source].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_the_core_knows_no_plug_in() -> None:
    for found in imports("smcbench"):
        assert not found.target.startswith(("smcbench_tasks", "smcbench_baselines")), str(found)


@pytest.mark.parametrize("package", ["smcbench_tasks", "smcbench_baselines"])
def test_plug_ins_import_the_api_only(package: str) -> None:
    other = {"smcbench_tasks": "smcbench_baselines", "smcbench_baselines": "smcbench_tasks"}[package]
    assert imports(package)
    for found in imports(package):
        assert not found.target.startswith((other, "tasks", "baselines")), str(found)
        if found.target.startswith("smcbench."):
            assert RANK[layer(found.target)] < API, f"{found}: that is above the plug-in API"


def test_no_torch_in_results() -> None:
    for found in imports("smcbench"):
        if layer(found.source) and RANK[layer(found.source)] < NO_TORCH:
            assert found.target.partition(".")[0] not in {"torch", "safetensors", "transformers"}, str(found)


def test_torch_is_loaded_late() -> None:
    eager: dict[str, list[Import]] = {module: [] for module in modules("smcbench")}
    for found in imports("smcbench"):
        if not found.lazily:
            eager[found.source].append(found)

    def way(module: str, seen: set[str]) -> list[str] | None:
        """The chain of imports at the top of modules that ends at torch."""
        seen.add(module)
        for found in eager.get(module, []):
            if found.target.partition(".")[0] == "torch":
                return [str(found)]
            if found.target not in seen and (rest := way(found.target, seen)) is not None:
                return [str(found), *rest]
        return None

    for module in eager:
        if layer(module) == "cli":  # one module a command, loaded when the command is said
            assert "torch" not in {found.target for found in eager[module]}, f"{module} imports torch at its top"
        if module in {"smcbench", "smcbench.cli"} or layer(module) in TORCH_FREE_TO_IMPORT:
            assert (chain := way(module, set())) is None, f"importing {module} loads torch: {'; '.join(chain)}"


@pytest.mark.parametrize("module", ["smcbench", "smcbench.results.leaderboard", "smcbench.plugins", "smcbench.cli"])
def test_importing_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
