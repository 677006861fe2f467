"""A network in a file, with its own preprocessing: what it says of the rows of a table."""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.data import TableEncoder
from fastnn.files import safefile
from fastnn.layers import Softmax
from fastnn.model import Sequential, load
from fastnn.predictor import Ensemble

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_KEY = "fastnn.train"  # of a file's metadata, where `Learnt` stands
_ESTIMATORS = ("TabularClassifier", "TabularRegressor")


def say(text: str) -> None:
    """A remark, beside the output proper; where it cannot be printed, work goes on."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def check_files(inputs: list[str | None], outputs: list[str | None], force: bool) -> None:
    """ValueError or OSError, before any work is done, where a file is not there ("-" always is) or
    another could not be written; None is no file."""
    if "" in inputs or "" in outputs:
        raise ValueError("expected the name of a file, got ''")
    for path in inputs:
        if path not in (None, "-"):
            os.stat(path)
    for path in filter(None, outputs):
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{path}: there is no folder {folder!r}")
        if os.path.isdir(path):
            raise ValueError(f"{path}: is a folder")
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device
            raise ValueError(f"{path}: is there, and no regular file")
        if any(_is_same(path, one) for one in inputs):
            raise ValueError(f"{path}: is read, and cannot be written as well")
        if os.path.lexists(path) and not force:
            raise ValueError(f"{path}: is there already; --force replaces it")
        safefile.check_replaceable(path)


def _is_same(path: str, other: str | None) -> bool:
    """Whether both are one file that is there."""
    return other not in (None, "-") and os.path.exists(path) and os.path.samefile(path, str(other))


class Learnt(NamedTuple):
    """What `fastnn train` saw of the targets: the column's name, the answer that looks at no row
    (the probability of each class, or the mean), and of values the least and the largest, (2, 1),
    between which predictions stay."""

    target: str
    trivial: Array
    limits: Array | None

    @classmethod
    def of(cls, target: str, seen: Array, classes: tuple[Any, ...] | None) -> Learnt:
        if classes is None:
            return cls(target, seen.mean(axis=0), np.stack([seen.min(axis=0), seen.max(axis=0)]))
        frequent = np.bincount(seen, minlength=len(classes)) + 1e-9
        return cls(target, frequent / frequent.sum(), None)

    def metadata(self) -> dict[str, str]:
        """For a file."""
        limits = None if self.limits is None else self.limits[:, 0].tolist()
        content = {"target": self.target, "trivial": self.trivial.tolist(), "range": limits}
        return {_KEY: json.dumps(content)}

    @classmethod
    def parse(cls, text: str, classes: tuple[Any, ...] | None) -> Learnt:
        """That of a file; ValueError for what is made up."""
        content = safefile.parse(text, "what it learnt")
        if not isinstance(target := content.get("target"), str):
            raise ValueError(f"target: expected a name, found {target!r}")
        trivial = _numbers(content, "trivial", 1 if classes is None else len(classes))
        if classes is None:
            return cls(target, trivial, _numbers(content, "range", 2)[:, None])
        if trivial.min() <= 0:
            raise ValueError(f"trivial: expected numbers > 0, found {trivial.tolist()}")
        return cls(target, trivial, None)


def _numbers(content: dict[str, Any], name: str, length: int) -> Array:
    """A list of so many numbers; ValueError for anything else."""
    items = content.get(name)
    if (
        not isinstance(items, list)
        or len(items) != length
        or not all(type(x) is float and math.isfinite(x) for x in items)
    ):
        raise ValueError(f"{name}: expected {length} numbers, found {items!r}")
    return np.array(items)


class Trained:
    """A model with its scaler, target scaler and classes, and what the command learnt of its
    targets, if it made the file; what they make of rows together."""

    def __init__(self, model: Sequential, learnt: Learnt | None = None) -> None:
        self.model, self.learnt = model, learnt
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
        if self.learnt is not None and self.learnt.limits is not None:
            outputs = np.clip(outputs, *self.learnt.limits)
        return outputs

    def exported(self) -> Any:
        """What `export_c` and the like take: with probabilities, or values within their range."""
        if self.learnt is not None and self.learnt.limits is not None:
            return _Exported(Ensemble(self.model, limits=self.learnt.limits))
        classes = self.classes
        plain = not isinstance(self.model.layers[-1], Softmax)
        if classes is None or self.model.out_features != len(classes) or not plain:
            return self.model
        return _Exported(Ensemble(self.model, 1, "softmax", list(classes)))


class _Exported:
    """A model as `export_c` sees an estimator."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    def _exported(self) -> Ensemble:
        return self._ensemble


class _Estimator(Trained):
    """An estimator for tables of fastnn.sklearn, whose file has one network or several."""

    def __init__(self, model: Sequential, estimator: Any) -> None:
        super().__init__(model)
        self._estimator = estimator
        labels = estimator.__dict__.get("classes_")
        self.classes = None if labels is None else tuple(labels.tolist())

    def results(self, X: Any) -> Array:
        assert self.encoder is not None
        found = self._estimator._answers(self.encoder.transform(X)).mean(axis=0)
        return np.asarray(found).reshape(len(X), -1)

    def exported(self) -> Any:
        return self._estimator


def read(path: str) -> Trained:
    """The network of a file that fastnn or an estimator for tables wrote."""
    model = load(path)
    found = safefile.read(path)[0]
    metadata = found.get("fastnn.sklearn")
    if metadata is None:
        try:
            learnt = Learnt.parse(found[_KEY], model.classes) if _KEY in found else None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return Trained(model, learnt)
    name = safefile.parse(metadata, f"{path}: its estimator").get("estimator")
    if name not in _ESTIMATORS:
        raise ValueError(f"{path}: estimator: expected one of {_ESTIMATORS}, found {name!r}")
    estimators = import_module("fastnn.sklearn")
    return _Estimator(model, getattr(estimators, name).load(path))
