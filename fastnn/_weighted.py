"""What layers with a weight, a bias and an activation share: y = f(weight · x + bias)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fastnn import _checks, _kernels, activations, initializers
from fastnn._layer import Layer, Named, Place, Placed
from fastnn._settings import Fixed, Setting
from fastnn.activations import Activation, Softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer


class Weighted(Layer, ABC):
    """A linear map of the inputs by `weight`, whose last axis is out_features, then `bias` and
    an activation; a derived class says how it multiplies, both ways."""

    native = True
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
        weight_shape: tuple[int, ...],
        activation: str | Activation | None,
        bias: bool,
        weight_init: str | Initializer | None,
        bias_init: str | Initializer,
        l2: float | None,
    ) -> None:
        self._weight_shape, self._fan_in = weight_shape, math.prod(weight_shape[:-1])
        self.out_features = weight_shape[-1]
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

    def _read(self, x: NDArray[Any]) -> Any:
        """x as the others want it, both ways."""
        return x

    @abstractmethod
    def _multiply(
        self,
        x: Any,
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        kind: int,
        alpha: float,
        keep_z: bool = False,
        packed: NDArray[Any] | None = None,
    ) -> Any:
        """f(weight · x + bias), x being `_read`, with keep_z also what f took; packed: `_pack`."""

    @abstractmethod
    def _pack(self, weight: NDArray[Any]) -> NDArray[Any] | None:
        """A copy of the weight as the kernels read it fastest."""

    @abstractmethod
    def _set_gradient(self, x: Any, dz: NDArray[Any]) -> None:
        """Of the weight."""

    @abstractmethod
    def _input_gradient(self, x: Any, dz: NDArray[Any]) -> NDArray[Any]:
        """Of x, before `_read`."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"weight": self._weight_shape}
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
        initializers.fill(self._weight, initializer, rng, self._fan_in, self)
        if self._bias is not None:
            initializers.fill(self._bias, self.bias_init, rng, self._fan_in, self)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        x, alpha = self._read(x), self._activation._alpha
        if training and self._keeps_z:
            y, z = self._multiply(x, self._weight, self._bias, self._kind, alpha, True)
            self._saved = (x, z)
            return y  # type: ignore[no-any-return]
        y = self._multiply(x, self._weight, self._bias, self._kind, alpha)
        if self._softmax:
            y = _kernels.softmax_forward(y)
        if training:
            self._saved = (x, y)
        return y  # type: ignore[no-any-return]

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return self._input_gradient(*self._backward(dy))

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        self._backward(dy)

    def _backward(self, dy: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Sets the parameters' gradients; returns x and dz, z being what the activation takes."""
        x, saved = self._take()
        dz = dy
        if self._softmax:
            dz = _kernels.softmax_backward(saved, dy)
        elif self._kind:
            dz = _kernels.activation_backward(saved, dy, self._kind, self._activation._alpha)
        self._set_gradient(x, dz)
        if decay := self._decay():
            _kernels.add_scaled(self._dflat, self._flat, decay / dz.shape[0])
        if self._dbias is not None:
            _kernels.dense_backward_bias(dz.reshape(-1, self.out_features), self._dbias)
        return x, dz

    def add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        decay = self._decay()
        if decay:
            _kernels.add_penalty(value, self._flat, decay / (2 * batch_size))

    def _decay(self) -> float:
        """The batch's part of λ."""
        if self._place is None:
            return 0.0 if self._l2 is None else self._l2
        decay = self._place.l2 if self._l2 is None else self._l2
        return decay * float(self._place.share[0])

    def _options(self) -> str:
        """What of the settings is not the default, for repr."""
        text = ""
        if self.activation_name != "linear":
            text += f", activation={self._activation_text}"
        if not self.has_bias:
            text += ", bias=False"
        if self.l2 is not None:
            text += f", l2={self.l2!r}"
        return text
