"""Layers, initializers and optimizers as plain data and back: the constructor's arguments, by name.

An object's attributes have its arguments' names, so that a new layer needs nothing here but to be
public.  Only classes in these tables are ever made."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastnn import initializers, layers, optimizers
from fastnn.layers.activations import Activation
from fastnn.layers.layer import Layer
from fastnn.support.settings import Guarded, is_plain, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BASES = (Layer, Activation)
_LAYERS = [kind for kind in vars(layers).values() if isinstance(kind, type)]
PARTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (*_LAYERS, *map(type, initializers.INITIALIZERS.values()))
    if kind not in _BASES
}
OPTIMIZERS: dict[str, type] = {
    kind.__name__: kind
    for kind in vars(optimizers).values()
    if isinstance(kind, type) and issubclass(kind, optimizers.Optimizer)
    if kind is not optimizers.Optimizer
}
MOST_LAYERS = 10_000  # and with each at most an activation and two initializers


def describe(part: Any, who: str, known: Mapping[str, type] = PARTS) -> dict[str, Any]:
    """``{"type": "Dense", "in_features": 3, ...}``; TypeError, which names `who`, for a part of a
    class of the user's own or with methods put on it."""
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
            described[name] = [describe(p, f"{who}.{i}") for i, p in enumerate(value)]
        elif value is None or isinstance(value, bool | int | float | str | tuple):
            described[name] = value
        elif type(value) in PARTS.values() or not name.endswith("_init"):
            described[name] = describe(value, f"{who}.{name}")
        # else it is an initializer of one's own, which has done its work
    return described


def build(
    described: Any, who: str, budget: Iterator[int], known: Mapping[str, type] = PARTS
) -> Any:
    """The part that was described; ValueError, which names `who`, where that cannot be.

    `budget` ends after as many parts as may be made."""
    kind_name = described.get("type") if isinstance(described, dict) else None
    if not isinstance(kind_name, str):
        raise ValueError(f"{who}: expected an object with a type, found {described!r}")
    if kind_name not in known:
        raise ValueError(f"{who}: {kind_name!r} is unknown to this version of fastnn")
    if next(budget, None) is None:
        raise ValueError(f"{who}: expected at most {MOST_LAYERS} layers")
    kind = known[kind_name]
    given = {name: value for name, value in described.items() if name != "type"}
    positional = _check_arguments(kind, given, f"{who}, {kind_name}")
    inner: list[Any] = []
    for i, part in enumerate(given.pop(positional) if positional else []):
        inner.append(build(part, f"{who}.{i}", budget))
    for name, value in given.items():
        if isinstance(value, dict):
            given[name] = build(value, f"{who}.{name}", budget)
    try:
        return kind(*inner, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}, {kind_name}: {error}") from None


def _check_arguments(kind: type, given: Mapping[str, Any], who: str) -> str | None:
    """The name of the one that holds a list of layers; ValueError for missing and unknown ones."""
    parameters, positional = inspect.signature(kind).parameters, None
    needed = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional = name
        if parameter.default is parameter.empty:
            needed.append(name)
    check_keys(given, who, needed, parameters)
    if positional and not isinstance(given[positional], list):
        raise ValueError(f"{who}: expected a list of {positional}, found {given[positional]!r}")
    return positional


def check_keys(given: Any, who: str, needed: Any, known: Any) -> None:
    """ValueError that lists the missing and the unknown keys of an object."""
    if not isinstance(given, dict):
        raise ValueError(f"{who}: expected an object, found {given!r}")
    missing = [name for name in needed if name not in given]
    unknown = [name for name in given if name not in known]
    groups = {"missing": missing, "unknown": unknown}
    if faults := [f"{what} {', '.join(names)}" for what, names in groups.items() if names]:
        raise ValueError(f"{who}: {'; '.join(faults)}")
