"""Which layers may follow which, which x they take, and the shapes of their outputs."""

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import (
    SGD,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    GradientStep,
    Layer,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
)
from image_models import Crop, Mean, Own, draw, network
from tables import LAYERS


@pytest.mark.parametrize("layers, message", [
    (lambda: [Crop(1, 8), ReLU(), Dense(8, 3)],
     r"layer 2, Dense\(8, 3\), takes \(batch, 8\), but layer 0, Crop\(1, 8\), gives "
     r"\(batch, height, width, 8\): put Flatten\(\) or GlobalAvgPool2D\(\) between them"),
    (lambda: [Dense(8, 3), Dropout(0.1), Crop(3, 4)],
     r"layer 2, Crop\(3, 4\), takes \(batch, height, width, 3\), but layer 0, Dense\(8, 3\), "
     r"gives \(batch, 3\)$"),
    (lambda: [Mean(2), ReLU(), Crop(3, 4)], r"layer 2.*\(batch, height, .* gives \(batch, feat"),
    (lambda: [Crop(1, 8), Mean(2)], r"layer 1, Mean\(\), takes \(batch, length, channels\), but"),
    (lambda: [Crop(1, 8), Crop(9, 4)], "layer 1.* takes 9 channels, but layer 0.* gives 8"),
    (lambda: [Crop(1, 8), Mean(), Dense(9, 3)], "layer 2.* takes 9 features, but layer 0.*gives 8"),
    (lambda: [Crop(1, 8), Flatten(), Crop(8, 3)], r"layer 2.* layer 1, Flatten\(\), gives \(batch"),
])  # fmt: skip
def test_layers_that_do_not_follow_are_refused(layers, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Sequential(*layers())


@pytest.mark.parametrize("layers, features, dimensions", [
    (lambda: [Crop(1, 8), Flatten(), Dense(9, 3)], (1, 3), (3, 1)),
    (lambda: [ReLU(), Crop(3, 8)], (3, 8), (3, 3)),
    (lambda: [BatchNorm(3), Crop(3, 8), Mean()], (3, 8), (3, 1)),
    (lambda: [Flatten(), Dense(9, 3)], (None, 3), (None, 1)),
    (lambda: [BatchNorm(3)], (3, 3), (None, None)),
    (lambda: [Own(), Dense(9, 3)], (None, 3), (None, 1)),
    (lambda: [Mean(2), ReLU()], (None, None), (2, 1)),
])  # fmt: skip
def test_what_is_known_of_a_model(layers, features, dimensions):
    model = Sequential(*layers())
    assert (model.in_features, model.out_features) == features
    assert (model._chain.dimensions, model._chain.out_dimensions) == dimensions


FLAT = r"layer 3, Dense\(100, 3\) takes 100 features, got 5408 \(after Flatten\(\) of "


def flattening():
    return Sequential(Crop(1, 8), ReLU(), Flatten(), Dense(100, 3))


@pytest.mark.parametrize("make, shape, message", [
    (flattening, (8, 784), r"expected shape \(batch, height, width, 1\), got \(8, 784\)"),
    (flattening, (8, 28, 28), r"expected shape \(batch, height, width, 1\), got \(8, 28, 28\)"),
    (flattening, (8,), r"expected shape \(batch, height, width, 1\), got \(8,\)"),
    (flattening, (8, 28, 28, 3), r"layer 0, Crop\(1, 8\), takes 1 channels, got 3 .*28, 3\)\)$"),
    (flattening, (8, 1, 28, 28),
     r"layer 0.* got 28 \(shape .*\); looks like NCHW: use fastnn.to_nhwc\(x\)"),
    (flattening, (0, 28, 28, 1), r"expected rows and features, got none: shape \(0, 28, 28, 1\)"),
    (flattening, (8, 28, 28, 1), FLAT + r"\(batch, 26, 26, 8\)\)"),
    (flattening, (8, 2, 28, 1), r"layer 0, Crop\(1, 8\) takes images from 3x3 on, got 2x28"),
    (network, (8, 4, 28, 3), r"layer 3, Residual: layer 0, Crop\(8, 8\) takes images .*got 2x26"),
    (lambda: Sequential(Mean(2)), (8, 784), r"expected shape \(batch, length, channels\)"),
    (lambda: Sequential(Mean(2), Dense(4, 2)), (8, 4, 5), r"layer 1.*4 channels, got 5.*NCHW"),
    (lambda: Sequential(BatchNorm(3)), (3,), r"expected shape \(batch, ..., 3\), got \(3,\)"),
    (lambda: Sequential(ReLU(), BatchNorm(3)), (9, 3, 2), r"layer 1, BatchNorm\(3\), takes 3 .*2"),
])  # fmt: skip
def test_x_of_another_shape_is_refused(make, shape, message):
    """By everything that takes x."""
    model = make()
    x, y = np.zeros(shape), np.zeros(shape[0], int)
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    for call, name in (
        (model.forward, "x"), (model.predict, "X"), (lambda x: model.fit(
            x, y, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1), progress=False), "X"),
        (lambda x: model.evaluate(x, y, loss=SoftmaxCrossEntropy()), "X"),
        (lambda x: step(x, y), "x"), (GradientStep(model, SGD(0.1)).forward, "x"),
        (model.predictor(max(1, shape[0])), "x"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: {message}"):
            call(x)


def test_models_of_any_shape_take_each():
    model = Sequential(ReLU(), BatchNorm(3), Tanh())
    for shape in ((5, 3), (5, 4, 3), (5, 4, 6, 3), (5, 3), (2, 2, 2, 2, 3)):
        x = draw(shape)
        assert_same_bits(model.predict(x, 2), model.predict(x.reshape(-1, 3)).reshape(shape))


# ---- shapes of outputs ----


def test_output_shape():
    model = network()
    assert model.output_shape((32, 24, 3)) == (3,)
    assert model.layers[0].output_shape((32, 24, 3)) == (30, 22, 8)
    assert Sequential(Crop(3, 8), Flatten()).output_shape([6, 5, 3]) == (96,)
    for shape, error, message in (
        ((32, 24), ValueError, r"shape: expected shape \(batch, height, width, 3\)"),
        ((32, 24, 4), ValueError, "shape: layer 0.*3 channels, got 4"),
        ((0, 24, 3), ValueError, "shape: .*integer >= 1, got 0"),
        ((1.5, 24, 3), TypeError, "shape: .*integer >= 1, got 1.5"),
        (3, TypeError, "shape: expected a tuple of integers >= 1, got 3"),
        ((), TypeError, r"shape: expected a tuple of integers >= 1, got \(\)"),
    ):
        with pytest.raises(error, match=message):
            model.output_shape(shape)
    with pytest.raises(RuntimeError, match="layer without the base Layer"):
        Sequential(Own(), Dense(3, 4)).output_shape((3,))


@pytest.mark.parametrize("name", LAYERS)
def test_output_shape_of_every_layer(name, rng):
    layer = LAYERS[name](6)
    shape = layer.output_shape((6,))
    assert Sequential(layer).forward(rng.standard_normal((4, 6))).shape == (4, *shape)
    if layer.in_features is not None:
        with pytest.raises(ValueError, match="takes 6 features, got 5"):
            layer.output_shape((5,))
    if layer.dimensions is not None:
        with pytest.raises(ValueError, match=r"takes \(batch, 6\), got \(batch, 2, 6\)"):
            layer.output_shape((2, 6))


@pytest.mark.parametrize("wrong", [None, 3, (), [3], (3, 0), (2.5,), ("a",)])
def test_a_wrong_output_shape_of_ones_own_is_named(wrong):
    class Wrong(Layer):
        def output_shape(self, shape):
            return wrong

    with pytest.raises((TypeError, ValueError), match=r"output_shape of Wrong\(\): expected"):
        Sequential(Wrong()).forward(np.zeros((2, 3)))


def test_summary():
    """The column of shapes, with and without the shape of the inputs."""

    def column(table):
        return [line.split("(batch, ")[1].split(")")[0] for line in table.splitlines()[1:-1]]

    known = ["30, 22, 8"] * 3 + ["28, 20, 8"] * 3 + ["8", "3"]
    assert column(network().summary((32, 24, 3))) == known
    assert column(network().summary()) == ["?, ?, 8"] * 6 + ["8", "3"]
    assert column(flattening().summary()) == ["?, ?, 8", "?, ?, 8", "?", "3"]
    assert "(batch, ?)" in Sequential(Own()).summary((3,))
    for wrong in ((28, 28), (28, 28, 4), (0, 28, 3), 3, "28"):
        with pytest.raises((TypeError, ValueError), match=r"^input_shape: "):
            network().summary(wrong)
