"""`fastnn.learning_rate_range`: the steps are those of a loop by hand, and it ends in time."""

import copy
import math

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential

X, Y = fastnn.datasets.digits()
LOSS = fastnn.SoftmaxCrossEntropy()


def make():
    return Sequential(Dense(64, 16, activation="relu"), fastnn.Dropout(0.1), Dense(16, 10), seed=0)


def test_it_is_a_training_whose_rate_grows():
    model, average, data = make(), fastnn.ExponentialAverage(0.9), fastnn.batches(X, Y, 64, seed=5)
    found = fastnn.learning_rate_range(
        model, X, Y, LOSS, fastnn.SGD(3.0), low=1e-4, high=10, steps=41, batch_size=64, seed=5
    )
    np.testing.assert_allclose(found.rates, 10.0 ** np.linspace(-4, 1, 41))
    optimizer, rows = fastnn.SGD(1.0), [*data, *data]
    for i, (xb, yb) in enumerate(b for b in rows if len(b[1]) == 64):
        if i == len(found.rates):
            break
        value, gradient = LOSS(model.forward(xb, training=True), yb)
        model.backward(gradient)
        optimizer.learning_rate = found.rates[i]
        optimizer.step(model)
        np.testing.assert_allclose(found.losses[i], value, rtol=1e-6)
        assert found.smoothed[i] == average.update(found.losses[i])
    assert i == 41
    best = found.rates[found.smoothed.argmin() - 9]
    np.testing.assert_allclose(found.suggestion, best / 10)


def test_the_same_arguments_give_the_same_and_nothing_changes():
    model, optimizer = make(), fastnn.Adam(0.5)
    before, gradients = model.state_dict(), model.flat_gradients.copy()
    first, second = (fastnn.learning_rate_range(model, X, Y, LOSS, optimizer) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first[:3], second[:3], strict=True))
    assert optimizer.learning_rate == 0.5 and (model.flat_gradients == gradients).all()
    assert all((model.state_dict()[name] == array).all() for name, array in before.items())
    optimizer.learning_rate = 1e-3
    step, twin = fastnn.TrainStep(model, LOSS, optimizer), copy.deepcopy(make())
    assert step(X[:9], Y[:9]) == fastnn.TrainStep(twin, LOSS, fastnn.Adam(1e-3))(X[:9], Y[:9])


def test_it_ends_where_the_loss_diverges():
    model = Sequential(Dense(64, 1))
    found = fastnn.learning_rate_range(
        model, X, Y[:, None], fastnn.MeanSquaredError(), fastnn.SGD(1.0), high=1e4
    )
    n = len(found.rates)
    assert 10 < n < 100 and len(found.losses) == len(found.smoothed) == n
    limit = 4 * found.losses[:10].max()
    assert (found.smoothed[:-1] <= limit).all() and np.isfinite(found.losses).all()
    assert found.rates[0] < found.suggestion < found.rates[-1]


def test_no_rate_is_suggested_where_none_helps():
    model = Sequential(Dense(64, 10, weight_init="zeros", bias=False))
    found = fastnn.learning_rate_range(model, X * 0, Y, LOSS, steps=20)
    assert math.isnan(found.suggestion) and np.ptp(found.losses) < 1e-6


def test_a_data_set_smaller_than_a_batch():
    found = fastnn.learning_rate_range(make(), X[:5], Y[:5], LOSS, steps=12, high=1e-3)
    assert len(found.losses) == 12


@pytest.mark.parametrize("wrong, message", [
    ({"low": 0.0}, "low: expected a finite number > 0"),
    ({"low": 1.0, "high": 1.0}, "high: expected more than low, 1.0, got 1.0"),
    ({"steps": 1}, "steps: expected an integer >= 2, got 1"),
    ({"batch_size": 0}, "batch_size: expected an integer >= 1"),
    ({"X": 3.0}, "X: expected an array of rows, got the single number 3.0"),
    ({"X": None}, "X: expected real numbers"),
])  # fmt: skip
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        fastnn.learning_rate_range(make(), **{"X": X, "y": Y, "loss": LOSS, **wrong})


def test_an_optimizer_of_another_model_is_refused():
    optimizer, model = fastnn.Adam(), make()
    fastnn.TrainStep(model, LOSS, optimizer)(X[:9], Y[:9])
    with pytest.raises(ValueError, match="has stepped another model"):
        fastnn.learning_rate_range(make(), X, Y, LOSS, optimizer)
