"""Pictures as PNG files, where matplotlib is there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn.files import safefile
from fastnn.looking.inspection import histogram

if TYPE_CHECKING:
    from fastnn.history import History
    from fastnn.model import Sequential


def _figure() -> Any:
    """The class of figures, which no window shows, or None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure


def learning_curves(history: History, kept: int, path: str) -> bool:
    """Draw loss and accuracy of the epochs, and which one is kept; False without matplotlib."""
    figure_class = _figure()
    if figure_class is None:
        return False
    shown = {
        name: values
        for name, values in history.items()
        if name.removeprefix("validation_") in ("loss", "accuracy")
    }
    panels = len(shown) // 2  # each is of training and of validation
    figure = figure_class(figsize=(5 * panels, 4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    import_module("fastnn.plot").learning_curves(shown, best_epoch=kept or None, ax=axes)
    _save(figure, path)
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
        axes.stairs(*histogram(model.parameters[name], 40), fill=True)
        axes.set_title(name, fontsize=9)
    for axes in figure.axes[len(names) :]:
        axes.axis("off")
    _save(figure, path)
    return True


def _save(figure: Any, path: str) -> None:
    with safefile.replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
