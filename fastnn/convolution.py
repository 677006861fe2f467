"""Convolution and pooling over images (batch, height, width, channels) and over sequences
(batch, length, channels), which are images of one line.

`Windows` is the geometry they share: where a kernel stands and what it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from fastnn import _checks, _kernels
from fastnn._layer import Layer
from fastnn._settings import Fixed
from fastnn._weighted import Weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.activations import Activation
    from fastnn.initializers import Initializer

Pair: TypeAlias = tuple[int, int]
_PADDINGS = ("same", "valid")
_MOST = 2**31 - 1  # the product of two of these does not overflow in C
_NONE: tuple[Pair, Pair] = ((0, 0), (0, 0))
_Geometry: TypeAlias = "tuple[Pair, tuple[Pair, Pair], Pair, int]"  # as csrc/conv.pxi takes it
# images, a geometry with the padding they still lack, and their size without any
_Read: TypeAlias = "tuple[NDArray[Any], _Geometry, Pair]"


class Windows:
    """Where a kernel stands on an image; all pairs are of rows and columns.

    `axes` is 2 for images, and 1 for sequences, whose arguments are of columns only."""

    def __init__(self, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any):
        self.axes = axes
        self.kernel = self._sizes(kernel_size, "kernel_size")
        self.stride = self._sizes(stride, "stride")
        self.dilation = self._sizes(dilation, "dilation")
        self.padding: str | tuple[Pair, Pair] = self._padding(padding)

    def _sizes(self, value: Any, name: str) -> Pair:
        """One integer for all axes, or one for each."""
        if self.axes == 2 and isinstance(value, tuple | list) and len(value) == 2:
            rows, columns = (_checks.whole(v, name, 1, _MOST) for v in value)
            return rows, columns
        if isinstance(value, tuple | list):
            wanted = "an integer or (rows, columns)" if self.axes == 2 else "an integer"
            raise ValueError(f"{name}: expected {wanted}, got {value!r}")
        size = _checks.whole(value, name, 1, _MOST)
        return (size, size) if self.axes == 2 else (1, size)

    def _padding(self, value: Any) -> str | tuple[Pair, Pair]:
        if isinstance(value, str):
            value = _checks.choice(value, "padding", _PADDINGS)
            return ((0, 0), (0, 0)) if value == "valid" else value
        if not isinstance(value, tuple | list):
            size = _checks.whole(value, "padding", 0, _MOST)
            return ((size, size) if self.axes == 2 else (0, 0)), (size, size)
        sides = [_checks.whole(v, "padding", 0, _MOST) for v in value]
        if self.axes == 2 and len(sides) == 4:
            return (sides[0], sides[1]), (sides[2], sides[3])
        if self.axes == 1 and len(sides) == 2:
            return (0, 0), (sides[0], sides[1])
        wanted = "(top, bottom, left, right)" if self.axes == 2 else "(left, right)"
        raise ValueError(
            f"padding: expected an integer, 'same', 'valid' or {wanted}, got {value!r}"
        )

    def around(self, size: Pair) -> tuple[Pair, Pair]:
        """The padding before and behind, on both axes of an image of that size."""
        if not isinstance(self.padding, str):
            return self.padding
        sides = []
        for n, kernel, stride, dilation in zip(
            size, self.kernel, self.stride, self.dilation, strict=True
        ):
            total = max(0, (-(-n // stride) - 1) * stride + (kernel - 1) * dilation + 1 - n)
            sides.append((total // 2, total - total // 2))
        return sides[0], sides[1]

    def count(self, size: Pair) -> Pair:
        """How many windows there are; ValueError if none fits."""
        counts, covered, padded = [], [], []
        for n, kernel, stride, dilation, padding in zip(
            size, self.kernel, self.stride, self.dilation, self.around(size), strict=True
        ):
            covered.append((kernel - 1) * dilation + 1)
            padded.append(n + sum(padding))
            counts.append((padded[-1] - covered[-1]) // stride + 1)
        if min(counts) < 1:
            raise ValueError(
                f"its kernel covers {covered[0]}x{covered[1]}, more than the padded input, "
                f"{padded[0]}x{padded[1]}"
            )
        return counts[0], counts[1]

    def shape(self, shape: tuple[int, ...], channels: int, owner: Layer) -> tuple[int, ...]:
        """The output's shape without the batch, from the input's."""
        size = (shape[0], shape[1]) if self.axes == 2 else (1, shape[0])
        try:
            return (*self.count(size)[2 - self.axes :], channels)
        except ValueError as error:
            raise ValueError(f"{owner!r}: {error}") from None

    def arguments(self) -> dict[str, Any]:
        """What the constructor takes to make the same."""
        padding: Any = self.padding
        if not isinstance(padding, str):
            padding = tuple(size for sides in padding[2 - self.axes :] for size in sides)
        sizes = {"kernel_size": self.kernel, "stride": self.stride, "dilation": self.dilation}
        return {"padding": padding} | {name: self._plain(pair) for name, pair in sizes.items()}

    def options(self, stride: Pair) -> str:
        """What is not the default, for repr."""
        text = "" if self.stride == stride else f", stride={self._plain(self.stride)}"
        if isinstance(self.padding, str):
            text += f", padding={self.padding!r}"
        elif self.padding != ((0, 0), (0, 0)):
            (top, bottom), (left, right) = self.padding
            sides = (top, bottom, left, right) if self.axes == 2 else (left, right)
            text += f", padding={sides[0] if len(set(sides)) == 1 else sides}"
        if self.dilation != (1, 1):
            text += f", dilation={self._plain(self.dilation)}"
        return text

    def _plain(self, pair: Pair) -> int | Pair:
        return pair[1] if self.axes == 1 or pair[0] == pair[1] else pair


class _Convolution(Weighted):
    """Both convolutions, over images; a sequence becomes an image of one line."""

    dimensions: int
    groups = Fixed[int]()
    windows = Fixed[Windows]()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | Activation | None = None,
        *,
        weight_init: str | Initializer | None = None,
        bias_init: str | Initializer = "zeros",
        l2: float | None = None,
    ) -> None:
        self.in_features = _checks.positive_int(in_channels, "in_channels")
        features = _checks.positive_int(out_channels, "out_channels")
        self.groups = _checks.positive_int(groups, "groups")
        if self.in_features % self.groups or features % self.groups:
            raise ValueError(
                f"groups: expected a divisor of in_channels and out_channels, {self.in_features} "
                f"and {features}, got {self.groups}"
            )
        self.windows = Windows(self.dimensions - 1, kernel_size, stride, padding, dilation)
        kernel = self.windows.kernel[3 - self.dimensions :]
        shape = (*kernel, self.in_features // self.groups, features)
        super().__init__(shape, activation, bias, weight_init, bias_init, l2)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return self.windows.shape(shape, self.out_features, self)

    def _geometry(self, padding: tuple[Pair, Pair]) -> _Geometry:
        return self.windows.stride, padding, self.windows.dilation, self.groups

    def _images(self, x: NDArray[Any]) -> NDArray[Any]:
        return x if self.dimensions == 3 else x.reshape(len(x), 1, *x.shape[1:])

    def _sequences(self, y: NDArray[Any]) -> NDArray[Any]:
        return y if self.dimensions == 3 else y.reshape(len(y), *y.shape[2:])

    def _weights(self, weight: NDArray[Any]) -> NDArray[Any]:
        return weight if self.dimensions == 3 else weight.reshape(1, *weight.shape)

    def _read(self, x: NDArray[Any]) -> _Read:
        x = self._images(x)
        size = x.shape[1], x.shape[2]
        geometry = self._geometry(self.windows.around(size))
        return *_kernels.conv_pad(x, self._weights(self._weight), geometry), size

    def _multiply(
        self,
        x: _Read,
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        kind: int,
        alpha: float,
        keep_z: bool = False,
        packed: NDArray[Any] | None = None,
    ) -> Any:
        images, geometry, _ = x
        weight = self._weights(weight)
        result = _kernels.conv_forward(images, weight, bias, geometry, kind, alpha, keep_z, packed)
        if keep_z:
            return self._sequences(result[0]), self._sequences(result[1])
        return self._sequences(result)

    def _pack(self, weight: NDArray[Any]) -> NDArray[Any] | None:
        return _kernels.conv_pack(self._weights(weight), self._geometry(_NONE))

    def _set_gradient(self, x: _Read, dz: NDArray[Any]) -> None:
        images, geometry, _ = x
        _kernels.conv_backward_weight(
            images, self._images(dz), self._weights(self._dweight), geometry
        )

    def _input_gradient(self, x: _Read, dz: NDArray[Any]) -> NDArray[Any]:
        dz, weight = self._images(dz), self._weights(self._weight)
        size = x[2]
        padding, shape = self.windows.around(size), (len(dz), *size, self.in_features)
        dx = _kernels.conv_backward_input(shape, dz, weight, self._geometry(padding))
        return self._sequences(dx)

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self.in_features}, {self.out_features}, "
        text += f"{self.windows._plain(self.windows.kernel)}{self.windows.options((1, 1))}"
        text += f", groups={self.groups}" if self.groups > 1 else ""
        return f"{text}{self._options()})"


class Conv2D(_Convolution):
    """y = f(x * weight + bias): a kernel slides over images and gives a feature at each place.

    Shapes: `x` (batch, height, width, in_channels), `weight` (kernel height, kernel width,
    in_channels / groups, out_channels), `bias` (out_channels,), `y` (batch, out height, out
    width, out_channels), a size of n giving ⌊(n + padding - (kernel - 1) dilation - 1) / stride⌋
    + 1.  As everywhere in networks it is the correlation: the kernel is not flipped.

    `kernel_size`, `stride` and `dilation` are an integer or (rows, columns).  `padding` with
    zeros: an integer for all sides, (top, bottom, left, right), "valid" for none, or "same" for
    as many as give ⌈n / stride⌉ places.  `groups` cuts channels and features into so many groups
    that see nothing of one another; with as many as channels each has kernels of its own
    (depthwise).  The other arguments are those of `Dense`.

    Raises TypeError or ValueError for sizes that are no integers >= 1 (padding: >= 0), an unknown
    padding, groups that do not divide both counts; `forward` for images smaller than the kernel.

    >>> import numpy as np
    >>> from fastnn import Conv2D, Sequential
    >>> model = Sequential(Conv2D(1, 8, 3, padding="same", activation="relu"))
    >>> model.forward(np.ones((2, 28, 28, 1))).shape, model.layers[0].weight.shape
    ((2, 28, 28, 8), (3, 3, 1, 8))
    """

    dimensions = 3


class Conv1D(_Convolution):
    """y = f(x * weight + bias) over sequences: sensor data, audio, time series.

    Shapes: `x` (batch, length, in_channels), `weight` (kernel_size, in_channels / groups,
    out_channels), `y` (batch, out length, out_channels).  `padding`: an integer, (left, right),
    "valid" or "same"; for a causal convolution (left, 0) with left = (kernel_size - 1) dilation.
    All else is as in `Conv2D`.

    >>> import numpy as np
    >>> from fastnn import Conv1D, Sequential
    >>> Sequential(Conv1D(3, 8, 5, stride=2)).forward(np.ones((2, 100, 3))).shape
    (2, 48, 8)
    """

    dimensions = 2


class _Pool(Layer):
    """A maximum or an average over windows, channel by channel."""

    native = True
    dimensions: int
    average: bool
    count_padding: bool | Fixed[bool] = False
    windows = Fixed[Windows]()

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

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if self.dimensions == 2:
            x = x.reshape(len(x), 1, *x.shape[1:])
        geometry = self._geometry(x)
        y = _kernels.pool_forward(x, geometry, self.average, self.count_padding)
        if training:
            self._saved = (x, y, geometry)
        return y.reshape(len(y), *y.shape[2:]) if self.dimensions == 2 else y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        x, y, geometry = self._take()
        dx = _kernels.pool_backward(
            x, y, dy.reshape(y.shape), geometry, self.average, self.count_padding
        )
        return dx.reshape(len(dx), *dx.shape[2:]) if self.dimensions == 2 else dx

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self.windows._plain(self.windows.kernel)}"
        return f"{text}{self.windows.options(self.windows.kernel)})"


class MaxPool2D(_Pool):
    """y = the maximum of every window of an image, channel by channel.

    Shapes: `x` (batch, height, width, channels), `y` (batch, out height, out width, channels),
    sizes as in `Conv2D`.  `stride` is `kernel_size` unless given; padding, smaller than the
    kernel, is never the maximum.  The gradient goes to the first of equal elements.

    Raises TypeError or ValueError for arguments as in `Conv2D`.

    >>> import numpy as np
    >>> from fastnn import MaxPool2D, Sequential
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> Sequential(MaxPool2D(2), dtype="float64").forward(x).ravel()
    array([ 5.,  7., 13., 15.])
    """

    dimensions, average = 3, False


class MaxPool1D(_Pool):
    """y = the maximum of every window of a sequence, as `MaxPool2D`; `x` (batch, length,
    channels).

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
        self.count_padding = _checks.flag(count_padding, "count_padding")

    def __repr__(self) -> str:
        text = super().__repr__()
        return f"{text[:-1]}, count_padding=True)" if self.count_padding else text


class AvgPool2D(_AvgPool):
    """y = the average of every window of an image, channel by channel.

    Shapes and arguments as in `MaxPool2D`.  At a padded edge it is the average of what lies in
    the image, or with `count_padding` of the whole window, the padding being zeros.

    >>> import numpy as np
    >>> from fastnn import AvgPool2D, Sequential
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> Sequential(AvgPool2D(2), dtype="float64").forward(x).ravel()
    array([ 2.5,  4.5, 10.5, 12.5])
    """

    dimensions = 3


class AvgPool1D(_AvgPool):
    """y = the average of every window of a sequence, as `AvgPool2D`; `x` (batch, length,
    channels).

    >>> import numpy as np
    >>> from fastnn import AvgPool1D, Sequential
    >>> Sequential(AvgPool1D(3, stride=1)).forward(np.ones((1, 9, 3))).shape
    (1, 7, 3)
    """

    dimensions = 2


class _GlobalPool(Layer):
    """A maximum or an average over all places, channel by channel."""

    native = True
    dimensions: int
    average: bool
    out_dimensions = 1

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return shape[-1:]

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        shape = x.shape
        if self.dimensions == 2:
            x = x.reshape(len(x), 1, *shape[1:])
        geometry = (x.shape[1:3], (1, 1), ((0, 0), (0, 0)))
        y = _kernels.pool_forward(x, geometry, self.average)
        if training:
            self._saved = (x, y, geometry, shape)
        return y.reshape(len(y), -1)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        x, y, geometry, shape = self._take()
        dx = _kernels.pool_backward(x, y, dy.reshape(y.shape), geometry, self.average)
        return dx.reshape(shape)


class GlobalAvgPool2D(_GlobalPool):
    """y = each channel's average over the image: (batch, height, width, channels) to (batch,
    channels), for images of any size.

    >>> import numpy as np
    >>> from fastnn import GlobalAvgPool2D, Sequential
    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> Sequential(GlobalAvgPool2D(), dtype="float64").forward(x)
    array([[1.5]])
    """

    dimensions, average = 3, True


class GlobalMaxPool2D(_GlobalPool):
    """y = each channel's maximum over the image: (batch, height, width, channels) to (batch,
    channels), for images of any size.

    >>> import numpy as np
    >>> from fastnn import GlobalMaxPool2D, Sequential
    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> Sequential(GlobalMaxPool2D(), dtype="float64").forward(x)
    array([[3.]])
    """

    dimensions, average = 3, False


class GlobalAvgPool1D(_GlobalPool):
    """y = each channel's average over the sequence: (batch, length, channels) to (batch,
    channels).

    >>> import numpy as np
    >>> from fastnn import GlobalAvgPool1D, Sequential
    >>> Sequential(GlobalAvgPool1D()).forward(np.ones((2, 9, 3))).shape
    (2, 3)
    """

    dimensions, average = 2, True


class GlobalMaxPool1D(_GlobalPool):
    """y = each channel's maximum over the sequence: (batch, length, channels) to (batch,
    channels).

    >>> import numpy as np
    >>> from fastnn import GlobalMaxPool1D, Sequential
    >>> Sequential(GlobalMaxPool1D()).forward(np.ones((2, 9, 3))).shape
    (2, 3)
    """

    dimensions, average = 2, False
