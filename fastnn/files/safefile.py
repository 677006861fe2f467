"""Files in the safetensors format: a file is written whole or not at all, and nothing in it is
believed before it was checked against the file's size.

The library `safetensors` reads and writes the format; the checks here say what is wrong."""

from __future__ import annotations

import errno
import math
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]

_ITEMSIZE = {"F32": 4, "F64": 8}  # of the tensors that fastnn writes
FOREIGN = {**_ITEMSIZE, "F16": 2, "I64": 8}  # and that PyTorch's layers have
_LONGEST_HEADER = 2**24  # bytes
_MOST_DIMENSIONS = 32
_LIBRARY_BYTES = 2**20  # for all that is small
_PROCESS_FILES = "/proc/self/fd/"
_PICKLES = b"PK\x03\x04", *(bytes([0x80, version]) for version in range(2, 6))


# ---- writing -----------------------------------------------------------------------------------


def write(path: str, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Replace the file, or make it; the data are on the disk when this returns.

    Raises OSError with the path; the old file is then unchanged.  A link stays and its target is
    replaced; a file's permissions stay."""
    from safetensors.numpy import save  # imported here, as most programs write no file

    _reserve(3 * sum(array.nbytes for array in arrays.values()))  # each array, then all, twice
    data = save(dict(arrays), dict(metadata))
    length = int.from_bytes(data[:8], "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"{path}: its header would have {length} bytes, over {_LONGEST_HEADER}")
    replace(path, data)


def replace(path: str, data: bytes) -> None:
    """Replace the file, or make it, as `write` does."""
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def check_replaceable(path: str) -> None:
    """OSError, with the path, where `replace` could not write: before the work whose result the
    file is to hold."""
    target = os.path.realpath(path)
    try:
        _permissions(target)
        temporary = _beside(target)
        with open(temporary, "xb"):
            os.unlink(temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


@contextmanager
def replacing(path: str, encoding: str | None = None) -> Iterator[Any]:
    """A file to write, binary or text of that encoding, that takes the place of the old one when it
    is whole and on the disk.

    Where the block ends by an error, the old file stays as it is.  A process that is killed leaves
    nothing behind where the file system has files without names, as Linux's do, unless that happens
    between two system calls: the whole file gets a name, and takes the old one's place.  OSErrors
    have no path."""
    target = os.path.realpath(path)
    mode, temporary = _permissions(target), _beside(target)
    try:
        kind, newline = ("xb", None) if encoding is None else ("x", "")
        unnamed = _unnamed(os.path.dirname(target))
        where = temporary if unnamed is None else unnamed
        with open(where, kind, encoding=encoding, newline=newline) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if unnamed is not None:  # a directory must be given for the link to be followed
                os.link(_PROCESS_FILES + str(unnamed), temporary, src_dir_fd=unnamed)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _unnamed(folder: str) -> int | None:
    """The descriptor of a new file without a name in the folder; None where there is no such."""
    if not hasattr(os, "O_TMPFILE") or not os.path.exists(_PROCESS_FILES):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError:  # the file system has none; or no file can be there, which its name shows
        return None


def _beside(target: str) -> str:
    """A name for a temporary file in the same folder."""
    return os.path.join(os.path.dirname(target), f".fastnn-{os.urandom(8).hex()}.tmp")


def _permissions(target: str) -> int | None:
    """The permissions of the file to replace, None for a new one; OSError if it is not writable."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(status.st_mode)


def _sync_folder(folder: str) -> None:
    """Make the new name survive a power cut, too; some file systems have nothing to sync."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be writable but not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


# ---- reading -----------------------------------------------------------------------------------


@contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size; ValueError for anything else, OSError if it is unreadable."""
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a regular file")
        yield file, status.st_size


def read(
    path: str, itemsize: Mapping[str, int] = _ITEMSIZE
) -> tuple[dict[str, str], dict[str, Array]]:
    """The metadata and the tensors, whose dtypes are those of `itemsize`; OSError for an unreadable
    file, ValueError for a wrong one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with opened(path) as (file, size):
        if size < 8:
            raise ValueError(f"{size} bytes are too few: a safetensors file begins with 8")
        first = file.read(8)
        length, most = int.from_bytes(first, "little"), min(size - 8, _LONGEST_HEADER)
        if length > most:
            if first.startswith(_PICKLES):
                raise ValueError(
                    "a zip file or a pickle, no safetensors file; if PyTorch wrote it, write "
                    "safetensors.torch.save_file(module.state_dict(), 'net.safetensors') there, "
                    "which fastnn.torch.load_state_dict takes into a model"
                )
            raise ValueError(
                f"its header claims {length} bytes, expected at most {most} in {size} bytes"
            )
        metadata = _check_header(file.read(length), size - 8 - length, itemsize)
        file.seek(0)
        data = file.read(size)
    _reserve(2 * size)
    try:
        return metadata, load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _reserve(size: int) -> None:
    """MemoryError where there is no memory for so many bytes: there the library would hang."""
    np.empty(size + _LIBRARY_BYTES, np.uint8)


def _open(path: str, flags: int) -> int:
    """Open the file; a pipe of that name must not make this wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse(text: str, what: str) -> dict[str, Any]:
    """The JSON object in `text`; ValueError for anything else, duplicate keys, NaN and infinity."""
    import json

    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what}: expected a JSON object, found {type(found).__name__}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check_header(header: bytes, size: int, itemsize: Mapping[str, int]) -> dict[str, str]:
    """The metadata; ValueError unless the tensors fill `size` bytes without gap and overlap."""
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"its header is not UTF-8: {error}") from None
    tensors = parse(text, "its header")
    metadata = tensors.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__: expected an object of strings")
    at = 0
    extents = ((*_extent(name, t, itemsize), name) for name, t in tensors.items())
    for begin, end, name in sorted(extents):
        if begin != at:
            what = "overlaps the tensor before it" if begin < at else "leaves a hole before it"
            raise ValueError(f"tensor {name!r} {what}: it begins at byte {begin}, expected {at}")
        at = end
    if at != size:
        what = "trailing" if size > at else "missing"
        raise ValueError(f"{abs(size - at)} bytes {what}: tensors take {at}, the file has {size}")
    return metadata


def _extent(name: str, tensor: Any, itemsize: Mapping[str, int]) -> tuple[int, int]:
    """The bytes where a tensor begins and ends; ValueError unless shape and dtype need as many."""
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(tensor, dict) or tensor.keys() != keys:
        raise ValueError(f"tensor {name!r}: expected an object of {', '.join(sorted(keys))}")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in itemsize:
        known = " or ".join(itemsize)
        raise ValueError(f"tensor {name!r}: unknown dtype {dtype!r}, expected {known}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"tensor {name!r}: expected a shape of integers >= 0, found {shape!r}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r}: expected two offsets >= 0, found {offsets!r}")
    begin, end = offsets
    if begin > end:
        raise ValueError(f"tensor {name!r}: its offsets {begin} and {end} are reversed")
    if max(math.prod(max(n, 1) for n in shape) * itemsize[dtype], end) > 2**63 - 1:
        raise ValueError(f"tensor {name!r}: its shape {shape} overflows")
    wanted = math.prod(shape) * itemsize[dtype]
    if end - begin != wanted:
        raise ValueError(
            f"tensor {name!r}: {dtype} of shape {shape} takes {wanted} bytes, but its offsets "
            f"{begin} and {end} hold {end - begin}"
        )
    return begin, end


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
