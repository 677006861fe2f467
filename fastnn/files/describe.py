"""Layers, initializers, optimizers and averages as plain data and back: the constructor's
arguments, by name.

The attributes of an object have the names of its arguments, so a new layer only has to be public to
be saved.  No class outside these tables is ever called."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastnn import initializers, layers, optimizers, weight_averages
from fastnn.layers.activations import Activation
from fastnn.layers.layer import Layer
from fastnn.support.settings import Guarded, is_plain, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

_BASES = (Layer, Activation)
_LAYERS = [kind for kind in vars(layers).values() if isinstance(kind, type)]
PARTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (*_LAYERS, *map(type, initializers.INITIALIZERS.values()))
    if kind not in _BASES
}


def _derived(base: type, module: ModuleType) -> dict[str, type]:
    """The classes of the module that derive from `base`, by their names."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type)]
    return {k.__name__: k for k in kinds if issubclass(k, base) and k is not base}


OPTIMIZERS = _derived(optimizers.Optimizer, optimizers)
AVERAGES = _derived(weight_averages.WeightAverage, weight_averages)
MOST_LAYERS = 10_000  # each of them with at most an activation and two initializers


def describe(part: Any, who: str, known: Mapping[str, type] = PARTS) -> dict[str, Any]:
    """``{"type": "Dense", "in_features": 3, ...}``; TypeError, which names `who`, if the class is
    the user's or a method was replaced."""
    kind = type(part)
    if known.get(kind.__name__) is not kind or not is_plain(part):
        raise TypeError(
            f"{who}, {label(part)}: a class of your own, or with methods put on it, cannot be "
            "saved by name; save model.state_dict(), and make the same objects before you load it"
        )
    described: dict[str, Any] = {"type": kind.__name__}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = part._argument(name) if isinstance(part, Guarded) else getattr(part, name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            described[name] = [_describe_each(p, f"{who}.{i}") for i, p in enumerate(value)]
        elif value is None or isinstance(value, bool | int | float | str | tuple):
            described[name] = value
        elif isinstance(value, dict):
            described[name] = dict(value)
        elif type(value) in PARTS.values() or not name.endswith("_init"):
            described[name] = describe(value, f"{who}.{name}")
        # else it is an initializer of the user's, which has done its work
    if isinstance(part, Layer) and not part._chains and not part.trainable:
        described["trainable"] = False
    return described


def _describe_each(part: Any, who: str) -> Any:
    """A layer, or one of Columns' parts, a pair of a width and a layer or None."""
    if not isinstance(part, tuple):
        return describe(part, who)
    width, layer = part
    return [width, None if layer is None else describe(layer, who)]


def _build_each(described: Any, who: str, budget: Iterator[int]) -> Any:
    if not (isinstance(described, list) and len(described) == 2):
        return build(described, who, budget)
    width, layer = described
    return width, None if layer is None else build(layer, who, budget)


def build(
    described: Any, who: str, budget: Iterator[int], known: Mapping[str, type] = PARTS
) -> Any:
    """The object that was described; ValueError, which names `who`, if it cannot be made.

    Each object takes an item from `budget`: an empty one is an error."""
    kind_name = described.get("type") if isinstance(described, dict) else None
    if not isinstance(kind_name, str):
        raise ValueError(f"{who}: expected an object with a type, found {described!r}")
    if kind_name not in known:
        raise ValueError(f"{who}: {kind_name!r} is unknown to this version of fastnn")
    if next(budget, None) is None:
        raise ValueError(f"{who}: expected at most {MOST_LAYERS} layers")
    kind = known[kind_name]
    arguments = {name: value for name, value in described.items() if name != "type"}
    trainable = arguments.pop("trainable", True) if issubclass(kind, Layer) else True
    positional = _check_arguments(kind, arguments, f"{who}, {kind_name}")
    inner = arguments.pop(positional) if positional else []
    inner = [_build_each(layer, f"{who}.{i}", budget) for i, layer in enumerate(inner)]
    for name, value in arguments.items():
        if isinstance(value, dict) and isinstance(value.get("type"), str):  # else one of numbers
            arguments[name] = build(value, f"{who}.{name}", budget)
    try:
        part = kind(*inner, **arguments)
        if trainable is not True:
            part.trainable = trainable
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}, {kind_name}: {error}") from None
    return part


def _check_arguments(kind: type, arguments: Mapping[str, Any], who: str) -> str | None:
    """The name of the argument that lists layers, if any; ValueError for missing, unknown ones."""
    parameters = inspect.signature(kind).parameters
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    positional = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    check_keys(arguments, who, needed, parameters)
    if positional and not isinstance(arguments[positional], list):
        raise ValueError(f"{who}: expected a list of {positional}, found {arguments[positional]!r}")
    return positional


def check_keys(described: Any, who: str, needed: Any, known: Any) -> None:
    """Raise one ValueError that lists the missing and the unknown keys of an object."""
    if not isinstance(described, dict):
        raise ValueError(f"{who}: expected an object, found {described!r}")
    groups = {
        "missing": [name for name in needed if name not in described],
        "unknown": [name for name in described if name not in known],
    }
    if faults := [f"{what} {', '.join(names)}" for what, names in groups.items() if names]:
        raise ValueError(f"{who}: {'; '.join(faults)}")
