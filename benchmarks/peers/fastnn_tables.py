"""fastnn's estimators for tables, at their defaults but for what is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from data_sets import Table
from fastnn.sklearn import TabularClassifier, TabularRegressor
from tabular import Predict


def network(train: Table, task: str, seed: int, threads: int, **changes: Any) -> Predict:
    """`changes` are parameters of the estimator, or parts of its recipe that are none."""
    kind = TabularRegressor if task == "regression" else TabularClassifier
    model = kind(random_state=seed, n_threads=threads)
    parameters = {name: changes.pop(name) for name in model.get_params() if name in changes}
    model.set_params(**parameters)
    model._recipe = replace(model._recipe, **changes)
    model.fit(*train)
    return model.predict if task == "regression" else model.predict_proba
