"""XGBoost at its defaults, but for as many trees as a held-out fifth asks for (1000 at most)."""

from __future__ import annotations

from xgboost import XGBClassifier, XGBRegressor

from data_sets import Table
from peers.frames import held_out
from tabular import PATIENCE, TREES, Predict


def trees(train: Table, task: str, seed: int, threads: int) -> Predict:
    kind = XGBRegressor if task == "regression" else XGBClassifier
    model = kind(
        n_estimators=TREES,
        early_stopping_rounds=PATIENCE,
        enable_categorical=True,
        random_state=seed,
        n_jobs=threads,
    )
    rows, held = held_out(train, task, seed)
    validation = [(train.X.iloc[held], train.y[held])]
    model.fit(train.X.iloc[rows], train.y[rows], eval_set=validation, verbose=False)
    return model.predict if task == "regression" else model.predict_proba
