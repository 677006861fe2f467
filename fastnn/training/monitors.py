"""Callbacks that follow a result, or keep the training in a file."""

from __future__ import annotations

import errno
import os
import warnings
from math import nan
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.files.checkpoint import FitState, check_savable, read_training, write_training
from fastnn.network import Network
from fastnn.support import checks
from fastnn.training.callbacks import Callback
from fastnn.training.watch import Watch, known_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.training.run import Run


class EarlyStopping(Callback):
    """Ends training after `patience` epochs in a row without a better result; with None never, to
    keep the best epoch alone.

    `monitor` names a column of the history; ``"val_loss"`` stands for ``"validation_loss"``, as in
    Keras.  An epoch is better if its result is by more than `min_delta` below the best one; above
    it with `higher_is_better`, which must be stated for a metric of your own.  A result that is NaN
    is no better, and warned of at the first such epoch.  Epochs without validation (see
    `validation_every` of `fit`) do not count for one who monitors it.

    As in Keras, the first `start_from_epoch` epochs do not count either, and with a `baseline` only
    an epoch that is also better than that begins the patience anew.

    With `restore_best` the model ends as it was after the best epoch, whatever ended the training:
    the first of those with the same best result, or with ``ties="last"`` the last, which has
    trained longer (accuracies often tie).  A tie does not begin the patience anew.
    Results before a `resume` count, so that a training which this has ended stops at once;
    `ModelCheckpoint` keeps the best model too, wherever it is not the last.  A file that lacks it,
    as one of a training without this callback, is warned of where it would be restored.

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
        patience: int | None = 10,
        min_delta: float = 0.0,
        higher_is_better: bool | None = None,
        restore_best: bool = True,
        baseline: float | None = None,
        start_from_epoch: int = 0,
        ties: str = "first",
    ) -> None:
        self._watch = Watch(monitor, min_delta, higher_is_better, baseline, start_from_epoch, ties)
        self.patience = None if patience is None else checks.positive_int(patience, "patience")
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
            self._keep(run, run.model.state_dict())
        elif self.restore_best and self.best_epoch in run.restored:
            self._keep(run, run.restored[self.best_epoch])
        self._stop_if_due(run)

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.better(run) and self.restore_best:
            self._keep(run, run.model.state_dict())
        self._stop_if_due(run)

    def _keep(self, run: Run, state: dict[str, NDArray[Any]]) -> None:
        """Hold the best state, which checkpoints of the run keep too."""
        self._best_state = state
        run.kept[id(self)] = self.best_epoch, state

    def _stop_if_due(self, run: Run) -> None:
        if self.patience is not None and self._watch.waited >= self.patience:
            self.stopped_epoch = run.epoch
            run.stop()

    def on_fit_end(self, run: Run) -> None:
        if self._best_state is not None:  # also if an epoch behind the best was only begun
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
    After each step down, `cooldown` epochs are not counted.

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
        cooldown: int = 0,
    ) -> None:
        self._watch = Watch(monitor, min_delta, higher_is_better)
        self.factor = checks.up_to_one(factor, "factor")
        self.patience = checks.positive_int(patience, "patience")
        self.min_rate = checks.not_negative(min_rate, "min_rate")
        self.eps = checks.not_negative(eps, "eps")
        self.cooldown = checks.whole(cooldown, "cooldown", 0)

    def on_fit_begin(self, run: Run) -> None:
        if not hasattr(run.optimizer, "learning_rate"):
            raise TypeError(f"ReduceOnPlateau: {run.optimizer!r} has no learning_rate")
        self._watch.start(run, self._is_due)

    def _is_due(self) -> bool:
        """Whether the patience is over; it begins anew then."""
        if self._watch.waited < self.patience:
            return False
        self._watch.rest(self.cooldown)
        return True

    def on_epoch_end(self, run: Run) -> None:
        if self._watch.better(run) or not self._is_due():
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

    `path` may have fields for the epoch and its results, as ``"{epoch:03d}-{val_loss:.3f}.st"``,
    so that each epoch has a file of its own (a brace that is none is written twice).

    With `keep_better` a file that there is already is not overwritten by an epoch that is no better
    than its own: its result, the last of the history in it, is where the best so far begins.

    Raises TypeError or ValueError for settings out of their range, and in `fit` before the first
    step what `fastnn.save_checkpoint` raises for the model and the optimizer, ValueError for a
    field that is no result and for a file without a result to be compared with, FileNotFoundError
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
        keep_better: bool = False,
    ) -> None:
        self.path = os.fsdecode(path)
        self.every = checks.positive_int(every, "every")
        self.keep_better = checks.flag(keep_better, "keep_better")
        try:
            self._fields = [
                name for _, name, _, _ in Formatter().parse(self.path) if name is not None
            ]
        except ValueError as error:
            raise ValueError(f"path: {self.path!r}: {error}") from None
        self._watch = None
        if monitor is not None:
            if self.every > 1:
                raise ValueError(f"every: with monitor all epochs count, expected 1, got {every}")
            self._watch = Watch(monitor, min_delta, higher_is_better)
        if self.keep_better and (monitor is None or self._fields):
            raise ValueError("keep_better: needs a monitor, and a path that is always the same")

    def on_fit_begin(self, run: Run) -> None:
        check_savable(run.model, run.optimizer)
        self._check_fields(run)
        if not os.path.isdir(os.path.dirname(os.path.abspath(self.path))):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        if self._watch is not None:
            self._watch.start(run)
            if self.keep_better and os.path.exists(self.path):
                self._watch.raise_bar(self._result_in_file(self._watch.name))

    def _check_fields(self, run: Run) -> None:
        """Raise ValueError unless all that stands in braces is known and can be written so."""
        for field in self._fields:
            if known_name(field, run.columns) not in ("epoch", *run.columns):
                known = ", ".join(["epoch", *run.columns])
                raise ValueError(f"path: expected fields among {known}, got {field!r}")
        try:
            self.path.format(**{name: 1 if name == "epoch" else 1.0 for name in self._fields})
        except (ValueError, LookupError) as error:
            raise ValueError(f"path: {self.path!r} cannot be filled in: {error}") from None

    def _result_in_file(self, name: str) -> float:
        """The result of that name of the model that the file holds."""
        history = read_training(self.path, Network)[3]
        if history is None or name not in history:
            raise ValueError(f"keep_better: {self.path} has no result {name!r} to compare with")
        return history[name][-1]

    def on_epoch_end(self, run: Run) -> None:
        if self._watch is not None:
            due = self._watch.better(run)
        else:
            due = run.epoch % self.every == 0 or run.epoch == run.epochs or run.stopped
        if due:
            self._write(run)

    def _write(self, run: Run) -> None:
        values = {"epoch": run.epoch, **run.results}
        path = self.path.format(
            **{field: values.get(known_name(field, run.columns), nan) for field in self._fields}
        )
        order = None if run.order is None else run.order.state_dict()
        kept = {epoch: state for epoch, state in run.kept.values() if epoch < run.epoch}
        fit = FitState(run.arguments, kept, run.average)
        write_training(path, run.model, run.optimizer, order, run.history, fit)
