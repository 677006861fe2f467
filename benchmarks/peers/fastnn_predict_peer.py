"""fastnn for inference as most programs write it: ``model.predict``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cases import Network
from peers.fastnn_peer import build


def predict(network: Network) -> Callable[[], Any]:
    model, (x, _) = build(network), network.data()
    return lambda: model.predict(x)
