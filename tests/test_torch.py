"""PyTorch as a second opinion, where it is installed; nothing here is a requirement."""

import copy
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential, _kernels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, at import
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

RTOL = 1e-10


def tensor(array, grad=False):
    return torch.tensor(np.array(array), requires_grad=grad)


def close(ours, theirs):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours, theirs, rtol=RTOL, atol=1e-12)


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "elu": lambda x: F.elu(x, 0.3),
    "selu": F.selu,
    "softplus": lambda x: F.softplus(x, threshold=1e9),
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
}


@pytest.mark.parametrize("name", _kernels.ACTIVATIONS)
def test_activations(name, isa, rng):
    x, dy = 3 * rng.standard_normal((2, 20, 33))
    kind, alpha = _kernels.ACTIVATIONS[name], 0.3
    y = _kernels.activation_forward(x, kind, alpha)
    saved = x if name in _kernels.SAVES_INPUT else y
    t = tensor(x, grad=True)
    theirs = ACTIVATIONS[name](t)
    theirs.backward(tensor(dy))
    close(y, theirs)
    close(_kernels.activation_backward(saved, dy, kind, alpha), t.grad)


def test_softmax(isa, rng):
    x, dy = 3 * rng.standard_normal((2, 20, 33))
    t = tensor(x, grad=True)
    theirs = torch.softmax(t, dim=1)
    theirs.backward(tensor(dy))
    y = _kernels.softmax_forward(x)
    close(y, theirs)
    close(_kernels.softmax_backward(y, dy), t.grad)


def labels(rng):
    return rng.integers(0, 7, 20)


def numbers(rng):
    return rng.standard_normal((20, 7))


# name -> (ours, theirs, targets)
LOSSES = {
    "cross entropy": (fastnn.SoftmaxCrossEntropy(), F.cross_entropy, labels),
    "smoothed": (
        fastnn.SoftmaxCrossEntropy(label_smoothing=0.2),
        lambda o, t: F.cross_entropy(o, t, label_smoothing=0.2),
        labels,
    ),
    "soft targets": (
        fastnn.SoftmaxCrossEntropy(), F.cross_entropy, lambda rng: rng.dirichlet(np.ones(7), 20),
    ),
    "sigmoid": (
        fastnn.SigmoidCrossEntropy(), F.binary_cross_entropy_with_logits,
        lambda rng: rng.random((20, 7)),
    ),
    "squared": (fastnn.MeanSquaredError(), F.mse_loss, numbers),
    "absolute": (fastnn.MeanAbsoluteError(), F.l1_loss, numbers),
    "huber": (fastnn.Huber(0.7), lambda o, t: F.huber_loss(o, t, delta=0.7), numbers),
    "hinge": (  # theirs divides by the number of classes
        fastnn.Hinge(0.8), lambda o, t: 7 * F.multi_margin_loss(o, t, margin=0.8), labels,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, isa, rng):
    ours, theirs, targets = LOSSES[name]
    outputs, t = 2 * rng.standard_normal((20, 7)), targets(rng)
    o = tensor(outputs, grad=True)
    their_value = theirs(o, tensor(t))
    their_value.backward()
    value, gradient = ours(outputs, t)
    close(value, their_value.item())
    close(gradient, o.grad)


def test_weighted_cross_entropy(rng):
    """Sample weights are their class weights, where each row's class is its own."""
    outputs, weight = rng.standard_normal((7, 7)), rng.random(7)
    o = tensor(outputs, grad=True)
    their_value = F.cross_entropy(o, torch.arange(7), weight=tensor(weight))
    their_value.backward()
    value, gradient = fastnn.SoftmaxCrossEntropy()(outputs, np.arange(7), weight)
    close(value, their_value.item())
    close(gradient, o.grad)


@pytest.mark.parametrize("rows", [2, 130])
def test_batch_norm(rows, isa, rng):
    """Their running variance is the unbiased one, ours the biased: n / (n - 1) apart."""
    x, dy = rng.standard_normal((2, rows, 9)) * 3 + 1
    model = Sequential(fastnn.BatchNorm(9), dtype="float64")
    theirs = torch.nn.BatchNorm1d(9, dtype=torch.float64)
    for _ in range(2):
        t = tensor(x, grad=True)
        y = theirs(t)
        theirs.zero_grad()
        y.backward(tensor(dy))
        close(model.forward(x, training=True), y)
        dx = model.backward(dy, input_gradient=True)
    np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-8, atol=1e-9)
    close(model.gradients["0.gamma"], theirs.weight.grad)
    close(model.gradients["0.beta"], theirs.bias.grad)
    close(model.state["0.running_mean"], theirs.running_mean)
    batch = model.state["0.running_var"] - 0.9**2  # what two equal batches added to it
    close(0.9**2 + batch * rows / (rows - 1), theirs.running_var)


def test_layer_norm(isa, rng):
    x, dy = rng.standard_normal((2, 30, 9)) * 3 + 1
    model, theirs = Sequential(fastnn.LayerNorm(9), dtype="float64"), torch.nn.LayerNorm(9).double()
    t = tensor(x, grad=True)
    y = theirs(t)
    y.backward(tensor(dy))
    close(model.forward(x, training=True), y)
    close(model.backward(dy, input_gradient=True), t.grad)
    close(model.gradients["0.gamma"], theirs.weight.grad)
    close(model.gradients["0.beta"], theirs.bias.grad)


def test_bits_do_not_depend_on_its_flushing_of_denormals(threads):
    """Another library may have set the calling thread to flush denormals to zero."""
    tiny = np.full((300, 300), 1e-30, np.float32)
    weight = np.full((300, 300), 1e-11, np.float32)
    expected = _kernels.dense_forward(tiny, weight)
    assert 0 < expected.max() < np.finfo(np.float32).tiny
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush denormals")
    try:
        got = _kernels.dense_forward(tiny, weight)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(got, expected)


optim = torch.optim
OPTIMIZERS = {
    "sgd": (fastnn.SGD(0.1), lambda p: optim.SGD(p, 0.1)),
    "momentum": (fastnn.Momentum(0.1, beta=0.8), lambda p: optim.SGD(p, 0.1, momentum=0.8)),
    "nesterov": (
        fastnn.Nesterov(0.1, beta=0.8), lambda p: optim.SGD(p, 0.1, momentum=0.8, nesterov=True),
    ),
    "rmsprop": (fastnn.RMSprop(0.01, beta=0.9), lambda p: optim.RMSprop(p, 0.01, alpha=0.9)),
    "adam": (fastnn.Adam(0.01), lambda p: optim.Adam(p, 0.01)),
    "adamw": (
        fastnn.AdamW(0.01, weight_decay=0.1), lambda p: optim.AdamW(p, 0.01, weight_decay=0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_training_steps(name, clip, rng):
    ours, theirs = OPTIMIZERS[name]
    optimizer = copy.deepcopy(ours)
    optimizer.clip_norm = clip
    model = Sequential(
        Dense(8, 16, activation="tanh"), fastnn.LayerNorm(16), Dense(16, 3), seed=1, dtype="float64"
    )
    network = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3)
    ).double()
    with torch.no_grad():
        for i, j in ((0, 0), (2, 3)):
            network[j].weight.copy_(tensor(model.parameters[f"{i}.weight"].T))
            network[j].bias.zero_()
    their_optimizer = theirs(network.parameters())
    for _ in range(20):
        x, y = rng.standard_normal((32, 8)), rng.integers(0, 3, 32)
        value, gradient = fastnn.SoftmaxCrossEntropy()(model.forward(x, training=True), y)
        model.backward(gradient)
        optimizer.step(model)
        their_optimizer.zero_grad()
        their_value = F.cross_entropy(network(tensor(x)), tensor(y))
        their_value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        their_optimizer.step()
        np.testing.assert_allclose(value, their_value.item(), rtol=1e-8)
    np.testing.assert_allclose(
        model.parameters["0.weight"], network[0].weight.detach().numpy().T, rtol=1e-6, atol=1e-8
    )
