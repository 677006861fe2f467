"""Metrics by weight: against scikit-learn and against rows that are repeated; in `fit` and
`evaluate`; and the metrics that test_metrics.py does not define pair by pair."""

import inspect
import math
from functools import partial

import numpy as np
import pytest

import fastnn
import reference
from fastnn import (
    Adam,
    Dense,
    MeanSquaredError,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    measures,
    metrics,
)

ROWS = 60
OF_CLASSES = ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "log_loss"]
OF_NUMBERS = ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2",
              "explained_variance"]  # fmt: skip


def theirs():
    return pytest.importorskip("sklearn.metrics")


def draw(columns, rng, rows=ROWS):
    return rng.standard_normal((rows, columns)), rng.integers(0, max(columns, 2), rows)


def weights(rng, kind, rows=ROWS):
    return {"none": None, "some": rng.random(rows) + 0.01, "equal": np.full(rows, 0.25)}[kind]


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


# ---- scikit-learn ----


def scored(name, labels, answers, likely, weight, classes):
    """scikit-learn's number for answers and probabilities of one column or of classes."""
    t, options = theirs(), {"sample_weight": weight}
    several = {"average": "binary" if classes == 2 else "macro", "zero_division": 0}
    if name == "log_loss":
        return t.log_loss(labels, likely, labels=range(classes), **options)
    if name == "auc":
        likely = likely[:, 1] if likely.ndim > 1 and classes == 2 else likely
        return t.roc_auc_score(labels, likely, multi_class="ovr", **options)
    if name in ("accuracy", "balanced_accuracy"):
        return getattr(t, f"{name}_score")(labels, answers, **options)
    return getattr(t, f"{name}_score")(labels, answers, **several, **options)


@pytest.mark.parametrize("rows", [ROWS, 5000])
@pytest.mark.parametrize("kind", ["none", "some", "equal"])
@pytest.mark.parametrize("columns", [1, 2, 3, 7])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_metrics_of_classes(name, columns, kind, rows, rng):
    outputs, labels = draw(columns, rng, rows)
    weight = weights(rng, kind, rows)
    if columns == 1:
        answers, likely = outputs[:, 0] > 0, 1 / (1 + np.exp(-outputs[:, 0]))
    else:
        answers, likely = outputs.argmax(1), reference.softmax(outputs)
    expected = scored(name, labels, answers, likely, weight, max(columns, 2))
    one_hot = np.eye(max(columns, 2))[labels]
    for form in (labels, one_hot[:, 1:] if columns == 1 else one_hot):
        value = getattr(metrics, name)(outputs, form, sample_weight=weight)
        assert type(value) is float
        close(value, expected)


@pytest.mark.parametrize("kind", ["none", "some"])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_metrics_of_columns_apart(name, kind, rng):
    outputs, targets, weight = draw(4, rng)[0], rng.integers(0, 2, (ROWS, 4)), weights(rng, kind)
    columns = [
        scored(name, t, o > 0, 1 / (1 + np.exp(-o)), weight, 2)
        for o, t in zip(outputs.T, targets.T, strict=True)
    ]
    value = getattr(metrics, name)(outputs, targets, multilabel=True, sample_weight=weight)
    close(value, np.mean(columns))


@pytest.mark.parametrize("kind", ["none", "some"])
def test_top_k_accuracy(kind, rng):
    (outputs, labels), weight = draw(7, rng), weights(rng, kind)
    expected = theirs().top_k_accuracy_score(labels, outputs, k=3, sample_weight=weight)
    close(metrics.top_k_accuracy(outputs, labels, 3, sample_weight=weight), expected)


@pytest.mark.parametrize("kind", ["none", "some", "equal"])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_metrics_of_numbers(name, columns, kind, rng):
    outputs, targets = rng.standard_normal((2, ROWS, columns))
    weight, ours = weights(rng, kind), getattr(metrics, name)
    if kind == "some":  # so that the mean of equal targets is not rounded, in scikit-learn either
        weight = np.ceil(64 * weight) / 64
    score = getattr(theirs(), name if name.endswith("error") else f"{name}_score")
    changes = (lambda: None, lambda: targets[:, 0].fill(0.5), lambda: outputs[:, 0].fill(0.25),
               lambda: outputs[:, 0].fill(0.5))  # fmt: skip
    for change in changes:  # columns of equal targets and errors too
        change()
        close(ours(outputs, targets, sample_weight=weight),
              score(targets, outputs, sample_weight=weight))  # fmt: skip


def test_explained_variance_of_one_row_as_in_scikit_learn():
    assert metrics.explained_variance([1.0], [2.0]) == 1 == theirs().explained_variance_score(
        [2.0], [1.0])  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "some"])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_confusion_matrix(columns, kind, rng):
    (outputs, labels), weight = draw(columns, rng), weights(rng, kind)
    answers = outputs[:, 0] > 0 if columns == 1 else outputs.argmax(1)
    expected = theirs().confusion_matrix(
        labels, answers, labels=range(max(columns, 2)), sample_weight=weight
    )
    matrix = metrics.confusion_matrix(outputs, labels, sample_weight=weight)
    close(matrix, expected)
    assert matrix.dtype == (np.int64 if weight is None else np.float64)
    assert metrics.confusion_matrix([[0.0, 0.0]], [1]).tolist() == [[0, 0], [1, 0]], "a tie"
    outputs[3] = np.nan
    assert np.isnan(metrics.confusion_matrix(outputs, labels)).all()


# ---- what a weight is ----


def pair(name, rng, rows=ROWS):
    outputs, labels = draw(3, rng, rows)
    return outputs, rng.standard_normal(outputs.shape) if name in OF_NUMBERS else labels


@pytest.mark.parametrize("name", [*OF_CLASSES, "top_k_accuracy", *OF_NUMBERS])
def test_a_weight_counts_as_often_as_rows_repeat(name, rng):
    outputs, targets = pair(name, rng)
    metric, counts = getattr(metrics, name), rng.integers(0, 4, ROWS)
    metric = partial(metric, k=2) if name == "top_k_accuracy" else metric
    repeated = metric(outputs.repeat(counts, axis=0), targets.repeat(counts, axis=0))
    close(metric(outputs, targets, sample_weight=counts), repeated)
    assert repeated != metric(outputs, targets)
    assert metric(outputs, targets, sample_weight=np.ones(ROWS, int)) == metric(outputs, targets)


@pytest.mark.parametrize("name", [*OF_CLASSES, "top_k_accuracy", *OF_NUMBERS])
def test_a_row_of_weight_zero_may_hold_anything(name, rng):
    outputs, targets = pair(name, rng)
    metric, weight = getattr(metrics, name), np.ones(ROWS)
    weight[::3] = 0
    expected = metric(outputs[weight > 0], targets[weight > 0])
    outputs[::3], targets[::3] = np.nan, -100
    assert metric(outputs, targets, sample_weight=weight) == expected


@pytest.mark.parametrize("name", [*OF_CLASSES, "top_k_accuracy", *OF_NUMBERS])
def test_positions_are_rows(name, rng):
    outputs, targets = pair(name, rng)
    weight, metric = rng.random(ROWS), getattr(metrics, name)
    expected = metric(outputs, targets, sample_weight=weight)
    for shape in ((4, 15), (3, 4, 5)):
        at = [a.reshape(*shape, *a.shape[1:]) for a in (outputs, targets, weight)]
        assert metric(at[0], at[1], sample_weight=at[2]) == expected
        rows = rng.random(shape[0])
        by_row = metric(at[0], at[1], sample_weight=rows)
        each = np.repeat(rows, ROWS // shape[0]).reshape(shape)
        assert by_row == metric(at[0], at[1], sample_weight=each)


def test_large_sums_of_weights_keep_their_digits():
    """One chain of additions loses 1e-10 and more of a million equal weights."""
    n = 2_000_000
    outputs, labels, weight = np.zeros((n, 2)), np.arange(n) % 2, np.full(n, 0.1)
    weight[0] = 1e4
    exact = math.fsum(weight[::2]) / math.fsum(weight)
    assert abs(metrics.accuracy(outputs, labels, sample_weight=weight) / exact - 1) < 1e-13
    matrix = metrics.confusion_matrix(outputs, labels, sample_weight=weight)
    assert abs(matrix[0, 0] / math.fsum(weight[::2]) - 1) < 1e-13
    area = metrics.auc(outputs[:, 0], labels, sample_weight=weight)
    assert abs(area - 0.5) < 1e-13


WRONG = {
    "too few": (np.ones(3), r"expected shape \(4,\), got \(3,\)"),
    "a column": (np.ones((4, 1)), r"expected shape \(4,\), got \(4, 1\)"),
    "negative": ([1, -2, 1, 1], "expected finite numbers >= 0, not all 0, got -2.0"),
    "NaN": ([1, np.nan, 1, 1], "finite numbers >= 0, not all 0, got nan"),
    "infinite": ([1, np.inf, 1, 1], "finite numbers >= 0, not all 0, got inf"),
    "none": (np.zeros(4), "finite numbers >= 0, not all 0, got only zeros"),
    "text": (["a"] * 4, "expected real numbers"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_weights(wrong):
    weight, message = WRONG[wrong]
    for metric in (metrics.accuracy, metrics.auc, metrics.confusion_matrix, metrics.r2):
        with pytest.raises(ValueError, match=f"^sample_weight: .*{message}"):
            metric([0.0, 1.0, 2.0, 3.0], [0, 1, 1, 1], sample_weight=weight)


# ---- edges ----


def test_a_class_that_is_never_answered_or_never_there():
    """As scikit-learn has it with zero_division=0; recalls only of classes that are there."""
    outputs, labels = np.eye(4)[[0, 0, 1, 2]], [0, 0, 0, 1]
    answers = outputs.argmax(1)
    for name in ("precision", "recall", "f1"):
        score = getattr(theirs(), f"{name}_score")
        expected = score(labels, answers, average="macro", zero_division=0)
        close(getattr(metrics, name)(outputs, labels), expected)
    assert metrics.balanced_accuracy(outputs, labels) == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.precision([-1.0, -2.0], [0, 1]) == 0 == metrics.recall([-1.0, 1.0], [0, 0])
    assert metrics.balanced_accuracy([-1.0, 1.0], [0, 0]) == 0.5


def test_log_loss_of_extreme_logits():
    """Exact where scikit-learn clips the probability."""
    assert metrics.log_loss([1e6], [0]) == 1e6 == metrics.log_loss([[1e6, 0.0]], [1])
    assert metrics.log_loss([np.inf, -np.inf], [1, 0]) == 0
    assert metrics.log_loss([np.inf], [0]) == np.inf
    assert metrics.log_loss([[0.0, -np.inf]], [[1.0, 0.0]]) == 0
    close(metrics.log_loss([[0.0, -800.0]], [0]), 0)
    close(metrics.log_loss([-800.0], [0]), 0)


def test_log_loss_is_the_loss(rng):
    outputs, labels = draw(5, rng)
    soft, weight = rng.dirichlet(np.ones(5), ROWS), rng.random(ROWS)
    for targets in (labels, soft):
        value = SoftmaxCrossEntropy()(outputs, targets, weight)[0]
        close(metrics.log_loss(outputs, targets, sample_weight=weight), value)
    value = SigmoidCrossEntropy()(outputs, soft, weight)[0]
    close(metrics.log_loss(outputs, soft, multilabel=True, sample_weight=weight), value)


@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_NUMBERS])
def test_nan_in_nan_out(name, rng):
    outputs, targets = pair(name, rng)
    outputs[3, 1] = np.nan
    assert math.isnan(getattr(metrics, name)(outputs, targets))
    assert math.isnan(getattr(metrics, name)(outputs, targets, sample_weight=rng.random(ROWS) + 1))


# ---- fit and evaluate ----


def data(columns=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 5))
    return X, (X @ rng.standard_normal((5, columns))).argmax(axis=1), rng.random(ROWS)


def fit(X, y=None, loss=None, outputs=3, **options):
    model = Sequential(Dense(5, outputs), seed=0)
    history = model.fit(X, y, loss=loss or SoftmaxCrossEntropy(), optimizer=fastnn.SGD(1e-30),
                        epochs=1, batch_size=16, progress=False, **options)  # fmt: skip
    return model, history


@pytest.mark.parametrize("source", ["arrays", "batches"])
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_NUMBERS])
def test_weights_reach_metrics_by_name(name, source):
    """In training, in validation and in `evaluate`, and never those of the classes."""
    X, y, weight = data()
    loss = MeanSquaredError() if name in OF_NUMBERS else SoftmaxCrossEntropy()
    y = X[:, :3] if name in OF_NUMBERS else y
    weight[::7] = 0
    options = {"loss": loss, "metrics": [name], "validation_data": (X, y, weight)}
    if source == "arrays":
        by_class = {} if name in OF_NUMBERS else {"class_weight": {0: 5.0}}
        model, history = fit(X, y, sample_weight=weight, **by_class, **options)
    else:
        parts = [(X[i : i + 16], y[i : i + 16], weight[i : i + 16]) for i in range(0, ROWS, 16)]
        model, history = fit(parts, **options)
    outputs, y = model.predict(X), y.astype(np.float32) if y.ndim > 1 else y
    expected = getattr(metrics, name)(outputs, y, sample_weight=weight.astype(np.float32))
    measured = model.evaluate(X, y, loss=loss, metrics=[name], sample_weight=weight)
    close(measured[name], expected)
    close(history[f"validation_{name}"], [expected])
    np.testing.assert_allclose(history[name], [expected], rtol=1e-6)  # of a shuffled order
    plain = model.evaluate(X, y, loss=loss, metrics=[name])
    assert abs(plain[name] - expected) > 1e-4 * abs(expected)


def test_weights_in_batches_with_and_without_them():
    X, y, weight = data()
    parts = [(X[:20], y[:20]), (X[20:], y[20:], weight[20:])]
    model, history = fit(parts, metrics=["accuracy"])
    both = np.concatenate([np.ones(20), weight[20:]])
    expected = metrics.accuracy(model.predict(X), y, sample_weight=both)
    np.testing.assert_allclose(history.accuracy, [expected], rtol=1e-6)


def seen(y_true, y_pred, sample_weight=None):
    return float(len(y_true)) if sample_weight is None else float(sample_weight.sum())


def needs(outputs, targets, sample_weight):
    return seen(targets, outputs, sample_weight)


@pytest.mark.parametrize("metric", [seen, needs, partial(seen), lambda o, t, sample_weight: seen(
    t, o, sample_weight)])  # fmt: skip
def test_functions_with_a_parameter_sample_weight_get_it(metric):
    X, y, weight = data()
    for w, total in ((None, ROWS), (weight, weight.sum())):
        results = fit(X, y)[0].evaluate(
            X, y, loss=SoftmaxCrossEntropy(), metrics=[metric], sample_weight=w
        )
        (value,) = set(results.items()) - {("loss", results["loss"])}
        np.testing.assert_allclose(value[1], total, rtol=1e-6)


def test_a_weight_that_a_partial_has_stays():
    X, y, weight = data()
    metric = partial(seen, sample_weight=np.full(ROWS, 2.0))
    results = fit(X, y)[0].evaluate(
        X, y, loss=SoftmaxCrossEntropy(), metrics=[metric], sample_weight=weight
    )
    assert results["seen"] == 2 * ROWS


@pytest.mark.parametrize("name, options", [
    ("accuracy_score", {}), ("f1_score", {"average": "macro"}), ("log_loss", {"labels": [0, 1, 2]}),
    ("roc_auc_score", {"multi_class": "ovr"}),
])  # fmt: skip
def test_functions_of_scikit_learn_are_weighted(name, options):
    X, y, weight = data()
    function = partial(getattr(theirs(), name), **options)
    model, _ = fit(X, y)
    results = model.evaluate(X, y, loss=SoftmaxCrossEntropy(), metrics=[function],
                             sample_weight=weight)  # fmt: skip
    outputs = model.predict(X).astype(float)
    predicted = outputs.argmax(1) if name in ("accuracy_score", "f1_score") else (
        reference.softmax(outputs))  # fmt: skip
    expected = function(y, predicted, sample_weight=weight)
    assert results[name] == pytest.approx(expected, rel=1e-4)
    assert results[name] != pytest.approx(function(y, predicted), rel=1e-4)


def test_which_results_are_better_when_larger():
    for name in (*OF_CLASSES, *OF_NUMBERS, "loss", "score", "top_3_accuracy"):
        lower = name in ("loss", "log_loss") or name.endswith("error")
        assert measures.grows(name) is not lower
    assert measures.grows("other") is None


def test_every_metric_has_its_name_and_its_weight():
    functions = {
        name for name, function in vars(metrics).items()
        if inspect.isfunction(function) and function.__module__ == metrics.__name__
        and not name.startswith("_")
    }  # fmt: skip
    assert functions == {*OF_CLASSES, *OF_NUMBERS, "top_k_accuracy", "confusion_matrix"}
    for name in functions:
        assert "sample_weight" in inspect.signature(getattr(metrics, name)).parameters
    X, y, _ = data()
    options = {"epochs": 1, "progress": False}
    for loss, names in ((SoftmaxCrossEntropy(), OF_CLASSES), (MeanSquaredError(), OF_NUMBERS)):
        t = y if names is OF_CLASSES else X[:, :3]
        history = Sequential(Dense(5, 3)).fit(X, t, loss=loss, optimizer=Adam(), metrics=names,
                                              **options)  # fmt: skip
        assert set(names) < set(history)
