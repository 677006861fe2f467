"""The program of a C file: constants, buffers of fixed size and calls, one after the other."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_LINE = 100


@dataclass(eq=False)
class Buffer:
    """Some numbers of the workspace, or the inputs or outputs of the whole network."""

    offset: int
    size: int
    name: object | None = None  # None: a part of the workspace
    shared: bool = False  # read later as well: nobody may write into it

    def __str__(self) -> str:
        if self.name is not None:
            return str(self.name)
        return f"workspace + {self.offset}" if self.offset else "workspace"


class Value(NamedTuple):
    """What a layer takes or gives: a row of that shape in a buffer."""

    buffer: Buffer
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """How many positions it has, each with `shape[-1]` numbers."""
        return math.prod(self.shape[:-1])

    def __str__(self) -> str:
        return str(self.buffer)


class Behind(NamedTuple):
    """The address so many numbers behind a value's first."""

    value: Value
    numbers: int

    def __str__(self) -> str:
        return f"{self.value} + {self.numbers}"


@dataclass
class Program:
    """The calls that compute one row, and what they need; layers.py adds to it."""

    dtype: np.dtype[Any]
    quantized: bool  # weights are int8
    entry_double: bool = False  # x and y are double whatever the dtype
    pieces: set[str] = field(default_factory=set)
    constants: list[str] = field(default_factory=list)
    constant_bytes: int = 0
    lines: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    _buffers: list[Buffer] = field(default_factory=list)
    _in_use: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pieces |= {"real", "weight_int8" if self.quantized else "weight"}
        self.pieces.add("entry_double" if self.entry_double else "entry")

    @property
    def real(self) -> str:
        """The type of the network's numbers in C."""
        return "float" if self.dtype.itemsize == 4 else "double"

    @property
    def entry(self) -> str:
        """The type of x and y in C."""
        return "double" if self.entry_double else self.real

    # ---- buffers ----

    def new(self, shape: Sequence[int]) -> Value:
        """A buffer for a row of that shape, the first place that is free."""
        size, offset = math.prod(shape), 0
        for other in sorted(self._in_use, key=lambda buffer: buffer.offset):
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        buffer = Buffer(offset, -(-size // 16) * 16)  # places begin at multiples of 64 bytes
        self._in_use.append(buffer)
        self._buffers.append(buffer)
        return Value(buffer, tuple(shape))

    def release(self, value: Value) -> None:
        """Let others have the buffer, unless it is shared."""
        if not value.buffer.shared:
            self._in_use.remove(value.buffer)

    def own(self, x: Value) -> Value:
        """x itself if it may be written into, else a copy."""
        if not x.buffer.shared:
            return x
        y = self.new(x.shape)
        self.call("copy", x, y, x.size)
        return y

    @property
    def workspace(self) -> int:
        """How many numbers the buffers take together."""
        return max((b.offset + b.size for b in self._buffers if b.name is None), default=0)

    # ---- calls and constants ----

    def call(self, piece: str, *arguments: Any) -> None:
        """Add a call of the function that is defined in the piece of its name."""
        self.pieces.add(piece)
        self.lines.append((piece, arguments))

    def number(self, value: float) -> str:
        """A real number as C reads it, with the bits that it has in the network's type."""
        return literal(self.dtype.type(value))

    def array(self, values: NDArray[Any], ctype: str = "real") -> str:
        """A constant array; returns its name."""
        name = f"c{len(self.constants)}"
        values = np.asarray(values, self.dtype if ctype == "real" else None).ravel()
        if not np.isfinite(values).all() and ctype != "double":
            raise ValueError("model: expected finite parameters, got NaN or infinity")
        text = _wrapped(map(literal, values))
        self.constants.append(f"static const {ctype} {name}[{len(values)}] = {{\n{text}\n}};\n")
        self.constant_bytes += values.nbytes
        return name

    def weight(self, values: NDArray[Any], blocks: int = 0) -> tuple[str, str | None]:
        """A constant weight, whose last axis are features; returns its name, and for int8 that of
        the factors by which its features' sums must be multiplied.

        blocks: how many matrices it is for `product`, each of so many of the features; 0: it is
        none."""
        scale = None
        if self.quantized:
            values, scale = quantize(values)
        if blocks:
            matrix = values.reshape(-1, values.shape[-1])
            values = np.concatenate([_strips(part) for part in np.split(matrix, blocks, axis=1)])
        return self.array(values, "weight"), None if scale is None else self.array(scale)

    def struct(self, ctype: str, fields: Iterable[int | tuple[int, ...]]) -> str:
        """A constant struct of integers and arrays of them; returns a pointer to it."""
        self.pieces.add(ctype)
        name = f"c{len(self.constants)}"
        text = ", ".join(
            f"{{{', '.join(map(str, value))}}}" if isinstance(value, tuple) else str(value)
            for value in fields
        )
        self.constants.append(f"static const {ctype} {name} = {{{text}}};\n")
        return f"&{name}"

    def note(self, text: str) -> None:
        """Add a comment before the next call."""
        self.lines.append(("", (text,)))

    def body(self) -> str:
        """The calls as C."""
        lines = []
        for name, arguments in self.lines:
            inner = ", ".join(map(str, arguments))
            lines.append(f"    {name}({inner});" if name else f"    /* {inner} */")
        return "\n".join(lines)

    def support(self) -> str:
        """The functions that are called, with what these need."""
        pieces, wanted = _pieces(self.dtype.itemsize == 4), set[str]()
        left = list(self.pieces)
        while left:
            name = left.pop()
            if name not in wanted:
                wanted.add(name)
                left += pieces[name][0]
        return "\n".join(text for name, (_, text) in pieces.items() if name in wanted)


def _strips(matrix: NDArray[Any]) -> NDArray[Any]:
    """The matrix as `product` reads it: strips of up to 64 columns, each row after row."""
    return np.concatenate(
        [matrix[:, left : left + 64].ravel() for left in range(0, matrix.shape[1], 64)]
    )


def quantize(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Whole numbers from -127 to 127 and a scale for each feature: weight ≈ whole * scale."""
    largest = np.abs(weight).reshape(-1, weight.shape[-1]).max(axis=0)
    scale = np.where(largest > 0, largest / weight.dtype.type(127), 1).astype(weight.dtype)
    whole = np.clip(np.rint(weight.astype(np.float64) / scale), -127, 127)
    return whole.astype(np.int8), scale


def literal(value: Any) -> str:
    """The shortest decimal that C reads as the same number."""
    if isinstance(value, np.integer):
        return str(value)
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = repr(float(value)) if isinstance(value, np.float64 | float) else str(value)
    if "." not in text and "e" not in text:
        text += ".0"
    return text + "f" * isinstance(value, np.float32)


def _wrapped(words: Iterable[str]) -> str:
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) + 2 > _LINE:
            lines.append(line)
            line = " "
        line += f" {word},"
    return "\n".join([*lines, line])


@cache
def _pieces(is_float: bool) -> dict[str, tuple[list[str], str]]:
    """The pieces of both files by name, in order: what each needs, and its text."""
    pieces = {}
    for file in ("functions.inc", "kernels.inc"):
        text = Path(__file__).with_name(file).read_text(encoding="utf-8")
        _, *parts = re.split(r"^/\* \[(\w+)\](.*) \*/\n", text, flags=re.MULTILINE)
        for name, needs, part in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            pieces[name] = needs.split(), _chosen(part, is_float)
    return pieces


def _chosen(text: str, is_float: bool) -> str:
    """The text without the lines that are for the other real type."""
    lines, keep, depth = [], True, 0  # depth: of conditions within "#if FLOAT", from 1
    for line in text.splitlines():
        if line == "#if FLOAT":
            keep, depth = is_float, 1
        elif depth == 1 and line == "#else":
            keep = not is_float
        elif depth == 1 and line == "#endif":
            keep, depth = True, 0
        else:
            if depth:
                depth += line.startswith("#if") - line.startswith("#endif")
            if keep:
                lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"
