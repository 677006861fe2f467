"""All layers by name; here stand Dense and Dropout, of which most networks are made.

Activations, norms and what changes shapes have files of their own, the base class stands in
_layer.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _checks, _kernels, activations, initializers
from fastnn._layer import Layer, Named, Place, Placed
from fastnn._settings import Fixed, Setting
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
from fastnn.normalization import BatchNorm, LayerNorm
from fastnn.shaping import Flatten, Residual

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Mish",
    "ReLU",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class Dense(Layer):
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

    native = True
    dimensions = 1
    in_features: int
    out_features: int
    weight = Named("parameters")
    bias = Named("parameters")
    activation = Fixed[Activation]()
    has_bias = Fixed[bool]()
    weight_init = Fixed["Initializer | None"]()
    bias_init = Fixed["Initializer"]()
    l2 = Setting(_checks.optional(_checks.not_negative))
    _activation: Activation
    _l2: float | None
    _weight: Any = Placed()
    _transient = (*Layer._transient, "_weight", "_bias", "_dweight", "_dbias", "_flat", "_dflat")

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
        self.out_features = _checks.positive_int(out_features, "out_features")
        self.activation = activations.resolve(activation, "activation")
        self.activation_name = self.activation.activation_name
        self._activation_text = repr(activation)
        self.has_bias = _checks.flag(bias, "bias")
        self.weight_init = (
            None if weight_init is None else initializers.resolve(weight_init, "weight_init")
        )
        self.bias_init = initializers.resolve(bias_init, "bias_init")
        self.l2 = l2
        self._softmax = isinstance(self.activation, Softmax)
        self._kind = 0 if self._softmax else self.activation._kind
        self._keeps_z = not self._softmax and self.activation._saves_input

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.in_features, self.out_features)}
        if self.has_bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def build(
        self,
        parameters: dict[str, NDArray[Any]],
        gradients: dict[str, NDArray[Any]],
        place: Place,
    ) -> None:
        super().build(parameters, gradients, place)
        self._weight, self._dweight = parameters["weight"], gradients["weight"]
        self._bias, self._dbias = parameters.get("bias"), gradients.get("bias")
        self._flat, self._dflat = self._weight.reshape(-1), self._dweight.reshape(-1)

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        initializer = self.weight_init or initializers.suitable_for(activation)
        initializers.fill(self._weight, initializer, rng, self.in_features, self)
        if self._bias is not None:
            initializers.fill(self._bias, self.bias_init, rng, self.in_features, self)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training and self._keeps_z:
            y, z = _kernels.dense_forward(
                x, self._weight, self._bias, self._kind, self._activation._alpha, True
            )
            self._saved = (x, z)
            return y
        alpha = self._activation._alpha
        y = _kernels.dense_forward(x, self._weight, self._bias, self._kind, alpha)
        if self._softmax:
            y = _kernels.softmax_forward(y)
        if training:
            self._saved = (x, y)
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return _kernels.dense_backward_input(self._backward(dy), self._weight)

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        self._backward(dy)

    def _backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        """Sets the parameters' gradients; returns dz, z being what the activation takes."""
        x, saved = self._take()
        dz = dy
        if self._softmax:
            dz = _kernels.softmax_backward(saved, dy)
        elif self._kind:
            dz = _kernels.activation_backward(saved, dy, self._kind, self._activation._alpha)
        _kernels.dense_backward_weight(x, dz, self._dweight)
        if decay := self._decay():
            _kernels.add_scaled(self._dflat, self._flat, decay / dz.shape[0], self.out_features)
        if self._dbias is not None:
            _kernels.dense_backward_bias(dz, self._dbias)
        return dz

    def add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        decay = self._decay()
        if decay:
            _kernels.add_penalty(value, self._flat, decay / (2 * batch_size))

    def _decay(self) -> float:
        if self._l2 is not None:
            return self._l2
        return 0.0 if self._place is None else self._place.l2

    def __repr__(self) -> str:
        text = f"Dense({self.in_features}, {self.out_features}"
        if self.activation_name != "linear":
            text += f", activation={self._activation_text}"
        if not self.has_bias:
            text += ", bias=False"
        if self.l2 is not None:
            text += f", l2={self.l2!r}"
        return text + ")"


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
