"""Callbacks: when each hook is called, and what fastnn's callbacks do."""

import copy
import csv
import dataclasses
import math
import pickle
import signal
import sys

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Callback,
    CSVLogger,
    Dense,
    EarlyStopping,
    MeanSquaredError,
    Run,
    Sequential,
    TensorBoard,
)
from small_fit import X, Y, fit, network


class Told(Callback):
    def __init__(self, stop_after=None):
        self.told, self.stop_after = [], stop_after

    def on_fit_begin(self, run):
        assert isinstance(run, Run)
        self.told.append(("fit begins", run.epoch, run.results))

    def on_epoch_begin(self, run):
        self.told.append(("begins", run.epoch))

    def on_epoch_end(self, run):
        self.told.append(("ends", run.epoch))
        assert run.results == {name: values[run.epoch - 1] for name, values in run.history.items()}
        assert list(run.results) == run.columns
        if run.epoch == self.stop_after:
            run.stop()

    def on_fit_end(self, run):
        self.told.append(("fit ends", run.epoch))


def test_what_a_callback_is_told():
    callback, model = Told(), network()
    history = fit(callback, model=model, epochs=2)
    assert callback.told == [
        ("fit begins", 0, {}), ("begins", 0), ("ends", 1), ("begins", 1), ("ends", 2),
        ("fit ends", 2),
    ]  # fmt: skip
    assert history.epochs == 2
    plain = network()
    fit(model=plain, epochs=2)
    assert_same_bits(model.flat_parameters, plain.flat_parameters)


def test_a_callback_may_stop_training():
    callback = Told(stop_after=3)
    history = fit(callback, epochs=100)
    assert history.epochs == 3 and not history.interrupted
    assert callback.told[-2:] == [("ends", 3), ("fit ends", 3)]


def test_callbacks_are_called_in_their_order():
    order = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch_end(self, run):
            order.append(self.name)

    fit(Named("first"), Named("second"), epochs=2)
    assert order == ["first", "second"] * 2


def test_one_object_belongs_to_one_fit_at_a_time():
    stopping = EarlyStopping()
    with pytest.raises(RuntimeError, match="part of a fit already"):
        fit(stopping, stopping)

    class Nested(Callback):
        def on_epoch_end(self, run):
            fit(stopping, epochs=1)

    with pytest.raises(RuntimeError, match="part of a fit already"):
        fit(stopping, Nested())
    assert fit(stopping).epochs == 6  # it may be used again


def test_an_error_in_a_callback_ends_training_and_all_are_told():
    class Faulty(Callback):
        def on_epoch_end(self, run):
            raise KeyError("mine")

    callback, model = Told(), network()
    with pytest.raises(KeyError, match="mine"):
        fit(callback, Faulty(), model=model)
    assert callback.told[-1] == ("fit ends", 1)
    assert fit(model=model).epochs == 6  # the model may train again

    class FaultyAtOnce(Callback):
        def on_fit_begin(self, run):
            raise KeyError("mine")

    last = Told()
    with pytest.raises(KeyError, match="mine"):
        fit(FaultyAtOnce(), last)
    assert last.told == []  # only callbacks whose on_fit_begin ran are told of the end


def test_an_error_in_on_fit_end_does_not_stop_the_others():
    class Faulty(Callback):
        def on_fit_end(self, run):
            raise KeyError("mine")

    stopping, model = fastnn.EarlyStopping(min_delta=1e9, patience=2), network()
    callback = Told()
    with pytest.raises(KeyError, match="mine"):
        fit(Faulty(), stopping, callback, model=model)
    best = network()
    fit(model=best, epochs=stopping.best_epoch)
    assert_same_bits(model.flat_parameters, best.flat_parameters)
    assert callback.told[-1] == ("fit ends", 3)


class FaultyAt(Callback):
    """Sets what is out of its range."""

    def __init__(self, hook, epoch=0):
        self.epoch = epoch
        setattr(self, hook, self.set_rate)

    def set_rate(self, run):
        if run.epoch == self.epoch:
            run.optimizer.learning_rate = -1.0

    def __repr__(self):
        return "FaultyAt(...)"


@pytest.mark.parametrize("hook, epoch", [
    ("on_fit_begin", 0), ("on_epoch_begin", 2), ("on_epoch_end", 3), ("on_fit_end", 6),
])  # fmt: skip
def test_an_error_names_its_callback_and_keeps_the_history(hook, epoch):
    with pytest.raises(ValueError, match=r"^learning_rate: expected a finite") as caught:
        fit(Callback(), FaultyAt(hook, epoch))
    error = caught.value
    assert f"raised in FaultyAt(...).{hook}, after {epoch} epochs" in error.__notes__
    expected = fit(epochs=epoch) if epoch else fastnn.History()
    assert isinstance(error.history, fastnn.History) and error.history.epochs == epoch
    for name in set(expected) - {"seconds", "samples_per_second"}:
        assert error.history[name] == expected[name]
    kept = f"the history of the {epoch} finished epochs is this error's .history"
    assert (kept in error.__notes__) == (epoch > 0)


def test_an_error_names_its_schedule_and_keeps_the_history():
    def broken(t, epochs):
        return 1.0 if np.max(t) < 2 else 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        fit(schedule=broken)
    assert "raised in the schedule broken, after 2 epochs" in caught.value.__notes__
    assert caught.value.history.epochs == 2

    class Grows(fastnn.schedules.Schedule):
        def _factors(self, t, epochs):
            return np.where(t < 2, 1.0, 1e60)

    with pytest.raises(ValueError, match=r"schedule: 1e\+60 times the learning rate 1e-12 is too "
                       r"large; expected at most 3\.40282e\+38") as caught:  # fmt: skip
        fit(schedule=Grows(), optimizer=fastnn.SGD(1e-12))
    assert "raised in the schedule Grows(), after 2 epochs" in caught.value.__notes__
    assert caught.value.history.epochs == 2


def test_whatever_ends_a_training_keeps_the_history():
    with pytest.raises(FloatingPointError, match="epoch 3, step") as caught:
        fit(optimizer=fastnn.SGD(1e-30), schedule=lambda t, epochs: np.where(t < 2, 0, 1e68))
    assert caught.value.history.epochs == 2

    def metric(outputs, targets):
        metric.calls += 1
        return 1 / (3 - metric.calls)

    metric.calls = 0
    with pytest.raises(ZeroDivisionError) as caught:
        fit(metrics=[metric], validation_data=None)
    assert caught.value.history.metric == [0.5, 1.0]

    class Slotted(Exception):
        __slots__ = ("history",)

    class Raising(Callback):
        def on_epoch_end(self, run):
            raise Slotted

    with pytest.raises(Slotted) as caught:
        fit(Raising())
    assert caught.value.history.epochs == 1


def test_divergence_is_told_too():
    callback = Told()
    with pytest.raises(FloatingPointError):
        fit(callback, optimizer=fastnn.SGD(1e30))
    assert callback.told[-1] == ("fit ends", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no raise_signal of SIGINT to one's own")
def test_ctrl_c_in_a_callback_ends_training_after_it():
    class Pressing(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                signal.raise_signal(signal.SIGINT)

    callback = Told()
    history = fit(Pressing(), callback)
    assert history.epochs == 2 and history.interrupted
    assert callback.told[-2:] == [("ends", 2), ("fit ends", 2)]


def test_a_callback_may_use_and_change_the_model():
    class Changing(Callback):
        def on_epoch_end(self, run):
            assert run.model.evaluate(X, Y, loss=run.loss)["loss"] > 0
            run.model.layers[1].rate = 0.5
            run.model.state_dict()

    model = Sequential(Dense(3, 8), fastnn.Dropout(0.1), Dense(8, 1), seed=0)
    fit(Changing(), model=model, epochs=3)
    expected, optimizer = (
        Sequential(Dense(3, 8), fastnn.Dropout(0.1), Dense(8, 1)),
        fastnn.SGD(0.05),
    )
    order = fastnn.batches(X, Y, 16, seed=0)
    for _ in range(3):
        for xb, yb in order:
            _, gradient = MeanSquaredError()(expected.forward(xb, training=True), yb)
            expected.backward(gradient)
            optimizer.step(expected)
        expected.layers[1].rate = 0.5
    assert_same_bits(model.flat_parameters, expected.flat_parameters)


@pytest.mark.parametrize("wrong", [[Told], [lambda run: None], Told(), 5, None, ["EarlyStopping"]])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(TypeError, match=r"^callbacks: "):
        network().fit(X, Y, loss=MeanSquaredError(), optimizer=fastnn.SGD(0.1), callbacks=wrong)


# ---- results of one's own ----


def test_a_misspelt_hook_is_refused():
    with pytest.raises(TypeError, match=r"Mine\.on_train_end: expected one of on_fit_begin, "):
        type("Mine", (Callback,), {"on_train_end": lambda self, run: None})


def test_results_of_ones_own(tmp_path):
    class Norm(Callback):
        def on_fit_begin(self, run):
            run.columns.append("norm")

        def on_epoch_end(self, run):
            run.log("norm", 2.0**-run.epoch)
            with pytest.raises(ValueError, match=r"log: epoch \d has a result 'norm' already"):
                run.log("norm", 0.0)

    stopping = EarlyStopping("norm", higher_is_better=True, patience=2)
    history = fit(CSVLogger(tmp_path / "run.csv"), Norm(), stopping)
    assert history.norm == [0.5, 0.25, 0.125] and stopping.best_epoch == 1
    with open(tmp_path / "run.csv", newline="") as file:
        assert [float(line["norm"]) for line in csv.DictReader(file)] == history.norm


def test_an_epoch_without_a_result_of_ones_own_has_nan(tmp_path):
    class Late(Callback):
        def on_epoch_end(self, run):
            assert math.isnan(run.results.get("late", math.nan))
            if run.epoch in (2, 4):
                run.log("late", run.epoch)

    path = tmp_path / "run.csv"
    history = fit(CSVLogger(path), Late(), epochs=5)
    np.testing.assert_array_equal(history.late, [math.nan, 2, math.nan, 4, math.nan])
    assert {len(column) for column in history.values()} == {5}
    lines = read_csv(path)
    assert [line["late"] for line in lines] == ["nan", "2.0", "nan", "4.0", "nan"]
    assert [float(line["loss"]) for line in lines] == history.loss


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin"])
def test_a_result_needs_an_epoch_to_belong_to(hook):
    early = type("Early", (Callback,), {hook: lambda self, run: run.log("early", 1.0)})
    with pytest.raises(ValueError, match="log: 'early' belongs to an epoch, and none is done yet"):
        fit(early())


def test_fits_own_results_cannot_be_logged():
    class Twice(Callback):
        def on_epoch_end(self, run):
            run.log("loss", 1.0)

    with pytest.raises(ValueError, match="log: epoch 1 has a result 'loss' already"):
        fit(Twice())


# ---- the others --------------------------------------------------------------------------------


def test_csv_logger(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("old\n")
    first = fit(CSVLogger(path), epochs=3)
    second = fit(CSVLogger(path, append=True), epochs=2)
    with open(path, newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["epoch", *first]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3", "1", "2"]
    for i, name in enumerate(first, 1):
        assert [float(line[i]) for line in lines[1:]] == first[name] + second[name]


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger_appends_each_value_under_its_name(tmp_path):
    path = tmp_path / "run.csv"
    mine = fastnn.metrics.mean_absolute_error, fastnn.metrics.r2
    first = fit(CSVLogger(path), epochs=2, metrics=[*mine])
    second = fit(CSVLogger(path, append=True), epochs=3, metrics=[*reversed(mine)])
    assert list(first) != list(second)
    lines = read_csv(path)
    assert [line.pop("epoch") for line in lines] == ["1", "2", "1", "2", "3"]
    for name in first:
        assert [float(line[name]) for line in lines] == first[name] + second[name]
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert pandas.read_csv(path).shape == (5, 1 + len(first))


@pytest.mark.parametrize("options", [
    {"metrics": ["r2", "mean_absolute_error"]}, {"metrics": []}, {"validation_data": None},
])  # fmt: skip
def test_csv_logger_refuses_a_file_of_other_columns(options, tmp_path):
    path, model = tmp_path / "run.csv", network()
    fit(CSVLogger(path), epochs=1, metrics=["r2"])
    before = path.read_text()
    with pytest.raises(ValueError, match=r"^append: .*run\.csv has the columns epoch, loss, r2, .*"
                       "expected epoch, loss, .*; give another path"):  # fmt: skip
        fit(CSVLogger(path, append=True), model=model, **options)
    assert path.read_text() == before
    assert_same_bits(model.flat_parameters, network().flat_parameters)
    fit(CSVLogger(path, append=True), epochs=1, metrics=["r2"])
    assert len(read_csv(path)) == 2
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="has the columns something else, expected epoch, loss"):
        fit(CSVLogger(path, append=True))
    path.write_text("")
    assert fit(CSVLogger(path, append=True)).epochs == len(read_csv(path))


class Norm(Callback):
    def __init__(self, announced):
        self.announced = announced

    def on_fit_begin(self, run):
        if self.announced:
            run.columns.append("norm")

    def on_epoch_end(self, run):
        run.log("norm", run.epoch)


def test_csv_logger_and_results_of_ones_own(tmp_path):
    path = tmp_path / "run.csv"
    fit(CSVLogger(path), epochs=2)
    with pytest.raises(ValueError, match=r"samples_per_second, expected .*, norm; give another"):
        fit(CSVLogger(path, append=True), Norm(announced=True))
    fit(CSVLogger(path, append=True), Norm(announced=False), epochs=2)  # cannot be known before
    fit(CSVLogger(path, append=True), Norm(announced=True), epochs=1)
    fit(CSVLogger(path, append=True), epochs=1)
    assert [line["norm"] for line in read_csv(path)] == ["nan", "nan", "1.0", "2.0", "1.0", "nan"]
    assert [line["epoch"] for line in read_csv(path)] == ["1", "2", "1", "2", "1", "1"]


def test_append_is_a_flag():
    with pytest.raises(TypeError, match=r"^append: "):
        CSVLogger("x.csv", append="yes")


def test_csv_logger_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OSError, match="missing"):
        fit(CSVLogger(tmp_path / "missing" / "run.csv"))


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    history = fit(TensorBoard(tmp_path / "run"), epochs=2)
    (file,) = (tmp_path / "run").iterdir()
    written = file.read_bytes()
    for name in history:
        assert name.encode() in written


def test_tensorboard_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install tensorboardX"):
        TensorBoard("runs")


# ---- callbacks of every kind belong to one fit at a time ----


@dataclasses.dataclass(frozen=True)
class Frozen(fastnn.Callback):
    name: str = "frozen"


class Clears(fastnn.Callback):
    def on_fit_end(self, run):
        vars(self).clear()


class Marks(fastnn.Callback):
    def __init__(self):
        self._fit = "the user's"

    def on_epoch_end(self, run):
        assert self._fit == "the user's"


class Slots(fastnn.Callback):
    __slots__ = ("count",)

    def __init__(self):
        self.count = 3


class Copies(fastnn.Callback):
    """Copies itself while it is part of a fit."""

    def __getstate__(self):
        return dict(vars(self))

    def on_epoch_end(self, run):
        self.copies = [copy.copy(self), copy.deepcopy(self), pickle.loads(pickle.dumps(self))]


@pytest.mark.parametrize("kind", [Frozen, Clears, Marks, Slots, Copies])
def test_a_callback_of_any_kind_serves_one_fit_after_another(kind):
    callback = kind()
    for _ in range(2):
        fit(callback, epochs=1)
    if kind is Copies:
        for copied in callback.copies:
            fit(copied, epochs=1)
    if kind is Slots:
        assert copy.copy(callback).count == copy.deepcopy(callback).count == 3
    with pytest.raises(RuntimeError, match="part of a fit already"):
        fit(callback, callback, epochs=1)
    fit(callback, epochs=1)
