"""Metrics: against their definitions, pair by pair, and against scikit-learn; by name in `fit` and
`evaluate`; what they refuse."""

import math
from itertools import product

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
    Quantile,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    metrics,
)

ROWS = 60


def draw(columns, rng, rows=ROWS):
    """Outputs with many ties, and labels."""
    outputs = np.round(rng.standard_normal((rows, columns)), 1)
    return outputs, rng.integers(0, max(columns, 2), rows)


# ---- the definitions, one pair or one row at a time ----


def area(scores, yes):
    """The fraction of all (yes, no) pairs in which yes scores higher; a tie counts half."""
    pairs = [(a > b) + (a == b) / 2 for a, b in product(scores[yes], scores[~yes])]
    return sum(pairs) / len(pairs)


def f1_of(answers, yes):
    hits, marked = (answers & yes).sum(), answers.sum() + yes.sum()
    return 2 * hits / marked if marked else 0.0


def expected_of_classes(name, outputs, labels):
    classes = range(outputs.shape[1])
    given = outputs.argmax(axis=1)
    if name == "accuracy":
        return np.mean([a == b for a, b in zip(given, labels, strict=True)])
    if name == "f1" and outputs.shape[1] == 2:
        return f1_of(given == 1, labels == 1)
    if name == "f1":
        return np.mean([f1_of(given == c, labels == c) for c in classes
                        if (given == c).any() or (labels == c).any()])  # fmt: skip
    probabilities = reference.softmax(outputs)
    return np.mean([area(probabilities[:, c], labels == c) for c in classes])


def expected_of_columns(name, outputs, yes):
    if name == "accuracy":
        return ((outputs > 0) == yes).mean()
    columns = zip(outputs.T, yes.T, strict=True)
    return np.mean([f1_of(o > 0, t) if name == "f1" else area(o, t) for o, t in columns])


NAMES = ["accuracy", "f1", "auc"]


@pytest.mark.parametrize("columns", [2, 3, 7])
@pytest.mark.parametrize("name", NAMES)
def test_metrics_of_classes(name, columns, dtype, rng):
    outputs, labels = draw(columns, rng)
    outputs, metric = outputs.astype(dtype), getattr(metrics, name)
    expected = expected_of_classes(name, outputs.astype(float), labels)
    one_hot = np.eye(columns)[labels]
    for form in (
        *(labels, labels[:, None], labels.astype(np.uint8), labels.astype(float), labels.tolist()),
        *(one_hot, 0.5 * one_hot + 0.1),
    ):
        value = metric(outputs, form)
        assert type(value) is float
        np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_of_one_column(name, dtype, rng):
    outputs, labels = draw(1, rng)
    outputs, metric = outputs.astype(dtype), getattr(metrics, name)
    expected = expected_of_columns(name, outputs, labels[:, None] == 1)
    for o, t in product((outputs, outputs[:, 0], outputs.tolist()),
                        (labels, labels[:, None], labels == 1, 0.2 + 0.5 * labels)):  # fmt: skip
        np.testing.assert_allclose(metric(o, t), expected, rtol=1e-12)
        assert metric(o, t, multilabel=True) == metric(o, t)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_of_columns_apart(name, rng):
    outputs, _ = draw(4, rng)
    targets = rng.integers(0, 2, outputs.shape)
    expected = expected_of_columns(name, outputs, targets == 1)
    np.testing.assert_allclose(getattr(metrics, name)(outputs, targets, multilabel=True), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 9])
def test_top_k_accuracy(k, rng):
    outputs, labels = draw(7, rng)
    order = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    expected = np.mean([label in row for label, row in zip(labels, order, strict=True)])
    assert metrics.top_k_accuracy(outputs, labels, k) == expected
    assert metrics.top_k_accuracy(outputs, np.eye(7)[labels], k=k) == expected
    assert k != 1 or expected == metrics.accuracy(outputs, labels)
    assert k < 7 or expected == 1


@pytest.mark.parametrize("columns", [1, 3])
def test_metrics_of_numbers(columns, dtype, rng):
    outputs, targets = rng.standard_normal((2, ROWS, columns)).astype(dtype)
    o, t = outputs.astype(float), targets.astype(float)
    error = [abs(a - b) for a, b in zip(o.flat, t.flat, strict=True)]
    r2 = [1 - sum((t[:, j] - o[:, j]) ** 2) / sum((t[:, j] - t[:, j].mean()) ** 2)
          for j in range(columns)]  # fmt: skip
    np.testing.assert_allclose(metrics.mean_absolute_error(outputs, targets), np.mean(error))
    np.testing.assert_allclose(metrics.r2(outputs, targets), np.mean(r2))
    if columns == 1:
        for a, b in product((outputs, outputs[:, 0]), (targets, targets[:, 0])):
            assert metrics.r2(a, b) == metrics.r2(outputs, targets)
            assert metrics.mean_absolute_error(a, b) < 2, "(n, 1) and (n,) do not broadcast"


# ---- scikit-learn ----


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_the_numbers_are_those_of_scikit_learn(columns, rng):
    theirs = pytest.importorskip("sklearn.metrics")
    outputs, labels = draw(columns, rng)
    if columns > 1:  # ties, also up to rounding, have no order to agree on
        outputs = rng.standard_normal(outputs.shape)
    if columns == 1:
        answers, scores = outputs[:, 0] > 0, outputs[:, 0]
    else:
        answers, scores = outputs.argmax(1), reference.softmax(outputs)
    if columns == 2:
        scores = scores[:, 1]
    average = "macro" if columns > 2 else "binary"
    expected = [
        theirs.accuracy_score(labels, answers), theirs.f1_score(labels, answers, average=average),
        theirs.roc_auc_score(labels, scores, multi_class="ovr"),
    ]  # fmt: skip
    ours = [getattr(metrics, name)(outputs, labels) for name in NAMES]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    if columns == 5:
        for k in (1, 3):
            np.testing.assert_allclose(
                metrics.top_k_accuracy(outputs, labels, k),
                theirs.top_k_accuracy_score(labels, outputs, k=k),
            )


def test_columns_apart_as_in_scikit_learn(rng):
    theirs = pytest.importorskip("sklearn.metrics")
    outputs, targets = draw(4, rng)[0], rng.integers(0, 2, (ROWS, 4))
    targets[:, 3], outputs[:, 3] = 0, -1
    expected = theirs.f1_score(targets, outputs > 0, average="macro", zero_division=0)
    np.testing.assert_allclose(metrics.f1(outputs, targets, multilabel=True), expected)
    expected = theirs.roc_auc_score(targets[:, :3], outputs[:, :3])
    np.testing.assert_allclose(metrics.auc(outputs, targets, multilabel=True), expected)
    expected = 1 - theirs.hamming_loss(targets, outputs > 0)
    np.testing.assert_allclose(metrics.accuracy(outputs, targets, multilabel=True), expected)


def test_classes_that_do_not_occur_as_in_scikit_learn(rng):
    theirs = pytest.importorskip("sklearn.metrics")
    outputs, labels = draw(6, rng, rows=5)
    expected = theirs.f1_score(labels, outputs.argmax(1), average="macro", zero_division=0)
    np.testing.assert_allclose(metrics.f1(outputs, labels), expected)


@pytest.mark.parametrize("columns", [1, 3])
def test_numbers_as_in_scikit_learn(columns, rng):
    theirs = pytest.importorskip("sklearn.metrics")
    outputs, targets = rng.standard_normal((2, ROWS, columns))
    for change in (lambda: None, lambda: targets[:, 0].fill(0.5), lambda: outputs[:, 0].fill(0.5)):
        change()
        np.testing.assert_allclose(
            metrics.mean_absolute_error(outputs, targets),
            theirs.mean_absolute_error(targets, outputs),
        )
        np.testing.assert_allclose(metrics.r2(outputs, targets), theirs.r2_score(targets, outputs))


# ---- where they are undefined ----


def test_auc_without_a_yes_or_a_no_is_nan():
    for labels in ([1, 1, 1], [0, 0, 0]):
        assert math.isnan(metrics.auc([0.1, 0.2, 0.3], labels))
        assert math.isnan(metrics.auc(np.zeros((3, 4)), labels))
    outputs = np.array([[2.0, 0, 0], [0, 2, 0], [3, 0, 0]])
    assert metrics.auc(outputs, [0, 1, 1]) == 0.5, "the mean of the two that have an area"


def test_f1_without_a_yes_is_zero():
    assert metrics.f1([-1.0, -2.0], [0, 0]) == metrics.f1([1.0, -2.0], [0, 0]) == 0
    assert metrics.f1([[1.0, 0.0]], [0]) == metrics.f1([[0.0, 1.0]], [0]) == 0
    assert metrics.f1([[1.0, 0.0, 0.0]], [0]) == 1


def test_r2_of_equal_targets_and_of_one_row():
    assert metrics.r2([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]) == 1
    assert metrics.r2([0.1, 0.1, 0.2], [0.1, 0.1, 0.1]) == 0
    assert math.isnan(metrics.r2([1.0], [1.0]))


def test_r2_of_targets_that_are_equal_but_for_rounding():
    """As of equal ones: their spread is no measure.  It was -1e+29."""
    for dtype in (np.float32, np.float64):
        one = np.ones(6, dtype)
        targets = np.nextafter(one, one + one * [1, 0, -1, 0, 1, -1])
        assert len(np.unique(targets)) == 3
        assert metrics.r2(0.99 * one, targets) == 0
        assert metrics.r2(one, targets) == metrics.r2(targets, targets) == 1
        both = np.stack([targets, [1, 2, 3, 4, 5, 6]], axis=1)
        far = both + np.array([0.1, 0.5])
        np.testing.assert_allclose(metrics.r2(far, both), 0.5 * (1 - 1.5 / 17.5))


def test_auc_of_scores_that_are_all_equal_is_a_half(rng):
    assert metrics.auc(np.zeros(9), rng.permutation(9) < 4) == 0.5
    assert metrics.auc(np.zeros((9, 3)), np.arange(9) % 3) == 0.5


@pytest.mark.parametrize("name", [*NAMES, "top_k_accuracy", "mean_absolute_error", "r2"])
def test_nan_in_nan_out(name, rng):
    outputs, labels = draw(3, rng)
    targets = outputs.copy() if name in ("mean_absolute_error", "r2") else labels
    outputs[3, 1] = np.nan
    assert math.isnan(getattr(metrics, name)(outputs, targets))
    if name != "top_k_accuracy":
        targets = targets[:, 0] if targets.ndim == 2 else labels % 2
        assert math.isnan(getattr(metrics, name)(outputs[:, 1], targets))


def test_infinite_outputs(rng):
    outputs, labels = draw(1, rng)
    finite = metrics.auc(outputs, labels)
    outputs[outputs == outputs.max()] = np.inf
    assert metrics.auc(outputs, labels) == finite
    assert math.isnan(metrics.auc([[np.inf, 0], [0, 1]], [0, 1])), "softmax is NaN there"
    assert metrics.accuracy([[np.inf, 0], [0, 1]], [0, 1]) == 1


# ---- by name ----


def data(classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 5))
    return X, (X @ rng.standard_normal((5, classes))).argmax(axis=1)


def trained(outputs, X, y, loss, names, **options):
    model = Sequential(Dense(5, outputs), seed=0)
    history = model.fit(X, y, loss=loss, optimizer=Adam(0.05), epochs=3, progress=False,
                        metrics=names, validation_data=(X, y), **options)  # fmt: skip
    measured = model.evaluate(X, y, loss=loss, metrics=names)
    for name in measured:
        assert measured[name] == history[f"validation_{name}"][-1]
        assert len(history[name]) == 3 and all(map(math.isfinite, history[name]))
    return model.predict(X), measured


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Hinge()], ids=repr)
def test_names_for_classes(loss):
    X, y = data()
    names = ["accuracy", "f1", "auc", "top_2_accuracy", metrics.f1]
    outputs, measured = trained(3, X, y, loss, names)
    assert list(measured) == ["loss", "accuracy", "f1", "auc", "top_2_accuracy"]
    assert measured["top_2_accuracy"] == metrics.top_k_accuracy(outputs, y, 2)
    for name in NAMES:
        assert measured[name] == getattr(metrics, name)(outputs, y)


def test_names_for_columns_apart():
    X, y = data()
    for columns, targets in ((1, y > 0), (3, np.eye(3)[y] + np.eye(3)[0] > 0)):
        outputs, measured = trained(columns, X, targets, SigmoidCrossEntropy(), NAMES)
        for name in NAMES:
            expected = getattr(metrics, name)(outputs, targets, multilabel=True)
            assert measured[name] == expected


@pytest.mark.parametrize("loss", [MeanSquaredError(), Quantile(0.4), fastnn.Huber(),
                                  lambda o, t, w: MeanSquaredError()(o, t, w)])  # fmt: skip
def test_names_for_numbers(loss):
    X, _ = data()
    y = X[:, 0] - X[:, 1]
    names = ["mean_absolute_error", "r2", metrics.r2]
    outputs, measured = trained(1, X, y, loss, names, batch_size=16)
    y = y.astype(np.float32)
    assert measured["r2"] == metrics.r2(outputs, y)
    assert measured["mean_absolute_error"] == metrics.mean_absolute_error(outputs, y)


def test_an_epoch_survives_an_undefined_metric():
    X, y = data()
    model, ones = Sequential(Dense(5, 1), seed=0), (X, np.ones(ROWS))
    history = model.fit(X, y > 0, loss=SigmoidCrossEntropy(), optimizer=Adam(), epochs=2,
                        metrics=["auc"], validation_data=ones, progress=False)  # fmt: skip
    assert all(map(math.isfinite, history.auc)) and all(map(math.isnan, history.validation_auc))


OF_CLASSES = "'accuracy', 'auc', 'balanced_accuracy', 'f1', 'log_loss', 'precision', 'recall'"
OF_NUMBERS = (
    "'explained_variance', 'mean_absolute_error', 'mean_squared_error', 'r2', "
    "'root_mean_squared_error'"
)
REFUSED = {
    "unknown": (SoftmaxCrossEntropy(), "specificity", f"{OF_CLASSES}, {OF_NUMBERS}, "
                "'top_5_accuracy' .*, got 'specificity'"),
    "no k": (SoftmaxCrossEntropy(), "top_k_accuracy", "got 'top_k_accuracy'"),
    "k of 0": (SoftmaxCrossEntropy(), "top_0_accuracy", "got 'top_0_accuracy'"),
    "a number": (SoftmaxCrossEntropy(), 3, "one of .*, got 3"),
    "a list": (SoftmaxCrossEntropy(), ["f1"], r"one of .*, got \['f1'\]"),
    "auc of numbers": (MeanSquaredError(), "auc", "needs a loss that classifies, got Mean.*, for "
                       f"which there are {OF_NUMBERS}$"),
    "log loss of scores": (Hinge(), "log_loss", "needs a loss whose outputs are logits, got Hinge"),
    "f1 of counts": (Poisson(), "f1", "needs a loss that classifies, got Poisson"),
    "top of numbers": (Quantile(), "top_2_accuracy", "needs a loss of several classes, got Quan"),
    "top of yes and no": (SigmoidCrossEntropy(), "top_2_accuracy", "a loss of several classes, got "
                          f".*, for which there are {OF_CLASSES}$"),
    "r2 of classes": (SoftmaxCrossEntropy(), "r2", "needs a loss whose outputs estimate the targ"),
    "r2 of logarithms": (Poisson(), "r2", "needs a loss whose outputs estimate .*, got "
                         "Poisson.*, for which there are none$"),
    "error of quantiles": (Quantile([0.1, 0.9]), "mean_absolute_error", "got Quantile"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_names(wrong):
    """They are refused before the first step."""
    loss, name, message = REFUSED[wrong]
    X, y = data()
    model = Sequential(Dense(5, 3), seed=0)
    before = model.flat_parameters.copy()
    for run in (model.evaluate, lambda *a, **o: model.fit(*a, optimizer=Adam(), **o)):
        with pytest.raises(ValueError, match=f"^metrics: .*{message}"):
            run(X, y, loss=loss, metrics=[name])
    np.testing.assert_array_equal(model.flat_parameters, before)


def test_one_name_in_place_of_a_list():
    names = f"{OF_CLASSES}, 'top_5_accuracy'"
    with pytest.raises(TypeError, match=f"^metrics: .* or of names, {names}, got 'auc'$"):
        Sequential(Dense(5, 3)).evaluate(*data(), loss=SoftmaxCrossEntropy(), metrics="auc")


# ---- what they refuse ----

OUT = np.zeros((4, 3))
WRONG = {
    "label too large": ("accuracy", OUT, [0, 1, 2, 3], "targets: expected labels 0 to 2, got 3"),
    "label below 0": ("f1", OUT, [0, -1, 2, 1], "targets: expected labels 0 to 2, got -1"),
    "half a label": ("auc", OUT, [0, 0.5, 2, 1], "targets: expected labels 0 to 2, got 0.5"),
    "label NaN": ("top_k_accuracy", OUT, [0, np.nan, 2, 1], "labels 0 to 2, got nan"),
    "yes as -1": ("accuracy", OUT[:, 0], [1, -1, 1, 1], "numbers from 0 to 1, got -1"),
    "yes as NaN": ("auc", OUT[:, 0], [1, np.nan, 1, 1], "numbers from 0 to 1, got nan"),
    "rows": ("accuracy", OUT, [0, 1], "outputs has 4, targets has 2"),
    "columns": ("f1", OUT, OUT[:, :2], r"labels of shape \(4,\) or numbers of shape \(4, 3\), got"),
    "labels for columns apart": ("r2", OUT, [0, 1, 2, 1], r"shape \(4, 3\), got \(4,\)"),
    "a column for three": ("mean_absolute_error", OUT, OUT[:, :1], r"\(4, 3\), got \(4, 1\)"),
    "positions": ("accuracy", OUT[None], [0], r"shape \(1, 4\) or .* \(1, 4, 3\), got \(1,\)"),
    "no rows": ("r2", OUT[:0], OUT[:0], "no rows"),
    "no columns": ("accuracy", OUT[:, :0], [0, 0, 0, 0], "outputs: expected shape"),
    "one class": ("top_k_accuracy", OUT[:, 0], [0, 0, 0, 0], "at least 2 classes"),
    "text": ("accuracy", OUT, ["a", "b", "c", "a"], "targets: expected real numbers"),
    "a masked array": ("r2", np.ma.masked_array(OUT), OUT, "mask"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_arrays(wrong):
    name, outputs, targets, message = WRONG[wrong]
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(metrics, name)(outputs, targets)


@pytest.mark.parametrize("k", [0, -1, 1.0, True, None, "3"])
def test_refused_k(k):
    with pytest.raises((ValueError, TypeError), match=r"^k: expected an integer >= 1, got"):
        metrics.top_k_accuracy(OUT, [0, 0, 0, 0], k)


def test_metrics_change_nothing(rng):
    outputs, labels = draw(3, rng)
    before = outputs.copy(), labels.copy()
    outputs.flags.writeable = labels.flags.writeable = False
    for name in [*NAMES, "top_k_accuracy"]:
        getattr(metrics, name)(outputs, labels)
    metrics.r2(outputs, outputs), metrics.mean_absolute_error(outputs, outputs)
    np.testing.assert_array_equal(outputs, before[0])
    np.testing.assert_array_equal(labels, before[1])
