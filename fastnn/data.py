"""From whole data sets to what a training step takes: batches, splits, standardised features.

All that is random here follows from a seed by NumPy's PCG64, on every machine alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

_BLOCK_ROWS = 4096  # so many rows at a time are converted to float64


class batches:
    """The rows of `X` and `y` in batches of `batch_size`; the last one may be shorter.

    Each pass over the object is one epoch and yields ``(xb, yb)``, or ``(xb, yb, wb)`` with a
    `sample_weight`: new C-contiguous arrays of the dtypes that came in.  With `shuffle` every
    epoch has another order; the orders of the first, second, ... epoch depend on `seed` and
    ``len(X)`` only, so that another object with the same seed repeats them.  `drop_last` leaves
    out a last short batch.  ``len()`` is the number of batches in an epoch.

    Shapes: `X` (n, ...), `y` (n, ...), `sample_weight` (n,).
    Raises TypeError or ValueError for what is no array of numbers, for no rows, for lengths that
    differ, for a `batch_size` that is no positive integer and for flags that are none.

    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> for xb, yb in batches(X, y, batch_size=2, shuffle=False):
    ...     print(yb, xb.shape)
    [0 1] (2, 2)
    [2 3] (2, 2)
    [4] (1, 2)
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        named = {"X": arrays.numeric_array(X, "X"), "y": arrays.numeric_array(y, "y")}
        if sample_weight is not None:
            named["sample_weight"] = arrays.numeric_array(sample_weight, "sample_weight")
        arrays.same_length(**named)
        self.arrays = tuple(named.values())
        self.batch_size = checks.positive_int(batch_size, "batch_size")
        self.shuffle = checks.flag(shuffle, "shuffle")
        self.drop_last = checks.flag(drop_last, "drop_last")
        self._generator = np.random.Generator(np.random.PCG64(checks.seed(seed)))

    def __len__(self) -> int:
        n: int = self.arrays[0].shape[0]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        rows, size = self.permutation(), self.batch_size
        for start in range(0, len(self) * size, size):
            index = rows[start : start + size]
            yield tuple(array.take(index, axis=0) for array in self.arrays)

    def permutation(self) -> NDArray[np.int64]:
        """The row numbers in the order of the next epoch; each call begins one."""
        n = len(self.arrays[0])
        rows = self._generator.permutation(n) if self.shuffle else np.arange(n)
        return rows.astype(np.int64, copy=False)

    def state_dict(self) -> dict[str, int]:
        """The state of the shuffling: `load_state_dict` of another object with as many rows
        continues from there.

        Take it between two passes: one that has begun has its order already.

        >>> first, second = batches([[0.0]] * 9, [0] * 9), batches([[0.0]] * 9, [0] * 9)
        >>> _ = first.permutation()
        >>> second.load_state_dict(first.state_dict())
        >>> bool((first.permutation() == second.permutation()).all())
        True
        """
        state: Any = self._generator.bit_generator.state
        rest = {name: int(state[name]) for name in ("has_uint32", "uinteger")}
        return {"rows": len(self.arrays[0]), **state["state"], **rest}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a result of `state_dict`.

        Raises TypeError or ValueError for anything else, or another number of rows, and then
        changes nothing.
        """
        state = check_order(state)
        if state["rows"] != len(self.arrays[0]):
            raise ValueError(
                f"state: expected one of {len(self.arrays[0])} rows, got one of {state['rows']}"
            )
        self._generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {name: state[name] for name in ("state", "inc")},
            **{name: state[name] for name in ("has_uint32", "uinteger")},
        }


_ORDER = {  # the numbers of a state, and how large each may be
    "rows": 2**63 - 1,
    "state": 2**128 - 1,
    "inc": 2**128 - 1,
    "has_uint32": 1,
    "uinteger": 2**32 - 1,
}


def check_order(state: Any) -> dict[str, int]:
    """A result of `batches.state_dict`, as plain numbers; TypeError or ValueError otherwise."""
    if not isinstance(state, Mapping) or state.keys() != _ORDER.keys():
        raise ValueError(
            f"state: expected what batches.state_dict() gives, {', '.join(_ORDER)}, got {state!r}"
        )
    checked = {name: checks.whole(state[name], name, 0, most) for name, most in _ORDER.items()}
    if checked["inc"] % 2 == 0:
        raise ValueError(f"inc: expected an odd number, as all generators have, got {state['inc']}")
    checks.positive_int(checked["rows"], "rows")
    return checked


def to_nhwc(x: ArrayLike) -> NDArray[Any]:
    """Images with their channels last, as fastnn takes them, from channels first.

    Shapes: `x` (batch, channels, height, width), the result (batch, height, width, channels); or
    (batch, channels, length) and (batch, length, channels).  The result is a new C-contiguous
    array of the dtype that came in.

    Raises TypeError or ValueError for what is no array of numbers, for another number of dimensions
    and for an empty array.

    >>> to_nhwc(np.zeros((8, 3, 32, 24))).shape
    (8, 32, 24, 3)
    """
    array = arrays.numeric_array(x, "x")
    if array.ndim not in (3, 4) or array.size == 0:
        raise ValueError(
            "x: expected shape (batch, channels, height, width) or (batch, channels, length), "
            f"none of them 0, got {array.shape}"
        )
    return np.moveaxis(array, 1, -1).copy(order="C")


def stratified_split(
    y: ArrayLike, test_fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows at random, each class in the same proportion: ``(train, test)`` row numbers.

    `y` (n,) holds one label a row, of any sortable kind.  ``round(test_fraction * n)`` rows are for
    the test, ``test_fraction`` of each class, rounded down or up.  Both results are sorted and
    depend on `y`, `test_fraction` and `seed` only.

    Raises ValueError for a `test_fraction` outside (0, 1), if either result would be empty, and for
    labels that cannot be sorted, as where some are missing.

    >>> train, test = stratified_split([0, 0, 0, 0, 1, 1, 1, 1], test_fraction=0.25)
    >>> len(train), len(test), bool(test[0] < 4 <= test[1])
    (6, 2, True)
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"y: expected labels of shape (n,) with n >= 1, got {labels.shape}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a number in (0, 1), got {test_fraction!r}")
    try:
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError as error:  # such as None among them
        raise ValueError(f"y: expected labels that can be sorted ({error})") from None
    total = round(test_fraction * len(labels))
    if not 0 < total < len(labels):
        rows = f"{test_fraction!r} of {len(labels)} rows"
        raise ValueError(f"test_fraction: {rows} would leave a part empty")
    exact = test_fraction * counts
    take = np.floor(exact).astype(np.intp)
    most_lacking = np.argsort(take - exact, kind="stable")
    take[most_lacking[: total - take.sum()]] += 1

    shuffled = np.random.Generator(np.random.PCG64(checks.seed(seed))).permutation(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(take):
        is_test[shuffled[classes[shuffled] == label][:count]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


class Standardizer:
    """Shift and scale each feature to mean 0 and standard deviation 1: ``(X - mean) / std``.

    `fit` computes the statistics of the training set, `transform` applies them to any set.  They
    are computed in float64 by the corrected two-pass formula (T. F. Chan, G. H. Golub,
    R. J. LeVeque 1983); the variance is divided by n.  A constant feature is divided by 1, so it
    becomes 0; so is one that varies by no more than rounding does, such as shares that sum to 1
    but for the last digit.  `X` is (n, features); results of `transform` have `dtype`, by default
    float32.

    Attributes after `fit`: `mean`, `std`, float64 (features,).
    Raises ValueError for NaN, infinity, another number of features than in `fit`, or a result too
    large for `dtype`; RuntimeError for use before `fit`.

    >>> scale = Standardizer(dtype="float64").fit([[1.0, 5.0], [3.0, 5.0]])
    >>> scale.mean, scale.std
    (array([2., 5.]), array([1., 1.]))
    >>> scale.transform([[4.0, 6.0]])
    array([[2., 1.]])
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __init__(self, dtype: DTypeLike = "float32") -> None:
        self.dtype = arrays.real_dtype(dtype)

    def fit(self, X: ArrayLike) -> Standardizer:
        X = self._checked(X)
        n = len(X)
        with np.errstate(over="ignore", invalid="ignore"):
            rough = sum(block.sum(axis=0) for block in _float64_blocks(X)) / n
            deviation, square = np.zeros_like(rough), np.zeros_like(rough)
            for block in _float64_blocks(X):
                block -= rough
                deviation += block.sum(axis=0)
                square += np.einsum("ij,ij->j", block, block)
            mean = rough + deviation / n
            variance = np.maximum(square / n - (deviation / n) ** 2, 0)
            constant = arrays.is_constant(variance, mean, n, X.dtype)
        low, high = X.min(axis=0), X.max(axis=0)
        mean = np.where(low == high, low.astype(np.float64), mean)
        if not (np.isfinite(mean) & np.isfinite(variance)).all():
            raise ValueError("X: too large, its variance overflows float64")
        self.mean = mean
        self.std = np.where((low == high) | constant, 1.0, np.sqrt(variance))
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """``(X - mean) / std``, a new array (n, features)."""
        return self._apply(X, lambda block: (block - self.mean) / self.std, self.dtype)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """``X * std + mean``, float64, which an offset may need: undoes `transform`."""
        return self._apply(X, lambda block: block * self.std + self.mean, np.dtype(np.float64))

    def fit_transform(self, X: ArrayLike) -> NDArray[Any]:
        return self.fit(X).transform(X)

    def _apply(self, X: ArrayLike, formula: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        if not hasattr(self, "mean"):
            raise RuntimeError("Standardizer: call fit before transform or inverse_transform")
        X = self._checked(X)
        if X.shape[1] != len(self.mean):
            raise ValueError(f"X: expected {len(self.mean)} features as in fit, got {X.shape[1]}")
        out = np.empty(X.shape, dtype)
        with np.errstate(over="ignore"):
            for start, block in enumerate(_float64_blocks(X)):
                out[start * _BLOCK_ROWS :][: len(block)] = formula(block)
        arrays.finite(out, f"X standardised to {dtype}")
        return out

    def _checked(self, X: ArrayLike) -> NDArray[Any]:
        table, X = X, arrays.numeric_array(X, "X")
        if X.ndim != 2 or 0 in X.shape:
            hint = "; write .reshape(-1, 1) for one feature" if X.ndim == 1 else ""
            raise ValueError(
                f"X: expected shape (n, features), both at least 1, got {X.shape}{hint}"
            )
        return arrays.finite(X, "X", table)


def _float64_blocks(X: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """float64 copies of a few thousand rows at a time: one of all rows could exceed the memory."""
    for start in range(0, len(X), _BLOCK_ROWS):
        yield X[start : start + _BLOCK_ROWS].astype(np.float64)
