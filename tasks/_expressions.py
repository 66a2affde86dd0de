"""Arithmetic expressions in prefix form: their value, computed by hand and never by ``eval``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
"""By their sign, in the order of the output vocabulary."""
TOLERANCE = 1e-4
"""Two values this close are the same answer (Xie and Sun, 2019, and SMC-Bench)."""
_NUMBER = "number"


def value(expression: Sequence[str], numbers: Sequence[float]) -> float | None:
    """The value of a prefix expression over operators, ``number0``, ``number1``, … and constants.

    None where it has none: it is incomplete or goes on after its end, names a number that is not there, holds another
    word, divides by zero or leaves the finite numbers.

    >>> value("- * number0 number1 2.5".split(), [3, 4]), value("+ number0".split(), [3]), value("/ 1 0".split(), [])
    (9.5, None, None)
    """
    stack: list[float] = []
    for token in reversed(expression):
        if token in OPERATORS:
            if len(stack) < 2:
                return None
            try:
                stack.append(OPERATORS[token](stack.pop(), stack.pop()))
            except (ZeroDivisionError, OverflowError):
                return None
        elif (found := _leaf(token, numbers)) is not None:
            stack.append(found)
        else:
            return None
    return stack[0] if len(stack) == 1 and math.isfinite(stack[0]) else None


def _leaf(token: str, numbers: Sequence[float]) -> float | None:
    place = place_of(token)
    if place is not None:
        return float(numbers[place]) if place < len(numbers) else None
    try:
        return float(token)
    except ValueError:
        return None


def place_of(token: str) -> int | None:
    """Which of the problem's numbers a token names.

    >>> place_of("number12"), place_of("12.0")
    (12, None)
    """
    digits = token.removeprefix(_NUMBER)
    return int(digits) if token.startswith(_NUMBER) and digits.isascii() and digits.isdigit() else None


def is_right(expression: Sequence[str], numbers: Sequence[float], answer: float) -> bool:
    """Whether an expression has the value ``answer``, within :data:`TOLERANCE`."""
    found = value(expression, numbers)
    return found is not None and abs(found - answer) < TOLERANCE
