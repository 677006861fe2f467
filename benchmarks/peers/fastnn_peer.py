"""fastnn: the public names for networks, losses and optimizers, the kernels' faces below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from cases import Fit, Kernel, Network, Product
from fastnn import _kernels as kernels

ACTIVATION_LAYERS = {"relu": fastnn.ReLU, "tanh": fastnn.Tanh}
LOSSES = {
    "softmax_cross_entropy": fastnn.SoftmaxCrossEntropy,
    "sigmoid_cross_entropy": fastnn.SigmoidCrossEntropy,
    "hinge": fastnn.Hinge,
    "squared_error": fastnn.MeanSquaredError,
    "absolute_error": fastnn.MeanAbsoluteError,
    "huber": fastnn.Huber,
}
OPTIMIZERS = {
    "sgd": fastnn.SGD,
    "momentum": fastnn.Momentum,
    "nesterov": fastnn.Nesterov,
    "rmsprop": fastnn.RMSprop,
    "adam": fastnn.Adam,
    "adamw": fastnn.AdamW,
}


def build(network: Network) -> fastnn.Sequential:
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
    return fastnn.Sequential(*layers, fastnn.Dense(*network.sizes[-2:]), seed=0)


def train(network: Network) -> Callable[[], Any]:
    loss = fastnn.MeanSquaredError() if network.regression else fastnn.SoftmaxCrossEntropy()
    step = fastnn.TrainStep(build(network), loss, fastnn.Adam(network.learning_rate))
    x, y = network.data()
    return lambda: step(x, y)


def fit(case: Fit) -> Callable[[], Any]:
    model, (x, y) = build(case.network), case.data()
    loss, optimizer, batch = fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-3), case.network.batch
    settings = {"loss": loss, "optimizer": optimizer, "batch_size": batch, "metrics": []}
    model.fit(x[: 2 * batch], y[: 2 * batch], epochs=1, progress=False, **settings)
    return lambda: model.fit(x, y, epochs=case.epochs, progress=False, **settings)


def predict(network: Network) -> Callable[[], Any]:
    """Through a prepared predictor, where this version has one."""
    model, (x, _) = build(network), network.data()
    if not hasattr(model, "predictor"):
        return lambda: model.predict(x)
    predictor = model.predictor(batch_size=network.batch)
    return lambda: predictor(x)


def product(case: Product) -> Callable[[], Any]:
    a, b, c = case.data()
    if case.form == "forward":
        return lambda: kernels.dense_forward(a, b)
    if case.form == "input":
        return lambda: kernels.dense_backward_input(a, b)
    return lambda: kernels.dense_backward_weight(a, b, c)


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
    if kind == "softmax":
        return lambda: kernels.softmax_forward(x)
    code = kernels.ACTIVATIONS[kind]
    return lambda: kernels.activation_forward(x, code, 1.0)


def activation_backward(kind: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    if kind == "softmax":
        y = kernels.softmax_forward(x)
        return lambda: kernels.softmax_backward(y, dy)
    code = kernels.ACTIVATIONS[kind]
    saved = x if kind in kernels.SAVES_INPUT else kernels.activation_forward(x, code, 1.0)
    return lambda: kernels.activation_backward(saved, dy, code, 1.0)


def dropout(way: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    counter = np.zeros(1, np.uint64)
    if way == "forward":
        return lambda: kernels.dropout_forward(x, 0.2, 0, counter, 0)
    _, mask = kernels.dropout_forward(x, 0.2, 0, counter, 0)
    return lambda: kernels.dropout_backward(dy, mask, 0.2)


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
