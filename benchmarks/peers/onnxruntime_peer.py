"""onnxruntime for inference: Gemm and Relu nodes, written with the onnx package.

On all the threads it may have or on one, called plainly or with its arrays bound before: whichever
is the fastest here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
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
    return min(
        (
            way(model.SerializeToString(), network, threads)
            for threads in sorted({1, int(os.environ["OMP_NUM_THREADS"])})
            for way in (plain, bound)
        ),
        key=trial,
    )


def start(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def plain(model: bytes, network: Network, threads: int) -> Callable[[], Any]:
    session, inputs = start(model, threads), {"x": network.data()[0]}
    return lambda: session.run(None, inputs)


def bound(model: bytes, network: Network, threads: int) -> Callable[[], Any]:
    session, x = start(model, threads), network.data()[0]
    y = np.empty((network.batch, network.sizes[-1]), np.float32)
    binding = session.io_binding()
    for bind, node, array in (
        (binding.bind_input, session.get_inputs()[0], x),
        (binding.bind_output, session.get_outputs()[0], y),
    ):
        bind(node.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def step() -> tuple[np.ndarray, ...]:
        session.run_with_iobinding(binding)
        return x, y  # the binding knows their addresses only

    return step


def trial(step: Callable[[], Any]) -> float:
    """The median of some calls, after as many."""
    times = []
    for _ in range(400):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return sorted(times[200:])[100]
