"""scikit-learn: ``MLPClassifier.partial_fit``, one batch a call, in float32 and without its L2.

With two classes it has one output unit in place of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from cases import Network, Unsupported


def train(network: Network) -> Callable[[], Any]:
    if network.batch_norm or network.dropout:
        raise Unsupported("scikit-learn has no batch norm and no dropout")
    x, y = network.data()
    model = MLPClassifier(
        network.sizes[1:-1],
        activation=network.activation,
        alpha=0.0,
        batch_size=network.batch,
        random_state=0,
    )
    model.partial_fit(x, y, classes=np.arange(network.sizes[-1]))
    return lambda: model.partial_fit(x, y)
