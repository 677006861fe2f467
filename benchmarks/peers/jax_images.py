"""Networks over images and sequences for jax: channels-last, kernels (..., in, out)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from images import Block, Conv, ConvNet, GlobalPool, MaxPool

FORMS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC")}


def begin(network: ConvNet) -> tuple[list, list]:
    """Parameters and running statistics, in the order of the network's parts."""
    layers, running = [], []
    for (part, _), weight in zip(network.parts, network.weights(), strict=True):
        n = part.features
        layers.append({"weight": jnp.asarray(weight)})
        if isinstance(part, Conv) and part.norm:
            layers[-1] |= {"gamma": jnp.ones(n), "beta": jnp.zeros(n)}
            running.append({"mean": jnp.zeros(n), "variance": jnp.ones(n)})
        else:
            layers[-1]["bias"] = jnp.zeros(n)
    return layers, running


class Pass:
    """One forward: each layer takes the next parameters and statistics."""

    def __init__(self, layers: list, running: list) -> None:
        self.layers, self.running = iter(layers), iter(running)
        self.statistics: list[dict] = []

    def convolution(self, layer: Conv, x: Any) -> Any:
        own, axes = next(self.layers), x.ndim - 2
        sizes = (layer.stride,) * axes, ((layer.padding, layer.padding),) * axes
        y = jax.lax.conv_general_dilated(x, own["weight"], *sizes, dimension_numbers=FORMS[x.ndim])
        y = self.normalize(own, y) if layer.norm else y + own["bias"]
        return jax.nn.relu(y) if layer.relu else y

    def normalize(self, own: dict, x: Any) -> Any:
        running, places = next(self.running), tuple(range(x.ndim - 1))
        mean, variance = x.mean(places), x.var(places)
        now = {"mean": mean, "variance": variance}
        self.statistics.append({key: 0.9 * running[key] + 0.1 * now[key] for key in running})
        return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * own["gamma"]) + own["beta"]

    def layer(self, layer: Any, x: Any) -> Any:
        if isinstance(layer, Conv):
            return self.convolution(layer, x)
        if isinstance(layer, Block):
            first, second = layer.path
            y = self.convolution(second, self.convolution(first, x))
            return jax.nn.relu(y + (self.convolution(layer.shortcut, x) if layer.shortcut else x))
        if isinstance(layer, MaxPool):
            return pool(x, layer.size)
        if isinstance(layer, GlobalPool):
            return x.mean(tuple(range(1, x.ndim - 1)))
        own = next(self.layers)
        y = x.reshape(len(x), -1) @ own["weight"] + own["bias"]
        return jax.nn.relu(y) if layer.relu else y


def pool(x: Any, size: int) -> Any:
    window = (1, *(size,) * (x.ndim - 2), 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def forward(network: ConvNet, layers: list, running: list, key: Any, x: Any) -> tuple[Any, list]:
    run = Pass(layers, running)
    for layer in network.layers:
        x = run.layer(layer, x)
    return x, run.statistics
