"""scikit-learn: ``partial_fit``, one batch a call, and ``fit``, in float32 and without its L2; for
the table `estimator`, its defaults.

With two classes it has one output unit in place of two.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from cases import Fit, Network, Unsupported
from estimators import Estimator
from many import Many


def train(network: Network) -> Callable[[], Any]:
    if network.batch_norm or network.dropout:
        raise Unsupported("scikit-learn has no batch norm and no dropout")
    x, y = network.data()
    settings = {
        "hidden_layer_sizes": network.sizes[1:-1],
        "activation": network.activation,
        "alpha": 0.0,
        "batch_size": network.batch,
        "learning_rate_init": network.learning_rate,
        "random_state": 0,
    }
    if network.regression:
        regressor, targets = MLPRegressor(**settings), y.ravel()
        return lambda: regressor.partial_fit(x, targets)
    model = MLPClassifier(**settings)
    model.partial_fit(x, y, classes=np.arange(network.sizes[-1]))
    return lambda: model.partial_fit(x, y)


def fit(case: Fit) -> Callable[[], Any]:
    """From new parameters every time, without its warning that two epochs are few."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    x, y = case.data()
    model = MLPClassifier(
        case.network.sizes[1:-1],
        alpha=0.0,
        batch_size=case.network.batch,
        max_iter=case.epochs,
        early_stopping=False,
        random_state=0,
    )
    model.fit(x[: 2 * case.network.batch], y[: 2 * case.network.batch])
    return lambda: model.fit(x, y)


def many(case: Many) -> Callable[[], Any]:
    """In two processes that stay, without a loss at which a training ends early."""
    X, y = case.data()
    settings = {
        "hidden_layer_sizes": case.sizes[1:-1],
        "activation": "relu" if case.regression else "tanh",
        "alpha": 0.0,
        "batch_size": case.batch,
        "max_iter": case.epochs,
        "n_iter_no_change": case.epochs,
    }
    kind = MLPRegressor if case.regression else MLPClassifier
    pool = joblib.Parallel(int(os.environ["OMP_NUM_THREADS"]))

    def train(seed: int) -> Any:
        warnings.simplefilter("ignore", ConvergenceWarning)  # in that process
        return kind(**settings, random_state=seed).fit(X, y.ravel())

    task = joblib.delayed(train)
    return lambda: pool(task(seed) for seed in range(case.number))


def estimator(case: Estimator) -> Callable[[], Any]:
    return case.trainings(neural_network)


def score(case: Estimator) -> float:
    return case.score(neural_network)
