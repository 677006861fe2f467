"""What `fit` trains on: arrays, in memory or on disk, or the user's own batches.

Both are checked here, and brought into the form that steps take; each yields an epoch's losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _arrays, _chain, _checks
from fastnn.data import batches
from fastnn.layers import BatchNorm
from fastnn.losses import Hinge, Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy
from fastnn.step import Samples, TrainStep

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.model import Sequential

    Array = NDArray[Any]
    Part = tuple[int, NDArray[np.float64]]  # rows, and the losses of their batches
    ClassWeight = Mapping[int, float] | str

_CHECKED_ROWS = 4096  # targets shown to the loss at a time, before training


class Rows:
    """Arrays, of which an epoch takes each row once."""

    def __init__(
        self, data: Samples, step: TrainStep, batch_size: int, shuffle: bool, seed: int
    ) -> None:
        self.rows, self.finished = len(data.X), False
        self.order: batches | None = batches(data.X, data.y, batch_size, shuffle, seed)
        self._targets, self._weight, self._size = data.y, data.weight, min(batch_size, self.rows)
        self._samples = step.prepare(data)
        self._permutation = np.arange(0)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.rows // self._size)

    def epoch(
        self, step: TrainStep, rates: NDArray[np.float64] | None, seen: list[Array] | None
    ) -> Iterator[Part]:
        """Train on all rows; the outputs are appended to `seen`, unless it is None."""
        assert self.order is not None
        self._permutation, self.finished, done = self.order.permutation(), False, 0
        for losses in step.epoch(self._samples, self._permutation, self._size, seen, rates):
            rows = min(len(losses) * self._size, self.rows - done)
            done += rows
            self.finished = done == self.rows
            yield rows, losses

    def weights(self) -> NDArray[np.float64]:
        """Of the batches of the last epoch."""
        weights = np.ones(self.rows)
        if self._weight is not None:
            weights = self._weight[self._permutation].astype(np.float64)
        return np.add.reduceat(weights, np.arange(0, self.rows, self._size))

    def targets(self) -> Array:
        """Of the last epoch, in its order."""
        return self._targets.take(self._permutation, axis=0)


class Stream:
    """Batches that the user makes: one pass over the object is an epoch."""

    finished = False

    def __init__(
        self, data: Iterable[Any], model: Sequential, loss: Loss, class_weight: ClassWeight | None
    ) -> None:
        self.order = data if isinstance(data, batches) else None
        self.rows = 0  # in an epoch: unknown before the first is done
        self.steps = len(data) if isinstance(data, Sized) else 0  # 0: unknown
        self._data, self._model, self._loss, self._classes = data, model, loss, class_weight
        self._weights: list[float] = []
        self._targets: list[Array] = []

    def epoch(
        self, step: TrainStep, rates: NDArray[np.float64] | None, seen: list[Array] | None
    ) -> Iterator[Part]:
        self._weights, self._targets, rows = [], [], 0
        for number, batch in enumerate(self._data):
            where = f"batch {number + 1}: "
            x, y, weight = self._prepare(batch, where)
            if self._targets and y.shape[1:] != self._targets[0].shape[1:]:
                first, own = self._targets[0].shape[1:], y.shape[1:]
                raise ValueError(f"{where}y: expected rows of shape {first} as before, got {own}")
            if rates is not None:
                if number == len(rates):
                    raise ValueError(f"X: its __len__ is {number}, but there are more batches")
                step.set_rate(rates[number])
            try:
                value = step(x, y, weight)
            except ValueError as error:
                raise ValueError(f"{where}{error}") from None
            self._weights.append(len(x) if weight is None else float(weight.sum(dtype=np.float64)))
            if seen is not None and step.outputs is not None:
                seen.append(step.outputs)
                self._targets.append(y.copy())
            rows += len(x)
            yield len(x), np.array([value])
        if not rows:
            raise ValueError("X: expected batches, got none in this epoch")
        step.flush()
        self.rows = rows

    def _prepare(self, batch: Any, where: str) -> Samples:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(f"{where}expected (x, y) or (x, y, sample_weight), got {batch!r:.80}")
        x, y, *weight = batch
        given = weight[0] if weight else None
        return checked(self._model, self._loss, x, y, given, self._classes, where)

    def weights(self) -> NDArray[np.float64]:
        return np.array(self._weights)

    def targets(self) -> Array:
        return np.concatenate(self._targets)


Source = Rows | Stream


def make(
    step: TrainStep,
    X: Any,
    y: ArrayLike | None,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    seed: int,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
) -> Source:
    """What that step trains on: arrays, or, where y is None, X's own batches.  All is checked."""
    model, loss = step.model, step.loss
    if y is None:
        check_alone(X, epochs, sample_weight, class_weight)
        return Stream(X, model, loss, class_weight)
    data = prepare(model, loss, X, y, sample_weight, class_weight)
    check_smallest_batch(model, data.X.shape, batch_size)
    return Rows(data, step, batch_size, shuffle, seed)


# ---- checks ------------------------------------------------------------------------------------


def check_alone(X: Any, epochs: int, sample_weight: Any, class_weight: Any) -> None:
    """TypeError or ValueError where X, without targets beside it, is no iterable of batches that
    will do."""
    if not isinstance(X, Iterable) or isinstance(X, np.ndarray):
        raise TypeError(
            "y: expected targets beside X; without them X must be an iterable of batches "
            f"(x, y), got {_arrays.describe(X)}"
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


def prepare(
    model: Sequential,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    where: str = "",
) -> Samples:
    """`checked`, the targets judged by the loss, without rows of weight 0."""
    data = checked(model, loss, X, y, sample_weight, class_weight, where)
    _check_targets(model, loss, data, where)
    if data.weight is None or data.weight.all():
        return data
    used = data.weight > 0
    if not used.any():
        name = "sample_weight" if class_weight is None else "class_weight"
        raise ValueError(f"{where}{name}: all weights are 0")
    return Samples(data.X[used], data.y[used], data.weight[used])


def checked(
    model: Sequential,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
    where: str,
) -> Samples:
    """Finite arrays in the model's dtype."""
    X, y = _arrays.numeric_array(X, f"{where}X"), _arrays.numeric_array(y, f"{where}y")
    model._check_shape(X.shape, f"{where}X")
    _arrays.same_length(X=X, y=y)
    X = _arrays.cast(X, model.dtype, f"{where}X")
    if model._codes is not None:
        model._codes.check(X, f"{where}X")
    y = _as_targets(y, loss, model.dtype, f"{where}y")
    weight = None
    if sample_weight is not None:
        weight = _checked_weight(sample_weight, X, f"{where}sample_weight")
    if class_weight is not None:
        classes = (model._shape_after(X.shape[1:]) or (None,))[-1]
        of_classes = _of_classes(class_weight, y, loss, classes)
        weight = (of_classes if weight is None else weight * of_classes).astype(X.dtype)
    return Samples(X, y, weight)


def _check_targets(model: Sequential, loss: Loss, data: Samples, where: str) -> None:
    """Let the loss judge all targets, on outputs of zeros: nothing is trained by then."""
    shape = model.predict(data.X[:1]).shape[1:]
    for start in range(0, len(data.y), _CHECKED_ROWS):
        part = data.y[start : start + _CHECKED_ROWS]
        try:
            loss(np.zeros((len(part), *shape), model.dtype), part, None)
        except ValueError as error:
            raise ValueError(f"{where}y: {error}") from None


def _as_targets(y: Array, loss: Loss, dtype: Any, name: str) -> Array:
    if y.dtype.kind == "f":
        return _arrays.cast(y, dtype, name)
    if isinstance(loss, SoftmaxCrossEntropy | Hinge):
        labels = y.ndim == 1 or isinstance(loss, Hinge)
        return y.astype(np.int64, copy=False) if labels else y.astype(dtype)
    return y.astype(dtype) if isinstance(loss, Loss) else y


def _checked_weight(sample_weight: ArrayLike, X: Array, name: str) -> Array:
    weight = _arrays.numeric_array(sample_weight, name)
    if weight.shape != (len(X),):
        raise ValueError(f"{name}: expected shape ({len(X)},), got {weight.shape}")
    weight = _arrays.cast(weight, X.dtype, name)
    if weight.min() < 0:
        raise ValueError(f"{name}: expected no negative weight, got {weight.min()}")
    with np.errstate(over="ignore"):
        if np.isinf(weight.sum(dtype=np.float64)):
            raise ValueError(f"{name}: expected a finite sum, got one beyond float64")
    return weight


def _of_classes(
    class_weight: ClassWeight, y: Array, loss: Loss, classes: int | None
) -> NDArray[np.float64]:
    """The weight of each row's class, of so many, if that is known."""
    if isinstance(loss, SigmoidCrossEntropy) and y.size == len(y):
        labels, classes = (y.reshape(-1) > 0.5).astype(np.int64), 2
    elif isinstance(loss, SoftmaxCrossEntropy | Hinge) and y.ndim == 1 and y.dtype == np.int64:
        labels = y
    else:
        raise ValueError(f"class_weight: needs one label a row, got y {y.shape} for {loss!r}")
    present, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if class_weight == "balanced":
        return (len(labels) / (len(present) * counts))[place]
    if not isinstance(class_weight, Mapping):
        wanted = "a dict of weights by class, or 'balanced'"
        raise TypeError(f"class_weight: expected {wanted}, got {class_weight!r}")
    by_class = {
        _checks.whole(
            label, "class_weight: class", 0, None if classes is None else classes - 1
        ): _checks.not_negative(weight, "class_weight")
        for label, weight in class_weight.items()
    }
    return np.array([by_class.get(label, 1.0) for label in present.tolist()])[place]


def validation(model: Sequential, loss: Loss, given: Any) -> Samples | None:
    """What `fit` measures after each epoch, checked: `given` is its validation_data."""
    if given is None:
        return None
    wanted = "validation_data: expected (X, y) or (X, y, sample_weight)"
    if not isinstance(given, tuple | list):
        raise ValueError(f"{wanted}, got {type(given).__name__}")
    if len(given) not in (2, 3):
        raise ValueError(f"{wanted}, got {len(given)} parts")
    X, y, *weight = given
    return prepare(model, loss, X, y, weight[0] if weight else None, where="validation ")


def check_smallest_batch(model: Sequential, shape: tuple[int, ...], batch_size: int) -> None:
    """ValueError where batch norm would train on a batch of one."""
    n = shape[0]
    if min(n, batch_size, n % batch_size or batch_size) > 1:
        return
    for layer, row in _chain.walk(model.layers, shape[1:]):
        # behind a layer that does not say what it gives, take it for what came in
        if isinstance(layer, BatchNorm) and math.prod((row or shape[1:])[:-1]) == 1:
            raise ValueError(
                f"batch_size: {n} rows in batches of {batch_size} leave a batch of one row, and "
                f"batch norm trains on at least 2; choose another batch_size"
            )
