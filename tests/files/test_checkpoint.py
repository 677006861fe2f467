"""Models and trainings in files: what comes back is what was saved, bit for bit, and a training
goes on as if it had never stopped.  test_safefile.py has damaged files and failing disks."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Checkpoint,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    History,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    Momentum,
    Nesterov,
    ReLU,
    Residual,
    RMSprop,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
)
from fastnn.layers.activations import ACTIVATIONS
from paths import import_path
from stepping import CLASSES, FEATURES, assert_alike
from tables import IMAGE_LAYERS, LAYERS, OPTIMIZERS, image_shape

PARTS = LAYERS | IMAGE_LAYERS | {"embedding": lambda n: Embedding(9, n)}
LOSS = SoftmaxCrossEntropy()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def again(model, path):
    model.save(path)
    return fastnn.load(path)


def assert_same_model(model, expected):
    assert repr(model) == repr(expected) and model.summary() == expected.summary()
    assert (model.seed, model.l2, model.dtype) == (expected.seed, expected.l2, expected.dtype)
    assert list(model.state_dict()) == list(expected.state_dict())
    assert_alike(model, expected)


# ---- models ----


def inputs(layer, rng):
    if isinstance(layer, Embedding):
        return rng.integers(0, layer.codes, (6, 3))
    if layer.dimensions in (2, 3):
        return rng.standard_normal(image_shape(layer, 6, 4))
    return rng.standard_normal((6, 4))


@pytest.mark.parametrize("name", PARTS)
def test_every_layer_comes_back(name, dtype, path, rng):
    model = Sequential(PARTS[name](4), seed=5, dtype=dtype, l2=0.25)
    for array in model.parameters.values():
        array += rng.standard_normal(array.shape)
    x = inputs(model.layers[0], rng)
    model.forward(x, training=True)  # changes statistics and dropout's step count
    same = again(model, path)
    assert_same_model(same, model)
    assert_same_bits(same.predict(x), model.predict(x))
    assert_same_bits(same.forward(x, training=True), model.forward(x, training=True))


def nested(dtype="float32"):
    return Sequential(
        Conv2D(1, 4, 3, padding="same", activation="gelu", weight_init="he_uniform"),
        BatchNorm(4, momentum=0.3),
        Residual(
            Conv2D(4, 4, 3, padding=(1, 1, 2, 0), l2=0.125),
            Residual(BatchNorm(4), Tanh(), Dropout(0.25)),
            shortcut=Conv2D(4, 4, 1, bias=False),
        ),
        MaxPool2D(2, padding=1), Flatten(), LayerNorm(64),
        Dense(64, 3, activation=LeakyReLU(0.2), bias_init="normal"),
        seed=2**64 - 1, dtype=dtype, l2=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_activation_may_be_a_shortcut(name, path, rng):
    """As a layer's argument it is written by its name, which no layer is."""
    shortcut = ACTIVATIONS[name]
    model = Sequential(Residual(Dense(4, 4), shortcut=shortcut()), shortcut(), Dense(4, 2))
    same, x = again(model, path), rng.standard_normal((3, 4))
    assert type(same.layers[0].shortcut) is type(same.layers[1]) is shortcut
    assert_same_bits(same.predict(x), model.predict(x))


def test_a_nested_model_comes_back(dtype, path, rng):
    model, x = nested(dtype), rng.standard_normal((4, 6, 6, 1))
    model.layers[2].layers[1].layers[2].rate = 0.5  # after the layer was made
    for _ in range(3):
        model.forward(x, training=True)
    same = again(model, path)
    assert_same_model(same, model)
    assert same.layers[2].layers[1].layers[2].rate == 0.5
    assert_same_bits(same.forward(x, training=True), model.forward(x, training=True))


def test_the_same_model_gives_the_same_file(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    nested().save(paths[0])
    fastnn.load(paths[0]).save(paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_every_bit_comes_back(path):
    """NaN with its payload, infinity, denormals and -0: a model that diverged can be looked at."""
    model = Sequential(Dense(4, 2, bias=False))
    bits = [0x7FC00001, 0xFF800000, 0x7F800000, 0x80000000, 1, 0xFFFFFFFF, 0x7F7FFFFF, 0]
    model.parameters["0.weight"].reshape(-1)[...] = np.array(bits, np.uint32).view(np.float32)
    same = again(model, path).parameters["0.weight"]
    np.testing.assert_array_equal(same.view(np.uint32).ravel(), bits)


def test_other_readers_see_the_tensors_of_state_dict(path):
    model = nested()
    model.save(path)
    arrays = load_file(path)
    assert set(arrays) == set(model.state_dict())
    for name, array in model.state_dict().items():
        assert_same_bits(arrays[name], array)
    with safe_open(path, "np") as file:
        content = json.loads(file.metadata()["fastnn"])
    assert content["format"] == 1
    assert content["model"]["layers"][1] == {
        "type": "BatchNorm", "features": 4, "momentum": 0.3, "eps": 1e-5
    }  # fmt: skip


def test_a_loaded_model_is_free(path):
    """It needs its file no more, its arrays are aligned, and it can be trained."""
    same = again(Sequential(Dense(3, 2), seed=4), path)
    path.unlink()
    assert same.flat_parameters.ctypes.data % 64 == 0 and same.flat_parameters.flags.writeable
    same.fit(np.eye(3), [0, 1, 0], loss=LOSS, optimizer=SGD(0.1), epochs=1, progress=False)
    assert not (same.flat_parameters == Sequential(Dense(3, 2), seed=4).flat_parameters).all()


def test_a_custom_initializer_is_not_saved_but_its_weights_are(path):
    def mine(rng, shape, fan_in):
        return np.full(shape, 0.5)

    model = Sequential(Dense(2, 2, weight_init=mine, bias_init=mine))
    same = again(model, path)
    assert_alike(same, model)
    assert same.layers[0].weight_init is None


# ---- what cannot be saved ----


class Scale(fastnn.Layer):
    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class Double:
    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class Wide(Dense):
    pass


def patched():
    layer = ReLU()
    layer.forward = lambda x, training=False: x
    return layer


@pytest.mark.parametrize("make, who", [
    (lambda: Sequential(Dense(2, 2), Scale()), r"layer 1, Scale\(\)"),
    (lambda: Sequential(Double()), r"layer 0, Double\(\)"),
    (lambda: Sequential(Wide(2, 2)), "layer 0, "),
    (lambda: Sequential(patched()), r"layer 0, ReLU\(\)"),
    (lambda: Sequential(ReLU(), Residual(ReLU(), Double())), r"layer 1\.1, Double\(\)"),
    (lambda: Sequential(Residual(ReLU(), shortcut=Double())), r"layer 0\.shortcut, Double\(\)"),
])  # fmt: skip
def test_layers_of_ones_own_are_named(make, who, path):
    with pytest.raises(TypeError, match=f"{who}.*state_dict"):
        make().save(path)
    assert not path.exists()


def test_what_is_no_model_is_refused(path):
    class Net(Sequential):
        pass

    for model in (Net(ReLU()), ReLU(), None):
        with pytest.raises(TypeError, match="model: expected a Sequential, got a"):
            fastnn.save(model, path)
    with pytest.raises(TypeError):
        Sequential(ReLU()).save(3)


def test_what_is_no_training_is_refused(path):
    model, optimizer = Sequential(Dense(2, 2)), Adam()
    other = Sequential(Dense(2, 2))
    train(other, optimizer, fastnn.batches(np.eye(2), [0, 1]), 1)
    with pytest.raises(ValueError, match=r"optimizer: Adam.* steps another model"):
        fastnn.save_checkpoint(path, model, optimizer)

    class Mine(SGD):
        pass

    with pytest.raises(TypeError, match=r"optimizer, Mine\(0.1\): a class of your own"):
        fastnn.save_checkpoint(path, model, Mine(0.1))
    with pytest.raises(TypeError, match="optimizer: expected an object such as"):
        fastnn.save_checkpoint(path, model, Adam)
    with pytest.raises(ValueError, match="state_dict"):
        fastnn.save_checkpoint(path, model, Adam(), order={"rows": 3})
    with pytest.raises(TypeError, match="history: expected a History, got "):
        fastnn.save_checkpoint(path, model, Adam(), history={})
    assert not path.exists()
    model.save(path)
    with pytest.raises(ValueError, match=f"{path}: holds a model without its training; use load"):
        fastnn.load_checkpoint(path)


# ---- trainings ----


def train(model, optimizer, data, epochs):
    step = TrainStep(model, LOSS, optimizer)
    return [step(*batch) for _ in range(epochs) for batch in data]


def by_hand(model, optimizer, data, epochs):
    values = []
    for _ in range(epochs):
        for xb, yb in data:
            value, gradient = LOSS(model.forward(xb, training=True), yb)
            model.backward(gradient)
            optimizer.step(model)
            values.append(value)
    return values


def network(dtype="float32"):
    return Sequential(
        Dense(FEATURES, 20, l2=0.2), BatchNorm(20), ReLU(), Dropout(0.2),
        Residual(Dense(20, 20, activation="tanh"), Dropout(0.5)), LayerNorm(20), Dense(20, CLASSES),
        seed=1, dtype=dtype,
    )  # fmt: skip


def rows(n=50):
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, n)


def data(seed=7):
    return fastnn.batches(*rows(), batch_size=16, seed=seed)


def kept(optimizer):
    return {"hyper": optimizer.hyper, **optimizer._arrays()}


@pytest.mark.parametrize("loop", [train, by_hand])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_bit_for_bit(name, loop, dtype, path):
    make = OPTIMIZERS[name][0]
    model, optimizer, order = network(dtype), make(clip_norm=0.5), data()
    loop(model, optimizer, order, 2)
    fastnn.save_checkpoint(path, model, optimizer, order=order.state_dict())
    expected = loop(model, optimizer, order, 2)
    saved = fastnn.load_checkpoint(path)
    assert isinstance(saved, Checkpoint) and saved.history is None
    assert repr(saved.optimizer) == repr(optimizer)
    resumed = data(seed=99)
    resumed.load_state_dict(saved.order)
    assert loop(saved.model, saved.optimizer, resumed, 2) == expected
    assert_alike(saved.model, model)
    for name, array in kept(optimizer).items():
        assert_same_bits(kept(saved.optimizer)[name], array)


PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:]
import numpy as np, fastnn
from test_checkpoint import data, kept, train
saved, order = fastnn.load_checkpoint(sys.argv[1]), data(seed=99)
order.load_state_dict(saved.order)
train(saved.model, saved.optimizer, order, 3)
fastnn.save_checkpoint(sys.argv[1], saved.model, saved.optimizer, order=order.state_dict())
"""


@pytest.mark.parametrize("make", [
    lambda: AdamW(0.01, clip_norm=0.5), lambda: RMSprop(0.01, bias_correction=True, clip_norm=0.5),
    lambda: Momentum(0.05, nesterov=True), lambda: Nesterov(0.05), lambda: Adam(clip_norm=1e-3),
])  # fmt: skip
def test_a_training_goes_on_in_another_process(make, path):
    model, optimizer, order = network(), make(), data()
    train(model, optimizer, order, 2)
    fastnn.save_checkpoint(path, model, optimizer, order=order.state_dict())
    train(model, optimizer, order, 3)
    command = [sys.executable, "-c", PROGRAM, str(path), *import_path(__file__)]
    subprocess.run(command, check=True, timeout=120)
    saved = fastnn.load_checkpoint(path)
    assert_alike(saved.model, model)
    assert saved.order == order.state_dict()
    for name, array in kept(optimizer).items():
        if name != "hyper":
            assert_same_bits(kept(saved.optimizer)[name], array)


def test_an_optimizer_that_never_stepped_comes_back(path):
    model = network()
    fastnn.save_checkpoint(path, model, RMSprop(0.01))
    saved = fastnn.load_checkpoint(path)
    expected = train(model, RMSprop(0.01), data(), 1)
    assert train(saved.model, saved.optimizer, data(), 1) == expected


def test_an_optimizer_steps_on_after_its_settings_changed(path):
    model, optimizer = network(), RMSprop(0.01, bias_correction=True)
    train(model, optimizer, data(), 1)
    optimizer.bias_correction = False
    optimizer.learning_rate = 1e-4
    fastnn.save_checkpoint(path, model, optimizer)
    expected = train(model, optimizer, data(), 1)
    saved = fastnn.load_checkpoint(path)
    assert train(saved.model, saved.optimizer, data(), 1) == expected
    assert saved.optimizer.hyper.tolist() == optimizer.hyper.tolist()


def test_a_checkpoint_is_a_model_too(path):
    model, optimizer = network(), Adam()
    train(model, optimizer, data(), 1)
    fastnn.save_checkpoint(path, model, optimizer, order=data().state_dict())
    assert_same_model(fastnn.load(path), model)


def test_histories_come_back(path):
    history = History()
    history.append({"loss": 0.1, 'a metric, "mine"': float("nan"), "λ": float("inf")})
    history.append({"loss": 1e-300})
    history.interrupted = True
    fastnn.save_checkpoint(path, network(), Adam(), history=history)
    same = fastnn.load_checkpoint(path).history
    assert list(same) == list(history) and same.interrupted
    assert all(np.array_equal(same[name], history[name], equal_nan=True) for name in history)
    fastnn.save_checkpoint(path, network(), Adam(), history=History())
    assert fastnn.load_checkpoint(path).history.epochs == 0


# ---- the order of the rows ----


def test_orders_go_on():
    first, second = data(), data(seed=99)
    for _ in range(3):
        first.permutation()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(3):
        np.testing.assert_array_equal(first.permutation(), second.permutation())


@pytest.mark.parametrize("change, message", [
    ({"rows": 51}, "expected one of 50 rows, got one of 51"),
    ({"rows": 0}, "rows: expected an integer >= 1"),
    ({"inc": 2}, "inc: expected an odd number"),
    ({"state": 2**128}, "state: expected an integer from 0"),
    ({"state": -1}, "state: expected an integer from 0"),
    ({"has_uint32": True}, "has_uint32: expected an integer from 0 to 1, got True"),
    ({"uinteger": 0.5}, "uinteger: expected an integer"),
    ({"more": 1}, "state: expected what batches.state_dict"),
])  # fmt: skip
def test_a_wrong_order_changes_nothing(change, message):
    order = data()
    before = order.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        order.load_state_dict(before | change)
    assert order.state_dict() == before
    for wrong in (None, [], {}, "state"):
        with pytest.raises(ValueError, match=r"batches.state_dict\(\)"):
            order.load_state_dict(wrong)
