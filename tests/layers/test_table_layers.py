"""Layers of networks for tables: how they begin and what they refuse; the tables test the rest."""

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import (
    ELU,
    Dense,
    ParametricActivation,
    PeriodicEmbedding,
    Scale,
    Sequential,
    gradcheck,
)
from fastnn.losses import MeanSquaredError


def test_they_begin_as_the_plain_layer_would(dtype, rng):
    """A scale leaves x as it is, a parametric activation is the activation, up to rounding."""
    x = rng.standard_normal((9, 7)).astype(dtype)
    assert_same_bits(Sequential(Scale(7), dtype=dtype).predict(x), x)
    y = Sequential(ParametricActivation(7, "selu"), dtype=dtype).predict(x)
    expected = Sequential(Dense(7, 7, "selu", weight_init=eye), dtype=dtype).predict(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == np.float32 else 1e-14)


def eye(rng, shape, fan_in):
    return np.eye(shape[0])


def test_how_a_periodic_embedding_begins():
    layer = PeriodicEmbedding(400, 25, 5, sigma=0.3)
    Sequential(layer, seed=1)
    assert abs(layer.frequency.std() - 0.3) < 0.01 and abs(layer.frequency.mean()) < 0.02
    for array, limit in ((layer.phase, 0.5), (layer.weight, 0.2), (layer.bias, 0.2)):
        assert 0.98 * limit < array.max() <= limit and -limit <= array.min() < -0.98 * limit
        assert abs(array.std() / limit - 3**-0.5) < 0.02


def test_the_layer_before_begins_as_for_the_activation():
    def deviation(activation):
        dense = Dense(300, 300)
        Sequential(dense, Scale(300), ParametricActivation(300, activation), seed=0)
        return float(dense.weight.std()) * 300**0.5

    assert abs(deviation("selu") - 1) < 0.02 and abs(deviation("mish") - 2**0.5) < 0.02


def test_a_constant_of_the_activation_is_a_setting(rng):
    layer = ParametricActivation(3, ELU(0.5))
    model, x = Sequential(layer, dtype="float64"), rng.standard_normal((5, 3))
    before = model.predict(x)
    layer.activation.alpha = 0.25
    after = model.predict(x)
    np.testing.assert_allclose(after[x < 0], before[x < 0] / 2, rtol=1e-13)
    assert gradcheck(model, MeanSquaredError(), x, x) < 1e-7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(0), "features: expected an integer >= 1, got 0"),
        (lambda: ParametricActivation(2.0, "relu"), "features: expected an integer >= 1"),
        (lambda: ParametricActivation(2, "bend"), "activation: expected one of"),
        (lambda: ParametricActivation(2, "softmax"), "activation: expected an elementwise one"),
        (lambda: ParametricActivation(2, None), "activation: expected an elementwise one"),
        (lambda: PeriodicEmbedding(0), "features: expected an integer >= 1, got 0"),
        (lambda: PeriodicEmbedding(1, 257), "frequencies: expected an integer from 1 to 256"),
        (lambda: PeriodicEmbedding(1, 16, 1), "out: expected an integer from 2 to 64, got 1"),
        (lambda: PeriodicEmbedding(1, sigma=0), "sigma: expected a finite number > 0, got 0"),
        (lambda: Sequential(Scale(3), Dense(2, 1)), "takes 2 features"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
