"""Activations as layers and within other layers, by name and by object."""

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Dense, Sequential
from fastnn.layers import Activation, activations


def test_activations_are_layers_by_name_and_by_object():
    assert set(activations.ACTIVATIONS) == {*fastnn._kernels.ACTIVATIONS, "softmax"}
    for name, kind in activations.ACTIVATIONS.items():
        assert issubclass(kind, Activation) and kind().activation_name == name
        by_name, by_object = Dense(3, 2, activation=name), Dense(3, 2, activation=kind())
        x = np.linspace(-2, 2, 12).reshape(4, 3)
        assert_same_bits(Sequential(by_name).predict(x), Sequential(by_object).predict(x))


@pytest.mark.parametrize("name", ["relu", "gelu", "softmax", "elu"])
def test_activation_in_the_dense_layer_equals_the_layer_after_it(name, dtype, isa, rng):
    """Outputs, input gradient and parameter gradients, bit for bit."""
    x, dy = rng.standard_normal((30, 40)), rng.standard_normal((30, 20))
    inside = Sequential(Dense(40, 20, activation=name), seed=1, dtype=dtype)
    after = Sequential(Dense(40, 20), activations.ACTIVATIONS[name](), seed=1, dtype=dtype)
    results = []
    for model in (inside, after):
        y = model.forward(x, training=True)
        results.append([y, model.backward(dy, input_gradient=True), model.flat_gradients])
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


def test_an_activation_of_ones_own_stands_behind_the_layer():
    class Own(fastnn.ReLU):
        pass

    with pytest.raises(TypeError, match="activation: expected one of fastnn's own, got Own"):
        fastnn.Dense(2, 2, activation=Own())
