"""Sums of many terms: the error does not grow with their number.

The terms are mostly equal, for which rounding is worst: each addition to a chain errs to the same
side.  In one chain, a million times 0.7 in float32 is off by 1 %.
"""

import numpy as np
import pytest

from fastnn import _kernels

N = 1_000_000
LABELS = np.array([3])
SIDE = 1000  # windows that overlap; images
EPS = 1e-5
NO_PADDING = ((0, 0), (0, 0))


def some(shape, dtype, value=0.7):
    return np.full(shape, value, dtype)


def two_values(dtype):
    """0, then 0.7 and 1.4 in turn: their mean and variance are not those of the first."""
    x = np.resize(np.array([0.7, 1.4], dtype), N)
    x[0] = 0
    return x


def average(*shape):
    def run(dtype):
        geometry = (shape, (1, 1), NO_PADDING)
        return _kernels.pool_forward(some((1, *shape, 2), dtype), geometry, True), dtype(0.7)

    return run


def overlapping(average):
    def run(dtype):
        x, geometry = some((1, 1, 3 * SIDE, 1), dtype, 0), ((1, SIDE), (1, 1), NO_PADDING)
        x[0, 0, 3 * SIDE // 2] = 1  # the maximum of all windows that have it
        y = _kernels.pool_forward(x, geometry, average)
        dy = some(y.shape, dtype)
        dx = _kernels.pool_backward(x, y, dy, geometry, average)
        each = dy[0, 0, 0, 0] / dtype(SIDE) if average else dy[0, 0, 0, 0]
        return dx[0, 0, 3 * SIDE // 2], SIDE * float(each)

    return run


def bias_gradient(dtype):
    got = np.empty(3, dtype)
    _kernels.dense_backward_bias(some((N, 3), dtype), got)
    return got, N * np.longdouble(dtype(0.7))


def loss(name, expected, output=0.7, rows=1, **settings):
    def run(dtype):
        outputs = some((rows, N // rows), dtype, output)
        targets = LABELS if name == "hinge" else np.zeros_like(outputs)
        face = getattr(_kernels, name)
        return face(outputs, targets, None, **settings)[0], expected(np.longdouble(dtype(output)))

    return run


def cross_entropy(dtype):
    """Σ t log Σ e^(z - max z) - Σ t (z - max z)."""
    outputs, targets = some((1, N), dtype, -7.3), some((1, N), dtype)
    outputs[0, 0] = 0
    got = _kernels.softmax_cross_entropy(outputs, targets, None)[0]
    z, t = np.longdouble(outputs[0, 1]), np.longdouble(targets[0, 0])
    return got, N * t * np.log(1 + (N - 1) * np.exp(z)) - (N - 1) * t * z


def softmax(dtype):
    x = two_values(dtype).reshape(1, N)
    y = _kernels.activation_forward(x, _kernels.ACTIVATIONS["softmax"])
    e = np.exp(x.astype(np.longdouble))
    return y, e / e.sum()


def softmax_gradient(dtype):
    y, dy = some((1, N), dtype), some((1, N), dtype)
    dy[0, 0] = 0
    dx = _kernels.activation_backward(y, dy, _kernels.ACTIVATIONS["softmax"])
    return dx[0, 0], -((N - 1) * np.longdouble(dtype(0.7)) ** 3)


def statistics(rows):
    """Mean and variance of batch norm (rows) or layer norm."""

    def run(dtype):
        x = two_values(dtype)
        one, zero = np.ones(1 if rows else N, dtype), np.zeros(1 if rows else N, dtype)
        if rows:
            x = x.reshape(N, 1)
            _, mean, inv_std = _kernels.batchnorm_forward(x, one, zero, zero + 0, one + 0, 0.1, EPS)
        else:
            _, mean, inv_std = _kernels.layernorm_forward(x.reshape(1, N), one, zero, EPS)
        exact = x.astype(np.longdouble)
        return np.array([mean, inv_std]).ravel(), np.array(
            [exact.mean(), (exact.var() + EPS) ** -0.5]
        )

    return run


def norm_gradient(dtype):
    """dbeta = Σ dy and dgamma = Σ dy x̂ over the rows."""
    x, one, zero = some((N, 1), dtype), np.ones(1, dtype), np.zeros(1, dtype)
    dgamma, dbeta = np.empty(1, dtype), np.empty(1, dtype)
    _kernels.batchnorm_backward(x, x, one, zero, one, dgamma, dbeta)
    value = np.longdouble(dtype(0.7))
    return np.array([dbeta, dgamma]).ravel(), np.array([N * value, N * value**2])


def layernorm_gradient(dtype):
    """dx = g - avg(g) - x̂ avg(g x̂), which is -0.7³."""
    x, one, zero = some((1, N), dtype), np.ones(1, dtype), np.zeros(1, dtype)
    gamma = np.ones(N, dtype)
    dx = _kernels.layernorm_backward(x, x, gamma, zero, one, gamma + 0, gamma + 0)
    return dx, -(np.longdouble(dtype(0.7)) ** 3)


def embedding(dtype):
    codes = (np.arange(N) % 3 == 0).astype(dtype)
    got = np.empty((2, 3), dtype)
    _kernels.embedding_backward(codes, some((N, 3), dtype), got)
    often = int(codes.sum())
    return got[:, 0], np.array([N - often, often]) * np.longdouble(dtype(0.7))


def depthwise(*shape, stride=1):
    def run(dtype):
        kernel = (1 if shape[1] == 1 else 3, 3)
        geometry = ((1, stride), NO_PADDING, (1, 1), shape[3])
        x, dweight = some(shape, dtype), np.empty((*kernel, 1, shape[3]), dtype)
        dz = some(_kernels.conv_forward(x, dweight * 0, None, geometry).shape, dtype)
        _kernels.conv_backward_weight(x, dz, dweight, geometry)
        return dweight, dz.size / shape[3] * np.longdouble(dtype(0.7)) ** 2

    return run


# What is summed, and the largest error: in units of float32's or float64's relative precision.
SUMS = {
    "average over a sequence": (average(1, N), 16),
    "average over an image": (average(SIDE, SIDE), 16),
    "average down a column": (average(N, 1), 16),
    "gradients of overlapping averages": (overlapping(True), 8),
    "gradients of overlapping maxima": (overlapping(False), 8),
    "bias gradient": (bias_gradient, 16),
    "squared error": (loss("squared_error", lambda o: o**2), 32),
    "absolute error": (loss("absolute_error", lambda o: o), 32),
    "quantile loss": (loss("quantile", lambda o: o / 2), 32),
    "Huber loss": (loss("huber", lambda o: o**2 / 2, delta=1.0), 32),
    "Poisson loss": (loss("poisson", np.exp, -0.3), 32),
    "sigmoid cross-entropy": (loss("sigmoid_cross_entropy", lambda o: np.log1p(np.exp(o))), 32),
    "hinge": (loss("hinge", lambda o: (N - 1) * o, margin=0.7), 32),
    "losses of many rows": (loss("squared_error", lambda o: o**2, rows=N), 32),
    "softmax cross-entropy": (cross_entropy, 32),
    "softmax": (softmax, 32),
    "softmax, gradient": (softmax_gradient, 32),
    "layer norm": (statistics(rows=False), 32),
    "layer norm, gradient": (layernorm_gradient, 64),
    "batch norm": (statistics(rows=True), 32),
    "norms, gradients of gamma and beta": (norm_gradient, 64),
    "embedding, gradient": (embedding, 64),
    "depthwise weights, large images": (depthwise(1, SIDE, SIDE // 2, 2), 64),
    "depthwise weights, long lines": (depthwise(1, 1, N, 2), 64),
    "depthwise weights, stride 3": (depthwise(1, 500, 1500, 2, stride=3), 64),
    "depthwise weights, many images": (depthwise(8000, 10, 10, 2), 64),
}


@pytest.mark.parametrize("name", SUMS)
def test_the_error_does_not_grow_with_the_number_of_terms(name, dtype, isa):
    run, bound = SUMS[name]
    got, expected = run(dtype.type)
    precision = np.finfo(dtype).eps / 2
    error = np.abs(np.asarray(got, np.longdouble) - expected) / np.abs(expected) / precision
    assert error.max() <= bound
