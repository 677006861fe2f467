"""Checks of single arguments: `check(value, "name")` returns the value as a plain Python object, or
raises an error that says which argument it was, what was expected and what came.

Arrays are checked in arrays.py."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """An int in [low, high]; TypeError for a bool, a float and anything that is no number."""
    if type(value) is int and low <= value and (high is None or value <= high):
        return value
    wanted = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def positive_int(value: Any, name: str) -> int:
    """An int >= 1."""
    return whole(value, name, 1)


def shape(value: Any, name: str) -> tuple[int, ...]:
    """The shape of a row: a tuple of integers >= 1."""
    if not isinstance(value, tuple | list) or not value:
        raise TypeError(f"{name}: expected a tuple of integers >= 1, got {value!r}")
    return tuple(positive_int(length, f"{name}: {value!r}") for length in value)


def seed(value: Any, name: str = "seed") -> int:
    """An int that fits into the 64-bit key of the random generators."""
    return whole(value, name, 0, 2**64 - 1)


def _real(wanted: str, is_good: Callable[[float], bool]) -> Callable[[Any, str], float]:
    """The check for a real number that satisfies `is_good`; messages call it `wanted`."""

    def check(value: Any, name: str) -> float:
        is_number = isinstance(value, (int, float, np.integer, np.floating))
        if not is_number or isinstance(value, bool):
            raise TypeError(f"{name}: expected {wanted}, got {value!r}")
        try:
            number = float(value)
        except OverflowError:  # an int beyond float64
            number = math.inf
        if not is_good(number):
            raise ValueError(f"{name}: expected {wanted}, got {number!r}")
        return number

    return check


fraction = _real("a number in [0, 1)", lambda number: 0.0 <= number < 1.0)
proportion = _real("a number in (0, 1)", lambda number: 0.0 < number < 1.0)
zero_to_one = _real("a number in [0, 1]", lambda number: 0.0 <= number <= 1.0)
up_to_one = _real("a number in (0, 1]", lambda number: 0.0 < number <= 1.0)
positive = _real("a finite number > 0", lambda number: 0.0 < number < math.inf)
not_negative = _real("a finite number >= 0", lambda number: 0.0 <= number < math.inf)


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def optional(check: Callable[[Any, str], float]) -> Callable[[Any, str], float | None]:
    """The same check, which also lets None pass."""
    return lambda value, name: None if value is None else check(value, name)


def fits(number: float, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError if rounding to `dtype` makes the number infinite, or 0 though it is not."""
    with np.errstate(over="ignore", under="ignore"):
        seen = float(dtype.type(number))
    if math.isinf(seen) or (number and not seen):
        raise ValueError(f"{name}: {number!r} is {seen:g} in {dtype}, the dtype it is used in")


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of the names in `choices`; the error lists them all."""
    names = list(choices)
    if isinstance(value, str) and value in names:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name}: expected one of {', '.join(names)}, got {value!r}")


_KINDS = {  # the method by which each is recognised, and an example
    "loss": ("__call__", "fastnn.MeanSquaredError()"),
    "optimizer": ("step", "fastnn.Adam()"),
    "model": ("exclusive", "fastnn.Sequential(...)"),
}


def objects(**objects: Any) -> None:
    """Raise TypeError where a name or a class was passed instead of an object."""
    for name, part in objects.items():
        method, example = _KINDS[name]
        wanted = f"{name}: expected an object such as {example}"
        if isinstance(part, type):
            raise TypeError(f"{wanted}, got the class; write {part.__name__}()")
        if not hasattr(part, method):
            raise TypeError(f"{wanted}, got {part!r}")


def note(error: BaseException, text: str) -> None:
    """Add what tracebacks show below the message, from Python 3.11 on."""
    kept: Any = error
    with suppress(AttributeError):  # a class with __slots__ may refuse
        kept.__notes__ = [*getattr(error, "__notes__", ()), text]


def users_level() -> int:
    """The `stacklevel` that makes a warning of the calling function show the user's line."""
    frame, level = sys._getframe(1), 1
    between = ("fastnn.", "contextlib")  # a `with` of fastnn's ends in contextlib
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(between):
        frame, level = frame.f_back, level + 1
    return level
