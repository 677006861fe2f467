"""The attributes of layers, losses, optimizers and schedules: which may be set, and how they print.

The value of ``rate`` lies in ``_rate`` of the same object, so that copies and pickles include it.
Code that runs at every call reads ``_rate``, which costs less than a descriptor's ``__get__``."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, Generic, TypeVar

T = TypeVar("T")

changes = 0  # how often a setting was changed: programs recorded before that hold the old value


class _Attribute(Generic[T]):
    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.slot = name, f"_{name}"

    def __get__(self, instance: object | None, owner: type) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        value: T = getattr(instance, self.slot)
        return value


class Settable:
    """An attribute that may be set at any time."""


class Checked(_Attribute[T], Settable):
    """A value that is checked when it is set."""

    def __init__(self, check: Callable[[Any, str], T]) -> None:
        self.check = check

    def __set__(self, instance: object, value: T) -> None:
        setattr(instance, self.slot, self.check(value, self.name))


class Setting(Checked[T]):
    """A checked value that kernels take as a constant, so that a change outdates all programs."""

    def __set__(self, instance: object, value: T) -> None:
        global changes
        is_change = hasattr(instance, self.slot)  # the constructor's first value is no change
        super().__set__(instance, value)
        changes += is_change


class Fixed(_Attribute[T]):
    """An attribute that is set once, in the constructor."""

    def __set__(self, instance: object, value: T) -> None:
        if hasattr(instance, self.slot):
            raise _fixed(self.name, type(instance))
        setattr(instance, self.slot, value)


class Guarded:
    """Base of fastnn's classes, whose attributes are their constructor's arguments.

    Setting an attribute that the class lacks is refused, as it would be a misspelt setting, and so
    is setting what is no setting, such as `in_features`.  Objects of classes that users derive take
    any attribute."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name[0] != "_" and is_ours(kind):
            attribute = getattr(kind, name, None)
            if not hasattr(kind, name) or (callable(attribute) and not callable(value)):
                may = ", ".join(sorted(settable(kind))) or "nothing"
                raise AttributeError(f"{kind.__name__} has no {name}; what may be set: {may}")
            says_itself = hasattr(attribute, "__set__") and not isinstance(attribute, property)
            if not says_itself and not callable(attribute):
                raise _fixed(name, kind)
        super().__setattr__(name, value)

    def _argument(self, name: str) -> Any:
        """The value of this constructor's argument that would make the same object now."""
        return getattr(self, name)

    def __repr__(self) -> str:
        """The call of fastnn's constructor that makes the object, without arguments that have their
        default value and without initializers, which have done their work."""
        kind, shown = type(self), list[str]()
        makers = [base for base in kind.__mro__ if is_ours(base) and "__init__" in vars(base)]
        for name, parameter in signature(makers[0]).parameters.items() if makers else ():
            value = self._argument(name)
            if parameter.kind is Parameter.VAR_POSITIONAL:
                shown += map(label, value)
            elif parameter.default is Parameter.empty:
                shown.append(label(value))
            elif value != parameter.default and not name.endswith("_init"):
                shown.append(f"{name}={label(value)}")
        return f"{kind.__name__}({', '.join(shown)})"


def _fixed(name: str, kind: type) -> AttributeError:
    return AttributeError(f"{name} is fixed once a {kind.__name__} is made; make another")


def label(part: object) -> str:
    """How messages and tables show an object: its repr, or "Name()" where its class has none."""
    if type(part) is tuple:  # one of Columns' parts
        return f"({', '.join(map(label, part))})"
    plain = type(part).__repr__ is object.__repr__
    return f"{type(part).__name__}()" if plain else repr(part)


def is_ours(kind: type) -> bool:
    """Whether this is one of fastnn's classes."""
    return kind.__module__.partition(".")[0] == "fastnn"


def is_plain(part: object) -> bool:
    """Whether the object's class is one of fastnn's, and none of its methods was replaced."""
    kind = type(part)
    return is_ours(kind) and not any(
        name[0] != "_" and callable(getattr(kind, name, None)) for name in vars(part)
    )


def settable(kind: type) -> dict[str, Settable]:
    """The attributes that may be set on objects of this class, by name."""
    found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, Settable)}
