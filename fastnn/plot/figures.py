"""What all pictures have in common: where they are drawn, their colours, markers and lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# M. Okabe, K. Ito, Color Universal Design, 2008; yellow, too pale for lines, is left out
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
COLORS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
GREY = "0.5"


def axes(ax: Any, size: tuple[float, float], n: int = 1, columns: int = 1) -> NDArray[np.object_]:
    """The n Axes to draw in: those of `ax`, or new ones in `columns` columns, each of that size in
    inches."""
    if ax is not None:
        given = np.array(ax, dtype=object, ndmin=1).ravel()
        if len(given) != n:
            raise ValueError(f"ax: expected {n} Axes for this picture, got {len(given)}")
        for each in given:
            if not hasattr(each, "transAxes"):
                raise TypeError(f"ax: expected matplotlib's Axes, got {each!r}")
        return given
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("fastnn.plot needs matplotlib: pip install matplotlib") from None
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    figure = plt.figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    new = np.empty(n, object)
    new[:] = [figure.add_subplot(rows, columns, i + 1) for i in range(n)]
    return new


def one(ax: Any, width: float = 6.0, height: float = 4.5) -> Any:
    """The only Axes of a picture."""
    return axes(ax, (width, height))[0]


def plain(ax: Any) -> None:
    """Leave away the frame's upper and right side, and let thin lines lead the eye."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def class_names(classes: Sequence[Any] | None, n: int) -> list[str]:
    """The names of n classes as matplotlib writes them, $ being no formula; by default their
    numbers."""
    if classes is None:
        return list(map(str, range(n)))
    if len(classes) != n:
        raise ValueError(f"classes: expected {n} names, got {len(classes)}")
    return [str(name).replace("$", r"\$") for name in classes]


def signs() -> Any:
    """A map of colours for numbers around 0, grey there, that grows lighter all the way: so signs
    differ without colours, too."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = ("#001A40", BLUE, "0.6", "#F0B030", "#FFF6D0")
    return LinearSegmentedColormap.from_list("signs", colors)


def tiles(
    ax: Any, images: Sequence[NDArray[Any]], columns: int, titles: Sequence[str] = (), **how: Any
) -> Any:
    """Draw images of one size side by side, row by row, each 1 wide, with titles above; `how` is
    for `imshow`.  Returns the last one."""
    rows, columns = math.ceil(len(images) / columns), min(columns, len(images))
    height, gap = images[0].shape[0] / images[0].shape[1], 0.08
    head = gap + (0.13 * (1 + titles[0].count("\n")) if titles else 0)
    drawn = None
    for i, image in enumerate(images):
        x, y = (i % columns) * (1 + gap), (i // columns) * (height + head)
        drawn = ax.imshow(image, extent=(x, x + 1, y + height, y), interpolation="nearest", **how)
        if titles:
            ax.text(x + 0.5, y - 0.03, titles[i], ha="center", va="bottom", fontsize=9)
    ax.set(
        xlim=(-gap, columns * (1 + gap)),
        ylim=(rows * (height + head) - head + gap, -head),
        aspect="equal",
    )
    ax.set_axis_off()
    return drawn
