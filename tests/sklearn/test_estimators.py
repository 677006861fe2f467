"""The estimators behave as scikit-learn's: they pass its checks and train as its networks do.

In float64 and without shuffling both do the same arithmetic, so whole trainings can be compared;
only Adam differs a little, since its epsilon is added elsewhere."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

import joblib
from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor
from perceptrons import (
    both,
    cancer,
    counts,
    digits,
    fast,
    learning,
    multilabel,
    outputs_of,
    plane,
    weights,
)

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


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings
@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# ---- the same interface ----


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_scikit_learns_in_order_and_by_default(name):
    theirs, mine = (
        inspect.signature(getattr(module, name)).parameters for module in (neural_network, ours)
    )
    assert all(
        (p.name, p.default, p.kind) == (q.name, q.default, q.kind)
        for p, q in ((p, mine[name]) for name, p in theirs.items())
    )
    by_keyword = inspect.Parameter.KEYWORD_ONLY
    positional = [
        [n for n, p in them.items() if p.kind is not by_keyword] for them in (theirs, mine)
    ]
    assert positional[0] == positional[1]
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
        messages.append((type(error.value), sorted(str(error.value))))  # it lists a set
    assert messages[0] == messages[1]


@pytest.mark.parametrize("settings", [
    {"dropout": 1.0}, {"dropout": -0.1}, {"batch_norm": "yes"}, {"callbacks": 3},
    {"callbacks": [3]}, {"dtype": "float16"}, {"n_threads": 0}, {"activation": "swash"},
    {"loss": "l1"}, {"loss": fastnn.Huber}, {"dropout": 0.5, "solver": "lbfgs"},
    pytest.param({"callbacks": [fastnn.Callback()], "solver": "lbfgs"}, id="callbacks of lbfgs"),
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
    *((name, lambda e, X, y: e.fit(X, np.full(len(y), np.nan))) for name in NAMES),
    *((name, lambda e, X, y: e.fit(X, np.full(len(y), np.inf))) for name in NAMES),
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


@pytest.mark.parametrize("name", NAMES)
def test_infinite_rows_are_refused(name):
    """The words are scikit-learn's but for the type, in which this one computes."""
    X, y = cancer()
    with pytest.raises(ValueError, match=r"Input X contains infinity .* dtype\('float32'\)"):
        getattr(ours, name)(max_iter=2).fit(np.where(X > 3, np.inf, X), y)


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


def assert_same_training(theirs, mine, X, rtol):
    assert mine.n_iter_ == theirs.n_iter_
    for key in ("loss_", "loss_curve_", "best_loss_", "validation_scores_",
                "best_validation_score_"):  # fmt: skip
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
    theirs, mine = both(name, settings)
    weight = weights(X) if weighted else None
    theirs.fit(X, y, weight)
    mine.fit(X, y, weight)
    assert_same_training(theirs, mine, X, 1e-6 if whole else 1e-9)
    assert (mine.predict(X) == theirs.predict(X)).mean() > 0.99 or name == "MLPRegressor"
    np.testing.assert_allclose(mine.score(X, y, weight), theirs.score(X, y, weight), rtol=1e-5)


@pytest.mark.parametrize("size", ["auto", 30, 40])
def test_the_penalty_is_divided_by_the_weights_of_the_batch(size):
    """A penalty that outweighs all else, for few rows as for many."""
    X, y = plane()
    X, y, weight = X[:90], y[:90], np.linspace(0.1, 5, 90)
    theirs, mine = both("MLPRegressor", {**SGD, "alpha": 20.0, "batch_size": size, "max_iter": 1})
    theirs.fit(X, y, weight)
    mine.fit(X, y, weight)
    assert_same_training(theirs, mine, X, 1e-9)
    for estimator in (theirs, mine):
        for rows in (slice(0, 50), slice(40, 90)):
            estimator.partial_fit(X[rows], y[rows], weight[rows])
    assert_same_training(theirs, mine, X, 1e-9)
    assert {layer.l2 for layer in mine.model_.layers if hasattr(layer, "l2")} == {
        2 * 20.0 / weight[40:].mean()
    }


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
    """Only loss_curve_ differs: it has the penalty after an epoch, not that of each step."""
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


TYPES = {
    "float32": lambda X: X.astype(np.float32), "float64": lambda X: X,
    "float16": lambda X: X.astype(np.float16), "int": lambda X: X.astype(int),
    "int8": lambda X: X.astype(np.int8), "list": lambda X: X.tolist(),
    "sparse": lambda X: sparse.csr_matrix(X.astype(np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("predicted", TYPES)
@pytest.mark.parametrize("fitted", TYPES)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_regressors_predict_in_scikit_learns_type(solver, fitted, predicted):
    X, y = plane()
    types = []
    for module in (neural_network, ours):
        regressor = module.MLPRegressor(**fast(solver=solver, max_iter=2))
        regressor.fit(TYPES[fitted](X), y)
        types.append(regressor.predict(TYPES[predicted](X)).dtype)
    assert types[0] == types[1]
    exact = MLPRegressor(dtype="float64", **fast(max_iter=1)).fit(TYPES[fitted](X), y)
    assert exact.predict(TYPES[predicted](X)).dtype == np.float64


def test_regressors_predict_frames_in_scikit_learns_type():
    pandas = pytest.importorskip("pandas")
    X, y = plane()
    frame = pandas.DataFrame(X).add_prefix("x")
    for table in (frame, frame.astype(np.float32), frame.astype({"x0": np.float32})):
        types = [
            module.MLPRegressor(**fast(max_iter=1)).fit(table, y).predict(table).dtype
            for module in (neural_network, ours)
        ]
        assert types[0] == types[1]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_partial_fit_of_all_rows_is_an_epoch_of_fit(momentum):
    """To the bit: the order within one batch means nothing, so it does not change."""
    X, y = plane()
    settings = fast(solver="sgd", momentum=momentum, batch_size=len(X))
    whole, parts = MLPRegressor(**settings).fit(X, y), MLPRegressor(**settings)
    for _ in range(whole.n_iter_):
        parts.partial_fit(X, y)
    assert (whole.predict(X) == parts.predict(X)).all()


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


# ---- training goes on ----


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
    """The first training learns, the second destroys what was learnt."""
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
    classifier.intercepts_[0] = other.intercepts_[0].astype(np.float64)  # replaces the array
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


# ---- sparse data ----


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_data_are_the_same_data(kind, solver):
    X, y = digits()
    X = np.tile(X * (X > 0.5), (2, 1))  # more rows than are made dense at once
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
    alone = cross_val_score(regressor, X, y, cv=4)  # after this, this process has threads
    with joblib.parallel_backend(backend):
        assert (cross_val_score(regressor, X, y, cv=4, n_jobs=2) == alone).all()


def test_processes_take_no_more_threads_than_they_are_granted(monkeypatch):
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    get_reusable_executor().shutdown(wait=True)  # workers of other tests
    granted = joblib.Parallel(n_jobs=2)(joblib.delayed(fastnn.get_num_threads)() for _ in range(4))
    assert set(granted) == {max(1, joblib.cpu_count() // 2)}
    get_reusable_executor().shutdown(wait=True)
