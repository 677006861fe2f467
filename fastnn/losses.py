"""Losses: `loss(outputs, targets, sample_weight=None)` returns the value and its gradient.

The value is the mean Σ w l / Σ w over the batch, as a float; the gradient is that of the value by
the outputs.  Here outputs and targets are brought into the form of the kernels, which compute value
and gradient in one pass, and check that the targets are in range."""

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


def _quantiles(value: Any, name: str) -> float | Sequence[float]:
    """The check for a number in (0, 1), or for a tuple of such numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return checks.proportion(value, name)
    if not value:
        raise ValueError(f"{name}: expected a number in (0, 1) or several, got {value!r}")
    return tuple(checks.proportion(number, name) for number in value)


class Loss(Guarded):
    """Base of the losses, to derive your own from; `fit`, `TrainStep` and `gradcheck` take any
    callable ``(outputs, targets, sample_weight) -> (value, gradient)`` as well.

    A derived class overrides ``evaluate(outputs, targets, weight)``, which returns the value, a
    float, and its gradient, an array like `outputs`.  It gets C-contiguous arrays of one real
    type: `outputs` (batch, n), `targets` alike and `weight` (batch,) or None.  If its targets have
    another form, it overrides ``prepare_targets(outputs, targets)`` too, which returns them as
    `evaluate` takes them.  A callable without this base gets the targets in the shape and, but for
    floats, the type that the user passed: targets (batch,) broadcast with outputs (batch, 1) there.

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

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Value and gradient.

        Shapes: `outputs` (batch, n), float32 or float64 (anything else is converted to float64);
        `sample_weight` w (batch,), not negative and not all 0; `targets` as the class says.
        Raises ValueError for shapes that do not fit, and for weights and targets out of range.
        """
        is_float32 = getattr(outputs, "dtype", None) == _FLOAT32
        outputs = arrays.real_array(outputs, "outputs", _FLOAT32 if is_float32 else _FLOAT64)
        return self.evaluate(outputs, *self._in_form(outputs, targets, sample_weight))

    def _in_form(
        self, outputs: Array, targets: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Array, Weight]:
        """Checked targets and weights for `evaluate`; only shape and dtype of `outputs` matter."""
        if outputs.ndim != 2 or outputs.size == 0:
            what = "an empty array of shape" if outputs.size == 0 else "shape"
            raise ValueError(f"outputs: expected shape (batch, n), got {what} {outputs.shape}")
        weight = None
        if sample_weight is not None:
            weight = arrays.real_array(sample_weight, "sample_weight", outputs.dtype)
            if weight.shape != outputs.shape[:1]:
                raise ValueError(
                    f"sample_weight: expected shape ({len(outputs)},), got {weight.shape}"
                )
            _kernels.check_sample_weight(weight, outputs)
        return self.prepare_targets(outputs, targets), weight

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        """The targets as `evaluate` takes them; ValueError for any that the loss does not take."""
        return _values(outputs, targets, self._largest)

    def evaluate(self, outputs: Array, targets: Array, weight: Weight) -> tuple[float, Array]:
        """Value and gradient, from arrays that were checked and converted."""
        value, gradient = self._measure(outputs, targets, weight)
        return float(value[0]), gradient

    def _measure(self, outputs: Array, targets: Array, weight: Weight) -> tuple[Array, Array]:
        """`evaluate` by kernels alone; the value comes in a float64 array of one element."""
        if self._kernel is None:
            raise NotImplementedError(f"{type(self).__name__} has no evaluate")
        return self._kernel(outputs, targets, weight, *self._constants(outputs))

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
        columns = outputs.shape[1]
        if isinstance(self.q, tuple):
            if len(self.q) != columns:
                raise ValueError(
                    f"outputs: expected a column for each of {len(self.q)} quantiles, got {columns}"
                )
            array = arrays.real_array(targets, "targets", outputs.dtype)
            if array.shape in ((len(outputs),), (len(outputs), 1)):
                return np.repeat(array.reshape(-1, 1), columns, axis=1)
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
    """l = mean_j log(1 + exp(o_j)) - t_j o_j: the outputs are logits, the targets in [0, 1].

    For two classes, or any number of labels a row.  Targets (batch, n), or (batch,) for outputs
    (batch, 1).

    >>> value, gradient = SigmoidCrossEntropy()([[0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[-0.5]])
    """

    _largest = 1.0
    _kernel = staticmethod(_kernels.sigmoid_cross_entropy)


class SoftmaxCrossEntropy(Loss):
    """l = -Σ_j t_j log softmax(o)_j: the outputs are logits, n classes.

    Targets are labels 0 .. n-1, integers (batch,), or probabilities (batch, n).
    `label_smoothing` s, in [0, 1), makes them (1 - s) t + s / n (C. Szegedy et al., 2016).
    Raises ValueError for a label out of range, labels that are floats, another `label_smoothing`.

    >>> value, gradient = SoftmaxCrossEntropy()([[0.0, 0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[0.5, -0.5]])
    """

    label_smoothing = Setting(checks.fraction)
    _kernel, _constant = staticmethod(_kernels.softmax_cross_entropy), "label_smoothing"
    _largest = 1.0

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def prepare_targets(self, outputs: Array, targets: ArrayLike) -> Array:
        array = arrays.numeric_array(targets, "targets")
        if outputs.shape[1] == 1 and (array != (array.ndim > 1)).any():
            raise ValueError(
                "outputs: expected at least 2 classes, got 1, of which softmax is always 1; for "
                "one output and two classes take SigmoidCrossEntropy"
            )
        if array.ndim == 1 or array.shape[1:] == (1,) != outputs.shape[1:]:
            return _labels(outputs, array)
        return super().prepare_targets(outputs, array)


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


def _values(outputs: Array, targets: ArrayLike, largest: float | None) -> Array:
    """The targets in the outputs' shape and dtype; a vector becomes one column."""
    array = arrays.real_array(targets, "targets", outputs.dtype)
    if array.ndim == 1 and outputs.shape[1] == 1:
        array = array.reshape(-1, 1)
    if array.shape != outputs.shape:
        raise ValueError(f"targets: expected the outputs' shape {outputs.shape}, got {array.shape}")
    if largest is not None:
        _kernels.check_targets(array, outputs, largest)
    return array


def _labels(outputs: Array, targets: Array) -> NDArray[np.int64]:
    """The labels as an int64 copy, so that nobody can change them after their range was checked."""
    if targets.shape != outputs.shape[:1]:
        hint = "; write .ravel()" if targets.shape == (len(outputs), 1) else ""
        raise ValueError(
            f"targets: expected labels of shape ({len(outputs)},), got shape {targets.shape}{hint}"
        )
    if targets.dtype.kind == "f":
        raise ValueError(
            f"targets: expected integer labels, got {targets.dtype}; write .astype(int)"
        )
    labels = np.empty(targets.shape, np.int64)
    labels[...] = targets  # not astype, which leaves an array of long long as it is
    _kernels.check_labels(labels, outputs)
    return labels
