"""Scoring: what early stopping makes of rows that are held out, by any scorer of scikit-learn's.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import check_scoring

from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.model import Sequential
    from fastnn.training.samples import Samples

    Array = NDArray[Any]


class Scoring:
    """The score of `held` rows by the estimator's `scoring`, or where that is None by its own."""

    def __init__(self, estimator: Any) -> None:
        self._estimator, self._scorer = estimator, None
        if estimator.scoring is not None:
            self._scorer = check_scoring(estimator, scoring=estimator.scoring)

    def __call__(self, model: Sequential, outputs: Array, held: Samples) -> float:
        """The score of the model, whose outputs for these rows are known."""
        estimator = self._estimator
        if not np.isfinite(outputs).all():
            return float("nan")
        if self._scorer is None:
            return float(estimator._score_outputs(outputs, held.y, held.weight))
        weight = {} if held.weight is None else {"sample_weight": held.weight}
        try:
            return float(
                self._scorer(estimator._with(model), held.X, estimator._as_given(held.y), **weight)
            )
        except Exception as error:
            rows = f"{len(held.y)} rows that were held out"
            checks.note(error, f"raised by scoring={estimator.scoring!r}, on the {rows}")
            raise
