"""Dense: every output is a weighted sum of all inputs, by the matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.weighted import Weighted
from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer
    from fastnn.layers.activations import Activation


class Dense(Weighted):
    """y = f(x @ weight + bias).

    Shapes: `x` (batch, in_features), `weight` (in_features, out_features), `bias`
    (out_features,), `y` (batch, out_features).  `activation` is f: a name, an activation layer or
    None.  `weight_init`, `bias_init`: a name or an initializer; by default the weights suit the
    activation that follows, here or in a later layer (see `initializers`).  `l2` is the λ of the
    penalty λ / (2 batch) Σ weight², by default the model's; biases have no penalty.

    Raises TypeError or ValueError for a count that is no integer >= 1, an unknown name or l2 < 0.

    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(3, 2, activation="relu"))
    >>> model.layers[0].weight.shape, model.layers[0].bias
    ((3, 2), array([0., 0.], dtype=float32))
    """

    dimensions = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str | Activation | None = None,
        bias: bool = True,
        *,
        weight_init: str | Initializer | None = None,
        bias_init: str | Initializer = "zeros",
        l2: float | None = None,
    ) -> None:
        self._fix(in_features=checks.positive_int(in_features, "in_features"))
        out_features = checks.positive_int(out_features, "out_features")
        shape = (self.in_features, out_features)
        super().__init__(shape, activation, bias, weight_init, bias_init, l2)

    _multiply: Any = staticmethod(_kernels.dense_forward)
    _pack: Any = staticmethod(_kernels.pack_weight)

    def _set_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> None:
        _kernels.dense_backward_weight(x, dz, self._dweight)

    def _input_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dense_backward_input(dz, self._weight)
