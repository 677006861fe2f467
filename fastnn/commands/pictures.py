"""Pictures as PNG files, where matplotlib is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.commands import trained

if TYPE_CHECKING:
    from fastnn.history import History
    from fastnn.model import Sequential


def _figure() -> Any:
    """A new figure, that no window shows, or None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure


def learning_curves(history: History, path: str) -> bool:
    """Draw the losses of the epochs; False without matplotlib."""
    figure_class = _figure()
    if figure_class is None:
        return False
    figure = figure_class(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, history.epochs + 1)
    for name, text, style in (
        ("loss", "learnt from", "-"),
        ("validation_loss", "held out", "--"),
    ):
        axes.plot(epochs, history[name], style, label=text)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()
    with trained.replacing(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=120)
    return True


def histograms(model: Sequential, path: str) -> bool:
    """Draw the distribution of each parameter; False without matplotlib."""
    figure_class = _figure()
    if figure_class is None:
        return False
    names = list(model.parameters)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = figure_class(figsize=(3.2 * columns, 2 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        values = model.parameters[name]
        axes.hist(values[np.isfinite(values)], bins=40)
        axes.set_title(name, fontsize=9)
    for axes in figure.axes[len(names) :]:
        axes.axis("off")
    with trained.replacing(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=120)
    return True
