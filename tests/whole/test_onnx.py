"""The node tests of ONNX, which its package carries up to 1.22: each case is a small model of one
operator with inputs and outputs.  Every case of an operator that fastnn has is run, or listed with
the reason why not."""

import fnmatch
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential, _kernels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx warns at import
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")

NODES = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
if not NODES.is_dir():
    pytest.skip(f"onnx {onnx.__version__} has no node tests; 1.22.0 has", allow_module_level=True)

# name -> what fastnn lacks
LISTED = {
    "test_*pool_3d_*": "windows over three axes",
    "test_*pool_2d_dilations": "dilation in pooling",
    "test_maxpool_with_argmax_*": "indices of the maxima",
    "test_gemm_default_matrix_bias": "a bias of each row's own",
    "test_gelu_tanh_*": "GELU's approximation",
    "test_selu": "other constants of SELU",
    "test_selu_example": "other constants of SELU",
    "test_logsoftmax_*": "the logarithm of a softmax outside the loss",
    "test_nllloss_*": "the loss of logarithms of probabilities",
    "test_sce_*_log_prob": "the loss's logarithms of probabilities",
    "test_*dropout_*mask*": "dropout's mask",
    "test_training_dropout": "NumPy's random numbers",
    "test_training_dropout_default": "NumPy's random numbers",
}
# cases whose outputs have four digits
ROUNDED = ["test_averagepool_2d_ceil_last_window_starts_on_pad"]


# ---- nodes, computed by fastnn: (inputs, attributes) -> outputs ----


def run(layer, x, training=False, **arrays):
    """The layer's outputs with these parameters and this state, and the new state."""
    model = Sequential(layer)
    for name, array in arrays.items():
        {**model.parameters, **model.state}[f"0.{name}"][...] = array
    return model.forward(x, training), model.state


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def channels_first(y):
    return np.moveaxis(y, -1, 1)


def windows(a, size, kernel):
    """Stride and padding as fastnn's layers take them: numbers for sequences, else tuples."""
    n, sides = len(size), []
    strides = a.get("strides", [1] * n)
    pads, automatic = a.get("pads", [0] * 2 * n), a.get("auto_pad", b"NOTSET")
    for i, (length, stride) in enumerate(zip(size, strides, strict=True)):
        covered, before, behind = (kernel[i] - 1) * a.get("dilations", [1] * n)[i] + 1, *pads[i::n]
        if automatic == b"SAME_LOWER":  # the larger half before
            total = max(0, (math.ceil(length / stride) - 1) * stride + covered - length)
            before, behind = total - total // 2, total // 2
        if a.get("ceil_mode", 0):  # one window more, unless it begins behind the image
            places = math.ceil((length + before + behind - covered) / stride) + 1
            places -= (places - 1) * stride >= length + before
            behind = max(behind, (places - 1) * stride + covered - length - before)
        sides += before, behind
    padding = "same" if automatic == b"SAME_UPPER" else tuple(sides)
    return (strides[0] if n == 1 else tuple(strides)), padding


def conv(inputs, a):
    x, weight, *bias = inputs
    features, channels, *kernel = weight.shape
    stride, padding = windows(a, x.shape[2:], kernel)
    groups = a.get("group", 1)
    kind = fastnn.Conv1D if len(kernel) == 1 else fastnn.Conv2D
    size, dilation = (kernel[0], 1) if len(kernel) == 1 else (tuple(kernel), (1, 1))
    dilation = a.get("dilations", dilation)
    layer = kind(channels * groups, features, size, stride, padding, dilation, groups)
    arrays = {"weight": np.moveaxis(weight, (0, 1), (-1, -2))}
    arrays |= {"bias": bias[0]} if bias else {}
    return (channels_first(run(layer, channels_last(x), **arrays)[0]),)


def pool(name):
    def node(inputs, a):
        kernel = a["kernel_shape"]
        stride, padding = windows(a, inputs[0].shape[2:], kernel)
        kind = getattr(fastnn, f"{name}Pool{len(kernel)}D")
        counted = {"count_padding": True} if a.get("count_include_pad", 0) else {}
        layer = kind(kernel[0] if len(kernel) == 1 else tuple(kernel), stride, padding, **counted)
        return (channels_first(run(layer, channels_last(inputs[0]))[0]),)

    return node


def global_pool(make):
    return lambda inputs, a: (run(make(), channels_last(inputs[0]))[0][:, :, None, None],)


def flatten(inputs, a):
    """The axes before `axis` count as the batch."""
    (x,), axis = inputs, a.get("axis", 1)
    return (run(fastnn.Flatten(), x.reshape(-1, *x.shape[axis:] or (1,)))[0],) if axis else (
        run(fastnn.Flatten(), x[None])[0],
    )  # fmt: skip


def elementwise(make):
    """The layer on inputs of any shape; a vector counts as a row."""
    return lambda inputs, a: (run(make(a), np.atleast_2d(inputs[0]))[0].reshape(inputs[0].shape),)


def softmax(inputs, a):
    axis = a.get("axis", -1)
    rows = np.moveaxis(inputs[0], axis, -1)
    return (np.moveaxis(run(fastnn.Softmax(), rows)[0], -1, axis),)


def batch_norm(inputs, a):
    x, *arrays = inputs
    names = dict(zip(("gamma", "beta", "running_mean", "running_var"), arrays, strict=True))
    layer = fastnn.BatchNorm(x.shape[1], 1 - a.get("momentum", 0.9), a.get("epsilon", 1e-5))
    y, state = run(layer, channels_last(x), bool(a.get("training_mode", 0)), **names)
    return channels_first(y), state["0.running_mean"], state["0.running_var"]


def layer_norm(inputs, a):
    """The axes from `axis` on are the features."""
    (x, gamma, beta), axis, eps = inputs, a.get("axis", -1) % inputs[0].ndim, a.get("epsilon", 1e-5)
    rows = np.reshape(x, (-1, gamma.size))
    y, _ = run(fastnn.LayerNorm(gamma.size, eps=eps), rows, gamma=gamma.ravel(), beta=beta.ravel())
    _, *statistics = _kernels.layernorm_forward(rows, gamma.ravel(), beta.ravel(), eps)
    shape = x.shape[:axis] + (1,) * (x.ndim - axis)
    return y.reshape(x.shape), *(array.reshape(shape) for array in statistics)


def dense(x, weight, bias=0):
    return run(Dense(*weight.shape), x, weight=weight, bias=bias)[0]


def gemm(inputs, a):
    x, weight, *bias = inputs
    weight = a.get("alpha", 1) * (weight.T if a.get("transB", 0) else weight)
    bias = a.get("beta", 1) * bias[0] if bias else 0
    return (dense(x.T if a.get("transA", 0) else x, weight, bias),)


def matmul(inputs, a):
    """One dense layer for each matrix of the right factor."""
    x, w = inputs[0], inputs[1]
    x, w = x[None] if x.ndim == 1 else x, w[:, None] if w.ndim == 1 else w
    batch = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    x, w = (np.broadcast_to(m, batch + m.shape[-2:]) for m in (x, w))
    y = np.empty((*batch, x.shape[-2], w.shape[-1]), np.float32)
    for i in np.ndindex(*batch):
        y[i] = dense(x[i], w[i])
    return (y.reshape(np.matmul(*inputs).shape),)


def dropout(inputs, a):
    rate = inputs[1] if len(inputs) > 1 else a.get("ratio", 0.5)
    training = len(inputs) > 2 and bool(inputs[2])
    return (run(fastnn.Dropout(float(rate)), np.atleast_2d(inputs[0]), training)[0]
            .reshape(inputs[0].shape),)  # fmt: skip


def cross_entropy(inputs, a):
    """Class weights become weights of the rows; rows with an ignored label have weight 0."""
    scores, labels, *weights = inputs
    rows, loss = channels_last(scores).reshape(-1, scores.shape[1]), fastnn.SoftmaxCrossEntropy()
    ignored = labels.ravel() == a.get("ignore_index", -(10**9))
    label = np.where(ignored, 0, labels.ravel())
    weight = (weights[0][label] if weights else np.ones(len(label))) * ~ignored
    if a["reduction"] == b"none":
        each = [loss(row[None], [c])[0] for row, c in zip(rows, label, strict=True)]
        return (np.reshape(each * weight, labels.shape),)
    value = loss(rows, label, weight)[0]
    return (value * weight.sum() if a["reduction"] == b"sum" else value,)


def update(make, vectors):
    """Inputs: rate R, step T, then parameters X, gradients G and states; G gets the penalty.  At
    T = 0 ONNX corrects no bias, as Adam does after very many steps."""

    def node(inputs, a):
        assert inputs[1] == 0
        count = (len(inputs) - 2) // (2 + vectors)
        x, g, *kept = (
            np.concatenate(inputs[2 + i * count : 2 + (i + 1) * count]) for i in range(2 + vectors)
        )
        model, optimizer = Sequential(Dense(len(x), 1, bias=False)), make(float(inputs[0]), a)
        model.parameters["0.weight"][:, 0] = x
        model.gradients["0.weight"][:, 0] = g + a["norm_coefficient"] * x
        optimizer._bind(model)
        optimizer._set(step=1e6)
        for buffer, array in zip(optimizer._buffers, kept, strict=True):
            buffer[: len(x)] = array
        optimizer.step(model)
        ends = np.cumsum([len(array) for array in inputs[2 : 2 + count]])
        results = model.flat_parameters, *optimizer._buffers
        return [part for array in results for part in np.split(array, ends)[:count]]

    return node


OPERATORS = {
    "Conv": conv, "MaxPool": pool("Max"), "AveragePool": pool("Avg"),
    "GlobalAveragePool": global_pool(fastnn.GlobalAvgPool2D),
    "GlobalMaxPool": global_pool(fastnn.GlobalMaxPool2D),
    "Flatten": flatten, "BatchNormalization": batch_norm, "LayerNormalization": layer_norm,
    "Gemm": gemm, "MatMul": matmul, "Dropout": dropout, "Softmax": softmax,
    "Relu": elementwise(lambda a: fastnn.ReLU()),
    "LeakyRelu": elementwise(lambda a: fastnn.LeakyReLU(a.get("alpha", 0.01))),
    "Elu": elementwise(lambda a: fastnn.ELU(a.get("alpha", 1.0))),
    "Selu": elementwise(lambda a: fastnn.SELU()), "Gelu": elementwise(lambda a: fastnn.GELU()),
    "Sigmoid": elementwise(lambda a: fastnn.Sigmoid()),
    "Tanh": elementwise(lambda a: fastnn.Tanh()),
    "Softplus": elementwise(lambda a: fastnn.Softplus()),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "LogSoftmax": None, "NegativeLogLikelihoodLoss": None,
    "Adam": update(lambda rate, a: fastnn.Adam(
        rate, beta1=a["alpha"], beta2=a["beta"], eps=a["epsilon"]), vectors=2),
    "Momentum": update(lambda rate, a: fastnn.Momentum(
        rate, beta=a["alpha"], nesterov=a["mode"] == b"nesterov"), vectors=1),
}  # fmt: skip


# ---- the cases ----


def load(name):
    """The one node of a case's model, or None if it has several."""
    nodes = onnx.load(NODES / name / "model.onnx").graph.node
    return nodes[0] if len(nodes) == 1 else None


CASES = {
    name: node
    for name in sorted(path.name for path in NODES.iterdir() if "_expanded" not in path.name)
    if (node := load(name)) is not None and node.op_type in OPERATORS
}


def reasons(name):
    return [pattern for pattern in LISTED if fnmatch.fnmatchcase(name, pattern)]


def arrays(name, kind):
    paths = sorted((NODES / name / "test_data_set_0").glob(f"{kind}_*.pb"),
                   key=lambda path: int(path.stem.split("_")[1]))  # fmt: skip
    return [onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in paths]


def test_every_case_is_run_or_listed():
    assert {node.op_type for node in CASES.values()} == set(OPERATORS)
    assert {pattern for name in CASES for pattern in reasons(name)} == set(LISTED)
    for name, node in CASES.items():
        assert OPERATORS[node.op_type] or len(reasons(name)) == 1, name


@pytest.mark.parametrize("name", [name for name in CASES if not reasons(name)])
def test_node(name):
    node = CASES[name]
    a = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
    results, expected = OPERATORS[node.op_type](arrays(name, "input"), a), arrays(name, "output")
    assert len(results) >= len(expected)
    for result, array in zip(results, expected, strict=False):
        assert np.shape(result) == array.shape
        atol = 1e-4 if name in ROUNDED else 1e-6
        np.testing.assert_allclose(result, array, rtol=1e-5, atol=atol)
