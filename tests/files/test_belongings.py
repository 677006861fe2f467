"""A model's belongings, its scalers and classes, in files; and files from before there were any.

test_network.py has what may be set."""

import json

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import SGD, Dense, ReLU, Sequential, SoftmaxCrossEntropy, Standardizer
from forged import made_up, pack, refused, tensor, unpack


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


ROWS = np.random.default_rng(0).uniform(-3, 9, (20, 2))


def keeping(classes=("a", "b")):
    model = Sequential(Dense(2, 2), seed=0)
    model.scaler = Standardizer().fit(ROWS)
    model.target_scaler = Standardizer("float64").fit(1e9 * ROWS[:, :1])
    model.classes = classes
    return model


def assert_keeps(model, expected):
    for name in ("scaler", "target_scaler"):
        mine, its = getattr(model, name), getattr(expected, name)
        assert repr(mine) == repr(its)
        assert_same_bits(mine.mean, its.mean)
        assert_same_bits(mine.std, its.std)
        rows = ROWS[:, : len(its.mean)]
        assert_same_bits(mine.transform(rows), its.transform(rows))
    assert model.classes == expected.classes


@pytest.mark.parametrize("classes", [("b", "ä\n\u2028"), (-3, 2**63 - 1), None])
def test_scalers_and_classes_come_back(classes, path):
    model = keeping(classes)
    model.save(path)
    assert_keeps(fastnn.load(path), model)
    first = path.read_bytes()
    fastnn.load(path).save(path)
    assert path.read_bytes() == first
    fastnn.save_checkpoint(path, model, SGD(0.1))
    assert_keeps(fastnn.load_checkpoint(path).model, model)
    assert_keeps(fastnn.load(path), model)


def test_a_file_without_them_is_as_it_was_before(path):
    Sequential(Dense(2, 2)).save(path)
    header, _ = unpack(path.read_bytes())
    content = json.loads(header["__metadata__"]["fastnn"])
    assert list(content["model"]) == ["layers", "dtype", "seed", "l2", "passes"]
    assert sorted(header) == ["0.bias", "0.weight", "__metadata__"]


# written before models had belongings
OLD = {
    "format": 1,
    "model": {
        "layers": [
            {"type": "Dense", "in_features": 1, "out_features": 2, "activation": "tanh",
             "bias": True, "weight_init": None, "bias_init": {"type": "Zeros"}, "l2": None},
            {"type": "Residual", "layers": [{"type": "BatchNorm", "features": 2, "momentum": 0.1,
                                             "eps": 1e-05}], "shortcut": None},
        ],
        "dtype": "float32", "seed": 3, "l2": 0.5, "passes": 7,
    },
}  # fmt: skip
OLD_ARRAYS = {
    "0.bias": [0, 1], "0.weight": [[2, 3]], "1.0.beta": [4, 5], "1.0.gamma": [6, 7],
    "1.0.running_mean": [8, 9], "1.0.running_var": [10, 11],
}  # fmt: skip


def test_old_files_still_load(path):
    data = np.concatenate([np.ravel(array) for array in OLD_ARRAYS.values()]).astype("<f4")
    tensors = {name: tensor("F32", np.shape(array), (8 * i, 8 * i + 8))
               for i, (name, array) in enumerate(OLD_ARRAYS.items())}  # fmt: skip
    path.write_bytes(pack({"__metadata__": {"fastnn": json.dumps(OLD)}, **tensors}, data.tobytes()))
    model = fastnn.load(path)
    assert [type(layer).__name__ for layer in model] == ["Dense", "Residual"]
    assert {name: array.tolist() for name, array in model.state_dict().items()} == OLD_ARRAYS
    assert (model.seed, model.l2, int(model._counter[0])) == (3, 0.5, 7)
    assert (model.scaler, model.target_scaler, model.classes) == (None, None, None)


def test_a_training_goes_on_with_the_belongings_of_the_checkpoint(path):
    """In the user's own model, which keeps its own where the checkpoint has none."""

    def fit(model, epochs, **options):
        return model.fit(ROWS, np.arange(20) % 2, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1),
                         epochs=epochs, progress=False, **options)  # fmt: skip

    model = keeping()
    model.target_scaler = None
    fit(model, 1, callbacks=[fastnn.ModelCheckpoint(path)])
    resumed, own = Sequential(Dense(2, 2), seed=0), Standardizer().fit(ROWS)
    resumed.scaler = resumed.target_scaler = own
    fit(resumed, 2, resume=path)
    assert resumed.classes == ("a", "b") and resumed.target_scaler is own
    assert_same_bits(resumed.scaler.mean, model.scaler.mean)
    fit(twin := keeping(), 2)
    assert_same_bits(resumed.flat_parameters, twin.flat_parameters)


def test_a_scaler_that_was_broken_since_is_not_saved(path):
    model = keeping()
    model.scaler.std = np.zeros(2)
    with pytest.raises(ValueError, match="scaler: expected its std > 0"):
        model.save(path)
    with pytest.raises(ValueError, match="scaler: expected its std > 0"):
        fastnn.save_checkpoint(path, model, SGD(0.1))
    assert not path.exists()


# ---- files that somebody made up ----

STATISTICS = np.array([0.5, 1.5, 2.0, 3.0])


def scaled(statistics=STATISTICS, dtype="F64", shape=(2,), names=("mean", "std"), **model):
    """The file of a model with a scaler, changed by the arguments."""
    data = np.asarray(statistics).astype("<f8" if dtype == "F64" else "<f4").tobytes()
    half = len(data) // 2
    tensors = {f"scaler.{name}": tensor(dtype, shape, (i * half, i * half + half))
               for i, name in enumerate(names)}  # fmt: skip
    return made_up(data, tensors, **{"scaler": {"dtype": "float32"}, **model})


def test_the_file_that_the_others_are_made_of_is_good(path):
    path.write_bytes(scaled(classes=["a"]))
    model = fastnn.load(path)
    assert isinstance(model[0], ReLU) and model.classes == ("a",)
    assert (model.scaler.mean.tolist(), model.scaler.std.tolist()) == ([0.5, 1.5], [2, 3])


FILES = {
    "no tensor": (made_up(scaler={"dtype": "float32"}), "scaler: expected a tensor 'scaler.mean'"),
    "one tensor": (scaled(STATISTICS[:2], names=("mean",), shape=(1,)), "header|bytes|tensor"),
    "other tensors": (scaled(names=("mean", "var")), "scaler: expected a tensor 'scaler.std'"),
    "tensors alone": (made_up(STATISTICS.tobytes(), {
        f"scaler.{name}": tensor("F64", (2,), (16 * i, 16 * i + 16))
        for i, name in enumerate(("mean", "std"))}), "tensors: unknown scaler.mean, scaler.std"),
    "float32": (scaled(dtype="F32"), "its mean to be finite float64 .* got float32 of shape"),
    "two axes": (scaled(shape=(2, 1)), r"its mean to be finite .* got float64 of shape \(2, 1\)"),
    "empty": (scaled([], shape=(0,)), "its mean to be finite"),
    "NaN": (scaled([np.nan, 1, 1, 1]), "its mean to be finite"),
    "infinite": (scaled([1, 1, np.inf, 1]), "its std to be finite"),
    "negative": (scaled([1, 1, -1, 1]), "its std > 0, got -1"),
    "zero": (scaled([1, 1, 1, 0]), "its std > 0, got 0"),
    "dtype": (scaled(scaler={"dtype": "int8"}), "scaler: dtype: expected one of float32, float64"),
    "dtype of none": (scaled(scaler={"dtype": []}), "scaler: dtype: expected one of"),
    "no dtype": (scaled(scaler={}), "scaler: missing dtype"),
    "more": (scaled(scaler={"dtype": "float32", "code": "x"}), "scaler: unknown code"),
    "scaler of none": (scaled(scaler=None), "scaler: expected an object, found None"),
    "target scaler": (scaled(target_scaler=3), "target_scaler: expected an object, found 3"),
    **{f"classes {value!r}"[:40]: (made_up(classes=value), "classes: expected a") for value in (
        None, 3, "ab", {}, [], [1, "a"], [True], [0.5], [None], [[]], ["a", "a"], [1, 1])},
    "classes too large": (made_up(classes=[10**400]), "classes: expected an integer from"),
    "long": (made_up(classes=[[]] * 10**5), r"classes: expected .* \.\.\.$"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_belongings_that_cannot_be_are_refused(name, path):
    refused(path, *FILES[name])
