"""Recorded steps: the bits of a loop by hand, whatever is trained, changed or goes wrong."""

import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits, uses_threads
from fastnn import (
    BatchNorm,
    Dense,
    Dropout,
    GradientStep,
    Huber,
    LayerNorm,
    LeakyReLU,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
)
from tables import LAYERS, LOSSES, OPTIMIZERS

FEATURES, CLASSES = 7, 3


def by_hand(model, loss, optimizer, batches):
    """The loop of the README, and the penalty; returns the losses."""
    values = []
    for xb, yb, *weight in batches:
        outputs = model.forward(xb, training=True)
        value, gradient = loss(outputs, yb, *weight)
        value = np.array([value])
        model._add_penalty(value, len(xb))
        model.backward(gradient)
        optimizer.step(model)
        values.append(value[0])
    return values


def assert_alike(model, expected):
    state = model.state_dict()
    for name, array in expected.state_dict().items():
        assert_same_bits(state[name], array)
    assert model._counter == expected._counter


def assert_same_training(make, loss, make_optimizer, batches):
    """TrainStep's losses, parameters and statistics are those of the loop by hand."""
    hand, model = make(), make()
    step = TrainStep(model, loss, make_optimizer())
    assert step.recorded
    expected = by_hand(hand, loss, make_optimizer(), batches)
    assert [step(*batch) for batch in batches] == expected
    assert np.isfinite(expected).all() and step.steps == len(batches)
    assert_alike(model, hand)


def draw(sizes, dtype="float32", seed=0, weighted=False, features=FEATURES):
    rng, batches = np.random.default_rng(seed), []
    for rows in sizes:
        batch = [rng.standard_normal((rows, features)).astype(dtype)]
        batch.append(rng.integers(0, CLASSES, rows))
        if weighted:
            batch.append(rng.random(rows).astype(dtype) + 0.1)
        batches.append(batch)
    return batches


def network(dtype="float32", **options):
    return Sequential(
        Dense(FEATURES, 20, l2=0.2), BatchNorm(20), ReLU(), Dropout(0.2),
        Dense(20, 12, activation=LeakyReLU(0.1)), LayerNorm(12), Dropout(0.5), Dense(12, CLASSES),
        seed=1, dtype=dtype, **options,
    )  # fmt: skip


SIZES = (16, 16, 5, 16, 5, 16)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(layer, isa, dtype):
    def make():
        middle = LAYERS[layer](9)
        width = middle.out_features or 9
        return Sequential(
            Dense(FEATURES, 9), middle, Dense(width, CLASSES), seed=2, dtype=dtype, l2=0.01
        )

    batches = draw(SIZES, dtype)
    assert_same_training(make, SoftmaxCrossEntropy(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_at_both_ends(layer):
    def make():
        last = LAYERS[layer](9)
        return Sequential(LAYERS[layer](FEATURES), Dense(width, 9), last, seed=2, l2=0.01)

    width = LAYERS[layer](FEATURES).out_features or FEATURES
    rng = np.random.default_rng(0)
    batches = [(x, rng.random((len(x), make().out_features or 9))) for x, _ in draw(SIZES)]
    assert_same_training(make, Huber(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss, weighted, dtype):
    rng, batches = np.random.default_rng(1), draw(SIZES, dtype, weighted=weighted)
    for batch in batches:
        batch[1] = LOSSES[loss][2](rng, (len(batch[0]), CLASSES), dtype)
    assert_same_training(
        lambda: network(dtype), LOSSES[loss][0], lambda: fastnn.Momentum(0.01), batches
    )


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, clip, isa, dtype):
    make = OPTIMIZERS[optimizer][0]
    assert_same_training(
        lambda: network(dtype, l2=0.1), SoftmaxCrossEntropy(label_smoothing=0.1),
        lambda: make(clip_norm=clip), draw(SIZES, dtype, weighted=True),
    )  # fmt: skip


def test_many_sizes_in_any_order():
    """More sizes than programs that are kept, and kinds of targets in turn."""
    rng = np.random.default_rng(0)
    sizes = [*range(2, 27), *rng.integers(2, 27, 60).tolist()]
    batches = draw(sizes)
    for batch in batches[::3]:
        batch.append(rng.random(len(batch[0])) + 0.1)
    for batch in batches[::4]:
        batch[1] = np.eye(CLASSES)[batch[1]]
    loss, make_optimizer = SoftmaxCrossEntropy(), lambda: fastnn.AdamW(0.01)
    assert_same_training(network, loss, make_optimizer, batches)


def test_the_programs_of_few_sizes_are_kept():
    step = TrainStep(network(), SoftmaxCrossEntropy(), fastnn.SGD(0.01))
    for batch in draw(range(2, 50)):
        step(*batch)
    assert 1 < len(step._recordings) <= 16


def test_any_form_of_the_arrays():
    forms = (
        lambda a: a.tolist(), np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a.astype(np.int8), lambda a: a,
    )  # fmt: skip
    batches = [
        [form(np.round(x)), form(y), form(w)]
        for form, (x, y, w) in zip(forms, draw([8] * len(forms), weighted=True), strict=True)
    ]
    batches[4][2] = np.ones(8, np.int8)
    assert_same_training(network, SoftmaxCrossEntropy(), lambda: fastnn.SGD(0.01), batches)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_with_work_enough_for_threads(dtype, fma_isas):
    def make():
        return Sequential(
            Dense(90, 150), BatchNorm(150), ReLU(), Dropout(0.2), Dense(150, 130, "tanh"),
            LayerNorm(130), Dense(130, CLASSES), seed=3, dtype=dtype, l2=0.1,
        )  # fmt: skip

    batches, loss = draw((150, 150, 70, 150, 70), dtype, features=90), SoftmaxCrossEntropy()
    hand, expected = make(), None
    fastnn.set_num_threads(1)
    expected = by_hand(hand, loss, fastnn.Adam(clip_norm=0.1), batches)
    assert uses_threads(lambda: TrainStep(make(), loss, fastnn.Adam())(*batches[0]))
    for isa, threads in itertools.product(fma_isas, (1, 2, 3, 7)):
        _kernels.set_isa(isa)
        fastnn.set_num_threads(threads)
        model = make()
        step = TrainStep(model, loss, fastnn.Adam(clip_norm=0.1))
        assert [step(*batch) for batch in batches] == expected
        assert_alike(model, hand)


# ---- fit ----


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [2, 9, 16, 26, 52, 100])
def test_fit_is_the_loop_by_hand(batch_size, weighted, dtype):
    ((X, y, weight),), loss = draw([52], dtype, weighted=True), SoftmaxCrossEntropy()
    hand, model, optimizers = network(dtype), network(dtype), (fastnn.Adam(), fastnn.Adam())
    arrays = {"sample_weight": weight} if weighted else {}
    order = fastnn.batches(X, y, batch_size, seed=5, **arrays)
    values, outputs = [], []
    for _ in range(3):
        values.append([])
        for batch in order:
            total = batch[2].astype(float) if weighted else np.ones(len(batch[0]))
            (value,) = by_hand(hand, loss, optimizers[0], [batch])
            values[-1].append((value, total.sum()))
    history = model.fit(
        X, y, loss=loss, optimizer=optimizers[1], epochs=3, batch_size=batch_size, seed=5,
        progress=False, metrics=["accuracy", lambda o, t: outputs.append(o) or 0], **arrays,
    )  # fmt: skip
    assert_alike(model, hand)
    for epoch, loss_of_epoch in zip(values, history.loss, strict=True):
        total = sum(w for _, w in epoch)
        np.testing.assert_allclose(sum(v * w for v, w in epoch) / total, loss_of_epoch, rtol=1e-12)
    assert all(o.shape == (52, CLASSES) for o in outputs)


def test_the_accuracy_of_fit_is_that_of_the_outputs_in_training():
    ((X, y),), loss = draw([50]), SoftmaxCrossEntropy()
    model, hand = network(), network()
    optimizer, right = fastnn.Adam(), 0
    for xb, yb in fastnn.batches(X, y, 8, seed=0):
        outputs = copy.deepcopy(hand).forward(xb, training=True)
        right += (outputs.argmax(axis=1) == yb).sum()
        by_hand(hand, loss, optimizer, [(xb, yb)])
    history = model.fit(X, y, loss=loss, optimizer=fastnn.Adam(), epochs=1, batch_size=8,
                        seed=0, progress=False)  # fmt: skip
    assert history.accuracy == [right / 50]


# ---- what changes between steps ----


def change_everything(i, model, loss, optimizer):
    if i == 1:
        optimizer.learning_rate = 0.5
    elif i == 2:
        model.layers[3].rate = 0.6
    elif i == 3:
        model.layers[1].momentum, model.layers[1].eps = 0.7, 0.01
    elif i == 4:
        optimizer.clip_norm = 1e-3
    elif i == 5:
        optimizer.beta = 0.3
    elif i == 6:
        loss.label_smoothing = 0.5
    elif i == 7:
        optimizer.clip_norm = None
    elif i == 8:
        model.layers[4].activation.alpha = 0.9
    elif i == 9:
        optimizer.nesterov, model.layers[0].l2 = True, 3.0
    elif i == 10:
        model.layers[0].l2, model.layers[4].l2 = 0.0, 0.4
    elif i == 11:
        model.layers[3].rate = 0.0
    elif i == 12:
        loss.label_smoothing = 0.0
    elif i == 13:
        model.parameters["0.weight"][...] *= 0.5
        model.state["1.running_mean"][...] = 7
    elif i == 14:
        model.load_state_dict({k: v * 0.9 for k, v in model.state_dict().items()})
    elif i == 15:
        model.flat_parameters[:] *= 1.25


CHANGES = 16


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_what_is_set_between_steps_acts_at_the_next(kind):
    models = network(), network()
    losses = SoftmaxCrossEntropy(), SoftmaxCrossEntropy()
    optimizers = fastnn.Momentum(0.01), fastnn.Momentum(0.01)
    take = trainer(kind, models[1], losses[1], optimizers[1])
    seen = set()
    for i, batch in enumerate(draw([8] * CHANGES)):
        for part in zip(models, losses, optimizers, strict=True):
            change_everything(i, *part)
        for _ in range(2):  # recorded anew, then replayed
            (expected,) = by_hand(models[0], losses[0], optimizers[0], [batch])
            np.testing.assert_allclose(take(*batch), expected, rtol=1e-12)
            assert_alike(models[1], models[0])
        seen.add(expected)
    assert len(seen) == CHANGES


def trainer(kind, model, loss, optimizer):
    """A step of that kind as a function of the batch that returns the loss, penalty included."""
    step = kind(model, optimizer) if kind is GradientStep else kind(model, loss, optimizer)
    if kind is TrainStep:
        return step

    def take(x, *targets):
        value, gradient = loss(step.forward(x), *targets)
        value = np.array([value])
        model._add_penalty(value, len(x))
        step.backward(gradient)
        return value[0]

    return take


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_between_steps_go_on_alike(duplicate, kind):
    model, optimizer, loss = network(), fastnn.Adam(0.01), SoftmaxCrossEntropy()
    take = trainer(kind, model, loss, optimizer)
    batches = draw([8] * 9)
    for batch in batches[:3]:
        take(*batch)
    twin, its_optimizer = duplicate((model, optimizer))
    its_take = trainer(kind, twin, loss, its_optimizer)
    for batch in batches[3:6]:
        assert take(*batch) == its_take(*batch)
    assert_alike(twin, model)
    before = twin.flat_parameters.copy()
    take(*batches[6])
    assert_same_bits(twin.flat_parameters, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_a_step_itself_may_be_copied(kind, duplicate):
    (batch,), loss = draw([8]), SoftmaxCrossEntropy()
    model, optimizer = network(), fastnn.Adam(0.01)
    step = kind(model, optimizer) if kind is GradientStep else kind(model, loss, optimizer)

    def take(step):
        if kind is TrainStep:
            return step(*batch)
        value, gradient = loss(step.forward(batch[0]), batch[1])
        step.backward(gradient)
        return value

    for _ in range(3):
        take(step)
    twin = duplicate(step)
    for _ in range(3):
        assert take(step) == take(twin)
    assert_alike(twin.model, model)
    assert twin.steps == step.steps == 6
    with pytest.raises(FloatingPointError, match="step 7"):  # its fault is its own optimizer's
        if kind is TrainStep:
            twin(np.full((8, FEATURES), np.nan), batch[1])
        else:
            twin.forward(batch[0])
            twin.backward(np.full((8, CLASSES), np.nan))
    take(step)


def test_by_hand_and_replayed_steps_in_turn():
    """What one leaves behind does not disturb the other."""
    batches, loss = draw([8, 8, 4, 8] * 4), SoftmaxCrossEntropy()
    models, optimizers = (network(), network()), (fastnn.Adam(), fastnn.Adam(clip_norm=None))
    step = TrainStep(models[1], loss, optimizers[1])
    expected = by_hand(models[0], loss, optimizers[0], batches)
    for i, batch in enumerate(batches):
        if i % 3 == 2:
            assert by_hand(models[1], loss, optimizers[1], [batch]) == [expected[i]]
        else:
            assert step(*batch) == expected[i]
        models[1].predict(batch[0])
    assert_alike(models[1], models[0])


# ---- one's own parts run by hand ----


class OwnLayer:
    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class OwnDense(Dense):
    def forward(self, x, training=False):
        return 2 * super().forward(x, training)

    def backward(self, dy):
        return super().backward(2 * dy)


class Counts(fastnn.Layer):
    """With state that is no vector."""

    def __init__(self):
        self.state = {"count": np.array(0.0), "none": np.zeros((0, 3))}

    def forward(self, x, training=False):
        if training:
            self.state["count"][...] += 1
        return x

    def backward(self, dy):
        return dy


class OwnLoss(MeanSquaredError):
    def _evaluate(self, outputs, targets, weight):
        value, gradient = super()._evaluate(outputs, targets, weight)
        return 3 * value, 3 * gradient


def function(outputs, targets, weight=None):
    d = outputs - targets
    return float((d * d).sum()), 2 * d


class OwnOptimizer:
    hyper = "anything"

    def step(self, model):
        model.update(self.rule)

    def rule(self, parameters, gradients):
        parameters -= np.float32(0.01) * gradients


class OwnSGD(fastnn.SGD):
    def step(self, model):
        self.learning_rate *= 0.9
        super().step(model)


class OwnModel(Sequential):
    passes = 0

    def forward(self, x, training=False):
        self.passes += 1
        return super().forward(x, training)


class Named(Sequential):
    """A class derived for its constructor alone is as fast as any."""

    def __init__(self, width):
        super().__init__(Dense(FEATURES, width), ReLU(), Dense(width, CLASSES))


def layers(middle):
    return lambda: Sequential(Dense(FEATURES, 6), BatchNorm(6), middle(), Dense(6, CLASSES))


PLAIN = layers(ReLU)
OWN = {
    "layer": (layers(OwnLayer), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "derived layer": (layers(lambda: OwnDense(6, 6)), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "layer with state": (layers(Counts), MeanSquaredError, lambda: fastnn.Adam(0.01)),
    "derived loss": (PLAIN, OwnLoss, lambda: fastnn.Adam(0.01)),
    "function as loss": (PLAIN, lambda: function, lambda: fastnn.Adam(0.01)),
    "optimizer": (PLAIN, MeanSquaredError, OwnOptimizer),
    "derived optimizer": (PLAIN, MeanSquaredError, lambda: OwnSGD(0.01)),
    "derived model": (
        lambda: OwnModel(Dense(FEATURES, 6), Dense(6, CLASSES)), MeanSquaredError,
        lambda: fastnn.Adam(0.01),
    ),
}  # fmt: skip


def with_values(batches):
    rng = np.random.default_rng(3)
    return [(x, rng.standard_normal((len(x), CLASSES)).astype(x.dtype)) for x, *_ in batches]


@pytest.mark.parametrize("name", OWN)
def test_own_parts_are_not_recorded_and_train_by_hand(name):
    make, make_loss, make_optimizer = OWN[name]
    batches, loss = with_values(draw(SIZES)), make_loss()
    hand, model, fitted = make(), make(), make()
    step = TrainStep(model, loss, make_optimizer())
    assert not step.recorded
    assert [step(*batch) for batch in batches] == by_hand(hand, loss, make_optimizer(), batches)
    assert_alike(model, hand)
    if isinstance(model, OwnModel):
        assert model.passes == len(SIZES)
    ((x, y),) = with_values(draw([20]))
    fitted.fit(x, y, loss=loss, optimizer=make_optimizer(), epochs=3, batch_size=8, shuffle=False,
               progress=False)  # fmt: skip
    hand, parts = make(), [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    by_hand(hand, loss, make_optimizer(), parts * 3)
    assert_alike(fitted, hand)


@pytest.mark.parametrize("name", [name for name in OWN if "loss" not in name])
def test_own_parts_in_a_gradient_step(name):
    make, _, make_optimizer = OWN[name]
    batches, loss, hand, model = with_values(draw(SIZES)), Huber(), make(), make()
    optimizer = make_optimizer()
    step = GradientStep(model, optimizer)
    assert not step.recorded
    for x, y in batches:
        step.backward(loss(step.forward(x), y)[1])
    by_hand(hand, loss, make_optimizer(), batches)
    assert_alike(model, hand)


def test_a_model_of_a_derived_class_without_a_forward_of_its_own_is_recorded():
    assert TrainStep(Named(5), SoftmaxCrossEntropy(), fastnn.Adam()).recorded
    assert_same_training(lambda: Named(5), SoftmaxCrossEntropy(), fastnn.Adam, draw(SIZES))


# ---- GradientStep ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gradient_step_is_a_training_step(optimizer, dtype, isa):
    make, loss = OPTIMIZERS[optimizer][0], SoftmaxCrossEntropy()
    models = network(dtype, l2=0.1), network(dtype, l2=0.1)
    step = TrainStep(models[0], loss, make(clip_norm=0.1))
    take = trainer(GradientStep, models[1], loss, make(clip_norm=0.1))
    for batch in draw([8, 8, 5, *range(2, 24), 8, 5, 8], dtype):
        np.testing.assert_allclose(take(*batch), step(*batch), rtol=1e-12)
        assert_alike(models[1], models[0])


def test_a_second_forward_takes_the_place_of_the_first():
    models, loss = (network(), network()), SoftmaxCrossEntropy()
    optimizers = fastnn.Adam(), fastnn.Adam()
    step = GradientStep(models[1], optimizers[1])
    (x, y), (other, _) = draw([8, 5])
    for first in (x, other, x, other):
        models[0].forward(first, training=True)
        by_hand(models[0], loss, optimizers[0], [(x, y)])
        step.forward(first)
        step.backward(loss(step.forward(x), y)[1])
        assert_alike(models[1], models[0])
    assert step.steps == 4


def test_backward_wants_one_forward_before_it_and_a_gradient_of_its_shape():
    step = GradientStep(network(), fastnn.Adam())
    ((x, _),) = draw([8])
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"^backward needs a forward\(xb\)"):
            step.backward(np.ones((8, CLASSES)))
        outputs = step.forward(x)
        before = step.model.flat_parameters.copy()
        for wrong in (np.ones((7, CLASSES)), np.ones((8, CLASSES + 1)), np.ones(8), [[1.0]]):
            with pytest.raises(ValueError, match=r"^gradient: expected the outputs' shape"):
                step.backward(wrong)
        assert_same_bits(step.model.flat_parameters, before)
        step.backward(np.ones((8, CLASSES), np.int8).tolist())
        assert outputs.shape == (8, CLASSES)
    with pytest.raises(ValueError, match=r"^x: layer 0"):
        step.forward(x[:, :3])
    assert step.steps == 3


def test_a_backward_after_another_threads_forward_is_refused():
    step, ((x, y),) = GradientStep(network(), fastnn.Adam()), draw([8])
    for _ in range(3):
        gradient = SoftmaxCrossEntropy()(step.forward(x), y)[1]
        step.backward(gradient)
    before = step.model.flat_parameters.copy()
    step.forward(x)
    other = threading.Thread(target=lambda: step.forward(2 * x))
    other.start()
    other.join()
    with pytest.raises(RuntimeError, match="another thread has begun a training step"):
        step.backward(gradient)
    assert_same_bits(step.model.flat_parameters, before)
    step.forward(x)
    step.backward(gradient)


def test_what_is_set_between_forward_and_backward_acts_at_once():
    """Every third time, when both halves are being replayed."""
    models, loss = (network(), network()), SoftmaxCrossEntropy()
    optimizers = fastnn.Momentum(0.1), fastnn.Momentum(0.1)
    step = GradientStep(models[1], optimizers[1])
    for i, (x, y) in enumerate(draw([8] * 18)):
        outputs = models[0].forward(x, training=True)
        gradient = loss(outputs, y)[1]
        assert_same_bits(loss(step.forward(x), y)[1], gradient)
        for model, optimizer in zip(models, optimizers, strict=True):
            if i % 9 == 2:
                optimizer.clip_norm = 0.001 * i
            elif i % 9 == 5:
                model.layers[4].activation.alpha = 0.1 * i
            elif i % 9 == 8:
                optimizer.clip_norm, model.layers[0].l2 = None, 0.5 * i
        models[0].backward(gradient)
        optimizers[0].step(models[0])
        step.backward(gradient)
        assert_alike(models[1], models[0])


# ---- divergence ----


def diverges_at(kind, at, steps=6):
    """Batches of which the one at that place makes the loss, or the update, overflow."""
    batches = with_values(draw([8] * steps))
    x, y = batches[at]
    if kind == "loss":
        batches[at] = (x, np.full_like(y, 1e30))
    else:  # the loss is finite, its gradient times the inputs is not
        batches[at] = (np.full_like(x, 3e38), y)
    return batches


def linear():
    return Sequential(Dense(FEATURES, CLASSES, weight_init="zeros"), seed=1)


def regression():
    return Sequential(Dense(FEATURES, 6), BatchNorm(6), Dropout(0.3), Dense(6, CLASSES), seed=1)


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("make_optimizer", [
    lambda: fastnn.Adam(0.01), lambda: fastnn.Momentum(0.01), lambda: fastnn.SGD(0.01, clip_norm=1),
    lambda: fastnn.RMSprop(0.01, bias_correction=True),
])  # fmt: skip
def test_a_loss_that_overflows_changes_nothing(make_optimizer, at):
    batches, model, optimizer = diverges_at("loss", at), regression(), make_optimizer()
    step = TrainStep(model, MeanSquaredError(), optimizer)
    expected, others = regression(), make_optimizer()
    for _ in range(2):  # the same again: it goes on as if nothing had been, but for dropout's count
        for i, batch in enumerate(batches):
            if i != at:
                assert [step(*batch)] == by_hand(expected, MeanSquaredError(), others, [batch])
                continue
            before, steps, hyper = model.state_dict(), step.steps, optimizer.hyper.copy()
            message = rf"^step {steps + 1}: the loss is inf at learning rate 0\.01; the last finite"
            with pytest.raises(FloatingPointError, match=message):
                step(*batch)
            for name, array in model.state_dict().items():
                assert_same_bits(array, before[name])
            if step.steps:  # by hand, the first step sets nothing yet either
                assert_same_bits(optimizer.hyper, hyper)
            assert step.steps == steps
            expected.forward(batch[0], training=True)
            for name, array in expected.state.items():
                array[...] = before[name]
        assert_alike(model, expected)


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
def test_an_update_that_overflows_keeps_those_parameters(kind, at):
    batches = with_values(draw([8] * 6))
    model, loss = Sequential(Dense(FEATURES, CLASSES), seed=1), MeanSquaredError()
    optimizer = fastnn.SGD(0.01)
    take = trainer(kind, model, loss, optimizer)
    for i, batch in enumerate(batches):
        if i != at:
            take(*batch)
            continue
        before = model.flat_parameters.copy()
        optimizer.learning_rate = 3e38
        with pytest.raises(FloatingPointError, match=rf"^step {i + 1}: the update is not finite"):
            take(1e5 * batch[0], 1e5 * batch[1])
        optimizer.learning_rate = 0.01
        assert np.isfinite(model.flat_parameters).all()
        assert_same_bits(model.flat_parameters, before)
    assert (model.flat_parameters != before).any()


def test_a_nan_gradient_restores_the_running_statistics():
    model = regression()
    step = GradientStep(model, fastnn.Adam())
    for i, (x, y) in enumerate(with_values(draw([8] * 5))):
        before = model.state_dict()
        gradient = step.forward(x) - y
        if i in (0, 3):
            with pytest.raises(FloatingPointError, match=r"^step \d: the update is not finite"):
                step.backward(np.full_like(gradient, np.nan))
            for name, array in before.items():
                assert_same_bits(model.state_dict()[name], array)
        else:
            step.backward(gradient)
    assert step.steps == 3


def test_fit_names_epoch_and_step():
    """Rows in order, one of which overflows only once the optimizer's rate is raised."""
    (X, y) = with_values(draw([40]))[0]
    for at, batch_size in ((0, 4), (17, 4), (39, 7), (17, 40)):
        model, broken = regression(), y.copy()
        before = model.state_dict()
        broken[at] = 1e30
        with pytest.raises(FloatingPointError) as caught:
            model.fit(X, broken, loss=MeanSquaredError(), optimizer=fastnn.Adam(), epochs=3,
                      batch_size=batch_size, shuffle=False, progress=False)  # fmt: skip
        step = at // batch_size + 1
        assert str(caught.value).startswith(f"epoch 1, step {step}: the loss is inf at learning ")
        expected = regression()
        parts = [(X[i : i + batch_size], y[i : i + batch_size]) for i in range(0, 40, batch_size)]
        by_hand(expected, MeanSquaredError(), fastnn.Adam(), parts[: step - 1])
        for name, array in expected.state_dict().items():
            assert_same_bits(model.state_dict()[name], array)
        assert step == 1 or (model.state_dict()["0.weight"] != before["0.weight"]).any()
        history = model.fit(X, y, loss=MeanSquaredError(), optimizer=fastnn.Adam(), epochs=1,
                            progress=False)  # fmt: skip
        assert np.isfinite(history.loss).all()


def test_fit_names_a_later_epoch():
    """x grows by a known factor each step: the squared loss overflows at a known one."""
    model = Sequential(Dense(1, 1, bias=False, weight_init="zeros"), seed=0)
    x, y = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    expected, w, steps = np.float32(1.8e19), np.float64(0), 0
    while abs(w - 1) < expected:
        w, steps = w - 500.0 * 2 * (w - 1), steps + 1
    with pytest.raises(FloatingPointError) as caught:
        model.fit(x, y, loss=MeanSquaredError(), optimizer=fastnn.SGD(500.0), epochs=steps + 9,
                  batch_size=2, progress=False)  # fmt: skip
    epoch = steps // 2 + 1
    assert str(caught.value).startswith(f"epoch {epoch}, step {steps + 1}: the loss is inf"), steps
    np.testing.assert_allclose(model.parameters["0.weight"], w, rtol=1e-4)


# ---- what does not fit ----


def test_bad_input_at_a_replayed_step_changes_nothing():
    model, loss = network(), SoftmaxCrossEntropy()
    step = TrainStep(model, loss, fastnn.Adam())
    ((x, y, weight),) = draw([8], weighted=True)
    soft = np.eye(CLASSES)[y]
    for _ in range(2):
        step(x, y), step(x, y, weight), step(x, soft)
    before, counter, steps = model.state_dict(), model._counter.copy(), step.steps
    broken = soft.copy()
    broken[3, 1] = 1.5
    for wrong in (
        (x, y + 1), (x, y - 1), (x, y[:7]), (x, y.astype(float)), (x, soft[:, :2]), (x, broken),
        (x, y, weight[:7]), (x, y, -weight), (x, y, 0 * weight), (x, y, weight * np.nan),
        (x[:, :3], y), (x[0], y), (x[:0], y[:0]), (x[:7], y), (x, [[["a"]]]),
        (x.astype(complex), y),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            step(*wrong)
    model.layers[0].weight.flags.writeable = False
    with pytest.raises(ValueError, match=r"^0\.weight: expected a writable array"):
        step(x, y)
    model.layers[0].weight.flags.writeable = True
    assert step.steps == steps and model._counter == counter
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    step(x, y)


def test_the_checks_that_stand_before_a_replay():
    outputs, labels = np.zeros((3, 2), np.float32), np.array([0, 1, 0])
    weight = np.ones(3, np.float32)
    _kernels.check_labels(labels, outputs)
    _kernels.check_probabilities(outputs, outputs)
    _kernels.check_sample_weight(weight, outputs)
    for check, wrong in (
        (_kernels.check_labels, labels + 1), (_kernels.check_labels, labels.astype(np.int32)),
        (_kernels.check_labels, labels[:2]), (_kernels.check_probabilities, outputs - 1),
        (_kernels.check_probabilities, outputs[:2]), (_kernels.check_sample_weight, -weight),
        (_kernels.check_sample_weight, weight[:2]), (_kernels.check_sample_weight, 0 * weight),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"target|sample_weight"):
            check(wrong, outputs)
    entries = [("a", outputs), ("b", weight.copy()), ("c", weight.copy())]
    assert _kernels.first_read_only(entries) is None
    entries[2][1].flags.writeable = entries[1][1].flags.writeable = False
    assert _kernels.first_read_only(entries) == "b"


def test_nan_in_the_inputs_is_a_fault_and_changes_nothing():
    model = regression()
    step = TrainStep(model, MeanSquaredError(), fastnn.Adam())
    batches = with_values(draw([8] * 3))
    for x, y in batches:
        before = model.state_dict()
        with pytest.raises(FloatingPointError, match="the loss is nan"):
            step(x * np.nan, y)
        for name, array in model.state_dict().items():
            assert_same_bits(array, before[name])
        step(x, y)


def test_an_optimizer_that_has_stepped_another_model_is_refused():
    ((x, y),), loss, optimizer = draw([8]), SoftmaxCrossEntropy(), fastnn.Adam()
    first = TrainStep(network(), loss, optimizer)
    second = TrainStep(network(), loss, optimizer)
    for _ in range(2):
        first(x, y)
    for _ in range(2):
        with pytest.raises(ValueError, match="has stepped another model before"):
            second(x, y)


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
                assert "out of range" in str(error)
                refused += 1
    finally:
        done.set()
        other.join(60)
    assert trained + refused == 300 and np.isfinite(step.model.flat_parameters).all()


@pytest.mark.parametrize("same_step", [True, False])
def test_two_threads_that_train_one_model_do_not_tear_it(same_step):
    """Each step is done whole or refused: one order of the steps that were done explains all.

    All steps are alike but for their number, so that the order does not matter."""
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
        timeout=120, cwd=Path(fastnn.__file__).parent.parent,
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
        timeout=120, cwd=Path(fastnn.__file__).parent.parent,
    )  # fmt: skip
    assert result.stdout.split() == ["0"], result.stdout + result.stderr


# ---- Ctrl-C ----


@pytest.mark.parametrize("rows, batch_size", [(2000, 50), (200000, 32)])
def test_ctrl_c_in_a_long_recorded_fit(rows, batch_size):
    """In many short epochs, and in one that would take minutes."""
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


# ---- memory ----


def test_fit_takes_rows_from_the_users_own_memory(tmp_path):
    rows, features = 20000, 100  # 8 MB
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (rows, features))[:] = 1
    for mode in (None, "r", "r+", "c"):
        X = np.load(tmp_path / "X.npy", mmap_mode=mode)
        y = np.zeros(rows, np.int64)
        model, seen = Sequential(Dense(features, 2), seed=0), []
        prepare = TrainStep.prepare

        def look(step, data, seen=seen, prepare=prepare):
            seen.append(prepare(step, data).X)
            return prepare(step, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainStep, "prepare", look)
            tracemalloc.start()
            model.fit(X, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1), epochs=2,
                      batch_size=100, progress=False)  # fmt: skip
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert np.shares_memory(seen[0], X) and peak < X.nbytes / 2


def test_rows_that_are_not_aligned_are_taken_in_place():
    """A program copies bytes, so that only the batches need be aligned."""
    ((X, y),), loss = draw([50]), SoftmaxCrossEntropy()
    memory = np.zeros(X.nbytes + 1, np.uint8)
    odd = memory[1:].view(np.float32).reshape(X.shape)
    odd[...] = X
    models = network(), network()
    for model, rows in zip(models, (X, odd), strict=True):
        model.fit(rows, y, loss=loss, optimizer=fastnn.Adam(), batch_size=8, epochs=2,
                  progress=False)  # fmt: skip
    assert not odd.flags.aligned
    assert_alike(models[1], models[0])


def test_the_outputs_of_a_step_are_the_callers():
    model, loss = network(), SoftmaxCrossEntropy()
    step = TrainStep(model, loss, fastnn.Adam())
    assert step.outputs is None
    seen = []
    for batch in draw([8] * 4):
        expected = copy.deepcopy(model).forward(batch[0], training=True)
        step(*batch)
        seen.append((step.outputs, expected))
        step.outputs[:] = 0
    for outputs, expected in seen:
        assert_same_bits(outputs, expected)


# ---- what a step is made of ----


def test_a_steps_parts_stay():
    step = TrainStep(network(), fastnn.SoftmaxCrossEntropy(), fastnn.SGD(0.1))
    for name in ("model", "loss", "optimizer", "recorded"):
        with pytest.raises(AttributeError, match=f"{name} is fixed once a TrainStep is made"):
            setattr(step, name, getattr(step, name))


@pytest.mark.parametrize("own", [False, True])
def test_a_gradient_step_whose_model_was_trained_otherwise_meanwhile(own):
    class Same:
        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    layers = [fastnn.Dense(4, 2), *([Same()] if own else [])]
    model = fastnn.Sequential(*layers, seed=0)
    step, x = fastnn.GradientStep(model, fastnn.SGD(0.1)), np.ones((3, 4), np.float32)
    for _ in range(3):  # by hand and replayed
        outputs = step.forward(x)
        step.backward(np.ones_like(outputs))
    step.forward(x)
    model.forward(x, training=True)
    with pytest.raises(RuntimeError, match="has begun another training pass since"):
        step.backward(np.ones((3, 2), np.float32))


def test_any_loss_of_three_arguments_can_be_fitted():
    def loss(outputs, targets, sample_weight):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    x = np.ones((8, 3), np.float32)
    history = fastnn.Sequential(fastnn.Dense(3, 2), seed=0).fit(
        x, np.ones((8, 2), np.float32), loss=loss, optimizer=fastnn.SGD(0.1), progress=False
    )
    assert history.loss[-1] < history.loss[0]
