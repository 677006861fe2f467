"""fastnn against PyTorch, where that is installed."""

import copy
import warnings

import numpy as np
import pytest

import fastnn
import fastnn.torch
from fastnn import Dense, Sequential, _kernels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch warns at import
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F, optim = torch.nn.functional, torch.optim

torch.set_num_threads(1)  # its threads and fastnn's would compete
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
    "softmax": lambda x: torch.softmax(x, dim=1),
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


def labels(rng):
    return rng.integers(0, 7, 20)


def numbers(rng):
    return rng.standard_normal((20, 7))


def counts(rng):
    return rng.poisson(2, (20, 7)).astype(float)


WEIGHTS = (0.5, 3.0, 0.1, 1.0, 20.0, 2.0, 0.7)

# name -> (fastnn's, PyTorch's, targets)
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
    "pos_weight": (
        fastnn.SigmoidCrossEntropy(pos_weight=3),
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=torch.tensor(3.0)),
        lambda rng: rng.random((20, 7)),
    ),
    "pos_weight of each label": (
        fastnn.SigmoidCrossEntropy(pos_weight=WEIGHTS),
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=tensor(WEIGHTS)),
        lambda rng: rng.random((20, 7)),
    ),
    "ignored": (
        fastnn.SoftmaxCrossEntropy(ignore_index=2, label_smoothing=0.2),
        lambda o, t: F.cross_entropy(o, t, ignore_index=2, label_smoothing=0.2),
        labels,
    ),
    "class weights": (
        fastnn.SoftmaxCrossEntropy(class_weight=WEIGHTS),
        lambda o, t: F.cross_entropy(o, t, tensor(WEIGHTS)),
        labels,
    ),
    "class weights, smoothed": (
        fastnn.SoftmaxCrossEntropy(class_weight=WEIGHTS, label_smoothing=0.2, ignore_index=3),
        lambda o, t: F.cross_entropy(o, t, tensor(WEIGHTS), label_smoothing=0.2, ignore_index=3),
        labels,
    ),
    "class weights, soft targets": (
        fastnn.SoftmaxCrossEntropy(class_weight=WEIGHTS, label_smoothing=0.2),
        lambda o, t: F.cross_entropy(o, t, tensor(WEIGHTS), label_smoothing=0.2),
        lambda rng: rng.dirichlet(np.ones(7), 20),
    ),
    "squared": (fastnn.MeanSquaredError(), F.mse_loss, numbers),
    "absolute": (fastnn.MeanAbsoluteError(), F.l1_loss, numbers),
    "huber": (fastnn.Huber(0.7), lambda o, t: F.huber_loss(o, t, delta=0.7), numbers),
    "poisson": (fastnn.Poisson(), F.poisson_nll_loss, counts),
    "hinge": (  # PyTorch divides by the number of classes
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


def test_labels_of_sequences(rng):
    """PyTorch has the classes in the second place."""
    loss = fastnn.SoftmaxCrossEntropy(class_weight=WEIGHTS, label_smoothing=0.1, ignore_index=-100)
    outputs, t = rng.standard_normal((4, 9, 7)), rng.integers(0, 7, (4, 9))
    t[rng.random(t.shape) < 0.3] = -100
    o = tensor(outputs, grad=True)
    value = F.cross_entropy(o.moveaxis(2, 1), tensor(t), tensor(WEIGHTS), label_smoothing=0.1)
    value.backward()
    ours, gradient = loss(outputs, t)
    close(ours, value.item())
    close(gradient, o.grad)


def test_weighted_cross_entropy(rng):
    """With one row of each class, sample weights are PyTorch's class weights."""
    outputs, weight = rng.standard_normal((7, 7)), rng.random(7)
    o = tensor(outputs, grad=True)
    their_value = F.cross_entropy(o, torch.arange(7), weight=tensor(weight))
    their_value.backward()
    value, gradient = fastnn.SoftmaxCrossEntropy()(outputs, np.arange(7), weight)
    close(value, their_value.item())
    close(gradient, o.grad)


@pytest.mark.parametrize("rows", [2, 130])
def test_batch_norm(rows, isa, rng):
    """PyTorch's running variance is unbiased, fastnn's biased: the ratio is n / (n - 1)."""
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
    batch = model.state["0.running_var"] - 0.9**2  # what the two batches added
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


# ---- convolution and pooling: PyTorch's channels come first ----


def nchw(x):
    return np.moveaxis(x, -1, 1)


def nhwc(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def random_windows(rng):
    """Size, kernel, stride, dilation and padding, which in PyTorch is equal on both sides."""
    kernel, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    stride, padding = rng.integers(1, 4, 2), rng.integers(0, 4, 2)
    covered = (kernel - 1) * dilation + 1
    size = np.maximum(rng.integers(1, 12, 2), covered - 2 * padding)
    return [tuple(map(int, pair)) for pair in (size, kernel, stride, dilation, padding)]


@pytest.mark.parametrize("seed", range(40))
def test_convolution(seed, isa):
    rng = np.random.default_rng(seed)
    size, kernel, stride, dilation, padding = random_windows(rng)
    groups, *counts = (int(n) for n in rng.integers(1, 5, 3))
    channels, features = (groups * n if seed % 4 else groups for n in counts)  # or depthwise
    x = rng.standard_normal((int(rng.choice([1, 3, 17])), *size, channels))
    layer = fastnn.Conv2D(channels, features, kernel, stride, tuple(np.repeat(padding, 2).tolist()),
                          dilation, groups)  # fmt: skip
    model = Sequential(layer, seed=seed, dtype="float64")
    model.parameters["0.bias"][...] = rng.standard_normal(features)
    y = model.forward(x, training=True)
    dy = rng.standard_normal(y.shape)
    dx = model.backward(dy, input_gradient=True)
    weight = tensor(model.parameters["0.weight"].transpose(3, 2, 0, 1), grad=True)
    bias, t = tensor(model.parameters["0.bias"], grad=True), tensor(nchw(x), grad=True)
    theirs = F.conv2d(t, weight, bias, stride, padding, dilation, groups)
    theirs.backward(tensor(nchw(dy)))
    close(y, nhwc(theirs.detach().numpy()))
    close(dx, nhwc(t.grad.numpy()))
    close(model.gradients["0.weight"], weight.grad.numpy().transpose(2, 3, 1, 0))
    close(model.gradients["0.bias"], bias.grad)


def test_convolution_of_sequences(isa, rng):
    x, dy = rng.standard_normal((3, 20, 4)), rng.standard_normal((3, 7, 6))
    model = Sequential(
        fastnn.Conv1D(4, 6, 5, stride=3, padding=4, dilation=2, groups=2), dtype="float64"
    )
    weight = tensor(model.parameters["0.weight"].transpose(2, 1, 0), grad=True)
    t = tensor(nchw(x), grad=True)
    theirs = F.conv1d(t, weight, None, 3, 4, 2, 2)
    theirs.backward(tensor(nchw(dy)))
    close(model.forward(x, training=True), nhwc(theirs.detach().numpy()))
    close(model.backward(dy, input_gradient=True), nhwc(t.grad.numpy()))
    close(model.gradients["0.weight"], weight.grad.numpy().transpose(2, 1, 0))


# name -> (fastnn's, from kernel, stride and four paddings; PyTorch's)
POOLS = {
    "maximum": (fastnn.MaxPool2D, F.max_pool2d),
    "average": (fastnn.AvgPool2D, lambda *a: F.avg_pool2d(*a, count_include_pad=False)),
    "average, padding": (lambda *a: fastnn.AvgPool2D(*a, count_padding=True), F.avg_pool2d),
}


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("name", POOLS)
def test_pooling(name, seed, isa):
    """PyTorch allows padding up to half the kernel.  Of equal maxima both take the first."""
    ours, theirs = POOLS[name]
    rng = np.random.default_rng(seed)
    size, kernel, stride, _, padding = random_windows(rng)
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    size = tuple(max(n, k - 2 * p) for n, k, p in zip(size, kernel, padding, strict=True))
    x = rng.standard_normal((int(rng.choice([1, 3, 17])), *size, int(rng.integers(1, 20))))
    x = x if seed % 2 else np.round(x)
    model = Sequential(ours(kernel, stride, tuple(np.repeat(padding, 2).tolist())), dtype="float64")
    y = model.forward(x, training=True)
    dy = rng.standard_normal(y.shape)
    t = tensor(nchw(x), grad=True)
    their_y = theirs(t, kernel, stride, padding)
    their_y.backward(tensor(nchw(dy)))
    close(y, nhwc(their_y.detach().numpy()))
    close(model.backward(dy, input_gradient=True), nhwc(t.grad.numpy()))


def test_twenty_training_steps_of_a_convolutional_network(rng):
    model = Sequential(
        fastnn.Conv2D(2, 6, 3, padding="same", activation="relu"), fastnn.MaxPool2D(2),
        fastnn.Conv2D(6, 8, 3, bias=False), fastnn.BatchNorm(8), fastnn.Tanh(),
        fastnn.Residual(fastnn.Conv2D(8, 8, 3, padding=1)), fastnn.GlobalAvgPool2D(), Dense(8, 3),
        seed=1, dtype="float64",
    )  # fmt: skip
    nn = torch.nn
    theirs = nn.ModuleList([
        nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3),
    ]).double()  # fmt: skip
    state = fastnn.torch.state_dict(model, names=list("01234"))
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})

    def network(x):
        first, second, norm, inner, last = theirs
        x = torch.tanh(norm(second(F.max_pool2d(torch.relu(first(x)), 2))))
        return last((x + inner(x)).mean(dim=(2, 3)))

    step = fastnn.TrainStep(model, fastnn.SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    their_optimizer = optim.Adam(theirs.parameters(), 0.01)
    for rows in [8, 20] * 10:
        x, y = rng.standard_normal((rows, 10, 9, 2)), rng.integers(0, 3, rows)
        their_optimizer.zero_grad()
        their_value = F.cross_entropy(network(tensor(nchw(x))), tensor(y))
        their_value.backward()
        their_optimizer.step()
        np.testing.assert_allclose(step(x, y), their_value.item(), rtol=1e-7)
    np.testing.assert_allclose(
        model.parameters["2.weight"].transpose(3, 2, 0, 1), theirs[1].weight.detach().numpy(),
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip


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
    state = fastnn.torch.state_dict(model, names=["0", "2", "3"])
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    their_optimizer = theirs(network.parameters())
    for _ in range(20):
        x, y = rng.standard_normal((32, 8)), rng.integers(0, 3, 32)
        value, gradient = fastnn.SoftmaxCrossEntropy()(model.forward(x, training=True), y)
        model.backward(gradient)
        optimizer.step(model)
        their_optimizer.zero_grad()
        their_value = F.cross_entropy(network(tensor(x)), tensor(y))
        their_value.backward()
        if clip is not None:  # clip_grad_norm_ would add 1e-6 to the norm
            gradients = [parameter.grad for parameter in network.parameters()]
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            for gradient in gradients:
                gradient.mul_(min(1.0, clip / norm.item()))
        their_optimizer.step()
        np.testing.assert_allclose(value, their_value.item(), rtol=1e-8)
    np.testing.assert_allclose(
        model.parameters["0.weight"], network[0].weight.detach().numpy().T, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("sizes", [(5, 5, 5), (5, 4, 3)])
def test_states_are_refused_or_converted(sizes, rng):
    a, b, c = sizes
    theirs = torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.Tanh(), torch.nn.Linear(b, c))
    ours = Sequential(Dense(a, b, activation="tanh"), fastnn.Flatten(), Dense(b, c))
    state = theirs.state_dict()
    for wrong in (state, dict(theirs.named_parameters()),
                  {name: tensor.numpy() for name, tensor in state.items()}):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=r"PyTorch's weights are \(out, in\)"):
            ours.load_state_dict(wrong)
        fastnn.torch.load_state_dict(ours, wrong)
    x = rng.standard_normal((7, a)).astype(np.float32)
    for right in ({name: tensor.numpy().T for name, tensor in state.items()},
                  {name: tensor.t().numpy() for name, tensor in state.items()}):  # fmt: skip
        ours.load_state_dict(right)
        expected = theirs(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(ours.predict(x), expected, atol=1e-6)
