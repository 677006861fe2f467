"""Initial parameters: chosen by name, by object, or by the activation that follows."""

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_same_bits
from fastnn import BatchNorm, Dense, Dropout, LayerNorm, Sequential, initializers
from fastnn.layers import activations

INITIALIZERS = {
    "zeros": initializers.Zeros, "normal": initializers.Normal, "xavier": initializers.Xavier,
    "he": initializers.He, "xavier_uniform": initializers.XavierUniform,
    "he_uniform": initializers.HeUniform,
}  # fmt: skip


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer_scale(name):
    """Standard deviation, mean and limit of 90,000 draws; name and object give the same bits."""
    fan_in = 300
    weight = Sequential(Dense(fan_in, 300, weight_init=name), seed=2).parameters["0.weight"]
    by_object = Sequential(Dense(fan_in, 300, weight_init=INITIALIZERS[name]()), seed=2)
    assert_same_bits(weight, by_object.parameters["0.weight"])
    deviation = reference.STANDARD_DEVIATION[name](fan_in)
    np.testing.assert_allclose(weight.std(), deviation, rtol=0.01)
    assert abs(weight.mean()) <= 5 * deviation / 300
    if name in reference.LIMIT:
        assert np.abs(weight).max() <= reference.LIMIT[name](fan_in) * (1 + 1e-6)
        assert np.abs(weight).max() >= reference.LIMIT[name](fan_in) * 0.99
    elif deviation:
        assert np.abs(weight).max() >= 3.5 * deviation


HE = ["relu", "leaky_relu", "elu", "silu", "gelu", "mish"]


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
@pytest.mark.parametrize("where", ["own", "next", "behind a norm and dropout"])
def test_default_initializer_suits_the_activation(activation, where):
    if where == "own":
        layers = [Dense(200, 200, activation=activation)]
    else:
        between = [] if where == "next" else [BatchNorm(200), LayerNorm(200), Dropout(0.1)]
        layers = [Dense(200, 200), *between, activations.ACTIVATIONS[activation](), Dense(200, 2)]
    weight = Sequential(*layers, seed=0).parameters["0.weight"]
    expected = np.sqrt((2 if activation in HE else 1) / 200)
    np.testing.assert_allclose(weight.std(), expected, rtol=0.03)


def test_default_initializer_before_another_dense_layer_or_none():
    model = Sequential(Dense(200, 200), Dense(200, 200), fastnn.ReLU(), Dense(200, 200), seed=0)
    for i, n in ((0, 1), (1, 2), (3, 1)):
        np.testing.assert_allclose(
            model.parameters[f"{i}.weight"].std(), np.sqrt(n / 200), rtol=0.03
        )
        assert not model.parameters[f"{i}.bias"].any()


def test_parameters_begin_alike_in_both_types_and_unlike_for_another_seed():
    def weights(**options):
        model = Sequential(Dense(20, 10), Dense(10, 10), Dense(10, 10), **options)
        return [model.parameters[f"{i}.weight"] for i in range(3)]

    single, double = weights(seed=4), weights(seed=4, dtype="float64")
    for a, b in zip(single, double, strict=True):
        assert_same_bits(a, b.astype(np.float32))
    assert (single[0] != weights(seed=5)[0]).all()
    assert (single[1] != single[2]).all()


def test_an_initializer_of_ones_own():
    def eye(rng, shape, fan_in):
        assert fan_in == 3
        return np.eye(*shape)

    model = Sequential(Dense(3, 3, weight_init=eye, bias_init=lambda rng, shape, fan_in: [1, 2, 3]))
    assert model.predict(np.zeros((1, 3))).tolist() == [[1, 2, 3]]
    for wrong in (
        lambda *a: np.ones(2),
        lambda *a: np.full((3, 3), "a"),
        lambda *a: 1j * np.eye(3),
    ):
        with pytest.raises(ValueError, match="initializer"):
            Sequential(Dense(3, 3, weight_init=wrong))


@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 1), (1, 7), (64, 64), (33, 20), (20, 33), (3, 3, 4, 40)]
)
def test_orthogonal_is_the_q_of_qr(shape):
    n = int(np.prod(shape[:-1])), shape[-1]
    weight = initializers.Orthogonal(0.5)(np.random.default_rng(1), shape, n[0])
    drawn = np.random.default_rng(1).normal(size=n)
    q, r = np.linalg.qr(drawn if n[0] >= n[1] else drawn.T)
    q *= np.sign(np.diag(r))  # of positive diagonal it is unique
    assert weight.shape == shape
    expected = 0.5 * (q if n[0] >= n[1] else q.T)
    np.testing.assert_allclose(weight.reshape(n), expected, atol=1e-12)
    small = weight.reshape(n) if n[0] >= n[1] else weight.reshape(n).T
    np.testing.assert_allclose(small.T @ small, 0.25 * np.eye(min(n)), atol=1e-15)


BITS = [
    "0x1.30f87e0000000p-3", "-0x1.2ef25e0000000p-2", "0x1.845a020000000p-1",
    "0x1.4af1400000000p-1", "-0x1.44d44e0000000p-1", "0x1.681b5c0000000p-1",
]  # fmt: skip


def test_orthogonal_weights_by_name_and_their_bits():
    models = [
        Sequential(Dense(24, 16, weight_init=init), seed=5, dtype="float64")
        for init in ("orthogonal", initializers.Orthogonal())
    ]  # fmt: skip
    weights = [model.parameters["0.weight"] for model in models]
    assert_same_bits(weights[0], weights[1])
    np.testing.assert_allclose(weights[0].T @ weights[0], np.eye(16), atol=1e-14)
    small = Sequential(Dense(3, 2, weight_init="orthogonal"), seed=0).parameters["0.weight"]
    assert [x.hex() for x in small.ravel().tolist()] == BITS
    for wrong in (0, -1.0, np.nan, "1", None):
        with pytest.raises((TypeError, ValueError), match=r"^gain: "):
            initializers.Orthogonal(wrong)
