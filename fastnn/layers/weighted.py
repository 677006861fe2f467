"""The base of layers with a weight, a bias and an activation: y = f(weight · x + bias)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn import initializers
from fastnn.layers import activations
from fastnn.layers.activations import Activation
from fastnn.layers.layer import Layer, Named, Placed
from fastnn.support import checks
from fastnn.support.settings import Fixed, Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.initializers import Initializer
    from fastnn.layers.layer import Pull


class Weighted(Layer, ABC):
    """y = f(weight · x + bias); the last axis of `weight` has out_features elements.

    A derived class defines the product, forward and backward."""

    native = True
    _pulls_several = True
    in_features: int
    out_features: int
    weight = Named("parameters")
    bias = Named("parameters")
    activation = Fixed[Activation]()
    has_bias = Fixed[bool]()
    weight_init = Fixed["Initializer | None"]()
    bias_init = Fixed["Initializer"]()
    l1 = Setting(checks.optional(checks.not_negative))
    l2 = Setting(checks.optional(checks.not_negative))
    _activation: Activation
    _l1: float | None
    _l2: float | None
    _weight: Any = Placed()
    _dweight: Any = Placed()
    _bias: Any = Placed(None)
    _dbias: Any = Placed(None)

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        activation: str | Activation | None,
        bias: bool,
        weight_init: str | Initializer | None,
        bias_init: str | Initializer,
        l1: float | None,
        l2: float | None,
    ) -> None:
        self._weight_shape, self._fan_in = weight_shape, math.prod(weight_shape[:-1])
        self.activation = activations.resolve(activation, "activation")
        self._fix(out_features=weight_shape[-1], activation_name=self.activation.activation_name)
        self.has_bias = checks.flag(bias, "bias")
        self.weight_init = (
            None if weight_init is None else initializers.resolve(weight_init, "weight_init")
        )
        self.bias_init = initializers.resolve(bias_init, "bias_init")
        self.l1, self.l2 = l1, l2

    def _read(self, x: NDArray[Any]) -> Any:
        """x in the form that the methods below take."""
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
        /,
    ) -> Any:
        """y = f(z), z = weight · x + bias, for an x from `_read`; with `keep_z` the pair (y, z).
        `packed` is the weight from `_pack`, or None."""

    @abstractmethod
    def _pack(self, weight: NDArray[Any]) -> NDArray[Any] | None:
        """A copy of the weight in the order in which the kernel reads it fastest, or None."""

    @abstractmethod
    def _set_gradient(self, x: Any, dz: NDArray[Any]) -> None:
        """Set the weight's gradient."""

    @abstractmethod
    def _input_gradient(self, x: Any, dz: NDArray[Any]) -> NDArray[Any]:
        """The gradient of the x that `_read` took."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"weight": self._weight_shape}
        if self.has_bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        initializer = self.weight_init or initializers.suitable_for(activation)
        initializers.fill(self._weight, initializer, rng, self._fan_in, self)
        if self._bias is not None:
            initializers.fill(self._bias, self.bias_init, rng, self._fan_in, self)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        x, f = self._read(x), self._activation
        if training and f._saves_input:
            y, z = self._multiply(x, self._weight, self._bias, f._kind, f._alpha, True)
            self._saved = (x, z)
            return y  # type: ignore[no-any-return]
        y = self._multiply(x, self._weight, self._bias, f._kind, f._alpha)
        if training:
            self._saved = (x, y)
        return y  # type: ignore[no-any-return]

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return self._input_gradient(*self._backward(dy))

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        self._backward(dy)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        x, f = self._read(x), self._activation
        y = saved = self._multiply(x, self._weight, self._bias, f._kind, f._alpha, f._saves_input)
        if f._saves_input:
            y, saved = y

        def pull(dy: NDArray[Any]) -> NDArray[Any]:
            if f._kind:
                dy = _kernels.activation_backward(saved, dy, f._kind, f._alpha)
            return self._input_gradient(x, dy)

        return y, pull

    def _backward(self, dy: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Set the gradients of parameters that are trained; returns x from `_read` and dz, where
        z = weight · x + bias."""
        (x, saved), f, dz = self._take(), self._activation, dy
        if f._kind:  # not the linear one
            dz = _kernels.activation_backward(saved, dy, f._kind, f._alpha)
        if not self._trainable:
            return x, dz
        self._set_gradient(x, dz)
        self._add_decay(dz.shape[0])
        if self._dbias is not None:
            _kernels.dense_backward_bias(dz.reshape(-1, self.out_features), self._dbias)
        return x, dz

    def _argument(self, name: str) -> Any:
        if name == "bias":  # self.bias is the array
            return self.has_bias
        if name == "activation":
            return activations.argument(self.activation)
        return super()._argument(name)

    def _add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        l1, l2 = self._penalties()
        if l1:
            _kernels.add_penalty_l1(value, self._weight, l1 / batch_size)
        if l2:
            _kernels.add_penalty(value, self._weight, l2 / (2 * batch_size))

    def _add_decay(self, batch_size: int) -> None:
        l1, l2 = self._penalties()
        if l1:
            _kernels.add_sign(self._dweight, self._weight, l1 / batch_size)
        if l2:
            _kernels.add_scaled(self._dweight, self._weight, l2 / batch_size)

    def _penalties(self) -> tuple[float, float]:
        """λ of L1 and of L2, the layer's or else the model's, times the part of the penalty that
        counts now; 0 for a layer that is frozen."""
        if self._place is None or not self._trainable:
            return 0.0, 0.0
        l1 = self._place.l1 if self._l1 is None else self._l1
        l2 = self._place.l2 if self._l2 is None else self._l2
        part = float(self._place.penalty_scale[0]) if l1 or l2 else 0.0
        return l1 * part, l2 * part
