"""fastnn: the public names for networks, losses and optimizers, the kernels' faces below."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from agents import RATE, STORED, AgentUpdate
from cases import ConvNet, Convolution, Derivative, Fit, Kernel, Network, Product
from deployed import First, Rows, exported
from estimators import Estimator, Overhead
from fastnn import _kernels as kernels
from images import Block, Conv, GlobalPool, MaxPool, Shape
from many import Many

ACTIVATION_LAYERS = {"relu": fastnn.ReLU, "tanh": fastnn.Tanh}
LOSSES = {
    "softmax_cross_entropy": fastnn.SoftmaxCrossEntropy,
    "sigmoid_cross_entropy": fastnn.SigmoidCrossEntropy,
    "hinge": fastnn.Hinge,
    "squared_error": fastnn.MeanSquaredError,
    "absolute_error": fastnn.MeanAbsoluteError,
    "quantile": fastnn.Quantile,
    "huber": fastnn.Huber,
    "poisson": fastnn.Poisson,
}
OPTIMIZERS = {
    "sgd": fastnn.SGD,
    "momentum": fastnn.Momentum,
    "nesterov": fastnn.Nesterov,
    "rmsprop": fastnn.RMSprop,
    "adam": fastnn.Adam,
    "adamw": fastnn.AdamW,
}


def build(network: Network | ConvNet, **options: Any) -> fastnn.Sequential:
    if isinstance(network, ConvNet):
        return build_images(network)
    layers: list[Any] = []
    for n, m in zip(network.sizes[:-2], network.sizes[1:-1], strict=True):
        if not network.batch_norm:
            layers.append(fastnn.Dense(n, m, activation=network.activation))
        else:
            layers += [
                fastnn.Dense(n, m),
                fastnn.BatchNorm(m),
                ACTIVATION_LAYERS[network.activation](),
            ]
        if network.dropout:
            layers.append(fastnn.Dropout(network.dropout))
    return fastnn.Sequential(*layers, fastnn.Dense(*network.sizes[-2:]), seed=0, **options)


def convolution_layers(layer: Conv, shape: Shape) -> list[Any]:
    convolution = fastnn.Conv2D if len(shape) == 3 else fastnn.Conv1D
    sizes = shape[-1], *layer[:4]
    if not layer.norm:
        return [convolution(*sizes, activation="relu" if layer.relu else None)]
    layers = [convolution(*sizes, bias=False), fastnn.BatchNorm(layer.features)]
    return [*layers, fastnn.ReLU()] if layer.relu else layers


def image_layers(layer: Any, shape: Shape) -> list[Any]:
    images = len(shape) == 3
    if isinstance(layer, Conv):
        return convolution_layers(layer, shape)
    if isinstance(layer, Block):
        inner = layer.after(shape)
        first, second = map(convolution_layers, layer.path, (shape, inner))
        shortcut = convolution_layers(layer.shortcut, shape)[0] if layer.shortcut else None
        return [fastnn.Residual(*first, *second, shortcut=shortcut), fastnn.ReLU()]
    if isinstance(layer, MaxPool):
        return [(fastnn.MaxPool2D if images else fastnn.MaxPool1D)(layer.size)]
    if isinstance(layer, GlobalPool):
        return [fastnn.GlobalAvgPool2D() if images else fastnn.GlobalAvgPool1D()]
    flatten = [fastnn.Flatten()] if len(shape) > 1 else []
    dense = fastnn.Dense(prod(shape), layer.features, activation="relu" if layer.relu else None)
    return [*flatten, dense]


def build_images(network: ConvNet) -> fastnn.Sequential:
    layers, shape = [], network.shape
    for layer in network.layers:
        layers += image_layers(layer, shape)
        shape = layer.after(shape)
    return fastnn.Sequential(*layers, seed=0)


def train(network: Network | ConvNet, **options: Any) -> Callable[[], Any]:
    loss = fastnn.MeanSquaredError() if network.regression else fastnn.SoftmaxCrossEntropy()
    step = fastnn.TrainStep(build(network, **options), loss, fastnn.Adam(network.learning_rate))
    x, y = network.data()
    return lambda: step(x, y)


def derivative(case: Derivative) -> Callable[[], Any]:
    model, (x, _) = build(case.network), case.network.data()
    if case.kind == "jacobian":
        return lambda: model.jacobian(x)
    return lambda: model.input_gradient(x, 0)


def fit(case: Fit) -> Callable[[], Any]:
    model, (x, y) = build(case.network), case.data()
    loss, optimizer, batch = fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-3), case.network.batch
    settings = {"loss": loss, "optimizer": optimizer, "batch_size": batch, "metrics": []}
    model.fit(x[: 2 * batch], y[: 2 * batch], epochs=1, progress=False, **settings)
    return lambda: model.fit(x, y, epochs=case.epochs, progress=False, **settings)


def estimator(case: Estimator) -> Callable[[], Any]:
    from fastnn import sklearn  # needs scikit-learn

    return case.trainings(sklearn)


def score(case: Estimator) -> float:
    from fastnn import sklearn

    return case.score(sklearn)


def overhead(case: Overhead) -> Callable[[], Any]:
    """`fit` of the network, loss and optimizer that are the estimator's defaults."""
    (X, y), sizes = case.data(), (case.features, case.hidden)
    y = y.reshape(-1, 1).astype(X.dtype)
    settings = {"epochs": case.epochs, "batch_size": case.batch, "metrics": [], "progress": False}

    def train() -> fastnn.History:
        layers = fastnn.Dense(*sizes, "relu", l2=1e-4), fastnn.Dense(case.hidden, 1, l2=1e-4)
        model, loss = fastnn.Sequential(*layers, seed=0), fastnn.SigmoidCrossEntropy()
        return model.fit(X, y, loss=loss, optimizer=fastnn.Adam(), **settings)

    return train


def predict(network: Network | ConvNet) -> Callable[[], Any]:
    """By a prepared predictor, where this version has one."""
    model, (x, _) = build(network), network.data()
    if not hasattr(model, "predictor"):
        return lambda: model.predict(x)
    predictor = model.predictor(batch_size=network.batch)
    return lambda: predictor(x)


def rows(case: Rows) -> Callable[[], Any]:
    predictor, each = build(case.network).predictor(), list(case.data()[:, None])

    def step() -> Any:
        for row in each:
            y = predictor(row)
        return y

    return step


def first(case: First) -> Callable[[], Any]:
    import fastnn.onnx

    file, x = exported(case), case.network.data()[0]
    return lambda: fastnn.onnx.load(file).predict(x)


def several(case: Many, seeds: Iterable[int]) -> tuple[list[fastnn.Sequential], list[dict]]:
    """A new network for each seed, and what each is fitted with."""
    activation = "relu" if case.regression else "tanh"
    models, each = [], []
    for seed in seeds:
        layers = [fastnn.Dense(n, m, activation) for n, m in pairwise(case.sizes[:-1])]
        models.append(fastnn.Sequential(*layers, fastnn.Dense(*case.sizes[-2:]), seed=seed))
        loss = fastnn.MeanSquaredError() if case.regression else fastnn.SoftmaxCrossEntropy()
        settings = {"epochs": case.epochs, "batch_size": case.batch, "metrics": [], "seed": seed}
        each.append({"loss": loss, "optimizer": fastnn.Adam(1e-3), **settings})
    return models, each


def many(case: Many) -> Callable[[], Any]:
    X, y = case.data()

    def run() -> list[fastnn.Sequential]:
        models, each = several(case, range(case.number))
        fastnn.fit_many(models, X, y, each=each)
        return models

    return run


def sac(case: AgentUpdate) -> Callable[[], Any]:
    """The agent of examples/sac.py."""
    sys.path.append(str(Path(__file__).parents[2] / "examples"))
    from sac import Agent, Memory

    agent = Agent(case.observed, case.actions, case.hidden, optimizer=lambda: fastnn.Adam(RATE))
    memory = Memory(STORED, case.observed, case.actions)
    memory.store(*case.data())
    return lambda: agent.update(*memory.sample(case.batch))


def product(case: Product) -> Callable[[], Any]:
    """Recorded, so that no output is allocated: the peers write into one array, too."""
    a, b, c = case.data()
    program = kernels.Program()
    with program:
        if case.form == "forward":
            kernels.dense_forward(a, b)
        elif case.form == "input":
            kernels.dense_backward_input(a, b)
        else:
            kernels.dense_backward_weight(a, b, c)
    return program.replay


def convolution(case: Convolution) -> Callable[[], Any]:
    """Recorded, so that no output is allocated."""
    x, weight, dy = case.data()
    geometry = (case.stride,) * 2, ((case.padding,) * 2,) * 2, (1, 1), case.groups
    program = kernels.Program()
    with program:
        if case.form == "forward":
            kernels.conv_forward(x, weight, None, geometry)
        elif case.form == "input":
            kernels.conv_backward_input(x.shape, dy, weight, geometry)
        else:
            kernels.conv_backward_weight(x, dy, np.empty_like(weight), geometry)
    return program.replay


def kernel(case: Kernel) -> Callable[[], Any]:
    x, dy = case.data()
    if case.family == "activation forward":
        return activation_forward(case.kind, x)
    if case.family == "activation backward":
        return activation_backward(case.kind, x, dy)
    if case.family == "sum":
        return lambda: kernels.add(x, dy)
    if case.family == "dropout":
        return dropout(case.kind, x, dy)
    if case.family == "batch norm":
        return batch_norm(case.kind, x, dy)
    if case.family == "layer norm":
        return layer_norm(case.kind, x, dy)
    if case.family == "loss":
        return loss(case.kind, x)
    return optimizer(case)


def activation_forward(kind: str, x: np.ndarray) -> Callable[[], Any]:
    code = kernels.ACTIVATIONS[kind]
    return lambda: kernels.activation_forward(x, code, 1.0)


def activation_backward(kind: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    code = kernels.ACTIVATIONS[kind]
    saved = x if kind in kernels.SAVES_INPUT else kernels.activation_forward(x, code, 1.0)
    return lambda: kernels.activation_backward(saved, dy, code, 1.0)


def dropout(way: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    counter, rate = np.zeros(1, np.uint64), np.array([0.2])
    if way == "forward":
        return lambda: kernels.dropout_forward(x, rate, 0, counter, 0)
    _, mask = kernels.dropout_forward(x, rate, 0, counter, 0)
    return lambda: kernels.dropout_backward(dy, mask, rate)


def batch_norm(way: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    gamma, running_var = np.ones((2, x.shape[1]), np.float32)
    beta, running_mean, dgamma, dbeta = np.zeros((4, x.shape[1]), np.float32)
    running = running_mean, running_var
    if way == "forward":
        return lambda: kernels.batchnorm_forward(x, gamma, beta, *running, 0.1, 1e-5)
    if way == "evaluate":
        return lambda: kernels.batchnorm_evaluate(x, gamma, beta, *running, 1e-5)
    _, mean, inv_std = kernels.batchnorm_forward(x, gamma, beta, *running, 0.1, 1e-5)
    if way == "backward":
        return lambda: kernels.batchnorm_backward(x, dy, gamma, mean, inv_std, dgamma, dbeta)

    def both() -> np.ndarray:
        _, mean, inv_std = kernels.batchnorm_forward(x, gamma, beta, *running, 0.1, 1e-5)
        return kernels.batchnorm_backward(x, dy, gamma, mean, inv_std, dgamma, dbeta)

    return both


def layer_norm(way: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    gamma = np.ones(x.shape[1], np.float32)
    beta, dgamma, dbeta = np.zeros((3, x.shape[1]), np.float32)
    if way == "forward":
        return lambda: kernels.layernorm_forward(x, gamma, beta, 1e-5)
    _, mean, inv_std = kernels.layernorm_forward(x, gamma, beta, 1e-5)
    return lambda: kernels.layernorm_backward(x, dy, gamma, mean, inv_std, dgamma, dbeta)


def loss(kind: str, x: np.ndarray) -> Callable[[], Any]:
    function, targets = LOSSES[kind](), np.zeros_like(x)
    if kind in ("softmax_cross_entropy", "hinge"):
        targets = np.arange(len(x)) % x.shape[1]
    return lambda: function(x, targets)


def optimizer(case: Kernel) -> Callable[[], Any]:
    model = fastnn.Sequential(fastnn.Dense(case.rows, case.features, bias=False), seed=0)
    model.flat_gradients[:] = case.data()[0].ravel()
    update = OPTIMIZERS[case.kind](1e-3)
    return lambda: update.step(model)
