"""Operations on vectors that belong to no family: add, add_penalty, add_penalty_l1, add_scaled,
add_sign, all_finite, clip_value, lerp."""

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
def test_l1_kernels(size, dtype, isa, rng):
    x, y = rng.standard_normal((2, size)).astype(dtype)
    x[rng.random(size) < 0.2] = 0
    before, value = y.copy(), np.ones(1)
    _kernels.add_penalty_l1(value, x, 0.5)
    expected = 1 + np.abs(x).sum(dtype=np.longdouble) / 2
    np.testing.assert_allclose(value, [expected], rtol=1e-6 if dtype == np.float32 else 1e-14)
    _kernels.add_sign(y, x, 0.3)
    assert_same_bits(y, before + np.sign(x) * dtype.type(0.3))


def test_signs_of_special_values(dtype, isa):
    low = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, np.inf, -np.inf, low, -low, np.nan], dtype)
    y = np.ones(7, dtype)
    _kernels.add_sign(y, x, 2.0)
    assert_same_bits(y, np.array([1, 1, 3, -1, 3, -1, np.nan], dtype))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1025, 70001])
def test_clip_value(size, dtype, isa, rng):
    g = rng.standard_normal(size).astype(dtype)
    g[rng.random(size) < 0.1] = np.nan
    g[rng.random(size) < 0.1] = np.inf
    expected = np.clip(g, -dtype.type(0.7), dtype.type(0.7))
    _kernels.clip_value(g, 0.7)
    assert_same_bits(g, expected)
    assert np.isnan(expected).any() or size == 1


def test_vectors_in_place_on_any_threads(threads, dtype, fma_isas, rng):
    x, y = rng.standard_normal((2, 600_001)).astype(dtype)
    value, results = np.zeros(1), []
    for n, isa in [(1, fma_isas[0]), *((threads, isa) for isa in fma_isas)]:
        fastnn.set_num_threads(n)
        _kernels.set_isa(isa)
        moved, value = y.copy(), np.zeros(1)
        _kernels.add_sign(moved, x, 0.3)
        _kernels.clip_value(moved, 0.5)
        _kernels.add_penalty_l1(value, moved, 0.1)
        results.append((moved, value))
        assert_same_bits(moved, results[0][0])
        assert_same_bits(value, results[0][1])
    assert threads == 1 or uses_threads(lambda: _kernels.add_sign(moved, x, 0.3))
    assert threads == 1 or uses_threads(lambda: _kernels.clip_value(moved, 0.5))


def test_clip_value_checks_its_arguments():
    g = np.ones(4, np.float32)
    for limit in (0.0, -1.0, np.nan, 1e-50, np.inf):
        with pytest.raises(ValueError, match="clip_value"):
            _kernels.clip_value(g, limit)
    g.flags.writeable = False
    with pytest.raises(ValueError, match="gradients: expected a writable"):
        _kernels.clip_value(g, 1.0)


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
