"""Weighted means of x and f(x), and the scaling that stands for the linear f: values, gradients,
every shape and thread count."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads, wide
from fastnn import _kernels

ALPHA = {"leaky_relu": 0.25, "elu": 0.75}
NAMES = [name for name in _kernels.ACTIVATIONS if name != "softmax"]
SHAPES = [(1, 1), (7, 15), (1, 16), (300, 17), (5, 33), (2, 1025), (4, 3, 5), (40,)]


def forward(x, weight, name):
    kind = _kernels.ACTIVATIONS[name]
    return _kernels.parametric_forward(x, weight, kind, ALPHA.get(name, 0.0))


def backward(x, dy, weight, name):
    """dx and dweight, which is filled with NaN before."""
    dweight, kind = np.full_like(weight, np.nan), _kernels.ACTIVATIONS[name]
    dx = _kernels.parametric_backward(x, dy, weight, dweight, kind, ALPHA.get(name, 0.0))
    return dx, dweight


def draw(shape, dtype, rng):
    x, dy = (3 * rng.standard_normal((2, *shape))).astype(dtype)
    return x, dy, rng.standard_normal(shape[-1]).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_against_the_reference(name, shape, dtype, isa, rng):
    x, dy, weight = draw(shape, dtype, rng)
    exact, alpha = (wide(x), wide(dy), wide(weight)), ALPHA.get(name, 0.0)
    y = forward(x, weight, name)
    assert_close(y, reference.parametric_forward(exact[0], exact[2], name, alpha), dtype)
    dx, dweight = backward(x, dy, weight, name)
    expected = reference.parametric_backward(*exact, name, alpha)
    assert_close(dx, expected[0], dtype)
    assert_close(dweight, expected[1], dtype, factor=10)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_0_and_1(name, dtype, isa, rng):
    """At 0 x itself, or 0; at 1, up to rounding, f(x)."""
    x, dy, weight = draw((9, 37), dtype, rng)
    y, dx = forward(x, 0 * weight, name), backward(x, dy, 0 * weight, name)[0]
    assert_same_bits(y + 0, (0 * x if name == "linear" else x) + 0)
    assert_same_bits(dx + 0, (0 * x if name == "linear" else dy) + 0)
    f = _kernels.activation_forward(x, _kernels.ACTIVATIONS[name], ALPHA.get(name, 0.0))
    assert_close(forward(x, np.ones_like(weight), name), f.astype(float), dtype, np.abs(x) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_for_any_threads_and_fma_isa(name, dtype, threads, fma_isas, rng):
    x, dy, weight = draw((1601, 353), dtype, rng)
    _kernels.set_threads(1)
    _kernels.set_isa(fma_isas[0])
    y, gradients = forward(x, weight, name), backward(x, dy, weight, name)
    assert uses_threads(lambda: forward(x, weight, name))
    assert uses_threads(lambda: backward(x, dy, weight, name))
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(forward(x, weight, name), y)
        for a, b in zip(backward(x, dy, weight, name), gradients, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_bits_that_it_has_alone(name, dtype, isa, rng):
    x, dy, weight = draw((13, 21), dtype, rng)
    y, dx = forward(x, weight, name), backward(x, dy, weight, name)[0]
    for i in (0, 5, 12):
        row, d = x[i : i + 1].copy(), dy[i : i + 1].copy()
        assert_same_bits(forward(row, weight, name), y[i : i + 1])
        assert_same_bits(backward(row, d, weight, name)[0], dx[i : i + 1])


def test_without_the_weights_gradient(dtype, isa, rng):
    x, dy, weight = draw((13, 21), dtype, rng)
    mish = _kernels.ACTIVATIONS["mish"]
    dx = _kernels.parametric_backward(x, dy, weight, None, mish)
    assert_same_bits(dx, backward(x, dy, weight, "mish")[0])


def test_nan_stays_and_a_scale_keeps_infinity(dtype, isa):
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]], dtype)
    weight = np.full(4, 0.5, dtype)
    assert_same_bits(forward(x, weight, "linear"), x / 2)
    for name in NAMES:
        y = forward(x, weight, name)
        assert np.isnan(y[0, 0]) and np.isfinite(y[0, 3])


def test_faces_check_their_arguments():
    x, weight = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    softmax, relu = _kernels.ACTIVATIONS["softmax"], _kernels.ACTIVATIONS["relu"]
    for wrong in (None, np.ones(2, np.float32), np.ones(3), np.ones((3, 1), np.float32)):
        with pytest.raises((TypeError, ValueError), match=r"^weight: expected "):
            _kernels.parametric_forward(x, wrong, relu)
        with pytest.raises((TypeError, ValueError), match=r"^weight: expected "):
            _kernels.parametric_backward(x, x, wrong, None, relu)
        if wrong is not None:
            with pytest.raises((TypeError, ValueError), match=r"^dweight: expected "):
                _kernels.parametric_backward(x, x, weight, wrong, relu)
    with pytest.raises(ValueError, match=r"^dy: expected "):
        _kernels.parametric_backward(x, x[:1], weight, None, relu)
    for kind in (-1, 100, softmax):
        with pytest.raises(ValueError, match=r"^kind: expected "):
            _kernels.parametric_forward(x, weight, kind)
