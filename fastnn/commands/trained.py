"""A network in a file, with its own preprocessing: what it says of the rows of a table."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data import TableEncoder
from fastnn.files import safefile
from fastnn.layers import Softmax
from fastnn.model import Sequential, load
from fastnn.predictor import Ensemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]

_ESTIMATORS = ("TabularClassifier", "TabularRegressor")


def say(text: str) -> None:
    """A remark, beside the output proper."""
    print(text, file=sys.stderr, flush=True)


def check_outputs(paths: list[str], force: bool) -> None:
    """ValueError or OSError, before any work is done, where a file could not be written."""
    for path in paths:
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{path}: there is no folder {folder!r}")
        if os.path.isdir(path):
            raise ValueError(f"{path}: is a folder")
        if os.path.lexists(path) and not force:
            raise ValueError(f"{path}: is there already; --force replaces it")


@contextmanager
def replacing(path: str, binary: bool = False) -> Iterator[Any]:
    """A file to write, which is there under its name only when it is whole."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
    try:
        with open(temporary, "xb" if binary else "x", **text) as file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


class Trained:
    """A model with its scaler, target scaler and classes; what they make of rows together."""

    def __init__(self, model: Sequential) -> None:
        self.model = model
        self.classes: tuple[Any, ...] | None = model.classes
        self.encoder = model.scaler
        self.names: list[str] | None = None
        if isinstance(self.encoder, TableEncoder):
            names = vars(self.encoder).get("feature_names_in_")
            self.names = None if names is None else names.tolist()

    @property
    def n_features(self) -> int | None:
        """How many columns a row has, where that is known."""
        if isinstance(self.encoder, TableEncoder):
            return self.encoder.n_features_in_
        return self.model.in_features

    def results(self, X: Any) -> Array:
        """The probability of each class (n, classes), or the values (n, outputs), float64."""
        rows = X if self.encoder is None else self.encoder.transform(X)
        return self._meaning(self.model.predict(rows))

    def _meaning(self, outputs: Array) -> Array:
        if outputs.ndim != 2:
            raise ValueError(f"the network's outputs have shape {outputs.shape}, expected a row's")
        outputs = outputs.astype(np.float64)
        if self.classes is not None:
            if outputs.shape[1:] == (1,) and len(self.classes) == 2:
                outputs = np.hstack([np.zeros_like(outputs), outputs])
            if outputs.shape[1:] != (len(self.classes),):
                got = f"{len(self.classes)} classes and outputs of shape {outputs.shape}"
                raise ValueError(f"expected an output for each class, found {got}")
            if not isinstance(self.model.layers[-1], Softmax):
                outputs -= outputs.max(axis=1, keepdims=True)
                np.exp(outputs, out=outputs)
                outputs /= outputs.sum(axis=1, keepdims=True)
        elif self.model.target_scaler is not None:
            outputs = self.model.target_scaler.inverse_transform(outputs)
        return outputs

    def exported(self) -> Any:
        """What `export_c` and the like take; a classifier's gives probabilities."""
        classes = self.classes
        plain = not isinstance(self.model.layers[-1], Softmax)
        if classes is None or self.model.out_features != len(classes) or not plain:
            return self.model
        return _Classifier(self.model)


class _Classifier:
    """A model as `export_c` sees an estimator: with the probabilities of its classes."""

    def __init__(self, model: Sequential) -> None:
        self._model = model

    def _exported(self) -> Ensemble:
        assert self._model.classes is not None
        return Ensemble(self._model, 1, "softmax", list(self._model.classes))


class _Estimator(Trained):
    """An estimator for tables of fastnn.sklearn, whose file has one network or several."""

    def __init__(self, model: Sequential, estimator: Any) -> None:
        super().__init__(model)
        self._estimator = estimator
        labels = estimator.__dict__.get("classes_")
        self.classes = None if labels is None else tuple(labels.tolist())

    def results(self, X: Any) -> Array:
        assert self.encoder is not None
        encoder, self._estimator.encoder_ = self._estimator.encoder_, None  # X is encoded here
        try:
            found = self._estimator.predict_ensemble(self.encoder.transform(X)).mean(axis=0)
        finally:
            self._estimator.encoder_ = encoder
        return np.asarray(found).reshape(len(X), -1)

    def exported(self) -> Any:
        return self._estimator


def read(path: str) -> Trained:
    """The network of a file that fastnn or an estimator for tables wrote."""
    model = load(path)
    metadata = safefile.read(path)[0].get("fastnn.sklearn")
    if metadata is None:
        return Trained(model)
    name = safefile.parse(metadata, f"{path}: its estimator").get("estimator")
    if name not in _ESTIMATORS:
        raise ValueError(f"{path}: estimator: expected one of {_ESTIMATORS}, found {name!r}")
    estimators = import_module("fastnn.sklearn")
    return _Estimator(model, getattr(estimators, name).load(path))
