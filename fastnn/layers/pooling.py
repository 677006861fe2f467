"""Pooling over images (batch, height, width, channels) and over sequences (batch, length,
channels): the maximum or the average of every window, or of the whole row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.layer import Pure
from fastnn.layers.windows import Pair, Windowed, Windows
from fastnn.support import checks
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class _Pool(Windowed, Pure):
    """Base of the pools: a maximum or an average over windows, channel by channel."""

    native = True
    average: bool
    count_padding: bool | Fixed[bool] = False

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | str | tuple[int, ...] = 0,
    ) -> None:
        stride = kernel_size if stride is None else stride
        self.windows = Windows(self.dimensions - 1, kernel_size, stride, padding, 1)
        if not isinstance(self.windows.padding, str):
            for size, sides in zip(self.windows.kernel, self.windows.padding, strict=True):
                if max(sides) >= size:
                    raise ValueError(
                        f"padding: expected less than the kernel's size, {size}, got {max(sides)}"
                    )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return self.windows.shape(shape, shape[-1], self)

    def _geometry(self, x: NDArray[Any]) -> tuple[Any, ...]:
        return self.windows.kernel, self.windows.stride, self.windows.around(x.shape[1:3])

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        x = self._images(x)
        how = self._geometry(x), self.average, self.count_padding
        y = _kernels.pool_forward(x, *how)

        def pull(dy: NDArray[Any]) -> NDArray[Any]:
            return self._rows(_kernels.pool_backward(x, y, dy.reshape(y.shape), *how))

        return self._rows(y), pull

    def _argument(self, name: str) -> Any:
        if name == "stride" and self.stride == self.kernel_size:
            return None
        return super()._argument(name)


class MaxPool2D(_Pool):
    """y = the maximum of every window of an image, channel by channel.

    Shapes: `x` (batch, height, width, channels), `y` (batch, out height, out width, channels),
    sizes as in `Conv2D`.  `stride` is by default `kernel_size`; padding must be smaller than the
    kernel and is never the maximum.  The gradient goes to the first of equal elements.

    Raises TypeError or ValueError for arguments as in `Conv2D`.

    >>> import numpy as np
    >>> from fastnn import MaxPool2D, Sequential
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> Sequential(MaxPool2D(2), dtype="float64").forward(x).ravel()
    array([ 5.,  7., 13., 15.])
    """

    dimensions, average = 3, False


class MaxPool1D(_Pool):
    """y = the maximum of every window of a sequence (batch, length, channels), as `MaxPool2D`.

    >>> import numpy as np
    >>> from fastnn import MaxPool1D, Sequential
    >>> Sequential(MaxPool1D(2)).forward(np.ones((1, 9, 3))).shape
    (1, 4, 3)
    """

    dimensions, average = 2, False


class _AvgPool(_Pool):
    average = True
    count_padding = Fixed[bool]()

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | str | tuple[int, ...] = 0,
        count_padding: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_padding = checks.flag(count_padding, "count_padding")


class AvgPool2D(_AvgPool):
    """y = the average of every window of an image, channel by channel.

    Shapes and arguments as in `MaxPool2D`.  At a padded edge the average is that of the pixels in
    the image, or with `count_padding` that of the whole window, where padding counts as zeros.

    >>> import numpy as np
    >>> from fastnn import AvgPool2D, Sequential
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> Sequential(AvgPool2D(2), dtype="float64").forward(x).ravel()
    array([ 2.5,  4.5, 10.5, 12.5])
    """

    dimensions = 3


class AvgPool1D(_AvgPool):
    """y = the average of every window of a sequence (batch, length, channels), as `AvgPool2D`.

    >>> import numpy as np
    >>> from fastnn import AvgPool1D, Sequential
    >>> Sequential(AvgPool1D(3, stride=1)).forward(np.ones((1, 9, 3))).shape
    (1, 7, 3)
    """

    dimensions = 2


class _GlobalPool(Pure):
    """Base of the global pools: a maximum or an average over all positions, channel by channel."""

    native = True
    dimensions: int
    average: bool
    out_dimensions = 1

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return shape[-1:]

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        shape = x.shape
        if self.dimensions == 2:
            x = x.reshape(len(x), 1, *shape[1:])
        geometry = (x.shape[1:3], (1, 1), ((0, 0), (0, 0)))
        y = _kernels.pool_forward(x, geometry, self.average)

        def pull(dy: NDArray[Any]) -> NDArray[Any]:
            dx = _kernels.pool_backward(x, y, dy.reshape(y.shape), geometry, self.average)
            return dx.reshape(shape)

        return y.reshape(len(y), -1), pull


class GlobalAvgPool2D(_GlobalPool):
    """y = each channel's average over an image of any size.

    Shapes: `x` (batch, height, width, channels), `y` (batch, channels).

    >>> import numpy as np
    >>> from fastnn import GlobalAvgPool2D, Sequential
    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> Sequential(GlobalAvgPool2D(), dtype="float64").forward(x)
    array([[1.5]])
    """

    dimensions, average = 3, True


class GlobalMaxPool2D(_GlobalPool):
    """y = each channel's maximum over an image; shapes as in `GlobalAvgPool2D`.

    >>> import numpy as np
    >>> from fastnn import GlobalMaxPool2D, Sequential
    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> Sequential(GlobalMaxPool2D(), dtype="float64").forward(x)
    array([[3.]])
    """

    dimensions, average = 3, False


class GlobalAvgPool1D(_GlobalPool):
    """y = each channel's average over a sequence: (batch, length, channels) to (batch, channels).

    >>> import numpy as np
    >>> from fastnn import GlobalAvgPool1D, Sequential
    >>> Sequential(GlobalAvgPool1D()).forward(np.ones((2, 9, 3))).shape
    (2, 3)
    """

    dimensions, average = 2, True


class GlobalMaxPool1D(_GlobalPool):
    """y = each channel's maximum over a sequence: (batch, length, channels) to (batch, channels).

    >>> import numpy as np
    >>> from fastnn import GlobalMaxPool1D, Sequential
    >>> Sequential(GlobalMaxPool1D()).forward(np.ones((2, 9, 3))).shape
    (2, 3)
    """

    dimensions, average = 2, False
