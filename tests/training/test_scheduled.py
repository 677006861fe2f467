"""Schedules of several numbers at once: learning rate, weight decay and dropout, step by step."""

import copy
import math
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    AdamW,
    BatchNorm,
    CosLog,
    Dense,
    Dropout,
    FlatCosine,
    MeanSquaredError,
    Residual,
    Sequential,
)

EPOCHS, BATCH, ROWS, STEPS = 4, 8, 52, 7
ALL = {"learning_rate": CosLog(2), "weight_decay": FlatCosine(), "dropout": FlatCosine(0.25)}


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 5)), rng.standard_normal((ROWS, 2))


class OwnDense(Dense):
    """A custom class, so that its steps are not recorded."""


def network(last=Dense):
    return Sequential(
        Dense(5, 12, activation="tanh"), BatchNorm(12), Dropout(0.3),
        Residual(Dense(12, 12, activation="selu"), Dropout(0.5)), last(12, 2), seed=1,
    )  # fmt: skip


def adamw():
    return AdamW(0.05, beta2=0.95, weight_decay=0.1, weight_decay_factors={"*.bias": 0.0})


def train(model, optimizer, schedule=ALL, epochs=EPOCHS, **options):
    return model.fit(
        *data(), loss=MeanSquaredError(), optimizer=optimizer, epochs=epochs, batch_size=BATCH,
        schedule=schedule, progress=False, **options,
    )  # fmt: skip


def by_hand(model, optimizer, schedule=ALL, accumulate=1):
    """A loop that sets the numbers of each step by their attributes."""
    step = fastnn.TrainStep(model, MeanSquaredError(), optimizer, accumulate)
    dropouts = [model.layers[2], model.layers[3].layers[1]]
    own = {"learning_rate": 0.05, "weight_decay": 0.1, "dropout": (0.3, 0.5)}
    ones = lambda t, epochs: 1.0  # noqa: E731
    batches = fastnn.batches(*data(), BATCH, shuffle=True, seed=0)
    for epoch in range(EPOCHS):
        for i, batch in enumerate(batches):
            t = epoch + (i + 0.5) / STEPS
            factor = {name: float(schedule.get(name, ones)(t, EPOCHS)) for name in own}
            optimizer.learning_rate = own["learning_rate"] * factor["learning_rate"]
            optimizer.weight_decay = own["weight_decay"] * factor["weight_decay"]
            for layer, rate in zip(dropouts, own["dropout"], strict=True):
                layer.rate = rate * factor["dropout"]
            step(*batch)
        step.flush()


SCHEDULES = [ALL, *({kind: schedule} for kind, schedule in ALL.items())]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: "+".join(schedule))
def test_recorded_as_in_a_loop_of_ones_own(schedule, accumulate):
    model, hand, plain = network(), network(), network()
    train(model, optimizer := adamw(), schedule, accumulate=accumulate)
    by_hand(hand, adamw(), schedule, accumulate)
    assert_same_bits(model.flat_parameters, hand.flat_parameters)
    assert_same_bits(model.layers[1].running_var, hand.layers[1].running_var)
    assert optimizer.learning_rate == 0.05 and optimizer.weight_decay == 0.1
    assert model.layers[2].rate == 0.3 and model.layers[3].layers[1].rate == 0.5
    train(plain, adamw(), None, accumulate=accumulate)
    assert (model.flat_parameters != plain.flat_parameters).any()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_all_ways_through_an_epoch_have_the_same_bits(accumulate, threads, isa):
    """Replayed, one by one for a callback, by hand for a layer of one's own, and in batches."""

    class Looks(fastnn.Callback):
        def on_batch_begin(self, run):
            seen.append((run.optimizer.weight_decay, run.model.layers[2].rate))

    models, seen = [network() for _ in range(3)] + [network(OwnDense)], []
    train(models[0], adamw(), accumulate=accumulate)
    train(models[1], adamw(), accumulate=accumulate, callbacks=[Looks()])
    stream = fastnn.batches(*data(), BATCH, shuffle=True, seed=0)
    models[2].fit(
        stream, loss=MeanSquaredError(), optimizer=adamw(), epochs=EPOCHS, schedule=ALL,
        accumulate=accumulate, progress=False,
    )  # fmt: skip
    train(models[3], adamw(), accumulate=accumulate)
    for model in models[1:]:
        assert_same_bits(model.flat_parameters, models[0].flat_parameters)
    t = (np.arange(EPOCHS * STEPS) + 0.5) / STEPS
    expected = [0.1 * FlatCosine()(t, EPOCHS), 0.3 * FlatCosine(0.25)(t, EPOCHS)]
    np.testing.assert_allclose(np.array(seen).T, expected, rtol=1e-12)


def test_without_dropout_at_the_end():
    """A rate of 0 drops nothing and scales by 1."""
    ends = {"dropout": lambda t, epochs: t < 0}
    model, plain = network(), network()
    train(model, adamw(), ends)
    plain.layers[2].rate = plain.layers[3].layers[1].rate = 0.0
    train(plain, adamw(), None)
    assert_same_bits(model.flat_parameters, plain.flat_parameters)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resume_has_the_same_bits(tmp_path, accumulate):
    path = tmp_path / "training.safetensors"
    whole, first, second = network(), network(), network()

    class Stop(fastnn.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.stop()

    train(whole, adamw(), accumulate=accumulate)
    train(first, adamw(), accumulate=accumulate,
          callbacks=[Stop(), fastnn.ModelCheckpoint(path)])  # fmt: skip
    train(second, optimizer := adamw(), accumulate=accumulate, resume=path)
    assert_same_bits(second.flat_parameters, whole.flat_parameters)
    assert optimizer.weight_decay == 0.1 and second.layers[2].rate == 0.3
    other = {**ALL, "dropout": FlatCosine()}
    with pytest.raises(ValueError, match=r"schedule is .*FlatCosine\(\).*, in the file .*0\.25"):
        train(network(), adamw(), other, resume=path, accumulate=accumulate)
    reordered = dict(reversed(ALL.items()))
    train(again := network(), adamw(), reordered, resume=path, accumulate=accumulate)
    assert_same_bits(again.flat_parameters, whole.flat_parameters)


def test_the_next_fit_goes_on_with_what_was_recorded():
    """Also one without a schedule, for which the numbers are the model's own again."""
    model, optimizer = network(), adamw()
    train(model, optimizer)
    twin, its_optimizer = copy.deepcopy((model, optimizer))  # a copy records anew
    for schedule in (None, {"dropout": FlatCosine()}):
        train(model, optimizer, schedule)
        train(twin, its_optimizer, schedule)
        assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_the_numbers_come_back_after_an_error():
    class Fails(fastnn.Callback):
        def on_batch_end(self, run):
            assert run.batch < 2

    model, optimizer = network(), adamw()
    schedule = dict.fromkeys(ALL, lambda t, epochs: 0.5)
    with pytest.raises(AssertionError):
        train(model, optimizer, schedule, callbacks=[Fails()])
    assert optimizer.learning_rate == 0.05 and optimizer.weight_decay == 0.1
    assert model.layers[2].rate == 0.3 and model.layers[3].layers[1].rate == 0.5


def test_an_optimizer_of_ones_own():
    class Own:
        weight_decay = 0.5

        def step(self, model):
            seen.append(self.weight_decay)
            model.update(lambda parameters, gradients: None)

    seen, own = [], Own()
    train(network(), own, {"weight_decay": lambda t, epochs: t})
    np.testing.assert_allclose(seen, 0.5 * (np.arange(EPOCHS * STEPS) + 0.5) / STEPS)
    assert own.weight_decay == 0.5


def test_a_step_is_copied_with_its_numbers():
    """Those of the copy move the copy."""
    model = network()
    step = fastnn.TrainStep(model, MeanSquaredError(), adamw())
    for twin in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        twin.set_numbers(np.array([0.5, 0.25, 0.125, math.nan]))
        assert twin.optimizer.learning_rate == 0.5 and twin.optimizer.weight_decay == 0.25
        assert twin.model.layers[2].rate == 0.125 and twin.model.layers[3].layers[1].rate == 0.5
    assert step.optimizer.learning_rate == 0.05 and model.layers[2].rate == 0.3


WRONG = {
    "another name": ({"momentum": CosLog()}, ValueError, "schedules of learning.*got 'momentum'"),
    "no function": ({"dropout": 0.5}, TypeError, "schedule: 'dropout': expected a function of t"),
    "a class": ({"weight_decay": CosLog}, TypeError, "schedule: 'weight_decay': expected a func"),
    "negative": ({"dropout": lambda t, epochs: -1.0}, ValueError, "finite factors >= 0, got -1"),
    "too much dropout": (
        {"dropout": lambda t, epochs: 2.0}, ValueError,
        "schedule: 2 times the rate of dropout 0.5 is too large; expected at most 0.99998",
    ),
    "too much decay": (
        {"weight_decay": lambda t, epochs: 1e40}, ValueError,
        r"schedule: 1e\+40 times the weight decay 0.1 is too large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_schedule_is_refused(name):
    schedule, error, text = WRONG[name]
    model = network()
    before = model.flat_parameters.copy()
    with pytest.raises(error, match=text):
        train(model, adamw(), schedule)
    assert_same_bits(model.flat_parameters, before)


def test_what_there_is_not_has_no_schedule():
    model = Sequential(Dense(5, 2), seed=0)
    with pytest.raises(ValueError, match="schedule: 'dropout': the model has no Dropout"):
        train(model, adamw(), ALL)
    with pytest.raises(TypeError, match=r"schedule: Adam\(.*\) has no weight_decay"):
        train(model, fastnn.Adam(0.1), {"weight_decay": CosLog()})
    train(model, adamw(), {})


def test_the_rate_between_forward_and_backward():
    """Backward scales by the rate that its forward had, recorded or not."""
    x, gradients = np.random.default_rng(0).standard_normal((8, 5)), []
    for changed in (False, True):
        model = Sequential(Dense(5, 9), Dropout(0.5), Dense(9, 2), seed=0)
        step = fastnn.GradientStep(model, fastnn.SGD(1e-3))
        for _ in range(3):
            y = step.forward(x)
            if changed:
                model.layers[1].rate = 0.1
            step.backward(y)
            gradients.append(model.flat_gradients.copy())
            model.layers[1].rate = 0.5
    for mine, expected in zip(gradients[3:], gradients, strict=False):
        assert_same_bits(mine, expected)
