"""The learning-rate range test: a short training in which the learning rate grows by each step."""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastnn.averages import ExponentialAverage
from fastnn.data.batching import batches
from fastnn.optimizers import Adam
from fastnn.support import checks
from fastnn.training.train_step import TrainStep

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer

_BETA, _LAG = 0.9, 9  # the average is that of beta / (1 - beta) = 9 steps ago
_FIRST, _DIVERGED = 10, 4.0  # so many times the largest of the first losses ends the test


class LearningRateRange(NamedTuple):
    """The result of `learning_rate_range`; `fastnn.plot.learning_rate_range` shows it."""

    rates: NDArray[np.float64]  # (steps,): the learning rate of each step that was done
    losses: NDArray[np.float64]  # (steps,): the batch's loss before it
    smoothed: NDArray[np.float64]  # (steps,): their `ExponentialAverage`, beta 0.9
    suggestion: float  # a tenth of the rate at which the loss is smallest; NaN if it never falls

    def __repr__(self) -> str:
        tried = f"rates={self.rates[0]:.3g} to {self.rates[-1]:.3g}, " if len(self.rates) else ""
        return (
            f"LearningRateRange(steps={len(self.rates)}, {tried}suggestion={self.suggestion:.3g})"
        )


def learning_rate_range(
    model: Network,
    X: ArrayLike,
    y: ArrayLike,
    loss: Loss,
    optimizer: Optimizer | None = None,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    seed: int = 0,
) -> LearningRateRange:
    """Train a copy of the model while the learning rate grows from `low` to `high`, step by step
    by the same factor, and say where the loss falls and where it diverges.

    The range test of L. N. Smith, 2017, for a model that has not been trained yet.  It ends early
    once the smoothed loss is 4 times the largest of the first 10, or a number is not finite.
    `suggestion` is a good rate to begin with: a tenth of the one at which the loss is smallest,
    which is 9 steps before the smoothed loss is.

    The model and the optimizer (default: `Adam`; the rate it has does not count) stay as they are,
    and the same arguments give the same numbers.  Shapes: `X` and `y` as in `fit`, in batches of
    `batch_size` in an order by `seed`.  Raises as `TrainStep` does, and TypeError or ValueError
    unless 0 < low < high and steps >= 2, or for an optimizer that has stepped another model.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 32, activation="relu"), fastnn.Dense(32, 10))
    >>> found = fastnn.learning_rate_range(model, X, y, fastnn.SoftmaxCrossEntropy())
    >>> 1e-3 < found.suggestion < 1e-1
    True
    """
    low, high = checks.positive(low, "low"), checks.positive(high, "high")
    if not low < high:
        raise ValueError(f"high: expected more than low, {low!r}, got {high!r}")
    steps, optimizer = checks.whole(steps, "steps", 2), Adam() if optimizer is None else optimizer
    checks.objects(model=model, loss=loss, optimizer=optimizer)
    model, optimizer = copy.deepcopy(model), copy.deepcopy(optimizer)
    step, average = TrainStep(model, loss, optimizer), ExponentialAverage(_BETA)
    rows = min(checks.positive_int(batch_size, "batch_size"), max([1, *np.shape(X)[:1]]))
    data = batches(X, y, rows, seed=seed, drop_last=True)
    endless = itertools.chain.from_iterable(itertools.repeat(data))
    losses, smoothed = list[float](), list[float]()
    rates = np.geomspace(low, high, steps)
    for rate, (xb, yb) in zip(rates, endless, strict=False):
        optimizer.learning_rate = float(rate)
        try:
            value = step(xb, yb)
        except FloatingPointError:
            if not losses:
                raise
            break
        losses.append(value)
        smoothed.append(average.update(value))
        if smoothed[-1] > _DIVERGED * max(losses[:_FIRST]):
            break
    best = int(np.argmin(smoothed)) - _LAG
    suggestion = float(rates[best]) / 10 if best > 0 else math.nan
    return LearningRateRange(rates[: len(losses)], np.array(losses), np.array(smoothed), suggestion)
