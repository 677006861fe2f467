"""Training: the loop over epochs around `TrainStep`, with its history.

`fit` checks its input before the first step, so that an error leaves the model as it was.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import closing, contextmanager
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _arrays, _chain, _checks
from fastnn.data import batches
from fastnn.history import History
from fastnn.layers import BatchNorm
from fastnn.losses import Hinge, Loss, SoftmaxCrossEntropy
from fastnn.metrics import chosen_metrics
from fastnn.step import Samples, TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from fastnn import _progress
    from fastnn.metrics import Metric
    from fastnn.model import Sequential
    from fastnn.optimizers import Optimizer

    Array = NDArray[Any]

_CHECKED_ROWS = 4096  # targets shown to the loss at a time, before training


def fit(
    model: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int = 10,
    batch_size: int = 32,
    validation_data: tuple[ArrayLike, ...] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    sample_weight: ArrayLike | None = None,
    metrics: Sequence[str | Metric] | None = None,
    progress: bool = True,
) -> History:
    """`Sequential.fit`, of which the model is the first argument; all is told there."""
    from fastnn import _progress  # what it imports is slow to import

    epochs = _checks.positive_int(epochs, "epochs")
    batch_size = _checks.positive_int(batch_size, "batch_size")
    _checks.parts(loss=loss, optimizer=optimizer, model=model)
    chosen = chosen_metrics(metrics, loss)
    with model.exclusive("fit"):
        data = _prepare(model, loss, X, y, sample_weight)
        _check_targets(model, loss, data)
        validation = None
        if validation_data is not None:
            validation = _prepare(model, loss, *_triple(validation_data), "validation ")
            _check_targets(model, loss, validation, "validation ")
        _check_smallest_batch(model, data.X.shape, batch_size)
        order = batches(data.X, data.y, batch_size, shuffle, seed)
        step, history = TrainStep(model, loss, optimizer), History()
        step.take_over()
        samples = step.prepare(data)
        display = _progress.display(progress, epochs, len(data.X))
        with _CtrlC() as ctrl_c, closing(display):
            for epoch in range(1, epochs + 1):
                with _naming(epoch):
                    trained = _train_epoch(step, samples, order, chosen, display, ctrl_c)
                if trained is None:
                    break
                results, seconds = trained
                if validation is not None:
                    measured = _measure(model, loss, validation, chosen)
                    results |= {f"validation_{name}": v for name, v in measured.items()}
                results |= {"seconds": seconds, "samples_per_second": len(data.X) / seconds}
                history.append(results)
                display.epoch(results)
                if ctrl_c.pressed:
                    break
        history.interrupted = ctrl_c.pressed
        if not history.interrupted:
            step.leave()
    return history


class _CtrlC:
    """Until it is left, Ctrl-C only sets `pressed`, so that no step is torn.  A second one ends the
    block at once.

    Another handler than Python's own is left alone, as are threads, which no signal reaches."""

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> _CtrlC:
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


def evaluate(
    model: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    loss: Loss,
    metrics: Sequence[str | Metric] | None = None,
    sample_weight: ArrayLike | None = None,
    batch_size: int = 1024,
) -> dict[str, float]:
    """Loss (without penalty) and metrics of the model's predictions, by name.

    Shapes, `metrics` and errors are as in `fit`; the metrics count all rows of positive weight
    alike.  Changes nothing.
    """
    _checks.parts(loss=loss)
    chosen = chosen_metrics(metrics, loss)
    data = _prepare(model, loss, X, y, sample_weight)
    return _measure(model, loss, data, chosen, batch_size)


def _train_epoch(
    step: TrainStep,
    samples: Samples,
    order: batches,
    metrics: Mapping[str, Metric],
    display: _progress.Silent,
    ctrl_c: _CtrlC,
) -> tuple[dict[str, float], float] | None:
    """One pass over the data: its results and seconds, or None where Ctrl-C ended it.

    The outputs are kept, so that the metrics are computed once an epoch.
    """
    start, size = time.perf_counter(), order.batch_size
    rows = order.permutation()
    seen: list[Array] | None = [] if metrics else None
    losses: list[NDArray[np.float64]] = []
    done = 0
    for part in step.epoch(samples, rows, size, seen):
        losses.append(part.copy())
        new = min(len(part) * size, len(rows) - done)
        done += new
        display.step(new, part)
        if ctrl_c.pressed and done < len(rows):
            return None
    seconds = time.perf_counter() - start
    weights = np.ones(len(rows))
    if samples.weight is not None:
        weights = samples.weight[rows].astype(np.float64)
    of_batches = np.add.reduceat(weights, np.arange(0, len(rows), size)).tolist()
    total = sum(map(mul, np.concatenate(losses).tolist(), of_batches))
    results = {"loss": total / sum(of_batches)}
    if seen:
        outputs, targets = np.concatenate(seen), order.arrays[1].take(rows, axis=0)
        results |= {name: float(metric(outputs, targets)) for name, metric in metrics.items()}
    return results, seconds


def _measure(
    model: Sequential,
    loss: Loss,
    data: Samples,
    metrics: Mapping[str, Metric],
    batch_size: int = 1024,
) -> dict[str, float]:
    outputs = model.predict(data.X, batch_size)
    results = {"loss": loss(outputs, data.y, data.weight)[0]}
    return results | {name: float(metric(outputs, data.y)) for name, metric in metrics.items()}


@contextmanager
def _naming(epoch: int) -> Iterator[None]:
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch}, {error}") from None


# ---- what comes in -----------------------------------------------------------------------------


def _prepare(
    model: Sequential,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    where: str = "",
) -> Samples:
    """Finite arrays in the model's dtype, without rows of weight 0."""
    X, y = _arrays.numeric_array(X, f"{where}X"), _arrays.numeric_array(y, f"{where}y")
    model._check_shape(X.shape, f"{where}X")
    _arrays.same_length(X=X, y=y)
    X = _arrays.cast(X, model.dtype, f"{where}X")
    if model._codes is not None:
        model._codes.check(X, f"{where}X")
    y = _as_targets(y, loss, model.dtype, f"{where}y")
    if sample_weight is None:
        return Samples(X, y, None)
    name = f"{where}sample_weight"
    return _weighted(X, y, _arrays.numeric_array(sample_weight, name), name)


def _check_targets(model: Sequential, loss: Loss, data: Samples, where: str = "") -> None:
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


def _weighted(X: Array, y: Array, weight: Array, name: str) -> Samples:
    if weight.shape != (len(X),):
        raise ValueError(f"{name}: expected shape ({len(X)},), got {weight.shape}")
    weight = _arrays.cast(weight, X.dtype, name)
    if weight.min() < 0:
        raise ValueError(f"{name}: expected no negative weight, got {weight.min()}")
    used = weight > 0
    if not used.any():
        raise ValueError(f"{name}: all weights are 0")
    with np.errstate(over="ignore"):
        if np.isinf(weight.sum(dtype=np.float64)):
            raise ValueError(f"{name}: expected a finite sum, got one beyond float64")
    return Samples(X, y, weight) if used.all() else Samples(X[used], y[used], weight[used])


def _triple(validation_data: Any) -> tuple[ArrayLike, ArrayLike, ArrayLike | None]:
    wanted = "validation_data: expected (X, y) or (X, y, sample_weight)"
    if not isinstance(validation_data, tuple | list):
        raise ValueError(f"{wanted}, got {type(validation_data).__name__}")
    if len(validation_data) not in (2, 3):
        raise ValueError(f"{wanted}, got {len(validation_data)} parts")
    X, y, *weight = validation_data
    return X, y, weight[0] if weight else None


def _check_smallest_batch(model: Sequential, shape: tuple[int, ...], batch_size: int) -> None:
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
