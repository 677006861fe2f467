"""Numbers about what goes on inside a network for some rows: how large its weights, activations and
gradients are, layer by layer, and which units never fire."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.layers import Block, Dropout, Linear, ParametricActivation
from fastnn.layers.activations import Activation
from fastnn.layers.chain import inner_chains
from fastnn.support import checks
from fastnn.support.settings import is_ours, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.layers.chain import Chain
    from fastnn.losses import Loss
    from fastnn.network import Network

_BINS, _MOST = 50, 1e300  # beyond that the width of a bin could overflow
DECADES = np.arange(-200, 101) / 10  # the edges of `magnitudes`, as powers of ten


class Statistics(NamedTuple):
    """What `inspect` says of the numbers of one array, in float64."""

    mean: float
    std: float  # the standard deviation
    norm: float  # the root of the sum of squares
    zeros: float  # the share of numbers that are 0
    not_finite: float  # the share that is NaN or infinite
    counts: NDArray[np.int64]  # (50,): the histogram of the finite ones between `edges`
    edges: NDArray[np.float64]  # (51,)
    magnitudes: NDArray[np.int64]  # (300,): how many finite |x| > 0 lie in each tenth of a decade
    # from 1e-20 to 1e10; the first and the last have those beyond, too


class Inspection(NamedTuple):
    """The result of `inspect`; printed, it is a table.

    Layers go by names such as "0" or, within another layer, "0.1", parameters by those of
    ``model.parameters``.
    """

    rows: int
    loss: float  # penalties included
    layers: dict[str, str]  # each layer as text
    activations: dict[str, Statistics]  # what each layer gives
    activation_gradients: dict[str, Statistics]  # the loss's gradient by that, where one came
    weights: dict[str, Statistics]  # each parameter
    gradients: dict[str, Statistics]  # and its gradient, that of the penalties included
    dead: dict[str, NDArray[np.bool_]]  # (units,), of layers with an activation: 0 for all rows

    @property
    def ratios(self) -> dict[str, float]:
        """‖gradient‖ / ‖parameter‖ for each parameter that is not all 0."""
        weights = {name: its.norm for name, its in self.weights.items() if its.norm}
        return {name: self.gradients[name].norm / norm for name, norm in weights.items()}

    def first_parameter(self, layer: str) -> str | None:
        """The name of a layer's first own parameter, its weight; None if it has none."""
        return next((name for name in self.weights if name.rpartition(".")[0] == layer), None)

    def __repr__(self) -> str:
        rows = [("", "layer", "mean", "std", "zeros", "dead", "|weight|", "|gradient|", "ratio")]
        ratios = self.ratios
        for key, its in self.activations.items():
            dead, weight = self.dead.get(key), self.first_parameter(key)
            rows.append((
                key, self.layers[key], f"{its.mean:.3g}", f"{its.std:.3g}", f"{its.zeros:.0%}",
                "" if dead is None else f"{dead.sum()} of {len(dead)}",
                *(("", "") if weight is None else (
                    f"{self.weights[weight].norm:.3g}", f"{self.gradients[weight].norm:.3g}")),
                f"{ratios[weight]:.2g}" if weight in ratios else "",
            ))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{'<' if i < 2 else '>'}{w}}" for i, (cell, w) in enumerate(cells))
            for cells in (zip(row, widths, strict=True) for row in rows)
        ]
        return "\n".join([*lines, f"loss {self.loss:.4g} over {self.rows} rows"])


def inspect(
    model: Network,
    X: ArrayLike,
    y: ArrayLike,
    loss: Loss,
    sample_weight: ArrayLike | None = None,
) -> Inspection:
    """How large weights, activations and gradients are in each layer, and which units are dead.

    `X`, `y` and `sample_weight` are one batch for one training pass, forward and backward, so some
    hundred rows are enough; their shapes are those of `fit`.  Batch norm takes the rows' own
    statistics, but dropout drops nothing.  A copy does it: the model does not change.

    The table has a line for each layer: mean, standard deviation and share of zeros of what it
    gives, how many of its units are dead, the norms of its weight and of the weight's gradient, and
    their ratio.  A unit, a column or channel of a layer with an activation, is dead if it gives 0
    for all rows: then no gradient reaches its weights.  Where the norms shrink or grow from layer
    to layer, gradients vanish or explode; `fastnn.plot.histograms` shows it.

    Raises as `forward` in training and the loss do.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(
    ...     fastnn.Dense(64, 32, activation="relu"), fastnn.Dense(32, 10), seed=0
    ... )
    >>> found = fastnn.inspect(model, X[:256], y[:256], fastnn.SoftmaxCrossEntropy())
    >>> found
       layer                               mean    std  zeros     dead  |weight|  |gradient|  ratio
    0  Dense(64, 32, activation='relu')   0.184  0.297    58%  3 of 32      8.01       0.466  0.058
    1  Dense(32, 10)                     0.0468  0.364     0%               3.24       0.344   0.11
    loss 2.377 over 256 rows
    >>> round(found.activations["0"].std, 3), np.flatnonzero(found.dead["0"]).size
    (0.297, 3)
    """
    checks.objects(model=model, loss=loss)
    texts = {key: _text(layer) for key, layer, _ in _named(model._chain)}
    model = copy.deepcopy(model)
    for layer, _ in model._chain.walk():
        if isinstance(layer, Dropout):
            layer.rate = 0.0
    layers = {key: layer for key, layer, _ in _named(model._chain)}
    activations, passed = dict[str, Statistics](), dict[str, Statistics]()
    dead: dict[str, NDArray[np.bool_]] = {}

    def saw(key: str, y: NDArray[Any]) -> None:
        activations[key] = statistics(y)
        if _fires(layers[key]):
            dead[key] = (y.reshape(-1, y.shape[-1]) == 0).all(axis=0)

    def got(key: str, dy: NDArray[Any]) -> None:
        passed[key] = statistics(dy)

    for key, _, run in _named(model._chain):  # whatever is around a layer calls these
        vars(run)["forward"] = partial(_forward, partial(saw, key), run.forward)
        for name in ("backward", "backward_parameters"):
            vars(run)[name] = partial(_backward, partial(got, key), getattr(run, name))
    outputs = model.forward(X, training=True)
    value, gradient = loss(outputs, y, sample_weight)
    model.backward(gradient, input_gradient=not model._chain.takes_codes)
    weights, gradients = (
        {name: statistics(array) for name, array in named.items()}
        for named in (model.parameters, model.gradients)
    )
    return Inspection(
        len(outputs), float(value) + model.penalty(len(outputs)),
        texts,
        {key: activations[key] for key in layers},
        {key: passed[key] for key in layers if key in passed},
        weights, gradients, {key: dead[key] for key in layers if key in dead},
    )  # fmt: skip


def statistics(x: NDArray[Any]) -> Statistics:
    """The statistics of all numbers of an array."""
    x = np.asarray(x, np.float64).ravel()
    finite = x[np.isfinite(x)]
    size = np.abs(finite[finite != 0])
    decades = np.clip(np.log10(size), DECADES[0], DECADES[-1])
    counts, edges = histogram(finite, _BINS)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, std, norm = float(x.mean()), float(x.std()), float(np.sqrt((x * x).sum()))
    zeros, odd = float((x == 0).mean()), 1 - len(finite) / len(x)
    magnitudes = np.histogram(decades, DECADES)[0]
    return Statistics(mean, std, norm, zeros, odd, counts, edges, magnitudes)


def histogram(x: NDArray[Any], bins: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts (bins,) and edges (bins + 1,) of the finite numbers, however near or far they are."""
    finite = np.asarray(x, np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    return np.histogram(np.clip(finite, -_MOST, _MOST), bins, _range(finite))


def _range(finite: NDArray[np.float64]) -> tuple[float, float]:
    """Where a histogram begins and ends: wide enough for bins of numbers that are nearly equal."""
    if not finite.size:
        return 0.0, 1.0
    low, high = max(float(finite.min()), -_MOST), min(float(finite.max()), _MOST)
    most = max(abs(low), abs(high))
    if high - low > max(1e-9 * most, 1e-290):
        return low, high
    room = 1e-6 * most if most > 1e-280 else 0.5
    return low - room, high + room


def _named(chain: Chain, within: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, layer, what runs it) for all layers but blocks, which only hand on."""
    for name, layer, run in zip(chain.names, chain.layers, chain.path, strict=True):
        if type(layer) is not Block:
            yield within + name, layer, run
        for inner in inner_chains(layer):
            yield from _named(inner, f"{within}{name}.")


def _fires(layer: Any) -> bool:
    """Whether a layer ends in an activation, or is the user's own, so that units may be dead."""
    f = getattr(layer, "activation", layer)
    if isinstance(f, Activation):
        return not isinstance(f, Linear)
    return isinstance(layer, ParametricActivation) or not is_ours(type(layer))


def _text(layer: Any) -> str:
    return type(layer).__name__ if inner_chains(layer) else label(layer)


def _forward(
    saw: Callable[[Any], None], run: Callable[..., Any], x: Any, training: bool = False
) -> Any:
    y = run(x, training)
    saw(y)
    return y


def _backward(got: Callable[[Any], None], run: Callable[[Any], Any], dy: Any) -> Any:
    got(dy)
    return run(dy)
