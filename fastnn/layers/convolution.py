"""Convolution over images (batch, height, width, channels) and over sequences (batch, length,
channels), which are images of one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import fastnn._kernels as _kernels
from fastnn.layers.weighted import Weighted
from fastnn.layers.windows import Pair, Windowed, Windows
from fastnn.support import checks
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer
    from fastnn.layers.activations import Activation

_NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))
_Geometry: TypeAlias = "tuple[Pair, tuple[Pair, Pair], Pair, int]"  # as csrc/conv.pxi takes it
# images, some already padded; a geometry with the padding that they lack; their size without any
_Read: TypeAlias = "tuple[NDArray[Any], _Geometry, Pair]"


class _Convolution(Weighted, Windowed):
    """Base of both convolutions, which run over images: a sequence is an image of one line."""

    groups = Fixed[int]()

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
        self._fix(in_features=checks.positive_int(in_channels, "in_channels"))
        features = checks.positive_int(out_channels, "out_channels")
        self.groups = checks.positive_int(groups, "groups")
        if self.in_features % self.groups or features % self.groups:
            raise ValueError(
                f"groups: expected a divisor of in_channels and out_channels, {self.in_features} "
                f"and {features}, got {self.groups}"
            )
        self.windows = Windows(self.dimensions - 1, kernel_size, stride, padding, dilation)
        kernel = self.windows.kernel[3 - self.dimensions :]
        shape = (*kernel, self.in_features // self.groups, features)
        super().__init__(shape, activation, bias, weight_init, bias_init, l2)

    @property
    def in_channels(self) -> int:
        """How many channels the input has."""
        return self.in_features

    @property
    def out_channels(self) -> int:
        """How many channels the output has."""
        return self.out_features

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return self.windows.shape(shape, self.out_features, self)

    def _geometry(self, padding: tuple[Pair, Pair]) -> _Geometry:
        return self.windows.stride, padding, self.windows.dilation, self.groups

    def _image_weight(self, weight: NDArray[Any]) -> NDArray[Any]:
        return weight if self.dimensions == 3 else weight.reshape(1, *weight.shape)

    def _read(self, x: NDArray[Any]) -> _Read:
        x = self._images(x)
        size = x.shape[1], x.shape[2]
        geometry = self._geometry(self.windows.around(size))
        return *_kernels.conv_pad(x, self._image_weight(self._weight), geometry), size

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
        weight = self._image_weight(weight)
        y = _kernels.conv_forward(images, weight, bias, geometry, kind, alpha, keep_z, packed)
        return (self._rows(y[0]), self._rows(y[1])) if keep_z else self._rows(y)

    def _pack(self, weight: NDArray[Any]) -> NDArray[Any] | None:
        return _kernels.conv_pack(self._image_weight(weight), self._geometry(_NO_PADDING))

    def _set_gradient(self, x: _Read, dz: NDArray[Any]) -> None:
        images, geometry, _ = x
        _kernels.conv_backward_weight(
            images, self._images(dz), self._image_weight(self._dweight), geometry
        )

    def _input_gradient(self, x: _Read, dz: NDArray[Any]) -> NDArray[Any]:
        dz, weight = self._images(dz), self._image_weight(self._weight)
        size = x[2]
        padding, shape = self.windows.around(size), (len(dz), *size, self.in_features)
        dx = _kernels.conv_backward_input(shape, dz, weight, self._geometry(padding))
        return self._rows(dx)


class Conv2D(_Convolution):
    """y = f(x * weight + bias): a kernel slides over images, with a feature for each position.

    Shapes: `x` (batch, height, width, in_channels), `weight` (kernel height, kernel width,
    in_channels / groups, out_channels), `bias` (out_channels,), `y` (batch, out height, out
    width, out_channels), where n pixels become ⌊(n + padding - (kernel - 1) dilation - 1) / stride⌋
    + 1.  As everywhere in networks it is the correlation: the kernel is not flipped.

    `kernel_size`, `stride` and `dilation` are an integer or (rows, columns).  `padding` counts
    zeros: an integer for all sides, (top, bottom, left, right), "valid" for none, or "same" for
    as many as make n pixels ⌈n / stride⌉.  `groups` splits both channels into so many groups: a
    group's outputs depend on its inputs only; with in_channels groups the convolution is depthwise.
    `activation` is f: a name, an activation layer or None.  `bias` says whether there is one.
    `weight_init` and `bias_init` are names or initializers; by default the weights suit the
    activation that follows.  `l2` is the λ of the penalty λ / (2 batch) Σ weight², by default the
    model's.

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
    "valid" or "same"; a causal convolution has (left, 0) with left = (kernel_size - 1) dilation.
    All else is as in `Conv2D`.

    >>> import numpy as np
    >>> from fastnn import Conv1D, Sequential
    >>> Sequential(Conv1D(3, 8, 5, stride=2)).forward(np.ones((2, 100, 3))).shape
    (2, 48, 8)
    """

    dimensions = 2
