"""Data, settings and pairs of estimators for the tests of fastnn.sklearn; needs scikit-learn."""

import numpy as np
from sklearn import datasets, neural_network
from sklearn.preprocessing import StandardScaler

import fastnn.sklearn as ours


def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


def multilabel():
    return datasets.make_multilabel_classification(300, n_features=20, random_state=0)


def plane(outputs=1):
    X, y = datasets.make_regression(300, 10, n_targets=outputs, random_state=0)
    return X, y / y.std()


def counts(outputs=1):
    X, _ = plane()
    means = np.exp(X[:, :outputs] / 2)
    y = np.random.default_rng(0).poisson(means).astype(float)
    return X, y[:, 0] if outputs == 1 else y


def weights(X):
    return np.random.default_rng(1).uniform(0.5, 2, len(X))


def fast(**settings):
    return {"hidden_layer_sizes": (16,), "max_iter": 12, "random_state": 0, **settings}


def learning(**settings):
    """Settings that learn something."""
    return fast(**{"learning_rate_init": 0.01, "batch_size": 30, **settings})


def outputs_of(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def both(name, settings):
    settings = fast(shuffle=False, **settings)
    theirs = getattr(neural_network, name)(**settings)
    return theirs, getattr(ours, name)(dtype="float64", **settings)
