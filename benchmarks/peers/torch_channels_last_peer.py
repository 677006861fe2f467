"""PyTorch, eager, images channels-last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import ConvNet, Convolution
from peers import torch_peer


def train(network: ConvNet) -> Callable[[], Any]:
    return torch_peer.train(network, layout=torch.channels_last)


def predict(network: ConvNet) -> Callable[[], Any]:
    return torch_peer.predict(network, torch.channels_last)


def convolution(case: Convolution) -> Callable[[], Any]:
    return torch_peer.convolution(case, torch.channels_last)
