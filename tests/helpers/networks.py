"""Networks for exports: every layer alone, and what the tables of layers do not reach."""

from fastnn import (
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
    GlobalAvgPool2D,
    Heads,
    LayerNorm,
    MaxPool2D,
    ParametricActivation,
    PeriodicEmbedding,
    ReLU,
    Residual,
    Scale,
    Softmax,
)
from tables import IMAGE_LAYERS, LAYERS, image_shape

# name -> (layers, shape of a row, rows): what the tables of layers do not reach
MORE = {
    "chunks of terms": (lambda: [Dense(600, 131), Dense(131, 64), Dense(64, 3)], (600,), 1000),
    "long rows": (lambda: [LayerNorm(2500), Softmax()], (2500,), 300),
    "tiles": (
        lambda: [Conv2D(30, 31, 3, padding="same", activation="relu"), Conv2D(31, 24, 3)],
        (7, 8, 30), 200,
    ),
    "tiles, chunks": (lambda: [Conv2D(270, 40, 3, padding=(0, 2, 1, 3))], (3, 4, 270), 100),
    "taps in chunks": (lambda: [Conv2D(3, 3, 9, padding=4, groups=3)], (9, 11, 3), 300),
    "windows in chunks": (lambda: [AvgPool2D((9, 70), 1), GlobalAvgPool2D()], (40, 90, 2), 20),
    "embedding": (lambda: [Embedding(50, 6), Flatten(), Dense(24, 5)], (4,), 100_000),
    "embedding, convolution": (lambda: [Embedding(50, 6), Conv1D(6, 5, 2)], (4,), 10_000),
    "table": (
        lambda: [
            Columns(
                (3, PeriodicEmbedding(3)), (2, None), (4, Block(Embedding(50, 8), Flatten())),
                (1, Scale(1)),
            ),
            Scale(47), Dense(47, 9), ParametricActivation(9, "selu"), Dense(9, 1),
        ],
        (10,), 100_000,
    ),
    "policy": (
        lambda: [Dense(4, 64, activation="tanh"), Dense(64, 64, activation="tanh"), Dense(64, 2)],
        (4,), 100_000,
    ),
    "folded": (
        lambda: [Dense(9, 40), BatchNorm(40), ReLU(), Dropout(0.3), Dense(40, 7), BatchNorm(7)],
        (9,), 100_000,
    ),
    "images": (
        lambda: [
            Conv2D(1, 8, 3, padding="same"), BatchNorm(8), ReLU(), MaxPool2D(2),
            Residual(Conv2D(8, 8, 3, padding="same"), BatchNorm(8)), Flatten(), Dense(128, 10),
        ],
        (8, 8, 1), 3000,
    ),
    "paths in paths": (
        lambda: [
            Flatten(), Heads(Flatten(), Residual(Dense(12, 12)), Block(Dense(12, 3), Softmax())),
            Residual(Dropout(0.1)), Residual(Dense(27, 3), Block(Dense(3, 27), Block(ReLU()))),
            Heads(Heads(ReLU(), Dense(27, 1)), Dense(27, 2)),
        ],
        (3, 4), 10_000,
    ),
    "nothing": (lambda: [Flatten(), Dropout(0.5)], (2, 3), 10),
    "ranges": (
        lambda: [
            Scale(6),
            Columns(
                (1, None), (2, ReLU()), (3, Block(Dense(3, 5), Columns((2, None), (3, Scale(3))))),
            ),
            Residual(Columns((4, Softmax()), (4, None))), Dense(8, 3),
        ],
        (6,), 10_000,
    ),
    "embedding among ranges": (
        lambda: [
            Columns((1, None), (2, Block(Embedding(50, 3), Flatten())), (1, Dense(1, 4))),
            Dense(11, 3),
        ],
        (4,), 10_000,
    ),
}  # fmt: skip


def rows_of(name):
    if name in MORE:
        layers, shape, rows = MORE[name]
        return layers(), shape, rows
    if name in LAYERS:
        return [LAYERS[name](9)], (9,), 100_000
    layer = IMAGE_LAYERS[name](4)
    return [layer], image_shape(layer, 1, 4)[1:], 3000


def moved(model, rng):
    """The model, with other parameters and running statistics than those it begins with."""
    for name, array in {**model.parameters, **model.state}.items():
        array[...] += rng.uniform(0.1, 3, array.shape) if "var" in name else (
            rng.normal(0, 0.3, array.shape))  # fmt: skip
    return model
