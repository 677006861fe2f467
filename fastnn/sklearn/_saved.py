"""Estimators for tables in safe files: their networks as one model, and the rest as JSON beside it.

`fastnn.load` reads the file too, and gives the networks side by side as one `Sequential`, with the
encoder as its ``scaler``."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from fastnn.data import TableEncoder
from fastnn.files import checkpoint, describe, safefile
from fastnn.layers import Block, Heads, Layer
from fastnn.model import Sequential
from fastnn.support import checks

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    Array = NDArray[Any]

T = TypeVar("T")  # the class of an estimator

_KEY = "fastnn.sklearn"
_FORMAT = 1
_NEEDED = ("format", "estimator", "parameters", "features", "networks", "best_epochs", "epochs")
_KNOWN = (*_NEEDED, "names", "classes", "range", "is_flat")
_KINDS = {"b": bool, "i": int, "u": int, "f": float, "U": str, "O": str}  # of classes


def save(estimator: Any, path: str | PathLike[str]) -> None:
    """Write the estimator, after `fit`, to a file."""
    models = estimator.models_
    joined = with_belongings(estimator)
    content: dict[str, Any] = {
        "format": _FORMAT,
        "estimator": type(estimator).__name__,
        "parameters": _plain(estimator.get_params(deep=False)),
        "features": int(estimator.n_features_in_),
        "networks": len(models),
        "best_epochs": [int(epoch) for epoch in estimator.best_epochs_],
        "epochs": int(estimator.n_iter_),
    }
    if (names := estimator.__dict__.get("feature_names_in_")) is not None:
        content["names"] = [str(name) for name in names]
    if (classes := estimator.__dict__.get("classes_")) is not None:
        content["classes"] = {"dtype": classes.dtype.str, "values": _labels(classes)}
    else:
        content["range"] = estimator.__dict__["target_range_"].tolist()
        content["is_flat"] = bool(estimator.__dict__["_is_flat"])
    metadata = {_KEY: json.dumps(content, allow_nan=False)}
    checkpoint.write_model(path, joined, metadata)


def side_by_side(models: list[Sequential], *last: type[Layer]) -> Sequential:
    """One network, a copy, with the outputs of all side by side; each has such a layer `last`."""
    parts = [[*copy.deepcopy(model.layers), *(kind() for kind in last)] for model in models]
    if len(parts) > 1:
        heads = Heads(*(Block(*layers) for layers in parts))
        return Sequential(heads, dtype=models[0].dtype)
    return Sequential(*parts[0], seed=models[0].seed, dtype=models[0].dtype)


def with_belongings(estimator: Any) -> Sequential:
    """An estimator's networks side by side, with its encoder and the scale of its targets."""
    joined = side_by_side(estimator.models_)
    joined.scaler = estimator.encoder_
    joined.target_scaler = estimator.__dict__.get("target_scaler_")
    labels = estimator.__dict__.get("classes_")
    classes = [] if labels is None else labels.tolist()
    if len(estimator.models_) == 1 and set(map(type, classes)) in ({str}, {int}):
        joined.classes = tuple(classes)
    return joined


def load(kind: type[T], path: str | PathLike[str]) -> T:
    """The estimator of a file; ValueError for what is none of that class."""
    name = os.fsdecode(path)
    joined = checkpoint.read(name, Sequential)[0]
    metadata = safefile.read(name)[0]
    try:
        if _KEY not in metadata:
            raise ValueError("no file of an estimator's, but a model's: use fastnn.load")
        return _made(kind, safefile.parse(metadata[_KEY], "its estimator"), joined)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {safefile.shortened(error)}") from None


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those parameters that JSON can hold; the others get their defaults again."""
    found = {}
    for name, value in parameters.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        try:
            found[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
        if isinstance(value, dict) and found[name] != value:
            del found[name]  # its keys are no names
    return found


def _labels(classes: Array) -> list[Any]:
    """The classes as JSON has them; TypeError for those that it lacks."""
    labels, kind = classes.tolist(), _KINDS.get(classes.dtype.kind)
    if kind is None or not all(isinstance(label, kind) for label in labels):
        raise TypeError(f"save: expected classes that are names or numbers, got {classes!r}")
    return labels


def _made(kind: type[T], content: dict[str, Any], joined: Sequential) -> T:
    describe.check_keys(content, "its estimator", _NEEDED, _KNOWN)
    if content["format"] != _FORMAT:
        raise ValueError(f"format: expected {_FORMAT}, found {content['format']!r}")
    if content["estimator"] != kind.__name__:
        raise ValueError(f"estimator: expected {kind.__name__}, found {content['estimator']!r}")
    parameters = content["parameters"]
    describe.check_keys(parameters, "parameters", (), inspect.signature(kind).parameters)
    given = {name: _tuple(value) for name, value in parameters.items()}
    estimator: Any = kind(**given)
    estimator._validate_params()
    estimator.encoder_ = joined.scaler
    if not isinstance(joined.scaler, TableEncoder):
        raise ValueError(f"scaler: expected a TableEncoder, found {joined.scaler!r}")
    estimator.models_ = _apart(joined, checks.positive_int(content["networks"], "networks"))
    estimator.n_features_in_ = joined.scaler.n_features_in_
    if content["features"] != estimator.n_features_in_:
        raise ValueError(f"features: expected the scaler's, found {content['features']!r}")
    estimator.n_iter_ = checks.positive_int(content["epochs"], "epochs")
    epochs = _list(content["best_epochs"], "best_epochs", len(estimator.models_))
    estimator.best_epochs_ = [checks.whole(epoch, "best_epochs", 0) for epoch in epochs]
    if "names" in content:
        names = _strings(content["names"], "names", estimator.n_features_in_)
        estimator.__dict__["feature_names_in_"] = np.array(names, object)
    outputs = estimator.models_[0].out_features
    if "classes" in content:
        estimator.__dict__["classes_"] = _classes(content["classes"], outputs)
    else:
        _take_targets(estimator, content, joined, outputs)
    return cast("T", estimator)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _apart(joined: Sequential, networks: int) -> list[Sequential]:
    """The networks that `save` has joined."""
    if networks == 1:
        return [joined]
    heads = joined.layers[0]
    parts = heads.layers if isinstance(heads, Heads) else ()
    if len(parts) != networks or not all(isinstance(part, Block) for part in parts):
        raise ValueError(f"networks: expected {networks} heads, found {joined!r}")
    return [Sequential(*copy.deepcopy(part.layers), dtype=joined.dtype) for part in parts]


def _list(found: Any, name: str, count: int) -> list[Any]:
    if not isinstance(found, list) or len(found) != count:
        raise ValueError(f"{name}: expected a list of {count}, found {found!r}")
    return found


def _strings(found: Any, name: str, count: int) -> list[str]:
    found = _list(found, name, count)
    if not all(isinstance(item, str) for item in found):
        raise ValueError(f"{name}: expected names, found {found!r}")
    return found


def _classes(found: Any, outputs: int | None) -> Array:
    describe.check_keys(found, "classes", ("dtype", "values"), ("dtype", "values"))
    dtype, values = found["dtype"], found["values"]
    plain = re.fullmatch(r"[<>|=]?([biufUO])\d{0,9}", dtype) if isinstance(dtype, str) else None
    kind = None if plain is None else _KINDS[plain[1]]
    right = isinstance(values, list) and all(type(value) is kind for value in values)
    if plain is None or not right or len(values) != outputs:
        raise ValueError(f"classes: expected {outputs} of one kind, found {found!r}")
    # text is as wide as it must be, whatever width the file claims
    classes: Array = np.array(values, str if plain[1] == "U" else dtype)
    if classes.tolist() != values or not (classes[:-1] < classes[1:]).all():
        raise ValueError(f"classes: expected them sorted, each once, found {found!r}")
    return classes


def _take_targets(
    estimator: Any, content: dict[str, Any], joined: Sequential, outputs: int | None
) -> None:
    if joined.target_scaler is None:
        raise ValueError("target_scaler: expected one, found none")
    limits = np.array(content.get("range"), np.float64)
    if limits.shape != (2, outputs) or not np.isfinite(limits).all():
        raise ValueError(f"range: expected two lists of {outputs}, found {content.get('range')!r}")
    estimator.__dict__["target_scaler_"] = joined.target_scaler
    estimator.__dict__["target_range_"] = limits
    estimator.__dict__["_is_flat"] = checks.flag(content.get("is_flat"), "is_flat")
