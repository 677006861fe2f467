"""What may be a model's scaler, its target scaler and its classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.data.standardizer import Standardizer
from fastnn.data.table import TableEncoder
from fastnn.support import arrays, checks


def check_scaler(value: Any, name: str) -> Standardizer | TableEncoder | None:
    """A `Standardizer` or `TableEncoder` after `fit`, or None; otherwise TypeError, ValueError."""
    if type(value) is not TableEncoder:
        return _check_standardizer(value, name, "a Standardizer, a TableEncoder or None")
    if not value.__sklearn_is_fitted__():
        raise ValueError(f"{name}: expected a TableEncoder after fit, got one before it")
    return value


def check_target_scaler(value: Any, name: str) -> Standardizer | None:
    """A `Standardizer` after `fit`, or None; TypeError or ValueError otherwise."""
    return _check_standardizer(value, name, "a Standardizer or None")


def _check_standardizer(value: Any, name: str, wanted: str) -> Standardizer | None:
    if value is None:
        return None
    if type(value) is not Standardizer:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    if not hasattr(value, "mean"):
        raise ValueError(f"{name}: expected a Standardizer after fit, got one before it")
    mean, std = (np.asarray(getattr(value, part)) for part in ("mean", "std"))
    for part, array in (("mean", mean), ("std", std)):
        right = array.dtype == np.float64 and array.ndim == 1 and array.shape == mean.shape != (0,)
        if not (right and np.isfinite(array).all()):
            raise ValueError(
                f"{name}: expected its {part} to be finite float64 numbers, one for each feature, "
                f"got {arrays.describe(array)}"
            )
    if not (std > 0).all():
        raise ValueError(f"{name}: expected its std > 0, got {std.min()}")
    return value


def check_classes(value: Any, name: str) -> tuple[str, ...] | tuple[int, ...] | None:
    """The names or numbers of classes as a tuple, from a list, a tuple or an array, or None;
    TypeError or ValueError otherwise."""
    if value is None:
        return None
    items = value.tolist() if hasattr(value, "tolist") else value
    wanted = f"{name}: expected a list of names or of integers, each once"
    if not isinstance(items, tuple | list):
        raise TypeError(f"{wanted}, got {value!r}")
    found: tuple[Any, ...]
    if all(isinstance(item, str) for item in items):
        found = tuple(map(str, items))  # NumPy's become Python's
    elif all(isinstance(item, int | np.integer) and not isinstance(item, bool) for item in items):
        found = tuple(checks.whole(item, name, -(2**63), 2**63 - 1) for item in items)
    else:
        raise TypeError(f"{wanted}, got {value!r}")
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{wanted}, got {value!r}")
    return found
