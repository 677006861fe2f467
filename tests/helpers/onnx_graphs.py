"""ONNX graphs as text, to be read."""

import numpy as np

from onnx_files import onnx


def written(nodes, arrays, sizes, rng=None, opset=17):
    """A graph from x to y as a file's bytes; shapes stand for random numbers."""
    graph = onnx.parser.parse_graph(f"net (float[{sizes}] x) => (float[N] y) {{ {nodes} }}")
    graph.output[0].type.tensor_type.ClearField("shape")
    for name, array in arrays.items():
        if isinstance(array, tuple):
            low = 0.5 if name == "d" else -1  # a divisor
            array = (rng or np.random.default_rng(0)).uniform(low, 1, array).astype(np.float32)
        kind = np.float32 if np.asarray(array).dtype.kind == "f" else np.int64
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, kind), name))
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
