"""PyTorch for inference: traced, frozen and optimized by TorchScript; images channels-last.

A convolutional network is also tried frozen only, and the faster one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import ConvNet, Network
from deployed import Rows
from peers.torch_peer import build, samples
from peers.trial import fastest


def predict(network: Network | ConvNet) -> Callable[[], Any]:
    x = samples(network, torch.channels_last)
    return fastest([lambda model=model: model(x) for model in compiled(network, x)])


def rows(case: Rows) -> Callable[[], Any]:
    each = list(torch.from_numpy(case.data())[:, None])
    (model,) = compiled(case.network, each[0])

    def step() -> torch.Tensor:
        for row in each:
            y = model(row)
        return y

    return step


def compiled(network: Network | ConvNet, x: torch.Tensor) -> list[Any]:
    with torch.no_grad():
        traced = torch.jit.trace(build(network, torch.channels_last).eval(), x)
    models = [torch.jit.optimize_for_inference(torch.jit.freeze(traced))]
    if isinstance(network, ConvNet):
        models.append(torch.jit.freeze(traced))
    torch.inference_mode().__enter__()  # for the rest of this process
    return models
