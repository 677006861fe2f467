"""What fastnn's estimators add: layers, losses, weights, validation, callbacks."""

import signal
import warnings

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

from sklearn import neural_network
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor
from perceptrons import (
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


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e12])
def test_targets_far_from_zero(offset):
    """Predictions in float32 were 1e8 give or take 8."""
    X, y = plane()
    y = y + offset
    regressor = MLPRegressor(**learning(max_iter=100))
    scaled = TransformedTargetRegressor(regressor, transformer=StandardScaler()).fit(X, y)
    assert r2_score(y, scaled.predict(X)) > 0.95
    with pytest.raises(ValueError, match=r"^y contains values too large for float32 in row 3$"):
        MLPRegressor(**fast()).fit(X, np.where(np.arange(300) == 3, 1e39, y))


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


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("data", [cancer(), digits(), multilabel()], ids=["two", "ten", "labels"])
def test_log_probabilities_have_their_largest_where_probabilities_do(data, kind):
    """Also where rounding makes several of a row 1, 0 or the same."""
    X, y = data[0].astype(kind), data[1]
    classifier = MLPClassifier(**fast()).fit(X, y)
    for scale in (1e-8, 1, 30, 1e4):
        last = classifier.coefs_[-1].copy()
        classifier.coefs_[-1] *= scale
        likely, logarithms = classifier.predict_proba(X), classifier.predict_log_proba(X)
        assert likely.dtype == logarithms.dtype and np.isfinite(logarithms).all()
        assert (likely.argmax(axis=1) == logarithms.argmax(axis=1)).all()
        there = likely > 1e-3
        np.testing.assert_allclose(logarithms[there], np.log(likely[there]), atol=1e-4)
        classifier.coefs_[-1] = last


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


def by_rows(y, by_class):
    return np.array([by_class.get(label, 1.0) for label in y])


@pytest.mark.parametrize("data, by_class", [
    (digits(), {1: 5.0, 7: 0.5}), (cancer(), {1: 5.0}), (cancer(), {}),
    ((digits()[0], digits()[1].astype(str)), {"1": 5.0}),
    ((digits()[0], digits()[1] * 1.0), {1: 5.0}), ((cancer()[0], cancer()[1] > 0), {True: 5.0}),
], ids=["digits", "two", "nobody", "text", "floats", "bool"])  # fmt: skip
def test_a_batch_may_lack_classes_that_have_weights(data, by_class):
    """In partial_fit each class has the weight that it has in fit, and 1 if it is not named."""
    (X, y), classes = data, np.unique(data[1])
    twins = MLPClassifier(class_weight=by_class, **fast()), MLPClassifier(**fast())
    first, rest = y == classes[0], y != classes[1]
    for rows in (first, rest, np.full(len(y), True), ~rest):
        twins[0].partial_fit(X[rows], y[rows], classes=classes)
        twins[1].partial_fit(X[rows], y[rows], by_rows(y[rows], by_class), classes=classes)
        assert (twins[0].predict_proba(X) == twins[1].predict_proba(X)).all()


def test_a_batch_may_lack_labels_that_have_weights():
    X, y = multilabel()
    by_class = [{1: 3.0}, {0: 0.5, 1: 2.0}, {}, {1: 2.0}, {0: 1.0}]
    of_rows = np.prod([by_rows(y[:, k], weights) for k, weights in enumerate(by_class)], axis=0)
    twins = MLPClassifier(class_weight=by_class, **fast()), MLPClassifier(**fast())
    for rows in (y[:, 0] == 0, y[:, 0] == 1, y[:, 3] == 0):
        twins[0].partial_fit(X[rows], y[rows], classes=range(5))
        twins[1].partial_fit(X[rows], y[rows], of_rows[rows], classes=range(5))
        assert (twins[0].predict_proba(X) == twins[1].predict_proba(X)).all()


@pytest.mark.parametrize("by_class, error, message", [
    ({2: 5.0}, ValueError, r"class_weight: expected classes among \[0, 1\], got \[2\]"),
    ({"1": 5.0}, ValueError, r"class_weight: expected classes among \[0, 1\], got \['1'\]"),
    ({1: -1.0}, ValueError, "class_weight: expected a finite number >= 0"),
    ({1: "many"}, TypeError, "class_weight: expected a finite number >= 0"),
    ({0: 0.0, 1: 0}, ValueError, "non-zero"),
])  # fmt: skip
def test_weights_of_classes_that_are_refused(by_class, error, message):
    X, y = cancer()
    for fit in (lambda e: e.fit(X, y), lambda e: e.partial_fit(X, y, classes=[0, 1])):
        with pytest.raises(error, match=message):
            fit(MLPClassifier(class_weight=by_class, **fast()))


def test_partial_fit_needs_no_class_twice():
    """Neither with early stopping, which splits by class, nor with warm_start."""
    X, y = cancer()
    rows = np.r_[np.flatnonzero(y == 1)[:40], np.flatnonzero(y == 0)[:1]]
    classifier = MLPClassifier(early_stopping=True, warm_start=True, **fast())
    for part in (slice(None), rows, rows[:-1], slice(None)):
        classifier.partial_fit(X[part], y[part], classes=[0, 1])
    assert len(classifier.validation_scores_) == 4


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


@pytest.mark.parametrize("rows", [80, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_with_early_stopping_ends_as_scikit_learns(rows, dtype, capsys):
    """With the parameters that scored best; nothing is any better from then on."""
    X, y = (array[:rows] for array in plane())
    settings = fast(
        activation="identity", solver="sgd", learning_rate_init=1.0, early_stopping=True,
        max_iter=150, verbose=True,
    )  # fmt: skip
    ends = []
    for estimator in (
        neural_network.MLPRegressor(**settings),
        MLPRegressor(dtype=dtype, **settings),
    ):
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            estimator.fit(X, y)
        (said,) = (w for w in caught if w.category is ConvergenceWarning)
        assert len(estimator.validation_scores_) == len(estimator.loss_curve_) == 150
        assert type(estimator.validation_scores_[-1]) is float
        printed = capsys.readouterr().out.splitlines()
        ends.append((
            estimator.n_iter_, estimator.t_, str(estimator.loss_), str(estimator.loss_curve_[-1]),
            str(estimator.validation_scores_[-1]), estimator._no_improvement_count,
            str(said.message), len(printed), printed[-2:],
        ))  # fmt: skip
        assert np.isfinite(estimator.predict(X)).all()
    assert ends[0] == ends[1]
    assert estimator.best_validation_score_ == np.nanmax(estimator.validation_scores_)
    assert len(estimator.validation_loss_curve_) == 150


def test_threads_do_not_change_a_bit():
    X, y = digits()
    fits = [MLPClassifier(**fast(n_threads=n)).fit(X, y) for n in (1, 2, 7)]
    first, *others = (estimator.predict_proba(X) for estimator in fits)
    assert all((first == other).all() for other in others)


def test_batch_norm_never_meets_a_batch_of_one():
    X, y = digits()
    for rows in (201, 401, 600):
        MLPClassifier(batch_norm=True, **fast(max_iter=1)).fit(X[:rows], y[:rows])
    for rows in (17, 89, 121):  # where few rows train in float64, and where they do not
        for options in ({}, {"early_stopping": True}, {"solver": "sgd"}):
            estimator = MLPClassifier(batch_norm=True, **fast(max_iter=1, batch_size=8, **options))
            data = X[:rows], np.arange(rows) % 3
            estimator.fit(*data)
            estimator.partial_fit(*data)
            estimator.fit(*data, weights(X[:rows]))
            estimator.partial_fit(*data, weights(X[:rows]))


def test_the_penalty_of_batches_that_joined():
    """In scikit-learn's loss each batch has alpha / (2 rows) of the squares; 17 rows in batches of
    8 are two."""
    X, y = np.random.default_rng(0).standard_normal((2, 17, 2))
    losses = [
        MLPRegressor(
            hidden_layer_sizes=(4,), batch_norm=True, batch_size=8, alpha=alpha, max_iter=1,
            learning_rate_init=1e-12, random_state=0, solver="sgd",
        ).fit(X, y)
        for alpha in (0.0, 3.0)
    ]  # fmt: skip
    squares = sum((weight.astype(float) ** 2).sum() for weight in losses[0].coefs_)
    difference = losses[1].loss_ - losses[0].loss_
    np.testing.assert_allclose(difference, 2 * 3.0 / 2 * squares / 17, rtol=1e-6)


@pytest.mark.parametrize("power_t", [8, 40])
def test_a_rate_that_falls_out_of_float32_ends_no_training(power_t):
    X, y = digits()
    options = {
        "hidden_layer_sizes": (9,), "solver": "sgd", "learning_rate": "invscaling", "tol": 0.0,
        "power_t": power_t, "max_iter": 12, "random_state": 0,
    }  # fmt: skip
    fitted = MLPClassifier(**options).fit(X[:300], y[:300])
    expected = neural_network.MLPClassifier(**options).fit(X[:300], y[:300])
    np.testing.assert_allclose(fitted.loss_curve_, expected.loss_curve_, rtol=1e-3)


def test_numbers_beyond_float32_are_no_infinity():
    X, y = plane()
    targets = np.where(np.arange(len(X)) == 3, 1e39, 1.0)
    for estimator, wrong, name in (
        (MLPRegressor(**fast()), targets, "y"),
        (MLPClassifier(**fast(class_weight={True: 1e39})), y > 0, "class_weight"),
    ):
        with pytest.raises(ValueError, match=f"^{name} contains values too large for float32"):
            estimator.fit(X, wrong)
    MLPRegressor(**fast(dtype="float64", max_iter=1)).fit(X, targets)
