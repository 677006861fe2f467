"""Files of Keras 3 without Keras: they were made by make_data.py, with the outputs of Keras."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastnn import (
    BatchNorm,
    Block,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool1D,
    LayerNorm,
    MaxPool1D,
    ReLU,
    Residual,
    Sequential,
)
from fastnn.keras import load, load_weights

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
DATA = Path(__file__).parent / "data"
EXPECTED = np.load(DATA / "expected.npz")


def codes(eps=1e-3):
    return Sequential(
        Embedding(5, 3), Conv1D(3, 4, 3, padding=(4, 0), dilation=2, activation="silu"),
        BatchNorm(4, eps=eps), MaxPool1D(2), GlobalAvgPool1D(), Dense(4, 3),
    )  # fmt: skip


def straight(layers=3):
    return Sequential(*(Dense(4, 4, activation="tanh") for _ in range(layers)))


def check(model, name):
    y = EXPECTED[f"{name}_y"]
    np.testing.assert_allclose(model.predict(EXPECTED[f"{name}_x"]), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["images", "codes"])
def test_a_whole_network(name):
    model = load(DATA / f"{name}.keras", seed=7)
    check(model, name)
    assert model.seed == 7 and model.dtype == "float32"
    other = model[:]
    other.flat_parameters[...] = 0
    load_weights(other, DATA / f"{name}.keras")
    check(other, name)


def test_the_settings_of_a_whole_network():
    model = load(DATA / "images.keras")
    first, norm, *_ = model.layers
    assert (first.kernel_size, first.stride, first.padding) == ((3, 2), 2, "same")
    assert norm.eps == 2e-3 and norm.momentum == pytest.approx(0.01)
    assert [layer.rate for layer in model.layers if isinstance(layer, Dropout)] == [
        pytest.approx(0.3, abs=1e-5)
    ]
    assert model.layers[8].activation.alpha == 0.2
    assert isinstance(model.layers[10], Block)


def test_weights_alone():
    model = codes()
    assert load_weights(model, DATA / "codes.weights.h5") is None
    y = EXPECTED["codes_y"]
    got = model.predict(EXPECTED["codes_x"])
    np.testing.assert_allclose(np.where(got > 0, got, 0.7 * np.expm1(got)), y, 1e-6, 1e-6)
    model = straight()
    load_weights(model, str(DATA / "straight.weights.h5"))
    check(model, "straight")


@pytest.mark.parametrize("make, message", [
    (lambda: straight(4), "missing dense_3, for layer 3, Dense"),
    (lambda: straight(2), "unexpected dense_2"),
    (lambda: Sequential(Dense(4, 4), Dense(4, 4, bias=False), Dense(4, 4)),
     "dense_1 has 2 arrays; layer 1, Dense.*has weight"),
    (lambda: Sequential(Dense(4, 5), Dense(5, 4), Dense(4, 4)),
     r"of another shape .*dense/vars/0 expected \(4, 5\), got \(4, 4\)"),
    (lambda: Sequential(Dense(4, 4), ReLU(), Block(Dense(4, 4))), "missing sequential"),
    (lambda: Sequential(Dense(4, 4), LayerNorm(4), Dense(4, 4)), "missing layer_normalization"),
])  # fmt: skip
def test_other_layers_are_refused(make, message):
    model = make()
    before = model.flat_parameters.copy()
    with pytest.raises(ValueError, match=rf"straight.weights.h5: {message}"):
        load_weights(model, DATA / "straight.weights.h5")
    np.testing.assert_array_equal(model.flat_parameters, before)


def test_what_keras_does_not_have_is_refused():
    with pytest.raises(TypeError, match=r"model: layer 0, Residual.*Keras has no such"):
        load_weights(Sequential(Residual(Dense(4, 4))), DATA / "straight.weights.h5")
    with pytest.raises(TypeError, match="model: expected a Sequential"):
        load_weights(Dense(4, 4), DATA / "straight.weights.h5")
    with pytest.raises(ValueError, match=r"straight.weights.h5: expected a \.keras file"):
        load(DATA / "straight.weights.h5")


def test_another_epsilon_is_refused_where_the_file_says_it():
    with pytest.raises(ValueError, match=r"BatchNorm\(4\) has eps=1e-05, in the file it is 0.001"):
        load_weights(codes(eps=1e-5), DATA / "codes.keras")
    load_weights(codes(), DATA / "codes.keras")


# ---- files that are not as Keras writes them ----


def rewritten(tmp_path, change=None, config=None, name="codes", method=zipfile.ZIP_STORED):
    """A .keras file, after `change(hdf5)` and `config(layers)`."""
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(DATA / f"{name}.keras") as archive:
        described = json.loads(archive.read("config.json"))
        weights = io.BytesIO(archive.read("model.weights.h5"))
    if change is not None:
        with h5py.File(weights, "a") as file:
            change(file)
    if config is not None:
        config(described["config"]["layers"])
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("config.json", json.dumps(described))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def replace(place, make):
    def change(file):
        del file[place]
        make(file, place)

    return change


KERNEL = "layers/dense/vars/0"
OTHER = h5py.ExternalLink("straight.weights.h5", KERNEL)
VALUES = np.ones((4, 3), np.float32)


def external(file, place):
    file.create_dataset(place, (4, 3), "f4", external=[("/etc/passwd", 0, 48)])


def virtual(file, place):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape=(4, 3))
    file.create_virtual_dataset(place, layout)


def many(file, place):
    """Arrays that share their bytes."""
    file.create_dataset("big", data=np.zeros(20_000, np.float32))
    for i in range(10, 20):
        file[f"layers/dense/vars/{i}"] = file["big"]


@pytest.mark.parametrize("make, message", [
    (lambda f, p: f.__setitem__(p, OTHER), "expected a Dataset, got a link"),
    (lambda f, p: f.__setitem__(p, h5py.SoftLink("/layers/conv1d/vars/0")), "got a link"),
    (lambda f, p: f.create_group(p), "expected a Dataset, got a Group"),
    (external, "do not lie in the file"), (virtual, "do not lie in the file"),
    (lambda f, p: f.create_dataset(p, data=VALUES, compression="gzip"), "do not lie in the file"),
    (lambda f, p: f.create_dataset(p, (10**6, 10**6), "f4"), "do not lie in the file"),
    (lambda f, p: f.create_dataset(p, data=VALUES.astype(int)), "floating-point .* got int64"),
    (lambda f, p: f.create_dataset(p, data=VALUES.astype("f2")), "arrays of one type"),
    (lambda f, p: f.create_dataset(p, data=VALUES.astype("f8")), "arrays of one type"),
    (lambda f, p: f.create_dataset(p, data=VALUES[0]), "Dense: not enough values"),
    (lambda f, p: f.create_dataset(p, data=VALUES[:3]), "Dense|of another shape|features"),
    (lambda f, p: f.create_dataset(p, data=VALUES[:, :2]), "units=3, but its arrays have 2"),
    (lambda f, p: f.create_dataset("layers/dense/vars/7", data=VALUES), "expected 0, 1, ..."),
    (many, "expected 0, 1"),
])  # fmt: skip
def test_hostile_arrays_are_refused(make, message, tmp_path):
    path = rewritten(tmp_path, replace(KERNEL, make))
    with pytest.raises(ValueError, match=rf"bad.keras: .*({message})"):
        load(path)


def test_arrays_that_share_their_bytes_are_counted(tmp_path):
    def change(file):
        for kind in ("embedding", "conv1d"):
            del file[f"layers/{kind}/vars/0"]
        big = file.create_dataset("big", data=np.zeros((9000, 3), np.float32))
        file["layers/embedding/vars/0"] = big
        file["layers/conv1d/vars/0"] = big

    with pytest.raises(ValueError, match="the file has fewer bytes than its arrays"):
        load(rewritten(tmp_path, change))


@pytest.mark.parametrize("layer, setting, value, message", [
    (2, "data_format", "channels_first", "data_format='channels_first'"),
    (2, "filters", 5, "filters=5, but its arrays have 4"), (2, "groups", 2, "expected|groups"),
    (2, "padding", "reflect", "padding"), (2, "activation", "relu6", "activation"),
    (2, "activation", {"class_name": "Own"}, "activation: expected a name"),
    (2, "kernel_size", 2, "arrays of shapes"),
    (2, "kernel_size", [10**9], "arrays of shapes"), (2, "strides", -1, "stride"),
    (2, "use_bias", False, "arrays of shapes"), (1, "mask_zero", True, "mask_zero=True"),
    (3, "axis", 1, "axis=1"), (3, "center", False, "center=False"), (3, "epsilon", None, "eps"),
    (3, "momentum", "x", "BatchNormalization"), (3, "dtype", "float16", "got 'float16'"),
    (6, "quantization_config", {}, "quantization_config"), (6, "units", 10**12, "units=10"),
    (4, "pool_size", [2, 2], "pool|kernel_size"), (7, "alpha", -1, "alpha"),
])  # fmt: skip
def test_settings_that_no_layer_has_are_refused(layer, setting, value, message, tmp_path):
    def config(layers):
        assert setting in layers[layer]["config"]
        layers[layer]["config"][setting] = value

    with pytest.raises(ValueError, match=rf"bad.keras: .*({message})"):
        load(rewritten(tmp_path, config=config))


@pytest.mark.parametrize("change, message", [
    (lambda layer: layer.update(class_name="LSTM"), "LSTM: no layer of fastnn's"),
    (lambda layer: layer.update(registered_name="Own>Dense"), "one of Keras' own"),
    (lambda layer: layer.update(module="os"), "one of Keras' own"),
    (lambda layer: layer.update(class_name="Functional"), "Functional: no layer"),
    (lambda layer: layer.update(class_name=["x"]), "no layer"),
    (lambda layer: layer.update(class_name="x" * 10**5), "xxx"),
    (lambda layer: layer.update(config=3), "int"), (lambda layer: layer.clear(), "class_name"),
    (lambda layer: layer["config"].clear(), "activation|units"),
])  # fmt: skip
def test_other_descriptions_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=rf"bad.keras: .*({message})") as caught:
        load(rewritten(tmp_path, config=lambda layers: change(layers[6])))
    assert len(str(caught.value)) < 3000


def test_it_needs_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"fastnn.keras needs h5py: pip install h5py"):
        load(DATA / "codes.keras")


def test_other_files_are_refused(tmp_path):
    for name in ("net.keras", "net.weights.h5"):
        path = tmp_path / name
        with pytest.raises(FileNotFoundError):
            load_weights(straight(), path)
        path.write_bytes(b"not one")
        with pytest.raises(ValueError, match=f"{name}: "):
            load_weights(straight(), path)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ValueError, match=f"{name}: expected a regular file"):
            load_weights(straight(), path)
    with pytest.raises(ValueError, match=r"net.pb: expected a .weights.h5 or .keras file"):
        load_weights(straight(), "net.pb")
    with pytest.raises(ValueError, match=r"config.json is compressed"):
        load(rewritten(tmp_path, method=zipfile.ZIP_DEFLATED))
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(ValueError, match=r"it has no 'layers'.*written by Keras 3"):
        load_weights(straight(), tmp_path / "old.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(DATA / "straight.weights.h5"), "layers")
    with pytest.raises(ValueError, match="layers: expected a Group, got a link"):
        load_weights(straight(), tmp_path / "linked.h5")


def test_damaged_files_are_refused(tmp_path):
    """Bytes of a file changed: it is refused, or gives other numbers, but nothing else."""
    rng = np.random.default_rng(0)
    for name, make in (("codes.keras", codes), ("straight.weights.h5", straight)):
        good, path = (DATA / name).read_bytes(), tmp_path / name
        for at in range(0, len(good), 151):
            bad = bytearray(good)
            bad[at] ^= int(rng.integers(1, 256))
            path.write_bytes(bad[: at + 1] if at % 5 == 0 else bad)
            try:
                load_weights(make(), path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")


def test_flatten_needs_nothing_turned(tmp_path):
    """Keras' images have their channels last, too: a dense layer behind them is as it is."""
    model = load(DATA / "images.keras")
    at = next(i for i, layer in enumerate(model.layers) if isinstance(layer, Flatten))
    with zipfile.ZipFile(DATA / "images.keras") as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights) as file:
        np.testing.assert_array_equal(model.layers[at + 1].weight, file[KERNEL][()])
