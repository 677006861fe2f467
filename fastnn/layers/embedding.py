"""Embeddings: learnt features for codes, such as the categories of a column or words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn import initializers
from fastnn.layers.layer import Arrays, Layer, Named, Place, Placed
from fastnn.support import arrays, checks
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.initializers import Initializer
    from fastnn.layers.layer import Pull

_EXACT_FLOAT32 = 2**24  # float32 holds all integers up to this one


class Embedding(Layer):
    """y = weight[x]: features for each code, which are learnt.

    Shapes: `x` (batch, columns), whole numbers from 0 to n - 1 of any real type, `weight` (n,
    features), `y` (batch, columns, features): `Flatten` makes rows of it for a dense layer, and
    `Conv1D` takes it as it is.  It must be a model's first layer, where all columns are codes, or
    the first of a part of `Columns`, for codes beside columns of numbers.  The gradient of a code's
    features is summed over all its occurrences, in the order of the batch; codes have none.
    Weights begin normal with standard deviation 1 / sqrt(features), or as `weight_init` says.

    Raises TypeError or ValueError for counts that are no integers >= 1, for more codes than the
    model's dtype tells apart (2^24 in float32), if it is not the first layer, and in use for
    numbers that are no codes.

    >>> import numpy as np
    >>> from fastnn import Dense, Embedding, Flatten, Sequential
    >>> model = Sequential(Embedding(7, 4), Flatten(), Dense(2 * 4, 1))
    >>> model.predict(np.array([[0, 6], [3, 3]])).shape
    (2, 1)
    >>> model.predict(np.array([[0, 7]]))
    Traceback (most recent call last):
    ValueError: X: expected whole numbers from 0 to 6, the codes of Embedding(7, 4), got 7.0
    """

    native = True
    dimensions = 1
    out_dimensions = 2
    out_features: int
    codes = Fixed[int]()
    weight_init = Fixed["Initializer | None"]()
    weight = Named("parameters")
    _weight: Any = Placed()
    _dweight: Any = Placed()

    def __init__(
        self, n: int, features: int, *, weight_init: str | Initializer | None = None
    ) -> None:
        self.codes = checks.positive_int(n, "n")
        self._fix(out_features=checks.positive_int(features, "features"))
        self.weight_init = (
            None if weight_init is None else initializers.resolve(weight_init, "weight_init")
        )

    @property
    def _code_columns(self) -> tuple[tuple[Embedding, slice], ...]:
        return ((self, slice(None)),)

    @property
    def n(self) -> int:
        """How many codes there are."""
        return self.codes

    @property
    def features(self) -> int:
        """How many features each code has."""
        return self.out_features

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.codes, self.out_features)}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        return (*shape, self.out_features)

    def _build(self, parameters: Arrays, gradients: Arrays, place: Place) -> None:
        if place.dtype.itemsize == 4 and self.codes > _EXACT_FLOAT32:
            raise ValueError(f"{self!r}: float32 tells 2^24 codes apart; use dtype='float64'")
        super()._build(parameters, gradients, place)

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        initializer = self.weight_init or initializers.Xavier()
        initializers.fill(self._weight, initializer, rng, self._weight.shape[1], self)

    def check_codes(self, value: ArrayLike, name: str) -> None:
        """Raise ValueError, which names `name`, for a number that is no code.

        `value` is what the user passed: float32 would round 4.99999999 to a code."""
        is_float32 = getattr(value, "dtype", None) == np.float32
        x = arrays.real_array(value, name, np.dtype(np.float32 if is_float32 else np.float64))
        wrong = _kernels.first_no_code(x, self.codes)
        if wrong >= 0:
            raise ValueError(
                f"{name}: expected whole numbers from 0 to {self.codes - 1}, the codes of "
                f"{self!r}, got {x.flat[wrong]}"
            )

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._saved = (x,)
        return _kernels.embedding_forward(x, self._weight)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        raise RuntimeError(f"{self!r}: its inputs are codes, which have no gradient")

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        return self.forward(x), self.backward

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        (x,) = self._take()
        _kernels.embedding_backward(x, dy, self._dweight)
