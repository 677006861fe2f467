"""Callbacks: what happens between the epochs and batches of `fit`, besides training.

A callback is told when training, its epochs and their batches begin and end, and gets the `Run`.
It may look, stop the run, change settings and the learning rate.  Those that follow a result are in
monitors.py."""

from __future__ import annotations

import csv
import importlib
import os
from typing import TYPE_CHECKING, Any

from fastnn.support import checks
from fastnn.training.run import LAST_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    Steps are replayed many in one call.  Where a callback defines `on_batch_begin` or
    `on_batch_end`, they are replayed one by one, with the same bits.

    An error out of a callback ends the training: a note says whose it is, and its attribute
    `history` is the history so far.  After a `resume`, `run.history` has the epochs before it
    already in `on_fit_begin`: what a callback of yours remembers, it counts from there.  There it
    may also `stop` a training that it has ended before; a file does not say who ended one.

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

    def on_batch_begin(self, run: Run) -> None:
        """Before each batch; ``run.batch`` of the epoch's are finished."""

    def on_batch_end(self, run: Run) -> None:
        """After each batch; ``run.batch_loss`` is its loss.  With `accumulate`, the model is
        updated after the last batch of each group."""

    def on_epoch_end(self, run: Run) -> None:
        """After each epoch; ``run.results`` holds its results and those of its validation."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, also where an error or Ctrl-C ended the training."""


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
        for name, value in run.measured.items():
            self._writer.add_scalar(name, value, run.epoch)
        self._writer.flush()

    def on_fit_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def takes(callback: Callback, hook: str) -> bool:
    """Whether the callback does something in that method."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


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
