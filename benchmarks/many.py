"""Many small networks, each trained whole, from its own seed and in its own order of the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Many:
    """`number` networks with new parameters, Adam, all rows in `epochs` orders of each one's own.

    One output is a regression by the squared error, with ReLU; two are classes, with tanh."""

    sizes: tuple[int, ...]
    batch: int
    rows: int
    epochs: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.number} networks of {'-'.join(map(str, self.sizes))}, {self.epochs} epochs"

    @property
    def regression(self) -> bool:
        return self.sizes[-1] == 1

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        X = random.standard_normal((self.rows, self.sizes[0]), dtype=np.float32)
        noise = random.standard_normal(self.rows, dtype=np.float32)
        y = X[:, 0] * X[:, 1] + noise  # which is not learnt by heart
        return X, y[:, None] if self.regression else (y > 0).astype(np.int64)

    def orders(self) -> np.ndarray:
        """Orders of the rows (number, epochs, rows), for peers that take them as data."""
        rows = np.broadcast_to(
            np.arange(self.rows, dtype=np.int32), (self.number, self.epochs, self.rows)
        )
        return np.random.default_rng(0).permuted(rows, axis=-1)


MANY = [
    Many(sizes, batch, rows, epochs, number)
    for sizes, batch, rows, epochs in [((13, 50, 1), 32, 506, 50), ((4, 64, 64, 2), 64, 1024, 20)]
    for number in (1, 8, 64, 512)
]
