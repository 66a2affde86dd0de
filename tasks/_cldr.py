"""Phrases of Unicode's Common Locale Data Repository (CLDR), rendered in several languages by Babel.

A phrase is its key: the CLDR templates and the values that fill them. Rendered in two languages it is a pair of
translations that people wrote. Phrases are split by key, so that what is tested was never seen in any language.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

KINDS = ("date", "relative", "quantity", "list")
"""Dates in full, times before and after now, amounts with units, and enumerations of countries."""

_YEARS = range(2020, 2040)
_SPANS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
UNITS = (  # noqa: SIM905
    "digital-byte digital-kilobyte duration-second duration-hour duration-day duration-week duration-month "
    "duration-year length-meter length-kilometer length-centimeter length-millimeter length-foot mass-gram "
    "mass-kilogram mass-tonne mass-pound temperature-celsius volume-liter volume-milliliter"
).split()
TERRITORIES = (  # noqa: SIM905
    "AE AR AT AU BE BG BR CH CL CN CY CZ DE DK DZ EE EG ES FI GB GE GR HR HU IE IN IS IT JM JO JP KR LB LT LV LY MA MD "
    "MX NL NO NP PE PL RO RU SA SE SG SI SK SY TH TN TR US UZ VN YE ZA"
).split()
_STYLES = {"and": "standard", "or": "or"}
_LARGEST = 60
"""The largest number of an amount or a span."""
_PARTS = 2
"""Most amounts or spans in a phrase; an enumeration has one more."""


def keys(count: int, seed: int = 0) -> list[str]:
    """The first ``count`` distinct phrase keys of a fixed sequence in which the kinds take turns.

    >>> keys(4)[0].split("/")[0]
    'date'
    """
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        size = len(found)
        while len(found) == size:
            found[_DRAW[KINDS[size % len(KINDS)]](draw)] = None
    return list(found)


def translated(key: str, language: str) -> bool:
    """Whether all of a phrase has a translation of its own: none is in English, or the raw key of a unit.

    Of the units that CLDR has no name for in a language, Babel shows the key; other names are the same in English.

    >>> translated("quantity/5 mass-gram+11 volume-liter/and", "fr"), render("quantity/11 volume-liter/and", "my")
    (True, '11 volume-liter')
    """
    kind, values, _ = key.split("/")
    if kind == "date":
        return True
    parts = (f"{kind}/{part}/and" for part in values.split("+"))
    return all(render(part, language) not in (render(part, "en"), part.split("/")[1]) for part in parts)


@functools.cache
def render(key: str, language: str) -> str:
    """A phrase in a language, with plain spaces.

    >>> render("date/2031-04-05/full", "fr"), render("relative/-3 day/and", "ru")
    ('samedi 5 avril 2031', '3 дня назад')
    """
    from babel.dates import format_date, format_timedelta
    from babel.lists import format_list
    from babel.units import format_unit

    locale = _locale(language)
    kind, values, style = key.split("/")
    if kind == "date":
        text = format_date(date.fromisoformat(values), style, locale)
    else:
        write: dict[str, Callable[[str], str]] = {
            "relative": lambda part: format_timedelta(
                timedelta(days=_SPANS[part.split()[1]] * int(part.split()[0])),
                part.split()[1],
                threshold=1e9,
                add_direction=True,
                locale=locale,
            ),
            "quantity": lambda part: format_unit(int(part.split()[0]), part.split()[1], locale=locale),
            "list": lambda part: locale.territories[part],
        }
        text = format_list([write[kind](part) for part in values.split("+")], _STYLES[style], locale)
    return " ".join(text.split())


@functools.cache
def _locale(language: str) -> Any:
    from babel import Locale

    return Locale.parse(language)


def _date(draw: random.Random) -> str:
    first = date(_YEARS[0], 1, 1)
    days = (date(_YEARS[-1], 12, 31) - first).days
    return f"date/{first + timedelta(days=draw.randint(0, days))}/full"


def _relative(draw: random.Random) -> str:
    parts = draw.sample(list(_SPANS), draw.randint(1, _PARTS))
    return _key("relative", [f"{draw.choice((1, -1)) * draw.randint(1, _LARGEST)} {part}" for part in parts], draw)


def _quantity(draw: random.Random) -> str:
    parts = draw.sample(UNITS, draw.randint(1, _PARTS))
    return _key("quantity", [f"{draw.randint(1, _LARGEST)} {part}" for part in parts], draw)


def _list(draw: random.Random) -> str:
    return _key("list", draw.sample(TERRITORIES, draw.randint(2, _PARTS + 1)), draw)


def _key(kind: str, parts: list[str], draw: random.Random) -> str:
    """A key of parts joined by "and" or "or"; a single part has no join to differ in."""
    return f"{kind}/{'+'.join(parts)}/{draw.choice(list(_STYLES)) if len(parts) > 1 else 'and'}"


_DRAW: dict[str, Callable[[random.Random], str]] = {
    "date": _date,
    "relative": _relative,
    "quantity": _quantity,
    "list": _list,
}
