"""Images and sequences of other libraries, whose channels come first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def to_nhwc(x: ArrayLike) -> NDArray[Any]:
    """Images with their channels last, as fastnn takes them, from channels first.

    Shapes: `x` (batch, channels, height, width), the result (batch, height, width, channels); or
    (batch, channels, length) and (batch, length, channels).  The result is a new C-contiguous
    array of the dtype that came in.

    Raises TypeError or ValueError for what is no array of numbers, for another number of dimensions
    and for an empty array.

    >>> to_nhwc(np.zeros((8, 3, 32, 24))).shape
    (8, 32, 24, 3)
    """
    array = arrays.numeric_array(x, "x")
    if array.ndim not in (3, 4) or array.size == 0:
        raise ValueError(
            "x: expected shape (batch, channels, height, width) or (batch, channels, length), "
            f"none of them 0, got {array.shape}"
        )
    return np.moveaxis(array, 1, -1).copy(order="C")
