"""Trainings whose bits are published: what `fastnn verify` and the tests compare.

Data, start values and the order of rows are made of whole numbers here, so that a training's bits
depend on what is compiled alone.  What NumPy draws, and what is computed by NumPy, is a table of
its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import initializers, layers, losses, optimizers, schedules
from fastnn.data import Standardizer, TableEncoder, batches, stratified_split
from fastnn.from_data import initialize_from_data
from fastnn.layers import (
    ELU,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Heads,
    LayerNorm,
    LeakyReLU,
    MaxPool1D,
    MaxPool2D,
    ParametricActivation,
    PeriodicEmbedding,
    Residual,
    Scale,
)
from fastnn.model import Sequential
from fastnn.training.callbacks import Callback
from fastnn.weight_averages import ExponentialMovingAverage, StochasticWeightAverage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PARTS = "outputs", "gradients", "first epoch", "last epoch"
DTYPES = "float32", "float64"
_CLASSES = 3
_DIGITS = 16  # of a hash: nobody forges them


def numbers(shape: tuple[int, ...], salt: int = 0) -> Array:
    """Numbers in [-1, 1) that look random, exact in float32: a Weyl sequence, mixed."""
    size = int(np.prod(shape))
    mixed = (np.arange(size, dtype=np.uint64) + np.uint64(1000 * salt + 1)) * np.uint64(2654435761)
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(2246822519)
    top = (mixed ^ (mixed >> np.uint64(13))) & np.uint64(2**24 - 1)
    return (top.astype(np.float64) / 2**23 - 1).reshape(shape)


# ---- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """Layers for rows of that shape, and how they are trained."""

    layers: Callable[[], list[Any]]
    shape: tuple[int, ...]
    loss: losses.Loss
    optimizer: Callable[[], optimizers.Optimizer]
    targets: str = "labels"
    codes: int = 0  # how many of a row's last columns are codes
    rows: int = 60
    batch_size: int = 16
    model: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = DTYPES
    fit: Callable[[], dict[str, Any]] = dict

    def data(self) -> tuple[Array, Array, Array]:
        """Rows, targets and weights."""
        X = numbers((self.rows, *self.shape))
        if self.codes:
            X[:, -self.codes :] = np.floor(numbers((self.rows, self.codes), 1) * 10 + 10)
        raw = numbers((self.rows, _CLASSES), 2)
        y = {
            "labels": raw[:, :2].sum(axis=1) > 0,
            "values": raw,
            "bits": raw > 0,
            "counts": np.floor(2 * raw + 2),
        }[self.targets]
        y = y.astype(np.int64) + (raw[:, 0] > 0.5) if self.targets == "labels" else y.astype(float)
        return X, y, np.floor(2 * numbers((self.rows,), 3) + 2)


_SOFTMAX = losses.SoftmaxCrossEntropy()
_ACTIVATIONS = [
    name for name in layers.activations.ACTIVATIONS if name not in ("linear", "softmax")
]

TRAININGS = {
    "dense": Training(
        lambda: [
            Dense(65, 200, activation="relu"), Dense(200, 130, activation="tanh"), Dense(130, 3),
        ],
        (65,), _SOFTMAX, lambda: optimizers.Adam(0.01), rows=300, batch_size=128,
    ),
    "long sums": Training(
        lambda: [Dense(700, 40), LayerNorm(40), layers.GELU(), Dense(40, 3)],
        (700,), losses.SoftmaxCrossEntropy(label_smoothing=0.1), lambda: optimizers.SGD(0.01),
        rows=620, batch_size=300,
    ),
    "bfloat16": Training(
        lambda: [
            Dense(65, 200, activation="relu"), Residual(Dense(200, 200, activation="gelu")),
            Dense(200, 3),
        ],
        (65,), _SOFTMAX, lambda: optimizers.Adam(0.01), rows=330, batch_size=300,
        model={"compute": "bfloat16"}, dtypes=("float32",),
    ),
    "every activation": Training(
        lambda: [
            *[Dense(12, 12, activation=name) for name in _ACTIVATIONS],
            Dense(12, 12, activation=ELU(0.7)), Dense(12, 12, activation=LeakyReLU(0.2)),
            Dense(12, 12), *[cls() for cls in layers.activations.ACTIVATIONS.values()],
            ParametricActivation(12, "selu"), Scale(12), LayerNorm(12), Dense(12, 3),
        ],
        (12,), losses.Hinge(), lambda: optimizers.RMSprop(0.001),
    ),
    "norms and dropout": Training(
        lambda: [
            Dense(20, 96), BatchNorm(96), layers.ReLU(), Dropout(0.3), Dense(96, 64), LayerNorm(64),
            Dropout(0.5), Dense(64, 3),
        ],
        (20,), losses.SoftmaxCrossEntropy(class_weight=[1, 2, 0.5]),
        lambda: optimizers.AdamW(0.01, clip_norm=0.5), rows=330, batch_size=128,
        fit=lambda: {"average": ExponentialMovingAverage(0.9)},
    ),
    "penalties, accumulated": Training(
        lambda: [Dense(9, 30), layers.Softplus(), Dense(30, 3)],
        (9,), losses.MeanSquaredError(), lambda: optimizers.Momentum(0.02, clip_value=0.05),
        "values", model={"l1": 0.01, "l2": 0.1}, fit=lambda: {"accumulate": 3},
    ),
    "residuals and heads": Training(
        lambda: [
            Residual(Block(Dense(8, 8, activation="silu"), Dropout(0.2)), BatchNorm(8)),
            Residual(Dense(8, 16), layers.Mish(), shortcut=Dense(8, 16, bias=False)),
            Heads(Dense(16, 2), Block(Dense(16, 6, activation="sigmoid"), Dense(6, 1))),
        ],
        (8,), losses.Huber(0.3), lambda: optimizers.Nesterov(0.02), "values",
        fit=lambda: {"average": StochasticWeightAverage(start_epoch=1)},
    ),
    "table": Training(
        lambda: [
            Columns(
                (3, PeriodicEmbedding(3)), (2, None), (2, Block(Embedding(20, 4), Flatten())),
            ),
            Scale(22), Dense(22, 24, activation="selu"), Dense(24, 3),
        ],
        (7,), losses.MeanAbsoluteError(), lambda: optimizers.AdamW(0.02), "values", codes=2,
    ),
    "images": Training(
        lambda: [
            Conv2D(2, 6, 3, padding="same", activation="relu"), MaxPool2D(2), BatchNorm(6),
            Conv2D(6, 6, 3, padding=1, groups=6), Conv2D(6, 8, (2, 3), stride=2, activation="elu"),
            AvgPool2D(2, stride=1), Heads(GlobalAvgPool2D(), GlobalMaxPool2D()), Dense(16, 3),
        ],
        (11, 14, 2), losses.SigmoidCrossEntropy(pos_weight=3.5),
        lambda: optimizers.Adam(0.01), "bits",
    ),
    "tiles": Training(
        lambda: [
            Conv2D(30, 31, 3, padding="same", activation="relu"), Conv2D(31, 24, 3),
            GlobalAvgPool2D(), Dense(24, 3),
        ],
        (7, 8, 30), _SOFTMAX, lambda: optimizers.Adam(0.002), rows=24, batch_size=10,
    ),
    "sequences": Training(
        lambda: [
            Conv1D(3, 6, 3, padding=(4, 0), dilation=2, activation="silu"), MaxPool1D(2),
            Conv1D(6, 8, 4, padding="same", groups=2), AvgPool1D(3, stride=1),
            Heads(GlobalMaxPool1D(), GlobalAvgPool1D()), Dense(16, 3, activation="softplus"),
        ],
        (20, 3), losses.Quantile(0.9), lambda: optimizers.RMSprop(0.01, bias_correction=True),
        "values",
    ),
    "counts, scheduled": Training(
        lambda: [Dense(6, 20, activation="tanh"), Dense(20, 3)],
        (6,), losses.Poisson(), lambda: optimizers.SGD(0.1), "counts",
        fit=lambda: {"schedule": schedules.OneCycle()},
    ),
}  # fmt: skip


# ---- hashes ------------------------------------------------------------------------------------


def digest(*arrays: Any) -> str:
    """The first digits of the arrays' SHA-256."""
    found = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        found.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return found.hexdigest()[:_DIGITS]


class _FirstEpoch(Callback):
    """The hash of the parameters after the first epoch."""

    found = ""

    def on_epoch_end(self, run: Any) -> None:
        self.found = self.found or digest(run.model.flat_parameters)


def _network(training: Training, dtype: str) -> Sequential:
    """The network, with start values of whole numbers where NumPy would draw them."""
    model = Sequential(*training.layers(), seed=5, dtype=dtype, **training.model)
    for salt, array in enumerate(model.parameters.values()):
        if array.ndim > 1:
            width = np.sqrt(array.size / array.shape[-1])
            array[...] = 1.7 * numbers(array.shape, 10 + salt) / width
    return model


def hashes(training: Training, dtype: str) -> dict[str, str]:
    """The hashes of the training's PARTS, with the instruction set and threads that are set."""
    X, y, weight = training.data()
    X = X.astype(dtype)
    model, loss, first = _network(training, dtype), training.loss, _FirstEpoch()
    n = training.batch_size
    outputs = model.forward(X[:n], training=True)
    value, gradient = loss(outputs, y[:n], weight[:n])
    found = {"outputs": digest(outputs, value)}
    model.backward(gradient)
    found["gradients"] = digest(gradient, model.flat_gradients)

    model = _network(training, dtype)
    history = model.fit(
        X, y, sample_weight=weight, loss=loss, optimizer=training.optimizer(), epochs=3,
        batch_size=n, shuffle=False, callbacks=[first], progress=False, **training.fit(),
    )  # fmt: skip
    found["first epoch"] = first.found
    found["last epoch"] = digest(*model.state_dict().values(), history["loss"], model.predict(X))
    return found


def _drawn(name: str) -> Array:
    """What an initializer draws."""
    rng = np.random.default_rng([5, 0])
    return initializers.INITIALIZERS[name](rng, (33, 21), 33)


def _orders() -> list[Array]:
    """The orders of two epochs."""
    rows = batches(np.zeros((999, 1)), np.zeros(999), seed=5)
    return [rows.permutation(), rows.permutation()]


def _encoded() -> Array:
    """What a table becomes."""
    table = np.empty((50, 2), object)
    table[:, 0], table[:, 1] = numbers((50,)), [f"town {i % 4}" for i in range(50)]
    encoded: Array = TableEncoder().fit_transform(table)
    return encoded


def _from_data() -> Array:
    """First values that suit some rows: powers of 2, with which every product is exact."""
    model = Sequential(Dense(1, 99), seed=5, dtype="float64")
    initialize_from_data(model, np.ldexp(1.0, (4 * numbers((70, 1))).astype(np.intc)), seed=5)
    return model.flat_parameters


SCHEDULES: dict[str, Callable[[], schedules.Schedule]] = {
    "step decay": lambda: schedules.StepDecay(2, factor=0.3),
    "exponential decay": lambda: schedules.ExponentialDecay(0.7),
    "cosine": lambda: schedules.Cosine(warmup=1.5, end=0.1),
    "one cycle": schedules.OneCycle,
    "cos log": schedules.CosLog,
    "flat cosine": schedules.FlatCosine,
}
_TIMES = np.arange(0, 1000) / 100

# name -> its arrays: what NumPy draws or computes, whatever the instruction set
DRAWN: dict[str, Callable[[], list[Any]]] = {
    "uniform start values": lambda: [_drawn("xavier_uniform"), _drawn("he_uniform")],
    "normal start values": lambda: [_drawn("normal"), _drawn("xavier"), _drawn("he")],
    "orthogonal start values": lambda: [_drawn("orthogonal")],
    "order of rows": _orders,
    "splits": lambda: list(stratified_split(np.arange(300) % 7, 0.2, seed=5)),
    "schedules": lambda: [kind()(_TIMES, 10) for kind in SCHEDULES.values()],
    "standardizer": lambda: [Standardizer().fit_transform(numbers((500, 7)))],
    "table encoder": lambda: [_encoded()],
    "start values from data": lambda: [_from_data()],
}
