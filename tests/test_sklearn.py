"""The estimators are scikit-learn's: its own checks, and every figure beside its own networks.

In float64 and without shuffling both do the same arithmetic, so that whole trainings are compared;
Adam alone differs a little, by where epsilon stands."""

import copy
import inspect
import pickle
import signal
import warnings

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are untested")

import joblib
from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn import datasets, neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.estimator_checks import estimator_checks_generator

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
NAMES = ["MLPClassifier", "MLPRegressor"]


CHECKS = [
    pytest.param(of, check, id=f"{type(of).__name__} {i} {check.func.__name__}")
    for estimator in (MLPClassifier(), MLPRegressor())
    for i, (of, check) in enumerate(estimator_checks_generator(estimator))
]


@pytest.mark.filterwarnings("ignore")  # which the checks provoke
@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# ---- data ----


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
    """Enough to learn something."""
    return fast(**{"learning_rate_init": 0.01, "batch_size": 30, **settings})


# ---- the same interface ----


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_scikit_learns_in_order_and_by_default(name):
    theirs, mine = (
        inspect.signature(getattr(module, name)).parameters for module in (neural_network, ours)
    )
    shared = list(mine.values())[: len(theirs)]
    assert [(p.name, p.default, p.kind) for p in shared] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]
    rest = list(mine.values())[len(theirs) :]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest)
    documented = MLPClassifier.__doc__ + getattr(ours, name).__doc__
    assert [p for p in mine if f"`{p}`" not in documented] == []


BAD = [
    {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": "a"}, {"hidden_layer_sizes": (5, 0)},
    {"solver": "lm"}, {"alpha": -1}, {"batch_size": 0}, {"batch_size": "all"},
    {"learning_rate": "fast"}, {"learning_rate_init": 0}, {"power_t": -1}, {"max_iter": 0},
    {"max_iter": 1.5}, {"shuffle": "yes"}, {"random_state": "a"}, {"tol": -1}, {"verbose": "a"},
    {"warm_start": 2}, {"momentum": 1.1}, {"nesterovs_momentum": "a"}, {"early_stopping": "a"},
    {"validation_fraction": 1}, {"beta_1": 1}, {"beta_2": -0.1}, {"epsilon": 0},
    {"n_iter_no_change": 0}, {"max_fun": 0},
]  # fmt: skip


@pytest.mark.parametrize("settings", BAD, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_bad_settings_are_refused_in_scikit_learns_words(name, settings):
    X, y = cancer()
    messages = []
    for module in (neural_network, ours):
        with pytest.raises(ValueError) as error:
            getattr(module, name)(**settings).fit(X, y)
        messages.append((type(error.value), sorted(str(error.value))))  # which lists a set
    assert messages[0] == messages[1]


@pytest.mark.parametrize("settings", [
    {"dropout": 1.0}, {"dropout": -0.1}, {"batch_norm": "yes"}, {"callbacks": 3},
    {"callbacks": [3]}, {"dtype": "float16"}, {"n_threads": 0}, {"activation": "swash"},
    {"loss": "l1"}, {"loss": fastnn.Huber}, {"dropout": 0.5, "solver": "lbfgs"},
    {"callbacks": [fastnn.Callback()], "solver": "lbfgs"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_bad_settings_of_our_own_are_refused(name, settings):
    with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
        getattr(ours, name)(**settings).fit(*cancer())


@pytest.mark.parametrize("name, call", [
    ("MLPClassifier", lambda e, X, y: e.partial_fit(X, y)),
    ("MLPClassifier", lambda e, X, y: e.partial_fit(X, y, classes=[0, 1]).partial_fit(X, y + 1)),
    ("MLPClassifier", lambda e, X, y: e.partial_fit(X, y, classes=[0, 1]).partial_fit(
        X, y, classes=[0, 2])),
    ("MLPClassifier", lambda e, X, y: e.set_params(warm_start=True).fit(X, y).fit(X, y + 1)),
    ("MLPClassifier", lambda e, X, y: e.fit(X, X[:, 0])),
    ("MLPClassifier", lambda e, X, y: e.fit(X, np.stack([y, y + 1], axis=1))),
    ("MLPClassifier", lambda e, X, y: e.set_params(
        early_stopping=True, validation_fraction=0.5).fit(X[:3], y[17:20])),
    ("MLPRegressor", lambda e, X, y: e.set_params(
        early_stopping=True, validation_fraction=0.1).fit(X[:3], y[:3])),
    *((name, lambda e, X, y: e.fit(X, y[:-1])) for name in NAMES),
    *((name, lambda e, X, y: e.fit(X, y, sample_weight=[1.0])) for name in NAMES),
    *((name, lambda e, X, y: e.fit(X * np.nan, y)) for name in NAMES),
    *((name, lambda e, X, y: e.fit(X, y).predict(X[:, 1:])) for name in NAMES),
    *((name, lambda e, X, y: e.predict(X)) for name in NAMES),
    ("MLPClassifier", lambda e, X, y: e.set_params(solver="lbfgs").partial_fit(X, y)),
])  # fmt: skip
def test_errors_are_scikit_learns(name, call):
    X, y = cancer()
    errors = []
    for module in (neural_network, ours):
        with pytest.raises((ValueError, NotFittedError, AttributeError)) as error:
            call(getattr(module, name)(max_iter=2), X, y)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("name, settings, data", [
    ("MLPClassifier", {"max_iter": 2}, cancer()),
    ("MLPRegressor", {"batch_size": 1000, "max_iter": 1}, plane()),
    ("MLPRegressor", {"max_iter": 1}, (plane()[0], plane()[1][:, None])),
    ("MLPClassifier", {"max_iter": 2, "solver": "lbfgs"}, cancer()),
    ("MLPClassifier", {"max_fun": 2, "solver": "lbfgs"}, cancer()),
])  # fmt: skip
@pytest.mark.filterwarnings("always")
def test_warnings_are_scikit_learns(name, settings, data):
    caught = []
    for module in (neural_network, ours):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            getattr(module, name)(**settings).fit(*data)
        caught.append([(w.category, str(w.message)) for w in record])
    assert caught[0] == caught[1] and caught[0]
    assert {category for category, _ in caught[0]} <= {
        ConvergenceWarning, DataConversionWarning, UserWarning,
    }  # fmt: skip


@pytest.mark.parametrize("name, data", [("MLPClassifier", cancer()), ("MLPRegressor", plane())])
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_attributes_are_scikit_learns(name, data, settings):
    theirs, mine = (getattr(module, name)(**fast(**settings)) for module in (neural_network, ours))
    for estimator in (theirs, mine):
        estimator.fit(*data)
    shown = {key: value for key, value in vars(theirs).items() if key.endswith("_")}
    assert set(shown) <= set(vars(mine))
    for key in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(mine, key) == shown[key]
    for key in ("best_loss_", "validation_scores_", "best_validation_score_"):
        assert (getattr(mine, key, None) is None) == (shown.get(key) is None), key
    for key in ("coefs_", "intercepts_"):
        assert [a.shape for a in getattr(mine, key)] == [a.shape for a in shown[key]]


def test_feature_names_are_kept():
    pandas = pytest.importorskip("pandas")
    X, y = cancer()
    frame = pandas.DataFrame(X[:, :3], columns=["a", "b", "c"])
    classifier = MLPClassifier(**fast()).fit(frame, y)
    assert list(classifier.feature_names_in_) == ["a", "b", "c"]


# ---- the same training ----

SGD = {"solver": "sgd", "learning_rate_init": 0.05}
LBFGS = {"solver": "lbfgs", "alpha": 1.0}
TRAININGS = {
    "digits": ("MLPClassifier", digits(), SGD),
    "no hidden layer": ("MLPClassifier", digits(), {**SGD, "hidden_layer_sizes": ()}),
    "three layers": ("MLPClassifier", digits(), {**SGD, "hidden_layer_sizes": [9, 8, 7]}),
    "one number": ("MLPClassifier", digits(), {**SGD, "hidden_layer_sizes": 5}),
    "two classes": ("MLPClassifier", cancer(), {**SGD, "alpha": 0.5}),
    "multilabel": ("MLPClassifier", multilabel(), {**SGD, "alpha": 0.5, "activation": "tanh"}),
    "logistic": ("MLPClassifier", cancer(), {**SGD, "activation": "logistic"}),
    "identity": ("MLPClassifier", cancer(), {**SGD, "activation": "identity"}),
    "plain gradients": ("MLPClassifier", cancer(), {**SGD, "momentum": 0}),
    "Polyak": ("MLPClassifier", cancer(), {**SGD, "nesterovs_momentum": False}),
    "invscaling": ("MLPClassifier", cancer(), {**SGD, "learning_rate": "invscaling"}),
    "adaptive": ("MLPClassifier", cancer(), {
        **SGD, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 40}),
    "early stopping": ("MLPClassifier", cancer(), {
        **SGD, "early_stopping": True, "n_iter_no_change": 2, "max_iter": 40}),
    "early stopping on digits": ("MLPClassifier", digits(), {
        **SGD, "early_stopping": True, "n_iter_no_change": 1, "tol": 0.05, "max_iter": 40}),
    "stopping": ("MLPClassifier", cancer(), {**SGD, "tol": 0.05, "n_iter_no_change": 2}),
    "batches": ("MLPClassifier", cancer(), {**SGD, "batch_size": 77}),
    "L-BFGS": ("MLPClassifier", digits(), LBFGS),
    "L-BFGS, two classes": ("MLPClassifier", cancer(), LBFGS),
    "L-BFGS, plane": ("MLPRegressor", plane(), LBFGS),
    "L-BFGS, counts": ("MLPRegressor", counts(), {**LBFGS, "loss": "poisson"}),
    "plane": ("MLPRegressor", plane(), {**SGD, "alpha": 0.5}),
    "early stopping on a plane": ("MLPRegressor", plane(), {
        **SGD, "early_stopping": True, "n_iter_no_change": 1, "max_iter": 40, "tol": 0.1}),
    "counts": ("MLPRegressor", counts(2), {**SGD, "loss": "poisson", "alpha": 0.5}),
}  # fmt: skip


def outputs_of(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def both(name, settings):
    settings = fast(shuffle=False, **settings)
    theirs = getattr(neural_network, name)(**settings)
    return theirs, getattr(ours, name)(dtype="float64", **settings)


def assert_same_training(theirs, mine, X, rtol):
    assert mine.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(mine.loss_, theirs.loss_, rtol=rtol)
    for key in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        a, b = getattr(mine, key, None), getattr(theirs, key, None)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=rtol)
    for key in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(mine, key), getattr(theirs, key), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(outputs_of(mine, X), outputs_of(theirs, X), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", TRAININGS)
def test_training_is_scikit_learns(case, weighted):
    name, (X, y), settings = TRAININGS[case]
    whole = settings["solver"] == "lbfgs"
    if weighted and not whole:
        # several batches have other means, as scikit-learn weighs them by their rows
        rows = len(X) * 9 // 10 if settings.get("early_stopping") else len(X)
        settings = {**settings, "alpha": 0.0, "batch_size": rows}
    theirs, mine = both(name, settings)
    weight = weights(X) if weighted else None
    theirs.fit(X, y, weight)
    mine.fit(X, y, weight)
    assert_same_training(theirs, mine, X, 1e-6 if whole else 1e-9)
    assert (mine.predict(X) == theirs.predict(X)).mean() > 0.99 or name == "MLPRegressor"
    np.testing.assert_allclose(mine.score(X, y, weight), theirs.score(X, y, weight), rtol=1e-5)


@pytest.mark.parametrize("name, data", [
    ("MLPClassifier", digits()), ("MLPClassifier", cancer()), ("MLPClassifier", multilabel()),
    ("MLPRegressor", plane()), ("MLPRegressor", plane(3)),
])  # fmt: skip
def test_adam_is_close_to_scikit_learns(name, data):
    theirs, mine = both(name, {"alpha": 0.1})
    theirs.fit(*data)
    mine.fit(*data)
    assert_same_training(theirs, mine, data[0], 2e-3)


def test_several_outputs_train_as_scikit_learns_do():
    """The loss alone has the penalty as it is after an epoch, not as it was in each step."""
    X, y = plane(3)
    theirs, mine = both("MLPRegressor", {**SGD, "learning_rate_init": 0.01, "alpha": 0.5})
    theirs.fit(X, y)
    mine.fit(X, y)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=1e-3)


@pytest.mark.parametrize("settings", [
    SGD, {**SGD, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
    {**SGD, "early_stopping": True}, {**SGD, "tol": 1.0, "n_iter_no_change": 1},
], ids=str)  # fmt: skip
def test_verbose_prints_what_scikit_learn_prints(settings, capsys):
    printed = []
    for estimator in both("MLPClassifier", {**settings, "verbose": True}):
        estimator.fit(*cancer())
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def test_float32_and_shuffling_learn_as_well():
    X, y = digits()
    theirs = neural_network.MLPClassifier(**learning()).fit(X[:400], y[:400])
    mine = MLPClassifier(**learning()).fit(X[:400], y[:400])
    assert mine.score(X[400:], y[400:]) > theirs.score(X[400:], y[400:]) - 0.03
    assert mine.predict_proba(X).dtype == mine.coefs_[0].dtype == np.float32


def test_a_random_state_repeats_the_training():
    X, y = digits()
    settings = fast(dropout=0.3, early_stopping=True)
    first, second = (MLPClassifier(**settings).fit(X, y) for _ in range(2))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()
    other = MLPClassifier(**{**settings, "random_state": 1}).fit(X, y)
    assert (first.predict_proba(X) != other.predict_proba(X)).any()
    state = np.random.RandomState(0)
    shared = [MLPClassifier(**{**settings, "random_state": state}).fit(X, y) for _ in range(2)]
    assert (shared[0].predict_proba(X) == first.predict_proba(X)).all()
    assert (shared[0].predict_proba(X) != shared[1].predict_proba(X)).any()


# ---- goes on ----


@pytest.mark.parametrize("name, data", [("MLPClassifier", digits()), ("MLPRegressor", plane())])
def test_partial_fit_goes_on_as_scikit_learns(name, data):
    X, y = data
    theirs, mine = both(name, SGD)
    classes = {"classes": np.unique(y)} if name == "MLPClassifier" else {}
    for estimator in (theirs, mine):
        for start in (0, 100, 0, 200):
            estimator.partial_fit(X[start : start + 100], y[start : start + 100], **classes)
        estimator.partial_fit(X[:150], y[:150], weights(X)[:150] * 0 + 2)
    assert_same_training(theirs, mine, X, 1e-9)
    assert mine.t_ == theirs.t_ == 550 and mine.n_iter_ == 1


def test_partial_fit_after_fit_goes_on():
    X, y = digits()
    theirs, mine = both("MLPClassifier", SGD)
    for estimator in (theirs, mine):
        estimator.fit(X, y).partial_fit(X, y)
    assert_same_training(theirs, mine, X, 1e-9)


@pytest.mark.parametrize("settings", [SGD, LBFGS], ids=str)
def test_warm_start_goes_on_as_scikit_learns(settings):
    X, y = cancer()
    theirs, mine = both("MLPClassifier", {**settings, "warm_start": True})
    for estimator in (theirs, mine):
        estimator.fit(X, y)
        estimator.set_params(learning_rate_init=0.01, alpha=0.1).fit(X, y)
    assert_same_training(theirs, mine, X, 1e-6 if settings is LBFGS else 1e-9)
    assert mine.t_ == theirs.t_


def test_warm_start_never_loses_the_best():
    """A first training that learns, and a second that destroys."""
    X, y = cancer()
    classifier = MLPClassifier(early_stopping=True, warm_start=True, **learning())
    best = classifier.fit(X, y).best_validation_score_
    wanted = classifier.predict_proba(X)
    classifier.set_params(learning_rate_init=10.0).fit(X, y)
    assert classifier.best_validation_score_ == best > min(classifier.validation_scores_[12:])
    assert (classifier.predict_proba(X) == wanted).all()


def test_warm_start_takes_new_settings_and_keeps_running_statistics():
    X, y = digits()
    classifier = MLPClassifier(**fast(batch_norm=True, warm_start=True)).fit(X, y)
    before = classifier.score(X, y)
    mean = classifier.model_.state["1.running_mean"].copy()
    classifier.set_params(dropout=0.1, max_iter=1, learning_rate_init=1e-9).fit(X, y)
    assert any(isinstance(layer, fastnn.Dropout) for layer in classifier.model_.layers)
    np.testing.assert_allclose(classifier.model_.state["1.running_mean"], mean, atol=0.2)
    assert classifier.score(X, y) > before - 0.1


# ---- coefs_ and intercepts_ ----


def test_what_is_written_into_coefs_predicts_and_trains():
    X, y = digits()
    classifier = MLPClassifier(**fast()).fit(X, y)
    other = MLPClassifier(**fast(random_state=1)).fit(X, y)
    wanted = other.predict_proba(X)
    for place, array in zip(classifier.coefs_, other.coefs_, strict=True):
        place[...] = array
    classifier.intercepts_[0] = other.intercepts_[0].astype(np.float64)  # in place of the array
    classifier.intercepts_ = [classifier.intercepts_[0], other.intercepts_[1].tolist()]
    assert (classifier.predict_proba(X) == wanted).all()
    assert (classifier.model_.flat_parameters == other.model_.flat_parameters).all()
    assert classifier.coefs_[0] is classifier.model_.layers[0].weight
    classifier.coefs_[1] = classifier.coefs_[1] * 0
    assert (classifier.predict(X) == classifier.predict(X[:1])).all()
    classifier.partial_fit(X, y)
    assert classifier.coefs_[1].any()


def test_coefs_of_another_width_make_another_network():
    X, y = digits()
    classifier = MLPClassifier(**fast()).fit(X, y)
    kept = [3, 5, 8]
    hidden = np.maximum(X @ classifier.coefs_[0] + classifier.intercepts_[0], 0)[:, kept]
    logits = hidden @ classifier.coefs_[1][kept] + classifier.intercepts_[1]
    classifier.coefs_ = [classifier.coefs_[0][:, kept], classifier.coefs_[1][kept]]
    classifier.intercepts_ = (classifier.intercepts_[0][kept], classifier.intercepts_[1])
    assert (classifier.predict(X) == logits.argmax(axis=1)).all()
    classifier.partial_fit(X, y)
    assert [array.shape for array in classifier.coefs_] == [(64, 3), (3, 10)]


def test_a_network_made_by_hand_predicts():
    regressor = MLPRegressor(activation="identity", dtype="float64")
    regressor.coefs_, regressor.intercepts_ = [np.full((2, 1), 3.0)], [np.ones(1)]
    regressor.n_layers_, regressor.out_activation_ = 2, "identity"
    assert regressor.predict([[1.0, 2.0]]).tolist() == [10.0]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies_are_whole_and_apart(solver, tmp_path):
    X, y = digits()
    classifier = MLPClassifier(**fast(solver=solver, batch_norm=True)).fit(X, y)
    classifier.coefs_[1] = classifier.coefs_[1] * 0.5
    wanted = classifier.predict_proba(X)
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    copies = [
        pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier),
        joblib.load(tmp_path / "classifier.joblib"),
        joblib.load(tmp_path / "classifier.joblib", mmap_mode="r"),
    ]  # fmt: skip
    for twin in copies:
        assert (twin.predict_proba(X) == wanted).all()
        assert twin.coefs_[0] is twin.model_.layers[0].weight
        twin.coefs_[0][...] = 0
        assert (classifier.predict_proba(X) == wanted).all()
    if solver != "lbfgs":
        twin = pickle.loads(pickle.dumps(classifier))
        assert (twin.partial_fit(X, y).predict_proba(X)
                == classifier.partial_fit(X, y).predict_proba(X)).all()  # fmt: skip


def test_the_network_is_saved_without_scikit_learn(tmp_path):
    X, y = digits()
    mlp = MLPClassifier(
        batch_norm=True, activation=fastnn.LeakyReLU(0.1), dropout=0.2, **learning()
    ).fit(X, y)
    mlp.model_.save(tmp_path / "digits.safetensors")
    network = fastnn.load(tmp_path / "digits.safetensors")
    assert (network.predict(X).argmax(axis=1) == mlp.predict(X)).all()


def test_clones_are_new():
    class Still(fastnn.Callback):
        pass

    settings = {"loss": fastnn.SoftmaxCrossEntropy(label_smoothing=0.1), "callbacks": [Still()]}
    classifier = MLPClassifier(**fast(activation=fastnn.LeakyReLU(0.2), **settings))
    twin = clone(classifier.fit(*digits()))
    assert not hasattr(twin, "coefs_")
    assert repr(twin.get_params()["loss"]) == repr(settings["loss"])
    assert twin.fit(*digits()).score(*digits()) == classifier.score(*digits())


# ---- beyond scikit-learn ----


@pytest.mark.parametrize("settings", [
    {"dropout": 0.2}, {"batch_norm": True}, {"activation": "gelu"}, {"activation": "sigmoid"},
    {"activation": fastnn.LeakyReLU(0.1), "hidden_layer_sizes": (16, 16)},
    {"loss": "hinge"}, {"loss": fastnn.SoftmaxCrossEntropy(label_smoothing=0.1)},
    {"class_weight": "balanced"}, {"dtype": np.float64}, {"n_threads": 1},
    {"batch_norm": True, "solver": "lbfgs"},
], ids=str)  # fmt: skip
def test_what_fastnn_adds_trains(settings):
    X, y = digits()
    classifier = MLPClassifier(**learning(**settings)).fit(X[:400], y[:400])
    assert classifier.score(X[400:], y[400:]) > 0.75


def test_layers_stand_in_the_usual_order():
    classifier = MLPClassifier((8, 4), "tanh", batch_norm=True, dropout=0.5, max_iter=1)
    kinds = [type(layer).__name__ for layer in classifier.fit(*digits()).model_.layers]
    hidden = ["Dense", "BatchNorm", "Tanh", "Dropout"]
    assert kinds == [*hidden, *hidden, "Dense"]


@pytest.mark.parametrize("loss, name", [
    (fastnn.Huber(), "huber"), (fastnn.MeanAbsoluteError(), "absolute_error"),
    (fastnn.Poisson(), "poisson"),
])  # fmt: skip
def test_losses_have_names_for_regression(loss, name):
    X, y = counts()
    twins = [MLPRegressor(of, **fast()).fit(X, y) for of in (loss, name)]
    np.testing.assert_allclose(twins[0].predict(X), twins[1].predict(X), rtol=1e-6)


def test_the_loss_of_an_object_is_fastnns():
    X, y = plane()
    regressor = MLPRegressor(fastnn.MeanSquaredError(), **fast(alpha=0.0, batch_size=300))
    halved = MLPRegressor(**fast(alpha=0.0, batch_size=300)).fit(X, y)
    np.testing.assert_allclose(regressor.fit(X, y).loss_, 2 * halved.loss_, rtol=1e-3)


def test_quantiles_are_scored_as_such():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 2))
    y = X[:, 0] + rng.exponential(1, 600)
    loss = fastnn.Quantile(0.97)
    regressor = MLPRegressor(loss, (16,), max_iter=60, early_stopping=True, random_state=0)
    regressor.fit(X[:400], y[:400])
    best = np.argmax(regressor.validation_scores_)
    assert best == np.argmin(regressor.validation_loss_curve_) > 0
    expected = d2_pinball_score(y[400:], regressor.predict(X[400:]), alpha=0.97)
    assert regressor.score(X[400:], y[400:]) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="loss: expected a Quantile of one q"):
        MLPRegressor(fastnn.Quantile([0.1, 0.9])).fit(X, y)


def test_quantiles_are_met():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (800, 1))
    y = X[:, 0] + rng.normal(0, 0.5, 800)
    regressor = MLPRegressor(fastnn.Quantile(0.9), (16,), max_iter=100, random_state=0)
    assert abs((y < regressor.fit(X, y).predict(X)).mean() - 0.9) < 0.05


def test_a_loss_of_ones_own_trains():
    def cubed(outputs, targets, weight):
        d = outputs - targets
        return float((abs(d) ** 3).mean()), 3 * d * abs(d) / d.size

    X, y = plane()
    assert MLPRegressor(cubed, **fast(max_iter=60)).fit(X, y).score(X, y) > 0.5


def test_hinge_gives_no_probabilities():
    classifier = MLPClassifier(loss="hinge", **learning()).fit(*cancer())
    assert not hasattr(classifier, "predict_proba")
    assert not hasattr(classifier, "predict_log_proba")
    assert classifier.out_activation_ == "identity" and classifier.n_outputs_ == 2
    assert classifier.score(*cancer()) > 0.9


@pytest.mark.parametrize("loss, data", [
    ("hinge", multilabel()), (fastnn.SoftmaxCrossEntropy(), multilabel()),
    (fastnn.SigmoidCrossEntropy(), digits()),
])  # fmt: skip
def test_losses_that_do_not_suit_the_classes(loss, data):
    with pytest.raises(ValueError, match="need 'log_loss'"):
        MLPClassifier(loss=loss).fit(*data)


def test_log_probabilities_do_not_underflow():
    for X, y in (cancer(), digits(), multilabel()):
        classifier = MLPClassifier(**fast()).fit(X, y)
        np.testing.assert_allclose(
            classifier.predict_log_proba(X), np.log(classifier.predict_proba(X)), atol=1e-5
        )
        classifier.coefs_[-1] *= 1e4
        assert np.isfinite(classifier.predict_log_proba(X)).all()


def test_class_weights_are_sample_weights():
    X, y = cancer()
    rare = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:20]]
    X, y = X[rare], y[rare]
    by_class = dict(enumerate(compute_class_weight("balanced", classes=np.array([0, 1]), y=y)))
    of_rows = np.array([by_class[label] for label in y])
    twins = [
        MLPClassifier(class_weight="balanced", **fast()).fit(X, y),
        MLPClassifier(class_weight=by_class, **fast()).fit(X, y),
        MLPClassifier(**fast()).fit(X, y, of_rows),
    ]
    assert all((twin.predict_proba(X) == twins[0].predict_proba(X)).all() for twin in twins)
    both_ways = MLPClassifier(class_weight=by_class, **fast()).fit(X, y, of_rows)
    squared = MLPClassifier(**fast()).fit(X, y, of_rows**2)
    np.testing.assert_allclose(both_ways.predict_proba(X), squared.predict_proba(X), atol=1e-4)
    assert (twins[0].predict(X) == 0).any()
    with pytest.raises(ValueError, match="partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


def test_rows_of_weight_0_take_no_part():
    X, y = digits()
    weight = np.ones(len(X))
    weight[400:] = 0
    with_all = MLPClassifier(**fast()).fit(X, y, weight)
    without = MLPClassifier(**fast()).fit(X[:400], y[:400])
    np.testing.assert_allclose(with_all.predict_proba(X), without.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="non-zero"):
        MLPClassifier(**fast()).fit(X, y, 0 * weight)


@pytest.mark.parametrize("name, data, loss", [
    ("MLPClassifier", digits(), "log_loss"), ("MLPClassifier", multilabel(), "log_loss"),
    ("MLPRegressor", plane(2), "squared_error"), ("MLPRegressor", counts(2), "poisson"),
])  # fmt: skip
def test_validation_data_give_a_curve_and_scores(name, data, loss):
    X, y = data
    train, held, weight = slice(200), slice(200, None), weights(X)[200:]
    estimator = getattr(ours, name)(loss=loss, early_stopping=True, **fast(dtype="float64"))
    given = (X[held], y[held], weight)
    estimator.fit(X[train], y[train], validation_data=given)
    assert len(estimator.validation_loss_curve_) == len(estimator.validation_scores_) == 12
    assert estimator.t_ == 12 * 200
    score = accuracy_score if name == "MLPClassifier" else r2_score
    predicted = estimator.predict(X[held])
    best = np.argmax(estimator.validation_scores_)
    assert estimator.best_validation_score_ == estimator.validation_scores_[best]
    np.testing.assert_allclose(
        score(y[held], predicted, sample_weight=weight), estimator.best_validation_score_
    )
    likely = np.asarray(outputs_of(estimator, X[held]))
    if name == "MLPClassifier":
        chosen = np.eye(10)[y[held]] if y.ndim == 1 else y[held]
        rows = -np.log(np.where(chosen > 0, likely, 1 - likely if y.ndim > 1 else 1)).sum(axis=1)
    elif loss == "poisson":
        t = y[held]
        rows = (np.where(t > 0, t * np.log(np.maximum(t, 1) / likely), 0) - t + likely).sum(axis=1)
    else:
        rows = ((likely - y[held]) ** 2).mean(axis=1) / 2
    np.testing.assert_allclose(
        np.average(rows, weights=weight), estimator.validation_loss_curve_[best], rtol=1e-6
    )


def test_validation_data_without_early_stopping_only_watch():
    X, y = digits()
    plain, watched = MLPClassifier(**fast()), MLPClassifier(**fast())
    plain.fit(X[:400], y[:400])
    watched.fit(X[:400], y[:400], validation_data=(X[400:], y[400:]))
    assert (plain.predict_proba(X) == watched.predict_proba(X)).all()
    assert watched.validation_scores_ is None and len(watched.validation_loss_curve_) == 12
    assert plain.validation_loss_curve_ == []


@pytest.mark.parametrize("bad, message", [
    (3, "validation_data"), ((1,), "validation_data"), ((np.ones((3, 64)), [0, 1]), "inconsistent"),
    ((np.ones((3, 63)), [0, 1, 2]), "63 features"), ((np.ones((2, 64)), [0, 99]), "has classes"),
])  # fmt: skip
def test_bad_validation_data(bad, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**fast()).fit(*digits(), validation_data=bad)


def test_lbfgs_has_no_epochs_to_validate():
    with pytest.raises(ValueError, match="validation_data"):
        MLPClassifier(solver="lbfgs").fit(*digits(), validation_data=digits())


def test_early_stopping_of_partial_fit():
    X, y = digits()
    classifier = MLPClassifier(
        (32,), early_stopping=True, n_iter_no_change=3, tol=0.01, random_state=0
    )
    calls = 0
    while not (calls and classifier.converged_):
        classifier.partial_fit(X, y, classes=range(10))
        calls += 1
    assert len(classifier.validation_scores_) == calls > 5
    _, held = classifier._split(classifier._samples(X.astype(np.float32), y, None), 0)
    score = (classifier.predict(held.X) == held.y).mean()
    assert score == classifier.best_validation_score_ == max(classifier.validation_scores_)
    given = MLPClassifier((32,), early_stopping=True, random_state=0)
    given.partial_fit(X, y, classes=range(10), validation_data=(X[:50], y[:50]))
    assert given.t_ == len(X) and not given.converged_


def test_callbacks_see_every_epoch_and_may_stop():
    class Seen(fastnn.Callback):
        def __init__(self):
            self.results = []

        def on_epoch_end(self, run):
            self.results.append(run.results)
            if run.epoch == 4:
                run.stop()

    seen = Seen()
    X, y = digits()
    classifier = MLPClassifier(early_stopping=True, callbacks=[seen], **fast()).fit(X, y)
    assert classifier.n_iter_ == len(seen.results) == 4 and not classifier.converged_
    losses = [results["validation_loss"] for results in seen.results]
    assert losses == classifier.validation_loss_curve_
    scores = [results["validation_score"] for results in seen.results]
    assert scores == classifier.validation_scores_


def test_fastnns_early_stopping_works_too():
    X, y = digits()
    stopping = fastnn.EarlyStopping("validation_loss", patience=2)
    classifier = MLPClassifier(learning_rate_init=0.1, max_iter=200, random_state=0,
                               callbacks=[stopping])  # fmt: skip
    classifier.fit(X[:400], y[:400], validation_data=(X[400:], y[400:]))
    curve = classifier.validation_loss_curve_
    assert stopping.stopped_epoch == classifier.n_iter_ == np.argmin(curve) + 3


def test_ctrl_c_keeps_what_was_learnt():
    class Press(fastnn.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 3:
                signal.raise_signal(signal.SIGINT)

    classifier = MLPClassifier(callbacks=[Press()], **fast())
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        classifier.fit(*digits())
    assert classifier.n_iter_ == 3 and classifier.predict(digits()[0]).shape == (600,)


def test_divergence_is_scikit_learns_error():
    X, y = plane()
    with pytest.raises(ValueError, match=r"^Solver produced non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e6).fit(X * 1e18, y * 1e18)


def test_threads_do_not_change_a_bit():
    X, y = digits()
    fits = [MLPClassifier(**fast(n_threads=n)).fit(X, y) for n in (1, 2, 7)]
    first, *others = (estimator.predict_proba(X) for estimator in fits)
    assert all((first == other).all() for other in others)


def test_batch_norm_never_meets_a_batch_of_one():
    X, y = digits()
    for rows in (201, 401, 600):
        MLPClassifier(batch_norm=True, **fast(max_iter=1)).fit(X[:rows], y[:rows])


# ---- sparse data ----


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_data_are_the_same_data(kind, solver):
    X, y = digits()
    X = np.tile(X * (X > 0.5), (2, 1))  # more rows than are made dense at a time
    y = np.tile(y, 2)
    dense = MLPClassifier(**fast(solver=solver)).fit(X, y)
    thin = MLPClassifier(**fast(solver=solver)).fit(kind(X), y)
    assert (thin.predict_proba(kind(X)) == dense.predict_proba(X)).all()
    if solver == "adam":
        thin.fit(kind(X), y, validation_data=(kind(X), y))
        dense.fit(X, y, validation_data=(X, y))
        assert thin.validation_loss_curve_ == dense.validation_loss_curve_


def test_sparse_labels_come_back_sparse():
    X, y = multilabel()
    classifier = MLPClassifier(**fast()).fit(X, sparse.csr_matrix(y))
    predicted = classifier.predict(X)
    assert sparse.issparse(predicted)
    dense = MLPClassifier(**fast()).fit(X, y)
    assert (predicted.toarray() == dense.predict(X)).all()


# ---- within scikit-learn ----


def test_a_derived_class_may_have_other_parameters():
    class Small(MLPClassifier):
        def __init__(self, width=8, random_state=None):
            super().__init__((width,), max_iter=3, random_state=random_state)
            self.width = width

    small = clone(Small(width=5, random_state=0)).fit(*digits())
    assert small.coefs_[0].shape == (64, 5)


def test_partial_fit_goes_on_after_a_fit_on_few_rows():
    X, y = digits()
    classifier = MLPClassifier(**learning()).fit(X[:150], y[:150])
    before = classifier.score(X, y)
    for _ in range(10):
        classifier.partial_fit(X, y)
    assert classifier.score(X, y) > before and classifier.coefs_[0].dtype == np.float32


def test_labels_of_any_kind():
    X, y = digits()
    names = np.array([f"digit {label}" for label in y])
    classifier = MLPClassifier(early_stopping=True, **learning()).fit(X, names)
    assert classifier.score(X, names) > 0.8
    numbers = MLPClassifier(early_stopping=True, **learning()).fit(X, y)
    assert (classifier.predict_proba(X) == numbers.predict_proba(X)).all()


def test_pipelines_and_grid_searches_in_processes():
    X, y = digits()
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**learning()))
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__dropout": [0.0, 0.1]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2).fit(X, y)
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    scores = [s.cv_results_["mean_test_score"].tolist() for s in (search, alone)]
    assert scores[0] == scores[1] and search.best_score_ > 0.6
    assert search.predict(X).shape == y.shape


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_parallel_scores_are_those_of_one_process(backend):
    X, y = plane()
    regressor = MLPRegressor(**fast())
    alone = cross_val_score(regressor, X, y, cv=4)  # and this process has its threads by now
    with joblib.parallel_backend(backend):
        assert (cross_val_score(regressor, X, y, cv=4, n_jobs=2) == alone).all()


def test_processes_take_no_more_threads_than_they_are_granted(monkeypatch):
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    get_reusable_executor().shutdown(wait=True)  # of other tests, with another environment
    granted = joblib.Parallel(n_jobs=2)(joblib.delayed(fastnn.get_num_threads)() for _ in range(4))
    assert set(granted) == {max(1, joblib.cpu_count() // 2)}
    get_reusable_executor().shutdown(wait=True)
