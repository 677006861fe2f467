"""Data to train on: the digits that ship with the package, and folders in the MNIST format.

Nothing is downloaded.  A header is believed only if the file is as long as it promises."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:  # gzip and pathlib are imported where they are used: they are slow to import
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Labels = NDArray[np.int64]

__all__ = ["digits", "idx"]

_BLOCK = 1 << 20  # bytes read at a time
_GZIP_RATIO = 1032  # deflate expands no byte to more than this
_UNSIGNED_BYTE = 0x08


def digits() -> tuple[Floats, Labels]:
    """The 1797 handwritten digits of 8x8 pixels that ship with fastnn.

    Returns ``X`` float32 (1797, 64) in [0, 1] and ``y`` int64 (1797,), 0 to 9.  They are ordered by
    writer: shuffle before you split (`stratified_split` does).

    Source: the test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and
    C. Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49.
    Licence: CC BY 4.0, https://creativecommons.org/licenses/by/4.0/.

    >>> X, y = digits()
    >>> X.shape, X.dtype.name, float(X.min()), float(X.max())
    ((1797, 64), 'float32', 0.0, 1.0)
    >>> y[:5].tolist()
    [0, 1, 2, 3, 4]
    """
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz")) as archive:
        X = archive["images"].astype(np.float32) / np.float32(16)
        return X, archive["labels"].astype(np.int64)


def idx(
    folder: str | os.PathLike[str], flatten: bool = True
) -> tuple[tuple[Floats, Labels], tuple[Floats, Labels]]:
    """Read a folder in the MNIST format: ``(X_train, y_train), (X_test, y_test)``.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two
    ``t10k-`` files, compressed by gzip (``.gz``) or not.  ``X`` is float32 in [0, 1], of shape
    (n, height * width), or (n, height, width, 1) with ``flatten=False``; ``y`` is int64 (n,).

    Raises FileNotFoundError for a missing file, and ValueError with file and byte for one that
    is truncated, too long, damaged or not of this format.
    Format: Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part, n in ("train", 3), ("t10k", 2):
    ...         images = bytes([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(4 * n)
    ...         labels = bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(range(n))
    ...         _ = pathlib.Path(folder, f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         _ = pathlib.Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     (X, y), (X_test, y_test) = idx(folder)
    >>> X.shape, y.tolist(), X_test.shape
    ((3, 4), [0, 1, 2], (2, 4))
    """
    from pathlib import Path

    train, test = _read_set(Path(folder), "train"), _read_set(Path(folder), "t10k")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{folder}: training images of {train[0].shape[1:]} pixels, "
            f"test images of {test[0].shape[1:]}"
        )
    return _as_samples(*train, flatten), _as_samples(*test, flatten)


def _as_samples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], flatten: bool
) -> tuple[Floats, Labels]:
    X = images.astype(np.float32)
    X /= 255
    shape = (len(X), -1) if flatten else (*X.shape, 1)
    return X.reshape(shape), labels.astype(np.int64)


def _read_set(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images_path = _find(folder, f"{name}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{name}-labels", "idx1-ubyte")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path}: byte 4: {len(images)} images, but {labels_path} has "
            f"{len(labels)} labels"
        )
    return images, labels


def _find(folder: Path, stem: str, kind: str) -> Path:
    """The file by one of its usual names; some have a dot before "idx"."""
    names = [f"{stem}{separator}{kind}{end}" for separator in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: found none of {', '.join(names)}")


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, compressed or not, whatever the file's name."""
    import gzip
    import zlib

    size = path.stat().st_size
    with path.open("rb") as raw, _naming(path):
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            return _parse_idx(raw, path, dimensions, most=size)
        with gzip.open(raw, "rb") as file:
            try:
                return _parse_idx(file, path, dimensions, most=size * _GZIP_RATIO)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                where = f"byte {raw.tell()} of the compressed file or before"
                raise ValueError(f"{path}: {where}: damaged gzip data ({error})") from None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let a MemoryError say which file was too large."""
    try:
        yield
    except MemoryError:
        raise MemoryError(f"{path}: its data are more than memory holds") from None


def _parse_idx(file: BinaryIO | Any, path: Path, dimensions: int, most: int) -> NDArray[np.uint8]:
    """The array in an open file, which holds at most `most` bytes."""
    start = 4 + 4 * dimensions
    header = file.read(start)
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    for byte, (want, got) in enumerate(zip(expected, header, strict=False)):
        if want != got:
            meaning = ("zero", "zero", "data type unsigned byte", "number of dimensions")[byte]
            raise ValueError(
                f"{path}: byte {byte}: expected 0x{want:02x} ({meaning}), got 0x{got:02x}"
            )
    if len(header) < start:
        raise ValueError(f"{path}: byte {len(header)}: truncated, the header has {start} bytes")
    shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, start, 4))
    if 0 in shape:
        at = 4 + 4 * shape.index(0)
        raise ValueError(f"{path}: byte {at}: empty, the header says shape {shape}")
    data = _read_data(file, path, start, math.prod(shape), most)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_data(file: BinaryIO | Any, path: Path, start: int, count: int, most: int) -> bytes:
    """Exactly `count` bytes; the memory grows only with what was read."""
    if start + count > most:
        raise ValueError(
            f"{path}: byte {start}: truncated, the header promises {count} bytes of data, "
            f"more than the file can hold"
        )
    blocks, got = [], 0
    while got < count:
        block = file.read(min(_BLOCK, count - got))
        if not block:
            raise ValueError(
                f"{path}: byte {start + got}: truncated, the header promises {count} bytes of "
                f"data, got {got}"
            )
        blocks.append(block)
        got += len(block)
    if file.read(1):
        raise ValueError(
            f"{path}: byte {start + count}: oversized, data goes on after the {count} bytes "
            f"that the header promises"
        )
    return b"".join(blocks)
