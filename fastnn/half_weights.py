"""Weights of dense layers rounded to 16-bit numbers, for predictors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAMES = ("bfloat16", "float16")
STRIP = 128  # columns that lie together: FNN_HALF_COLUMNS


def rounded(weight: Array, kind: str) -> Array:
    """The nearest number of that kind to each of a float32 array, of two the even one: float16, or
    for bfloat16, which NumPy lacks, uint16 with the upper halves of float32."""
    if kind == "float16":
        with np.errstate(over="ignore", under="ignore"):
            return weight.astype(np.float16)
    bits = weight.view(np.uint32)
    upper = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(weight), 0x7FC0, upper).astype(np.uint16)


def widened(halves: Array) -> Array:
    """What `rounded` gave, as float32."""
    if halves.dtype == np.float16:
        return halves.astype(np.float32)
    return (halves.astype(np.uint32) << 16).view(np.float32)


def is_read_in_halves(rows: int, weight: Array) -> bool:
    """Whether the product of so many rows waits for the weight, so that halves are faster.

    One row of 784-512-512-10 takes 0.48 of the time of float32, two 0.70, three 0.96, four 1.0; of
    2048-2048-2048, which comes from memory, one 0.25, four 0.33, eight 0.59 (bfloat16, AVX-512, one
    thread of a Zen 4; float16 0.69 and 0.91; 0.27, 0.41 and 0.71)."""
    most = 2 if weight.nbytes < 2**23 else 8
    return rows <= most and sys.byteorder == "little"  # as the kernel expects


class HalfWeight:
    """A weight (in, out) rounded to `kind`, for products of `rows` rows: `packed` in 16 bits as the
    kernel reads it; or, where this would be slower, `packed` is None and `wide` has the same
    numbers in float32.  `name` is what errors call it."""

    packed: Array | None = None

    def __init__(self, weight: Array, kind: str, name: str, rows: int) -> None:
        self.weight, self.kind, self.name = weight, kind, name
        self.wide = weight  # of which the kernel reads the shape alone
        if is_read_in_halves(rows, weight):
            size = len(weight) * (-(-weight.shape[1] // 32) * 32)
            memory = np.empty(size + 32, np.float16 if kind == "float16" else np.uint16)
            first = -memory.ctypes.data % 64 // 2  # on a cache line
            self.packed = memory[first : first + size]
        else:
            self.wide = np.empty_like(weight)
        self.take()

    def take(self) -> None:
        """Round the present numbers of `weight`.  Raises ValueError if one becomes infinite."""
        halves = rounded(self.weight, self.kind)
        wide = widened(halves)
        beyond = np.isinf(wide) & np.isfinite(self.weight)
        if beyond.any():
            place = tuple(map(int, np.argwhere(beyond)[0]))
            raise ValueError(
                f"weights: {self.name} has {self.weight[place]:g} at {place}, which is too large "
                f"for {self.kind}"
            )
        if self.packed is None:
            self.wide[...] = wide
        else:
            self._pack(halves, self.packed)

    def _pack(self, halves: Array, packed: Array) -> None:
        """Lay out strips of columns, filled up with zeros to a multiple of 32: csrc/half.inc."""
        terms, columns = halves.shape
        for left in range(0, columns, STRIP):
            width = -(-min(columns - left, STRIP) // 32) * 32
            strip = packed[terms * left : terms * (left + width)].reshape(terms, width)
            part = halves[:, left : left + STRIP]
            strip[:, : part.shape[1]], strip[:, part.shape[1] :] = part, 0
