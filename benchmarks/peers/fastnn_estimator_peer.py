"""fastnn by its estimators, which make the network, check the data and decide when to stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from estimators import Overhead
from fastnn.sklearn import MLPClassifier


def overhead(case: Overhead) -> Callable[[], Any]:
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = case.data()
    settings = {"max_iter": case.epochs, "n_iter_no_change": case.epochs, "random_state": 0}
    sizes = {"hidden_layer_sizes": (case.hidden,), "batch_size": case.batch}
    return lambda: MLPClassifier(**sizes, **settings).fit(X, y)
