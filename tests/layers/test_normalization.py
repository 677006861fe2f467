"""Batch norm in a model: its running statistics, one row, variances that overflow."""

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits
from fastnn import BatchNorm, Dense, Sequential
from forms import overflowing


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_running_statistics(momentum, dtype, isa, rng):
    model = Sequential(BatchNorm(3, momentum=momentum), dtype=dtype)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        x = (rng.standard_normal((9, 3)) * 2 + 1).astype(dtype)
        model.forward(x, training=True)
        mean = (1 - momentum) * mean + momentum * x.mean(axis=0, dtype=float)
        var = (1 - momentum) * var + momentum * x.astype(float).var(axis=0)
    assert_close(model.state["0.running_mean"], mean, dtype, factor=10)
    assert_close(model.state["0.running_var"], var, dtype, factor=10)
    y = model.predict(x)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    assert_close(y, expected, dtype, factor=20)


def test_batch_norm_refuses_a_batch_of_one_and_stays_as_it_was():
    model = Sequential(Dense(4, 3), BatchNorm(3))
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"(?i)batch ?norm"):
        model.forward(np.ones((1, 4)), training=True)
    assert model.forward(np.ones((1, 4))).shape == (1, 3)
    for key, array in model.state_dict().items():
        assert_same_bits(array, before[key])


# ---- a variance that overflows ----


def normalized_model(dtype):
    model = fastnn.Sequential(
        fastnn.BatchNorm(3), fastnn.Dense(3, 2), seed=0, dtype=np.dtype(dtype).name
    )
    return model, fastnn.TrainStep(model, fastnn.MeanSquaredError(), fastnn.SGD(0.01))


def test_a_step_whose_variance_overflows_is_refused_and_undone(dtype, rng):
    model, step = normalized_model(dtype)
    x, y = rng.standard_normal((8, 3)).astype(dtype), np.zeros((8, 2), dtype)
    step(x, y)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"^step 2: the loss is nan at learning rate"):
        step(overflowing(dtype), y)
    for name, value in model.state_dict().items():
        assert_same_bits(value, before[name])
    assert np.isfinite(step(x, y))


def test_fit_stops_where_the_variance_overflows_and_keeps_the_statistics(dtype):
    model, _ = normalized_model(dtype)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"step 1: the loss is nan at learning rate"):
        model.fit(
            overflowing(dtype), np.zeros((8, 2), dtype), epochs=2, batch_size=8,
            loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(0.01),
        )  # fmt: skip
    for name, value in model.state_dict().items():
        assert_same_bits(value, before[name])
