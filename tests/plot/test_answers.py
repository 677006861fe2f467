"""Pictures of answers: their numbers against counting by hand and against scikit-learn."""

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import fastnn
from fastnn import Dense, Sequential

OUTPUTS = [[2.0, 0, 0], [0, 3, 1], [0, 0, 1], [1, 0, 0], [0, 0, 5], [0, 1, 0]]
TARGETS = [0, 1, 2, 1, 2, 1]


@pytest.fixture
def answers(rng):
    """Logits of 200 rows and 4 classes with ties, and their classes."""
    y = rng.integers(0, 4, 200)
    return np.round(rng.standard_normal((200, 4)) + 1.5 * np.eye(4)[y], 1), y


@pytest.mark.parametrize("normalize", [False, True])
def test_confusion_matrix(normalize):
    names = ["ant", "bee", "cow"]
    ax = fastnn.plot.confusion_matrix(OUTPUTS, TARGETS, classes=names, normalize=normalize)
    counts = np.array([[1, 0, 0], [1, 2, 0], [0, 0, 2]])
    share = counts / [[1], [3], [2]]
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), share)
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    for (i, j), count in np.ndenumerate(counts):
        assert texts[j, i] == (f"{100 * share[i, j]:.1f}" if normalize else str(count))
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == names
    assert ax.get_title() == "accuracy 83.3%"
    assert (ax.get_ylabel(), ax.get_xlabel().split(",")[0]) == ("true class", "answer")


@pytest.mark.parametrize("names", [None, "abcdefghij", [f"the class {i}" for i in range(10)]])
def test_a_confusion_matrix_fills_its_figure(names):
    ax = fastnn.plot.confusion_matrix(np.eye(10), range(10), classes=names)
    ax.figure.canvas.draw()
    box, whole = ax.get_tightbbox(), ax.figure.bbox
    free = [box.x0, whole.x1 - box.x1, box.y0, whole.y1 - box.y1]
    assert min(free) >= 0 and max(free) < 0.3 * ax.figure.dpi


def test_confusion_matrix_of_one_column():
    ax = fastnn.plot.confusion_matrix([1.0, -1, 2, -1], [[1], [0], [0], [1]])
    assert [text.get_text() for text in ax.texts] == ["1", "1", "1", "1"]


def test_roc_curve_of_one_column():
    ax = fastnn.plot.roc_curve([3.0, 2, 2, 1, 0, 0], [1, 1, 0, 0, 1, 0])
    curve, chance = ax.lines
    thirds = [[0, 0], [0, 1], [1, 2], [2, 2], [3, 3]]  # a tie goes diagonally
    np.testing.assert_allclose(curve.get_xydata(), np.array(thirds) / 3)
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["AUC 0.667", "chance"]


def test_roc_curves_are_those_of_scikit_learn(answers):
    sk = pytest.importorskip("sklearn.metrics", reason="no scikit-learn to compare with")
    outputs, y = answers
    p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    ax = fastnn.plot.roc_curve(outputs, y, classes="abcd")
    for j, line in enumerate(ax.lines[:-1]):
        x, high, _ = sk.roc_curve(y == j, p[:, j], drop_intermediate=False)
        drawn = line.get_xydata()
        np.testing.assert_allclose(drawn, np.stack([x, high], axis=1))
        assert line.get_label() == f"{'abcd'[j]}: {sk.roc_auc_score(y == j, p[:, j]):.3f}"


def test_ten_roc_curves_differ_in_colour_or_line_and_in_marker(rng):
    *curves, _ = fastnn.plot.roc_curve(rng.standard_normal((90, 10)), np.arange(90) % 10).lines
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in curves]
    assert len({look[:2] for look in looks}) == 10 == len({look[::2] for look in looks})
    assert len({line for color, line, _ in looks if color == looks[0][0]}) == 2
    assert "None" not in {look[2] for look in looks}


def test_roc_curve_leaves_out_classes_that_are_not_there():
    ax = fastnn.plot.roc_curve([[3.0, 1, 0], [0, 1, 2], [1, 0, 1]], [0, 2, 2])
    assert [line.get_label()[0] for line in ax.lines[:-1]] == ["0", "2"]
    ax = fastnn.plot.roc_curve([[3.0, 1], [0, 1], [1, 0]], [0, 1, 1])
    assert [line.get_label() for line in ax.lines] == ["AUC 1.000", "chance"]
    with pytest.raises(ValueError, match="targets: expected rows of two classes at least"):
        fastnn.plot.roc_curve([[3.0, 1, 0]], [0])


def test_calibration_curve_of_two_classes_is_that_of_scikit_learn(rng):
    sk = pytest.importorskip("sklearn.calibration", reason="no scikit-learn to compare with")
    logits, y = rng.standard_normal(300) * 2, rng.integers(0, 2, 300)
    p = 1 / (1 + np.exp(-logits))
    right, said = sk.calibration_curve(y, p, n_bins=8)
    for outputs in (logits, np.stack([0 * logits, logits], axis=1)):
        ax = fastnn.plot.calibration_curve(outputs, y, bins=8)
        np.testing.assert_allclose(ax.lines[1].get_xydata(), np.stack([said, right], 1))
        share = np.histogram(p, 8, (0, 1))[0] / 300
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], share)
        assert (
            ax.get_title() == f"expected calibration error {(share * abs(said - right)).sum():.3f}"
        )


def test_calibration_curve_of_more_classes_is_of_the_answers():
    ax = fastnn.plot.calibration_curve(np.log([[8.0, 1, 1], [1, 8, 1], [0.2, 0.2, 0.6]]), [0, 2, 2])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.6, 1], [0.8, 0.5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("confidence", "accuracy")


def test_certainty_lies_in_the_last_bin():
    ax = fastnn.plot.calibration_curve([1e3, -1e3], [1, 0], bins=4)
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0, 0, 0.5]


def test_decision_boundary_of_a_line():
    model = Sequential(Dense(2, 1), dtype="float64")
    model.parameters["0.weight"][...] = [[4.0], [-4.0]]  # yes where x > y
    x = np.array([[0.0, 1], [1, 0], [0, 0.5], [1, 0.2]])
    ax = fastnn.plot.decision_boundary(model, x, [0, 1, 0, 1], classes=["no", "yes"], resolution=11)
    (image,) = ax.images
    pixels, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    assert (
        pixels.shape == (11, 11, 3)
        and image.origin == "lower"
        and (left, right, bottom, top) == (-0.08, 1.08, -0.08, 1.08)
    )
    blue, orange = pixels[-1, 0], pixels[0, -1]  # origin: lower
    assert blue[2] > blue[0] and orange[0] > orange[2] and pixels[5, 5].tolist() == [1, 1, 1]
    assert "the paler" in ax.get_title()
    line, *points = ax.collections
    np.testing.assert_allclose(*line.get_paths()[0].vertices.T, atol=1e-12)
    assert [its.get_label() for its in points] == ["no", "yes"]
    np.testing.assert_array_equal(points[1].get_offsets(), x[1::2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no", "yes"]


def test_decision_boundary_of_three_classes(rng):
    model = Sequential(Dense(2, 3, bias=False), dtype="float64")
    model.parameters["0.weight"][...] = np.array([[1, 0], [-1, 1], [0, -1]]).T * 2
    x = rng.uniform(-1, 1, (30, 2))
    ax = fastnn.plot.decision_boundary(model, x, model.predict(x).argmax(1), resolution=21)
    *lines, a, b, c = ax.collections
    assert len(lines) == 3 and [its.get_label() for its in (a, b, c)] == ["0", "1", "2"]
    for j, line in enumerate(lines):  # where a class and the best of the others are equal
        scores = model.predict(np.concatenate([path.vertices for path in line.get_paths()]))
        lead = scores[:, j] - np.delete(scores, j, axis=1).max(axis=1)
        assert abs(lead).max() < 0.1


def test_what_is_wrong_is_named():
    model = Sequential(Dense(3, 2))
    with pytest.raises(ValueError, match=r"X: expected two features, shape \(n, 2\), got \(5, 3\)"):
        fastnn.plot.decision_boundary(model, np.ones((5, 3)), [0] * 5)
    for draw in (
        fastnn.plot.confusion_matrix,
        fastnn.plot.roc_curve,
        fastnn.plot.calibration_curve,
    ):
        with pytest.raises(ValueError, match="outputs: expected numbers, got NaN"):
            draw([[np.nan, 1.0], [1.0, 2.0]], [0, 1])
        with pytest.raises(ValueError, match="targets: expected labels 0 to 1, got 2"):
            draw([[1.0, 1.0], [1.0, 2.0]], [0, 2])
