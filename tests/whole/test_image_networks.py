"""Whole convolutional networks: recorded steps, the same bits everywhere, fit and predict."""

import copy
import hashlib
import pickle
from functools import partial

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import (
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GradientStep,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
    _kernels,
    gradcheck,
    to_nhwc,
)
from forms import misaligned, read_only
from stepping import assert_alike, assert_same_training, by_hand

CLASSES = 4


def images(dtype="float32", width=1, **options):
    """A network with every kind of layer for images; `width` multiplies its channels."""
    a, b = 8 * width, 12 * width
    return Sequential(
        Conv2D(3, a, 3, padding="same", bias=False), BatchNorm(a), ReLU(), MaxPool2D(2),
        Residual(
            Conv2D(a, a, 3, padding=1, activation="relu"), BatchNorm(a), Dropout(0.1),
            Conv2D(a, a, 3, padding=1),
        ),
        Dropout(0.2), AvgPool2D(3, stride=1, padding=1),
        Residual(
            Conv2D(a, b, 3, stride=2, padding=1), BatchNorm(b), shortcut=Conv2D(a, b, 1, stride=2)
        ),
        Conv2D(b, b, 3, padding=1, groups=b), Conv2D(b, b, 1, activation="gelu"),
        GlobalAvgPool2D(), Dropout(0.5), Dense(b, CLASSES), seed=1, dtype=dtype, **options,
    )  # fmt: skip


def flattened(dtype="float32", **options):
    """A network like LeNet: a dense layer takes the elements of all positions."""
    return Sequential(
        Conv2D(3, 6, 3, padding=1, activation="tanh"), AvgPool2D(2), BatchNorm(6),
        Conv2D(6, 8, (3, 2), padding=(1, 1, 0, 1), groups=2), ReLU(), MaxPool2D(2, padding="same"),
        Flatten(), Dense(72, 20, activation="relu"), LayerNorm(20), Dense(20, CLASSES),
        seed=2, dtype=dtype, **options,
    )  # fmt: skip


def sequences(dtype="float32", **options):
    return Sequential(
        Conv1D(2, 8, 5, padding=(8, 0), dilation=2, bias=False), BatchNorm(8), Tanh(),
        Residual(Conv1D(8, 8, 3, padding=1, groups=8), Dropout(0.3), LayerNorm(8)),
        MaxPool1D(3, stride=2), Conv1D(8, 10, 3, padding="same", stride=2, activation="silu"),
        GlobalMaxPool1D(), Dense(10, CLASSES), seed=3, dtype=dtype, **options,
    )  # fmt: skip


# name -> (network, shape of a row)
NETWORKS = {
    "images": (images, (10, 9, 3)),
    "flattened": (flattened, (10, 13, 3)),
    "sequences": (sequences, (31, 2)),
}


def draw(name, rows, dtype="float32", seed=0):
    """Rows and labels; a row's mean depends on its label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    x = rng.standard_normal((rows, *NETWORKS[name][1]))
    x += y.reshape(-1, *[1] * (x.ndim - 1)) - 1.5
    return x.astype(dtype), y


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name):
    make = NETWORKS[name][0]
    assert gradcheck(make(l2=0.3), SoftmaxCrossEntropy(), *draw(name, 3)) < 1e-7


# batches of fewer than 16 images are cut into lines
SIZES = (16, 16, 5, 40, 5, 15, 17, 16, 40, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_recorded_steps_have_the_bits_of_the_loop_by_hand(name, isa, threads, dtype):
    batches = [draw(name, rows, dtype, seed) for seed, rows in enumerate(SIZES)]
    make = partial(NETWORKS[name][0], dtype, l2=0.1)
    assert_same_training(make, SoftmaxCrossEntropy(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_in_halves_and_copies_between_them(name):
    make = NETWORKS[name][0]
    hand, model = make(), make()
    step, optimizer = GradientStep(model, fastnn.Nesterov(0.01)), fastnn.Nesterov(0.01)
    for seed, rows in enumerate(SIZES):
        x, y = draw(name, rows, seed=seed)
        step.backward(SoftmaxCrossEntropy()(step.forward(x), y)[1])
        by_hand(hand, SoftmaxCrossEntropy(), optimizer, [(x, y)])
        if seed % 3 == 2:
            duplicate = (copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)))[seed % 2]
            step = duplicate(step)
    assert_alike(step.model, hand)


def test_images_of_several_sizes_in_turn():
    rng = np.random.default_rng(0)
    shapes = [(16, 10, 9, 3), (4, 7, 12, 3), (16, 10, 9, 3), (4, 7, 12, 3), (20, 5, 5, 3)]
    batches = [(rng.standard_normal(shape), np.arange(shape[0]) % CLASSES) for shape in shapes]
    assert_same_training(images, SoftmaxCrossEntropy(), lambda: fastnn.SGD(0.05), batches)


def test_an_evaluation_between_forward_and_backward_changes_nothing():
    """Not even one of images of another size."""
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal((3, 10, 9, 3)), rng.standard_normal((2, 7, 12, 3))
    for make in (images, lambda: Sequential(Conv2D(3, 4, 3, padding="same"), MaxPool2D(2))):
        model, twin = make(), make()
        y = model.forward(x, training=True)
        assert_same_bits(twin.forward(x, training=True), y)
        twin.predict(other)
        twin.predictor(2)(other)
        for each in (model, twin):
            dx = each.backward(y, input_gradient=True)
            assert dx.shape == x.shape
        assert_same_bits(twin.flat_gradients, model.flat_gradients)


LINES = {
    "convolution": lambda: Conv2D(8, 8, 3, padding=1),
    "depthwise": lambda: Conv2D(8, 8, 3, padding=1, groups=8),
    "one line high": lambda: Conv2D(8, 8, (1, 3), padding="same"),
    "average": lambda: AvgPool2D(3, stride=1, padding=1),
    "maximum": lambda: MaxPool2D((3, 1), stride=1, padding=(1, 1, 0, 0)),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("rows", [2, 15])
def test_windows_reach_into_the_lines_of_other_threads(rows, name):
    """Calls form a chain by lines only where none reads another's line."""

    def losses(threads):
        layers = [LINES[name](), ReLU(), LINES[name](), GlobalAvgPool2D()]
        model = Sequential(Conv2D(3, 8, 1), *layers, Dense(8, CLASSES), seed=1)
        step = TrainStep(model, SoftmaxCrossEntropy(), fastnn.SGD(0.1))
        x, y = draw("images", rows)
        with fastnn.threads(threads):
            return [step(x, y) for _ in range(20)]

    for threads in (2, 3, 7):
        assert losses(threads) == losses(1)


@pytest.mark.parametrize("batch, size, channels", [
    (8, (8, 8), 256), (4, (2, 32), 64), (15, (4, 4), 128),
])  # fmt: skip
def test_parts_of_channels_are_no_lines(batch, size, channels, threads):
    """With as many parts as lines, the input gradient of 1x1 kernels still waits for all of dz."""

    def make():
        return Sequential(
            Conv2D(3, channels, 1), Conv2D(channels, channels, 1, activation="gelu"),
            GlobalAvgPool2D(), Dense(channels, CLASSES), seed=1,
        )  # fmt: skip

    rng = np.random.default_rng(0)
    batches = [
        (rng.standard_normal((batch, *size, 3)).astype("f"), rng.integers(0, CLASSES, batch))
        for _ in range(4)
    ]
    hand, recorded = make(), make()
    losses = by_hand(hand, SoftmaxCrossEntropy(), fastnn.SGD(0.1), batches)
    step = TrainStep(recorded, SoftmaxCrossEntropy(), fastnn.SGD(0.1))
    assert [step(*arrays) for arrays in batches] == losses
    assert_alike(recorded, hand)


# ---- the promise: the same bits on any number of threads and any fused instruction set ----


def run(dtype, batch_size):
    """Digest of parameters, running statistics, history and predictions after training."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((70, 16, 15, 3)).astype(dtype), np.arange(70) % CLASSES
    model = images(dtype, width=4, l2=0.01)
    history = model.fit(
        x, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), epochs=1, seed=3,
        batch_size=batch_size, validation_data=(x[:20], y[:20]), progress=False,
    )  # fmt: skip
    digest = hashlib.sha256()
    for array in [*model.state_dict().values(), model.predict(x), model.predictor(70)(x)]:
        assert np.isfinite(array).all()
        digest.update(array.tobytes())
    digest.update(np.array([history.loss, history.validation_loss]).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("batch_size", [12, 32])
def test_training_has_the_same_bits_for_any_threads_and_fma_isa(batch_size, dtype, fma_isas):
    results = {}
    assert uses_threads(lambda: run(dtype, batch_size))
    for isas in (fma_isas, ["portable"]):
        for isa in isas:
            _kernels.set_isa(isa)
            for threads in (1, 2, 3, 7):
                fastnn.set_num_threads(threads)
                results[isas[0], isa, threads] = run(dtype, batch_size)
        assert len({bits for key, bits in results.items() if key[0] == isas[0]}) == 1, results


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_does_not_depend_on_the_others(name, dtype, isa):
    model = NETWORKS[name][0](dtype)
    x, _ = draw(name, 40, dtype)
    whole = model.predict(x)
    for rows in (1, 2, 15, 16, 17):
        assert_same_bits(model.predict(x[:rows]), whole[:rows])
        assert_same_bits(model.predict(x, batch_size=rows), whole)
        folded = model.predictor(rows)(x[:rows])
        assert_close(folded, whole[:rows].astype("f8"), dtype, factor=30)


# ---- fit, predict, and what they take ----


@pytest.mark.parametrize("name", NETWORKS)
def test_fit_is_the_loop_by_hand_and_learns(name):
    make = NETWORKS[name][0]
    x, y = draw(name, 90)
    hand, model = make(), make()
    history = model.fit(
        x, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), epochs=12, batch_size=16,
        shuffle=False, validation_data=(x, y), progress=False,
    )  # fmt: skip
    optimizer = fastnn.Adam(0.01)
    for _ in range(12):
        batches = [(x[start : start + 16], y[start : start + 16]) for start in range(0, 90, 16)]
        by_hand(hand, SoftmaxCrossEntropy(), optimizer, batches)
    assert_alike(model, hand)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert (model.predict(x).argmax(axis=1) == y).mean() == history.validation_accuracy[-1] > 0.6


ACCEPTED = {
    "lists": lambda a: a.tolist(),
    "bytes": lambda a: a.astype(np.uint8),
    "float64": lambda a: a.astype(np.float64),
    "half": lambda a: a.astype(np.float16),
    "big-endian": lambda a: a.astype(">f4"),
    "read-only": read_only,
    "misaligned": misaligned,
    "Fortran order": np.asfortranarray,
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second channel": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "a part of larger images": lambda a: np.pad(a, [(0, 0)] + [(1, 1)] * (a.ndim - 1))[
        (slice(None), *[slice(1, -1)] * (a.ndim - 1))
    ],
    "turned from NCHW": lambda a: np.moveaxis(np.moveaxis(a, -1, 1).copy(), 1, -1),
    "by to_nhwc": lambda a: to_nhwc(np.moveaxis(a, -1, 1)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ACCEPTED)
def test_forms_of_the_images(form, name):
    plain = np.random.default_rng(0).integers(0, 9, (18, *NETWORKS[name][1])).astype(np.float32)
    y = np.arange(18) % CLASSES
    results = []
    for x in (ACCEPTED[form](plain), plain):
        model = NETWORKS[name][0]()
        before = np.array(x)
        outputs = model.predict(x, batch_size=7), model.predictor(18)(x).copy()
        model.fit(x, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.01), epochs=1,
                  batch_size=7, progress=False)  # fmt: skip
        TrainStep(model, SoftmaxCrossEntropy(), fastnn.SGD(0.01))(x, y)
        model.forward(x, training=True)
        dx = model.backward(np.ones((18, CLASSES)), input_gradient=True)
        results.append([*outputs, model.flat_parameters, dx])
        np.testing.assert_array_equal(x, before)
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("name", NETWORKS)
def test_nan_in_nan_out(name, isa):
    """In evaluation NaN reaches its row only; fit refuses it, and a step ends with an error."""
    model = NETWORKS[name][0]()
    x, y = draw(name, 17)
    clean = model.predict(x)
    x[3, 4, 1, ...] = np.nan
    for outputs in (model.predict(x), model.predictor(17)(x)):
        assert np.isnan(outputs[3]).any() and np.isfinite(np.delete(outputs, 3, axis=0)).all()
    assert_same_bits(np.delete(model.predict(x), 3, axis=0), np.delete(clean, 3, axis=0))
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"^X contains NaN"):
        model.fit(x, y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1), progress=False)
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        TrainStep(model, SoftmaxCrossEntropy(), fastnn.SGD(0.1))(x, y)
    for key, array in model.state_dict().items():
        assert_same_bits(array, before[key])


def test_batch_norm_over_channels_counts_every_place():
    """The statistics of images are those of all positions taken as rows."""
    model = Sequential(Conv2D(3, 4, 3, padding=1), BatchNorm(4), seed=0, dtype="float64")
    x, _ = draw("images", 6, "float64")
    z = Sequential(Conv2D(3, 4, 3, padding=1), seed=0, dtype="float64").predict(x)
    model.forward(x, training=True)
    np.testing.assert_allclose(model.state["1.running_mean"], 0.1 * z.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(model.state["1.running_var"], 0.9 + 0.1 * z.var(axis=(0, 1, 2)))
    assert len(draw("images", 1)[0]) == 1
    model.forward(x[:1], training=True)  # one image has enough positions
