"""Windows: the geometry that convolution and pooling have in common, where a kernel stands and what
it covers."""

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
    """The places where a kernel stands on an image; every pair is of rows and columns.

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
        """How many windows an image of that size has; ValueError if none fits."""
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

    def plain_padding(self) -> int | str | tuple[int, ...]:
        """The padding as a constructor takes it: "same", one integer, or one for each side."""
        if isinstance(self.padding, str):
            return self.padding
        sides = tuple(size for axis in self.padding[2 - self.axes :] for size in axis)
        return sides[0] if len(set(sides)) == 1 else sides

    def plain(self, pair: Pair) -> int | Pair:
        """A pair as a constructor takes it: one integer, where that says the same."""
        return pair[1] if self.axes == 1 or pair[0] == pair[1] else pair


class Windowed(Layer):
    """Base of layers with windows, which shows their geometry under the constructor's names."""

    dimensions: int
    windows = Fixed[Windows]()

    @property
    def kernel_size(self) -> int | Pair:
        """The kernel's size: an integer, or (rows, columns) where these differ."""
        return self.windows.plain(self.windows.kernel)

    @property
    def stride(self) -> int | Pair:
        """The step from one window to the next, likewise."""
        return self.windows.plain(self.windows.stride)

    @property
    def dilation(self) -> int | Pair:
        """The distance of neighbouring elements of the kernel, likewise."""
        return self.windows.plain(self.windows.dilation)

    @property
    def padding(self) -> int | str | tuple[int, ...]:
        """The zeros around the input: "same", an integer, or one integer for each side."""
        return self.windows.plain_padding()

    def _images(self, x: NDArray[Any]) -> NDArray[Any]:
        """A batch as images: a sequence is an image of one line."""
        return x if self.dimensions == 3 else x.reshape(len(x), 1, *x.shape[1:])

    def _rows(self, y: NDArray[Any]) -> NDArray[Any]:
        """Images as the layer's rows: the opposite of `_images`."""
        return y if self.dimensions == 3 else y.reshape(len(y), *y.shape[2:])
