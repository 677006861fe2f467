"""Adam for jax, over trees of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def adam(
    parameters: Any, gradients: Any, mean: Any, square: Any, t: Any, learning_rate: float = 1e-3
) -> tuple[Any, Any, Any]:
    tree_map = jax.tree_util.tree_map
    mean = tree_map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
    square = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradients)
    rate, correction = learning_rate / (1 - 0.9**t), 1 / (1 - 0.999**t)
    parameters = tree_map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + 1e-8), parameters, mean, square
    )
    return parameters, mean, square
