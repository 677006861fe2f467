"""Tables in files: what is a number, what is text, and what is refused."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

import passengers
from fastnn.commands import data, tables

pd = pytest.importorskip("pandas")


def columns(frame):
    return {name: array.tolist() for name, array in frame.arrays.items()}


def same(frame, expected):
    """The columns are those that pandas read."""
    assert frame.columns == list(expected)
    for name, array in frame.arrays.items():
        wanted = expected[name]
        assert (array.dtype.kind == "O") == (wanted.dtype.kind not in "if"), name
        gaps = wanted.isna().to_numpy()
        assert (pd.isna(array) == gaps).all()
        assert array[~gaps].tolist() == wanted[~gaps].tolist()


@pytest.mark.parametrize("part_rows", [7, 10_000])
def test_csv_is_read_as_pandas_reads_it(tmp_path, monkeypatch, part_rows):
    monkeypatch.setattr(tables, "PART_ROWS", part_rows)
    path = tmp_path / "a.csv"
    passengers.write(path)
    same(tables.read(str(path), "utf-8"), pd.read_csv(path))


def test_a_text_late_in_a_column_makes_all_of_it_text(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_ROWS", 2)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n01,1\n2.50,2\n,3\nx,4\n")
    assert columns(tables.read(str(path), "utf-8")) == {
        "a": ["01", "2.50", None, "x"],  # as they were written
        "b": [1.0, 2.0, 3.0, 4.0],
    }
    assert columns(tables.read(str(path), "utf-8", ["b"]))["b"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        ("x;y\n1,5;a\n2;b\n", "utf-8", {"x": [1.5, 2.0], "y": ["a", "b"]}),
        ("x\ty\n1\t2\n", "utf-8", {"x": [1.0], "y": [2.0]}),
        ('\ufeff"x, y", z\n"a\nb", 1 \n\n', "utf-8", {"x, y": ["a\nb"], "z": [1.0]}),
        ("é,x\nü,1_000\n", "latin-1", {"é": ["ü"], "x": ["1_000"]}),
        (",x\na,?\nb,7\n", "utf-16", {"column 1": ["a", "b"], "x": [np.nan, 7.0]}),
    ],
)
def test_forms_of_csv(tmp_path, content, encoding, expected):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode(encoding))
    found = columns(tables.read(str(path), encoding))
    assert list(found) == list(expected)
    for name, items in found.items():
        np.testing.assert_array_equal(items, expected[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: expected the columns' names, found nothing"),
        (b"a,b\n", "expected rows below the header, found none"),
        (b"1,2\n3,4\n", "line 1: expected the columns' names, found only numbers"),
        (b"a,a\n1,2\n", "line 1: two columns are called 'a'"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 fields, as in the header, got 1"),
        (b'a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        (b"a,b\n1,\xff\n", "not utf-8 text"),
        (b"a,b\n1," + b"x" * 2**21 + b"\n", "line 2: field larger than field limit"),
    ],
)
def test_what_is_no_csv_file_is_named(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        tables.read(str(path), "utf-8")
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="regular file"):
        tables.read(str(tmp_path / "a.csv"), "utf-8")


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_encodings_that_are_none(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=f"--encoding: .*{encoding}"):
        tables.read(str(tmp_path / "a.csv"), encoding)


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        ("undefined", b"a\n1\n", "--encoding: "),
        ("punycode", b"a,b\n1,2\n", r"a\.csv: not punycode text .*name its --encoding"),
        ("utf-16", b"a,b\n1,2\n", r"a\.csv: not utf-16 text .*name its --encoding"),
    ],
)
def test_encodings_that_a_file_does_not_have(tmp_path, encoding, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        tables.read(str(tmp_path / "a.csv"), encoding)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "x": [1.5, np.nan, 3.0],
            "n": pd.array([1, None, 3], "Int64"),
            "t": ["a", None, "b"],
            "c": pd.Categorical(["u", "v", "u"]),
            "b": [True, False, True],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    found = columns(tables.read(str(tmp_path / "a.parquet"), "utf-8"))
    np.testing.assert_array_equal(found["x"], [1.5, np.nan, 3.0])
    np.testing.assert_array_equal(found["n"], [1.0, np.nan, 3.0])
    assert found["t"] == ["a", None, "b"] and found["c"] == ["u", "v", "u"]
    assert found["b"] == ["True", "False", "True"]
    frame.assign(day=pd.Timestamp("2020-01-01")).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="column 'day': timestamp"):
        tables.read(str(tmp_path / "b.parquet"), "utf-8")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"c\.parquet: no Parquet file"):
        tables.read(str(tmp_path / "c.parquet"), "utf-8")


@pytest.mark.parametrize("part_rows", [2, 100])
def test_parquet_of_integers_that_float64_does_not_have(tmp_path, monkeypatch, part_rows):
    """They are what CSV files make of them: exact as text, rounded as numbers."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tables, "PART_ROWS", part_rows)
    path, big = str(tmp_path / "a.parquet"), 2**60 + 1
    pd.DataFrame({"id": pd.array([1, 2, big, None], "Int64"), "x": [0.5] * 4}).to_parquet(path)
    found = columns(tables.read(path, "utf-8"))
    np.testing.assert_array_equal(found["id"], [1, 2, 2.0**60, np.nan])
    assert found["x"] == [0.5] * 4
    found = columns(tables.read(path, "utf-8", ["id"]))
    assert found["id"] == ["1", "2", str(big), None]


# ---- arrays ----


def test_npz(tmp_path):
    X, y = np.arange(24.0).reshape(4, 3, 2), np.array([1, 2, 1, 2])
    path = tmp_path / "a.npz"
    np.savez_compressed(path, X=np.asfortranarray(X), y=y)
    found = data.npz(str(path))
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], y)


def npy(shape, size):
    """An array's file that promises `shape` and has `size` numbers."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(8 * size)


def of_objects():
    file = io.BytesIO()
    np.save(file, np.array([object], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy((2**40,), 4),
        npy((4,), 3),
        npy((-1,), 3),
        npy("1 +", 3),
        of_objects(),
        b"\x93NUMPY\x03\x00",
        b"",
        bytes(2**22),  # deflated to nothing
    ],
)
def test_hostile_npz_files(tmp_path, content):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=r"a\.npz: no NPZ file"):
        data.npz(str(path))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"a\.npz: no NPZ file"):
        data.npz(str(path))


def test_no_more_is_read_of_an_array_than_its_header_says():
    content = npy((2,), 2**20)
    file = io.BytesIO(content)
    with pytest.raises(ValueError, match="17 or more bytes, not 16"):
        data._npy(file)
    assert file.tell() == len(content) - 8 * 2**20 + 17


# ---- what is to be learnt ----


@pytest.mark.parametrize(
    ("y", "task", "classes"),
    [
        ([0, 1, 1, 0], None, (0, 1)),
        (list(range(30)) * 9, None, None),  # whole numbers, but too many for classes
        (list(range(30)) * 9, "classification", tuple(range(30))),
        ([0.5, 1.0, 2.0, 1.0], None, None),
        ([0.5, 1.0, 0.5, 1.0], "classification", ("0.5", "1.0")),
        ([1, 2, 3, 1], "regression", None),
        (["b", "a", "b", "a"], None, ("a", "b")),
    ],
)
def test_the_task_is_told_by_the_target(y, task, classes):
    y = tables.objects(y) if isinstance(y[0], str) else np.array(y, float)
    goal = data.goal(y, task, "y")
    assert goal.classes == classes
    targets = goal.targets(y, "a.csv")
    if classes is None:
        np.testing.assert_array_equal(targets, y[:, None])
    else:
        kind = type(classes[0])
        assert [classes[i] for i in targets] == [kind(label) for label in y.tolist()]


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (["a", "a"], None, "is 'a' in all rows"),
        ([1.0, 1.0], "regression", "is 1 in all rows"),
        (["a", "b"], "regression", "is text, such as 'a'"),
        ([0.5, np.inf], None, "infinity"),
        (list("abcdef"), None, "6 different values in 6 rows"),
    ],
)
def test_targets_that_cannot_be_learnt(y, task, message):
    y = tables.objects(y) if isinstance(y[0], str) else np.array(y, float)
    with pytest.raises(ValueError, match=message):
        data.goal(y, task, "y")
