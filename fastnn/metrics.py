"""Metrics: `metric(outputs, targets)` is a float that tells how good predictions are.

`fit` and `evaluate` take them in `metrics`, as functions or by name: ``"accuracy"``,
``"balanced_accuracy"``, ``"precision"``, ``"recall"``, ``"f1"``, ``"auc"``, ``"log_loss"``,
``"top_5_accuracy"`` (or another number); ``"mean_absolute_error"``, ``"mean_squared_error"``,
``"root_mean_squared_error"``, ``"r2"``, ``"explained_variance"``.

The outputs come first, in these functions and in those of your own.  A function whose first
parameter is called ``y_true`` (or ``targets``, ``target``, ``labels``) gets the targets first, and
one with a parameter ``sample_weight`` gets the weights, or None.
Those of scikit-learn's `metrics` get what they are made for, ``(y_true, y_pred)``: of classes the
answers or probabilities, of counts their means.  ``functools.partial(f1_score, average="macro")``
states their options; its attribute ``__name__`` may be set, to tell several apart.

Outputs are what a model predicts, (n, columns) or (n,) for one column.  A classifier's are logits
or scores: one column answers yes above 0, and of several columns the largest is the answer.  With
``multilabel=True`` each of several columns answers yes or no; a metric by name does that where the
loss is `SigmoidCrossEntropy`.  Targets are as the losses take them.  At every position, outputs
(batch, length, columns) or (batch, height, width, columns), each position counts as a row; so it
does for functions of scikit-learn's.  Those of your own get the shapes that there are.

Rows count by `sample_weight`, (n,) or with a number for each position, finite and not negative; a
row of weight 0 takes no part, and may have any target.  In `fit` and `evaluate` that is their
`sample_weight`, 0 where the loss ignores the target, and never `class_weight`.

The numbers are those of the functions in scikit-learn's `metrics`.  NaN in the outputs makes them
NaN.  All raise ValueError for shapes that do not fit, for no rows, for weights that are all 0, and
for targets that are neither labels of the columns nor numbers from 0 to 1.

>>> from fastnn import Dense, Sequential, SigmoidCrossEntropy
>>> model = Sequential(Dense(1, 1, weight_init="zeros"))
>>> X, y = [[1.0], [2.0], [3.0]], [0, 0, 1]
>>> model.evaluate(X, y, loss=SigmoidCrossEntropy(), metrics=["accuracy", "auc", f1])["auc"]
0.5
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

__all__ = [
    "accuracy",
    "auc",
    "balanced_accuracy",
    "confusion_matrix",
    "explained_variance",
    "f1",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "root_mean_squared_error",
    "top_k_accuracy",
]

# ---- classification ----------------------------------------------------------------------------


def accuracy(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The fraction of right answers, one a row, or with `multilabel` one for each row and column.

    Shapes: one column with targets (n,) or (n, 1), yes above 0.5; or (n, classes) with labels (n,)
    or probabilities (n, classes), of which the largest counts.  Among equal outputs the first
    column is the answer.  With `multilabel`, the targets have the outputs' shape.

    >>> accuracy([[0.1, 2.0], [0.3, 0.1]], [1, 1]), accuracy([-1.0, 2.0, 0.5], [0, 1, 1])
    (0.5, 1.0)
    >>> accuracy([[0.1, 2.0], [0.3, 0.1]], [1, 1], sample_weight=[3.0, 1.0])
    0.75
    """
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    if multilabel or outputs.shape[1] == 1:
        right = (outputs > 0) == _yes(outputs, targets)
    else:
        right = outputs.argmax(axis=1) == _labels(outputs, targets)
    return math.nan if np.isnan(outputs).any() else _mean(right, weight)


def balanced_accuracy(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The mean of the recalls of all classes that the targets have.

    One column has two classes, no and yes; with `multilabel` it is the mean over the columns.
    Shapes are as in `accuracy`.

    >>> balanced_accuracy([1.0, 2.0, -1.0, 3.0], [1, 0, 1, 1])
    0.3333333333333333
    """
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    parts = [
        hits[wanted > 0] / wanted[wanted > 0]
        for hits, _, wanted in _counts(outputs, targets, multilabel, weight)
    ]
    mean = math.fsum(float(part.mean()) for part in parts) / len(parts)
    return math.nan if np.isnan(outputs).any() else mean


def top_k_accuracy(
    outputs: ArrayLike, targets: ArrayLike, k: int = 5, *, sample_weight: ArrayLike | None = None
) -> float:
    """The fraction of rows whose class is among the k largest outputs.

    Shapes: outputs (n, classes), targets as in `accuracy`.  Among equal outputs the first column
    counts as larger, so that k = 1 is the accuracy.  Raises TypeError or ValueError unless k >= 1.

    >>> top_k_accuracy([[0.1, 2.0, 1.0], [0.3, 0.1, 0.2]], [2, 1], k=2)
    0.5
    """
    k = checks.positive_int(k, "k")
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    if outputs.shape[1] == 1:
        raise ValueError(f"outputs: expected at least 2 classes, got shape {outputs.shape}")
    label = _labels(outputs, targets)[:, None]
    score = np.take_along_axis(outputs, label, axis=1)  # that of the right class
    before = (outputs == score) & (np.arange(outputs.shape[1]) < label)
    rank = ((outputs > score) | before).sum(axis=1)
    return math.nan if np.isnan(outputs).any() else _mean(rank < k, weight)


def precision(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """TP / (TP + FP), how many of the answers are right; 0 where there is none.

    Of which classes, and the shapes, are as in `f1`.

    >>> precision([1.0, 2.0, -1.0, 3.0], [1, 0, 1, 1])
    0.6666666666666666
    """
    return _of_counts(
        lambda hits, answered, wanted: (hits, answered), outputs, targets, multilabel, sample_weight
    )


def recall(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """TP / (TP + FN), how many of the targets are found; 0 where there is none.

    Of which classes, and the shapes, are as in `f1`.

    >>> recall([1.0, 2.0, -1.0, -3.0], [1, 0, 1, 1])
    0.3333333333333333
    """
    return _of_counts(
        lambda hits, answered, wanted: (hits, wanted), outputs, targets, multilabel, sample_weight
    )


def f1(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    For one column it is that of yes, for two classes that of the second; 0 if this occurs neither
    in the answers nor in the targets.  For more classes it is the mean over those that occur
    ("macro"), with `multilabel` the mean over all columns.  Shapes are as in `accuracy`.

    >>> f1([1.0, 2.0, -1.0, 3.0], [1, 0, 1, 1])
    0.6666666666666666
    """
    return _of_counts(
        lambda hits, answered, wanted: (2 * hits, answered + wanted),
        *(outputs, targets, multilabel, sample_weight),
    )


def _of_counts(
    parts: Callable[[Array, Array, Array], tuple[Array, Array]],
    outputs: ArrayLike,
    targets: ArrayLike,
    multilabel: bool,
    sample_weight: ArrayLike | None,
) -> float:
    """The mean over classes, or columns, of the ratio of two parts of their hits, answers and
    targets."""
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    counts = _counts(outputs, targets, multilabel, weight)
    if multilabel or outputs.shape[1] <= 2:
        counts = counts[:, :, 1].T
    else:
        counts = counts[0][:, counts[0, 1:].any(axis=0)]
    hits, answered, wanted = counts
    part, whole = parts(hits, answered, wanted)
    ratio = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return math.nan if np.isnan(outputs).any() else float(ratio.mean())


def _counts(outputs: Array, targets: Array, multilabel: bool, weight: Array | None) -> Array:
    """The rows, or their weight, that are right answers, answers, and targets, for each class,
    (1, 3, classes); with `multilabel` for no and yes in each column, (columns, 3, 2)."""
    answers, classes = _answers(outputs, targets, multilabel)
    counts = []
    for answer, label in answers:
        hit = answer == label
        hits = _sums(label[hit], classes, None if weight is None else weight[hit])
        counts.append((hits, _sums(answer, classes, weight), _sums(label, classes, weight)))
    return np.array(counts)


def _answers(
    outputs: Array, targets: Array, multilabel: bool
) -> tuple[list[tuple[Array, Array]], int]:
    """The answer and the label of each row, and how many classes they are among; with `multilabel`
    those of each column, where 0 is no and 1 is yes, as they are of a single column."""
    if multilabel or outputs.shape[1] == 1:
        yes = _yes(outputs, targets)
        pairs = zip((outputs > 0).T.astype(np.int64), yes.T.astype(np.int64), strict=True)
        return list(pairs), 2
    return [(outputs.argmax(axis=1), _labels(outputs, targets))], outputs.shape[1]


def confusion_matrix(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Array:
    """How many rows of each class, from top to bottom, got each answer, from left to right.

    Shapes: as in `accuracy`; the result is (classes, classes), where one column has two, no and
    yes.  It holds integers, or with `sample_weight` the sums of the rows' weights in float64; with
    NaN in the outputs all is NaN.

    >>> confusion_matrix([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, 1])
    array([[1, 0],
           [1, 1]])
    """
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    ((answer, label),), classes = _answers(outputs, targets, multilabel=False)
    if np.isnan(outputs).any():
        return np.full((classes, classes), math.nan)
    matrix = _sums(label * classes + answer, classes**2, weight).reshape(classes, classes)
    return matrix if sample_weight is None else matrix.astype(np.float64, copy=False)


def auc(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The area under the ROC curve: the probability that a yes has a larger output than a no.

    It is Σ over all yes rows of (no rows with a smaller output + half of those with the same) /
    (yes rows · no rows), J. A. Hanley, B. J. McNeil, 1982, each row counted by its weight.  For
    several classes it is the mean over each against the rest, by p = softmax(outputs), computed in
    float64; with `multilabel` the mean over the columns.  Shapes are as in `accuracy`.  A class
    that all rows belong to, or none, is left out; if none remains, the result is NaN, without an
    error.

    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    >>> auc([0.1, 0.4], [1, 1])
    nan
    """
    scores, targets, weight = _rows(outputs, targets, sample_weight)
    if multilabel or scores.shape[1] == 1:
        yes = _yes(scores, targets)
    else:
        yes = _labels(scores, targets)[:, None] == np.arange(scores.shape[1])
        scores = _softmax(scores)
    if np.isnan(scores).any():
        return math.nan
    mixed = yes.any(axis=0) & ~yes.all(axis=0)
    areas = [_area(scores[:, j], yes[:, j], weight) for j in np.flatnonzero(mixed)]
    return math.fsum(areas) / len(areas) if areas else math.nan


def _area(scores: Array, yes: NDArray[np.bool_], weight: Array | None) -> float:
    """The area, counted exactly: equal scores are one step, and half of its no's count as below."""
    values, step = np.unique(scores, return_inverse=True)
    ups, downs = (
        _sums(step[which], len(values), None if weight is None else weight[which])
        for which in (yes, ~yes)
    )
    below = downs.cumsum(dtype=np.longdouble).astype(np.float64) - downs / 2
    return float((ups * below).sum() / (float(ups.sum()) * float(downs.sum())))


def log_loss(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    multilabel: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The mean of -log p, p the probability of a row's class by softmax, or by sigmoid, of logits.

    It is the cross-entropy without label smoothing or weights of classes, computed in float64, and
    unlike scikit-learn's has no largest value; with `multilabel` the mean over the columns too.
    Shapes are as in `accuracy`; of targets that are probabilities t it is that of -Σ t log p.

    >>> round(log_loss([[0.0, 0.0], [0.0, 1.0]], [0, 1]), 4)
    0.5032
    """
    o, targets, weight = _rows(outputs, targets, sample_weight)
    o = o.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity - infinity, 0 times infinity
        if multilabel or o.shape[1] == 1:
            slope: Array = (o >= 0) - _in_unit_range(o, targets).astype(np.float64)
            terms = np.log1p(np.exp(-np.abs(o))) + np.where(slope == 0, 0, slope * o)
            terms = np.where(np.isnan(o), o, terms)
        else:
            o = o - o.max(axis=1, keepdims=True)
            o = o - np.log(np.exp(o).sum(axis=1, keepdims=True))
            if targets.shape == o.shape:
                t = _in_unit_range(o, targets)
                terms = -np.where((t == 0) & ~np.isnan(o), 0, t * o).sum(axis=1)
            else:
                terms = -np.take_along_axis(o, _labels(o, targets)[:, None], axis=1)[:, 0]
    return _mean(terms, weight)


def _softmax(outputs: Array) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity - infinity
        e = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return probabilities


# ---- regression --------------------------------------------------------------------------------


def mean_absolute_error(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """mean |o - t| over all rows and columns, in float64.

    Shapes: targets like the outputs, or (n,) for one column.

    >>> mean_absolute_error([[1.0], [4.0]], [0.0, 2.0])
    1.5
    """
    outputs, targets, weight = _numbers(outputs, targets, sample_weight)
    return _mean(np.abs(outputs - targets), weight)


def mean_squared_error(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """mean (o - t)² over all rows and columns, in float64.

    Shapes are as in `mean_absolute_error`.

    >>> mean_squared_error([[1.0], [4.0]], [0.0, 2.0])
    2.5
    """
    outputs, targets, weight = _numbers(outputs, targets, sample_weight)
    return _mean((outputs - targets) ** 2, weight)


def root_mean_squared_error(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """√ mean (o - t)², the root of each column, and then the mean over the columns, in float64.

    Shapes are as in `mean_absolute_error`.

    >>> root_mean_squared_error([[1.0], [9.0]], [0.0, 2.0])
    5.0
    """
    outputs, targets, weight = _numbers(outputs, targets, sample_weight)
    squares = np.asfortranarray((outputs - targets) ** 2)
    return float(np.sqrt(_column_means(squares, weight)).mean())


def r2(outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """R² = 1 - Σ (t - o)² / Σ (t - mean t)², the mean over the columns, in float64.

    1 is perfect, 0 as good as the targets' mean.  For a column of targets that are equal, but for
    rounding, it is 1 if all are met as nearly, else 0; for a single row it is NaN.  Shapes are as
    in `mean_absolute_error`.

    >>> r2([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    0.5
    """
    dtype = arrays.numeric_array(targets, "targets").dtype
    outputs, targets, weight = _numbers(outputs, targets, sample_weight)
    if len(outputs) < 2:
        return math.nan
    return _explained(targets - outputs, targets, weight, dtype)


def explained_variance(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """1 - Var(t - o) / Var(t), the mean over the columns, in float64: R² but for a constant error.

    For a column of targets that are equal it is 1 if the errors are, else 0.  Shapes are as in
    `mean_absolute_error`.

    >>> explained_variance([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    1.0
    """
    dtype = arrays.numeric_array(targets, "targets").dtype
    outputs, targets, weight = _numbers(outputs, targets, sample_weight)
    error = np.asfortranarray(targets - outputs)
    return _explained(error - _column_means(error, weight), targets, weight, dtype)


def _explained(error: Array, targets: Array, weight: Array | None, dtype: np.dtype[Any]) -> float:
    """1 - mean error² / Var(t), the mean over the columns."""
    if np.isnan(error).any():
        return math.nan
    # column by column NumPy adds pairwise, row by row in one chain (1e7 equal terms: 3e-11 off)
    error, targets = np.asfortranarray(error), np.asfortranarray(targets)
    mean = _column_means(targets, weight)
    left = _column_means(error**2, weight)
    there = _column_means((targets - mean) ** 2, weight)
    n = len(targets)
    constant = (targets == targets[0]).all(axis=0) | arrays.is_constant(there, mean, n, dtype)
    met = (left == 0) | (constant & arrays.is_constant(left, mean, n, dtype))
    unexplained = np.where(met, 0.0, 1.0)
    np.divide(left, there, out=unexplained, where=~constant)
    return float(1 - unexplained.mean())


# ---- sums --------------------------------------------------------------------------------------

_CHUNK = 4096  # terms that are added in one chain


def _mean(values: Array, weight: Array | None) -> float:
    """The mean over all rows, by their weights, and over the columns if there are some."""
    if weight is None:
        return float(values.mean())
    if values.ndim > 1:
        values = values.mean(axis=1)
    return float((weight * values).sum() / weight.sum())


def _column_means(x: Array, weight: Array | None) -> Array:
    """The mean of each column of an x that lies column by column."""
    if weight is None:
        return x.mean(axis=0)  # type: ignore[no-any-return]
    return (x * weight[:, None]).sum(axis=0) / weight.sum()  # type: ignore[no-any-return]


def _sums(group: Array, groups: int, weight: Array | None) -> Array:
    """How many rows each group has, or the sum of their weights."""
    if weight is None:
        return np.bincount(group, minlength=groups)
    chunk = np.arange(len(group)) // max(_CHUNK, groups)
    chunks = len(group) // max(_CHUNK, groups) + 1
    sums = np.bincount(chunk * groups + group, weight, chunks * groups).reshape(chunks, groups)
    return np.asfortranarray(sums).sum(axis=0)  # type: ignore[no-any-return]


# ---- what comes in -----------------------------------------------------------------------------


def _rows(
    outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[Array, Array, NDArray[np.float64] | None]:
    """Outputs as (rows, columns), where each position is a row, targets as (rows, 1) if there is
    one column, and weights (rows,), or None where all are 1; without rows of weight 0."""
    o = arrays.numeric_array(outputs, "outputs")
    t = arrays.numeric_array(targets, "targets")
    arrays.same_length(outputs=o, targets=t)
    if o.ndim == 1:
        o = o[:, None]
    if o.size == 0:
        raise ValueError(f"outputs: expected shape (n,) or (n, columns), got {o.shape}")
    positions = o.shape[:-1]
    if t.shape[: len(positions)] != positions:
        raise ValueError(
            f"targets: expected labels of shape {positions} or numbers of shape {o.shape}, got "
            f"{t.shape}"
        )
    o, t = o.reshape(-1, o.shape[-1]), t.reshape(-1, *t.shape[len(positions) :])
    t = t[:, None] if t.ndim == 1 and o.shape[1] == 1 else t
    if sample_weight is None:
        return o, t, None
    weight = arrays.numeric_array(sample_weight, "sample_weight")
    weight = arrays.at_positions(weight, "sample_weight", positions).reshape(-1).astype(np.float64)
    used = weight > 0
    if not (np.isfinite(weight) & (weight >= 0)).all() or not used.any():
        wrong = weight[~(np.isfinite(weight) & (weight >= 0))]
        got = wrong[0] if wrong.size else "only zeros"
        raise ValueError(f"sample_weight: expected finite numbers >= 0, not all 0, got {got}")
    if not used.all():
        o, t, weight = o[used], t[used], weight[used]
    return o, t, None if (weight == 1).all() else weight


def _like(outputs: Array, targets: Array) -> Array:
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets: expected the outputs' shape {outputs.shape}, got {targets.shape}"
        )
    return targets


def _numbers(
    outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, NDArray[np.float64] | None]:
    outputs, targets, weight = _rows(outputs, targets, sample_weight)
    return outputs.astype(np.float64), _like(outputs, targets).astype(np.float64), weight


def _in_unit_range(outputs: Array, targets: Array) -> Array:
    wrong = ~((_like(outputs, targets) >= 0) & (targets <= 1))
    if wrong.any():
        raise ValueError(f"targets: expected numbers from 0 to 1, got {targets[wrong][0]}")
    return targets


def _yes(outputs: Array, targets: Array) -> NDArray[np.bool_]:
    """For each output, whether it should be above 0."""
    yes: NDArray[np.bool_] = _in_unit_range(outputs, targets) > 0.5
    return yes


def _labels(outputs: Array, targets: Array) -> NDArray[np.int64]:
    """The class of each row."""
    n, classes = outputs.shape
    if targets.shape == outputs.shape:
        labels: NDArray[np.int64] = _in_unit_range(outputs, targets).argmax(axis=1)
        return labels
    if targets.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"targets: expected labels of shape ({n},) or numbers of shape {outputs.shape}, "
            f"got {targets.shape}"
        )
    label = targets.ravel()
    wrong = ~((label >= 0) & (label < classes) & (label == np.floor(label)))
    if wrong.any():
        raise ValueError(f"targets: expected labels 0 to {classes - 1}, got {label[wrong][0]}")
    return label.astype(np.int64, copy=False)
