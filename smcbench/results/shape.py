"""Frozen dataclasses to JSON and back, strictly: every key known, none missing, types as declared, numbers finite."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from smcbench.errors import InvalidInput, UsageError

T = TypeVar("T")
Reader = Callable[[Any, str], Any]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A constraint on a text: ``Annotated[str, Pattern("[0-9a-f]+")]``."""

    pattern: str


Digest = Annotated[str, Pattern("[0-9a-f]{8,64}")]
RunId = Annotated[str, Pattern("[0-9a-f]{12}")]
UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Control characters, line breaks, and what turns the direction of writing: the inside of a class in a pattern."""
Line = Annotated[str, Pattern(f"[^{UNSEEN}]{{1,200}}")]
"""What people read."""
Word = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9 ._@+()=,-]{0,99}")]
"""What is looked up among what is installed: never a path, nor a module."""
Name = Annotated[str, Pattern(r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9_-])?")]
"""What may become a file name anywhere: no case, no separators, no dot at either end, no name that Windows keeps."""


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists; a field that defaults to None is left out while it is None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(content)
            for f in dataclasses.fields(value)
            if not ((content := getattr(value, f.name)) is None and f.default is None)
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def read(shape: type[T], value: Any, where: str) -> T:
    """Build a dataclass from parsed JSON or TOML; a field with a default may be missing.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     x: float
    >>> read(Point, {"x": 1}, "point")
    Point(x=1.0)
    >>> read(Point, {"x": 1, "y": 2}, "point")
    Traceback (most recent call last):
    smcbench.errors.InvalidInput: point: unknown key 'y'; known are x

    Raises:
        InvalidInput: the message names the file and the key.
    """
    return typing.cast(T, _reader(typing.cast(Any, shape))(value, where))


def read_as(hint: Any, value: Any, where: str) -> Any:
    """A value of any type that a field may have, such as ``Name``.

    Raises:
        InvalidInput: it is none.
    """
    return _reader(hint)(value, where)


def schema(*shapes: type) -> dict[str, Any]:
    """JSON Schema definitions, by class name, of these dataclasses and of all that they hold."""
    found: dict[str, Any] = {}
    for each in shapes:
        _describe(each, found)
    return dict(sorted(found.items()))


def _describe(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        shape = typing.cast(type, hint)
        if shape.__name__ not in found:
            found[shape.__name__] = {}
            hints = typing.get_type_hints(shape, include_extras=True)
            found[shape.__name__] = {
                "description": (shape.__doc__ or "").partition("\n")[0],
                "type": "object",
                "additionalProperties": False,
                "required": sorted(_needed(shape)),
                "properties": {f.name: _describe(hints[f.name], found) for f in dataclasses.fields(shape)},
            }
        return {"$ref": f"#/$defs/{shape.__name__}"}
    if origin is Annotated:
        return {"type": "string", "pattern": f"^{arguments[1].pattern}$"}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (dict, Mapping):
        names = {} if arguments[0] is str else {"propertyNames": _describe(arguments[0], found)}
        return {"type": "object", **names, "additionalProperties": _describe(arguments[1], found)}
    if origin is tuple:
        return {"type": "array", "items": _describe(arguments[0], found)}
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in arguments if a is not type(None))
        return {"anyOf": [_describe(inner, found), {"type": "null"}]}
    if hint is Any:
        return {}
    return {"type": {int: "integer", float: "number", str: "string", bool: "boolean"}[hint]}


@functools.cache
def _reader(hint: Any) -> Reader:
    """The function that reads one type; types are looked at once, values as often as they come."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast(type, hint))
    if hint in (int, str, bool):
        return _scalar(hint)
    if hint is float:
        return _number
    if hint is Any:
        return _anything
    if origin is Annotated:
        return _text(arguments[1].pattern)
    if origin is typing.Literal:
        return _choice(arguments)
    if origin in (dict, Mapping):
        return _mapping(_reader(arguments[0]), _reader(arguments[1]))
    if origin is tuple:
        return _sequence(_reader(arguments[0]))
    if origin in (typing.Union, types.UnionType):
        return _optional(_reader(next(a for a in arguments if a is not type(None))))
    raise TypeError(f"no reader for {hint!r}")


def _object(shape: type) -> Reader:
    hints = typing.get_type_hints(shape, include_extras=True)
    fields = {f.name: _reader(hints[f.name]) for f in dataclasses.fields(shape)}
    needed = _needed(shape)

    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: must be an object with the keys {', '.join(fields)}, not {_show(value)}")
        for key in value:
            if key not in fields:
                raise InvalidInput(f"{where}: unknown key {_show(key)}; known are {', '.join(fields)}")
        for key in needed:
            if key not in value:
                raise InvalidInput(f"{where}: key {key!r} is missing")
        try:
            return shape(**{key: fields[key](item, f"{where}: {key}") for key, item in value.items()})
        except UsageError as error:
            raise InvalidInput(f"{where}: {error}") from None

    return reader


def _needed(shape: type) -> list[str]:
    """The fields without a default."""
    return [
        f.name
        for f in dataclasses.fields(shape)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]


def _scalar(kind: type) -> Reader:
    name = {int: "a whole number", str: "a text", bool: "true or false"}[kind]

    def reader(value: Any, where: str) -> Any:
        if type(value) is not kind:
            raise InvalidInput(f"{where}: must be {name}, not {_show(value)}")
        return value

    return reader


def _text(pattern: str) -> Reader:
    compiled = re.compile(pattern)

    def reader(value: Any, where: str) -> Any:
        if type(value) is not str or not compiled.fullmatch(value):
            raise InvalidInput(f"{where}: must be a text like {pattern}, not {_show(value)}")
        return sys.intern(value)  # of a hundred thousand records most have the same names and digests

    return reader


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float):
        raise InvalidInput(f"{where}: must be a number, not {_show(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidInput(f"{where}: must be a finite number, not {_show(value)}")
    return number + 0.0  # -0.0 becomes 0.0: equal numbers, equal text


def _anything(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:
        return _plain(value, where)
    if type(value) is float:
        return _number(value, where)
    if isinstance(value, list | tuple):
        return [_anything(item, f"{where}: {i}") for i, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_plain(key, where): _anything(item, f"{where}: {_word(key)}") for key, item in value.items()}
    raise InvalidInput(f"{where}: must be plain JSON, not {_show(value)}")


def _choice(choices: tuple[Any, ...]) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise InvalidInput(f"{where}: must be one of {', '.join(map(str, choices))}, not {_show(value)}")
        return value

    return reader


def _mapping(name: Reader, item: Reader) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: must be an object, not {_show(value)}")
        return {name(key, where): item(content, f"{where}: {_word(key)}") for key, content in value.items()}

    return reader


def _sequence(item: Reader) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, list | tuple):
            raise InvalidInput(f"{where}: must be a list, not {_show(value)}")
        return tuple(item(content, f"{where}: {i}") for i, content in enumerate(value))

    return reader


def _optional(inner: Reader) -> Reader:
    return lambda value, where: None if value is None else inner(value, where)


_HIDDEN = re.compile(f"(?![\\n\\t])[{UNSEEN}]")


def is_text(value: str) -> bool:
    """Whether this has nothing in it that cannot be seen but line breaks and tabs."""
    return _HIDDEN.search(value) is None


def _plain(value: str, where: str) -> str:
    if not is_text(value):
        raise InvalidInput(f"{where}: must be a text without control characters, not {_show(value)}")
    return value


def _word(key: str) -> str:
    """A key as part of a message."""
    return key if len(key) <= 80 and key.isprintable() else _show(key)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
