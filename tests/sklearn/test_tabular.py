"""The estimators for tables: scikit-learn's checks, what is in the recipe, ensembles, files."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

from scipy import sparse
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from fastnn.recipe import Recipe
from fastnn.sklearn import MLPClassifier, TabularClassifier, TabularRegressor, search_space
from fastnn.sklearn._held import hold_out
from perceptrons import cancer, plane
from small_tables import KINDS, SMALL, answers, data, small, table

# ---- scikit-learn's checks ----

CHECKS = [
    pytest.param(of, check, id=f"{type(of).__name__} {i} {check.func.__name__}")
    for estimator in (
        TabularClassifier((64, 64), max_iter=100),
        TabularRegressor((64, 64), max_iter=100),
    )
    for i, (of, check) in enumerate(estimator_checks_generator(estimator))
]


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings
@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_documented(kind):
    documented = TabularClassifier.__doc__ + kind.__doc__
    assert [name for name in kind().get_params() if f"`{name}`" not in documented] == []


BAD = [
    {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (5, 0)}, {"activation": "swash"},
    {"n_ensembles": 0}, {"batch_size": 0}, {"learning_rate_init": 0}, {"weight_decay": -1},
    {"dropout": 1}, {"max_iter": 0}, {"periodic_embedding": "yes"}, {"embedding_sigma": 0},
    {"front_scale": 2}, {"categorical_features": "all"}, {"max_one_hot": -1},
    {"validation_fraction": 1}, {"scoring": "good"}, {"callbacks": 3}, {"random_state": "a"},
    {"verbose": "a"}, {"n_threads": 0},
]  # fmt: skip


@pytest.mark.parametrize("settings", BAD, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_settings_are_refused(kind, settings):
    with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
        small(kind, **settings).fit(*data(kind))


@pytest.mark.parametrize("call, message", [
    (lambda e, X, y: e.fit(X, y[:-1]), "inconsistent numbers of samples"),
    (lambda e, X, y: e.fit(sparse.csr_matrix(X), y), "Sparse data"),
    (lambda e, X, y: e.fit(np.where(X > 1, np.inf, X), y), "infinity"),
    (lambda e, X, y: e.fit(X, y, np.zeros(len(y))), "at least one non-zero"),
    (lambda e, X, y: e.fit(X, y, -np.ones(len(y))), "Negative"),
    (lambda e, X, y: e.fit(X, X), "y"),
    (lambda e, X, y: e.fit(X, X[:, 0]), "Unknown label type"),
    (lambda e, X, y: e.fit(X, y, validation_data=X), "validation_data"),
    (lambda e, X, y: e.fit(X, y, validation_data=(X, y + 5)), "classes among"),
    (lambda e, X, y: e.fit(X, y).predict(X[:, 1:]), "features"),
    (lambda e, X, y: TabularClassifier.load("setup.py"), "setup.py"),
])  # fmt: skip
def test_bad_data_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(small(), *cancer())


@pytest.mark.parametrize("bad, message", [(np.nan, "y contains NaN"), (np.inf, "y contains inf")])
def test_targets_that_are_no_numbers_are_refused(bad, message):
    X, y = plane()
    with pytest.raises(ValueError, match=message):
        small(TabularRegressor).fit(X, np.where(np.arange(len(y)) == 3, bad, y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [
    lambda e, X: e.predict(X), lambda e, X: e.predict_ensemble(X), lambda e, X: e.predictor(),
    lambda e, X: e.save("nothing"), lambda e, X: e.feature_importances(X, X[:, 0]),
])  # fmt: skip
def test_use_before_fit_is_refused(kind, use):
    with pytest.raises(NotFittedError):
        use(kind(), data(kind)[0])


# ---- the recipe ----


def test_the_network_is_that_of_the_recipe():
    X, y = table()
    classifier = small(max_one_hot=3).fit(X, y)
    columns, scale, *rest, last = classifier.model_.layers
    assert [type(layer).__name__ for layer in rest] == [
        "Dense", "ParametricActivation", "Dropout",
    ] * 2  # fmt: skip
    assert isinstance(columns, fastnn.Columns) and isinstance(scale, fastnn.Scale)
    assert columns.in_features == 1 + 1 + 3 + 1  # age, whether it is missing, three kinds, cities
    assert columns.out_features == 4 + 1 + 3 + 8 == scale.features
    assert last.out_features == 2
    loss = Recipe().loss(True)
    assert isinstance(loss, fastnn.SoftmaxCrossEntropy) and loss.label_smoothing == 0.1


def test_the_optimizers_factors_are_those_of_the_public_code():
    """The product of both factors is what the decay of a step is multiplied by: there the factor of
    the learning rate twice, and 1 for weights, whose NTK factor is no factor of the rate."""
    X, y = table()
    classifier = small(max_one_hot=3).fit(X, y)
    optimizer = Recipe().optimizer(classifier.model_)
    rates, decays = optimizer.learning_rate_factors, optimizer.weight_decay_factors
    turn = 2 * np.pi
    wanted = {
        "0.0.frequency": (0.1, 0.01), "0.0.phase": (0.1 / turn, 0.01), "0.0.weight": (0.1, 0.01),
        "0.0.bias": (0.1, 0.01), "0.2.0.weight": (1, 1), "1.scale": (6, 36),
        "2.weight": (1 / 4, 1), "2.bias": (0.1, 0), "3.alpha": (0.1, 0.01),
        "5.weight": (1 / 4, 1), "5.bias": (0.1, 0), "6.alpha": (0.1, 0.01),
        "8.weight": (1 / 4, 1), "8.bias": (0.1, 0),
    }  # fmt: skip
    assert set(wanted) == set(classifier.model_.parameters)
    for name, (rate, decay) in wanted.items():
        found = rates.get(name, 1.0), rates.get(name, 1.0) * decays.get(name, 1.0)
        np.testing.assert_allclose(found, (rate, decay), err_msg=name)
    assert optimizer.learning_rate == 0.04 and optimizer.beta2 == 0.95
    assert optimizer.weight_decay == 0.02 and optimizer.beta1 == 0.9


def test_schedules_move_rate_decay_and_dropout():
    seen = []

    class Watch(fastnn.Callback):
        def on_epoch_end(self, run):
            seen.append(run.history["learning_rate"][-1])

    classifier = small(max_iter=64, callbacks=[Watch()]).fit(*cancer())
    assert max(seen) < 0.04 and seen[-1] < 1e-3
    falls = np.flatnonzero(np.diff(np.sign(np.diff(seen))) > 0)
    assert len(falls) == 3  # between four cycles
    assert set(Recipe().schedule()) == {"learning_rate", "weight_decay", "dropout"}
    assert classifier.n_iter_ == 64 and len(classifier.histories_[0].loss) == 64


PARTS = [
    "robust_scaling", "parametric_activation", "data_dependent_init", "fan_in_factors",
    "group_factors", "learning_rate_schedule", "dropout_schedule", "weight_decay_schedule",
    "last_best_epoch",
]  # fmt: skip


@pytest.mark.parametrize("part", [*PARTS, "periodic_embedding", "front_scale", "label_smoothing"])
def test_each_part_may_be_left_out(part):
    class Without(TabularClassifier):
        _recipe = replace(Recipe(), **({part: False} if part in PARTS else {}))

    X, y = cancer()
    settings = {} if part in PARTS else {part: 0.0 if part == "label_smoothing" else False}
    whole, without = small(max_iter=20).fit(X, y), Without(**SMALL | {"max_iter": 20} | settings)
    without.fit(X, y)
    assert without.score(X, y) > 0.9
    if part != "last_best_epoch":
        assert (without.predict_proba(X) != whole.predict_proba(X)).any()


def test_of_equal_epochs_the_last_is_kept():
    X, y = cancer()
    scores = iter([0.5, 0.9, 0.2, 0.9, 0.3, 0.1, 0.1, 0.1])
    states = []

    def scorer(estimator, X, y):
        states.append(estimator.model_.flat_parameters.copy())
        return next(scores)

    classifier = small(scoring=scorer).fit(X, y)
    assert classifier.best_epochs_ == [4] and len(states) == 8
    assert (classifier.model_.flat_parameters == states[3]).all()
    assert classifier.histories_[0].validation_score == [0.5, 0.9, 0.2, 0.9, 0.3, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy", "roc_auc"])
def test_scorers_get_what_was_held_out(scoring):
    X, y = cancer()
    rows = X[:400], y[:400]
    named = np.array(["no", "yes"])
    classifier = small(scoring=scoring)
    classifier.fit(rows[0], named[rows[1]], validation_data=(X[400:], named[y[400:]]))
    history, best = classifier.histories_[0], classifier.best_epochs_[0]
    likely = classifier.predict_proba(X[400:])
    if scoring == "neg_log_loss":
        assert history.validation_score[best - 1] == pytest.approx(-log_loss(y[400:], likely))
    elif scoring == "accuracy":
        right = (likely.argmax(axis=1) == y[400:]).mean()
        assert history.validation_score[best - 1] == pytest.approx(right)
    assert max(history.validation_score) == history.validation_score[best - 1]


def test_the_default_score_is_the_accuracy_and_the_clipped_squared_error():
    X, y = cancer()
    classifier = small().fit(X[:400], y[:400], validation_data=(X[400:], y[400:]))
    best = max(classifier.histories_[0].validation_score)
    assert classifier.score(X[400:], y[400:]) == pytest.approx(best, abs=1e-6)
    X, y = plane()
    regressor = small(TabularRegressor).fit(X[:200], y[:200], validation_data=(X[200:], y[200:]))
    error = np.mean((regressor.predict(X[200:]) - y[200:]) ** 2)
    assert error == pytest.approx(-max(regressor.histories_[0].validation_score), rel=1e-5)


# ---- rows that are held out ----


@pytest.mark.parametrize("n", [2, 3, 5, 10, 57, 1000])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("classes", [None, 1, 2, 5])
def test_held_out_rows(n, fraction, classes):
    labels = None if classes is None else np.random.default_rng(0).integers(0, classes, n)
    for number in range(4):
        train, held = hold_out(n, fraction, labels, number, 7)
        assert sorted([*train, *held]) == list(range(n))
        assert len(train) > 0 and abs(len(held) - fraction * n) <= 1 + (classes or 0)
        if labels is None:
            assert len(held) > 0
        else:
            assert set(labels[held]) <= set(labels[train])
            if n == 1000:
                share = np.bincount(labels[held]) / np.bincount(labels)
                np.testing.assert_allclose(share, fraction, atol=0.02)


def test_several_networks_hold_out_a_cross_validation():
    labels = np.arange(100) % 3
    held = [hold_out(100, 0.2, labels, number, 0)[1] for number in range(10)]
    assert sorted(np.concatenate(held[:5])) == sorted(np.concatenate(held[5:])) == list(range(100))
    assert {tuple(rows) for rows in held[:5]}.isdisjoint(tuple(rows) for rows in held[5:])


def test_nothing_is_held_out_of_a_row_or_with_a_fraction_of_0():
    assert hold_out(1, 0.2, None, 0, 0)[1].size == hold_out(9, 0, None, 0, 0)[1].size == 0
    classifier = small(validation_fraction=0).fit(*cancer())
    assert classifier.best_epochs_ == [8] and "validation_score" not in classifier.histories_[0]


# ---- tables of all kinds ----


def test_frames_with_categories_and_gaps():
    X, y = table(600)
    classifier = TabularClassifier((64,), max_iter=64, random_state=0).fit(X[:450], y[:450])
    assert classifier.score(X[450:], y[450:]) > 0.75
    assert list(classifier.feature_names_in_) == ["age", "kind", "city"]
    assert list(classifier.classes_) == ["no", "yes"]
    unseen = X[:2].assign(city="nowhere", kind="violet", age=None)
    assert np.isfinite(classifier.predict_proba(unseen)).all()
    codes = np.column_stack([np.arange(600) % 2, np.arange(600) % 20])
    by_mask = small(categorical_features=[False, True]).fit(codes, y)
    assert by_mask.encoder_.codes_ == 1 and by_mask.encoder_.numeric_ == 1
    rows = X.astype(object).where(X.notna(), None).to_numpy().tolist()
    listed = TabularClassifier((64,), max_iter=64, random_state=0).fit(rows[:450], y[:450])
    assert (listed.predict_proba(rows[450:]) == classifier.predict_proba(X[450:])).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("X", [
    np.random.default_rng(0).normal(size=(10, 3)), np.zeros((10, 2)), np.ones((40, 1)),
    np.random.default_rng(0).normal(size=(30, 3000)), np.full((20, 2), [np.nan, 1.0]),
    np.arange(4.0)[:, None], np.arange(1.0)[:, None] + 1,
], ids=lambda X: str(X.shape))  # fmt: skip
def test_small_constant_and_wide_tables(kind, X):
    X = np.where(np.isnan(X), np.arange(len(X))[:, None] % 2, X) if len(X) == 20 else X
    y = np.arange(len(X)) % 2
    estimator = small(kind, max_iter=2).fit(X, y)
    assert np.isfinite(answers(estimator, X)).all()


def test_a_single_class():
    X, _ = cancer()
    classifier = small().fit(X, np.full(len(X), "all"))
    assert set(classifier.predict(X)) == {"all"}
    assert (classifier.predict_proba(X) == np.ones((len(X), 1))).all()


def test_many_categories():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"name": [f"n{i}" for i in range(3000)], "x": np.arange(3000.0)})
    regressor = small(TabularRegressor, max_iter=2).fit(frame, frame["x"])
    assert regressor.encoder_.n_codes_ == 3001 and np.isfinite(regressor.predict(frame)).all()


def test_values_stay_within_those_of_fit_and_come_back_in_their_units():
    X, y = plane(2)
    y = 1000 + 50 * y
    regressor = small(TabularRegressor, max_iter=40).fit(X, y)
    far = regressor.predict(X * 100)
    assert far.shape == y.shape and far.dtype == np.float64
    assert (far >= y.min(axis=0)).all() and (far <= y.max(axis=0)).all()
    assert regressor.score(X, y) > 0.9


# ---- weights, order, seeds ----


@pytest.mark.parametrize("kind", KINDS)
def test_of_few_rows_neither_order_nor_writing_them_twice_matters(kind):
    X, y = data(kind)
    X, y = X[:40], y[:40]
    counts = np.random.default_rng(0).integers(0, 4, 40)
    shuffled = np.random.default_rng(1).permutation(40)
    weighted = small(kind).fit(X[shuffled], y[shuffled], counts[shuffled])
    repeated = small(kind).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    assert (answers(weighted, X) == answers(repeated, X)).all()


def test_weights_of_rows_and_classes_are_in_the_loss_and_in_the_score():
    X, y = cancer()
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    by_class = small(class_weight={0: 5.0, 1: 0.5}).fit(X, y, weight)
    by_row = small().fit(X, y, weight * np.where(y == 0, 5.0, 0.5))
    assert (by_class.predict_proba(X) == by_row.predict_proba(X)).all()
    assert by_class.histories_[0].validation_score == by_row.histories_[0].validation_score
    assert (by_row.predict_proba(X) != small().fit(X, y, weight).predict_proba(X)).any()
    balanced = small(class_weight="balanced").fit(X, y)
    assert (balanced.predict_proba(X) != small().fit(X, y).predict_proba(X)).any()


def test_the_score_of_held_rows_is_weighted():
    X, y = cancer()
    given, weight = [], np.random.default_rng(0).uniform(0.1, 3, len(y))

    def scorer(estimator, X, y, sample_weight=None):
        given.append((X, y, sample_weight))
        return 0.5

    classifier = small(scoring=scorer, max_iter=1, class_weight={0: 2.0}).fit(X, y, weight)
    rows, labels, its = given[0]
    encoded = classifier.encoder_.transform(X)
    numbers = [np.flatnonzero((encoded == row).all(axis=1))[0] for row in rows]
    assert (y[numbers] == labels).all() and len(numbers) == 113
    np.testing.assert_allclose(its, np.where(labels == 0, 2.0, 1.0) * weight[numbers])
    found = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert classifier._score_meaning(found, np.array([0, 1]), np.array([3.0, 1.0])) == 0.75


def test_rows_of_weight_0_are_not_there():
    X, y = cancer()
    weight = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.5)
    gaps = np.where((weight == 0)[:, None], 1e6, X)
    kept = weight > 0
    with_gaps, without = small().fit(gaps, y, weight), small().fit(X[kept], y[kept], weight[kept])
    assert (with_gaps.predict_proba(X) == without.predict_proba(X)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_random_state_decides_everything(kind):
    X, y = data(kind)
    first, again, other = (small(kind, random_state=s).fit(X, y) for s in (0, 0, 1))
    assert (answers(first, X) == answers(again, X)).all()
    assert (answers(first, X) != answers(other, X)).any()
    threads = small(kind, n_threads=3, n_ensembles=2).fit(X, y)
    alone = small(kind, n_threads=1, n_ensembles=2).fit(X, y)
    assert (answers(threads, X) == answers(alone, X)).all()


# ---- ensembles ----


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_averages_its_networks(kind):
    X, y = data(kind)
    estimator = small(kind, n_ensembles=3).fit(X, y)
    each = estimator.predict_ensemble(X)
    assert each.shape[0] == len(estimator.models_) == len(estimator.best_epochs_) == 3
    np.testing.assert_allclose(answers(estimator, X), each.mean(axis=0))
    assert each.std(axis=0).min() > 0
    encoded = estimator.encoder_.transform(X)
    if kind is TabularClassifier:
        outputs = [softmax(model.predict(encoded), axis=1) for model in estimator.models_]
        np.testing.assert_allclose(each, outputs, rtol=1e-5)
    else:
        outputs = [model.predict(encoded) for model in estimator.models_]
        wanted = np.squeeze(outputs, -1) * y.std() + y.mean()
        np.testing.assert_allclose(each, np.clip(wanted, y.min(), y.max()), rtol=1e-4, atol=1e-5)


def test_each_network_of_an_ensemble_has_the_bits_that_it_has_alone():
    X, y = cancer()
    alone, several = small().fit(X, y), small(n_ensembles=3).fit(X, y)
    assert (alone.model_.flat_parameters == several.model_.flat_parameters).all()
    others = [model.flat_parameters for model in several.models_[1:]]
    assert all((other != alone.model_.flat_parameters).any() for other in others)


def test_callbacks_are_copied_for_several_networks():
    class Count(fastnn.Callback):
        epochs = 0

        def on_epoch_end(self, run):
            self.epochs += 1

    counts = [Count(), Count()]
    small(callbacks=[counts[0]]).fit(*cancer())
    small(callbacks=[counts[1]], n_ensembles=2).fit(*cancer())
    assert [count.epochs for count in counts] == [8, 0]


def test_each_network_shuffles_in_an_order_of_its_own():
    class Order(fastnn.Callback):
        states: ClassVar = []  # of the class: copies share it

        def on_fit_begin(self, run):
            self.states.append(run.order.state_dict()["state"])

    small(callbacks=[Order()], n_ensembles=3).fit(*cancer())
    assert len(set(Order.states)) == 3


def test_it_prints_each_epoch(capsys):
    small(verbose=True, max_iter=2, n_ensembles=2, n_threads=1).fit(*cancer())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("network 1, epoch 1, loss = ")


# ---- copies, files, single rows ----


def test_importances_name_the_column_that_matters():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    classifier = TabularClassifier((32,), max_iter=40, random_state=0).fit(X[:300], X[:300, 1] > 0)
    found = classifier.feature_importances(X[300:], X[300:, 1] > 0, random_state=0)
    assert next(iter(found)) == "x1" and set(found) == {"x0", "x1", "x2"} and found["x1"] > 0.3
    frame, y = table()
    names = small().fit(frame, y).feature_importances(frame, y, n_repeats=1)
    assert set(names) == {"age", "kind", "city"}


# ---- the ends of what there is ----


def test_classes_of_weight_0_are_as_if_their_rows_were_not_there():
    X, y = cancer()
    weights = {0: 0.0, 1: 1.0}
    labels = np.where(np.arange(len(y)) < 9 * len(y) // 10, 0, y)  # most have none
    classifier = small(class_weight=weights).fit(X, labels)
    assert classifier.predict_proba(X)[:, 1].mean() > 0.5
    with pytest.raises(ValueError, match="class_weight: the weights of all rows are 0"):
        small(class_weight={0: 0.0, 1: 0.0}).fit(X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_no_hidden_layers(kind):
    X, y = data(kind)
    assert np.isfinite(answers(small(kind, hidden_layer_sizes=()).fit(X, y), X)).all()


def test_targets_too_large_are_named():
    X, y = plane()
    with pytest.raises(ValueError, match="y: too large, its variance overflows float64"):
        small(TabularRegressor).fit(X, y * 1e200)


# ---- within scikit-learn ----


def test_pipelines_searches_and_calibration():
    X, y = cancer()
    pipeline = make_pipeline(FunctionTransformer(np.cbrt), small())
    grid = {"tabularclassifier__dropout": [0.0, 0.3]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2).fit(X, y)
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    scores = [s.cv_results_["mean_test_score"].tolist() for s in (search, alone)]
    assert scores[0] == scores[1] and search.best_score_ > 0.8
    calibrated = CalibratedClassifierCV(small(max_iter=20), cv=2).fit(X, y)
    assert calibrated.score(X, y) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_space_is_one_of_the_estimators_parameters(kind):
    X, y = data(kind)
    space = search_space(kind())
    assert set(space) <= set(kind().get_params())
    assert ("label_smoothing" in space) == (kind is TabularClassifier)
    space["hidden_layer_sizes"] = [(8,), (8, 8)]
    search = HalvingRandomSearchCV(
        kind(random_state=0), space, resource="max_iter", min_resources=1, max_resources=4,
        n_candidates=4, factor=2, cv=2, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert 0.02 <= search.best_params_["learning_rate_init"] <= 0.3


def test_a_search_space_is_that_of_estimators_for_tables():
    with pytest.raises(TypeError, match=r"^estimator: expected a Tabular.* got MLPClassifier"):
        search_space(MLPClassifier())
