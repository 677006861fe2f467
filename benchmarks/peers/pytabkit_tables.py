"""pytabkit: RealMLP and TabM with the defaults that it tuned, one training on four fifths of rows.

It takes frames with missing categories, but no missing numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pytabkit import (
    RealMLP_TD_Classifier,
    RealMLP_TD_Regressor,
    TabM_D_Classifier,
    TabM_D_Regressor,
)

from data_sets import Table
from peers.frames import MissingNumbers
from tabular import Predict


def fitted(kind: Any, train: Table, task: str, seed: int, threads: int) -> Predict:
    numbers = MissingNumbers(train.X)
    settings = {"device": "cpu", "random_state": seed, "n_threads": threads, "n_cv": 1}
    model = kind(**settings, n_refit=0, verbosity=0)
    model.fit(numbers.filled(train.X), train.y)
    predict = model.predict if task == "regression" else model.predict_proba

    def filled(X: pd.DataFrame) -> np.ndarray:
        return np.asarray(predict(numbers.filled(X)))

    return filled


def realmlp(train: Table, task: str, seed: int, threads: int) -> Predict:
    kind = RealMLP_TD_Regressor if task == "regression" else RealMLP_TD_Classifier
    return fitted(kind, train, task, seed, threads)


def tabm(train: Table, task: str, seed: int, threads: int) -> Predict:
    kind = TabM_D_Regressor if task == "regression" else TabM_D_Classifier
    return fitted(kind, train, task, seed, threads)
