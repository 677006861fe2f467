"""`load`: an ONNX file as a model.

Numbers known in the file are reckoned by NumPy (constants.py); every other node becomes a layer or
part of one (operators.py) behind the path from the input (paths.py).  The file is data of others:
no size in it is believed, no other file is opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastnn.data import Standardizer
from fastnn.data.belongings import check_classes
from fastnn.files import safefile
from fastnn.layers import Softmax
from fastnn.model import Sequential
from fastnn.onnx.attributes import Node, array_of, dtype_of
from fastnn.onnx.constants import CODED, FOLD, plain
from fastnn.onnx.operators import ML, READ
from fastnn.onnx.paths import (
    Builder,
    Codes,
    Input,
    Named,
    Spec,
    Step,
    Value,
    check_uses,
    codes_of,
    fork,
    fused,
    settled,
)

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

_OLDEST = 6  # of the operator sets of ONNX, of 2017
_ROOM = 2**20  # bytes that a model may have beside sixteen times its file
_LONGEST_MESSAGE = 600
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError)


def load(
    path: str | PathLike[str] | bytes, *, output: str | None = None, scalers: bool = False
) -> Sequential:
    """The model of an ONNX file: what `export`, PyTorch, skl2onnx and tf2onnx write for networks
    that fastnn's layers can express.  docs/howto/onnx.md lists the operators.

    The model computes what the graph does: `predict` takes what the graph takes, but for images and
    sequences whose channels come first there, before a convolution or pooling: the model takes
    (batch, height, width, channels) and (batch, length, channels), as everywhere in fastnn.  So are
    outputs that are images.  Dropout does not come back.

    Parameters
    ----------
    path : the file, or its content as bytes
    output : the name of the output that the model shall give, where a graph has several
        Labels are none: their names become the model's `classes`.
    scalers : whether shifting and scaling at the beginning and at the end of the graph become the
        model's `scaler` and `target_scaler`, which `predict` does not apply (see `Sequential`)

    Raises OSError for a file that cannot be read and ValueError for one that is no such network:
    it names the operator, the node and what was expected there.

    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    >>> product = helper.make_node("MatMul", ["x", "weight"], ["z"])
    >>> graph = helper.make_graph(
    ...     [product, helper.make_node("Relu", ["z"], ["y"])],
    ...     "net",
    ...     [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
    ...     [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    ...     [weight],
    ... )
    >>> model = load(helper.make_model(graph).SerializeToString())
    >>> model
    Sequential(
        Dense(3, 2, bias=False),
        ReLU(),
        seed=0, dtype='float32',
    )
    >>> model.predict([[1, 2, 3]])
    array([[6., 6.]], dtype=float32)
    """
    name = "the model" if isinstance(path, bytes) else os.fsdecode(path)
    try:
        return _load(path if isinstance(path, bytes) else _content(name), output, scalers)
    except RecursionError:
        raise ValueError(f"{name}: its layers are nested too deeply") from None
    except _FAULTS as error:
        text = str(error) or type(error).__name__
        text = text if len(text) < _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} ..."
        raise ValueError(f"{name}: {text}") from None


load.__module__ = "fastnn.onnx"


def _content(path: str) -> bytes:
    with open(path, "rb", opener=safefile._open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("expected a regular file")
        return file.read()


def _load(content: bytes, output: str | None, scalers: bool) -> Sequential:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise ValueError("expected an ONNX model") from None
    with np.errstate(all="ignore"):
        reader = Reader(model, len(content))
        value, classes = reader.result(output)
        value = reader.input.fixed(value)
        return _build(value, reader.input.moved, classes, scalers, reader.room)


class Reader:
    """Goes through the nodes that the outputs need, in the file's order."""

    def __init__(self, model: Any, size: int) -> None:
        self.graph, self.room = model.graph, 16 * size + _ROOM
        self._left = self.room  # bytes that constants may still take
        self.opsets = {
            "" if entry.domain == "ai.onnx" else entry.domain: entry.version
            for entry in model.opset_import
        }
        if self.opsets.get("", 0) < _OLDEST:
            raise ValueError(f"expected operators of ONNX's set {_OLDEST} or newer")
        if any(f.domain in ("", "ai.onnx", "ai.onnx.ml") for f in model.functions):
            raise ValueError("expected ONNX's own operators, got functions in their place")
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.values: dict[str, Any] = {}
        self._uses = Counter[str]()
        self.input = self._take_input()

    def _take_input(self) -> Input:
        inputs = [value for value in self.graph.input if value.name not in self._tensors]
        if len(inputs) != 1:
            raise ValueError(
                f"expected one input, got {len(inputs)}: {[value.name for value in inputs][:5]}"
            )
        kind = inputs[0].type.tensor_type
        dims = kind.shape.dim
        if len(dims) < 2:
            raise ValueError(
                f"input {inputs[0].name!r}: expected (batch, ...), got {len(dims)} axes"
            )
        if any(dim.dim_value < 0 for dim in dims):
            raise ValueError(f"input {inputs[0].name!r}: expected sizes >= 1")
        rows = tuple(dim.dim_value or None for dim in dims[1:])
        value = Value(
            Step(), rows, tuple(range(len(dims))), dtype_of(kind.elem_type), loose=len(dims) > 2
        )
        self.values[inputs[0].name] = value
        return Input(value, dims[0].dim_value or None)

    def claim(self, count: int) -> None:
        """Take room for so many numbers of a constant; ValueError if the file has too little."""
        self._left -= 8 * count
        if self._left < 0 or count < 0:
            raise ValueError("expected constants in proportion to the file, got larger ones")

    # ---- the nodes ----

    def result(self, output: str | None) -> tuple[Value, NDArray[Any] | None]:
        """The value that the model gives, and the names of its classes."""
        names = [value.name for value in self.graph.output]
        if output is not None and output not in names:
            raise ValueError(f"output: expected one of {names[:9]}, got {output!r}")
        wanted = names if output is None else [output]
        needed = self._needed(wanted)
        self._uses.update([*wanted, *(name for node in needed for name in node.input)])
        for proto in needed:
            self._run(proto)
        results = {name: self._value(name) for name in wanted}
        numbers = {n: v for n, v in results.items() if isinstance(v, Value | Named)}
        if len(numbers) != 1:
            raise ValueError(
                f"expected one output of numbers that follow from the input, got {len(numbers)}"
                + (f"; choose by output= one of {list(numbers)[:9]}" if numbers else "")
            )
        (its,) = numbers.values()
        value: Value = its if isinstance(its, Value) else its.of
        known = [
            v for v in results.values() if not isinstance(v, Value) and v.classes is not None
            and _same_order(v.of.step, value.step)
        ]  # fmt: skip
        return value, known[0].classes if known else None

    def _needed(self, wanted: list[str]) -> list[Any]:
        """The nodes that some outputs need, in the file's order."""
        nodes, made_by = self.graph.node, {}
        for i, node in enumerate(nodes):
            for name in filter(None, node.output):
                if name in made_by or name in self._tensors or name in self.values:
                    raise ValueError(f"expected each name once, got {name[:100]!r} again")
                made_by[name] = i
        needed: set[int] = set()
        open_names = list(wanted)
        while open_names:
            name = open_names.pop()
            if name in made_by and made_by[name] not in needed:
                needed.add(made_by[name])
                open_names += nodes[made_by[name]].input
        return [nodes[i] for i in sorted(needed)]

    def _value(self, name: str) -> Any:
        if not name:
            return None  # an optional input
        if name not in self.values:
            if name not in self._tensors:
                raise ValueError(f"expected a value that was computed before, got {name[:100]!r}")
            self.values[name] = array_of(self._tensors[name])
        return self.values[name]

    def _run(self, proto: Any) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        node = Node(proto, self.opsets.get(domain, 0), self.input.exact, self.claim)
        try:
            if domain not in ("", "ai.onnx.ml") or (proto.op_type in ML) != (domain != ""):
                raise ValueError(f"this operator of {domain or 'ai.onnx'!r} cannot be read")
            inputs = [self._value(name) for name in proto.input]
            results = self._compute(node, inputs)
            node.finish()
            for name, value in zip(proto.output, results, strict=False):
                self.values[name] = value
                if self._uses[name] > 1 and isinstance(value, Value):
                    value.step.shared = True
        except _FAULTS as error:
            _fail(node.label, error)

    def _compute(self, node: Node, inputs: list[Any]) -> tuple[Any, ...]:
        if all(value is None or isinstance(value, np.ndarray) for value in inputs):
            if node.op not in FOLD:
                raise ValueError("this operator cannot be read where it has constants alone")
            return (plain(np.asarray(FOLD[node.op](node, *inputs))),)
        if node.op in CODED and (codes := codes_of(inputs, CODED[node.op])) is not None:
            return (self._code(node, codes, inputs),)
        if node.op not in READ:
            raise ValueError("this operator cannot be read")
        result = READ[node.op](self.input, node, *inputs)
        return result if type(result) is tuple else (result,)

    def _code(self, node: Node, of: Value, inputs: list[Any]) -> Codes:
        """Arithmetic of codes: what it makes of each code that any table here has."""
        most = max((t.dims[0] for t in self.graph.initializer if len(t.dims) == 2), default=0)
        tables = []
        for value in inputs:
            if isinstance(value, Value):
                self.claim(most)
                tables.append(np.arange(most).astype(value.dtype))
            else:
                tables.append(value.table if isinstance(value, Codes) else value.reshape(()))
        return Codes(of, FOLD[node.op](node, *tables))


def _fail(label: str, error: BaseException) -> NoReturn:
    text = str(error) or type(error).__name__
    raise ValueError(f"{label}: {text}") from None


def _same_order(a: Step, b: Step) -> bool:
    """Whether both have the largest number in the same place: they differ by a softmax at most."""
    _, rests = fork(a, b)
    return all(spec.kind is Softmax for rest in rests for spec in rest)


# ---- the model ---------------------------------------------------------------------------------


def _build(value: Value, moved: bool | None, classes: Any, scalers: bool, room: int) -> Sequential:
    if value.order is not None:
        raise ValueError(
            "expected a dense layer behind an image that is flattened, got the outputs, "
            "whose order would be another one than in the graph"
        )
    specs = value.step.path()
    owned: dict[str, Any] = {}
    kinds = [spec.dtype for spec in specs if spec.kind != "affine" and spec.dtype.kind == "f"]
    dtype = kinds[0] if kinds else value.dtype
    if dtype.kind != "f":
        raise ValueError(f"expected outputs of float32 or float64, got {dtype}")
    check_uses(specs, set())
    specs = settled(specs, moved)
    if scalers:
        specs, owned = _scalers(specs, dtype)
    builder = Builder(dtype, room)
    layers = builder.layers(fused(specs))
    builder.check(layers)
    if classes is not None:
        owned["classes"] = check_classes(classes.tolist(), "classes")
    state = {"layers": layers, "dtype": dtype.name, "seed": 0, "l1": 0.0, "l2": 0.0, "counter": 0}
    model = Sequential._restore({**state, "parameters": builder.arrays, **owned})
    for name, array in model.state.items():
        array[...] = builder.arrays[name]
    return model


def _scalers(specs: tuple[Spec, ...], dtype: Any) -> tuple[tuple[Spec, ...], dict[str, Any]]:
    """The path without an affine part at its beginning and end, and these as scalers."""
    owned: dict[str, Any] = {}
    if specs and specs[0].kind == "affine":
        mean, scale, std, shift = _numbers(specs[0])
        owned["scaler"] = _standardizer(mean - shift / scale, std, dtype)
        specs = specs[1:]
    if specs and specs[-1].kind == "affine":
        mean, scale, _, shift = _numbers(specs[-1])
        owned["target_scaler"] = _standardizer(shift - mean * scale, scale, dtype)
        specs = specs[:-1]
    return specs, owned


def _numbers(spec: Spec) -> list[Any]:
    (features,) = spec.args
    if features is None:
        raise ValueError("scalers: expected a known number of channels")
    names = ("mean", "scale", "std", "shift")
    return [np.broadcast_to(spec.arrays[name], features) for name in names]


def _standardizer(mean: Any, std: Any, dtype: Any) -> Standardizer:
    scaler = Standardizer(dtype)
    scaler.mean, scaler.std = np.array(mean, np.float64), np.array(std, np.float64)
    if not (np.isfinite(scaler.mean) & (scaler.std > 0) & np.isfinite(scaler.std)).all():
        raise ValueError("scalers: expected finite means and factors > 0")
    return scaler
