"""ONNX graphs as text, to be read, and damaged ones."""

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


VALUES = [0, 1, -1, 2, 7, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63)]


def mutated(content, rng):
    """The file with some bytes, numbers, names or operators replaced."""
    if rng.random() < 0.4:
        data = bytearray(content)
        for i in rng.integers(0, len(data), 3):
            data[i] = rng.integers(256)
        return bytes(data)
    model = onnx.load_model_from_string(content)
    graph = model.graph
    node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(6)
        if kind == 0 and node.attribute:
            a = rng.choice(node.attribute)
            a.i, a.type = int(rng.choice(VALUES)), int(rng.choice([1, 2, 3, 7, a.type]))
            a.ints.append(int(rng.choice(VALUES)))
        elif kind == 1:
            node.input[0] = rng.choice([x for n in graph.node for x in (*n.input, *n.output)])
        elif kind == 2:
            node.op_type = rng.choice(
                [n.op_type for n in graph.node] + ["Reshape", "Add", "Concat"]
            )
        elif kind == 3 and tensor.dims:
            tensor.dims[0] = int(rng.choice(VALUES))
        elif kind == 4 and tensor.data_type == onnx.TensorProto.INT64:
            tensor.raw_data = rng.choice(VALUES, len(tensor.raw_data) // 8).tobytes()
        elif kind == 5:
            graph.input[0].type.tensor_type.shape.dim[-1].dim_value = int(rng.choice(VALUES))
    return model.SerializeToString()
