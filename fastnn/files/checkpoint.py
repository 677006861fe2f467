"""Models and whole trainings in safe files: tensors as safetensors, the architecture as JSON.

A file holds numbers and names, and nothing that runs.  It is read whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fastnn.data.batching import check_order
from fastnn.files import belongings, describe, safefile
from fastnn.history import History
from fastnn.layers.chain import Chain, check_layers, numbered
from fastnn.network import BELONGINGS, Network
from fastnn.optimizers import Optimizer
from fastnn.support import checks
from fastnn.support.settings import is_ours
from fastnn.weight_averages import WeightAverage, check_average

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Shapes = dict[str, tuple[int, ...]]

N = TypeVar("N", bound=Network)
Content: TypeAlias = "tuple[N, Optimizer | None, dict[str, int] | None, History | None, FitState]"

_FORMAT = 1  # files with a higher number hold what this version does not know
_KEY = "fastnn"  # the metadata's key of a JSON object; its keys, and those of the objects in it:
_NEEDED, _TRAINING = ("format", "model"), (
    "optimizer", "order", "history", "arguments", "kept", "average",
)  # fmt: skip
_MODEL = ("layers", "dtype", "seed", "l2", "passes")
_OPTIMIZER = ("rule", "steps", "bound")
_HISTORY = ("names", "interrupted")
_DTYPES = ("float32", "float64")
_AVERAGE = ("rule", "updates", "applied")
_MOST_STEPS = 2**53  # float64 counts no further


class FitState(NamedTuple):
    """What `fit` keeps of itself in a checkpoint, for a resume."""

    arguments: dict[str, Any] | None  # those that must be the same; None: not known
    kept: dict[int, dict[str, NDArray[Any]]]  # the model's state after some earlier epochs
    average: WeightAverage | None = None


def save(model: Network, path: str | PathLike[str]) -> None:
    """Write the model to a file: layers and their settings, dtype, seed, parameters, running
    statistics and the count of training passes, on which dropout's masks depend; and its scalers
    and classes.

    The file has the safetensors format, with the names of `state_dict`.  An old file is replaced
    when the new one is whole and on the disk; the permissions stay.  (Where the file system has no
    files without names, a process that is killed just then leaves a ``.fastnn-*.tmp`` beside it.)
    Parameters may be NaN.  An initializer of your own is not saved: it has done its work.

    Raises TypeError for what is no `Sequential`, and for a layer of a class of your own, which it
    names: save `state_dict` then; OSError with the path if the file cannot be written: an old file
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
    write_model(path, model)


def write_model(
    path: str | PathLike[str], model: Network, metadata: Mapping[str, str] | None = None
) -> None:
    """`save`, with more metadata beside the architecture."""
    _check_model(model)
    with model.exclusive("save"):
        content = {"format": _FORMAT, "model": _describe_model(model)}
        arrays = _arrays(model)
    _write(path, content, arrays, metadata)


def save_checkpoint(
    path: str | PathLike[str],
    model: Network,
    optimizer: Optimizer,
    *,
    order: Mapping[str, int] | None = None,
    history: History | None = None,
    average: WeightAverage | None = None,
) -> None:
    """Write a training to a file, as `save` writes a model: a training that continues from it has
    the same bits as one that never stopped.

    `order` is the `state_dict` of the `batches` in use, between two passes; a step that accumulates
    batches must have updated the model.  `average` is the one of the weights, such as an
    `ExponentialMovingAverage`.  Raises as `save` does; TypeError for an optimizer or an average of
    a class of your own, TypeError or ValueError for what is no `order` or no `history`, ValueError
    for an optimizer or average of another model.

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
    write_training(path, model, optimizer, order, history, FitState(None, {}, average))


def write_training(
    path: str | PathLike[str],
    model: Network,
    optimizer: Optimizer,
    order: Mapping[str, int] | None,
    history: History | None,
    fit: FitState,
) -> None:
    """`save_checkpoint`, with what `fit` needs besides to go on as it was."""
    check_savable(model, optimizer)
    content: dict[str, Any] = {"format": _FORMAT}
    with model.exclusive("save_checkpoint"):
        content["model"] = _describe_model(model)
        content["optimizer"] = _describe_optimizer(optimizer)
        arrays = _arrays(model)
        arrays |= {f"optimizer.{name}": v.copy() for name, v in optimizer._arrays().items()}
    if order is not None:
        content["order"] = check_order(order)
    if history is not None:
        content["history"], columns = _describe_history(history)
        arrays |= columns
    if fit.average is not None:
        content["average"], views = _describe_average(fit.average, model)
        arrays |= views
    if fit.arguments is not None:
        content["arguments"] = fit.arguments
    if fit.kept:
        content["kept"] = [*fit.kept]
        arrays |= {
            f"kept.{epoch}.{name}": array
            for epoch, state in fit.kept.items()
            for name, array in state.items()
        }
    _write(path, content, arrays)


# ---- writing -----------------------------------------------------------------------------------


def _check_model(model: Network) -> None:
    if not (isinstance(model, Network) and is_ours(type(model))):
        raise TypeError(f"model: expected a Sequential, got a {type(model).__name__}")
    count, most = sum(1 for _ in model._chain.walk()), describe.MOST_LAYERS
    if count > most:
        raise ValueError(f"model: expected at most {most} layers, got {count}")


def check_savable(model: Network, optimizer: Optimizer) -> None:
    """Raise the errors of `save_checkpoint` for a model or an optimizer that it cannot save."""
    _check_model(model)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an object such as fastnn.Adam(), got {optimizer!r}")
    if optimizer._model is not None and optimizer._model is not model:
        raise ValueError(f"optimizer: {optimizer!r} steps another model")
    _describe_model(model)
    _describe_optimizer(optimizer)


def _describe_model(model: Network) -> dict[str, Any]:
    described: dict[str, Any] = {
        "layers": [describe.describe(layer, who) for who, layer in numbered(model.layers)],
        "dtype": model.dtype.name,
        "seed": model.seed,
        "l2": model.l2,
        "passes": int(model._counter[0]),
    }
    described |= belongings.describe(model)[0]
    # a model without l1 has the file that it had before there was l1
    described |= {"l1": model.l1} if model.l1 else {}
    return described | ({"compute": model.compute} if model.compute else {})


def _arrays(model: Network) -> dict[str, NDArray[Any]]:
    """Copies of the model's arrays, and of its scalers'."""
    return model.state_dict() | belongings.describe(model)[1]


def _describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's constants and its count of steps; all else is computed anew in each step."""
    return {
        "rule": describe.describe(optimizer, "optimizer", describe.OPTIMIZERS),
        "steps": int(optimizer._get("step")),
        "bound": optimizer._model is not None,
    }


def _describe_average(
    average: WeightAverage, model: Network
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    check_average(average)
    if average._model is not None:
        average._check_model(model)
    described = {
        "rule": describe.describe(average, "average", describe.AVERAGES),
        "updates": average.updates,
        "applied": average.is_applied,
    }
    views = average._arrays() if average.updates else {}
    return described, {f"average.{name}": array.copy() for name, array in views.items()}


def _describe_history(history: History) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if not isinstance(history, History):
        raise TypeError(f"history: expected a History, got {history!r}")
    described = {"names": list(history), "interrupted": bool(history.interrupted)}
    columns = {f"history.{name}": np.array(values, float) for name, values in history.items()}
    return described, columns


def _write(
    path: str | PathLike[str],
    content: dict[str, Any],
    arrays: Arrays,
    metadata: Mapping[str, str] | None = None,
) -> None:
    import json

    described = {_KEY: json.dumps(content, allow_nan=False)}
    safefile.write(os.fsdecode(path), arrays, described | dict(metadata or {}))


# ---- reading -----------------------------------------------------------------------------------


def read(path: str | PathLike[str], kind: type[N]) -> Content[N]:
    """The model of a file, of class `kind`, and its optimizer, order and history, if any.

    Raises as `fastnn.load` does."""
    name = os.fsdecode(path)
    try:
        return _restore(kind, *safefile.read(name))
    except RecursionError:
        raise ValueError(f"{name}: its layers are nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {safefile.shortened(error)}") from None


def read_training(
    path: str | PathLike[str], kind: type[N]
) -> tuple[N, Optimizer, dict[str, int] | None, History | None, FitState]:
    """The same for the file of a training; ValueError for one with a model alone."""
    model, optimizer, order, history, fit = read(path, kind)
    if optimizer is None:
        raise ValueError(f"{os.fsdecode(path)}: holds a model without its training; use load")
    return model, optimizer, order, history, fit


def _restore(
    kind: type[N], metadata: dict[str, str], arrays: dict[str, NDArray[Any]]
) -> Content[N]:
    """Make what the file holds; all of it is checked before a model gets any memory."""
    content = _parse(metadata)
    order = check_order(content["order"]) if "order" in content else None
    history = _make_history(content["history"], arrays) if "history" in content else None
    described = content["model"]
    describe.check_keys(described, "model", _MODEL, (*_MODEL, *BELONGINGS, "l1", "compute"))
    owned = belongings.make(described, arrays)
    chain = _make_chain(described["layers"])
    parameters = chain.parameter_shapes()
    wanted = {name: array.shape for name, array in chain.state().items()}
    arguments, epochs = content.get("arguments"), _kept_epochs(content.get("kept", []))
    if arguments is not None:
        describe.check_keys(arguments, "arguments", (), arguments)
    states = parameters | wanted
    average, updates, applied = None, 0, False
    if "average" in content:
        average, updates, applied = _make_average(content["average"])
    if updates:
        averaged = states if applied else parameters
        wanted |= {f"average.{name}": shape for name, shape in averaged.items()}
    wanted |= {f"kept.{e}.{name}": shape for e in epochs for name, shape in states.items()}
    optimizer, steps, bound = None, 0, False
    if "optimizer" in content:
        optimizer, steps, bound = _make_optimizer(content["optimizer"])
    if optimizer is not None and bound:
        for vector in optimizer._vectors:
            wanted |= {f"optimizer.{vector}.{name}": shape for name, shape in parameters.items()}
    _check_tensors(parameters | wanted, arrays, described["dtype"])
    model = _make_model(kind, chain, described, arrays, owned)
    kept = {e: {name: arrays[f"kept.{e}.{name}"] for name in states} for e in epochs}
    if optimizer is not None:
        optimizer._set(step=float(steps))
        if bound:
            _bind(optimizer, model, arrays)
    if average is not None and updates:
        views = {name: arrays.get(f"average.{name}") for name in states}  # statistics if applied
        average._restore(model, updates, applied, views)
    return model, optimizer, order, history, FitState(arguments, kept, average)


def _kept_epochs(described: Any) -> list[int]:
    """The epochs of the states that the file keeps beside the last one."""
    if not isinstance(described, list):
        raise ValueError(f"kept: expected a list of epochs, found {described!r}")
    return [checks.positive_int(epoch, "kept: epoch") for epoch in described]


def _parse(metadata: dict[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ValueError(
            f"no file of fastnn's: its metadata have no {_KEY!r}; if these are PyTorch's weights, "
            "fastnn.torch.load_state_dict takes them into a model"
        )
    content = safefile.parse(metadata[_KEY], "its architecture")
    version = content.get("format")
    if type(version) is not int or version < 1:
        raise ValueError(f"format: expected a version number, found {version!r}")
    if version > _FORMAT:
        raise ValueError(f"format {version} is newer than this fastnn reads, {_FORMAT}")
    describe.check_keys(content, "its architecture", _NEEDED, _NEEDED + _TRAINING)
    return content


def _make_chain(described: Any) -> Chain:
    budget, listed = iter(range(4 * describe.MOST_LAYERS)), _list(described, "layers")
    layers = tuple(describe.build(layer, who, budget) for who, layer in numbered(listed))
    check_layers(numbered(layers))
    return Chain(layers)


def _list(found: Any, name: str) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"{name}: expected a list, found {found!r}")
    return found


def _check_tensors(wanted: Shapes, arrays: Arrays, dtype: Any) -> None:
    """Raise one ValueError that lists all tensors that are missing, unknown or of another kind."""
    kind = np.dtype(checks.choice(dtype, "dtype", _DTYPES))
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


def _make_model(
    kind: type[N],
    chain: Chain,
    described: dict[str, Any],
    arrays: Arrays,
    owned: dict[str, Any],
) -> N:
    model = kind._restore(
        {
            "layers": chain.layers,
            "dtype": described["dtype"],
            "seed": checks.seed(described["seed"]),
            "l1": checks.not_negative(described.get("l1", 0.0), "l1"),
            "l2": checks.not_negative(described["l2"], "l2"),
            "compute": described.get("compute"),
            "counter": checks.seed(described["passes"], "passes"),
            "parameters": arrays,
            **owned,
        }
    )
    for name, array in model.state.items():
        array[...] = arrays[name]
    return model


def _make_optimizer(described: Any) -> tuple[Optimizer, int, bool]:
    """The optimizer, its number of steps, and whether it belonged to a model."""
    describe.check_keys(described, "optimizer", _OPTIMIZER, _OPTIMIZER)
    budget = iter(range(1))
    rule = describe.build(described["rule"], "optimizer", budget, describe.OPTIMIZERS)
    steps = checks.whole(described["steps"], "optimizer: steps", 0, _MOST_STEPS)
    return rule, steps, checks.flag(described["bound"], "optimizer: bound")


def _bind(optimizer: Optimizer, model: Network, arrays: Arrays) -> None:
    optimizer._check_suits(model)
    optimizer._attach(model)
    for name, array in optimizer._arrays().items():
        array[...] = arrays[f"optimizer.{name}"]


def _make_average(described: Any) -> tuple[WeightAverage, int, bool]:
    """The average, its number of updates, and whether the model has the averaged weights."""
    describe.check_keys(described, "average", _AVERAGE, _AVERAGE)
    average = describe.build(described["rule"], "average", iter(range(1)), describe.AVERAGES)
    updates = checks.whole(described["updates"], "average: updates", 0, _MOST_STEPS)
    return average, updates, checks.flag(described["applied"], "average: applied")


def _make_history(described: Any, arrays: dict[str, NDArray[Any]]) -> History:
    """The history; its columns are removed from `arrays`."""
    describe.check_keys(described, "history", _HISTORY, _HISTORY)
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
        history[name] = column.tolist()
    history.interrupted = checks.flag(described["interrupted"], "history: interrupted")
    return history
