"""The arrays that users pass: which ones are accepted, and how they take the form of the kernels.

Every real dtype, byte order and layout is accepted; what would lose its meaning is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.support import columns

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

_REAL = (np.dtype(np.float32), np.dtype(np.float64))
ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_MOST_ROUNDING = 4096  # roundings that a mean of however many rows suffers: they cancel


def numeric_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """`value` as a C-contiguous array of real numbers in native byte order, not a single number.

    Objects, such as the items of a DataFrame of mixed columns, are taken if all are numbers."""
    if type(value) is np.ndarray:
        kind, flags = value.dtype, value.flags
        if kind.isbuiltin == 1 and kind.kind in "biuf" and flags.carray and value.ndim > 0:
            return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array would lose its mask; fill or drop the entries")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: not an array of numbers ({error})") from None
    except (RuntimeError, TypeError) as error:  # such as PyTorch's, of a tensor with a gradient
        raise TypeError(f"{name}: {type(value).__name__} gives no array ({error})") from None
    if array.dtype.kind == "O" and array.ndim > 0:
        array = columns.numbers(array, value, name)
    if array.dtype.kind not in "biuf":
        hint = ", a sparse matrix; write .toarray()" if hasattr(value, "toarray") else ""
        if array.size and array.dtype.kind != "O":
            hint = columns.advice(array.flat[0], name)
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}{hint}")
    if array.ndim == 0:
        raise ValueError(f"{name}: expected an array of rows, got the single number {array}")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def real_array(value: ArrayLike, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`value` in `dtype`, C-contiguous and aligned, as kernels take it; copied only if it must be.

    NaN and infinity pass; ValueError for a finite number that is too large for `dtype`."""
    if type(value) is np.ndarray and value.dtype is dtype and value.flags.carray:
        return value
    array = numeric_array(value, name)
    with np.errstate(over="ignore"):
        out = np.require(array, dtype, ["C", "A"])
    if out.dtype.itemsize < array.dtype.itemsize and np.isinf(out).any():
        _check_range(array, out, name, value)
    return out


def _check_range(array: NDArray[Any], narrowed: NDArray[Any], name: str, table: object) -> None:
    """Raise ValueError where a finite number of `array` became infinite in `narrowed`."""
    overflowed = np.isinf(narrowed) & np.isfinite(array)
    if overflowed.any():
        where = columns.places(overflowed, table)
        raise ValueError(f"{name} contains values too large for {narrowed.dtype}{where}")


def int64(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Integers as int64; ValueError for one that is too large for it."""
    if array.dtype == np.uint64 and array.size and (most := array.max()) >= 2**63:
        raise ValueError(f"{name}: expected integers below 2**63, got {most}")
    return array.astype(np.int64, copy=False)


def at_positions(weight: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """`weight` with a number for each of these positions, (batch, ...): that of its row, where it
    has one a row."""
    if weight.shape == shape:
        return weight
    if weight.shape != shape[:1]:
        wanted = " or ".join(map(str, dict.fromkeys([shape[:1], shape])))
        raise ValueError(f"{name}: expected shape {wanted}, got {weight.shape}")
    return np.repeat(weight, math.prod(shape[1:])).reshape(shape)


def product(weight: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    """Both weights together, where None counts all alike."""
    if weight is None or other is None:
        return other if weight is None else weight
    return weight * other  # type: ignore[no-any-return]


def outputs_gradient(
    value: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """What a user gives as `gradient`, by outputs of that shape; ValueError for another one."""
    gradient = real_array(value, "gradient", dtype)
    if gradient.shape != shape:
        raise ValueError(f"gradient: expected the outputs' shape {shape}, got {gradient.shape}")
    return gradient


def describe(value: object) -> str:
    """The type of `value`, or the dtype and shape of an array, for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


def finite(array: NDArray[Any], name: str, table: object = None) -> NDArray[Any]:
    """`array` itself; ValueError if it contains NaN or infinity, which names the columns as the
    `table` does that it was made from.  The check allocates nothing."""
    if array.dtype.kind != "f" or array.size == 0:
        return array
    for_kernel = array.dtype in _REAL and array.flags.c_contiguous and array.flags.aligned
    if for_kernel and _kernels.all_finite(array):
        return array
    low, high = array.min(), array.max()  # a NaN anywhere makes both NaN
    if np.isnan(low):
        raise ValueError(f"{name} contains NaN{columns.places(np.isnan(array), table)}")
    if np.isinf(low) or np.isinf(high):
        raise ValueError(f"{name} contains infinity{columns.places(np.isinf(array), table)}")
    return array


def cast(array: NDArray[Any], dtype: DTypeLike, name: str, table: object = None) -> NDArray[Any]:
    """`array` in a float `dtype`; ValueError for NaN, infinity or a number too large for it, which
    names the columns as in `finite`."""
    finite(array, name, table)
    with np.errstate(over="ignore"):
        out = array.astype(dtype, copy=False)
    if out.dtype.itemsize < array.dtype.itemsize and not np.isfinite([out.min(), out.max()]).all():
        _check_range(array, out, name, table)
    return out


def same_length(**arrays: NDArray[Any]) -> None:
    """Raise ValueError unless all arrays have the same number of rows, and at least one."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"the arrays differ in their number of rows: {got}")
    if 0 in lengths.values():
        raise ValueError(f"{' and '.join(lengths)}: no rows")


def is_constant(
    variance: NDArray[np.float64], mean: NDArray[np.float64], rows: int, dtype: np.dtype[Any]
) -> NDArray[np.bool_]:
    """Whether columns of `dtype`, of that variance and mean, vary by no more than rounding does.

    The bound is that of the two-pass formula for the variance (T. F. Chan, G. H. Golub,
    R. J. LeVeque, 1983), as in scikit-learn's `StandardScaler`, and never below one float32 digit
    for float32.  Whole numbers are not rounded."""
    rounding = min(rows, _MOST_ROUNDING) * np.finfo(np.float64).eps
    digit = max(rounding, float(np.finfo(np.float32).eps)) if dtype.itemsize == 4 else rounding
    bound = rounding * variance + (digit * mean) ** 2 if dtype.kind == "f" else 0
    constant: NDArray[np.bool_] = variance <= bound
    return constant


def real_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64, from any name that NumPy has for it; ValueError for another dtype."""
    try:
        found = None if dtype is None else np.dtype(dtype)  # NumPy's None is float64
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A vector of zeros that begins on a cache line."""
    memory = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy if nobody may write into it, as after joblib's memory mapping."""
    return array if array.flags.writeable else np.array(array)
