"""Checks of single arguments, shared by every public name: `check(value, "name")` returns the
value in its plain Python form or raises an error that names the argument, what was expected and
what came.  Arrays are looked after in arrays.py."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """An int in [low, high]; TypeError for bool, float and what is no number."""
    if type(value) is int and low <= value and (high is None or value <= high):
        return value
    wanted = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:  # an array of several numbers
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from None
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def positive_int(value: Any, name: str) -> int:
    """An int >= 1."""
    return whole(value, name, 1)


def shape(value: Any, name: str) -> tuple[int, ...]:
    """A row's shape: a tuple of integers >= 1."""
    if not isinstance(value, tuple | list) or not value:
        raise TypeError(f"{name}: expected a tuple of integers >= 1, got {value!r}")
    return tuple(positive_int(length, f"{name}: {value!r}") for length in value)


def seed(value: Any, name: str = "seed") -> int:
    """An int that fits the 64-bit key of the random generators."""
    return whole(value, name, 0, 2**64 - 1)


def _number(value: Any, name: str, wanted: str) -> float:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    try:
        return float(value)
    except OverflowError:  # an int beyond float64
        raise ValueError(f"{name}: expected {wanted}, got {value!r}") from None


def fraction(value: Any, name: str) -> float:
    """A number in [0, 1)."""
    number = _number(value, name, "a number in [0, 1)")
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name}: expected a number in [0, 1), got {number!r}")
    return number


def proportion(value: Any, name: str) -> float:
    """A number in (0, 1)."""
    number = _number(value, name, "a number in (0, 1)")
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name}: expected a number in (0, 1), got {number!r}")
    return number


def share(value: Any, name: str) -> float:
    """A number in (0, 1]."""
    number = _number(value, name, "a number in (0, 1]")
    if not 0.0 < number <= 1.0:
        raise ValueError(f"{name}: expected a number in (0, 1], got {number!r}")
    return number


def positive(value: Any, name: str) -> float:
    """A finite number > 0."""
    number = _number(value, name, "a finite number > 0")
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name}: expected a finite number > 0, got {number!r}")
    return number


def not_negative(value: Any, name: str) -> float:
    """A finite number >= 0."""
    number = _number(value, name, "a finite number >= 0")
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0, got {number!r}")
    return number


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def optional(check: Callable[[Any, str], float]) -> Callable[[Any, str], float | None]:
    """The check that lets None pass too."""
    return lambda value, name: None if value is None else check(value, name)


def fits(number: float, name: str, dtype: np.dtype[Any]) -> None:
    """ValueError for a number that kernels of this dtype would take for 0 or infinity."""
    with np.errstate(over="ignore", under="ignore"):
        seen = float(dtype.type(number))
    if math.isinf(seen) or (number and not seen):
        raise ValueError(f"{name}: {number!r} is {seen:g} in {dtype}, the dtype it is used in")


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of the names; ValueError that lists them."""
    names = list(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(names)}, got {value!r}")
    if value not in names:
        raise ValueError(f"{name}: expected one of {', '.join(names)}, got {value!r}")
    return value


_PARTS = {  # the method that makes one, and an example
    "loss": ("__call__", "fastnn.MeanSquaredError()"),
    "optimizer": ("step", "fastnn.Adam()"),
    "model": ("fit", "fastnn.Sequential(...)"),
}


def parts(**parts: Any) -> None:
    """TypeError for a name or a class where an object is needed, before anything is trained."""
    for name, part in parts.items():
        method, example = _PARTS[name]
        wanted = f"{name}: expected an object such as {example}"
        if isinstance(part, type):
            raise TypeError(f"{wanted}, got the class; write {part.__name__}()")
        if not hasattr(part, method):
            raise TypeError(f"{wanted}, got {part!r}")


def users_level() -> int:
    """The stacklevel with which a warning of the caller's shows the user's line."""
    frame, level = sys._getframe(1), 1
    between = ("fastnn.", "contextlib")  # the latter runs what ends a `with` of fastnn's
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(between):
        frame, level = frame.f_back, level + 1
    return level
