"""CatBoost at its defaults with a held-out fifth that says when to stop, and a random search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor, Pool

from data_sets import Table
from peers.frames import categorical, held_out
from tabular import PATIENCE, TREES, Predict

TRIALS = 20
MANY_CLASSES = 10


def texts(X: pd.DataFrame) -> pd.DataFrame:
    """Categories as text, in which a missing one is a category of its own."""
    names = categorical(X)
    return X.assign(**{name: X[name].astype(object).fillna("missing") for name in names})


def pool(X: pd.DataFrame, y: np.ndarray | None = None) -> Pool:
    return Pool(texts(X), y, cat_features=categorical(X))


def trained(pools: tuple[Pool, Pool], task: str, **settings: Any) -> Any:
    """Beyond ten classes a tree of categories takes a second, if small ones are not one-hot."""
    kind = CatBoostRegressor if task == "regression" else CatBoostClassifier
    if task != "regression" and len(np.unique(pools[0].get_label())) > MANY_CLASSES:
        settings["one_hot_max_size"] = 10
    model = kind(
        iterations=TREES, early_stopping_rounds=PATIENCE, allow_writing_files=False, **settings
    )
    return model.fit(pools[0], eval_set=pools[1], verbose=False)


def pools(train: Table, task: str, seed: int) -> tuple[Pool, Pool]:
    rows, held = held_out(train, task, seed)
    return pool(train.X.iloc[rows], train.y[rows]), pool(train.X.iloc[held], train.y[held])


def predicting(model: Any, task: str) -> Predict:
    predict = model.predict if task == "regression" else model.predict_proba
    return lambda X: predict(pool(X))


def trees(train: Table, task: str, seed: int, threads: int) -> Predict:
    parts = pools(train, task, seed)
    return predicting(trained(parts, task, random_seed=seed, thread_count=threads), task)


def tuned(train: Table, task: str, seed: int, threads: int) -> Predict:
    """The best on the held-out fifth of the defaults and `TRIALS` - 1 draws of what its page on
    parameter tuning names."""
    parts, random = pools(train, task, seed), np.random.default_rng(seed)
    best = None
    for trial in range(TRIALS):
        drawn = {
            "learning_rate": float(np.exp(random.uniform(np.log(0.01), np.log(0.3)))),
            "depth": int(random.integers(4, 11)),
            "l2_leaf_reg": float(np.exp(random.uniform(0.0, np.log(10.0)))),
            "random_strength": float(random.uniform(0.0, 10.0)),
            "bagging_temperature": float(random.uniform(0.0, 1.0)),
        }
        settings = drawn if trial else {}
        model = trained(parts, task, random_seed=seed, thread_count=threads, **settings)
        loss = next(iter(model.get_best_score()["validation"].values()))
        if best is None or loss < best[0]:
            best = loss, model
    assert best is not None
    return predicting(best[1], task)
