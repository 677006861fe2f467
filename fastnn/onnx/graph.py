"""Graph: what an ONNX file is made of while it grows: nodes, and arrays named as parameters are.

The batch is the first axis of every value.  Where a value has channels besides positions, they lie
behind these, as in fastnn, or before them, as ONNX's operators take them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray


class Value(NamedTuple):
    """The rows that a node gives: its name, their shape as fastnn's, and whether in ONNX the
    channels lie before the positions."""

    name: str
    shape: tuple[int, ...]
    first: bool = False

    @property
    def dims(self) -> list[int]:
        """The shape of a row as it lies."""
        *positions, channels = self.shape
        return [channels, *positions] if self.first else [*positions, channels]


class Graph:
    """Nodes and arrays for a network of that dtype; `taken` are names that mean something else.

    The names of nodes, and of arrays that come with them, begin with `path`: the layer's, as the
    names of its parameters do."""

    def __init__(self, dtype: np.dtype[Any], taken: Iterable[str]) -> None:
        self.dtype = dtype
        self.takes_codes = False  # whether the input is int64, for an embedding
        self.path = ""
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []
        self._taken = set(taken)
        self._constants: dict[tuple[Any, ...], str] = {}
        self._turned: dict[str, Value] = {}  # the same values, with channels first and last

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Name what is added meanwhile by this layer within the present one."""
        before = self.path
        self.path = f"{before}{name}."
        yield
        self.path = before

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def array(self, name: str, array: NDArray[Any]) -> str:
        """Add an array of the present layer; returns its name."""
        name = self._name(self.path + name)
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, value: ArrayLike, dtype: Any = None) -> str:
        """The name of a small array, by default of the network's dtype; equal ones are one."""
        array = np.asarray(value, self.dtype if dtype is None else dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            text = "_".join(map(str, array.ravel().tolist()))
            name = self._constants[key] = self._name(f"constant_{text}")
            self.arrays.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def several(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node of this operator with these inputs; returns the names of its outputs."""
        name = self._name(self.path + op)
        names = [name, *(self._name(name) for _ in range(outputs - 1))]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns its name."""
        return self.several(op, 1, *inputs, **attributes)[0]

    def cast(self, name: str, dtype: Any) -> str:
        return self.add("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def turned(self, x: Value, first: bool) -> Value:
        """The value with its channels before the positions (`first`) or behind them."""
        if len(x.shape) == 1 or x.first == first:
            return x
        if x.name not in self._turned:
            n = len(x.shape)
            perm = [0, n, *range(1, n)] if first else [0, *range(2, n + 1), 1]
            path, self.path = self.path, ""
            y = Value(self.add("Transpose", x.name, perm=perm), x.shape, first)
            self.path = path
            self._turned |= {x.name: y, y.name: x}
        return self._turned[x.name]

    def along(self, name: str, array: NDArray[Any], x: Value) -> str:
        """Add an array (features,) of the present layer, so that it goes along the value's."""
        return self.array(name, array.reshape(-1, *(1,) * (len(x.shape) - 1)) if x.first else array)

    def give(self, value: str, name: str) -> None:
        """Let a value have the name of an output."""
        if not any(value in node.output for node in self.nodes):  # it is an input or output itself
            self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == value else each for each in names]
