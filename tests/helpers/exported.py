"""Estimators to export, and tables for them; needs scikit-learn."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from fastnn.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor
from perceptrons import cancer, counts, digits, fast, multilabel, plane

NAN = float("nan")
CATEGORICAL = [2, 3, 4]


def table(rows, rng, new=False):
    """Numbers, of which some are missing, text, truth values and codes; new rows have more: what
    is unseen, and numbers at the edges."""
    numbers = rng.normal([1.6e9, 0], [1e4, 1], (rows, 2))
    numbers[rng.random(rows) < 0.1, 1] = NAN
    if new:
        edges = rng.random(rows) < 0.2
        numbers[edges, 0] = rng.choice([NAN, 0.0, 1e300, -1.7e308, 1e-310], edges.sum())
    text = ["red", "green", None, "new"]
    categories = [
        [text[i] for i in rng.integers(0, 3 + new, rows)],
        [bool(i) for i in rng.integers(0, 2, rows)],
        [[*range(0, 90, 10), None, 5, -1.0][i] for i in rng.integers(0, 10 + 2 * new, rows)],
    ]
    return np.column_stack([numbers.astype(object), *(np.array(c, object) for c in categories)])


def as_numbers(rows):
    """The rows as exported files take them."""
    x = rows.copy()
    x[:, 2] = [{"green": 0, "red": 1, None: NAN, "new": 2}[item] for item in x[:, 2]]
    x[x == None] = NAN  # noqa: E711
    return np.ascontiguousarray(x.astype(float))


def value_of(rows):
    """What can be learnt of such rows."""
    codes = np.array([0 if code is None else code for code in rows[:, 4]], float)
    return np.nan_to_num(rows[:, 1].astype(float)) + 2.0 * (rows[:, 2] == "red") + codes / 30


def targets_of(rows, kind):
    value = value_of(rows)
    if kind == "two classes":
        return np.where(value > 2, "yes */", "no")
    if kind == "three classes":
        return np.digitize(value, [1.0, 3.0]) * 10
    return 1e9 + value if kind == "values" else np.stack([value, 1e6 - value], axis=1)


# name -> (estimator, data, settings)
CASES = {
    "two classes": (MLPClassifier, cancer(), {}),
    "ten classes": (MLPClassifier, digits(), {}),
    "softmax of two": (MLPClassifier, cancer(), {"activation": "mish", "solver": "lbfgs"}),
    "one class": (MLPClassifier, (cancer()[0], np.ones(569)), {}),
    "labels": (MLPClassifier, multilabel(), {}),
    "hinge": (MLPClassifier, digits(), {"loss": "hinge"}),
    "value": (MLPRegressor, plane(), {}),
    "two values": (MLPRegressor, plane(2), {"activation": "tanh"}),
    "counts": (MLPRegressor, counts(2), {"loss": "poisson"}),
    "dropout": (MLPClassifier, digits(), {"dropout": 0.2}),
    "batch norm": (MLPRegressor, plane(), {"batch_norm": True}),
}


def assert_refuses_what_is_no_model(export, path):
    X, y = plane()
    for of in (MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor):
        with pytest.raises(NotFittedError):
            export(of(), path)
    regressor = MLPRegressor(**fast()).fit(X, y)
    with pytest.raises(ValueError, match="scalers: expected True for an estimator"):
        export(regressor, path, scalers=False)
    with pytest.raises(TypeError, match="model: expected a Sequential or an estimator of"):
        export(make_pipeline(regressor), path)
    assert not path.exists()
