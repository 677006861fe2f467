"""LightGBM at its defaults, but for as many trees as a held-out fifth asks for (1000 at most)."""

from __future__ import annotations

from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping

from data_sets import Table
from peers.frames import held_out
from tabular import PATIENCE, TREES, Predict


def trees(train: Table, task: str, seed: int, threads: int) -> Predict:
    kind = LGBMRegressor if task == "regression" else LGBMClassifier
    model = kind(n_estimators=TREES, random_state=seed, n_jobs=threads, verbose=-1)
    rows, held = held_out(train, task, seed)
    model.fit(
        train.X.iloc[rows],
        train.y[rows],
        eval_set=[(train.X.iloc[held], train.y[held])],
        callbacks=[early_stopping(PATIENCE, verbose=False)],
    )
    return model.predict if task == "regression" else model.predict_proba
