"""Pictures of a training: its curves, and the range of learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.averages import ExponentialAverage
from fastnn.plot import figures
from fastnn.plot.figures import BLUE, GREEN, GREY, VERMILLION
from fastnn.support import checks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fastnn.looking.range_test import LearningRateRange

_HELD = "validation_"
_NO_CURVES = ("seconds", "samples_per_second")


def learning_curves(
    history: Mapping[str, Sequence[float]],
    *,
    beta: float | None = None,
    best_epoch: int | None = None,
    ax: Any = None,
) -> NDArray[np.object_]:
    """Loss, metrics and learning rate by epoch, of training and validation in one panel each.

    `history` is what `fit` returns, or any mapping of names to a number for each epoch.  The loss
    is also drawn smoothed, by `ExponentialAverage` with this `beta`; 0 leaves that out, and None
    means 0.6 from 30 epochs on: in fewer, the average lags too far behind.  A dotted line marks
    `best_epoch`, counted from 1, such as `EarlyStopping.best_epoch`; by default it is that of the
    smallest validation loss.  Epochs without a validation are passed over.

    Returns an array of Axes, (panels,): one for each name, in the history's order.  Raises
    ValueError for a history without an epoch, and for another number of Axes in `ax`.

    >>> import fastnn
    >>> history = {"loss": [2.0, 1.0, 0.8], "validation_loss": [1.9, 1.2, 1.1]}
    >>> (ax,) = fastnn.plot.learning_curves(history)
    >>> [line.get_label() for line in ax.lines]
    ['training', 'validation', 'lowest validation loss: epoch 3']
    """
    measured = [name for name, values in history.items() if len(values)]
    panels = [name for name in dict.fromkeys(name.removeprefix(_HELD) for name in measured)
              if name not in _NO_CURVES]  # fmt: skip
    if not panels:
        raise ValueError("history: expected one with at least one epoch, got none")
    if beta is None:
        beta = 0.6 if max(map(len, history.values())) >= 30 else 0.0
    average, best = ExponentialAverage(beta), _best(history, best_epoch)
    all_axes = figures.axes(ax, (4.2, 3.2), len(panels), columns=3)
    for each, name in zip(all_axes, panels, strict=True):
        both = name in history and _HELD + name in history
        if name in history:
            _curve(each, history[name], "training" if both or name == "loss" else name, BLUE, "o-")
        if name == "loss" and name in history and average.beta:
            smoothed = [average.update(float(value)) for value in history[name]]
            text = f"training, smoothed (β = {average.beta:g})"
            _curve(each, smoothed, text, "black", "-.")
        if _HELD + name in history:
            _curve(each, history[_HELD + name], "validation", VERMILLION, "s--")
        if best and name != "learning_rate":
            each.axvline(best[0], color=GREY, linestyle=":", linewidth=1.5, label=best[1], zorder=1)
        figures.plain(each)
        each.xaxis.get_major_locator().set_params(integer=True)
        each.set(xlabel="epoch", ylabel=name.replace("_", " "))
        if len(each.lines) > 1:
            each.legend()
        rates = history.get(name, [0.0]) if name == "learning_rate" else [0.0]
        if 1e-4 < min(rates) / (max(rates) or 1.0) < 0.1:  # else the last steps of a cosine
            each.set_yscale("log")  # would leave no room for the others
    return all_axes


def _best(history: Mapping[str, Sequence[float]], epoch: int | None) -> tuple[int, str] | None:
    """Which epoch is marked as the best, and what is said of it."""
    if epoch is not None:
        epoch = checks.positive_int(epoch, "best_epoch")
        return epoch, f"best: epoch {epoch}"
    held = np.asarray(history.get(_HELD + "loss", ()), np.float64)
    if np.isnan(held).all():
        return None
    epoch = int(np.nanargmin(held)) + 1
    return epoch, f"lowest validation loss: epoch {epoch}"


def _curve(ax: Any, values: Sequence[float], text: str, color: str, style: str) -> None:
    """One number for each epoch, the first of which is 1; NaN has no point."""
    y = np.asarray(values, np.float64)
    there = ~np.isnan(y)
    epochs, every = np.arange(1, len(y) + 1)[there], max(1, int(there.sum()) // 20)
    ax.plot(epochs, y[there], style, color=color, label=text, markersize=4, markevery=every)


def learning_rate_range(found: LearningRateRange, *, ax: Any = None) -> Any:
    """The loss by the learning rate, as `fastnn.learning_rate_range` found it, and its suggestion.

    What lies far above the part where the loss falls is cut off.  Returns the Axes.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10))
    >>> found = fastnn.learning_rate_range(model, X, y, fastnn.SoftmaxCrossEntropy())
    >>> fastnn.plot.learning_rate_range(found).get_xscale()
    'log'
    """
    ax = figures.one(ax)
    ax.plot(found.rates, found.losses, ".", color=GREY, label="loss of a batch")
    ax.plot(found.rates, found.smoothed, "-", color=BLUE, label="smoothed")
    if np.isfinite(found.suggestion):
        text = f"suggestion {found.suggestion:.2g}, a tenth of the\nrate with the smallest loss"
        ax.axvline(found.suggestion, color=GREEN, linestyle="--", label=text)
    falling = [*found.smoothed[: int(np.argmin(found.smoothed)) + 1], *found.losses[:10]]
    low, high = min(0.0, float(found.losses.min())), 1.3 * float(max(falling))
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low, max(high, low + 1e-12)))
    figures.plain(ax)
    ax.legend(loc="lower left")
    return ax
