"""NumPy by hand: what a careful programmer writes, in place wherever NumPy allows it.

It has dense layers and simple kernels; functions that NumPy lacks (erf) are not emulated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import Kernel, Network, Product, Unsupported


class Adam:
    """Adam, in several passes over one flat vector."""

    def __init__(self, size: int, learning_rate: float = 1e-3) -> None:
        self.mean, self.mean_square, self.scratch = np.zeros((3, size), np.float32)
        self.learning_rate, self.t = learning_rate, 0

    def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
        self.t += 1
        scratch = np.multiply(gradients, np.float32(0.1), out=self.scratch)
        self.mean *= np.float32(0.9)
        self.mean += scratch
        np.multiply(gradients, gradients, out=scratch)
        scratch *= np.float32(0.001)
        self.mean_square *= np.float32(0.999)
        self.mean_square += scratch
        np.sqrt(self.mean_square, out=scratch)
        scratch *= np.float32(1 / np.sqrt(1 - 0.999**self.t))
        scratch += np.float32(1e-8)
        np.divide(self.mean, scratch, out=scratch)
        scratch *= np.float32(self.learning_rate / (1 - 0.9**self.t))
        parameters -= scratch


def flat_views(shapes: list[tuple[int, ...]]) -> tuple[np.ndarray, list[np.ndarray]]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    flat = np.zeros(ends[-1], np.float32)
    return flat, [
        part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
    ]


def train(network: Network) -> Callable[[], Any]:
    if network.batch_norm or network.dropout:
        raise Unsupported("written by hand for dense layers only")
    x, y = network.data()
    start = [array for layer in network.weights() for array in layer]
    shapes = [array.shape for array in start]
    parameters, views = flat_views(shapes)
    gradients, gradient_views = flat_views(shapes)
    for view, array in zip(views, start, strict=True):
        view[:] = array
    layers = list(zip(views[::2], views[1::2], strict=True))
    dlayers = list(zip(gradient_views[::2], gradient_views[1::2], strict=True))
    adam, rows = Adam(parameters.size, network.learning_rate), np.arange(len(x))

    def cross_entropy(d: np.ndarray) -> float:
        """The loss of the outputs in d; as in `squared_error`, d then holds the gradient."""
        d -= d.max(axis=1, keepdims=True)
        np.exp(d, out=d)
        d /= d.sum(axis=1, keepdims=True)
        value = -np.log(d[rows, y]).mean()
        d[rows, y] -= 1
        d *= np.float32(1 / len(x))
        return value

    def squared_error(d: np.ndarray) -> float:
        d -= y
        value = np.vdot(d, d) / d.size
        d *= np.float32(2 / d.size)
        return value

    def step() -> float:
        outputs = [x]
        for weight, bias in layers[:-1]:
            outputs.append(activate(outputs[-1], weight, bias, network.activation))
        d = outputs[-1] @ layers[-1][0]
        d += layers[-1][1]
        value = squared_error(d) if network.regression else cross_entropy(d)
        for i in range(len(layers) - 1, -1, -1):
            np.matmul(outputs[i].T, d, out=dlayers[i][0])
            d.sum(axis=0, out=dlayers[i][1])
            if i:
                d = d @ layers[i][0].T
                d *= outputs[i] > 0 if network.activation == "relu" else 1 - outputs[i] ** 2
        adam.step(parameters, gradients)
        return float(value)

    return step


def activate(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str) -> np.ndarray:
    z = x @ weight
    z += bias
    return np.maximum(z, 0, out=z) if activation == "relu" else np.tanh(z, out=z)


def predict(network: Network) -> Callable[[], Any]:
    (x, _), layers = network.data(), network.weights()

    def step() -> np.ndarray:
        h = x
        for weight, bias in layers[:-1]:
            h = activate(h, weight, bias, network.activation)
        return h @ layers[-1][0] + layers[-1][1]

    return step


def product(case: Product) -> Callable[[], Any]:
    a, b, c = case.data()
    a, b = a.T if case.form == "weight" else a, b.T if case.form == "input" else b
    return lambda: np.matmul(a, b, out=c)


def kernel(case: Kernel) -> Callable[[], Any]:
    x, dy = case.data()
    functions = {
        "activation forward": activation_forward,
        "activation backward": activation_backward,
        "batch norm": batch_norm,
        "layer norm": layer_norm,
        "sum": add,
        "dropout": dropout,
        "loss": loss,
        "optimizer": optimizer,
    }
    step = functions[case.family](x, dy).get(case.kind)
    if step is None:
        raise Unsupported(f"not written by hand: {case.name}")
    return step


def add(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    out = np.empty_like(x)
    return {"of two": lambda: np.add(x, dy, out=out)}


def activation_forward(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    out = np.empty_like(x)

    def sigmoid() -> np.ndarray:
        np.exp(np.negative(x, out=out), out=out)
        np.add(out, 1, out=out)
        return np.divide(1, out, out=out)

    def softmax() -> np.ndarray:
        np.exp(np.subtract(x, x.max(axis=1, keepdims=True), out=out), out=out)
        return np.divide(out, out.sum(axis=1, keepdims=True), out=out)

    def elu() -> np.ndarray:
        np.expm1(np.minimum(x, 0, out=out), out=out)
        return np.maximum(x, out, out=out)

    return {
        "relu": lambda: np.maximum(x, 0, out=out),
        "elu": elu,
        "tanh": lambda: np.tanh(x, out=out),
        "sigmoid": sigmoid,
        "silu": lambda: np.multiply(x, sigmoid(), out=out),
        "softplus": lambda: np.logaddexp(x, 0, out=out),
        "softmax": softmax,
    }


def activation_backward(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    forward, out = activation_forward(x, dy), np.empty_like(x)
    relu, tanh, sigmoid, softmax = (
        forward[kind]().copy() for kind in ("relu", "tanh", "sigmoid", "softmax")
    )

    def dtanh() -> np.ndarray:
        np.subtract(1, np.multiply(tanh, tanh, out=out), out=out)
        return np.multiply(dy, out, out=out)

    def dsigmoid() -> np.ndarray:
        np.multiply(sigmoid, np.subtract(1, sigmoid, out=out), out=out)
        return np.multiply(dy, out, out=out)

    def delu() -> np.ndarray:
        np.exp(np.minimum(x, 0, out=out), out=out)
        return np.multiply(dy, out, out=out)

    def dsoftmax() -> np.ndarray:
        np.subtract(dy, np.multiply(dy, softmax, out=out).sum(axis=1, keepdims=True), out=out)
        return np.multiply(softmax, out, out=out)

    return {
        "relu": lambda: np.multiply(dy, relu > 0, out=out),
        "elu": delu,
        "tanh": dtanh,
        "sigmoid": dsigmoid,
        "softmax": dsoftmax,
    }


def normalize(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    centred = x - x.mean(axis=axis, keepdims=True)
    inv_std = 1 / np.sqrt((centred * centred).mean(axis=axis, keepdims=True) + np.float32(1e-5))
    centred *= inv_std
    return centred, inv_std


def normalize_backward(
    x_hat: np.ndarray, inv_std: np.ndarray, dy: np.ndarray, gamma: np.ndarray, axis: int
) -> np.ndarray:
    dx = dy * gamma
    correction = (dx * x_hat).mean(axis=axis, keepdims=True)
    dx -= dx.mean(axis=axis, keepdims=True)
    dx -= x_hat * correction
    dx *= inv_std
    return dx


def norm(x: np.ndarray, dy: np.ndarray, axis: int) -> dict[str, Callable[[], Any]]:
    gamma, beta = np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    x_hat, inv_std = normalize(x, axis)

    def backward() -> tuple[np.ndarray, ...]:
        dgamma, dbeta = (dy * x_hat).sum(axis=0), dy.sum(axis=0)
        return normalize_backward(x_hat, inv_std, dy, gamma, axis), dgamma, dbeta

    return {"forward": lambda: normalize(x, axis)[0] * gamma + beta, "backward": backward}


def batch_norm(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    gamma = np.ones(x.shape[1], np.float32)
    scale, shift = np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    out = np.empty_like(x)

    def both() -> tuple[np.ndarray, ...]:
        x_hat, inv_std = normalize(x, axis=0)
        y, dgamma, dbeta = x_hat * gamma + shift, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
        return y, normalize_backward(x_hat, inv_std, dy, gamma, axis=0), dgamma, dbeta

    return {
        **norm(x, dy, axis=0),
        "forward and backward": both,
        "evaluate": lambda: np.add(np.multiply(x, scale, out=out), shift, out=out),
    }


def layer_norm(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    return norm(x, dy, axis=1)


def dropout(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    random, out = np.random.default_rng(0), np.empty_like(x)

    def forward() -> np.ndarray:
        mask = random.random(x.shape, dtype=np.float32) >= 0.2
        np.multiply(x, mask, out=out)
        return np.multiply(out, np.float32(1.25), out=out)

    scaled_mask = (random.random(x.shape) >= 0.2).astype(np.float32) * np.float32(1.25)
    return {
        "forward": forward,
        "backward": lambda: np.multiply(dy, scaled_mask, out=out),
    }


def loss(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    targets, rows, labels = np.zeros_like(x), np.arange(len(x)), np.arange(len(x)) % x.shape[1]

    def softmax_cross_entropy() -> tuple[float, np.ndarray]:
        d = np.exp(x - x.max(axis=1, keepdims=True))
        d /= d.sum(axis=1, keepdims=True)
        value = -np.log(d[rows, labels]).mean()
        d[rows, labels] -= 1
        d *= np.float32(1 / len(x))
        return float(value), d

    def squared_error() -> tuple[float, np.ndarray]:
        d = x - targets
        value = float(np.vdot(d, d)) / d.size
        d *= np.float32(2 / d.size)
        return value, d

    def absolute_error() -> tuple[float, np.ndarray]:
        d = x - targets
        return float(np.abs(d).mean()), np.sign(d) * np.float32(1 / d.size)

    return {
        "softmax_cross_entropy": softmax_cross_entropy,
        "squared_error": squared_error,
        "absolute_error": absolute_error,
    }


def optimizer(x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], Any]]:
    parameters, gradients, velocity = x.ravel(), dy.ravel(), np.zeros(x.size, np.float32)
    adam, scratch = Adam(x.size), np.empty(x.size, np.float32)
    rate = np.float32(1e-3)

    def sgd(direction: np.ndarray = gradients) -> None:
        np.subtract(parameters, np.multiply(direction, rate, out=scratch), out=parameters)

    def momentum() -> None:
        np.multiply(velocity, np.float32(0.9), out=velocity)
        np.add(velocity, gradients, out=velocity)
        sgd(velocity)

    return {
        "sgd": sgd,
        "momentum": momentum,
        "adam": lambda: adam.step(parameters, gradients),
    }
