"""The network as a drawing: a box for each layer, and between them the shapes of a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.layers import Residual
from fastnn.layers.activations import Activation
from fastnn.layers.chain import inner_chains, shape_after
from fastnn.layers.layer import Layer
from fastnn.plot import figures
from fastnn.support import checks
from fastnn.support.settings import label

if TYPE_CHECKING:
    from fastnn.layers.chain import Chain
    from fastnn.network import Network

    Row = tuple[int, ...] | None

_BOX, _GAP = 0.46, 0.36  # inches: the height of a box, and the way to the next
_FILL = {"weights": "#CFE3F1", "activation": "#FBE3C8", "other": "white"}


def network(model: Network, shape: tuple[int, ...] | None = None, *, ax: Any = None) -> Any:
    """The layers from top to bottom, with their numbers of parameters and the shapes between them.

    `shape` is that of an input row, such as (28, 28, 1), as in `summary`; where it is not given,
    the first layer's `in_features` are taken for it if rows have one dimension, and else shapes are
    left out.  Layers with parameters are blue, activations orange.  The paths of a layer made of
    layers stand side by side, in a frame.  Returns the Axes, 1 inch for a unit if it is new.
    Raises as `summary` does for a shape that the model does not take.

    >>> import fastnn
    >>> ax = fastnn.plot.network(fastnn.Sequential(fastnn.Dense(64, 10), fastnn.Softmax()))
    >>> [text.get_text() for text in ax.texts if text.get_text()]
    ['64', '0  Dense(64, 10)\\n650 parameters', '10', '1  Softmax()', '10']
    """
    checks.objects(model=model)
    chain = model._chain
    if shape is not None:
        row: Row = checks.shape(shape, "shape")
        chain.check_input((1, *shape), "shape")
    else:
        flat = chain.dimensions in (1, None) and chain.in_features is not None
        row = (chain.in_features,) if flat else None  # type: ignore[assignment]
    box = max(len(line) for text in _texts(chain) for line in text.split("\n")) * 0.078 + 0.3
    width, height = _size(chain, box)
    ax = figures.one(ax, width + 0.3, height + 0.3)
    _Pen(ax, box).draw(chain, row, width / 2, 0.0)
    ax.set(xlim=(-0.1, width + 0.1), ylim=(-height - 0.1, 0.1), aspect="equal")
    ax.set_axis_off()
    return ax


def _texts(chain: Chain, within: str = "") -> list[str]:
    """What stands in the boxes of all layers, those within others too."""
    texts = []
    for name, layer in zip(chain.names, chain.layers, strict=True):
        texts.append(_text(within + name, layer))
        for inner in inner_chains(layer):
            texts += _texts(inner, f"{within}{name}.")
    return texts


def _text(key: str, layer: Any) -> str:
    if inner_chains(layer):
        return f"{key}  {type(layer).__name__}"
    shapes = layer.parameter_shapes().values() if isinstance(layer, Layer) else ()
    count = sum(map(math.prod, shapes))
    return f"{key}  {label(layer)}" + (f"\n{count:,} parameters" if count else "")


def _size(chain: Chain, box: float) -> tuple[float, float]:
    """Width and height of a chain with its arrows, the one before and the one after it too."""
    sizes = [_size_of(layer, box) for layer in chain.layers]
    widths, heights = zip(*sizes, strict=True)
    return max(widths), sum(heights) + _GAP * (len(heights) + 1)


def _size_of(layer: Any, box: float) -> tuple[float, float]:
    paths = [_size(inner, box) for inner in inner_chains(layer)]
    if not paths:
        return box, _BOX
    widths = [width for width, _ in paths] + [0.6] * _has_plain_path(layer)
    # a line of text above the paths, and the sign where they meet below them
    return sum(widths) + 0.2 * (len(widths) + 1), max(height for _, height in paths) + 0.6


def _has_plain_path(layer: Any) -> bool:
    """Whether the input itself is added to what the path gives."""
    return isinstance(layer, Residual) and layer.shortcut is None


class _Pen(NamedTuple):
    """Draws in `ax`, with boxes of that width; x and y are in inches, y grows upwards from 0."""

    ax: Any
    box: float

    def draw(self, chain: Chain, row: Row, x: float, y: float, within: str = "") -> Row:
        """Draw a chain around x, from y downwards; returns the shape after it."""
        y = self.arrow(x, y, row)
        for name, layer in zip(chain.names, chain.layers, strict=True):
            after = None if row is None else shape_after(layer, row)
            width, height = _size_of(layer, self.box)
            if inner_chains(layer):
                self.paths(layer, row, within + name, x - width / 2, y)
            else:
                few = isinstance(layer, Layer) and layer.parameter_shapes()
                kind = (
                    "weights" if few else "activation" if isinstance(layer, Activation) else "other"
                )
                self.frame(x - width / 2, y, width, height, _FILL[kind])
                self.text(x, y - height / 2, _text(within + name, layer))
            on = bool(within) and name == chain.names[-1]  # to where the paths meet
            row, y = after, self.arrow(x, y - height, after, head=not on)
        return row

    def paths(self, layer: Any, row: Row, key: str, left: float, y: float) -> None:
        """Draw the paths of a layer made of layers side by side in a frame, and how they meet."""
        width, height = _size_of(layer, self.box)
        self.frame(left, y, width, height, "0.97", linestyle="--")
        self.text(left + 0.1, y - 0.14, _text(key, layer), ha="left")
        top, bottom = y - 0.24, y - height + 0.36
        x, meet, middle, ends = left + 0.2, bottom - 0.18, left + width / 2, list[float]()
        rows = layer._inner_rows(row) if isinstance(layer, Layer) else ()
        ways = [(*_size(inner, self.box), inner, its)
                for inner, its in zip(inner_chains(layer), rows, strict=True)]  # fmt: skip
        for wide, high, inner, its in ways:
            self.draw(inner, its, x + wide / 2, top, f"{key}.")
            ends.append(x + wide / 2)
            self.line(ends[-1], top - high, ends[-1], meet)
            x += wide + 0.2
        if _has_plain_path(layer):
            ends.append(x + 0.3)
            self.line(ends[-1], top, ends[-1], meet)
            self.text(ends[-1] + 0.06, (top + bottom) / 2, "x", ha="left")
        for high, at, to in ((top, y, top), (meet, meet, y - height)):
            self.line(min(ends), high, max(ends), high)
            self.line(middle, at, middle, to)
        if len(ends) > 1:
            sign = "+" if isinstance(layer, Residual) else "side by side"
            self.text(middle, meet, sign, bbox={"boxstyle": "round", "fc": "white", "ec": "0.3"})

    def arrow(self, x: float, y: float, row: Row, head: bool = True) -> float:
        """An arrow downwards with the shape of a row beside it; returns its end."""
        style = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
        if head:
            self.ax.annotate("", (x, y - _GAP), (x, y), arrowprops=style)
        else:
            self.line(x, y, x, y - _GAP)
        self.text(x + 0.08, y - _GAP / 2, "x".join(map(str, row or ())), ha="left")
        return y - _GAP

    def frame(self, x: float, y: float, width: float, height: float, fill: str, **how: Any) -> None:
        from matplotlib.patches import Rectangle

        self.ax.add_patch(Rectangle((x, y - height), width, height, fc=fill, ec="0.3", **how))

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.ax.plot([x0, x1], [y0, y1], color="0.3", linewidth=1)

    def text(self, x: float, y: float, text: str, ha: str = "center", **how: Any) -> None:
        self.ax.text(x, y, text, ha=ha, va="center", fontsize=9, **how)
