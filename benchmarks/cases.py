"""What is measured: one table of networks, one of inference, one of products, one of kernels.

The tables alone; how a peer runs a row stands in its file in ``peers/``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Unsupported(Exception):
    """This peer has no such thing: the row is skipped in sight, with this text."""


@dataclass(frozen=True)
class Network:
    """A dense classifier; its training step is forward, loss, backward and Adam."""

    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0

    @property
    def name(self) -> str:
        extras = " BatchNorm" * self.batch_norm + f" {self.activation}"
        extras += f" Dropout {self.dropout}" if self.dropout else ""
        return "-".join(map(str, self.sizes)) + f"{extras}, batch {self.batch}"

    @property
    def operations(self) -> int:
        """Of one training step's matrix products (no input gradient for the first layer)."""
        layers = [2 * self.batch * n * m for n, m in zip(self.sizes, self.sizes[1:], strict=False)]
        return 3 * sum(layers) - layers[0]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch, (batch, features) and integer labels.

        Every sample comes twice, with two labels: a network that has learnt the batch by heart
        has gradients so small that denormal numbers would slow it down.
        """
        random = np.random.default_rng(0)
        x = random.random((self.batch, self.sizes[0]), dtype=np.float32)
        y = random.integers(self.sizes[-1], size=self.batch)
        x[1::2] = x[: self.batch - 1 : 2]
        y[1::2] = (y[: self.batch - 1 : 2] + 1) % self.sizes[-1]
        return x, y

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same start for the peers that are handed arrays: He, (in, out), and no bias."""
        random = np.random.default_rng(1)
        return [
            (
                random.normal(0, np.sqrt(2 / n), (n, m)).astype(np.float32),
                np.zeros(m, np.float32),
            )
            for n, m in zip(self.sizes, self.sizes[1:], strict=False)
        ]


@dataclass(frozen=True)
class Product:
    """One of the three products of training: C (rows, columns), summed over depth."""

    form: str  # forward: x @ weight;  input: dz @ weight.T;  weight: x.T @ dz
    rows: int
    depth: int
    columns: int

    @property
    def name(self) -> str:
        return f"{self.form} {self.rows}x{self.depth}x{self.columns}"

    @property
    def operations(self) -> int:
        return 2 * self.rows * self.depth * self.columns

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(a, b, c) as they lie in memory: the transposed one is stored transposed."""
        random = np.random.default_rng(0)
        a_shape, b_shape = (self.rows, self.depth), (self.depth, self.columns)
        if self.form == "input":
            b_shape = b_shape[::-1]
        if self.form == "weight":
            a_shape = a_shape[::-1]
        a = random.normal(size=a_shape).astype(np.float32)
        b = random.normal(size=b_shape).astype(np.float32)
        return a, b, np.empty((self.rows, self.columns), np.float32)


@dataclass(frozen=True)
class Kernel:
    """Everything that is no product, on float32 arrays of (rows, features)."""

    family: str
    kind: str
    rows: int
    features: int

    @property
    def name(self) -> str:
        return f"{self.family} {self.kind} {self.rows}x{self.features}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, dy), both (rows, features), normal."""
        random = np.random.default_rng(0)
        shape = (self.rows, self.features)
        x, dy = (random.normal(size=shape).astype(np.float32) for _ in range(2))
        return x, dy


NETWORKS = [
    Network((4, 64, 64, 2), batch=64, activation="tanh"),
    Network((784, 128, 10), batch=32),
    Network((784, 512, 512, 10), batch=128, batch_norm=True, dropout=0.2),
    Network((64, 256, 256, 256, 2), batch=256),
    Network((1024, 2048, 2048, 1000), batch=512),
]

INFERENCE = [
    Network((4, 64, 64, 2), batch=1),
    Network((784, 128, 10), batch=1),
    Network((784, 512, 512, 10), batch=1),
    Network((784, 512, 512, 10), batch=1024),
]

PRODUCTS = [
    Product(form, *shape)
    for shape in [
        (1, 784, 128),
        (32, 784, 128),
        (256, 64, 256),
        (256, 256, 256),
        (128, 784, 512),
        (1008, 4096, 4096),
    ]
    for form in ("forward", "input", "weight")
]

KERNELS = [
    *(
        Kernel(f"activation {way}", kind, 512, 512)
        for kind in (
            *("relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu"),
            *("softplus", "silu", "gelu", "mish", "softmax"),
        )
        for way in ("forward", "backward")
    ),
    *(Kernel("dropout", way, 512, 512) for way in ("forward", "backward")),
    *(
        Kernel(norm, way, 2048, 512)
        for norm in ("batch norm", "layer norm")
        for way in ("forward", "evaluate", "backward")
        if (norm, way) != ("layer norm", "evaluate")
    ),
    *(
        Kernel("loss", kind, 512, 128)
        for kind in (
            *("softmax_cross_entropy", "sigmoid_cross_entropy", "hinge"),
            *("squared_error", "absolute_error", "huber"),
        )
    ),
    *(
        Kernel("optimizer", kind, 1000, 1000)
        for kind in ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
    ),
]

TABLES = {"train": NETWORKS, "predict": INFERENCE, "product": PRODUCTS, "kernel": KERNELS}


def find(table: str, name: str) -> Network | Product | Kernel:
    """The row of that name."""
    return next(case for case in TABLES[table] if case.name == name)
