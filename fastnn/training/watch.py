"""Watch: follows a result of the epochs for the callbacks that monitor one."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING

from fastnn.measures import NAMES, grows
from fastnn.support import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastnn.training.run import Run


def known_name(name: str, columns: list[str]) -> str:
    """The column that a name stands for: Keras says val_loss."""
    return name if name in columns else re.sub("^val_", "validation_", name)


class Watch:
    """Follows the result `monitor`, and counts the epochs that are no better than those before.

    An epoch is the best so far if its result is by more than `min_delta` better than all before,
    from the epoch after `start_from_epoch` on; with `ties` = "last" also if it is the same as the
    best one's, which ends no waiting.  `waited` counts the epochs since then; with a
    `baseline`, since the best one that was also better than that.

    Epochs without validation are passed over by those who watch one of its results."""

    def __init__(
        self,
        monitor: str,
        min_delta: float,
        higher_is_better: bool | None,
        baseline: float | None = None,
        start_from_epoch: int = 0,
        ties: str = "first",
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: expected the name of a result, got {monitor!r}")
        self.monitor = self.name = monitor
        self.min_delta = checks.not_negative(min_delta, "min_delta")
        if higher_is_better is None:
            higher_is_better = grows(re.sub("^val(idation)?_", "", monitor))
        if higher_is_better is None:
            raise ValueError(
                f"higher_is_better: expected True or False for {monitor!r}, which is none of "
                f"fastnn's own results: 'loss', {NAMES}, each also behind 'validation_'"
            )
        self.sign = -1.0 if checks.flag(higher_is_better, "higher_is_better") else 1.0
        self.baseline = None if baseline is None else checks.finite(baseline, "baseline")
        self.ties = checks.choice(ties, "ties", ("first", "last"))
        self.start_from_epoch = checks.whole(start_from_epoch, "start_from_epoch", 0)
        self._begin()

    def _begin(self) -> None:
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self._resting, self._warned = 0, False

    def start(self, run: Run, after_each: Callable[[], object] = lambda: None) -> None:
        """Begin anew, or with the epochs before a resume; `after_each` of them is called."""
        self.name = known_name(self.monitor, run.columns)
        if self.name not in run.columns:
            lacking = self.name.startswith("validation_") and "validation_loss" not in run.columns
            raise ValueError(
                f"monitor: expected one of {', '.join(run.columns)}, got {self.monitor!r}"
                + ", which needs validation data" * lacking
            )
        self._begin()
        for epoch, value in enumerate(run.history.get(self.name, ()), 1):
            if not run.left_out(self.name, epoch):
                self._look(epoch, value)
                after_each()

    def better(self, run: Run) -> bool:
        """Whether the last epoch is the best so far.  It counts the epochs that are not, so it must
        be asked after each."""
        value = run.results.get(self.name, math.nan)
        if run.left_out(self.name, run.epoch):
            return False
        if math.isnan(value) and not self._warned:
            self._warned = True
            warnings.warn(
                f"monitor: {self.name} is nan after epoch {run.epoch}, which counts as no better",
                UserWarning,
                stacklevel=checks.users_level(),
            )
        return self._look(run.epoch, value)

    def raise_bar(self, value: float) -> None:
        """Let an epoch be the best only if it is also better than this result of another run."""
        if math.isnan(self.best) or self.sign * (self.best - value) > 0:
            self.best = value

    def rest(self, epochs: int) -> None:
        """Count anew, after so many epochs that are not counted."""
        self.waited, self._resting = 0, epochs

    def _look(self, epoch: int, value: float) -> bool:
        if epoch <= self.start_from_epoch:
            return False
        better = self._beats(value, self.best)
        best = better or (self.ties == "last" and value == self.best)
        if best:
            self.best, self.best_epoch = value, epoch
        self.waited += 1
        if self._resting or (better and self._beats(value, self.baseline)):
            self.waited = 0
        self._resting = max(0, self._resting - 1)
        return best

    def _beats(self, value: float, other: float | None) -> bool:
        """Whether a result is better than the other one, if there is one."""
        if math.isnan(value) or other is None or math.isnan(other):
            return not math.isnan(value)
        return self.sign * (other - value) > self.min_delta
