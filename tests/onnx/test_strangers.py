"""Files that other programs wrote, in strangers/: what onnxruntime computes of them, fastnn does
too, and one that is wrong is refused."""

from pathlib import Path

import numpy as np
import pytest

import fastnn
from onnx_files import onnx

FOLDER = Path(__file__).parent / "strangers"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
REFUSED = {"sklearn_values": "Reshape"}  # it puts the two outputs of a row below one another
COLOURS = ("blue", "green", "red")
CLASSES = {"sklearn_three": COLOURS, "sklearn_three_zipmap": COLOURS, "sklearn_two": (1, 4)}
# the layers of some, whose graphs are not layer by layer the network that was written
LAYERS = {
    "torch_features_script": ["Dense", "LayerNorm", "Residual", "Mish", "Dense", "Scale"],
    "torch_residual_dynamo": ["Residual", "ReLU", "Residual", "ReLU", "GlobalAvgPool2D", "Dense",
                              "Sigmoid"],
    "torch_texts_dynamo": ["Embedding", "Conv1D", "ReLU", "Flatten", "Dense"],
    "keras_mlp": ["Dense", "BatchNorm", "Dense", "LayerNorm", "Dense", "Dense", "Dense"],
    "keras_codes": ["Embedding", "Flatten", "Dense"],
    "keras_sequence": ["Conv1D", "MaxPool1D", "Conv1D", "ReLU", "GlobalMaxPool1D", "Dense"],
    "sklearn_two": ["Dense", "Sigmoid", "Dense", "Sigmoid", "Dense", "Sigmoid", "Heads"],
}  # fmt: skip


def test_there_are_files_of_each():
    assert len(NAMES) == 22
    assert {name.split("_")[0] for name in NAMES} == {"torch", "sklearn", "keras"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_outputs_are_those_of_onnxruntime(name):
    model = fastnn.onnx.load(FOLDER / f"{name}.onnx")
    with np.load(FOLDER / f"{name}.npz") as data:
        x, outputs = data["x"], [data[key] for key in data.files if key[0] == "y"]
    if name.startswith("torch") and x.ndim > 2:  # channels first there
        x = np.moveaxis(x, 1, -1)
    (expected,) = (y for y in outputs if y.dtype.kind == "f")
    y = model.predict(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert model.classes == CLASSES.get(name)
    if model.classes:
        (labels,) = (label for label in outputs if label.dtype.kind != "f")
        assert np.array(model.classes)[y.argmax(axis=1)].tolist() == labels.tolist()
    if name in LAYERS:
        assert [type(layer).__name__ for layer in model] == LAYERS[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"{name}.onnx: node '\w+' \({REFUSED[name]}\): expected|shape"
    ):
        fastnn.onnx.load(FOLDER / f"{name}.onnx")


def test_the_scaler_of_a_pipeline_becomes_the_models():
    path = FOLDER / "sklearn_scaled.onnx"
    model = fastnn.onnx.load(path, scalers=True)
    with np.load(path.with_suffix(".npz")) as data:
        x, expected = data["x"], data["y0"]
    np.testing.assert_allclose(model.predict(model.scaler.transform(x)), expected, rtol=1e-5)
    attributes = {a.name: a.floats for a in onnx.load(path).graph.node[0].attribute}
    np.testing.assert_allclose(model.scaler.mean, attributes["offset"], rtol=1e-6)
    np.testing.assert_allclose(model.scaler.std, 1 / np.array(attributes["scale"]), rtol=1e-6)


def test_a_loaded_network_learns():
    """It is a model as any other: its layers follow one another in training too."""
    model = fastnn.onnx.load(FOLDER / "torch_residual_script.onnx")
    with np.load(FOLDER / "torch_residual_script.npz") as data:
        x = np.moveaxis(data["x"], 1, -1)
    y = np.eye(3)[: len(x)]
    history = model.fit(
        x, y, loss=fastnn.MeanSquaredError(), optimizer=fastnn.Adam(0.05), epochs=60,
        progress=False,
    )  # fmt: skip
    assert history["loss"][-1] < 0.5 * history["loss"][0]
