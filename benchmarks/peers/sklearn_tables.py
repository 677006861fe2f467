"""scikit-learn: its MLP behind the usual preprocessing, and its boosted trees, both at defaults."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from data_sets import Table
from peers.frames import categorical, numeric
from tabular import Predict

MOST_CATEGORIES = 255  # that its trees take in a column


def mlp(train: Table, task: str, seed: int, threads: int) -> Predict:
    """Numbers standardised, missing ones the median with a column that says so; categories one-hot;
    the targets of a regression standardised."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    preparation = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
            numeric(train.X),
        ),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical(train.X)),
    )
    if task == "regression":
        network = make_pipeline(preparation, MLPRegressor(random_state=seed))
        regressor = TransformedTargetRegressor(network, transformer=StandardScaler())
        return regressor.fit(train.X, train.y).predict
    return make_pipeline(preparation, MLPClassifier(random_state=seed)).fit(*train).predict_proba


def boosting(train: Table, task: str, seed: int, threads: int) -> Predict:
    """Columns of too many categories are ordered codes, as its documentation says."""
    many = [name for name in categorical(train.X) if train.X[name].nunique() > MOST_CATEGORIES]
    few = [name for name in categorical(train.X) if name not in many]
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}
    codes = OrdinalEncoder(**unknown, encoded_missing_value=np.nan)
    preparation = make_column_transformer(
        (codes, many), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    settings = {"categorical_features": few or None, "random_state": seed}
    if task == "regression":
        trees = HistGradientBoostingRegressor(**settings)
        return make_pipeline(preparation, trees).fit(*train).predict
    return (
        make_pipeline(preparation, HistGradientBoostingClassifier(**settings))
        .fit(*train)
        .predict_proba
    )
