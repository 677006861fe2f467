"""Tables as X: the types of their columns, and what stands before the dense layers where some of
them hold categories.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import _check_y, check_consistent_length, validate_data

from fastnn.data import TableEncoder
from fastnn.data.frames import Table
from fastnn.layers import Block, Columns, Embedding, Flatten, Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_FEATURES = 8  # of each code of a column of many categories, as in RealMLP


def types(X: Any) -> list[np.dtype[Any]]:
    """The types of an array, or of a table's columns; float64 where one is not NumPy's."""
    found = getattr(X, "dtypes", None)  # a DataFrame's
    found = [getattr(X, "dtype", None)] if found is None else list(found)
    plain = all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in found)
    return found if plain else [np.dtype(np.float64)]


def fitted_type(X: Any, solver: str) -> np.dtype[Any]:
    """The type of the network that scikit-learn would fit to X."""
    single = solver != "lbfgs" and all(kind == np.float32 for kind in types(X))
    return np.dtype(np.float32 if single else np.float64)


def encoder_for(X: Any, categorical_features: Any, dtype: np.dtype[Any]) -> TableEncoder:
    """The encoder of an estimator with these `categorical_features`, fitted to X."""
    encoder = TableEncoder(categorical_features, scaling="standard", clip=None, dtype=dtype)
    return encoder.fit(X)


def encode(estimator: Any, X: Any, reset: bool = False) -> Array:
    """The rows of an estimator's encoder for X, after scikit-learn's checks of columns and names,
    which it notes if `reset`."""
    table = Table(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return estimator.encoder_._encode(table)


def check_targets(estimator: Any, X: Any, y: Any) -> Array:
    """Targets for the rows of a table, checked as scikit-learn's `validate_data` does."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    y = _check_y(y, multi_output=True, y_numeric=not is_classifier(estimator), estimator=estimator)
    check_consistent_length(X, y)
    return y


def front(encoder: TableEncoder | None) -> list[Layer]:
    """The layer before the dense ones that makes features of codes, if there are any."""
    if encoder is None or not encoder.codes_:
        return []
    features = Block(Embedding(encoder.n_codes_, _FEATURES), Flatten())
    numbers = encoder.numeric_ + encoder.one_hot_
    return [Columns((numbers, None), (encoder.codes_, features)) if numbers else features]


def width(encoder: TableEncoder) -> int:
    """How many features the first dense layer has."""
    return encoder.output_features_ + (_FEATURES - 1) * encoder.codes_
