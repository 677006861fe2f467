"""Ctrl-C during `fit`: the step that runs is finished, and the history so far is returned.

In a loop of fits that would end only one of them: a second press soon after the first, in whichever
fit it comes, is an ordinary KeyboardInterrupt."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOON = 1.0  # seconds within which two presses are one wish: to leave the program's loop too

_last_press = -math.inf  # when Ctrl-C was pressed in a fit
_followed = threading.local()  # its `block`: that of another thread, or None


class CtrlC:
    """A block in which Ctrl-C only sets `pressed`, so that no step is torn; pressed once more, it
    ends the block at once.

    Where a press comes within a second of the one before, be that in an earlier block, the block
    ends in KeyboardInterrupt.  A handler other than Python's is left alone, as are threads, which
    no signal reaches: they may follow another thread's block."""

    def __init__(self) -> None:
        self._pressed = self._twice = False
        self._outer: CtrlC | None = getattr(_followed, "block", None)

    @property
    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed in this block, or in the one that the thread follows."""
        return self._pressed or (self._outer is not None and self._outer.pressed)

    @pressed.setter
    def pressed(self, value: bool) -> None:
        self._pressed = value

    def __enter__(self) -> CtrlC:
        self._mine = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._mine:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: object) -> None:
        global _last_press
        now = time.monotonic()
        self._twice |= now - _last_press < _SOON
        _last_press = now
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.pressed |= kind is KeyboardInterrupt
        if self._twice and kind is not KeyboardInterrupt:
            raise KeyboardInterrupt
        return kind is KeyboardInterrupt and not self._twice


@contextmanager
def following(block: CtrlC) -> Iterator[None]:
    """Ctrl-C in that block, of whichever thread, counts as pressed in those of this thread."""
    before = getattr(_followed, "block", None)
    _followed.block = block
    try:
        yield
    finally:
        _followed.block = before
