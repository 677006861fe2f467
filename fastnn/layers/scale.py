"""Scale: one trainable factor for each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.layer import Layer, Named, Placed
from fastnn.support import checks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull

_LINEAR = _kernels.ACTIVATIONS["linear"]  # for which the parametric kernels give scale x


class Scale(Layer):
    """y = scale x: a factor for each feature, which is learnt.

    Before the first dense layer it lets a network choose among its inputs (RealMLP: D. Holzmüller,
    L. Grinsztajn, I. Steinwart, 2024).  `scale` begins as 1.
    Shapes: `x`, `y` (batch, ..., features); parameter `scale` (features,).

    Raises ValueError or TypeError for `features` < 1.

    >>> from fastnn import Dense, Scale, Sequential
    >>> model = Sequential(Scale(2), Dense(2, 1))
    >>> model.layers[0].scale
    array([1., 1.], dtype=float32)
    """

    native = True
    _pulls_several = True
    in_features: int
    scale = Named("parameters")
    _scale: Any = Placed()
    _dscale: Any = Placed()

    def __init__(self, features: int) -> None:
        features = checks.positive_int(features, "features")
        self._fix(in_features=features, out_features=features)

    @property
    def features(self) -> int:
        """How many features the layer scales."""
        return self.in_features

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"scale": (self.in_features,)}

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        self._scale.fill(1.0)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._saved = (x,)
        return _kernels.parametric_forward(x, self._scale, _LINEAR)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        (x,) = self._take()
        dscale = self._dscale if self._trainable else None
        return _kernels.parametric_backward(x, dy, self._scale, dscale, _LINEAR)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        scale = self._scale
        return self.forward(x), lambda dy: _kernels.parametric_forward(dy, scale, _LINEAR)
