"""Single rows predicted by MLP estimators; those for tables are in test_tabular_files.py."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as TheirClassifier

from compare import assert_same_bits
from fastnn.sklearn import MLPClassifier, MLPRegressor, from_sklearn

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
X = np.random.default_rng(0).normal(size=(60, 4))
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
CASES = {
    "two classes": (MLPClassifier, np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)], {}),
    "three classes": (MLPClassifier, CLASSES, {}),
    "labels": (MLPClassifier, np.c_[X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > 0].astype(int), {}),
    "ensemble": (MLPClassifier, CLASSES, {"n_ensembles": 3}),
    "ensemble, two classes": (MLPClassifier, X[:, 0] > 0, {"n_ensembles": 2}),
    "hinge": (MLPClassifier, CLASSES, {"loss": "hinge"}),
    "value": (MLPRegressor, X[:, 0], {}),
    "values": (MLPRegressor, X[:, :2], {}),
    "ensemble of values": (MLPRegressor, X[:, 0], {"n_ensembles": 2}),
    "poisson": (MLPRegressor, np.exp(X[:, 0]), {"loss": "poisson"}),
    "categories": (MLPClassifier, CLASSES, {"categorical_features": [3]}),
}


def expected(estimator, rows, name):
    if name == "hinge":
        return estimator.model_.predict(rows)
    return getattr(estimator, "predict_proba", estimator.predict)(rows)


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_predicted_as_among_others(name):
    kind, y, settings = CASES[name]
    rows = X.copy()
    rows[:, 3] = np.digitize(X[:, 3], [-1, 0, 1])
    estimator = kind(hidden_layer_sizes=(9,), max_iter=3, random_state=0, **settings).fit(rows, y)
    predictor = estimator.predictor()
    for row, its in zip(rows, expected(estimator, rows, name), strict=True):
        found = predictor(row)
        np.testing.assert_allclose(found, its, rtol=1e-5, atol=1e-6)
        assert np.shape(found) == its.shape and np.all(predictor(row.tolist()) == found)
    if kind is MLPClassifier:
        np.testing.assert_array_equal(predictor.classes, estimator.classes_)
    else:
        assert predictor.classes is None


def test_a_predictor_stays_as_it_was():
    classifier = MLPClassifier((9,), max_iter=3, random_state=0).fit(X, CLASSES)
    predictor = classifier.predictor()
    found = predictor(X[0])
    before = found.copy()
    classifier.partial_fit(X, CLASSES)
    predictor(X[1])
    assert_same_bits(found, before)  # its own array
    assert_same_bits(predictor(X[0]), before)
    assert_same_bits(pickle.loads(pickle.dumps(predictor))(X[0]), before)
    assert np.abs(classifier.predictor()(X[0]) - before).max() > 1e-6


def test_a_network_from_scikit_learn():
    theirs = TheirClassifier((9,), max_iter=3, random_state=0).fit(X, CLASSES)
    predictor = from_sklearn(theirs).predictor()
    for row, its in zip(X, theirs.predict_proba(X), strict=True):
        np.testing.assert_allclose(predictor(row), its, rtol=1e-6)


def test_what_is_no_row():
    with pytest.raises(NotFittedError):
        MLPClassifier().predictor()
    predictor = MLPClassifier((9,), max_iter=1).fit(X, CLASSES).predictor()
    with pytest.raises(ValueError, match="4"):
        predictor(X[0, :3])
    with pytest.raises(TypeError, match=r"^row: expected a list or an array .* got a dict"):
        predictor(dict(enumerate(X[0])))
    with pytest.raises(ValueError, match="expected real numbers, got 'a'"):
        predictor(["a", "b", "c", "d"])
