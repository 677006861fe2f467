"""Convolution and pooling as layers: against the reference, recorded; their arguments."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_close, assert_same_bits
from fastnn import (
    SGD,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool1D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    gradcheck,
)
from fastnn.layers.convolution import _Convolution
from fastnn.layers.pooling import _Pool
from fastnn.layers.windows import Windows
from fastnn.predictor import fold
from stepping import assert_same_training
from tables import IMAGE_LAYERS, image_shape

CHANNELS = 4


def stir(model):
    """Replace the initial parameters and running statistics by random ones."""
    rng = np.random.default_rng(5)
    for name, array in {**model.parameters, **model.state}.items():
        array[...] = rng.normal(0.1, 0.6, array.shape)
        if "var" in name:
            array[...] = rng.uniform(0.1, 3, array.shape)
    return model


def model_of(name, dtype="float32"):
    return stir(Sequential(IMAGE_LAYERS[name](CHANNELS), seed=3, dtype=dtype))


def draw(layer, rows=5, dtype="float32", seed=0):
    shape = image_shape(layer, rows, CHANNELS)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def geometry_of(layer, shape):
    """Kernel, stride, padding and dilation; sequences count as images of one line."""
    if isinstance(layer, _Convolution | _Pool):
        windows = layer.windows
        return windows.kernel, windows.stride, windows.around(shape[1:3]), windows.dilation
    return shape[1:3], (1, 1), ((0, 0), (0, 0)), (1, 1)


def reference_of(layer, parameters, x, dy):
    """y, dx and the gradients by name, in float64; a sequence counts as an image of one line."""
    given = x.shape
    if layer.dimensions == 2:
        x = x[:, None]
    kernel, stride, padding, dilation = geometry_of(layer, x.shape)
    if not isinstance(layer, _Convolution):
        options = (kernel, stride, padding), layer.average, getattr(layer, "count_padding", False)
        y = reference.pool_forward(x, *options)
        dx = reference.pool_backward(x, dy.reshape(y.shape), *options)
        return y.reshape(dy.shape), dx.reshape(given), {}
    weight = parameters["0.weight"].astype(np.float64)
    gradients = {"0.weight": weight.shape}
    weight = weight.reshape(*kernel, *weight.shape[-2:])
    bias = parameters["0.bias"].astype(np.float64) if layer.has_bias else None
    geometry = stride, padding, dilation, layer.groups
    z = reference.conv_forward(x, weight, bias, geometry)
    dy = dy.reshape(z.shape)
    if layer.activation_name == "softmax":
        y = reference.softmax(z)
        dz = reference.softmax_backward(y, dy)
    else:
        options = layer.activation_name, layer.activation.alpha
        y = reference.activation_forward(z, *options)
        dz = reference.activation_backward(z, dy, *options)
    dx, dweight, dbias = reference.conv_backward(x, weight, dz, geometry)
    gradients["0.weight"] = dweight.reshape(gradients["0.weight"])
    if layer.has_bias:
        gradients["0.bias"] = dbias
    return y, dx.reshape(given), gradients


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_against_the_reference(name, dtype, isa, rng):
    for rows in (5, 17):
        model = model_of(name, dtype)
        layer = model.layers[0]
        x = draw(layer, rows, dtype)
        y = model.forward(x, training=True)
        assert_same_bits(model.predict(x), y)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx = model.backward(dy, input_gradient=True)
        right = reference_of(layer, model.parameters, x.astype("f8"), dy.astype("f8"))
        assert_close(y, right[0].reshape(y.shape), dtype, factor=10)
        assert_close(dx, right[1], dtype, factor=20)
        assert set(model.gradients) == set(right[2])
        for key, gradient in model.gradients.items():
            assert_close(np.ascontiguousarray(gradient), right[2][key], dtype, factor=20)


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_what_every_layer_promises(name):
    """An evaluation saves and changes nothing, the input is neither changed nor returned, each
    backward needs a forward before it, repr makes the layer again, copies are alike."""
    model = model_of(name)
    layer = model.layers[0]
    x, before = draw(layer), model.state_dict()
    given, first = x.copy(), model.forward(x)
    assert first.shape == (5, *layer.output_shape(x.shape[1:]))
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same_bits(twin.predict(x, batch_size=2), first)
    for key, array in model.state_dict().items():
        assert_same_bits(array, before[key])
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones_like(first))
    y = model.forward(x, training=True)
    assert not np.shares_memory(y, x)
    model.backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones_like(y))
    assert_same_bits(x, given)
    again = eval(repr(layer), dict(vars(fastnn)))
    assert repr(again) == repr(layer) and type(again) is type(layer)
    assert again.output_shape(x.shape[1:]) == layer.output_shape(x.shape[1:])


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_gradients(name, isa):
    model = headed(name, l2=0.3)
    assert gradcheck(model, SoftmaxCrossEntropy(), draw(model.layers[0], 2), [0, 2]) < 1e-7


def headed(name, **options):
    """The layer between a convolution of 1x1 and a dense layer."""
    layer = IMAGE_LAYERS[name](CHANNELS)
    shape = image_shape(layer, 1, CHANNELS)[1:]
    first = (Conv2D if layer.dimensions == 3 else Conv1D)(CHANNELS, CHANNELS, 1, activation="tanh")
    features = int(np.prod(layer.output_shape(shape)))
    return stir(Sequential(first, layer, Flatten(), Dense(features, 3), seed=2, **options))


# ---- steps and predictors ----


SIZES = (5, 17, 5, 16, 17, 5)


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_a_recorded_step_of_every_layer(name, isa, dtype):
    layer = IMAGE_LAYERS[name](CHANNELS)
    batches = [(draw(layer, rows, dtype, i), np.arange(rows) % 3) for i, rows in enumerate(SIZES)]
    assert_same_training(
        lambda: headed(name, l2=0.1, dtype=dtype),
        SoftmaxCrossEntropy(),
        lambda: fastnn.Adam(0.01),
        batches,
    )


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_every_layer_first(name):
    """The input's gradient of the first layer is not needed."""
    layer = IMAGE_LAYERS[name](CHANNELS)

    def make():
        return Sequential(*map(copy.copy, headed(name).layers[1:]), seed=2)

    batches = [(draw(layer, rows, seed=i), np.arange(rows) % 3) for i, rows in enumerate(SIZES)]
    assert_same_training(make, SoftmaxCrossEntropy(), lambda: fastnn.Adam(0.01), batches)


@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_a_predictor_of_every_layer_has_the_bits_of_predict(name, isa, dtype):
    model = headed(name, dtype=dtype)
    for rows in (1, 17):
        predictor = model.predictor(rows)
        assert predictor.recorded
        for seed in range(3):
            x = draw(model.layers[1], rows, dtype, seed)
            assert_same_bits(predictor(x), model.predict(x))


NORMED = {  # name -> (the layers, the number of operations they become)
    "convolution": (lambda: [Conv2D(4, 8, 3, padding=1), BatchNorm(8), LeakyReLU(0.3)], 1),
    "groups": (lambda: [Conv2D(4, 8, 3, groups=2, bias=False), BatchNorm(8)], 1),
    "depthwise": (lambda: [Conv2D(4, 4, 3, padding=2, groups=4), BatchNorm(4), ReLU()], 1),
    "twice": (lambda: [Conv1D(4, 8, 3), Dropout(0.1), BatchNorm(8), BatchNorm(8)], 1),
    "before padding": (lambda: [BatchNorm(4), Conv2D(4, 8, 3, padding=2)], 2),
    "after an activation": (lambda: [Conv2D(4, 8, 3, activation="tanh"), BatchNorm(8)], 2),
    "after pooling": (lambda: [Conv2D(4, 8, 3), MaxPool2D(2), BatchNorm(8), ReLU()], 4),
}


@pytest.mark.parametrize("name", NORMED)
def test_a_predictor_folds_batch_norm(name, isa, dtype):
    make, operations = NORMED[name]
    model = stir(Sequential(*make(), dtype=dtype))
    exact = stir(Sequential(*make(), dtype="float64"))
    exact.load_state_dict(model.state_dict())
    assert len(fold(model)) == operations
    layer = next(part for part in model.layers if part.dimensions)
    for rows in (1, 17):
        x = draw(layer, rows, dtype)
        assert_close(model.predictor(rows)(x), exact.predict(x), dtype, factor=4)


# ---- sequences are images of one line ----

LINES = [(Conv1D, Conv2D, (4, 6, 3)), (MaxPool1D, MaxPool2D, (3,)), (AvgPool1D, AvgPool2D, (2,))]


@pytest.mark.parametrize("line, image, arguments", LINES)
@pytest.mark.parametrize("padding", [0, 1, "same", (0, 1)])
def test_sequences_are_images_of_one_line(line, image, arguments, padding, isa):
    sides = padding if padding == "same" else (0, 0, *np.broadcast_to(padding, 2).tolist())
    *counts, kernel = arguments
    results = []
    for layer in (line(*arguments, stride=2, padding=padding),
                  image(*counts, (1, kernel), stride=(1, 2), padding=sides)):  # fmt: skip
        model, x = Sequential(layer, seed=1), draw(line(*arguments))
        x = x if layer.dimensions == 2 else x[:, None]
        y = model.forward(x, training=True)
        dx = model.backward(y, input_gradient=True)
        results.append([array.reshape(-1) for array in (y, dx, model.flat_gradients)])
        assert model.layers[0].out_dimensions == layer.dimensions or layer.out_dimensions is None
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


def test_a_causal_convolution_does_not_look_ahead():
    model = Sequential(Conv1D(2, 3, 3, padding=(4, 0), dilation=2), seed=0)
    x = np.random.default_rng(0).standard_normal((2, 12, 2))
    y = model.predict(x)
    assert y.shape == (2, 12, 3)
    x[:, 7] = np.nan
    later = np.isnan(model.predict(x)).any(axis=(0, 2))
    assert later.tolist() == [i in (7, 9, 11) for i in range(12)]


# ---- padding, strides, arguments ----


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_padding_same_gives_a_place_for_each_stride(dilation, stride):
    """The least padding for ⌈n / stride⌉ outputs; half before, the larger half behind."""
    for size, kernel in itertools.product(range(1, 14), range(1, 7)):
        windows = Windows(1, kernel, stride, "same", dilation)
        before, behind = windows.around((1, size))[1]
        places = -(-size // stride)
        assert windows.count((1, size)) == (1, places)
        assert before + behind == max(0, (places - 1) * stride + (kernel - 1) * dilation + 1 - size)
        assert behind - before in (0, 1)


@pytest.mark.parametrize("layer, shape, expected", [
    (lambda: Conv2D(3, 8, 3), (28, 30, 3), (26, 28, 8)),
    (lambda: Conv2D(3, 8, (5, 3), stride=(2, 3), padding=(1, 2, 0, 4)), (28, 30, 3), (14, 11, 8)),
    (lambda: Conv2D(3, 8, 3, padding="same", stride=2), (28, 31, 3), (14, 16, 8)),
    (lambda: Conv2D(3, 8, 3, padding="valid", dilation=(2, 3)), (28, 30, 3), (24, 24, 8)),
    (lambda: Conv1D(3, 8, 5, stride=2), (100, 3), (48, 8)),
    (lambda: MaxPool2D(2), (7, 8, 3), (3, 4, 3)),
    (lambda: AvgPool2D((3, 2), stride=1, padding=1), (7, 8, 3), (7, 9, 3)),
    (lambda: MaxPool1D(3, padding="same"), (10, 2), (4, 2)),
    (lambda: fastnn.GlobalMaxPool2D(), (7, 8, 3), (3,)),
    (lambda: fastnn.GlobalAvgPool1D(), (7, 3), (3,)),
])  # fmt: skip
def test_output_shape(layer, shape, expected):
    assert layer().output_shape(shape) == expected
    assert Sequential(layer()).predict(np.zeros((2, *shape))).shape == (2, *expected)


ONE = "expected an integer from 1 to 2147483647, got"
SIDES = r"expected an integer, 'same', 'valid' or \(top, bottom, left, right\), got"


@pytest.mark.parametrize("make, message", [
    *((lambda v=v: Conv2D(1, 1, v), f"kernel_size: {ONE}") for v in (0, -1, True, 2.0, None, "3")),
    *((lambda v=v: Conv2D(1, 1, 3, stride=v), f"stride: {ONE}") for v in (0, False, 1.5, (1, 0))),
    *((lambda v=v: Conv2D(1, 1, 3, dilation=v), f"dilation: {ONE}") for v in (0, (2, "a"), 2**31)),
    *((lambda v=v: Conv2D(1, 1, v), r"kernel_size: expected an integer or \(rows, columns\), got")
      for v in ((3,), (3, 3, 3), ())),
    (lambda: Conv1D(1, 1, (3, 3)), r"kernel_size: expected an integer, got \(3, 3\)"),
    (lambda: Conv1D(1, 1, 3, stride=(2,)), r"stride: expected an integer, got \(2,\)"),
    *((lambda v=v: Conv2D(1, 1, 3, padding=v), "padding: expected an integer from 0 to 2147483647")
      for v in (-1, True, 1.5, None, (0, 0, 0, -1), 2**40)),
    *((lambda v=v: Conv2D(1, 1, 3, padding=v), f"padding: {SIDES}") for v in ((1, 1), (), [1] * 5)),
    (lambda: Conv1D(1, 1, 3, padding=(1, 1, 1, 1)), r"padding: .* or \(left, right\), got \(1,"),
    (lambda: Conv2D(1, 1, 3, padding="full"), "padding: expected one of same, valid, got 'full'"),
    (lambda: MaxPool2D(2, padding="SAME"), "padding: expected one of same, valid, got 'SAME'"),
    *((lambda v=v: Conv2D(4, 6, 3, groups=v), "groups: expected a divisor of in_channels and "
       f"out_channels, 4 and 6, got {v}") for v in (3, 4, 12)),
    *((lambda v=v: Conv2D(4, 6, 3, groups=v), "groups: expected an integer >= 1, got")
      for v in (0, -2, True, 2.0, None)),
    (lambda: Conv2D(0, 6, 3), "in_channels: expected an integer >= 1, got 0"),
    (lambda: Conv2D(4, 1.5, 3), "out_channels: expected an integer >= 1, got 1.5"),
    (lambda: Conv2D(4, 6, 3, activation="rely"), "activation: expected one of"),
    (lambda: Conv2D(4, 6, 3, l2=-1), "l2: expected"),
    (lambda: Conv2D(4, 6, 3, bias=1), "bias: expected True or False, got 1"),
    (lambda: MaxPool2D(0), f"kernel_size: {ONE}"), (lambda: MaxPool2D(2, 0), f"stride: {ONE}"),
    (lambda: MaxPool2D(2, padding=2), "padding: expected less than the kernel's size, 2, got 2"),
    (lambda: AvgPool2D((2, 4), padding=(0, 2, 0, 0)), "padding: expected less than .* 2, got 2"),
    (lambda: AvgPool1D(3, padding=(0, 3)), "padding: expected less than the kernel's size, 3, go"),
    (lambda: AvgPool2D(2, count_padding=1), "count_padding: expected True or False, got 1"),
    (lambda: Sequential(Conv2D(1, 1, 2**20)), "layers: .*more than memory|Unable to allocate"),
    (lambda: Sequential(Conv2D(1, 1, 2**31 - 1)), "layers: .*more than memory|Unable to allocate"),
    (lambda: Sequential(Conv2D(1, 1, 3, padding=2**31 - 1)).predict(np.zeros((1, 5, 5, 1))),
     r"X: layer 0, Conv2D\(.*\) gives rows of \(4294967297, 4294967297, 1\), more than memory can"),
    (lambda: Sequential(Conv2D(3, 8, 3), Conv2D(3, 8, 3)), "layer 1, .* takes 3 channels, .* 8"),
    (lambda: Sequential(Conv2D(3, 8, 3), Conv1D(8, 8, 3)), r"layer 1, .*takes \(batch, length, 8"),
    (lambda: Sequential(Conv2D(3, 8, 3), Dense(8, 2)), r".* put Flatten\(\) or GlobalAvgPool2D"),
    (lambda: Residual(Conv2D(3, 8, 3)), "Residual: x has 3 features, but f.x. has 8"),
])  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises((TypeError, ValueError, MemoryError), match=f"^{message}"):
        make()


@pytest.mark.parametrize("layers, shape, message", [
    (lambda: [Conv2D(3, 8, 5)], (2, 4, 7, 3),
     r"layer 0, Conv2D\(3, 8, 5\): its kernel covers 5x5, more than the padded input, 4x7$"),
    (lambda: [Conv2D(3, 8, 3, dilation=(2, 4), padding=1)], (2, 9, 6, 3),
     "layer 0, .*: its kernel covers 5x9, more than the padded input, 11x8$"),
    (lambda: [Conv1D(3, 8, 5, dilation=3)], (2, 12, 3), "layer 0, .* covers 1x13, .* input, 1x12"),
    (lambda: [Conv2D(3, 4, 3), MaxPool2D(4)], (2, 5, 9, 3), "layer 1, .* covers 4x4, .* 3x7"),
    (lambda: [Conv2D(3, 4, 3, padding="same"), MaxPool2D(5)], (2, 4, 4, 3), "layer 1, .* 5x5"),
    (lambda: [Conv2D(3, 8, 3)], (2, 3, 32, 30),
     r"layer 0, .*takes 3 channels, got 30 .*; looks like NCHW: use fastnn.to_nhwc\(x\)$"),
    (lambda: [MaxPool2D(2), Conv2D(3, 8, 3)], (2, 3, 32, 30), r".* use fastnn.to_nhwc\(x\)$"),
    (lambda: [Conv1D(3, 8, 3)], (2, 3, 100), r".*looks like NCHW: use fastnn.to_nhwc\(x\)$"),
    (lambda: [Conv2D(3, 8, 3)], (2, 32, 30), r"expected shape \(batch, height, width, 3\), got"),
    (lambda: [Conv2D(3, 8, 3)], (2, 2700), r"expected shape \(batch, height, width, 3\), got"),
    (lambda: [MaxPool2D(2)], (2, 9, 9), "expected shape .batch, height, width, channels., got"),
])  # fmt: skip
def test_x_that_does_not_fit(layers, shape, message):
    model = Sequential(*layers())
    x = np.zeros(shape)
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    for name, call in (("x", model.forward), ("X", model.predict), ("x", model.predictor(2)),
                       ("x", lambda x: step(x, [0, 1]))):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: {message}"):
            call(x)
    with pytest.raises(ValueError, match=r"layer|shape"):
        model.output_shape(shape[1:])


def test_what_is_fixed_once_a_layer_is_made():
    for layer in (Conv2D(2, 2, 1), Conv1D(2, 2, 1), MaxPool2D(2), AvgPool1D(2)):
        with pytest.raises(AttributeError, match="windows is fixed once a"):
            layer.windows = None
    with pytest.raises(AttributeError, match="groups is fixed once a Conv2D is made"):
        Conv2D(2, 2, 1).groups = 2
    with pytest.raises(AttributeError, match="count_padding is fixed once a AvgPool2D is made"):
        AvgPool2D(2).count_padding = True


def test_initial_weights_follow_from_the_terms_of_an_output():
    """He's deviation for as many inputs as an output has terms: taps * channels of a group."""
    for layer, terms in ((Conv2D(32, 64, 3, activation="relu"), 288),
                         (Conv2D(32, 512, 5, groups=4, activation="relu"), 200),
                         (Conv1D(64, 256, 4, activation="relu"), 256)):  # fmt: skip
        weight = Sequential(layer, seed=1).parameters["0.weight"]
        np.testing.assert_allclose(weight.std(), np.sqrt(2 / terms), rtol=0.02)


def test_a_layer_outside_a_model_says_so():
    with pytest.raises(RuntimeError, match=r"Conv2D\(3, 2, 1\) is part of no model yet"):
        Conv2D(3, 2, 1).forward(np.ones((2, 4, 4, 3), np.float32))
