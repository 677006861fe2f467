"""What all pictures promise: where they draw, that nothing else changes, what is imported when."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import fastnn
from fastnn import Conv2D, Dense, Flatten, ReLU, Sequential
from paths import PACKAGE

X, Y = (part[:60] for part in fastnn.datasets.digits())
IMAGES = X.reshape(-1, 8, 8, 1)
LOSS = fastnn.SoftmaxCrossEntropy()
MODEL = Sequential(Conv2D(1, 4, 3), ReLU(), Flatten(), Dense(144, 10), seed=0)
FLAT = Sequential(Dense(2, 3), seed=0)
OUTPUTS = MODEL.predict(IMAGES)

PICTURES = {  # how each is called, and how many Axes it has
    "activations": (lambda plot, ax: plot("relu", "gelu", ax=ax), 2),
    "calibration_curve": (lambda plot, ax: plot(OUTPUTS, Y, ax=ax), 1),
    "confusion_matrix": (lambda plot, ax: plot(OUTPUTS, Y, ax=ax), 1),
    "dead_units": (lambda plot, ax: plot(fastnn.inspect(MODEL, IMAGES, Y, LOSS), ax=ax), 1),
    "decision_boundary": (lambda plot, ax: plot(FLAT, X[:, 2:4], Y % 3, resolution=9, ax=ax), 1),
    "feature_maps": (lambda plot, ax: plot(MODEL, IMAGES[0], ax=ax), 1),
    "filters": (lambda plot, ax: plot(MODEL, ax=ax), 1),
    "histograms": (lambda plot, ax: plot(fastnn.inspect(MODEL, IMAGES, Y, LOSS), ax=ax), 3),
    "learning_curves": (lambda plot, ax: plot({"loss": [1.0], "accuracy": [0.5]}, ax=ax), 2),
    "learning_rate_range": (lambda plot, ax: plot(
        fastnn.learning_rate_range(MODEL, IMAGES, Y, LOSS, steps=20), ax=ax), 1),
    "network": (lambda plot, ax: plot(MODEL, (8, 8, 1), ax=ax), 1),
    "roc_curve": (lambda plot, ax: plot(OUTPUTS, Y, ax=ax), 1),
    "worst_examples": (lambda plot, ax: plot(OUTPUTS, Y, IMAGES, ax=ax), 1),
}  # fmt: skip


def test_every_picture_is_here():
    assert sorted(PICTURES) == fastnn.plot.__all__


@pytest.mark.parametrize("name", PICTURES)
def test_given_axes_are_drawn_in_and_nothing_else_changes(name):
    draw, n = PICTURES[name]
    settings, figure = dict(matplotlib.rcParams), Figure()
    (other, *axes), mine = figure.subplots(n + 1, squeeze=False).ravel(), plt.figure()
    result = draw(getattr(fastnn.plot, name), axes if n > 1 else axes[0])
    assert list(np.ravel(result)) == axes and not other.has_data() and not mine.axes
    assert all(ax.has_data() or ax.images for ax in axes)
    assert plt.get_fignums() == [mine.number] and dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("name", PICTURES)
def test_without_axes_there_is_a_new_figure_that_pyplot_shows(name, tmp_path):
    draw, n = PICTURES[name]
    old = plt.figure()
    axes = np.ravel(draw(getattr(fastnn.plot, name), None))
    assert len(axes) == n and not old.axes
    (number,) = set(plt.get_fignums()) - {old.number}
    assert plt.figure(number) is axes[0].figure
    axes[0].figure.savefig(tmp_path / "picture.png")


@pytest.mark.parametrize("name", PICTURES)
def test_wrong_axes_are_refused(name):
    draw, n = PICTURES[name]
    with pytest.raises(ValueError, match=f"ax: expected {n} Axes for this picture, got {n + 1}"):
        draw(getattr(fastnn.plot, name), Figure().subplots(1, n + 1))
    with pytest.raises(TypeError, match="ax: expected matplotlib's Axes, got 7"):
        draw(getattr(fastnn.plot, name), [7] * n)
    assert plt.get_fignums() == []


def test_matplotlib_is_imported_by_the_first_picture_and_named_where_it_is_missing():
    program = (
        "import sys, fastnn\n"
        "later = {'fastnn.plot', 'fastnn.looking.inspection', 'fastnn.looking.range_test'}\n"
        "assert not later & sys.modules.keys()\n"
        "fastnn.plot, fastnn.inspect, fastnn.learning_rate_range\n"
        "assert later < sys.modules.keys()\n"
        "assert not any(name.startswith('matplotlib') for name in sys.modules)\n"
        "sys.modules['matplotlib.pyplot'] = None\n"
        "try: fastnn.plot.activations('relu')\n"
        "except ImportError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, timeout=60, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert result.stdout == "fastnn.plot needs matplotlib: pip install matplotlib\n"


def test_class_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="classes: expected 10 names, got 2"):
        fastnn.plot.confusion_matrix(OUTPUTS, Y, classes=["no", "yes"])


def test_class_names_are_no_formulas(tmp_path):
    ax = fastnn.plot.confusion_matrix([1.0, -2.0], [1, 0], classes=["$^$", "$"])
    ax.figure.savefig(tmp_path / "matrix.png")  # where a formula would be read
    assert [label.get_text() for label in ax.get_xticklabels()] == [r"\$^\$", r"\$"]
