"""Networks for images and sequences, some with custom layers, and their inputs."""

import numpy as np

import fastnn
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)


class Crop(Layer):
    """A 1x1 convolution of each image without its outermost pixels."""

    dimensions = 3

    def __init__(self, channels, features):
        self.in_features, self.out_features = channels, features

    def output_shape(self, shape):
        height, width, features = super().output_shape(shape)
        if min(height, width) < 3:
            raise ValueError(f"{self!r} takes images from 3x3 on, got {height}x{width}")
        return height - 2, width - 2, features

    def parameter_shapes(self):
        return {"weight": (self.in_features, self.out_features)}

    def initialize(self, rng, activation):
        self.parameters["weight"][...] = rng.normal(size=self.parameters["weight"].shape)

    def forward(self, x, training=False):
        self.x = x
        return x[:, 1:-1, 1:-1] @ self.parameters["weight"]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        dx[:, 1:-1, 1:-1] = dy @ self.parameters["weight"].T
        self.gradients["weight"][...] = np.einsum("bhwi,bhwo->io", self.x[:, 1:-1, 1:-1], dy)
        return dx

    def __repr__(self):
        return f"Crop({self.in_features}, {self.out_features})"


class Mean(Layer):
    """The mean over all positions of an image or a sequence."""

    out_dimensions = 1

    def __init__(self, dimensions=3):
        self.dimensions = dimensions

    def output_shape(self, shape):
        return super().output_shape(shape)[-1:]

    def forward(self, x, training=False):
        self.shape = x.shape
        return x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)

    def backward(self, dy):
        rows, *between, features = self.shape
        share = dy.reshape(rows, *(1 for _ in between), features) / np.prod(between)
        return np.broadcast_to(share, self.shape)


class Own:
    """A layer not derived from Layer: it has no output_shape."""

    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


def draw(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def classifier(**options):
    """Layers of fastnn only, for images of 72 numbers."""
    return Sequential(
        BatchNorm(3), Residual(LayerNorm(3), fastnn.GELU(), Dropout(0.3)), ReLU(), Flatten(),
        Dense(72, 4), seed=1, **options,
    )  # fmt: skip


def network(**options):
    """With custom layers, for images of any size."""
    return Sequential(
        Crop(3, 8), BatchNorm(8), Tanh(), Residual(Crop(8, 8), shortcut=Crop(8, 8)), Mean(),
        Dense(8, 3), seed=1, **options,
    )  # fmt: skip
