"""Operations on vectors that belong to no family: add, add_penalty, add_scaled, all_finite,
lerp."""

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import _kernels

SHAPES = [(1, 1), (1, 15), (1, 16), (1, 17), (3, 7), (5, 33), (257, 130), (4, 3, 5), (40,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_add(shape, dtype, isa, rng):
    a, b = (10 ** rng.uniform(-5, 5, (2, *shape)) * rng.choice([-1, 1], (2, *shape))).astype(dtype)
    before = a.copy(), b.copy()
    y = _kernels.add(a, b)
    assert_same_bits(y, a + b)
    assert_same_bits(_kernels.add(a, a), a + a)
    for x, old in zip((a, b), before, strict=True):
        assert_same_bits(x, old)


def test_add_special_values(dtype, isa):
    top, low = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, top, -top, low, -low, 1e30], dtype)
    a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(values[:, None], values))
    with np.errstate(all="ignore"):
        expected = a + b
    assert_same_bits(_kernels.add(a, b), expected)


def test_add_on_any_threads(threads, dtype, fma_isas, rng):
    a, b = rng.standard_normal((2, 1601, 353)).astype(dtype)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.add(a, b), a + b)
    assert threads == 1 or uses_threads(lambda: _kernels.add(a, b))


@pytest.mark.parametrize("b", [
    np.ones((3, 4)), np.ones((4, 3), np.float32), np.ones(12, np.float32), None,
    np.ones((4, 3), np.float32).T, np.ones((1, 4), np.float32), np.ones((3, 4), int),
])  # fmt: skip
def test_add_refuses_another_kind(b):
    with pytest.raises((TypeError, ValueError), match=r"^b: expected"):
        _kernels.add(np.ones((3, 4), np.float32), b)
    with pytest.raises((TypeError, ValueError), match="expected"):
        _kernels.add(b, np.ones((3, 4), np.float32))


@pytest.mark.parametrize("size", [1, 16, 1025, 70001])
def test_penalty_kernels(size, dtype, isa, rng):
    x, y = rng.standard_normal((2, size)).astype(dtype)
    before = y.copy()
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    value = np.zeros(1)
    _kernels.add_penalty(value, x, 0.5)
    np.testing.assert_allclose(value, [(x.astype(float) ** 2).sum() / 2], rtol=tolerance)
    _kernels.add_scaled(y, x, 0.3)
    assert_close(y, before.astype(np.longdouble) + 0.3 * x.astype(np.longdouble), dtype)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 4095, 4096, 4097, 70001])
def test_all_finite(size, dtype, isa, rng):
    x = np.full(size, np.finfo(dtype).max, dtype)
    assert _kernels.all_finite(x)
    for bad in (np.nan, np.inf, -np.inf):
        for place in {0, size // 2, size - 1}:
            broken = x.copy()
            broken[place] = bad
            assert not _kernels.all_finite(broken)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, 1025, 70001])
@pytest.mark.parametrize("rate", [0.0, 0.005, 0.5, 0.9999])
def test_lerp(size, rate, dtype, isa, rng):
    a, b = rng.standard_normal((2, size)).astype(dtype)
    before, same = a.copy(), b.copy()
    _kernels.lerp(a, b, np.array([rate]))
    wide = before.astype(np.longdouble), b.astype(np.longdouble)
    moved = wide[0] + np.dtype(dtype).type(rate).astype(np.longdouble) * (wide[1] - wide[0])
    assert_close(a, moved, dtype, magnitude=np.abs(before) + np.abs(b))
    assert_same_bits(b, same)
    _kernels.lerp(b, same, np.array([rate]))
    assert_same_bits(b, same)  # where they agree, nothing moves


def test_lerp_with_rate_1_copies(dtype, isa):
    b = np.array([np.nan, np.inf, -0.0, 0.0, np.finfo(dtype).smallest_subnormal, 1.1, -3.0], dtype)
    a = np.array([1.0, -np.inf, 1.0, -0.0, 1e30, 1e30, np.nan], dtype)
    _kernels.lerp(a, b, np.ones(1))
    assert_same_bits(a, b)


def test_lerp_on_any_threads(threads, dtype, fma_isas, rng):
    a, b = rng.standard_normal((2, 600_001)).astype(dtype)
    results = []
    for isa in fma_isas:
        _kernels.set_isa(isa)
        moved = a.copy()
        _kernels.lerp(moved, b, np.array([0.3]))
        results.append(moved)
    fastnn.set_num_threads(1)
    _kernels.lerp(a, b, np.array([0.3]))
    for moved in results:
        assert_same_bits(moved, a)


def test_lerp_reads_the_rate_when_a_replay_runs(rng):
    a, b = rng.standard_normal((2, 40))
    rate, begin = np.array([0.5]), a.copy()
    with _kernels.Program() as program:
        _kernels.lerp(a, b, rate)
    assert_close(a, (begin + b) / 2, float)
    rate[0] = 1.0
    program.replay()
    assert_same_bits(a, b)


@pytest.mark.parametrize("rate", [None, np.ones(1, np.float32), np.ones(2), np.ones(0)])
def test_lerp_checks_its_arguments(rate):
    a, b = np.ones((2, 4), np.float32)
    with pytest.raises((TypeError, ValueError), match="rate"):
        _kernels.lerp(a, b, rate)
    for wrong in (b[:3], b.astype(float), b[::2], None):
        with pytest.raises((TypeError, ValueError), match=r"\bb\b"):
            _kernels.lerp(a, wrong, np.ones(1))
    a.flags.writeable = False
    with pytest.raises(ValueError, match="a: expected a writable"):
        _kernels.lerp(a, b, np.ones(1))
