"""What an ONNX file says: tensors, checked before they get memory, and the attributes of a node, of
which none may be left unread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_MISSING = object()
_LONGEST_NAME = 100
_TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
          9: "bool", 11: "float64", 12: "uint32", 13: "uint64"}  # fmt: skip
MOST_AXES = 16
SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}  # fastnn's, and ONNX's defaults


def array_of(tensor: Any) -> NDArray[Any]:
    """A tensor of the file as an array, after its size was checked against what is there."""
    from onnx import numpy_helper

    if tensor.data_location == 1 or tensor.external_data:
        raise ValueError("expected its numbers in the file, got the name of another file")
    if tensor.HasField("segment"):
        raise ValueError("expected a whole tensor, got a segment")
    dims, kind = tuple(tensor.dims), tensor.data_type
    if len(dims) > MOST_AXES or any(n < 0 for n in dims):
        raise ValueError(f"expected at most {MOST_AXES} sizes >= 0, got {dims[:99]}")
    count = math.prod(dims)
    if kind == 8:
        if len(tensor.string_data) != count:
            raise ValueError(f"expected {count} strings, got {len(tensor.string_data)}")
        texts = [text.decode("utf-8") for text in tensor.string_data]
        return np.array(texts, dtype=object).reshape(dims)
    if kind not in _TYPES:
        raise ValueError(f"expected real numbers, got a tensor of ONNX's type {kind}")
    if tensor.HasField("raw_data"):
        wanted, data = count * np.dtype(_TYPES[kind]).itemsize, tensor.raw_data
        if wanted != len(data):
            raise ValueError(f"expected {wanted} bytes for the shape {dims}, got {len(data)}")
        little = np.dtype(_TYPES[kind]).newbyteorder("<")
        return np.frombuffer(data, little).reshape(dims)
    array: NDArray[Any] = numpy_helper.to_array(
        tensor
    )  # lists of numbers: never more than there are
    return array


def dtype_of(kind: int) -> Any:
    """NumPy's type for a number of ONNX's."""
    if kind not in _TYPES:
        raise ValueError(f"expected a real type, got ONNX's type {kind}")
    return np.dtype(_TYPES[kind])


class Node:
    """A node, whose attributes are taken one by one."""

    def __init__(self, proto: Any, opset: int, exact: bool, claim: Callable[[int], None]) -> None:
        self.op, self.opset, self.claim = proto.op_type, opset, claim
        self._float = float if exact else _decimal
        self.label = f"node {proto.name[:_LONGEST_NAME]!r} ({proto.op_type[:_LONGEST_NAME]})"
        name = proto.name  # which begins with the layer's, as in "dense/MatMul" and "0.Gemm"
        self.scope = name.rpartition("/")[0] or name.rpartition(".")[0]
        self._attributes = {a.name: a for a in proto.attribute}

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """The attribute's value; `default`, whose type it must have, if it is not there."""
        if name not in self._attributes:
            if default is _MISSING:
                raise ValueError(f"expected the attribute {name}")
            return default
        value = _value(self._attributes.pop(name), self._float)
        if default is not None and default is not _MISSING and type(value) is not type(default):
            raise ValueError(f"{name}: expected {type(default).__name__}, got {value!r:.100}")
        return value

    def expect(self, name: str, *values: Any) -> None:
        """Take an attribute that may have these values only; it has the first if it is missing."""
        if (value := self.take(name, values[0])) not in values:
            raise ValueError(f"{name}: expected {values[0]!r}, got {value!r:.100}")

    def finish(self) -> None:
        """Raise ValueError for an attribute that nobody took: it could change what is computed."""
        if self._attributes:
            raise ValueError(f"expected no attribute {min(self._attributes)[:_LONGEST_NAME]!r}")


def _value(a: Any, number: Callable[[float], float]) -> Any:
    if a.ref_attr_name:
        raise ValueError(f"{a.name}: expected a value, got a reference")
    if a.type == 1:
        return number(a.f)
    if a.type == 2:
        return int(a.i)
    if a.type == 3:
        return a.s.decode("utf-8")
    if a.type == 4:
        return array_of(a.t)
    if a.type == 6:
        return [number(f) for f in a.floats]
    if a.type == 7:
        return list(a.ints)
    if a.type == 8:
        return [s.decode("utf-8") for s in a.strings]
    raise ValueError(f"{a.name}: expected a number, a text, a tensor or a list of them")


def _decimal(value: float) -> float:
    """The shortest decimal that is this float32, as 0.01 for 0.009999999776: a network of float32
    computes the same with both."""
    return float(str(np.float32(value)))
