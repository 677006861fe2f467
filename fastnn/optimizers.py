"""Optimizers, in order of complexity: one pass over a model's flat vectors, or, in a program, array
by array.  Frozen layers are left out, and arrays may have factors of their own.

`optimizer.step(model)` after `model.backward(gradient)` updates the parameters p from their
gradients g.  The kernel reads its constants and the number of steps from the vector `hyper`, so
that a recorded program takes their present values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers.weighted import Weighted
from fastnn.support import checks, settings
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
        instance._set(gradient_scale=1.0, correction1=1.0, correction2=1.0, mean_rate=1.0)


class _Factors(Setting[Any]):
    """Factors of a number by patterns of parameters' names."""

    def __init__(self) -> None:
        super().__init__(_checked_factors)

    def __get__(self, optimizer: object | None, owner: type) -> Any:
        return self if optimizer is None else MappingProxyType(getattr(optimizer, self.slot))

    def __set__(self, optimizer: object, value: Mapping[str, float] | None) -> None:
        assert isinstance(optimizer, Optimizer)
        if optimizer._model is not None:
            self.check_matches(_checked_factors(value, self.name), optimizer._model)
        super().__set__(optimizer, value)

    def check_matches(self, factors: Mapping[str, float], model: Network | Vector) -> None:
        """Raise ValueError for a pattern that no parameter of the model matches."""
        for pattern in factors:
            if not any(fnmatchcase(name, pattern) for name in model.parameters):
                raise ValueError(
                    f"{self.name}: expected patterns of the model's parameters, such as "
                    f"'*.weight' or {next(iter(model.parameters))!r}, got {pattern!r}, which "
                    "matches none"
                )


def _checked_factors(value: Any, name: str) -> dict[str, float]:
    """A dict of patterns and their factors, finite and >= 0; None stands for an empty one."""
    if value is None:
        return {}
    wanted = f"{name}: expected a dict such as {{'*.bias': 0.5}}, pattern: factor"
    if not isinstance(value, Mapping):
        raise TypeError(f"{wanted}, got {value!r}")
    for pattern in value:
        if not isinstance(pattern, str):
            raise TypeError(f"{wanted}, got the pattern {pattern!r}")
    return {key: checks.not_negative(factor, f"{name}: {key!r}") for key, factor in value.items()}


def _factor(factors: Mapping[str, float], name: str) -> float:
    """The factor of the last pattern that the parameter's name matches; 1 if there is none."""
    matching = (factors[pattern] for pattern in reversed([*factors]) if fnmatchcase(name, pattern))
    return next(matching, 1.0)


class _Part(NamedTuple):
    """Elements of the flat vectors that are updated in one call, and the factors of their learning
    rate and weight decay."""

    at: slice
    rate: float
    decay: float


class _Plan(NamedTuple):
    """What an optimizer updates as long as no setting changes."""

    changes: int  # those of settings so far
    apart: list[_Part]  # array by array
    together: list[_Part]  # neighbours of the same factors in one


class Optimizer(Guarded):
    """Base of the optimizers.

    All arguments of the constructor may be set between steps.
    `learning_rate`: the step's size, > 0.  `learning_rate_factors`: a dict of patterns and factors
    >= 0, such as ``{"0.*": 0.1, "*.bias": 2.0}``; the learning rate of a parameter is multiplied by
    the factor of the last pattern that its name in ``model.parameters`` matches, as `fnmatch` says
    (* for anything, ? for a character, [01] for one of these).  `clip_norm`: if the norm of all
    gradients together exceeds it, they are scaled down to it (R. Pascanu, T. Mikolov, Y. Bengio,
    2013).  `clip_value`: gradients are clipped in place into [-clip_value, clip_value], before
    their norm.  None for neither.  Frozen layers (``layer.trainable = False``) are left out.  An
    optimizer belongs to the first model that it steps.

    Raises TypeError or ValueError for a constant out of its range, and for a pattern that matches
    no parameter as soon as the model is known.
    """

    _vectors: tuple[str, ...] = ()  # the names of its vectors, each as long as the parameters
    _model: Network | Vector | None = None
    _buffers: tuple[Array, ...] = ()
    _hyper: NDArray[np.float64]
    _plan: _Plan | None = None
    _clip_norm: float | None
    _clip_value: float | None
    _learning_rate_factors: dict[str, float]
    hyper = Fixed["NDArray[np.float64]"]()
    learning_rate = _Number(checks.positive, "learning_rate")
    clip_norm = _Switch(checks.optional(checks.positive))
    clip_value = Setting(checks.optional(checks.positive))
    learning_rate_factors = _Factors()

    def __init__(
        self,
        learning_rate: float,
        clip_norm: float | None,
        clip_value: float | None,
        learning_rate_factors: Mapping[str, float] | None,
    ) -> None:
        self.hyper = np.zeros(len(_kernels.HYPER))
        self.learning_rate = learning_rate
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.learning_rate_factors = learning_rate_factors

    def _argument(self, name: str) -> Any:
        value = super()._argument(name)
        return (dict(value) or None) if isinstance(value, Mapping) else value

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._plan = None  # settings are counted in each process
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
            elif isinstance(setting, _Factors):
                setting.check_matches(getattr(self, name), model)

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
        parts = self._parts()
        if self._clip_value is not None:
            for part in parts:
                _kernels.clip_value(gradients[part.at], self._clip_value)
        if self._clip_norm is not None:
            _kernels.clip_norm(gradients, self._hyper, self._clip_norm)
        self._begin()
        for part in parts:
            state = (buffer[part.at] for buffer in self._buffers)
            self._apply(part, parameters[part.at], gradients[part.at], *state)
        if self._get("fault"):
            self._set(fault=0.0)
            raise FloatingPointError(NOT_FINITE)

    def _parts(self) -> list[_Part]:
        """What each call updates: in a program array by array, where a thread goes on from its
        piece of a gradient to the update of these elements; by hand neighbours together."""
        if self._plan is None or self._plan.changes != settings.changes:
            self._plan = _Plan(settings.changes, *self._planned())
        return self._plan.apart if _kernels.recording() else self._plan.together

    def _planned(self) -> tuple[list[_Part], list[_Part]]:
        """The parts, array by array, and with neighbours of the same factors together; ValueError
        if there are none."""
        assert self._model is not None
        frozen = self._model._frozen()
        apart: list[_Part] = []
        together: list[_Part] = []
        follows = False  # the last parameter was not frozen
        for name, at in self._model._slices.items():
            if name in frozen:
                follows = False
                continue
            apart.append(_Part(at, *self._factors(name)))
            if follows and apart[-1][1:] == together[-1][1:]:
                together[-1] = together[-1]._replace(at=slice(together[-1].at.start, at.stop))
            else:
                together.append(apart[-1])
            follows = True
        if not apart:
            raise ValueError("model: expected parameters to train, but all its layers are frozen "
                             "(layer.trainable = False)")  # fmt: skip
        return apart, together

    def _factors(self, name: str) -> tuple[float, float]:
        """The factors of that parameter's learning rate and weight decay."""
        return _factor(self._learning_rate_factors, name), 1.0

    def _begin(self) -> None:
        """Advance what changes once a step, before all updates."""

    def _apply(self, part: _Part, parameters: Array, gradients: Array, *state: Array) -> None:
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

    def __init__(
        self,
        learning_rate: float,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, clip_value, learning_rate_factors)

    def _apply(self, part: _Part, parameters: Array, gradients: Array, *state: Array) -> None:
        _kernels.sgd(parameters, gradients, self._hyper, part.rate)


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
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, clip_value, learning_rate_factors)
        self.beta, self.nesterov = beta, nesterov

    def _apply(self, part: _Part, parameters: Array, gradients: Array, *state: Array) -> None:
        (velocity,) = state
        _kernels.momentum(parameters, gradients, velocity, self._hyper, self._nesterov, part.rate)


class Nesterov(Momentum):
    """`Momentum` with nesterov: v = beta v + g; p -= learning_rate (g + beta v).

    >>> Nesterov(0.1)
    Nesterov(0.1)
    """

    nesterov = Fixed[bool]()

    def __init__(
        self,
        learning_rate: float,
        *,
        beta: float = 0.9,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta=beta, nesterov=True, clip_norm=clip_norm, clip_value=clip_value,
            learning_rate_factors=learning_rate_factors,
        )  # fmt: skip


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
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, clip_value, learning_rate_factors)
        self.beta, self.eps, self.bias_correction = beta, eps, bias_correction

    def _begin(self) -> None:
        if self._bias_correction:
            _kernels.advance_step(self._hyper)

    def _apply(self, part: _Part, parameters: Array, gradients: Array, *state: Array) -> None:
        (mean_square,) = state
        _kernels.rmsprop(parameters, gradients, mean_square, self._hyper, part.rate)


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
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, clip_value, learning_rate_factors)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def _begin(self) -> None:
        _kernels.advance_step(self._hyper)

    def _apply(self, part: _Part, parameters: Array, gradients: Array, *state: Array) -> None:
        mean, mean_square = state
        _kernels.adam(parameters, gradients, mean, mean_square, self._hyper, part.rate, part.decay)


class AdamW(Adam):
    """`Adam` after p -= learning_rate weight_decay p, weight_decay >= 0.

    I. Loshchilov, F. Hutter, 2019.  All parameters decay, also those of biases and norms, unless
    `weight_decay_factors` says otherwise, which is like `learning_rate_factors`.

    >>> AdamW(weight_decay=0.1)
    AdamW(weight_decay=0.1)
    >>> optimizer = AdamW(weight_decay_factors={"*.bias": 0.0, "*.gamma": 0.0, "*.beta": 0.0})
    """

    weight_decay = _Number(checks.not_negative, "weight_decay")
    weight_decay_factors = _Factors()
    _weight_decay_factors: dict[str, float]

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        weight_decay_factors: Mapping[str, float] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta1=beta1, beta2=beta2, eps=eps, clip_norm=clip_norm,
            clip_value=clip_value, learning_rate_factors=learning_rate_factors,
        )  # fmt: skip
        self.weight_decay, self.weight_decay_factors = weight_decay, weight_decay_factors

    def _factors(self, name: str) -> tuple[float, float]:
        return super()._factors(name)[0], _factor(self._weight_decay_factors, name)


def fan_in_factors(model: Network) -> tuple[dict[str, float], dict[str, float]]:
    """The `learning_rate_factors` and `weight_decay_factors` with which Adam and AdamW train each
    weight of a dense layer or a convolution as if it were one of unit size times 1/sqrt(fan in).

    That is the NTK parametrisation, y = x @ W / sqrt(n) + b (A. Jacot et al., 2018): a step moves
    the outputs as much whatever the number n of inputs is, so that one learning rate suits layers
    of any width.  With weight = W / sqrt(n), Adam's step of W is one of `weight` with the learning
    rate's factor 1/sqrt(n), and the decay of both, learning_rate weight_decay in a step, is the
    same with the factor sqrt(n) of the weight decay.  (But `eps` acts on W as eps / sqrt(n) would;
    for SGD the rate's factor would be 1/n.)  The initializer "xavier" draws W with the variance 1.

    The dicts have a key for each such weight; factors of others go before them.

    >>> from fastnn import AdamW, Dense, Sequential, fan_in_factors
    >>> model = Sequential(Dense(4, 16, activation="selu"), Dense(16, 1))
    >>> rates, decays = fan_in_factors(model)
    >>> rates, decays
    ({'0.weight': 0.5, '1.weight': 0.25}, {'0.weight': 2.0, '1.weight': 4.0})
    >>> optimizer = AdamW(
    ...     0.04, learning_rate_factors={"*.bias": 0.1, **rates},
    ...     weight_decay=0.02, weight_decay_factors={"*.bias": 0.0, **decays},
    ... )
    """
    checks.objects(model=model)
    roots = {
        f"{name}.weight": math.sqrt(layer._fan_in)
        for name, layer in model._chain.named()
        if isinstance(layer, Weighted)
    }
    return {name: 1 / root for name, root in roots.items()}, roots
