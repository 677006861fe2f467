"""Fitted estimators from scikit-learn's to fastnn's and back."""

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn.sklearn import MLPClassifier, MLPRegressor, from_sklearn, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore:(Stochastic Optimizer|lbfgs failed)")
X, LABELS = (array[:150] for array in fastnn.datasets.digits())
X, LABELS = X[:, 8:40].astype(np.float64), LABELS % 3
NAMED = np.array(["one", "two", "many"])
TARGETS = {
    "classes": LABELS, "names": NAMED[LABELS], "two": LABELS > 0, "one": np.zeros(150, int),
    "several": np.eye(3, dtype=int)[LABELS], "labels": np.c_[LABELS > 0, LABELS > 1].astype(int),
}  # fmt: skip


def fitted(kind, y, dtype=np.float64, **settings):
    settings = {"hidden_layer_sizes": (9, 5), "max_iter": 8, "random_state": 0} | settings
    return kind(**settings).fit(X.astype(dtype), y)


def assert_like(one, other, methods, rtol):
    for method in methods:
        a, b = getattr(one, method)(X), getattr(other, method)(X)
        assert a.shape == b.shape
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, strict=True)
        else:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh", "identity"])
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-11), (np.float32, 1e-5)])
@pytest.mark.parametrize("name", TARGETS)
def test_classifiers(name, dtype, rtol, activation):
    theirs = fitted(TheirClassifier, TARGETS[name], dtype, activation=activation)
    before = [array.copy() for array in theirs.coefs_]
    ours = from_sklearn(theirs)
    assert ours.model_.dtype == dtype and type(ours) is MLPClassifier
    methods = ("predict", "predict_proba", "predict_log_proba")
    assert_like(ours, theirs, methods[: 2 if name == "one" else 3], rtol)
    assert ours.score(X, TARGETS[name]) == theirs.score(X, TARGETS[name])
    back = to_sklearn(ours)
    np.testing.assert_array_equal(back.predict_proba(X), theirs.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), theirs.predict(X), strict=True)
    assert back.get_params() == theirs.get_params()
    ours.coefs_[0][...] = 0
    np.testing.assert_array_equal(theirs.coefs_[0], before[0])


def test_sparse_labels():
    theirs = fitted(TheirClassifier, csr_matrix(TARGETS["labels"]))
    ours = from_sklearn(theirs)
    for each in (ours, to_sklearn(ours)):
        assert issparse(each.predict(X))
        np.testing.assert_array_equal(each.predict(X).toarray(), theirs.predict(X).toarray())


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors(outputs, loss):
    y = 1 + X[:, :outputs] if outputs > 1 else 1 + X[:, 4]
    theirs = fitted(TheirRegressor, y, loss=loss)
    ours = from_sklearn(theirs)
    assert_like(ours, theirs, ["predict"], 1e-11)
    np.testing.assert_array_equal(to_sklearn(ours).predict(X), theirs.predict(X), strict=True)


ATTRIBUTES = ["n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "n_iter_", "t_",
              "loss_", "best_loss_", "loss_curve_", "validation_scores_",
              "best_validation_score_", "classes_", "feature_names_in_"]  # fmt: skip


@pytest.mark.parametrize("settings", [
    {}, {"solver": "lbfgs"}, {"early_stopping": True}, {"hidden_layer_sizes": 4, "solver": "sgd"},
    {"hidden_layer_sizes": (), "random_state": np.random.RandomState(1)},
])  # fmt: skip
def test_attributes_and_settings(settings):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    settings = {"hidden_layer_sizes": (3,), "max_iter": 8, "random_state": 0} | settings
    theirs = TheirClassifier(**settings).fit(table, LABELS)
    ours = from_sklearn(theirs)
    back = to_sklearn(ours)
    for name in ATTRIBUTES:
        for other in (ours, back):
            assert hasattr(theirs, name) == hasattr(other, name), name
            if hasattr(theirs, name):
                np.testing.assert_array_equal(getattr(other, name), getattr(theirs, name))
    np.testing.assert_array_equal(ours.predict(table), theirs.predict(table))
    with pytest.warns(UserWarning, match="feature names"):
        ours.predict(X)


@pytest.mark.parametrize("y", [LABELS, LABELS > 0, TARGETS["labels"]])
def test_both_train_on(y):
    theirs = fitted(TheirClassifier, y, solver="sgd", batch_size=150, learning_rate_init=0.01)
    ours = from_sklearn(theirs)
    back = to_sklearn(ours)
    for _ in range(3):  # whole batches, with momentum that begins anew in both
        ours.partial_fit(X, y)
        back.partial_fit(X, y)
    assert ours.n_iter_ and len(ours.loss_curve_) == len(back.loss_curve_) == 11
    np.testing.assert_allclose(ours.loss_, back.loss_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(X), back.predict_proba(X), 1e-8)
    ours.set_params(warm_start=True).fit(X, y)


def test_from_here():
    settings = {"hidden_layer_sizes": (6,), "activation": "sigmoid", "max_iter": 5}
    ours = MLPRegressor(**settings, random_state=0).fit(X, X[:, 4])
    theirs = to_sklearn(ours)
    assert type(theirs) is TheirRegressor and theirs.activation == "logistic"
    assert theirs.coefs_[0].dtype == np.float32 and theirs.coefs_[0] is not ours.coefs_[0]
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-5, atol=1e-6)
    again = from_sklearn(theirs)
    np.testing.assert_array_equal(again.predict(X), ours.predict(X))


@pytest.mark.parametrize("make, message", [
    (lambda: make_pipeline(StandardScaler(), TheirRegressor()), "got a Pipeline; convert its last"),
    (lambda: LinearRegression().fit(X, LABELS), "got a LinearRegression"),
    (lambda: MLPRegressor(), "got a MLPRegressor"),
])  # fmt: skip
def test_others_are_refused(make, message):
    with pytest.raises(TypeError, match=f"fitted: expected an sklearn.*{message}"):
        from_sklearn(make())
    with pytest.raises(
        TypeError, match=r"estimator: expected an fastnn\.sklearn\.MLPClassifier or"
    ):
        to_sklearn(TheirRegressor())
    for convert, estimator in ((from_sklearn, TheirRegressor()), (to_sklearn, MLPRegressor())):
        with pytest.raises(NotFittedError):
            convert(estimator)


def test_arrays_that_do_not_follow_the_settings_are_refused():
    theirs = fitted(TheirClassifier, LABELS)
    theirs.coefs_[1] = theirs.coefs_[1][:, :4]
    with pytest.raises(ValueError, match=r"fitted: coefs_ of .* do not follow"):
        from_sklearn(theirs)


@pytest.mark.parametrize("settings", [
    {"dropout": 0.1}, {"batch_norm": True}, {"class_weight": "balanced"}, {"n_ensembles": 2},
    {"scoring": "accuracy"}, {"callbacks": [fastnn.Callback()]}, {"categorical_features": "auto"},
    {"activation": "gelu"}, {"activation": fastnn.ReLU()}, {"loss": "hinge"},
    {"loss": fastnn.SoftmaxCrossEntropy(label_smoothing=0.1)},
])  # fmt: skip
def test_settings_that_scikit_learn_lacks_are_refused_by_name(settings):
    (name,) = settings
    ours = fitted(MLPClassifier, LABELS, **settings)
    with pytest.raises(ValueError, match=f"estimator: scikit-learn has no {name}"):
        to_sklearn(ours)


def test_settings_that_changed_since_the_fit():
    ours = fitted(MLPClassifier, LABELS, dropout=0.1).set_params(dropout=0)
    assert_like(to_sklearn(ours), ours, ["predict", "predict_proba"], 1e-5)
    for then, now in (({"batch_norm": True}, {"batch_norm": False}),
                      ({"activation": "tanh"}, {"activation": "relu"}),
                      ({"n_ensembles": 2}, {"n_ensembles": 1})):  # fmt: skip
        changed = fitted(MLPClassifier, LABELS, **then).set_params(**now)
        with pytest.raises(ValueError, match="fitted with other settings than it has now"):
            to_sklearn(changed)
