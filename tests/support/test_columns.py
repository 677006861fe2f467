"""Tables: numbers among objects are taken, and what is wrong is named by its column."""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import fastnn
from fastnn import Dense, MeanSquaredError, Sequential, SoftmaxCrossEntropy, Standardizer
from fastnn.support import arrays


class Table:
    """As a DataFrame seems to NumPy: objects, and names for its columns."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self._rows = [list(row) for row in zip(*columns.values(), strict=True)]

    def __array__(self, dtype=None, copy=None):
        return np.array(self._rows, object)


class NAType:
    """As pandas.NA prints itself."""

    def __repr__(self):
        return "<NA>"


NA = NAType()
MIXED = Table(age=[20, 31, 40, 52], fare=[7.5, 0.25, 3.0, 1.5], member=[True, False, True, True])
PLAIN = np.array([[20, 7.5, 1], [31, 0.25, 0], [40, 3, 1], [52, 1.5, 1]])


@pytest.mark.parametrize("items, kind", [
    ([True, False], np.bool_), ([np.True_, False], np.bool_), ([1, True], np.int64),
    ([np.uint8(3), -2], np.int64), ([1, 2.5], np.float64), ([np.float32(0.5), 1], np.float64),
    ([2**62, 1], np.int64), ([2**70, 1], np.float64), ([Decimal("0.5"), 3], np.float64),
    ([Fraction(1, 4), 1.0], np.float64), ([float("nan"), 1], np.float64),
])  # fmt: skip
def test_numbers_among_objects(items, kind):
    for shape in ((2,), (2, 1), (1, 1, 2)):
        array = np.empty(2, object)
        array[:] = items
        got = arrays.numeric_array(array.reshape(shape), "X")
        assert got.dtype == kind and got.shape == shape
        np.testing.assert_array_equal(got.ravel(), np.array([float(item) for item in items], kind))


def fit(X, y, loss=None, **options):
    model = Sequential(Dense(3, 2), seed=0)
    loss, optimizer = loss or SoftmaxCrossEntropy(), fastnn.SGD(0.01)
    model.fit(X, y, loss=loss, optimizer=optimizer, epochs=2, progress=False, **options)
    return model


def test_a_table_of_numbers_is_taken_everywhere():
    y = np.array([0, 1, 1, 0])
    model, twin = fit(MIXED, y.astype(object)), fit(PLAIN, y)
    np.testing.assert_array_equal(model.flat_parameters, twin.flat_parameters)
    np.testing.assert_array_equal(model.predict(MIXED), model.predict(PLAIN))
    np.testing.assert_array_equal(model.forward(MIXED), model.predict(PLAIN))
    np.testing.assert_array_equal(model.predictor(4)(MIXED), model.predict(PLAIN))
    loss = SoftmaxCrossEntropy()
    assert model.evaluate(MIXED, y, loss=loss) == model.evaluate(PLAIN, y, loss=loss)
    scale = Standardizer().fit(MIXED)
    np.testing.assert_array_equal(scale.transform(MIXED), Standardizer().fit_transform(PLAIN))
    ((xb, _),) = fastnn.batches(MIXED, y, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(xb, PLAIN)
    objects = np.array([0.5, 1, True, 2], object)
    by_weight = fit(PLAIN, y, sample_weight=objects), fit(PLAIN, y, sample_weight=[0.5, 1, 1, 2])
    np.testing.assert_array_equal(*(model.flat_parameters for model in by_weight))
    assert fastnn.metrics.accuracy(PLAIN.astype(object), y) == fastnn.metrics.accuracy(PLAIN, y)


COLUMN = [1.0, 2.0, 3.0, 4.0]
WRONG = {
    "text": ({"city": ["Oslo", "Paris", "Oslo", "Rome"]},
             r"got 'Oslo' in column 'city' \(dtype object\); encode text as numbers first"),
    "missing": ({"age": [3, 4, NA, NA]}, "got <NA> in column 'age' .*; fill in what is missing"),
    "None": ({"age": [3, None, 1, 2]}, "got None in column 'age' .*; fill in what is missing"),
    "dates": ({"born": [datetime.date(2000, 1, day) for day in (1, 2, 3, 4)]},
              r"got datetime.date\(2000, 1, 1\) in column 'born' .*; turn dates and times"),
    "complex": ({"z": [1, 1j, 2, 3]}, r"got 1j in column 'z' \(dtype object\)$"),
    "long text": ({"t": ["word " * 30] * 4}, r"got a str in column 't' .*; encode text"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_table_of_other_things_is_refused_by_its_column(wrong):
    columns, message = WRONG[wrong]
    table = Table(first=COLUMN, second=COLUMN, **columns)
    model = Sequential(Dense(3, 2))
    for name, call in {
        "X": lambda: fit(table, [0, 1, 1, 0]), "validation X": lambda: fit(
            PLAIN, [0, 1, 1, 0], validation_data=(table, [0, 1, 1, 0])),
        "x": lambda: model.forward(table),
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: expected real numbers, {message}"):
            call()
    for call in (model.predict, Standardizer().fit, lambda X: fastnn.batches(X, COLUMN)):
        with pytest.raises(ValueError, match=f"^X: expected real numbers, {message}"):
            call(table)


@pytest.mark.parametrize("y, message", [
    (np.array(["a", "b", "a", None], object), "got 'a' in row 0 .*; number the classes: names, y"),
    (np.array([0, 1, None, 1], object), "got None in row 2 .*; fill in what is missing"),
])  # fmt: skip
def test_targets_of_other_things_are_refused_by_their_row(y, message):
    with pytest.raises(ValueError, match=f"^y: expected real numbers, {message}"):
        fit(PLAIN, y)


def test_rows_that_are_arrays_are_to_be_stacked():
    rows = np.empty(4, object)
    rows[:] = [np.zeros(3) for _ in rows]
    with pytest.raises(ValueError, match=r"got a.* in row 0 .*; make one array .* np.stack\(X\)"):
        fit(rows, [0, 1, 1, 0])


def test_integers_beyond_float64_are_too_large():
    with pytest.raises(ValueError, match=r"^X contains values too large for float64$"):
        fit(np.array([[10**400, 1, 2]], object), [0])


def holes(*columns, value=np.nan):
    X = PLAIN.copy()
    X[1, list(columns)] = value
    return Table(**dict(zip(("age", "fare", "member"), X.T.tolist(), strict=True)))


@pytest.mark.parametrize("columns, where", [
    ([1], "in column 'fare'"), ([0, 2], "in columns 'age', 'member'"),
    ([0, 1, 2], "in columns 'age', 'fare', 'member'"),
])  # fmt: skip
def test_nan_is_named_by_its_column(columns, where):
    for value, word in ((np.nan, "NaN"), (-np.inf, "infinity"), (1e300, "too large for float32")):
        table = holes(*columns, value=value)
        calls = [lambda X: fit(X, [0, 1, 1, 0])]
        calls += [Standardizer().fit] if value != 1e300 else [Sequential(Dense(3, 2)).predict]
        for call in calls:
            with pytest.raises(ValueError, match=f"^X contains .*{word} {where}$"):
                call(table)


def test_places_of_many_columns_of_vectors_and_of_images():
    X = np.zeros((4, 6))
    X[2, :5] = np.nan
    with pytest.raises(ValueError, match=r"^X contains NaN in columns 0, 1, 2 and 2 more$"):
        Standardizer().fit(X)
    with pytest.raises(ValueError, match=r"^y contains NaN in row 3$"):
        fit(PLAIN[:, :3], np.array([0, 0, 0, np.nan]), MeanSquaredError())
    images = np.zeros((2, 4, 4, 1))
    images[1, 2, 3, 0] = np.nan
    model = Sequential(fastnn.Flatten(), Dense(16, 2))
    with pytest.raises(ValueError, match=r"^X contains NaN at \[1, 2, 3, 0\]$"):
        model.fit(images, [0, 1], loss=SoftmaxCrossEntropy(), optimizer=fastnn.SGD(0.1))


# ---- with pandas itself ----


def frame(**columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def test_frames_of_mixed_and_nullable_columns():
    pandas = pytest.importorskip("pandas")
    mixed = pandas.get_dummies(frame(a=[20, 31, 40, 52], b=list("xyxx")))
    assert np.asarray(mixed).dtype == object
    for table in (mixed, mixed.convert_dtypes(), mixed.astype("Int64"), mixed.astype("Float32"),
                  mixed.astype({"a": "Int64", "b_x": "boolean", "b_y": float})):  # fmt: skip
        plain = mixed.astype(float).to_numpy()
        scale = Standardizer().fit(table)
        np.testing.assert_array_equal(scale.transform(table), Standardizer().fit_transform(plain))
        y = pandas.Series([0, 1, 1, 0], dtype="Int64")
        model, twin = fit(table, y), fit(plain, [0, 1, 1, 0])
        np.testing.assert_array_equal(model.flat_parameters, twin.flat_parameters)
        np.testing.assert_array_equal(model.predict(table), twin.predict(plain))


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean"])
def test_missing_values_of_frames_are_named(kind):
    pandas = pytest.importorskip("pandas")
    table = frame(age=pandas.Series([1, None, 0, 1], dtype=kind), fare=COLUMN, id=[1, 2, 3, 4])
    for call in (lambda: fit(table, [0, 1, 1, 0]), lambda: Standardizer().fit(table)):
        with pytest.raises(ValueError, match=r"^X.* in column 'age'"):
            call()
    with pytest.raises(ValueError, match=r"^y.* in row 1"):
        fit(PLAIN, table["age"], MeanSquaredError())


def test_text_and_dates_of_frames_are_named():
    pandas = pytest.importorskip("pandas")
    dates = pandas.date_range("2020-01-01", periods=4)
    for column, advice in ((list("abca"), "encode text"), (dates, "turn dates"),
                           (pandas.Categorical(list("abca")), "encode text")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^X: .* in column 'c' .*{advice}"):
            Standardizer().fit(frame(age=COLUMN, c=column))
    with pytest.raises(ValueError, match=r"^X: .*got dtype datetime64.*turn dates"):
        Standardizer().fit(frame(first=dates, last=dates))
