"""Attributes that may be set at any time, and those that may not.

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


class Setting(_Attribute[T]):
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
