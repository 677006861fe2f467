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
    reports `reported` times the loss alone: two numbers for squared errors of several outputs."""

    loss: Loss
    link: str  # the function from outputs to predictions, scikit-learn's out_activation_
    outputs: int
    scale: float = 1.0
    reported: float = 1.0


LINKS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda outputs: outputs,
    "logistic": Sigmoid().forward,
    "softmax": Softmax().forward,
    "exp": np.exp,
}
