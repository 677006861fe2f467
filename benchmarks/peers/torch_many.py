"""Many networks by torch.func: gradients mapped over stacked parameters, which fused Adam steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

from many import Many


def many(case: Many, compiled: Callable = lambda f: f) -> Callable[[], Any]:
    X, y = map(torch.from_numpy, case.data())
    activation = torch.relu if case.regression else torch.tanh
    criterion = functional.mse_loss if case.regression else functional.cross_entropy

    def loss(layers: list, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        for weight, bias in layers[:-1]:
            x = activation(x @ weight + bias)
        return criterion(x @ layers[-1][0] + layers[-1][1], targets)

    gradients = compiled(torch.func.vmap(torch.func.grad(loss)))

    def run() -> list:
        layers = [
            (torch.randn(case.number, n, m) * (2 / n) ** 0.5, torch.zeros(case.number, m))
            for n, m in pairwise(case.sizes)
        ]
        flat = [array for layer in layers for array in layer]
        optimizer = torch.optim.Adam(flat, lr=1e-3, fused=True)
        orders = torch.from_numpy(case.orders()).long()
        for epoch in range(case.epochs):
            for rows in orders[:, epoch].split(case.batch, dim=1):
                found = gradients(layers, X[rows], y[rows])
                for array, gradient in zip(flat, (g for pair in found for g in pair), strict=True):
                    array.grad = gradient
                optimizer.step()
        return layers

    return run
