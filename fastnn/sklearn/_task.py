"""Task: what an estimator's network learns, and in which unit scikit-learn reports its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.layers import Sigmoid, Softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastnn.losses import Loss


class Task(NamedTuple):
    """What the network learns.  scikit-learn minimises `scale` times fastnn's loss and penalty, and
    reports `share` times the loss alone, which for squared errors of several outputs differ."""

    loss: Loss
    link: str  # from the network's outputs to predictions, out_activation_
    outputs: int
    scale: float = 1.0
    share: float = 1.0


LINKS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda outputs: outputs,
    "logistic": Sigmoid().forward,
    "softmax": Softmax().forward,
    "exp": np.exp,
}
