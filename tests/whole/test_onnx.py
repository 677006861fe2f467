"""The node tests of ONNX, which its package carries up to 1.22: each case is a small model of one
operator with inputs and outputs, of which the first is compared.  Every case of an operator that
fastnn has is run, or listed with the reason why not: those of layers through `fastnn.onnx.load`,
those of training by hand."""

import fnmatch
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx may warn at import
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    import fastnn.onnx

NODES = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
if not NODES.is_dir():
    pytest.skip(f"onnx {onnx.__version__} has no node tests; 1.22.0 has", allow_module_level=True)

# operators of layers; of MOVED the model takes and gives the channels last
MOVED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
         "BatchNormalization"}  # fmt: skip
LAYERS = {
    *MOVED, "Flatten", "LayerNormalization", "Gemm", "MatMul", "Dropout", "Softmax", "Relu",
    "LeakyRelu", "Elu", "Selu", "Gelu", "Sigmoid", "Tanh", "Softplus", "Mish", "Swish", "PRelu",
    "LogSoftmax",
}  # fmt: skip
MOVED_ALONE = ["test_softmax_axis_1"]  # there, too, they are in axis 1
# cases whose outputs have four digits
ROUNDED = ["test_averagepool_2d_ceil_last_window_starts_on_pad"]
# name -> what fastnn lacks; of layers `load` refuses them
LISTED = {
    "test_*pool_3d_*": "windows over three axes",
    "test_*pool_2d_dilations": "dilation in pooling",
    "test_gemm_default_matrix_bias": "a bias of each row's own",
    "test_gelu_tanh_*": "GELU's approximation",
    "test_selu": "other constants of SELU",
    "test_selu_example": "other constants of SELU",
    "test_logsoftmax_*": "the logarithm of a softmax outside the loss",
    "test_nllloss_*": "the loss of logarithms of probabilities",
    "test_sce_*_log_prob": "the loss's logarithms of probabilities",
    "test_training_dropout": "dropout in evaluation",
    "test_training_dropout_mask": "dropout in evaluation",
    "test_training_dropout_default*": "dropout in evaluation",
    "test_flatten_axis[023]": "axes before the features that are no batch",
    "test_flatten_negative_axis[124]": "axes before the features that are no batch",
    "test_gemm_all_attributes": "rows in the second axis",
    "test_gemm_transposeA": "rows in the second axis",
    "test_layer_normalization_?d_axis0*": "a norm over several axes",
    "test_layer_normalization_[34]d_axis1*": "a norm over several axes",
    "test_layer_normalization_4d_axis2": "a norm over several axes",
    "test_layer_normalization_*negative_[234]*": "a norm over several axes",
    "test_matmul_3d": "a factor of each row's own",
    "test_matmul_4d": "a factor of each row's own",
    "test_matmul_bcast": "a factor of each row's own",
    "test_matmul_1d_3d": "a factor of each row's own",
    "test_maxpool_2d_uint8": "integers",
    "test_prelu_*": "a slope of each position's own",
    "test_softmax_axis_0": "a softmax over the batch",
    "test_batchnorm_*training_mode": "training",
}


# ---- losses and optimizers, computed by fastnn: (inputs, attributes) -> outputs ----


def channels_last(x):
    return np.moveaxis(x, 1, -1)


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


TRAINING = {
    "SoftmaxCrossEntropyLoss": cross_entropy, "NegativeLogLikelihoodLoss": None,
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
    if (node := load(name)) is not None and node.op_type in {*LAYERS, *TRAINING}
}


def reasons(name):
    return [pattern for pattern in LISTED if fnmatch.fnmatchcase(name, pattern)]


def arrays(name, kind):
    paths = sorted((NODES / name / "test_data_set_0").glob(f"{kind}_*.pb"),
                   key=lambda path: int(path.stem.split("_")[1]))  # fmt: skip
    return [onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in paths]


def network(name):
    """The case's model as bytes, whose inputs but for the first are arrays of the file, and x; of
    a vector the model takes rows."""
    model, (x, *others) = onnx.load(NODES / name / "model.onnx"), arrays(name, "input")
    first, *names = model.graph.input
    for its, array in zip(names, others, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, its.name))
    if x.ndim == 1:
        first.type.tensor_type.shape.dim.insert(0, first.type.tensor_type.shape.dim[0])
        first.type.tensor_type.shape.dim[0].dim_value = 1
    return model.SerializeToString(), np.atleast_2d(x)


def test_every_case_is_run_or_listed():
    assert {node.op_type for node in CASES.values()} == {*LAYERS, *TRAINING}
    assert {pattern for name in CASES for pattern in reasons(name)} == set(LISTED)
    for name, node in CASES.items():
        assert node.op_type in LAYERS or TRAINING[node.op_type] or len(reasons(name)) == 1, name


LOADED = [name for name in CASES if CASES[name].op_type in LAYERS]


@pytest.mark.parametrize("name", [name for name in LOADED if not reasons(name)])
def test_layer(name):
    model, x = network(name)
    moved = (CASES[name].op_type in MOVED and x.ndim > 2) or name in MOVED_ALONE
    loaded = fastnn.onnx.load(model, output=CASES[name].output[0])
    y, expected = loaded.predict(channels_last(x) if moved else x), arrays(name, "output")[0]
    y = np.moveaxis(y, -1, 1) if moved and y.ndim > 2 else y
    atol = 1e-4 if name in ROUNDED else 1e-6
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("name", [name for name in LOADED if reasons(name)])
def test_what_cannot_be_read_is_refused(name):
    with pytest.raises(ValueError, match=rf"node .* \({CASES[name].op_type}\): |expected "):
        fastnn.onnx.load(network(name)[0])


@pytest.mark.parametrize("name", [n for n in CASES if n not in LOADED and not reasons(n)])
def test_training(name):
    node = CASES[name]
    a = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
    results, expected = TRAINING[node.op_type](arrays(name, "input"), a), arrays(name, "output")
    assert len(results) >= len(expected)
    for result, array in zip(results, expected, strict=False):
        assert np.shape(result) == array.shape
        np.testing.assert_allclose(result, array, rtol=1e-5, atol=1e-6)


# ---- networks of one module that PyTorch once converted ----

CONVERTED = NODES.parent / "pytorch-converted"
UNREAD = {
    "test_Conv3d*": "windows over three axes",
    "test_*Pool3d*": "windows over three axes",
    "test_ConstantPad2d": "padding by other numbers than zero",
    "test_ConvTranspose2d*": "transposed convolution",
    "test_GLU*": "products of two halves",
    "test_[lL]og[_S]*oftmax*": "the logarithm of a softmax",
    "test_MaxPool?d_*dilation": "dilation in pooling",
    "test_PixelShuffle": "positions out of channels",
    "test_PoissonNLLLLoss_no_reduce": "a loss",
    "test_Re*Pad2d": "padding by other numbers than zero",
    "test_ZeroPad2d": "padding without a convolution",
    "test_Softsign": "another activation",
}


def unread(name):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in UNREAD)


@pytest.mark.parametrize("name", sorted(path.name for path in CONVERTED.iterdir()))
def test_converted(name):
    model, data = CONVERTED / name / "model.onnx", CONVERTED / name / "test_data_set_0"
    if unread(name):
        with pytest.raises(ValueError, match=r"model\.onnx: node "):
            fastnn.onnx.load(model)
        return
    x, y = (
        onnx.numpy_helper.to_array(onnx.load_tensor(data / f"{which}_0.pb"))
        for which in ("input", "output")
    )
    loaded = fastnn.onnx.load(model)
    moved = any(part in repr(loaded) for part in ("1D", "2D", "BatchNorm")) and x.ndim > 2
    z = loaded.predict(channels_last(x) if moved else x)
    z = np.moveaxis(z, -1, 1) if moved and z.ndim > 2 else z
    np.testing.assert_allclose(z.reshape(y.shape), y, rtol=1e-4, atol=1e-5)
