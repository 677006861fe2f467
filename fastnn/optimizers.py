"""Optimizers, in order of complexity: one pass over a model's flat vectors, or, in a program, array
by array.

`optimizer.step(model)` after `model.backward(gradient)` updates the parameters p from their
gradients g.  The kernel reads its constants and the number of steps from the vector `hyper`, so
that a recorded program takes their present values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.support import checks
from fastnn.support.arrays import aligned_zeros, writable
from fastnn.support.settings import Fixed, Guarded, Settable, Setting, settable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fastnn.network import Network
    from fastnn.vector import Vector

    Array = NDArray[Any]

NOT_FINITE = "the update is not finite for some parameters"


class _Number(Settable):
    """A number in `hyper`, which kernels read when they run: a change outdates no program."""

    def __init__(self, check: Callable[[Any, str], float], slot: str) -> None:
        self.check, self.slot = check, slot

    def __set_name__(self, owner: type[Optimizer], name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type[Optimizer]) -> Any:
        return self if optimizer is None else optimizer._get(self.slot)

    def __set__(self, optimizer: Optimizer, value: float) -> None:
        number = self.check(value, self.name)
        if optimizer._model is not None:
            self.check_fits(number, optimizer._model.dtype)
        optimizer._set(**{self.slot: number})

    def check_fits(self, number: float, dtype: np.dtype[Any]) -> None:
        checks.fits(number, self.name, dtype)
        if self.check is checks.fraction and dtype.type(number) == 1:
            raise ValueError(f"{self.name}: {number!r} is 1 in {dtype}")


class _Switch(Setting[Any]):
    """A setting whose change resets what earlier steps left in `hyper`."""

    def __set__(self, instance: object, value: Any) -> None:
        super().__set__(instance, value)
        assert isinstance(instance, Optimizer)
        instance._set(gradient_scale=1.0, correction1=1.0, correction2=1.0)


class Optimizer(Guarded):
    """Base of the optimizers.

    All arguments of the constructor may be set between steps.
    `learning_rate`: the step's size, > 0.  `clip_norm`: if the norm of all gradients together
    exceeds it, they are scaled down to it (R. Pascanu, T. Mikolov, Y. Bengio, 2013); None for
    never.  An optimizer belongs to the first model that it steps.

    Raises TypeError or ValueError for a constant out of its range.
    """

    _vectors: tuple[str, ...] = ()  # the names of its vectors, each as long as the parameters
    _model: Network | Vector | None = None
    _buffers: tuple[Array, ...] = ()
    _hyper: NDArray[np.float64]
    _clip_norm: float | None
    hyper = Fixed["NDArray[np.float64]"]()
    learning_rate = _Number(checks.positive, "learning_rate")
    clip_norm = _Switch(checks.optional(checks.positive))

    def __init__(self, learning_rate: float, clip_norm: float | None) -> None:
        self.hyper = np.zeros(len(_kernels.HYPER))
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._hyper = writable(self._hyper)  # joblib hands out read-only memory
        self._buffers = tuple(map(writable, self._buffers))

    def step(self, model: Network | Vector) -> None:
        """Update the parameters of a model, or of a `Vector`, in place from its gradients.

        Raises ValueError for a model without parameters, for another model than the first, and if
        a parameter array was made read-only; RuntimeError before any backward, and if another
        thread is training the model; FloatingPointError if an update would be NaN or infinite:
        those parameters, and the optimizer's numbers for them, do not change.
        """
        if model is not self._model:
            self._bind(model)
        model.update(self._step)

    def _bind(self, model: Network | Vector) -> None:
        if self._model is not None:
            raise ValueError(
                f"model: {self!r} has stepped another model before; make an optimizer for each"
            )
        self._check_suits(model)
        if not (model._passes or model.flat_gradients.any()):
            raise RuntimeError("no gradients yet: call model.backward(gradient) before step(model)")
        self._attach(model)

    def _check_suits(self, model: Network | Vector) -> None:
        if model.flat_parameters.size == 0:
            raise ValueError("model: expected one with parameters, got one without")
        for name, setting in settable(type(self)).items():
            if isinstance(setting, _Number):
                setting.check_fits(getattr(self, name), model.dtype)

    def _attach(self, model: Network | Vector) -> None:
        """Let the optimizer belong to this model, with vectors of zeros for it."""
        flat = model.flat_parameters
        self._buffers = tuple(aligned_zeros(flat.size, flat.dtype) for _ in self._vectors)
        self._model = model

    def _arrays(self) -> dict[str, Array]:
        """Views of its vectors by names such as ``"mean.0.weight"``; none before it has a model."""
        if self._model is None:
            return {}
        slices = self._model._slices
        return {
            f"{vector}.{name}": buffer[slices[name]].reshape(parameter.shape)
            for vector, buffer in zip(self._vectors, self._buffers, strict=True)
            for name, parameter in self._model.parameters.items()
        }

    def _step(self, parameters: Array, gradients: Array) -> None:
        if self._clip_norm is not None:
            _kernels.clip_norm(gradients, self._hyper, self._clip_norm)
        self._begin()
        for at in self._slices():
            state = (buffer[at] for buffer in self._buffers)
            self._apply(parameters[at], gradients[at], *state)
        if self._get("fault"):
            self._set(fault=0.0)
            raise FloatingPointError(NOT_FINITE)

    def _slices(self) -> list[slice]:
        """The elements that each call updates: all in one call, but array by array in a program,
        where a thread goes on from its piece of a gradient to the update of these elements."""
        if self._model is not None and _kernels.recording():
            return list(self._model._slices.values())
        return [slice(None)]

    def _begin(self) -> None:
        """Advance what changes once a step, before all updates."""

    def _apply(self, parameters: Array, gradients: Array, *state: Array) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _apply")

    def _set(self, **constants: float) -> None:
        for name, value in constants.items():
            self._hyper[_kernels.HYPER[name]] = value

    def _get(self, name: str) -> float:
        return float(self._hyper[_kernels.HYPER[name]])


class SGD(Optimizer):
    """p -= learning_rate g.

    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
    >>> model.gradients["0.weight"][...] = 2.0
    >>> SGD(0.1).step(model)
    >>> model.parameters["0.weight"]
    array([[-0.2]], dtype=float32)
    """

    def __init__(self, learning_rate: float, *, clip_norm: float | None = None) -> None:
        super().__init__(learning_rate, clip_norm)

    def _apply(self, parameters: Array, gradients: Array, *state: Array) -> None:
        _kernels.sgd(parameters, gradients, self._hyper)


class Momentum(Optimizer):
    """v = beta v + g; p -= learning_rate v, or, with nesterov, p -= learning_rate (g + beta v).

    B. T. Polyak, 1964; Y. Nesterov, 1983, in the form of I. Sutskever et al., 2013, as written
    by Y. Bengio et al.  `beta` lies in [0, 1).

    >>> Momentum(0.1, beta=0.5)
    Momentum(0.1, beta=0.5)
    """

    _vectors = ("velocity",)
    beta = _Number(checks.fraction, "beta1")
    nesterov: Setting[bool] | Fixed[bool] = Setting(checks.flag)
    _nesterov: bool

    def __init__(
        self,
        learning_rate: float,
        *,
        beta: float = 0.9,
        nesterov: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.beta, self.nesterov = beta, nesterov

    def _apply(self, parameters: Array, gradients: Array, *state: Array) -> None:
        (velocity,) = state
        _kernels.momentum(parameters, gradients, velocity, self._hyper, self._nesterov)


class Nesterov(Momentum):
    """`Momentum` with nesterov: v = beta v + g; p -= learning_rate (g + beta v).

    >>> Nesterov(0.1)
    Nesterov(0.1)
    """

    nesterov = Fixed[bool]()

    def __init__(
        self, learning_rate: float, *, beta: float = 0.9, clip_norm: float | None = None
    ) -> None:
        super().__init__(learning_rate, beta=beta, nesterov=True, clip_norm=clip_norm)


class RMSprop(Optimizer):
    """s = beta s + (1 - beta) g²; p -= learning_rate g / (sqrt(s) + eps).

    T. Tieleman, G. Hinton, 2012.  With `bias_correction`, s / (1 - beta^t) replaces s, where t
    counts the steps that had it.  `beta` lies in [0, 1), `eps` is > 0.

    >>> RMSprop(0.01)
    RMSprop(0.01)
    """

    _vectors = ("mean_square",)
    beta = _Number(checks.fraction, "beta2")
    eps = _Number(checks.positive, "eps")
    bias_correction = _Switch(checks.flag)
    _bias_correction: bool

    def __init__(
        self,
        learning_rate: float,
        *,
        beta: float = 0.9,
        eps: float = 1e-8,
        bias_correction: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.beta, self.eps, self.bias_correction = beta, eps, bias_correction

    def _begin(self) -> None:
        if self._bias_correction:
            _kernels.adam_advance(self._hyper)

    def _apply(self, parameters: Array, gradients: Array, *state: Array) -> None:
        (mean_square,) = state
        _kernels.rmsprop(parameters, gradients, mean_square, self._hyper)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g²; then, in step t,
    p -= learning_rate m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps).

    D. P. Kingma, J. Ba, 2015.  `beta1`, `beta2` lie in [0, 1), `eps` is > 0.

    >>> Adam(0.01, beta2=0.99)
    Adam(learning_rate=0.01, beta2=0.99)
    """

    _vectors = ("mean", "mean_square")
    beta1 = _Number(checks.fraction, "beta1")
    beta2 = _Number(checks.fraction, "beta2")
    eps = _Number(checks.positive, "eps")

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def _begin(self) -> None:
        _kernels.adam_advance(self._hyper)

    def _apply(self, parameters: Array, gradients: Array, *state: Array) -> None:
        mean, mean_square = state
        _kernels.adam(parameters, gradients, mean, mean_square, self._hyper)


class AdamW(Adam):
    """`Adam` after p -= learning_rate weight_decay p, weight_decay >= 0.

    I. Loshchilov, F. Hutter, 2019.  All parameters decay, also those of biases and norms.

    >>> AdamW(weight_decay=0.1)
    AdamW(weight_decay=0.1)
    """

    weight_decay = _Number(checks.not_negative, "weight_decay")

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta1=beta1, beta2=beta2, eps=eps, clip_norm=clip_norm)
        self.weight_decay = weight_decay
