"""Batches with weights as scikit-learn counts them: it divides the L2 penalty of each by the sum of
its weights, and weighs their losses by their rows.  Imports nothing of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data import batches
from fastnn.training.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fastnn.layers import Dense


def set_penalty(layers: Sequence[Dense], alpha: float, weight: NDArray[Any] | None) -> None:
    """Let the penalty of a batch with these weights be alpha / (2 Σ weight) Σ W²."""
    mean = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
    for layer in layers:
        if layer.l2 != alpha / mean:
            layer.l2 = alpha / mean


class WeightedBatches(batches):
    """`batches`, as many as `fit` makes of arrays, which set the layers' penalty for each of them
    and afterwards for all rows.  A batch comes with weights whose mean is 1, so that `fit` weighs
    its loss by its rows.

    `constant` is the mean over the last epoch, so weighed, of what `constant_of` gives for a batch.

    Each penalty is a new setting, so that steps are recorded anew: 1.5 to 4 times as slow as
    replayed ones, and 5 to 50 times as fast as scikit-learn's."""

    def __init__(
        self,
        data: Samples,
        steps: int,
        layers: Sequence[Dense],
        alpha: float,
        constant_of: Callable[[Samples], float],
        **order: Any,
    ) -> None:
        super().__init__(data.X, data.y, sample_weight=data.weight, **order)
        self._steps, self._layers, self._alpha = steps, layers, alpha
        self._constant_of, self.constant = constant_of, 0.0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        constant, rows = 0.0, len(self.arrays[0])
        starts = np.arange(1, self._steps) * self.batch_size
        try:
            for index in np.split(self.permutation(), starts):
                x, y, weight = (array.take(index, axis=0) for array in self.arrays)
                set_penalty(self._layers, self._alpha, weight)
                constant += len(x) / rows * self._constant_of(Samples(x, y, weight, y))
                yield x, y, weight / weight.mean(dtype=np.float64)
        finally:
            self.constant = constant
            set_penalty(self._layers, self._alpha, self.arrays[2])
