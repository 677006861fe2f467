"""Errors that end a training: they say in whose code, and keep the history so far."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastnn.support import checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastnn.training.run import Run


@contextmanager
def named(what: str, run: Run) -> Iterator[None]:
    """Note at an error out of this block that it came from `what`, and after how many epochs."""
    try:
        yield
    except Exception as error:
        checks.note(error, f"raised in {what}, after {run.epoch} epochs")
        raise


@contextmanager
def keep_history(run: Run) -> Iterator[None]:
    """Give what ends the training, be it Ctrl-C, the run's history as an attribute."""
    try:
        yield
    except BaseException as error:
        kept: Any = error
        with suppress(AttributeError):  # a class with __slots__ may refuse
            kept.history = run.history
        run.history.interrupted |= isinstance(error, KeyboardInterrupt)
        if run.epoch:
            checks.note(
                error, f"the history of the {run.epoch} finished epochs is this error's .history"
            )
        raise
