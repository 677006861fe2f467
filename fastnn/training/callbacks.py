"""Callbacks: what happens between the epochs of `fit`, besides training.

A callback is told when training and its epochs begin and end, and gets the `Run`.  It may look,
stop the run, change settings and the learning rate."""

from __future__ import annotations

import csv
import errno
import importlib
import math
import os
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.files.checkpoint import check_savable, save_checkpoint
from fastnn.measures import NAMES, grows
from fastnn.support import checks
from fastnn.training.run import LAST_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fastnn.training.run import Run


class _Mark:
    """Says, in a callback's ``__dict__``, that it belongs to a fit; in a copy of it, nothing."""

    name = "_Callback__mark"  # which no attribute of a derived class is called

    def __init__(self, owner: object = None) -> None:
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _Mark, ()


class Callback:
    """Base of the callbacks; derive from it and override what you need.

    They are told in their order, those that write files last.  One object belongs to one fit at a
    time: RuntimeError for a second one.  TypeError for a class with another method `on_...`, which
    nobody would call.

    An error out of a callback ends the training: a note says whose it is, and its attribute
    `history` is the history so far.  After a `resume`, `run.history` has the epochs before it
    already in `on_fit_begin`: what a callback of yours remembers, it counts from there.

    >>> import fastnn
    >>> class Norm(fastnn.Callback):
    ...     def on_epoch_end(self, run):
    ...         run.log("norm", np.linalg.norm(run.model.flat_parameters))
    ...         run.optimizer.learning_rate /= 2
    ...         if run.results["loss"] < 1e-3:
    ...             run.stop()
    """

    _last = False  # whether it is told after the others

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        hooks = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in hooks:
                raise TypeError(f"{cls.__name__}.{name}: expected one of {', '.join(hooks)}")

    def _enter(self) -> None:
        """Mark that the callback belongs to a fit; RuntimeError if it belongs to another."""
        mark = _Mark(self)
        # look and mark in one: between two operations another thread's fit could come
        found = vars(self).setdefault(_Mark.name, mark)
        if found is not mark and found.owner is self:
            raise RuntimeError(f"callbacks: {self!r} is part of a fit already; make one for each")
        vars(self)[_Mark.name] = mark  # also over the mark that a copy has of its original

    def _leave(self) -> None:
        vars(self).pop(_Mark.name, None)

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before each epoch; ``run.epoch`` of them are finished."""

    def on_epoch_end(self, run: Run) -> None:
        """After each epoch; ``run.results`` holds its results and those of its validation."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, also where an error or Ctrl-C ended the training."""


class _Watch:
    """Follows a result of the epochs, and tells whether it still gets better."""

    def __init__(self, monitor: str, min_delta: float, higher_is_better: bool | None) -> None:
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
        self._begin()

    def _begin(self) -> None:
        self.best, self.best_epoch, self.waited, self.warned = math.nan, 0, 0, False

    def start(self, run: Run) -> None:
        """Begin anew, or with the epochs before a resume."""
        self.name = self.monitor
        if self.name not in run.columns:  # Keras says val_loss
            self.name = re.sub("^val_", "validation_", self.monitor)
        if self.name not in run.columns:
            lacking = self.name.startswith("validation_") and "validation_loss" not in run.columns
            raise ValueError(
                f"monitor: expected one of {', '.join(run.columns)}, got {self.monitor!r}"
                + ", which needs validation data" * lacking
            )
        self._begin()
        for epoch, value in enumerate(run.history.get(self.name, ()), 1):
            self._look(epoch, value)

    def better(self, run: Run) -> bool:
        """Whether the last epoch is the best so far, by more than min_delta.  It counts the epochs
        that are not, so it must be asked after each."""
        value = run.results.get(self.name, math.nan)
        if math.isnan(value) and not self.warned:
            self.warned = True
            warnings.warn(
                f"monitor: {self.name} is nan after epoch {run.epoch}, which counts as no better",
                UserWarning,
                stacklevel=checks.users_level(),
            )
        return self._look(run.epoch, value)

    def _look(self, epoch: int, value: float) -> bool:
        gain = self.sign * (self.best - value)
        if math.isnan(value) or (self.best_epoch and not gain > self.min_delta):
            self.waited += 1
            return False
        self.best, self.best_epoch, self.waited = value, epoch, 0
        return True


class EarlyStopping(Callback):
    """Ends training after `patience` epochs in a row without a better result.

    `monitor` names a column of the history; ``"val_loss"`` stands for ``"validation_loss"``, as in
    Keras.  An epoch is better if its result is by more than `min_delta` below the best one; above
    it with `higher_is_better`, which must be stated for a metric of your own.  A result that is NaN
    is no better, and warned of at the first such epoch.

    With `restore_best` the model ends as it was after the best epoch, whatever ended the training.
    Results before a `resume` count, so that a training which this has ended is not taken up again;
    but if the best epoch was before it, its model cannot be restored: a warning says so, and
    `ModelCheckpoint` keeps that model.

    Attributes: `best`, that result; `best_epoch`, counted from 1; `stopped_epoch`, None unless
    this has ended the training.

    Raises TypeError or ValueError for settings out of their range, and in `fit` before
    the first step for a `monitor` that the history will not have.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
    >>> stopping = EarlyStopping("validation_accuracy", patience=3)
    >>> history = model.fit(
    ...     X[:900], y[:900], validation_data=(X[900:], y[900:]), epochs=200, progress=False,
    ...     loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), callbacks=[stopping],
    ... )
    >>> history.epochs == stopping.stopped_epoch == stopping.best_epoch + 3
    True
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        higher_is_better: bool | None = None,
        restore_best: bool = True,
    ) -> None:
        self._watch = _Watch(monitor, min_delta, higher_is_better)
        self.patience = checks.positive_int(patience, "patience")
        self.restore_best = checks.flag(restore_best, "restore_best")
        self.stopped_epoch: int | None = None
        self._best_state: dict[str, NDArray[Any]] | None = None

    @property
    def best(self) -> float:
        return self._watch.best

    @property
    def best_epoch(self) -> int:
        return self._watch.best_epoch

    def on_fit_begin(self, run: Run) -> None:
        self._watch.start(run)
        self.stopped_epoch, self._best_state = None, None
        if self.restore_best and self.best_epoch == run.epoch > 0:
            self._best_state = run.model.state_dict()
        self._stop_if_due(run)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.better(run) and self.restore_best:
            self._best_state = run.model.state_dict()
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        if self._watch.waited >= self.patience:
            self.stopped_epoch = run.epoch
            run.stop()

    def on_fit_end(self, run: Run) -> None:
        if self._best_state is not None and self.best_epoch < run.epoch:
            run.model.load_state_dict(self._best_state)
        elif self.restore_best and 0 < self.best_epoch < run.epoch:
            warnings.warn(
                f"the best epoch, {self.best_epoch}, was before the resume: its model is not "
                "restored",
                UserWarning,
                stacklevel=checks.users_level(),
            )
        self._best_state = None


class ReduceOnPlateau(Callback):
    """Multiplies the learning rate by `factor` after `patience` epochs without a better result.

    `monitor`, `min_delta` and `higher_is_better` are as in `EarlyStopping`, `factor` lies in
    (0, 1).  The rate does not go below `min_rate`, and stays where it is once a step down would be
    no more than `eps`, as torch's does: from 1e-3 it ends at 1e-8, which a network in float32
    hardly notices.  With ``eps=0`` it ends at the smallest normal number of the model's dtype.

    Raises TypeError or ValueError as `EarlyStopping` does, and in `fit` before the first step for
    an optimizer without a `learning_rate`.

    >>> import fastnn
    >>> model, optimizer = fastnn.Sequential(fastnn.Dense(1, 1)), fastnn.SGD(0.5)
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [0.0, 0.0], loss=fastnn.MeanSquaredError(), optimizer=optimizer,
    ...     epochs=40, progress=False, callbacks=[ReduceOnPlateau("loss", patience=2)],
    ... )
    >>> optimizer.learning_rate < 0.5
    True
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        *,
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        higher_is_better: bool | None = None,
        min_rate: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self._watch = _Watch(monitor, min_delta, higher_is_better)
        self.factor = checks.up_to_one(factor, "factor")
        self.patience = checks.positive_int(patience, "patience")
        self.min_rate = checks.not_negative(min_rate, "min_rate")
        self.eps = checks.not_negative(eps, "eps")

    def on_fit_begin(self, run: Run) -> None:
        if not hasattr(run.optimizer, "learning_rate"):
            raise TypeError(f"ReduceOnPlateau: {run.optimizer!r} has no learning_rate")
        self._watch.start(run)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.better(run) or self._watch.waited % self.patience:
            return
        rate = run.optimizer.learning_rate
        least = max(self.min_rate, float(np.finfo(run.model.dtype).tiny))
        lower = max(rate * self.factor, min(rate, least))
        if rate - lower > self.eps:
            run.optimizer.learning_rate = lower


class ModelCheckpoint(Callback):
    """Writes the training to `path`, for `fastnn.load_checkpoint`, `fastnn.load` and the `resume`
    of `fit`, after every `every` epochs and after the last one.

    With `monitor`, which with `min_delta` and `higher_is_better` is as in `EarlyStopping`, it is
    written after every epoch that is the best so far instead.  The file is replaced in one move:
    a training that is killed leaves the last one whole.  Wherever it stands in the list, it is told
    after the other callbacks, so that what they change is in the file.

    Raises TypeError or ValueError for settings out of their range, and in `fit` before the first
    step what `fastnn.save_checkpoint` raises for the model and the optimizer, FileNotFoundError
    where the folder is missing; OSError when the file cannot be written.

    >>> import fastnn, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "training.safetensors")
    >>> def fit(epochs, resume=None):
    ...     model = fastnn.Sequential(fastnn.Dense(1, 1), seed=0)
    ...     model.fit(
    ...         [[1.0], [2.0]], [1.0, 2.0], loss=fastnn.MeanSquaredError(), epochs=epochs,
    ...         optimizer=fastnn.Adam(), callbacks=[ModelCheckpoint(path)], progress=False,
    ...         resume=resume,
    ...     )
    ...     return model.flat_parameters
    >>> _ = fit(epochs=3)
    >>> bool((fit(epochs=5, resume=path) == fit(epochs=5)).all())
    True
    """

    _last = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        monitor: str | None = None,
        min_delta: float = 0.0,
        higher_is_better: bool | None = None,
    ) -> None:
        self.path = os.fsdecode(path)
        self.every = checks.positive_int(every, "every")
        self._watch = None
        if monitor is not None:
            if self.every > 1:
                raise ValueError(f"every: with monitor all epochs count, expected 1, got {every}")
            self._watch = _Watch(monitor, min_delta, higher_is_better)

    def on_fit_begin(self, run: Run) -> None:
        check_savable(run.model, run.optimizer)
        if not os.path.isdir(os.path.dirname(os.path.abspath(self.path))):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        if self._watch is not None:
            self._watch.start(run)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch is not None:
            due = self._watch.better(run)
        else:
            due = run.epoch % self.every == 0 or run.epoch == run.epochs or run.stopped
        if due:
            order = None if run.order is None else run.order.state_dict()
            save_checkpoint(self.path, run.model, run.optimizer, order=order, history=run.history)


class CSVLogger(Callback):
    """Writes the history to `path`, a line of comma-separated values an epoch, as it grows.

    The first line names the columns; the first column is the epoch, counted from 1.  With
    `append` lines are added to a file that there is, each value under its name; else it is written
    anew, with the epochs before a `resume`.  A name that is first logged later becomes another
    column, behind the others, with nan in the lines before.

    Raises OSError where the file cannot be written, and before the first step ValueError for a
    file to append to whose columns are not those of the training.

    >>> import fastnn, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.csv")
    >>> model = fastnn.Sequential(fastnn.Dense(1, 1))
    >>> history = model.fit(
    ...     [[1.0]], [1.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1), epochs=2,
    ...     callbacks=[CSVLogger(path)], progress=False,
    ... )
    >>> with open(path) as file:
    ...     [line.split(",")[0] for line in file]
    ['epoch', '1', '2']
    """

    _last = True

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = checks.flag(append, "append")
        self._names: list[str] = []  # the file's columns

    def on_fit_begin(self, run: Run) -> None:
        self._names = []
        with open(self.path, "a+" if self.append else "w", newline="", encoding="utf-8") as file:
            if self.append:
                file.seek(0)
                self._names = next(csv.reader(file), [])
        if self._names:
            self._check_columns(run)
            return
        for epoch in range(1, run.epoch + 1):
            self._write(run, epoch)

    def _check_columns(self, run: Run) -> None:
        """Raise ValueError unless the file's columns are the run's; those behind fit's own, which
        callbacks have logged, may be missing now."""
        mine, behind = ["epoch", *run.columns], False
        fits = set(mine) <= set(self._names)
        for name in self._names:
            fits &= behind or name in mine
            behind |= name == LAST_COLUMN
        if not fits:
            raise ValueError(
                f"append: {self.path} has the columns {', '.join(self._names)}, expected "
                f"{', '.join(mine)}; give another path, or append=False to write it anew"
            )

    def on_epoch_end(self, run: Run) -> None:
        self._write(run, run.epoch)

    def _write(self, run: Run, epoch: int) -> None:
        line = {name: column[epoch - 1] for name, column in run.history.items()} | {"epoch": epoch}
        if any(name not in self._names for name in line):
            self._add_columns(line)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._names, restval="nan").writerow(line)

    def _add_columns(self, names: Iterable[str]) -> None:
        """Write the file's lines again, below a first line that has these names too."""
        lines: list[dict[str, str]] = []
        if self._names:
            with open(self.path, newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
        self._names = list(dict.fromkeys(["epoch", *self._names, *names]))
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._names, restval="nan", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(lines)


class TensorBoard(Callback):
    """Writes the history into `folder`, for TensorBoard, as scalars by epoch.

    Raises ImportError without tensorboardX (``pip install tensorboardX``).

    >>> callbacks = [TensorBoard("runs/first")]  # doctest: +SKIP
    """

    _last = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        try:
            self._writer_class = importlib.import_module("tensorboardX").SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard needs tensorboardX: pip install tensorboardX") from None
        self._writer: Any = None

    def on_fit_begin(self, run: Run) -> None:
        self._writer = self._writer_class(self.folder)

    def on_epoch_end(self, run: Run) -> None:
        for name, value in run.results.items():
            self._writer.add_scalar(name, value, run.epoch)
        self._writer.flush()

    def on_fit_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks in the order in which they are told; TypeError for what is no list of them."""
    if isinstance(callbacks, Callback) or not hasattr(callbacks, "__iter__"):
        hint = f"; write [{callbacks!r}]" if isinstance(callbacks, Callback) else ""
        raise TypeError(f"callbacks: expected a list, got {callbacks!r}{hint}")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            hint = f"; write {callback.__name__}()" if isinstance(callback, type) else ""
            raise TypeError(f"callbacks: expected fastnn.Callback objects, got {callback!r}{hint}")
    return sorted(found, key=lambda callback: callback._last)
