"""`GradientStep`: a training step in two halves, with a gradient made between them."""

import threading
import warnings

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import GradientStep, SoftmaxCrossEntropy, TrainStep
from stepping import CLASSES, assert_alike, by_hand, draw, network, trainer
from tables import OPTIMIZERS


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
    """Something is set in every third step, when both halves are replayed."""
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


def test_the_shape_of_the_outputs_may_be_set():
    step, x = GradientStep(network(), fastnn.SGD(0.1)), draw([8])[0][0]
    for _ in range(3):
        outputs = step.forward(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # later versions of NumPy advise against it
            outputs.shape = (-1,)
        step.backward(np.ones((8, CLASSES)))
        assert step.forward(x).shape == (8, CLASSES)


@pytest.mark.parametrize("own", [False, True], ids=["recorded", "by hand"])
def test_the_inputs_gradient_comes_with_the_update(own, dtype, isa):
    loss = SoftmaxCrossEntropy()
    models = network(dtype, l2=0.1), network(dtype, l2=0.1)
    optimizers = OwnAdam() if own else fastnn.Adam(), fastnn.Adam()
    step = GradientStep(models[0], optimizers[0])
    assert step.recorded != own
    for i, (x, y) in enumerate(draw([8, 5, 8, 8, 5, 8, 5, 5], dtype)):
        wanted = i % 3 != 1  # either program is replayed beside the other
        found = step.backward(loss(step.forward(x), y)[1], input_gradient=wanted)
        outputs = models[1].forward(x, training=True)
        dx = models[1].backward(loss(outputs, y)[1], input_gradient=True)
        optimizers[1].step(models[1])
        assert_alike(models[0], models[1])
        if wanted:
            assert_same_bits(found, dx)
        else:
            assert found is None


class OwnAdam(fastnn.Adam):
    """A class of one's own, which is not recorded."""
