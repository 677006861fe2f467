"""What `fit` measures but does not train on: split off, in batches, every few epochs."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Callback,
    CSVLogger,
    Dense,
    EarlyStopping,
    Hinge,
    MeanSquaredError,
    ModelCheckpoint,
    ReduceOnPlateau,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    stratified_split,
)
from fastnn.training import validation

RNG = np.random.default_rng(5)
X = RNG.standard_normal((90, 4)).astype(np.float32)
LABELS = np.repeat([0, 1, 2], [60, 20, 10])[RNG.permutation(90)]
VALUES = (X @ [[1.0], [-2.0], [0.5], [3.0]]).astype(np.float32)
WEIGHT = RNG.integers(0, 3, 90).astype(np.float32)
NAN = float("nan")


def network(outputs=3):
    return Sequential(Dense(4, 8, activation="tanh"), Dense(8, outputs), seed=2)


def fit(x=X, y=LABELS, model=None, **options):
    model = network() if model is None else model
    settings = {"loss": SoftmaxCrossEntropy(), "optimizer": SGD(0.1), "epochs": 3,
                "batch_size": 16, "seed": 3, "progress": False}  # fmt: skip
    return model, model.fit(x, y, **settings | options)


def assert_same(one, other):
    assert_same_bits(one[0].flat_parameters, other[0].flat_parameters)
    assert list(one[1]) == list(other[1])
    for name in set(one[1]) - {"seconds", "samples_per_second"}:
        np.testing.assert_array_equal(one[1][name], other[1][name])


# ---- split off ----


@pytest.mark.parametrize("options", [
    {}, {"sample_weight": WEIGHT}, {"class_weight": "balanced"}, {"class_weight": {0: 0.5}},
    {"sample_weight": WEIGHT, "class_weight": "balanced"}, {"loss": Hinge()},
    {"drop_last": True, "shuffle": False},
    {"loss": SoftmaxCrossEntropy(class_weight=[1, 5, 1])},
    {"loss": SoftmaxCrossEntropy(class_weight=[1, 5, 1]), "class_weight": "balanced"},
    {"loss": SoftmaxCrossEntropy(class_weight=[1, 5, 2], label_smoothing=0.1),
     "sample_weight": WEIGHT},
])  # fmt: skip
def test_a_split_is_as_if_its_parts_had_been_given(options):
    weight = options.get("sample_weight")
    used = np.arange(90) if weight is None else np.flatnonzero(weight)
    train, held = (used[rows] for rows in stratified_split(LABELS[used], 0.2, seed=3))
    parts = options if weight is None else {**options, "sample_weight": weight[train]}
    given = (X[held], LABELS[held]) if weight is None else (X[held], LABELS[held], weight[held])
    expected = fit(X[train], LABELS[train], validation_data=given, **parts)
    assert_same(fit(validation_split=0.2, **options), expected)


@pytest.mark.parametrize("loss, outputs, y, labels", [
    (SigmoidCrossEntropy(), 1, (LABELS > 0)[:, None], LABELS > 0),
    (SoftmaxCrossEntropy(), 3, np.eye(3)[LABELS], None),
    (MeanSquaredError(), 1, VALUES, None),
])  # fmt: skip
def test_which_targets_are_classes(loss, outputs, y, labels):
    labels = np.zeros(90) if labels is None else labels
    train, held = stratified_split(labels, 0.3, seed=3)
    split, given = (
        fit(x, t, network(outputs), loss=loss, **options)
        for x, t, options in (
            (X, y, {"validation_split": 0.3}),
            (X[train], y[train], {"validation_data": (X[held], y[held])}),
        )
    )
    assert_same(split, given)


def test_every_class_is_held_out_and_the_seed_decides_which_rows():
    seen = []

    def count(outputs, targets):
        seen.append(np.bincount(targets, minlength=3).tolist())
        return 0.0

    fit(validation_split=0.5, metrics=[count], epochs=1)
    assert seen == [[30, 10, 5], [30, 10, 5]]
    one, other = (fit(validation_split=0.2, seed=seed, shuffle=False)[1] for seed in (1, 2))
    assert one.validation_loss != other.validation_loss


@pytest.mark.parametrize("value, error, text", [
    (0.0, ValueError, r"^validation_split: expected a number in \(0, 1\), got 0.0"),
    (1, ValueError, r"^validation_split: expected a number in \(0, 1\)"),
    ("0.2", TypeError, r"^validation_split: expected a number"),
    (0.001, ValueError, r"^validation_split: 0.001 of 90 rows would leave a part empty"),
    (0.999, ValueError, r"^validation_split: 0.999 of 90 rows would leave a part empty"),
])  # fmt: skip
def test_splits_that_cannot_be(value, error, text):
    model = network()
    with pytest.raises(error, match=text):
        fit(model=model, validation_split=value)
    assert_same_bits(model.flat_parameters, network().flat_parameters)


def test_a_split_needs_arrays_and_stands_alone():
    with pytest.raises(ValueError, match=r"^validation_split: expected None beside validation_d"):
        fit(validation_split=0.2, validation_data=(X, LABELS))
    with pytest.raises(ValueError, match=r"^validation_split: needs arrays"):
        fit([(X, LABELS)], None, validation_split=0.2)


# ---- in batches ----


class Batches:
    """Batches from one array that each of them fills anew, some of one row."""

    def __init__(self, y=LABELS, weight=None, sizes=(40, 1, 30, 19), endless=False):
        self.y, self.weight, self.sizes, self.endless = y, weight, sizes, endless

    def __iter__(self):
        buffers = [np.empty((40, *a.shape[1:]), a.dtype) for a in (X, self.y)]
        weights = np.empty(40, np.float32)
        while True:
            end = 0
            for size in self.sizes:
                start, end = end, end + size
                for buffer, array in zip(buffers, (X, self.y), strict=True):
                    buffer[:size] = array[start:end]
                parts = [buffer[:size] for buffer in buffers]
                if self.weight is not None:
                    weights[:size] = self.weight[start:end]
                    parts.append(weights[:size])
                yield tuple(parts)
                for buffer in (*buffers, weights):
                    buffer[:] = 0
            if not self.endless:
                return


class Sized(Batches):
    def __len__(self):
        return len(self.sizes)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("loss, outputs, y", [
    (SoftmaxCrossEntropy(), 3, LABELS), (MeanSquaredError(), 1, VALUES),
    (SigmoidCrossEntropy(), 3, np.eye(3, dtype=np.float32)[LABELS]),
])  # fmt: skip
@pytest.mark.parametrize("kind", [Batches, list, lambda *a: Sized(*a, endless=True)])
def test_batches_are_measured_as_arrays_are(kind, loss, outputs, y, weight):
    batches = Batches(y, weight)
    if kind is list:
        batches = [tuple(part.copy() for part in batch) for batch in batches]
    elif kind is not Batches:
        batches = kind(y, weight)
    arrays = (X, y) if weight is None else (X, y, weight)
    given = fit(X, y, network(outputs), loss=loss, validation_data=batches)
    assert_same(given, fit(X, y, network(outputs), loss=loss, validation_data=arrays))


def test_some_batches_with_weights_and_some_without():
    weight = np.r_[np.ones(50), WEIGHT[50:]]
    batches = [(X[:50], LABELS[:50]), (X[50:], LABELS[50:], WEIGHT[50:])]
    expected = fit(validation_data=(X, LABELS, weight))
    assert_same(fit(validation_data=batches), expected)


def test_a_loss_of_ones_own_gets_all_targets():
    def loss(outputs, targets, sample_weight=None):
        return float(np.abs(outputs - targets).mean()), np.sign(outputs - targets) / outputs.size

    one, other = (
        fit(X, VALUES, network(1), loss=loss, optimizer=SGD(0.01), validation_data=data)
        for data in (Batches(VALUES), (X, VALUES))
    )
    assert_same(one, other)


def test_fastnns_batches_come_unshuffled():
    """Another order would change the last bits of the loss, and a resume would too."""
    data = fastnn.batches(X, LABELS, 16, seed=9)
    state = data.state_dict()
    assert_same(fit(validation_data=data), fit(validation_data=(X, LABELS)))
    assert data.state_dict() == state and data.shuffle


@pytest.mark.parametrize("batches, text", [
    ([], r"^validation_data: expected \(X, y\) or \(X, y, sample_weight\), got 0 parts"),
    (Batches(sizes=()), "^validation_data: expected batches, got none"),
    ([(X, LABELS), (X,)], r"^validation batch 2: expected \(x, y\) or \(x, y, sample_weight\)"),
    ([(X, LABELS), (X, LABELS + 1)], r"^validation batch 2: y: .*expected labels in \[0, 3\)"),
    ([(X[:, :3], LABELS)], "^validation batch 1: X: .*4 features, got 3"),
    ([(X * np.inf, LABELS)], "^validation batch 1: X contains"),
    ([(X, LABELS, -WEIGHT)], "^validation batch 1: sample_weight: expected no negative"),
    ([(X, LABELS, 0 * WEIGHT)], "^validation sample_weight: all weights are 0"),
    ([(X, LABELS), (X, np.eye(3)[LABELS])],
     r"^validation batch 2: y: expected rows of shape \(\) as before, got \(3,\)"),
])  # fmt: skip
def test_bad_batches_are_named(batches, text):
    with pytest.raises(ValueError, match=text):
        fit(validation_data=batches)


@pytest.mark.parametrize("wrong", [X, "Xy", {"X": X}, 3, b"Xy"])
def test_what_is_no_validation_data_is_refused_before_the_first_step(wrong):
    model = network()
    with pytest.raises(ValueError, match=r"^validation_data: expected \(X, y\) or \(X, y, s.*"
                       r"or an iterable of such batches, got "):  # fmt: skip
        fit(model=model, validation_data=wrong)
    assert_same_bits(model.flat_parameters, network().flat_parameters)


def test_an_iterator_lasts_for_one_validation():
    with pytest.raises(ValueError, match=r"^validation_data: a generator gives its batches once, "
                       "not for 2 validations"):  # fmt: skip
        fit(validation_data=iter(Batches()), epochs=3, validation_every=2)
    one = fit(validation_data=iter(Batches()), epochs=2, validation_every=2)
    assert_same(one, fit(validation_data=(X, LABELS), epochs=2, validation_every=2))


def test_an_endless_iterable_is_told_of(monkeypatch):
    monkeypatch.setattr(validation, "_MANY", 50)
    given = []

    class Endless(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                given.append(batch)
                yield batch
                if len(given) > 60:
                    signal.raise_signal(signal.SIGINT)

    text = "validation_data: has given 50 batches in this validation and goes on; an endless"
    with pytest.warns(UserWarning, match=text) as caught:
        history = fit(validation_data=Endless(endless=True))[1]
    assert history.interrupted and history.epochs == 0 and len(given) < 65
    assert caught[0].filename == __file__


# ---- every few epochs ----


@pytest.mark.parametrize("every, epochs, validated", [
    (1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (3, 6, [3, 6]), (100, 4, [4]),
])  # fmt: skip
def test_every_so_many_epochs_and_the_last(every, epochs, validated, tmp_path, capsys):
    calls = []

    def metric(outputs, targets):
        calls.append(len(targets))
        return 1.0

    path = tmp_path / "log.csv"
    history = fit(epochs=epochs, validation_every=every, validation_data=(X[:9], LABELS[:9]),
                  metrics=[metric], callbacks=[CSVLogger(path)], progress=True)[1]  # fmt: skip
    for name in ("validation_loss", "validation_metric"):
        there = np.flatnonzero(np.isfinite(history[name])) + 1
        assert there.tolist() == validated
    assert calls.count(9) == len(validated) and calls.count(90) == epochs
    assert {len(column) for column in history.values()} == {epochs}
    lines = capsys.readouterr().err.splitlines()
    shown = [i for i, line in enumerate(lines, 1) if "validation_loss" in line]
    assert shown == validated and not any("nan" in line for line in lines)
    whole = fit(epochs=epochs, validation_data=(X[:9], LABELS[:9]))[1]
    for epoch in validated:
        assert history.validation_loss[epoch - 1] == whole.validation_loss[epoch - 1]


class Scripted(Callback):
    """Replaces the validation loss of the epochs that have one by the next of `values`."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, run):
        if not run.left_out("validation_loss", run.epoch):
            done = np.isfinite(run.history["validation_loss"]).sum()
            run.history["validation_loss"][-1] = self.values[done - 1]


def scripted(values, *callbacks, epochs=12, every=2, **options):
    return fit(
        epochs=epochs, validation_every=every, validation_data=(X[:9], LABELS[:9]),
        callbacks=[Scripted(*values), *callbacks], **options,
    )[1]  # fmt: skip


def test_monitors_pass_over_epochs_without_a_result(tmp_path):
    stopping = EarlyStopping(patience=2)
    assert scripted((3, 2, 2, 2, 2, 2), stopping).epochs == 8
    assert (stopping.best, stopping.best_epoch) == (2, 4)
    rates = scripted((1, 1, 1, 1), ReduceOnPlateau(patience=1, factor=0.5), epochs=8)
    assert rates.learning_rate == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    path = tmp_path / "best"
    scripted((3, 2, 5), ModelCheckpoint(path, monitor="validation_loss"), epochs=6)
    assert fastnn.load_checkpoint(path).history.epochs == 4
    assert scripted((1, 1), EarlyStopping("loss", patience=1, min_delta=9)).epochs == 2


def test_a_validation_result_that_is_nan_still_counts_as_no_better():
    with pytest.warns(UserWarning, match="monitor: validation_loss is nan after epoch 4"):
        history = scripted((3, NAN, NAN), EarlyStopping(patience=1))
    assert history.epochs == 4


def test_every_needs_something_to_measure():
    with pytest.raises(ValueError, match=r"^validation_every: needs validation_data or valid"):
        fit(validation_every=2)
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^validation_every: expected an integer >= 1"):
            fit(validation_every=wrong, validation_split=0.2)


# ---- Ctrl-C ----


class Presses:
    """A layer of one's own that presses Ctrl-C at one of its calls in evaluation."""

    def __init__(self, at):
        self.at, self.rows = at, []

    def forward(self, x, training=False):
        if not training:
            self.rows.append(len(x))
            if len(self.rows) == self.at:
                signal.raise_signal(signal.SIGINT)
        return x

    def backward(self, dy):
        return dy


@pytest.mark.parametrize("data", [
    lambda x, y: (x, y), lambda x, y: [(x, y)], lambda x, y: [(x[:500], y[:500])] * 10
])  # fmt: skip
def test_ctrl_c_ends_a_validation_between_its_parts(data):
    x, y = np.tile(X, (50, 1)), np.tile(LABELS, 50)
    presses = Presses(at=4)
    model = Sequential(Dense(4, 3), presses)
    _, history = fit(X, LABELS, model, epochs=5, validation_data=data(x, y))
    assert history.interrupted and history.epochs == 0
    assert len(presses.rows) == 4
    # some were looked at alone beforehand; the parts have the same rows each time, since a layer of
    # one's own may round by them
    assert set(presses.rows) - {1} in ({1024}, {500})


def test_parts_of_a_validation_take_a_tenth_of_a_second_whatever_a_row_takes(monkeypatch):
    """The clock is a made-up one, which a row of the network moves."""
    clock, rows, seconds = [0.0], [], [0.002]
    monkeypatch.setattr(validation, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Timed(Sequential):
        def predict(self, X, batch_size=1024):
            rows.append(len(X))
            clock[0] += seconds[0] * len(X)
            return super().predict(X, batch_size)

    model = Timed(Dense(4, 3), seed=2)
    predict, never = validation.Predicting(model), SimpleNamespace(pressed=False)
    many = np.tile(X, (60, 1))
    assert_same_bits(predict(many[:540], never), Sequential.predict(model, many[:540]))
    assert rows == [32] * 16 + [28]
    seconds[0] = 0.02
    predict(many[:90], never)
    assert rows[17:] == [32, 16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 2]
    seconds[0] = 0.0
    predict(many, never)
    assert rows[29:37] == [4, 8, 16, 32, 64, 128, 256, 512] and max(rows) == 1024


def test_ctrl_c_is_heard_soon_while_fit_validates_images():
    rng = np.random.default_rng(0)
    x = rng.random((4000, 16, 16, 1), dtype=np.float32)
    y = rng.integers(0, 3, 4000)
    model = Sequential(
        fastnn.Conv2D(1, 16, 3, padding="same"), fastnn.ReLU(),
        fastnn.Conv2D(16, 16, 3, padding="same"), fastnn.GlobalAvgPool2D(), Dense(16, 3),
    )  # fmt: skip
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    class Press(Callback):
        """Presses soon after the first training batch is done."""

        def on_batch_end(self, run):
            timer.start()

    timer = threading.Timer(0.2, press)
    history = fit(x[:8], y[:8], model, epochs=1, callbacks=[Press()],
                  validation_data=[(x, y)] * 10**6)[1]  # fmt: skip
    assert history.interrupted and history.epochs == 0
    assert time.monotonic() - pressed[0] < 5


def test_a_batch_whose_targets_are_all_ignored_is_passed_over():
    """As its rows are in arrays."""
    loss, labels = SoftmaxCrossEntropy(ignore_index=-1), LABELS.copy()
    labels[30:60] = -1
    parts = [(X[at : at + 30], labels[at : at + 30]) for at in (0, 30, 60)]
    assert_same(fit(loss=loss, validation_data=parts), fit(loss=loss, validation_data=(X, labels)))
    with pytest.raises(ValueError, match=r"^validation sample_weight: all weights are 0"):
        fit(loss=loss, validation_data=parts[1:2])
