"""Files that somebody made up or damaged, byte by byte, and the check that they are refused."""

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


# ---- any damage ----

DENSE = {"type": "Dense", "in_features": 2, "out_features": 2}
VALUES = [None, True, -1, 0, 1, 3, 0.5, 1e308, 2**31, 2**63, 2**64, 10**400, "", "relu", "Dense",
          [], {}, [1, 2], [[]], {"type": "ReLU"}, {"type": "He"}, DENSE]  # fmt: skip


def places(tree):
    """Each dict or list in a tree of them, with each of its keys or indices."""
    for key in range(len(tree)) if isinstance(tree, list) else list(tree):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def damaged_tree(tree, chance):
    holder, key = chance.choice(list(places(tree)))
    if chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = chance.choice(VALUES)


def damaged_bytes(file, chance):
    file = bytearray(file)
    head = 8 + int.from_bytes(file[:8], "little")
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(min(head + 16, len(file)) or 1)
        file[at : at + chance.randrange(3)] = chance.choice(
            [b"", b"0", b"9", b"[", b'"', b"\xff", b","]
        )
    return bytes(file[: chance.choice([None, chance.randrange(len(file))])])


def damaged(file, chance):
    kind = chance.randrange(3)
    if kind == 0:
        return damaged_bytes(file, chance)
    header, data = unpack(file)
    if kind == 1:
        damaged_tree(header, chance)
    else:
        content = json.loads(header["__metadata__"]["fastnn"])
        damaged_tree(content, chance)
        header["__metadata__"]["fastnn"] = json.dumps(content)
    return pack(header, data)
