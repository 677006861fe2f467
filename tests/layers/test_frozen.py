"""Frozen layers, ``trainable = False``: none of their bits change; all else trains as before."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits
from fastnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GradientStep,
    Layer,
    LayerNorm,
    MeanSquaredError,
    Momentum,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
)
from stepping import CLASSES, FEATURES, SIZES, assert_alike, by_hand, draw, network, trainer
from tables import IMAGE_LAYERS, LAYERS, image_shape

LOSS = SoftmaxCrossEntropy()


def trains(make):
    return bool(make(4).parameter_shapes())


def around(name, dtype="float32"):
    """A network in whose middle is the layer of that name, which is number 1, and its inputs."""
    rng = np.random.default_rng(0)
    if name in LAYERS:
        layer = LAYERS[name](6)
        model = Sequential(
            Dense(FEATURES, 6, activation="tanh"), layer, Dense(layer.out_features or 6, CLASSES),
            seed=1, dtype=dtype, l1=0.1, l2=0.1,
        )  # fmt: skip
        return model, rng.standard_normal((8, FEATURES))
    layer = IMAGE_LAYERS[name](4)
    shape = image_shape(layer, 8, 3)
    first = fastnn.Conv2D(3, 4, 1) if len(shape) == 4 else fastnn.Conv1D(3, 4, 1)
    size = int(np.prod(layer.output_shape((*shape[1:-1], 4))))
    return Sequential(
        first, layer, Flatten(), Dense(size, CLASSES), seed=1, dtype=dtype, l1=0.1, l2=0.1
    ), rng.standard_normal(shape)


TRAINED = [name for name, make in {**LAYERS, **IMAGE_LAYERS}.items() if trains(make)]


@pytest.mark.parametrize("name", TRAINED)
def test_no_bit_of_a_frozen_layer_changes(name):
    """Neither its parameters nor its state nor the optimizer's vectors for it; by hand it is as
    recorded."""
    model, x = around(name)
    y = np.arange(8) % CLASSES
    optimizer = AdamW(0.01, weight_decay=0.1)
    step = TrainStep(model, LOSS, optimizer)
    step(x, y)  # so that the vectors are not 0
    hand, by_its_hand = copy.deepcopy((model, optimizer))
    for each in (model, hand):
        each.layers[1].trainable = False
    before, vectors = model.state_dict(), {k: v.copy() for k, v in optimizer._arrays().items()}
    for _ in range(3):
        step(x, y)
    by_hand(hand, LOSS, by_its_hand, [(x, y)] * 3)
    assert step.recorded
    assert_alike(model, hand)
    for key, array in model.state_dict().items():
        if key.startswith("1."):
            assert_same_bits(array, before[key])
        else:
            assert not np.array_equal(array, before[key])
    for key, array in optimizer._arrays().items():
        if key.partition(".")[2].startswith("1."):
            assert_same_bits(array, vectors[key])
    frozen = [key for key in model.gradients if key.startswith("1.")]
    assert frozen and not any(model.gradients[key].any() for key in frozen)
    assert all(array.any() for key, array in model.gradients.items() if key not in frozen)


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if not {**LAYERS, **IMAGE_LAYERS}[name](4).state]
)  # those without a batch norm
def test_the_layers_before_it_get_the_same_gradients(name, dtype):
    model, x = around(name, dtype)
    gradients = []
    for trainable in (True, False):
        model.layers[1].trainable = trainable
        model._counter[...] = 0  # the same dropout
        outputs = model.forward(x, training=True)
        dx = model.backward(outputs, input_gradient=True)
        gradients.append((dx.copy(), model.gradients["0.weight"].copy()))
    assert gradients[0][1].any()
    for thawed, frozen in zip(*gradients, strict=True):
        assert_same_bits(frozen, thawed)


@pytest.mark.parametrize("shape", [(9, 5), (1, 5), (4, 3, 5), (3, 4, 2, 5)], ids=str)
def test_a_frozen_batch_norm_is_an_affine_map(shape, dtype, isa, rng):
    """y = gamma (x - mean) / sqrt(var + eps) + beta with the running statistics, and dx of it."""
    model = Sequential(BatchNorm(5), dtype=dtype)
    gamma, beta, mean, var = rng.uniform(0.5, 2, (4, 5)).astype(dtype)
    values = {"0.gamma": gamma, "0.beta": beta, "0.running_mean": mean, "0.running_var": var}
    model.load_state_dict(values)
    model.layers[0].trainable = False
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    y = model.forward(x, training=True)
    assert_same_bits(y, model.forward(x))
    dx = model.backward(dy, input_gradient=True)
    wide = (array.astype(np.longdouble) for array in (x, dy, gamma, beta, mean, var))
    x, dy, gamma, beta, mean, var = wide
    scale = gamma / np.sqrt(var + 1e-5)
    magnitude = np.abs(scale * x) + np.abs(scale * mean) + np.abs(beta)
    assert_close(y, scale * (x - mean) + beta, dtype, magnitude=magnitude, factor=4)
    assert_close(dx, scale * dy, dtype, magnitude=np.abs(scale * dy), factor=4)


def block():
    return Residual(Dense(8, 8, activation="gelu"), BatchNorm(8), shortcut=Dense(8, 8))


def nested(dtype="float32"):
    return Sequential(
        Dense(FEATURES, 8), BatchNorm(8), ReLU(), Residual(LayerNorm(8), block(), Dropout(0.2)),
        Dense(8, CLASSES), seed=2, dtype=dtype, l2=0.1, l1=0.05,
    )  # fmt: skip


FREEZE = {
    "first": lambda model: model.layers[:1],
    "norm": lambda model: model.layers[1:2],
    "first four": lambda model: model.layers[:4],
    "last": lambda model: model.layers[4:],
    "residual": lambda model: model.layers[3:4],
    "inner": lambda model: [model.layers[3].layers[1].layers[1]],
    "inner block": lambda model: [model.layers[3].layers[1]],
    "first and last": lambda model: [model.layers[0], model.layers[4]],
}


def freeze(model, which):
    for layer in FREEZE[which](model):
        layer.trainable = False
    return model


@pytest.mark.parametrize("which", FREEZE)
def test_gradcheck_of_what_is_trained(which, rng):
    model = freeze(nested("float64"), which)
    for array in model.state.values():
        array += rng.uniform(0, 1, array.shape)
    model.flat_parameters += 0.3 * (model.flat_parameters != 0)
    x, y = rng.standard_normal((9, FEATURES)), rng.integers(0, CLASSES, 9)
    assert fastnn.gradcheck(model, LOSS, x, y) < 1e-7


@pytest.mark.parametrize("kind", [TrainStep, GradientStep])
@pytest.mark.parametrize("which", FREEZE)
def test_recorded_steps_are_those_by_hand(which, kind, threads):
    """Also where layers freeze and thaw between them."""
    model, hand = nested(), nested()
    optimizers = [Momentum(0.05, clip_norm=0.5, clip_value=0.1) for _ in range(2)]
    step = trainer(kind, model, LOSS, optimizers[0])
    batches = draw(SIZES)
    for trainable in (True, False, True, False):
        for each in (model, hand):
            for layer in FREEZE[which](each):
                layer.trainable = trainable
        values = [step(*batch) for batch in batches]
        assert values == by_hand(hand, LOSS, optimizers[1], batches)
        assert_alike(model, hand)
        assert_same_bits(model.flat_gradients, hand.flat_gradients)


def test_threads_give_the_same_bits():
    results = []
    for threads in (1, 2, 3):
        fastnn.set_num_threads(threads)
        model = freeze(Sequential(Dense(FEATURES, 300), BatchNorm(300), Dense(300, 200), ReLU(),
                                  Dense(200, CLASSES), seed=1), "norm")  # fmt: skip
        step = TrainStep(model, LOSS, Adam(learning_rate_factors={"0.*": 0.5}, clip_value=0.01))
        for batch in draw((64,) * 5):
            step(*batch)
        results.append(model.flat_parameters)
        assert_same_bits(results[-1], results[0])


class Counting(Layer):
    """Scales its features, and counts the backward passes."""

    backwards = 0

    def __init__(self, features):
        self.in_features = self.out_features = features

    def parameter_shapes(self):
        return {"scale": (self.in_features,)}

    def initialize(self, rng, activation):
        self.parameters["scale"][:] = 1.0

    def forward(self, x, training=False):
        if training:
            self.x = x
        return x * self.parameters["scale"]

    def backward(self, dy):
        self.backwards += 1
        self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
        return dy * self.parameters["scale"]


def test_layers_before_the_first_trained_one_have_no_backward():
    first, second = Counting(FEATURES), Counting(FEATURES)
    model = Sequential(first, second, Dense(FEATURES, CLASSES), seed=0)
    (batch,) = draw((5,))
    expected = [(1, 1), (1, 2), (1, 2), (2, 3)]
    for frozen, counts in zip([(), (0,), (0, 1), (1,)], expected, strict=True):
        for i, layer in enumerate((first, second)):
            layer.trainable = i not in frozen
        TrainStep(model, LOSS, SGD(0.1))(*batch)
        assert (first.backwards, second.backwards) == counts
        for i in range(2):
            assert model.gradients[f"{i}.scale"].any() == (i not in frozen)


def test_a_frozen_layer_of_ones_own_is_not_updated():
    own = Counting(6)
    model = Sequential(Dense(FEATURES, 6), own, Dense(6, CLASSES), seed=0)
    own.trainable = False
    before = model.flat_parameters.copy()
    optimizer = SGD(0.1, clip_norm=1e-3)
    TrainStep(model, LOSS, optimizer)(*draw((5,))[0])
    assert own.backwards == 1 and (own.parameters["scale"] == 1).all()
    moved = model.flat_parameters - before
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1 * 1e-3, rtol=1e-3)


def test_an_embedding_may_be_frozen():
    model = Sequential(Embedding(5, 3), Flatten(), Dense(6, CLASSES), seed=0)
    model.layers[0].trainable = False
    before = model.state_dict()
    x, y = np.array([[0, 4], [1, 1], [2, 3]]), np.arange(3)
    TrainStep(model, LOSS, Adam())(x, y)
    assert_same_bits(model.parameters["0.weight"], before["0.weight"])
    assert not np.array_equal(model.parameters["2.weight"], before["2.weight"])


def test_the_norm_for_clipping_is_that_of_what_is_trained():
    model, (batch,) = freeze(nested(), "first four"), draw((5,))
    before = model.flat_parameters.copy()
    TrainStep(model, LOSS, SGD(1.0, clip_norm=1e-3))(*batch)
    np.testing.assert_allclose(
        np.linalg.norm((model.flat_parameters - before).astype(float)), 1e-3, rtol=1e-3
    )


def test_frozen_layers_have_no_penalty():
    model = Sequential(Dense(1, 1), Dense(1, 1), l1=0.5, l2=3.0)
    model.flat_parameters[...] = 2 * (model.flat_parameters != 0)
    alone = 0.5 / 10 * 2 + 3.0 / 20 * 4
    np.testing.assert_allclose(model.penalty(10), 2 * alone, rtol=1e-12)
    model.layers[1].trainable = False
    np.testing.assert_allclose(model.penalty(10), alone, rtol=1e-12)


@pytest.mark.parametrize("when", [0, 1, 2])
def test_an_update_of_several_batches(when):
    """A layer that freezes among them has no part in the update, whose batches all count."""
    model, batches = network(), draw((8,) * 3)
    step = TrainStep(model, LOSS, Adam(clip_norm=0.1), accumulate=3)
    twin = copy.deepcopy(model)
    twin.layers[4].trainable = False
    for i, batch in enumerate(batches):
        if i == when:
            model.layers[4].trainable = False
        step(*batch)
    assert_same_bits(model.parameters["4.weight"], twin.parameters["4.weight"])
    assert not model.gradients["4.weight"].any() and model.gradients["7.weight"].any()
    whole = TrainStep(twin, LOSS, Adam(clip_norm=0.1), accumulate=3)
    for batch in batches:
        whole(*batch)
    if when == 0:
        assert_alike(model, twin)
    else:  # the penalty counts in the losses only until then
        np.testing.assert_allclose(model.flat_parameters, twin.flat_parameters, atol=1e-6)


def test_a_residual_is_all_layers_within():
    model = nested()
    residual = model.layers[3]
    inner = residual.layers[1]
    assert residual.trainable and inner.shortcut.trainable
    residual.trainable = False
    assert not any(layer.trainable for layer in (residual, inner, *inner.layers, inner.shortcut))
    inner.layers[0].trainable = True
    assert inner.trainable and residual.trainable and not inner.shortcut.trainable
    assert set(model._chain.frozen()) == {
        "3.0.gamma", "3.0.beta", "3.1.1.gamma", "3.1.1.beta", "3.1.shortcut.weight",
        "3.1.shortcut.bias",
    }  # fmt: skip


@pytest.mark.parametrize("how", ["pickle", "copy", "file", "checkpoint", "layers"])
def test_it_is_kept(how, tmp_path):
    model, path = freeze(nested(), "inner"), tmp_path / "model.safetensors"
    model.layers[0].trainable = False
    optimizer = Adam()
    TrainStep(model, LOSS, optimizer)(*draw((5,))[0])
    if how == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    elif how == "copy":
        twin = copy.copy(model)
    elif how == "file":
        model.save(path)
        twin = fastnn.load(path)
    elif how == "checkpoint":
        fastnn.save_checkpoint(path, model, optimizer)
        twin = fastnn.load_checkpoint(path).model
    else:
        twin = Sequential(*copy.deepcopy(model.layers))
    assert list(twin._chain.frozen()) == list(model._chain.frozen()) != []
    assert not twin.layers[0].trainable and twin.layers[4].trainable


def test_a_model_without_frozen_layers_has_the_file_it_had(tmp_path):
    path = tmp_path / "model.safetensors"
    nested().save(path)
    assert b"trainable" not in path.read_bytes()


def test_training_goes_on_bit_for_bit(tmp_path):
    path, (batch,) = tmp_path / "training.safetensors", draw((40,))

    def fit(epochs, trainable=False, **options):
        model = nested()
        for layer in model.layers[:2]:
            layer.trainable = trainable
        model.fit(
            *batch, loss=LOSS, optimizer=Adam(0.01), epochs=epochs, batch_size=16, progress=False,
            **options,
        )  # fmt: skip
        return model

    fit(2, callbacks=[fastnn.ModelCheckpoint(path)])
    resumed = fit(4, trainable=True, resume=path)  # what is frozen is taken from the file
    assert_alike(resumed, fit(4))
    assert not resumed.layers[0].trainable


@pytest.mark.parametrize("make", [
    lambda model, optimizer: lambda x, y: TrainStep(model, LOSS, optimizer)(x, y),
    lambda model, optimizer: lambda x, y: trainer(GradientStep, model, LOSS, optimizer)(x, y),
    lambda model, optimizer: lambda x, y: by_hand(model, LOSS, optimizer, [(x, y)]),
    lambda model, optimizer: lambda x, y: model.fit(
        x, y, loss=LOSS, optimizer=optimizer, progress=False),
])  # fmt: skip
def test_a_model_that_is_frozen_whole_is_refused(make):
    model, (batch,) = nested(), draw((8,))
    for layer in model.layers:
        layer.trainable = False
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"^model: expected parameters to train, .* are frozen"):
        make(model, Adam())(*batch)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])


def test_frozen_gradients_are_zeros_at_once():
    model, (batch,) = nested(), draw((5,))
    by_hand(model, LOSS, SGD(0.1), [batch])
    assert model.gradients["3.1.0.weight"].any()
    model.layers[3].trainable = False
    assert not model.gradients["3.1.0.weight"].any() and model.gradients["0.weight"].any()


def test_dropout_drops_as_before():
    model = Sequential(Dense(FEATURES, 50), Dropout(0.5), Dense(50, CLASSES), seed=0)
    x = np.ones((4, FEATURES))
    outputs = model.forward(x, training=True)
    for layer in model.layers[:2]:
        layer.trainable = False
    model._counter[...] -= np.uint64(1)
    assert_same_bits(model.forward(x, training=True), outputs)


def test_freezing_between_forward_and_backward():
    """A batch norm goes backward as it went forward."""
    x, y = np.random.default_rng(0).standard_normal((2, 9, 4))
    models = [Sequential(Dense(4, 4), BatchNorm(4), Dense(4, 4), seed=0) for _ in range(2)]
    steps = [GradientStep(model, SGD(0.1)) for model in models]
    for model, step in zip(models, steps, strict=True):
        outputs = step.forward(x)
        model.layers[1].trainable = model is models[1]
        step.backward(outputs - y)
    assert_same_bits(models[0].parameters["0.weight"], models[1].parameters["0.weight"])
    assert (models[0].parameters["1.gamma"] == 1).all()
    assert (models[1].parameters["1.gamma"] != 1).all()


def test_the_summary_counts_them():
    model = Sequential(Dense(64, 128), Dense(128, 10))
    assert "trainable" not in model.summary()
    model.layers[0].trainable = False
    line = model.summary().splitlines()[-1]
    assert line == "9,610 parameters, 1,290 of them trainable, 38.4 kB in float32"


def test_the_loss_does_not_change_with_it(rng):
    """But for the penalty, of which there is none here."""
    model = Sequential(Dense(3, 4), LayerNorm(4), Dense(4, 2), seed=0, dtype="float64")
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    step = TrainStep(model, MeanSquaredError(), SGD(1e-300))
    thawed = step(x, y)
    model.layers[1].trainable = False
    assert step(x, y) == thawed


@pytest.mark.parametrize("inside", [False, True])
def test_a_layer_without_the_base_has_its_backward_beside_frozen_ones(inside):
    """Nobody knows what it does there, at the top as within another layer."""

    class Own:
        calls = 0

        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            Own.calls += 1
            return dy

    frozen = Dense(FEATURES, FEATURES)
    inner = [fastnn.Block(Own(), frozen)] if inside else [Own(), frozen]
    model = Sequential(*inner, Dense(FEATURES, CLASSES))
    frozen.trainable = False
    TrainStep(model, LOSS, SGD(0.1))(*draw([8])[0])
    assert Own.calls == 1
