"""What rows, targets and weights must be: all that `fit`, `evaluate` and the steps are given is
checked here, once, and brought into the form that steps take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.layers import BatchNorm
from fastnn.losses import Hinge, Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy
from fastnn.support import arrays, checks
from fastnn.support.arrays import describe
from fastnn.support.settings import is_plain, label

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network

    Array = NDArray[Any]
    ClassWeight = Mapping[int, float] | str

_JUDGED_ROWS = 4096  # targets that are shown to a loss of the user's at a time


class Samples(NamedTuple):
    """Rows with their targets and weights, checked."""

    X: Array
    y: Any  # the targets as metrics, and losses of the user's own, take them
    weight: Any
    targets: Any  # the targets as the loss's kernel takes them; y for losses of the user's own
    metric_weight: Any = None  # the user's alone, 0 where the loss ignores the target

    def rows(self, index: Array) -> Samples:
        """The samples of these row numbers, or where a mask is true."""
        y = self.y[index]
        targets = y if self.targets is self.y else self.targets[index]
        weight, metric_weight = (
            None if w is None else w[index] for w in (self.weight, self.metric_weight)
        )
        return Samples(self.X[index], y, weight, targets, metric_weight)


def check_samples(
    model: Network,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    where: str = "",
) -> Samples:
    """A whole data set, without rows of weight 0; `where` begins the names in messages."""
    data = check_part(model, loss, X, y, sample_weight, class_weight, where)
    targets, own = _check_targets(model, loss, data.X, data.y, f"{where}y")
    weight = arrays.product(data.weight, own)
    used = _rows_that_count(data._replace(targets=targets, weight=weight), weight)
    if not len(used.X):
        name = "sample_weight" if class_weight is None else "class_weight"
        raise ValueError(f"{where}{name}: all weights are 0")
    return used


def counting_rows(loss: Loss, data: Samples) -> Samples:
    """The samples of a batch of `check_part` without rows of weight 0, be it the loss's own."""
    return _rows_that_count(data, arrays.product(data.weight, _own_weight(loss, data.y)))


def _rows_that_count(data: Samples, weight: Array | None) -> Samples:
    """The samples without rows whose weights are 0 at all positions."""
    if weight is None or weight.all():
        return data
    return data.rows(np.any(weight.reshape(len(weight), -1), axis=1))


def check_part(
    model: Network,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
    where: str,
) -> Samples:
    """Rows of finite numbers in the model's dtype with targets and weights, but for those that the
    loss itself has; it has not yet judged the targets."""
    table, X = X, arrays.numeric_array(X, f"{where}X")
    y_table, y = y, arrays.numeric_array(y, f"{where}y")
    model._chain.check_input(X.shape, f"{where}X")
    arrays.same_length(X=X, y=y)
    codes, X = X, arrays.cast(X, model.dtype, f"{where}X", table)
    model._chain.check_codes(codes, f"{where}X")
    y = _targets_in_dtype(model, y, loss, X, f"{where}y", y_table)
    weight = None
    if sample_weight is not None:
        weight = _check_weight(model, sample_weight, loss, X, f"{where}sample_weight")
    metric_weight = weight
    own = _own_weight(loss, y)
    if own is not None and not own.all():
        metric_weight = _times(weight, (own > 0).astype(X.dtype))
    if class_weight is not None:
        classes = (model._chain.output_row(X.shape[1:]) or (None,))[-1]
        by_row = _weight_of_classes(class_weight, y, loss, classes)
        with np.errstate(over="ignore"):
            by_row = _times(weight, by_row)
        weight = arrays.cast(by_row, X.dtype, f"{where}class_weight")
    return Samples(X, y, weight, y, metric_weight)


def check_batch(
    model: Network, loss: Loss, x: Array, y: ArrayLike, sample_weight: ArrayLike | None
) -> Samples:
    """One batch for a recorded step: x is checked, targets and weights are brought into form."""
    targets, weight = loss._in_form(_outputs_like(model, x), y, sample_weight)
    return Samples(x, y, weight, targets)


def counted(loss: Loss, data: Samples, positions: int) -> float:
    """The sum of the weights in the loss's mean over a batch of `check_part` with so many rows, or
    positions."""
    weight = arrays.product(data.weight, _own_weight(loss, data.y))
    return positions if weight is None else float(weight.sum(dtype=np.float64))


def check_targets_alike(row: tuple[int, ...], before: tuple[int, ...], where: str) -> None:
    """Raise ValueError for targets of rows of another shape than those of batches before."""
    if row != before:
        raise ValueError(f"{where}y: expected rows of shape {before} as before, got {row}")


def least_rows(model: Network, row: tuple[int, ...]) -> int:
    """How many rows of that shape a batch must have: 2 where batch norm has one value of each."""
    for layer, its in model._chain.walk(row):
        # behind a layer that does not say what it gives, rows are taken for those that came in
        if isinstance(layer, BatchNorm) and math.prod((its or row)[:-1]) == 1:
            return 2
    return 1


def count_batches(
    model: Network, shape: tuple[int, ...], batch_size: int, drop_last: bool = False
) -> int:
    """How many batches an epoch on arrays of that shape has: all of `batch_size` rows but the last,
    which takes those that are left, and more where they are too few to be a batch.

    Raises ValueError where there is no such number."""
    n, least = shape[0], least_rows(model, shape[1:])
    if min(n, batch_size) < least:
        name, got = ("X", f"{n} row") if n < least else ("batch_size", str(batch_size))
        raise ValueError(f"{name}: batch norm trains on at least {least} rows at once, got {got}")
    whole, left = divmod(n, batch_size)
    if drop_last and not whole:
        raise ValueError(f"drop_last: leaves nothing of {n} rows in batches of {batch_size}")
    return whole if drop_last else whole + (left >= least)


# ---- targets -----------------------------------------------------------------------------------


def _outputs_like(model: Network, x: Array) -> Array:
    """An array of the outputs' shape and type, with any content."""
    return np.empty((len(x), *_output_row(model, x)), model.dtype)


def _output_row(model: Network, x: Array) -> tuple[int, ...]:
    """The shape of a row of the outputs."""
    # what a user's layer states is not believed: one row shows it, and whether the layer runs
    row = model._chain.output_row(x.shape[1:]) if model._chain.native else None
    if row is None:  # a layer does not say
        row = model.predict(x[:1]).shape[1:]
    return row


def _targets_in_dtype(
    model: Network, y: Array, loss: Loss, X: Array, name: str, table: object
) -> Array:
    labels = isinstance(loss, Hinge)
    if isinstance(loss, SoftmaxCrossEntropy):
        labels = y.ndim == 1 or y.ndim == len(_output_row(model, X))
    if y.dtype.kind == "f":  # labels stay what they are, for the loss to refuse them by their type
        return arrays.finite(y, name, table) if labels else arrays.cast(y, X.dtype, name, table)
    if labels:
        return arrays.int64(y, name)
    return y.astype(X.dtype) if isinstance(loss, Loss) else y


def _check_targets(
    model: Network, loss: Loss, X: Array, y: Array, name: str
) -> tuple[Array, Array | None]:
    """Let the loss judge all targets before anything is trained; returns its form of them, and how
    much it counts each itself.

    A loss of the user's own is shown outputs of zeros, some rows at a time."""
    outputs = _outputs_like(model, X)
    try:
        if is_plain(loss):
            return loss._in_form(outputs, y, None)
        for start in range(0, len(y), _JUDGED_ROWS):
            part = y[start : start + _JUDGED_ROWS].copy()
            call_own(loss, np.zeros((len(part), *outputs.shape[1:]), model.dtype), part, None)
        return y, None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def call_own(loss: Loss, outputs: Array, targets: Array, weight: Any) -> tuple[float, Array]:
    """Value and gradient of a loss of the user's own; TypeError if it returns something else."""
    result: Any = loss(outputs, targets, weight)
    if isinstance(result, tuple | list) and len(result) == 2:
        value, gradient = result[0], np.asarray(result[1])
        is_number = np.size(value) == 1 and np.asarray(value).dtype.kind in "biuf"
        if is_number and gradient.shape == outputs.shape and gradient.dtype.kind in "biuf":
            return float(np.reshape(value, ())), gradient
        got = f"{describe(value)} and {describe(result[1])}"
    else:
        got = describe(result)
    raise TypeError(
        f"loss: expected {label(loss)} to return (value, gradient), a number and an array of the "
        f"outputs' shape {outputs.shape}, got {got}"
    )


# ---- weights -----------------------------------------------------------------------------------


def _check_weight(
    model: Network, sample_weight: ArrayLike, loss: Loss, X: Array, name: str
) -> Array:
    """Weights of rows, or of positions: of these where the loss is fastnn's and there are some."""
    weight = arrays.numeric_array(sample_weight, name)
    weight_of = arrays.at_positions(weight, name, (len(X), *_output_row(model, X)[:-1]))
    weight = weight_of if isinstance(loss, Loss) else weight
    weight = arrays.cast(weight, X.dtype, name)
    if weight.min() < 0:
        raise ValueError(f"{name}: expected no negative weight, got {weight.min()}")
    with np.errstate(over="ignore"):
        if np.isinf(weight.sum(dtype=np.float64)):
            raise ValueError(f"{name}: expected a finite sum, got one beyond float64")
    return weight


def _own_weight(loss: Loss, y: Array) -> NDArray[np.float64] | None:
    """By how much the loss itself counts each target; None where it counts all alike."""
    if not isinstance(loss, Loss):
        return None
    is_labels = y.dtype == np.int64  # which lack the axis of the classes
    return loss._own_weight(y, y.ndim + is_labels)


def _times(weight: Array | None, factor: Array) -> Array:
    """Their product; the factor alone where there are no weights, or labels of a wrong shape, which
    the loss refuses."""
    return factor if weight is None or weight.shape != factor.shape else weight * factor


def _weight_of_classes(
    class_weight: ClassWeight, y: Array, loss: Loss, classes: int | None
) -> NDArray[np.float64]:
    """The weight of the class of each row, or position, of so many classes, if that is known."""
    labels = labels_of(y, loss, classes)
    if isinstance(loss, SigmoidCrossEntropy):
        classes = 2
    if labels is None:
        got = f"{y.dtype} of shape {y.shape}"
        raise ValueError(f"class_weight: needs one integer label a row, got y {got} for {loss!r}")
    own = loss._own_weight(labels, labels.ndim + 1)
    there = np.ones(labels.shape, bool) if own is None else own > 0
    present, number, counts = np.unique(labels[there], return_inverse=True, return_counts=True)
    weight = np.ones(labels.shape)
    if isinstance(class_weight, str) and class_weight == "balanced":
        weight[there] = (len(number) / (len(present) * counts))[number]
        return weight
    if not isinstance(class_weight, Mapping):
        wanted = "a dict of weights by class, or 'balanced'"
        hint = "; write dict(enumerate(...))" if np.ndim(class_weight) == 1 else ""
        raise TypeError(f"class_weight: expected {wanted}, got {class_weight!r}{hint}")
    by_class = {
        _class_number(label, classes): checks.not_negative(weight, "class_weight")
        for label, weight in class_weight.items()
    }
    weight[there] = np.array([by_class.get(label, 1.0) for label in present.tolist()])[number]
    return weight


def labels_of(y: Array, loss: Loss, classes: int | None = None) -> NDArray[np.int64] | None:
    """The class of each row, or position, where the targets are classes for a loss with so many
    outputs, if that is known."""
    if isinstance(loss, SigmoidCrossEntropy) and (classes == 1 or y.size == len(y)):
        labels = (y > 0.5).astype(np.int64)
        return labels[..., 0] if y.ndim > 1 and y.shape[-1] == 1 else labels
    if isinstance(loss, SoftmaxCrossEntropy | Hinge) and y.dtype == np.int64:
        return y
    return None


def _class_number(label: Any, classes: int | None) -> int:
    """The number of a class in `class_weight`; of two, True is 1."""
    if classes == 2 and isinstance(label, bool | np.bool_):
        return int(label)
    return checks.whole(label, "class_weight: class", 0, None if classes is None else classes - 1)
