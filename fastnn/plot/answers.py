"""Pictures of a classifier's answers: confusion, ROC, calibration, boundary in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import metrics
from fastnn.plot import figures
from fastnn.plot.figures import BLUE, COLORS, GREY, LINES, MARKERS
from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network


def confusion_matrix(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    classes: Sequence[Any] | None = None,
    normalize: bool = False,
    ax: Any = None,
) -> Any:
    """How many rows of each true class, from top to bottom, got each answer, from left to right.

    Shapes: as in `fastnn.metrics.confusion_matrix`, which counts.  `classes` are names.  Colours
    are shares of the row; with `normalize` the numbers are these too, in per cent.  The accuracy is
    the title.  Returns the Axes.  Raises as the metric does, and ValueError for NaN in the outputs
    and for another number of names.

    >>> import fastnn
    >>> ax = fastnn.plot.confusion_matrix([1.0, -2.0, 0.5], [1, 0, 0], classes=["no", "yes"])
    >>> [text.get_text() for text in ax.texts]
    ['1', '1', '0', '1']
    """
    matrix = _without_nan(outputs, metrics.confusion_matrix(outputs, targets))
    names = figures.class_names(classes, len(matrix))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    longest, size = max(map(len, names)), max(1.8, 0.45 * len(matrix))  # inches
    turned = longest > 3
    height = 0.9 + size + 0.06 * longest * turned
    ax = figures.one(ax, 0.8 + size + 0.08 * longest, height)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), part in np.ndenumerate(share):
        text = f"{100 * part:.1f}" if normalize else str(matrix[i, j])
        color = "white" if part > 0.5 else "black" if matrix[i, j] else GREY
        ax.text(j, i, text, ha="center", va="center", fontsize=9, color=color)
    how = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    ax.set_xticks(range(len(names)), names, **how)
    ax.set_yticks(range(len(names)), names)
    unit = ", % of each true class" if normalize else ""
    ax.set(xlabel=f"answer{unit}", ylabel="true class")
    ax.set_title(f"accuracy {np.trace(matrix) / matrix.sum():.1%}")
    return ax


def roc_curve(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    classes: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """The receiver operating characteristic: right yes by wrong yes, for every threshold.

    For one column it is that of yes, for two classes that of the second; for more there is a curve
    for each class against the rest, by p = softmax(outputs).  The area is `fastnn.metrics.auc`.
    Shapes: as there.  Returns the Axes.  Raises as the metric does, and ValueError for NaN in the
    outputs and where all rows belong to one class.

    >>> import fastnn
    >>> ax = fastnn.plot.roc_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    >>> ax.lines[0].get_label()
    'AUC 0.750'
    """
    p, yes = _probabilities(outputs, targets)
    names = figures.class_names(classes, p.shape[1])
    columns = range(p.shape[1]) if p.shape[1] > 2 else [1]
    columns = [j for j in columns if 0 < yes[:, j].sum() < len(yes)]
    if not columns:
        raise ValueError("targets: expected rows of two classes at least, got one")
    ax = figures.one(ax, 5.4 if len(columns) < 9 else 6.6, 5.0)
    for i, j in enumerate(columns):
        area = metrics.auc(p[:, j], yes[:, j])
        text = f"AUC {area:.3f}" if len(columns) == 1 else f"{names[j]}: {area:.3f}"
        # the largest scores first; a curve has a point where the next score is another
        order = np.argsort(-p[:, j], kind="stable")
        ends = np.append(np.flatnonzero(np.diff(p[order, j])), len(order) - 1)
        hits = np.cumsum(yes[order, j])[ends]
        misses = ends + 1 - hits
        x, y = (np.append(0, counts) / counts[-1] for counts in (misses, hits))
        color, style = COLORS[i % len(COLORS)], LINES[i // len(COLORS) % len(LINES)]
        points = {"marker": MARKERS[i % len(MARKERS)], "markevery": (0.013 * i, 0.13)}
        how = points if len(columns) > 1 else {}
        ax.plot(x, y, style, color=color, label=text, zorder=2, **how)
    ax.plot([0, 1], [0, 1], "-", color="0.75", linewidth=1, zorder=1, label="chance")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    figures.plain(ax)
    title = "AUC" if len(columns) > 1 else None
    ax.legend(title=title, loc="lower right")
    return ax


def calibration_curve(
    outputs: ArrayLike, targets: ArrayLike, *, bins: int = 10, ax: Any = None
) -> Any:
    """How often a probability of so much is right: on the diagonal, p means p.

    Of one column, or of two classes, it is the probability of yes, or of the second class, and how
    often it occurs; of more classes that of the answer, and how often this is right (a reliability
    diagram: C. Guo et al., 2017).  The points are means over `bins` bins of equal width; grey bars
    show the share of rows in each.  The title has the expected calibration error, the mean
    distance from the diagonal.  Shapes: as in `fastnn.metrics.accuracy`.  Returns the Axes.

    >>> import fastnn
    >>> ax = fastnn.plot.calibration_curve([0.0, 0.0, 0.0, 0.0], [1, 0, 0, 1])
    >>> ax.lines[1].get_xydata()
    array([[0.5, 0.5]])
    """
    bins = checks.positive_int(bins, "bins")
    p, yes = _probabilities(outputs, targets)
    two = p.shape[1] == 2
    column = np.ones(len(p), int) if two else p.argmax(axis=1)
    p, hit = p[np.arange(len(p)), column], yes[np.arange(len(p)), column]
    place = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    x, y = (np.bincount(place, values, bins)[used] / counts[used] for values in (p, hit))
    share = counts / counts.sum()
    error = float((share[used] * np.abs(x - y)).sum())
    ax = figures.one(ax, 5.4, 5.0)
    middle = (np.arange(bins) + 0.5) / bins
    ax.bar(middle, share, 0.9 / bins, color="0.85", label="share of the rows")
    ax.plot([0, 1], [0, 1], "--", color=GREY, label="perfect")
    ax.plot(x, y, "o-", color=BLUE, label="model")
    ax.set_title(f"expected calibration error {error:.3f}")
    what = ("probability of yes", "share of yes") if two else ("confidence", "accuracy")
    ax.set(xlabel=what[0], ylabel=what[1], xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    figures.plain(ax)
    ax.legend(loc="best")
    return ax


def decision_boundary(
    model: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    classes: Sequence[Any] | None = None,
    resolution: int = 200,
    ax: Any = None,
) -> Any:
    """What a classifier of two features answers everywhere around the rows, and the rows.

    The paler a region, the less sure is its answer; black lines are where two classes are equally
    probable.  Shapes: `X` (n, 2) as the model takes it, `y` as in `fastnn.metrics.accuracy`;
    `resolution` is the number of points across.  Returns the Axes.  Raises ValueError for other
    shapes, and as `predict` does.

    >>> import fastnn
    >>> X, y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), [0, 1, 1, 0]
    >>> model = fastnn.Sequential(fastnn.Dense(2, 8, activation="tanh"), fastnn.Dense(8, 2))
    >>> ax = fastnn.plot.decision_boundary(model, X, y, classes=["even", "odd"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['even', 'odd']
    """
    checks.objects(model=model)
    points = arrays.numeric_array(X, "X").astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"X: expected two features, shape (n, 2), got {points.shape}")
    resolution = checks.whole(resolution, "resolution", 2)
    _, yes = _probabilities(model.predict(points), y)
    label = yes.argmax(axis=1)
    names = figures.class_names(classes, yes.shape[1])
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.08 * np.where(high > low, high - low, 1.0)
    ends = np.stack([low - room, high + room])
    across, up = np.linspace(ends[0], ends[1], resolution).T
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    outputs = model.predict(grid)
    p = _probabilities(outputs, np.zeros(len(grid), int))[0].reshape(resolution, resolution, -1)
    colors = np.array([_rgb(COLORS[j % len(COLORS)]) for j in range(p.shape[2])])
    sure = p - (1 - p) / max(1, p.shape[2] - 1)  # 0 where all are alike, 1 for certainty
    ax = figures.one(ax, 5.6, 4.6)
    tint = 1 - 0.45 * np.clip(sure, 0, 1) @ (1 - colors)
    extent = (ends[0, 0], ends[1, 0], ends[0, 1], ends[1, 1])
    ax.imshow(tint, extent=extent, origin="lower", aspect="auto", interpolation="bilinear")
    for j in range(p.shape[2] - (p.shape[2] == 2)):
        lead = p[:, :, j] - np.delete(p, j, axis=2).max(axis=2)
        if lead.min() < 0 < lead.max():
            ax.contour(across, up, lead, levels=[0.0], colors="black", linewidths=1.2)
    for j in np.unique(label):
        its = points[label == j]
        marker = MARKERS[j % len(MARKERS)]
        how = {"edgecolors": "black", "linewidths": 0.5, "label": names[j], "s": 32}
        ax.scatter(its[:, 0], its[:, 1], color=COLORS[j % len(COLORS)], marker=marker, **how)
    ax.set_title("the paler the shade, the less sure the answer", fontsize=10)
    ax.set(xlabel="feature 0", ylabel="feature 1", xlim=extent[:2], ylim=extent[2:])
    ax.legend(title="class", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax


def _probabilities(
    outputs: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of each class, by softmax, or of a single column by sigmoid, and whether it
    is the row's: both (rows, classes)."""
    o, t, _ = metrics._rows(outputs, targets)
    if o.shape[1] == 1:
        o, t = np.concatenate([np.zeros_like(o), o], axis=1), metrics._yes(o, t)[:, 0].astype(int)
    p = _without_nan(o, metrics._softmax(o))
    return p, metrics._labels(o, t)[:, None] == np.arange(o.shape[1])


def _without_nan(outputs: ArrayLike, result: NDArray[Any]) -> NDArray[Any]:
    if np.isnan(result).any():
        raise ValueError("outputs: expected numbers, got NaN")
    return result


def _rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
