"""The rules by which parameters get their first values: one small class for each.

An initializer is any callable `f(rng, shape, fan_in)` that returns an array of that shape; the
values are drawn in float64 and rounded to the model's dtype, so that both dtypes begin alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import checks
from fastnn.support.settings import Fixed, Guarded

if TYPE_CHECKING:  # numpy.random is not imported before it is needed
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import NDArray

    Shape: TypeAlias = tuple[int, ...]
    Initializer: TypeAlias = Callable[[np.random.Generator, Shape, int], NDArray[Any]]

__all__ = ["He", "HeUniform", "Normal", "Orthogonal", "Xavier", "XavierUniform", "Zeros"]


class Zeros(Guarded):
    """0 everywhere: for biases, as units whose weights are all 0 would never learn to differ.

    >>> Zeros()(np.random.default_rng(0), (2,), 3)
    array([0., 0.])
    """

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return np.zeros(shape)


class Normal(Guarded):
    """Normal with standard deviation `std` (> 0, else ValueError), regardless of the fan in.

    >>> Normal(0.1)
    Normal(std=0.1)
    """

    std = Fixed[float]()

    def __init__(self, std: float = 0.01) -> None:
        self.std = checks.positive(std, "std")

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return rng.normal(0.0, self.std, shape)


class Xavier(Guarded):
    """Normal with standard deviation sqrt(1 / n), n the fan in: for sigmoid, tanh, SELU, linear.

    Outputs have the variance of the inputs (X. Glorot, Y. Bengio, 2010; LeCun et al., 1998).

    >>> w = Xavier()(np.random.default_rng(0), (400, 100), 400)
    >>> round(float(w.std()), 3)
    0.05
    """

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return rng.normal(0.0, math.sqrt(1.0 / fan_in), shape)


class He(Guarded):
    """Normal with standard deviation sqrt(2 / n), n the fan in: for ReLU and its like.

    Twice the variance makes up for the half that ReLU cuts off (K. He, X. Zhang, S. Ren, J. Sun,
    2015).

    >>> w = He()(np.random.default_rng(0), (200, 100), 200)
    >>> round(float(w.std()), 2)
    0.1
    """

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)


class XavierUniform(Guarded):
    """Uniform in ± sqrt(3 / n), n the fan in: the variance of `Xavier`.

    >>> w = XavierUniform()(np.random.default_rng(0), (3, 100), 3)
    >>> bool(abs(w).max() < 1)
    True
    """

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return uniform(rng, math.sqrt(3.0 / fan_in), shape)


class HeUniform(Guarded):
    """Uniform in ± sqrt(6 / n), n the fan in: the variance of `He`.

    >>> w = HeUniform()(np.random.default_rng(0), (6, 100), 6)
    >>> bool(abs(w).max() < 1)
    True
    """

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        return uniform(rng, math.sqrt(6.0 / fan_in), shape)


class Orthogonal(Guarded):
    """A random orthogonal matrix times `gain` (> 0, else ValueError): it keeps lengths.

    A. Saxe, J. McClelland, S. Ganguli, 2014.  The weight counts as a matrix (fan in, out): its
    columns are orthogonal, or its rows where there are fewer of these.  The gain is by habit
    sqrt(2) for hidden layers of policies and critics, 0.01 for a policy's last one.  It takes about
    n³ operations, in float64 and in a fixed order, so that the bits do not depend on NumPy's BLAS.

    >>> w = Orthogonal(2.0)(np.random.default_rng(0), (5, 3), 5)
    >>> (w.T @ w).round(12) + 0.0
    array([[4., 0., 0.],
           [0., 4., 0.],
           [0., 0., 4.]])
    """

    gain = Fixed[float]()

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = checks.positive(gain, "gain")

    def __call__(self, rng: np.random.Generator, shape: Shape, fan_in: int) -> NDArray[Any]:
        matrix = rng.normal(size=(math.prod(shape[:-1]), shape[-1]))
        is_wide = matrix.shape[0] < matrix.shape[1]
        q = np.ascontiguousarray(matrix.T if is_wide else matrix)
        for _ in range(2):  # the second time removes what rounding left
            _orthogonalize(q)
        return self.gain * (q.T if is_wide else q).reshape(shape)


def _orthogonalize(q: NDArray[Any]) -> None:
    """Gram-Schmidt, in place: each column, at length 1, is taken out of those behind it.

    Sums run along the rows, one after the other, as no BLAS would promise."""
    for j in range(q.shape[1]):
        unit = q[:, j : j + 1]
        unit /= np.sqrt((unit * unit).sum(axis=0))
        rest = q[:, j + 1 :]
        rest -= unit * (unit * rest).sum(axis=0)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": Zeros(),
    "normal": Normal(),
    "xavier": Xavier(),
    "he": He(),
    "xavier_uniform": XavierUniform(),
    "he_uniform": HeUniform(),
    "orthogonal": Orthogonal(),
}

_HE_ACTIVATIONS = frozenset({"relu", "leaky_relu", "elu", "silu", "gelu", "mish"})


def resolve(initializer: str | Initializer, name: str) -> Initializer:
    """The initializer that a name or an initializer stands for; errors name the argument `name`.

    >>> resolve("he", "weight_init")
    He()
    """
    if callable(initializer):
        if isinstance(initializer, type):
            raise TypeError(f"{name}: expected an initializer, got the class {initializer!r}")
        return initializer
    return INITIALIZERS[checks.choice(initializer, name, INITIALIZERS)]


def suitable_for(activation: str) -> Initializer:
    """The default initializer of weights before this activation.

    >>> suitable_for("relu"), suitable_for("tanh")
    (He(), Xavier())
    """
    return INITIALIZERS["he" if activation in _HE_ACTIVATIONS else "xavier"]


def uniform(rng: np.random.Generator, limit: float, shape: Shape) -> NDArray[Any]:
    """Numbers in ± `limit`: those of ``rng.uniform``, where compilers may join product and sum."""
    return 2 * limit * rng.random(shape) - limit


def fill(
    array: NDArray[Any], initializer: Initializer, rng: np.random.Generator, fan_in: int, owner: Any
) -> None:
    """Set `array` in place; ValueError, which names `owner`, for a result that does not fit."""
    values = np.asarray(initializer(rng, array.shape, fan_in))
    if values.shape != array.shape or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{owner!r}: expected real numbers of shape {array.shape} from its initializer "
            f"{initializer!r}, got {values.dtype} of shape {values.shape}"
        )
    array[...] = values
