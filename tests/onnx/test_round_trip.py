"""fastnn.onnx.load of what fastnn.onnx.export writes: the same layers and the same bits."""

import re

import numpy as np
import pytest

import fastnn
from fastnn import (
    GELU,
    BatchNorm,
    Block,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Heads,
    Linear,
    MaxPool2D,
    ParametricActivation,
    ReLU,
    Residual,
    Scale,
    Sequential,
    Softmax,
    Standardizer,
)
from fastnn.layers.block import plain_layers
from networks import MORE, moved, rows_of
from onnx_files import fastnn as _fastnn  # noqa: F401
from tables import IMAGE_LAYERS, LAYERS

# In float64 the file has another eps and a variance that makes up for it, which rounds.
ROUNDED = ["batch norm 0.5"]


def loaded(model, folder, *, output=None, scalers=False, **arguments):
    fastnn.onnx.export(model, folder / "net.onnx", **arguments)
    return fastnn.onnx.load(folder / "net.onnx", output=output, scalers=scalers)


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [
        *((name, "float32", "last") for name in [*LAYERS, *IMAGE_LAYERS, *MORE]),
        *((name, "float64", "last") for name in LAYERS),
        *((name, "float32", "first") for name in [*IMAGE_LAYERS, "images", "paths in paths"]),
    ],
)
def test_every_layer_comes_back_with_the_same_bits(name, dtype, channels, tmp_path):
    rng = np.random.default_rng(0)
    layers, shape, _ = rows_of(name)
    model = moved(Sequential(*layers, dtype=dtype, seed=1), rng)
    if any("Embedding(" in text for text in map(repr, model)):
        x = rng.integers(0, 9, (20, *shape)).astype(dtype)
    else:
        x = rng.normal(size=(20, *shape)).astype(dtype)
    back, expected = loaded(model, tmp_path, shape=shape, channels=channels), model.predict(x)
    assert back.dtype == model.dtype
    bound = 1e-15 if name in ROUNDED and dtype == "float64" else 0
    np.testing.assert_allclose(back.predict(x), expected, rtol=bound, atol=bound)
    if "Dropout" not in repr(model) and "Flatten" not in repr(model) and not bound:
        arrays = [array.tobytes() for array in model.parameters.values()]
        assert [array.tobytes() for array in back.parameters.values()] == arrays


def test_the_same_layers_come_back(tmp_path):
    layers = [
        Conv2D(2, 4, 3, stride=(1, 2), padding=(0, 1, 2, 3), activation="relu", groups=2),
        BatchNorm(4), GELU(), MaxPool2D(2), Residual(Conv2D(4, 4, 1), ReLU()), Flatten(),
        Dense(16, 8, bias=False), Dense(8, 8, activation=fastnn.LeakyReLU(0.2)),
        Residual(Dense(8, 8), shortcut=Block(Dense(8, 8), ReLU())), Softmax(),
    ]  # fmt: skip
    model = Sequential(*layers, seed=3)
    back = loaded(model, tmp_path, shape=(6, 5, 2))
    assert repr(back).replace("seed=0", "seed=3") == repr(model)
    assert list(back.parameters) == list(model.parameters)
    assert all(np.array_equal(back.parameters[n], a) for n, a in model.parameters.items())


# layers, shape of a row
SCALES = {
    "before GELU": (lambda: [Scale(2), GELU()], (2,)),
    "of one channel": (lambda: [Scale(1), Conv2D(1, 2, 2)], (4, 5, 1)),
    "of one channel alone": (lambda: [Scale(1), ReLU()], (4, 5, 1)),
    "bent, of one channel": (
        lambda: [ParametricActivation(1, "relu"), Conv2D(1, 2, 2)], (4, 5, 1)),
    "twice": (lambda: [Scale(3), Scale(3)], (3,)),
    "before a residual": (lambda: [Scale(3), Residual(Scale(3), ReLU())], (3,)),
    "before heads": (lambda: [Scale(3), Heads(Scale(3), Dense(3, 2))], (3,)),
    "behind GELU": (lambda: [Dense(2, 3), GELU(), Scale(3), Residual(GELU(), Scale(3))], (2,)),
}  # fmt: skip


@pytest.mark.parametrize("by", [1, 0.7])
@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("name", SCALES)
def test_factors_stay_apart(name, channels, by, tmp_path):
    """Also those of 1."""
    layers, shape = SCALES[name]
    model = Sequential(*layers(), seed=0)
    for array in model.parameters.values():
        array *= np.float32(by) ** np.arange(1, array.shape[-1] + 1, dtype=np.float32)
    back = loaded(model, tmp_path, shape=shape, channels=channels)
    assert repr(back) == repr(model)
    assert list(back.parameters) == list(model.parameters)
    assert all(np.array_equal(back.parameters[n], a) for n, a in model.parameters.items())


def test_dropout_and_linear_are_gone(tmp_path):
    back = loaded(Sequential(Dropout(0.5), Dense(3, 2), Linear(), Dropout(0.1)), tmp_path)
    assert list(map(repr, plain_layers(back.layers))) == ["Dense(3, 2)"]


def with_scalers(dtype):
    rng = np.random.default_rng(1)
    x, y = rng.normal(5, 3, (50, 4)), rng.normal(-2, 9, (50, 2))
    model = Sequential(Dense(4, 8, activation="tanh"), Dense(8, 2), seed=0, dtype=dtype)
    model.scaler = Standardizer(dtype).fit(x)
    model.target_scaler = Standardizer(dtype).fit(y)
    return model, x.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scalers_come_back(dtype, tmp_path):
    model, x = with_scalers(dtype)
    back = loaded(model, tmp_path, scalers=True)
    for name in ("scaler", "target_scaler"):
        for part in ("mean", "std"):
            found, expected = (getattr(getattr(m, name), part) for m in (back, model))
            assert found.tobytes() == expected.tobytes()
    assert [type(layer) for layer in back] == [type(layer) for layer in model]
    np.testing.assert_array_equal(back.predict(x), model.predict(x))


def test_scalers_are_layers_otherwise(tmp_path):
    model, x = with_scalers("float64")
    back = loaded(model, tmp_path)
    assert back.scaler is None and back.target_scaler is None
    y = model.target_scaler.inverse_transform(model.predict(model.scaler.transform(x)))
    np.testing.assert_allclose(back.predict(x), y, rtol=1e-12)


def test_a_scaler_in_double_is_no_layer_of_a_float32_network(tmp_path):
    model, _ = with_scalers("float32")
    with pytest.raises(ValueError, match=r"float32 .* got float64; scalers=True makes it"):
        loaded(model, tmp_path)


@pytest.mark.parametrize("classes", [("a", "b", "c"), (5, 7, -1)])
def test_classes_come_back(classes, tmp_path):
    model = Sequential(Dense(4, 3, activation="softmax"))
    model.classes = classes
    assert loaded(model, tmp_path).classes == classes


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_an_estimator_becomes_its_network(tmp_path):
    sklearn = pytest.importorskip("fastnn.sklearn", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    for y in (np.array(["no", "yes"])[(x[:, 0] > 0) * 1], np.digitize(x[:, 1], [-0.5, 0.5]) * 4):
        mlp = sklearn.MLPClassifier((6,), max_iter=3, random_state=0).fit(x, y)
        back = loaded(mlp, tmp_path)
        np.testing.assert_allclose(back.predict(x), mlp.predict_proba(x), rtol=0, atol=1e-6)
        assert back.classes == tuple(mlp.classes_.tolist())


def test_an_output_is_chosen_by_name(tmp_path):
    model = Sequential(Dense(4, 3, activation="softmax"))
    model.classes = ("a", "b", "c")
    with pytest.raises(ValueError, match=r"one of \['output', 'output_label'\], got 'logits'"):
        loaded(model, tmp_path, output="logits")
    with pytest.raises(ValueError, match=r"expected one output of numbers .*, got 0"):
        loaded(model, tmp_path, output="output_label")
    x = np.ones((1, 4), np.float32)
    y = loaded(model, tmp_path, output="output").predict(x)
    np.testing.assert_array_equal(y, model.predict(x))


def test_an_image_that_is_flattened_and_given_is_refused(tmp_path):
    """The numbers would come in another order than the graph gives."""
    model = Sequential(Conv2D(1, 2, 3), seed=0)
    fastnn.onnx.export(model, tmp_path / "net.onnx", shape=(5, 5, 1), channels="first")
    from onnx import helper, load_model

    proto = load_model(tmp_path / "net.onnx")
    proto.graph.node.append(helper.make_node("Flatten", [proto.graph.output[0].name], ["flat"]))
    proto.graph.output[0].name = "flat"
    with pytest.raises(ValueError, match=re.escape("whose order would be another one")):
        fastnn.onnx.load(proto.SerializeToString())
