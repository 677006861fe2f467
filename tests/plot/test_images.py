"""Filters, feature maps and the worst examples: which images are drawn where."""

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the pictures need it")

import fastnn
from fastnn import Conv1D, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential


def drawn(ax):
    return [np.asarray(image.get_array()) for image in ax.images]


def places(ax):
    """The upper left corner of each image."""
    return [(image.get_extent()[0], image.get_extent()[3]) for image in ax.images]


def test_filters_of_one_channel():
    model = Sequential(ReLU(), Conv2D(1, 6, (2, 3)), Flatten())
    ax, weight = fastnn.plot.filters(model), model.layers[1].weight
    for i, image in enumerate(drawn(ax)):
        np.testing.assert_array_equal(image, weight[:, :, 0, i])
    most = abs(weight).max()
    assert all(image.get_clim() == (-most, most) for image in ax.images)
    assert len(ax.images) == 6 and ax.get_title() == "6 filters of layer 1"
    grey = ax.images[0].get_cmap()(np.linspace(0, 1, 101))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()  # so that signs differ without colours
    assert np.ptp(ax.images[0].get_cmap()(0.5)[:3]) < 0.02  # grey is 0
    height = 2 / 3 + 0.08
    np.testing.assert_allclose(
        places(ax), [(1.08 * (i % 4), height * (i // 4)) for i in range(6)], atol=1e-12
    )


def test_filters_of_three_channels_are_in_colour():
    model = Sequential(Conv2D(3, 2, 4))
    weight = np.asarray(model.layers[0].weight, np.float64)
    for i, image in enumerate(drawn(fastnn.plot.filters(model))):
        w = weight[..., i]
        np.testing.assert_allclose(image, (w - w.min()) / (w.max() - w.min()))


def test_filters_of_other_channels_and_of_sequences():
    model = Sequential(Conv2D(1, 2, 1), Conv2D(2, 3, 2), Flatten())
    ax, weight = fastnn.plot.filters(model, 1), model.layers[1].weight
    pairs = [(o, c) for o in range(3) for c in range(2)]  # a row for each filter
    for (o, c), image, (x, y) in zip(pairs, drawn(ax), places(ax), strict=True):
        np.testing.assert_array_equal(image, weight[:, :, c, o])
        np.testing.assert_allclose((x, y), (1.08 * c, 1.08 * o))
    model = Sequential(Conv1D(2, 4, 5))
    for i, image in enumerate(drawn(fastnn.plot.filters(model))):
        np.testing.assert_array_equal(image, model.layers[0].weight.reshape(5, 2, 4)[:, :, i].T)


def test_filters_of_a_dense_layer_need_a_shape():
    model = Sequential(Dense(6, 2))
    for i, image in enumerate(drawn(fastnn.plot.filters(model, shape=(2, 3)))):
        np.testing.assert_array_equal(image, model.layers[0].weight[:, i].reshape(2, 3))
    for shape in (None, (2, 2), (6,)):
        with pytest.raises(ValueError, match=r"shape: expected \(height, width\) or "):
            fastnn.plot.filters(model, shape=shape)
    with pytest.raises(
        ValueError, match=r"layer: expected the number of a dense or .* got ReLU\(\)"
    ):
        fastnn.plot.filters(Sequential(ReLU()))


def test_feature_maps(rng):
    model = Sequential(Conv2D(1, 4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(36, 2))
    image = rng.standard_normal((8, 8, 1))
    for layer, number in ((None, 0), (1, 1), (-3, 2)):
        ax = fastnn.plot.feature_maps(model, image, layer)
        maps = model[: number + 1].predict(image[None])[0]
        for i, drawn_map in enumerate(drawn(ax)):
            np.testing.assert_array_equal(drawn_map, maps[:, :, i])
        assert len(ax.images) == 4 and ax.get_title().startswith(f"after layer {number} (")
        for text, its in zip(ax.texts, np.moveaxis(maps, 2, 0), strict=True):
            assert text.get_text() == f"{its.min():.2g} to {its.max():.2g}"
    assert ax.get_title() == "after layer 2 (MaxPool2D)"
    with pytest.raises(ValueError, match="layer: expected a layer that gives an image, got none"):
        fastnn.plot.feature_maps(model, image, 3)
    with pytest.raises(ValueError, match="layer: expected an integer from -5 to 4, got 5"):
        fastnn.plot.feature_maps(model, image, 5)
    with pytest.raises(ValueError, match="model: expected one with such layers"):
        fastnn.plot.feature_maps(Sequential(Dense(2, 2)), [1.0, 2.0])


def test_worst_examples(rng):
    images = rng.uniform(0, 1, (5, 4, 3, 1))
    p = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0, 0, 1]])
    outputs, y = np.log(np.maximum(p, 1e-9)), [1, 0, 0, 2, 2]
    ax = fastnn.plot.worst_examples(outputs, y, images, classes=["a", "b", "c"])
    for row, image in zip([0, 2, 3], drawn(ax), strict=True):
        np.testing.assert_array_equal(image, images[row, :, :, 0])
    assert [text.get_text() for text in ax.texts] == [
        "row 0: b (5.0%)\nread as a (90.0%)", "row 2: a (10.0%)\nread as c (70.0%)",
        "row 3: c (30.0%)\nread as b (40.0%)",
    ]  # fmt: skip
    assert ax.get_title() == "3 of 5 are read wrongly"
    ax = fastnn.plot.worst_examples(outputs, y, images.reshape(5, 12), shape=(4, 3), n=1)
    np.testing.assert_array_equal(drawn(ax)[0], images[0, :, :, 0])
    assert len(ax.images) == 1 and ax.get_title() == "3 of 5 are read wrongly"


def test_worst_examples_of_one_column_in_colour_and_of_none(rng):
    images = rng.uniform(0, 1, (3, 2, 2, 3))
    ax = fastnn.plot.worst_examples([-2.0, 1.0, -3.0], [1, 1, 1], images)
    np.testing.assert_array_equal(drawn(ax)[0], images[2])
    assert [text.get_text()[:6] for text in ax.texts] == ["row 2:", "row 0:"]
    ax = fastnn.plot.worst_examples([2.0], [1], images[:1])
    assert not ax.images and ax.get_title() == "0 of 1 are read wrongly"
    with pytest.raises(ValueError, match="X"):
        fastnn.plot.worst_examples([2.0, 1.0], [1, 1], images)
