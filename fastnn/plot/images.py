"""Pictures made of images: filters, feature maps, the examples that were most wrongly read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import metrics
from fastnn.layers import Conv1D, Conv2D, Dense
from fastnn.plot import figures
from fastnn.plot.answers import _probabilities
from fastnn.support import arrays, checks
from fastnn.support.settings import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network


def filters(
    model: Network,
    layer: int | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    ax: Any = None,
) -> Any:
    """The weights of a layer as images: what each unit or channel looks for.

    `layer` is its number, by default that of the first dense or convolutional one.  Filters of 3
    channels are drawn in colour, each from its smallest weight, black, to its largest; others are
    dark and blue where they are negative, grey at 0, bright and yellow where they are positive, and
    of several channels each has an image, from left to right.  Those of a 1D convolution have a row
    for each channel.  A dense layer needs the `shape` of the image that it sees, (height, width) or
    (height, width, channels).  Returns the Axes.  Raises ValueError for a layer without such
    weights, and another shape.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Conv2D(1, 8, 3), fastnn.ReLU(), fastnn.Flatten())
    >>> len(fastnn.plot.filters(model).images)
    8
    """
    checks.objects(model=model)
    kinds = (Dense, Conv1D, Conv2D)
    if layer is None:
        layer = next((i for i, each in enumerate(model.layers) if isinstance(each, kinds)), 0)
    its = model[layer]
    if not isinstance(its, kinds):
        raise ValueError(
            f"layer: expected the number of a dense or convolutional layer, got {label(its)}"
        )
    weight = np.asarray(its.weight, np.float64)
    if isinstance(its, Dense):
        weight = _as_images(weight.T, shape, "weight").transpose(1, 2, 3, 0)
    elif isinstance(its, Conv1D):
        weight = weight.reshape(-1, *weight.shape[-2:]).transpose(1, 0, 2)[:, :, None]
    channels, n = weight.shape[2:]
    columns = math.ceil(math.sqrt(n * 1.6))
    if channels == 3:
        low, high = weight.min(axis=(0, 1, 2)), weight.max(axis=(0, 1, 2))
        weight = (weight - low) / np.where(high > low, high - low, 1.0)
        images, how = [weight[..., i] for i in range(n)], dict[str, Any]()
    else:
        most = float(np.abs(weight).max()) or 1.0
        images = [weight[:, :, c, i] for i in range(n) for c in range(channels)]
        how = {"cmap": figures.signs(), "vmin": -most, "vmax": most}
        columns = columns if channels == 1 else channels
    ax = _axes(ax, images, columns, 0.7)
    drawn = figures.tiles(ax, images, columns, **how)
    if how:
        ax.figure.colorbar(drawn, ax=ax, label="weight", shrink=0.8, aspect=25, pad=0.02)
    ax.set_title(f"{n} filters of layer {layer % len(model)}", fontsize=10)
    return ax


def feature_maps(
    model: Network, image: ArrayLike, layer: int | None = None, *, ax: Any = None
) -> Any:
    """What the channels after a layer show of one image, each on a scale of its own, from the
    smallest value, dark, to the largest, bright; both stand above it.

    Shapes: `image` (height, width, channels), as a row of `X`.  `layer` is the layer's number, by
    default that of the first one that gives an image.  Returns the Axes.  Raises ValueError for
    another shape, and where the layer gives no image.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Conv2D(1, 6, 3), fastnn.ReLU(), fastnn.Flatten())
    >>> ax = fastnn.plot.feature_maps(model, np.ones((8, 8, 1)), layer=1)
    >>> len(ax.images), ax.images[0].get_array().shape
    (6, (6, 6))
    """
    checks.objects(model=model)
    row = arrays.numeric_array(image, "image")[None]
    n = len(model)
    tried = range(n) if layer is None else [checks.whole(layer, "layer", -n, n - 1) % n]
    maps, number = row, 0
    for number in tried:
        maps = model[: number + 1].predict(row)
        if maps.ndim == 4:
            break
    if maps.ndim != 4:
        what = "a layer that gives an image" if layer is not None else "one with such layers"
        raise ValueError(f"{'model' if layer is None else 'layer'}: expected {what}, got none")
    images = [maps[0, :, :, i] for i in range(maps.shape[3])]
    columns = math.ceil(math.sqrt(len(images) * 1.6))
    ends = [f"{image.min():.2g} to {image.max():.2g}" for image in images]
    ax = _axes(ax, images, columns, 1.1, lines=1)
    figures.tiles(ax, images, columns, ends, cmap="viridis")
    ax.set_title(f"after layer {number} ({type(model.layers[number]).__name__})", fontsize=10)
    return ax


def worst_examples(
    outputs: ArrayLike,
    targets: ArrayLike,
    X: ArrayLike,
    *,
    n: int = 12,
    shape: tuple[int, ...] | None = None,
    classes: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """The images whose wrong answers cost most: those that give their class the least probability.

    Above each stand the number of its row, its class and the answer, each with the probability that
    the model gave it.
    Shapes: outputs and targets as in `fastnn.metrics.accuracy`; `X` (rows, height, width, 1 or 3),
    or of another shape, where `shape` is that of an image.  At most `n` are drawn, and none where
    all answers are right.  Returns the Axes.  Raises ValueError for shapes that do not fit.

    >>> import fastnn
    >>> images = np.zeros((3, 8, 8, 1))
    >>> ax = fastnn.plot.worst_examples([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0]], [0, 0, 0], images)
    >>> print(ax.texts[0].get_text())
    row 1: 0 (4.7%)
    read as 1 (95.3%)
    """
    n, (p, yes) = checks.positive_int(n, "n"), _probabilities(outputs, targets)
    images = arrays.numeric_array(X, "X")
    arrays.same_length(outputs=p, X=images)
    images = _as_images(images, shape, "X")
    logits = np.asarray(outputs)
    names, answer, true = figures.class_names(classes, p.shape[1]), p.argmax(1), yes.argmax(1)
    wrong = np.flatnonzero(answer != true)
    loss = np.array([metrics.log_loss(logits[[i]], true[[i]]) for i in wrong])
    rows = wrong[np.argsort(-loss, kind="stable")][:n]
    titles = [
        f"row {i}: {names[true[i]]} ({p[i, true[i]]:.1%})\n"
        f"read as {names[answer[i]]} ({p[i, answer[i]]:.1%})"
        for i in rows
    ]
    columns = math.ceil(math.sqrt(max(1, len(rows)) * 1.4))
    pictures = [images[i] if images.shape[3] == 3 else images[i, :, :, 0] for i in rows]
    ax = _axes(ax, pictures or [images[0, :, :, 0]], columns, 1.45, lines=2)
    if pictures:
        figures.tiles(ax, pictures, columns, titles, cmap="gray")
    ax.set_axis_off()
    ax.set_title(f"{len(wrong)} of {len(p)} are read wrongly", fontsize=10)
    return ax


def _as_images(X: NDArray[Any], shape: tuple[int, ...] | None, name: str) -> NDArray[Any]:
    """Rows as (rows, height, width, channels)."""
    row = X.shape[1:] if shape is None else checks.shape(shape, "shape")
    if len(row) == 2:
        row = (*row, 1)
    if len(row) != 3 or math.prod(row) != math.prod(X.shape[1:]):
        wanted = "(height, width) or (height, width, channels) of the image"
        raise ValueError(f"shape: expected {wanted} that {name} of {X.shape[1:]} is, got {shape}")
    return X.reshape(-1, *row)


def _axes(
    ax: Any, images: Sequence[NDArray[Any]], columns: int, width: float, lines: int = 0
) -> Any:
    """The Axes for images of so many inches, with lines of text above each."""
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width = min(width, 12 / columns, 12 / rows)
    height = width * images[0].shape[0] / images[0].shape[1] + 0.16 * lines
    return figures.one(ax, 1.2 + 1.1 * width * columns, 0.6 + 1.1 * height * rows)
