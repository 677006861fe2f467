"""Recorded steps while other threads run, across a fork, and under Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential, SoftmaxCrossEntropy, TrainStep
from fastnn.training import interrupts
from paths import PACKAGE
from stepping import CLASSES, FEATURES, assert_alike, by_hand, draw, network

# ---- threads ----


def test_labels_that_another_thread_changes_cannot_crash():
    ((x, y),), loss = draw([64]), SoftmaxCrossEntropy()
    labels, done = y.copy(), threading.Event()

    def spoil():
        while not done.is_set():
            labels[:] = 2**40
            labels[:] = y

    step, refused, trained = TrainStep(network(), loss, fastnn.SGD(1e-3)), 0, 0
    other = threading.Thread(target=spoil)
    other.start()
    try:
        for _ in range(300):
            try:
                step(x, labels)
                trained += 1
            except ValueError as error:
                assert "expected labels" in str(error)
                refused += 1
    finally:
        done.set()
        other.join(60)
    assert trained + refused == 300 and np.isfinite(step.model.flat_parameters).all()


@pytest.mark.parametrize("same_step", [True, False])
def test_two_threads_that_train_one_model_do_not_tear_it(same_step):
    """Each step is done whole or refused, so the result is that of the steps done, in some order.
    They differ by their number alone, so any order gives the same."""
    model = Sequential(Dense(60, 60, activation="tanh"), Dense(60, CLASSES), seed=1)
    loss, optimizer = SoftmaxCrossEntropy(), fastnn.SGD(1e-2)
    ((x, y),) = draw([300], features=60)
    one = TrainStep(model, loss, optimizer)
    steps = [one, one if same_step else TrainStep(model, loss, optimizer)]
    values, errors = [[], []], []

    def train(i):
        for _ in range(60):
            try:
                values[i].append(steps[i](x, y))
            except RuntimeError as error:
                errors.append(error)

    workers = [threading.Thread(target=train, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert all("another thread is training this model" in str(error) for error in errors)
    expected = Sequential(Dense(60, 60, activation="tanh"), Dense(60, CLASSES), seed=1)
    done = sum(map(len, values))
    assert done + len(errors) == 120
    all_values = by_hand(expected, loss, fastnn.SGD(1e-2), [(x, y)] * done)
    assert sorted(values[0] + values[1], reverse=True) == sorted(all_values, reverse=True)
    assert_alike(model, expected)


FORK = """
import os, threading, time
import numpy as np
import fastnn
fastnn.set_num_threads(2)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((400, 200)).astype("f4"), rng.integers(0, 3, 400)
model = fastnn.Sequential(fastnn.Dense(200, 300), fastnn.ReLU(), fastnn.Dense(300, 3))
predictor = model.predictor(400)
step = fastnn.TrainStep(model, fastnn.SoftmaxCrossEntropy(), fastnn.SGD(1e-4))
stop = threading.Event()

def train():
    while not stop.is_set():
        step(X, y)

def predict():
    while not stop.is_set():
        predictor(X)

workers = [threading.Thread(target=train), threading.Thread(target=predict)]
[worker.start() for worker in workers]
codes = []
for _ in range(6):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(3):
                assert np.isfinite(step(X, y))
                assert np.isfinite(predictor(X)).all()
            model.fit(X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(), epochs=1,
                      progress=False)
            with model.exclusive():
                refused = []
                other = threading.Thread(target=lambda: refused.append(hold(model)))
                other.start()
                other.join()
                assert refused == [True]
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
[worker.join() for worker in workers]
print(codes)
"""
HOLD = """
def hold(model):
    try:
        with model.exclusive():
            return False
    except RuntimeError:
        return True
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_trains_leaves_the_child_a_usable_model():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOLD + FORK], text=True, capture_output=True,
        timeout=120, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert result.stdout.strip() == str([0] * 6), result.stdout + result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_within_training_keeps_the_forking_threads_hold():
    program = (
        HOLD
        + """
import os, threading
import fastnn
model = fastnn.Sequential(fastnn.Dense(2, 2))
with model.exclusive():
    child = os.fork()
    if child == 0:
        seen = []
        other = threading.Thread(target=lambda: seen.append(hold(model)))
        other.start()
        other.join()
if child == 0:
    os._exit(0 if seen == [True] and not hold(model) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], text=True, capture_output=True,
        timeout=120, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert result.stdout.split() == ["0"], result.stdout + result.stderr


# ---- Ctrl-C ----


@pytest.mark.parametrize("rows, batch_size", [(2000, 50), (200000, 32)])
def test_ctrl_c_in_a_long_recorded_fit(rows, batch_size):
    """Ctrl-C ends many short epochs, and one that would take minutes."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, FEATURES)).astype(np.float32), rng.integers(0, 3, rows)
    model, before = network(), signal.getsignal(signal.SIGINT)
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.4, press)
    timer.start()
    history = model.fit(
        X, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(), epochs=10**6,
        batch_size=batch_size, progress=False, validation_data=(X[:50], y[:50]),
    )  # fmt: skip
    late = time.monotonic() - pressed[0]
    timer.join()
    assert late < 5 and history.interrupted
    assert {len(column) for column in history.values()} <= {history.epochs}
    assert signal.getsignal(signal.SIGINT) is before
    assert np.isfinite(model.predict(X[:10])).all()
    again = model.fit(X[:100], y[:100], loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(),
                      epochs=2, progress=False)  # fmt: skip
    assert again.epochs == 2 and not again.interrupted


class Pressing(fastnn.Callback):
    """Presses Ctrl-C so many times after the first epoch of a fit."""

    def __init__(self, times=1):
        self.times, self.ended = times, []

    def on_epoch_end(self, run):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)

    def on_fit_end(self, run):
        self.ended.append(run.epoch)


def pressed_fit(callback, model=None):
    ((x, y),) = draw([64])
    return (model or network()).fit(
        x, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(), epochs=5, callbacks=[callback],
        progress=False,
    )  # fmt: skip


def test_a_second_press_within_a_second_leaves_the_loop_of_fits():
    done, pressing = [], Pressing()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(3):
            done.append(pressed_fit(pressing))
    assert [history.epochs for history in done] == [1] and done[0].interrupted
    assert pressing.ended == [1, 1]  # the second fit finished its step, and callbacks heard of it
    assert signal.getsignal(signal.SIGINT) is before


def test_a_press_after_more_than_a_second_is_a_first_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(interrupts, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    for _ in range(3):
        assert pressed_fit(Pressing()).interrupted
        now[0] += 1.001
    now[0] -= 0.5
    with pytest.raises(KeyboardInterrupt):
        pressed_fit(Pressing())


def test_two_presses_in_one_fit():
    pressing, model = Pressing(times=2), network()
    with pytest.raises(KeyboardInterrupt) as caught:
        pressed_fit(pressing, model)
    assert pressing.ended == [1]
    assert caught.value.history.epochs == 1 and caught.value.history.interrupted
    assert pressed_fit(fastnn.Callback(), model).epochs == 5  # the model is free


def test_the_second_of_two_late_presses_ends_the_fit_at_once(monkeypatch):
    """As one would where a step, or a callback, takes long."""
    monkeypatch.setattr(interrupts, "_SOON", 0.0)
    after = []

    class Slow(fastnn.Callback):
        def on_epoch_end(self, run):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            after.append(run.epoch)

    history = pressed_fit(Slow())
    assert history.interrupted and history.epochs == 1 and after == []


def test_an_error_does_not_hide_the_second_press():
    """A grid search goes on after errors."""

    class Faulty(fastnn.Callback):
        def on_epoch_end(self, run):
            signal.raise_signal(signal.SIGINT)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        pressed_fit(Faulty())
    with pytest.raises(KeyboardInterrupt) as caught:
        pressed_fit(Faulty())
    assert str(caught.value.__context__) == "mine"
