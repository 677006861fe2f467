"""Pictures of what is inside a network: activation functions, histograms by layer, dead units."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.layers.activations import ACTIVATIONS, Activation, resolve
from fastnn.looking.inspection import DECADES
from fastnn.plot import figures
from fastnn.plot.figures import BLUE, GREEN, VERMILLION
from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.looking.inspection import Inspection, Statistics


def activations(
    *functions: str | Activation, low: float = -4.0, high: float = 4.0, ax: Any = None
) -> NDArray[np.object_]:
    """Activation functions and their derivatives from `low` to `high`, each in a panel of its own.

    `functions` are names or layers, such as ``"relu", fastnn.ELU(0.5)``; without any it is all of
    fastnn's but softmax, which is not elementwise.  Both curves are what the kernels compute.

    Returns an array of Axes, (functions,).  Raises as layers do for an unknown `activation`, and
    ValueError for softmax and unless low < high.

    >>> import fastnn
    >>> (ax,) = fastnn.plot.activations("tanh")
    >>> value, derivative = ax.lines[:2]
    >>> float(derivative.get_ydata().max())
    1.0
    """
    names = [name for name in ACTIVATIONS if name not in ("linear", "softmax")]
    layers = [resolve(function, "functions") for function in functions or names]
    low, high = checks.finite(low, "low"), checks.finite(high, "high")
    if not low < high:
        raise ValueError(f"high: expected more than low, {low!r}, got {high!r}")
    x = np.linspace(low, high, 401)
    all_axes = figures.axes(ax, (3.0, 2.5), len(layers), columns=4)
    for i, (each, layer) in enumerate(zip(all_axes, layers, strict=True)):
        if layer.activation_name == "softmax":
            raise ValueError("functions: expected elementwise ones, got softmax")
        y, pull = layer._vjp(x[:, None])
        each.plot(x, y[:, 0], "-", color=BLUE, linewidth=2, label="f(x)")
        each.plot(x, pull(np.ones((len(x), 1)))[:, 0], "--", color=VERMILLION, label="f'(x)")
        each.axhline(0, color="0.6", linewidth=0.8, zorder=1)
        each.axvline(0, color="0.6", linewidth=0.8, zorder=1)
        each.set(title=repr(layer), xlabel="x")
        figures.plain(each)
        if i == 0:
            each.legend()
    return all_axes


def histograms(
    inspection: Inspection, *, scale: str = "log", ax: Any = None
) -> NDArray[np.object_]:
    """Histograms of weights, activations and gradients, one above the other, layer by layer.

    With `scale` "log" they are of |x| in tenths of decades, so that what vanishes from layer to
    layer moves left and what explodes moves right.  Zeros have no place there: the share of
    activations that are 0 stands at the right where it is 1 % or more, and so do weights or
    gradients of which all are 0.  With "linear" they are of x itself.  Each has its own height.
    `inspection` is what `fastnn.inspect` returns; weights are each layer's first parameter,
    gradients those of the loss by it, activations what the layer gives.

    Returns an array of 3 Axes.  Raises ValueError for another scale or number of Axes.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 32, activation="relu"), fastnn.Dense(32, 10))
    >>> found = fastnn.inspect(model, X, y, fastnn.SoftmaxCrossEntropy())
    >>> [ax.get_title() for ax in fastnn.plot.histograms(found)]
    ['weights', 'activations', 'gradients of the weights']
    """
    log = checks.choice(scale, "scale", ("log", "linear")) == "log"
    layers = inspection.layers
    own = {key: inspection.first_parameter(key) for key in layers}
    weights, gradients = (
        {key: named[name] for key, name in own.items() if name}
        for named in (inspection.weights, inspection.gradients)
    )
    panels = (
        ("weights", weights, BLUE),
        ("activations", inspection.activations, VERMILLION),
        ("gradients of the weights", gradients, GREEN),
    )
    names = [textwrap.fill(f"{key}  {text}", 44) for key, text in layers.items()]
    lines = max(name.count("\n") + 1 for name in names)
    size = 4.4, 1.2 + max(0.45, 0.15 + 0.18 * lines) * len(layers)
    all_axes = figures.axes(ax, size, 3, columns=3)
    for i, (each, (title, named, color)) in enumerate(zip(all_axes, panels, strict=True)):
        for row, key in enumerate(layers):
            if key in named:
                _ridge(each, named[key], row, color, log, 0.01 if i == 1 else 1)
        each.set_yticks(range(len(layers)), names if i == 0 else [""] * len(layers))
        each.set(title=title, ylim=(len(layers) - 0.9, -1.0), xlabel="|x|" if log else "x")
        if log:
            each.set_xscale("log")
            each.xaxis.get_major_locator().set_params(numticks=5)
            each.minorticks_off()
            low, high = np.log10(each.get_xlim())
            if np.floor(high) - np.ceil(low) < 1:  # not yet two powers of ten
                each.set_xlim(10 ** (np.floor(low) - 0.1), 10 ** (np.ceil(high) + 0.1))
        figures.plain(each)
    return all_axes


def _ridge(ax: Any, its: Statistics, row: int, color: str, log: bool, told: float) -> None:
    """One histogram that stands on the line of its row; a share of zeros is told from that on."""
    counts, edges = (its.magnitudes, 10.0**DECADES) if log else (its.counts, its.edges)
    used = np.flatnonzero(counts >= 0.005 * max(1, counts.max()))  # what is high enough to be seen
    if len(used):
        counts, edges = counts[used[0] : used[-1] + 1], edges[used[0] : used[-1] + 2]
        heights = row - 0.85 * counts / counts.max()  # the axis points down
        ax.stairs(heights, edges, baseline=row, fill=True, color=color, alpha=0.75, linewidth=1)
    notes = [f"{its.zeros:.0%} are 0"] if log and its.zeros >= told else []
    notes += [f"{its.not_finite:.1%} not finite"] if its.not_finite else []
    if notes:
        place = {"transform": ax.get_yaxis_transform(), "va": "bottom", "fontsize": 8}
        ax.text(1.01, row, "\n".join(notes), **place)


def dead_units(inspection: Inspection, *, ax: Any = None) -> Any:
    """How many of each layer's units give 0 for all rows of an inspection, in per cent.

    Layers without an activation are left out.  Returns the Axes.  Raises ValueError where no layer
    has one.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 32, activation="relu"), fastnn.Dense(32, 10))
    >>> found = fastnn.inspect(model, X, y, fastnn.SoftmaxCrossEntropy())
    >>> [float(bar.get_width()) for bar in fastnn.plot.dead_units(found).patches]  # of 32, 2
    [6.25]
    """
    dead = inspection.dead
    if not dead:
        raise ValueError("inspection: expected a model with activations, got none")
    ax = figures.one(ax, 6.5, 1.2 + 0.4 * len(dead))
    names = [f"{key}  {inspection.layers[key]}" for key in dead]
    bars = ax.barh(names, [100 * float(its.mean()) for its in dead.values()], color=VERMILLION)
    texts = [f"{int(its.sum())} of {len(its)}" for its in dead.values()]
    ax.bar_label(bars, texts, padding=4)
    ax.set(xlabel=f"units that are 0 for all {inspection.rows} rows (%)", xlim=(0, 115))
    ax.set_xticks(range(0, 101, 20))
    ax.invert_yaxis()
    figures.plain(ax)
    ax.grid(visible=False, axis="y")
    return ax
