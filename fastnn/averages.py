"""Averages of recent values: the smoothed loss of a progress bar, the mean of a drifting signal.

(Those of a model's weights are in weight_averages.py.)"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.support import checks


class ExponentialAverage:
    """v = beta v + (1 - beta) value, corrected for its start at 0: v / (1 - beta^t).

    With `beta`, in [0, 1), it averages about the last 1 / (1 - beta) values; t counts the updates.
    The correction is Adam's (D. P. Kingma, J. Ba, 2015): the first average is the first value.
    It takes numbers, or arrays of one shape, and computes in float64.  For a model's weights there
    is `ExponentialMovingAverage`.

    Raises ValueError or TypeError for another `beta`, and for a value of another shape than before.

    >>> average = ExponentialAverage(0.9)
    >>> average.update(5.0), round(average.update(6.0), 4)
    (5.0, 5.5263)
    >>> average.update([1.0, 2.0])
    Traceback (most recent call last):
    ValueError: value: expected shape () as before, got (2,)
    """

    def __init__(self, beta: float) -> None:
        self.beta = checks.fraction(beta, "beta")
        self._weighted: Any = 0.0
        self._weight = 0.0  # 1 - beta^t, the sum of all values' weights

    def update(self, value: Any) -> Any:
        """Add one value; returns the corrected average."""
        value = value if type(value) is float else np.asarray(value, dtype=np.float64)[()]
        if self._weight and np.shape(value) != np.shape(self._weighted):
            raise ValueError(
                f"value: expected shape {np.shape(self._weighted)} as before, got {np.shape(value)}"
            )
        self._weighted = self.beta * self._weighted + (1.0 - self.beta) * value
        self._weight = self.beta * self._weight + (1.0 - self.beta)
        return self.value

    @property
    def value(self) -> Any:
        """The corrected average; NaN before the first update."""
        if not self._weight:
            return float("nan")
        average = self._weighted / self._weight
        return average if isinstance(average, np.ndarray) else float(average)

    def __repr__(self) -> str:
        return f"ExponentialAverage(beta={self.beta!r})"
