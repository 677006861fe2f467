"""Periodic embeddings: values, gradients and error bounds, every shape and thread count."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, ulp_error, uses_threads, wide
from fastnn import _kernels

# rows, features, frequencies, out: around a vector, a block of rows and a chunk
SHAPES = [
    (1, 1, 1, 2), (7, 3, 16, 4), (16, 1, 5, 3), (17, 20, 3, 2), (64, 2, 16, 4), (65, 5, 4, 9),
    (1023, 2, 3, 4), (1024, 1, 3, 4), (1025, 3, 2, 4), (4100, 2, 3, 3), (3, 2, 256, 64),
]  # fmt: skip


def draw(shape, dtype, rng, scale=1.0):
    rows, features, count, out = shape
    x = scale * rng.standard_normal((rows, features))
    sizes = (features, count), (features, count), (features, count, out - 1), (features, out - 1)
    return [a.astype(dtype) for a in (x, *map(rng.standard_normal, sizes))]


def backward(x, dy, waves, input_gradient=True):
    """dx and the gradients of the four parameters, which are filled with NaN before."""
    shapes = [a.shape for a in waves] + [(x.shape[1], waves[2].shape[2])]
    gradients = [np.full(shape, np.nan, x.dtype) for shape in shapes]
    dx = _kernels.periodic_backward(x, dy, *waves, gradients, input_gradient)
    return [dx, *gradients]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_reference(shape, dtype, isa, rng):
    x, *waves, bias = draw(shape, dtype, rng)
    y = _kernels.periodic_forward(x, *waves, bias)
    exact = [wide(a) for a in (x, *waves, bias)]
    assert_close(y, reference.periodic_forward(*exact), dtype, factor=4)
    assert_same_bits(np.ascontiguousarray(y[:, :: shape[3]]), x)
    dy = rng.standard_normal(y.shape).astype(dtype)
    expected = reference.periodic_backward(exact[0], wide(dy), *exact[1:4])
    for gradient, its in zip(backward(x, dy, waves), expected, strict=True):
        assert_close(gradient, its, dtype, factor=15)


@pytest.mark.parametrize("shape", [(33, 5, 16, 4), (1700, 3, 4, 3)], ids=str)
def test_parts_of_the_gradient_have_the_bits_of_all(shape, dtype, isa, rng):
    x, *waves, _ = draw(shape, dtype, rng)
    dy = rng.standard_normal((shape[0], shape[1] * shape[3])).astype(dtype)
    dx, *gradients = backward(x, dy, waves)
    assert_same_bits(_kernels.periodic_backward(x, dy, *waves), dx)
    none, *others = backward(x, dy, waves, False)
    assert none is None
    for a, b in zip(others, gradients, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("shape", [(1601, 37, 4, 4), (300, 40, 16, 4)], ids=str)
def test_same_bits_for_any_threads_and_fma_isa(shape, dtype, threads, fma_isas, rng):
    x, *waves, bias = draw(shape, dtype, rng)
    dy = rng.standard_normal((shape[0], shape[1] * shape[3])).astype(dtype)
    _kernels.set_threads(1)
    _kernels.set_isa(fma_isas[0])
    y, gradients = _kernels.periodic_forward(x, *waves, bias), backward(x, dy, waves)
    assert uses_threads(lambda: _kernels.periodic_forward(x, *waves, bias))
    assert uses_threads(lambda: backward(x, dy, waves))
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.periodic_forward(x, *waves, bias), y)
        for a, b in zip(backward(x, dy, waves), gradients, strict=True):
            assert_same_bits(a, b)


def test_a_row_has_the_bits_that_it_has_alone(dtype, isa, rng):
    x, *parameters = draw((150, 3, 16, 4), dtype, rng)
    y = _kernels.periodic_forward(x, *parameters)
    for i in (0, 1, 15, 63, 64, 100, 149):
        assert_same_bits(_kernels.periodic_forward(x[i : i + 1].copy(), *parameters), y[i : i + 1])


def turns(dtype):
    """Angles in turns: dense over some turns, near the zeros of sine and cosine, and of every
    size."""
    near = np.ldexp(1.0, -np.arange(2, 60))
    quarters = np.add.outer(np.arange(-9, 10) / 4, np.concatenate([near, -near, [0]])).ravel()
    powers = np.ldexp(1.0, np.arange(-100, 100))
    t = [np.linspace(-3, 3, 60001), quarters, powers, -1.37 * powers, powers + 0.25]
    return np.unique(np.concatenate(t).astype(dtype))[:, None]


def test_error_of_cosine_and_sine(dtype, isa):
    """In ULP: cos(2 pi t), and sin(2 pi t) from the gradient by the phase of one row at a time."""
    t = turns(dtype)
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    weight = np.ones((1, 1, 1), dtype)
    y = _kernels.periodic_forward(t, one, zero, weight, zero)[:, 1]
    fraction = (t - np.round(t)).astype(np.longdouble)[:, 0]  # exact
    quarter = 0.25 - abs(fraction)
    pi = np.longdouble("3.14159265358979323846264338327950288")
    bound = 3.0 if isa == "portable" else 1.8
    assert ulp_error(y, np.sin(2 * pi * quarter)).max() <= bound
    dy = np.tile(np.array([0, 1], dtype), (len(t), 1))
    slope = _kernels.periodic_backward(t, dy, one, zero, weight)[:, 0]  # -2 pi sin(2 pi t)
    sine = np.copysign(np.minimum(abs(fraction), 0.5 - abs(fraction)), fraction)
    assert ulp_error(slope, -2 * pi * np.sin(2 * pi * sine)).max() <= bound + 0.5


def test_what_is_not_finite(dtype, isa):
    x = np.array([[np.nan], [np.inf], [-np.inf], [1.0]], dtype)
    waves = [np.ones((1, 3), dtype), np.zeros((1, 3), dtype), np.ones((1, 3, 1), dtype)]
    y = _kernels.periodic_forward(x, *waves, np.zeros((1, 1), dtype))
    assert np.isnan(y[:3, 1]).all() and y[3, 1] == 3
    dx = _kernels.periodic_backward(x, np.ones_like(y), *waves)
    assert np.isnan(dx[:3]).all() and np.isfinite(dx[3]).all()


def test_a_sum_over_many_rows_is_that_of_one_chunk(dtype):
    rows = 2**20
    x, *waves, _ = draw((1, 1, 2, 2), dtype, np.random.default_rng(0))
    many, dy = np.broadcast_to(x, (rows, 1)).copy(), np.ones((rows, 2), dtype)
    one = reference.periodic_backward(wide(x), wide(dy[:1]), *map(wide, waves))[1:]
    for total, single in zip(backward(many, dy, waves)[1:], one, strict=True):
        assert_close(total, rows * single, dtype, magnitude=rows * abs(single), factor=4)


def test_faces_check_their_arguments():
    x, *waves, bias = draw((3, 2, 4, 3), np.float32, np.random.default_rng(0))
    dy, names = np.ones((3, 6), np.float32), ["x", "frequency", "phase", "weight", "bias"]
    for i, name in enumerate(names):
        for wrong in (None, [x, *waves, bias][i].astype(float), np.ones((5, 5, 5), np.float32)):
            arguments = [x, *waves, bias]
            arguments[i] = wrong
            is_other = i == 0 and wrong is not None and wrong.ndim == 2  # then frequency differs
            named = "frequency" if is_other else name
            with pytest.raises((TypeError, ValueError), match=f"^{named}: expected"):
                _kernels.periodic_forward(*arguments)
    with pytest.raises(ValueError, match=r"^dy: expected float32 of shape \(3, 6\)"):
        _kernels.periodic_backward(x, dy[:2], *waves)
    read_only = [np.zeros_like(a) for a in (*waves, bias)]
    read_only[2].flags.writeable = False
    with pytest.raises(ValueError, match=r"^dweight: expected a writable"):
        _kernels.periodic_backward(x, dy, *waves, read_only)
    with pytest.raises(ValueError, match=r"^dbias: expected"):
        _kernels.periodic_backward(
            x, dy, *waves, [*read_only[:2], waves[2].copy(), np.ones((2, 3), np.float32)]
        )
    for shape in ((1, 1, 257, 2), (1, 1, 1, 65)):
        with pytest.raises(ValueError, match=r"^weight: expected at most 256 frequencies and 64 o"):
            _kernels.periodic_forward(*draw(shape, np.float32, np.random.default_rng(0)))
