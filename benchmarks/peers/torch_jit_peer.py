"""PyTorch for inference: traced, frozen and optimized by TorchScript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import Network
from peers.torch_peer import build


def predict(network: Network) -> Callable[[], Any]:
    x = torch.from_numpy(network.data()[0])
    with torch.no_grad():
        traced = torch.jit.trace(build(network).eval(), x)
    model = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    torch.inference_mode().__enter__()  # for the rest of this process
    return lambda: model(x)
