"""Batch norm (over the rows of a batch) and layer norm (over the features of a row).

In images and sequences each position counts as a row, and its channels as the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers.layer import Layer, Named, Placed
from fastnn.support import checks
from fastnn.support.settings import Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class _Norm(Layer):
    """Base of both norms: y = gamma x̂ + beta, where gamma begins as 1 and beta as 0."""

    native = True
    in_features: int
    gamma = Named("parameters")
    beta = Named("parameters")
    eps = Setting(checks.positive)
    _eps: float
    _gamma: Any = Placed()
    _dgamma: Any = Placed()
    _beta: Any = Placed()
    _dbeta: Any = Placed()

    def __init__(self, features: int, eps: float) -> None:
        features = checks.positive_int(features, "features")
        self._fix(in_features=features, out_features=features)
        self.eps = eps

    @property
    def features(self) -> int:
        """How many features the layer normalises."""
        return self.in_features

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"gamma": (self.in_features,), "beta": (self.in_features,)}

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        self._gamma.fill(1.0)
        self._beta.fill(0.0)


class BatchNorm(_Norm):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, each feature over the batch and positions.

    S. Ioffe, C. Szegedy, 2015.  In training, mean and var (divided by the number of values) are
    those of the batch, and running = (1 - momentum) running + momentum batch; in evaluation, and
    while the layer is frozen (``trainable = False``), they are the running ones.
    Shapes: `x`, `y` (batch, ..., features); parameters `gamma`, `beta` and state `running_mean`,
    `running_var` (features,).

    Raises ValueError or TypeError for `features` < 1, `momentum` outside (0, 1], `eps` <= 0;
    `forward` in training raises ValueError for a single row (with a single position).

    >>> from fastnn import BatchNorm, Sequential
    >>> model = Sequential(BatchNorm(1), dtype="float64")
    >>> model.forward(np.array([[1.0], [3.0]]), training=True).round(3)
    array([[-1.],
           [ 1.]])
    >>> model.layers[0].running_mean, model.layers[0].running_var
    (array([0.2]), array([1.]))
    """

    _pulls_several = True
    running_mean = Named("state")
    running_var = Named("state")
    momentum = Setting(checks.up_to_one)
    _momentum: float
    _running_mean: Any = Placed()
    _running_var: Any = Placed()

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(features, eps)
        self.momentum = momentum
        # These are views of one number: the model checks the count of features and makes arrays.
        start = {"running_mean": np.float64(0), "running_var": np.float64(1)}
        self.state = {name: np.broadcast_to(value, features) for name, value in start.items()}

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        super().initialize(rng, activation)
        self._running_mean.fill(0.0)
        self._running_var.fill(1.0)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        gamma, beta, mean, var = self._gamma, self._beta, self._running_mean, self._running_var
        if not training:
            return _kernels.batchnorm_evaluate(x, gamma, beta, mean, var, self._eps)
        if not self._trainable:
            y, pull = self._vjp(x)
            self._saved = (pull,)
            return y
        y, batch_mean, inv_std = _kernels.batchnorm_forward(
            x, gamma, beta, mean, var, self._momentum, self._eps
        )
        self._saved = (x, batch_mean, inv_std)
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        saved = self._take()
        if len(saved) == 1:  # it was frozen
            return saved[0](dy)  # type: ignore[no-any-return]
        x, mean, inv_std = saved
        dgamma, dbeta = self._dgamma, self._dbeta
        if not self._trainable:  # since this forward; dx needs them all the same
            dgamma, dbeta = np.empty_like(dgamma), np.empty_like(dbeta)
        return _kernels.batchnorm_backward(x, dy, self._gamma, mean, inv_std, dgamma, dbeta)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        gamma, var, eps = self._gamma, self._running_var, self._eps
        zeros = np.zeros_like(gamma)  # dx = gamma (dy - 0) / sqrt(var + eps) + 0
        return self.forward(x), lambda dy: _kernels.batchnorm_evaluate(
            dy, gamma, zeros, zeros, var, eps
        )


class LayerNorm(_Norm):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, each row over its features.

    J. L. Ba, J. R. Kiros, G. E. Hinton, 2016; var is divided by the number of features.
    Shapes: `x`, `y` (batch, ..., features); parameters `gamma`, `beta` (features,).

    Raises ValueError or TypeError for `features` < 1, `eps` <= 0.

    >>> from fastnn import LayerNorm, Sequential
    >>> model = Sequential(LayerNorm(2), dtype="float64")
    >>> model.forward(np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        super().__init__(features, eps)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        y, mean, inv_std = _kernels.layernorm_forward(x, self._gamma, self._beta, self._eps)
        if training:
            self._saved = (x, mean, inv_std)
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        x, mean, inv_std = self._take()
        wanted = (self._dgamma, self._dbeta) if self._trainable else (None, None)
        return _kernels.layernorm_backward(x, dy, self._gamma, mean, inv_std, *wanted)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        gamma = self._gamma
        y, mean, inv_std = _kernels.layernorm_forward(x, gamma, self._beta, self._eps)
        return y, lambda dy: _kernels.layernorm_backward(x, dy, gamma, mean, inv_std)
