"""Plug-ins: tasks and sparsifiers by name, found through entry points; ours have no privilege over a stranger's.

A name is what an entry point is called (``rigl``), an attribute of a module (``package.module:Class``) or of a file
(``./mine.py:Mine``); a sparsifier may carry a preset (``rigl@smc``) and parameters (``rigl(drop_fraction=0.5)``), and a
control the method it controls (``shuffled(rigl@smc)``).
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import typing
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smcbench.errors import InvalidInput, SmcbenchError, UsageError, describe
from smcbench.results.battery import plain_name

if TYPE_CHECKING:
    from smcbench.sparsifier import Sparsifier
    from smcbench.task import Task

Kind = Literal["tasks", "sparsifiers"]


@dataclass(frozen=True)
class Plugin:
    """An installed plug-in: its name, where it is defined, and the distribution it comes with."""

    name: str
    target: str
    distribution: str
    entry: EntryPoint = dataclasses.field(repr=False)

    def load(self) -> Any:
        """Import it.

        Raises:
            InvalidInput: the import fails; the message carries its error.
        """
        try:
            return self.entry.load()
        except Exception as error:
            raise InvalidInput(
                f"plug-in {self.name!r} of {self.distribution} does not import ({self.target}): {describe(error)}"
            ) from error


@dataclass(frozen=True)
class Named:
    """A sparsifier as it was asked for.

    Attributes:
        name: without preset and parameters.
        label: as people should read it: the name, with a preset or what differs from the defaults.
        source: SHA-256 of the source file it is defined in.
        versioned: whether its ``version`` stands for its code; a plug-in that is not installed is known by its source.
    """

    sparsifier: Sparsifier
    name: str
    label: str
    source: str
    versioned: bool


def installed(kind: Kind) -> dict[str, Plugin]:
    """All plug-ins of a kind by name; imports none of them.

    Raises:
        InvalidInput: two distributions use one name.
    """
    return _installed(kind, tuple(sys.path))


@functools.cache
def _installed(kind: Kind, path: tuple[str, ...]) -> dict[str, Plugin]:
    """Looking through all distributions takes a twentieth of a second; what they hold hangs on the path."""
    found: dict[str, Plugin] = {}
    named = functools.cache(lambda dist: dist.name if dist else "unknown")  # each look reads the whole of its metadata
    for entry in sorted(entry_points(group=f"smcbench.{kind}"), key=lambda entry: entry.name):
        distribution = named(entry.dist)
        other = found.get(entry.name)
        if other is not None and (other.target, other.distribution) != (entry.value, distribution):
            raise InvalidInput(
                f"two plug-ins are called {entry.name!r}: {other.target} of {other.distribution} and {entry.value} of "
                f"{distribution}; uninstall one, or name the one you mean as module:attribute"
            )
        found[entry.name] = Plugin(entry.name, entry.value, distribution, entry)
    return found


def load_task(name: str) -> Task:
    """The task of this name, or of ``NAME@VARIANT``.

    Raises:
        UsageError: no such task or variant; the message holds the nearest names.
        InvalidInput: it does not import, or is no task.
    """
    from smcbench.task import Task

    place, colon, last = name.rpartition(":")
    last, at, variant = last.partition("@")
    plain = f"{place}{colon}{last}"
    found = _find("tasks", plain)
    if isinstance(found, type) and issubclass(found, Task):
        found = found()
    if not isinstance(found, Task):
        raise InvalidInput(f"{plain} is a {type(found).__name__}, not a task (an instance of smcbench.Task)")
    return found.variant(variant) if at else found


def load_sparsifier(text: str) -> Named:
    """The sparsifier that ``text`` names, with its preset and parameters.

    Raises:
        UsageError: no such sparsifier, preset or parameter; the message holds the nearest names.
        InvalidInput: it does not import, or is no sparsifier.
    """
    from smcbench.sparsifier import Sparsifier

    match = re.fullmatch(r"(?P<name>[^@(]+)(@(?P<preset>[\w.-]+))?(\((?P<arguments>.*)\))?", text.strip(), re.DOTALL)
    if match is None:
        raise UsageError(f"{text!r} names no sparsifier; write NAME, NAME@PRESET or NAME(parameter=value)")
    name, preset = match["name"].strip(), match["preset"]
    found = _find("sparsifiers", name)
    if not (isinstance(found, type) and issubclass(found, Sparsifier)):
        raise InvalidInput(f"{name} is not a sparsifier (a subclass of smcbench.Sparsifier)")
    if inspect.isabstract(found):
        raise InvalidInput(f"{name} does not define sparsify(self, session, sparsity)")
    parameters: dict[str, Any] = (
        dataclasses.asdict(_construct(found, name, {})) if dataclasses.is_dataclass(found) else {}
    )
    chosen: dict[str, Any] = {}
    if preset is not None:
        if preset not in found.presets:
            raise UsageError(f"{name} has no preset {preset!r}{_nearest(preset, found.presets)}")
        chosen |= found.presets[preset]
    arguments = _arguments(match["arguments"] or "", name, found.wraps)
    for key in arguments:
        if key not in parameters:
            raise UsageError(f"{name} has no parameter {key!r}{_nearest(key, parameters)}")
        _fits(found, name, key, arguments[key], parameters[key])
    if found.wraps in arguments:
        arguments[found.wraps] = _written(arguments[found.wraps])
    sparsifier = _construct(found, name, {**chosen, **arguments})
    source = hashlib.sha256(Path(inspect.getfile(found)).read_bytes()).hexdigest()
    return Named(sparsifier, name, _label(name, sparsifier), source, ":" not in name)


@functools.lru_cache(maxsize=64)
def known(label: str) -> Named | None:
    """An installed method of this label, which may be anybody's: never one that it would have to import from a file."""
    unsafe = {":", "/", "\\"} & set(label)  # a backslash may spell the other two
    if unsafe or plain_name(label) not in installed("sparsifiers"):
        return None
    try:
        return load_sparsifier(label)
    except SmcbenchError:
        return None


def _fits(kind: type[Sparsifier], name: str, key: str, value: Any, default: Any) -> None:
    """A number where the default is one, a choice where the field is a Literal; a method need not check these."""
    try:
        hint = typing.get_type_hints(kind).get(key)
    except NameError:  # annotated with what is imported for type checkers only
        hint = None
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else None
    if choices is not None and value not in choices:
        raise UsageError(f"{name}: {key} is {value!r}, it must be one of {', '.join(map(repr, choices))}")
    if isinstance(default, str) and not isinstance(value, str):
        raise UsageError(f"{name}: {key} is {value!r}, it must be text, such as the default {default!r}")
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if number and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UsageError(f"{name}: {key} is {value!r}, it must be a number, such as the default {default!r}")


def _written(text: str) -> str:
    """A method as its control names it, in one form only; that of a file by its path from here."""
    named = load_sparsifier(text)
    place, colon, last = named.name.rpartition(":")
    name = (os.path.relpath(place) if place.endswith(".py") else place) + colon + last
    return _text(name, named.sparsifier, _fields(named.sparsifier))


def _construct(kind: type[Sparsifier], name: str, arguments: dict[str, Any]) -> Sparsifier:
    try:
        return kind(**arguments)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    except Exception as error:
        raise UsageError(f"{name} cannot be made from {arguments}: {error}") from error


def _label(name: str, sparsifier: Sparsifier) -> str:
    own = dict(sparsifier.parameters())
    if sparsifier.wraps is not None:
        own[sparsifier.wraps] = load_sparsifier(getattr(sparsifier, sparsifier.wraps)).label
    return _text(name.rpartition(":")[2], sparsifier, own)


def _text(name: str, sparsifier: Sparsifier, values: dict[str, Any]) -> str:
    """The name, with a preset or what differs from the defaults; a control with its method."""
    kind = type(sparsifier)
    defaults = _fields(kind())
    changed = {key: value for key, value in values.items() if value != defaults[key]}
    if kind.wraps is not None and changed.keys() <= {kind.wraps}:
        return f"{name}({values[kind.wraps]})"
    for preset, chosen in kind.presets.items():
        if changed and {**defaults, **chosen} == values:
            return f"{name}@{preset}"
    return name + (f"({', '.join(f'{key}={value!r}' for key, value in changed.items())})" if changed else "")


def _fields(sparsifier: Sparsifier) -> dict[str, Any]:
    return dataclasses.asdict(sparsifier) if dataclasses.is_dataclass(sparsifier) else {}


def _arguments(text: str, name: str, wraps: str | None) -> dict[str, Any]:
    if wraps is not None and text.strip() and not re.match(rf"\s*{wraps}\s*=\s*['\"]", text):
        return {wraps: re.sub(rf"^\s*{wraps}\s*=", "", text).strip()}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args:
            raise ValueError("name every parameter")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError) as error:
        raise UsageError(f"the parameters of {name}({text}) cannot be read: {error}; write parameter=value") from None


def _find(kind: Kind, name: str) -> Any:
    if ":" in name:
        return _attribute(*name.rsplit(":", 1))
    known = installed(kind)
    if name not in known:
        if name.endswith(".py") or "/" in name:
            raise UsageError(f"{name}: say which class of the file, as {name}:Name")
        raise UsageError(
            f"no {kind[:-1]} is called {name!r}{_nearest(name, known)}; `smcbench list {kind}` shows all of them"
        )
    return known[name].load()


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:12]
    return f" (did you mean {', '.join(near)}?)" if near else ""


def _attribute(module: str, attribute: str) -> Any:
    is_file, path = module.endswith(".py"), Path(module).resolve()
    if is_file and not path.is_file():
        raise UsageError(f"{module}: no such file")
    try:
        loaded = _from_file(path, path.read_bytes()) if is_file else importlib.import_module(module)
    except Exception as error:
        raise InvalidInput(f"{module} does not import: {describe(error)}") from error
    if not hasattr(loaded, attribute):
        public = [key for key in vars(loaded) if not key.startswith("_")]
        raise UsageError(f"{module} has no {attribute!r}{_nearest(attribute, public)}")
    return getattr(loaded, attribute)


@functools.cache
def _from_file(path: Path, source: bytes) -> Any:
    """The module of a file with this source; what was edited is loaded again, and never from stale bytecode."""
    name = f"smcbench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    from smcbench.task import SOURCE

    module.__dict__[SOURCE] = hashlib.sha256(source).hexdigest()
    sys.modules[name] = module  # dataclasses look their module up there
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def short(text: str) -> str:
    """A sparsifier as it was typed, without the folders of files.

    >>> short("/some/where/mine.py:Mine(batches=2)"), short("shuffled(./mine.py:Mine)")
    ('mine.py:Mine(batches=2)', 'shuffled(mine.py:Mine)')
    """
    return re.sub(r"[^()'\"=,]*/", "", text)
