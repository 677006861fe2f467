"""PeriodicEmbedding: features of numbers made of waves, whose frequencies are learnt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn import initializers
from fastnn.layers.layer import Layer, Named, Placed
from fastnn.support import checks
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class PeriodicEmbedding(Layer):
    """y_j = [x_j, c_j weight_j + bias_j], c_jk = cos(2π (x_j frequency_jk + phase_jk)), for each j.

    Each number becomes itself and out - 1 learnt functions of it, by which a network follows what
    changes quickly along one column of a table: PBLD, "periodic, bias, linear, densenet", of
    RealMLP (D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024; Y. Gorishniy, I. Rubachev,
    A. Babenko, 2022).  Inputs should have about unit size (`Standardizer`).

    Shapes: `x` (batch, features), `y` (batch, features * out): the `out` numbers of the first
    feature, then those of the second.  Parameters: `frequency`, `phase` (features, frequencies),
    `weight` (features, frequencies, out - 1), `bias` (features, out - 1).  They begin as
    sigma N(0, 1), U(-1/2, 1/2), and both U(-1, 1) / sqrt(frequencies).  The phase is in turns: to
    learn with Adam as fast as one in radians, it takes the learning-rate factor 1 / (2π).

    Raises TypeError or ValueError for `features` < 1, `frequencies` outside 1 to 256, `out` outside
    2 to 64, and `sigma` <= 0.

    >>> import numpy as np
    >>> from fastnn import Dense, PeriodicEmbedding, Sequential
    >>> model = Sequential(PeriodicEmbedding(3), Dense(12, 1), seed=0)
    >>> y = model.layers[0].forward(np.array([[1.0, 2.0, 3.0]], np.float32))
    >>> y.shape, y[0, ::4]
    ((1, 12), array([1., 2., 3.], dtype=float32))
    """

    native = True
    dimensions = 1
    in_features: int
    frequencies = Fixed[int]()
    out = Fixed[int]()
    sigma = Fixed[float]()
    frequency = Named("parameters")
    phase = Named("parameters")
    weight = Named("parameters")
    bias = Named("parameters")
    _frequency: Any = Placed()
    _phase: Any = Placed()
    _weight: Any = Placed()
    _bias: Any = Placed()

    def __init__(
        self, features: int, frequencies: int = 16, out: int = 4, sigma: float = 0.1
    ) -> None:
        features = checks.positive_int(features, "features")
        self.frequencies = checks.whole(frequencies, "frequencies", 1, _kernels.MOST_FREQUENCIES)
        self.out = checks.whole(out, "out", 2, _kernels.MOST_OUT)
        self.sigma = checks.positive(sigma, "sigma")
        self._fix(in_features=features, out_features=features * self.out)

    @property
    def features(self) -> int:
        """How many numbers a row has."""
        return self.in_features

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        n, k, others = self.in_features, self.frequencies, self.out - 1
        return {"frequency": (n, k), "phase": (n, k), "weight": (n, k, others), "bias": (n, others)}

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        limit = 1.0 / math.sqrt(self.frequencies)
        self._frequency[...] = rng.normal(0.0, self.sigma, self._frequency.shape)
        self._phase[...] = initializers.uniform(rng, 0.5, self._phase.shape)
        self._weight[...] = initializers.uniform(rng, limit, self._weight.shape)
        self._bias[...] = initializers.uniform(rng, limit, self._bias.shape)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._saved = (x,)
        waves = self._frequency, self._phase, self._weight
        return _kernels.periodic_forward(x, *waves, self._bias)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return self._backward(dy, True)  # type: ignore[no-any-return]

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        self._backward(dy, False)

    def _backward(self, dy: NDArray[Any], input_gradient: bool) -> Any:
        (x,) = self._take()
        gradients = [*self.gradients.values()] if self._trainable else None
        waves = self._frequency, self._phase, self._weight
        return _kernels.periodic_backward(x, dy, *waves, gradients, input_gradient)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        waves = self._frequency, self._phase, self._weight
        return self.forward(x), lambda dy: _kernels.periodic_backward(x, dy, *waves)
