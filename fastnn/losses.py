"""Losses: `loss(outputs, targets, sample_weight=None)` returns the value and its gradient.

The value is the mean Σ w l / Σ w over the batch, as a float; the gradient is that of the value by
the outputs.  Outputs have the shape (batch, n), or they are at every position of a sequence,
(batch, length, n), or of an image, (batch, height, width, n): each position then counts as a row of
the mean, with a target of its own.

Here outputs and targets are brought into the form of the kernels, which compute value and gradient
in one pass, and check that the targets are in range."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.support import arrays, checks
from fastnn.support.settings import Guarded, Setting

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Weight = Array | None

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _several(value: Any, name: str, check: Callable[[Any, str], float]) -> Any:
    """A number that passes the check, or a tuple of such numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return check(value, name)
    if not value:
        raise ValueError(f"{name}: expected a number or several, got {value!r}")
    return tuple(check(number, name) for number in value)


def _quantiles(value: Any, name: str) -> float | Sequence[float]:
    quantiles: float | Sequence[float] = _several(value, name, checks.proportion)
    return quantiles


def _positive(value: Any, name: str) -> float | Sequence[float] | None:
    return None if value is None else _several(value, name, checks.positive)


def _weights_of_classes(value: Any, name: str) -> Sequence[float] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name}: expected a list with a number for each class, got {value!r}")
    weights: Sequence[float] = _several(value, name, checks.not_negative)
    if not any(weights):
        raise ValueError(f"{name}: expected a number > 0 among them, got {value!r}")
    return weights


def _label_or_none(value: Any, name: str) -> int | None:
    return None if value is None else checks.whole(value, name, -(2**63), 2**63 - 1)


class Loss(Guarded):
    """Base of the losses, to derive your own from; `fit`, `TrainStep` and `gradcheck` take any
    callable ``(outputs, targets, sample_weight) -> (value, gradient)`` as well.

    A derived class overrides ``evaluate(outputs, targets, weight)``, which returns the value, a
    float, and its gradient, an array like `outputs`.  It gets C-contiguous arrays of one real
    type: `outputs` (rows, n), `targets` alike and `weight` (rows,) or None, where each position of
    a sequence or an image is a row.  If its targets have another form, it overrides
    ``prepare_targets(outputs, targets)`` too, which gets both in their shapes and returns the
    targets with a row, or one at every position, for `evaluate`.  A callable without this base gets
    outputs, targets and weights in the shape and, but for floats, the type that the user passed:
    targets (batch,) broadcast with outputs (batch, 1) there.

    >>> class Cubed(Loss):
    ...     def evaluate(self, outputs, targets, weight):
    ...         weight = np.ones(len(outputs)) if weight is None else weight
    ...         weight = (weight / weight.sum() / outputs.shape[1])[:, None]
    ...         d = outputs - targets
    ...         return float((weight * abs(d) ** 3).sum()), 3 * weight * d * abs(d)
    >>> value, gradient = Cubed()([[1.0], [4.0]], [0.0, 2.0])
    >>> value, gradient.tolist()
    (4.5, [[1.5], [6.0]])
    """

    _kernel: Callable[..., tuple[Array, Array]] | None = None
    _constant: str | None = None  # the setting that the kernel takes, if it takes one
    _largest: float | None = None  # targets that are no labels lie in [0, this]; None: any
    _direct = True  # targets of the outputs' shape are the kernel's own

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Value and gradient.

        Shapes: `outputs` (batch, n), (batch, length, n) or (batch, height, width, n), float32 or
        float64 (anything else is converted to float64); `targets` as the class says for the rows
        of (batch, n), with the other dimensions before those of a row: labels (batch, length) and
        so on; `sample_weight` w (batch,), or with a weight for each position, not negative and not
        all 0.  Raises ValueError for shapes that do not fit, and for weights and targets out of
        range.
        """
        is_float32 = getattr(outputs, "dtype", None) == _FLOAT32
        outputs = arrays.real_array(outputs, "outputs", _FLOAT32 if is_float32 else _FLOAT64)
        targets, weight = self._in_form(outputs, targets, sample_weight)
        value, gradient = self.evaluate(*as_rows(outputs, targets, weight))
        return value, gradient.reshape(outputs.shape) if outputs.ndim > 2 else gradient

    def _in_form(
        self, outputs: Array, targets: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Array, Weight]:
        """Checked targets, and weights with those of the loss itself, one at every position; only
        shape and dtype of `outputs` matter."""
        if outputs.ndim < 2 or outputs.size == 0:
            what = "an empty array of shape" if outputs.size == 0 else "shape"
            raise ValueError(f"outputs: expected shape (batch, n), got {what} {outputs.shape}")
        weight = None
        if sample_weight is not None:
            weight = arrays.real_array(sample_weight, "sample_weight", outputs.dtype)
            weight = arrays.at_positions(weight, "sample_weight", outputs.shape[:-1])
            _kernels.check_sample_weight(*as_rows(outputs, weight)[::-1])
        prepared = self.prepare_targets(outputs, targets)
        own = self._own_weight(targets, outputs.ndim)
        if own is None:
            return prepared, weight
        weight = arrays.product(weight, own.astype(outputs.dtype))
        if not np.any(weight):
            raise ValueError(f"targets: expected some that count, got none for {self!r}")
        return prepared, weight

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        """The targets as `evaluate` takes them; ValueError for any that the loss does not take."""
        return _values(outputs, targets, self._largest)

    def _own_weight(self, targets: ArrayLike, dimensions: int) -> NDArray[np.float64] | None:
        """By how much the loss itself counts each target, for outputs of so many dimensions; None
        where it counts all alike."""
        return None

    def evaluate(self, outputs: Array, targets: Array, weight: Weight) -> tuple[float, Array]:
        """Value and gradient, from arrays that were checked and converted."""
        value, gradient = self._measure(outputs, targets, weight)
        return float(value[0]), gradient

    def _measure(self, outputs: Array, targets: Array, weight: Weight) -> tuple[Array, Array]:
        """`evaluate` by kernels alone; the value comes in a float64 array of one element."""
        if self._kernel is None:
            raise NotImplementedError(f"{type(self).__name__} has no evaluate")
        rows = as_rows(outputs, targets, weight)
        value, gradient = self._kernel(*rows, *self._constants(rows[0]))
        return value, gradient.reshape(outputs.shape)

    def _constants(self, outputs: Array) -> tuple[Any, ...]:
        """The further arguments of the kernel."""
        return () if self._constant is None else (getattr(self, self._constant),)


class MeanSquaredError(Loss):
    """l = mean_j (o_j - t_j)²; targets (batch, n), or (batch,) for outputs (batch, 1).

    >>> value, gradient = MeanSquaredError()([[1.0], [4.0]], [0.0, 2.0])
    >>> value, gradient.tolist()
    (2.5, [[1.0], [2.0]])
    """

    _kernel = staticmethod(_kernels.squared_error)


class MeanAbsoluteError(Loss):
    """l = mean_j |o_j - t_j|, derivative 0 at 0; targets (batch, n), or (batch,) for (batch, 1).

    >>> value, gradient = MeanAbsoluteError()([[1.0], [4.0]], [0.0, 2.0])
    >>> value, gradient.tolist()
    (1.5, [[0.5], [0.5]])
    """

    _kernel = staticmethod(_kernels.absolute_error)


class Quantile(Loss):
    """l = mean_j max(q d_j, (q - 1) d_j), d = t - o, derivative 0 at 0: o estimates t's q-quantile.

    R. Koenker, G. Bassett, 1978, the pinball loss; for q = 0.5 half the absolute error.  Targets
    (batch, n), or (batch,) for outputs (batch, 1).  For several quantiles of one target, `q` holds
    a number for each column, and targets (batch,) or (batch, 1) serve every column.
    Raises ValueError or TypeError unless 0 < q < 1, ValueError for another number of columns.

    >>> value, gradient = Quantile(0.75)([[1.0], [4.0]], [0.0, 8.0])
    >>> value, gradient.tolist()
    (1.625, [[0.125], [-0.375]])
    >>> value, gradient = Quantile([0.25, 0.75])([[3.0, 3.0]], [5.0])
    >>> value, gradient.tolist()
    (1.0, [[-0.125, -0.375]])
    """

    q = Setting(_quantiles)
    _kernel = staticmethod(_kernels.quantile)

    def __init__(self, q: float | Sequence[float] = 0.5) -> None:
        self.q = q

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        columns = outputs.shape[-1]
        if isinstance(self.q, tuple):
            if len(self.q) != columns:
                raise ValueError(
                    f"outputs: expected a column for each of {len(self.q)} quantiles, got {columns}"
                )
            array = arrays.real_array(targets, "targets", outputs.dtype)
            if array.shape in (outputs.shape[:-1], (*outputs.shape[:-1], 1)):
                array = array.reshape(*outputs.shape[:-1], 1)
                return np.repeat(array, columns, axis=-1)
        return super().prepare_targets(outputs, targets)

    def _constants(self, outputs: Array) -> tuple[Any, ...]:
        return (np.full(outputs.shape[1], self.q, outputs.dtype),)


class Huber(Loss):
    """l = mean_j h(o_j - t_j), h(e) = e²/2 for |e| <= delta, else delta (|e| - delta/2).

    P. J. Huber, 1964.  Targets (batch, n), or (batch,) for outputs (batch, 1).  Raises
    ValueError or TypeError unless delta > 0.

    >>> value, gradient = Huber(delta=1.0)([[1.0], [4.0]], [0.0, 2.0])
    >>> value, gradient.tolist()
    (1.0, [[0.5], [0.5]])
    """

    delta = Setting(checks.positive)
    _kernel, _constant = staticmethod(_kernels.huber), "delta"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = delta


class Poisson(Loss):
    """l = mean_j exp(o_j) - t_j o_j: the outputs are logarithms of means, the targets counts.

    The negative log-likelihood of Poisson's distribution without log t!, which no output changes;
    twice the loss plus twice the mean of t log t - t is the deviance.  Targets are >= 0, else
    ValueError, and need not be whole: (batch, n), or (batch,) for outputs (batch, 1).  exp(o) is
    infinite above 88.7 in float32, 709.7 in float64.

    >>> value, gradient = Poisson()([[0.0], [0.0]], [3, 0])
    >>> value, gradient.tolist()
    (1.0, [[-1.0], [0.5]])
    """

    _largest = math.inf
    _kernel = staticmethod(_kernels.poisson)


class SigmoidCrossEntropy(Loss):
    """l = mean_j (1 - t_j) log(1 + exp(o_j)) + p_j t_j log(1 + exp(-o_j)): the outputs are logits,
    the targets in [0, 1].

    For two classes, or any number of labels a row.  Targets (batch, n), or (batch,) for outputs
    (batch, 1).  `pos_weight` p, 1 unless given, is how much a yes counts where a no counts 1: a
    number, or one for each column; the number of no's by that of yes's makes both count alike.  The
    mean is still that over the rows.  Raises ValueError or TypeError unless all p > 0, ValueError
    for another number of columns.

    >>> value, gradient = SigmoidCrossEntropy()([[0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[-0.5]])
    >>> value, gradient = SigmoidCrossEntropy(pos_weight=3)([[0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (2.0794, [[-1.5]])
    """

    pos_weight = Setting(_positive)
    _largest = 1.0
    _kernel = staticmethod(_kernels.sigmoid_cross_entropy)

    def __init__(self, *, pos_weight: float | Sequence[float] | None = None) -> None:
        self.pos_weight = pos_weight

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        p, columns = self.pos_weight, outputs.shape[-1]
        if isinstance(p, tuple) and len(p) != columns:
            raise ValueError(
                f"outputs: expected a column for each of {len(p)} in pos_weight, got {columns}"
            )
        return super().prepare_targets(outputs, targets)

    def _constants(self, outputs: Array) -> tuple[Any, ...]:
        if self.pos_weight is None:
            return ()
        with np.errstate(over="ignore"):  # the kernel's face refuses what became infinite
            return (np.full(outputs.shape[1], self.pos_weight, outputs.dtype),)


class SoftmaxCrossEntropy(Loss):
    """l = -Σ_j t_j log softmax(o)_j: the outputs are logits, n classes.

    Targets are labels 0 .. n-1, integers (batch,), or probabilities (batch, n).
    `label_smoothing` s, in [0, 1), makes them (1 - s) t + s / n (C. Szegedy et al., 2016).

    Rows with the label `ignore_index`, which need not be one of the classes, take no part: they
    have no gradient and do not count in the mean.

    `class_weight` w, a number >= 0 for each class, makes it -Σ_j w_j t_j log softmax(o)_j, the
    smoothed t; of labels y, the mean is Σ l / Σ w_y, of probabilities that over the rows, both as
    in PyTorch's `CrossEntropyLoss`.  A row whose class has the weight 0 takes no part, smoothed or
    not.  `fit` has a `class_weight` of its own, by which rows count in training alone; without
    smoothing it trains as this one does, which counts in the validation and in `evaluate` too.
    Either makes the probabilities those of classes as frequent as their weights make them.

    Raises ValueError for a label out of range, labels that are floats, targets that are all
    ignored, and ValueError or TypeError for other settings.

    >>> value, gradient = SoftmaxCrossEntropy()([[0.0, 0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[0.5, -0.5]])
    >>> value, gradient = SoftmaxCrossEntropy(ignore_index=-1)([[0.0, 0.0], [5.0, 0.0]], [1, -1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[0.5, -0.5], [0.0, 0.0]])
    """

    label_smoothing = Setting(checks.fraction)
    class_weight = Setting(_weights_of_classes)
    ignore_index = Setting(_label_or_none)
    _label_smoothing: float
    _class_weight: tuple[float, ...] | None
    _ignore_index: int | None
    _kernel = staticmethod(_kernels.softmax_cross_entropy)
    _largest = 1.0

    @property
    def _direct(self) -> bool:  # type: ignore[override]
        return self._class_weight is None

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weight, self.ignore_index = class_weight, ignore_index

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        array, classes = arrays.numeric_array(targets, "targets"), outputs.shape[-1]
        if classes == 1 and (array != (array.ndim == outputs.ndim)).any():
            raise ValueError(
                "outputs: expected at least 2 classes, got 1, of which softmax is always 1; for "
                "one output and two classes take SigmoidCrossEntropy"
            )
        w = self._class_weight
        if w is not None and len(w) != classes:
            raise ValueError(
                f"outputs: expected a column for each of {len(w)} in class_weight, got {classes}"
            )
        if array.ndim == outputs.ndim - 1 or array.shape[-1:] == (1,) != outputs.shape[-1:]:
            labels = _labels(outputs, array, self._ignore_index)
            unequal = w is not None and self._label_smoothing > 0
            return self._smoothed(labels, outputs) if unequal else labels
        if array.ndim < outputs.ndim:
            raise ValueError(
                f"targets: expected labels of shape {outputs.shape[:-1]} or probabilities of shape "
                f"{outputs.shape}, got shape {array.shape}"
            )
        probabilities = super().prepare_targets(outputs, array)
        if w is None:
            return probabilities
        s = self._label_smoothing
        smoothed: Array = ((1 - s) * probabilities + s / classes) * np.array(w, outputs.dtype)
        return smoothed

    def _smoothed(self, labels: NDArray[np.int64], outputs: Array) -> Array:
        """Smoothed rows times the classes' weights, divided by the weight of the row's own class,
        by which the row counts.  The kernel could smooth labels itself, but for equal weights."""
        w, s = np.array(self._class_weight), self._label_smoothing
        of_label = np.where(w > 0, w, 1.0)[labels][..., None]
        targets = (s / len(w)) * w / of_label
        np.put_along_axis(
            targets, labels[..., None],
            np.take_along_axis(targets, labels[..., None], axis=-1) + (1 - s), axis=-1,
        )  # fmt: skip
        return targets.astype(outputs.dtype)

    def _own_weight(self, targets: ArrayLike, dimensions: int) -> NDArray[np.float64] | None:
        if self._class_weight is None and self._ignore_index is None:
            return None
        targets = arrays.numeric_array(targets, "targets")
        if targets.ndim != dimensions - 1:  # probabilities
            return None
        counts = np.ones(targets.shape)
        if self._class_weight is not None:
            w = np.array(self._class_weight)
            counts = w[np.clip(targets, 0, len(w) - 1).astype(np.int64)]
        if self._ignore_index is not None:
            counts[targets == self._ignore_index] = 0
        return counts

    def _constants(self, outputs: Array) -> tuple[Any, ...]:
        """With weights of the classes, the targets are smoothed already."""
        return (self._label_smoothing if self._class_weight is None else 0.0,)


class Hinge(Loss):
    """l = Σ_{j≠y} max(0, o_j - o_y + margin), o the scores of n classes, y the label.

    J. Weston, C. Watkins, 1999.  Targets are labels 0 .. n-1, integers (batch,).  The derivative
    at the kink is 0.  Raises ValueError for a label out of range, labels that are floats, and
    ValueError or TypeError unless margin > 0.

    >>> value, gradient = Hinge()([[0.0, 0.5]], [1])
    >>> value, gradient.tolist()
    (0.5, [[1.0, -1.0]])
    """

    margin = Setting(checks.positive)
    _kernel, _constant = staticmethod(_kernels.hinge), "margin"

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        return _labels(outputs, arrays.numeric_array(targets, "targets"))


def as_rows(outputs: Array, *others: Any) -> list[Any]:
    """`outputs` and arrays with its leading dimensions, or None, with each position as a row."""
    leading = outputs.ndim - 1
    if leading == 1:
        return [outputs, *others]
    return [
        None if array is None else array.reshape(-1, *array.shape[leading:])
        for array in (outputs, *others)
    ]


def _values(outputs: Array, targets: ArrayLike, largest: float | None) -> Array:
    """The targets in the outputs' shape and dtype; a vector becomes one column."""
    array = arrays.real_array(targets, "targets", outputs.dtype)
    if outputs.shape[-1] == 1 and array.ndim == outputs.ndim - 1:
        array = array[..., None]
    if array.shape != outputs.shape:
        raise ValueError(f"targets: expected the outputs' shape {outputs.shape}, got {array.shape}")
    if largest is not None:
        _kernels.check_targets(array, outputs, largest)
    return array


def _labels(outputs: Array, targets: Array, ignore_index: int | None = None) -> NDArray[np.int64]:
    """The labels as an int64 copy, so that nobody can change them after their range was checked,
    with 0 for those to ignore."""
    shape = outputs.shape[:-1]
    if targets.shape != shape:
        hint = "" if targets.shape != (*shape, 1) else "; write .reshape(y.shape[:-1])"
        hint = "; write .ravel()" if hint and len(shape) == 1 else hint
        raise ValueError(
            f"targets: expected labels of shape {shape}, got shape {targets.shape}{hint}"
        )
    if targets.dtype.kind == "f":
        raise ValueError(
            f"targets: expected integer labels, got {targets.dtype}; write .astype(int)"
        )
    labels = np.empty(targets.shape, np.int64)
    labels[...] = arrays.int64(targets, "targets")  # a copy, also of an array of long long
    if ignore_index is not None:
        labels[labels == ignore_index] = 0
    _kernels.check_labels(*as_rows(outputs, labels)[::-1])
    return labels
