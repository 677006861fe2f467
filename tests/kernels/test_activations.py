"""Activations and softmax: error bounds in ULP, special values, every shape and thread count."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, ulp_error, uses_threads
from fastnn import _kernels

SOFTMAX = _kernels.ACTIVATIONS["softmax"]
ALPHA = {"leaky_relu": 0.25, "elu": 0.75}

# name -> bound on the error of f in ULP, for float32 and float64, over all magnitudes
ULP = {
    "linear": (0, 0), "relu": (0, 0), "leaky_relu": (0.5, 0.5), "sigmoid": (2.5, 2.5),
    "tanh": (2.5, 2.5), "elu": (2, 2), "selu": (2, 2), "softplus": (2.5, 2.5), "silu": (3.5, 3.5),
    "gelu": (20, 8), "mish": (4, 4),
}  # fmt: skip

# Features at, below and above a vector's width; one row and many.
SHAPES = [(1, 1), (1, 15), (1, 16), (1, 17), (3, 7), (5, 33), (257, 130), (4, 3, 5), (40,)]


def forward(x, name):
    return _kernels.activation_forward(x, _kernels.ACTIVATIONS[name], ALPHA.get(name, 0.0))


def backward(x, dy, name):
    saved = x if name in _kernels.SAVES_INPUT else forward(x, name)
    return _kernels.activation_backward(saved, dy, _kernels.ACTIVATIONS[name], ALPHA.get(name, 0.0))


def exact(function, x, *rest):
    """The reference, computed in a wider type than x's."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        return function(*(a.astype(wide) if isinstance(a, np.ndarray) else a for a in (x, *rest)))


def all_magnitudes(dtype):
    """Both signs: dense where activations bend, and every exponent from denormals to the top."""
    top = 126 if dtype == np.float32 else 1022
    powers = np.ldexp(1.0, np.arange(-top - 12, top))
    x = np.concatenate([np.linspace(0, 45, 40001), np.linspace(0, 1, 9999), powers, powers * 1.37])
    x = x.astype(dtype)
    return np.unique(np.concatenate([x, -x]))[None]


@pytest.mark.parametrize("name", ULP)
def test_error_bound(name, dtype, isa):
    x = all_magnitudes(dtype)
    y, expected = forward(x, name), exact(reference.activation_forward, x, name, ALPHA.get(name, 0))
    bound = np.full(x.shape, ULP[name][0 if dtype == np.float32 else 1], float)
    if name in _kernels.SAVES_INPUT:  # x times a factor that lost bits to underflow
        underflow = np.abs(expected) < np.finfo(dtype).tiny * (1 + np.abs(x))
        bound = np.where(underflow, bound + np.abs(x), bound)
    error = ulp_error(y, expected)
    worst = (error - bound).argmax()
    assert (error <= bound).all(), (
        f"{error.flat[worst]:.2f} ULP at x = {x.flat[worst]!r}: {y.flat[worst]!r}, "
        f"not {expected.flat[worst]!r}"
    )


@pytest.mark.parametrize("name", ULP)
def test_derivative(name, dtype, isa, rng):
    """The bound is absolute, a few units of the derivative's size of 1: it may be computed from
    saved outputs, which are rounded."""
    x = all_magnitudes(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    expected = exact(reference.activation_backward, x, dy, name, ALPHA.get(name, 0))
    assert_close(backward(x, dy, name), expected, dtype, magnitude=np.abs(dy), factor=2)


@pytest.mark.parametrize("name", ULP)
def test_special_values(name, dtype, isa):
    """NaN stays NaN, infinity is the limit, ±1e30 does not overflow to NaN, -0 stays a zero."""
    denormal = np.finfo(dtype).smallest_subnormal
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, denormal, -denormal, 1e30, -1e30]], dtype)
    y, dx = forward(x, name), backward(x, np.ones_like(x), name)
    assert np.isnan(y[0, 0]) and (np.isnan(dx[0, 0]) or name == "linear")
    limits = {
        "linear": (np.inf, -np.inf), "relu": (np.inf, 0), "leaky_relu": (np.inf, -np.inf),
        "sigmoid": (1, 0), "tanh": (1, -1), "elu": (np.inf, -0.75),
        "selu": (np.inf, -reference.SELU_SCALE * reference.SELU_ALPHA), "softplus": (np.inf, 0),
        "silu": (np.inf, 0), "gelu": (np.inf, 0), "mish": (np.inf, 0),
    }  # fmt: skip
    np.testing.assert_allclose(y[0, 1:3], limits[name], rtol=1e-6, atol=0)
    finite = x[:, 3:]
    expected = exact(reference.activation_forward, finite, name, ALPHA.get(name, 0))
    np.testing.assert_allclose(
        y[:, 3:].astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=4 * denormal
    )
    assert np.isfinite(y[:, 3:]).all() and np.isfinite(dx[:, 1:]).all()
    expected = exact(reference.activation_backward, finite, np.ones_like(finite), name,
                     ALPHA.get(name, 0))  # fmt: skip
    np.testing.assert_allclose(dx[:, 3:].astype(float), expected.astype(float), atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu"])
def test_the_derivative_at_the_kink_is_the_left_one(name, dtype, isa):
    zeros = np.zeros((1, 3), dtype)
    expected = {"relu": 0, "leaky_relu": 0.25, "elu": 0.75,
                "selu": reference.SELU_SCALE * reference.SELU_ALPHA}  # fmt: skip
    np.testing.assert_allclose(backward(zeros, zeros + 1, name), expected[name], rtol=1e-6)


@pytest.mark.parametrize("name", ULP)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_element_has_the_bits_that_it_has_alone(name, shape, dtype, isa, rng):
    """In any shape, and in a whole vector as in the last, short one."""
    x, dy = (3 * rng.standard_normal((2, *shape))).astype(dtype)
    y, dx = forward(x, name), backward(x, dy, name)
    assert y.shape == dx.shape == shape
    for i in range(0, x.size, 1 + x.size // 40):
        one, d = x.reshape(-1, 1)[i : i + 1].copy(), dy.reshape(-1, 1)[i : i + 1].copy()
        assert_same_bits(y.reshape(-1, 1)[i : i + 1], forward(one, name))
        assert_same_bits(dx.reshape(-1, 1)[i : i + 1], backward(one, d, name))


@pytest.mark.parametrize("name", ULP)
def test_same_bits_for_any_threads_and_fma_isa(name, dtype, threads, fma_isas, rng):
    x, dy = (3 * rng.standard_normal((2, 1601, 353))).astype(dtype)
    _kernels.set_threads(1)
    _kernels.set_isa(fma_isas[0])
    y, dx = forward(x, name), backward(x, dy, name)
    assert uses_threads(lambda: forward(x, name)) and uses_threads(lambda: backward(x, dy, name))
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(forward(x, name), y)
        assert_same_bits(backward(x, dy, name), dx)


@pytest.mark.parametrize("name", ULP)
def test_saved_arrays_are_not_changed(name, dtype, isa, rng):
    x, dy = rng.standard_normal((2, 5, 7)).astype(dtype)
    before, dy_before = x.copy(), dy.copy()
    x.flags.writeable = dy.flags.writeable = False
    backward(x, dy, name)
    assert_same_bits(x, before)
    assert_same_bits(dy, dy_before)


# ---- softmax ----

ROWS = [(1, 1), (3, 2), (1, 15), (2, 16), (5, 17), (7, 33), (40, 10), (3, 1000), (513, 130)]


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_softmax(shape, dtype, isa, rng):
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    y = _kernels.activation_forward(x, SOFTMAX)
    expected = exact(reference.softmax, x)
    assert_close(y, expected, dtype, magnitude=expected, factor=8)
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=10 * np.finfo(dtype).eps)
    dx = _kernels.activation_backward(y, dy, SOFTMAX)
    assert_close(dx, exact(reference.softmax_backward, y, dy), dtype, factor=4)


@pytest.mark.parametrize("shape", [(901, 233), (170, 1000)], ids=str)
def test_softmax_has_the_same_bits_for_any_threads_and_fma_isa(
    shape, dtype, threads, fma_isas, rng
):
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    _kernels.set_threads(1)
    _kernels.set_isa(fma_isas[0])
    y = _kernels.activation_forward(x, SOFTMAX)
    dx = _kernels.activation_backward(y, dy, SOFTMAX)
    assert uses_threads(lambda: _kernels.activation_forward(x, SOFTMAX))
    assert uses_threads(lambda: _kernels.activation_backward(y, dy, SOFTMAX))
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.activation_forward(x, SOFTMAX), y)
        assert_same_bits(_kernels.activation_backward(y, dy, SOFTMAX), dx)


def test_softmax_of_extremes(dtype, isa):
    x = np.array([[1e30, -1e30, 0], [-1e30, -1e30, -1e30], [700, 0, -700], [np.nan, 0, 1]], dtype)
    y = _kernels.activation_forward(x, SOFTMAX)
    np.testing.assert_array_equal(y[0], [1, 0, 0])
    np.testing.assert_allclose(y[1], 1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(y[2].argmax(), 0)
    assert np.isfinite(y[:3]).all() and np.isnan(y[3]).all()


def test_softmax_with_infinity_left_out(dtype, isa):
    """-inf masks a class out."""
    y = _kernels.activation_forward(np.array([[0, -np.inf, 0]], dtype), SOFTMAX)
    np.testing.assert_array_equal(y, [[0.5, 0, 0.5]])


# ---- what the faces refuse ----


@pytest.mark.parametrize("kind", [-1, len(_kernels.ACTIVATIONS), 10**6])
def test_an_unknown_kind_is_refused(kind):
    x = np.ones((2, 3), np.float32)
    for call in (
        lambda: _kernels.activation_forward(x, kind),
        lambda: _kernels.activation_backward(x, x, kind),
        lambda: _kernels.dense_forward(x, np.ones((3, 2), np.float32), None, kind),
    ):
        with pytest.raises(ValueError, match=r"^kind: expected one of"):
            call()


@pytest.mark.parametrize("wrong", [
    None, np.ones((3, 2), np.float32), np.ones((2, 3)), np.ones((2, 6), np.float32)[:, ::2],
    np.ones((2, 3), np.int64), np.ones((2, 3), ">f4"), np.ones((0, 3), np.float32),
], ids=lambda a: "None" if a is None else f"{a.dtype}{a.shape}")  # fmt: skip
def test_faces_check_their_arguments(wrong):
    x = np.ones((2, 3), np.float32)
    with pytest.raises((TypeError, ValueError), match=r"^(dy|saved): expected "):
        _kernels.activation_backward(x, wrong, 1)
    with pytest.raises((TypeError, ValueError), match=r"^(dy|saved): expected "):
        _kernels.activation_backward(x, wrong, SOFTMAX)
    if wrong is None or wrong.dtype not in (np.float32, np.float64) or wrong.size != 6:
        with pytest.raises((TypeError, ValueError), match=r"^x: expected "):
            _kernels.activation_forward(wrong, 1)
        with pytest.raises((TypeError, ValueError), match=r"^x: expected "):
            _kernels.activation_forward(wrong, SOFTMAX)
