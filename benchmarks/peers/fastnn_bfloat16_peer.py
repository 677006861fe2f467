"""fastnn with numbers of 16 bits: products of bfloat16 in training, weights in inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import Network
from peers import fastnn_peer


def train(network: Network) -> Callable[[], Any]:
    return fastnn_peer.train(network, compute="bfloat16")


def predict(network: Network) -> Callable[[], Any]:
    model, (x, _) = fastnn_peer.build(network), network.data()
    predictor = model.predictor(network.batch, "bfloat16")
    return lambda: predictor(x)
