"""A `fit` that ends, is stopped or killed, and goes on from its checkpoint: the bits of one that
never stopped, and no change where it cannot go on."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Cosine,
    CSVLogger,
    Dense,
    Dropout,
    EarlyStopping,
    ModelCheckpoint,
    ReduceOnPlateau,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
)
from paths import import_path
from stepping import CLASSES, FEATURES, assert_alike
from stepping import network as recorded
from tables import OPTIMIZERS

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((50, FEATURES)).astype(np.float32), RNG.integers(0, CLASSES, 50)
TIMES = {"seconds", "samples_per_second"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.safetensors"


def network(dtype="float32", compute=None):
    return Sequential(
        Dense(FEATURES, 12, l2=0.2), BatchNorm(12), Dropout(0.2),
        Residual(Dense(12, 12, activation=fastnn.LeakyReLU(0.1)), Dropout(0.5)), Dense(12, CLASSES),
        seed=1, dtype=dtype, compute=compute,
    )  # fmt: skip


def fit(epochs, *callbacks, model=None, optimizer=None, x=X, y=Y, **options):
    model, optimizer = model or network(), optimizer or Adam(0.01, clip_norm=0.5)
    settings = {"batch_size": 16, "progress": False, "validation_data": (X[:9], Y[:9]), "seed": 7}
    history = model.fit(
        x, y, loss=SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs, callbacks=callbacks,
        **settings | options,
    )  # fmt: skip
    return model, optimizer, history


class Scripted(Callback):
    """Replaces each epoch's validation loss by the next of `values`."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, run):
        run.history["validation_loss"][-1] = self.values[run.epoch - 1]


def assert_same_run(one, other):
    (model, optimizer, history), (model2, optimizer2, history2) = one, other
    assert_alike(model, model2)
    assert repr(optimizer) == repr(optimizer2)
    for name, array in optimizer._arrays().items():
        assert_same_bits(array, optimizer2._arrays()[name])
    assert list(history) == list(history2) and history.epochs == history2.epochs
    assert all(history[name] == history2[name] for name in history if name not in TIMES)


# ---- the same bits ----


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fit_goes_on_bit_for_bit(name, dtype, path):
    make = OPTIMIZERS[name][0]

    def run(epochs, *callbacks, **options):
        return fit(epochs, *callbacks, model=network(dtype), optimizer=make(clip_norm=0.5),
                   **options)  # fmt: skip

    run(2, ModelCheckpoint(path))
    assert_same_run(run(5, resume=path, seed=99), run(5))  # the file decides the order too


@pytest.mark.parametrize("options", [
    {"schedule": Cosine(warmup=1.5)}, {"accumulate": 3}, {"shuffle": False}, {"batch_size": 25},
    {"class_weight": "balanced", "sample_weight": 1 + np.arange(50) % 3},
    {"metrics": ["accuracy", "f1"]}, {"validation_data": None},
    {"schedule": lambda t, epochs: 1 - t / epochs, "accumulate": 2, "batch_size": 9},
])  # fmt: skip
def test_a_fit_with_any_option_goes_on(options, path):
    class Stop(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.stop()

    fit(5, ModelCheckpoint(path), Stop(), **options)
    assert_same_run(fit(5, resume=path, **options), fit(5, **options))


def test_recorded_networks_and_one_epoch_at_a_time(path):
    for epoch in range(1, 5):
        resume = path if epoch > 1 else None
        last = fit(epoch, ModelCheckpoint(path), model=recorded(), resume=resume)
    assert_same_run(last, fit(4, model=recorded()))


def test_the_same_objects_may_go_on(path):
    """A model that has trained further goes back to the checkpoint; its recordings stay valid."""
    model, optimizer = network(), Adam(0.01, clip_norm=0.5)
    fit(2, ModelCheckpoint(path), model=model, optimizer=optimizer)
    fit(3, model=model, optimizer=optimizer)
    again = fit(5, model=model, optimizer=optimizer, resume=path)
    assert_same_run(again, fit(5))


def test_a_fit_on_batches_goes_on(path):
    def run(epochs, *callbacks, seed=7, **options):
        data = fastnn.batches(X, Y, batch_size=16, seed=seed)
        return fit(epochs, *callbacks, x=data, y=None, **options)

    run(2, ModelCheckpoint(path))
    assert_same_run(run(4, resume=path, seed=99), run(4))


def test_a_fit_on_batches_of_ones_own_goes_on(path):
    data = [(X[:20], Y[:20]), (X[20:], Y[20:])]
    fit(2, ModelCheckpoint(path), x=data, y=None)
    assert_same_run(fit(4, x=data, y=None, resume=path), fit(4, x=data, y=None))


@pytest.mark.parametrize("make", [
    lambda: ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=0.05),
    lambda: EarlyStopping("loss", patience=2, min_delta=0.05, restore_best=False),
    lambda: EarlyStopping("validation_accuracy", patience=3, restore_best=False),
])  # fmt: skip
def test_callbacks_remember_the_results_before(make, path):
    for done in range(1, 6):
        fit(done, make(), ModelCheckpoint(path))
        again, whole = make(), make()
        assert_same_run(fit(12, again, resume=path), fit(12, whole))
        assert vars(again._watch) == vars(whole._watch)


class Norm(Callback):
    """Logs a result of its own, announced beforehand or not."""

    def __init__(self, announced=False, name="norm"):
        self.announced, self.name = announced, name

    def on_fit_begin(self, run):
        if self.announced:
            run.columns.append(self.name)

    def on_epoch_end(self, run):
        run.log(self.name, np.linalg.norm(run.model.flat_parameters))


@pytest.mark.parametrize("announced", [True, False])
def test_results_that_callbacks_log_are_taken_up(announced, path, tmp_path):
    def run(epochs, log, **options):
        best = EarlyStopping("norm", higher_is_better=True, patience=2, restore_best=False)
        others = [best] if announced else []
        callbacks = [Norm(announced), Norm(announced, "again"), *others, CSVLogger(tmp_path / log)]
        return fit(epochs, *callbacks, ModelCheckpoint(path), **options)

    whole = run(7, "whole.csv")
    for done in range(1, 4):
        run(done, "resumed.csv")
        again = run(7, "resumed.csv", resume=path)
        assert_same_run(again, whole)
        names = [
            [line.split(",")[0] for line in (tmp_path / log).read_text().splitlines()]
            for log in ("whole.csv", "resumed.csv")
        ]
        assert names[0] == names[1] and len(names[0]) == whole[2].epochs + 1
    assert len(set(whole[2].norm)) == len(whole[2].again) == whole[2].epochs


def test_other_callbacks_after_a_resume(path):
    """Those that log no more leave NaN, and so does what came before those that are new."""
    fit(2, Norm(), ModelCheckpoint(path))
    history = fit(4, Norm(name="other"), resume=path)[2]
    assert np.isnan(history.norm).tolist() == [False, False, True, True]
    assert np.isnan(history.other).tolist() == [True, True, False, False]


@pytest.mark.parametrize("values", [(3, 2, 2, 2), (3, 2, 2.5, 2.5)])
def test_a_training_that_early_stopping_has_ended_is_over(values, path):
    def run(**options):
        stopping = EarlyStopping(patience=2, restore_best=False)
        return stopping, fit(9, Scripted(*values), stopping, ModelCheckpoint(path), **options)

    first, whole = run()
    again, resumed = run(resume=path)
    assert_same_run(resumed, whole)
    assert again.stopped_epoch == first.stopped_epoch == whole[2].epochs == 4


def test_the_best_model_is_restored_also_from_before_the_resume(path):
    def run(*values, **options):
        stopping = EarlyStopping(patience=9)
        return fit(len(values), Scripted(*values), stopping, ModelCheckpoint(path), **options)

    run(3, 2)
    assert_same_run(run(3, 2, 2.5, resume=path), run(3, 2, 2.5))  # saved: the best is the last
    run(3, 2, 4)
    assert_same_run(run(3, 2, 4, 5, 1, 2, resume=path), run(3, 2, 4, 5, 1, 2))
    run(3, 2, 4)
    run(3, 2, 4, 5, resume=path)  # the file still has it
    assert_same_run(run(3, 2, 4, 5, 6, resume=path), run(3, 2, 4, 5, 6))
    assert set(fastnn.load_checkpoint(path).model.state_dict()) == set(network().state_dict())


def test_a_best_model_that_the_file_lacks_is_missed_with_a_warning(path):
    fit(3, Scripted(3, 2, 4), ModelCheckpoint(path))
    with pytest.warns(UserWarning, match="best epoch, 2, was before the resume") as caught:
        fit(4, Scripted(3, 2, 4, 5), EarlyStopping(patience=9), resume=path)
    assert caught[0].filename == __file__


def test_settings_are_those_of_the_file(path):
    class Change(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.optimizer.learning_rate, run.optimizer.beta1 = 0.002, 0.5
                run.optimizer.clip_norm = None
                run.model.layers[0].l2, run.model.layers[1].momentum = 0.01, 0.25
                run.model.layers[3].layers[0].activation.alpha = 0.3
                run.model.layers[3].layers[1].rate = 0.125

    fit(3, Change(), ModelCheckpoint(path))
    model, optimizer, _ = again = fit(5, resume=path)
    assert_same_run(again, fit(5, Change()))
    assert optimizer.beta1 == 0.5 and model.layers[3].layers[1].rate == 0.125


class OneAtATime(Callback):
    """Prints each epoch and waits for a line, so that the process can be killed in any."""

    def on_epoch_begin(self, run):
        print(run.epoch, flush=True)
        sys.stdin.readline()


KILLED = """
import sys
sys.path[:0] = sys.argv[3:]
from test_resume import ModelCheckpoint, OneAtATime, fit
resume = None if sys.argv[2] == "None" else sys.argv[1]
fit(6, ModelCheckpoint(sys.argv[1]), OneAtATime(), resume=resume)
"""


def trained_until(path, resume, epochs):
    """Train in another process, and kill it in the epoch after the first `epochs`."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(resume), *import_path(__file__)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        done = []
        while not done or done[-1] < epochs:
            done.append(int(process.stdout.readline()))
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    return done


def test_a_training_that_is_killed_goes_on_bit_for_bit(path):
    assert trained_until(path, None, 2) == [0, 1, 2]
    assert trained_until(path, path, 4)[0] >= 2
    saved = fastnn.load_checkpoint(path).history.epochs
    assert saved >= 4
    assert_same_run(fit(6, resume=path), fit(6))


# ---- what cannot go on ----


def others():
    yield "seed is 2, in the file 1", {"model": Sequential(Dense(FEATURES, CLASSES), seed=2)}
    yield "number of layers is 1, in the file 5", {"model": Sequential(Dense(FEATURES, CLASSES))}
    yield "dtype is float64, in the file float32", {"model": network("float64")}
    yield "differs: compute is bfloat16, in the file None", {"model": network(compute="bfloat16")}
    model = Sequential(
        Dense(FEATURES, 12), BatchNorm(12), Dropout(0.2),
        Residual(Dense(12, 12, activation="relu"), Dropout(0.5)), Dense(12, CLASSES, bias=False),
        seed=1, l2=0.5,
    )  # fmt: skip
    layers = r"layer 3 is Residual\(.*'relu'.*; layer 4 is .*, bias=False\), in the file Dense"
    yield f"safetensors differs: l2 is 0.5, in the file 0.0; {layers}", {"model": model}
    yield "optimizer is SGD, in the file Adam", {"optimizer": SGD(0.1)}
    yield r"history is \[.*, in the file .*accuracy", {"metrics": []}
    yield "history is .*, in the file .*validation_loss", {"validation_data": None}
    yield "number of rows is 48, in the file 50", {"x": X[:48], "y": Y[:48]}
    yield "the batches are your own, in the file those of arrays", {"x": [(X, Y)], "y": None}


@pytest.mark.parametrize("number", range(10))
def test_what_differs_is_listed_and_nothing_changed(number, path):
    fit(2, ModelCheckpoint(path))
    message, options = list(others())[number]
    options = {"model": network(), "optimizer": SGD(0.1)} | options
    if isinstance(options["optimizer"], SGD) and "optimizer is" not in message:
        options["optimizer"] = Adam(0.5)
    model, optimizer = options["model"], options["optimizer"]
    before, rate = model.state_dict(), optimizer.learning_rate
    with pytest.raises(ValueError, match=f"^resume: .*{message}"):
        fit(5, resume=path, **options)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    assert optimizer.learning_rate == rate and optimizer._model is None
    assert model._counter == 0


def test_how_weights_began_makes_no_difference(path):
    model = Sequential(Dense(FEATURES, CLASSES, weight_init=lambda rng, shape, n: np.ones(shape)))
    fit(2, ModelCheckpoint(path), model=model)
    other = Sequential(Dense(FEATURES, CLASSES, weight_init="normal"))
    fit(2, model=other, resume=path)
    assert_alike(other, model)


def test_what_is_no_checkpoint_is_refused(path):
    network().save(path)
    with pytest.raises(ValueError, match="holds a model without its training"):
        fit(2, resume=path)
    fastnn.save_checkpoint(path, network(), Adam())
    with pytest.raises(ValueError, match="has no history; the file has no order of the rows"):
        fit(2, resume=path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="1 bytes missing"):
        fit(2, resume=path)
    with pytest.raises(FileNotFoundError, match="none"):
        fit(2, resume="none")
    with pytest.raises(TypeError):
        fit(2, resume=3)


def test_a_training_that_is_over_stays_as_it_was(path):
    whole = fit(3, ModelCheckpoint(path))
    assert_same_run(fit(2, resume=path), whole)
    history = fit(3, resume=path)[2]
    assert history.epochs == 3 and not history.interrupted


# ---- when it is written ----


def written(callback, path, epochs=7, **options):
    """The epochs after which the file was written."""
    seen = []

    class Look(Callback):
        def on_epoch_begin(self, run):
            if path.exists():
                seen.append(run.epoch)
                assert fastnn.load_checkpoint(path).history.epochs == run.epoch
                path.unlink()

        on_fit_end = on_epoch_begin

    fit(epochs, callback, Look(), **options)
    return seen


def test_every_so_many_epochs_and_the_last(path):
    assert written(ModelCheckpoint(path), path) == [1, 2, 3, 4, 5, 6, 7]
    assert written(ModelCheckpoint(path, every=3), path) == [3, 6, 7]
    assert written(ModelCheckpoint(str(path), every=100), path) == [7]


def test_the_epoch_after_which_a_callback_stops_is_written(path):
    stopping = EarlyStopping(min_delta=1e9, patience=2, restore_best=False)
    model, _, history = fit(9, stopping, ModelCheckpoint(path, every=2))
    saved = fastnn.load_checkpoint(path)
    assert saved.history.epochs == history.epochs == 3
    assert_same_bits(saved.model.flat_parameters, model.flat_parameters)


@pytest.mark.parametrize("first", [True, False])
def test_what_other_callbacks_change_is_in_the_file_wherever_it_stands(path, first):
    def callbacks():
        others = [Scripted(3, 3, 3, 3, 3, 3), ReduceOnPlateau(patience=1, factor=0.5)]
        checkpoint = [ModelCheckpoint(path)]
        return checkpoint + others if first else others + checkpoint

    whole, optimizer, _ = fit(6, *callbacks())
    for epochs in range(1, 6):
        fit(epochs, *callbacks())
        model, resumed, _ = fit(6, *callbacks(), resume=path)
        assert_same_bits(model.flat_parameters, whole.flat_parameters)
        assert resumed.learning_rate == optimizer.learning_rate


@pytest.mark.filterwarnings("ignore:monitor. validation_loss is nan")
def test_only_the_best_so_far_is_written(path):
    values, nan = (5, 4, 4, float("nan"), 3, 6, 2.5), float("nan")
    best = ModelCheckpoint(path, monitor="validation_loss")
    look = []

    class Look(Callback):
        def on_epoch_begin(self, run):
            if run.epoch:
                look.append(fastnn.load_checkpoint(path).history.epochs)

        on_fit_end = on_epoch_begin

    fit(7, Scripted(*values), best, Look())
    assert look == [1, 2, 2, 2, 5, 5, 7]
    look.clear()
    fit(9, Scripted(*values, 2.6, 1), best, Look(), resume=path)
    assert look == [7, 7, 9]
    fit(3, Scripted(nan, 1, 5), ModelCheckpoint(path, monitor="validation_loss", min_delta=2))
    assert fastnn.load_checkpoint(path).history.epochs == 2
    highest = ModelCheckpoint(path, monitor="validation_loss", higher_is_better=True)
    fit(3, Scripted(1, 7, 5), highest)
    assert fastnn.load_checkpoint(path).history.epochs == 2


@pytest.mark.parametrize("options, error, message", [
    ({"every": 0}, ValueError, "every: expected an integer >= 1"),
    ({"every": 2, "monitor": "loss"}, ValueError, "every: with monitor all epochs count"),
    ({"monitor": 3}, TypeError, "monitor: expected the name of a result"),
    ({"monitor": "loss", "min_delta": -1}, ValueError, "min_delta: expected a finite"),
])  # fmt: skip
def test_wrong_settings(options, error, message, path):
    with pytest.raises(error, match=message):
        ModelCheckpoint(path, **options)


def test_what_cannot_be_written_is_told_before_the_first_step(tmp_path, path):
    class Mine:
        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    own = Sequential(Dense(FEATURES, CLASSES), Mine())
    for callback, error, message, options in (
        (ModelCheckpoint(path), TypeError, r"layer 1, Mine\(\)", {"model": own}),
        (ModelCheckpoint(tmp_path / "no" / "file"), FileNotFoundError, "no/file", {}),
        (ModelCheckpoint(path, monitor="r2"), ValueError, "monitor: expected one of loss, ", {}),
    ):
        model = options.setdefault("model", network())
        before = model.state_dict()
        with pytest.raises(error, match=message):
            fit(2, callback, **options)
        for name, array in model.state_dict().items():
            assert_same_bits(array, before[name])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_ends_training(path):
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="training"):
        fit(2, ModelCheckpoint(path))


# ---- what is shown ----


def test_progress_and_tables_go_on(path, tmp_path, capsys):
    table = tmp_path / "table.csv"
    fit(2, ModelCheckpoint(path), CSVLogger(table))
    first = table.read_text(encoding="utf-8").splitlines()
    fit(3, CSVLogger(table), resume=path, progress=True)
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == first and [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == ["epoch 3/3"]
    fit(4, CSVLogger(table, append=True), resume=path)
    assert table.read_text(encoding="utf-8").splitlines()[4:][0].startswith("3,")
