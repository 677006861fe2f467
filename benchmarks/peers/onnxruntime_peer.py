"""onnxruntime for inference.

It runs on all its threads or on one, by `run` or with its arrays bound before, whichever is
fastest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from cases import ConvNet, Network
from deployed import First, Rows, exported
from peers.onnx_file import results, samples, written
from peers.trial import fastest


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
