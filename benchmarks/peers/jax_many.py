"""Many networks by jax: whole trainings, mapped over the networks and compiled as one function."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from many import Many
from peers.jax_adam import adam


def many(case: Many) -> Callable[[], Any]:
    X, y = map(jnp.asarray, case.data())
    whole, activation = case.rows // case.batch, jax.nn.relu if case.regression else jnp.tanh

    def begin(key: Any) -> list:
        keys = jax.random.split(key, len(case.sizes) - 1)
        return [
            (jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m))
            for k, (n, m) in zip(keys, pairwise(case.sizes), strict=True)
        ]

    def loss(layers: list, x: Any, targets: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = activation(x @ weight + bias)
        outputs = x @ layers[-1][0] + layers[-1][1]
        if case.regression:
            return jnp.square(outputs - targets).mean()
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], axis=1)
        return -chosen.mean()

    def step(state: tuple, rows: Any) -> tuple:
        parameters, mean, square, t = state
        value, gradients = jax.value_and_grad(loss)(parameters, X[rows], y[rows])
        return (*adam(parameters, gradients, mean, square, t + 1), t + 1), value

    def epoch(state: tuple, order: Any) -> tuple:
        batches = order[: whole * case.batch].reshape(whole, case.batch)
        state, values = jax.lax.scan(step, state, batches)
        if case.rows % case.batch:
            state, _ = step(state, order[whole * case.batch :])
        return state, values.mean()

    def train(key: Any, orders: Any) -> tuple:
        parameters = begin(key)
        zeros = jax.tree_util.tree_map(jnp.zeros_like, parameters)
        state, losses = jax.lax.scan(epoch, (parameters, zeros, zeros, jnp.float32(0)), orders)
        return state[0], losses

    # a network alone is faster without the axis
    run = jax.jit(jax.vmap(train) if case.number > 1 else lambda k, o: train(k[0], o[0]))
    keys = jax.random.split(jax.random.key(0), case.number)
    return lambda: run(keys, jnp.asarray(case.orders()))
