"""Where the rows of `fit` come from: arrays, in memory or on disk, or the user's own batches.

Each source yields the losses of an epoch, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data import batches
from fastnn.support.arrays import describe
from fastnn.training.samples import check_batch, check_part, check_samples, check_smallest_batch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.training.samples import ClassWeight, Samples
    from fastnn.training.step import TrainStep

    Array = NDArray[Any]
    Part = tuple[int, NDArray[np.float64]]  # rows, and the losses of their batches


class Rows:
    """A source of samples in arrays: an epoch takes each row once."""

    def __init__(self, data: Samples, batch_size: int, shuffle: bool, seed: int) -> None:
        self.rows, self.finished = len(data.X), False
        self.order: batches | None = batches(data.X, data.y, batch_size, shuffle, seed)
        self._data, self._batch_size = data, min(batch_size, self.rows)
        self._permutation = np.arange(0)

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return -(-self.rows // self._batch_size)

    def epoch(
        self, step: TrainStep, rates: NDArray[np.float64] | None, seen: list[Array] | None
    ) -> Iterator[Part]:
        """Train on all rows; the outputs are appended to `seen`, unless it is None."""
        assert self.order is not None
        size = self._batch_size
        self._permutation, self.finished, done = self.order.permutation(), False, 0
        for losses in step.epoch(self._data, self._permutation, size, seen, rates):
            rows = min(len(losses) * size, self.rows - done)
            done += rows
            self.finished = done == self.rows
            yield rows, losses

    def mean_loss(self, losses: NDArray[np.float64]) -> float:
        """The mean over the rows of the last epoch, from the losses of its batches."""
        weights = np.ones(self.rows)
        if self._data.weight is not None:
            weights = self._data.weight[self._permutation].astype(np.float64)
        return _mean(losses, np.add.reduceat(weights, np.arange(0, self.rows, self._batch_size)))

    def targets(self) -> Array:
        """All targets in the order of the last epoch."""
        targets: Array = self._data.y.take(self._permutation, axis=0)
        return targets


class Stream:
    """A source of batches that the user makes: one pass over the object is an epoch."""

    finished = False

    def __init__(
        self, data: Iterable[Any], model: Network, loss: Loss, class_weight: ClassWeight | None
    ) -> None:
        self.order = data if isinstance(data, batches) else None
        self.rows = 0  # in an epoch: unknown before the first is done
        self.steps = len(data) if isinstance(data, Sized) else 0  # 0: unknown
        self._data, self._model, self._loss, self._classes = data, model, loss, class_weight
        self._sizes: list[int] = []  # the batches' rows
        self._weights: list[float] = []
        self._targets: list[Array] = []
        self._penalties = np.zeros(0)  # what the losses of the last batches lack

    def epoch(
        self, step: TrainStep, rates: NDArray[np.float64] | None, seen: list[Array] | None
    ) -> Iterator[Part]:
        """Train on all batches; the outputs are appended to `seen`, unless it is None."""
        self._sizes, self._weights, self._targets = [], [], []
        for number, batch in enumerate(self._data):
            where = f"batch {number + 1}: "
            data = self._check(batch, where)
            if self._targets and data.y.shape[1:] != self._targets[0].shape[1:]:
                first, its = self._targets[0].shape[1:], data.y.shape[1:]
                raise ValueError(f"{where}y: expected rows of shape {first} as before, got {its}")
            if rates is not None:
                if number == len(rates):
                    raise ValueError(f"X: its __len__ is {number}, but there are more batches")
                step.set_rate(rates[number])
            try:
                if step.recorded:
                    data = check_batch(self._model, self._loss, data.X, data.y, data.weight)
                value = step.train(data)
            except ValueError as error:
                raise ValueError(f"{where}{error}") from None
            weight = data.weight
            self._sizes.append(len(data.X))
            self._weights.append(
                len(data.X) if weight is None else float(weight.sum(dtype=np.float64))
            )
            if seen is not None and step.outputs is not None:
                seen.append(step.outputs)
                self._targets.append(data.y.copy())
            yield len(data.X), value.copy()
        if not self._sizes:
            raise ValueError("X: expected batches, got none in this epoch")
        self.rows = sum(self._sizes)
        last = self._sizes[len(self._sizes) - step.waiting :]
        self._penalties = step.missing_penalty() / np.array(last, float)
        step.flush()

    def _check(self, batch: Any, where: str) -> Samples:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(f"{where}expected (x, y) or (x, y, sample_weight), got {batch!r:.80}")
        x, y, *weight = batch
        sample_weight = weight[0] if weight else None
        return check_part(self._model, self._loss, x, y, sample_weight, self._classes, where)

    def mean_loss(self, losses: NDArray[np.float64]) -> float:
        """The mean over the rows of the last epoch, from the losses of its batches."""
        losses[len(losses) - len(self._penalties) :] += self._penalties
        return _mean(losses, np.array(self._weights))

    def targets(self) -> Array:
        """All targets in the order of the last epoch."""
        return np.concatenate(self._targets)


Source = Rows | Stream


def _mean(losses: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    by_batch: list[float] = weights.tolist()
    total: float = sum(map(mul, losses.tolist(), by_batch))
    return total / sum(by_batch)


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
) -> Source:
    """The source for `fit`'s arguments: arrays, or, where y is None, X's own batches."""
    if y is None:
        _check_stream(X, epochs, sample_weight, class_weight)
        return Stream(X, model, loss, class_weight)
    data = check_samples(model, loss, X, y, sample_weight, class_weight)
    check_smallest_batch(model, data.X.shape, batch_size)
    return Rows(data, batch_size, shuffle, seed)


def _check_stream(X: Any, epochs: int, sample_weight: Any, class_weight: Any) -> None:
    """Raise TypeError or ValueError where X, without targets beside it, is no iterable of batches
    that will do."""
    if not isinstance(X, Iterable) or isinstance(X, np.ndarray):
        raise TypeError(
            "y: expected targets beside X; without them X must be an iterable of batches "
            f"(x, y), got {describe(X)}"
        )
    if isinstance(X, Iterator) and epochs > 1:
        raise ValueError(
            f"X: a {type(X).__name__} gives its batches once, not for {epochs} epochs; give an "
            "object whose __iter__ begins anew, such as fastnn.batches(...), or epochs=1"
        )
    if sample_weight is not None:
        raise ValueError("sample_weight: in batches of your own, it is their third part")
    if isinstance(class_weight, str):
        raise ValueError("class_weight: 'balanced' needs all targets; give the weights by class")
