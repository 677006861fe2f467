"""The geometry that convolution and pooling have in common: which pixels each output is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from fastnn.layers.layer import Layer
from fastnn.support import checks
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pair: TypeAlias = tuple[int, int]
_PADDINGS = ("same", "valid")
_MOST = 2**31 - 1  # the product of two of these does not overflow in C


class Windows:
    """The windows of an image, each as large as the kernel; every pair means (rows, columns).

    `axes` is 2 for images, and 1 for sequences, whose arguments are about columns only."""

    def __init__(self, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any):
        self.axes = axes
        self.kernel = self._sizes(kernel_size, "kernel_size")
        self.stride = self._sizes(stride, "stride")
        self.dilation = self._sizes(dilation, "dilation")
        self.padding: str | tuple[Pair, Pair] = self._padding(padding)
        down, across = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        self.covered: Pair = (down, across)  # the size of a window

    def _sizes(self, value: Any, name: str) -> Pair:
        """The pair from one integer for all axes, or from one for each."""
        if self.axes == 2 and isinstance(value, tuple | list) and len(value) == 2:
            rows, columns = (checks.whole(v, name, 1, _MOST) for v in value)
            return rows, columns
        if isinstance(value, tuple | list):
            wanted = "an integer or (rows, columns)" if self.axes == 2 else "an integer"
            raise ValueError(f"{name}: expected {wanted}, got {value!r}")
        size = checks.whole(value, name, 1, _MOST)
        return (size, size) if self.axes == 2 else (1, size)

    def _padding(self, value: Any) -> str | tuple[Pair, Pair]:
        if isinstance(value, str):
            value = checks.choice(value, "padding", _PADDINGS)
            return ((0, 0), (0, 0)) if value == "valid" else value
        if not isinstance(value, tuple | list):
            size = checks.whole(value, "padding", 0, _MOST)
            return ((size, size) if self.axes == 2 else (0, 0)), (size, size)
        sides = [checks.whole(v, "padding", 0, _MOST) for v in value]
        if self.axes == 2 and len(sides) == 4:
            return (sides[0], sides[1]), (sides[2], sides[3])
        if self.axes == 1 and len(sides) == 2:
            return (0, 0), (sides[0], sides[1])
        wanted = "(top, bottom, left, right)" if self.axes == 2 else "(left, right)"
        raise ValueError(
            f"padding: expected an integer, 'same', 'valid' or {wanted}, got {value!r}"
        )

    def around(self, size: Pair) -> tuple[Pair, Pair]:
        """The padding of an image of that size: (top, bottom), (left, right)."""
        if not isinstance(self.padding, str):
            return self.padding
        sides = []
        for n, stride, covered in zip(size, self.stride, self.covered, strict=True):
            total = max(0, (-(-n // stride) - 1) * stride + covered - n)
            sides.append((total // 2, total - total // 2))
        return sides[0], sides[1]

    def count(self, size: Pair) -> Pair:
        """How many windows an image of that size has; ValueError if none fits."""
        (down, across), (top, bottom), (left, right) = self.covered, *self.around(size)
        rows, columns = size[0] + top + bottom, size[1] + left + right
        if rows < down or columns < across:
            raise ValueError(
                f"its kernel covers {down}x{across}, more than the padded input, {rows}x{columns}"
            )
        return (rows - down) // self.stride[0] + 1, (columns - across) // self.stride[1] + 1

    def shape(self, shape: tuple[int, ...], channels: int, owner: Layer) -> tuple[int, ...]:
        """The shape of an output row from that of an input row; errors name the layer `owner`."""
        size = (shape[0], shape[1]) if self.axes == 2 else (1, shape[0])
        try:
            return (*self.count(size)[2 - self.axes :], channels)
        except ValueError as error:
            raise ValueError(f"{owner!r}: {error}") from None

    def plain_padding(self) -> int | str | tuple[int, ...]:
        """The padding as a constructor takes it: "same", one integer, or one for each side."""
        if isinstance(self.padding, str):
            return self.padding
        sides = tuple(size for axis in self.padding[2 - self.axes :] for size in axis)
        return sides[0] if len(set(sides)) == 1 else sides

    def plain(self, pair: Pair) -> int | Pair:
        """A pair as a constructor takes it: one integer where both are equal."""
        return pair[1] if self.axes == 1 or pair[0] == pair[1] else pair


class Windowed(Layer):
    """Base of layers with windows: the constructor's arguments as attributes."""

    dimensions: int
    windows = Fixed[Windows]()

    @property
    def kernel_size(self) -> int | Pair:
        """The kernel's size: an integer, or (rows, columns) where these differ."""
        return self.windows.plain(self.windows.kernel)

    @property
    def stride(self) -> int | Pair:
        """The step from one window to the next: an integer, or (rows, columns)."""
        return self.windows.plain(self.windows.stride)

    @property
    def dilation(self) -> int | Pair:
        """The distance of neighbouring elements of the kernel: an integer, or (rows, columns)."""
        return self.windows.plain(self.windows.dilation)

    @property
    def padding(self) -> int | str | tuple[int, ...]:
        """The zeros around the input: "same", an integer, or one integer for each side."""
        return self.windows.plain_padding()

    def _images(self, x: NDArray[Any]) -> NDArray[Any]:
        """A batch as images: a sequence becomes an image of one line."""
        return x if self.dimensions == 3 else x.reshape(len(x), 1, *x.shape[1:])

    def _rows(self, y: NDArray[Any]) -> NDArray[Any]:
        """Images as rows of the layer: undoes `_images`."""
        return y if self.dimensions == 3 else y.reshape(len(y), *y.shape[2:])
