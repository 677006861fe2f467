"""The malformed files that the safetensors library tests or names in its README and attacks/
(version 0.8): refused here too, each for its own reason, before the library sees it; and those that
it must read."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load

import fastnn
from fastnn.files import safefile
from forged import pack, refused, tensor

SIZES = {"I32": 4, "F32": 4}  # the library's tests have int32, which no file of fastnn's has


def int32(text, data=b""):
    """A header of one tensor, as the library's tests write it, whatever the text says."""
    return b"<\0\0\0\0\0\0\0" + b'{"test":{"dtype":"I32",' + text + b"}}" + data


SQUARE = b'"shape":[2,2],"data_offsets":[0,16]'
FOUR = tensor(shape=(2, 2), offsets=(0, 16))
MALFORMED = {
    "bytes behind, as of a second format": (
        int32(SQUARE, bytes(16) + b"extra_bogus_data_for_polyglot_file"), "34 bytes trailing"),
    "two bytes missing": (int32(SQUARE, bytes(14)), "2 bytes missing: tensors take 16"),
    "header too large": (
        b"<\0\0\0\0\xff\xff\xff" + int32(SQUARE, bytes(16))[8:],
        "header claims 18446742974197923900 bytes, expected at most 76"),
    "header too small": (b"", "0 bytes are too few"),
    "header behind the end": (b"<\0\0\0\0\0\0\0", "header claims 60 bytes, expected at most 0"),
    "header longer than a small file": (
        (1000).to_bytes(8, "little") + pack({"weight": FOUR}, bytes(16))[8:],
        "header claims 1000 bytes, expected at most"),
    "not UTF-8": (b"\1\0\0\0\0\0\0\0\xff", "its header is not UTF-8"),
    "not JSON": (b"\1\0\0\0\0\0\0\0{", "its header is not JSON"),
    "shape of another size": (
        int32(b'"shape":[2,2],"data_offsets":[0, 4]'),
        "takes 16 bytes, but its offsets 0 and 4 hold 4"),
    "numbers overflow": (
        b"O" + int32(b'"shape":[2,18446744073709551614],"data_offsets":[0,16]', bytes(16))[1:],
        r"its shape \[2, 18446744073709551614\] overflows"),
    "bytes overflow": (
        b"N" + int32(b'"shape":[2,9223372036854775807],"data_offsets":[0,16]', bytes(16))[1:],
        r"its shape \[2, 9223372036854775807\] overflows"),
    "many tensors in one place": (
        pack({f"weight_{i}": FOUR for i in range(10)}, bytes(16)),
        "tensor 'weight_1' overlaps the tensor before it: it begins at byte 0, expected 16"),
    "a hole": (pack({"a": tensor(offsets=(8, 16))}, bytes(16)), "'a' leaves a hole before it"),
    "negative offsets": (pack({"a": tensor(offsets=(-8, 0))}, bytes(8)), "two offsets >= 0"),
    "reversed offsets": (pack({"a": tensor(offsets=(8, 0))}, bytes(8)), "are reversed"),
    "unknown type": (pack({"a": tensor("nonsense")}, bytes(8)), "unknown dtype 'nonsense'"),
    "half a byte": (
        pack({"a": tensor("F4", (1, 3), (0, 2))}, bytes(2)), "unknown dtype 'F4', expected I32 or"),
    "a name twice": (
        pack(b'{"a":%s,"a":%s}' % ((json.dumps(tensor()).encode(),) * 2), bytes(8)),
        "the key 'a' stands there twice"),
    "text in place of a number": (pack({"a": tensor(shape=["2"])}, bytes(8)), "integers >= 0"),
    "no tensor": (b"something", "header claims"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_the_library_refuses_is_refused_for_its_own_reason(name, tmp_path):
    file, message = MALFORMED[name]
    refused(tmp_path / "net.safetensors", file, r"net\.safetensors: .", fastnn.load)
    (tmp_path / "net.safetensors").write_bytes(file)
    with pytest.raises(ValueError, match=message):
        safefile.read(str(tmp_path / "net.safetensors"), SIZES)
    if name != "a name twice":  # it takes the last, where its README disallows it
        with pytest.raises(SafetensorError):
            load(file)


def test_a_header_of_a_hundred_thousand_tensors_in_one_place(tmp_path):
    """The library's third attack: a small file, of which each tensor would be memory of its own."""
    square = tensor(shape=(200, 200), offsets=(0, 160_000))
    file = pack({f"weight_{i}": square for i in range(100_000)}, bytes(160_000))
    refused(tmp_path / "net.safetensors", file, "overlaps|claims", fastnn.load)


WELL_FORMED = {
    "no tensors, spaces behind": (b"\6\0\0\0\0\0\0\0{}\r \t\n", None),
    "a number": (b"8" + int32(b'"shape":[],"data_offsets":[0,4]', bytes(4))[1:], ()),
    "no numbers": (int32(b'"shape":[2,0],"data_offsets":[0, 0]'), (2, 0)),
    "a square": (int32(SQUARE, bytes(16)), (2, 2)),
}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_what_the_library_must_read_is_read(name, tmp_path):
    file, shape = WELL_FORMED[name]
    (tmp_path / "net.safetensors").write_bytes(file)
    metadata, arrays = safefile.read(str(tmp_path / "net.safetensors"), SIZES)
    assert metadata == {}
    if shape is None:
        assert arrays == {}
    else:
        assert arrays["test"].shape == shape and arrays["test"].dtype == np.int32
