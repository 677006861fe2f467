"""What `fit` and `evaluate` make of their `metrics`: fastnn's own by name, the user's functions and
scikit-learn's, each called in the order and with the numbers that it expects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from fastnn import losses, metrics
from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Metric = Callable[..., float]  # as the user gives it
    Measure = Callable[[Array, Array, Array | None], float]  # of outputs, targets and weights

_OF_CLASSES: dict[str, Callable[..., float]] = {
    "accuracy": metrics.accuracy,
    "auc": metrics.auc,
    "balanced_accuracy": metrics.balanced_accuracy,
    "f1": metrics.f1,
    "log_loss": metrics.log_loss,
    "precision": metrics.precision,
    "recall": metrics.recall,
}
_TOP = re.compile(r"top_([1-9]\d*)_accuracy")
_OF_NUMBERS: dict[str, Metric] = {
    "explained_variance": metrics.explained_variance,
    "mean_absolute_error": metrics.mean_absolute_error,
    "mean_squared_error": metrics.mean_squared_error,
    "r2": metrics.r2,
    "root_mean_squared_error": metrics.root_mean_squared_error,
}
_ERRORS = ("loss", "log_loss", *(name for name in _OF_NUMBERS if name.endswith("_error")))
NAMES = (
    ", ".join(map(repr, [*_OF_CLASSES, *_OF_NUMBERS])) + ", 'top_5_accuracy' (5 or another number)"
)
_CLASSIFICATION = (losses.SoftmaxCrossEntropy, losses.SigmoidCrossEntropy, losses.Hinge)
_REGRESSION = (
    losses.MeanSquaredError, losses.MeanAbsoluteError, losses.Quantile, losses.Huber, losses.Poisson
)  # fmt: skip


def chosen_metrics(chosen: Sequence[str | Metric] | None, loss: losses.Loss) -> dict[str, Measure]:
    """The metrics that `fit` computes, called (outputs, targets, weights), by their names in the
    history."""
    if chosen is None:
        chosen = ["accuracy"] if isinstance(loss, _CLASSIFICATION) else []
    if isinstance(chosen, str) or not isinstance(chosen, Sequence):
        raise TypeError(
            f"metrics: expected a list of functions or of names, {_suiting(loss)}, got {chosen!r}"
        )
    by_name: dict[str, Measure] = {}
    functions: dict[str, Metric] = {}
    for metric in chosen:
        if callable(metric):
            function = metric if hasattr(metric, "__name__") else _function(metric)
            name = getattr(function, "__name__", type(function).__name__)
            if name == "loss" or functions.setdefault(name, metric) is not metric:
                raise ValueError(f"metrics: {name!r} is the name of another result")
            by_name[name] = _checked(_outputs_first(metric, loss), metric)
        else:
            by_name[metric] = partial(_measure, _named(metric, loss))
    return by_name


def grows(name: str) -> bool | None:
    """Whether a larger result of that name is better; None: unknown."""
    if name in _ERRORS:
        return False
    known = (*_OF_CLASSES, *_OF_NUMBERS, "score")
    return True if name in known or _TOP.fullmatch(name) else None


def is_own(measure: Measure) -> bool:
    """Whether the metric is one of fastnn's, given by its name."""
    return isinstance(measure, partial) and measure.func is _measure


# ---- by name -----------------------------------------------------------------------------------


def _needs(name: str, loss: losses.Loss) -> str | None:
    """What the metric of that name needs and this loss is not; None where they go together."""
    regression = isinstance(loss, _REGRESSION)
    if name == "log_loss" and isinstance(loss, losses.Hinge):
        return "a loss whose outputs are logits"
    if name in _OF_CLASSES:
        return "a loss that classifies" if regression else None
    if name in _OF_NUMBERS:
        several = isinstance(loss, losses.Quantile) and isinstance(loss.q, tuple)
        other = several or isinstance(loss, (*_CLASSIFICATION, losses.Poisson))
        return "a loss whose outputs estimate the targets themselves" if other else None
    one = isinstance(loss, losses.SigmoidCrossEntropy)
    return "a loss of several classes" if one or regression else None


def _suiting(loss: losses.Loss) -> str:
    """The names of the metrics that go with a loss, for messages."""
    known = [*_OF_CLASSES, "top_5_accuracy", *_OF_NUMBERS]
    return ", ".join(repr(name) for name in known if _needs(name, loss) is None) or "none"


def _named(name: str, loss: losses.Loss) -> Metric:
    top = _TOP.fullmatch(name) if isinstance(name, str) else None
    if not isinstance(name, str) or not (top or name in _OF_CLASSES or name in _OF_NUMBERS):
        raise ValueError(f"metrics: expected a function or one of {NAMES}, got {name!r}")
    if wanted := _needs(name, loss):
        raise ValueError(
            f"metrics: {name!r} needs {wanted}, got {loss!r}, for which there are {_suiting(loss)}"
        )
    if top:
        return partial(metrics.top_k_accuracy, k=int(top[1]))
    if name in _OF_NUMBERS:
        return _OF_NUMBERS[name]
    return partial(_OF_CLASSES[name], multilabel=isinstance(loss, losses.SigmoidCrossEntropy))


def _measure(metric: Metric, outputs: Array, targets: Array, weight: Array | None) -> float:
    return metric(outputs, targets, sample_weight=weight)


# ---- functions ---------------------------------------------------------------------------------

_TARGETS = ("y_true", "targets", "target", "labels", "labels_true", "y1")  # as a first parameter
# what scikit-learn's functions take, by their second parameter
_PREDICTED = {
    "y_pred": "answers", "labels_pred": "answers", "y2": "answers", "y_score": "scores",
    "y_proba": "probabilities", "y_prob": "probabilities", "pred_decision": "outputs",
}  # fmt: skip
_OF_PROBABILITIES = ("log_loss", "d2_log_loss_score")  # whose y_pred are these, in old versions


def _function(metric: Any) -> Any:
    """The function behind a `functools.partial`."""
    return _function(metric.func) if isinstance(metric, partial) else metric


def _outputs_first(metric: Metric, loss: losses.Loss) -> Measure:
    """`metric`, called (outputs, targets, weights), in the order of its own parameters."""
    try:
        names = [*inspect.signature(metric).parameters, "", ""]
    except (TypeError, ValueError):  # some builtins do not tell
        names = ["", ""]
    first, second, *_ = names
    bound = metric.keywords if isinstance(metric, partial) else {}
    weighted = "sample_weight" in names and "sample_weight" not in bound

    def call(a: Array, b: Array, weight: Array | None) -> float:
        return metric(a, b, sample_weight=weight) if weighted else metric(a, b)

    function = _function(metric)
    if not str(getattr(function, "__module__", "")).startswith("sklearn."):
        return (lambda o, t, w: call(t, o, w)) if first in _TARGETS else call
    if first not in _TARGETS or second not in _PREDICTED:
        raise TypeError(
            f"metrics: expected a function of targets and predictions, such as "
            f"sklearn.metrics.r2_score, got {metric!r}"
        )
    old = getattr(function, "__name__", "") in _OF_PROBABILITIES
    form = "probabilities" if old else _PREDICTED[second]
    if form == "probabilities" and isinstance(loss, losses.Hinge):
        raise ValueError(f"metrics: {metric!r} needs probabilities, which {loss!r} does not give")

    def measure(outputs: Array, targets: Array, weight: Array | None) -> float:
        if outputs.ndim > 1 and (outputs.ndim > 2 or weight is not None):
            outputs, targets, weight = metrics._rows(outputs, targets, weight)
        if not np.isfinite(outputs).all():
            return float("nan")
        return call(*_in_scikit_learns_form(outputs, targets, loss, form), weight)

    return measure


def _in_scikit_learns_form(
    outputs: Array, targets: Array, loss: losses.Loss, form: str
) -> tuple[Array, Array]:
    """Targets and predictions as its functions take them: numbers as they are; of classes labels
    with answers or probabilities, where of two classes the second's alone counts."""
    if isinstance(loss, losses.Poisson):
        return targets, np.exp(outputs.astype(np.float64))
    if not isinstance(loss, _CLASSIFICATION):
        return targets, outputs
    if isinstance(loss, losses.SigmoidCrossEntropy):
        yes = metrics._yes(outputs, targets.reshape(outputs.shape)).astype(np.int64)
        likely = 0.5 + 0.5 * np.tanh(0.5 * outputs.astype(np.float64))
        parts = [yes, (outputs > 0).astype(np.int64), outputs, likely]
        labels, answers, values, likely = (
            part[:, 0] if part.shape[1] == 1 else part for part in parts
        )
    else:
        labels, answers = metrics._labels(outputs, targets), outputs.argmax(axis=1)
        values, likely = outputs, metrics._softmax(outputs)
        if outputs.shape[1] == 2:
            values, likely = outputs[:, 1] - outputs[:, 0], likely[:, 1]
    scores = values if isinstance(loss, losses.Hinge) else likely
    forms = {"answers": answers, "outputs": values, "probabilities": likely, "scores": scores}
    return labels, forms[form]


def _read_only(array: Array) -> Array:
    """A view that a metric cannot change its caller's array by."""
    view = array.view()
    view.flags.writeable = False
    return view


def _checked(measure: Measure, metric: Metric) -> Measure:
    """A `metric` that gets targets (n,) as (n, 1) beside outputs (n, 1), as they would broadcast;
    TypeError if it returns no number."""

    def checked(outputs: Array, targets: Array, weight: Array | None) -> float:
        column = outputs.shape == (*targets.shape, 1)
        targets = _read_only(targets[..., None] if column else targets)
        weight = None if weight is None else _read_only(weight)
        try:
            value = measure(_read_only(outputs), targets, weight)
        except Exception as error:
            name = getattr(_function(metric), "__name__", repr(metric))
            checks.note(error, f"raised by the metric {name}, whose options functools.partial sets")
            raise
        if np.ndim(value) > 0 or not isinstance(value, SupportsFloat):
            raise TypeError(f"metrics: expected a number from {metric!r}, got {value!r:.80}")
        return float(value)

    return checked
