"""Columns of tables: the numbers among Python objects, as a DataFrame of mixed columns gives them,
and the words for where in an array something is wrong, by the names of a DataFrame's columns."""

from __future__ import annotations

import datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
TIMES = "; turn dates and times into numbers first, such as days since the first"
_NAMED = 3  # so many columns are named, the others counted


def numbers(objects: NDArray[np.object_], table: object, name: str) -> NDArray[Any]:
    """The numbers in an array of objects, made from `table`, as bool, int64 or float64.

    ValueError, which says what stands where and what to do, if it holds anything else."""
    items = objects.ravel().tolist()
    kinds = set(map(type, items))
    others = {kind for kind in kinds if not is_number(kind)}
    if others:
        first = next(i for i, item in enumerate(items) if type(item) in others)
        mask = np.zeros(objects.shape, bool)
        mask.flat[first] = True
        raise ValueError(
            f"{name}: expected real numbers, got {shown(items[first])}{places(mask, table)} "
            f"(dtype object){advice(items[first], name)}"
        )
    whole = all(issubclass(kind, (Integral, np.bool_)) for kind in kinds)
    dtype = bool if kinds <= {bool, np.bool_} else np.int64 if whole else np.float64
    try:
        return objects.astype(dtype)
    except OverflowError:  # an integer beyond int64
        pass
    try:
        return objects.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{name} contains values too large for float64") from None


def is_number(kind: type) -> bool:
    """Whether objects of that type are real numbers or truth values."""
    return issubclass(kind, (Real, np.bool_, Decimal))


def is_missing(kind: type) -> bool:
    """Whether objects of that type stand for what is missing; a NaN does, too, but is a number."""
    return kind is type(None) or kind.__name__ in ("NAType", "NaTType")


def is_time(kind: type) -> bool:
    """Whether objects of that type are dates, times or durations."""
    return issubclass(kind, _TIMES)


def places(wrong: NDArray[np.bool_], table: object) -> str:
    """Where `wrong` is true, such as " in column 'age'"; a row's number where that says more."""
    if wrong.ndim == 1 or wrong.ndim > 2:
        index = [int(i) for i in np.argwhere(wrong)[0]]
        return f" in row {index[0]}" if wrong.ndim == 1 else f" at {index}"
    if wrong.ndim == 0:
        return ""
    found = np.flatnonzero(wrong.any(axis=0)).tolist()
    names = list(getattr(table, "columns", ()))
    if len(names) != wrong.shape[1]:
        names = list(range(wrong.shape[1]))
    shown = ", ".join(repr(names[i]) for i in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f" in column{'s' if len(found) > 1 else ''} {shown}{more}"


def advice(item: object, name: str) -> str:
    """What to do about an item that is no number, behind a semicolon; "" where nothing helps."""
    if isinstance(item, str | bytes):
        if name.split()[-1] in ("y", "targets"):
            return "; number the classes: names, y = np.unique(y, return_inverse=True)"
        return "; encode text as numbers first, as fastnn.TableEncoder does"
    if is_missing(type(item)):
        return "; fill in what is missing, or drop it"
    if isinstance(item, _TIMES):
        return TIMES
    if isinstance(item, list | tuple | np.ndarray):
        return f"; make one array of those within, as np.stack({name.split()[-1]}) does"
    return ""


def shown(item: object) -> str:
    """A short item itself, or its type."""
    text = repr(item)
    return text if len(text) <= 40 and "\n" not in text else f"a {type(item).__name__}"
