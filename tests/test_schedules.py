"""Schedules: their formulas, and the same rates in recorded steps and in steps by hand."""

import math

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Cosine,
    CosLog,
    Dense,
    ExponentialDecay,
    FlatCosine,
    MeanSquaredError,
    OneCycle,
    Sequential,
    StepDecay,
)
from stepping import CLASSES, FEATURES

EPOCHS, BATCH, ROWS = 5, 8, 50
T = np.linspace(0, 10, 41)


def cosine(t, warmup, end):
    if t < warmup:
        return t / warmup
    return end + (1 - end) / 2 * (1 + math.cos(math.pi * (t - warmup) / (10 - warmup)))


def one_cycle(t, rise, start, end):
    if t < rise * 10:
        return start + (1 - start) / 2 * (1 - math.cos(math.pi * t / (rise * 10)))
    return end + (1 - end) / 2 * (1 + math.cos(math.pi * (t - rise * 10) / (10 - rise * 10)))


def cos_log(t, cycles):
    """Half a cosine up and half a one down in each cycle; the k-th begins at (2^k - 1) / (2^cycles
    - 1) of the training."""
    number = math.log(1 + (2**cycles - 1) * t / 10, 2)
    return math.sin(math.pi * number) ** 2


SCHEDULES = {
    "step": (StepDecay(3, factor=0.5), lambda t: 0.5 ** (t // 3)),
    "step, default": (StepDecay(4), lambda t: 0.1 ** (t // 4)),
    "exponential": (ExponentialDecay(0.9), lambda t: 0.9**t),
    "cosine": (Cosine(), lambda t: cosine(t, 0, 0)),
    "cosine, warm-up": (Cosine(warmup=2.5, end=0.1), lambda t: cosine(t, 2.5, 0.1)),
    "cosine of a logarithm": (CosLog(), lambda t: cos_log(t, 4)),
    "cosine of a logarithm, one cycle": (CosLog(1), lambda t: cos_log(t, 1)),
    "flat, then cosine": (FlatCosine(), lambda t: 1 if t < 5 else cosine(t, 5, 0)),
    "flat, then cosine, early": (FlatCosine(0.0), lambda t: cosine(t, 0, 0)),
    "one cycle": (OneCycle(), lambda t: one_cycle(t, 0.3, 0.04, 1e-4)),
    "one cycle, no rise": (OneCycle(rise=0.0), lambda t: one_cycle(t, 0, 0.04, 1e-4)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_formula(name):
    schedule, expected = SCHEDULES[name]
    factors = schedule(T, 10)
    assert factors.dtype == np.float64
    np.testing.assert_allclose(factors, [expected(t) for t in T], rtol=1e-12, atol=1e-15)
    assert float(schedule(2.5, 10)) == factors[10]


@pytest.mark.parametrize("make", [lambda: Cosine(warmup=20.0), lambda: OneCycle(rise=0.999)])
def test_a_rise_that_lasts_to_the_end(make):
    factors = make()(T, 10)
    assert np.isfinite(factors).all() and (np.diff(factors[:-1]) > 0).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: StepDecay(0), "every"),
        (lambda: StepDecay(2.5), "every"),
        (lambda: StepDecay(2, factor=0.0), "factor"),
        (lambda: ExponentialDecay(1.5), "factor"),
        (lambda: Cosine(warmup=-1), "warmup"),
        (lambda: Cosine(end=1.0), "end"),
        (lambda: CosLog(0), "cycles"),
        (lambda: CosLog(65), "cycles"),
        (lambda: CosLog(2.0), "cycles"),
        (lambda: FlatCosine(1.0), "flat"),
        (lambda: OneCycle(rise=1.0), "rise"),
        (lambda: OneCycle(start="low"), "start"),
    ],
)
def test_settings_out_of_range(make, name):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
        make()


class OwnDense(Dense):
    """A custom class, so that its steps are not recorded."""


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, FEATURES)), rng.standard_normal((ROWS, CLASSES))


def train(layer=Dense, optimizer=None, **options):
    model = Sequential(layer(FEATURES, 8, activation="tanh"), layer(8, CLASSES), seed=1)
    history = model.fit(
        *data(),
        loss=MeanSquaredError(),
        optimizer=fastnn.Adam(0.1) if optimizer is None else optimizer,
        epochs=EPOCHS,
        batch_size=BATCH,
        progress=False,
        **options,
    )
    return model, history


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_recorded_and_by_hand_alike(name, accumulate):
    schedule, _ = SCHEDULES[name]
    model, history = train(schedule=schedule, accumulate=accumulate)
    hand, expected = train(OwnDense, schedule=schedule, accumulate=accumulate)
    assert_same_bits(model.flat_parameters, hand.flat_parameters)
    assert history.loss == expected.loss
    assert history.learning_rate == expected.learning_rate
    constant, _ = train(accumulate=accumulate)
    assert (model.flat_parameters != constant.flat_parameters).any()


def test_every_step_has_its_rate():
    """With SGD on a constant gradient, the sum of the rates is how far the bias goes."""
    model = Sequential(Dense(1, 1, weight_init="zeros"), dtype="float64")
    steps, called = math.ceil(ROWS / BATCH), []

    def schedule(t, epochs):
        called.append(epochs)
        return np.exp(-t)

    class Slope(fastnn.Loss):
        def evaluate(self, outputs, targets, weight):
            return 0.0, np.full_like(outputs, -1 / len(outputs))

    for loss in (Slope(), fastnn.MeanAbsoluteError()):  # by hand, and recorded
        called.clear()
        optimizer = fastnn.SGD(0.5)
        model.flat_parameters[:] = 0
        history = model.fit(
            np.zeros((ROWS, 1)), np.full(ROWS, 99.0), loss=loss, optimizer=optimizer,
            epochs=EPOCHS, batch_size=BATCH, schedule=schedule, progress=False,
        )  # fmt: skip
        t = (np.arange(EPOCHS * steps) + 0.5) / steps
        bias = model.parameters["0.bias"][0]
        np.testing.assert_allclose(bias, 0.5 * np.exp(-t).sum(), rtol=1e-12)
        np.testing.assert_allclose(history.learning_rate, 0.5 * np.exp(-t[steps - 1 :: steps]))
        assert called == [EPOCHS] * EPOCHS and optimizer.learning_rate == 0.5


def test_a_schedule_of_ones_changes_nothing():
    model, _ = train(schedule=lambda t, epochs: 1.0)
    plain, _ = train()
    assert_same_bits(model.flat_parameters, plain.flat_parameters)


@pytest.mark.parametrize("layer", [Dense, OwnDense])
def test_a_rate_of_zero_trains_nothing(layer):
    model, _ = train(layer, schedule=lambda t, epochs: 0.0)
    fresh = Sequential(Dense(FEATURES, 8, activation="tanh"), Dense(8, CLASSES), seed=1)
    assert_same_bits(model.flat_parameters, fresh.flat_parameters)


@pytest.mark.parametrize(
    ("schedule", "error", "text"),
    [
        (Cosine, TypeError, "schedule: expected a function"),
        (0.5, TypeError, "schedule: expected a function"),
        (lambda t, epochs: -t, ValueError, "finite factors >= 0"),
        (lambda t, epochs: t / 0.0, ValueError, "finite factors >= 0"),
        (lambda t, epochs: np.ones(3), ValueError, "a factor for each of 7 steps"),
        (lambda t, epochs: "fast", ValueError, "a factor for each of 7 steps"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, error, text):
    optimizer = fastnn.Adam(0.1)
    with pytest.raises(error, match=text), np.errstate(divide="ignore"):
        train(schedule=schedule, optimizer=optimizer)
    assert optimizer.learning_rate == 0.1


def test_an_optimizer_without_a_rate_is_refused():
    class Own:
        def step(self, model):
            model.update(lambda parameters, gradients: None)

    with pytest.raises(TypeError, match=r"schedule: .* has no learning_rate"):
        train(schedule=Cosine(), optimizer=Own())
    _, history = train(optimizer=Own())
    assert math.isnan(history.learning_rate[0])


def test_the_rate_comes_back_after_a_failure():
    optimizer = fastnn.SGD(1e30)
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(schedule=Cosine(warmup=1), optimizer=optimizer)
    assert optimizer.learning_rate == 1e30


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batches_of_ones_own_have_the_rates_of_arrays(accumulate):
    X, y = data()
    stream = fastnn.batches(X, y, BATCH, seed=0)
    model = Sequential(Dense(FEATURES, 8, activation="tanh"), Dense(8, CLASSES), seed=1)
    options = {"schedule": OneCycle(), "accumulate": accumulate}
    history = model.fit(
        stream, loss=MeanSquaredError(), optimizer=fastnn.Adam(0.1), epochs=EPOCHS, progress=False,
        **options,
    )  # fmt: skip
    twin, expected = train(**options)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    assert history.learning_rate == expected.learning_rate


def test_batches_must_say_how_many_they_are():
    model = Sequential(Dense(FEATURES, CLASSES), seed=0)
    with pytest.raises(ValueError, match=r"schedule: .* give X a __len__"):
        model.fit(
            (batch for batch in [data()]), loss=MeanSquaredError(), optimizer=fastnn.SGD(1e-3),
            epochs=1, schedule=Cosine(), progress=False,
        )  # fmt: skip


def test_a_function_that_takes_numbers_only():
    model, history = train(schedule=lambda t, epochs: 1.0 if t < 2 else math.exp(-t))
    twin, expected = train(schedule=lambda t, epochs: np.where(t < 2, 1.0, np.exp(-t)))
    np.testing.assert_allclose(history.learning_rate, expected.learning_rate, rtol=1e-14)
    np.testing.assert_allclose(model.flat_parameters, twin.flat_parameters, atol=1e-6)
