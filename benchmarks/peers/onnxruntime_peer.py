"""onnxruntime for inference: its nodes written with the onnx package, images channels-first.

It runs on all its threads or on one, by `run` or with its arrays bound before, whichever is
fastest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from cases import ConvNet, Network, Unsupported
from deployed import First, Rows, exported
from images import Conv, MaxPool
from peers.trial import fastest

try:
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    helper = None

Graph = tuple[list[Any], list[Any], str]  # nodes, tensors and the output's name


def predict(network: Network | ConvNet) -> Callable[[], Any]:
    model = written(network)
    return fastest(
        way(model, network, threads)
        for threads in sorted({1, int(os.environ["OMP_NUM_THREADS"])})
        for way in (plain, bound)
    )


def rows(case: Rows) -> Callable[[], Any]:
    session = start(written(case.network), 1)
    each = [{"x": row} for row in case.data()[:, None]]

    def step() -> list[np.ndarray]:
        for inputs in each:
            y = session.run(None, inputs)
        return y

    return step


def first(case: First) -> Callable[[], Any]:
    name, x = str(exported(case)), case.network.data()[0]
    return lambda: onnxruntime.InferenceSession(name).run(None, {"input": x})


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


def start(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def plain(model: bytes, network: Network | ConvNet, threads: int) -> Callable[[], Any]:
    session, inputs = start(model, threads), {"x": samples(network)}
    return lambda: session.run(None, inputs)


def bound(model: bytes, network: Network | ConvNet, threads: int) -> Callable[[], Any]:
    session, x, y = start(model, threads), samples(network), results(network)
    binding = session.io_binding()
    for bind, node, array in (
        (binding.bind_input, session.get_inputs()[0], x),
        (binding.bind_output, session.get_outputs()[0], y),
    ):
        bind(node.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def step() -> tuple[np.ndarray, ...]:
        session.run_with_iobinding(binding)
        return x, y  # alive, since the binding has their addresses only

    return step
