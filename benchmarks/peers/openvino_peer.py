"""OpenVINO for inference, of the files that onnxruntime reads.

It runs on all its threads or on one, in float32, with arrays that were given to it before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from cases import ConvNet, Network
from deployed import First, Rows, exported
from peers.onnx_file import results, samples, written
from peers.trial import fastest

SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}


def predict(network: Network | ConvNet) -> Callable[[], Any]:
    model, x = written(network), samples(network)
    return fastest(
        bound(start(model, threads), x, results(network))
        for threads in sorted({1, int(os.environ["OMP_NUM_THREADS"])})
    )


def rows(case: Rows) -> Callable[[], Any]:
    x = np.empty((1, case.network.sizes[0]), np.float32)
    y = np.empty((1, case.network.sizes[-1]), np.float32)
    each, infer = list(case.data()[:, None]), bound(start(written(case.network), 1), x, y)

    def step() -> np.ndarray:
        for row in each:
            x[...] = row
            infer()
        return y

    return step


def first(case: First) -> Callable[[], Any]:
    name, x = str(exported(case)), case.network.data()[0]
    return lambda: openvino.Core().compile_model(name, "CPU", SETTINGS)(x)


def start(model: bytes, threads: int) -> openvino.CompiledModel:
    core = openvino.Core()
    settings = SETTINGS | {"INFERENCE_NUM_THREADS": threads}
    return core.compile_model(core.read_model(model, b""), "CPU", settings)


def bound(model: openvino.CompiledModel, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(y, shared_memory=True))

    def step() -> tuple[np.ndarray, ...]:
        request.infer()
        return x, y  # alive, since the tensors have their addresses only

    return step
