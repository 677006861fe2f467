"""Activations, each with its derivative, and softmax."""

import math

import numpy as np

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def erfc(x):
    """The complementary error function of a long double (or shorter), to about float64's ULP:
    erfc of the nearest float64, corrected along the tangent."""
    near = np.asarray(x, np.float64)
    rest = x - near
    value = np.vectorize(math.erfc, otypes=[np.float64])(near)
    with np.errstate(over="ignore", invalid="ignore"):
        slope = -2 / np.sqrt(np.pi) * np.exp(-(near.astype(np.longdouble) ** 2))
        moved = value + np.where(np.isfinite(x), slope * rest, 0)
    return moved.astype(np.result_type(x))


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow and accurate in the left tail."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.where(x < 0, 0, x) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x):
    return erfc(-x / np.sqrt(np.asarray(2, np.result_type(x)))) / 2


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.asarray(np.pi, np.result_type(x)))


def tanh_derivative(x):
    """1 / cosh(x)^2, which equals 1 - tanh(x)^2 but has no cancellation."""
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def _where_negative(x, negative, positive):
    """negative(x) up to and at zero, so that a kink has the left slope; positive(x) above."""
    below = x <= 0
    return np.where(below, negative(np.where(below, x, 0)), positive(np.where(below, 0, x)))


# name -> (f(x, alpha), f'(x, alpha))
ACTIVATIONS = {
    "linear": (lambda x, a: x, lambda x, a: np.ones_like(x)),
    "relu": (
        lambda x, a: np.where(x < 0, 0, x),
        lambda x, a: np.where(x > 0, 1.0, 0.0),
    ),
    "leaky_relu": (
        lambda x, a: np.where(x < 0, a * x, x),
        lambda x, a: np.where(x > 0, 1.0, a),
    ),
    "sigmoid": (
        lambda x, a: sigmoid(x),
        lambda x, a: sigmoid(x) * sigmoid(-x),
    ),
    "tanh": (
        lambda x, a: np.tanh(x),
        lambda x, a: tanh_derivative(x),
    ),
    "elu": (
        lambda x, a: _where_negative(x, lambda n: a * np.expm1(n), lambda p: p),
        lambda x, a: _where_negative(x, lambda n: a * np.exp(n), np.ones_like),
    ),
    "selu": (
        lambda x, a: _where_negative(
            x, lambda n: SELU_SCALE * SELU_ALPHA * np.expm1(n), lambda p: SELU_SCALE * p
        ),
        lambda x, a: _where_negative(
            x, lambda n: SELU_SCALE * SELU_ALPHA * np.exp(n), lambda p: np.full_like(p, SELU_SCALE)
        ),
    ),
    "softplus": (
        lambda x, a: softplus(x),
        lambda x, a: sigmoid(x),
    ),
    "silu": (
        lambda x, a: x * sigmoid(x),
        lambda x, a: sigmoid(x) * (1 + x * sigmoid(-x)),
    ),
    "gelu": (
        lambda x, a: x * normal_cdf(x),
        lambda x, a: normal_cdf(x) + x * normal_density(x),
    ),
    "mish": (
        lambda x, a: x * np.tanh(softplus(x)),
        lambda x, a: np.tanh(softplus(x)) + x * tanh_derivative(softplus(x)) * sigmoid(x),
    ),
}


def activation_forward(x, name, alpha=0.0):
    return ACTIVATIONS[name][0](x, alpha)


def activation_backward(x, dy, name, alpha=0.0):
    return dy * ACTIVATIONS[name][1](x, alpha)


def parametric_forward(x, weight, name, alpha=0.0):
    """x + weight (f(x) - x); for the linear kind weight x."""
    if name == "linear":
        return weight * x
    return x + weight * (activation_forward(x, name, alpha) - x)


def parametric_backward(x, dy, weight, name, alpha=0.0):
    """dx and dweight, a sum over all axes but the last."""
    terms, dx = dy * x, dy * weight
    if name != "linear":
        terms = dy * (activation_forward(x, name, alpha) - x)
        dx = dy + weight * (activation_backward(x, dy, name, alpha) - dy)
    return dx, terms.reshape(-1, x.shape[-1]).sum(axis=0)


def softmax(x):
    """exp(x_j) / sum_k exp(x_k) over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(y, dy):
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))
