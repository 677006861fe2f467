"""fastnn.onnx.load, operator by operator: graphs as text, with arrays of random numbers, computed
by onnxruntime and by the loaded model."""

import numpy as np
import pytest

import fastnn
from onnx_files import assert_close, onnx, ort
from onnx_graphs import written

IMAGE, SEQUENCE, ROWS = "N, 2, 6, 5", "N, 3, 8", "N, 6"
# name -> (nodes, shapes of arrays, the input's sizes, layers)
CASES = {
    "gemm": ("y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, a, b)", {"a": (4, 6), "b": (1, 4)},
             ROWS, "Dense"),
    "gemm, one bias": ("y = Gemm(x, a, b)", {"a": (6, 4), "b": (1,)}, ROWS, "Dense"),
    "bias by a sum": ("z = MatMul(x, a) y = Add(b, z)", {"a": (6, 4), "b": (4,)}, ROWS, "Dense"),
    "two sums": ("z = Gemm(x, a, b) y = Add(z, b)", {"a": (6, 4), "b": (4,)}, ROWS,
                 "Dense BatchNorm"),
    "shift and scale": ("u = Sub(x, a) v = Div(u, d) w = Mul(v, c) y = Add(c, w)",
                        {"a": (6,), "c": (1, 6), "d": (6,)}, ROWS, "BatchNorm"),
    "scale and shift": ("u = Mul(x, a) v = Sub(u, c) w = Div(v, d) y = Add(w, b)",
                        {"a": (6,), "b": (6,), "c": (6,), "d": (6,)}, ROWS, "BatchNorm"),
    "constants reshaped": ("c = Reshape(a, s) y = MatMul(x, c)", {"a": (6, 2, 2), "s": [0, -1]},
                           ROWS, "Dense"),
    "sizes kept": ("f = Reshape(x, s) y = MatMul(f, a)", {"a": (24, 2), "s": [0, -1]}, SEQUENCE,
                   "Flatten Dense"),
    "scale": ("y = Mul(a, x)", {"a": (6,)}, ROWS, "Scale"),
    "scale by a number": ("z = Mul(x, a) y = Neg(z)", {"a": ()}, ROWS, "Scale"),
    "minus": ("z = Sigmoid(x) y = Sub(a, z)", {"a": (1,)}, ROWS, "Sigmoid BatchNorm"),
    "constants first": ("c = Mul(a, b) d = Transpose <perm = [1, 0]> (c) y = MatMul(x, d)",
                        {"a": (4, 6), "b": (4, 1)}, ROWS, "Dense"),
    "scale of images": ("z = Mul(x, a) y = Conv(z, b)", {"a": (1, 2, 1, 1), "b": (3, 2, 2, 2)},
                        IMAGE, "Scale Conv2D"),
    "images by a number": ("z = Mul(x, a) y = Conv(z, b)", {"a": (), "b": (3, 2, 2, 2)}, IMAGE,
                           "Scale Conv2D"),
    "images by a number, channels last": (
        "z = Mul(x, a) t = Transpose <perm = [0, 3, 1, 2]> (z) c = Conv(t, b) "
        "y = Transpose <perm = [0, 2, 3, 1]> (c)", {"a": (), "b": (3, 5, 2, 2)}, IMAGE,
        "Scale Conv2D",
    ),
    "conv": ("y = Conv <pads = [0, 1, 2, 3], strides = [2, 1], dilations = [1, 2]> (x, a, b)",
             {"a": (4, 2, 3, 2), "b": (4,)}, IMAGE, "Conv2D"),
    "conv, groups": ('y = Conv <group = 2, auto_pad = "SAME_LOWER"> (x, a)', {"a": (6, 1, 2, 4)},
                     IMAGE, "Conv2D"),
    "conv, same": ('y = Conv <auto_pad = "SAME_UPPER", strides = [2, 3]> (x, a)',
                   {"a": (3, 2, 2, 2)}, IMAGE, "Conv2D"),
    "conv, valid": ('y = Conv <auto_pad = "VALID"> (x, a)', {"a": (3, 2, 2, 2)}, IMAGE, "Conv2D"),
    "conv 1d": ("y = Conv <pads = [2, 0], strides = [2]> (x, a, b)", {"a": (4, 3, 3), "b": (4,)},
                SEQUENCE, "Conv1D"),
    "pad and conv": ("z = Pad(x, pads) y = Conv <pads = [1, 1, 0, 0]> (z, a)",
                     {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "a": (3, 2, 3, 3)}, IMAGE, "Conv2D"),
    "bias of channels": ("z = Conv(x, a) y = Add(z, b)", {"a": (3, 2, 3, 3), "b": (3, 1, 1)}, IMAGE,
                         "Conv2D"),
    "one pixel": ("p = GlobalAveragePool(x) z = Conv(p, a, b) y = Relu(z)",
                  {"a": (4, 2, 1, 1), "b": (4,)}, IMAGE, "GlobalAvgPool2D Dense ReLU"),
    "flatten": ("c = Conv(x, a) r = Relu(c) f = Flatten(r) y = Gemm(f, b)",
                {"a": (3, 2, 3, 3), "b": (36, 4)}, IMAGE, "Conv2D ReLU Flatten Dense"),
    "flatten, norm": ("c = Conv(x, a) f = Flatten(c) n = Mul(f, d) y = Gemm(n, b)",
                      {"a": (3, 2, 3, 3), "b": (36, 4), "d": (36,)}, IMAGE,
                      "Conv2D Flatten Scale Dense"),
    "flatten of sizes": (
        "c = Conv(x, a) s = Shape(c) n = Gather(s, zero) m = Unsqueeze(n, axes) "
        "t = Concat <axis = 0> (m, rest) f = Reshape(c, t) y = MatMul(f, b)",
        {"a": (3, 2, 3, 3), "b": (36, 4), "zero": 0, "axes": [0], "rest": [-1]}, IMAGE,
        "Conv2D Flatten Dense",
    ),
    "flatten without convolution": ("f = Flatten(x) y = MatMul(f, a)", {"a": (60, 4)}, IMAGE,
                                    "Flatten Dense"),
    "pools": ("p = MaxPool <kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]> (x) "
              "y = AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (p)", {}, IMAGE,
              "MaxPool2D AvgPool2D"),
    "pool 1d": ("y = AveragePool <kernel_shape = [3], pads = [1, 1], count_include_pad = 1> (x)",
                {}, SEQUENCE, "AvgPool1D"),
    "mean of images": ("y = ReduceMean <axes = [2, 3], keepdims = 0> (x)", {}, IMAGE,
                       "GlobalAvgPool2D"),
    "maximum of sequences": ("z = GlobalMaxPool(x) y = Squeeze(z, axes)", {"axes": [2]}, SEQUENCE,
                             "GlobalMaxPool1D"),
    "channels last": ("t = Transpose <perm = [0, 3, 1, 2]> (x) c = Conv(t, a) "
                      "y = Transpose <perm = [0, 2, 3, 1]> (c)", {"a": (3, 5, 2, 2)}, IMAGE,
                      "Conv2D"),
    "dense of sequences": ("t = Transpose <perm = [0, 2, 1]> (x) z = MatMul(t, a) w = Add(z, b) "
                           "y = Transpose <perm = [0, 2, 1]> (w)", {"a": (3, 4), "b": (4,)},
                           SEQUENCE, "Conv1D"),
    "unsqueezed": ("u = Unsqueeze(x, two) c = Conv(u, a) y = Squeeze(c, two)",
                   {"two": [2], "a": (4, 3, 1, 3)}, SEQUENCE, "Conv1D"),
    "residual": ("z = MatMul(x, a) t = Tanh(z) y = Add(t, x)", {"a": (6, 6)}, ROWS, "Residual"),
    "two paths": ("z = Tanh(x) u = MatMul(z, a) v = MatMul(z, b) y = Add(v, u)",
                  {"a": (6, 4), "b": (6, 4)}, ROWS, "Tanh Residual"),
    "twice": ("y = Add(x, x)", {}, ROWS, "Residual"),
    "heads": ("u = Tanh(x) v = MatMul(u, a) y = Concat <axis = 1> (u, v)", {"a": (6, 4)}, ROWS,
              "Tanh Heads"),
    "columns": ("u = Slice(x, zero, two, one) v = Slice(x, two, six, one) t = Tanh(v) "
                "y = Concat <axis = -1> (u, t)",
                {"zero": [0], "two": [2], "six": [6], "one": [1]}, ROWS, "Columns"),
    "silu": ("s = Sigmoid(x) y = Mul(s, x)", {}, ROWS, "SiLU"),
    "mish": ("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", {}, ROWS, "Mish"),
    "gelu": ("u = Div(x, root) e = Erf(u) f = Add(e, one) m = Mul(x, f) y = Mul(m, half)",
             {"root": 2**0.5, "one": 1.0, "half": 0.5}, ROWS, "GELU"),
    "gelu, half first": ("u = Mul(x, root) e = Erf(u) f = Add(one, e) h = Mul(x, half) "
                         "y = Mul(h, f)", {"root": 0.5**0.5, "one": 1.0, "half": 0.5}, ROWS,
                         "GELU"),
    "gelu of a scale": ("s = Mul(x, a) u = Div(s, root) e = Erf(u) f = Add(e, one) "
                        "h = Mul(s, half) y = Mul(h, f)",
                        {"a": (6,), "root": 2**0.5, "one": 1.0, "half": 0.5}, ROWS, "Scale GELU"),
    "a sum that one of two takes": ("z = MatMul(x, a) s = Add(z, b) y = Add(z, s)",
                                    {"a": (6, 4), "b": (4,)}, ROWS, "Dense Residual"),
    "layer norm": ("m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) p = Pow(d, two) "
                   "v = ReduceMean <axes = [-1]> (p) e = Add(v, eps) s = Sqrt(e) n = Div(d, s) "
                   "g = Mul(n, a) y = Add(g, b)",
                   {"two": 2.0, "eps": 1e-3, "a": (6,), "b": (6,)}, ROWS, "LayerNorm"),
    "prelu": ("y = PRelu(x, a)", {"a": 0.3}, ROWS, "LeakyReLU"),
    "relu as a maximum": ("z = Clip(x, zero) y = Max(z, zero)", {"zero": 0.0}, ROWS, "ReLU ReLU"),
    "softmax of channels": ("c = Conv(x, a) y = Softmax <axis = 1> (c)", {"a": (3, 2, 2, 2)}, IMAGE,
                            "Conv2D Softmax"),
    "nothing": ("z = Cast <to = 1> (x) y = Identity(z)", {}, ROWS, "Linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_onnxruntime(name):
    nodes, arrays, sizes, layers = CASES[name]
    rng = np.random.default_rng(1)
    content = written(nodes, arrays, sizes, rng)
    x = rng.normal(size=(7, *map(int, sizes.split(",")[1:]))).astype(np.float32)
    expected = ort.InferenceSession(content).run(None, {"x": x})[0]
    model = fastnn.onnx.load(content)
    assert " ".join(type(layer).__name__ for layer in model) == layers
    moved = sizes != ROWS and "(x" not in nodes.partition("f = ")[2] and "channels last" not in name
    y = model.predict(np.moveaxis(x, 1, -1) if moved else x)
    y = np.moveaxis(y, -1, 1) if moved and expected.ndim == y.ndim > 2 else y
    assert_close(y.reshape(expected.shape), expected)


# nodes, arrays, the input's sizes, what the message says
REFUSED = {
    "operator": ("y = HardSwish(x)", {}, ROWS, r"node '' \(HardSwish\): this operator cannot be"),
    "limits": ("y = Clip(x, a, b)", {"a": 0.0, "b": 6.0}, ROWS, r"\(Clip\): expected the maximum"),
    "attribute": ("y = Relu <alpha = 1.0> (x)", {}, ROWS, r"Relu\): expected no attribute 'alpha'"),
    "type of an attribute": ('y = Softmax <axis = "1"> (x)', {}, ROWS, "expected int, got '1'"),
    "erf alone": ("y = Erf(x)", {}, ROWS, r"node '' \(Erf\): expected a layer .* got 'erf' by"),
    "another gelu": ("u = Mul(x, a) e = Erf(u) f = Add(e, b) y = Mul(x, f)", {"a": 0.7, "b": 1.0},
                     ROWS, "'times' by itself"),
    "other shapes": ("z = MatMul(x, a) y = Add(z, x)", {"a": (6, 1)}, ROWS, "of one shape"),
    "rows apart": ("y = Add(x, a)", {"a": (3, 6)}, ROWS, "one for each feature or channel"),
    "each pixel": ("y = Add(x, a)", {"a": (6, 5)}, IMAGE, "one for each feature or channel"),
    "matrices": ("y = MatMul(x, x)", {}, ROWS, r"\(MatMul\): weight: expected an array that the"),
    "reshape": ("y = Reshape(x, a)", {"a": [-1, 2, 3]}, ROWS, "shape: expected .* but for axes of"),
    "batch moved": ("y = Transpose(x)", {}, ROWS, "expected the batch to stay the first axis"),
    "batch reshaped": ("y = Reshape(x, a)", {"a": [-1, 3]}, ROWS, "but for axes of size 1, got .3"),
    "sizes as numbers": ("s = Shape(x) t = Add(s, s) y = Reshape(x, t)", {}, ROWS,
                         r"\(Add\): expected numbers known"),
    "used twice": ("a = Tanh(x) b = Relu(a) u = Add(b, x) y = Add(u, a)", {}, ROWS, "several uses"),
    "columns left out": ("u = Slice(x, a, b, c) v = Slice(x, a, b, c) y = Concat <axis = 1> (u, v)",
                         {"a": [0], "b": [2], "c": [1]}, ROWS, "all columns in order, each once"),
    "one column alone": ("y = Slice(x, a, b, c)", {"a": [0], "b": [2], "c": [1]}, ROWS,
                         "'part' by itself"),
    "pad alone": ("z = Pad(x, a) y = MaxPool <kernel_shape = [2, 2]> (z)",
                  {"a": [0, 0, 1, 1, 0, 0, 1, 1]}, IMAGE, "'pad' by itself"),
    "windows in 3d": ("y = Conv(x, a)", {"a": (1, 1, 1, 1, 1)}, "N, 1, 2, 2, 2", "one axis or two"),
    "unknown size": ("c = Conv(x, a) f = Flatten(c) y = MatMul(f, b)",
                     {"a": (3, 2, 3, 3), "b": (36, 4)}, "N, 2, H, W", "known height and width"),
    "zero divisor": ("y = Div(x, a)", {"a": 0.0}, ROWS, "a divisor that is a constant and not 0"),
    "divided by x": ("y = Div(a, x)", {"a": 1.0}, ROWS, "a divisor that is a constant and not 0"),
    "mixed types": ("c = Cast <to = 11> (x) y = MatMul(c, a)", {"a": (6, 2)}, ROWS, "of float64"),
    "features of another count": ("y = MatMul(x, a)", {"a": (5, 2)}, ROWS, "6 rows, got 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named(name):
    nodes, arrays, sizes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        fastnn.onnx.load(written(nodes, arrays, sizes))
    assert str(caught.value).startswith("the model: ")


def test_unknown_sizes_are_as_free_as_the_layers():
    nodes = "c = Conv(x, a) p = GlobalMaxPool(c) f = Flatten(p) y = MatMul(f, b)"
    content = written(nodes, {"a": (3, 2, 3, 3), "b": (3, 4)}, "N, 2, H, W")
    model, session = fastnn.onnx.load(content), ort.InferenceSession(content)
    for size in ((3, 3), (9, 7)):
        x = np.random.default_rng(0).normal(size=(2, 2, *size)).astype(np.float32)
        assert_close(model.predict(np.moveaxis(x, 1, -1)), session.run(None, {"x": x})[0])


def test_a_file_is_for_one_batch_size_and_the_model_for_any():
    content = written(
        "f = Reshape(x, s) y = MatMul(f, a)", {"s": [1, 60], "a": (60, 2)}, "1, 2, 6, 5"
    )
    assert fastnn.onnx.load(content).predict(np.ones((3, 2, 6, 5))).shape == (3, 2)


def test_activations_join_the_layer_whose_scope_they_have():
    nodes = "z = MatMul(x, a) t = Tanh(z) r = Relu(t) u = MatMul(r, b) y = Add(u, u)"
    model = onnx.load_model_from_string(written(nodes, {"a": (6, 2), "b": (2, 2)}, ROWS))
    names = ["net/dense/MatMul", "net/dense/Tanh", "net/Relu", "last/MatMul", "last/Add"]
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    layers = fastnn.onnx.load(model.SerializeToString()).layers
    assert list(map(repr, layers)) == [
        "Dense(6, 2, activation='tanh', bias=False)", "ReLU()", "Dense(2, 2, bias=False)",
        "Residual(Linear())",
    ]  # fmt: skip


def test_scalers_of_other_programs():
    """x a + b = (x - mean) / std with std = 1 / a and mean = -b / a; y c + d is of the targets."""
    nodes = "u = Mul(x, a) v = Add(u, b) w = MatMul(v, m) z = Tanh(w) s = Mul(z, c) y = Add(s, d)"
    arrays = {"a": 2.0, "b": (6,), "m": (6, 2), "c": 4.0, "d": (2,)}
    content = written(nodes, arrays, ROWS)
    model = fastnn.onnx.load(content, scalers=True)
    assert [type(layer).__name__ for layer in model] == ["Dense", "Tanh"]
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    expected = ort.InferenceSession(content).run(None, {"x": x})[0]
    y = model.target_scaler.inverse_transform(model.predict(model.scaler.transform(x)))
    assert_close(y.astype(np.float32), expected)
    with pytest.raises(ValueError, match="scalers: expected finite means and factors > 0"):
        fastnn.onnx.load(written(nodes, {**arrays, "a": -2.0}, ROWS), scalers=True)


OLDER = {  # as older operator sets have it: attributes in place of inputs
    "axes": (
        "u = Unsqueeze <axes = [1, 2]> (a) z = Mul(x, u) p = GlobalAveragePool(z) "
        "y = Squeeze <axes = [2, 3]> (p)", {"a": (2,)}, IMAGE, "Scale GlobalAvgPool2D", 11,
    ),
    "pads": ('p = Pad <mode = "constant", pads = [0, 0, 1, 0, 0, 0, 0, 1]> (x) y = Conv(p, a)',
             {"a": (3, 2, 2, 2)}, IMAGE, "Conv2D", 10),
    "limits": ("y = Clip <min = 0.0> (x)", {}, ROWS, "ReLU", 10),
    "softmax": ("y = Softmax(x)", {}, ROWS, "Softmax", 11),
    "columns": ("u = Slice <starts = [0], ends = [2], axes = [1]> (x) v = Slice <starts = [2], "
                "ends = [100], axes = [-1]> (x) y = Concat <axis = 1> (v, u) ", {}, ROWS, None, 9),
    "split": ("u, v = Split <axis = 1, split = [2, 4]> (x) t = Tanh(u) "
              "y = Concat <axis = 1> (t, v)", {}, ROWS, "Columns", 11),
    "sum": ("t = Tanh(x) y = Sum(t, x)", {}, ROWS, "Residual", 8),
    "dropout": ("y = Dropout <ratio = 0.5> (x)", {}, ROWS, "Linear", 7),
    "broadcast": ("z = Conv(x, a) y = Add <broadcast = 1, axis = 1> (z, b)",
                  {"a": (3, 2, 2, 2), "b": (3,)}, IMAGE, "Conv2D", 6),
    "training": ("y = Dropout(x)", {}, ROWS, None, 6),
}  # fmt: skip


@pytest.mark.parametrize("name", OLDER)
def test_older_operator_sets(name):
    nodes, arrays, sizes, layers, opset = OLDER[name]
    content = written(nodes, arrays, sizes, opset=opset)
    if layers is None:
        with pytest.raises(ValueError, match=r"in order, each once|is_test: expected 1, got 0"):
            fastnn.onnx.load(content)
        return
    x = np.random.default_rng(1).normal(size=(3, *map(int, sizes.split(",")[1:])))
    x = x.astype(np.float32)
    if opset > 6:
        expected = ort.InferenceSession(content).run(None, {"x": x})[0]
    else:  # onnxruntime has no such operators
        model = onnx.load_model_from_string(content)
        weight, bias = map(onnx.numpy_helper.to_array, model.graph.initializer)
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))
        expected = np.einsum("nchwij,kcij->nkhw", windows, weight) + bias[:, None, None]
    model = fastnn.onnx.load(content)
    assert " ".join(type(layer).__name__ for layer in model) == layers
    y = model.predict(np.moveaxis(x, 1, -1) if sizes != ROWS else x)
    assert_close(np.moveaxis(y, -1, 1) if y.ndim > 2 else y, expected.astype(np.float32))
