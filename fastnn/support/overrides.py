"""Blocks in which something else holds for the calling thread, as ``with fastnn.threads(1):``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import get_ident
from typing import Any, TypeVar

Self = TypeVar("Self", bound="Override")


class Override(ABC):
    """Base of such blocks; they nest, and several threads may use one object at once."""

    def __init__(self) -> None:
        self._before: dict[int, list[Any]] = {}  # by thread: what held outside each open block

    @abstractmethod
    def _override(self) -> Any:
        """Set the block's value for the calling thread; returns what was set before."""

    @abstractmethod
    def _restore(self, before: Any) -> None:
        """Set what `_override` has returned."""

    def __enter__(self: Self) -> Self:
        self._before.setdefault(get_ident(), []).append(self._override())
        return self

    def __exit__(self, *error: object) -> None:
        outside = self._before[get_ident()]
        self._restore(outside.pop())
        if not outside:
            del self._before[get_ident()]
