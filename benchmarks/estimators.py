"""Whole trainings by scikit-learn's estimators and by fastnn's of the same names."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SEEDS = 10
LARGE = "60000 images of noise"


@dataclass(frozen=True)
class Estimator:
    """`fit` at scikit-learn's defaults on one of its data sets, three quarters of the rows."""

    data_set: str
    max_iter: int = 200

    @property
    def name(self) -> str:
        return f"{self.data_set}, {self.max_iter} epochs at most"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """float32, scikit-learn's fastest type, with mean 0 and standard deviation 1."""
        if self.data_set == LARGE:
            return images()
        from sklearn import datasets

        X, y = getattr(datasets, f"load_{self.data_set}")(return_X_y=True)
        X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
        if y.dtype.kind == "f":
            y = ((y - y.mean()) / y.std()).astype(np.float32)
        return X.astype(np.float32), y

    def splits(self) -> list[tuple[np.ndarray, ...]]:
        """X and y to train on, X and y held out."""
        X, y = self.data()
        if self.data_set == LARGE:  # its order is random, and copies are large
            return [(X[:60_000], y[:60_000], X[60_000:], y[60_000:])]
        splits, cut = [], len(X) * 3 // 4
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(X))
            train, test = order[:cut], order[cut:]
            splits.append((X[train], y[train], X[test], y[test]))
        return splits

    def trainings(self, module: Any) -> Callable[[], Callable[[], float]]:
        """A function that trains the module's estimator with the next seed on the next split, and
        returns a function that scores the rows held out."""
        from sklearn.exceptions import ConvergenceWarning

        warnings.simplefilter("ignore", ConvergenceWarning)
        turns = itertools.cycle(zip(range(SEEDS), itertools.cycle(self.splits()), strict=False))

        def train() -> Callable[[], float]:
            seed, (X, y, X_test, y_test) = next(turns)
            kind = module.MLPRegressor if y.dtype.kind == "f" else module.MLPClassifier
            estimator = kind(max_iter=self.max_iter, random_state=seed).fit(X, y)
            return lambda: float(estimator.score(X_test, y_test))

        return train

    def score(self, module: Any) -> float:
        """The mean score over seeds."""
        train = self.trainings(module)
        return float(np.mean([train()() for _ in range(2 if self.data_set == LARGE else SEEDS)]))


@dataclass(frozen=True)
class Overhead:
    """`fit` of the estimator, and of the network that it trains, both from new parameters."""

    features: int
    rows: int = 1000
    epochs: int = 200
    hidden: int = 100
    batch: int = 200

    @property
    def name(self) -> str:
        return f"{self.rows} rows of {self.features} features, {self.epochs} epochs"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Random rows of two classes."""
        random = np.random.default_rng(0)
        X = random.normal(size=(self.rows, self.features)).astype(np.float32)
        return X, random.integers(2, size=self.rows)


def images() -> tuple[np.ndarray, np.ndarray]:
    """70000 images of MNIST's shape: ten pictures under much noise."""
    random = np.random.default_rng(0)
    y = random.integers(10, size=70_000)
    pictures = random.random((10, 784), dtype=np.float32)
    X = random.random((70_000, 784), dtype=np.float32)
    X *= 0.93
    X += 0.07 * pictures[y]
    return X, y


ESTIMATORS = [
    *map(Estimator, ("digits", "breast_cancer", "wine", "iris", "diabetes")),
    Estimator(LARGE, max_iter=3),
]
OVERHEADS = [Overhead(20), Overhead(784)]
