"""What `fit` and `evaluate` make of functions in `metrics`: the order of their arguments, and the
predictions that scikit-learn's take.  The names are in test_metrics.py."""

from functools import partial

import numpy as np
import pytest

import fastnn
import reference
from fastnn import (
    Adam,
    Dense,
    Hinge,
    MeanSquaredError,
    Poisson,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)

ROWS = 60


def data(classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 5))
    return X, (X @ rng.standard_normal((5, classes)) + rng.standard_normal((ROWS, classes))).argmax(
        axis=1
    )


def trained(outputs, X, y, loss, metric):
    """Outputs and the metric's value, the same from `evaluate` and `fit`."""
    model = Sequential(Dense(5, outputs), seed=0)
    history = model.fit(X, y, loss=loss, optimizer=Adam(0.05), epochs=3, progress=False,
                        metrics=[metric], validation_data=(X, y))  # fmt: skip
    results = model.evaluate(X, y, loss=loss, metrics=[metric])
    (name,) = set(results) - {"loss"}
    assert history[f"validation_{name}"][-1] == results[name]
    assert len(history[name]) == 3
    return model.predict(X).astype(float), results[name]


# ---- one's own ----


def right(outputs, targets):
    return float(outputs.sum() - 2 * targets.sum())


def swapped(y_true, y_pred):
    return right(y_pred, y_true)


def named_otherwise(targets, outputs):
    return right(outputs, targets)


def with_options(y_true, y_pred, *, factor=1.0):
    return factor * right(y_pred, y_true)


class Measure:
    def __call__(self, y_true, y_pred):
        return right(y_pred, y_true)


@pytest.mark.parametrize("metric", [
    right, swapped, named_otherwise, partial(with_options, factor=1.0), Measure(),
    lambda o, t: right(o, t), lambda y_true, y_pred: right(y_pred, y_true),
])  # fmt: skip
def test_targets_come_first_where_a_function_calls_them_so(metric):
    X, _ = data()
    y = X[:, 0] + 3
    outputs, value = trained(1, X, y, MeanSquaredError(), metric)
    assert value == pytest.approx(outputs.sum() - 2 * y.sum(), rel=1e-4)


def test_a_partial_has_the_name_of_its_function_or_its_own():
    X, _ = data()
    twice = partial(with_options, factor=2.0)
    twice.__name__ = "twice"
    model, metrics = Sequential(Dense(5, 1), seed=0), [partial(with_options), twice]
    results = model.evaluate(X, X[:, 0], loss=MeanSquaredError(), metrics=metrics)
    assert results["twice"] == 2 * results["with_options"]
    with pytest.raises(ValueError, match="metrics: 'with_options' is the name of another result"):
        model.evaluate(X, X[:, 0], loss=MeanSquaredError(), metrics=[metrics[0], with_options])


# ---- scikit-learn's ----


def theirs(name, **options):
    function = getattr(pytest.importorskip("sklearn.metrics"), name)
    return partial(function, **options) if options else function


@pytest.mark.parametrize("name", ["r2_score", "mean_squared_error", "explained_variance_score",
                                  "max_error", "d2_absolute_error_score"])  # fmt: skip
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("loss", [MeanSquaredError(), fastnn.Huber(), fastnn.Quantile(),
                                  lambda o, t, w: MeanSquaredError()(o, t, w)])  # fmt: skip
def test_numbers_as_scikit_learn_scores_them(name, columns, loss):
    if name == "max_error" and columns > 1:
        pytest.skip("it takes one column")
    X, _ = data()
    y = X[:, 0] if columns == 1 else X[:, :2]
    outputs, value = trained(columns, X, y, loss, theirs(name))
    assert value == pytest.approx(theirs(name)(y, outputs), rel=1e-4)
    if name == "r2_score":
        assert value == pytest.approx(fastnn.metrics.r2(outputs, y), rel=1e-4)


def test_counts_as_scikit_learn_scores_them():
    X, y = data()
    outputs, value = trained(1, X, y, Poisson(), theirs("mean_poisson_deviance"))
    expected = theirs("mean_poisson_deviance")(y, np.exp(outputs))
    assert value == pytest.approx(expected, rel=1e-4)


PER_CLASS = [
    ("accuracy_score", {}, "answers"), ("f1_score", {"average": "macro"}, "answers"),
    ("balanced_accuracy_score", {}, "answers"), ("cohen_kappa_score", {}, "answers"),
    ("matthews_corrcoef", {}, "answers"), ("adjusted_rand_score", {}, "answers"),
    ("log_loss", {"labels": [0, 1, 2]}, "likely"),
    ("roc_auc_score", {"multi_class": "ovr"}, "likely"),
    ("top_k_accuracy_score", {"k": 2}, "likely"),
]  # fmt: skip


@pytest.mark.parametrize("name, options, wanted", PER_CLASS)
@pytest.mark.parametrize("form", [lambda y: y, lambda y: np.eye(3)[y]], ids=["labels", "one hot"])
def test_classes_as_scikit_learn_scores_them(name, options, wanted, form):
    X, y = data()
    outputs, value = trained(3, X, form(y), SoftmaxCrossEntropy(), theirs(name, **options))
    predicted = {"answers": outputs.argmax(1), "likely": reference.softmax(outputs)}[wanted]
    assert value == pytest.approx(theirs(name, **options)(y, predicted), rel=1e-4)


PER_YES = [
    ("accuracy_score", "answers"), ("f1_score", "answers"), ("log_loss", "likely"),
    ("roc_auc_score", "likely"), ("average_precision_score", "likely"),
    ("brier_score_loss", "likely"),
]  # fmt: skip


@pytest.mark.parametrize("name, wanted", PER_YES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_as_scikit_learn_scores_them(name, wanted, outputs):
    X, y = data(2)
    loss = SigmoidCrossEntropy() if outputs == 1 else SoftmaxCrossEntropy()
    logits, value = trained(outputs, X, y, loss, theirs(name))
    logit = logits[:, 0] if outputs == 1 else logits[:, 1] - logits[:, 0]
    predicted = {"answers": logit > 0, "likely": 1 / (1 + np.exp(-logit))}[wanted]
    assert value == pytest.approx(theirs(name)(y, predicted), rel=1e-4)


@pytest.mark.parametrize("name, options, wanted", [
    ("accuracy_score", {}, "answers"), ("hamming_loss", {}, "answers"),
    ("f1_score", {"average": "micro"}, "answers"), ("roc_auc_score", {}, "likely"),
    ("label_ranking_loss", {}, "likely"),
])  # fmt: skip
def test_labels_apart_as_scikit_learn_scores_them(name, options, wanted):
    X, _ = data()
    y = (X[:, :3] > 0.3).astype(int)
    outputs, value = trained(3, X, y, SigmoidCrossEntropy(), theirs(name, **options))
    predicted = {"answers": outputs > 0, "likely": 1 / (1 + np.exp(-outputs))}[wanted]
    assert value == pytest.approx(theirs(name, **options)(y, predicted), rel=1e-4)


def test_scores_of_the_hinge_as_scikit_learn_scores_them():
    X, y = data(2)
    scores, value = trained(2, X, y, Hinge(), theirs("hinge_loss"))
    decision = scores[:, 1] - scores[:, 0]
    assert value == pytest.approx(theirs("hinge_loss")(y, decision), rel=1e-4)
    scores, value = trained(2, X, y, Hinge(), theirs("roc_auc_score"))
    decision = scores[:, 1] - scores[:, 0]
    assert value == pytest.approx(theirs("roc_auc_score")(y, decision), rel=1e-4)


@pytest.mark.parametrize("name, message", [
    ("auc", "expected a function of targets and predictions"),
    ("silhouette_score", "expected a function of targets and predictions"),
    ("pairwise_distances", "expected a function of targets and predictions"),
    ("log_loss", "needs probabilities, which Hinge"),
])  # fmt: skip
def test_functions_of_scikit_learns_that_measure_something_else(name, message):
    """Refused before the first step."""
    X, y = data()
    with pytest.raises((TypeError, ValueError), match=f"^metrics: .*{message}"):
        Sequential(Dense(5, 3)).fit(
            X, y, loss=Hinge(), optimizer=Adam(), metrics=[theirs(name)], progress=False
        )


def test_scorers_take_estimators():
    scorer = theirs("make_scorer")(theirs("r2_score"))
    with pytest.raises(TypeError, match=r"^metrics: expected a function of .*, got make_scorer"):
        Sequential(Dense(5, 1)).evaluate(*data(), loss=MeanSquaredError(), metrics=[scorer])


def test_outputs_that_are_not_finite_have_no_score():
    X, y = data()
    model = Sequential(Dense(5, 1), seed=0)
    model.parameters["0.bias"][...] = np.inf
    results = model.evaluate(X, y, loss=fastnn.MeanAbsoluteError(), metrics=[theirs("r2_score")])
    assert np.isnan(results["r2_score"])


def test_an_error_says_which_metric_raised_it():
    X, y = data()
    with pytest.raises(ValueError, match="multiclass") as caught:
        Sequential(Dense(5, 3)).evaluate(X, y, loss=SoftmaxCrossEntropy(),
                                         metrics=[theirs("f1_score")])  # fmt: skip
    told = "raised by the metric f1_score, whose options functools.partial sets"
    assert caught.value.__notes__ == [told]
