"""Phrases of Unicode's Common Locale Data Repository (CLDR), rendered in several languages by Babel.

A phrase is its key: the CLDR templates and the values that fill them. Rendered in two languages it is a pair of
translations that people wrote. Phrases are split by key, so that what is tested was never seen in any language.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from datetime import date, timedelta

KINDS = ("date", "relative", "quantity", "list")
"""Dates in full, times before and after now, amounts with units, and enumerations of countries."""

_YEARS = range(2020, 2040)
_SPANS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
_UNITS = (
    "digital-byte digital-kilobyte duration-second duration-hour duration-day duration-week duration-month "
    "duration-year length-meter length-kilometer length-centimeter length-millimeter length-foot mass-gram "
    "mass-kilogram mass-tonne mass-pound temperature-celsius volume-liter volume-milliliter"
).split()
_TERRITORIES = (
    "AE AR AT AU BE BG BR CH CL CN CY CZ DE DK DZ EE EG ES FI GB GE GR HR HU IE IN IS IT JM JO JP KR LB LT LV LY MA MD "
    "MX NL NO NP PE PL RO RU SA SE SG SI SK SY TH TN TR US UZ VN YE ZA"
).split()
_JOINS = {"and": "standard", "or": "or"}
_MOST = {"relative": 60, "quantity": 60, "quantities": 2, "list": 3}
"""The largest numbers, and the longest enumerations."""


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


@functools.cache
def render(key: str, language: str) -> str:
    """A phrase in a language, with plain spaces.

    >>> render("date/2031-04-05/full", "fr"), render("relative/-3/day", "ru")
    ('samedi 5 avril 2031', '3 дня назад')
    """
    from babel.dates import format_date, format_timedelta
    from babel.lists import format_list
    from babel.units import format_unit

    locale = _locale(language)
    kind, values, style = key.split("/")
    if kind == "date":
        text = format_date(date.fromisoformat(values), style, locale)
    elif kind == "relative":
        span = timedelta(days=int(values) * _SPANS[style])
        text = format_timedelta(span, style, threshold=1e9, add_direction=True, locale=locale)  # type: ignore[arg-type]
    elif kind == "quantity":
        amounts = [amount.split(" ") for amount in values.split("+")]
        text = format_list([format_unit(int(n), unit, locale=locale) for n, unit in amounts], _JOINS[style], locale)
    else:
        text = format_list([locale.territories[code] for code in values.split("+")], _JOINS[style], locale)
    return " ".join(text.split())


@functools.cache
def _locale(language: str) -> object:
    from babel import Locale

    return Locale.parse(language)


def _date(draw: random.Random) -> str:
    first = date(_YEARS[0], 1, 1)
    days = (date(_YEARS[-1], 12, 31) - first).days
    return f"date/{first + timedelta(days=draw.randint(0, days))}/full"


def _relative(draw: random.Random) -> str:
    count = draw.randint(1, _MOST["relative"])
    return f"relative/{draw.choice((count, -count))}/{draw.choice(list(_SPANS))}"


def _quantity(draw: random.Random) -> str:
    units = draw.sample(_UNITS, draw.randint(1, _MOST["quantities"]))
    amounts = [f"{draw.randint(1, _MOST['quantity'])} {unit}" for unit in units]
    return f"quantity/{'+'.join(amounts)}/{_join(draw)}"


def _list(draw: random.Random) -> str:
    return f"list/{'+'.join(draw.sample(_TERRITORIES, draw.randint(2, _MOST['list'])))}/{_join(draw)}"


def _join(draw: random.Random) -> str:
    return draw.choice(list(_JOINS))


_DRAW: dict[str, Callable[[random.Random], str]] = {
    "date": _date, "relative": _relative, "quantity": _quantity, "list": _list
}
