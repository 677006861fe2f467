"""onnxruntime for inference: Gemm and Relu nodes, written with the onnx package."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import onnxruntime

from cases import Network, Unsupported

try:
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    helper = None


def predict(network: Network) -> Callable[[], Any]:
    if helper is None:
        raise Unsupported("onnx, which writes the model's file, is not installed")
    nodes, tensors, h = [], [], "x"
    for i, (weight, bias) in enumerate(network.weights()):
        tensors.append(numpy_helper.from_array(weight, f"w{i}"))
        tensors.append(numpy_helper.from_array(bias, f"b{i}"))
        nodes.append(helper.make_node("Gemm", [h, f"w{i}", f"b{i}"], [f"z{i}"]))
        h = f"z{i}"
        if i < len(network.sizes) - 2:
            nodes.append(helper.make_node("Relu", [h], [f"h{i}"]))
            h = f"h{i}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [network.batch, size])
        for name, size in (("x", network.sizes[0]), (h, network.sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {"x": network.data()[0]}
    return lambda: session.run(None, inputs)
