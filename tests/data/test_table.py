"""TableEncoder on arrays and lists, alone and in scikit-learn; test_frames.py has DataFrames."""

import copy
import datetime
import pickle
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from compare import assert_same_bits
from fastnn import Block, Columns, Dense, Embedding, Flatten, Sequential, TableEncoder

NAN = float("nan")


# ---- against cell by cell ----

NUMBER = st.one_of(
    st.integers(-50, 50),
    st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3)),
)
WORD = st.sampled_from(["", "a", "b", "Ünï", "long " * 9, "1"])
CODE = st.integers(-3, 12)


@st.composite
def tables(draw):
    """Rows to fit to and rows to encode, and which columns hold categories."""
    kinds = draw(st.lists(st.sampled_from([NUMBER, WORD, CODE]), min_size=1, max_size=5))
    row = st.tuples(*(st.one_of(st.none(), kind) for kind in kinds))
    train = draw(st.lists(row, min_size=1, max_size=30))
    first = tuple(draw(kind) for kind in kinds)  # so that no column lacks all
    categorical = [i for i, kind in enumerate(kinds) if kind is not NUMBER]
    return [first, *train], draw(st.lists(row, min_size=1, max_size=8)), categorical


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([0, 1, 2, 5, 8]), st.sampled_from([0.5, 3.0]))
def test_random_tables(case, max_one_hot, clip):
    train, rows, categorical = case
    encoder = TableEncoder(categorical, max_one_hot=max_one_hot, clip=clip, dtype="float64")
    encoder.fit(train)
    expected = reference.encode_table(train, rows, categorical, max_one_hot, clip)
    got = encoder.transform(rows)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    widths = encoder.numeric_, encoder.one_hot_, encoder.codes_
    assert sum(widths) == encoder.output_features_ == got.shape[1]
    assert len(encoder.get_feature_names_out()) == got.shape[1]
    codes = got[:, got.shape[1] - encoder.codes_ :]
    assert not codes.size or (codes.min() >= 0 and codes.max() < encoder.n_codes_)
    order = sorted(range(len(train)), key=lambda i: str(train[i]))
    again = TableEncoder(categorical, max_one_hot=max_one_hot, clip=clip, dtype="float64")
    assert_same_bits(again.fit([train[i] for i in order]).transform(rows), got)
    single = TableEncoder(categorical, max_one_hot=max_one_hot, clip=clip).fit(train)
    assert_same_bits(single.transform(rows), got.astype(np.float32))


@pytest.mark.parametrize("scaling, clip", [("robust", 3.0), ("standard", None), (None, 1.0)])
def test_columns_of_categories_may_be_scaled_as_numbers_are(scaling, clip):
    rng = np.random.default_rng(0)
    kinds = [rng.choice(["a", "b", None], 200, p=[0.9, 0.08, 0.02]), rng.choice(list("cdef"), 200)]
    X = np.column_stack([*kinds, rng.normal(size=200), np.where(rng.random(200) < 0.3, None, 1.0)])
    settings = {"scaling": scaling, "clip": clip, "dtype": "float64"}
    plain = TableEncoder([0, 1], **settings).fit(X)
    scaled = TableEncoder([0, 1], scale_one_hot=True, **settings).fit(X)
    hot = plain.transform(X)[:, 2:]
    assert plain.one_hot_ == hot.shape[1] == 6  # whether one is missing, a or b, c to f
    wanted = TableEncoder(None, **settings).fit_transform(hot)
    np.testing.assert_allclose(scaled.transform(X)[:, 2:], wanted, rtol=1e-12, atol=1e-12)
    assert_same_bits(scaled.transform(X)[:, :2], plain.transform(X)[:, :2])
    assert scaled.get_feature_names_out().tolist() == plain.get_feature_names_out().tolist()


@pytest.mark.parametrize("rows", [1, 2, 5, 4096, 4097, 9000])
@pytest.mark.parametrize("kind", ["f8", "f4", ">f4", "f2", "i2", "u1", "?"])
def test_numbers_of_every_type(rows, kind, rng):
    train = (rng.standard_normal((rows, 3)) * 40).clip(0).astype(kind)
    encoder = TableEncoder(None, dtype="float64").fit(train)
    other = np.asfortranarray(np.concatenate([train[::-1], train[:7]]))
    expected = reference.encode_table(train.tolist(), other.tolist(), [])
    np.testing.assert_allclose(encoder.transform(other), expected, rtol=1e-12, atol=1e-12)
    assert encoder.transform(train).flags.c_contiguous


def test_the_first_example_by_hand():
    train = [[1.0], [2.0], [4.0], [8.0], [100.0]]  # median 4, quartiles 2 and 8
    encoder = TableEncoder(dtype="float64").fit(train)
    assert (encoder.center_, encoder.scale_, encoder.fill_) == ([4.0], [6.0], [4.0])
    z = np.array([0.0, 1.0, -1.0, 16.0])
    got = encoder.transform([[4.0], [10.0], [-2.0], [100.0]])[:, 0]
    np.testing.assert_allclose(got, z / np.sqrt(1 + z * z / 9), rtol=1e-15)


def test_what_scikit_learn_makes_of_it(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="no scikit-learn")
    x = rng.standard_normal((200, 4)) * [1, 10, 1e-3, 1e5] + [0, 5, 7, -2]
    robust = TableEncoder(clip=None, dtype="float64").fit(x)
    theirs = preprocessing.RobustScaler().fit(x)
    np.testing.assert_allclose(robust.transform(x), theirs.transform(x), rtol=1e-12, atol=1e-12)
    standard = TableEncoder(scaling="standard", clip=None, dtype="float64").fit(x)
    theirs = preprocessing.StandardScaler().fit(x)
    np.testing.assert_allclose(standard.transform(x), theirs.transform(x), rtol=1e-9, atol=1e-12)
    plain = TableEncoder(scaling=None, clip=None, dtype="float64").fit(x)
    np.testing.assert_array_equal(plain.transform(x), x)
    words = np.array(["b", "c", "a", "d", "c"], object)[rng.integers(0, 5, (50, 3))]
    hot = preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(words)
    mine = TableEncoder().fit(words)
    unseen = np.array([["a", "x", "d"]], object)
    for rows in (words, unseen):
        np.testing.assert_array_equal(mine.transform(rows), hot.transform(rows))
    assert mine.get_feature_names_out().tolist() == hot.get_feature_names_out().tolist()
    ordinal = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    shifts = np.arange(3) * 5
    mine = TableEncoder(max_one_hot=2).fit(words)
    for rows in (words, unseen):
        expected = ordinal.fit(words).transform(rows) + 1 + shifts
        np.testing.assert_array_equal(mine.transform(rows), expected)
    assert (mine.codes_, mine.n_codes_) == (3, 15)


# ---- numbers that are missing, constant, far away ----


@pytest.mark.parametrize("scaling, fill", [("robust", 3.0), ("standard", 4.0), (None, 3.0)])
def test_what_is_missing_counts_as_the_middle(scaling, fill):
    train = np.array([[1.0, 5.0], [NAN, 6.0], [3.0, 7.0], [8.0, 9.0]])
    encoder = TableEncoder(scaling=scaling, clip=None, dtype="float64").fit(train)
    assert encoder.fill_[0] == fill and (encoder.numeric_, encoder.one_hot_) == (2, 1)
    got = encoder.transform([[NAN, NAN], [fill, 6.0]])
    assert_same_bits(got[:1, 0], got[1:, 0])
    assert got[:, 2].tolist() == [1.0, 0.0]
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "missingindicator_x0"]
    without = TableEncoder(scaling=scaling, clip=None, dtype="float64", add_indicator=False)
    np.testing.assert_array_equal(
        without.fit(train).transform(train), encoder.transform(train)[:, :2]
    )


@pytest.mark.parametrize("value", [0, 0.1, -1e30, 1e-300, 7, 2**53])
@pytest.mark.parametrize("scaling", ["robust", "standard"])
def test_a_constant_column_becomes_zero(value, scaling):
    x = np.full((100, 2), value, float)
    x[:, 1] = np.arange(100)
    encoder = TableEncoder(scaling=scaling).fit(x)
    assert np.isinf(encoder.scale_[0])
    got = encoder.transform([[value, 0.0], [123.0, 99.0], [NAN, 99.0]])
    assert not got[:, 0].any() and got[:, 1].all()


def test_what_varies_by_rounding_alone_is_constant(rng):
    shares = rng.uniform(size=(1000, 3))
    total = (shares / shares.sum(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    assert np.ptp(total) > 0
    for scaling in ("robust", "standard"):
        assert not TableEncoder(scaling=scaling).fit_transform(total).any()
    few = total.copy()
    few[:3] = 5.0  # the quartiles differ by rounding, the range does not
    got = TableEncoder(clip=None).fit(few)
    np.testing.assert_allclose(got.scale_, 2.0, rtol=1e-9)


def test_quartiles_that_are_equal_give_way_to_half_the_range():
    x = np.zeros((20, 1))
    x[:2] = [[10.0], [-2.0]]
    assert TableEncoder().fit(x).scale_ == [6.0]


def test_numbers_far_away_are_clipped():
    encoder = TableEncoder().fit(np.arange(9.0)[:, None])
    got = encoder.transform([[1e308], [-1e308], [1e200], [1e20], [-1.7e308]])[:, 0]
    np.testing.assert_array_equal(got, np.float32([3, -3, 3, 3, -3]))
    tiny = TableEncoder().fit(np.arange(9.0)[:, None] * 1e-150)
    assert tiny.transform([[1e308], [-1e308]]).tolist() == [[3.0], [-3.0]]
    plain = TableEncoder(clip=None).fit([[float(i), i % 3, "abc"[i % 3]] for i in range(9)])
    with pytest.raises(ValueError, match="X, scaled, contains values too large for float32"):
        plain.transform([[1e300, 0, "a"]])
    plain.set_params(dtype="float64")
    assert plain.transform([[1e300, 1, "a"]])[0, 0] == 1e300 / plain.scale_[0]


def test_a_column_of_nothing():
    x = [[None, None, 1.0], [NAN, None, 2.0]]
    encoder = TableEncoder([1]).fit(x)
    assert (encoder.numeric_, encoder.one_hot_, encoder.codes_) == (2, 1, 0)
    assert encoder.transform([[5.0, "a", 1.5]]).tolist() == [[0.0, 0.0, 0.0]]
    assert encoder.transform(x)[:, 2].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"^X: expected numbers or categories, all are missing"):
        TableEncoder([0]).fit([[None], [NAN]])


# ---- categories ----

DAY = datetime.date(2026, 1, 2)


@pytest.mark.parametrize("items, order", [
    (["b", "a", None, "c"], ["a", "b", "c"]),
    ([3, 1.5, NAN, True, 2], [1, 1.5, 2, 3]),
    ([np.int64(2), np.float32(0.5), np.True_], [0.5, 1, 2]),
    (["10", "9", 10, 9], [9, 10, "10", "9"]),
    ([(2, "b"), (1, "c"), None], [(1, "c"), (2, "b")]),
    ([frozenset("ab"), frozenset("a"), frozenset("b")],
     sorted([frozenset("ab"), frozenset("a"), frozenset("b")], key=str)),
    ([Decimal("0.5"), Decimal("NaN"), 0.25], [0.25, Decimal("0.5")]),
    ([b"y", b"x"], [b"x", b"y"]), ([np.str_("b"), "a"], ["a", "b"]),
    ([DAY, DAY - datetime.timedelta(1)], [DAY - datetime.timedelta(1), DAY]),
])  # fmt: skip
def test_categories_are_sorted_whatever_the_order_of_rows(items, order, rng):
    column = np.empty((len(items), 1), object)
    column[:, 0] = items
    for _ in range(5):
        encoder = TableEncoder([0], max_one_hot=0).fit(column)
        assert encoder.categories_ == [order]
        assert encoder.n_codes_ == len(order) + 1
        for code, item in enumerate(order, 1):
            cell = np.empty((1, 1), object)
            cell[0, 0] = item
            assert encoder.transform(cell) == code
        rng.shuffle(column)


def test_numbers_are_categories_of_any_type():
    ids = np.array([[3], [1], [2]])
    encoder = TableEncoder([0]).fit(ids)
    for twin in (ids.astype(float), ids.astype(object), ids.astype("u1"), ids.tolist()):
        np.testing.assert_array_equal(encoder.transform(twin), np.eye(3)[[2, 0, 1]])
    assert not encoder.transform([[NAN], [7.5], [np.inf]]).any()
    assert not encoder.transform(np.array([["1"]])).any()


def test_two_categories_share_a_column():
    encoder = TableEncoder().fit([["yes"], ["no"], [None]])
    assert encoder.get_feature_names_out().tolist() == ["x0_yes"]
    assert encoder.transform([["yes"], ["no"], [None], ["maybe"]])[:, 0].tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize("most", [0, 1, 4, 5, 1000])
def test_how_many_categories_have_columns_of_their_own(most):
    x = [[word, i % 2] for i, word in enumerate("abcde")]
    encoder = TableEncoder([0, 1], max_one_hot=most).fit(x)
    assert encoder.one_hot_ == (5 if most >= 5 else 0) + (1 if most >= 2 else 0)
    assert encoder.n_codes_ == (6 if most < 5 else 0) + (3 if most < 2 else 0)


def test_many_categories(rng):
    """More than Python should compare with one another."""
    ids = rng.permutation(100_000)
    x = np.stack([ids, ids[::-1] * 7], axis=1)
    encoder = TableEncoder([0, 1]).fit(x)
    assert encoder.n_codes_ == 200_002
    rows = encoder.transform(x[:1000])
    np.testing.assert_array_equal(
        rows, [[i + 1, 100_001 + j // 7 + 1] for i, j in x[:1000].tolist()]
    )


def test_codes_that_float32_cannot_tell_apart(monkeypatch):
    monkeypatch.setattr("fastnn.data.table._EXACT_FLOAT32", 10)
    x = np.arange(10)[:, None]
    with pytest.raises(ValueError, match=r"X: 11 codes; float32 tells 2.24 apart, use dtype="):
        TableEncoder([0]).fit(x)
    assert TableEncoder([0], dtype="float64").fit(x).n_codes_ == 11
    assert TableEncoder([0]).fit(x[1:]).n_codes_ == 10


def test_a_network_of_all_three(rng):
    x = [[rng.normal(), "abc"[i % 3], f"id{i % 20}", f"at{i % 11}"] for i in range(60)]
    enc = TableEncoder().fit(x)
    assert (enc.numeric_, enc.one_hot_, enc.codes_, enc.n_codes_) == (1, 3, 2, 33)
    embed = Block(Embedding(enc.n_codes_, 4), Flatten())
    model = Sequential(
        Columns((enc.numeric_, None), (enc.one_hot_, None), (enc.codes_, embed)), Dense(12, 1)
    )
    model.scaler = enc
    assert model.predict(enc.transform([[0.0, "z", None, "at3"]])).shape == (1, 1)
    part = copy.deepcopy(model).scaler
    assert_same_bits(part.transform(x), enc.transform(x))


# ---- which columns are categories ----

MIXED = [["a", 1.0, True, 5, None], ["b", 2.5, False, 6, None], ["a", None, True, 7, None]]


@pytest.mark.parametrize("given, found", [
    ("auto", [1, 0, 1, 0, 0]), ([0], [1, 0, 0, 0, 0]), ((0, 3), [1, 0, 0, 1, 0]),
    (np.array([0, 4], "u1"), [1, 0, 0, 0, 1]), ([True, False, False, True, False], [1, 0, 0, 1, 0]),
])  # fmt: skip
def test_which_columns_are_categories(given, found):
    encoder = TableEncoder(given).fit(MIXED)
    assert encoder.is_categorical_.tolist() == [bool(item) for item in found]
    assert encoder.n_features_in_ == 5


def test_a_second_fit_forgets_the_names_of_the_first():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    encoder = TableEncoder().fit(pandas.DataFrame({"a": [1.0, 2.0]})).fit([[1.0], [2.0]])
    assert encoder.get_feature_names_out().tolist() == ["x0"]


def test_a_mask_may_change_after_fit():
    mask = np.array([True, False, False, True, False])
    encoder = TableEncoder(mask).fit(MIXED)
    mask[:] = False
    assert encoder.is_categorical_.tolist() == [True, False, False, True, False]


def test_arrays_of_numbers_have_no_categories_by_themselves():
    assert not TableEncoder().fit(np.eye(3)).is_categorical_.any()
    assert TableEncoder().fit(np.eye(3, dtype=bool)).is_categorical_.all()
    assert not TableEncoder(None).fit(np.eye(3, dtype=bool)).is_categorical_.any()
    assert TableEncoder().fit(np.array([["a", "1"], ["b", "2"]])).is_categorical_.all()


REFUSED = {
    **{f"features {given!r}": ({"categorical_features": given}, MIXED, ValueError,
       "categorical_features: expected 'auto', None, indices below 5, a mask of 5")
       for given in ([5], [-1], [True], [0.5], ["a"], 3, [[0]], {"a": 1})},
    "text": ({"categorical_features": None}, [[1.0, "tall"]], ValueError,
             "X: expected real numbers, got 'tall' in column 1, which is not among"),
    "date": ({}, [[DAY]], ValueError, "X: .*got dates or times in column 0; turn"),
    "datetime": ({}, np.array([["2020-01-01"]], "M8[D]"), ValueError, "X: .*dtype datetime64"),
    "a date as a number": ({"categorical_features": None}, [[DAY]], ValueError, "X: .*; turn"),
    "infinity": ({}, [[1.0, np.inf]], ValueError, "X contains infinity in column 1"),
    "too large": ({}, [[1.0, -1e200]], ValueError, r"X contains numbers of 1e\+150 and more"),
    "very large": ({}, [[10**400, 1]], ValueError, "X contains values too large for float64 in co"),
    "lists": ({}, [[[1], [2]], [[3], [4]]], ValueError, r"X: expected shape \(rows, columns\)"),
    "dicts": ({}, [[{}, 1]], TypeError, "X: expected categories that are hashable, got an unhash"),
    "one axis": ({}, [1.0, 2.0], ValueError, r"X: expected shape .*, got \(2,\). Reshape"),
    "three axes": ({}, np.zeros((1, 2, 3)), ValueError, "X: expected shape"),
    "no rows": ({}, np.zeros((0, 3)), ValueError, "X: expected rows and columns, found 0 sample"),
    "no columns": ({}, np.zeros((3, 0)), ValueError, "X: expected rows and columns, found 0 feat"),
    "a number": ({}, 3.0, ValueError, "X: expected shape"),
    "ragged": ({}, [[1, 2], [3]], TypeError, "X: list gives no array"),
    "complex": ({}, np.eye(2) * 1j, ValueError, "X: expected numbers or objects, got dtype"),
    "records": ({}, np.zeros((2, 2), [("a", "f4")]), ValueError, "X: expected numbers or objects"),
    "masked": ({}, np.ma.masked_array(np.eye(2)), TypeError, "X: a masked array would lose"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_fit_refuses(name):
    """And is then as it was before."""
    options, X, error, message = REFUSED[name]
    encoder = TableEncoder(**options)
    before = dict(vars(encoder))
    with pytest.raises(error, match=f"^{message}"):
        encoder.fit(X)
    assert vars(encoder) == before


@pytest.mark.parametrize("options, message", [
    ({"categorical_features": "all"}, "categorical_features: expected one of auto, from"),
    ({"max_one_hot": -1}, "max_one_hot: expected an integer >= 0"),
    ({"max_one_hot": 2.5}, "max_one_hot: expected an integer >= 0"),
    ({"scaling": "minmax"}, "scaling: expected one of robust, standard, got 'minmax'"),
    ({"clip": 0}, "clip: expected a finite number > 0"), ({"clip": "3"}, "clip: expected"),
    ({"add_indicator": 1}, "add_indicator: expected True or False"),
    ({"dtype": "int8"}, "dtype: expected float32 or float64"),
])  # fmt: skip
def test_what_cannot_be_set(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        TableEncoder(**options)
    encoder = TableEncoder()
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        encoder.set_params(**options)
    assert repr(encoder) == "TableEncoder()"


def test_transform_refuses_other_columns():
    with pytest.raises(RuntimeError, match=r"^TableEncoder: call fit before transform"):
        TableEncoder().transform([[1.0]])
    with pytest.raises(RuntimeError, match="call fit before get_feature_names_out"):
        TableEncoder().get_feature_names_out()
    encoder = TableEncoder().fit([["a", 1.0], ["b", 2.0]])
    with pytest.raises(ValueError, match="X has 3 features, but TableEncoder is expecting 2"):
        encoder.transform([["a", 1.0, 2.0]])
    with pytest.raises(
        ValueError,
        match="X: expected real numbers, got 'x' in column 1, which",
    ):
        encoder.transform([["a", "x"]])
    with pytest.raises(TypeError, match=r"hashable.*unhashable type: 'dict' in column 0"):
        encoder.transform([[{}, 1.0]])
    with pytest.raises(ValueError, match="X contains infinity in column 1"):
        encoder.transform([["a", -np.inf]])


# ---- as an object ----


def test_parameters_copies_and_names():
    encoder = TableEncoder([0], max_one_hot=3, scaling=None, clip=None, dtype="float64")
    assert encoder.get_params() == {
        "categorical_features": [0], "max_one_hot": 3, "scaling": None, "clip": None,
        "add_indicator": True, "scale_one_hot": False, "dtype": np.float64,
    }  # fmt: skip
    text = "TableEncoder(categorical_features=[0], max_one_hot=3, scaling=None, clip=None, "
    assert repr(encoder) == text + "dtype='float64')"
    with pytest.raises(ValueError, match=r"TableEncoder: expected categorical_features, .*got b"):
        encoder.set_params(b=1, clip=2.0)
    assert encoder.clip is None
    assert encoder.set_params(clip=2, scaling="standard") is encoder
    assert (encoder.clip, encoder.scaling, encoder.max_one_hot) == (2.0, "standard", 3)
    x = [["a", 1.0], ["b", 2.0], ["c", 4.0]]
    encoder.fit(x, y=[1, 2, 3])
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), copy.copy(encoder)):
        assert_same_bits(twin.transform(x), encoder.transform(x))
        assert repr(twin) == repr(encoder)
    assert encoder.get_feature_names_out(["u", "v"]).tolist() == ["v", "u_a", "u_b", "u_c"]
    with pytest.raises(ValueError, match=r"input_features should have length .*\(2\), got 1"):
        encoder.get_feature_names_out(["u"])
    encoder = TableEncoder().fit(x)
    assert encoder.fit_transform([[1.0], [2.0]]).shape == (2, 1)
    assert encoder.get_feature_names_out().tolist() == ["x0"] and encoder.categories_ == []


CONVENTIONS = {
    "check_do_not_raise_errors_in_init_or_set_params": "arguments are checked when they are given",
}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"scaling": "standard", "dtype": "float64"}])
def test_what_scikit_learn_checks_of_estimators(options):
    checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="no scikit-learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(
            TableEncoder(**options), expected_failed_checks=CONVENTIONS, on_skip=None
        )
    failed = {each["check_name"] for each in results if each["status"] in ("failed", "xfail")}
    assert failed == set(CONVENTIONS)


def test_an_encoder_in_scikit_learn(rng):
    base = pytest.importorskip("sklearn.base", reason="no scikit-learn")
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    x = np.array([[rng.normal(), "abc"[i % 3], rng.normal()] for i in range(60)], object)
    y = (x[:, 1] == "b").astype(int)
    chosen = [1]
    twin = base.clone(TableEncoder(chosen, clip=None).fit(x))
    assert twin.get_params() == TableEncoder(chosen, clip=None).get_params()
    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(twin)
    check_is_fitted(twin.fit(x))
    pipe = Pipeline([("table", TableEncoder()), ("rest", LogisticRegression())])
    assert pipe.fit(x, y).score(x, y) == 1
    search = GridSearchCV(pipe, {"table__max_one_hot": [2, 8], "table__scaling": ["robust", None]})
    assert search.fit(x, y).best_params_["table__max_one_hot"] == 8
    columns = ColumnTransformer([("t", TableEncoder(), [1, 2]), ("d", "drop", [0])]).fit(x)
    np.testing.assert_array_equal(columns.transform(x), TableEncoder().fit_transform(x[:, 1:]))
    assert columns.get_feature_names_out().tolist() == ["t__x2", "t__x1_a", "t__x1_b", "t__x1_c"]


def test_numbers_with_a_few_texts_among_them_are_named():
    mixed = [[float(i)] for i in range(40)] + [["?"], ["?"], ["n/a"]]
    with pytest.warns(UserWarning, match=r"40 numbers and 2 texts, such as '\?' in column 0: "):
        TableEncoder().fit(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder([0]).fit(mixed)
        TableEncoder().fit([[str(i)] for i in range(40)])  # codes as text
        TableEncoder("from_dtype").fit([["?"], ["1"], ["2"]])
