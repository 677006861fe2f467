"""Ctrl-C during `fit`: the step that runs is finished, and the history so far is returned."""

from __future__ import annotations

import signal
import threading


class CtrlC:
    """A block in which Ctrl-C only sets `pressed`, so that no step is torn; a second one ends the
    block at once.

    A handler other than Python's is left alone, as are threads, which no signal reaches."""

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> CtrlC:
        self._mine = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._mine:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: object) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.pressed |= kind is KeyboardInterrupt
        return kind is KeyboardInterrupt
