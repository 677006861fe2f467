"""joblib: fastnn's `fit` of one network after the other, in two processes that stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import joblib

import fastnn
from many import Many
from peers.fastnn_peer import several


def trained(case: Many, seed: int, X: Any, y: Any) -> Any:
    model, (arguments,) = several(case, [seed])
    with fastnn.threads(1):
        model[0].fit(X, y, **arguments, progress=False)
    return model[0].flat_parameters


def many(case: Many) -> Callable[[], Any]:
    X, y = case.data()
    pool = joblib.Parallel(int(os.environ["OMP_NUM_THREADS"]))
    task = joblib.delayed(trained)
    return lambda: pool(task(case, seed, X, y) for seed in range(case.number))
