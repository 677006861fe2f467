"""categorical_features of the estimators: tables with categories and gaps."""

import pickle
import warnings

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import TableEncoder

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ROWS = 400


def table(many=20):
    """Numbers, a column of three categories and one of so many, with gaps; and what follows."""
    rng = np.random.default_rng(0)
    word, code = rng.integers(0, 3, ROWS), rng.integers(0, many, ROWS)
    X = np.empty((ROWS, 3), object)
    X[:, 0], X[:, 1], X[:, 2] = 50 + 9 * rng.standard_normal(ROWS), word, code
    X[:, 1] = [("red", "green", "blue")[i] for i in word]
    y = ((word == 1) ^ (code % 3 == 0)).astype(int)
    X[::17, 0] = None
    X[5, 1] = None
    return X, y


def settings(**others):
    return {"categorical_features": [1, 2], "random_state": 0, "max_iter": 60,
            "learning_rate_init": 0.01, **others}  # fmt: skip


@pytest.mark.parametrize("options", [
    {}, {"solver": "sgd", "learning_rate_init": 0.1}, {"solver": "lbfgs"}, {"dtype": "float64"},
    {"batch_norm": True, "dropout": 0.1}, {"hidden_layer_sizes": (32, 16)},
    {"early_stopping": True, "scoring": "roc_auc", "n_iter_no_change": 30},
    {"early_stopping": True, "n_iter_no_change": 30}, {"categorical_features": "auto"},
    {"categorical_features": "from_dtype"},
], ids=str)  # fmt: skip
def test_what_follows_from_categories_is_learnt(options):
    X, y = table()
    X[:, 2] = [f"no {i}" for i in X[:, 2]]
    classifier = MLPClassifier(**settings(**options)).fit(X[:300], y[:300])
    assert classifier.score(X[300:], y[300:]) > 0.9
    encoder = classifier.encoder_
    assert (encoder.numeric_, encoder.one_hot_, encoder.codes_) == (1, 4, 1)
    assert classifier.n_features_in_ == 3 and classifier.model_.scaler is encoder
    assert classifier.coefs_[0].shape[0] == 1 + 4 + 8
    assert_same_bits(classifier.coefs_[0], classifier.model_.parameters["1.weight"])
    for twin in (pickle.loads(pickle.dumps(classifier)), clone(classifier).fit(X[:300], y[:300])):
        assert_same_bits(twin.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("options", [
    {}, {"early_stopping": True}, {"solver": "lbfgs"}, {"batch_norm": True},
], ids=str)  # fmt: skip
def test_few_categories_are_what_an_encoder_before_the_estimator_makes(kind, options):
    """The same bits, in coefs_ and in answers."""
    X, y = table(many=8)
    options = settings(**options, max_iter=5)
    dtype = "float64" if "solver" in options else "float32"  # in which L-BFGS computes
    encoder = TableEncoder([1, 2], scaling="standard", clip=None, dtype=dtype).fit(X)
    one = kind(**options).fit(X, y)
    two = kind(**options | {"categorical_features": None}).fit(encoder.transform(X), y)
    for mine, its in zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True):
        assert_same_bits(mine, its)
    np.testing.assert_array_equal(one.predict(X), two.predict(encoder.transform(X)))
    assert not hasattr(two, "encoder_") and two.model_.scaler is None


def embedding(classifier):
    (name,) = (n for n in classifier.model_.parameters if n.startswith("0."))
    return classifier.model_.parameters[name].copy()


@pytest.mark.parametrize("go_on", ["warm_start", "partial_fit"])
def test_a_training_goes_on_with_the_features_of_codes(go_on):
    X, y = table()
    classifier = MLPClassifier(**settings(max_iter=1, warm_start=True))
    train = classifier.fit if go_on == "warm_start" else classifier.partial_fit
    arguments = {"classes": [0, 1]} if go_on == "partial_fit" else {}
    train(X, y, **arguments)
    encoder, before = classifier.encoder_, embedding(classifier)
    for _ in range(3):
        train(X[:200], y[:200])
    after = embedding(classifier)
    assert classifier.encoder_ is encoder and encoder.n_codes_ == 21
    assert 0 < abs(after - before).max() < 0.1
    if go_on == "warm_start":
        classifier.set_params(warm_start=False, random_state=1)
        train(X, y)
        assert abs(embedding(classifier) - after).max() > 0.5


def test_settings_that_change_keep_the_features_of_codes():
    X, y = table()
    classifier = MLPClassifier(**settings(max_iter=30, warm_start=True)).fit(X, y)
    before, loss = embedding(classifier), classifier.loss_
    classifier.set_params(batch_norm=True, max_iter=1, learning_rate_init=1e-9).fit(X, y)
    np.testing.assert_allclose(embedding(classifier), before, atol=1e-6)
    assert loss < 0.3


def test_codes_alone():
    X, y = table()
    classifier = MLPClassifier(**settings(categorical_features=[0])).fit(X[:, 2:], y)
    assert classifier.coefs_[0].shape[0] == 8
    assert type(classifier.model_[0]).__name__ == "Block"
    assert classifier.predict([[3], [None], ["never"]]).shape == (3,)
    unseen = classifier.predict_proba([[None], ["never"]])
    assert_same_bits(unseen[:1], unseen[1:])


def test_validation_data_and_weights():
    X, y = table()
    classifier = MLPClassifier(**settings(max_iter=5, class_weight="balanced"))
    classifier.fit(X[:300], y[:300], np.ones(300), validation_data=(X[300:], y[300:]))
    assert len(classifier.validation_loss_curve_) == 5
    search = GridSearchCV(classifier, {"alpha": [0.0, 0.1]}, cv=2).fit(X, y)
    assert search.best_estimator_.encoder_.codes_ == 1


def test_a_file_has_the_encoder(tmp_path):
    X, y = table()
    classifier = MLPClassifier(**settings(max_iter=5)).fit(X, y)
    classifier.model_.save(tmp_path / "model.safetensors")
    model = fastnn.load(tmp_path / "model.safetensors")
    logits = model.predict(model.scaler.transform(X))[:, 0]
    np.testing.assert_array_equal(logits > 0, classifier.predict(X) == 1)


def test_data_frames():
    pandas = pytest.importorskip("pandas", reason="no pandas")
    X, y = table()
    frame = pandas.DataFrame(X, columns=["age", "colour", "no"]).astype({"age": float})
    classifier = MLPClassifier(**settings(categorical_features=["colour", "no"])).fit(frame, y)
    assert classifier.feature_names_in_.tolist() == ["age", "colour", "no"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = classifier.predict_proba(frame)
    with pytest.warns(UserWarning, match="valid feature names, but MLPClassifier") as caught:
        assert_same_bits(classifier.predict_proba(X), proba)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        classifier.predict(frame[["no", "age", "colour"]])


@pytest.mark.parametrize("options, X, message", [
    ({"categorical_features": [3]}, None, "categorical_features: expected 'auto', None, indices"),
    ({"categorical_features": [2]}, None, r"X: expected real numbers, got '\w+' in column 1"),
    ({"categorical_features": None}, None, "could not convert string to float|real numbers"),
    ({"categorical_features": "all"}, None, "The 'categorical_features' parameter of MLPClassi"),
    ({}, np.zeros((4, 3)), "inconsistent numbers of samples"),
])  # fmt: skip
def test_what_is_refused(options, X, message):
    rows, y = table()
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**settings(**options)).fit(rows if X is None else X, y)


def test_other_columns_are_refused_in_prediction():
    X, y = table()
    classifier = MLPClassifier(**settings(max_iter=1)).fit(X, y)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3"):
        classifier.predict(X[:, :2])
    with pytest.raises(ValueError, match="Reshape your data"):
        classifier.predict(X[0])
    with pytest.raises(ValueError, match="requires y to be passed"):
        classifier.fit(X, None)


UNWEIGHTED = "check_sample_weight_equivalence_on_dense_data"  # numbers are scaled without weights
CHECKS = [
    pytest.param(of, check, id=f"{type(of).__name__} {i} {check.func.__name__}")
    for estimator in (MLPClassifier(), MLPRegressor())
    for i, (of, check) in enumerate(
        estimator_checks_generator(estimator.set_params(categorical_features="auto"))
    )
    if check.func.__name__ != UNWEIGHTED
]


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings
@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
