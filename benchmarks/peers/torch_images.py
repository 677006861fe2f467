"""Networks over images and sequences for the torch peers, in either layout.

PyTorch has no channels-last layout of sequences; there they are images of one line.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from images import Block, Conv, ConvNet, GlobalPool, MaxPool, Shape


class Residual(nn.Module):
    def __init__(self, block: Block, shape: Shape, flat: bool) -> None:
        super().__init__()
        first, second = block.path
        self.path = nn.Sequential(
            *convolution(first, shape, flat), *convolution(second, first.after(shape), flat)
        )
        self.shortcut = nn.Identity()
        if block.shortcut:
            self.shortcut = nn.Sequential(*convolution(block.shortcut, shape, flat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def convolution(layer: Conv, shape: Shape, flat: bool) -> list[nn.Module]:
    """flat: sequences are not made images of one line."""
    sizes: list[Any] = [layer.kernel, layer.stride, layer.padding]
    if len(shape) == 2 and not flat:
        sizes = [(1, layer.kernel), (1, layer.stride), (0, layer.padding)]
    kind, norm = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
    modules: list[nn.Module] = [kind(shape[-1], layer.features, *sizes, bias=not layer.norm)]
    modules += [norm(layer.features)] if layer.norm else []
    return [*modules, nn.ReLU()] if layer.relu else modules


def modules(layer: Any, shape: Shape, flat: bool) -> list[nn.Module]:
    if isinstance(layer, Conv):
        return convolution(layer, shape, flat)
    if isinstance(layer, Block):
        return [Residual(layer, shape, flat)]
    if isinstance(layer, MaxPool):
        line = (1, layer.size) if len(shape) == 2 else layer.size
        return [nn.MaxPool1d(layer.size) if flat else nn.MaxPool2d(line)]
    if isinstance(layer, GlobalPool):
        return [nn.AdaptiveAvgPool1d(1) if flat else nn.AdaptiveAvgPool2d(1)]
    dense = [nn.Flatten(), nn.Linear(prod(shape), layer.features)]
    return [*dense, nn.ReLU()] if layer.relu else dense


def build(network: ConvNet, layout: torch.memory_format) -> nn.Sequential:
    torch.manual_seed(0)
    flat = len(network.shape) == 2 and layout == torch.contiguous_format
    layers, shape = [], network.shape
    for layer in network.layers:
        layers += modules(layer, shape, flat)
        shape = layer.after(shape)
    return nn.Sequential(*layers).to(memory_format=layout)


def samples(network: ConvNet, layout: torch.memory_format) -> torch.Tensor:
    """(batch, channels, ...); channels-last needs no copy."""
    x = torch.from_numpy(network.data()[0])
    if x.ndim == 3 and layout == torch.channels_last:
        x = x[:, None]
    return x.movedim(-1, 1).contiguous(memory_format=layout)
