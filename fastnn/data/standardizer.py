"""Features of mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data.transformer import Transformer
from fastnn.support import arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

PART_ROWS = 4096  # so many rows at a time are converted to float64


class Standardizer(Transformer):
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
        self.mean, std = moments(X.reshape(-1, X.shape[-1]), X.dtype)
        self.std = np.where(std == 0, 1.0, std)
        self._names = names if all(isinstance(name, str) for name in names) else ()
        return self

    def transform(self, X: ArrayLike) -> Any:
        """``(X - mean) / std``, a new array of X's shape; or what `set_output` asks for."""
        out = self._apply(X, lambda part: (part - self.mean) / self.std, self.dtype)
        return self._as_asked(out, X)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """``X * std + mean``, float64, which an offset may need: undoes `transform`."""
        return self._apply(X, lambda part: part * self.std + self.mean, np.dtype(np.float64))

    def _apply(self, X: ArrayLike, formula: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        features = self._count("transform or inverse_transform")
        X = self._checked(X)
        if X.shape[-1] != features:
            raise ValueError(f"X: expected {features} features as in fit, got {X.shape[-1]}")
        rows = X.reshape(-1, features)
        out = np.empty(rows.shape, dtype)
        with np.errstate(over="ignore"):
            for start, part in enumerate(float64_parts(rows)):
                out[start * PART_ROWS :][: len(part)] = formula(part)
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
        self._check_fitted(use)
        return len(self.mean)

    # ---- what scikit-learn asks its transformers ----

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


def moments(
    rows: NDArray[Any], dtype: np.dtype[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the standard deviation of each column of (n, features), by the corrected
    two-pass formula.

    The deviation is 0 where numbers of `dtype`, from which they came, vary by no more than rounding
    does.  ValueError for a variance that overflows float64."""
    n = len(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        rough = sum(part.sum(axis=0) for part in float64_parts(rows)) / n
        deviation, square = np.zeros_like(rough), np.zeros_like(rough)
        for part in float64_parts(rows):
            part -= rough
            deviation += part.sum(axis=0)
            square += np.einsum("ij,ij->j", part, part)
        mean = rough + deviation / n
        variance = np.maximum(square / n - (deviation / n) ** 2, 0)
        constant = arrays.is_constant(variance, mean, n, dtype)
    low, high = rows.min(axis=0), rows.max(axis=0)
    mean = np.where(low == high, low.astype(np.float64), mean)
    if not (np.isfinite(mean) & np.isfinite(variance)).all():
        raise ValueError("X: too large, its variance overflows float64")
    return mean, np.where((low == high) | constant, 0.0, np.sqrt(variance))


def float64_parts(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """float64 copies of a few thousand rows at a time: one of all rows could exceed the memory."""
    for start in range(0, len(rows), PART_ROWS):
        yield rows[start : start + PART_ROWS].astype(np.float64)
