"""Fitted networks from scikit-learn's estimators to fastnn's, and back.

Both are made of the same arrays and attributes, and so nothing is computed here."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted, check_random_state

from fastnn.layers import Dense, Dropout
from fastnn.sklearn._estimator import _NAMES, Perceptron
from fastnn.support import arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

# what fit leaves in both, where it is there
_SHARED = (
    "classes_", "n_features_in_", "feature_names_in_", "n_outputs_", "n_layers_", "out_activation_",
    "n_iter_", "t_", "loss_", "best_loss_", "loss_curve_", "validation_scores_",
    "best_validation_score_", "_no_improvement_count",
)  # fmt: skip
# scikit-learn's names of activations, by all names that they have here
_ACTIVATIONS = {name: name for name in ("identity", "logistic", "tanh", "relu")}
_ACTIVATIONS |= {ours: its for its, ours in _NAMES.items()}


def convert_from(fitted: Any, kinds: Mapping[type, type]) -> Any:
    """`from_sklearn`; `kinds` are fastnn's estimators by scikit-learn's."""
    kind = kinds.get(type(fitted))
    if kind is None:
        names = " or ".join(f"sklearn.neural_network.{each.__name__}" for each in kinds)
        hint = ""
        if hasattr(fitted, "steps"):
            hint = "; convert its last step, and keep the others before it"
        raise TypeError(f"fitted: expected an {names}, got {arrays.describe(fitted)}{hint}")
    check_is_fitted(fitted)
    types = {array.dtype.name for array in (*fitted.coefs_, *fitted.intercepts_)}
    dtype = arrays.real_dtype("float64" if "float64" in types else types.pop())
    made = kind(**deepcopy(fitted.get_params(deep=False)), dtype=dtype.name)
    _share(fitted, made)
    if "classes_" in made.__dict__:
        binarizer = fitted._label_binarizer
        made._kind, made._sparse = binarizer.y_type_.split("-")[0], bool(binarizer.sparse_input_)
        made._task = made._make_task()
    else:
        made._task = made._get_ready(np.zeros((1, fitted.n_outputs_)), True, False)
    made.converged_ = bool(fitted.n_iter_ < fitted.max_iter)
    made.validation_loss_curve_, made._best = [], None
    made.coefs_, made.intercepts_ = list(fitted.coefs_), list(fitted.intercepts_)
    shapes = [(*pair, (pair[1],)) for pair in pairwise(_widths(fitted))]
    found = [
        (*weight.shape, bias.shape)
        for weight, bias in zip(fitted.coefs_, fitted.intercepts_, strict=True)
    ]
    if found != shapes or made._task.outputs != fitted.n_outputs_:
        raise ValueError(f"fitted: coefs_ of {found} do not follow hidden_layer_sizes and outputs")
    made._current()  # copies them into a network
    return made


def convert_to(estimator: Any, kinds: Mapping[type, type]) -> Any:
    """`to_sklearn`; `kinds` are scikit-learn's estimators by fastnn's."""
    kind = kinds.get(type(estimator))
    if kind is None:
        names = " or ".join(f"fastnn.sklearn.{each.__name__}" for each in kinds)
        raise TypeError(f"estimator: expected an {names}, got {arrays.describe(estimator)}")
    check_is_fitted(estimator)
    own, default = estimator.get_params(deep=False), type(estimator)()
    known = kind().get_params(deep=False)
    for name in sorted(own.keys() - known.keys() - {"dtype", "n_threads", "loss"}):
        if not _is_default(own[name], getattr(default, name)):
            raise ValueError(f"estimator: scikit-learn has no {name}, got {own[name]!r}")
    _check_loss(estimator, "loss" in known)
    activation = own["activation"]
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ValueError(f"estimator: scikit-learn has no activation={activation!r}")
    own["activation"] = _ACTIVATIONS[activation]
    _check_network(estimator)
    made = kind(**{name: deepcopy(own[name]) for name in known})
    _share(estimator, made)
    made.coefs_ = [np.array(array) for array in estimator.coefs_]
    made.intercepts_ = [np.array(array) for array in estimator.intercepts_]
    made._best_coefs = [array.copy() for array in made.coefs_]
    made._best_intercepts = [array.copy() for array in made.intercepts_]
    made._random_state = check_random_state(made.random_state)
    if "classes_" in made.__dict__:
        made._label_binarizer = _binarizer(estimator)
    return made


def _is_default(value: Any, default: Any) -> bool:
    """Whether a setting that scikit-learn lacks is as if it were not there."""
    if isinstance(value, list | tuple):
        return not value
    return value is None or (isinstance(value, bool | int | float) and value == default)


def _share(one: Any, other: Any) -> None:
    for name in _SHARED:
        if name in one.__dict__:
            setattr(other, name, deepcopy(getattr(one, name)))


def _widths(fitted: Any) -> list[int]:
    sizes = fitted.hidden_layer_sizes
    hidden = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    return [fitted.n_features_in_, *hidden, fitted.n_outputs_]


def _check_loss(estimator: Perceptron, known: bool) -> None:
    """Raise ValueError for a loss that scikit-learn does not have."""
    fits = ("squared_error", "poisson") if known else ("squared_error", "log_loss")
    if not isinstance(estimator.loss, str) or estimator.loss not in fits:
        raise ValueError(f"estimator: scikit-learn has no loss={estimator.loss!r}")


def _check_network(estimator: Any) -> None:
    """Raise ValueError where the network is not what the settings say now: another one predicts."""
    *hidden, last = [each for each in estimator._current().layers if not isinstance(each, Dropout)]
    wanted = _NAMES.get(estimator.activation, estimator.activation)
    plain = all(type(each) is Dense for each in (*hidden, last))
    plain = plain and last.activation_name == "linear" and len(estimator._members()) == 1
    if not plain or not {each.activation_name for each in hidden} <= {wanted}:
        raise ValueError("estimator: its network was fitted with other settings than it has now")


def _binarizer(estimator: Any) -> LabelBinarizer:
    """What scikit-learn keeps of the classes."""
    if estimator._kind != "multilabel":
        return LabelBinarizer().fit(estimator.classes_)
    labels = np.eye(len(estimator.classes_), dtype=int)
    return LabelBinarizer().fit(csr_matrix(labels) if estimator._sparse else labels)
