"""What each layer becomes in ONNX: a function for each kind of layer.

It takes the layer, the value that the layer takes and the graph, adds nodes, and returns the value
that the layer gives.  Attributes of ONNX are float32; where a network of float64 has a number that
they cannot hold, the layer is written with other nodes, whose numbers are arrays."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.layers import (
    Activation,
    BatchNorm,
    Block,
    Columns,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    LayerNorm,
    ParametricActivation,
    PeriodicEmbedding,
    Residual,
    Scale,
)
from fastnn.layers.convolution import _Convolution
from fastnn.layers.pooling import _GlobalPool, _Pool
from fastnn.onnx.attributes import SELU
from fastnn.onnx.graph import Graph, Value
from fastnn.support.settings import is_plain, label

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_layers(layers: Iterable[Any], x: Value, graph: Graph) -> Value:
    """Add layers one after the other, whose names are their numbers."""
    for i, layer in enumerate(layers):
        x = add(layer, str(i), x, graph)
    return x


def add(layer: Any, name: str, x: Value, graph: Graph) -> Value:
    """Add the layer of that name; TypeError if it is not fastnn's own."""
    if not is_plain(layer):
        raise TypeError(f"model: expected layers of fastnn's own, got {label(layer)}")
    with graph.within(name):
        return _add(layer, x, graph)


@singledispatch
def _add(layer: Any, x: Value, graph: Graph) -> Value:
    raise TypeError(f"model: {label(layer)} cannot be written as ONNX yet")


@_add.register
def _(layer: Dropout, x: Value, graph: Graph) -> Value:
    return x


@_add.register
def _(layer: Flatten, x: Value, graph: Graph) -> Value:
    if len(x.shape) == 1:
        return x
    x = graph.turned(x, first=False)  # so that the numbers have fastnn's order
    return Value(graph.add("Flatten", x.name, axis=1), (math.prod(x.shape),))


@_add.register
def _(layer: Block, x: Value, graph: Graph) -> Value:
    return add_layers(layer.layers, x, graph)


@_add.register
def _(layer: Residual, x: Value, graph: Graph) -> Value:
    y = add_layers(layer.layers, x, graph)
    if layer.shortcut is not None:
        x = add(layer.shortcut, "shortcut", x, graph)
    x = graph.turned(x, y.first)
    return y._replace(name=graph.add("Add", y.name, x.name))


@_add.register
def _(layer: Heads, x: Value, graph: Graph) -> Value:
    ys = [add(head, str(i), x, graph) for i, head in enumerate(layer.layers)]
    return _side_by_side([graph.turned(y, ys[0].first) for y in ys], graph)


@_add.register
def _(layer: Columns, x: Value, graph: Graph) -> Value:
    widths = [width for width, _ in layer.parts]
    names = [x.name]
    if len(widths) > 1:
        split = graph.array("widths", np.array(widths, np.int64))
        names = graph.several("Split", len(widths), x.name, split, axis=1)
    ys = []
    for i, (name, (width, part)) in enumerate(zip(names, layer.parts, strict=True)):
        taken = Value(name, (width,))
        ys.append(taken if part is None else add(part, str(i), taken, graph))
    return _side_by_side(ys, graph)


def _side_by_side(values: list[Value], graph: Graph) -> Value:
    """Values of one layout, beside one another on the axis of the features."""
    if len(values) == 1:
        return values[0]
    shape = (*values[0].shape[:-1], sum(value.shape[-1] for value in values))
    axis = 1 if values[0].first else len(shape)
    names = [value.name for value in values]
    return values[0]._replace(name=graph.add("Concat", *names, axis=axis), shape=shape)


# ---- elementwise ----

_ALONE = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus"}


def _holds(value: float, graph: Graph) -> bool:
    """Whether an attribute, which is float32, is the number that the network computes with."""
    return graph.dtype == np.float32 or float(np.float32(value)) == value


@_add.register
def _(layer: Activation, x: Value, graph: Graph) -> Value:
    name = layer.activation_name
    if name == "linear":
        return x
    if name == "softmax":
        axis = 1 if x.first else len(x.shape)
        return x._replace(name=graph.add("Softmax", x.name, axis=axis))
    if name in _ALONE:
        return x._replace(name=graph.add(_ALONE[name], x.name))
    return x._replace(name=_BENT[name](x.name, float(layer._alpha), graph))


def _leaky_relu(x: str, alpha: float, graph: Graph) -> str:
    if _holds(alpha, graph):
        return graph.add("LeakyRelu", x, alpha=alpha)
    below = graph.add("Min", x, graph.constant(0))
    return graph.add("Add", graph.add("Relu", x), graph.add("Mul", below, graph.constant(alpha)))


def _elu(x: str, alpha: float, graph: Graph) -> str:
    if _holds(alpha, graph):
        return graph.add("Elu", x, alpha=alpha)
    below = graph.add("Elu", graph.add("Min", x, graph.constant(0)))
    return graph.add("Add", graph.add("Relu", x), graph.add("Mul", below, graph.constant(alpha)))


def _selu(x: str, alpha: float, graph: Graph) -> str:
    if graph.dtype == np.float32:
        return graph.add("Selu", x)
    return graph.add("Mul", _elu(x, SELU["alpha"], graph), graph.constant(SELU["gamma"]))


def _silu(x: str, alpha: float, graph: Graph) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _mish(x: str, alpha: float, graph: Graph) -> str:
    return graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x)))


def _gelu(x: str, alpha: float, graph: Graph) -> str:
    erf = graph.add("Erf", graph.add("Div", x, graph.constant(math.sqrt(2))))
    y = graph.add("Mul", x, graph.add("Add", erf, graph.constant(1)))
    return graph.add("Mul", y, graph.constant(0.5))


_BENT = {
    "leaky_relu": _leaky_relu, "elu": _elu, "selu": _selu, "silu": _silu, "mish": _mish,
    "gelu": _gelu,
}  # fmt: skip


@_add.register
def _(layer: Scale, x: Value, graph: Graph) -> Value:
    return x._replace(name=graph.add("Mul", x.name, graph.along("scale", layer.scale, x)))


@_add.register
def _(layer: ParametricActivation, x: Value, graph: Graph) -> Value:
    bent = _add(layer.activation, x, graph).name
    change = graph.add("Sub", bent, x.name)
    change = graph.add("Mul", change, graph.along("alpha", layer.alpha, x))
    return x._replace(name=graph.add("Add", x.name, change))


@_add.register
def _(layer: PeriodicEmbedding, x: Value, graph: Graph) -> Value:
    frequency, phase, bias = (
        graph.array(name, getattr(layer, name)[:, None]) for name in ("frequency", "phase", "bias")
    )
    column = graph.add("Unsqueeze", x.name, graph.constant([2, 3], np.int64))  # (n, features, 1, 1)
    turns = graph.add("Add", graph.add("Mul", column, frequency), phase)
    waves = graph.add("Cos", graph.add("Mul", turns, graph.constant(2 * math.pi)))
    found = graph.add("MatMul", waves, graph.array("weight", layer.weight))  # one for each feature
    y = graph.add("Concat", column, graph.add("Add", found, bias), axis=3)
    return Value(graph.add("Flatten", y, axis=1), layer.output_shape(x.shape))


@_add.register
def _(layer: BatchNorm, x: Value, graph: Graph) -> Value:
    x, eps, variance = graph.turned(x, first=True), float(layer.eps), layer.running_var
    if not _holds(eps, graph):  # the variance takes what the attribute loses
        variance = variance + (eps - float(np.float32(eps)))
    arrays = [
        graph.array("gamma", layer.gamma), graph.array("beta", layer.beta),
        graph.array("running_mean", layer.running_mean), graph.array("running_var", variance),
    ]  # fmt: skip
    its = {"epsilon": eps, "momentum": 1 - layer.momentum}
    return x._replace(name=graph.add("BatchNormalization", x.name, *arrays, **its))


@_add.register
def _(layer: LayerNorm, x: Value, graph: Graph) -> Value:
    x, eps, axis = graph.turned(x, first=False), float(layer.eps), len(x.shape)
    gamma, beta = graph.array("gamma", layer.gamma), graph.array("beta", layer.beta)
    if graph.dtype == np.float32:
        its = {"axis": axis, "epsilon": eps}
        return x._replace(name=graph.add("LayerNormalization", x.name, gamma, beta, **its))
    centred = graph.add("Sub", x.name, graph.add("ReduceMean", x.name, axes=[axis]))
    square = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[axis])
    deviation = graph.add("Sqrt", graph.add("Add", square, graph.constant(eps)))
    y = graph.add("Mul", graph.add("Div", centred, deviation), gamma)
    return x._replace(name=graph.add("Add", y, beta))


# ---- with a weight ----


@_add.register
def _(layer: Dense, x: Value, graph: Graph) -> Value:
    inputs = [x.name, graph.array("weight", layer.weight)]
    if layer.bias is not None:
        inputs.append(graph.array("bias", layer.bias))
    y = graph.add("MatMul" if layer.bias is None else "Gemm", *inputs)
    return _add(layer.activation, Value(y, (layer.out_features,)), graph)


@_add.register
def _(layer: _Convolution, x: Value, graph: Graph) -> Value:
    x, axes = graph.turned(x, first=True), layer.dimensions - 1
    weight = np.moveaxis(layer.weight, (-1, -2), (0, 1))  # (features, channels, *kernel)
    inputs = [x.name, graph.array("weight", weight)]
    if layer.bias is not None:
        inputs.append(graph.array("bias", layer.bias))
    dilations = list(layer.windows.dilation[-axes:])
    windows = {**_windows(layer, x), "dilations": dilations, "group": layer.groups}
    y = graph.add("Conv", *inputs, **windows)
    return _add(layer.activation, Value(y, layer.output_shape(x.shape), True), graph)


@_add.register
def _(layer: Embedding, x: Value, graph: Graph) -> Value:
    codes = x.name if graph.takes_codes else graph.cast(x.name, np.int64)
    y = graph.add("Gather", graph.array("weight", layer.weight), codes, axis=0)
    return Value(y, layer.output_shape(x.shape))


# ---- pools ----


def _windows(layer: Any, x: Value) -> dict[str, list[int]]:
    """Attributes of windows over x; `pads` are those before each axis, then those behind."""
    axes = layer.dimensions - 1
    kernel, stride = layer.windows.kernel[-axes:], layer.windows.stride[-axes:]
    around = layer.windows.around((1, *x.shape)[-3:-1])[-axes:]
    pads = [side[0] for side in around] + [side[1] for side in around]
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads}


@_add.register
def _(layer: _Pool, x: Value, graph: Graph) -> Value:
    x = graph.turned(x, first=True)
    more = {"count_include_pad": int(layer.count_padding)} if layer.average else {}
    op = "AveragePool" if layer.average else "MaxPool"
    y = graph.add(op, x.name, **_windows(layer, x), **more)
    return Value(y, layer.output_shape(x.shape), True)


@_add.register
def _(layer: _GlobalPool, x: Value, graph: Graph) -> Value:
    x = graph.turned(x, first=True)
    axes = list(range(2, 1 + layer.dimensions))
    y = graph.add("ReduceMean" if layer.average else "ReduceMax", x.name, axes=axes, keepdims=0)
    return Value(y, x.shape[-1:])
