"""export_c: the estimators of fastnn.sklearn, compared with their predictions."""

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")


from c_files import NATIVE, Compiled
from compare import assert_same_bits
from exported import (
    CASES,
    CATEGORICAL,
    as_numbers,
    assert_refuses_what_is_no_model,
    table,
    targets_of,
)
from fastnn import export_c
from fastnn.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor
from perceptrons import cancer, fast, outputs_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FLAGS = ("-O1", *NATIVE)  # compiled sooner


# ---- tables ----


@pytest.mark.parametrize("n_ensembles", [1, 3, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["two classes", "three classes", "values", "two values"])
def test_the_estimators_for_tables_have_the_bits_of_their_predictor(
    kind, n_ensembles, rng, tmp_path
):
    of = TabularClassifier if "classes" in kind else TabularRegressor
    estimator = of(
        (16, 16), max_iter=4, n_ensembles=n_ensembles, random_state=0, max_one_hot=3,
        categorical_features=CATEGORICAL,
    )  # fmt: skip
    rows, others = table(300, rng), table(10_000, rng, new=True)
    estimator.fit(rows, targets_of(rows, kind))
    found = Compiled(estimator, tmp_path, flags=FLAGS)(as_numbers(others))
    predictor = estimator.predictor()
    some = [0, *range(0, 10_000, 25)]
    wanted = np.array([predictor(others[i]) for i in some]).reshape(len(some), -1)
    assert_same_bits(found[some], wanted)
    predicted = outputs_of(estimator, others).reshape(len(found), -1)
    np.testing.assert_allclose(found, predicted, rtol=1e-6, atol=1e-6)
    if of is TabularRegressor:
        assert (np.ptp(found, axis=0) > 0).all()
        low, high = estimator.target_range_
        assert (found >= low).all() and (found <= high).all()


def test_a_table_of_codes_alone(rng, tmp_path):
    codes = rng.integers(0, 12, 60).astype(float)  # the network begins with an embedding
    rows = codes[:, None]
    classifier = TabularClassifier((8,), max_iter=2, random_state=0, categorical_features=[0])
    predictor = classifier.fit(rows, codes % 2).predictor()
    found = Compiled(classifier, tmp_path, flags=FLAGS)(rows)
    assert_same_bits(found, np.array([predictor(row) for row in rows]))


@pytest.mark.parametrize("settings", [{}, {"loss": "hinge"}, {"n_ensembles": 3}])
def test_categories_of_a_perceptron(settings, dtype, rng, tmp_path):
    rows, others = table(300, rng), table(10_000, rng)
    others[rng.random(10_000) < 0.3, 2] = "new"
    classifier = MLPClassifier(
        **fast(categorical_features=CATEGORICAL, dtype=dtype.name, **settings)
    )
    classifier.fit(rows, targets_of(rows, "three classes"))
    run = Compiled(classifier, tmp_path, flags=FLAGS)
    found = run(as_numbers(others))
    if "loss" in settings:
        wanted = classifier.model_.predict(classifier.encoder_.transform(others))
    else:
        wanted = classifier.predict_proba(others)
    if "n_ensembles" in settings:  # their mean is double here
        np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps, atol=0)
    else:
        assert_same_bits(found, wanted.astype(np.float64))
    chosen = classifier.classes_[found.argmax(axis=1)]
    assert (chosen == classifier.predict(others)).mean() > 0.999


# ---- arrays ----


@pytest.mark.parametrize("n_ensembles", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_perceptrons(case, n_ensembles, dtype, tmp_path):
    of, (X, y), settings = CASES[case]
    X = X.astype(dtype)
    estimator = of(**fast(n_ensembles=n_ensembles, dtype=dtype.name, **settings)).fit(X, y)
    run = Compiled(estimator, tmp_path, flags=FLAGS, name="mlp")
    assert run.dtype == dtype
    found = run(np.ascontiguousarray(X))
    if case == "hinge":
        members = [estimator, *getattr(estimator, "others_", ())]
        wanted = np.mean([one.model_.predict(X) for one in members], axis=0)
    else:
        wanted = outputs_of(estimator, X)
    wanted = wanted.reshape(len(X), -1).astype(dtype)
    if case in ("counts", "batch norm"):  # NumPy's exp; the norm is folded
        scale = np.abs(wanted).max() if case == "batch norm" else np.abs(wanted)
        assert (np.abs(found - wanted) <= 16 * np.finfo(dtype).eps * scale).all()
    else:
        assert_same_bits(found, wanted)


def test_the_header_names_the_classes(tmp_path):
    X, y = cancer()
    classifier = MLPClassifier(**fast()).fit(X, np.where(y, "*/ evil", "b\n"))
    header = export_c(classifier, tmp_path / "net.c").header.read_text()
    assert ' * y[0] the probability of "*\\u002f evil"\n' in header
    assert ' * y[1] the probability of "b\\n"\n' in header
    regressor = MLPRegressor(**fast()).fit(X, y)
    assert "y[0]" not in export_c(regressor, tmp_path / "net.c").header.read_text()


def test_int8_weights_of_an_ensemble(rng, tmp_path):
    rows = table(300, rng)
    regressor = TabularRegressor(
        (16, 16), max_iter=20, n_ensembles=2, random_state=0, categorical_features=CATEGORICAL
    )
    regressor.fit(rows, targets_of(rows, "values"))
    run = Compiled(regressor, tmp_path, weights="int8", X=rows)
    real = export_c(regressor, tmp_path / "real.c")
    assert run.files.constants < 0.7 * real.constants and 0 < run.files.error < 0.1
    found, wanted = run(as_numbers(rows))[:, 0], regressor.predict(rows)
    assert 0 < np.sqrt(np.mean((found - wanted) ** 2)) < 0.1 * wanted.std()


# ---- what is refused ----


def test_what_is_refused(tmp_path):
    assert_refuses_what_is_no_model(export_c, tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []
