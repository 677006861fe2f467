"""Flatten: the numbers of a row as features, which is what dense layers take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn.layers.layer import Pure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class Flatten(Pure):
    """y = the numbers of each row as features, for a dense layer behind images.

    Shapes: `x` (batch, ...), `y` (batch, features), with as many features as a row has numbers.
    Outputs and gradients are views, never copies.

    >>> import numpy as np
    >>> from fastnn import Dense, Flatten, Sequential
    >>> Sequential(Flatten(), Dense(64, 10)).predict(np.zeros((3, 8, 8, 1))).shape
    (3, 10)
    """

    native = True
    _pulls_several = True
    out_dimensions = 1
    _resizes = True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        return x.reshape(len(x), -1), lambda dy: dy.reshape(-1, *x.shape[1:])
