"""JAX: the whole step jitted, its state (parameters, Adam's moments, statistics) carried over.

It has the element-wise kernels only, each jitted, and waits for every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cases import ConvNet, Derivative, Kernel, Network, Unsupported
from peers import jax_images
from peers.jax_adam import adam
from peers.jax_agents import sac  # noqa: F401
from peers.jax_many import many  # noqa: F401

jax.config.update("jax_default_prng_impl", "rbg")  # faster dropout than threefry

finish = jax.block_until_ready


def normalize(h: Any, layer: dict, running: dict) -> tuple[Any, dict]:
    mean, variance = h.mean(0), h.var(0)
    running = {
        "mean": 0.9 * running["mean"] + 0.1 * mean,
        "variance": 0.9 * running["variance"] + 0.1 * variance,
    }
    h = (h - mean) * jax.lax.rsqrt(variance + 1e-5) * layer["gamma"] + layer["beta"]
    return h, running


def forward(network: Network, layers: list, running: list, key: Any, x: Any) -> tuple[Any, list]:
    h, statistics = x, []
    for i, layer in enumerate(layers[:-1]):
        h = h @ layer["weight"] + layer["bias"]
        if network.batch_norm:
            h, updated = normalize(h, layer, running[i])
            statistics.append(updated)
        h = jax.nn.relu(h) if network.activation == "relu" else jnp.tanh(h)
        if network.dropout:
            keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - network.dropout, h.shape)
            h = jnp.where(keep, h / (1 - network.dropout), 0)
    return h @ layers[-1]["weight"] + layers[-1]["bias"], statistics


def begin(network: Network) -> tuple[list, list]:
    """Parameters and running statistics."""
    layers = [{"weight": jnp.asarray(w), "bias": jnp.asarray(b)} for w, b in network.weights()]
    running = []
    if network.batch_norm:
        for layer in layers[:-1]:
            n = layer["bias"].size
            layer |= {"gamma": jnp.ones(n), "beta": jnp.zeros(n)}
            running.append({"mean": jnp.zeros(n), "variance": jnp.ones(n)})
    return layers, running


def train(network: Network | ConvNet) -> Callable[[], Any]:
    x, y = map(jnp.asarray, network.data())
    images = isinstance(network, ConvNet)
    layers, running = (jax_images.begin if images else begin)(network)
    run = jax_images.forward if images else forward

    def loss(layers: list, running: list, key: Any) -> tuple[Any, list]:
        logits, running = run(network, layers, running, key, x)
        if network.regression:
            return jnp.square(logits - y).mean(), running
        log_probabilities = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_probabilities, y[:, None], axis=1).mean(), running

    def update(state: tuple) -> tuple:
        layers, mean, square, running, key, t = state
        key_now = jax.random.fold_in(key, t)
        gradients, running = jax.grad(loss, has_aux=True)(layers, running, key_now)
        layers, mean, square = adam(layers, gradients, mean, square, t + 1, network.learning_rate)
        return layers, mean, square, running, key, t + 1

    zeros = jax.tree_util.tree_map(jnp.zeros_like, layers)
    also_zeros = jax.tree_util.tree_map(jnp.zeros_like, layers)
    state = (layers, zeros, also_zeros, running, jax.random.key(0), jnp.int32(0))
    compiled = jax.jit(update, donate_argnums=0)

    def step() -> tuple:
        nonlocal state
        state = compiled(state)
        return state

    return step


def derivative(case: Derivative) -> Callable[[], Any]:
    network, x = case.network, jnp.asarray(case.network.data()[0])
    layers, running = begin(network)

    def run(layers: list, x: Any) -> Any:
        return forward(network, layers, running, None, x)[0]

    if case.kind == "jacobian":
        rows = jax.vmap(jax.jacrev(run, argnums=1), in_axes=(None, 0))
        return waited(jax.jit(rows), layers, x)
    return waited(jax.jit(jax.grad(lambda layers, x: run(layers, x)[:, 0].sum(), 1)), layers, x)


ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


def kernel(case: Kernel) -> Callable[[], Any]:
    x, dy = map(jnp.asarray, case.data())
    if case.family == "optimizer" and case.kind == "adam":
        return optimizer(x, dy)
    if case.family == "dropout":
        return dropout(case.kind, x, dy)
    if case.family.startswith("activation") and case.kind in ACTIVATIONS:
        function = ACTIVATIONS[case.kind]
        if case.family.endswith("forward"):
            return waited(jax.jit(function), x)
        return waited(jax.jit(lambda x, dy: jax.vjp(function, x)[1](dy)[0]), x, dy)
    if case.family == "batch norm" and case.kind == "forward and backward":
        return batch_norm(x, dy)
    raise Unsupported(f"not written for jax: {case.name}")


def waited(compiled: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: compiled(*arguments).block_until_ready()


def dropout(way: str, x: Any, dy: Any) -> Callable[[], Any]:
    mask = jax.random.bernoulli(jax.random.key(0), 0.8, x.shape)
    if way == "backward":
        return waited(jax.jit(lambda dy, mask: jnp.where(mask, dy * 1.25, 0)), dy, mask)
    t = 0

    @jax.jit
    def forward(x: Any, t: Any) -> tuple[Any, Any]:
        mask = jax.random.bernoulli(jax.random.fold_in(jax.random.key(0), t), 0.8, x.shape)
        return jnp.where(mask, x * 1.25, 0), mask

    def step() -> Any:
        nonlocal t
        t += 1
        return jax.block_until_ready(forward(x, t))

    return step


def batch_norm(x: Any, dy: Any) -> Callable[[], Any]:
    n = x.shape[1]
    layer = {"gamma": jnp.ones(n), "beta": jnp.zeros(n)}
    running = {"mean": jnp.zeros(n), "variance": jnp.ones(n)}

    @jax.jit
    def both(x: Any, layer: dict, running: dict, dy: Any) -> tuple:
        y, backward, running = jax.vjp(
            lambda x, layer: normalize(x, layer, running), x, layer, has_aux=True
        )
        return y, backward(dy), running

    return lambda: jax.block_until_ready(both(x, layer, running, dy))


def optimizer(x: Any, dy: Any) -> Callable[[], Any]:
    compiled = jax.jit(adam, donate_argnums=(0, 2, 3))
    state, t = (x, jnp.zeros_like(x), jnp.zeros_like(x)), 0

    def step() -> tuple:
        nonlocal state, t
        t += 1
        parameters, mean, square = state
        state = jax.block_until_ready(compiled(parameters, dy, mean, square, t))
        return state

    return step
