"""Attributes that may be set at any time, and those that may not.

A value stands in the instance's ``__dict__``, so that copies and pickles have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

T = TypeVar("T")

changes = 0  # how often a setting that had a value got another: what was recorded before is stale


class Setting(Generic[T]):
    """A number or flag that kernels get as a constant: checked and counted when it is set.

    There is no ``__get__``: Python then reads from ``__dict__``, as fast as any attribute."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> T: ...

    def __init__(self, check: Callable[[Any, str], T]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: T) -> None:
        global changes
        stale = self.name in instance.__dict__
        instance.__dict__[self.name] = self.check(value, self.name)
        changes += stale


class Fixed(Generic[T]):
    """An attribute that is set once: its owner was made from it."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> T: ...

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: T) -> None:
        if self.name in instance.__dict__:
            kind = type(instance).__name__
            raise AttributeError(f"{self.name} is fixed once a {kind} is made; make another")
        instance.__dict__[self.name] = value
