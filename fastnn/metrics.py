"""Metrics: `metric(outputs, targets)` is a float that tells how good predictions are.

`fit` and `evaluate` take them in `metrics`, as functions or by name: ``"accuracy"``, ``"f1"``,
``"auc"``, ``"top_5_accuracy"`` (or another number), ``"mean_absolute_error"``, ``"r2"``.

The outputs come first, in these functions and in those of your own.  A function whose first
parameter is called ``y_true`` (or ``targets``, ``target``, ``labels``) gets the targets first.
Those of scikit-learn's `metrics` get what they are made for, ``(y_true, y_pred)``: of classes the
answers or probabilities, of counts their means.  ``functools.partial(f1_score, average="macro")``
states their options; its attribute ``__name__`` may be set, to tell several apart.

Outputs are what a model predicts, (n, columns) or (n,) for one column.  A classifier's are logits
or scores: one column answers yes above 0, and of several columns the largest is the answer.  With
``multilabel=True`` each of several columns answers yes or no; a metric by name does that where the
loss is `SigmoidCrossEntropy`.  Targets are as the losses take them.

The numbers are those of the functions in scikit-learn's `metrics`.  NaN in the outputs makes them
NaN.  All raise ValueError for shapes that do not fit, for no rows, and for targets that are neither
labels of the columns nor numbers from 0 to 1.

>>> from fastnn import Dense, Sequential, SigmoidCrossEntropy
>>> model = Sequential(Dense(1, 1, weight_init="zeros"))
>>> X, y = [[1.0], [2.0], [3.0]], [0, 0, 1]
>>> model.evaluate(X, y, loss=SigmoidCrossEntropy(), metrics=["accuracy", "auc", f1])["auc"]
0.5
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

# ---- classification ----------------------------------------------------------------------------


def accuracy(outputs: ArrayLike, targets: ArrayLike, *, multilabel: bool = False) -> float:
    """The fraction of right answers, one a row, or with `multilabel` one for each row and column.

    Shapes: one column with targets (n,) or (n, 1), yes above 0.5; or (n, classes) with labels (n,)
    or probabilities (n, classes), of which the largest counts.  Among equal outputs the first
    column is the answer.  With `multilabel`, the targets have the outputs' shape.

    >>> accuracy([[0.1, 2.0], [0.3, 0.1]], [1, 1]), accuracy([-1.0, 2.0, 0.5], [0, 1, 1])
    (0.5, 1.0)
    """
    outputs, targets = _pair(outputs, targets)
    if multilabel or outputs.shape[1] == 1:
        right = (outputs > 0) == _yes(outputs, targets)
    else:
        right = outputs.argmax(axis=1) == _labels(outputs, targets)
    return math.nan if np.isnan(outputs).any() else float(right.mean())


def top_k_accuracy(outputs: ArrayLike, targets: ArrayLike, k: int = 5) -> float:
    """The fraction of rows whose class is among the k largest outputs.

    Shapes: outputs (n, classes), targets as in `accuracy`.  Among equal outputs the first column
    counts as larger, so that k = 1 is the accuracy.  Raises TypeError or ValueError unless k >= 1.

    >>> top_k_accuracy([[0.1, 2.0, 1.0], [0.3, 0.1, 0.2]], [2, 1], k=2)
    0.5
    """
    k = checks.positive_int(k, "k")
    outputs, targets = _pair(outputs, targets)
    if outputs.shape[1] == 1:
        raise ValueError(f"outputs: expected at least 2 classes, got shape {outputs.shape}")
    label = _labels(outputs, targets)[:, None]
    score = np.take_along_axis(outputs, label, axis=1)  # that of the right class
    before = (outputs == score) & (np.arange(outputs.shape[1]) < label)
    rank = ((outputs > score) | before).sum(axis=1)
    return math.nan if np.isnan(outputs).any() else float((rank < k).mean())


def f1(outputs: ArrayLike, targets: ArrayLike, *, multilabel: bool = False) -> float:
    """F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    For one column it is that of yes, for two classes that of the second; 0 if this occurs neither
    in the answers nor in the targets.  For more classes it is the mean over those that occur
    ("macro"), with `multilabel` the mean over all columns.  Shapes are as in `accuracy`.

    >>> f1([1.0, 2.0, -1.0, 3.0], [1, 0, 1, 1])
    0.6666666666666666
    """
    outputs, targets = _pair(outputs, targets)
    classes = outputs.shape[1]
    if multilabel or classes == 1:
        answer, yes = outputs > 0, _yes(outputs, targets)
        hits, marked = (answer & yes).sum(axis=0), answer.sum(axis=0) + yes.sum(axis=0)
    else:
        answer, label = outputs.argmax(axis=1), _labels(outputs, targets)
        hits = np.bincount(label[answer == label], minlength=classes)
        marked = np.bincount(label, minlength=classes) + np.bincount(answer, minlength=classes)
        counted = marked > 0 if classes > 2 else np.array([False, True])
        hits, marked = hits[counted], marked[counted]
    return math.nan if np.isnan(outputs).any() else float((2 * hits / np.maximum(marked, 1)).mean())


def auc(outputs: ArrayLike, targets: ArrayLike, *, multilabel: bool = False) -> float:
    """The area under the ROC curve: the probability that a yes has a larger output than a no.

    It is Σ over all yes rows of (no rows with a smaller output + half of those with the same) /
    (yes rows · no rows), J. A. Hanley, B. J. McNeil, 1982.  For several classes it is the mean over
    each against the rest, by p = softmax(outputs), computed in float64; with `multilabel` the mean
    over the columns.  Shapes are as in `accuracy`.  A class that all rows belong to, or none, is
    left out; if none remains, the result is NaN, without an error.

    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    >>> auc([0.1, 0.4], [1, 1])
    nan
    """
    scores, targets = _pair(outputs, targets)
    if multilabel or scores.shape[1] == 1:
        yes = _yes(scores, targets)
    else:
        yes = _labels(scores, targets)[:, None] == np.arange(scores.shape[1])
        scores = _softmax(scores)
    if np.isnan(scores).any():
        return math.nan
    mixed = yes.any(axis=0) & ~yes.all(axis=0)
    areas = [_area(scores[:, j], yes[:, j]) for j in np.flatnonzero(mixed)]
    return sum(areas) / len(areas) if areas else math.nan


def _area(scores: Array, yes: NDArray[np.bool_]) -> float:
    """The area, counted exactly: equal scores are one step, and half of its no's count as below."""
    _, step = np.unique(scores, return_inverse=True)
    of_step, ups = np.bincount(step), np.bincount(step, weights=yes)
    downs = of_step - ups
    below = downs.cumsum() - downs / 2
    return float((ups * below).sum() / (ups.sum() * downs.sum()))


def _softmax(outputs: Array) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity - infinity
        e = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return probabilities


# ---- regression --------------------------------------------------------------------------------


def mean_absolute_error(outputs: ArrayLike, targets: ArrayLike) -> float:
    """mean |o - t| over all rows and columns, in float64.

    Shapes: targets like the outputs, or (n,) for one column.

    >>> mean_absolute_error([[1.0], [4.0]], [0.0, 2.0])
    1.5
    """
    outputs, targets = _numbers(outputs, targets)
    return float(np.abs(outputs - targets).mean())


def r2(outputs: ArrayLike, targets: ArrayLike) -> float:
    """R² = 1 - Σ (t - o)² / Σ (t - mean t)², the mean over the columns, in float64.

    1 is perfect, 0 as good as the targets' mean.  For a column of targets that are equal, but for
    rounding, it is 1 if all are met as nearly, else 0; for a single row it is NaN.  Shapes are as
    in `mean_absolute_error`.

    >>> r2([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    0.5
    """
    dtype = arrays.numeric_array(targets, "targets").dtype
    outputs, targets = _numbers(outputs, targets)
    n = len(outputs)
    if n < 2 or np.isnan(outputs).any():
        return math.nan
    # column by column NumPy adds pairwise, row by row in one chain (1e7 equal terms: 3e-11 off)
    outputs, targets = np.asfortranarray(outputs), np.asfortranarray(targets)
    mean = targets.mean(axis=0)
    left = ((targets - outputs) ** 2).mean(axis=0)
    there = ((targets - mean) ** 2).mean(axis=0)
    constant = (targets == targets[0]).all(axis=0) | arrays.is_constant(there, mean, n, dtype)
    met = (left == 0) | (constant & arrays.is_constant(left, mean, n, dtype))
    unexplained = np.where(met, 0.0, 1.0)
    np.divide(left, there, out=unexplained, where=~constant)
    return float(1 - unexplained.mean())


# ---- what comes in -----------------------------------------------------------------------------


def _pair(outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    """Outputs as (n, columns), and targets as (n, 1) if there is one column."""
    o = arrays.numeric_array(outputs, "outputs")
    t = arrays.numeric_array(targets, "targets")
    arrays.same_length(outputs=o, targets=t)
    if o.ndim == 1:
        o = o[:, None]
    if o.ndim != 2 or o.size == 0:
        raise ValueError(f"outputs: expected shape (n,) or (n, columns), got {o.shape}")
    return o, t[:, None] if t.ndim == 1 and o.shape[1] == 1 else t


def _like(outputs: Array, targets: Array) -> Array:
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets: expected the outputs' shape {outputs.shape}, got {targets.shape}"
        )
    return targets


def _numbers(outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    outputs, targets = _pair(outputs, targets)
    return outputs.astype(np.float64), _like(outputs, targets).astype(np.float64)


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
