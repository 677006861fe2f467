"""Networks over images and sequences, and single convolutions: rows of cases.py.

Arrays are channels-last, as fastnn takes them; other peers convert them beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from work import Work

Shape = tuple[int, ...]


class Conv(NamedTuple):
    """A convolution over one axis or two; with a batch norm it has no bias."""

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0  # on every side
    norm: bool = False
    relu: bool = True

    def after(self, shape: Shape) -> Shape:
        padded = (n + 2 * self.padding for n in shape[:-1])
        return (*((n - self.kernel) // self.stride + 1 for n in padded), self.features)


class MaxPool(NamedTuple):
    size: int = 2

    def after(self, shape: Shape) -> Shape:
        return (*(n // self.size for n in shape[:-1]), shape[-1])


class GlobalPool(NamedTuple):
    """The average of every channel."""

    def after(self, shape: Shape) -> Shape:
        return shape[-1:]


class Linear(NamedTuple):
    """A dense layer; images are flattened before it."""

    features: int
    relu: bool = True

    def after(self, shape: Shape) -> Shape:
        return (self.features,)


class Block(NamedTuple):
    """relu(x + path(x)); where the path changes the shape, relu(shortcut(x) + path(x))."""

    features: int
    stride: int = 1

    @property
    def path(self) -> tuple[Conv, Conv]:
        first = Conv(self.features, 3, self.stride, 1, norm=True)
        return first, Conv(self.features, 3, 1, 1, norm=True, relu=False)

    @property
    def shortcut(self) -> Conv | None:
        return Conv(self.features, 1, self.stride, relu=False) if self.stride > 1 else None

    def after(self, shape: Shape) -> Shape:
        return self.path[0].after(shape)


def taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """How often a kernel's elements meet elements of an axis, not padding."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return sum(min(start + kernel, size) - max(start, 0) for start in starts)


@dataclass(frozen=True)
class ConvNet:
    """A classifier of images (height, width, channels) or sequences (length, channels).

    Its training step is forward, softmax cross-entropy, backward and Adam.
    """

    title: str
    shape: Shape  # one sample's
    layers: tuple[Any, ...]
    batch: int
    regression = False
    learning_rate = 1e-3

    @property
    def name(self) -> str:
        return f"{self.title}, batch {self.batch}"

    @property
    def classes(self) -> int:
        return self.layers[-1].features

    @property
    def parts(self) -> list[tuple[Conv | Linear, Shape]]:
        """The layers that have weights and the shapes of their inputs, in the order of `weights`:
        in a block the path, then the shortcut."""
        parts, shape = [], self.shape
        for layer in self.layers:
            if isinstance(layer, Block):
                first, second = layer.path
                parts += [(first, shape), (second, first.after(shape))]
                parts += [(layer.shortcut, shape)] if layer.shortcut else []
            elif isinstance(layer, Linear):
                parts.append((layer, (prod(shape),)))
            elif isinstance(layer, Conv):
                parts.append((layer, shape))
            shape = layer.after(shape)
        return parts

    def weight_shape(self, part: Conv | Linear, shape: Shape) -> Shape:
        kernel = (part.kernel,) * (len(shape) - 1) if isinstance(part, Conv) else ()
        return (*kernel, shape[-1], part.features)

    @property
    def parameters(self) -> int:
        """Weights and biases, or a batch norm's gamma and beta."""
        return sum(
            prod(self.weight_shape(part, shape))
            + part.features * (2 if isinstance(part, Conv) and part.norm else 1)
            for part, shape in self.parts
        )

    def operations(self) -> list[int]:
        """The operations of one forward, for each of `parts`."""
        counts = []
        for part, shape in self.parts:
            places = 1
            if isinstance(part, Conv):
                places = prod(taps(n, *part[1:4]) for n in shape[:-1])
            counts.append(2 * self.batch * places * shape[-1] * part.features)
        return counts

    def training(self) -> Work:
        """One step: no input gradient for the first layer; parameters and moments updated."""
        layers = self.operations()
        return Work(3 * sum(layers) - layers[0], 24 * self.parameters, 12 * self.parameters)

    def inference(self) -> Work:
        traffic = 4 * (self.parameters + self.batch * (prod(self.shape) + self.classes))
        return Work(sum(self.operations()), traffic, traffic, reads=True)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch, (batch, ...) and integer labels; every sample twice, as in Network.data."""
        random = np.random.default_rng(0)
        x = random.random((self.batch, *self.shape), dtype=np.float32)
        x[1::2] = x[: self.batch - 1 : 2]
        y = random.integers(self.classes, size=self.batch)
        y[1::2] = (y[: self.batch - 1 : 2] + 1) % self.classes
        return x, y

    def weights(self) -> list[np.ndarray]:
        """The same start for all peers that take arrays: He's weights (kernel..., in, out)."""
        random, arrays = np.random.default_rng(1), []
        for part, shape in self.parts:
            size = self.weight_shape(part, shape)
            scale = np.sqrt(2 / prod(size[:-1]))
            arrays.append(random.normal(0, scale, size).astype(np.float32))
        return arrays


@dataclass(frozen=True)
class Convolution:
    """One convolution alone, or one of its gradients."""

    form: str  # forward: y of x and weight;  input: dx of dy and weight;  weight: dw of x and dy
    batch: int
    height: int
    width: int
    channels: int
    features: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def name(self) -> str:
        kind = "depthwise" if self.depthwise else f"{self.channels} to {self.features}"
        text = f"{self.form} {self.kernel}x{self.kernel} {kind}"
        text += f", {self.channels} channels" if self.depthwise else ""
        text += f", stride {self.stride}" if self.stride > 1 else ""
        return f"{text}, {self.batch}x{self.height}x{self.width}"

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def groups(self) -> int:
        return self.channels if self.depthwise else 1

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """The shapes of x, weight and y."""
        x = self.height, self.width, self.channels
        y = Conv(self.features, self.kernel, self.stride, self.padding).after(x)
        weight = (self.kernel, self.kernel, self.channels // self.groups, self.features)
        return (self.batch, *x), weight, (self.batch, *y)

    def work(self) -> Work:
        places = prod(
            taps(n, self.kernel, self.stride, self.padding) for n in (self.height, self.width)
        )
        products = self.channels // self.groups * self.features
        size = 4 * sum(map(prod, self.shapes))
        return Work(2 * self.batch * places * products, size, size)

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, weight, dy)"""
        random = np.random.default_rng(0)
        x, weight, dy = (random.random(shape, dtype=np.float32) - 0.5 for shape in self.shapes)
        return x, weight, dy


DIGITS = (Conv(32), MaxPool(), Conv(64), MaxPool(), Linear(128), Linear(10, relu=False))
PHOTOS = (
    *(Conv(32, padding=1, norm=True), Conv(32, padding=1, norm=True), MaxPool()),
    *(Conv(64, padding=1, norm=True), Conv(64, padding=1, norm=True), MaxPool()),
    *(Linear(128), Linear(10, relu=False)),
)
RESIDUAL = (
    *(Conv(16, padding=1, norm=True), Block(16), Block(32, stride=2), Block(64, stride=2)),
    *(GlobalPool(), Linear(10, relu=False)),
)
SENSORS = (Conv(64, 5), Conv(64, 5), MaxPool(), Conv(64, 5), GlobalPool(), Linear(6, relu=False))


def digits(batch: int) -> ConvNet:
    return ConvNet("conv 32-pool-64-pool-128-10 on 28x28x1", (28, 28, 1), DIGITS, batch)


def photos(batch: int) -> ConvNet:
    title = "conv 32-32-pool-64-64-pool-128-10 BatchNorm on 32x32x3"
    return ConvNet(title, (32, 32, 3), PHOTOS, batch)


CONVNETS = [
    digits(64),
    photos(64),
    ConvNet("ResNet 16-32-64 BatchNorm on 28x28x1", (28, 28, 1), RESIDUAL, 32),
    ConvNet("conv1d 64-64-pool-64-6 on 128x9", (128, 9), SENSORS, 100),
]
CONVNET_INFERENCE = [network(batch) for network in (digits, photos) for batch in (1, 256)]

# Batch, height, width, channels, features, kernel, stride; padded by half a kernel.
DENSE_SHAPES = [
    *((32, 56, 56, 8, 8, 3), (32, 56, 56, 16, 32, 3), (32, 28, 28, 32, 64, 3)),
    *((32, 28, 28, 17, 17, 3), (64, 14, 14, 64, 64, 3), (32, 14, 14, 128, 128, 3)),
    *((32, 7, 7, 256, 256, 3), (16, 13, 9, 48, 40, 3), (32, 28, 28, 32, 64, 3, 2)),
    *((1, 28, 28, 64, 64, 3), (1, 14, 14, 256, 256, 3)),
    *((32, 28, 28, 8, 16, 5), (32, 14, 14, 32, 64, 5), (16, 13, 9, 17, 33, 5)),
    *((32, 28, 28, 64, 64, 1), (32, 14, 14, 256, 64, 1), (32, 7, 7, 64, 256, 1)),
    (16, 13, 9, 33, 65, 1, 2),
]
# Batch, height, width, channels, stride.
DEPTHWISE_SHAPES = [
    *((32, 56, 56, 32, 1), (32, 28, 28, 64, 1), (32, 14, 14, 128, 1), (32, 7, 7, 256, 1)),
    *((32, 28, 28, 96, 2), (16, 13, 9, 17, 1)),
]
CONVOLUTIONS = [
    Convolution(form, *shape)
    for shape in (
        *DENSE_SHAPES,
        *(
            (*size, channels, channels, 3, stride, True)
            for *size, channels, stride in DEPTHWISE_SHAPES
        ),
    )
    for form in ("forward", "input", "weight")
]
