"""Attributes that may be set at any time, those that may not, and those that do not exist.

The value of ``rate`` stands in ``_rate`` of the same object, so that copies and pickles have it.
What runs at every call reads it there: that costs nothing, a descriptor's ``__get__`` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

changes = 0  # how often a setting that had a value got another: what was recorded before is stale


class _Attribute(Generic[T]):
    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.place = name, f"_{name}"

    def __get__(self, instance: object | None, owner: type) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        value: T = getattr(instance, self.place)
        return value


class Settable:
    """What may be set at any time."""


class Setting(_Attribute[T], Settable):
    """A number or flag that kernels get as a constant: checked and counted when it is set."""

    def __init__(self, check: Callable[[Any, str], T]) -> None:
        self.check = check

    def __set__(self, instance: object, value: T) -> None:
        global changes
        stale = hasattr(instance, self.place)
        setattr(instance, self.place, self.check(value, self.name))
        changes += stale


class Fixed(_Attribute[T]):
    """An attribute that is set once: its owner was made from it."""

    def __set__(self, instance: object, value: T) -> None:
        if hasattr(instance, self.place):
            kind = type(instance).__name__
            raise AttributeError(f"{self.name} is fixed once a {kind} is made; make another")
        setattr(instance, self.place, value)


class Guarded:
    """What fastnn's own classes lack cannot be set: it would be a misspelt setting.

    Classes derived by users are free."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name[0] != "_" and is_ours(kind) and not _takes(kind, name, value):
            may = ", ".join(sorted(settings(kind))) or "nothing"
            raise AttributeError(f"{kind.__name__} has no {name}; what may be set: {may}")
        super().__setattr__(name, value)


def _takes(kind: type, name: str, value: Any) -> bool:
    """Whether the class has that name, and if it is a method's, another function is given."""
    return hasattr(kind, name) and (callable(value) or not callable(getattr(kind, name)))


def is_ours(kind: type) -> bool:
    """Whether this is one of fastnn's own classes."""
    return kind.__module__.partition(".")[0] == "fastnn"


def is_plain(part: object) -> bool:
    """Whether this is an object of such a class whose methods nobody has put others before."""
    kind = type(part)
    return is_ours(kind) and not any(
        name[0] != "_" and callable(getattr(kind, name, None)) for name in vars(part)
    )


def settings(kind: type) -> dict[str, Settable]:
    """What may be set on objects of this class, by name."""
    found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, Settable)}
