"""`load_weights` and `load`: which of a file's layers is which layer of a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fastnn.files import safefile
from fastnn.keras.building import STORED, built, counted
from fastnn.keras.stored import File
from fastnn.layers import BatchNorm, Block, LayerNorm
from fastnn.model import Sequential
from fastnn.support import arrays
from fastnn.support.settings import label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastnn.keras.stored import Group, Variable
    from fastnn.layers import Layer

_NAMES: dict[type, str] = dict(STORED.values())


def load_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Copy in the weights of a ``.weights.h5`` or ``.keras`` file, rounded to the model's dtype.

    Keras writes such a file for a `Sequential`, or for a functional network whose layers follow one
    another.  The model has the same layers in the same order, a `Block` for each `Sequential`
    within; layers without weights do not count.  It takes `Dense`, `Conv1D`, `Conv2D`,
    `BatchNormalization`, `LayerNormalization` and `Embedding`.

    Weights are all that is taken.  Keras' norms have epsilon=1e-3 by default, fastnn's 1e-5: a
    ``.keras`` file says it, and another one is refused; in a ``.weights.h5`` it does not stand, and
    so make ``BatchNorm(n, eps=1e-3)`` as the network was.

    Raises ImportError without h5py, OSError for a file that cannot be read, ValueError, which names
    the file, for a damaged one and for layers that are missing, unexpected or of another shape,
    TypeError for a layer that Keras does not have; the model is then unchanged.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model: expected a Sequential of fastnn's, got {arrays.describe(model)}")
    _guarded(path, lambda file: _load(model, file))


def load(path: str | os.PathLike[str], *, seed: int = 0) -> Sequential:
    """The model of a ``.keras`` file that Keras 3 wrote of a `Sequential`; `seed` is the model's.

    It takes the layers of `load_weights`, the pools, global ones too, `Flatten`, `Dropout`,
    `Activation`, `ReLU`, `LeakyReLU`, `ELU`, `Softmax`, and `Sequential` within, in float32 or
    float64, channels last.

    What is of training alone, such as regularizers and what is frozen, is not taken.

    Raises ImportError without h5py, OSError for a file that cannot be read, ValueError, which names
    the file and the layer, for a damaged file and for what no layer of fastnn's is exactly.
    """

    def make(file: File) -> Sequential:
        if file.config is None:
            raise ValueError("expected a .keras file; load_weights reads weights alone")
        layers, dtype = built(file.config, file.weights)
        model = Sequential(*layers, dtype=dtype, seed=seed)
        _load(model, file, known=True)
        return model

    found: Sequential = _guarded(path, make)
    return found


def _guarded(path: str | os.PathLike[str], use: Callable[[File], Any]) -> Any:
    """What `use` makes of the file; whatever goes wrong in a damaged one is a ValueError."""
    name = os.fsdecode(path)
    try:
        file = File(name)
        try:
            return use(file)
        finally:
            file.close()
    except (ImportError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # h5py and zipfile raise errors of many kinds
        if isinstance(error, TypeError) and str(error).startswith("model: "):
            raise
        text = f"no {error}" if isinstance(error, KeyError) else str(error) or repr(error)
        raise ValueError(f"{name}: {safefile.shortened(text)}") from None


def _load(model: Sequential, file: File, known: bool = False) -> None:
    new: dict[str, Variable] = {}
    _pair(model._chain.layers, model._chain.names, "", file.weights, new)
    mine = {**model.parameters, **model.state}
    wrong = [
        f"{its.name} expected {mine[name].shape}, got {its.shape}"
        for name, its in new.items()
        if its.shape != mine[name].shape
    ]
    if wrong:
        raise ValueError(f"of another shape {', '.join(wrong)}")
    if file.config is not None and not known:
        _check_eps(model, file.config)
    model.load_state_dict({name: its.read() for name, its in new.items()})


def _pair(
    layers: Iterable[Layer],
    names: Iterable[str],
    prefix: str,
    group: Group,
    new: dict[str, Variable],
) -> None:
    """Find the arrays of each layer in the group, under Keras' counted names."""
    counts: dict[str, int] = {}
    taken = set()
    for name, layer in zip(names, layers, strict=True):
        has = getattr(layer, "parameters", None)
        kind = _NAMES.get(type(layer))
        if kind is None:
            if has or getattr(layer, "_chains", ()):
                raise TypeError(f"model: layer {prefix}{name}, {label(layer)}: Keras has no such")
            continue
        its = counted(kind, counts)
        taken.add(its)
        if its not in group:
            raise ValueError(f"missing {its}, for layer {prefix}{name}, {label(layer)}")
        found = group.inner(its)
        if isinstance(layer, Block):
            chain = layer._chains[0]
            _pair(chain.layers, chain.names, f"{prefix}{name}.", found.inner("layers"), new)
            continue
        variables, wanted = found.variables(), [*layer.parameters, *layer.state]
        if len(variables) != len(wanted):
            raise ValueError(
                f"{its} has {len(variables)} arrays; layer {prefix}{name}, {label(layer)}, has "
                f"{', '.join(wanted)}"
            )
        for array, variable in zip(wanted, variables, strict=True):
            new[f"{prefix}{name}.{array}"] = variable
    others = [other for other in group.names() if other not in taken]
    unexpected = [other for other in others if _has_arrays(group.inner(other))]
    if unexpected:
        raise ValueError(f"unexpected {', '.join(unexpected)}")


def _has_arrays(group: Group) -> bool:
    return "layers" in group or bool("vars" in group and group.inner("vars").names())


def _check_eps(model: Sequential, config: dict[str, Any]) -> None:
    """Raise ValueError where a norm has another epsilon than the file says."""
    norms = [layer for layer, _ in model._chain.walk() if isinstance(layer, BatchNorm | LayerNorm)]
    theirs = list(_epsilons(config))
    for layer, eps in zip(norms, theirs, strict=True):
        if eps != layer.eps:
            raise ValueError(f"{label(layer)} has eps={layer.eps}, in the file it is {eps}")


def _epsilons(config: dict[str, Any]) -> Iterator[Any]:
    for each in config["config"]["layers"]:
        if "layers" in each["config"]:
            yield from _epsilons(each)
        elif each["class_name"] in ("BatchNormalization", "LayerNormalization"):
            yield each["config"]["epsilon"]
