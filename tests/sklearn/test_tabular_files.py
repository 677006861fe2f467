"""Files, copies and single rows of the estimators for tables."""

import copy
import json
import pickle

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

import pandas as pd
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from compare import assert_same_bits
from fastnn.files import safefile
from fastnn.sklearn import TabularClassifier, TabularRegressor
from perceptrons import cancer, plane
from small_tables import KINDS, answers, data, small, table


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_files_predict_the_same(kind, networks, tmp_path):
    X, y = data(kind)
    if kind is TabularClassifier:
        y = np.array([2.0, -1.0])[y]
    estimator = small(kind, n_ensembles=networks).fit(X, y)
    estimator.save(tmp_path / "estimator.safetensors")
    loaded = kind.load(tmp_path / "estimator.safetensors")
    for twin in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator), loaded):
        assert (answers(twin, X) == answers(estimator, X)).all()
        assert (twin.predict(X) == estimator.predict(X)).all()
        assert repr(twin) == repr(estimator)
    assert loaded.get_params() == estimator.get_params()
    assert loaded.best_epochs_ == estimator.best_epochs_ and loaded.n_iter_ == 8
    joined = fastnn.load(tmp_path / "estimator.safetensors")
    encoded = joined.scaler.transform(X)
    outputs = [model.predict(encoded) for model in estimator.models_]
    assert (joined.predict(encoded) == np.hstack(outputs)).all()
    assert (answers(clone(loaded).fit(X, y), X) == answers(estimator, X)).all()


@pytest.mark.parametrize("networks", [1, 2])
def test_files_of_frames(networks, tmp_path):
    X, y = table()
    classifier = small(n_ensembles=networks, class_weight={"yes": 2.0}).fit(X, y)
    classifier.save(tmp_path / "table.safetensors")
    loaded = TabularClassifier.load(tmp_path / "table.safetensors")
    assert (loaded.predict_proba(X) == classifier.predict_proba(X)).all()
    assert list(loaded.feature_names_in_) == list(X) and list(loaded.classes_) == ["no", "yes"]
    assert loaded.class_weight == {"yes": 2.0}
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X.rename(columns={"age": "years"}))


def test_parameters_that_no_file_holds_are_the_defaults_again(tmp_path):
    X, y = cancer()
    settings = {"callbacks": [fastnn.Callback()], "scoring": lambda e, X, y, sample_weight: 0.5}
    classifier = small(class_weight={0: 2.0}, **settings).fit(X, y)
    classifier.save(tmp_path / "file.safetensors")
    loaded = TabularClassifier.load(tmp_path / "file.safetensors")
    assert loaded.callbacks is loaded.scoring is loaded.class_weight is None
    assert (loaded.predict_proba(X) == classifier.predict_proba(X)).all()


HOSTILE = [
    {"format": 2}, {"estimator": "TabularRegressor"}, {"parameters": {"width": 3}},
    {"parameters": {"dropout": 7}}, {"parameters": []}, {"features": 0}, {"features": "a"},
    {"networks": 2}, {"networks": -1}, {"names": ["a"]}, {"names": [1] * 30}, {"epochs": None},
    {"best_epochs": ["a"]}, {"best_epochs": 3}, {"classes": {"dtype": "<i8", "values": [1]}},
    {"classes": {"dtype": "<i8", "values": ["a", "b"]}}, {"classes": [0, 1]}, {"more": 1},
    {"classes": {"dtype": "O", "values": [[], []]}}, {"classes": {"dtype": 5, "values": [0, 1]}},
    {"classes": {"dtype": "i4,i4", "values": [0, 1]}}, {"best_epochs": []}, {"features": 31},
    {"classes": {"dtype": "<i8", "values": [1, 1]}},
    {"classes": {"dtype": "<i1", "values": [0, 999]}},
    {"classes": {"dtype": "<i8", "values": [0, 10**30]}},
    {"classes": {"dtype": "|i1", "values": [0, 300]}},
    {"classes": {"dtype": "<i8", "values": [1, 0]}},
    {"classes": {"dtype": "<f8", "values": [0.5, float("nan")]}},
    {"classes": {"dtype": "U1,U1", "values": ["a", "b"]}},
    {"best_epochs": [10**400], "epochs": 0}, {"estimator": "A" * 10**5}, {"names": ["A" * 10**5]},
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: str(change)[:60])
def test_hostile_files_are_refused(change, tmp_path):
    path = str(tmp_path / "file.safetensors")
    small().fit(*cancer()).save(path)
    metadata, tensors = safefile.read(path)
    content = json.loads(metadata["fastnn.sklearn"]) | change
    safefile.write(path, tensors, metadata | {"fastnn.sklearn": json.dumps(content)})
    with pytest.raises(ValueError, match=r"file\.safetensors") as caught:
        TabularClassifier.load(path)
    assert len(str(caught.value)) < 3000


def test_classes_take_no_more_memory_than_their_text(tmp_path):
    path = str(tmp_path / "file.safetensors")
    X, y = cancer()
    small().fit(X, np.array(["no", "yes"])[y]).save(path)
    metadata, tensors = safefile.read(path)
    content = metadata["fastnn.sklearn"].replace('"<U3"', '"<U99999999"')
    assert content != metadata["fastnn.sklearn"]
    safefile.write(path, tensors, metadata | {"fastnn.sklearn": content})
    assert TabularClassifier.load(path).classes_.nbytes == 2 * 3 * 4


def test_ranges_beyond_float64_are_refused(tmp_path):
    path = str(tmp_path / "file.safetensors")
    small(TabularRegressor).fit(*plane()).save(path)
    metadata, tensors = safefile.read(path)
    content = json.loads(metadata["fastnn.sklearn"]) | {"range": [[0], [10**400]]}
    safefile.write(path, tensors, metadata | {"fastnn.sklearn": json.dumps(content)})
    with pytest.raises(ValueError, match=r"file\.safetensors"):
        TabularRegressor.load(path)


def test_a_file_does_not_say_how_much_memory_names_take(tmp_path):
    X, y = cancer()
    path = str(tmp_path / "file.safetensors")
    small().fit(X, np.array(["no", "yes"])[y]).save(path)
    metadata, tensors = safefile.read(path)
    content = json.loads(metadata["fastnn.sklearn"])
    content["classes"]["dtype"] = "<U1000000"
    safefile.write(path, tensors, metadata | {"fastnn.sklearn": json.dumps(content)})
    classes = TabularClassifier.load(path).classes_
    assert classes.tolist() == ["no", "yes"] and classes.dtype == "U3"


def test_files_of_models_are_no_files_of_estimators(tmp_path):
    fastnn.Sequential(fastnn.Dense(2, 2)).save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"use fastnn\.load"):
        TabularClassifier.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_predictor_predicts_rows(kind, networks):
    X, y = data(kind)
    estimator = small(kind, n_ensembles=networks).fit(X, y)
    predictor = estimator.predictor()
    wanted = answers(estimator, X[:20])
    for row, its in zip(X, wanted, strict=False):
        found = predictor(row)
        np.testing.assert_allclose(found, its, rtol=1e-5, atol=1e-6)
        assert np.shape(found) == its.shape and np.all(predictor(row.tolist()) == found)
    several = small(TabularRegressor).fit(X, X[:, :2]).predictor()
    assert several(X[0]).shape == (2,)


def test_a_predictor_takes_rows_with_categories():
    X, y = table()
    classifier = small().fit(X, y)
    predictor = classifier.predictor()
    for i in range(5):
        row = X.astype(object).iloc[i].tolist()
        np.testing.assert_allclose(
            predictor(row), classifier.predict_proba(X[i : i + 1])[0], rtol=1e-5, atol=1e-6
        )


def test_single_rows_have_no_names_and_their_predictor_pickles():
    X, y = cancer()
    classifier = small().fit(X, np.array(["no", "yes"])[y])
    predictor = classifier.predictor()
    expected = predictor(X[7])
    for row in (pd.Series(X[7]), pd.DataFrame(X[7:8]), dict(enumerate(X[7]))):
        with pytest.raises(TypeError, match=r"^row: expected a list or an array .* got a"):
            predictor(row)
    copied = pickle.loads(pickle.dumps(predictor))
    classifier.fit(X[::-1], y[::-1])  # changes neither
    assert_same_bits(copied(X[7]), expected)
    assert_same_bits(predictor(X[7].tolist()), expected)
    assert predictor.classes.tolist() == ["no", "yes"]


def test_classes_whose_rows_weigh_nothing_are_classes(tmp_path):
    X, y = cancer()
    y = np.array(["no", "yes", "never"])[np.where(np.arange(len(y)) % 9 == 0, 2, y)]
    classifier = small().fit(X, y, sample_weight=(y != "never").astype(float))
    assert classifier.classes_.tolist() == ["never", "no", "yes"]
    assert classifier.predict_proba(X).shape == (len(X), 3)
    assert "never" not in classifier.predict(X)
    classifier.save(tmp_path / "file.safetensors")
    assert fastnn.load(tmp_path / "file.safetensors").classes == ("never", "no", "yes")
