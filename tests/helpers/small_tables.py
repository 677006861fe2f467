"""Estimators for tables that are quick to train, and what they are trained on."""

import numpy as np
import pytest

from fastnn.sklearn import TabularClassifier, TabularRegressor
from perceptrons import cancer, plane

KINDS = [TabularClassifier, TabularRegressor]
SMALL = {"hidden_layer_sizes": (16, 16), "max_iter": 8, "random_state": 0}


def small(kind=TabularClassifier, **settings):
    return kind(**SMALL | settings)


def data(kind):
    return cancer() if kind is TabularClassifier else plane()


def answers(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def table(rows=300, seed=0):
    """Numbers of which some are missing, few and many categories; classes that follow them."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    rng = np.random.default_rng(seed)
    age, city = rng.normal(40, 9, rows), rng.integers(0, 30, rows)
    kind = rng.choice(["red", "green", "blue"], rows)
    y = (age - 40) / 9 + 2.0 * (kind == "red") + 2.0 * (city % 2) > 1.5
    frame = pandas.DataFrame(
        {"age": np.where(rng.random(rows) < 0.1, np.nan, age), "kind": kind, "city": city}
    )
    frame["city"] = frame["city"].map("city {}".format).astype("category")
    frame.loc[rng.random(rows) < 0.1, "kind"] = None
    return frame, np.where(y, "yes", "no")
