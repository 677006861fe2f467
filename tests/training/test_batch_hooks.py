"""Hooks around the batches of `fit`, and the epochs that they end; epochs of so many steps."""

import itertools
import math
import signal

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import SGD, Adam, Callback, Cosine, Dense, Dropout, ModelCheckpoint, Sequential
from fastnn.training import train_step as stepping
from small_fit import X, Y, fit, network

BATCHES = 3  # of 40 rows in batches of 16


class Told(Callback):
    def __init__(self):
        self.told, self.losses = [], []

    def on_epoch_begin(self, run):
        self.told.append("epoch")

    def on_batch_begin(self, run):
        self.told.append(("begin", run.epoch, run.batch))

    def on_batch_end(self, run):
        self.told.append(("end", run.epoch, run.batch))
        self.losses.append(run.batch_loss)


def own_batches(rows=40, size=16):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, rows, size)]


def plain(model=None, **options):
    options = {"validation_data": None} | options
    return fit(model=model, **options)


def test_what_is_told_of_batches():
    told = Told()
    fit(told, epochs=2)
    expected = []
    for epoch in range(2):
        expected.append("epoch")
        for batch in range(BATCHES):
            expected += [("begin", epoch, batch), ("end", epoch, batch + 1)]
    assert told.told == expected


def recurrent():
    return Sequential(
        Dense(3, 8, activation="tanh", l2=0.1), fastnn.BatchNorm(8), Dropout(0.3), Dense(8, 1),
        seed=3,
    )  # fmt: skip


class Own:
    """A layer that cannot be recorded."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


WEIGHT = np.arange(1.0, 41.0)


@pytest.mark.parametrize("options", [
    {}, {"schedule": Cosine(warmup=1.5)}, {"accumulate": 2}, {"batch_size": 9, "accumulate": 3},
    {"sample_weight": WEIGHT}, {"drop_last": True}, {"shuffle": False, "optimizer": "adam"},
    {"accumulate": 2, "schedule": Cosine(warmup=1)}, {"metrics": ["mean_absolute_error"]},
])  # fmt: skip
@pytest.mark.parametrize("make", [
    network, recurrent, lambda: Sequential(Dense(3, 4), Own(), Dense(4, 1), seed=1)
])  # fmt: skip
def test_the_bits_are_those_of_steps_without_hooks(make, options):
    def run(*callbacks):
        model, chosen = make(), dict(options)
        if chosen.get("optimizer") == "adam":
            chosen["optimizer"] = Adam(0.01)
        return model, fit(*callbacks, model=model, **chosen)

    told = Told()
    (model, history), (twin, its) = run(told), run()
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    for name in set(history) - {"seconds", "samples_per_second"}:
        assert history[name] == its[name]
    assert 2 * len(told.losses) == len(told.told) - told.told.count("epoch")
    by_epoch = np.reshape(told.losses, (history.epochs, -1))
    assert (by_epoch.min(axis=1) < its.loss).all() and (its.loss < by_epoch.max(axis=1)).all()


def test_the_mean_of_the_batches_losses_is_the_epochs():
    told = Told()
    history = fit(told, epochs=2, batch_size=20)
    np.testing.assert_allclose(np.reshape(told.losses, (2, 2)).mean(axis=1), history.loss)


def calls(monkeypatch, *callbacks, **options):
    """How many times the native program is called for the batches of an epoch."""
    counted = []
    replay = stepping.TrainStep._replay_steps

    def count(self, recorded, steps):
        counted.append(steps)
        return replay(self, recorded, steps)

    model, optimizer = network(), SGD(0.01)
    loss = fastnn.MeanSquaredError()
    again = {"model": model, "optimizer": optimizer, "loss": loss, "batch_size": 1, "epochs": 1}
    fit(**again)  # records
    monkeypatch.setattr(stepping, "_REPLAY_SECONDS", 1e9)
    monkeypatch.setattr(stepping.TrainStep, "_replay_steps", count)
    fit(*callbacks, **again)
    return counted


def test_many_batches_are_one_call_where_nobody_asks(monkeypatch):
    class Epochs(Callback):
        def on_epoch_end(self, run):
            assert run.batch == 40

    assert calls(monkeypatch, Epochs()) == [40]
    monkeypatch.undo()
    assert calls(monkeypatch, Told()) == [1] * 40


@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end"])
def test_one_hook_alone_of_a_class_or_an_object(monkeypatch, hook):
    derived = type("One", (Callback,), {hook: lambda self, run: None})
    assert calls(monkeypatch, derived()) == [1] * 40
    monkeypatch.undo()
    attribute = Callback()
    setattr(attribute, hook, lambda run: None)
    assert calls(monkeypatch, attribute) == [1] * 40


def test_what_a_hook_changes_holds_from_the_next_batch_on():
    class Change(Callback):
        def on_batch_begin(self, run):
            if (run.epoch, run.batch) == (1, 1):
                run.optimizer.learning_rate = 0.01

        def on_batch_end(self, run):
            if (run.epoch, run.batch) == (1, 2):
                run.model.layers[1].rate = 0.9

    def make():
        return Sequential(Dense(3, 8), Dropout(0.1), Dense(8, 1), seed=4)

    model, twin, optimizer = make(), make(), SGD(0.05)
    fit(Change(), model=model, epochs=3)
    order, loss = fastnn.batches(X, Y, 16, seed=0), fastnn.MeanSquaredError()
    for epoch in range(3):
        for batch, (xb, yb) in enumerate(order):
            if (epoch, batch) == (1, 1):
                optimizer.learning_rate = 0.01
            _, gradient = loss(twin.forward(xb, training=True), yb)
            twin.backward(gradient)
            optimizer.step(twin)
            if (epoch, batch) == (1, 1):
                twin.layers[1].rate = 0.9
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_model_is_updated_when_the_last_batch_of_a_group_ends(accumulate):
    class Look(Callback):
        seen = ()

        def on_batch_end(self, run):
            self.seen = (*self.seen, run.model.flat_parameters.copy())

    arrays, stream = Look(), Look()
    fit(arrays, epochs=1, accumulate=accumulate, shuffle=False)
    model = network()
    settings = {"loss": fastnn.MeanSquaredError(), "optimizer": SGD(0.05), "epochs": 1}
    model.fit(own_batches(), callbacks=[stream], accumulate=accumulate, progress=False, **settings)
    start = network().flat_parameters
    changed = [bool((a != b).any()) for a, b in itertools.pairwise((start, *arrays.seen))]
    assert changed == ([True] * 3 if accumulate == 1 else [False, True, True])
    for one, other in zip(arrays.seen[:2], stream.seen[:2], strict=True):
        assert_same_bits(one, other)


# ---- where the batches are the user's ----


def test_hooks_around_batches_of_ones_own():
    told, model, twin = Told(), network(), network()
    plain(twin, epochs=2, shuffle=False)
    settings = {"loss": fastnn.MeanSquaredError(), "optimizer": SGD(0.05), "epochs": 2}
    model.fit(own_batches(), callbacks=[told], progress=False, **settings)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    assert [entry for entry in told.told if entry != "epoch"] == [
        entry
        for epoch in range(2)
        for batch in range(BATCHES)
        for entry in (("begin", epoch, batch), ("end", epoch, batch + 1))
    ]


# ---- the end of an epoch, and of a training ----


class StopAt(Callback):
    def __init__(self, epoch, batch, hook="on_batch_end"):
        def stop(run):
            if (run.epoch, run.batch) == (epoch, batch):
                run.stop()

        setattr(self, hook, stop)


def trained(batches, accumulate=1, epochs=1):
    """A network that was trained by hand on so many batches of the last epoch, and its losses."""
    model, losses, outputs = network(), [], []
    step = fastnn.TrainStep(model, fastnn.MeanSquaredError(), SGD(0.05), accumulate)
    order = fastnn.batches(X, Y, 16, seed=0)
    for epoch in range(epochs):
        most = batches if epoch + 1 == epochs else BATCHES
        for xb, yb in itertools.islice(order, most):
            losses.append(step(xb, yb) * len(xb))
            outputs.append((step.outputs, yb))
        step.flush()
    rows = sum(len(yb) for _, yb in outputs[-batches:])
    return model, sum(losses[-batches:]) / rows, outputs[-batches:]


@pytest.mark.parametrize("hook, at, batches", [
    ("on_batch_end", 1, 1), ("on_batch_end", 2, 2), ("on_batch_end", 3, 3),
    ("on_batch_begin", 0, 1), ("on_batch_begin", 2, 3),
])  # fmt: skip
@pytest.mark.parametrize("epoch", [0, 1])
def test_stop_in_a_hook_ends_the_epoch_after_the_batch(hook, at, batches, epoch):
    model = network()
    history = fit(StopAt(epoch, at, hook), model=model, metrics=["mean_absolute_error"])
    expected, loss, outputs = trained(batches, epochs=epoch + 1)
    assert_same_bits(model.flat_parameters, expected.flat_parameters)
    assert history.epochs == epoch + 1 and not history.interrupted
    assert {len(column) for column in history.values()} == {epoch + 1}
    assert history.loss[-1] == pytest.approx(loss, rel=1e-12)
    error = np.concatenate([abs(out - y) for out, y in outputs]).mean()
    assert history.mean_absolute_error[-1] == pytest.approx(error, rel=1e-6)
    assert history.validation_loss[-1] == pytest.approx(
        model.evaluate(X[:9], Y[:9], loss=fastnn.MeanSquaredError())["loss"], rel=1e-12
    )


def test_stop_in_a_hook_waits_for_the_update():
    model = network()
    history = fit(StopAt(0, 1), model=model, accumulate=2)
    assert_same_bits(model.flat_parameters, trained(2, accumulate=2)[0].flat_parameters)
    assert history.epochs == 1
    streamed = network()
    streamed.fit(
        fastnn.batches(X, Y, 16, seed=0), loss=fastnn.MeanSquaredError(), optimizer=SGD(0.05),
        accumulate=2, callbacks=[StopAt(0, 1)], epochs=4, progress=False,
    )  # fmt: skip
    assert_same_bits(streamed.flat_parameters, model.flat_parameters)


def test_an_epoch_that_a_hook_ends_is_validated_whatever_is_due():
    history = fit(StopAt(0, 1), validation_every=4)
    assert history.epochs == 1 and math.isfinite(history.validation_loss[0])


def test_stop_before_an_epoch_still_trains_it_whole():
    class Stop(Callback):
        def on_epoch_begin(self, run):
            run.stop()

    one, other = network(), network()
    assert fit(Stop(), model=one).epochs == fit(Stop(), Told(), model=other).epochs == 1
    assert_same_bits(one.flat_parameters, other.flat_parameters)
    assert_same_bits(one.flat_parameters, trained(BATCHES)[0].flat_parameters)


def test_a_resume_goes_on_with_the_next_epoch(tmp_path):
    path = tmp_path / "file"
    fit(StopAt(1, 2), ModelCheckpoint(path))
    assert fastnn.load_checkpoint(path).history.epochs == 2
    assert fit(epochs=4, resume=path).epochs == 4


def test_an_error_in_a_hook_is_named_and_the_model_is_free():
    class Faulty(Callback):
        def on_batch_begin(self, run):
            if run.epoch == 1:
                raise ValueError("mine")

    model = network()
    for x, y in ((X, Y), (own_batches(), None)):
        with pytest.raises(ValueError, match=r"^mine") as caught:
            model.fit(x, y, loss=fastnn.MeanSquaredError(), optimizer=SGD(0.01), epochs=3,
                      progress=False, callbacks=[Faulty()], accumulate=2)  # fmt: skip
        assert any("Faulty" in note and "on_batch_begin" in note for note in caught.value.__notes__)
        assert caught.value.history.epochs == 1
    assert fit(model=model).epochs == 6


def test_ctrl_c_in_a_hook_ends_training_after_the_batch():
    class Press(Callback):
        batches = 0

        def on_batch_end(self, run):
            self.batches += 1
            if (run.epoch, run.batch) == (1, 1):
                signal.raise_signal(signal.SIGINT)

    press = Press()
    history = fit(press)
    assert history.interrupted and history.epochs == 1 and press.batches == BATCHES + 1


# ---- epochs of so many steps ----


class Endless:
    """Rows in an order without end, each time the same."""

    def __init__(self):
        self.given = 0

    def __iter__(self):
        rng = np.random.default_rng(1)
        while True:
            index = rng.integers(0, 40, 8)
            self.given += 1
            yield X[index], Y[index]


def stepped(data, epochs, *callbacks, steps_per_epoch=5, **options):
    model = network()
    settings = {"loss": fastnn.MeanSquaredError(), "optimizer": Adam(0.01), "progress": False}
    history = model.fit(
        data, epochs=epochs, steps_per_epoch=steps_per_epoch, callbacks=callbacks,
        **settings | options,
    )  # fmt: skip
    return model, history


def assert_same_run(one, other):
    assert_same_bits(one[0].flat_parameters, other[0].flat_parameters)
    assert one[1].loss == other[1].loss and one[1].learning_rate == other[1].learning_rate


@pytest.mark.parametrize("make", [iter, lambda data: data])
def test_one_pass_goes_on_over_the_epochs(make):
    data = Endless()
    model, history = stepped(make(data), 4)
    assert data.given == 20 and history.epochs == 4
    twin, optimizer = network(), Adam(0.01)
    step, losses = fastnn.TrainStep(twin, fastnn.MeanSquaredError(), optimizer), []
    for batch in itertools.islice(Endless(), 20):
        losses.append(step(*batch))
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    np.testing.assert_allclose(history.loss, np.reshape(losses, (4, 5)).mean(axis=1))


def test_a_pass_that_ends_begins_again():
    finite = list(itertools.islice(Endless(), 7))
    assert_same_run(stepped(finite, 4), stepped(itertools.cycle(finite), 4))
    with pytest.raises(ValueError, match=r"^X: gives no more batches, expected 5 in each epoch"):
        stepped(iter(finite), 4)
    with pytest.raises(ValueError, match=r"^X: gives no more batches"):
        stepped([], 4)


def test_schedules_know_the_steps():
    schedule = Cosine(warmup=1)
    history = stepped(Endless(), 4, schedule=schedule)[1]
    rates = fastnn.schedules.rates(schedule, 0.01, 1, 4, 5)
    assert history.learning_rate[1] == rates[-1]


def test_a_resume_takes_up_the_batches_where_they_were(tmp_path):
    path = tmp_path / "file"
    whole = stepped(Endless(), 5)
    stepped(Endless(), 2, ModelCheckpoint(path))
    data = Endless()
    assert_same_run(stepped(data, 5, resume=path), whole)
    assert data.given == 25
    shuffled = lambda: fastnn.batches(X, Y, 16, seed=4)  # noqa: E731
    whole = stepped(shuffled(), 5)
    stepped(shuffled(), 2, ModelCheckpoint(path))
    assert_same_run(stepped(shuffled(), 5, resume=path), whole)
    over = Endless()
    assert stepped(shuffled(), 2, resume=path)[1].epochs == 2 and over.given == 0


@pytest.mark.parametrize("value, error", [(0, ValueError), (2.0, TypeError), ("5", TypeError)])
def test_steps_are_a_number(value, error):
    with pytest.raises(error, match=r"^steps_per_epoch: expected an integer >= 1"):
        stepped(Endless(), 2, steps_per_epoch=value)


def test_arrays_have_epochs_of_their_own():
    with pytest.raises(ValueError, match=r"^steps_per_epoch: needs an iterable of batches"):
        fit(steps_per_epoch=3)


def test_the_loss_of_an_epoch_that_a_hook_ends_has_its_own_penalties():
    """The epoch before has a last update of one batch, which bears all of the penalty."""

    def losses(x, y):
        model = Sequential(Dense(3, 8, activation="tanh", l2=5.0), Dense(8, 1), seed=0)
        return model.fit(
            x, y, loss=fastnn.MeanSquaredError(), optimizer=SGD(0.01), batch_size=16, epochs=5,
            shuffle=False, accumulate=2, callbacks=[StopAt(1, 2)], progress=False,
        ).loss  # fmt: skip

    np.testing.assert_allclose(losses(own_batches(), None), losses(X, Y), rtol=1e-6)
