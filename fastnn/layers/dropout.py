"""Dropout: in training, elements become 0 at random, by masks that follow from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers.layer import Layer
from fastnn.support import checks
from fastnn.support.settings import Number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class Dropout(Layer):
    """In training, sets elements to 0 with probability `rate` and scales the others to make up.

    y = x mask / (1 - rate), mask 0 or 1 (inverted dropout, N. Srivastava et al., 2014); in
    evaluation y = x.  `rate`, in [0, 1), is rounded to a multiple of 2^-16, also for the scale.
    The mask depends on the model's seed, the number of its training passes so far, the layer's
    position, the row and the column, and on nothing else.

    Raises ValueError or TypeError for another `rate`; RuntimeError for a `forward` in training
    outside a model.

    >>> import numpy as np
    >>> from fastnn import Dropout, Sequential
    >>> model = Sequential(Dropout(0.5), seed=0, dtype="float64")
    >>> model.forward(np.ones((1, 4)))
    array([[1., 1., 1., 1.]])
    >>> sorted(set(model.forward(np.ones((8, 8)), training=True).ravel().tolist()))
    [0.0, 2.0]
    """

    native = True
    _pulls_several = True
    random = True
    rate = Number(checks.fraction)
    _rate: NDArray[np.float64]

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if not training:
            return x
        place = self._place
        if place is None:
            raise RuntimeError(f"{self!r} needs a model for its mask: put it into a Sequential")
        seed, counter, position = place.seed, place.counter, place.position
        rate = np.empty(1)  # which backward needs, whatever is set until then
        _kernels.copy(rate, self._rate)
        y, mask = _kernels.dropout_forward(x, rate, seed, counter, position)
        self._saved = (mask, rate)
        return y

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_rate": self.rate}  # no array, which might be read-only

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._rate = np.array([state["_rate"]])

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dropout_backward(dy, *self._take())

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        return x, lambda dy: dy
