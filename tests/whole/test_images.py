"""Inputs of more than two dimensions: images (batch, height, width, channels) and sequences (batch,
length, channels), whose last axis holds the features."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Dense,
    GradientStep,
    MeanSquaredError,
    Residual,
    Sequential,
    Softmax,
    SoftmaxCrossEntropy,
    TrainStep,
    gradcheck,
)
from fastnn.predictor import Affine
from fastnn.training import sources
from fastnn.training.samples import check_samples
from image_models import Mean, Own, classifier, draw, network
from stepping import assert_alike, by_hand
from tables import LAYERS

SHAPES = {"images": (5, 4, 6, 3), "sequences": (7, 9, 5), "one wide image": (1, 2, 3, 40)}


# ---- layers: the last axis holds the features ----


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name](3).dimensions is None])
def test_a_position_is_a_row(name, shape, dtype, isa):
    """Outputs, gradients and running statistics have the bits of all positions taken as rows."""
    features, results = shape[-1], []
    if name == "flatten":
        shape = (len(shape), features)
    for form in (shape, (-1, features)):
        model = Sequential(LAYERS[name](features), seed=2, dtype=dtype)
        x, dy = draw(shape, dtype).reshape(form), draw(shape, dtype, 1).reshape(form)
        before = model.predict(x)
        y = model.forward(x, training=True)
        dx = model.backward(dy, input_gradient=True)
        assert y.shape == dx.shape == before.shape == x.shape
        arrays = [before, y, dx, *model.gradients.values(), *model.state.values()]
        results.append([array.reshape(-1) for array in arrays])
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


def test_batch_norm_needs_two_positions():
    model = Sequential(BatchNorm(3))
    assert model.forward(draw((1, 1, 2, 3)), training=True).shape == (1, 1, 2, 3)
    with pytest.raises(ValueError, match="expected at least two rows to train batch norm"):
        model.forward(draw((1, 1, 1, 3)), training=True)


def test_fit_refuses_a_batch_of_one_position_only():
    x, y = draw((5, 6, 7, 3)), np.arange(5) % 3

    def fit(model, x, batch_size):
        return model.fit(x, y, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1), epochs=1,
                         batch_size=batch_size, progress=False)  # fmt: skip

    assert len(fit(network(), x, 2).loss) == len(fit(network(), x, 1).loss) == 1
    within = Sequential(Mean(), Residual(BatchNorm(3)), Dense(3, 3))
    behind = Sequential(Own(), Mean(), BatchNorm(3), Dense(3, 3))
    for model, images in ((within, x), (within, x[:, :1, :1]), (behind, x[:, :1, :1])):
        with pytest.raises(ValueError, match=r"batch_size: batch norm"):
            fit(model, images, 1)
        assert len(fit(model, images, 2).loss) == 1  # batches of 2 and 3


def test_gradients_of_a_network_for_images():
    model, x = network(l2=0.3), draw((4, 6, 7, 3))
    assert gradcheck(model, SoftmaxCrossEntropy(), x, [0, 2, 1, 1]) < 1e-7
    model = classifier(l2=0.3)
    assert gradcheck(model, SoftmaxCrossEntropy(), draw((3, 4, 6, 3)), [0, 3, 1]) < 1e-7


# ---- training ----

IMAGES = [(7, 4, 6, 3), (7, 8, 3, 3), (7, 4, 6, 3), (5, 24, 3), (7, 8, 3, 3), (5, 24, 3)]


def batches():
    return [(draw(shape, seed=i), np.arange(shape[0]) % 4) for i, shape in enumerate(IMAGES)]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_has_the_bits_of_the_loop_by_hand(weighted, isa, threads):
    """On images of several shapes, each recorded once."""
    hand, model = classifier(l2=0.1), classifier(l2=0.1)
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(0.01))
    weights = [np.ones(len(x)) if weighted else None for x, _ in batches()]
    losses = [step(*batch, weight) for batch, weight in zip(batches(), weights, strict=True)]
    assert step.recorded and len(step._recording._entries) == 3
    if not weighted:
        assert losses == by_hand(hand, SoftmaxCrossEntropy(), Adam(0.01), batches())
        assert_alike(model, hand)


def test_a_gradient_step_has_the_bits_of_the_loop_by_hand():
    hand, model = classifier(), classifier()
    step, optimizer = GradientStep(model, Adam(0.01)), Adam(0.01)
    for x, y in batches():
        _, gradient = SoftmaxCrossEntropy()(step.forward(x), y)
        step.backward(gradient)
        by_hand(hand, SoftmaxCrossEntropy(), optimizer, [(x, y)])
    assert_alike(model, hand)
    step = GradientStep(Sequential(BatchNorm(3)), SGD(0.1))
    for shape in IMAGES:
        assert step.forward(draw(shape)).shape == shape
        step.backward(draw(shape))


@pytest.mark.parametrize("make", [classifier, network])
def test_fit_has_the_bits_of_the_loop_by_hand(make):
    x, y = draw((23, 4, 6, 3)), np.arange(23) % 3
    hand, model = make(), make()
    options = {"loss": SoftmaxCrossEntropy(), "progress": False, "shuffle": False}
    if make is network:
        x = draw((23, 6, 7, 3))
    history = model.fit(x, y, optimizer=Adam(0.01), epochs=3, batch_size=5, **options,
                        validation_data=(x[:9], y[:9]))  # fmt: skip
    optimizer = Adam(0.01)
    for _ in range(3):
        data = [(x[start : start + 5], y[start : start + 5]) for start in range(0, 23, 5)]
        by_hand(hand, SoftmaxCrossEntropy(), optimizer, data)
    assert_alike(model, hand)
    measured = model.evaluate(x[:9], y[:9], loss=SoftmaxCrossEntropy(), batch_size=4)
    assert measured["loss"] == history.validation_loss[-1]
    assert measured["accuracy"] == history.validation_accuracy[-1]
    assert_same_bits(model.predict(x, batch_size=4), model.predict(x))


def test_a_memory_mapped_x_stays_in_place(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", draw((23, 4, 6, 3)))
    x, seen = np.load(tmp_path / "x.npy", mmap_mode="r"), []
    monkeypatch.setattr(
        sources, "check_samples", lambda *given: (seen.append(check_samples(*given)), seen[-1])[1]
    )
    model, twin = classifier(), classifier()
    for each, data in ((model, x), (twin, np.array(x))):
        each.fit(data, np.arange(23) % 4, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1),
                 progress=False)  # fmt: skip
    assert np.shares_memory(seen[0].X, x) and seen[0].X.shape == x.shape
    assert_alike(model, twin)


def test_a_loss_of_outputs_that_are_images_is_that_of_their_pixels():
    x = draw((5, 4, 6, 3))
    for loss, targets in ((MeanSquaredError(), abs(x)), (SoftmaxCrossEntropy(), abs(x) / 9)):
        model, twin = Sequential(BatchNorm(3)), Sequential(BatchNorm(3))
        value = TrainStep(model, loss, SGD(0.1))(x, targets)
        flat, its = (array.reshape(-1, 3) for array in (x, targets))
        assert value == TrainStep(twin, loss, SGD(0.1))(flat, its)
        assert_same_bits(model.flat_gradients, twin.flat_gradients)
        with pytest.raises(ValueError, match=r"y: targets: .* \(5, 4, 6, 3\), got .*\(5, 4\)"):
            Sequential(BatchNorm(3)).fit(
                x, x[..., 0, 0], loss=loss, optimizer=SGD(0.1), progress=False
            )


def test_the_rows_in_a_batch_are_those_of_the_images():
    assert check_samples(
        classifier(), SoftmaxCrossEntropy(), draw((5, 4, 6, 3)), np.arange(5) % 4, np.arange(5.0)
    ).X.shape == (4, 4, 6, 3)


# ---- predictors ----


def moved(model):
    for array in model.parameters.values():
        array += draw(array.shape, seed=9)
    return model


def test_a_predictor_is_made_ready_at_its_first_call(isa, dtype):
    model = moved(classifier(dtype=dtype))
    predictor = model.predictor(5)
    assert predictor.recorded
    for shape in ((5, 4, 6, 3), (5, 8, 3, 3), (5, 24, 3), (5, 4, 6, 3)):
        x = draw(shape, dtype)
        y = predictor(x)
        assert_same_bits(y, model.predict(x))
        assert predictor(-x) is y
        assert_same_bits(predictor(x[::-1]), model.predict(x[::-1]))
        out = np.empty_like(y)
        assert predictor(x.tolist(), out=out) is out
        assert_same_bits(out, model.predict(x))
        for wrong in (x[:4], x[..., :2], x[0], x.reshape(5, -1), draw((5, 4, 5, 3)), None):
            with pytest.raises((TypeError, ValueError), match="x"):
                predictor(wrong)
        assert_same_bits(predictor(x), model.predict(x))


@pytest.mark.parametrize("called", [False, True])
def test_copies_of_a_predictor_for_images(called):
    model, x = moved(classifier()), draw((5, 4, 6, 3))
    predictor = model.predictor(5)
    expected = model.predict(x)
    if called:
        predictor(x)
    for twin in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert_same_bits(twin(x), expected)


def test_a_predictor_holds_the_parameters_of_its_making():
    model, x = moved(classifier()), draw((5, 4, 6, 3))
    predictor, expected = model.predictor(5), model.predict(x)
    model.flat_parameters[:] = 0
    model.layers[1].layers[0].eps = 0.5
    assert_same_bits(predictor(x), expected)


def test_a_predictor_with_layers_of_ones_own_takes_images():
    model = moved(network())
    predictor = model.predictor(2)
    assert not predictor.recorded
    for shape in ((2, 6, 7, 3), (2, 5, 5, 3)):
        assert_same_bits(predictor(draw(shape)), model.predict(draw(shape)))


def test_batch_norm_folds_into_a_weight_of_any_dimensions():
    """The last axis has the features, as in a convolution's weight."""
    weight, bias = draw((3, 3, 2, 4)), draw(4)
    norm = Sequential(BatchNorm(4)).layers[0]
    for array in (norm.gamma, norm.beta, norm.running_mean):
        array[...] = draw(4, seed=3)
    for own in (bias, None):
        layer = SimpleNamespace(
            weight=weight, bias=own, _weight=weight, _bias=own, activation=fastnn.Linear()
        )
        affine, x = Affine(layer), draw((5, 18)).astype(float)
        affine.add(norm)
        affine.fold()
        z = x @ weight.reshape(18, 4) + (0 if own is None else own)
        expected = norm.gamma * (z - norm.running_mean) / np.sqrt(1 + norm.eps) + norm.beta
        found = x @ affine.weight.reshape(18, 4) + affine.bias
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_softmax_over_channels():
    y = Sequential(Softmax()).predict(draw((2, 3, 4, 5)))
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-6)
