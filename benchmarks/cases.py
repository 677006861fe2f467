"""What is measured: tables of networks, of inference, of products, of convolutions, of kernels.

The tables alone; how a peer runs a row stands in its file in ``peers/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from agents import AGENTS, AgentUpdate
from deployed import First, Rows
from estimators import ESTIMATORS, OVERHEADS, Overhead
from images import CONVNET_INFERENCE, CONVNETS, CONVOLUTIONS, ConvNet, Convolution
from many import MANY, Many
from work import Work


class Unsupported(Exception):
    """The peer cannot run the row, for the reason in the text."""


@dataclass(frozen=True)
class Network:
    """A dense classifier, or a regression if it has one output.

    Its training step is forward, loss (softmax cross-entropy or squared error), backward and Adam.
    """

    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0

    @property
    def name(self) -> str:
        extras = " BatchNorm" * self.batch_norm + f" {self.activation}"
        extras += f" Dropout {self.dropout}" if self.dropout else ""
        return "-".join(map(str, self.sizes)) + f"{extras}, batch {self.batch}"

    @property
    def regression(self) -> bool:
        return self.sizes[-1] == 1

    @property
    def learning_rate(self) -> float:
        """Too small for a single sample to be learnt by heart; see `data`."""
        return 1e-3 if self.batch > 1 else 1e-9

    @property
    def layers(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(n * m + m for n, m in self.layers)

    def training(self) -> Work:
        """One step: no input gradient for the first layer; parameters and moments updated."""
        layers = [2 * self.batch * n * m for n, m in self.layers]
        return Work(3 * sum(layers) - layers[0], 24 * self.parameters, 12 * self.parameters)

    def inference(self) -> Work:
        operations = sum(2 * self.batch * n * m for n, m in self.layers)
        traffic = 4 * (self.parameters + self.batch * (self.sizes[0] + self.sizes[-1]))
        return Work(operations, traffic, traffic, reads=True)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch, (batch, features) and integer labels, or targets (batch, 1).

        Every sample comes twice, with two labels: a network that has learnt the batch by heart
        has gradients so small that denormal numbers would slow it down.
        """
        random = np.random.default_rng(0)
        x = random.random((self.batch, self.sizes[0]), dtype=np.float32)
        x[1::2] = x[: self.batch - 1 : 2]
        if self.regression:
            return x, random.random((self.batch, 1), dtype=np.float32)
        y = random.integers(self.sizes[-1], size=self.batch)
        y[1::2] = (y[: self.batch - 1 : 2] + 1) % self.sizes[-1]
        return x, y

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same start for all peers that take arrays: He's weights (in, out), biases of 0."""
        random = np.random.default_rng(1)
        return [
            (
                random.normal(0, np.sqrt(2 / n), (n, m)).astype(np.float32),
                np.zeros(m, np.float32),
            )
            for n, m in self.layers
        ]


@dataclass(frozen=True)
class Fit:
    """Whole epochs over shuffled data, Adam; the shape of MNIST."""

    network: Network
    samples: int = 60_000
    epochs: int = 2

    @property
    def name(self) -> str:
        return f"{self.network.name}, {self.samples} samples, {self.epochs} epochs"

    def work(self) -> Work:
        """The steps' arithmetic, and the samples read once an epoch."""
        steps = self.epochs * self.samples / self.network.batch
        size = 4 * self.samples * self.network.sizes[0]
        return Work(
            steps * self.network.training().operations, self.epochs * size, size, reads=True
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        x = random.random((self.samples, self.network.sizes[0]), dtype=np.float32)
        return x, random.integers(self.network.sizes[-1], size=self.samples)


@dataclass(frozen=True)
class Derivative:
    """By the inputs, in evaluation: the first output's gradient, or the Jacobian, row by row."""

    kind: str
    network: Network

    @property
    def name(self) -> str:
        return f"{self.kind} {self.network.name}"

    def work(self) -> Work:
        """Once forward, and as often back as there are outputs."""
        backwards = self.network.sizes[-1] if self.kind == "jacobian" else 1
        once = self.network.inference()
        return Work((1 + backwards) * once.operations, once.traffic, once.size, reads=True)


@dataclass(frozen=True)
class Product:
    """One of the three products of training: C (rows, columns), summed over depth."""

    form: str  # forward: x @ weight;  input: dz @ weight.T;  weight: x.T @ dz
    rows: int
    depth: int
    columns: int

    @property
    def name(self) -> str:
        return f"{self.form} {self.rows}x{self.depth}x{self.columns}"

    def work(self) -> Work:
        m, k, n = self.rows, self.depth, self.columns
        size = 4 * (m * k + k * n + m * n)
        return Work(2 * m * k * n, size, size, reads=True)

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(a, b, c) as they lie in memory: the transposed one is stored transposed."""
        random = np.random.default_rng(0)
        a_shape, b_shape = (self.rows, self.depth), (self.depth, self.columns)
        if self.form == "input":
            b_shape = b_shape[::-1]
        if self.form == "weight":
            a_shape = a_shape[::-1]
        a, b = (random.random(shape, dtype=np.float32) - 0.5 for shape in (a_shape, b_shape))
        return a, b, np.empty((self.rows, self.columns), np.float32)


NORMS = ("batch norm", "layer norm")
TARGET_LOSSES = (
    *("sigmoid_cross_entropy", "poisson"),
    *("squared_error", "absolute_error", "quantile", "huber"),
)


@dataclass(frozen=True)
class Kernel:
    """A kernel that is no product, on float32 arrays (rows, features)."""

    family: str
    kind: str
    rows: int
    features: int

    @property
    def name(self) -> str:
        return f"{self.family} {self.kind} {self.rows}x{self.features}"

    def work(self) -> Work:
        """Bytes only; `ARRAYS` has how many arrays are moved, and how many distinct ones exist."""
        key = self.family if self.family in ARRAYS else f"{self.family} {self.kind}"
        moved, distinct = ARRAYS[key]
        elements = self.rows * self.features
        return Work(0, 4 * moved * elements, 4 * distinct * elements)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, dy), both (rows, features), normal."""
        random = np.random.default_rng(0)
        shape = (self.rows, self.features)
        x, dy = (random.normal(size=shape).astype(np.float32) for _ in range(2))
        return x, dy


ARRAYS = {
    "activation forward": (2, 2),
    "activation backward": (3, 3),
    "sum": (3, 3),
    "dropout": (2, 2),  # the mask has a bit an element
    **{f"{norm} {way}": (2, 2) for norm in NORMS for way in ("forward", "evaluate")},
    **{f"{norm} backward": (3, 3) for norm in NORMS},
    "batch norm forward and backward": (5, 4),
    **{f"loss {kind}": (2, 2) for kind in ("softmax_cross_entropy", "hinge")},
    **{f"loss {kind}": (3, 3) for kind in TARGET_LOSSES},
    "optimizer sgd": (3, 2),
    **{f"optimizer {kind}": (5, 3) for kind in ("momentum", "nesterov", "rmsprop")},
    **{f"optimizer {kind}": (7, 4) for kind in ("adam", "adamw")},
}

NETWORKS = [
    Network((4, 64, 64, 2), batch=64, activation="tanh"),
    Network((784, 128, 10), batch=32),
    Network((784, 512, 512, 10), batch=128, batch_norm=True, dropout=0.2),
    Network((64, 256, 256, 256, 2), batch=256),
    Network((1024, 2048, 2048, 1000), batch=512),
]

OTHER_NETWORKS = [
    Network((17, 64, 64, 6), batch=64, activation="tanh"),
    Network((23, 256, 256, 2), batch=256),
    Network((784, 128, 16, 10), batch=32),
    Network((784, 100, 100, 10), batch=200),
    Network((784, 512, 512, 10), batch=128),
    Network((30, 97, 31, 3), batch=101, activation="tanh"),
    Network((300, 401, 401, 7), batch=97),
    Network((13, 50, 1), batch=32),
    Network((13, 50, 1), batch=7),
    Network((13, 50, 1), batch=1),
    Network((8, 31, 31, 1), batch=13, activation="tanh"),
    Network((91, 257, 129, 1), batch=333),
    Network((784, 128, 10), batch=7),
    Network((784, 128, 10), batch=1),
    Network((4, 64, 64, 2), batch=1, activation="tanh"),
    Network((4, 32, 16, 4), batch=10_000, activation="tanh"),  # SimpleChains.jl has published it
]

SINGLE = [
    Network((4, 64, 64, 2), batch=1),
    Network((784, 128, 10), batch=1),
    Network((784, 512, 512, 10), batch=1),
]

ROWS = [
    Rows(Network((4, 64, 64, 2), batch=1, activation="tanh")),
    Rows(Network((64, 32, 10), batch=1)),
    Rows(Network((784, 512, 512, 10), batch=1)),
]

INFERENCE = [*SINGLE, Network((784, 512, 512, 10), batch=1024)]

DERIVATIVES = [
    Derivative(kind, Network(sizes, batch=64, activation="tanh"))
    for kind in ("gradient", "jacobian")
    for sizes in ((4, 64, 64, 2), (17, 64, 64, 6))
]

FITS = [Fit(Network((784, 100, 100, 10), batch=200))]

FORMS = ("forward", "input", "weight")
PRODUCTS = [
    Product(form, *shape)
    for shape in [
        (1, 784, 128),
        (32, 784, 128),
        (256, 64, 256),
        (256, 256, 256),
        (128, 784, 512),
        (1008, 4096, 4096),
    ]
    for form in FORMS
]

# Batch, inputs and outputs of layers that no library was tuned for, a million multiply-adds or
# more; each gives the three products that training needs.
SHAPES = [
    *((1, 1009, 1009), (1, 784, 2048), (1, 4096, 4096), (1, 2048, 512), (1, 4096, 401)),
    *((2, 1009, 512), (3, 1000, 401), (4, 512, 512), (7, 401, 401), (7, 2048, 1000)),
    *((8, 784, 300), (13, 784, 128), (13, 1009, 97), (13, 4096, 4096), (13, 31, 2500)),
    *((16, 256, 256), (16, 4096, 31), (31, 401, 97), (31, 1009, 1009), (31, 13, 4096)),
    *((32, 784, 128), (32, 512, 512), (32, 2048, 16), (50, 200, 200), (64, 128, 128)),
    *((64, 784, 512), (64, 31, 1009), (64, 1024, 1024), (97, 97, 128), (97, 401, 1009)),
    *((97, 13, 1009), (97, 2048, 13), (100, 784, 100), (100, 100, 100), (128, 64, 128)),
    *((128, 784, 512), (128, 1024, 10), (128, 4, 2048), (200, 784, 100), (200, 100, 100)),
    *((256, 64, 64), (256, 23, 256), (256, 256, 256), (256, 2048, 4), (256, 300, 31)),
    *((401, 97, 31), (401, 401, 401), (401, 1009, 13), (500, 64, 32), (512, 1024, 512)),
    *((512, 4, 512), (512, 784, 10), (777, 333, 111), (1000, 50, 50), (1000, 31, 97)),
    *((1009, 13, 97), (1009, 1009, 1009), (1009, 401, 31), (1024, 784, 512), (1024, 32, 32)),
    *((1024, 256, 4), (2048, 16, 64), (2048, 784, 10), (2048, 13, 401), (4096, 4, 64)),
    *((4096, 64, 4), (4096, 13, 31), (4096, 128, 128), (4096, 97, 401), (4096, 1009, 31)),
]
GRID = [
    product
    for batch, n, m in SHAPES
    for product in (
        Product("forward", batch, n, m),
        Product("input", batch, m, n),
        Product("weight", n, batch, m),
    )
]

KERNELS = [
    *(
        Kernel(f"activation {way}", kind, 512, 512)
        for kind in (
            *("relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu"),
            *("softplus", "silu", "gelu", "mish", "softmax"),
        )
        for way in ("forward", "backward")
    ),
    Kernel("sum", "of two", 512, 512),
    *(Kernel("dropout", way, 512, 512) for way in ("forward", "backward")),
    *(
        Kernel(norm, way, 2048, 512)
        for norm in NORMS
        for way in ("forward", "evaluate", "backward")
        if (norm, way) != ("layer norm", "evaluate")
    ),
    *(
        Kernel("loss", kind, 512, 128)
        for kind in ("softmax_cross_entropy", "hinge", *TARGET_LOSSES)
    ),
    *(
        Kernel("optimizer", kind, 1000, 1000)
        for kind in ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
    ),
]

# A million elements, too many for the L2 cache.  fastnn has no kernel for exp; elu contains it.
ELEMENTWISE = [
    *(
        Kernel(f"activation {way}", kind, 1000, 1000)
        for kind in ("sigmoid", "tanh", "elu", "gelu")
        for way in ("forward", "backward")
    ),
    *(Kernel("dropout", way, 1000, 1000) for way in ("forward", "backward")),
    Kernel("batch norm", "forward and backward", 2048, 512),
    Kernel("optimizer", "adam", 1000, 1000),
]


class Table(NamedTuple):
    title: str
    function: str  # each peer's: row -> step
    cases: list[Any]
    work: Callable[[Any], Work] | None  # None: there is no limit
    peers: list[str]  # names in race.py; fastnn first
    rounds: int = 21
    turn: float = 0.05  # seconds, at least one step
    calls: int = 0  # that many in a turn, each timed alone
    steps: int = 0  # that many, whose memory is measured, not the time
    scores: bool = False  # whether scores are shown too


STEP = "forward, loss, backward, Adam"
TRAINERS = [
    *("fastnn", "fastnn, OpenMP", "torch", "jax", "NumPy by hand", "scikit-learn", "FANN"),
]
PREDICTORS = [
    *("fastnn", "fastnn, OpenMP", "fastnn bfloat16", "fastnn predict"),
    *("torch", "torch.jit", "onnxruntime", "OpenVINO", "NumPy by hand"),
]
BOTH = ["fastnn", "NumPy by hand", "torch"]
DEPLOYED = ["fastnn", "fastnn C", "emlearn", "torch.jit", "onnxruntime", "OpenVINO"]
LAYOUTS = ["fastnn", "torch channels-last", "torch"]


def overhead_work(case: Overhead) -> Work:
    """The work of all training steps."""
    step = Network((case.features, case.hidden, 1), case.batch).training()
    steps = case.epochs * case.rows // case.batch
    return Work(steps * step.operations, steps * step.traffic, step.size)


def many_work(case: Many) -> Work:
    """The work of all training steps of all networks."""
    activation = "relu" if case.regression else "tanh"
    step = Network(case.sizes, case.batch, activation=activation).training()
    steps = case.number * case.epochs * case.rows / case.batch
    return Work(steps * step.operations, steps * step.traffic, step.size)


LARGE = [case for case in NETWORKS + OTHER_NETWORKS if case.training().operations > 1e8]

TABLES = {
    "product": Table("Matrix products", "product", PRODUCTS, Product.work, BOTH),
    "train": Table(
        f"Training step: {STEP}",
        *("train", NETWORKS, Network.training, [*TRAINERS, "torch.compile", "fastnn bfloat16"]),
    ),
    "other": Table(
        f"Training step of other networks: {STEP}",
        *("train", OTHER_NETWORKS, Network.training, TRAINERS),
        rounds=11,
    ),
    "predict": Table("Inference, one call", "predict", INFERENCE, Network.inference, PREDICTORS),
    "derivative": Table(
        "Gradients by the inputs, one call",
        *("derivative", DERIVATIVES, Derivative.work, ["fastnn", "torch", "torch.compile", "jax"]),
        rounds=11,
    ),
    "latency": Table(
        "Inference, every call timed alone: median / 99.9th percentile",
        *("predict", SINGLE, Network.inference, PREDICTORS),
        rounds=5,
        calls=2000,
    ),
    "rows": Table(
        "A thousand single rows, in the language of each",
        *("rows", ROWS, Rows.work, DEPLOYED),
        rounds=11,
    ),
    "first": Table(
        "From a file to its first prediction",
        *("first", [First(SINGLE[-1])], First.work, ["fastnn", "onnxruntime", "OpenVINO"]),
        rounds=11,
    ),
    "fit": Table("Whole fit", "fit", FITS, Fit.work, ["fastnn", "torch", "scikit-learn"], 5),
    "scaling": Table(
        "Training step on two threads and on one",
        *("train", LARGE, Network.training, ["fastnn", "fastnn, one thread", "fastnn, OpenMP"]),
        rounds=11,
    ),
    "elementwise": Table(
        "Element-wise, a million elements",
        *("kernel", ELEMENTWISE, Kernel.work, [*BOTH, "jax"]),
    ),
    "grid": Table("Products of many shapes", "product", GRID, Product.work, BOTH, 5, 0.01),
    "kernel": Table("Kernels", "kernel", KERNELS, Kernel.work, BOTH),
    "cnn": Table(
        f"Training step of convolutional networks: {STEP}",
        *("train", CONVNETS, ConvNet.training),
        ["fastnn", "fastnn, OpenMP", *LAYOUTS[1:], "torch.compile", "jax"],
        rounds=11,
    ),
    "cnnpredict": Table(
        "Inference of convolutional networks, one call",
        *("predict", CONVNET_INFERENCE, ConvNet.inference),
        [*LAYOUTS, "torch.jit", "onnxruntime", "OpenVINO"],
        rounds=11,
    ),
    "conv": Table(
        "Convolutions", "convolution", CONVOLUTIONS, Convolution.work, LAYOUTS, 5, turn=0.01
    ),
    "agent": Table(
        "An update of a soft actor-critic",
        *("sac", AGENTS, AgentUpdate.work),
        ["fastnn", "stable-baselines3", "torch", "jax", "rltools"],
    ),
    "estimator": Table(
        "scikit-learn's estimators at its defaults: one fit, and the mean score of rows held out",
        *("estimator", ESTIMATORS, None, ["fastnn", "scikit-learn"], 10, 0.0),
        scores=True,
    ),
    "overhead": Table(
        "An estimator's fit, and that of its network",
        *("overhead", OVERHEADS, overhead_work, ["fastnn", "fastnn estimator"], 10, 0.0),
    ),
    "many": Table(
        "Many networks, each trained from new parameters",
        *("many", MANY, many_work),
        ["fastnn", "fastnn, one thread", "jax", "torch", "torch.compile", "joblib", "scikit-learn"],
        *(5, 0.0),
    ),
    "memory": Table(
        "Memory of training steps", "train", CONVNETS[:2], ConvNet.training, LAYOUTS, 5, steps=5
    ),
}


def find(table: str, name: str) -> Any:
    return next(case for case in TABLES[table].cases if case.name == name)
