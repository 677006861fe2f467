"""The digits that fastnn ships, and IDX folders, most of them broken."""

import gzip

import numpy as np
import pytest

from compare import assert_same_bits
from fastnn import datasets
from processes import LINUX, python


def test_digits():
    X, y = datasets.digits()
    assert X.shape == (1797, 64) and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.shape == (1797,) and y.dtype == np.int64
    assert X.min() == 0 and X.max() == 1 and set(np.unique(X * 16)) == set(range(17))
    np.testing.assert_array_equal(
        np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    X[...] = 5  # each call returns a copy
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
    """A good folder, except for the files whose content f0 to f3 replace; None leaves one out."""
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
    """No memory is allocated for bytes that a header claims and the file is too short to hold."""
    bomb = gzip.compress(header(7, 3, 2) + bytes(50_000_000))
    write(tmp_path, f0=bomb)
    with pytest.raises(ValueError, match=FILES[0]):
        datasets.idx(tmp_path)
    claims = gzip.compress(header(2**31, 28, 28) + bytes(1000))
    write(tmp_path, f0=claims)
    with pytest.raises(ValueError, match=FILES[0]):
        datasets.idx(tmp_path)


@LINUX
def test_what_memory_cannot_hold_names_its_file(tmp_path):
    """The header keeps its promise, so that only the memory can end it."""
    write(tmp_path, f0=gzip.compress(header(2**28 // 6, 3, 2) + bytes(2**28 // 6 * 6), 1))
    message = python(f"""
import resource
from fastnn import datasets
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27,) * 2)
try:
    datasets.idx({str(tmp_path)!r})
except MemoryError as error:
    print(error)
""")
    assert FILES[0] in message[0] and message[-1] == "holds"


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


def test_a_missing_idx_folder(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="idx3-ubyte"):
            datasets.idx(folder)
