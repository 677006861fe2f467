"""Optimizers, in order of complexity: each is one pass over a model's flat vectors.

`optimizer.step(model)` after `model.backward(gradient)` updates the parameters p from their
gradients g.  What a kernel needs besides, its constants and the number of steps, stands in one
vector that it reads when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _checks, _kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.model import Sequential


NOT_FINITE = "the update is not finite for some parameters"


class Optimizer:
    """What all optimizers share.

    `learning_rate` may be set between steps.  `clip_norm`: where the norm of all gradients
    together exceeds it, they are scaled down to it (R. Pascanu, T. Mikolov, Y. Bengio, 2013).
    An optimizer belongs to the first model that it steps.

    Raises TypeError or ValueError for a constant out of its range.
    """

    _vectors: tuple[str, ...] = ()  # what it keeps for each parameter

    def __init__(self, learning_rate: float, clip_norm: float | None, **constants: float) -> None:
        self.hyper = np.zeros(len(_kernels.HYPER))
        self._set(gradient_scale=1.0, correction1=1.0, correction2=1.0, **constants)
        self.learning_rate = learning_rate
        self.clip_norm = None if clip_norm is None else _checks.positive(clip_norm, "clip_norm")
        self._model: Sequential | None = None
        self._buffers: tuple[NDArray[Any], ...] = ()

    @property
    def learning_rate(self) -> float:
        """The step's size, > 0."""
        return self._get("learning_rate")

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._set(learning_rate=_checks.positive(value, "learning_rate"))

    def step(self, model: Sequential) -> None:
        """Update the model's parameters in place from its gradients.

        Raises ValueError for a model without parameters, for another model than the first, and
        where a parameter array was replaced or made read-only; RuntimeError if the model is
        being trained by another thread; FloatingPointError where an update would be NaN or
        infinite: those parameters, and what the optimizer keeps for them, stay as they were.
        """
        if model is not self._model:
            self._bind(model)
        model.update(self._step)

    def _bind(self, model: Sequential) -> None:
        if self._model is not None:
            raise ValueError(
                f"model: {self!r} has stepped another model before; make an optimizer for each"
            )
        flat = model.flat_parameters
        if flat.size == 0:
            raise ValueError("model: expected one with parameters, got one without")
        self._buffers = tuple(np.zeros_like(flat) for _ in self._vectors)
        self._model = model

    def _step(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        if self.clip_norm is not None:
            _kernels.clip_norm(gradients, self.hyper, self.clip_norm)
        self._apply(parameters, gradients)
        if self._get("fault"):
            self._set(fault=0.0)
            raise FloatingPointError(NOT_FINITE)

    def _apply(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _apply")

    def _set(self, **constants: float) -> None:
        for name, value in constants.items():
            self.hyper[_kernels.HYPER[name]] = value

    def _get(self, name: str) -> float:
        return float(self.hyper[_kernels.HYPER[name]])

    def _repr(self, **constants: Any) -> str:
        if self.clip_norm is not None:
            constants["clip_norm"] = self.clip_norm
        text = "".join(f", {name}={value!r}" for name, value in constants.items())
        return f"{type(self).__name__}({self.learning_rate!r}{text})"

    def __repr__(self) -> str:
        return self._repr()


class SGD(Optimizer):
    """p -= learning_rate g.

    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
    >>> model.gradients["0.weight"][...] = 2.0
    >>> SGD(0.1).step(model)
    >>> model.parameters["0.weight"]
    array([[-0.2]], dtype=float32)
    """

    def __init__(self, learning_rate: float, clip_norm: float | None = None) -> None:
        super().__init__(learning_rate, clip_norm)

    def _apply(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        _kernels.sgd(parameters, gradients, self.hyper)


class Momentum(Optimizer):
    """v = beta v + g; p -= learning_rate v, or, with nesterov, p -= learning_rate (g + beta v).

    B. T. Polyak, 1964; Y. Nesterov, 1983, in the form of I. Sutskever et al., 2013, as written
    by Y. Bengio et al.  `beta` lies in [0, 1).

    >>> Momentum(0.1, beta=0.5)
    Momentum(0.1, beta=0.5, nesterov=False)
    """

    _vectors = ("velocity",)

    def __init__(
        self,
        learning_rate: float,
        beta: float = 0.9,
        nesterov: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, beta1=_checks.fraction(beta, "beta"))
        self.nesterov = bool(nesterov)

    def _apply(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        (velocity,) = self._buffers
        _kernels.momentum(parameters, gradients, velocity, self.hyper, self.nesterov)

    def __repr__(self) -> str:
        return self._repr(beta=self._get("beta1"), nesterov=self.nesterov)


class Nesterov(Momentum):
    """`Momentum` with nesterov: v = beta v + g; p -= learning_rate (g + beta v).

    >>> Nesterov(0.1)
    Nesterov(0.1, beta=0.9)
    """

    def __init__(
        self, learning_rate: float, beta: float = 0.9, clip_norm: float | None = None
    ) -> None:
        super().__init__(learning_rate, beta, True, clip_norm)

    def __repr__(self) -> str:
        return self._repr(beta=self._get("beta1"))


class RMSprop(Optimizer):
    """s = beta s + (1 - beta) g²; p -= learning_rate g / (sqrt(s) + eps).

    T. Tieleman, G. Hinton, 2012.  With `bias_correction`, s / (1 - beta^t) stands for s, t
    counting the steps.  `beta` lies in [0, 1), `eps` is > 0.

    >>> RMSprop(0.01)
    RMSprop(0.01, beta=0.9, eps=1e-08)
    """

    _vectors = ("mean_square",)

    def __init__(
        self,
        learning_rate: float,
        beta: float = 0.9,
        eps: float = 1e-8,
        bias_correction: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        constants = {"beta2": _checks.fraction(beta, "beta"), "eps": _checks.positive(eps, "eps")}
        super().__init__(learning_rate, clip_norm, **constants)
        self.bias_correction = bool(bias_correction)

    def _apply(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        if self.bias_correction:
            _kernels.adam_advance(self.hyper)
        (mean_square,) = self._buffers
        _kernels.rmsprop(parameters, gradients, mean_square, self.hyper)

    def __repr__(self) -> str:
        extra = {"bias_correction": True} if self.bias_correction else {}
        return self._repr(beta=self._get("beta2"), eps=self._get("eps"), **extra)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g²; then, t counting the steps,
    p -= learning_rate m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps).

    D. P. Kingma, J. Ba, 2015.  `beta1`, `beta2` lie in [0, 1), `eps` is > 0.

    >>> Adam()
    Adam(0.001, beta1=0.9, beta2=0.999, eps=1e-08)
    """

    _vectors = ("mean", "mean_square")

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        constants = {
            "beta1": _checks.fraction(beta1, "beta1"),
            "beta2": _checks.fraction(beta2, "beta2"),
            "eps": _checks.positive(eps, "eps"),
        }
        super().__init__(learning_rate, clip_norm, **constants)

    def _apply(self, parameters: NDArray[Any], gradients: NDArray[Any]) -> None:
        _kernels.adam_advance(self.hyper)
        mean, mean_square = self._buffers
        _kernels.adam(parameters, gradients, mean, mean_square, self.hyper)

    def _constants(self) -> dict[str, float]:
        return {name: self._get(name) for name in ("beta1", "beta2", "eps")}

    def __repr__(self) -> str:
        return self._repr(**self._constants())


class AdamW(Adam):
    """`Adam` after p -= learning_rate weight_decay p, weight_decay >= 0.

    I. Loshchilov, F. Hutter, 2019.  The decay takes all parameters, biases and norms too.

    >>> AdamW(weight_decay=0.1)
    AdamW(0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1)
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, eps, clip_norm)
        self._set(weight_decay=_checks.not_negative(weight_decay, "weight_decay"))

    def __repr__(self) -> str:
        return self._repr(**self._constants(), weight_decay=self._get("weight_decay"))
