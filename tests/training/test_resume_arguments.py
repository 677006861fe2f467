"""A resume with everything on: the bits of a training that never stopped, and which arguments of
`fit` must be as before."""

import json
import struct

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
    Dense,
    Dropout,
    EarlyStopping,
    Hinge,
    ModelCheckpoint,
    ReduceOnPlateau,
    Sequential,
    SoftmaxCrossEntropy,
)

RNG = np.random.default_rng(8)
X = RNG.standard_normal((80, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 80)
TIMES = {"seconds", "samples_per_second"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.safetensors"


def network():
    return Sequential(
        Dense(5, 12, activation="tanh", l2=0.1), BatchNorm(12), Dropout(0.2), Dense(12, 3), seed=1
    )


def fit(epochs, *callbacks, x=X, y=Y, loss=None, **options):
    model, optimizer = network(), Adam(0.05)
    settings = {"batch_size": 16, "progress": False, "seed": 7}
    history = model.fit(
        x, y, loss=loss or SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs,
        callbacks=callbacks, **settings | options,
    )  # fmt: skip
    return model, optimizer, history


def assert_same_run(one, other):
    (model, optimizer, history), (model2, optimizer2, history2) = one, other
    for name, array in model.state_dict().items():
        assert_same_bits(array, model2.state_dict()[name])
    for name, array in optimizer._arrays().items():
        assert_same_bits(array, optimizer2._arrays()[name])
    assert optimizer.learning_rate == optimizer2.learning_rate
    assert list(history) == list(history2)
    for name in set(history) - TIMES:
        np.testing.assert_array_equal(history[name], history2[name])


class Batches(Callback):
    """Takes the hooks of batches, and changes the learning rate in them."""

    def on_batch_end(self, run):
        run.optimizer.learning_rate *= 0.999


class Crash(Callback):
    """Ends the process, as it were, in the middle of an epoch or after it."""

    def __init__(self, epoch, batch=None):
        self.epoch, self.batch = epoch, batch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (self.epoch, self.batch):
            raise MemoryError

    def on_epoch_begin(self, run):
        if run.epoch == self.epoch and self.batch is None:
            raise MemoryError


def endless():
    rng = np.random.default_rng(2)
    while True:
        index = rng.integers(0, 80, 16)
        yield X[index], Y[index]


ALL = {
    "split": {"validation_split": 0.25, "class_weight": "balanced", "schedule": Cosine(warmup=1),
              "sample_weight": 1.0 + np.arange(80) % 3},
    "every": {"validation_split": 0.25, "validation_every": 2, "accumulate": 2},
    "steps": {"x": endless, "y": None, "steps_per_epoch": 4, "validation_every": 2,
              "validation_data": [(X[:30], Y[:30]), (X[30:], Y[30:])]},
    "batches": {"validation_data": fastnn.batches(X, Y, 16)},
}  # fmt: skip


@pytest.mark.parametrize("done, batch", [(1, None), (1, 2), (2, None), (3, 1), (3, None)])
@pytest.mark.parametrize("name", ALL)
def test_a_training_that_is_killed_ends_as_one_that_is_not(name, done, batch, path):
    def run(*others, **options):
        callbacks = [
            Batches(),
            ReduceOnPlateau(patience=1, factor=0.5, cooldown=1, min_delta=0.05),
            EarlyStopping(patience=3, min_delta=0.02, baseline=0.8, start_from_epoch=1),
            ModelCheckpoint(path),
        ]
        given = dict(ALL[name])
        if callable(given.get("x")):
            given["x"] = given["x"]()
        return fit(8, *callbacks, *others, **given | options)

    whole = run()
    path.unlink()
    assert whole[2].epochs > done
    with pytest.raises(MemoryError):
        run(Crash(done, batch))
    assert fastnn.load_checkpoint(path).history.epochs == done
    assert_same_run(run(resume=path), whole)
    assert_same_run(run(resume=path), whole)  # also one that is over


@pytest.mark.parametrize("options", [
    {"validation_split": 0.25}, {"validation_split": 0.25, "validation_every": 2},
    {"validation_data": [(X, Y)]},
])  # fmt: skip
@pytest.mark.parametrize("restore", [True, False])
def test_a_training_that_early_stopping_ended_stops_at_once(restore, options, path):
    def run(**more):
        stopping = EarlyStopping(patience=2, min_delta=9, restore_best=restore)
        result = fit(20, stopping, ModelCheckpoint(path), **options | more)
        return stopping.stopped_epoch, result

    stopped, whole = run()
    first = whole[2].epochs
    assert stopped == first < 20
    for _ in range(3):
        stopped, again = run(resume=path)
        assert stopped == first
        assert_same_run(again, whole)


def test_a_last_epochs_validation_is_none_of_a_training_that_goes_on(path):
    """It was measured because the first training ended there."""
    options = {"validation_split": 0.25, "validation_every": 3}
    fit(4, ModelCheckpoint(path), **options)
    assert np.isfinite(fastnn.load_checkpoint(path).history.validation_loss[3])
    assert_same_run(fit(8, resume=path, **options), fit(8, **options))
    fit(4, ModelCheckpoint(path), **options)
    assert_same_run(fit(4, resume=path, **options), fit(4, **options))


# ---- which arguments must be as before ----


def schedule(t, epochs):
    return 1 / (1 + t)


def different():
    """What was said at first and later, and what is said of it."""
    weight = np.ones(80)
    split = {"validation_split": 0.25}
    yield {}, {"batch_size": 20}, "batch_size is 20, in the file 16"
    yield {}, {"shuffle": False}, "shuffle is False, in the file True"
    yield {"drop_last": True}, {}, "drop_last is False, in the file True"
    yield {"accumulate": 2}, {"accumulate": np.int64(3)}, "accumulate is 3, in the file 2"
    yield {}, {"sample_weight": weight}, "sample_weight is given, in the file None"
    yield {"sample_weight": weight}, {}, "sample_weight is None, in the file given"
    yield {"class_weight": "balanced"}, {}, "class_weight is None, in the file balanced"
    yield {"class_weight": {0: 2}}, {"class_weight": {0: 3}}, (
        r"class_weight is {'0': 3.0}, in the file {'0': 2.0}")  # fmt: skip
    yield {"schedule": Cosine()}, {"schedule": Cosine(warmup=1)}, (
        r"schedule is Cosine\(warmup=1.0.*, in the file Cosine\(")  # fmt: skip
    yield {"schedule": schedule}, {}, "schedule is None, in the file schedule"
    yield split, {**split, "seed": 8}, "seed is 8, in the file 7"
    yield split, {"validation_data": (X, Y), "x": X[:60], "y": Y[:60]}, (
        "validation_split is None, in the file 0.25; seed is None, in the file 7")  # fmt: skip
    yield {**split, "validation_every": 2}, split, "validation_every is 1, in the file 2"
    yield {}, {"loss": Hinge()}, "loss is Hinge, in the file SoftmaxCrossEntropy"
    yield {}, {"batch_size": 9, "shuffle": False, "accumulate": 2}, (
        "batch_size is 9, in the file 16; shuffle is False, in the file True; "
        "accumulate is 2, in the file 1")  # fmt: skip


@pytest.mark.parametrize("number", range(15))
def test_what_is_not_as_before_is_listed(number, path):
    first, later, text = list(different())[number]
    fit(2, ModelCheckpoint(path), **first)
    with pytest.raises(ValueError, match=rf"^resume: .*differs: .*{text}"):
        fit(3, resume=path, **later)
    fit(3, resume=path, **first)


def test_steps_are_as_before(path):
    fit(2, ModelCheckpoint(path), x=endless(), y=None, steps_per_epoch=3)
    with pytest.raises(ValueError, match="steps_per_epoch is 4, in the file 3"):
        fit(3, x=endless(), y=None, steps_per_epoch=4, resume=path)


def test_what_may_be_another_one(path):
    fit(2, ModelCheckpoint(path), class_weight={0: 2, 1: 1.5})
    options = {"class_weight": {1: 1.5, 0: 2.0}, "seed": 3, "progress": True}
    loss = SoftmaxCrossEntropy(label_smoothing=0.1)
    assert fit(5, EarlyStopping("loss"), resume=path, loss=loss, **options)[2].epochs == 5


# ---- other files ----


def rewritten(path, change):
    """Write the file anew with other metadata."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    content = json.loads(header["__metadata__"]["fastnn"])
    change(content)
    header["__metadata__"]["fastnn"] = json.dumps(content)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + raw[8 + length :])


def test_files_that_know_no_arguments_go_on(path):
    fit(2, ModelCheckpoint(path))
    whole = fit(4, resume=path)
    rewritten(path, lambda content: content.pop("arguments"))
    assert_same_run(fit(4, resume=path), whole)
    fit(4, resume=path, batch_size=20)  # nothing is known of the batches before
    model, optimizer = network(), Adam(0.05)
    order = fastnn.batches(X, Y, 16, seed=7)
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), optimizer)
    for xb, yb in order:
        step(xb, yb)
    history = fit(1)[2]
    fastnn.save_checkpoint(path, model, optimizer, order=order.state_dict(), history=history)
    assert_same_run(fit(4, resume=path), fit(4))


@pytest.mark.parametrize("name, value, text", [
    ("arguments", [1], "arguments: expected an object"),
    ("kept", 3, "kept: expected a list of epochs"),
    ("kept", [0], "kept: epoch: expected an integer >= 1"),
    ("kept", ["1"], "kept: epoch: expected an integer >= 1"),
    ("kept", [1], r"tensors: missing kept\.1\.0\.weight"),
])  # fmt: skip
def test_damaged_files_are_refused(name, value, text, path):
    fit(2, ModelCheckpoint(path))
    rewritten(path, lambda content: content.update({name: value}))
    for read in (fastnn.load, fastnn.load_checkpoint, lambda path: fit(3, resume=path)):
        with pytest.raises(ValueError, match=text):
            read(path)


# ---- flags ----


@pytest.mark.parametrize("name", ["shuffle", "progress", "drop_last"])
@pytest.mark.parametrize("value", ["no", 0, None, 1.0])
def test_flags_are_true_or_false(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got {value!r}"):
        fit(1, **{name: value})


@pytest.mark.parametrize("make", [
    EarlyStopping, ReduceOnPlateau, lambda name, **options: ModelCheckpoint(name, monitor=name,
                                                                            **options),
])  # fmt: skip
def test_an_unknown_result_is_told_before_the_first_epoch(make):
    model = network()
    begun = []

    class Note(Callback):
        def on_epoch_begin(self, run):
            begun.append(run.epoch)

    for name in ("validation_acc", "accuracy_score", "validation_accuracy"):
        with pytest.raises(ValueError, match=rf"^monitor: expected one of loss, .*'{name}'"):
            model.fit(X, Y, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1), progress=False,
                      callbacks=[Note(), make(name, higher_is_better=True)])  # fmt: skip
    assert begun == []
