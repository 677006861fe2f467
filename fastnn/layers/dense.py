"""Dense: every output is a weighted sum of all inputs, by the matrix product."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.layer import Placed
from fastnn.layers.weighted import Weighted
from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer
    from fastnn.layers.activations import Activation
    from fastnn.layers.layer import Arrays, Place


class Dense(Weighted):
    """y = f(x @ weight + bias).

    Shapes: `x` (batch, in_features), `weight` (in_features, out_features), `bias`
    (out_features,), `y` (batch, out_features).  `activation` is f: a name, an activation layer or
    None.  `weight_init`, `bias_init`: a name or an initializer; by default the weights suit the
    activation that follows, here or in a later layer (see `initializers`).  `l1` and `l2` are
    the λ of the penalties λ / batch Σ |weight| and λ / (2 batch) Σ weight², by default the model's;
    biases have no penalty.

    Raises TypeError or ValueError for a count that is no integer >= 1, an unknown name, and l1 or
    l2 < 0.

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
        l1: float | None = None,
        l2: float | None = None,
    ) -> None:
        self._fix(in_features=checks.positive_int(in_features, "in_features"))
        out_features = checks.positive_int(out_features, "out_features")
        shape = (self.in_features, out_features)
        super().__init__(shape, activation, bias, weight_init, bias_init, l1, l2)

    _multiply: Any = Placed(_kernels.dense_forward)
    _pack: Any = Placed(_kernels.pack_weight)
    _bfloat16: Any = Placed(False)

    def _build(self, parameters: Arrays, gradients: Arrays, place: Place) -> None:
        super()._build(parameters, gradients, place)
        self._multiply, self._pack = _kernels.dense_forward, _kernels.pack_weight
        self._bfloat16 = place.bfloat16
        if self._bfloat16:
            self._multiply = partial(_kernels.dense_forward, bfloat16=True)
            self._pack = partial(_kernels.pack_weight, bfloat16=True)

    def _set_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> None:
        _kernels.dense_backward_weight(x, dz, self._dweight, self._bfloat16)

    def _input_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dense_backward_input(dz, self._weight, self._bfloat16)
