"""Early stopping by any scorer of scikit-learn's, and what class weights do to probabilities."""

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

from sklearn.base import clone
from sklearn.metrics import accuracy_score, get_scorer, make_scorer, max_error
from sklearn.model_selection import GridSearchCV, cross_val_score

import fastnn
import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor
from perceptrons import cancer, counts, digits, learning, multilabel, plane, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def named(kind, y):
    """The labels as text, of which the second comes first by the alphabet."""
    return np.array(["no", "maybe", *"abcdefgh"])[y] if kind == "text" else y


class Scores(fastnn.Callback):
    """Scores the rows by hand after each epoch."""

    def __init__(self, estimator, scorer, X, y, weight):
        self.given = estimator, scorer, X, y
        self.weight = {} if weight is None else {"sample_weight": weight}
        self.scores = []

    def on_epoch_end(self, run):
        estimator, scorer, X, y = self.given
        mine = clone(estimator).set_params(max_iter=1, callbacks=None).fit(X, y)
        mine.model_.load_state_dict(run.model.state_dict())
        self.scores.append(scorer(mine, X, y, **self.weight))


def gini(estimator, X, y, sample_weight=None):
    return 2 * get_scorer("roc_auc")(estimator, X, y, sample_weight=sample_weight) - 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name, data, scoring, settings", [
    ("MLPClassifier", cancer(), "roc_auc", {}),
    ("MLPClassifier", cancer(), gini, {"loss": fastnn.SigmoidCrossEntropy()}),
    ("MLPClassifier", cancer(), "average_precision", {"batch_norm": True}),
    ("MLPClassifier", digits(), "neg_log_loss", {}),
    ("MLPClassifier", digits(), "f1_macro", {"loss": "hinge"}),
    ("MLPClassifier", digits(), "roc_auc_ovr_weighted", {"dropout": 0.2}),
    ("MLPClassifier", multilabel(), "f1_micro", {}),
    ("MLPRegressor", plane(), "neg_root_mean_squared_error", {}),
    ("MLPRegressor", plane(2), "neg_mean_absolute_error", {}),
    ("MLPRegressor", counts(), "neg_mean_poisson_deviance", {"loss": "poisson"}),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_scores_are_the_scorers(name, data, scoring, settings, weighted, kind):
    X, y = data
    if kind == "text" and (name == "MLPRegressor" or y.ndim > 1):
        pytest.skip("its targets are no labels")
    y, given = named(kind, y), (slice(200, None),)
    weight = weights(X)[200:] if weighted else None
    if kind == "text" and scoring == "average_precision":
        scoring = "balanced_accuracy"  # the other one wants to know which class is meant
    settings = learning(early_stopping=True, scoring=scoring, n_iter_no_change=3, max_iter=5,
                        dtype="float64", **settings)  # fmt: skip
    estimator = getattr(ours, name)(**settings)
    scorer = get_scorer(scoring)
    seen = Scores(getattr(ours, name)(**settings | {"early_stopping": False}), scorer, X[given],
                  y[given], weight)  # fmt: skip
    held = (X[given], y[given]) if weight is None else (X[given], y[given], weight)
    estimator.set_params(callbacks=[seen]).fit(X[:200], y[:200], validation_data=held)
    np.testing.assert_allclose(estimator.validation_scores_, seen.scores, rtol=1e-9)
    assert estimator.best_validation_score_ == max(estimator.validation_scores_)
    extra = {} if weight is None else {"sample_weight": weight}
    best = scorer(estimator, X[given], y[given], **extra)
    np.testing.assert_allclose(best, estimator.best_validation_score_, rtol=1e-9)


def test_rows_that_are_held_out_bring_their_weights():
    X, y = cancer()
    weight, seen = weights(X), []

    def scorer(estimator, X, y, sample_weight=None):
        seen.append((X, y, sample_weight))
        return 0.5

    settings = learning(early_stopping=True, scoring=scorer, max_iter=3)
    classifier = MLPClassifier(class_weight={0: 3.0}, **settings).fit(X, y, weight)
    assert classifier.validation_scores_ == [0.5] * 3 and len(seen) == 3
    rows = [np.flatnonzero((X.astype(np.float32) == row).all(axis=1))[0] for row in seen[0][0]]
    assert len(rows) == 57
    assert (seen[0][1] == y[rows]).all()
    by_class = np.where(y[rows] == 0, 3.0, 1.0)
    np.testing.assert_allclose(seen[0][2], weight[rows] * by_class, rtol=1e-6)
    seen.clear()
    MLPClassifier(**settings).fit(X, y)
    assert [part[2] for part in seen] == [None] * 3


def test_few_rows_which_train_in_float64_and_tables_with_names():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = cancer()
    X, y = pandas.DataFrame(X[:90]).add_prefix("x"), y[:90]
    classifier = MLPClassifier(**learning(early_stopping=True, scoring="roc_auc"))
    classifier.fit(X, y)  # a warning of missing names would be an error here
    assert max(classifier.validation_scores_) > 0.7


def test_few_rows_which_train_in_float64():
    X, y = cancer()
    classifier = MLPClassifier(**learning(early_stopping=True, scoring="roc_auc", max_iter=9))
    held = (X[90:200], y[90:200])
    classifier.fit(X[:90], y[:90], validation_data=held)
    assert len(set(classifier.validation_scores_)) > 1
    score = get_scorer("roc_auc")(classifier, *held)
    assert score == pytest.approx(classifier.best_validation_score_, rel=1e-5)


def test_it_ends_training_and_keeps_the_best():
    X, y = cancer()
    history = iter([0.2, 0.9, *[0.5] * 50])
    states = []

    def scorer(estimator, X, y):
        states.append(estimator.model_.flat_parameters.copy())
        return next(history)

    settings = learning(early_stopping=True, scoring=scorer, n_iter_no_change=3, max_iter=40)
    classifier = MLPClassifier(**settings).fit(X, y)
    assert classifier.n_iter_ == 6 and classifier.best_validation_score_ == 0.9
    assert (classifier.model_.flat_parameters == states[1]).all()
    assert (states[2] != states[1]).any()


def test_partial_fit_scores_so_too():
    X, y = cancer()
    classifier = MLPClassifier(**learning(early_stopping=True, scoring="neg_log_loss"))
    for _ in range(3):
        classifier.partial_fit(X, y, classes=[0, 1])
    assert len(classifier.validation_scores_) == 3 and max(classifier.validation_scores_) < 0


def test_without_it_all_is_as_before():
    X, y = digits()
    one, other = (
        MLPClassifier(**learning(early_stopping=True, **more)).fit(X, y)
        for more in ({}, {"scoring": "accuracy"})
    )
    assert one.validation_scores_ == pytest.approx(other.validation_scores_, rel=1e-12)
    assert (one.model_.flat_parameters == other.model_.flat_parameters).all()
    never = MLPClassifier(**learning(scoring="roc_auc")).fit(X, y)  # nothing is held out
    assert never.validation_scores_ is None


@pytest.mark.parametrize("scoring, text", [
    ("auc", "'scoring' parameter of MLPClassifier must be a str among"),
    (3, "'scoring' parameter of MLPClassifier must be"),
    (accuracy_score, "looks like it is a metric function rather than a scorer"),
    ("roc_auc", "multi_class must be in"),
])  # fmt: skip
def test_what_cannot_score(scoring, text):
    with pytest.raises(ValueError, match=text):
        MLPClassifier(**learning(early_stopping=True, scoring=scoring)).fit(*digits())


def test_a_scorer_that_takes_no_weights_refuses_them():
    X, y = plane()
    regressor = MLPRegressor(**learning(early_stopping=True, scoring=make_scorer(max_error)))
    regressor.fit(X, y)
    with pytest.raises(TypeError, match="sample_weight") as caught:
        regressor.fit(X, y, weights(X))
    assert any("raised by scoring=make_scorer(max_error" in note and "30 rows" in note
               for note in caught.value.__notes__)  # fmt: skip


def test_it_is_a_parameter_as_others():
    X, y = cancer()
    classifier = MLPClassifier(**learning(early_stopping=True, scoring="roc_auc", max_iter=5))
    assert clone(classifier).scoring == "roc_auc"
    search = GridSearchCV(classifier, {"scoring": ["neg_log_loss", None]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.8
    assert cross_val_score(classifier, X, y, cv=2, scoring="roc_auc").min() > 0.8


# ---- what class weights do to probabilities ----


@pytest.mark.parametrize("loss", [fastnn.SoftmaxCrossEntropy(), fastnn.SigmoidCrossEntropy()])
def test_probabilities_are_those_of_weighted_frequencies(loss):
    """One group of equal rows, a tenth of them of the second class: p w / sum of p w."""
    X, y = np.ones((200, 1)), np.arange(200) % 10 == 0
    w = np.array([1.0, 4.0])
    classifier = MLPClassifier(loss=loss, hidden_layer_sizes=(), solver="lbfgs", alpha=0,
                               class_weight={0: 1.0, 1: 4.0}, random_state=0, tol=1e-9)  # fmt: skip
    learnt = classifier.fit(X, y.astype(int)).predict_proba(X[:1])[0]
    p = np.array([0.9, 0.1])
    np.testing.assert_allclose(learnt, p * w / (p * w).sum(), rtol=1e-3)
    np.testing.assert_allclose(learnt / w / (learnt / w).sum(), p, rtol=1e-3)


def test_flags_may_be_numpys():
    X, y = cancer()
    for value in (np.True_, np.False_):
        one, other = (
            MLPClassifier(**learning(shuffle=flag)).fit(X, y) for flag in (value, bool(value))
        )
        assert (one.model_.flat_parameters == other.model_.flat_parameters).all()
