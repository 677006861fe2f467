"""DataFrames of pandas and polars through TableEncoder: every type of column, and their names."""

import datetime
import warnings

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import TableEncoder

pandas = pytest.importorskip("pandas", reason="no pandas")

NUMBERS = [3, None, 1, 250]
WORDS = ["b", None, "a", "b"]
TRUTHS = [True, None, False, True]
# columns that say the same in other types
SAME = {
    "numbers": (NUMBERS, ["float64", "float32", "Float64", "Int64", "UInt8", "object",
                          "Sparse[float64]"]),
    "words": (WORDS, ["object", "string", "category"]),
    "truths": (TRUTHS, ["object", "boolean", "category"]),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_every_type_of_column(what):
    items, kinds = SAME[what]
    expected = TableEncoder(max_one_hot=1, dtype="float64")
    rows = expected.fit([[item] for item in items]).transform([[item] for item in items])
    for kind in kinds:
        frame = pandas.DataFrame({"x": pandas.Series(items, dtype=kind)})
        encoder = TableEncoder(max_one_hot=1, dtype="float64").fit(frame)
        assert encoder.is_categorical_.tolist() == [what != "numbers"], kind
        np.testing.assert_array_equal(encoder.transform(frame), rows, kind)
        for other in kinds:
            twin = pandas.DataFrame({"x": pandas.Series(items, dtype=other)})
            assert_same_bits(encoder.transform(twin), rows)
            assert_same_bits(encoder.transform(twin[2:]), rows[2:])


@pytest.mark.parametrize("odd", [1.5, 7, None, np.float32(0.5), True])
def test_objects_are_numbers_whatever_stands_beside_them(odd):
    numbers = np.array([[0.25, 1.0], [np.nan, 3.0], [5.0, 2.0]])
    objects = numbers.astype(object)
    objects[1, 0] = odd
    numbers[1, 0] = np.nan if odd is None else odd
    encoder = TableEncoder(None).fit(numbers)
    assert_same_bits(encoder.transform(objects), encoder.transform(numbers))
    for i in range(3):
        assert_same_bits(
            encoder.transform(objects[i : i + 1]), encoder.transform(numbers)[i : i + 1]
        )


def test_categories_of_numbers_and_of_what_does_not_occur():
    kind = pandas.CategoricalDtype([9, 5, 7], ordered=True)
    frame = pandas.DataFrame({"x": pandas.Series([5, None, 9], dtype=kind)})
    encoder = TableEncoder(max_one_hot=0).fit(frame)
    assert encoder.categories_ == [[5, 9]] and encoder.n_codes_ == 3
    assert encoder.transform(frame)[:, 0].tolist() == [1, 0, 2]
    other = pandas.DataFrame({"x": pandas.Series([7, 9, 5, 11], dtype="category")})
    assert encoder.transform(other)[:, 0].tolist() == [0, 2, 1, 0]
    assert encoder.transform(pandas.DataFrame({"x": [9.0, 7.0]}))[:, 0].tolist() == [2, 0]


FRAME = pandas.DataFrame(
    {"age": [31, 45, None, 20], "city": ["Rome", "Oslo", "Rome", None], "tall": [True, False] * 2},
    index=[7, 8, 9, 10],
)


def test_names_and_rows_of_frames():
    encoder = TableEncoder().fit(FRAME)
    assert encoder.feature_names_in_.tolist() == ["age", "city", "tall"]
    names = ["age", "missingindicator_age", "city_Rome", "tall_True"]
    assert encoder.get_feature_names_out().tolist() == names
    assert encoder.get_feature_names_out(FRAME.columns).tolist() == names
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        encoder.get_feature_names_out(["a", "b", "c"])
    found = encoder.set_output(transform="pandas").transform(FRAME)
    assert [*found.columns] == names and [*found.index] == [7, 8, 9, 10]
    assert_same_bits(found.to_numpy(), encoder.set_output(transform="default").transform(FRAME))
    by_name = TableEncoder(["city", "tall"]).fit(FRAME)
    assert by_name.is_categorical_.tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"categorical_features: expected names.*got \['town'\]"):
        TableEncoder(["town"]).fit(FRAME)


def test_other_names_are_refused_and_none_are_warned_of():
    encoder = TableEncoder().fit(FRAME)
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        encoder.transform(FRAME[["city", "age", "tall"]])
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- town\n.*now missing:\n- city\n"):
        encoder.transform(FRAME.rename(columns={"city": "town"}))
    with pytest.raises(ValueError, match=r"now missing:\n- tall\n"):
        encoder.transform(FRAME[["age", "city"]])
    with pytest.warns(UserWarning, match="X does not have valid feature names") as caught:
        got = encoder.transform(FRAME.to_numpy())
    assert caught[0].filename == __file__
    assert_same_bits(got, encoder.transform(FRAME))
    nameless = TableEncoder().fit(FRAME).fit(FRAME.to_numpy())
    assert not hasattr(nameless, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but TableEncoder was fitted witho"):
        nameless.transform(FRAME)
    numbered = pandas.DataFrame(FRAME.to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_bits(nameless.transform(numbered), got)


def test_two_columns_of_one_name():
    frame = FRAME[["age", "age", "city"]]
    got = TableEncoder().fit_transform(frame)
    np.testing.assert_array_equal(got[:, 0], got[:, 1])


@pytest.mark.parametrize("column, message", [
    (pandas.date_range("2020-01-01", periods=4), r"got dtype datetime64\[.* in column 'x'; turn"),
    (pandas.date_range("2020-01-01", periods=4, tz="UTC"), "got dtype datetime64.*; turn dates"),
    (pandas.to_timedelta([1, 2, 3, 4]), "got dtype timedelta64.*; turn dates"),
    ([1j, 2, 3, 4], "got dtype complex128 in column 'x'"),
    (pandas.Series(pandas.date_range("2020", periods=4), dtype=object), "got dates or times in"),
])  # fmt: skip
def test_columns_that_are_refused(column, message):
    with pytest.raises(ValueError, match=f"^X: expected real numbers, {message}"):
        TableEncoder().fit(pandas.DataFrame({"x": column}))
    if "complex" not in message:  # unless they are said to be categories
        assert TableEncoder(["x"]).fit(pandas.DataFrame({"x": column})).one_hot_ == 4
    with pytest.raises(ValueError, match=r"^X: expected real numbers, got .* in column 'x'"):
        TableEncoder().fit(pandas.DataFrame({"x": [1.0, 2.0]})).transform(
            pandas.DataFrame({"x": column})
        )


def test_what_stands_where_in_messages():
    encoder = TableEncoder().fit(FRAME)
    with pytest.raises(ValueError, match="X contains infinity in column 'age'"):
        encoder.transform(FRAME.assign(age=np.inf))
    with pytest.raises(ValueError, match="got 'old' in column 'age', which is not among"):
        encoder.transform(FRAME.assign(age="old"))
    with pytest.raises(TypeError, match=r"hashable.* in column 'city'"):
        encoder.transform(FRAME.assign(city=[[1]] * 4))


def test_polars():
    polars = pytest.importorskip("polars", reason="no polars")
    table = {"age": [31, 45, None, 20], "h": [1.5, None, 2.0, 9.0], "city": ["b", "a", None, "b"],
             "tall": [True, False, None, True]}  # fmt: skip
    frame = polars.DataFrame(table)
    encoder = TableEncoder().fit(frame)
    assert encoder.is_categorical_.tolist() == [False, False, True, True]
    assert encoder.feature_names_in_.tolist() == list(table)
    twin = TableEncoder().fit(pandas.DataFrame(table))
    assert_same_bits(encoder.transform(frame), twin.transform(pandas.DataFrame(table)))
    codes = frame.with_columns(polars.col("city").cast(polars.Categorical))
    assert_same_bits(encoder.transform(codes), encoder.transform(frame))
    with pytest.raises(ValueError, match=r"dtype datetime64.*in column 'x'; turn dates"):
        TableEncoder().fit(polars.DataFrame({"x": [datetime.date(2020, 1, 1)]}))
