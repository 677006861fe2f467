"""What peers need done to a frame before they take it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_sets import Table


def numeric(X: pd.DataFrame) -> list[str]:
    return [name for name in X if X[name].dtype != "category"]


def categorical(X: pd.DataFrame) -> list[str]:
    return [name for name in X if X[name].dtype == "category"]


class MissingNumbers:
    """For peers without missing numbers: the training rows' median in their place, and a column
    more that says where, for each column that lacks some in training."""

    def __init__(self, X: pd.DataFrame) -> None:
        self.medians = X[numeric(X)].median().fillna(0.0)
        self.lacking = [name for name in numeric(X) if X[name].isna().any()]

    def filled(self, X: pd.DataFrame) -> pd.DataFrame:
        there = {f"{name} is missing": X[name].isna().astype(float) for name in self.lacking}
        return X.fillna(self.medians).assign(**there)


def held_out(train: Table, task: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and a fifth to stop by, for peers that want to be given one."""
    from sklearn.model_selection import train_test_split

    classes = None if task == "regression" else train.y
    rows = np.arange(len(train.y))
    return tuple(train_test_split(rows, test_size=0.2, random_state=seed, stratify=classes))
