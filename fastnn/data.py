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

_PART_ROWS = 4096  # so many rows at a time are converted to float64


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

    Shapes: `X` (n, ..., features), results as `X`.  The features are the last axis, in images (n,
    height, width, channels) and sequences (n, length, channels) the channels; the statistics of
    each are taken over all other axes.  Results of `transform` have `dtype`, by default float32.

    `fit` computes the statistics of the training set, `transform` applies them to any set.  They
    are computed in float64 by the corrected two-pass formula (T. F. Chan, G. H. Golub,
    R. J. LeVeque 1983); the variance is divided by the number of values.  A constant feature is
    divided by 1, so it becomes 0; so is one that varies by no more than rounding does, such as
    shares that sum to 1 but for the last digit.

    Attributes after `fit`: `mean`, `std`, float64 (features,).  A model may keep it as its `scaler`
    or `target_scaler`.  It works in the pipelines of scikit-learn, in `ColumnTransformer` and
    `TransformedTargetRegressor`; `y` is what these pass, and means nothing.

    Raises ValueError for NaN, infinity, another number of features than in `fit`, or a result too
    large for `dtype`; RuntimeError for use before `fit`.

    >>> scale = Standardizer(dtype="float64").fit([[1.0, 5.0], [3.0, 5.0]])
    >>> scale.mean, scale.std
    (array([2., 5.]), array([1., 1.]))
    >>> scale.transform([[4.0, 6.0]])
    array([[2., 1.]])
    >>> Standardizer().fit(np.ones((10, 28, 28, 3))).mean
    array([1., 1., 1.])
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    _names: tuple[str, ...] = ()  # of a DataFrame's columns in `fit`

    def __init__(self, dtype: DTypeLike = "float32") -> None:
        self.dtype = arrays.real_dtype(dtype)

    def fit(self, X: ArrayLike, y: object = None) -> Standardizer:
        names = (*getattr(X, "columns", ()),)
        X = self._checked(X)
        rows = X.reshape(-1, X.shape[-1])
        n = len(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            rough = sum(part.sum(axis=0) for part in _float64_parts(rows)) / n
            deviation, square = np.zeros_like(rough), np.zeros_like(rough)
            for part in _float64_parts(rows):
                part -= rough
                deviation += part.sum(axis=0)
                square += np.einsum("ij,ij->j", part, part)
            mean = rough + deviation / n
            variance = np.maximum(square / n - (deviation / n) ** 2, 0)
            constant = arrays.is_constant(variance, mean, n, rows.dtype)
        low, high = rows.min(axis=0), rows.max(axis=0)
        mean = np.where(low == high, low.astype(np.float64), mean)
        if not (np.isfinite(mean) & np.isfinite(variance)).all():
            raise ValueError("X: too large, its variance overflows float64")
        self.mean = mean
        self.std = np.where((low == high) | constant, 1.0, np.sqrt(variance))
        self._names = names if all(isinstance(name, str) for name in names) else ()
        return self

    def transform(self, X: ArrayLike) -> Any:
        """``(X - mean) / std``, a new array of X's shape; or what `set_output` asks for."""
        out = self._apply(X, lambda part: (part - self.mean) / self.std, self.dtype)
        if getattr(self, "_sklearn_output_config", {}).get("transform") != "pandas":
            return out
        import pandas

        names = self.get_feature_names_out()
        return pandas.DataFrame(out, columns=names, index=getattr(X, "index", None))

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """``X * std + mean``, float64, which an offset may need: undoes `transform`."""
        return self._apply(X, lambda part: part * self.std + self.mean, np.dtype(np.float64))

    def fit_transform(self, X: ArrayLike, y: object = None) -> Any:
        return self.fit(X).transform(X)

    def _apply(self, X: ArrayLike, formula: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        features = self._count("transform or inverse_transform")
        X = self._checked(X)
        if X.shape[-1] != features:
            raise ValueError(f"X: expected {features} features as in fit, got {X.shape[-1]}")
        rows = X.reshape(-1, features)
        out = np.empty(rows.shape, dtype)
        with np.errstate(over="ignore"):
            for start, part in enumerate(_float64_parts(rows)):
                out[start * _PART_ROWS :][: len(part)] = formula(part)
        arrays.finite(out, f"X standardised to {dtype}")
        return out.reshape(X.shape)

    def _checked(self, X: ArrayLike) -> NDArray[Any]:
        table, X = X, arrays.numeric_array(X, "X")
        if X.ndim < 2 or 0 in X.shape:
            hint = "; write .reshape(-1, 1) for one feature" if X.ndim == 1 else ""
            raise ValueError(
                f"X: expected shape (n, ..., features), all at least 1, got {X.shape}{hint}"
            )
        return arrays.finite(X, "X", table)

    def _count(self, use: str) -> int:
        """How many features there are; RuntimeError before `fit`."""
        if not hasattr(self, "mean"):
            raise RuntimeError(f"Standardizer: call fit before {use}")
        return len(self.mean)

    def __repr__(self) -> str:
        shown = "" if self.dtype == np.float32 else f"dtype={self.dtype.name!r}"
        return f"{type(self).__name__}({shown})"

    # ---- what scikit-learn asks its transformers ----

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {"dtype": self.dtype}

    def set_params(self, **params: Any) -> Standardizer:
        """Set the constructor's arguments; ValueError for another name or value."""
        if unknown := params.keys() - {"dtype"}:
            raise ValueError(f"Standardizer: expected dtype, got {', '.join(sorted(unknown))}")
        if params:
            self.dtype = arrays.real_dtype(params["dtype"])
        return self

    def set_output(self, *, transform: str | None = None) -> Standardizer:
        """Let `transform` give a DataFrame ("pandas"), or an array again ("default")."""
        if transform is not None:
            choice = checks.choice(transform, "transform", ("default", "pandas"))
            self._sklearn_output_config = {"transform": choice}  # this name is kept by `clone`
        return self

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """The names of the features: `input_features`, or else those of the DataFrame in `fit`, or
        x0, x1, ...  Raises ValueError for another number of names, RuntimeError before `fit`."""
        features = self._count("get_feature_names_out")
        if input_features is None:
            input_features = self._names or tuple(f"x{i}" for i in range(features))
        names = np.asarray(input_features, object)
        if names.shape != (features,):
            raise ValueError(f"input_features: expected {features} names, got {input_features!r}")
        return names

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "mean")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(three_d_array=True),
        )


def _float64_parts(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """float64 copies of a few thousand rows at a time: one of all rows could exceed the memory."""
    for start in range(0, len(rows), _PART_ROWS):
        yield rows[start : start + _PART_ROWS].astype(np.float64)


# ---- a model's belongings ----


def check_scaler(value: Any, name: str) -> Standardizer | None:
    """A `Standardizer` after `fit`, or None; TypeError or ValueError otherwise."""
    if value is None:
        return None
    if type(value) is not Standardizer:
        raise TypeError(f"{name}: expected a Standardizer or None, got {value!r}")
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
