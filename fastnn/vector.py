"""Vector: numbers to learn that are in no layer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastnn.layers.layer import Arrays
from fastnn.support import arrays
from fastnn.support.arrays import aligned_zeros, writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]


class Vector:
    """Numbers that an optimizer steps though no layer has them: SAC's temperature, a policy's
    standard deviations.

    `values` (n,) and `gradient` (n,), 0 at first, are arrays of `dtype`, float32 or float64.  Set
    them, or write into them, then ``optimizer.step(vector)``; an optimizer belongs to one vector or
    model.  Copies and pickles have both; an optimizer takes its vector along, so that
    ``pickle.dumps(optimizer)``, or a deepcopy of the two in one tuple, keeps the training whole.

    Raises TypeError or ValueError for what is no vector of finite real numbers, or of another
    length than before.

    >>> import fastnn
    >>> log_alpha, optimizer = fastnn.Vector([0.0]), fastnn.Adam(0.1)
    >>> for _ in range(3):
    ...     log_alpha.gradient = [2.0]
    ...     optimizer.step(log_alpha)
    >>> log_alpha.values
    array([-0.3], dtype=float32)
    """

    __slots__ = ("_dtype", "_gradient", "_values")
    _passes = 1  # its gradient may be 0, which a model's is only before any backward

    def __init__(self, values: ArrayLike, dtype: DTypeLike = "float32") -> None:
        self._dtype = arrays.real_dtype(dtype)
        start = arrays.real_array(values, "values", self._dtype)
        if start.ndim != 1 or start.size == 0:
            raise ValueError(f"values: expected shape (n,), n >= 1, got {start.shape}")
        self._values, self._gradient = (aligned_zeros(start.size, self._dtype) for _ in "vg")
        self.values = start

    @property
    def values(self) -> Array:
        """The numbers themselves."""
        return self._values

    @values.setter
    def values(self, values: ArrayLike) -> None:
        self._write(self._values, values, "values")

    @property
    def gradient(self) -> Array:
        """The gradient of the loss by them."""
        return self._gradient

    @gradient.setter
    def gradient(self, gradient: ArrayLike) -> None:
        self._write(self._gradient, gradient, "gradient")

    @property
    def dtype(self) -> Any:
        """The type of both arrays."""
        return self._dtype

    def _write(self, own: Array, values: ArrayLike, name: str) -> None:
        array = arrays.real_array(values, name, self._dtype)
        if array.shape != own.shape:
            raise ValueError(f"{name}: expected shape {own.shape}, got {array.shape}")
        own[...] = array

    # ---- what an optimizer asks of a model -----------------------------------------------------

    @property
    def flat_parameters(self) -> Array:
        return self._values

    @property
    def flat_gradients(self) -> Array:
        return self._gradient

    @property
    def parameters(self) -> Arrays:
        return Arrays({"values": self._values})

    @property
    def _slices(self) -> dict[str, slice]:
        return {"values": slice(self._values.size)}

    def update(self, rule: Callable[[Array, Array], None]) -> None:
        """Run ``rule(values, gradient)``, which changes the values in place: what optimizers do."""
        rule(self._values, self._gradient)

    def __getstate__(self) -> tuple[Array, Array]:
        return self._values, self._gradient

    def __setstate__(self, state: tuple[Array, Array]) -> None:
        self._values, self._gradient = map(writable, state)
        self._dtype = self._values.dtype

    def __copy__(self) -> Vector:
        return copy.deepcopy(self)  # two of them do not share their numbers

    def __repr__(self) -> str:
        return f"Vector({self._values.tolist()}, dtype={self._dtype.name!r})"
