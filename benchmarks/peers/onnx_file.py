"""Networks as ONNX files, written with the onnx package for the peers that read them; images are
channels-first."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases import ConvNet, Network, Unsupported
from images import Conv, MaxPool

try:
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    helper = None

Graph = tuple[list[Any], list[Any], str]  # nodes, tensors and the output's name


def written(network: Network | ConvNet) -> bytes:
    """The network as an ONNX file."""
    if helper is None:
        raise Unsupported("onnx, which writes the model's file, is not installed")
    nodes, tensors, output = (images if isinstance(network, ConvNet) else dense)(network)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", samples(network).shape), (output, results(network).shape))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def samples(network: Network | ConvNet) -> np.ndarray:
    """Images as (batch, channels, height, width)."""
    x = network.data()[0]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


def results(network: Network | ConvNet) -> np.ndarray:
    classes = network.classes if isinstance(network, ConvNet) else network.sizes[-1]
    return np.empty((network.batch, classes), np.float32)


def dense(network: Network) -> Graph:
    nodes, tensors, h = [], [], "x"
    for i, (weight, bias) in enumerate(network.weights()):
        tensors.append(numpy_helper.from_array(weight, f"w{i}"))
        tensors.append(numpy_helper.from_array(bias, f"b{i}"))
        nodes.append(helper.make_node("Gemm", [h, f"w{i}", f"b{i}"], [f"z{i}"]))
        h = f"z{i}"
        if i < len(network.sizes) - 2:
            kind = {"relu": "Relu", "tanh": "Tanh"}[network.activation]
            nodes.append(helper.make_node(kind, [h], [f"h{i}"]))
            h = f"h{i}"
    return nodes, tensors, h


def images(network: ConvNet) -> Graph:
    """A network without blocks; batch norms are nodes, which onnxruntime folds."""
    nodes, tensors, h, weights = [], [], "x", iter(network.weights())

    def add(kind: str, *arrays: np.ndarray, **attributes: Any) -> None:
        nonlocal h
        names = [f"{h}.{i}" for i in range(len(arrays))]
        tensors.extend(map(numpy_helper.from_array, arrays, names))
        nodes.append(helper.make_node(kind, [h, *names], [f"h{len(nodes)}"], **attributes))
        h = nodes[-1].output[0]

    for layer in network.layers:
        if isinstance(layer, MaxPool):
            sizes = [layer.size] * (len(network.shape) - 1)
            add("MaxPool", kernel_shape=sizes, strides=sizes)
            continue
        weight, zeros = next(weights), np.zeros(layer.features, np.float32)
        if isinstance(layer, Conv):
            axes = weight.ndim - 2
            weight = np.ascontiguousarray(np.moveaxis(weight, (-1, -2), (0, 1)))
            sides = {"strides": [layer.stride] * axes, "pads": [layer.padding] * 2 * axes}
            add("Conv", weight, *([] if layer.norm else [zeros]), **sides)
            if layer.norm:
                add("BatchNormalization", zeros + 1, zeros, zeros, zeros + 1)
        else:
            add("Flatten")
            add("Gemm", weight, zeros)
        if layer.relu:
            add("Relu")
    return nodes, tensors, h
