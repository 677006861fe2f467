"""Pictures of networks, of their training and of their answers, drawn with matplotlib.

    learning_curves(history)               what `fit` measured, epoch by epoch
    learning_rate_range(found)             what `fastnn.learning_rate_range` found
    activations("relu", "gelu")            functions, each with its derivative
    network(model, shape)                  the layers and the shapes between them
    histograms(inspection), dead_units(inspection)     what `fastnn.inspect` found
    confusion_matrix(outputs, targets), roc_curve(...), calibration_curve(...)
    worst_examples(outputs, targets, X)    the images that were most wrongly read
    decision_boundary(model, X, y)         of two features
    filters(model), feature_maps(model, image)

Outputs come first, as in `fastnn.metrics`: logits, as ``model.predict(X)`` gives them, with one
column for two classes or a column for each.

Each function returns the `Axes` that it drew in, or an array of them where a picture has several,
and takes such in `ax`: then nothing but these changes, and nothing else of matplotlib ever does.
Without `ax` it makes a new figure with `matplotlib.pyplot`, as scikit-learn's displays do: a
notebook shows it, ``plt.show()`` opens its window, ``ax.figure.savefig("curve.png")`` writes it.
Colours are those of M. Okabe and K. Ito, which the colour-blind can tell apart, or maps of even
lightness; lines and points differ in style too, so that pictures survive a printer without colours.

matplotlib is imported by the first picture: pip install matplotlib.
"""

from fastnn.plot.answers import calibration_curve, confusion_matrix, decision_boundary, roc_curve
from fastnn.plot.drawing import network
from fastnn.plot.images import feature_maps, filters, worst_examples
from fastnn.plot.inside import activations, dead_units, histograms
from fastnn.plot.training import learning_curves, learning_rate_range

__all__ = [
    "activations",
    "calibration_curve",
    "confusion_matrix",
    "dead_units",
    "decision_boundary",
    "feature_maps",
    "filters",
    "histograms",
    "learning_curves",
    "learning_rate_range",
    "network",
    "roc_curve",
    "worst_examples",
]

for _name in __all__:  # tracebacks and help shall show the public path
    globals()[_name].__module__ = __name__
del _name
