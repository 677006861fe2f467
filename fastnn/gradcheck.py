"""A check of gradients: they are compared with central differences, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import checks
from fastnn.support.arrays import real_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network


def gradcheck(
    model: Network,
    loss: Loss,
    x: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    epsilon: float = 1e-5,
) -> float:
    """The distance ‖g_num - g‖ / (‖g_num‖ + ‖g‖) between backward and central differences.

    g is the gradient of the training loss, penalties included, by all parameters that are
    trained and by `x` (unless it holds codes, see `Embedding`) together;
    g_num_i = (f(p_i + epsilon) - f(p_i - epsilon)) / (2 epsilon), with the same dropout mask.
    The distance is below 1e-7 for a right gradient, or 1e-6 and more where a kink (ReLU at 0) lies
    within `epsilon`, and 1e-2 to 1 for a wrong one.  Every parameter and input takes two forward
    passes, so choose a small network and a small batch.

    A float64 copy is checked; the model does not change.  Shapes: as in `fit`.  Raises as
    `forward` and the loss do, and ValueError or TypeError unless epsilon > 0.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(3, 4), fastnn.Tanh(), fastnn.Dense(4, 2))
    >>> x, y = np.linspace(-1, 1, 15).reshape(5, 3), np.array([0, 1, 0, 1, 1])
    >>> gradcheck(model, fastnn.SoftmaxCrossEntropy(), x, y) < 1e-7
    True
    """
    epsilon = checks.positive(epsilon, "epsilon")
    state = copy.deepcopy(model.__getstate__())
    model = type(model)._restore(state | {"dtype": "float64", "compute": None})
    x = real_array(x, "x", model.dtype).copy()
    step, frozen = model._counter.copy(), model._frozen()
    by_inputs = np.ones(x.shape[-1:], bool)
    for _, columns in model._chain.codes:
        by_inputs[columns] = False  # codes have no gradient
    inputs = x[..., by_inputs].copy()  # C-contiguous, as `_differences` needs

    def value_and_gradient() -> tuple[float, NDArray[Any]]:
        model._counter[...] = step
        x[..., by_inputs] = inputs
        outputs = model.forward(x, training=True)
        value, gradient = loss(outputs, y, sample_weight)
        return value + model.penalty(len(x)), gradient

    gradient = value_and_gradient()[1]
    for array in model.gradients.values():
        array.fill(1e3)  # reveals a backward that adds to a gradient, or forgets to set it
    dx = model.backward(gradient, input_gradient=bool(by_inputs.any()))
    trained = [name for name in model.parameters if name not in frozen]
    arrays, gradients = (
        [named[n] for n in trained] for named in (model.parameters, model.gradients)
    )
    if dx is not None:
        arrays, gradients = [*arrays, inputs], [*gradients, dx[..., by_inputs]]
    exact = np.concatenate([array.ravel() for array in gradients])
    numeric = np.concatenate(
        [_differences(lambda: value_and_gradient()[0], array, epsilon) for array in arrays]
    )
    length = float(np.linalg.norm(numeric) + np.linalg.norm(exact))
    return float(np.linalg.norm(numeric - exact)) / length if length else 0.0


def _differences(f: Callable[[], float], array: NDArray[Any], epsilon: float) -> NDArray[Any]:
    """The central difference of f by each element of `array`, which is changed and restored."""
    flat = array.reshape(-1)
    result = np.empty(flat.size)
    for i in range(flat.size):
        before = flat[i]
        flat[i] = before + epsilon
        above, up = f(), flat[i]
        flat[i] = before - epsilon
        result[i] = (above - f()) / (up - flat[i])  # this is 2 epsilon, rounded
        flat[i] = before
    return result
