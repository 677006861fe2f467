"""Batches, splits, Standardizer, the shipped digits, and IDX folders, broken ones above all."""

import gzip

import numpy as np
import pytest

import reference
from compare import assert_same_bits
from fastnn import Standardizer, _kernels, batches, datasets, stratified_split

# ---- batches ----


@pytest.mark.parametrize("n, size", [(10, 3), (10, 10), (10, 11), (9, 3), (1, 1), (5, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_cover_the_rows_once(n, size, drop_last):
    X, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)
    loader = batches(X, y, batch_size=size, seed=1, drop_last=drop_last)
    got = list(loader)
    assert len(got) == len(loader) == (n // size if drop_last else -(-n // size))
    for xb, yb in got:
        np.testing.assert_array_equal(xb, X[yb])
        assert xb.flags.c_contiguous and not np.shares_memory(xb, X)
    seen = np.concatenate([yb for _, yb in got]) if got else np.array([], int)
    assert len(np.unique(seen)) == len(seen) == (n // size * size if drop_last else n)


def test_order_follows_the_seed():
    X = y = np.arange(100)

    def orders(epochs=2, **options):
        loader = batches(X, y, batch_size=9, **options)
        return [np.concatenate([yb for _, yb in loader]) for _ in range(epochs)]

    first = orders(seed=3)
    for a, b in zip(orders(seed=3), first, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != first[1]).any() and (orders(seed=4)[0] != first[0]).any()
    np.testing.assert_array_equal(orders(shuffle=False)[0], y)


def test_batches_keep_dtypes_and_carry_weights():
    X, y = np.ones((4, 2), np.float16), np.arange(4, dtype=np.uint8)
    for xb, yb, wb in batches(X, y, batch_size=2, sample_weight=[1, 2, 3, 4], shuffle=False):
        assert xb.dtype == np.float16 and yb.dtype == np.uint8
        np.testing.assert_array_equal(wb, yb + 1)


@pytest.mark.parametrize("options, message", [
    *(({"batch_size": size}, "batch_size: expected an integer >= 1, got")
      for size in (0, -1, 2.0, True)),
    ({"y": np.arange(3)}, "the arrays differ .*: X has 4, y has 3"),
    ({"X": np.ones((0, 2)), "y": np.ones(0)}, "X and y: no rows"),
    ({"X": np.full((4, 2), "a")}, "X: expected real numbers"),
    ({"sample_weight": [1, 2]}, "the arrays differ .*: .*sample_weight has 2"),
    ({"X": 1.0}, "X: expected an array of rows"),
    *(({"seed": seed}, "seed: expected an integer from 0") for seed in (-1, "a")),
])  # fmt: skip
def test_batches_refuses(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        batches(**({"X": np.ones((4, 2)), "y": np.arange(4)} | options))


# ---- stratified_split ----


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_split_keeps_every_class_share(fraction):
    y = np.repeat([0, 1, 5], [100, 30, 7])
    train, test = stratified_split(y, fraction, seed=2)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(137))
    assert len(test) == round(fraction * 137)
    for label, count in ((0, 100), (1, 30), (5, 7)):
        assert abs((y[test] == label).sum() - fraction * count) < 1
    again, other = stratified_split(y, fraction, seed=2), stratified_split(y, fraction, seed=3)
    np.testing.assert_array_equal(again[1], test)
    assert len(other[1]) == len(test) and (other[1] != test).any()


@pytest.mark.parametrize("options, message", [
    *(({"test_fraction": share}, r"test_fraction: expected a number in \(0, 1\), got")
      for share in (0, 1, -0.1, np.nan)),
    ({"y": []}, r"y: expected labels of shape \(n,\)"),
    ({"y": [[1, 2]]}, r"y: expected labels of shape \(n,\)"),
    ({"y": [1, 2], "test_fraction": 0.01}, "test_fraction: .* would leave a part empty"),
    ({"seed": -1}, "seed: expected an integer from 0"),
])  # fmt: skip
def test_split_refuses(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        stratified_split(**({"y": [0, 0, 1, 1]} | options))


# ---- Standardizer ----


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


def test_a_large_offset_costs_no_accuracy():
    x = 1e9 + np.arange(1000.0)[:, None]
    scale = Standardizer("float64").fit(x)
    np.testing.assert_allclose(scale.std, np.arange(1000.0).std(), rtol=1e-9)


@pytest.mark.parametrize("x, message", [
    ([1.0, 2.0], "shape"), (np.ones((0, 2)), "shape"), (np.ones((2, 0)), "shape"),
    (np.ones((2, 2, 2)), "shape"), ([[1, np.nan]], "NaN"), ([[1, np.inf]], "infinity"),
    ([["a", "b"]], "numbers"), (np.ones((2, 2)) * 1j, "complex"),
    ([[1, 2], [3]], "X: not an array"),
    (np.ma.masked_array(np.ones((2, 2))), "mask"), ([[1e308], [-1e308]], "X"),
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


# ---- digits ----


def test_digits():
    X, y = datasets.digits()
    assert X.shape == (1797, 64) and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.shape == (1797,) and y.dtype == np.int64
    assert X.min() == 0 and X.max() == 1 and set(np.unique(X * 16)) == set(range(17))
    np.testing.assert_array_equal(
        np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    X[...] = 5  # a copy each time
    assert datasets.digits()[0].max() == 1


# ---- IDX folders ----

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
         "t10k-labels-idx1-ubyte")  # fmt: skip


def header(*shape, kind=8):
    return bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)


def images(n, height=3, width=2):
    pixels = (np.arange(n * height * width) % 256).astype(np.uint8)
    return header(n, height, width) + pixels.tobytes()


def labels(n):
    return header(n) + (np.arange(n) % 10).astype(np.uint8).tobytes()


def write(folder, **changed):
    """A good folder, but for the files given by position: f0 to f3; None leaves one out."""
    contents = [images(7), labels(7), images(4), labels(4)]
    for i, (name, content) in enumerate(zip(FILES, contents, strict=True)):
        content = changed.get(f"f{i}", content)
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("style", ["plain", "gz", "dots", "gz without the ending"])
def test_idx(style, tmp_path):
    write(tmp_path)
    for path in list(tmp_path.iterdir()):
        if "gz" in style:
            content = gzip.compress(path.read_bytes())
            path.unlink()
            path = path.with_name(path.name + (".gz" if style == "gz" else ""))
            path.write_bytes(content)
        elif style == "dots":
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    (X, y), (X_test, y_test) = datasets.idx(tmp_path)
    assert X.shape == (7, 6) and X_test.shape == (4, 6) and X.dtype == np.float32
    assert (
        y.tolist() == list(range(7)) and y_test.tolist() == list(range(4)) and y.dtype == np.int64
    )
    np.testing.assert_array_equal(X, np.arange(42, dtype=np.float32).reshape(7, 6) / 255)
    (images_, _), _ = datasets.idx(str(tmp_path), flatten=False)
    assert images_.shape == (7, 3, 2, 1)
    assert_same_bits(images_.reshape(7, 6), X)


good = images(7)
CORRUPT = {
    "empty": b"",
    "shorter than its magic number": good[:3],
    "shorter than its header": good[:10],
    "one byte missing": good[:-1],
    "half of it": good[: len(good) // 2],
    "header alone": good[:16],
    "one byte too many": good + b"\0",
    "not an IDX file": b"hello, world, this is text" * 3,
    "bytes before": b"\0" + good,
    "signed bytes": header(7, 3, 2, kind=9) + good[16:],
    "floats": header(7, 3, 2, kind=13) + good[16:],
    "labels in place of images": labels(7),
    "four dimensions": header(7, 3, 2, 1) + good[16:],
    "no rows": header(0, 3, 2),
    "no pixels": header(7, 0, 2),
    "2^32-1 rows": header(2**32 - 1, 3, 2) + good[16:],
    "a product beyond 2^64": header(2**32 - 1, 2**32 - 1, 2**32 - 1) + good[16:],
    "truncated gzip": gzip.compress(good)[:-9],
    "damaged gzip": gzip.compress(good)[:20] + b"\xff" * 8 + gzip.compress(good)[28:],
    "wrong checksum": gzip.compress(good)[:-8] + b"\0\0\0\0" + gzip.compress(good)[-4:],
    "gzip of half of it": gzip.compress(good[:30]),
    "gzip of too much": gzip.compress(good + b"\0"),
    "gzip of nothing": gzip.compress(b""),
    "gzip header alone": gzip.compress(good)[:10],
    "rubbish after gzip": gzip.compress(good) + b"rubbish",
}  # fmt: skip


@pytest.mark.parametrize("corrupt", CORRUPT)
def test_corrupt_idx_files_are_named_with_the_byte(corrupt, tmp_path):
    write(tmp_path, f0=CORRUPT[corrupt])
    with pytest.raises(ValueError, match=rf"{FILES[0]}.*byte \d+"):
        datasets.idx(tmp_path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    """The header's word is believed as far as the file's size bears it out: nothing is allocated
    for 4 GB of zeros that 4 MB claim to be."""
    bomb = gzip.compress(header(7, 3, 2) + bytes(50_000_000))
    write(tmp_path, f0=bomb)
    with pytest.raises(ValueError, match=FILES[0]):
        datasets.idx(tmp_path)
    claims = gzip.compress(header(2**31, 28, 28) + bytes(1000))
    write(tmp_path, f0=claims)
    with pytest.raises(ValueError, match=FILES[0]):
        datasets.idx(tmp_path)


@pytest.mark.parametrize("i", range(4))
def test_missing_idx_files(i, tmp_path):
    write(tmp_path, **{f"f{i}": None})
    with pytest.raises(FileNotFoundError, match=FILES[i]):
        datasets.idx(tmp_path)


def test_idx_files_that_do_not_belong_together(tmp_path):
    write(tmp_path, f1=labels(6))
    with pytest.raises(ValueError, match=r"7 images.*6"):
        datasets.idx(tmp_path)
    write(tmp_path, f2=images(4, 2, 2))
    with pytest.raises(ValueError, match="pixels"):
        datasets.idx(tmp_path)


def test_no_folder(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="idx3-ubyte"):
            datasets.idx(folder)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 4095, 4096, 4097, 70001])
def test_all_finite(size, dtype, isa, rng):
    x = np.full(size, np.finfo(dtype).max, dtype)
    assert _kernels.all_finite(x)
    for bad in (np.nan, np.inf, -np.inf):
        for place in {0, size // 2, size - 1}:
            broken = x.copy()
            broken[place] = bad
            assert not _kernels.all_finite(broken)


def test_a_vector_for_the_standardizer_is_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"got \(3,\); write \.reshape\(-1, 1\) for one feature"):
        Standardizer().fit([1.0, 2.0, 3.0])
