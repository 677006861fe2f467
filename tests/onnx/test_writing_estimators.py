"""fastnn.onnx.export: the estimators of fastnn.sklearn, and the encoders of tables."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")


import encoders
from exported import (
    CASES,
    CATEGORICAL,
    as_numbers,
    assert_refuses_what_is_no_model,
    table,
    targets_of,
)
from fastnn import Block, Columns, Dense, Embedding, Flatten, Sequential, Standardizer, TableEncoder
from fastnn.onnx import export
from fastnn.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor
from onnx_files import Written, assert_close, dims, onnx
from perceptrons import cancer, fast, outputs_of, plane

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ---- arrays ----


@pytest.mark.parametrize("n_ensembles", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_perceptrons(case, n_ensembles, dtype, tmp_path):
    of, (X, y), settings = CASES[case]
    X = X.astype(dtype)
    settings = {**settings, "max_iter": 5, "n_ensembles": n_ensembles}
    estimator = of(**fast(dtype=dtype.name, **settings)).fit(X, y)
    file = Written(estimator, tmp_path)
    found = file(X)
    if of is MLPRegressor:
        assert file.outputs == ["variable"]
        assert_close(found["variable"], estimator.predict(X).reshape(len(X), -1).astype(dtype))
        return
    assert file.outputs[0] == "output_label" and "ZipMap" not in file.operators
    assert (found["output_label"] == estimator.predict(X)).mean() > 0.999
    if case == "hinge":
        members = [estimator, *getattr(estimator, "others_", ())]
        expected = np.mean([one.model_.predict(X) for one in members], axis=0)
        assert_close(found["output_score"], expected)
    else:
        assert_close(found["output_probability"], estimator.predict_proba(X).astype(dtype))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("no", "yes"), "object"), ((7, 3), "int64"), ((False, True), "bool"),
        ((-1.0, 2.0), "float64"),
    ],
)  # fmt: skip
def test_types_of_labels(labels, kind, tmp_path):
    X, y = cancer()
    classifier = MLPClassifier(**fast()).fit(X, np.array(labels)[y])
    file = Written(classifier, tmp_path)
    found = file(X.astype(np.float32))["output_label"]
    assert found.dtype == kind and set(found.tolist()) == set(labels)
    np.testing.assert_array_equal(found, classifier.predict(X))
    shapes = [dims(info) for info in file.graph.output]
    assert shapes == [["batch"], ["batch", 2]]
    metadata = {p.key: json.loads(p.value) for p in file.proto.metadata_props}
    assert metadata == {"classes": sorted(labels)}


# ---- tables ----


@pytest.mark.parametrize("n_ensembles", [1, 3])
@pytest.mark.parametrize("kind", ["two classes", "three classes", "values", "two values"])
def test_the_estimators_for_tables(kind, n_ensembles, rng, tmp_path):
    of = TabularClassifier if "classes" in kind else TabularRegressor
    estimator = of(
        (16, 16), max_iter=4, n_ensembles=n_ensembles, random_state=0, max_one_hot=3,
        categorical_features=CATEGORICAL,
    )  # fmt: skip
    rows, others = table(300, rng), table(2000, rng, new=True)
    estimator.fit(rows, targets_of(rows, kind))
    file = Written(estimator, tmp_path)
    found, expected = file(as_numbers(others)), outputs_of(estimator, others)
    if of is TabularClassifier:
        np.testing.assert_array_equal(found["output_label"], estimator.predict(others))
        assert_close(found["output_probability"], expected.astype(np.float32))
        return
    value, expected = found["variable"], expected.reshape(len(others), -1)
    assert value.dtype == np.float64  # float32 would round 1e9 to 64
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * np.ptp(expected, axis=0).min())
    low, high = estimator.target_range_
    assert (value >= low).all() and (value <= high).all()


def test_a_table_of_codes_alone(rng, tmp_path):
    codes = rng.integers(0, 12, 60)  # the network begins with an embedding, which takes any width
    rows = codes.astype("U2").astype(object)[:, None]
    classifier = TabularClassifier((8,), max_iter=2, random_state=0).fit(rows, codes % 2)
    place = {item: i for i, item in enumerate(classifier.encoder_.categories_[0])}
    numbers = np.array([[float(place[item])] for (item,) in rows])
    found = Written(classifier, tmp_path)(numbers)["output_probability"]
    assert_close(found, classifier.predict_proba(rows).astype(np.float32))


@pytest.mark.parametrize("encoder_dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", encoders.SETTINGS)
def test_encoders_have_the_same_bits(settings, encoder_dtype, dtype, rng, tmp_path):
    arguments, columns = encoders.SETTINGS[settings]
    categorical = np.arange(9)[columns] >= 4
    encoder = TableEncoder(categorical, dtype=encoder_dtype, **arguments)
    encoder.fit(encoders.table(500, rng)[:, columns])
    rows = encoders.table(2000, rng, new=True)[:, columns]
    if arguments.get("clip", 1) is None:  # what float32 cannot hold is refused there
        rows[:, :4][np.abs(rows[:, :4].astype(float)) > 1e30] = 1e30
    model = Sequential(Flatten(), dtype=dtype)
    model.scaler = encoder
    file = Written(model, tmp_path, shape=(encoder.output_features_,))
    found = file(encoders.as_numbers(encoder, rows))["output"].astype(dtype)
    np.testing.assert_array_equal(found, encoder.transform(rows).astype(dtype))


def test_a_model_with_an_encoder(rng, tmp_path):
    """Codes go from the encoder to an embedding, values keep their digits."""
    encoder = TableEncoder([4, 5, 6, 7, 8]).fit(encoders.table(500, rng))
    numbers, codes = encoder.numeric_ + encoder.one_hot_, Embedding(encoder.n_codes_, 3)
    parts = Columns((numbers, None), (encoder.codes_, Block(codes, Flatten())))
    model = Sequential(parts, Dense(parts.out_features, 2, activation="tanh"), seed=0)
    model.scaler = encoder
    model.target_scaler = Standardizer().fit(rng.normal(1.6e9, 3, (100, 2)))
    rows = encoders.table(1000, rng, new=True)
    expected = model.target_scaler.inverse_transform(model.predict(encoder.transform(rows)))
    file = Written(model, tmp_path)
    found = file(encoders.as_numbers(encoder, rows))["output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))
    plain, rows = Written(model, tmp_path, scalers=False), encoder.transform(rows)
    assert_close(plain(rows)["output"], model.predict(rows))


def test_the_file_names_columns_and_categories(rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"age": [1.0, 2.0, None] * 20, "tøwn": ["b", "a", "\ud800"] * 20})
    encoder, model = TableEncoder().fit(frame), MLPRegressor(**fast())
    network = Sequential(Dense(encoder.output_features_, 1))
    network.scaler = encoder
    file = Written(network, tmp_path)
    metadata = {p.key: json.loads(p.value) for p in file.proto.metadata_props}
    assert metadata == {"features": ["age", "tøwn"], "categories": [None, ["a", "b", "\ud800"]]}
    model.fit(frame[["age"]].fillna(0).rename(columns={"age": "x"}), np.arange(60.0))
    file = Written(model, tmp_path)
    assert {p.key: json.loads(p.value) for p in file.proto.metadata_props} == {"features": ["x"]}


# ---- what is refused ----


def test_what_is_refused(tmp_path):
    X, y = plane()
    path = tmp_path / "net.onnx"
    assert_refuses_what_is_no_model(export, path)
    classifier = MLPClassifier(**fast()).fit(X, np.where(y > 0, "a", "\ud800"))
    with pytest.raises(TypeError, match="model: expected classes that are all texts"):
        export(classifier, path)
    model = Sequential(Dense(3, 1))
    model.scaler = TableEncoder([0]).fit([[2**53 + 1], [1], [2]])
    with pytest.raises(ValueError, match="scaler: column 'x0': expected categories that"):
        export(model, path)
    assert list(tmp_path.iterdir()) == [] and onnx is not None
