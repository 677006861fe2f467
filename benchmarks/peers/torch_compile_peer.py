"""PyTorch, the network and its loss compiled by torch.compile (it needs a C++ compiler); images
channels-last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import ConvNet, Derivative, Network
from many import Many
from peers import torch_peer


def train(network: Network | ConvNet) -> Callable[[], Any]:
    torch.compiler.reset()
    return torch_peer.train(network, torch.compile, torch.channels_last)


def derivative(case: Derivative) -> Callable[[], Any]:
    torch.compiler.reset()
    return torch_peer.derivative(case, torch.compile)


def many(case: Many) -> Callable[[], Any]:
    torch.compiler.reset()
    return torch_peer.many(case, torch.compile)
