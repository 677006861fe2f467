"""L-BFGS on a model's flat parameters: all rows at once, in float64, by SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.losses import Loss
    from fastnn.model import Sequential
    from fastnn.training.samples import Samples


def train(
    model: Sequential, loss: Loss, data: Samples, scale: float, **options: Any
) -> tuple[Any, float, float]:
    """Minimise `scale` times the loss and its penalty, `options` being SciPy's.

    Returns its result, the loss without penalty and the penalty.  The gaps between the arrays are 0
    in the vector and in its gradient, and so stay 0."""
    flat, gradients, rows = model.flat_parameters, model.flat_gradients, len(data.X)

    def objective(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat[...] = vector
        outputs = model.forward(data.X, training=True)
        value, gradient = loss(outputs, data.y, data.weight)
        model.backward(gradient)
        return scale * (value + model.penalty(rows)), scale * gradients

    result = minimize(objective, flat.copy(), method="L-BFGS-B", jac=True, options=options)
    flat[...] = result.x
    penalty = model.penalty(rows)
    return result, result.fun / scale - penalty, penalty
