"""PyTorch, eager: fused Adam and gradients set to None; kernels as ATen runs them, no autograd."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cases import ConvNet, Convolution, Derivative, Fit, Kernel, Network, Product
from peers import torch_images
from peers.torch_agents import sac  # noqa: F401
from peers.torch_many import many  # noqa: F401

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
aten = torch.ops.aten
CONTIGUOUS = torch.contiguous_format


def build(network: Network | ConvNet, layout: torch.memory_format = CONTIGUOUS) -> nn.Sequential:
    if isinstance(network, ConvNet):
        return torch_images.build(network, layout)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n, m in zip(network.sizes[:-2], network.sizes[1:-1], strict=True):
        layers.append(nn.Linear(n, m))
        if network.batch_norm:
            layers.append(nn.BatchNorm1d(m))
        layers.append(nn.ReLU() if network.activation == "relu" else nn.Tanh())
        if network.dropout:
            layers.append(nn.Dropout(network.dropout))
    return nn.Sequential(*layers, nn.Linear(*network.sizes[-2:]))


def samples(network: Network | ConvNet, layout: torch.memory_format) -> torch.Tensor:
    if isinstance(network, ConvNet):
        return torch_images.samples(network, layout)
    return torch.from_numpy(network.data()[0])


def train(
    network: Network | ConvNet,
    compiled: Callable = lambda loss: loss,
    layout: torch.memory_format = CONTIGUOUS,
) -> Callable[[], Any]:
    model = build(network, layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=network.learning_rate, fused=True)
    x, y = samples(network, layout), torch.from_numpy(network.data()[1])
    criterion = functional.mse_loss if network.regression else functional.cross_entropy
    compute_loss = compiled(lambda x, y: criterion(model(x), y))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = compute_loss(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def derivative(case: Derivative, compiled: Callable = lambda f: f) -> Callable[[], Any]:
    model, x = build(case.network).eval(), torch.from_numpy(case.network.data()[0])
    model.requires_grad_(False)
    if case.kind == "jacobian":
        run = compiled(torch.func.vmap(torch.func.jacrev(model)))
    else:
        run = compiled(torch.func.grad(lambda x: model(x)[:, 0].sum()))
    return lambda: run(x)


def fit(case: Fit) -> Callable[[], Any]:
    """Batches are slices of the tensors, PyTorch's fastest way for data in memory."""
    model, batch = build(case.network), case.network.batch
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x, y = (torch.from_numpy(array) for array in case.data())

    def epoch(samples: int) -> None:
        for rows in torch.randperm(samples).split(batch):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    epoch(2 * batch)
    return lambda: [epoch(case.samples) for _ in range(case.epochs)]


def predict(
    network: Network | ConvNet, layout: torch.memory_format = CONTIGUOUS
) -> Callable[[], Any]:
    model, x = build(network, layout).eval(), samples(network, layout)
    torch.inference_mode().__enter__()  # for the rest of this process
    return lambda: model(x)


def product(case: Product) -> Callable[[], Any]:
    a, b, c = (torch.from_numpy(array) for array in case.data())
    a, b = a.T if case.form == "weight" else a, b.T if case.form == "input" else b
    return lambda: torch.mm(a, b, out=c)


def convolution(case: Convolution, layout: torch.memory_format = CONTIGUOUS) -> Callable[[], Any]:
    x, weight, dy = (torch.from_numpy(array) for array in case.data())
    x, dy = (array.permute(0, 3, 1, 2).contiguous(memory_format=layout) for array in (x, dy))
    weight = weight.permute(3, 2, 0, 1).contiguous(memory_format=layout)
    windows = [case.stride] * 2, [case.padding] * 2, [1, 1], False, [0, 0], case.groups
    torch.inference_mode().__enter__()
    if case.form == "forward":
        return lambda: aten.convolution(x, weight, None, *windows)
    wanted = [case.form == "input", case.form == "weight", False]
    return lambda: aten.convolution_backward(dy, x, weight, None, *windows, wanted)


def kernel(case: Kernel) -> Callable[[], Any]:
    x, dy = (torch.from_numpy(array) for array in case.data())
    if case.family == "optimizer":
        return optimizer(case.kind, x, dy)
    if case.family == "loss":
        return loss(case.kind, x)
    torch.inference_mode().__enter__()
    if case.family == "sum":
        return lambda: aten.add(x, dy)
    if case.family.startswith("activation"):
        way = case.family.split()[1]
        return activations(x, dy)[case.kind][way == "backward"]
    return {"dropout": dropout, "batch norm": batch_norm, "layer norm": layer_norm}[case.family](
        case.kind, x, dy
    )


def activations(x: torch.Tensor, dy: torch.Tensor) -> dict[str, tuple[Callable, Callable]]:
    """kind -> (forward, backward), the backward from what autograd would have saved."""
    relu, sigmoid, tanh, softmax = x.relu(), x.sigmoid(), x.tanh(), x.softmax(1)
    selu = (1.6732632423543772, 1.0507009873554805, 1)
    return {
        "relu": (lambda: aten.relu(x), lambda: aten.threshold_backward(dy, relu, 0)),
        "leaky_relu": (
            lambda: aten.leaky_relu(x, 0.01),
            lambda: aten.leaky_relu_backward(dy, x, 0.01, False),
        ),
        "sigmoid": (lambda: aten.sigmoid(x), lambda: aten.sigmoid_backward(dy, sigmoid)),
        "tanh": (lambda: aten.tanh(x), lambda: aten.tanh_backward(dy, tanh)),
        "elu": (lambda: aten.elu(x), lambda: aten.elu_backward(dy, 1, 1, 1, False, x)),
        "selu": (lambda: aten.selu(x), lambda: aten.elu_backward(dy, *selu, False, x)),
        "softplus": (
            lambda: aten.softplus(x),
            lambda: aten.softplus_backward(dy, x, 1, 20),
        ),
        "silu": (lambda: aten.silu(x), lambda: aten.silu_backward(dy, x)),
        "gelu": (lambda: aten.gelu(x), lambda: aten.gelu_backward(dy, x)),
        "mish": (lambda: aten.mish(x), lambda: aten.mish_backward(dy, x)),
        "softmax": (
            lambda: aten._softmax(x, 1, False),
            lambda: aten._softmax_backward_data(dy, softmax, 1, x.dtype),
        ),
    }


def dropout(way: str, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    if way == "forward":
        return lambda: aten.native_dropout(x, 0.2, True)
    _, mask = aten.native_dropout(x, 0.2, True)
    return lambda: aten.native_dropout_backward(dy, mask, 1.25)


def batch_norm(way: str, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    gamma, running_var = torch.ones(2, x.shape[1])
    beta, running_mean = torch.zeros(2, x.shape[1])
    arguments = gamma, beta, running_mean, running_var
    if way in ("forward", "evaluate"):
        return lambda: aten.native_batch_norm(x, *arguments, way == "forward", 0.1, 1e-5)
    _, mean, inv_std = aten.native_batch_norm(x, *arguments, True, 0.1, 1e-5)
    saved = gamma, running_mean, running_var, mean, inv_std

    def both() -> Any:
        y, *statistics = aten.native_batch_norm(x, *arguments, True, 0.1, 1e-5)
        now = gamma, running_mean, running_var, *statistics
        return y, aten.native_batch_norm_backward(dy, x, *now, True, 1e-5, [True] * 3)

    if way == "forward and backward":
        return both
    return lambda: aten.native_batch_norm_backward(dy, x, *saved, True, 1e-5, [True] * 3)


def layer_norm(way: str, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    shape, gamma, beta = x.shape[1:], torch.ones(x.shape[1]), torch.zeros(x.shape[1])
    if way == "forward":
        return lambda: aten.native_layer_norm(x, shape, gamma, beta, 1e-5)
    _, mean, inv_std = aten.native_layer_norm(x, shape, gamma, beta, 1e-5)
    saved = shape, mean, inv_std, gamma, beta
    return lambda: aten.native_layer_norm_backward(dy, x, *saved, [True] * 3)


def loss(kind: str, x: torch.Tensor) -> Callable[[], Any]:
    """Value and gradient, through autograd."""

    def quantile(o: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # torch has none
        d = t - o
        return torch.maximum(0.5 * d, -0.5 * d).mean()

    function = {
        "softmax_cross_entropy": functional.cross_entropy,
        "sigmoid_cross_entropy": functional.binary_cross_entropy_with_logits,
        "hinge": functional.multi_margin_loss,
        "squared_error": functional.mse_loss,
        "absolute_error": functional.l1_loss,
        "quantile": quantile,
        "huber": functional.huber_loss,
        "poisson": functional.poisson_nll_loss,
    }[kind]
    targets = torch.zeros_like(x)
    if kind in ("softmax_cross_entropy", "hinge"):
        targets = torch.arange(len(x)) % x.shape[1]
    x.requires_grad_()

    def step() -> torch.Tensor:
        x.grad = None
        value = function(x, targets)
        value.backward()
        return value

    return step


def optimizer(kind: str, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    parameters = nn.Parameter(x.ravel())
    parameters.grad = dy.ravel()
    optimizers = {
        "sgd": lambda p: torch.optim.SGD(p, 1e-3, fused=True),
        "momentum": lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, fused=True),
        "nesterov": lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, nesterov=True, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, foreach=True),
        "adam": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
        "adamw": lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
    }
    return optimizers[kind]([parameters]).step
