"""Inputs of more than two dimensions: images (batch, height, width, channels) and sequences (batch,
length, channels), whose last axis holds what layers take for features."""

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
    Dropout,
    Flatten,
    GradientStep,
    Layer,
    LayerNorm,
    MeanSquaredError,
    ReLU,
    Residual,
    Sequential,
    Softmax,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
    gradcheck,
    to_nhwc,
)
from fastnn.predictor import _Affine
from fastnn.training import sources
from fastnn.training.samples import check_samples
from stepping import assert_alike, by_hand
from tables import LAYERS

SHAPES = {"images": (5, 4, 6, 3), "sequences": (7, 9, 5), "one wide image": (1, 2, 3, 40)}


class Crop(Layer):
    """A convolution of 1x1 over all but the images' edges."""

    dimensions = 3

    def __init__(self, channels, features):
        self.in_features, self.out_features = channels, features

    def output_shape(self, shape):
        height, width, features = super().output_shape(shape)
        if min(height, width) < 3:
            raise ValueError(f"{self!r} takes images from 3x3 on, got {height}x{width}")
        return height - 2, width - 2, features

    def parameter_shapes(self):
        return {"weight": (self.in_features, self.out_features)}

    def initialize(self, rng, activation):
        self.parameters["weight"][...] = rng.normal(size=self.parameters["weight"].shape)

    def forward(self, x, training=False):
        self.x = x
        return x[:, 1:-1, 1:-1] @ self.parameters["weight"]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        dx[:, 1:-1, 1:-1] = dy @ self.parameters["weight"].T
        self.gradients["weight"][...] = np.einsum("bhwi,bhwo->io", self.x[:, 1:-1, 1:-1], dy)
        return dx

    def __repr__(self):
        return f"Crop({self.in_features}, {self.out_features})"


class Mean(Layer):
    """Over all positions of an image, or of a sequence."""

    out_dimensions = 1

    def __init__(self, dimensions=3):
        self.dimensions = dimensions

    def output_shape(self, shape):
        return super().output_shape(shape)[-1:]

    def forward(self, x, training=False):
        self.shape = x.shape
        return x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)

    def backward(self, dy):
        rows, *between, features = self.shape
        share = dy.reshape(rows, *(1 for _ in between), features) / np.prod(between)
        return np.broadcast_to(share, self.shape)


class Own:
    """A layer without the base: it does not say what it gives."""

    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


def draw(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def classifier(**options):
    """All of fastnn's own, for images of 72 numbers."""
    return Sequential(
        BatchNorm(3), Residual(LayerNorm(3), fastnn.GELU(), Dropout(0.3)), ReLU(), Flatten(),
        Dense(72, 4), seed=1, **options,
    )  # fmt: skip


def network(**options):
    """With layers of one's own, for images of any size."""
    return Sequential(
        Crop(3, 8), BatchNorm(8), Tanh(), Residual(Crop(8, 8), shortcut=Crop(8, 8)), Mean(),
        Dense(8, 3), seed=1, **options,
    )  # fmt: skip


# ---- channels first, and last ----


@pytest.mark.parametrize("kind", ["f4", "f8", ">f4", "u1", "?"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (1, 1, 4, 5), (3, 1, 1)])
def test_to_nhwc(shape, kind):
    x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    y = to_nhwc(x)
    assert y.flags.c_contiguous and y.flags.owndata and not np.shares_memory(x, y)
    assert y.dtype == x.dtype.newbyteorder("=") and y.shape == (shape[0], *shape[2:], shape[1])
    for row, channel, *position in np.ndindex(*shape):
        assert y[(row, *position, channel)] == x[(row, channel, *position)]
    np.testing.assert_array_equal(to_nhwc(x[::-1].tolist()), y[::-1])


@pytest.mark.parametrize("x, message", [
    (np.zeros((3, 4)), r"x: expected shape \(batch, channels, height, width\) .*got \(3, 4\)"),
    (np.zeros((1, 2, 3, 4, 5)), r"x: expected shape .*got \(1, 2, 3, 4, 5\)"),
    (np.zeros((1, 2, 0, 4)), r"x: expected shape .*got \(1, 2, 0, 4\)"),
    (3.0, "x: expected an array of rows"), ("abc", "x: expected real numbers"),
    (1j * np.zeros((1, 2, 3)), "x: expected real numbers.*complex"),
    ([[[1.0], [2.0, 3.0]]], "x: not an array of numbers"),
    (np.ma.masked_array(np.zeros((1, 2, 3))), "x: a masked array"),
])  # fmt: skip
def test_to_nhwc_refuses(x, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        to_nhwc(x)


# ---- what follows what ----


@pytest.mark.parametrize("layers, message", [
    (lambda: [Crop(1, 8), ReLU(), Dense(8, 3)],
     r"layer 2, Dense\(8, 3\), takes \(batch, 8\), but layer 0, Crop\(1, 8\), gives "
     r"\(batch, height, width, 8\): put Flatten\(\) or GlobalAvgPool2D\(\) between them"),
    (lambda: [Dense(8, 3), Dropout(0.1), Crop(3, 4)],
     r"layer 2, Crop\(3, 4\), takes \(batch, height, width, 3\), but layer 0, Dense\(8, 3\), "
     r"gives \(batch, 3\)$"),
    (lambda: [Mean(2), ReLU(), Crop(3, 4)], r"layer 2.*\(batch, height, .* gives \(batch, feat"),
    (lambda: [Crop(1, 8), Mean(2)], r"layer 1, Mean\(\), takes \(batch, length, channels\), but"),
    (lambda: [Crop(1, 8), Crop(9, 4)], "layer 1.* takes 9 channels, but layer 0.* gives 8"),
    (lambda: [Crop(1, 8), Mean(), Dense(9, 3)], "layer 2.* takes 9 features, but layer 0.*gives 8"),
    (lambda: [Crop(1, 8), Flatten(), Crop(8, 3)], r"layer 2.* layer 1, Flatten\(\), gives \(batch"),
])  # fmt: skip
def test_layers_that_do_not_follow_are_refused(layers, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Sequential(*layers())


@pytest.mark.parametrize("layers, features, dimensions", [
    (lambda: [Crop(1, 8), Flatten(), Dense(9, 3)], (1, 3), (3, 1)),
    (lambda: [ReLU(), Crop(3, 8)], (3, 8), (3, 3)),
    (lambda: [BatchNorm(3), Crop(3, 8), Mean()], (3, 8), (3, 1)),
    (lambda: [Flatten(), Dense(9, 3)], (None, 3), (None, 1)),
    (lambda: [BatchNorm(3)], (3, 3), (None, None)),
    (lambda: [Own(), Dense(9, 3)], (None, 3), (None, 1)),
    (lambda: [Mean(2), ReLU()], (None, None), (2, 1)),
])  # fmt: skip
def test_what_is_known_of_a_model(layers, features, dimensions):
    model = Sequential(*layers())
    assert (model.in_features, model.out_features) == features
    assert (model._chain.dimensions, model._chain.out_dimensions) == dimensions


FLAT = r"layer 3, Dense\(100, 3\) takes 100 features, got 5408 \(after Flatten\(\) of "


def flattening():
    return Sequential(Crop(1, 8), ReLU(), Flatten(), Dense(100, 3))


@pytest.mark.parametrize("make, shape, message", [
    (flattening, (8, 784), r"expected shape \(batch, height, width, 1\), got \(8, 784\)"),
    (flattening, (8, 28, 28), r"expected shape \(batch, height, width, 1\), got \(8, 28, 28\)"),
    (flattening, (8,), r"expected shape \(batch, height, width, 1\), got \(8,\)"),
    (flattening, (8, 28, 28, 3), r"layer 0, Crop\(1, 8\), takes 1 channels, got 3 .*28, 3\)\)$"),
    (flattening, (8, 1, 28, 28),
     r"layer 0.* got 28 \(shape .*\); looks like NCHW: use fastnn.to_nhwc\(x\)"),
    (flattening, (0, 28, 28, 1), r"expected rows and features, got none: shape \(0, 28, 28, 1\)"),
    (flattening, (8, 28, 28, 1), FLAT + r"\(batch, 26, 26, 8\)\)"),
    (flattening, (8, 2, 28, 1), r"layer 0, Crop\(1, 8\) takes images from 3x3 on, got 2x28"),
    (network, (8, 4, 28, 3), r"layer 3, Residual: layer 0, Crop\(8, 8\) takes images .*got 2x26"),
    (lambda: Sequential(Mean(2)), (8, 784), r"expected shape \(batch, length, channels\)"),
    (lambda: Sequential(Mean(2), Dense(4, 2)), (8, 4, 5), r"layer 1.*4 channels, got 5.*NCHW"),
    (lambda: Sequential(BatchNorm(3)), (3,), r"expected shape \(batch, ..., 3\), got \(3,\)"),
    (lambda: Sequential(ReLU(), BatchNorm(3)), (9, 3, 2), r"layer 1, BatchNorm\(3\), takes 3 .*2"),
])  # fmt: skip
def test_x_of_another_shape_is_refused(make, shape, message):
    """Everywhere, and as well after an x that fitted."""
    model = make()
    x, y = np.zeros(shape), np.zeros(shape[0], int)
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    for call, name in (
        (model.forward, "x"), (model.predict, "X"), (lambda x: model.fit(
            x, y, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1), progress=False), "X"),
        (lambda x: model.evaluate(x, y, loss=SoftmaxCrossEntropy()), "X"),
        (lambda x: step(x, y), "x"), (GradientStep(model, SGD(0.1)).forward, "x"),
        (model.predictor(max(1, shape[0])), "x"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: {message}"):
            call(x)


def test_models_of_any_shape_take_each():
    model = Sequential(ReLU(), BatchNorm(3), Tanh())
    for shape in ((5, 3), (5, 4, 3), (5, 4, 6, 3), (5, 3), (2, 2, 2, 2, 3)):
        x = draw(shape)
        assert_same_bits(model.predict(x, 2), model.predict(x.reshape(-1, 3)).reshape(shape))


# ---- shapes of outputs ----


def test_output_shape():
    model = network()
    assert model.output_shape((32, 24, 3)) == (3,)
    assert model.layers[0].output_shape((32, 24, 3)) == (30, 22, 8)
    assert Sequential(Crop(3, 8), Flatten()).output_shape([6, 5, 3]) == (96,)
    for shape, error, message in (
        ((32, 24), ValueError, r"shape: expected shape \(batch, height, width, 3\)"),
        ((32, 24, 4), ValueError, "shape: layer 0.*3 channels, got 4"),
        ((0, 24, 3), ValueError, "shape: .*integer >= 1, got 0"),
        ((1.5, 24, 3), TypeError, "shape: .*integer >= 1, got 1.5"),
        (3, TypeError, "shape: expected a tuple of integers >= 1, got 3"),
        ((), TypeError, r"shape: expected a tuple of integers >= 1, got \(\)"),
    ):
        with pytest.raises(error, match=message):
            model.output_shape(shape)
    with pytest.raises(RuntimeError, match="layer without the base Layer"):
        Sequential(Own(), Dense(3, 4)).output_shape((3,))


@pytest.mark.parametrize("name", LAYERS)
def test_output_shape_of_every_layer(name, rng):
    layer = LAYERS[name](6)
    shape = layer.output_shape((6,))
    assert Sequential(layer).forward(rng.standard_normal((4, 6))).shape == (4, *shape)
    if layer.in_features is not None:
        with pytest.raises(ValueError, match="takes 6 features, got 5"):
            layer.output_shape((5,))
    if layer.dimensions is not None:
        with pytest.raises(ValueError, match=r"takes \(batch, 6\), got \(batch, 2, 6\)"):
            layer.output_shape((2, 6))


@pytest.mark.parametrize("wrong", [None, 3, (), [3], (3, 0), (2.5,), ("a",)])
def test_a_wrong_output_shape_of_ones_own_is_named(wrong):
    class Wrong(Layer):
        def output_shape(self, shape):
            return wrong

    with pytest.raises((TypeError, ValueError), match=r"output_shape of Wrong\(\): expected"):
        Sequential(Wrong()).forward(np.zeros((2, 3)))


def test_summary():
    """The column of shapes, with and without the shape of the inputs."""

    def column(table):
        return [line.split("(batch, ")[1].split(")")[0] for line in table.splitlines()[1:-1]]

    known = ["30, 22, 8"] * 3 + ["28, 20, 8"] * 3 + ["8", "3"]
    assert column(network().summary((32, 24, 3))) == known
    assert column(network().summary()) == ["?, ?, 8"] * 6 + ["8", "3"]
    assert column(flattening().summary()) == ["?, ?, 8", "?, ?, 8", "?", "3"]
    assert "(batch, ?)" in Sequential(Own()).summary((3,))
    for wrong in ((28, 28), (28, 28, 4), (0, 28, 3), 3, "28"):
        with pytest.raises((TypeError, ValueError), match=r"^input_shape: "):
            network().summary(wrong)


# ---- layers: the last axis holds the features ----


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name](3).dimensions is None])
def test_a_position_is_a_row(name, shape, dtype, isa):
    """Outputs, gradients and running statistics have the bits of the rows one below the other."""
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
    with pytest.raises(ValueError, match="batch norm cannot be trained on one row"):
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
        with pytest.raises(ValueError, match=r"batch_size: .*batch norm"):
            fit(model, images, 2)
        assert len(fit(model, images, 5).loss) == 1


def test_flatten_is_a_view():
    layer, x = Flatten(), draw((5, 4, 6, 3))
    y = layer.forward(x, True)
    assert y.shape == (5, 72) and np.shares_memory(x, y)
    dy = draw((5, 72))
    dx = layer.backward(dy)
    assert dx.shape == x.shape and np.shares_memory(dx, dy)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(dy)


def test_a_model_of_flatten_hands_out_neither_its_input_nor_its_gradient():
    model, x, dy = Sequential(Flatten()), draw((5, 4, 3)), draw((5, 12))
    assert not np.shares_memory(model.predict(x), x)
    assert not np.shares_memory(model.forward(x, training=True), x)
    dx = model.backward(dy, input_gradient=True)
    assert dx.shape == x.shape and not np.shares_memory(dx, dy)
    assert_same_bits(dx.reshape(5, 12), dy)


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
    assert step.recorded and len(step.recording._entries) == 3
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


def test_outputs_that_are_images_have_no_loss_of_fastnns():
    x = draw((5, 4, 6, 3))
    for loss in (MeanSquaredError(), SoftmaxCrossEntropy()):
        with pytest.raises(ValueError, match=r"outputs: expected shape \(batch, n\)"):
            TrainStep(Sequential(BatchNorm(3)), loss, SGD(0.1))(x, abs(x) / 9)
        with pytest.raises(ValueError, match=r"y: outputs: expected shape \(batch, n\)"):
            Sequential(BatchNorm(3)).fit(x, x, loss=loss, optimizer=SGD(0.1), progress=False)


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
    """Its last axis being the features, as in a convolution's."""
    weight, bias = draw((3, 3, 2, 4)), draw(4)
    norm = Sequential(BatchNorm(4)).layers[0]
    for array in (norm.gamma, norm.beta, norm.running_mean):
        array[...] = draw(4, seed=3)
    for own in (bias, None):
        layer = SimpleNamespace(weight=weight, bias=own, activation=fastnn.Linear())
        affine, x = _Affine(layer), draw((5, 18)).astype(float)
        affine.fold(norm)
        z = x @ weight.reshape(18, 4) + (0 if own is None else own)
        expected = norm.gamma * (z - norm.running_mean) / np.sqrt(1 + norm.eps) + norm.beta
        found = x @ affine.weight.reshape(18, 4) + affine.bias
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_softmax_over_channels():
    y = Sequential(Softmax()).predict(draw((2, 3, 4, 5)))
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-6)
