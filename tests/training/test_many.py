"""fit_many: each of many trainings has the bits that it has alone, whoever runs it."""

import copy
import os
import signal
import threading
import time

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import Dense, Dropout, Sequential

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, 90)
VALUES = (X @ RNG.standard_normal((5, 2))).astype(np.float32)
ALWAYS = {"optimizer": fastnn.Adam(1e-2), "epochs": 3, "batch_size": 32}


def classifier(seed=0, **options):
    return Sequential(
        Dense(5, 12, activation="relu"), fastnn.BatchNorm(12), Dropout(0.2), Dense(12, 3),
        seed=seed, **options,
    )  # fmt: skip


def regressor(seed=0, **options):
    return Sequential(Dense(5, 7, activation="tanh"), Dense(7, 2), seed=seed, l2=0.1, **options)


def wide(seed=0):
    return Sequential(Dense(5, 300, activation="gelu"), Dense(300, 300), Dense(300, 3), seed=seed)


class Halving(fastnn.Callback):
    """Keeps a state, changes the rate and a setting, which outdates all programs."""

    def __init__(self):
        self.losses = []

    def on_epoch_end(self, run):
        self.losses.append(run.results["loss"])
        run.optimizer.learning_rate /= 2
        for layer in run.model.layers:
            if isinstance(layer, Dropout):
                layer.rate /= 2
        run.log("own", sum(self.losses))


class ByBatches(fastnn.Callback):
    def on_batch_end(self, run):
        if run.epoch == 1 and run.batch == 2:
            run.stop()


class Doubled(fastnn.Layer):
    """A layer of the user's own, in Python."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy, input_gradient=True):
        return 2 * dy


def own_loss(outputs, targets, sample_weight=None):
    error = outputs - targets
    return float((error**2).sum() / len(error)), 2 * error / len(error)


# name -> (the network of a seed, what it is fitted with)
CLASSES = {"y": LABELS, "loss": fastnn.SoftmaxCrossEntropy()}
NUMBERS = {"y": VALUES, "loss": fastnn.MeanSquaredError()}
TRAININGS = {
    "classes": (classifier, CLASSES),
    "numbers": (regressor, NUMBERS),
    "float64": (lambda seed: regressor(seed, dtype="float64"), NUMBERS),
    "wide": (wide, CLASSES | {"batch_size": 90}),
    "validation": (classifier, CLASSES | {"validation_split": 0.2, "epochs": 5}),
    "own validation": (regressor, NUMBERS | {
        "validation_data": [(X[:30], VALUES[:30]), (X[30:50], VALUES[30:50])],
        "validation_every": 2,
    }),
    "more epochs": (classifier, CLASSES | {"epochs": 7, "shuffle": False}),
    "weights": (classifier, CLASSES | {
        "class_weight": "balanced", "sample_weight": RNG.uniform(0, 2, 90), "drop_last": True,
    }),
    "accumulate": (regressor, NUMBERS | {"accumulate": 2, "batch_size": 20}),
    "schedule": (regressor, NUMBERS | {"schedule": fastnn.OneCycle(), "accumulate": 2}),
    "cosine": (classifier, CLASSES | {"schedule": fastnn.Cosine(), "metrics": []}),
    "average": (classifier, CLASSES | {"average": fastnn.ExponentialMovingAverage(0.9)}),
    "late average": (classifier, CLASSES | {"average": fastnn.StochasticWeightAverage(2)}),
    "metrics": (regressor, NUMBERS | {"metrics": ["r2", "mean_absolute_error"]}),
    "callbacks": (classifier, CLASSES | {"callbacks": [Halving()], "validation_split": 0.3}),
    "stopping": (classifier, CLASSES | {
        "callbacks": [fastnn.EarlyStopping("loss", patience=1, min_delta=1.0)], "epochs": 6,
    }),
    "hooks": (classifier, CLASSES | {"callbacks": [ByBatches()]}),
    "batches": (regressor, NUMBERS | {"X": fastnn.batches(X, VALUES, 16, seed=4), "y": None}),
    "own layer": (
        lambda seed: Sequential(Dense(5, 4), Doubled(), Dense(4, 2), seed=seed), NUMBERS,
    ),
    "own loss": (regressor, NUMBERS | {"loss": own_loss}),
}  # fmt: skip


def all_trainings():
    """Models and what each is fitted with, each training twice."""
    models, each = [], []
    for i, (network, arguments) in enumerate([*TRAININGS.values()] * 2):
        models.append(network(i))
        each.append({"X": X, "seed": i} | copy.deepcopy(ALWAYS | arguments))
    return models, each


def assert_trained_alike(models, histories, others, its):
    assert len(histories) == len(its) == len(models)
    for model, other, mine, theirs in zip(models, others, histories, its, strict=True):
        for name, array in model.state_dict().items():
            assert_same_bits(array, other.state_dict()[name])
        assert list(mine) == list(theirs)
        for name in set(mine) - {"seconds", "samples_per_second"}:
            assert_same_bits(np.array(mine[name]), np.array(theirs[name]))


@pytest.fixture(scope="module")
def alone():
    models, each = all_trainings()
    histories = [
        model.fit(**arguments, progress=False)
        for model, arguments in zip(models, each, strict=True)
    ]
    return models, histories, each


@pytest.mark.parametrize("runtime", fastnn.build_info()["runtimes"])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_training_has_the_bits_that_it_has_alone(alone, threads, runtime):
    others, its, other_each = alone
    models, each = all_trainings()
    with fastnn.threads(threads), fastnn.runtime(runtime):
        histories = fastnn.fit_many(models, each=each)
    assert_trained_alike(models, histories, others, its)
    for mine, theirs in zip(each, other_each, strict=True):
        for name, array in getattr(mine["optimizer"], "_arrays", dict)().items():
            assert_same_bits(array, theirs["optimizer"]._arrays()[name])
        assert mine["optimizer"].learning_rate == theirs["optimizer"].learning_rate


def test_what_is_given_for_all_is_copied_for_each():
    loss, optimizer, halving = fastnn.SoftmaxCrossEntropy(), fastnn.Adam(0.1), Halving()
    data = fastnn.batches(X, LABELS, 20, seed=1)
    before = data.state_dict()
    together = {
        "loss": loss, "epochs": 4, "schedule": fastnn.Cosine(),
        "average": fastnn.StochasticWeightAverage(2),
    }  # fmt: skip
    models, others = ([classifier(i) for i in range(5)] for _ in range(2))
    histories = fastnn.fit_many(
        models, data, optimizer=optimizer, callbacks=iter([halving]), **together
    )
    its = [
        model.fit(
            fastnn.batches(X, LABELS, 20, seed=1), optimizer=fastnn.Adam(0.1), progress=False,
            callbacks=[Halving()], **copy.deepcopy(together),
        )
        for model in others
    ]  # fmt: skip
    assert_trained_alike(models, histories, others, its)
    assert data.state_dict() == before and halving.losses == []
    assert optimizer.learning_rate == 0.1 and optimizer._model is None


def test_each_goes_before_what_is_given_for_all():
    models = [classifier(0), classifier(0)]
    mine = fastnn.SGD(0.5)
    fastnn.fit_many(
        models, X, LABELS, loss=CLASSES["loss"], **ALWAYS, each=[{}, {"optimizer": mine}]
    )
    assert mine._model is models[1]
    assert (models[0].flat_parameters != models[1].flat_parameters).any()


def test_none_and_one():
    assert fastnn.fit_many([]) == []
    (history,) = fastnn.fit_many([classifier()], X, **CLASSES, **ALWAYS)
    assert history.epochs == 3 and not history.interrupted


def test_it_trains_in_as_many_threads_as_there_are():
    """Both wait until the other has begun."""
    meeting = threading.Barrier(2, timeout=60)

    class Meeting(fastnn.Callback):
        def on_fit_begin(self, run):
            meeting.wait()

    each = [{"callbacks": [Meeting()]} for _ in range(2)]
    with fastnn.threads(2):
        fastnn.fit_many([classifier(0), classifier(1)], X, **CLASSES, **ALWAYS, each=each)


class Faulty(fastnn.Callback):
    def on_epoch_end(self, run):
        if run.epoch == 2:
            raise OSError("mine")


def test_an_error_names_its_model_and_the_others_go_on():
    models, others = ([classifier(i) for i in range(6)] for _ in range(2))
    each = [{}, {"callbacks": [Faulty()]}, {}, {"y": LABELS[:9]}, {}, {}]
    with pytest.raises(OSError, match="mine") as caught:
        fastnn.fit_many(models, X, **CLASSES, **ALWAYS, each=each)
    error = caught.value
    assert "the training of model 1 of 6 has failed; so did those of models 3" in error.__notes__
    assert list(error.errors) == [1, 3] and isinstance(error.errors[3], ValueError)
    assert [history.epochs for history in error.histories] == [3, 2, 3, 0, 3, 3]
    for i in (0, 2, 4, 5):
        others[i].fit(X, **CLASSES, **copy.deepcopy(ALWAYS), progress=False)
        assert_same_bits(models[i].flat_parameters, others[i].flat_parameters)
    assert_same_bits(models[3].flat_parameters, others[3].flat_parameters)


def test_divergence_keeps_the_last_finite_parameters():
    models = [regressor(0), regressor(1)]
    with pytest.raises(FloatingPointError, match=r"epoch \d, step \d+: .* learning rate"):
        fastnn.fit_many(
            models, X, **NUMBERS, epochs=9,
            each=[{"optimizer": fastnn.SGD(1e30)}, {"optimizer": fastnn.SGD(1e-3)}],
        )  # fmt: skip
    assert all(np.isfinite(model.flat_parameters).all() for model in models)


def press(seconds):
    def act():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    pressed = []
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer, pressed


def test_ctrl_c_ends_all_as_it_ends_one():
    models = [classifier(i) for i in range(5)]
    arguments = CLASSES | ALWAYS | {"epochs": 10**6}
    timer, pressed = press(0.5)
    with fastnn.threads(2):
        histories = fastnn.fit_many(models, X, **arguments)
    late = time.monotonic() - pressed[0]
    timer.join()
    assert late < 5 and all(history.interrupted for history in histories)
    assert [history.epochs > 0 for history in histories] == [True, True, False, False, False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [h.epochs for h in fastnn.fit_many(models, X, **CLASSES, **ALWAYS)] == [3] * 5


def test_the_second_press_is_a_keyboard_interrupt():
    class Pressing(fastnn.Callback):
        def on_epoch_end(self, run):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)  # in this thread; the handler runs in the main one

    with pytest.raises(KeyboardInterrupt), fastnn.threads(2):
        fastnn.fit_many(
            [classifier(i) for i in range(4)], X, **CLASSES, **ALWAYS,
            callbacks=[Pressing()],
        )  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


A = classifier()
WRONG = {
    "models: expected Sequential models, got 3": ([A, 3], {}),
    "models: expected different ones, got the same as 0 and 1": ([A, A], {}),
    "each: expected 1 dicts, one for each model, got 2": ([A], {"each": [{}, {}]}),
    "each: expected dicts, got 5 as number 0": ([A], {"each": [5]}),
    "each[0]: expected arguments of Sequential.fit, got 'epoch'": ([A], {"each": [{"epoch": 1}]}),
    "arguments: expected arguments of Sequential.fit, got 'epoch'": ([A], {"epoch": 1}),
    "X: expected what each model can have a copy of": ([A], {"X": (x for x in [3])}),
    "callbacks: expected what each model can have": ([A], {"callbacks": [threading.Lock()]}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused_before_anything_is_trained(message):
    models, arguments = WRONG[message]
    before = A.flat_parameters.copy()
    with pytest.raises((TypeError, ValueError)) as caught:
        fastnn.fit_many(models, **({"y": LABELS} | CLASSES | ALWAYS | {"X": X} | arguments))
    assert message in str(caught.value)
    assert_same_bits(A.flat_parameters, before)


# ---- epochs in one native call ----


class Looking(fastnn.Callback):
    """Does nothing, but somebody who may look makes every epoch calls of its own."""


def several(rows, look, monkeypatch, **arguments):
    """A model after `fit`, its history, optimizer and error, and how many epochs were replayed
    together."""
    calls, replay = [], fastnn.TrainStep.replay_epochs

    def counted(step, data, orders, *rest):
        calls.append(len(orders))
        return replay(step, data, orders, *rest)

    monkeypatch.setattr(fastnn.TrainStep, "replay_epochs", counted)
    network, its = TRAININGS[arguments.pop("training")]
    model, error = network(0), None
    arguments = {"optimizer": fastnn.Adam(1e-2), "batch_size": 32} | its | arguments
    try:
        history = model.fit(
            X[:rows], arguments.pop("y")[:rows], **copy.deepcopy(arguments), progress=False,
            callbacks=[Looking()] if look else [],
        )  # fmt: skip
    except FloatingPointError as caught:
        history, error = caught.history, str(caught)
    monkeypatch.undo()
    return model, history, error, sum(calls)


@pytest.mark.parametrize("rows", [96, 90, 65, 33, 32, 7])  # 65: batch norm's last batch is larger
@pytest.mark.parametrize("training", ["classes", "numbers", "metrics", "float64"])
def test_epochs_in_one_call_have_the_bits_of_those_apart(training, rows, monkeypatch):
    rows = min(rows, 90)
    apart, its, _, none = several(rows, True, monkeypatch, training=training, epochs=12)
    model, history, _, together = several(rows, False, monkeypatch, training=training, epochs=12)
    assert none == 0 and together >= 2
    assert_trained_alike([model], [history], [apart], [its])
    assert all(np.isfinite(history.seconds)) and min(history.seconds) > 0


@pytest.mark.parametrize("rows, rate", [(90, 3.0), (90, 1.8), (64, 3.0)])  # 1.8: in a last batch
def test_an_epoch_in_one_call_that_diverges_leaves_what_it_leaves_apart(rows, rate, monkeypatch):
    arguments = {"training": "numbers", "epochs": 60, "optimizer": fastnn.SGD(rate)}
    apart, its, message, _ = several(rows, True, monkeypatch, **arguments)
    model, history, error, together = several(rows, False, monkeypatch, **arguments)
    assert message is not None and error == message and together >= 2 and its.epochs > 2
    assert_trained_alike([model], [history], [apart], [its])


def test_where_epochs_cannot_be_one_call_their_orders_are_the_same(monkeypatch):
    apart, its, _, _ = several(90, True, monkeypatch, training="classes", epochs=5)
    monkeypatch.setattr(fastnn.TrainStep, "replay_epochs", lambda *arguments: None)
    model, history, _, asked = several(90, False, monkeypatch, training="classes", epochs=5)
    assert asked > 0
    assert_trained_alike([model], [history], [apart], [its])


class Instant(fastnn.Callback):
    """Writes down that epochs took no time."""

    def on_epoch_end(self, run):
        run.history["seconds"][-1] = 0.0


def test_the_times_in_a_file_decide_nothing(tmp_path):
    path, optimizer = tmp_path / "training.safetensors", fastnn.Adam(1e-2)
    model = fastnn.Sequential(fastnn.Dense(X.shape[1], 10), seed=0)
    data = {"X": X, "optimizer": optimizer, "progress": False} | CLASSES
    model.fit(**data | {"epochs": 2, "callbacks": [Instant(), fastnn.ModelCheckpoint(path)]})
    history = model.fit(**data | {"epochs": 5, "resume": path})
    assert history.epochs == 5 and min(history.seconds[2:]) > 0


def test_not_too_many_epochs_are_one_call(monkeypatch):
    """For Ctrl-C is seen between calls, and beside other programs they take longer than before."""
    numbers, replay = [], fastnn.TrainStep.replay_epochs

    def counted(step, data, orders, *rest):
        numbers.append(len(orders))
        return replay(step, data, orders, *rest)

    monkeypatch.setattr(fastnn.TrainStep, "replay_epochs", counted)
    clock = iter(range(10**9))  # so that an epoch seems to take a nanosecond or two
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) * 1e-9)
    Sequential(Dense(5, 2)).fit(
        X[:2], VALUES[:2], loss=fastnn.MeanSquaredError(), optimizer=fastnn.SGD(1e-3),
        epochs=3000, batch_size=2, progress=False,
    )  # fmt: skip
    assert sum(numbers) >= 2900 and max(numbers) <= 500


class Looks(fastnn.Callback):
    """Notes how many threads a training may use."""

    def __init__(self, seen):
        self.seen = seen

    def on_epoch_end(self, run):
        self.seen.append(fastnn.get_num_threads())


@pytest.mark.parametrize("number, share", [(1, 4), (2, 2), (4, 1)])
def test_few_trainings_share_the_threads(number, share, monkeypatch):
    monkeypatch.setattr(fastnn.many._kernels, "granted_threads", lambda: 4)
    models, seen = [classifier(seed) for seed in range(number)], [[] for _ in range(number)]
    each = [{"callbacks": [Looks(its)]} for its in seen]
    with fastnn.threads(4):
        fastnn.fit_many(models, X, each=each, **CLASSES, **ALWAYS)
    assert seen[0][0] == share and all(min(its) >= share for its in seen)
