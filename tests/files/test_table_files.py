"""A TableEncoder as a model's scaler, in files; and files that somebody made up."""

import datetime
import json

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import SGD, Dense, Sequential, TableEncoder
from fastnn.files import safefile
from forged import made_up, refused, tensor, unpack

NAN = float("nan")
ROWS = [
    [1.0, "b", 7, 0.5, True, None], [2.0, "ä\n\u2028", 9, -0.25, False, 2.5],
    [None, 2**70, -3, 1e-300, True, 3.0], [8.0, None, 7, 0.1, None, -1.0],
]  # fmt: skip
OTHERS = [[NAN, "?", 1, 0.5, None, 9.0], [3.0, 2**70, -3, 0.1, False, None]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def keeping(encoder):
    model = Sequential(Dense(2, 2), seed=0)
    model.scaler = encoder
    return model


@pytest.mark.parametrize("options", [
    {}, {"max_one_hot": 0}, {"max_one_hot": 3, "scaling": "standard", "clip": None},
    {"categorical_features": [1, 2, 3, 4], "dtype": "float64", "add_indicator": False},
    {"categorical_features": np.array([0, 1, 2, 3, 4, 5]), "max_one_hot": 2},
    {"categorical_features": (1, np.int64(2), 4), "scaling": None},
    {"scale_one_hot": True}, {"scale_one_hot": True, "max_one_hot": 2, "add_indicator": False},
    {"categorical_features": np.array([False, True, False, False, True, True])},
])  # fmt: skip
def test_an_encoder_comes_back(options, path):
    encoder = TableEncoder(**options).fit(ROWS)
    model = keeping(encoder)
    model.save(path)
    first = path.read_bytes()
    for load in (fastnn.load, lambda path: fastnn.load_checkpoint(path).model):
        twin = load(path).scaler
        assert_same_bits(twin.transform(OTHERS), encoder.transform(OTHERS))
        chosen = np.asarray(encoder.categorical_features).tolist()
        assert twin.get_params() == encoder.get_params() | {"categorical_features": chosen}
        types = [[type(item) for item in items] for items in encoder.categories_]
        assert [[type(item) for item in items] for items in twin.categories_] == types
        for name, value in vars(encoder).items():
            if name.endswith("_") and not isinstance(value, list):
                np.testing.assert_array_equal(getattr(twin, name), value)
        if load is fastnn.load:
            fastnn.load(path).save(path)
            assert path.read_bytes() == first
            fastnn.save_checkpoint(path, model, SGD(0.1))


@pytest.mark.parametrize("change, message", [
    (lambda hot: None, "expected a tensor 'scaler.one_hot'"),
    (lambda hot: hot[:, 1:], "float64 numbers for one_hot"),
    (lambda hot: hot.astype(np.float32), "float64 numbers for one_hot"),
    (lambda hot: np.add(hot, [[np.inf], [0]]), "finite centres"),
    (lambda hot: hot * [[1], [0]], "scales > 0 for one_hot"),
])  # fmt: skip
def test_the_scales_of_columns_of_categories_are_checked(change, message, path):
    keeping(TableEncoder(scale_one_hot=True, max_one_hot=2).fit(ROWS)).save(path)
    metadata, tensors = safefile.read(path)
    tensors["scaler.one_hot"] = change(tensors["scaler.one_hot"])
    safefile.write(str(path), {k: v for k, v in tensors.items() if v is not None}, metadata)
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)


def test_names_of_columns_come_back(path):
    pandas = pytest.importorskip("pandas", reason="no pandas")
    frame = pandas.DataFrame({"age": [1.0, 2.0, None], "città": ["a", None, "b"]})
    encoder = TableEncoder(["città"], max_one_hot=1).fit(frame)
    keeping(encoder).save(path)
    twin = fastnn.load(path).scaler
    assert twin.feature_names_in_.tolist() == ["age", "città"]
    assert twin.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    assert_same_bits(twin.transform(frame), encoder.transform(frame))
    assert twin.categorical_features == ["città"]
    with pytest.raises(ValueError, match="feature names"):
        twin.transform(frame[["città", "age"]])


def test_an_encoder_that_was_set_otherwise_since_stays_as_it_was_fitted(path):
    encoder = TableEncoder(max_one_hot=3).fit(ROWS[:2])
    before = encoder.transform(OTHERS)
    encoder.set_params(max_one_hot=0, add_indicator=False)
    keeping(encoder).save(path)
    assert_same_bits(fastnn.load(path).scaler.transform(OTHERS), before)


@pytest.mark.parametrize("item", [
    (1, 2), b"a", datetime.date(2026, 1, 2), float("inf"), frozenset("a"), 1j,
])  # fmt: skip
def test_categories_that_no_safe_file_holds(item, path):
    column = np.empty((3, 2), object)
    column[:, 0], column[:, 1] = [1.0, 2.0, 3.0], [item, "a", "b"]
    encoder = TableEncoder([1]).fit(column)
    message = (
        "scaler: expected categories that are text, finite numbers or truth values, got .* in col"
    )
    for save in (
        keeping(encoder).save,
        lambda p: fastnn.save_checkpoint(p, keeping(encoder), SGD(0.1)),
    ):
        with pytest.raises(TypeError, match=message):
            save(path)
    assert not path.exists()


def test_what_a_model_keeps():
    model = Sequential(Dense(2, 2))
    with pytest.raises(ValueError, match="scaler: expected a TableEncoder after fit, got one"):
        model.scaler = TableEncoder()
    with pytest.raises(TypeError, match="target_scaler: expected a Standardizer or None, got"):
        model.target_scaler = TableEncoder().fit([[1.0], [2.0]])
    assert model.scaler is None and model.target_scaler is None


# ---- files that somebody made up ----

ARGUMENTS = {"categorical_features": "auto", "max_one_hot": 8, "scaling": "robust", "clip": 3.0,
             "add_indicator": True, "scale_one_hot": False, "dtype": "float32"}  # fmt: skip
COLUMNS = [None, {"categories": ["a", 1, 2.5, False], "one_hot": True},
           {"categories": ["x"], "one_hot": False}, None]  # fmt: skip
STATISTICS = {"center": [1.0, 2.0], "scale": [3.0, np.inf], "fill": [1.0, 2.0]}


def forged(statistics=STATISTICS, dtype="F64", shape=(2,), arguments=None, **changes):
    """The file of a model with an encoder, changed by the arguments."""
    described = {"type": "TableEncoder", "arguments": ARGUMENTS | (arguments or {}), "names": None,
                 "columns": COLUMNS, "indicators": [1], **changes}  # fmt: skip
    described = {name: value for name, value in described.items() if value != "left out"}
    kind = "<f8" if dtype == "F64" else "<f4"
    data = [np.array(numbers, kind).tobytes() for numbers in statistics.values()]
    ends = np.cumsum([0, *map(len, data)]).tolist()
    tensors = {f"scaler.{name}": tensor(dtype, shape, (begin, end))
               for name, begin, end in zip(statistics, ends, ends[1:], strict=False)}  # fmt: skip
    return made_up(b"".join(data), tensors, scaler=described)


def with_columns(**changes):
    return forged(columns=[None, {**COLUMNS[1], **changes}, COLUMNS[2], None])


def test_the_file_that_the_others_are_made_of_is_good(path):
    path.write_bytes(forged(names=["a", "b", "c", "d"]))
    encoder = fastnn.load(path).scaler
    assert (encoder.numeric_, encoder.one_hot_, encoder.n_codes_) == (2, 5, 2)
    assert encoder.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    del encoder.feature_names_in_
    got = encoder.transform([[1.0, 2.5, "x", 9.0], [NAN, "b", "y", NAN]])
    assert got.tolist() == [[0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0, 0, 0]]


FILES = {
    "type": (forged(type="Table"), "scaler: type: expected one of TableEncoder, got 'Table'"),
    "no type": (forged(type="left out"), "scaler: missing dtype; unknown arguments"),
    "type of none": (forged(type=[]), "scaler: type: expected one of"),
    "more": (forged(code="x"), "scaler: unknown code"),
    "no columns": (forged(columns="left out"), "scaler: missing columns"),
    "columns": (forged(columns={}), "scaler: columns: expected a list, found"),
    "none": (forged({}, columns=[], indicators=[]), "X: expected numbers or categories"),
    "a number": (forged(columns=[None, 3]), "scaler: columns: expected an object, found 3"),
    "column": (with_columns(more=1), "scaler: columns: unknown more"),
    "one hot": (with_columns(one_hot=1), "scaler: one_hot: expected True or False"),
    **{f"categories {i}": (with_columns(categories=items), "scaler: .*expected .*, found")
       for i, items in enumerate([None, "ab", {}, [None], [[]], ["a", "a"], [1, 1.0], [True, 1]])},
    "names": (forged(names=["a"]), "scaler: expected 4 names of columns, found"),
    "names of none": (forged(names=3), "scaler: expected 4 names of columns, found 3"),
    "other names": (forged(names=["a", "b", 3, "d"]), "scaler: expected 4 names of columns"),
    "indicators": (forged(indicators=3), "scaler: indicators: expected a list"),
    **{f"indicator {found}": (forged(indicators=found), "scaler: .*indicators") for found in (
        [2], [-1], [True], [0.5], [1, 0], [1, 1], [10**30])},
    "no tensors": (forged({}), "scaler: expected a tensor 'scaler.center'"),
    "one tensor less": (forged({"center": [1, 2], "fill": [1, 2]}), "a tensor 'scaler.scale'"),
    "tensors for nobody": (forged(columns=COLUMNS[1:3], indicators=[]), "tensors: unknown"),
    "float32": (forged(dtype="F32"), "scaler: expected 2 float64 numbers, found float32 of shape"),
    "two axes": (forged(shape=(2, 1)), r"scaler: expected 2 float64 numbers, found .*\(2, 1\)"),
    "more numbers": (forged(columns=[*COLUMNS, None]), "scaler: expected 3 float64 numbers"),
    **{f"{name} {value}": (forged({**STATISTICS, name: [1.0, value]}), "scaler: expected finite c")
       for name, value in (("center", np.inf), ("fill", NAN), ("scale", NAN), ("scale", 0.0),
                           ("scale", -1.0))},
    **{f"argument {name} {value!r}": (forged(arguments={name: value}), name.split("_")[0])
       for name, value in (("dtype", "int8"), ("dtype", []), ("clip", -1), ("clip", "a"),
                           ("max_one_hot", 0.5), ("scaling", 3), ("scaling", "x"),
                           ("add_indicator", 1),
                           ("categorical_features", "all"), ("categorical_features", 3),
                           ("categorical_features", {}), ("categorical_features", [[]]),
                           ("categorical_features", [None]))},
    "another argument": (forged(arguments={"code": 1}), "scaler: arguments: unknown code"),
    "no arguments": (forged(arguments={}, names=None).replace(b"add_indicator", b"bdd_indicator"),
                     "scaler: arguments: missing add_indicator; unknown bdd_indicator"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_encoders_that_cannot_be_are_refused(name, path):
    refused(path, *FILES[name])


def test_an_infinite_category_and_a_target_encoder_are_refused(path):
    file = with_columns(categories=["a", 0.5])
    refused(path, file.replace(b"0.5", b"1e999"), "header|scaler: expected categories")
    header, data = unpack(forged())
    content = json.loads(header["__metadata__"]["fastnn"])
    content["model"]["target_scaler"] = content["model"].pop("scaler")
    tensors = {name.replace("scaler", "target_scaler"): t for name, t in header.items()
               if name != "__metadata__"}  # fmt: skip
    refused(path, made_up(data, tensors, json.dumps(content)), "target_scaler: missing dtype; unk")


def test_a_file_takes_no_more_memory_than_it_is_long(path):
    """Columns of their own for very many categories: nothing is square in their number."""
    items = list(range(200_000))
    path.write_bytes(forged(columns=[None, {"categories": items, "one_hot": True}, None]))
    assert fastnn.load(path).scaler.one_hot_ == 200_001
