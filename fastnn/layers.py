"""All layers by name; here stand Dense and Dropout, of which most networks are made.

Activations, norms and what changes shapes have files of their own, the base class stands in
_layer.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _checks, _kernels
from fastnn._layer import Layer, Place
from fastnn._settings import Setting
from fastnn._weighted import Weighted
from fastnn.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    LeakyReLU,
    Linear,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastnn.convolution import (
    AvgPool1D,
    AvgPool2D,
    Conv1D,
    Conv2D,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    MaxPool1D,
    MaxPool2D,
)
from fastnn.embedding import Embedding
from fastnn.normalization import BatchNorm, LayerNorm
from fastnn.shaping import Flatten, Residual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1D",
    "MaxPool2D",
    "Mish",
    "ReLU",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class Dense(Weighted):
    """y = f(x @ weight + bias).

    Shapes: `x` (batch, in_features), `weight` (in_features, out_features), `bias`
    (out_features,), `y` (batch, out_features).  `activation` f: a name, an activation layer or
    None.  `weight_init`, `bias_init`: a name or an initializer; by default weights begin as suits
    the activation that follows, here or as a later layer (see `initializers`).  `l2` is the λ of
    the penalty λ / (2 batch) Σ weight², by default the model's; biases have none.

    Raises TypeError or ValueError for a count that is no integer >= 1, an unknown name, l2 < 0.

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
        self.in_features = _checks.positive_int(in_features, "in_features")
        out_features = _checks.positive_int(out_features, "out_features")
        shape = (self.in_features, out_features)
        super().__init__(shape, activation, bias, weight_init, bias_init, l2)

    def _multiply(
        self,
        x: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        kind: int,
        alpha: float,
        keep_z: bool = False,
        packed: NDArray[Any] | None = None,
    ) -> Any:
        return _kernels.dense_forward(x, weight, bias, kind, alpha, keep_z, packed)

    def _pack(self, weight: NDArray[Any]) -> NDArray[Any]:
        return _kernels.pack_weight(weight)

    def _set_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> None:
        _kernels.dense_backward_weight(x, dz, self._dweight)

    def _input_gradient(self, x: NDArray[Any], dz: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dense_backward_input(dz, self._weight)

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features}{self._options()})"


class Dropout(Layer):
    """In training, sets elements to 0 with probability `rate` and scales the rest to make up.

    y = x keep / (1 - rate), inverted dropout (N. Srivastava et al., 2014), so that evaluation is
    the identity.  `rate`, in [0, 1), is rounded to a multiple of 2^-16 and the scale is that of
    the rounded rate.  The mask depends on the model's seed, the number of its training passes so
    far, the layer's index, the row and the column, and on nothing else.

    Raises ValueError or TypeError for another `rate`; RuntimeError for a training `forward`
    outside a model.

    >>> import numpy as np
    >>> from fastnn import Dropout, Sequential
    >>> model = Sequential(Dropout(0.5), seed=0, dtype="float64")
    >>> model.forward(np.ones((1, 4)))
    array([[1., 1., 1., 1.]])
    >>> sorted(set(model.forward(np.ones((8, 8)), training=True).ravel().tolist()))
    [0.0, 2.0]
    """

    native = True
    random = True
    rate = Setting(_checks.fraction)
    _rate: float
    _transient = (*Layer._transient, "_counter")

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def build(
        self,
        parameters: dict[str, NDArray[Any]],
        gradients: dict[str, NDArray[Any]],
        place: Place,
    ) -> None:
        super().build(parameters, gradients, place)
        self._seed, self._counter, self._index = place.seed, place.counter, place.position

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if not training:
            return x
        if self._place is None:
            raise RuntimeError(f"{self!r} draws its mask from a model: it is part of none yet")
        y, mask = _kernels.dropout_forward(x, self._rate, self._seed, self._counter, self._index)
        self._saved = (mask, self._rate)
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dropout_backward(dy, *self._take())

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r})"
