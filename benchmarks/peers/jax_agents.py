"""JAX's soft actor-critic: the whole update jitted, the drawing of the batch included."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from agents import DISCOUNT, RATE, TAU, AgentUpdate
from peers.jax_adam import adam


def network(sizes: list[int], key: Any) -> list:
    keys = jax.random.split(key, len(sizes))
    return [
        {"weight": jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, "bias": jnp.zeros(m)}
        for k, (n, m) in zip(keys, pairwise(sizes), strict=False)
    ]


def forward(layers: list, x: Any) -> Any:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
    return x @ layers[-1]["weight"] + layers[-1]["bias"]


def squashed(outputs: Any, key: Any) -> tuple[Any, Any]:
    """Actions in [-1, 1], and the logarithms of their densities; with log sqrt(2 pi) and log 2."""
    mean, log_std = jnp.split(outputs, 2, axis=1)
    log_std = jnp.clip(log_std, -20, 2)
    noise = jax.random.normal(key, mean.shape)
    u = mean + jnp.exp(log_std) * noise
    log_density = -0.5 * noise**2 - log_std - 0.9189385
    log_density -= 2 * (0.6931472 - u - jax.nn.softplus(-2 * u))
    return jnp.tanh(u), log_density.sum(1, keepdims=True)


def lesser(critics: list, seen: Any, action: Any) -> Any:
    x = jnp.concatenate([seen, action], axis=1)
    return jnp.minimum(*(forward(critic, x) for critic in critics))


def sac(case: AgentUpdate) -> Callable[[], Any]:
    memory = tuple(map(jnp.asarray, case.data()))

    def critic_loss(critics: list, x: Any, goal: Any) -> Any:
        return 0.5 * sum(jnp.square(forward(critic, x) - goal).mean() for critic in critics)

    def actor_loss(actor: list, critics: list, temperature: Any, seen: Any, key: Any) -> Any:
        action, log_density = squashed(forward(actor, seen), key)
        value = (temperature * log_density - lesser(critics, seen, action)).mean()
        return value, log_density.mean()

    def update(state: dict, memory: tuple) -> dict:
        t, keys = state["t"] + 1, jax.random.split(jax.random.fold_in(state["key"], state["t"]), 3)
        actor, critics, log_temperature = state["models"]
        rows = jax.random.randint(keys[0], (case.batch,), 0, len(memory[0]))
        seen, actions, rewards, following, ended = (array[rows] for array in memory)
        temperature = jnp.exp(log_temperature)
        action, log_density = squashed(forward(actor, following), keys[1])
        q = lesser(state["targets"], following, action) - temperature * log_density
        goal = rewards + DISCOUNT * (1 - ended) * q
        x = jnp.concatenate([seen, actions], axis=1)
        dcritics = jax.grad(critic_loss)(critics, x, goal)
        mean, square = state["mean"], state["square"]
        critics, mean[1], square[1] = adam(critics, dcritics, mean[1], square[1], t, RATE)
        dactor, entropy = jax.grad(actor_loss, has_aux=True)(
            actor, critics, temperature, seen, keys[2]
        )
        actor, mean[0], square[0] = adam(actor, dactor, mean[0], square[0], t, RATE)
        log_temperature, mean[2], square[2] = adam(
            log_temperature, case.actions - entropy, mean[2], square[2], t, RATE
        )
        targets = jax.tree_util.tree_map(
            lambda target, p: target + TAU * (p - target), state["targets"], critics
        )
        new = {"models": [actor, critics, log_temperature], "targets": targets, "t": t}
        return state | new | {"mean": mean, "square": square}

    keys = jax.random.split(jax.random.key(0), 3)
    critics = [network(case.critic, key) for key in keys[1:]]
    models = [network(case.actor, keys[0]), critics, jnp.zeros(())]
    zeros, also_zeros = (jax.tree_util.tree_map(jnp.zeros_like, models) for _ in range(2))
    state = {"models": models, "targets": jax.tree_util.tree_map(jnp.copy, critics)}
    state |= {"mean": zeros, "square": also_zeros, "key": jax.random.key(1), "t": jnp.int32(0)}
    compiled = jax.jit(update, donate_argnums=0)

    def step() -> dict:
        nonlocal state
        state = compiled(state, memory)
        return state

    return step
