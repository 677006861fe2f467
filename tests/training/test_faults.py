"""Recorded steps that diverge or get wrong arguments: what becomes of the model."""

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Dense,
    GradientStep,
    MeanSquaredError,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
)
from stepping import (
    CLASSES,
    FEATURES,
    assert_alike,
    by_hand,
    draw,
    network,
    regression,
    trainer,
    with_values,
)

# ---- divergence ----


def diverges_at(kind, at, steps=6):
    """Batches, of which number `at` makes the loss or the update overflow."""
    batches = with_values(draw([8] * steps))
    x, y = batches[at]
    if kind == "loss":
        batches[at] = (x, np.full_like(y, 1e30))
    else:  # the loss is finite, its gradient times the inputs is not
        batches[at] = (np.full_like(x, 3e38), y)
    return batches


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("make_optimizer", [
    lambda: fastnn.Adam(0.01), lambda: fastnn.Momentum(0.01), lambda: fastnn.SGD(0.01, clip_norm=1),
    lambda: fastnn.RMSprop(0.01, bias_correction=True),
])  # fmt: skip
def test_a_loss_that_overflows_changes_nothing(make_optimizer, at):
    batches, model, optimizer = diverges_at("loss", at), regression(), make_optimizer()
    step = TrainStep(model, MeanSquaredError(), optimizer)
    expected, others = regression(), make_optimizer()
    for _ in range(2):  # twice: it goes on as if nothing had happened, except dropout's count
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
            if step.steps:  # a first step has set nothing yet
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
    """The rows come in order, and one of them makes the loss overflow."""
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
    """The weight grows by a known factor a step: the loss overflows at a known step."""
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


# ---- wrong arguments ----


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

    def probabilities(targets, outputs):
        _kernels.check_targets(targets, outputs, 1.0)

    def counts(targets, outputs):
        _kernels.check_targets(targets, outputs, np.inf)

    _kernels.check_labels(labels, outputs)
    probabilities(outputs, outputs)
    counts(outputs + 7, outputs)
    _kernels.check_sample_weight(weight, outputs)
    for check, wrong in (
        (_kernels.check_labels, labels + 1), (_kernels.check_labels, labels.astype(np.int32)),
        (_kernels.check_labels, labels[:2]), (probabilities, outputs - 1),
        (probabilities, outputs[:2]), (counts, outputs - 1), (counts, outputs + np.inf),
        (_kernels.check_sample_weight, -weight),
        (_kernels.check_sample_weight, weight[:2]), (_kernels.check_sample_weight, 0 * weight),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"target|sample_weight"):
            check(wrong, outputs)
    kept = [("a", outputs), ("b", weight.copy()), ("c", weight.copy())]
    entries = [(name, array, array.view()) for name, array in kept]
    assert _kernels.first_changed(entries) is None
    entries[2][1].flags.writeable = entries[1][1].flags.writeable = False
    assert _kernels.first_changed(entries) == "b"


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
