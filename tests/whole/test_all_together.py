"""Everything at once, as each part is tested alone elsewhere: outputs at every position with masks
and weights, heads, blocks and frozen layers, factors, penalties and clipping, averaged weights,
accumulation, a schedule, validation and early stopping.  One training has the same bits on any
number of threads and any instruction set, replayed or by hand, and killed and resumed."""

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits, uses_threads
from fastnn import (
    AdamW,
    BatchNorm,
    Block,
    Callback,
    Conv1D,
    Cosine,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Heads,
    LayerNorm,
    ModelCheckpoint,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    StochasticWeightAverage,
    _kernels,
)

RNG = np.random.default_rng(5)
X = RNG.standard_normal((80, 30, 5)).astype(np.float32)
LABELS = np.where(RNG.random((80, 30)) < 0.2, -1, (X[..., 0] > 0) + (X[..., 1] > 0.5))
WEIGHT = RNG.integers(0, 3, (80, 30)).astype(np.float32)
TIMES = {"seconds", "samples_per_second"}
AVERAGES = {
    "moving": lambda: ExponentialMovingAverage(0.9),
    "of epochs": lambda: StochasticWeightAverage(start_epoch=2),
}


class OwnReLU(ReLU):
    """A class of the user's, with which no step can be recorded."""


def network(relu=ReLU):
    model = Sequential(
        Conv1D(5, 64, 3, padding="same"), BatchNorm(64), relu(),
        Residual(Block(Conv1D(64, 64, 1, activation="gelu"), Dropout(0.2)), BatchNorm(64)),
        Heads(Conv1D(64, 2, 1), Sequential(Conv1D(64, 16, 1), LayerNorm(16), Conv1D(16, 1, 1))),
        seed=3, l1=0.01, l2=0.02,
    )  # fmt: skip
    model.layers[0].trainable = model.layers[1].trainable = False
    return model


def train(average, *callbacks, relu=ReLU, **options):
    model = network(relu)
    optimizer = AdamW(
        0.01, learning_rate_factors={"3.*": 0.5, "*.bias": 2.0}, clip_norm=0.5, clip_value=0.05,
        weight_decay_factors={"*.bias": 0.0, "*.gamma": 0.0},
    )  # fmt: skip
    loss = SoftmaxCrossEntropy(ignore_index=-1, class_weight=[1, 2, 0.5], label_smoothing=0.1)
    history = model.fit(
        X, LABELS, sample_weight=WEIGHT, loss=loss, optimizer=optimizer, epochs=6, batch_size=9,
        validation_split=0.25, seed=4, accumulate=2, schedule=Cosine(warmup=1), progress=False,
        average=AVERAGES[average](), metrics=["accuracy", "precision", "log_loss"],
        callbacks=[*callbacks, EarlyStopping(patience=9)], **options,
    )  # fmt: skip
    return model, optimizer, history


def assert_same_run(one, other):
    (model, optimizer, history), (model2, optimizer2, history2) = one, other
    for name, array in model.state_dict().items():
        assert np.isfinite(array).all()
        assert_same_bits(array, other[0].state_dict()[name])
    assert_same_bits(model.predict(X), model2.predict(X))
    for name, array in optimizer._arrays().items():
        assert_same_bits(array, optimizer2._arrays()[name])
    assert list(history) == list(history2)
    for name in set(history) - TIMES:
        np.testing.assert_array_equal(history[name], history2[name])


@pytest.mark.parametrize("average", AVERAGES)
def test_frozen_layers_stay_and_the_others_learn(average):
    model, _, history = train(average)
    before = network()
    for name, array in model.state_dict().items():
        if name.startswith(("0.", "1.")):
            assert_same_bits(array, before.state_dict()[name])
        else:
            assert (array != before.state_dict()[name]).any(), name
    assert history.validation_loss[-1] < history.validation_loss[0]


@pytest.mark.parametrize("average", AVERAGES)
def test_any_threads_and_instruction_set(average, fma_isas):
    fastnn.set_num_threads(2)
    assert uses_threads(lambda: train(average))
    expected = train(average)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        for threads in (1, 3, 7):
            fastnn.set_num_threads(threads)
            assert_same_run(train(average), expected)


class Each(Callback):
    """Wants to know of every batch, so that none is replayed together with others."""

    def on_batch_end(self, run):
        assert np.isfinite(run.batch_loss)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("way", ["by hand", "batch by batch"])
def test_replayed_or_not(average, way):
    other = train(average, relu=OwnReLU) if way == "by hand" else train(average, Each())
    assert_same_run(other, train(average))


class Killed(Callback):
    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == self.at:
            raise MemoryError


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("epoch, batch", [(1, 2), (3, 5), (5, 1)])
def test_killed_and_resumed(average, epoch, batch, tmp_path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(MemoryError):
        train(average, ModelCheckpoint(path), Killed(epoch, batch))
    assert fastnn.load_checkpoint(path).history.epochs == epoch
    resumed = train(average, ModelCheckpoint(path), resume=path)
    assert_same_run(resumed, train(average))
    model = fastnn.load(path)
    assert_same_bits(model.predict(X), resumed[0].predict(X))
