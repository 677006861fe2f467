"""Custom layers in a model: what they may do, and which of their mistakes are found."""

import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Dense, Dropout, Layer, ReLU, Sequential


class Shift:
    """The least that makes a layer: no base class; its results have types that kernels refuse."""

    def forward(self, x, training=False):
        return (x + 1).astype(">f8")

    def backward(self, dy):
        return np.asfortranarray(dy.astype(np.float16))


class Scale(Layer):
    """A layer with a parameter."""

    def __init__(self, features):
        self.in_features = self.out_features = features

    def parameter_shapes(self):
        return {"scale": (self.in_features,)}

    def initialize(self, rng, activation):
        self.parameters["scale"][:] = 2.0
        assert activation == "relu"

    def forward(self, x, training=False):
        if training:
            self.x = x
        return x * self.parameters["scale"]

    def backward(self, dy):
        self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
        return dy * self.parameters["scale"]


def test_custom_layers(dtype):
    model = Sequential(Dense(3, 4, weight_init="xavier"), Shift(), Scale(4), ReLU(), dtype=dtype)
    weight, x = model.parameters["0.weight"], np.ones((2, 3), dtype)
    np.testing.assert_allclose(model.predict(x), np.maximum(2 * (x @ weight + 1), 0), rtol=1e-5)
    y = model.forward(x, training=True)
    model.backward(np.ones_like(y))
    assert list(model.parameters) == ["0.weight", "0.bias", "2.scale"]
    np.testing.assert_allclose(
        model.gradients["2.scale"], ((x @ weight + 1) * (y > 0)).sum(axis=0), rtol=1e-5
    )
    fastnn.SGD(0.5).step(model)
    assert (model.parameters["2.scale"] < 2)[model.gradients["2.scale"] > 0].all()
    twin = pickle.loads(pickle.dumps(model))
    assert_same_bits(twin.predict(x), model.predict(x))
    assert "Shift" in model.summary() and "Shift" in repr(model)


class InPlace:
    """Changes its arguments in place, as NumPy code may."""

    def forward(self, x, training=False):
        x *= 2
        return x

    def backward(self, dy):
        dy *= 2
        return dy


@pytest.mark.parametrize("training", [False, True])
def test_a_custom_layer_may_work_in_place(training):
    """It changes neither the user's arrays nor what the layer before saved for its backward."""
    model = Sequential(Dropout(0.0), InPlace(), Dense(3, 3, activation="sigmoid"), InPlace())
    x = np.ones((2, 3), np.float32)
    y = model.forward(x, training)
    assert (x == 1).all()
    assert_same_bits(y, 2 * model.layers[2].forward(2 * x))
    if training:
        dy = np.ones_like(y)
        model.backward(dy)
        assert (dy == 1).all()
    twin = Sequential(Dense(3, 3, activation="sigmoid"), InPlace(), Dense(3, 1), dtype="float64")
    loss, x = fastnn.MeanSquaredError(), np.random.default_rng(0).standard_normal((4, 3))
    assert fastnn.gradcheck(twin, loss, x, np.ones(4)) < 1e-7


@pytest.mark.parametrize("training", [False, True])
def test_a_custom_layer_keeps_the_number_of_rows(training):
    model = Sequential(Broken(np.ones((1, 3)), "forward"), Dense(3, 2))
    with pytest.raises(ValueError, match=r"output of Broken\(\): expected 4 rows .*\(1, 3\)"):
        model.forward(np.ones((4, 3)), training)


def test_a_custom_layer_returns_a_gradient_like_its_inputs():
    model = Sequential(Broken(np.ones((1, 3)), "backward"), Dense(3, 2))
    model.forward(np.ones((4, 3)), training=True)
    with pytest.raises(ValueError, match=r"gradient of Broken.*\(4, 3\), got \(1, 3\)"):
        model.backward(np.ones((4, 2)), input_gradient=True)


def test_a_class_derived_from_a_layer_is_a_custom_layer():
    class Doubled(Dense):
        def forward(self, x, training=False):
            x *= 2
            return np.asfortranarray(super().forward(x, training), ">f8")

    model, x = Sequential(Dense(3, 3), Doubled(3, 2), Dense(2, 2)), np.ones((4, 3), np.float32)
    twin = Sequential(Dense(3, 3), Dense(3, 2), Dense(2, 2))
    twin.load_state_dict(model.state_dict())
    twin.parameters["1.weight"][...] *= 2
    assert_same_bits(model.predict(x), twin.predict(x))


SHAPES = {
    "a list": [(2,)], "None": None, "a number": {"w": 2}, "a list inside": {"w": [2]},
    "a name that is none": {1: (2,)}, "a length of 0": {"w": (2, 0)}, "a float": {"w": (2.0,)},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_refused_parameter_shapes(name):
    class Odd(Layer):
        def parameter_shapes(self):
            return SHAPES[name]

    with pytest.raises((TypeError, ValueError), match=r"parameter_shapes of layer 1, Odd\(\)"):
        Sequential(ReLU(), Odd())


class Broken:
    def __init__(self, result, where):
        self.result, self.where = result, where

    def forward(self, x, training=False):
        return self.result if self.where == "forward" else x

    def backward(self, dy):
        return self.result


@pytest.mark.parametrize("result", [None, "a", 1.0, np.ones((4, 9)), np.ones(3), np.ones((0, 3)),
                                    np.full((4, 3), 1j)], ids=str)  # fmt: skip
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_a_custom_layer_may_not_return(result, where):
    """It gives an error, never a crash, and the model works afterwards."""
    layer = Broken(result, where)
    model = Sequential(Dense(2, 3), layer, Dense(3, 2))
    with pytest.raises((ValueError, TypeError)):
        y = model.forward(np.ones((4, 2)), training=True)
        model.backward(np.ones_like(y))
    layer.where, layer.result = "backward", np.ones((4, 3))
    y = model.forward(np.ones((4, 2)), training=True)
    model.backward(np.ones_like(y))


def test_an_error_in_a_custom_layer_passes_through_and_frees_the_model():
    class Fails(Layer):
        def forward(self, x, training=False):
            raise KeyError("mine")

    model = Sequential(Dense(2, 3), Fails())
    for training in (False, True, True):
        with pytest.raises(KeyError, match="mine"):
            model.forward(np.ones((4, 2)), training)
    with pytest.raises(RuntimeError):
        model.backward(np.ones((4, 3)))


def test_a_base_layer_says_what_is_missing():
    for call in (Layer().forward, Layer().backward):
        with pytest.raises(NotImplementedError, match="Layer has no"):
            call(np.ones((1, 1)))
