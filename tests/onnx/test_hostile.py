"""fastnn.onnx.load refuses with a ValueError, which names the file, what is no network: never by
another exception, by memory for sizes that a file only claims, or by opening another file."""

import tracemalloc

import numpy as np
import pytest

import fastnn
from forged import refused
from onnx_files import onnx
from onnx_graphs import mutated, written

ROWS = "N, 6"
FLOAT = onnx.TensorProto.FLOAT


def model_of(nodes="y = MatMul(x, a)", arrays=None, sizes=ROWS):
    arrays = {"a": (6, 2)} if arrays is None else arrays
    return onnx.load_model_from_string(written(nodes, arrays, sizes))


def changed(change, *arguments):
    model = model_of(*arguments)
    change(model, model.graph)
    return model.SerializeToString()


def with_array(**fields):
    """The file with another array a: fields of a tensor, set on an empty one."""

    def change(model, graph):
        tensor = graph.initializer[0]
        tensor.Clear()
        tensor.name = "a"
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return changed(change)


def elsewhere(model, graph):
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "other.bin"


def rename(what, name):
    def change(model, graph):
        what(graph).name = name

    return change


def set_output(i, name):
    def change(model, graph):
        graph.node[i].output[0] = name

    return change


def subgraph(model, graph):
    graph.node[0].op_type = "If"
    graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", graph))


def without_opset(model, graph):
    del model.opset_import[:]


def functions(model, graph):
    body = [onnx.helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(
        onnx.helper.make_function("", "MatMul", ["a"], ["b"], body, model.opset_import)
    )


def other_domain(model, graph):
    graph.node[0].domain = "com.microsoft"


FILES = {
    "nothing": (b"", "expected operators of ONNX's set 6"),
    "text": (b"no model at all", "expected an ONNX model"),
    "half a file": (written("y = MatMul(x, a)", {"a": (6, 2)}, ROWS)[:90], "expected"),
    "claimed size": (with_array(dims=[10**9, 10**9], data_type=FLOAT, raw_data=bytes(48)),
                     r"expected 4000000000000000000 bytes for the shape"),
    "negative size": (with_array(dims=[-6, -2], data_type=FLOAT, raw_data=bytes(48)), "sizes >= 0"),
    "size in a list": (with_array(dims=[2**40], data_type=FLOAT, float_data=[1.0]), "reshape"),
    "too many axes": (with_array(dims=[1] * 500, data_type=FLOAT, raw_data=bytes(4)), "16 sizes"),
    "no known type": (with_array(dims=[1], data_type=99, raw_data=bytes(4)), "ONNX's type 99"),
    "half precision": (with_array(dims=[6, 2], data_type=10, raw_data=bytes(24)), "type 10"),
    "strings": (with_array(dims=[6, 2], data_type=8, string_data=[b"x"]), "expected 12 strings"),
    "another file": (changed(elsewhere), "numbers in the file, got the name of another file"),
    "subgraph": (changed(subgraph), r"\(If\): this operator cannot be read"),
    "no operator set": (changed(without_opset), "expected operators of ONNX's set 6"),
    "operators replaced": (changed(functions), "got functions in their place"),
    "another domain": (changed(other_domain), "operator of 'com.microsoft' cannot be read"),
    "circle": (changed(set_output(0, "z"), "y = Relu(z) z = Relu(y)", {}), "once|before"),
    "itself": (changed(lambda m, g: g.node[0].input.__setitem__(0, "y")), "before, got 'y'"),
    "defined twice": (changed(set_output(0, "y"), "z = Relu(x) y = Relu(x)", {}), "'y' again"),
    "input overwritten": (changed(set_output(0, "x"), "z = Relu(x) y = Relu(x)", {}), "'x' again"),
    "no such output": (changed(rename(lambda g: g.output[0], "w")), "computed before, got 'w'"),
    "two inputs": (changed(lambda m, g: g.input.add(name="w")), r"one input, got 2: \['x', 'w'\]"),
    "no input": (changed(lambda m, g: g.input.pop()), "one input, got 0"),
    "type of the input": (
        changed(lambda m, g: setattr(g.input[0].type.tensor_type, "elem_type", 8)), "type 8"),
    "scalar input": (
        changed(lambda m, g: g.input[0].type.tensor_type.shape.dim.pop()), "got 1 axes"),
    "long names": (changed(lambda m, g: setattr(g.node[0], "op_type", "A" * 10**6)), "AAA"),
    "large constant": (
        written("c = ConstantOfShape(s) y = MatMul(x, c)", {"s": [6, 10**12]}, ROWS), "proportion"),
    "many constants": (
        written("c = ConstantOfShape(s) " + " ".join(
            f"c{i} = Concat <axis = 0> ({c}, {c})"
            for i, c in enumerate(["c", *(f"c{i}" for i in range(60))])
        ) + " y = MatMul(x, c60)", {"s": [6, 10]}, ROWS), "in proportion to the file"),
    "expanded": (
        written("c = Expand(a, s) y = MatMul(x, c)", {"a": (1, 1), "s": [6, 2**50]}, ROWS),
        "in proportion to the file"),
    "gathered": (
        written("i = ConstantOfShape(s) j = Cast <to = 7> (i) c = Gather(a, j) y = MatMul(x, c)",
                {"s": [2**14], "a": (9, 60)}, ROWS), "in proportion to the file"),
    "range": (written("c = Range(a, b, d) y = Add(x, c)", {"a": 0, "b": 2**60, "d": 1}, ROWS),
              "in proportion to the file"),
    "range backwards": (
        written("c = Range(a, b, d) e = ConstantOfShape(s) y = Add(x, c)",
                {"a": 0, "b": -(2**60), "d": 1, "s": [2**30]}, ROWS), "in proportion to the file"),
    "used again and again": (written("u0 = Tanh(x) v0 = Relu(u0) " + " ".join(
        f"u{i + 1} = Add(v{i}, x) v{i + 1} = Add(u{i + 1}, u{i})" for i in range(200)
    ) + " y = Tanh(v200)", {}, ROWS), "several uses"),
    "many channels": (written("y = Mul(x, a)", {"a": 2.0}, f"N, {10**10}"), "in proportion"),
    "large padding": (
        written("y = Conv <pads = [9223372036854775807, 0, 0, 0]> (x, a)", {"a": (1, 2, 1, 1)},
                "N, 2, 3, 3"), r"\(Conv\): padding"),
    "large flattening": (
        written("c = Conv(x, a) f = Flatten(c) y = MatMul(f, b)",
                {"a": (1, 2, 1, 1), "b": (4, 2)}, f"N, 2, {10**9}, {10**9}"), "rows|features"),
    "no axes": (written("y = Conv(x, a)", {"a": ()}, "N, 2, 3, 3"), r"\(Conv\): W: expected"),
    "NaN": (written("y = LeakyRelu <alpha = -1.0> (x)", {}, ROWS), "alpha: expected"),
    "deep": (written(" ".join(
        ["c = Tanh(x) "] + [f"u{i} = Sigmoid({c}) {d} = Add(u{i}, x)" for i, (c, d) in enumerate(
            zip(["c", *(f"d{i}" for i in range(1200))], (f"d{i}" for i in range(1201)),
                strict=True))
        ]) + " y = Relu(d1200)", {}, ROWS), "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(name, tmp_path):
    content, message = FILES[name]
    (tmp_path / "other.bin").write_bytes(bytes(48))
    tracemalloc.start()
    try:
        refused(tmp_path / "net.onnx", content, message, fastnn.onnx.load)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_message_stays_short(tmp_path):
    with pytest.raises(ValueError) as caught:
        fastnn.onnx.load(FILES["long names"][0])
    assert len(str(caught.value)) < 700


def test_other_files_than_regular_ones_are_refused(tmp_path):
    import os

    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx"):
        fastnn.onnx.load(tmp_path / "nothing.onnx")
    with pytest.raises(IsADirectoryError):
        fastnn.onnx.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: expected a regular file"):
        fastnn.onnx.load(tmp_path / "pipe")


def test_mutated_files_are_read_or_refused():
    nodes = (
        "p = Pad(x, pads) c = Conv <strides = [1, 2]> (p, a, b) r = Relu(c) d = Conv(r, e) "
        "s = Add(d, r) m = MaxPool <kernel_shape = [2, 2]> (s) h = Shape(m) n = Gather(h, zero) "
        "k = Unsqueeze(n, axes) t = Concat <axis = 0> (k, rest) f = Reshape(m, t) "
        "g = Gemm(f, w, v) z = Tanh(g) u = Slice(z, axes, one) y = Softmax(z)"
    )
    arrays = {
        "pads": [0, 0, 1, 1, 0, 0, 1, 1], "a": (3, 2, 3, 3), "b": (3,), "e": (3, 3, 1, 1),
        "zero": 0, "axes": [0], "rest": [-1], "one": [1], "w": (30, 4), "v": (4,),
    }  # fmt: skip
    content, rng = written(nodes, arrays, "N, 2, 6, 5"), np.random.default_rng(0)
    assert fastnn.onnx.load(content)
    read = 0
    for _ in range(400):
        other = mutated(content, rng)
        try:
            fastnn.onnx.load(other)
            read += 1
        except ValueError as error:
            assert str(error).startswith("the model: ")
    assert 10 < read < 200  # most are changed in what matters
