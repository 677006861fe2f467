"""RowPredictor: an estimator's prediction of single rows, without what scikit-learn checks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.layers import Layer, Sigmoid, Softmax
from fastnn.sklearn._saved import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from fastnn.model import Sequential
    from fastnn.predictor import Predictor

    Array = NDArray[Any]


def as_array(X: Any) -> Any:
    """Lists as an array in which numbers beside text stay numbers; all else as it is."""
    if not isinstance(X, list | tuple):
        return X
    array = np.asarray(X)
    return np.array(X, object) if array.dtype.kind in "US" else array


class RowPredictor:
    """``predictor(row)``: the probabilities (classes,), the value or the values (outputs,) that an
    estimator predicts for one row; made by its `predictor`.

    A row is an array or list of as many entries as X has columns, in their order.  It is not
    checked by scikit-learn, and encoder and networks are called at once: microseconds, or with an
    encoder tens of microseconds, in place of hundreds.  It has copies of the networks as they are.
    One thread at a time may call it; each may have its own.  ``classes`` are the estimator's, None
    for regression.  Of the hinge loss there are scores in place of probabilities, of which the
    largest chooses.  Raises TypeError for a row with names, ValueError for another number of
    entries and for text or infinity where an encoder expects numbers.

    >>> from fastnn.sklearn import TabularClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> classifier = TabularClassifier(max_iter=5).fit(X, X[:, 0] > 0)
    >>> predictor = classifier.predictor()
    >>> predictor([2.0, 0.0, 0.0]).shape
    (2,)
    """

    def __init__(self, estimator: Any) -> None:
        self.classes = estimator.__dict__.get("classes_")
        self._encoder = copy.copy(estimator.__dict__.get("encoder_"))
        if self._encoder is not None:
            vars(self._encoder).pop("feature_names_in_", None)  # no row has names
        self._networks, self._combine = estimator._for_rows()

    def __call__(self, row: ArrayLike) -> Any:
        x = (row if type(row) is np.ndarray else _entries(row)).reshape(1, -1)
        if self._encoder is not None:
            x = self._encoder.encode(x)
        return self._combine(self._networks(x)[0])


def _entries(row: Any) -> Array:
    """A row's entries as an array; TypeError for one with names."""
    if isinstance(row, Mapping) or hasattr(row, "iloc"):
        raise TypeError(
            "row: expected a list or an array of entries in the order of the columns in fit, "
            f"got a {type(row).__name__}, whose names would not be looked at"
        )
    return np.asarray(as_array(row))


def linked(
    models: list[Sequential], link: str, outputs: int, classifies: bool
) -> tuple[Predictor, Callable[[Array], Any]]:
    """These networks, ready for single rows, and what makes a prediction of all their outputs;
    `link`: from outputs to results."""
    layers: dict[str, list[type[Layer]]] = {"softmax": [Softmax], "logistic": [Sigmoid]}
    predictor = side_by_side(models, *layers.get(link, [])).predictor()
    combine = exponentials if link == "exp" else averaged
    if classifies:
        both = link == "logistic" and outputs == 1
        return predictor, partial(of_two_classes if both else combine, len(models))
    found = partial(combine, len(models))
    return predictor, partial(only, found) if outputs == 1 else found


# ---- what is made of the networks' outputs (networks * outputs,) ----


def averaged(networks: int, outputs: Array) -> Array:
    """The mean in float64, one by one, as `export_c` adds them."""
    if networks == 1:
        return outputs.astype(np.float64)
    each = outputs.reshape(networks, -1)
    found: Array = each.cumsum(axis=0, dtype=np.float64)[-1] / networks
    return found


def of_two_classes(networks: int, outputs: Array) -> Array:
    """The probabilities of two classes, of those of the second."""
    (second,) = averaged(networks, outputs)
    return np.array([1 - second, second])


def exponentials(networks: int, outputs: Array) -> Array:
    """The values, of their logarithms."""
    return averaged(networks, np.exp(outputs))


def only(combine: Callable[[Array], Array], outputs: Array) -> float:
    """The only value, as a number."""
    (value,) = combine(outputs)
    return float(value)


def one_value(std: float, mean: float, least: float, most: float, outputs: Array) -> float:
    """The value of the only output of one network, within the limits: quicker than by arrays."""
    return min(max(float(outputs[0]) * std + mean, least), most)


def values(
    networks: int, std: Array, mean: Array, limits: Array, is_flat: bool, outputs: Array
) -> Any:
    """The values in their own units, within the limits, averaged."""
    found = outputs.reshape(networks, -1) * std + mean
    value = averaged(networks, np.minimum(np.maximum(found, limits[0]), limits[1]).ravel())
    return value[0] if is_flat else value
