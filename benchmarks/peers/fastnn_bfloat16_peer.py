"""fastnn for inference with weights of 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import Network
from peers.fastnn_peer import build


def predict(network: Network) -> Callable[[], Any]:
    predictor, (x, _) = build(network).predictor(network.batch, "bfloat16"), network.data()
    return lambda: predictor(x)
