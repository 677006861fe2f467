"""Learning-rate schedules: the factor of the optimizer's learning rate as a function of time.

A schedule is any function ``(t, epochs) -> factor``; `fit` calls it once an epoch with an array,
the middle of each step, or if it takes no arrays, once for each step.  A rate that depends on
results, as that of `ReduceOnPlateau`, needs a callback."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import checks, exact
from fastnn.support.settings import Checked, Guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Times = NDArray[np.float64]
    Factors = Callable[[Any, int], Any]


class Schedule(Guarded, ABC):
    """Base of the schedules below.

    ``schedule(t, epochs)`` returns the factors, float64 shaped like `t`: t counts epochs from the
    beginning of training, 2.5 being the middle of the third, and `epochs` is their total number.
    In a loop of your own: ``optimizer.learning_rate = rate * schedule(t, epochs)``.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(1, 1))
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [1.0, 2.0], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.1),
    ...     epochs=4, progress=False, schedule=lambda t, epochs: 1 - t / epochs,
    ... )
    >>> [round(rate, 4) for rate in history.learning_rate]
    [0.0875, 0.0625, 0.0375, 0.0125]
    """

    def __call__(self, t: float | Times, epochs: int) -> Times:
        return np.asarray(self._factors(np.asarray(t, np.float64), epochs), np.float64)

    @abstractmethod
    def _factors(self, t: Times, epochs: int) -> Any:
        """The factors by the schedule's formula."""


class StepDecay(Schedule):
    """factor^floor(t / every): the rate is multiplied by `factor` after each `every` epochs.

    `every` is an integer >= 1, `factor` lies in (0, 1].

    >>> StepDecay(10, factor=0.5)([0, 9.9, 10, 20], epochs=30)
    array([1.  , 1.  , 0.5 , 0.25])
    """

    every = Checked(checks.positive_int)
    factor = Checked(checks.up_to_one)

    def __init__(self, every: int, factor: float = 0.1) -> None:
        self.every, self.factor = every, factor

    def _factors(self, t: Times, epochs: int) -> Any:
        return exact.power(self.factor, np.floor(t / self.every))


class ExponentialDecay(Schedule):
    """factor^t: an epoch multiplies the rate by `factor`, in (0, 1], step by step.

    >>> ExponentialDecay(0.5)([0, 1, 2], epochs=3)
    array([1.  , 0.5 , 0.25])
    """

    factor = Checked(checks.up_to_one)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def _factors(self, t: Times, epochs: int) -> Any:
        return exact.power(self.factor, t)


class Cosine(Schedule):
    """From 0 to 1 in a straight line over `warmup` epochs, then down to `end` by half a cosine.

    I. Loshchilov, F. Hutter, 2017, without restarts; the warm-up is that of P. Goyal et al., 2017.
    `warmup` is a number >= 0, `end` lies in [0, 1).

    >>> Cosine(warmup=2)([1, 2, 6, 10], epochs=10)
    array([0.5, 1. , 0.5, 0. ])
    """

    warmup = Checked(checks.not_negative)
    end = Checked(checks.fraction)

    def __init__(self, *, warmup: float = 0.0, end: float = 0.0) -> None:
        self.warmup, self.end = warmup, end

    def _factors(self, t: Times, epochs: int) -> Any:
        return _rise_and_fall(t, self.warmup, epochs, self.end, t / max(self.warmup, 1e-300))


class OneCycle(Schedule):
    """From `start` to 1 by half a cosine over `rise` of the training, then to `end` by another.

    L. N. Smith, N. Topin, 2018.  The optimizer's learning rate is the highest one, and may be a few
    times that of a constant schedule.  `rise`, `start` and `end` lie in [0, 1).

    >>> OneCycle(rise=0.25, start=0.0, end=0.0)([0.5, 1, 2.5, 4], epochs=4)
    array([0.5, 1. , 0.5, 0. ])
    """

    rise = Checked(checks.fraction)
    start = Checked(checks.fraction)
    end = Checked(checks.fraction)

    def __init__(self, *, rise: float = 0.3, start: float = 0.04, end: float = 1e-4) -> None:
        self.rise, self.start, self.end = rise, start, end

    def _factors(self, t: Times, epochs: int) -> Any:
        top = self.rise * epochs
        return _rise_and_fall(t, top, epochs, self.end, _half_cosine(t, 0, top, self.start, 1.0))


class CosLog(Schedule):
    """1/2 (1 - cos(2 π log2(1 + (2^cycles - 1) t / epochs))).

    From 0 up to 1 and down to 0, `cycles` times, each twice as long as the one before.
    D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024.  `cycles` is an integer from 1 to 64.

    >>> CosLog(cycles=2)([0, 1, 3, 6, 9], epochs=9).round(2) + 0.0
    array([0.  , 0.93, 0.  , 0.93, 0.  ])
    """

    cycles = Checked[int](lambda value, name: checks.whole(value, name, 1, 64))

    def __init__(self, cycles: int = 4) -> None:
        self.cycles = cycles

    def _factors(self, t: Times, epochs: int) -> Any:
        way = exact.log2(1 + (2**self.cycles - 1) * np.clip(t / epochs, 0, 1))
        return 0.5 - 0.5 * exact.cos_turns(way)


class FlatCosine(Schedule):
    """1 for the part `flat` of the training, then down to 0 by half a cosine.

    `flat` lies in [0, 1).

    >>> FlatCosine()([0, 5, 7.5, 10], epochs=10).round(2)
    array([1. , 1. , 0.5, 0. ])
    """

    flat = Checked(checks.fraction)

    def __init__(self, flat: float = 0.5) -> None:
        self.flat = flat

    def _factors(self, t: Times, epochs: int) -> Any:
        return _half_cosine(t, self.flat * epochs, epochs, 1.0, 0.0)


def _rise_and_fall(t: Times, top: float, epochs: int, end: float, rise: Times) -> Times:
    """`rise` until `top`, then half a cosine from 1 to `end`."""
    return np.where(t < top, rise, _half_cosine(t, top, epochs, 1.0, end))


def _half_cosine(t: Times, begin: float, end: float, first: float, last: float) -> Times:
    """From `first` at `begin` to `last` at `end`, and `last` after that."""
    way = np.clip((t - begin) / max(end - begin, 1e-300), 0, 1)
    return last + (first - last) / 2 * (1 + exact.cos_turns(way / 2))


def rates(
    schedule: Factors,
    rate: float | Times,
    epoch: int,
    epochs: int,
    steps: int,
    largest: float = sys.float_info.max,
    what: str = "learning rate",
) -> Times:
    """The rates of all steps of the epoch with the number `epoch`: shape (steps,), or (steps, n)
    for n rates that the schedule has in common; `what` they are is said in messages.

    Raises ValueError unless the schedule returns finite numbers >= 0, one in all or one a step, and
    no rate exceeds `largest`."""
    t = epoch + (np.arange(steps) + 0.5) / steps
    try:
        result = schedule(t, epochs)
    except (TypeError, ValueError):  # the function takes no arrays
        result = np.array([schedule(moment, epochs) for moment in t.tolist()])
    try:
        factors = np.broadcast_to(np.asarray(result, np.float64), t.shape)
    except (TypeError, ValueError) as error:
        wanted = f"schedule: expected a factor for each of {steps} steps"
        raise ValueError(f"{wanted} ({error})") from None
    with np.errstate(over="ignore"):
        found = np.multiply.outer(factors, rate)
    scaled = found.T  # its steps, like those of the factors, come last
    good = (scaled >= 0) & (scaled <= largest) & (factors >= 0) & (factors < math.inf)
    if not good.all():
        *which, step = np.argwhere(~good)[0]
        factor, its = float(factors[step]), np.asarray(rate)[tuple(which)]
        if 0 <= factor < math.inf:
            raise ValueError(
                f"schedule: {factor:g} times the {what} {its:g} is too large; expected at most "
                f"{largest:g}"
            )
        raise ValueError(f"schedule: expected finite factors >= 0, got {factor}")
    return found
