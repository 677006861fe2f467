"""Run: a training as its callbacks see it, and what they may do to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn.history import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.data import batches
    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.weight_averages import WeightAverage

    State = dict[str, NDArray[Any]]

LAST_COLUMN = "samples_per_second"  # of what `fit` measures; what callbacks log stands behind it


class Run:
    """A training as its callbacks see it.

    `model`, `loss`, `optimizer` and `average` (of the weights, or None); `epochs` that are wanted;
    `history` with all results so far; `order`, the `batches` whose order of the rows is used, or
    None for an iterable of one's own; `columns`, the names of the results; a callback that logs its
    own may append its name in `on_fit_begin`, so that others can monitor it; `batch`, how many
    batches of the epoch are finished, and `batch_loss`, the loss of the last of them.

    >>> import fastnn
    >>> class Last(fastnn.Callback):
    ...     def on_fit_end(self, run):
    ...         print(f"{run.epoch} of {run.epochs} epochs, at {run.optimizer.learning_rate}")
    >>> model = fastnn.Sequential(fastnn.Dense(1, 1))
    >>> history = model.fit(
    ...     [[1.0]], [1.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1), epochs=3,
    ...     callbacks=[Last()], progress=False,
    ... )
    3 of 3 epochs, at 0.1
    """

    def __init__(
        self,
        model: Network,
        loss: Loss,
        optimizer: Optimizer,
        epochs: int,
        order: batches | None,
        columns: list[str],
        arguments: dict[str, Any] | None = None,
        validation_every: int = 1,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.epochs, self.order, self.columns = epochs, order, columns
        self.history = History()
        self.stopped = False
        self.average: WeightAverage | None = None  # between epochs, the model has its weights
        self.batch, self.batch_loss = 0, math.nan
        self.arguments = arguments or {}  # of `fit`, by name: those that a resume must repeat
        self.kept: dict[int, tuple[int, State]] = {}  # by callbacks: the state after an epoch
        self.restored: dict[int, State] = {}  # those that were kept before a resume
        self._validated = [name for name in columns if name.startswith("validation_")]
        self._every = validation_every
        self._settled: set[str] = set()  # the names that have their result of the last epoch

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return self.history.epochs

    @property
    def results(self) -> dict[str, float]:
        """The last epoch's line of the history."""
        return {name: values[-1] for name, values in self.history.items()}

    @property
    def measured(self) -> dict[str, float]:
        """The last epoch's results, without those of a validation that was not due."""
        return {
            name: value
            for name, value in self.results.items()
            if not self.left_out(name, self.epoch)
        }

    def due(self, epoch: int) -> bool:
        """Whether validation follows that epoch."""
        return epoch % self._every == 0 or epoch == self.epochs

    def left_out(self, name: str, epoch: int) -> bool:
        """Whether that epoch has no result of that name because validation was not due."""
        if name not in self._validated or self.due(epoch):
            return False
        return math.isnan(self.history[name][epoch - 1])

    def record(self, results: dict[str, float]) -> None:
        """Note the results of the epoch that is done, before callbacks log theirs."""
        there = results | dict.fromkeys(set(self._validated) - set(results), math.nan)
        self.history.append({name: there[name] for name in self.columns if name in there})
        self._settled = set(results)

    def take_history(self, history: History) -> None:
        """Go on with the history of a training that is resumed."""
        for column in history.values():
            column += [math.nan] * (history.epochs - len(column))
        history.interrupted = False
        self.history, self._settled = history, set(history)
        if self.epoch < self.epochs and not self.due(self.epoch):  # no longer the last one
            for name in self._validated:
                history[name][-1] = math.nan

    def log(self, name: str, value: float) -> None:
        """Add a result to those of the last epoch, for the history and the files.

        An epoch for which nobody logs a name that others have, has NaN there.  Raises ValueError
        for a name that the epoch has already, and before the first epoch is done.

        >>> import fastnn
        >>> class Norm(fastnn.Callback):
        ...     def on_epoch_end(self, run):
        ...         if run.epoch == 2:
        ...             run.log("norm", 1.5)
        >>> history = fastnn.Sequential(fastnn.Dense(1, 1)).fit(
        ...     [[1.0]], [1.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1),
        ...     epochs=3, callbacks=[Norm()], progress=False,
        ... )
        >>> history.norm
        [nan, 1.5, nan]
        """
        if not self.epoch:
            raise ValueError(f"log: {name!r} belongs to an epoch, and none is done yet")
        if name in self._settled:
            raise ValueError(f"log: epoch {self.epoch} has a result {name!r} already")
        self._settled.add(name)
        if name not in self.columns:
            self.columns.append(name)
        self.history.setdefault(name, [math.nan] * self.epoch)[-1] = float(value)

    def stop(self) -> None:
        """End the training after this epoch.

        In `on_batch_end`, and in `on_batch_begin`, the epoch ends after the batch, with
        `accumulate` after the update that it is part of.  Its results are those of the batches so
        far; it is validated and counts as one: a `resume` goes on with the next.
        """
        self.stopped = True
