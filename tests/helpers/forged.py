"""Files that somebody made up, byte by byte, and the check that they are refused."""

import json

import pytest

import fastnn


def pack(header, data=b""):
    """A file with this header: bytes, or an object to write as JSON."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data


def unpack(file):
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def refused(path, file, message, load=fastnn.load):
    path.write_bytes(file)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def made_up(data=b"", tensors=None, text=None, **model):
    """The file of a model without parameters, changed by the arguments."""
    whole = {"layers": [{"type": "ReLU"}], "dtype": "float32", "seed": 0, "l2": 0.0, "passes": 0}
    content = {"format": 1, "model": {**whole, **model}}
    text = json.dumps(content) if text is None else text
    return pack({"__metadata__": {"fastnn": text}, **(tensors or {})}, data)
