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
from fastnn.support.settings import is_plain

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

    def rows(self, index: Array) -> Samples:
        """The samples of these row numbers, or where a mask is true."""
        y, weight = self.y[index], self.weight
        targets = y if self.targets is self.y else self.targets[index]
        return Samples(self.X[index], y, None if weight is None else weight[index], targets)


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
    data = data._replace(targets=_check_targets(model, loss, data.X, data.y, f"{where}y"))
    if data.weight is None or data.weight.all():
        return data
    used = data.weight > 0
    if not used.any():
        name = "sample_weight" if class_weight is None else "class_weight"
        raise ValueError(f"{where}{name}: all weights are 0")
    return data.rows(used)


def check_part(
    model: Network,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
    where: str,
) -> Samples:
    """Rows of finite numbers in the model's dtype with targets and weights; the loss has not yet
    judged the targets."""
    table, X = X, arrays.numeric_array(X, f"{where}X")
    y_table, y = y, arrays.numeric_array(y, f"{where}y")
    model._chain.check_input(X.shape, f"{where}X")
    arrays.same_length(X=X, y=y)
    X = arrays.cast(X, model.dtype, f"{where}X", table)
    if model._chain.embedding is not None:
        model._chain.embedding.check_codes(X, f"{where}X")
    y = _targets_in_dtype(y, loss, model.dtype, f"{where}y", y_table)
    weight = None
    if sample_weight is not None:
        weight = _check_weight(sample_weight, X, f"{where}sample_weight")
    if class_weight is not None:
        classes = (model._chain.output_row(X.shape[1:]) or (None,))[-1]
        by_row = _weight_of_classes(class_weight, y, loss, classes)
        with np.errstate(over="ignore"):
            by_row = by_row if weight is None else weight * by_row
        weight = arrays.cast(by_row, X.dtype, f"{where}class_weight")
    return Samples(X, y, weight, y)


def check_batch(
    model: Network, loss: Loss, x: Array, y: ArrayLike, sample_weight: ArrayLike | None
) -> Samples:
    """One batch for a recorded step: x is checked, targets and weights are brought into form."""
    targets, weight = loss._in_form(_outputs_like(model, x), y, sample_weight)
    return Samples(x, y, weight, targets)


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
    # what a user's layer states is not believed: one row shows it, and whether the layer runs
    row = model._chain.output_row(x.shape[1:]) if model._chain.native else None
    if row is None:  # a layer does not say
        row = model.predict(x[:1]).shape[1:]
    return np.empty((len(x), *row), model.dtype)


def _targets_in_dtype(y: Array, loss: Loss, dtype: Any, name: str, table: object) -> Array:
    labels = isinstance(loss, Hinge) or (isinstance(loss, SoftmaxCrossEntropy) and y.ndim == 1)
    if y.dtype.kind == "f":  # labels stay what they are, for the loss to refuse them by their type
        return arrays.finite(y, name, table) if labels else arrays.cast(y, dtype, name, table)
    if labels:
        return y.astype(np.int64, copy=False)
    return y.astype(dtype) if isinstance(loss, Loss) else y


def _check_targets(model: Network, loss: Loss, X: Array, y: Array, name: str) -> Array:
    """Let the loss judge all targets before anything is trained; returns its form of them.

    A loss of the user's own is shown outputs of zeros, some rows at a time."""
    outputs = _outputs_like(model, X)
    try:
        if is_plain(loss):
            return loss._in_form(outputs, y, None)[0]
        for start in range(0, len(y), _JUDGED_ROWS):
            part = y[start : start + _JUDGED_ROWS].copy()
            loss(np.zeros((len(part), *outputs.shape[1:]), model.dtype), part, None)
        return y
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# ---- weights -----------------------------------------------------------------------------------


def _check_weight(sample_weight: ArrayLike, X: Array, name: str) -> Array:
    weight = arrays.numeric_array(sample_weight, name)
    if weight.shape != (len(X),):
        raise ValueError(f"{name}: expected shape ({len(X)},), got {weight.shape}")
    weight = arrays.cast(weight, X.dtype, name)
    if weight.min() < 0:
        raise ValueError(f"{name}: expected no negative weight, got {weight.min()}")
    with np.errstate(over="ignore"):
        if np.isinf(weight.sum(dtype=np.float64)):
            raise ValueError(f"{name}: expected a finite sum, got one beyond float64")
    return weight


def _weight_of_classes(
    class_weight: ClassWeight, y: Array, loss: Loss, classes: int | None
) -> NDArray[np.float64]:
    """The weight of each row's class, of so many classes, if that is known."""
    labels = labels_of(y, loss)
    if isinstance(loss, SigmoidCrossEntropy):
        classes = 2
    if labels is None:
        got = f"{y.dtype} of shape {y.shape}"
        raise ValueError(f"class_weight: needs one integer label a row, got y {got} for {loss!r}")
    present, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if class_weight == "balanced":
        return (len(labels) / (len(present) * counts))[number]
    if not isinstance(class_weight, Mapping):
        wanted = "a dict of weights by class, or 'balanced'"
        raise TypeError(f"class_weight: expected {wanted}, got {class_weight!r}")
    by_class = {
        _class_number(label, classes): checks.not_negative(weight, "class_weight")
        for label, weight in class_weight.items()
    }
    return np.array([by_class.get(label, 1.0) for label in present.tolist()])[number]


def labels_of(y: Array, loss: Loss) -> NDArray[np.int64] | None:
    """The class of each row, where the targets are classes for that loss."""
    if isinstance(loss, SigmoidCrossEntropy) and y.size == len(y):
        return (y.reshape(-1) > 0.5).astype(np.int64)
    if isinstance(loss, SoftmaxCrossEntropy | Hinge) and y.ndim == 1 and y.dtype == np.int64:
        return y
    return None


def _class_number(label: Any, classes: int | None) -> int:
    """The number of a class in `class_weight`; of two, True is 1."""
    if classes == 2 and isinstance(label, bool | np.bool_):
        return int(label)
    return checks.whole(label, "class_weight: class", 0, None if classes is None else classes - 1)
