"""Batch norm and layer norm against the reference, at sizes and means that could break them."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads, wide
from fastnn import _kernels
from forms import overflowing

MOMENTUM, EPS = 0.1, 1e-5

# Rows around the chunk of 128, features around a vector's width.
BATCH_SHAPES = [(2, 1), (3, 2), (5, 15), (127, 16), (128, 17), (129, 33), (257, 3), (600, 65)]
LAYER_SHAPES = [(1, 1), (1, 2), (3, 15), (5, 16), (2, 17), (129, 33), (4, 513)]


def operands(rng, shape, dtype):
    """x and dy (rows, features), gamma and beta (features,), each feature at its own scale."""
    features = shape[1]
    scale, shift = rng.uniform(0.5, 2, features), rng.normal(0, 2, features)
    x = rng.standard_normal(shape) * scale + shift
    dy = rng.standard_normal(shape)
    gamma, beta = rng.uniform(0.5, 1.5, features), rng.normal(0, 1, features)
    return [a.astype(dtype) for a in (x, dy, gamma, beta)]


def running(features, dtype):
    mean = np.linspace(-1, 1, features, dtype=dtype)
    return mean, np.linspace(0.5, 2, features, dtype=dtype)


def batchnorm(x, dy, gamma, beta):
    """All results: y, mean, inv_std, running mean and variance, dx, dgamma, dbeta."""
    mean, var = running(x.shape[1], x.dtype)
    y, batch_mean, inv_std = _kernels.batchnorm_forward(x, gamma, beta, mean, var, MOMENTUM, EPS)
    dgamma, dbeta = np.full_like(gamma, np.nan), np.full_like(beta, np.nan)
    dx = _kernels.batchnorm_backward(x, dy, gamma, batch_mean, inv_std, dgamma, dbeta)
    return y, batch_mean, inv_std, mean, var, dx, dgamma, dbeta


def layernorm(x, dy, gamma, beta):
    y, mean, inv_std = _kernels.layernorm_forward(x, gamma, beta, EPS)
    dgamma, dbeta = np.full_like(gamma, np.nan), np.full_like(beta, np.nan)
    dx = _kernels.layernorm_backward(x, dy, gamma, mean, inv_std, dgamma, dbeta)
    return y, mean, inv_std, dx, dgamma, dbeta


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
def test_batchnorm(shape, dtype, isa, rng):
    arrays = operands(rng, shape, dtype)
    x, dy, gamma, beta = map(wide, arrays)
    got = batchnorm(*arrays)
    forward = reference.batchnorm_forward(
        x, gamma, beta, *map(wide, running(shape[1], dtype)), MOMENTUM, EPS
    )
    backward = reference.batchnorm_backward(x, dy, gamma, EPS)
    sums = np.abs(dy * (x - x.mean(axis=0)) * forward[2]).sum(axis=0), np.abs(dy).sum(axis=0)
    # few rows may lie close together, so that 1/std magnifies the rounding of x
    close = np.abs(x).max(axis=0) * forward[2]
    for actual, expected, magnitude in zip(
        got,
        [*forward, *backward],
        [4 + close, 8, forward[2] * (1 + close), 8, 8, 8 * forward[2] * (1 + close), *sums],
        strict=True,
    ):
        assert_close(actual, expected, dtype, magnitude, factor=10)


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
def test_batchnorm_evaluate(shape, dtype, isa, rng):
    x, _, gamma, beta = operands(rng, shape, dtype)
    mean, var = running(shape[1], dtype)
    before = mean.copy(), var.copy()
    y = _kernels.batchnorm_evaluate(x, gamma, beta, mean, var, EPS)
    expected = reference.batchnorm_evaluate(*map(wide, (x, gamma, beta, mean, var)), EPS)
    assert_close(y, expected, dtype, factor=4)
    assert_same_bits(mean, before[0])
    assert_same_bits(var, before[1])


@pytest.mark.parametrize("shape", LAYER_SHAPES, ids=str)
def test_layernorm(shape, dtype, isa, rng):
    arrays = operands(rng, shape, dtype)
    x, dy, gamma, beta = map(wide, arrays)
    forward, backward = (
        reference.layernorm_forward(x, gamma, beta, EPS),
        reference.layernorm_backward(x, dy, gamma, EPS),
    )
    close = np.abs(x).max(axis=1) * forward[2]
    normal = (x - forward[1][:, None]) * forward[2][:, None]
    magnitudes = [
        (4 + close)[:, None], 8, forward[2] * (1 + close),
        (8 * forward[2] * (1 + close))[:, None],
        np.abs(dy * normal).sum(axis=0) + close.max(), np.abs(dy).sum(axis=0),
    ]  # fmt: skip
    for actual, expected, magnitude in zip(
        layernorm(*arrays), [*forward, *backward], magnitudes, strict=True
    ):
        assert_close(actual, expected, dtype, magnitude, factor=10)


def evaluate(x, dy, gamma, beta):
    return [_kernels.batchnorm_evaluate(x, gamma, beta, *running(x.shape[1], x.dtype), EPS)]


@pytest.mark.parametrize("shape", [(9000, 40), (1100, 310), (40, 9000)], ids=str)
@pytest.mark.parametrize("norm", [batchnorm, evaluate, layernorm])
def test_same_bits_for_any_threads_and_fma_isa(norm, shape, dtype, threads, fma_isas, rng):
    arrays = operands(rng, shape, dtype)
    _kernels.set_threads(1)
    _kernels.set_isa(fma_isas[0])
    expected = norm(*arrays)
    assert uses_threads(lambda: norm(*arrays))
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        for actual, first in zip(norm(*arrays), expected, strict=True):
            assert_same_bits(actual, first)


def test_a_large_mean_costs_no_accuracy_of_the_variance(dtype, isa, rng):
    """E[x²] - E[x]² would be wrong in every digit here."""
    offset = dtype.type(2.0**12 if dtype == np.float32 else 2.0**30)
    steps = rng.integers(-8, 9, (400, 3)).astype(dtype)  # exact after the offset
    x = steps + offset
    ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
    _, _, _, mean, var, *_ = batchnorm(x, x, ones, zeros)
    start = running(3, dtype)
    np.testing.assert_allclose(
        (mean - 0.9 * start[0]) / 0.1, x.mean(axis=0, dtype=float), rtol=1e-5
    )
    np.testing.assert_allclose(
        (var - 0.9 * start[1]) / 0.1, steps.astype(float).var(axis=0), rtol=1e-5
    )
    rows = np.ascontiguousarray(x.T)
    y, *_ = _kernels.layernorm_forward(rows, np.ones(400, dtype), np.zeros(400, dtype), EPS)
    deviation = steps.astype(float).std(axis=0)[:, None]
    centred = (steps - steps.mean(axis=0, dtype=float)).T
    np.testing.assert_allclose(y, centred / deviation, atol=2e-3)


@pytest.mark.parametrize("norm", [batchnorm, layernorm])
def test_constant_features_give_beta(norm, dtype, isa):
    x = np.full((6, 6), 0.1, dtype)
    gamma, beta = np.linspace(1, 2, 6, dtype=dtype), np.linspace(-1, 1, 6, dtype=dtype)
    y, *rest = norm(x, np.ones_like(x), gamma, beta)
    assert_close(y, np.broadcast_to(wide(beta), y.shape), dtype, factor=100)
    assert all(np.isfinite(array).all() for array in rest)


def test_nan_stays_in_its_column_or_row(dtype, isa, rng):
    arrays = operands(rng, (20, 5), dtype)
    arrays[0][3, 2] = np.nan
    y, *_ = batchnorm(*arrays)
    assert np.isnan(y[:, 2]).all() and np.isfinite(np.delete(y, 2, axis=1)).all()
    y, *_ = layernorm(*arrays)
    assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, axis=0)).all()


def test_a_variance_that_overflows_gives_nan_and_not_beta(dtype, isa):
    x = overflowing(dtype)
    ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
    with np.errstate(all="ignore"):
        y, _, inv_std, _, var, *_ = batchnorm(x, x, ones, zeros)
        assert np.isinf(var).all() and np.isnan(inv_std).all() and np.isnan(y).all()
        assert np.isnan(_kernels.batchnorm_evaluate(x, ones, zeros, zeros, var, EPS)).all()
        y, _, inv_std = _kernels.layernorm_forward(
            np.ascontiguousarray(x.T), np.ones(8, dtype), np.zeros(8, dtype), EPS
        )
    assert np.isnan(inv_std).all() and np.isnan(y).all()


def test_batchnorm_of_one_row_is_refused_and_changes_nothing(dtype):
    x, _, gamma, beta = operands(np.random.default_rng(0), (1, 4), dtype)
    mean, var = running(4, dtype)
    before = mean.copy(), var.copy()
    with pytest.raises(ValueError, match=r"(?i)batch ?norm"):
        _kernels.batchnorm_forward(x, gamma, beta, mean, var, MOMENTUM, EPS)
    assert_same_bits(mean, before[0])
    assert_same_bits(var, before[1])


def calls():
    """Each face with good arguments, by name: the tests break one argument at a time."""
    rng = np.random.default_rng(0)
    x, dy, gamma, beta = operands(rng, (6, 5), np.float32)
    mean, var = running(5, np.float32)
    statistics = {"mean": mean, "inv_std": var}
    rows = {"mean": np.ones(6, np.float32), "inv_std": np.ones(6, np.float32)}
    grads = {"dgamma": np.empty(5, np.float32), "dbeta": np.empty(5, np.float32)}
    run = {"running_mean": mean, "running_var": var}
    norm = {"x": x, "gamma": gamma, "beta": beta}
    return {
        "batchnorm_forward": norm | run | {"momentum": 0.1, "eps": EPS},
        "batchnorm_evaluate": norm | run | {"eps": EPS},
        "batchnorm_backward": {"x": x, "dy": dy, "gamma": gamma} | statistics | grads,
        "layernorm_forward": norm | {"eps": EPS},
        "layernorm_backward": {"x": x, "dy": dy, "gamma": gamma} | rows | grads,
    }


CASES = [(face, name) for face, arguments in calls().items() for name in arguments]


@pytest.mark.parametrize("face, name", CASES)
def test_faces_check_every_argument(face, name):
    arguments = calls()[face]
    getattr(_kernels, face)(*arguments.values())
    good = arguments[name]
    if isinstance(good, float):
        broken = [-1.0, np.nan]
    else:
        spread = np.repeat(good, 2, axis=-1)[..., ::2]
        broken = [None, good[..., :3], good.astype(np.float64), spread, good[..., None]]
    for wrong in broken:
        # where two arguments disagree, either may be named
        with pytest.raises((TypeError, ValueError), match=rf"^\w+: expected |^Argument '{name}' "):
            getattr(_kernels, face)(*(arguments | {name: wrong}).values())


WRITTEN = ["running_mean", "running_var", "dgamma", "dbeta"]


@pytest.mark.parametrize("face, name", [case for case in CASES if case[1] in WRITTEN])
def test_what_is_written_must_be_writable(face, name):
    arguments = calls()[face]
    arguments[name].flags.writeable = False
    if face == "batchnorm_evaluate":
        getattr(_kernels, face)(*arguments.values())
        return
    with pytest.raises(ValueError, match="writable"):
        getattr(_kernels, face)(*arguments.values())
