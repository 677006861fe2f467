"""One node of an ONNX graph: its attributes, of which none may be left unread, and its name for
messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.onnx.constants import array_of

if TYPE_CHECKING:
    from collections.abc import Callable

_MISSING = object()
_LONGEST_NAME = 100


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
    """The shortest decimal that is this float32, as 0.01 for 0.009999999776: in a network of float32
    both have the same bits."""
    return float(str(np.float32(value)))
