"""fastnn.onnx.export: every layer and whole networks, as onnxruntime computes them."""

import importlib
import json
import sys

import numpy as np
import pytest

import fastnn
from fastnn import (
    ELU,
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool2D,
    Heads,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ParametricActivation,
    PeriodicEmbedding,
    ReLU,
    Residual,
    Scale,
    Sequential,
    Softmax,
    Standardizer,
)
from fastnn.onnx import export
from networks import MORE, moved, rows_of
from onnx_files import Written, assert_close, dims, onnx
from tables import IMAGE_LAYERS, LAYERS

# name -> (layers, shape of a row): what the tables have for rows of one dimension alone
ON_IMAGES = {
    "norms": (
        lambda: [BatchNorm(4), LayerNorm(4), Conv2D(4, 6, 2), BatchNorm(6), LayerNorm(6)],
        (5, 6, 4),
    ),
    "features": (
        lambda: [
            Scale(4), ParametricActivation(4, ELU(0.7)), Softmax(), Conv2D(4, 6, 2), Scale(6),
            ParametricActivation(6, "mish"), Softmax(),
        ],
        (5, 6, 4),
    ),
    "sequences": (
        lambda: [Conv1D(4, 6, 3), LayerNorm(6), Scale(6), Residual(Conv1D(6, 6, 1)), Flatten()],
        (7, 4),
    ),
    "layouts": (
        lambda: [
            Residual(LayerNorm(4), shortcut=Conv2D(4, 4, 1)),
            Residual(Conv2D(4, 4, 3, padding="same"), LayerNorm(4)),
            Heads(Conv2D(4, 3, 1), LayerNorm(4), Scale(4)), Heads(LayerNorm(11), Conv2D(11, 2, 1)),
        ],
        (5, 6, 4),
    ),
    "embeddings": (
        lambda: [
            Block(Heads(Embedding(9, 3), Block(Embedding(9, 4), LayerNorm(4)))), Conv1D(7, 2, 2),
        ],
        (5,),
    ),
    "one part": (lambda: [Columns((3, PeriodicEmbedding(3))), Columns((12, None))], (3,)),
}  # fmt: skip


def written(name, dtype, channels, rng, tmp_path):
    """The outputs of one of the networks, those that are expected, and the file."""
    if name in ON_IMAGES:
        layers, shape = ON_IMAGES[name]
        layers = layers()
    else:
        layers, shape, _ = rows_of(name)
    model = moved(Sequential(*layers, seed=1, dtype=dtype), rng)
    x = rng.standard_normal((5, *shape)).astype(dtype)
    for embedding, columns in model._chain.codes:
        x[:, columns] = rng.integers(0, embedding.n, x[:, columns].shape)
    file, expected = Written(model, tmp_path, shape=shape, channels=channels), model.predict(x)
    x = x.astype(file.dtype)
    is_first = channels == "first"
    y = file(np.moveaxis(x, -1, 1) if is_first else x)["output"]
    expected = np.moveaxis(expected, -1, 1) if is_first else expected
    assert dims(file.graph.output[0]) == ["batch", *expected.shape[1:]]
    assert model.parameters.keys() | model.state.keys() <= file.arrays.keys()
    return y, expected


NAMES = [*LAYERS, *IMAGE_LAYERS, *MORE, *ON_IMAGES]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_models(name, dtype, rng, tmp_path):
    assert_close(*written(name, dtype, "last", rng, tmp_path))


@pytest.mark.parametrize("name", [*IMAGE_LAYERS, *ON_IMAGES, "images", "paths in paths"])
def test_channels_first(name, rng, tmp_path):
    assert_close(*written(name, np.dtype("float32"), "first", rng, tmp_path))


def test_far_numbers(rng, tmp_path):
    """Where exponentials overflow, or the angles of waves are large."""
    x = np.array([[-1e4, -90, -20, 0, 1, 90, 1e4]], np.float32).T
    for name in (
        "elu",
        "gelu",
        "mish",
        "parametric selu",
        "periodic",
        "sigmoid",
        "silu",
        "softplus",
    ):
        model = Sequential(LAYERS[name](1), seed=0)
        assert_close(Written(model, tmp_path, shape=(1,))(x)["output"], model.predict(x))


# ---- the graph ----


def images():
    return [
        Conv2D(1, 4, 3, activation="relu"), BatchNorm(4), ReLU(), MaxPool2D(2), Dropout(0.5),
        Residual(Conv2D(4, 4, 3, padding="same")), Flatten(), Dense(36, 10),
    ]  # fmt: skip


def test_images_are_transposed_once_and_back(tmp_path):
    model = Sequential(*images())
    run = ["Conv", "Relu", "BatchNormalization", "Relu", "MaxPool", "Conv", "Add"]
    file = Written(model, tmp_path, shape=(8, 8, 1))
    assert file.operators == ["Transpose", *run, "Transpose", "Flatten", "Gemm"]
    assert dims(file.input) == ["batch", 8, 8, 1]
    file = Written(model, tmp_path, shape=(8, 8, 1), channels="first")
    assert file.operators == [*run, "Transpose", "Flatten", "Gemm"]
    assert dims(file.input) == ["batch", 1, 8, 8]
    heads = Sequential(Heads(Conv2D(2, 3, 1), Conv2D(2, 1, 1)), GlobalAvgPool2D())
    file = Written(heads, tmp_path, shape=(8, 8, 2))
    assert file.operators == ["Transpose", "Conv", "Conv", "Concat", "ReduceMean"]


def test_arrays_are_the_models(rng, tmp_path):
    model = moved(Sequential(*images()), rng)
    file = Written(model, tmp_path, shape=(8, 8, 1))
    arrays = {**model.parameters, **model.state}
    assert file.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        lies = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        np.testing.assert_array_equal(file.arrays[name], lies, strict=True)


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_any_number_of_rows(rows, rng, tmp_path):
    model, x = Sequential(*images(), seed=0), rng.random((rows, 8, 8, 1), np.float32)
    assert_close(Written(model, tmp_path, shape=(8, 8, 1))(x)["output"], model.predict(x))


def test_numbers_that_attributes_do_not_hold(rng, tmp_path):
    """In float64 they are arrays; in float32 they are the kernels' own."""
    layers = LeakyReLU(0.3), ELU(0.7), BatchNorm(3, eps=1e-3), LayerNorm(3, eps=1e-3)
    model, x = Sequential(*layers, dtype="float64"), rng.normal(0, 0.01, (9, 3))
    model.state["2.running_var"][...] = 1e-4
    assert_close(Written(model, tmp_path, shape=(3,))(x)["output"], model.predict(x))
    exact = Sequential(LeakyReLU(0.25), BatchNorm(3, eps=2.0**-10), dtype="float64")
    file = Written(exact, tmp_path, shape=(3,))
    assert file.operators == ["LeakyRelu", "BatchNormalization"]
    np.testing.assert_array_equal(file.arrays["1.running_var"], np.ones(3))
    attributes = {a.name: a.f for a in file.graph.node[1].attribute}
    assert attributes == {"epsilon": 2.0**-10, "momentum": np.float32(0.9)}


def test_names_of_ones_own(rng, tmp_path):
    """Also such as arrays and nodes have."""
    model, x = Sequential(Dense(3, 2), ReLU(), seed=0), np.ones((2, 3), np.float32)
    for input_name, output in [("0.weight", "0.bias"), ("0.Gemm", "1.Relu"), ("x", "output")]:
        file = Written(model, tmp_path, input_name=input_name, output_names=output)
        assert file.input.name == input_name and file.outputs == [output]
        assert_close(file(x)[output], model.predict(x))
    for nothing in (Flatten(), Dropout(0.5), Columns((3, None))):
        names = {"input_name": "output", "output_names": ["y"]}
        file = Written(Sequential(nothing), tmp_path, shape=(3,), **names)
        assert file.operators == ["Identity"]
        np.testing.assert_array_equal(file(x)["y"], x)


def test_what_the_file_says_of_itself(tmp_path):
    model = Sequential(Dense(3, 2), seed=0)
    model.classes = ["no", "yes"]
    file = Written(model, tmp_path)
    producer = file.proto.producer_name, file.proto.producer_version
    assert producer == ("fastnn", fastnn.__version__)
    assert [(o.domain, o.version) for o in file.proto.opset_import] == [("", 17)]
    assert file.proto.ir_version == 8 and file.proto.doc_string
    assert {p.key: json.loads(p.value) for p in file.proto.metadata_props} == {
        "classes": ["no", "yes"]
    }


# ---- scalers and classes ----


@pytest.mark.parametrize("scaler_dtype", ["float32", "float64"])
def test_scalers(scaler_dtype, dtype, rng, tmp_path):
    X, y = rng.normal(1e4, 1, (50, 5, 6, 2)), rng.normal(1e3, 1, (50, 3))
    model = moved(Sequential(Conv2D(2, 4, 3), GlobalAvgPool2D(), Dense(4, 3), dtype=dtype), rng)
    model.scaler = Standardizer(scaler_dtype).fit(X)
    model.target_scaler = Standardizer().fit(y)
    x = X.astype(dtype)
    outputs = model.predict(model.scaler.transform(x))
    expected = model.target_scaler.inverse_transform(outputs).astype(dtype)
    for channels, its in [("last", x), ("first", np.moveaxis(x, -1, 1))]:
        file = Written(model, tmp_path, shape=(5, 6, 2), channels=channels)
        assert_close(file(its)["output"], expected)
    plain = Written(model, tmp_path, shape=(5, 6, 2), scalers=False)
    assert_close(plain(model.scaler.transform(x).astype(dtype))["output"], outputs)


def test_images_have_target_scalers_too(rng, tmp_path):
    model, x = Sequential(Conv2D(2, 3, 1)), rng.random((4, 5, 6, 2), np.float32)
    model.target_scaler = Standardizer().fit(rng.normal(9, 3, (50, 3)))
    expected = model.target_scaler.inverse_transform(model.predict(x)).astype(np.float32)
    for channels in ("last", "first"):
        file = Written(model, tmp_path, shape=(5, 6, 2), channels=channels)
        lies = np.moveaxis(x, -1, 1) if channels == "first" else x
        y = file(lies)["output"]
        assert_close(np.moveaxis(y, 1, -1) if channels == "first" else y, expected)


@pytest.mark.parametrize("classes", [["no", "yes", "ünsure"], [10, 20, -(2**63)]])
def test_classes(classes, rng, tmp_path):
    model, x = Sequential(Dense(4, 3)), rng.random((20, 4), np.float32)
    model.classes = classes
    file, expected = Written(model, tmp_path), model.predict(x)
    y = file(x)
    assert file.outputs == ["output", "output_label"] and len(set(y["output_label"])) > 1
    assert_close(y["output"], expected)
    assert y["output_label"].tolist() == [classes[i] for i in expected.argmax(axis=1)]
    assert dims(file.graph.output[1]) == ["batch"]
    model.classes = classes[:2]  # of what, nobody knows
    assert Written(model, tmp_path).outputs == ["output"]


def test_codes_are_integers(rng, tmp_path):
    model, codes = Sequential(Embedding(9, 4), Flatten(), Dense(8, 1)), rng.integers(0, 9, (5, 2))
    file = Written(model, tmp_path, shape=(2,))
    assert file.operators == ["Gather", "Flatten", "Gemm"] and file.dtype == np.int64
    assert_close(file(codes)["output"], model.predict(codes))


# ---- what is refused ----


class Double(Layer):
    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def test_what_is_refused(tmp_path):
    model, path = Sequential(Dense(3, 2)), tmp_path / "net.onnx"
    for wrong in (Dense(3, 2), Sequential, "net"):
        with pytest.raises(TypeError, match="model: expected a Sequential or an estimator"):
            export(wrong, path)
    for own in ([Double()], [Dense(3, 3), Residual(Double())]):
        with pytest.raises(TypeError, match=r"(?s)fastnn's own, got .*Double"):
            export(Sequential(*own), path, shape=(3,))
    with pytest.raises(ValueError, match="shape: expected that of a row"):
        export(Sequential(Conv2D(1, 2, 3)), path)
    with pytest.raises(ValueError, match=r"channels: expected .*last.* got 'middle'"):
        export(model, path, channels="middle")
    with pytest.raises(TypeError, match="output_names: expected a name or several, got 3"):
        export(model, path, output_names=3)
    with pytest.raises(TypeError, match="input_name: expected a name"):
        export(model, path, input_name=["x"])
    for wrong in ("", ["y", "y"], "\ud800"):
        with pytest.raises(ValueError, match="output_names: expected"):
            export(model, path, output_names=wrong)
    with pytest.raises(ValueError, match=r"output_names: expected 1 names, for output, got \["):
        export(model, path, output_names=["y", "z"])
    with pytest.raises(ValueError, match="input_name: expected another name than the outputs'"):
        export(model, path, input_name="output")
    model.scaler = Standardizer().fit(np.eye(4))
    with pytest.raises(ValueError, match="scaler: expected one of 3 features, got 4"):
        export(model, path)
    model.classes = ["\ud800", "b"]
    with pytest.raises(TypeError, match="model: expected classes that are all texts"):
        export(model, path, scalers=False)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    export(Sequential(Dense(3, 2)), path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="none"):
        export(Sequential(Dense(3, 2)), tmp_path / "none" / "net.onnx")
    monkeypatch.setattr("os.replace", lambda *names: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(Sequential(Dense(3, 4)), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_onnx_is_named_where_it_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("fastnn.onnx", "onnx."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="needs onnx: pip install onnx"):
        importlib.import_module("fastnn.onnx")
    assert onnx is not None
