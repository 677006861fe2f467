"""Standardizer, alone and among scikit-learn's."""

import copy
import pickle

import numpy as np
import pytest

import reference
from compare import assert_same_bits
from fastnn import Standardizer


@pytest.mark.parametrize("rows", [1, 2, 100, 4096, 4097, 10000])
def test_standardizer(rows, rng):
    train = rng.standard_normal((rows, 3)) * [1, 1e-3, 1e3] + [0, 5, -1e6]
    other = rng.standard_normal((50, 3)) + train[0]
    scale = Standardizer(dtype="float64").fit(train)
    np.testing.assert_allclose(
        scale.transform(other), reference.standardize(train, other), rtol=1e-7
    )
    np.testing.assert_allclose(scale.inverse_transform(scale.transform(other)), other, rtol=1e-9)
    got = Standardizer().fit_transform(train)
    assert got.dtype == np.float32 and got.shape == train.shape
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-4)
    if rows > 1:
        np.testing.assert_allclose(got.std(axis=0), 1, rtol=1e-4)


@pytest.mark.parametrize("value", [0, 0.1, -1e30, 1e-300, 7, 2**53])
def test_a_constant_feature_becomes_zero(value):
    x = np.full((1000, 2), value, float)
    x[:, 1] = np.arange(1000)
    scale = Standardizer("float64").fit(x)
    assert not scale.transform(x)[:, 0].any() and scale.std[0] == 1
    assert np.isfinite(scale.transform(x + 1)).all()


def shares(rows, terms, kind, rng):
    """Sums that are 1 but for rounding: the last of them are added one after the other."""
    parts = rng.uniform(size=(rows, terms)).astype(kind)
    parts /= parts.sum(axis=1, keepdims=True)
    total = parts[:, 0].copy()
    for part in parts.T[1:]:
        total += part
    return total[:, None]


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("rows, terms", [(8, 9), (20, 5), (1000, 5), (30000, 20)])
def test_what_varies_by_rounding_alone_is_constant(rows, terms, kind, rng):
    x = shares(rows, terms, kind, rng)
    x = np.hstack([x, -1e9 * x, 1e-30 * x, rng.uniform(size=x.shape).astype(kind)])
    assert (x[:, :3] != x[0, :3]).any(axis=0).all()
    scale = Standardizer("float64").fit(x)
    np.testing.assert_array_equal(scale.std[:3], 1)
    np.testing.assert_allclose(scale.std[3], x[:, 3].astype(float).std(), rtol=1e-12)
    np.testing.assert_allclose(scale.transform(x * 0.99)[:, 0], -0.01, rtol=1e-4)


def test_what_is_constant_is_what_scikit_learn_calls_so(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    for rows in (2, 10, 1000):
        for mean in (1e-5, 1.0, -1e10):
            spread = np.finfo(float).eps * rows * abs(mean) * np.array([0.0, 0.1, 0.5, 3, 10, 1e5])
            x = mean + spread * np.tile([[-1], [1]], (rows // 2, 1))
            theirs = preprocessing.StandardScaler().fit(x)
            np.testing.assert_allclose(Standardizer("float64").fit(x).std, theirs.scale_)


@pytest.mark.parametrize("kind, offset", [
    ("f8", 1e9), ("f4", 1e6), ("f4", 1e7), ("i4", 2e9), ("i8", 1e12)
])  # fmt: skip
def test_a_large_offset_costs_no_accuracy(kind, offset):
    for rows in (10, 1000, 10000):
        x = (offset + np.arange(float(rows))[:, None]).astype(kind)
        scale = Standardizer("float64").fit(x)
        np.testing.assert_allclose(scale.std, np.arange(float(rows)).std(), rtol=1e-9)


def test_inverse_transform_keeps_a_large_offset():
    """Predictions are float32, but 1e8 give or take 8 is not what was predicted."""
    x = 1e8 + np.arange(1000.0)[:, None] % 7
    scale = Standardizer().fit(x)
    back = scale.inverse_transform(scale.transform(x))
    assert scale.transform(x).dtype == np.float32 and back.dtype == np.float64
    np.testing.assert_allclose(back - 1e8, x - 1e8, atol=1e-6)


@pytest.mark.parametrize("x, message", [
    ([1.0, 2.0], "shape"), (np.ones((0, 2)), "shape"), (np.ones((2, 0)), "shape"),
    (np.ones((2, 0, 2)), "shape"), ([[1, np.nan]], "X contains NaN in column 1$"),
    ([[1, np.inf]], "infinity in column 1$"),
    ([["a", "b"]], "numbers"), (np.ones((2, 2)) * 1j, "complex"),
    ([[1, 2], [3]], "X: not an array"),
    (np.ma.masked_array(np.ones((2, 2))), "mask"), ([[1e308], [-1e308]], "X"),
    ([[[1, np.nan]]], r"X contains NaN at \[0, 0, 1\]"),
])  # fmt: skip
def test_standardizer_refuses_to_fit(x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Standardizer().fit(x)


def test_standardizer_refuses_what_it_was_not_fitted_for():
    with pytest.raises(RuntimeError, match="fit"):
        Standardizer().transform(np.ones((2, 2)))
    scale = Standardizer().fit([[1.0, 2], [3, 4]])
    for method in (scale.transform, scale.inverse_transform):
        for x, message in (
            (np.ones((2, 3)), "2 features.*3"), (np.ones(2), "shape"), ([[1, np.nan]], "NaN"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                method(x)
    with pytest.raises(ValueError, match="float32"):
        scale.transform([[1e300, 0]])
    for dtype in ("int32", "float16", None, "text"):
        with pytest.raises((TypeError, ValueError), match="dtype"):
            Standardizer(dtype=dtype)


def test_a_vector_for_the_standardizer_is_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"got \(3,\); write \.reshape\(-1, 1\) for one feature"):
        Standardizer().fit([1.0, 2.0, 3.0])


@pytest.mark.parametrize("kind", ["f4", "f8", "u1", "?"])
@pytest.mark.parametrize(
    "shape", [(9, 5, 4, 3), (9, 5, 3), (1, 7, 2), (3, 40, 50, 1), (2, 1, 1, 2)]
)
def test_channels_of_images_and_sequences_are_standardised(shape, kind, rng):
    x = (rng.standard_normal(shape) * [*range(2, 2 + shape[-1])] + 40).astype(kind)
    scale = Standardizer("float64").fit(x)
    axes, wide = tuple(range(len(shape) - 1)), x.astype(float)
    np.testing.assert_allclose(scale.mean, wide.mean(axis=axes), rtol=1e-12)
    constant = wide.std(axis=axes) == 0
    np.testing.assert_allclose(scale.std, np.where(constant, 1, wide.std(axis=axes)), rtol=1e-12)
    got = scale.transform(x)
    assert got.shape == shape
    np.testing.assert_allclose(got, (wide - scale.mean) / scale.std, atol=1e-12)
    np.testing.assert_allclose(scale.inverse_transform(got), wide, atol=1e-12)
    rows = Standardizer("float64").fit(x.reshape(-1, shape[-1]))
    assert_same_bits(rows.mean, scale.mean)
    assert_same_bits(rows.std, scale.std)
    np.testing.assert_array_equal(scale.transform(x[::-1]), got[::-1])
    with pytest.raises(ValueError, match=f"expected {shape[-1]} features as in fit, got 7"):
        scale.transform(np.ones((2, 7)))
    assert Standardizer().fit(x).transform(x.tolist()).dtype == np.float32


# ---- the Standardizer among scikit-learn's ----


def test_parameters_by_name():
    scale = Standardizer("float64")
    assert scale.get_params() == scale.get_params(deep=False) == {"dtype": np.float64}
    assert scale.set_params(dtype="float32") is scale is scale.set_params()
    assert scale.dtype == np.float32
    with pytest.raises(ValueError, match="Standardizer: expected dtype, got a, b"):
        scale.set_params(b=1, a=2, dtype="float64")
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got 'int8'"):
        scale.set_params(dtype="int8")
    assert scale.dtype == np.float32
    assert repr(scale) == "Standardizer()"
    assert repr(Standardizer("f8")) == "Standardizer(dtype='float64')"
    for twin in (copy.deepcopy(Standardizer("f8")), pickle.loads(pickle.dumps(Standardizer("f8")))):
        assert twin.dtype == np.float64


class Table:
    """As pandas' DataFrame seems to NumPy."""

    columns = ("a", "b")

    def __array__(self, dtype=None, copy=None):
        return np.array([[1.0, 2.0], [3.0, 5.0]])


def test_names_of_features():
    scale = Standardizer()
    with pytest.raises(RuntimeError, match="call fit before get_feature_names_out"):
        scale.get_feature_names_out()
    assert scale.fit(np.eye(3)).get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    names = scale.get_feature_names_out(["u", "v", "w"])
    assert names.tolist() == ["u", "v", "w"] and names.dtype == object
    with pytest.raises(ValueError, match=r"input_features: expected 3 names, got \['u'\]"):
        scale.get_feature_names_out(["u"])
    assert scale.fit(Table()).get_feature_names_out().tolist() == ["a", "b"]
    assert scale.fit(np.eye(2)).get_feature_names_out().tolist() == ["x0", "x1"]


def test_fit_takes_the_targets_of_a_pipeline(rng):
    x = rng.standard_normal((9, 2))
    scale = Standardizer()
    assert scale.fit(x, np.arange(9)) is scale
    np.testing.assert_array_equal(Standardizer().fit_transform(x, y=None), scale.transform(x))


def test_a_standardizer_in_scikit_learn(rng):
    base = pytest.importorskip("sklearn.base", reason="no scikit-learn")
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted

    x = rng.standard_normal((60, 3)) * [1, 10, 100] + 5
    y = x @ [1.0, 2.0, 3.0] + 4
    twin = base.clone(Standardizer("float64").fit(x))
    assert twin.dtype == np.float64 and not hasattr(twin, "mean")
    pipe = make_pipeline(Standardizer("float64"), LinearRegression()).fit(x, y)
    theirs = make_pipeline(StandardScaler(), LinearRegression()).fit(x, y)
    np.testing.assert_allclose(pipe.predict(x), theirs.predict(x))
    assert pipe[:-1].get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    alone = make_pipeline(Standardizer()).fit(x)
    assert alone.transform(x).dtype == np.float32
    check_is_fitted(alone)
    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(Standardizer())
    columns = ColumnTransformer([("a", Standardizer("f8"), [2, 0]), ("b", "drop", [1])]).fit(x)
    np.testing.assert_allclose(columns.transform(x), StandardScaler().fit_transform(x[:, [2, 0]]))
    assert columns.get_feature_names_out().tolist() == ["a__x2", "a__x0"]
    regressor = TransformedTargetRegressor(LinearRegression(), transformer=Standardizer("f8"))
    for targets in (y, np.stack([y, -y], axis=1)):
        np.testing.assert_allclose(regressor.fit(x, targets).predict(x), targets)
    grid = {"scale__dtype": ["float32", "float64"]}
    steps = [("scale", Standardizer()), ("rest", LinearRegression())]
    search = GridSearchCV(Pipeline(steps), grid, error_score="raise").fit(x, y)
    assert set(search.cv_results_["param_scale__dtype"]) == {"float32", "float64"}


def test_a_data_frame_where_it_is_asked_for(rng):
    pandas = pytest.importorskip("pandas", reason="no pandas")
    compose = pytest.importorskip("sklearn.compose", reason="no scikit-learn")
    frame = pandas.DataFrame({"a": [1.0, 2, 6], "b": [0.0, 1, 1], "c": [3.0, 4, 5]}, [7, 8, 9])
    scale = Standardizer().set_output(transform="pandas")
    assert scale.set_output() is scale
    found = scale.fit_transform(frame)
    assert [*found.columns] == ["a", "b", "c"] and [*found.index] == [7, 8, 9]
    np.testing.assert_array_equal(found, Standardizer().fit_transform(frame))
    assert type(scale.set_output(transform="default").transform(frame)) is np.ndarray
    columns = compose.ColumnTransformer([("s", Standardizer(), ["c", "a"]), ("p", "passthrough",
        ["b"])]).set_output(transform="pandas")  # fmt: skip
    assert [*columns.fit_transform(frame).columns] == ["s__c", "s__a", "p__b"]
    with pytest.raises(ValueError, match="transform: expected one of default, pandas, got 'polars"):
        scale.set_output(transform="polars")
