"""State dicts of PyTorch's without PyTorch: files of its (make_data.py), with its outputs."""

import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastnn
from fastnn import (
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2D,
    Heads,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    PeriodicEmbedding,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
)
from fastnn.torch import from_module, load_state_dict, state_dict, to_module

DATA = Path(__file__).parent / "data"
EXPECTED = np.load(DATA / "expected.npz")


def named():
    return Sequential(
        Conv2D(2, 4, (3, 2), groups=2), BatchNorm(4), ReLU(), MaxPool2D(2), Flatten(),
        Dense(4 * 3 * 5, 6, activation="tanh"), LayerNorm(6), Dense(6, 5),
    )  # fmt: skip


def codes():
    return Sequential(
        Embedding(7, 3), Conv1D(3, 4, 3, dilation=2), Sigmoid(), Flatten(), Dense(20, 2)
    )


def numbered():
    """Activations within their layers, and a block: other numbers than PyTorch's."""
    parts = [Dense(4, 4, activation="tanh") for _ in range(5)]
    return Sequential(Block(*parts[:2]), *parts[2:], Dense(4, 4), Tanh(), Dense(4, 4, bias=False))


NETWORKS = {"named": named, "codes": codes, "numbered": numbered}


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_pytorch_wrote_computes_the_same(name, kind):
    model = NETWORKS[name]()
    result = load_state_dict(model, DATA / f"{name}.{kind}")
    assert result == ([], [])
    x, y = EXPECTED[f"{name}_x"], EXPECTED[f"{name}_y"]
    got = model.predict(fastnn.to_nhwc(x) if x.ndim == 4 else x)
    np.testing.assert_allclose(got, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_back_again_are_the_same_bits(name):
    model, theirs = NETWORKS[name](), np.load(DATA / f"{name}.npz")
    load_state_dict(model, DATA / f"{name}.npz")
    prefixes = list(dict.fromkeys(key.rpartition(".")[0] for key in theirs))
    if name == "named":
        prefixes = ["conv", "norm", "fc1", "scale", "fc2"]
    state = state_dict(model, names=prefixes)
    assert state.keys() == {key for key in theirs if not key.endswith("tracked")}
    for key, array in state.items():
        assert array.flags.owndata and array.flags.c_contiguous
        np.testing.assert_array_equal(array, theirs[key], strict=True)


# ---- which module is which layer ----


def square(n=3):
    return Sequential(*(Dense(2, 2, bias=False) for _ in range(n)), dtype="float64")


def state_of(*names):
    """Square weights, of which each shows its place and its transposition."""
    return {f"{name}.weight": np.arange(4.0).reshape(2, 2) + 10 * i
            for i, name in enumerate(names)}  # fmt: skip


def order(model):
    return [int(layer.weight.ravel()[0]) // 10 for layer in model.layers]


@pytest.mark.parametrize("names", [
    ("0", "1", "2"), ("2", "0", "1"), ("2", "10", "9"), ("net.4.1", "net.0", "net.4.0"),
    ("module.net.7", "module.net.8", "module.net.71"),
])  # fmt: skip
def test_numbers_are_an_order(names):
    model = square()
    load_state_dict(model, state_of(*names))
    numbers = [[int(part) for part in name.split(".") if part.isdecimal()] for name in names]
    assert order(model) == sorted(range(3), key=numbers.__getitem__)
    np.testing.assert_array_equal(model.layers[0].weight.ravel() % 10, [0, 2, 1, 3])


def test_names_say_it_else_it_must_be_certain():
    model = square()
    with pytest.raises(ValueError, match=r"not certain .* a \(weight \(2, 2\)\).*names=\["):
        load_state_dict(model, state_of("a", "b", "c"))
    load_state_dict(model, state_of("a", "b", "c"), names=["c", "a", "b"])
    assert order(model) == [2, 0, 1]
    with pytest.raises(ValueError, match="not certain"):  # one number is missing
        load_state_dict(model, state_of("0", "2"), strict=False)
    with pytest.raises(ValueError, match="not certain"):
        load_state_dict(model, state_of("0", "00", "1"))
    with pytest.raises(ValueError, match="not certain"):  # two containers
        load_state_dict(model, state_of("head.0", "body.0", "body.1"))
    embedded = Sequential(Embedding(2, 2), Flatten(), Dense(2, 2, bias=False))
    with pytest.raises(ValueError, match="not certain"):
        load_state_dict(embedded, state_of("fc", "table"))
    assert order(model) == [2, 0, 1]


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a", "b"], "abc", [1, 2, 3]])
def test_wrong_names(names):
    with pytest.raises((TypeError, ValueError), match="names: expected"):
        load_state_dict(square(), state_of("a", "b", "c"), names=names)


def test_shapes_may_say_it():
    model = Sequential(Dense(2, 3), Dense(3, 2))
    state = {"last.weight": np.ones((2, 3)), "last.bias": np.ones(2),
             "first.weight": np.zeros((3, 2)), "first.bias": np.zeros(3)}  # fmt: skip
    load_state_dict(model, state)
    assert model.layers[0].weight.max() == 0 and model.layers[1].weight.min() == 1
    alone = Sequential(Dense(3, 2))
    load_state_dict(alone, {"weight": np.ones((2, 3)), "bias": np.ones(2)})  # of a Linear itself
    assert (alone.predict([[1.0, 2.0, 3.0]]) == 7).all()
    assert state_dict(alone, names=[""]).keys() == {"weight", "bias"}
    assert state_dict(model, names=[None, "b"]).keys() == {"b.weight", "b.bias"}


def test_all_that_does_not_fit_is_listed():
    model = Sequential(Dense(2, 3), BatchNorm(3), Dense(3, 1))
    state = {f"{name}.{key}": array for name, layer in (("0", 0), ("1", 1), ("3", 2))
             for key, array in _of(state_dict(model), layer)}  # fmt: skip
    before = model.flat_parameters.copy()
    del state["0.bias"], state["1.running_var"]
    state["3.scale"], state["0.weight"] = np.ones(2), np.ones((2, 3))
    message = (r"^state: missing 0.bias, 1.running_var; unexpected 3.scale; of another shape "
               r"0.weight expected \(3, 2\), got \(2, 3\)$")  # fmt: skip
    with pytest.raises(ValueError, match=message):
        load_state_dict(model, state)
    np.testing.assert_array_equal(model.flat_parameters, before)
    del state["0.weight"]
    lacking = load_state_dict(model, state, strict=False, names=["0", "1", "3"])
    assert lacking.missing_keys == ["0.weight", "0.bias", "1.running_var"]
    assert lacking.unexpected_keys == ["3.scale"]
    lacking = load_state_dict(model, {"a.weight": [[7.0, 7, 7]]}, False, names=[None, None, "a"])
    kept = ("gamma", "beta", "running_mean", "running_var")
    passed = ["0.weight", "0.bias", *(f"1.{name}" for name in kept)]
    assert lacking == (["a.bias", *passed], [])
    assert (model.layers[2].weight == 7).all()


def _of(state, layer):
    return [(k.partition(".")[2], v) for k, v in state.items() if k.startswith(f"{layer}.")]


@pytest.mark.parametrize("value, message", [
    (np.ones((3, 2), np.int8), "expected floating-point numbers, got dtype int8"),
    (np.ones((3, 2), complex), "expected floating-point"), ([["a", "b"]] * 3, "floating-point"),
    (np.ones((3, 2), np.longdouble), "floating-point"), ([[1.0], [1.0, 2.0]], "not an array"),
])  # fmt: skip
def test_other_numbers_are_refused(value, message):
    with pytest.raises(ValueError, match=f"^state: 0.weight: .*{message}"):
        load_state_dict(Sequential(Dense(2, 3, bias=False)), {"0.weight": value})
    with pytest.raises(TypeError, match="state: expected a dict"):
        load_state_dict(Sequential(Dense(2, 3)), [1])
    with pytest.raises(TypeError, match="model: expected a Sequential"):
        state_dict(Dense(2, 3))


# ---- flattened images ----


def chw(features, channels):
    """Where in PyTorch each of fastnn's features stands."""
    return [c * (features // channels) + p for p in range(features // channels)
            for c in range(channels)]  # fmt: skip


@pytest.mark.parametrize("layers", [
    lambda: [Conv2D(3, 2, 1), Flatten(), Dense(8, 5)],
    lambda: [Block(Conv2D(3, 2, 1), Block(Flatten())), ReLU(), Flatten(), Block(Dense(8, 5))],
    lambda: [Conv2D(3, 2, 1), Flatten(), Heads(Dense(8, 3), Block(Dense(8, 2), ReLU()))],
    lambda: [Conv2D(3, 2, 1), Flatten(), BatchNorm(8), Dense(8, 5)],
    lambda: [Conv2D(3, 2, 1), Flatten(), Residual(Dense(8, 5), shortcut=Dense(8, 5))],
])  # fmt: skip
def test_the_order_of_flattened_features(layers):
    model = Sequential(*layers(), seed=0)
    for name, array in state_dict(model).items():
        if array.shape[-1:] != (8,):
            continue
        ours = model.parameters.get(name, model.state.get(name))
        if array.ndim == 1:
            array[...] = np.arange(8)
            changed = Sequential(*layers(), seed=0)
            load_state_dict(changed, {**state_dict(changed), name: array})
            ours = {**changed.parameters, **changed.state}[name.replace("weight", "gamma")
                                                           .replace("bias", "beta")]  # fmt: skip
            np.testing.assert_array_equal(ours, chw(8, 2))
        else:
            np.testing.assert_array_equal(array[:, chw(8, 2)], ours.T)


def test_channels_of_inputs_that_are_flattened_at_once():
    model = Sequential(Flatten(), Dense(6, 1))
    with pytest.raises(ValueError, match=r"channels: layer 0, Flatten\(\), .*channels=1"):
        state_dict(model)
    ours = model.layers[1].weight.ravel()
    np.testing.assert_array_equal(state_dict(model, channels=1)["1.weight"][0], ours)
    np.testing.assert_array_equal(state_dict(model, channels=3)["1.weight"][0, chw(6, 3)], ours)
    with pytest.raises(ValueError, match="takes 6 features of flattened images of 4 channels"):
        state_dict(model, channels=4)
    with pytest.raises(ValueError, match="channels: the model takes 2, got 3"):
        state_dict(Sequential(Dense(2, 3)), channels=3)
    pooled = Sequential(Conv2D(1, 3, 1), GlobalAvgPool2D(), Flatten(), Dense(3, 2))
    np.testing.assert_array_equal(state_dict(pooled)["3.weight"], pooled.layers[3].weight.T)
    table = Sequential(Embedding(4, 3), Flatten(), Dense(6, 2))
    np.testing.assert_array_equal(state_dict(table)["2.weight"], table.layers[2].weight.T)
    embed = Block(Embedding(4, 3), Flatten())
    mixed = Sequential(Columns((2, None), (2, embed)), Dense(8, 2))
    np.testing.assert_array_equal(state_dict(mixed)["1.weight"], mixed.layers[1].weight.T)


class Own:
    def forward(self, x, training=False):
        return x

    backward = forward


@pytest.mark.parametrize("layers, message", [
    (lambda: [Conv2D(1, 2, 1), Flatten()], "no dense layer follows"),
    (lambda: [Conv2D(1, 2, 1), Flatten(), Residual(ReLU()), Dense(8, 1)], "Residual joins"),
    (lambda: [Conv2D(1, 2, 1), Flatten(), Residual(Dense(8, 8))], "Residual joins"),
    (lambda: [Embedding(3, 2), MaxPool1D(2), Flatten(), Dense(4, 1)], "order .* not certain"),
    (lambda: [Embedding(3, 2), BatchNorm(2), Flatten(), Dense(4, 1)], "order .* not certain"),
    (lambda: [PeriodicEmbedding(3)], "layer 0, PeriodicEmbedding.* has no like"),
    (lambda: [Own(), Dense(2, 2)], "layers of fastnn's own"),
])  # fmt: skip
def test_what_pytorch_does_not_have_is_refused(layers, message):
    with pytest.raises((TypeError, ValueError), match=message):
        state_dict(Sequential(*layers()))


def test_whole_networks_need_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for convert in (from_module, to_module):
        with pytest.raises(ImportError, match=r"need PyTorch: pip install torch"):
            convert(Sequential(Dense(2, 2)))


# ---- files ----


def test_files_of_other_kinds_are_refused(tmp_path):
    model = Sequential(Dense(2, 2))
    for name in ("net.pt", "net.pth", "pytorch_model.bin"):
        with pytest.raises(ValueError, match=rf"{name}: .*pickle.*save_file\(module.state_dict"):
            load_state_dict(model, tmp_path / name)
    model.save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"own.safetensors: fastnn wrote it: fastnn.load reads it"):
        load_state_dict(model, tmp_path / "own.safetensors")
    for name in ("none.npz", "none.safetensors"):
        with pytest.raises(FileNotFoundError):
            load_state_dict(model, tmp_path / name)
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: expected a regular file"):
            load_state_dict(model, str(tmp_path / name))
    save_file({"fc.weight": np.ones((2, 2), np.float16), "fc.bias": np.ones(2, np.float16)},
              tmp_path / "half.safetensors")  # fmt: skip
    load_state_dict(model, tmp_path / "half.safetensors")
    assert (model.flat_parameters[:4] == 1).all()


def member(shape, dtype="<f4", data=b""):
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


@pytest.mark.parametrize("members, message", [
    ({"a.weight.npy": member((2, 2), data=b"1234")}, "does not fill its bytes"),
    ({"a.weight.npy": member((10**6, 10**6))}, "does not fill its bytes"),
    ({"a.weight.npy": member((2, 2), "|O", b"\0" * 32)}, "got dtype object"),
    ({"a.weight.npy": member((2, 2), "<i4", b"\0" * 16)}, "got dtype int32"),
    ({"a.weight.npy": b"PICKLE"}, "magic"), ({"data.pkl": b"x"}, "expected arrays"),
    ({"a.weight.npy": b"\x93NUMPY\x09\x00" + b"\0" * 90}, "version"),
    ({"a.weight.npy": member((-1, 2), data=b"")}, "a.weight"),
    ({"a.weight.npy": member("(" * 5000)}, "npz"),
])  # fmt: skip
def test_hostile_archives_are_refused(members, message, tmp_path):
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=rf"bad.npz: .*{message}"):
        load_state_dict(Sequential(Dense(2, 2, bias=False)), path)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """Its header says what it unpacks to, and that is not the model's shape."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{"0.weight": np.zeros((4000, 4000), np.float32)})
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(ValueError, match=r"0.weight expected \(2, 2\), got \(4000, 4000\)"):
        load_state_dict(Sequential(Dense(2, 2, bias=False)), path)


def test_damaged_files_are_refused(tmp_path):
    """Every byte of a file changed: it is refused, or gives other numbers, but nothing else."""
    rng = np.random.default_rng(0)
    for kind in ("npz", "safetensors"):
        good = (DATA / f"codes.{kind}").read_bytes()
        path = tmp_path / f"bad.{kind}"
        for at in range(0, len(good), 7):
            bad = bytearray(good)
            bad[at] ^= int(rng.integers(1, 256))
            path.write_bytes(bad[: at + 1] if at % 5 == 0 else bad)
            try:
                load_state_dict(codes(), path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_message_holds_little_of_a_file(kind, tmp_path):
    """Names in a file may be as long as the file."""
    path = tmp_path / f"long.{kind}"
    arrays = {"a" * 20_000: np.ones(2, np.float32)}
    np.savez(path, **arrays) if kind == "npz" else save_file(arrays, path)
    with pytest.raises(ValueError, match=rf"long\.{kind}: state: not certain") as caught:
        load_state_dict(Sequential(Dense(2, 2, bias=False)), path)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_archive_is_read_to_its_checksum(write, tmp_path):
    buffer = io.BytesIO()
    write(buffer, **{"0.weight": np.ones((2, 2), np.float32)})
    data = bytearray(buffer.getvalue())
    data[data.index(b"PK\x01\x02") + 16] ^= 1  # the checksum in its directory
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(ValueError, match="CRC"):
        load_state_dict(Sequential(Dense(2, 2, bias=False)), tmp_path / "bad.npz")
