"""PyTorch, the network and its loss compiled by torch.compile (it needs a C++ compiler)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import Network
from peers import torch_peer


def train(network: Network) -> Callable[[], Any]:
    torch.compiler.reset()
    return torch_peer.train(network, torch.compile)
