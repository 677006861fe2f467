"""Every layer and every loss, alone and in combination, against central differences in float64.

The bound is 1e-7 throughout, also for functions with kinks (ReLU, hinge, absolute and Huber's
error): no number of the data lies within epsilon of a kink.
"""

import copy

import numpy as np
import pytest

import fastnn
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    gradcheck,
)
from fastnn.layers.weighted import Weighted
from tables import LAYERS, LOSSES, draw

BOUND = 1e-7


def stir(model, seed=11):
    """Move the parameters away from their initial values, where gamma is 1 and biases are 0."""
    rng = np.random.default_rng(seed)
    for array in model.parameters.values():
        array += rng.normal(0, 0.3, array.shape)
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_alone(name, isa, rng):
    model = stir(Sequential(LAYERS[name](6), seed=1, dtype="float64"))
    x = rng.standard_normal((5, 6))
    y = rng.standard_normal(model.forward(x).shape)
    assert gradcheck(model, MeanSquaredError(), x, y) < BOUND


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_with_a_penalty(name, rng):
    """Its value is the formula's, over weights alone, and its gradient that of this value."""
    model = stir(Sequential(LAYERS[name](6), seed=1, dtype="float64", l2=0.3))
    x = rng.standard_normal((5, 6))
    y = rng.standard_normal(model.forward(x).shape)
    assert gradcheck(model, MeanSquaredError(), x, y) < BOUND
    own = [0.3 if layer.l2 is None else layer.l2 for layer in penalised(model)]
    squares = [(layer.weight**2).sum() for layer in penalised(model)]
    np.testing.assert_allclose(model.penalty(5), np.dot(own, squares) / (2 * 5), rtol=1e-12)


def penalised(model):
    """The layers whose weights penalties count: dense ones and convolutions, within others too."""
    return [layer for layer, _ in model._chain.walk() if isinstance(layer, Weighted)]


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_alone(name, isa, rng):
    """The layer before it is linear, so that the input's gradient is the loss's."""
    outputs, targets = draw(name, (6, 4), np.float64, rng)
    model = Sequential(fastnn.Linear(), dtype="float64")
    assert gradcheck(model, LOSSES[name][0], outputs, targets) < BOUND
    weight = rng.random(6) + 0.1
    assert gradcheck(model, LOSSES[name][0], outputs, targets, sample_weight=weight) < BOUND


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_every_loss(name, loss, rng):
    """Between dense layers, so that the layer's input gradient is checked as well."""
    layer = LAYERS[name](5)
    width = layer.out_features or 5
    model = stir(Sequential(Dense(4, 5, activation="tanh"), layer, Dense(width, 3), seed=2))
    x = rng.standard_normal((6, 4))
    _, targets = draw(loss, (6, 3), np.float64, rng)
    assert gradcheck(model, LOSSES[loss][0], x, targets) < BOUND


DEEP = {
    "classifier": lambda: [
        Dense(6, 8), BatchNorm(8), ReLU(), Dropout(0.2), Dense(8, 8), LayerNorm(8), Tanh(),
        Dense(8, 3),
    ],
    "activations in dense layers": lambda: [
        Dense(6, 7, activation="gelu"), Dense(7, 7, activation="mish"), Dropout(0.5),
        Dense(7, 5, activation="silu"), BatchNorm(5), Dense(5, 3, activation="selu"),
    ],
    "norms only": lambda: [BatchNorm(6), LayerNorm(6), Dense(6, 3)],
}  # fmt: skip


@pytest.mark.parametrize("l2", [0.0, 0.7])
@pytest.mark.parametrize("name", DEEP)
def test_deep_networks(name, l2, rng):
    model = stir(Sequential(*DEEP[name](), seed=3, l2=l2))
    x, y = rng.standard_normal((9, 6)), rng.integers(0, 3, 9)
    assert gradcheck(model, SoftmaxCrossEntropy(label_smoothing=0.1), x, y) < BOUND


def test_l2_of_a_layer_overrides_the_model(rng):
    model = Sequential(Dense(4, 5, l2=2.0), Tanh(), Dense(5, 2, l2=0.0), Dense(2, 2), l2=0.5)
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    assert gradcheck(model, MeanSquaredError(), x, y) < BOUND


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name](6).parameter_shapes()])
def test_each_layer_with_both_penalties(name, rng):
    """L1's value is λ / batch Σ |weight|, and the model's λ is for layers that state none."""
    model = stir(Sequential(LAYERS[name](6), seed=1, dtype="float64", l1=0.3))
    x = rng.standard_normal((5, 6))
    y = rng.standard_normal(model.forward(x).shape)
    assert gradcheck(model, MeanSquaredError(), x, y) < BOUND
    sums = [np.abs(layer.weight).sum() for layer in penalised(model)]
    squares = model.penalty(5) - 0.3 / 5 * sum(sums)
    model = Sequential(*copy.deepcopy(model.layers), seed=1, dtype="float64")
    np.testing.assert_allclose(model.penalty(5), squares, rtol=1e-10, atol=1e-12)


def test_l1_of_a_layer_overrides_the_model(rng):
    layers = Dense(4, 5, l1=2.0), Tanh(), Dense(5, 2, l1=0.0, l2=1.0), Dense(2, 2)
    model = Sequential(*layers, l1=0.5, l2=0.25, dtype="float64")
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    assert gradcheck(model, MeanSquaredError(), x, y) < BOUND
    first, second, third = (w for name, w in model.parameters.items() if name.endswith("weight"))
    expected = 2.0 * np.abs(first).sum() + 0.5 * np.abs(third).sum()
    expected += (0.25 * (first**2).sum() + (second**2).sum() + 0.25 * (third**2).sum()) / 2
    np.testing.assert_allclose(model.penalty(7), expected / 7, rtol=1e-12)


class Wrong(fastnn.Layer):
    """A layer whose gradient is off by a factor or a sign."""

    def __init__(self, features, factor=1.0, input_factor=1.0):
        self.in_features = self.out_features = features
        self.factor, self.input_factor = factor, input_factor

    def parameter_shapes(self):
        return {"scale": (self.in_features,)}

    def initialize(self, rng, activation):
        self.parameters["scale"][...] = 1.5

    def forward(self, x, training=False):
        self.x = x
        return x * self.parameters["scale"]

    def backward(self, dy):
        self.gradients["scale"][...] = self.factor * (dy * self.x).sum(axis=0)
        return self.input_factor * dy * self.parameters["scale"]


@pytest.mark.parametrize("factors", [(1.01, 1), (1, 1.01), (-1, 1), (0, 1), (1, 0)])
def test_a_wrong_gradient_is_found(factors, rng):
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    assert gradcheck(Sequential(Wrong(4)), MeanSquaredError(), x, y) < BOUND
    assert gradcheck(Sequential(Wrong(4, *factors)), MeanSquaredError(), x, y) > 1e-3


def test_the_model_stays_as_it_is(rng):
    model = Sequential(Dense(4, 5), BatchNorm(5), Dropout(0.5), Dense(5, 2), seed=0)
    x, y = rng.standard_normal((5, 4)).astype(np.float32), np.array([0, 1, 0, 1, 1])
    before, given = model.state_dict(), x.copy()
    mask = fastnn.Sequential(Dropout(0.5), seed=0)
    first = gradcheck(model, SoftmaxCrossEntropy(), x, y)
    assert model.dtype == np.float32 and first < BOUND
    assert first == gradcheck(model, SoftmaxCrossEntropy(), x, y)
    np.testing.assert_array_equal(x, given)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert mask.forward(np.ones((2, 4)), training=True).shape == (2, 4)


@pytest.mark.parametrize("epsilon", [0, -1e-5, np.nan, "a", True])
def test_refused_epsilon(epsilon):
    with pytest.raises((ValueError, TypeError), match="epsilon"):
        gradcheck(
            Sequential(Dense(2, 1)), MeanSquaredError(), np.ones((2, 2)), [1, 2], epsilon=epsilon
        )


@pytest.mark.parametrize("wrong", ["adds", "forgets"])
def test_a_gradient_that_is_added_or_forgotten_is_found(wrong):
    class Shift(fastnn.Layer):
        in_features = out_features = 3

        def parameter_shapes(self):
            return {"b": (3,)}

        def initialize(self, rng, activation):
            self.parameters["b"][:] = 0.1

        def forward(self, x, training=False):
            return x + self.parameters["b"]

        def backward(self, dy):
            if wrong == "adds":
                self.gradients["b"][:] += dy.sum(axis=0)
            return dy

    model = fastnn.Sequential(fastnn.Dense(2, 3), Shift(), seed=0)
    x = np.linspace(-1, 1, 8).reshape(4, 2)
    assert fastnn.gradcheck(model, fastnn.MeanSquaredError(), x, np.ones((4, 3))) > 0.9
