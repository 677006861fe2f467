"""Where the rows of `fit` come from: arrays, in memory or on disk, or the user's own batches.

Each source yields the losses of an epoch, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import weight_averages
from fastnn.data import batches
from fastnn.losses import as_rows
from fastnn.support.arrays import at_positions, describe
from fastnn.training.samples import (
    Samples,
    check_part,
    check_samples,
    check_targets_alike,
    count_batches,
    counted,
    least_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.training.samples import ClassWeight
    from fastnn.training.scheduled import Table
    from fastnn.training.train_step import TrainStep

    Array = NDArray[Any]
    Losses = tuple[int, NDArray[np.float64]]  # rows, and the losses of their batches
    Measured = tuple[Array, Array, Array | None]  # outputs, targets, weights


class Rows:
    """A source of samples in arrays: an epoch takes each row once, but for those that `drop_last`
    leaves out."""

    def __init__(
        self, data: Samples, model: Network, batch_size: int, shuffle: bool, seed: int,
        drop_last: bool,
    ) -> None:  # fmt: skip
        n = len(data.X)
        self.steps = count_batches(model, data.X.shape, batch_size, drop_last)
        self.data, self._batch_size = data, min(batch_size, n)
        self.rows = self.steps * self._batch_size if drop_last else n
        self.finished, self.done = False, 0
        self.order: batches | None = batches(data.X, data.y, batch_size, shuffle, seed)
        self._permutation = np.arange(0)

    def epoch(
        self,
        step: TrainStep,
        table: Table | None,
        seen: list[Array] | None,
        before: Callable[[], None] | None,
    ) -> Iterator[Losses]:
        """Train on all rows; the outputs are appended to `seen`, unless it is None, and `before` is
        called before each batch."""
        assert self.order is not None
        order = self._permutation = self.order.permutation()[: self.rows]
        self.finished, self.done, size, steps = False, 0, self._batch_size, self.steps
        batch = 0
        for losses in step.epoch(self.data, order, size, steps, seen, table, before):
            first, batch = self.done, batch + len(losses)
            self.finished = batch == steps
            self.done = self.rows if self.finished else batch * size
            yield self.done - first, losses

    def epochs(
        self, step: TrainStep, number: int, keep: bool
    ) -> Iterator[tuple[NDArray[np.float64], list[Array]]] | None:
        """So many epochs in one native call: the losses of each, and its outputs if they are to be
        kept; afterwards an error that ended them.  None where they cannot be so."""
        assert self.order is not None
        before = self.order.state_dict()
        orders = np.stack([self.order.permutation()[: self.rows] for _ in range(number)])
        seen: list[Array] | None = [] if keep else None
        trained = step.replay_epochs(self.data, orders, self._batch_size, self.steps, seen)
        if trained is None:
            self.order.load_state_dict(before)
            return None
        return self._epochs_done(orders, *trained, seen or [])

    def _epochs_done(
        self,
        orders: NDArray[np.int64],
        losses: NDArray[np.float64],
        error: FloatingPointError | None,
        seen: list[Array],
    ) -> Iterator[tuple[NDArray[np.float64], list[Array]]]:
        self.finished, self.done = True, self.rows
        for epoch, its in enumerate(losses):
            self._permutation = orders[epoch]
            yield its, [outputs[epoch] for outputs in seen]
        if error is not None:
            raise error

    def mean_loss(self, losses: NDArray[np.float64]) -> float:
        """The mean over the rows done in the last epoch, from the losses of its batches."""
        if self.data.weight is None:
            sizes = np.full(len(losses), float(self._batch_size))
            sizes[-1] += self.done - sizes.sum()
            return _mean(losses, sizes)
        weights = np.ones(self.done)
        if self.data.weight is not None:
            weights = self.data.weight[self._permutation[: self.done]].astype(np.float64)
            weights = weights.reshape(self.done, -1).sum(axis=1)
        return _mean(losses, np.add.reduceat(weights, np.arange(len(losses)) * self._batch_size))

    def measured(self, seen: list[Array]) -> Measured:
        """What metrics take: the outputs that the last epoch has seen, with targets and weights."""
        order, weight = self._permutation[: self.done], self.data.metric_weight
        weight = None if weight is None else weight.take(order, axis=0)
        return np.concatenate(seen), self.data.y.take(order, axis=0), weight

    def update_batch_norm(self, model: Network) -> None:
        """Compute batch norm's running statistics anew, from all rows."""
        weight_averages.update_batch_norm(model, self.data.X, self._batch_size)


class Stream:
    """A source of batches that the user makes: one pass over the object is an epoch."""

    finished = False

    def __init__(
        self,
        data: Iterable[Any],
        model: Network,
        loss: Loss,
        class_weight: ClassWeight | None,
        steps_per_epoch: int | None = None,
    ) -> None:
        # an epoch of so many steps may end within a pass, where an order has no state to keep
        self.order = data if isinstance(data, batches) and steps_per_epoch is None else None
        self.rows = 0  # in an epoch: unknown before the first is done
        self._in_data = _known_steps(data, model)  # batches
        self.steps = steps_per_epoch or self._in_data
        self._per_epoch = steps_per_epoch
        self._pass: Iterator[Any] = iter(())  # over the data, which goes on in the next epoch
        self._data, self._model, self._loss, self._classes = data, model, loss, class_weight
        self._sizes: list[int] = []  # the batches' rows
        self._weights: list[float] = []
        self._row: tuple[int, ...] = ()  # the shape of the first batch's
        self._targets: list[Array] = []
        self._metric_weights: list[Array | None] = []
        self._penalties = np.zeros(0)  # what the losses of the last batches lack

    @property
    def done(self) -> int:
        """How many rows the last epoch has had."""
        return sum(self._sizes)

    def epoch(
        self,
        step: TrainStep,
        table: Table | None,
        seen: list[Array] | None,
        before: Callable[[], None] | None,
    ) -> Iterator[Losses]:
        """Train on all batches; the outputs are appended to `seen`, unless it is None, and `before`
        is called before each batch."""
        self._begin_epoch()
        for number, (where, data) in enumerate(self._parts()):
            value = self._train(step, data, where, number, table, before)
            self._sizes.append(len(data.X))
            self._weights.append(counted(self._loss, data, step.positions))
            if seen is not None and step.outputs is not None:
                seen.append(step.outputs)
                self._targets.append(data.y.copy())
                weight = data.metric_weight
                self._metric_weights.append(None if weight is None else weight.copy())
            yield len(data.X), np.array([value])
        self._end_epoch(step)

    def _begin_epoch(self) -> None:
        self._sizes, self._weights = [], []
        self._targets, self._metric_weights = [], []
        self._penalties = np.zeros(0)

    def _end_epoch(self, step: TrainStep) -> None:
        if not self._sizes:
            raise ValueError("X: expected batches, got none in this epoch")
        self.rows = self.done
        last = self._sizes[len(self._sizes) - step.waiting :]
        self._penalties = step.missing_penalty() / np.array(last, float)
        step.flush()

    def _train(
        self,
        step: TrainStep,
        data: Samples,
        where: str,
        number: int,
        table: Table | None,
        before: Callable[[], None] | None,
    ) -> float:
        """Train on a batch, the epoch's `number`-th; returns the loss."""
        self._row = data.X.shape[1:] if not self._sizes else self._row
        if self._targets and self._row == data.X.shape[1:]:
            check_targets_alike(data.y.shape[1:], self._targets[0].shape[1:], where)
        if table is not None:
            if number >= len(table):
                raise ValueError(f"X: its __len__ is {len(table)}, but there are more batches")
            step.set_numbers(table[number])
        if before is not None:
            before()
        try:
            return step.train(data)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None

    def _parts(self) -> Iterator[tuple[str, Samples]]:
        """The batches, checked, each with how messages about it begin.

        One that is too small for batch norm joins the next one, or is left out as the last of an
        epoch."""
        small: Samples | None = None
        for number, batch in enumerate(self._batches()):
            where = f"batch {number + 1}: "
            data = self._check(batch, where)
            if small is not None:
                data = _joined(small, data, where)
            if len(data.X) == 1 and least_rows(self._model, data.X.shape[1:]) > 1:
                small = data.rows(np.arange(1))  # a copy: the user may use the memory again
            else:
                small = None
                yield where, data
        if small is not None and not self._sizes:
            yield where, small  # batch norm says what is wrong

    def skip(self, epochs: int) -> None:
        """Take the batches of so many epochs, which were trained on before a resume."""
        for _ in range(epochs if self._per_epoch else 0):
            for _ in self._batches():
                pass

    def _batches(self) -> Iterator[Any]:
        """The batches as they come, but those of `fastnn.batches` as `Rows` makes them."""
        if self._per_epoch is not None:
            for _ in range(self._per_epoch):
                yield self._next()
            return
        if type(self._data) is not batches or self._in_data == len(self._data):
            yield from self._data
            return
        order, size = self._data.permutation(), self._data.batch_size
        for i in range(self._in_data):
            end = None if i + 1 == self._in_data else (i + 1) * size
            index = order[i * size : end]
            yield tuple(array.take(index, axis=0) for array in self._data.arrays)

    def _next(self) -> Any:
        """The next batch of a pass over the data that goes on over the epochs; behind its end
        another one begins."""
        for batch in self._pass:
            return batch
        self._pass = iter(self._data)
        for batch in self._pass:
            return batch
        raise ValueError(f"X: gives no more batches, expected {self._per_epoch} in each epoch")

    def _check(self, batch: Any, where: str) -> Samples:
        x, y, weight = own_batch(batch, where)
        return check_part(self._model, self._loss, x, y, weight, self._classes, where)

    def mean_loss(self, losses: NDArray[np.float64]) -> float:
        """The mean over the rows of the last epoch, from the losses of its batches."""
        losses[len(losses) - len(self._penalties) :] += self._penalties
        return _mean(losses, np.array(self._weights))

    def measured(self, seen: list[Array]) -> Measured:
        """What metrics take: the outputs that the last epoch has seen, with targets and weights."""
        return together(seen, self._targets, self._metric_weights)

    def update_batch_norm(self, model: Network) -> None:
        """Do nothing: the user's batches are gone through once an epoch."""


Source = Rows | Stream


def own_batch(batch: Any, where: str) -> tuple[Any, Any, Any]:
    """x, y and sample_weight, maybe None, of a batch that the user made."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise ValueError(f"{where}expected (x, y) or (x, y, sample_weight), got {batch!r:.80}")
    x, y, *weight = batch
    return x, y, weight[0] if weight else None


def check_begins_anew(data: Any, name: str, passes: int, what: str) -> None:
    """Raise ValueError for an iterator where more than one pass is needed."""
    if isinstance(data, Iterator) and passes > 1:
        raise ValueError(
            f"{name}: a {type(data).__name__} gives its batches once, not for {passes} {what}; "
            "give an object whose __iter__ begins anew, such as fastnn.batches(...), or epochs=1"
        )


def _known_steps(data: Iterable[Any], model: Network) -> int:
    """The number of batches in an epoch, 0: unknown."""
    if type(data) is batches and data.arrays[0].ndim > 1:
        with suppress(ValueError):  # of rows that the model does not take: the first batch says so
            return count_batches(model, data.arrays[0].shape, data.batch_size, data.drop_last)
    return len(data) if isinstance(data, Sized) else 0


def _joined(first: Samples, second: Samples, where: str) -> Samples:
    """The rows of both; ValueError where they are of other shapes."""
    if first.X.shape[1:] != second.X.shape[1:] or first.y.shape[1:] != second.y.shape[1:]:
        raise ValueError(f"{where}expected rows of the shape that the batch of one row before has")
    X, y = (np.concatenate(parts) for parts in zip(first[:2], second[:2], strict=True))
    sizes = [len(first.X), len(second.X)]
    weight = _in_order([first.weight, second.weight], sizes)
    metric_weight = _in_order([first.metric_weight, second.metric_weight], sizes)
    return Samples(X, y, weight, y, metric_weight)


def together(outputs: list[Array], targets: list[Array], weights: list[Array | None]) -> Measured:
    """Outputs, targets and weights of batches, each one after the other.

    Where batches have other lengths than others, each position is a row."""
    if len({array.shape[1:-1] for array in outputs}) > 1:
        weights = [
            None if weight is None else at_positions(weight, "sample_weight", array.shape[:-1])
            for weight, array in zip(weights, outputs, strict=True)
        ]
        rows = map(as_rows, outputs, targets, weights)
        outputs, targets, weights = map(list, zip(*rows, strict=True))
    weight = _in_order(weights, list(map(len, outputs)))
    return np.concatenate(outputs), np.concatenate(targets), weight


def _in_order(weights: list[Array | None], sizes: list[int]) -> Array | None:
    """The weights of batches of these sizes one after the other, 1 where a batch has none; None
    where all have none."""
    some = next((weight for weight in weights if weight is not None), None)
    if some is None:
        return None
    return np.concatenate([
        np.ones((size, *some.shape[1:]), some.dtype) if weight is None else weight
        for weight, size in zip(weights, sizes, strict=True)
    ])  # fmt: skip


def _mean(losses: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Σ weights losses / Σ weights, added in order (`sum` has other bits from Python 3.12 on)."""
    return float((losses * weights).cumsum()[-1] / weights.cumsum()[-1])


def make_source(
    model: Network,
    loss: Loss,
    X: Any,
    y: ArrayLike | None,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    seed: int,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
    drop_last: bool,
    steps_per_epoch: int | None,
    stream: Callable[..., Stream] = Stream,
) -> Source:
    """The source for `fit`'s arguments: arrays, or, where y is None, X's own batches."""
    if y is None:
        passes = epochs if steps_per_epoch is None else 1
        _check_stream(X, passes, sample_weight, class_weight, drop_last)
        return stream(X, model, loss, class_weight, steps_per_epoch)
    if steps_per_epoch is not None:
        raise ValueError("steps_per_epoch: needs an iterable of batches; arrays end by themselves")
    data = check_samples(model, loss, X, y, sample_weight, class_weight)
    return Rows(data, model, batch_size, shuffle, seed, drop_last)


def _check_stream(
    X: Any, epochs: int, sample_weight: Any, class_weight: Any, drop_last: bool
) -> None:
    """Raise TypeError or ValueError where X, without targets beside it, is no iterable of batches
    that will do."""
    if not isinstance(X, Iterable) or isinstance(X, np.ndarray):
        raise TypeError(
            "y: expected targets beside X; without them X must be an iterable of batches "
            f"(x, y), got {describe(X)}"
        )
    check_begins_anew(X, "X", epochs, "epochs")
    if drop_last:
        raise ValueError("drop_last: needs arrays; fastnn.batches has a drop_last of its own")
    if sample_weight is not None:
        raise ValueError("sample_weight: in batches of your own, it is their third part")
    if isinstance(class_weight, str):
        raise ValueError("class_weight: 'balanced' needs all targets; give the weights by class")
