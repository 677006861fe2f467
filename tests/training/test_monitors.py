"""What watches a result: early stopping, rates that fall on a plateau, and their `monitor`."""

import math
from contextlib import suppress

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Callback, Dense, EarlyStopping, ReduceOnPlateau, Sequential
from small_fit import Scripted, X, Y, fit, network


def test_early_stopping_restores_the_best():
    kept = {}

    class Keeping(Callback):
        def on_epoch_end(self, run):
            kept[run.epoch] = run.model.state_dict()

    model = Sequential(Dense(3, 8), fastnn.BatchNorm(8), Dense(8, 1), seed=0)
    stopping = EarlyStopping(patience=3)
    script = Scripted(3.0, 2.0, 2.5, 2.0, 2.2, 1.0)
    history = fit(script, Keeping(), stopping, model=model, epochs=6)
    assert history.epochs == stopping.stopped_epoch == 5
    assert (stopping.best, stopping.best_epoch) == (2.0, 2)
    state = model.state_dict()
    for name, array in kept[2].items():
        assert_same_bits(state[name], array)
    assert any((kept[5][name] != kept[2][name]).any() for name in state)


def test_early_stopping_without_restoring():
    model, twin = network(), network()
    stopping = EarlyStopping(patience=1, restore_best=False)
    fit(Scripted(1.0, 2.0), stopping, model=model)
    fit(model=twin, epochs=2)
    assert stopping.stopped_epoch == 2
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_the_best_is_restored_where_all_epochs_are_done():
    model, twin = network(), network()
    stopping = EarlyStopping(patience=10)
    fit(Scripted(3.0, 1.0, 2.0), stopping, model=model, epochs=3)
    fit(model=twin, epochs=2)
    assert stopping.stopped_epoch is None and stopping.best_epoch == 2
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize("ties, values, best, epochs", [
    ("first", (3.0, 1.0, 2.0, 1.0, 2.0, 1.0), 2, 6), ("last", (3.0, 1.0, 2.0, 1.0, 2.0, 2.0), 4, 6),
    ("last", (3.0, 1.0, 1.0, 2.0, 0.5, 2.0), 5, 6), ("last", (2.0,) * 9, 5, 5),
    ("first", (2.0,) * 9, 1, 5), ("last", (math.inf, 3.0, 3.0 + 1e-9, 4.0), 2, 4),
])  # fmt: skip
def test_which_of_the_best_epochs_is_restored(ties, values, best, epochs):
    """An epoch that ties with the best one does not begin the patience anew."""
    model, twin = network(), network()
    stopping = EarlyStopping(patience=4, ties=ties)
    history = fit(Scripted(*values), stopping, model=model, epochs=len(values))
    assert (history.epochs, stopping.best_epoch) == (epochs, best)
    fit(model=twin, epochs=best)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_the_last_of_the_best_epochs_within_a_resume(tmp_path):
    """A tie counts as before the pause, and the file keeps the state of the last best epoch."""
    path = tmp_path / "training.safetensors"
    values, whole, resumed = (3.0, 1.0, 1.0, 2.0, 2.0, 2.0), network(), network()
    fit(Scripted(*values), EarlyStopping(patience=9, ties="last"), model=whole, epochs=6)
    for epochs in (4, 6):
        stopping = EarlyStopping(patience=9, ties="last")
        resume = path if epochs == 6 else None
        fit(Scripted(*values), stopping, fastnn.ModelCheckpoint(path), model=resumed,
            epochs=epochs, resume=resume)  # fmt: skip
        assert stopping.best_epoch == 3
    assert_same_bits(resumed.flat_parameters, whole.flat_parameters)


def test_without_patience_it_keeps_the_best_alone():
    model, twin = network(), network()
    stopping = EarlyStopping(patience=None)
    history = fit(Scripted(2.0, 1.0, *range(2, 40)), stopping, model=model, epochs=40)
    assert history.epochs == 40 and stopping.stopped_epoch is None and stopping.best_epoch == 2
    fit(model=twin, epochs=2)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({}, (5, 4, 3, 2, 1, 0), 6),
        ({}, (5, 5, 5, 5, 5, 5), 3),
        ({"min_delta": 1.0}, (5, 4.5, 4.2, 3, 2, 2), 3),
        ({"min_delta": 0.4}, (5, 4.7, 4.4, 4.1, 3.8, 3.5), 6),
        ({"higher_is_better": True}, (1, 2, 3, 2, 3, 4), 5),
        pytest.param(
            {}, (math.nan, 3, 2, math.nan, math.nan, 1), 5,
            marks=pytest.mark.filterwarnings("ignore:monitor. .* is nan"),
        ),
    ],
)  # fmt: skip
def test_patience_decides_when_it_stops(options, values, epochs):
    history = fit(Scripted(*values), EarlyStopping(patience=2, **options))
    assert history.epochs == epochs


def stops_after(values, **options):
    """The epoch that early stopping ends, and what it calls the best."""
    stopping = EarlyStopping(patience=2, **options)
    history = fit(Scripted(*values), stopping, epochs=len(values))
    return history.epochs, stopping.best_epoch


def keras_stops_after(values, patience, baseline, start):
    """Keras' EarlyStopping by its documentation, in epochs counted from 1."""
    best = best_epoch = None
    wait = 0
    for epoch, value in enumerate(values, 1):
        if epoch <= start:
            continue
        wait += 1
        if best is None or value < best:
            best, best_epoch = value, epoch
            if baseline is None or value < baseline:
                wait = 0
        if wait >= patience:
            return epoch, best_epoch
    return len(values), best_epoch


@pytest.mark.parametrize("values", [
    (5, 4, 3, 2, 1, 0), (3, 3, 3, 3, 3, 3), (1, 5, 4, 4, 4, 4), (5, 4, 1.5, 1.8, 1.9, 1), (0, 9, 9),
])  # fmt: skip
@pytest.mark.parametrize("baseline", [None, 2.0, 100.0, -1])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_baseline_and_start_from_epoch_are_keras(values, baseline, start):
    expected = keras_stops_after(values, 2, baseline, start)
    best = expected[1] or 0
    assert stops_after(values, baseline=baseline, start_from_epoch=start) == (expected[0], best)


def test_a_baseline_that_is_to_be_exceeded():
    options = {"higher_is_better": True, "baseline": 2.0, "min_delta": 0.5}
    assert stops_after((1, 2, 2.4, 3, 4), **options) == (2, 2)
    assert stops_after((3, 2, 4, 2, 2, 5), **options) == (5, 3)


def test_the_first_epochs_are_not_restored_either():
    model, twin = network(), network()
    fit(Scripted(0, 3, 2, 4), EarlyStopping(start_from_epoch=1), model=model, epochs=4)
    fit(model=twin, epochs=3)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    model, twin = network(), network()
    fit(Scripted(0, 3), EarlyStopping(start_from_epoch=9), model=model, epochs=2)
    fit(model=twin, epochs=2)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_for_which_results_higher_is_better():
    def watch(name, **options):
        return EarlyStopping(name, **options)._watch.sign

    assert watch("loss") == watch("validation_mean_absolute_error") == 1
    assert watch("accuracy") == watch("validation_f1") == watch("top_3_accuracy") == -1
    assert watch("accuracy", higher_is_better=False) == 1
    assert watch("validation_rmse", higher_is_better=False) == 1


@pytest.mark.parametrize("name", ["loss", "mean_absolute_error", "r2"])
def test_keras_spelling_of_what_is_monitored(name):
    def watched(monitor):
        stopping = EarlyStopping(monitor, patience=1, min_delta=0.1)
        return stopping, fit(stopping, epochs=20, metrics=["mean_absolute_error", "r2"])

    (keras, history), (ours, its) = watched(f"val_{name}"), watched(f"validation_{name}")
    assert (keras.best_epoch, keras.stopped_epoch) == (ours.best_epoch, ours.stopped_epoch)
    assert history.epochs == its.epochs == keras.best_epoch + 1  # by the patience of 1
    assert history.epochs < 20  # nor by the end
    column, epoch = history[f"validation_{name}"], keras.best_epoch - 1
    assert keras.best == ours.best == column[epoch] != history[name][epoch]

    class Own(Callback):
        def on_fit_begin(self, run):
            run.columns.append("val_own")

        def on_epoch_end(self, run):
            run.log("val_own", run.epoch)

    own = EarlyStopping("val_own", higher_is_better=False, patience=2)
    assert fit(Own(), own).epochs == 3 and own.best == 1


def kinds_that_monitor(path):
    yield EarlyStopping(patience=3)
    yield ReduceOnPlateau()
    yield fastnn.ModelCheckpoint(path / "best", monitor="validation_loss")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("values, first", [((math.nan,) * 6, 1), ((2, 1, math.nan, math.nan), 3)])
def test_a_monitored_result_that_is_nan_is_warned_of_once(values, first, number, tmp_path):
    callback = list(kinds_that_monitor(tmp_path))[number]
    text = f"monitor: validation_loss is nan after epoch {first}, which counts as no better"
    with pytest.warns(UserWarning) as caught:
        fit(Scripted(*values), callback, epochs=len(values))
    assert [str(warning.message) for warning in caught] == [text]
    assert caught[0].filename == fit.__code__.co_filename  # where the user calls model.fit


def test_a_monitored_result_that_nobody_logs_is_nan():
    class Promised(Callback):
        def on_fit_begin(self, run):
            run.columns.append("norm")

    with pytest.warns(UserWarning, match="monitor: norm is nan after epoch 1"):
        assert fit(Promised(), EarlyStopping("norm", higher_is_better=True, patience=2)).epochs == 2


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceOnPlateau])
def test_higher_is_better_must_be_said_of_a_metric_of_ones_own(kind):
    with pytest.raises(ValueError, match=r"higher_is_better: expected True or False for 'rmse', .*:"
                       r" 'loss', 'accuracy', .*'r2', .* each also behind 'val.*_'$"):  # fmt: skip
        kind("rmse")


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceOnPlateau])
def test_an_unknown_result_is_told_before_the_first_step(kind):
    model = network()
    with pytest.raises(ValueError, match=r"monitor: expected one of loss, .*, got 'val_los'"):
        fit(kind("val_los", higher_is_better=False), model=model)
    columns = "loss, learning_rate, seconds, samples_per_second"
    wanted = f"monitor: expected one of {columns}, got 'val_loss', which needs validation data"
    with pytest.raises(ValueError, match=wanted):
        fit(kind("val_loss"), model=model, validation_data=None)
    with pytest.raises(ValueError, match="got 'validation_loss'"):
        fit(kind(), model=model, validation_data=None)
    assert_same_bits(model.flat_parameters, network().flat_parameters)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EarlyStopping(3), "monitor"),
        (lambda: EarlyStopping(patience=0), "patience"),
        (lambda: EarlyStopping(ties="best"), "ties"),
        (lambda: EarlyStopping(min_delta=-1.0), "min_delta"),
        (lambda: EarlyStopping(higher_is_better="max"), "higher_is_better"),
        (lambda: EarlyStopping("seconds"), "higher_is_better"),
        (lambda: EarlyStopping(restore_best=1), "restore_best"),
        (lambda: ReduceOnPlateau(factor=0.0), "factor"),
        (lambda: ReduceOnPlateau(patience=1.5), "patience"),
        (lambda: ReduceOnPlateau(min_rate=-1), "min_rate"),
        (lambda: ReduceOnPlateau(eps=-1), "eps"),
        (lambda: EarlyStopping(baseline=math.nan), "baseline"),
        (lambda: EarlyStopping(baseline="0.5"), "baseline"),
        (lambda: EarlyStopping(start_from_epoch=-1), "start_from_epoch"),
        (lambda: EarlyStopping(start_from_epoch=1.5), "start_from_epoch"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown"),
        (lambda: ReduceOnPlateau(cooldown=1.5), "cooldown"),
    ],
)
def test_settings_out_of_range(make, name):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
        make()


def test_early_stopping_can_be_used_again():
    stopping = EarlyStopping(patience=1)
    for _ in range(2):
        assert fit(Scripted(1.0, 2.0), stopping).epochs == 2
        assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 2)


# ---- rates on a plateau ----


def test_reduce_on_plateau():
    optimizer = fastnn.SGD(1.0)
    history = fit(
        Scripted(2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        ReduceOnPlateau(factor=0.5, patience=2, min_rate=0.3),
        optimizer=optimizer,
        epochs=8,
        loss=fastnn.MeanAbsoluteError(),
    )
    assert history.learning_rate == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3]
    fit(Scripted(1.0, 1.0), ReduceOnPlateau(patience=1), epochs=2, optimizer=fastnn.SGD(1e-3))


def cooled(values, patience, cooldown):
    """In which epochs the rate falls, as torch's ReduceLROnPlateau counts (whose patience is one
    less)."""
    best, bad, rest, falls = math.inf, 0, 0, []
    for epoch, value in enumerate(values, 1):
        if value < best:
            best, bad = value, 0
        else:
            bad += 1
        if rest:
            rest, bad = rest - 1, 0
        if bad >= patience:
            falls.append(epoch)
            rest, bad = cooldown, 0
    return falls


@pytest.mark.parametrize("values", [(1.0,) * 14, (5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3)])
@pytest.mark.parametrize("patience", [1, 2])
@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_epochs_after_a_step_down_are_not_counted(values, patience, cooldown):
    reducing = ReduceOnPlateau(patience=patience, cooldown=cooldown, factor=0.5)
    history = fit(Scripted(*values), reducing, optimizer=fastnn.SGD(1e-4), epochs=14)
    rates = np.array([*history.learning_rate])
    falls = np.flatnonzero(rates[1:] < rates[:-1]) + 1
    expected = [epoch for epoch in cooled(values, patience, cooldown) if epoch < 14]
    assert falls.tolist() == expected and len(expected) > 1


def torchs_rates(rate, factor, epochs, eps):
    """ReduceLROnPlateau by hand, where no epoch after the first is better: patience is 1."""
    rates = [rate]
    for _ in range(epochs - 2):
        lower = rate * factor
        rate = lower if rate - lower > eps else rate
        rates.append(rate)
    return rates


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_the_rate_of_a_long_plateau_ends_where_torchs_does(factor, dtype):
    optimizer = fastnn.SGD(1e-3)
    history = fit(
        Scripted(*[1.0] * 400), ReduceOnPlateau(patience=1, factor=factor), optimizer=optimizer,
        epochs=400, model=Sequential(Dense(3, 1), dtype=dtype), validation_data=(X[:1], Y[:1]),
    )  # fmt: skip
    assert history.learning_rate == [1e-3, *torchs_rates(1e-3, factor, 400, 1e-8)]
    assert 0.9e-8 < optimizer.learning_rate <= 1e-8 / factor


@pytest.mark.parametrize("make", [fastnn.SGD, fastnn.Adam, fastnn.AdamW])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("min_rate", [0.0, 1e-320])
def test_without_eps_the_rate_ends_at_the_smallest_number_of_the_dtype(min_rate, dtype, make):
    optimizer = make(1.0)
    reducing = ReduceOnPlateau(patience=1, factor=1e-9, eps=0.0, min_rate=min_rate)
    history = fit(
        Scripted(*[1.0] * 50), reducing, optimizer=optimizer, epochs=50,
        model=Sequential(Dense(3, 1), dtype=dtype),
    )  # fmt: skip
    assert history.epochs == 50 and optimizer.learning_rate == np.finfo(dtype).tiny


def test_reducing_needs_a_rate():
    mine = type("Mine", (), {"step": lambda self, model: None})()
    with pytest.raises(TypeError, match=r"^ReduceOnPlateau: .* has no learning_rate"):
        fit(ReduceOnPlateau(), optimizer=mine)


def test_a_rate_below_the_least_stays():
    optimizer = fastnn.SGD(1e-3)
    fit(Scripted(1, 1), ReduceOnPlateau(patience=1, min_rate=0.1), optimizer=optimizer, epochs=2)
    assert optimizer.learning_rate == 1e-3


@pytest.mark.parametrize("ends", [KeyboardInterrupt, FloatingPointError])
def test_the_best_is_restored_where_the_next_epoch_was_only_begun(ends):
    class End(Callback):
        def on_epoch_end(self, run):
            self.best = run.model.flat_parameters.copy()

        def on_batch_end(self, run):
            if (run.epoch, run.batch) == (2, 2):
                raise ends

    model, end = network(), End()
    before = model.flat_parameters.copy()
    with suppress(ends):  # Ctrl-C returns the history
        fit(end, EarlyStopping("loss"), model=model, epochs=9, batch_size=2)
    assert (end.best != before).any()
    np.testing.assert_array_equal(model.flat_parameters, end.best)
