"""Plug-ins by name: what is found, what it is identified by, and what is said where there is none."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from smcbench import plugins
from smcbench.cell import spec_of
from smcbench.errors import InvalidInput, UsageError
from smcbench.plugins import load_sparsifier, load_task
from smcbench.testing import ToyTask
from smcbench.trainer import ENGINE

METHOD = """
from dataclasses import dataclass

from smcbench import Session, Sparsifier
from smcbench.criteria import magnitude


@dataclass(frozen=True)
class Mine(Sparsifier):
    strength: float = 0.5
    presets = {"strong": {"strength": 0.9}}

    def sparsify(self, session: Session, sparsity: float) -> None:
        session.prune(magnitude(session), density=1 - sparsity)
"""


def write(path: Path, text: str = METHOD) -> Path:
    path.write_text(text)
    return path


# -- names, presets, parameters


@pytest.mark.parametrize(
    ("text", "label", "parameters"),
    [
        ("rigl", "rigl", {}),
        (" rigl ", "rigl", {}),
        ("rigl()", "rigl", {}),
        ("rigl(stop=0.8)", "rigl(stop=0.8)", {"stop": 0.8}),
        ("rigl(stop=0.75)", "rigl", {"stop": 0.75}),
        ("rigl( drop_fraction = 0.5, replaces_step=False )", "rigl(drop_fraction=0.5, replaces_step=False)", {}),
        ("rigl@smc", "rigl@smc", {"stop": 1.0, "distribution": "uniform"}),
        ("rigl@smc(stop=0.8)", None, {"stop": 0.8, "distribution": "uniform"}),
        ("random-before(distribution='erk')", "random-before@erk", {"distribution": "erk"}),
    ],
)
def test_what_a_text_names(text: str, label: str | None, parameters: dict[str, object]) -> None:
    named = load_sparsifier(text)
    assert label is None or named.label == label
    assert named.sparsifier.parameters().items() >= parameters.items()
    assert load_sparsifier(named.label).sparsifier == named.sparsifier, "a label names what it labels"
    assert named.versioned


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("riggl", "no sparsifier is called 'riggl' (did you mean rigl"),
        ("zzzzzz", f"did you mean {', '.join(sorted(plugins.installed('sparsifiers'))[:3])}"),  # nothing is near
        ("rigl@smcc", "rigl has no preset 'smcc' (did you mean smc?)"),
        ("rigl(stopp=1)", "rigl has no parameter 'stopp' (did you mean stop"),
        ("rigl(0.5)", "name every parameter"),
        ("rigl(stop=0.5", "names no sparsifier; write NAME"),
        ("rigl(stop=)", "cannot be read"),
        ("rigl(stop=open('x'))", "cannot be read"),
        ("", "names no sparsifier"),
        ("./nowhere.py:Mine", "no such file"),
        ("./nowhere.py", "say which class of the file"),
        ("smcbench.criteria:magnitud", "has no 'magnitud' (did you mean magnitude"),
    ],
)
def test_what_is_said_of_a_text_that_names_nothing(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_sparsifier(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smcbench.criteria:magnitude", "is not a sparsifier"),
        ("smcbench.sparsifier:Sparsifier", "does not define sparsify"),
        ("no.such.module:Mine", "no.such.module does not import: ModuleNotFoundError"),
    ],
)
def test_what_is_no_sparsifier(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        load_sparsifier(text)


def test_tasks() -> None:
    assert load_task("digits").name == "digits"
    assert load_task("smcbench.testing:ToyTask") == ToyTask(), "a class stands for its default"
    with pytest.raises(UsageError, match=r"no task is called 'digit' \(did you mean digits"):
        load_task("digit")
    with pytest.raises(InvalidInput, match="not a task"):
        load_task("smcbench.criteria:magnitude")


# -- identity


def run_id(text: str) -> str:
    return spec_of(ToyTask(), load_sparsifier(text), 0.5, 0, 1.0).run_id(ENGINE)


def test_a_file_is_known_by_its_source(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    named = load_sparsifier(f"{path}:Mine")
    assert (named.label, named.versioned) == ("Mine", False)
    first = run_id(f"{path}:Mine")
    assert run_id(f"{path}:Mine") == first
    assert run_id(f"{path}:Mine(strength=0.6)") != first
    assert run_id(f"{path}:Mine@strong") == run_id(f"{path}:Mine(strength=0.9)") != first
    write(path, METHOD.replace("0.5", "0.4"))
    assert run_id(f"{path}:Mine") != first
    assert load_sparsifier(f"{path}:Mine").sparsifier.parameters() == {"strength": 0.4}, "what was edited is loaded"
    assert not (tmp_path / "__pycache__").exists()
    write(path)
    assert run_id(f"{path}:Mine") == first, "the same source is the same method again"


def test_where_a_file_lies_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, other = write(tmp_path / "mine.py"), write(tmp_path / "elsewhere" / "mine.py")
    assert run_id(f"{one}:Mine") == run_id(f"{other}:Mine")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:", "does not import: SyntaxError"),
        ("import no_such_package", "does not import: ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise ValueError('two\\nlines')", "does not import: ValueError: two lines"),
    ],
)
def test_a_file_that_does_not_import(source: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source)
    with pytest.raises(InvalidInput) as caught:
        load_sparsifier(f"{path}:Mine")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# -- other people's packages


def install(folder: Path, distribution: str, entries: str) -> None:
    """Make a distribution with these entry points in a folder on ``sys.path``."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    importlib.invalidate_caches()


def test_a_package_appears_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "theirs.py", METHOD)
    install(tmp_path, "theirs", "[smcbench.sparsifiers]\ntheirs = theirs:Mine\n")
    found = plugins.installed("sparsifiers")
    assert (found["theirs"].target, found["theirs"].distribution) == ("theirs:Mine", "theirs")
    assert "rigl" in found
    named = load_sparsifier("theirs@strong")
    assert (named.label, named.versioned) == ("theirs@strong", True)
    with pytest.raises(UsageError, match="did you mean theirs"):
        load_sparsifier("their")


def test_a_package_that_does_not_import_is_listed_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "broken_one.py", "raise RuntimeError('out of order')")
    install(tmp_path, "broken-one", "[smcbench.sparsifiers]\nbroken = broken_one:Mine\ngone = broken_two:Mine\n")
    found = plugins.installed("sparsifiers")
    for name, error in (("broken", "RuntimeError: out of order"), ("gone", "ModuleNotFoundError")):
        with pytest.raises(InvalidInput, match=f"plug-in '{name}' of broken-one does not import") as caught:
            found[name].load()
        assert error in str(caught.value)
        with pytest.raises(InvalidInput, match=error):
            load_sparsifier(name)
    assert load_sparsifier("rigl").name == "rigl", "the others are as they were"


def test_two_packages_may_not_use_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "rival", "[smcbench.sparsifiers]\nrigl = rival:RigL\n")
    with pytest.raises(InvalidInput, match="two plug-ins are called 'rigl'") as caught:
        plugins.installed("sparsifiers")
    assert "rival:RigL of rival" in str(caught.value)
    assert "smcbench_baselines.rigl:RigL of smcbench" in str(caught.value)
    assert plugins.installed("tasks"), "tasks are not concerned"


def test_an_edited_task_file_is_another_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from smcbench.testing import ToyTask\nclass Mine(ToyTask):\n    pass\n")
    first = plugins.load_task(f"{path}:Mine").digest()
    assert plugins.load_task(f"{path}:Mine").digest() == first
    path.write_text("from smcbench.testing import ToyTask\nclass Mine(ToyTask):\n    chance = 0\n")
    assert plugins.load_task(f"{path}:Mine").digest() != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gmp(interval='x')", "gmp: interval is 'x', it must be a number, such as the default 0.01"),
        ("gmp(interval=True)", "it must be a number"),
        ("rigl(distribution='ekr')", "rigl: distribution is 'ekr', it must be one of 'uniform', 'er', 'erk'"),
        ("static(mask=3)", "static: mask is 3, it must be text"),
    ],
)
def test_a_parameter_of_the_wrong_kind_is_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_sparsifier(text)
