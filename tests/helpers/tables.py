"""Tables for several test files: every loss, optimizer and layer, with its reference."""

import reference
from fastnn import (
    ELU,
    GELU,
    SELU,
    SGD,
    Adam,
    AdamW,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Heads,
    Hinge,
    Huber,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool1D,
    MaxPool2D,
    MeanAbsoluteError,
    MeanSquaredError,
    Mish,
    Momentum,
    Nesterov,
    ParametricActivation,
    PeriodicEmbedding,
    Poisson,
    Quantile,
    ReLU,
    Residual,
    RMSprop,
    Scale,
    Sigmoid,
    SigmoidCrossEntropy,
    SiLU,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    Tanh,
)


def labels(rng, shape, dtype):
    return rng.integers(0, shape[1], shape[0])


def probabilities(rng, shape, dtype):
    t = rng.random(shape) ** 2
    return (t / t.sum(axis=1, keepdims=True)).astype(dtype)


def unit(rng, shape, dtype):
    return rng.random(shape).astype(dtype)


def bits(rng, shape, dtype):
    return rng.integers(0, 2, shape).astype(dtype)


def values(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def counts(rng, shape, dtype):
    return rng.poisson(2, shape).astype(dtype)


# name -> (loss, its reference, how targets are drawn)
LOSSES = {
    "softmax labels": (SoftmaxCrossEntropy(), reference.softmax_cross_entropy, labels),
    "softmax smoothed": (
        SoftmaxCrossEntropy(label_smoothing=0.1),
        lambda o, t: reference.softmax_cross_entropy(o, t, 0.1),
        labels,
    ),
    "softmax soft targets": (SoftmaxCrossEntropy(), reference.softmax_cross_entropy, probabilities),
    "softmax soft smoothed": (
        SoftmaxCrossEntropy(label_smoothing=0.25),
        lambda o, t: reference.softmax_cross_entropy(o, t, 0.25),
        probabilities,
    ),
    "sigmoid": (SigmoidCrossEntropy(), reference.sigmoid_cross_entropy, bits),
    "sigmoid soft targets": (SigmoidCrossEntropy(), reference.sigmoid_cross_entropy, unit),
    "sigmoid pos_weight": (
        SigmoidCrossEntropy(pos_weight=3.5),
        lambda o, t: reference.sigmoid_cross_entropy(o, t, 3.5),
        unit,
    ),
    "squared": (MeanSquaredError(), reference.squared_error, values),
    "absolute": (MeanAbsoluteError(), reference.absolute_error, values),
    "quantile": (Quantile(), reference.quantile, values),
    "quantile 0.9": (Quantile(0.9), lambda o, t: reference.quantile(o, t, 0.9), values),
    "huber": (Huber(), reference.huber, values),
    "huber 0.3": (Huber(delta=0.3), lambda o, t: reference.huber(o, t, 0.3), values),
    "poisson": (Poisson(), reference.poisson, counts),
    "hinge": (Hinge(), reference.hinge, labels),
    "hinge 0.5": (Hinge(margin=0.5), lambda o, t: reference.hinge(o, t, 0.5), labels),
}


def draw(name, shape, dtype, rng):
    outputs = (3 * rng.standard_normal(shape)).astype(dtype)
    return outputs, LOSSES[name][2](rng, shape, dtype)


# name -> (optimizer, its reference)
OPTIMIZERS = {
    "sgd": (lambda **o: SGD(0.1, **o), lambda: reference.SGD(0.1)),
    "momentum": (lambda **o: Momentum(0.05, **o), lambda: reference.Momentum(0.05)),
    "momentum 0.5": (
        lambda **o: Momentum(0.05, beta=0.5, **o),
        lambda: reference.Momentum(0.05, beta=0.5),
    ),
    "momentum nesterov": (
        lambda **o: Momentum(0.05, nesterov=True, **o),
        lambda: reference.Momentum(0.05, nesterov=True),
    ),
    "nesterov": (lambda **o: Nesterov(0.05, **o), lambda: reference.Momentum(0.05, nesterov=True)),
    "rmsprop": (lambda **o: RMSprop(0.01, **o), lambda: reference.RMSprop(0.01)),
    "rmsprop corrected": (
        lambda **o: RMSprop(0.01, beta=0.8, bias_correction=True, **o),
        lambda: reference.RMSprop(0.01, beta=0.8, bias_correction=True),
    ),
    "adam": (lambda **o: Adam(0.01, **o), lambda: reference.Adam(0.01)),
    "adam other constants": (
        lambda **o: Adam(0.01, beta1=0.5, beta2=0.9, eps=1e-3, **o),
        lambda: reference.Adam(0.01, beta1=0.5, beta2=0.9, eps=1e-3),
    ),
    "adamw": (lambda **o: AdamW(0.01, **o), lambda: reference.Adam(0.01, weight_decay=0.01)),
    "adamw 0.3": (
        lambda **o: AdamW(0.01, weight_decay=0.3, **o),
        lambda: reference.Adam(0.01, weight_decay=0.3),
    ),
}  # fmt: skip

# name -> layer for inputs of `n` features; IMAGE_LAYERS has the others
LAYERS = {
    "dense": lambda n: Dense(n, 5),
    "dense without bias": lambda n: Dense(n, 4, bias=False),
    "dense softmax": lambda n: Dense(n, 6, activation="softmax"),
    "dense relu": lambda n: Dense(n, 6, activation="relu", bias_init="normal"),
    "dense leaky relu": lambda n: Dense(n, 6, activation=LeakyReLU(0.2)),
    "dense sigmoid": lambda n: Dense(n, 6, activation="sigmoid"),
    "dense tanh": lambda n: Dense(n, 6, activation="tanh"),
    "dense elu": lambda n: Dense(n, 6, activation=ELU(0.7)),
    "dense selu": lambda n: Dense(n, 6, activation="selu"),
    "dense softplus": lambda n: Dense(n, 6, activation="softplus"),
    "dense silu": lambda n: Dense(n, 6, activation="silu"),
    "dense gelu": lambda n: Dense(n, 6, activation="gelu"),
    "dense mish": lambda n: Dense(n, 6, activation="mish"),
    "dense linear": lambda n: Dense(n, 6, activation="linear"),
    "batch norm": lambda n: BatchNorm(n),
    "batch norm 0.5": lambda n: BatchNorm(n, momentum=0.5, eps=1e-3),
    "layer norm": lambda n: LayerNorm(n),
    "dropout": lambda n: Dropout(0.3),
    "no dropout": lambda n: Dropout(0.0),
    "linear": lambda n: Linear(),
    "relu": lambda n: ReLU(),
    "leaky relu": lambda n: LeakyReLU(),
    "sigmoid": lambda n: Sigmoid(),
    "tanh": lambda n: Tanh(),
    "softmax": lambda n: Softmax(),
    "elu": lambda n: ELU(),
    "selu": lambda n: SELU(),
    "softplus": lambda n: Softplus(),
    "silu": lambda n: SiLU(),
    "gelu": lambda n: GELU(),
    "mish": lambda n: Mish(),
    "parametric selu": lambda n: ParametricActivation(n, "selu"),
    "parametric mish": lambda n: ParametricActivation(n, "mish"),
    "parametric elu": lambda n: ParametricActivation(n, ELU(0.7)),
    "scale": lambda n: Scale(n),
    "periodic": lambda n: PeriodicEmbedding(n),
    "periodic 3, 2": lambda n: PeriodicEmbedding(n, 3, 2, sigma=0.5),
    "flatten": lambda n: Flatten(),
    "block": lambda n: Block(Dense(n, 5), LayerNorm(5), ReLU(), Dropout(0.3), Dense(5, 3)),
    "batch norm in a block": lambda n: Block(BatchNorm(n), Dense(n, 5)),
    "block of blocks": lambda n: Block(Block(LayerNorm(n)), Residual(Block(Dense(n, n), Tanh()))),
    "heads": lambda n: Heads(Dense(n, 3, activation="tanh"), Dense(n, 1), LayerNorm(n)),
    "heads of blocks": lambda n: Heads(
        Block(BatchNorm(n), Dropout(0.3), Dense(n, 4, activation="gelu")), Block(Dense(n, 2))
    ),
    "columns": lambda n: Columns(
        (1, None),
        (n - 2, Block(Dense(n - 2, 3), ParametricActivation(3, "relu"), Dropout(0.3))),
        (1, PeriodicEmbedding(1, 4)),
    ),
    "columns within another": lambda n: Columns(
        (n - 1, Columns((1, Scale(1)), (n - 2, None))), (1, Tanh())
    ),
    "residual": lambda n: Residual(Dense(n, n, activation="tanh"), Dense(n, n)),
    "residual shortcut": lambda n: Residual(
        Dense(n, 5), GELU(), shortcut=Dense(n, 5, activation="softplus", bias=False)
    ),
    "residual within another": lambda n: Residual(
        LayerNorm(n), Residual(Dense(n, n), Dropout(0.3)), Sigmoid(), Dropout(0.5)
    ),
    "batch norm in a residual": lambda n: Residual(BatchNorm(n), Tanh(), shortcut=BatchNorm(n)),
}

# name -> layer for images or sequences of `n` channels, where n is even
IMAGE_LAYERS = {
    "conv2d": lambda n: Conv2D(n, 5, 3),
    "conv2d 1x1": lambda n: Conv2D(n, 3, 1, bias=False),
    "conv2d same, strided": lambda n: Conv2D(n, 6, 3, stride=2, padding="same", activation="relu"),
    "conv2d four sides": lambda n: Conv2D(
        n, 4, (2, 3), (2, 1), (1, 0, 3, 4), (2, 1), activation="gelu", bias_init="normal"
    ),
    "conv2d groups": lambda n: Conv2D(n, 6, (3, 2), padding=1, groups=2, activation=ELU(0.7)),
    "conv2d depthwise": lambda n: Conv2D(n, n, 3, padding=1, groups=n, activation="tanh"),
    "conv2d softmax": lambda n: Conv2D(n, 4, 2, activation="softmax"),
    "conv1d": lambda n: Conv1D(n, 5, 3),
    "conv1d causal": lambda n: Conv1D(n, 4, 3, padding=(4, 0), dilation=2, activation="silu"),
    "conv1d same, groups": lambda n: Conv1D(n, 4, 4, stride=2, padding="same", groups=2),
    "max pool 2d": lambda n: MaxPool2D(2),
    "max pool 2d, overlapping": lambda n: MaxPool2D((3, 2), stride=(1, 2), padding=(1, 2, 0, 1)),
    "max pool 1d": lambda n: MaxPool1D(3, stride=2, padding="same"),
    "average pool 2d": lambda n: AvgPool2D((2, 3), stride=1),
    "average pool 2d, padded": lambda n: AvgPool2D(3, stride=2, padding=1),
    "average pool 2d, counted": lambda n: AvgPool2D(3, padding=(0, 2, 1, 2), count_padding=True),
    "average pool 1d": lambda n: AvgPool1D(2, padding=(1, 0), count_padding=True),
    "global average 2d": lambda n: GlobalAvgPool2D(),
    "global average 1d": lambda n: GlobalAvgPool1D(),
    "global maximum 2d": lambda n: GlobalMaxPool2D(),
    "global maximum 1d": lambda n: GlobalMaxPool1D(),
}


def image_shape(layer, rows, channels):
    """The shape of inputs for one of IMAGE_LAYERS: images that are not square, or sequences."""
    return (rows, 6, 7, channels) if layer.dimensions == 3 else (rows, 9, channels)
