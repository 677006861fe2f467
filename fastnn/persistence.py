"""Models and whole trainings in safe files: safetensors, with the architecture as JSON beside them.

A file holds numbers and names and nothing that runs.  It is read whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _chain, _checks, _describe, _safefile
from fastnn._layer import Layer
from fastnn.data import check_order
from fastnn.history import History
from fastnn.model import Sequential
from fastnn.optimizers import Optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Shapes = dict[str, tuple[int, ...]]

_FORMAT = 1  # a newer one has what this version does not know
_KEY = "fastnn"  # in the file's metadata; the keys of what stands there, and in its parts:
_NEEDED, _TRAINING = ("format", "model"), ("optimizer", "order", "history")
_MODEL = ("layers", "dtype", "seed", "l2", "passes")
_OPTIMIZER = ("rule", "steps", "bound")
_HISTORY = ("names", "interrupted")
_LONGEST_MESSAGE = 2000
_MOST_STEPS = 2**53  # that float64 counts


def save(model: Sequential, path: str | PathLike[str]) -> None:
    """Write the model to a file: layers and their settings, dtype, seed, parameters, running
    statistics and the count of training passes, which dropout goes by.

    The file is in the safetensors format, under the names of `state_dict`.  An old one is replaced
    when the new one is whole and on the disk; its permissions stay.  (Killed just then, a process
    leaves a ``.fastnn-*.tmp`` beside it.)  Parameters may be NaN.  An initializer of your own is
    not saved: it has done its work.

    Raises TypeError for what is no `Sequential` and for layers of classes of your own, which it
    names: save `state_dict` then; OSError with the path where it cannot be written: an old file
    stays; RuntimeError if another thread is training the model.

    >>> import os, tempfile, fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(3, 2), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     fastnn.save(model, path)
    ...     same = fastnn.load(path)
    >>> bool((same.flat_parameters == model.flat_parameters).all())
    True
    """
    _check_model(model)
    with model.exclusive("save"):
        content = {"format": _FORMAT, "model": _describe_model(model)}
        arrays = model.state_dict()
    _write(path, content, arrays)


def load(path: str | PathLike[str]) -> Sequential:
    """The model of a file that `save` or `save_checkpoint` wrote, with the same bits.

    Raises OSError where the file cannot be read, and ValueError, which names it, for one that is
    damaged, not fastnn's, or of a newer version.  A file that somebody made up can do no worse.

    >>> import fastnn
    >>> fastnn.load("missing.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.safetensors'
    """
    return _read(path)[0]


@dataclass
class Checkpoint:
    """What `load_checkpoint` gives: a training as it was, to go on with.

    `optimizer` belongs to `model`, if it had stepped it.  `order` is for the `load_state_dict` of
    a `batches` object; `order` and `history` are None where none was saved.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(3, 2))
    >>> Checkpoint(model, fastnn.SGD(0.1)).order is None
    True
    """

    model: Sequential
    optimizer: Optimizer
    order: dict[str, int] | None = None
    history: History | None = None


def save_checkpoint(
    path: str | PathLike[str],
    model: Sequential,
    optimizer: Optimizer,
    *,
    order: Mapping[str, int] | None = None,
    history: History | None = None,
) -> None:
    """Write a training to a file, as `save` writes a model: what goes on from there gives the same
    bits as if it had never stopped.

    `order` is the `state_dict` of the `batches` in use, between two passes; a step that accumulates
    batches must have updated the model.  Raises as `save` does; TypeError for an optimizer of a
    class of your own, TypeError or ValueError for an `order` or a `history` that is none,
    ValueError for an optimizer that steps another model.

    >>> import os, tempfile, fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
    >>> loss, optimizer = fastnn.SoftmaxCrossEntropy(), fastnn.Adam()
    >>> data = fastnn.batches(X, y, batch_size=600)
    >>> def epoch(model, optimizer, data):
    ...     step = fastnn.TrainStep(model, loss, optimizer)
    ...     return [step(xb, yb) for xb, yb in data]
    >>> losses = epoch(model, optimizer, data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "training.safetensors")
    ...     fastnn.save_checkpoint(path, model, optimizer, order=data.state_dict())
    ...     saved = fastnn.load_checkpoint(path)
    >>> again = fastnn.batches(X, y, batch_size=600, seed=1)
    >>> again.load_state_dict(saved.order)
    >>> epoch(saved.model, saved.optimizer, again) == epoch(model, optimizer, data)
    True
    """
    check_savable(model, optimizer)
    content: dict[str, Any] = {"format": _FORMAT}
    with model.exclusive("save_checkpoint"):
        content["model"] = _describe_model(model)
        content["optimizer"] = _describe_optimizer(optimizer)
        arrays = model.state_dict()
        kept = optimizer._kept_arrays()
        arrays |= {f"optimizer.{name}": array.copy() for name, array in kept.items()}
    if order is not None:
        content["order"] = check_order(order)
    if history is not None:
        content["history"], columns = _describe_history(history)
        arrays |= columns
    _write(path, content, arrays)


def load_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """The training of a file that `save_checkpoint` wrote.

    Raises as `load` does, and ValueError for a file with a model alone.  For an example see
    `save_checkpoint`.

    >>> import fastnn
    >>> fastnn.load_checkpoint("missing.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.safetensors'
    """
    model, optimizer, order, history = _read(path)
    if optimizer is None:
        raise ValueError(f"{os.fsdecode(path)}: holds a model without its training; use load")
    return Checkpoint(model, optimizer, order, history)


# ---- writing -----------------------------------------------------------------------------------


def _check_model(model: Sequential) -> None:
    if type(model) is not Sequential:
        raise TypeError(f"model: expected a Sequential, got a {type(model).__name__}")
    count, most = sum(1 for _ in _chain.walk(model.layers)), _describe.MOST_LAYERS
    if count > most:
        raise ValueError(f"model: expected at most {most} layers, got {count}")


def check_savable(model: Sequential, optimizer: Optimizer) -> None:
    """What `save_checkpoint` raises for objects that it cannot save."""
    _check_model(model)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an object such as fastnn.Adam(), got {optimizer!r}")
    if optimizer._model is not None and optimizer._model is not model:
        raise ValueError(f"optimizer: {optimizer!r} steps another model")
    _describe_model(model)
    _describe_optimizer(optimizer)


def _describe_model(model: Sequential) -> dict[str, Any]:
    return {
        "layers": [_describe.describe(part, f"layer {i}") for i, part in enumerate(model.layers)],
        "dtype": model.dtype.name,
        "seed": model.seed,
        "l2": model.l2,
        "passes": int(model._counter[0]),
    }


def _describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Its constants and its count of steps: clipping and corrections are made anew each step."""
    return {
        "rule": _describe.describe(optimizer, "optimizer", _describe.OPTIMIZERS),
        "steps": int(optimizer._get("step")),
        "bound": optimizer._model is not None,
    }


def _describe_history(history: History) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if not isinstance(history, History):
        raise TypeError(f"history: expected a History, got {history!r}")
    described = {"names": list(history), "interrupted": bool(history.interrupted)}
    columns = {f"history.{name}": np.array(values, float) for name, values in history.items()}
    return described, columns


def _write(path: str | PathLike[str], content: dict[str, Any], arrays: Arrays) -> None:
    import json

    _safefile.write(os.fsdecode(path), arrays, {_KEY: json.dumps(content, allow_nan=False)})


# ---- reading -----------------------------------------------------------------------------------


_Content = tuple[Sequential, Optimizer | None, dict[str, int] | None, History | None]


def _read(path: str | PathLike[str]) -> _Content:
    name = os.fsdecode(path)
    try:
        return _restore(*_safefile.read(name))
    except RecursionError:
        raise ValueError(f"{name}: its layers are nested too deeply") from None
    except (TypeError, ValueError) as error:
        text = str(error)
        text = text if len(text) < _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} ..."
        raise ValueError(f"{name}: {text}") from None


def _restore(metadata: dict[str, str], arrays: dict[str, NDArray[Any]]) -> _Content:
    """All is checked, and the tensors' shapes are compared, before memory is taken for a model."""
    content = _parse(metadata)
    order = check_order(content["order"]) if "order" in content else None
    history = _make_history(content["history"], arrays) if "history" in content else None
    described = content["model"]
    _describe.check_keys(described, "model", _MODEL, _MODEL)
    layers = _make_layers(described["layers"])
    parameters, wanted = _shapes(layers)
    optimizer, steps, bound = None, 0, False
    if "optimizer" in content:
        optimizer, steps, bound = _make_optimizer(content["optimizer"])
    if optimizer is not None and bound:
        for vector in optimizer._vectors:
            wanted |= {f"optimizer.{vector}.{name}": shape for name, shape in parameters.items()}
    _check_tensors(parameters | wanted, arrays, described["dtype"])
    model = _make_model(layers, described, arrays)
    if optimizer is not None:
        optimizer._set(step=float(steps))
        if bound:
            _bind(optimizer, model, arrays)
    return model, optimizer, order, history


def _parse(metadata: dict[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ValueError(f"no file of fastnn's: its metadata have no {_KEY!r}")
    content = _safefile.parse(metadata[_KEY], "its architecture")
    version = content.get("format")
    if type(version) is not int or version < 1:
        raise ValueError(f"format: expected a version number, found {version!r}")
    if version > _FORMAT:
        raise ValueError(f"format {version} is newer than this fastnn reads, {_FORMAT}")
    _describe.check_keys(content, "its architecture", _NEEDED, _NEEDED + _TRAINING)
    return content


def _make_layers(described: Any) -> tuple[Layer, ...]:
    if not isinstance(described, list):
        raise ValueError(f"layers: expected a list, found {described!r}")
    budget = iter(range(4 * _describe.MOST_LAYERS))
    layers = tuple(_describe.build(part, f"layer {i}", budget) for i, part in enumerate(described))
    _chain.check_layers(layers)
    _chain.follow(layers)
    return layers


def _shapes(layers: tuple[Layer, ...]) -> tuple[Shapes, Shapes]:
    """Of the parameters and of the state that a model of these layers has."""
    parameters: Shapes = {}
    state: Shapes = {}
    for i, layer in enumerate(layers):
        shapes = _chain.parameter_shapes(i, layer)
        parameters |= {f"{i}.{name}": shape for name, shape in shapes.items()}
        state |= {f"{i}.{name}": array.shape for name, array in layer.state.items()}
    return parameters, state


def _check_tensors(wanted: Shapes, arrays: Arrays, dtype: Any) -> None:
    """One ValueError that lists all that are missing, unknown or of another shape or dtype."""
    kind = np.dtype(_checks.choice(dtype, "dtype", ("float32", "float64")))
    missing = [name for name in wanted if name not in arrays]
    unknown = [name for name in sorted(arrays) if name not in wanted]
    others = [
        f"{name} expected {kind} {shape}, found {arrays[name].dtype} {arrays[name].shape}"
        for name, shape in wanted.items()
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (shape, kind)
    ]
    groups = {"missing": missing, "unknown": unknown, "of another kind": others}
    if faults := [f"{what} {', '.join(names)}" for what, names in groups.items() if names]:
        raise ValueError(f"tensors: {'; '.join(faults)}")


def _make_model(layers: tuple[Layer, ...], described: dict[str, Any], arrays: Arrays) -> Sequential:
    """Without the initialization that `Sequential(...)` begins with."""
    model = Sequential.__new__(Sequential)
    model.__setstate__(
        {
            "layers": layers,
            "dtype": described["dtype"],
            "seed": _checks.seed(described["seed"]),
            "l2": _checks.not_negative(described["l2"], "l2"),
            "counter": _checks.seed(described["passes"], "passes"),
            "parameters": arrays,
        }
    )
    for name, array in model.state.items():
        array[...] = arrays[name]
    return model


def _make_optimizer(described: Any) -> tuple[Optimizer, int, bool]:
    """Not yet bound to a model, the number of its steps, and whether it is to be bound."""
    _describe.check_keys(described, "optimizer", _OPTIMIZER, _OPTIMIZER)
    budget = iter(range(1))
    rule = _describe.build(described["rule"], "optimizer", budget, _describe.OPTIMIZERS)
    steps = _checks.whole(described["steps"], "optimizer: steps", 0, _MOST_STEPS)
    return rule, steps, _checks.flag(described["bound"], "optimizer: bound")


def _bind(optimizer: Optimizer, model: Sequential, arrays: Arrays) -> None:
    optimizer._check_suits(model)
    optimizer._attach(model)
    for name, array in optimizer._kept_arrays().items():
        array[...] = arrays[f"optimizer.{name}"]


def _make_history(described: Any, arrays: dict[str, NDArray[Any]]) -> History:
    """Takes its columns out of `arrays`."""
    _describe.check_keys(described, "history", _HISTORY, _HISTORY)
    names = described["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"history: expected a list of names, found {names!r}")
    history = History()
    for name in names:
        column = arrays.pop(f"history.{name}", None)
        if column is None or column.ndim != 1 or column.dtype != np.float64:
            raise ValueError(
                f"history: expected a float64 tensor {'history.' + name!r} of one axis"
            )
        history._columns[name] = column.tolist()
    history.interrupted = _checks.flag(described["interrupted"], "history: interrupted")
    return history
