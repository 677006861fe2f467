"""Activations: elementwise functions, one kernel forward and one backward, and softmax.

They take arrays of any shape and return the same shape; a NaN stays a NaN.  As `activation` of a
layer all but softmax run within the kernel of its product, on outputs that it has just computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.layer import Layer, Named, Placed, Pure
from fastnn.support import checks
from fastnn.support.settings import Fixed, Setting, is_ours, settable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull


class Activation(Pure):
    """Base of the activations: y = f(x), dx = f'(x) dy, all of one shape.

    `backward` raises RuntimeError without a `forward` in training before it."""

    native = True
    _pulls_several = True
    activation_name: str = "linear"
    alpha: float | Setting[float] = 0.0

    def __init__(self) -> None:
        self._alpha: float = self.alpha
        self._kind = _kernels.ACTIVATIONS[self.activation_name]
        self._saves_input = self.activation_name in _kernels.SAVES_INPUT

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        y = _kernels.activation_forward(x, self._kind, self._alpha)
        saved = x if self._saves_input else y
        return y, lambda dy: _kernels.activation_backward(saved, dy, self._kind, self._alpha)


class Linear(Activation):
    """f(x) = x.

    >>> import numpy as np
    >>> Linear().forward(np.array([[-1.0, 2.0]]))
    array([[-1.,  2.]])
    """


class ReLU(Activation):
    """f(x) = max(0, x); the derivative at 0 is 0 (V. Nair, G. Hinton, 2010).

    >>> import numpy as np
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    activation_name = "relu"


class LeakyReLU(Activation):
    """f(x) = x for x > 0, else alpha x, alpha >= 0 (A. Maas, A. Hannun, A. Ng, 2013).

    Raises ValueError or TypeError for another `alpha`.

    >>> import numpy as np
    >>> LeakyReLU(0.1).forward(np.array([[-1.0, 2.0]]))
    array([[-0.1,  2. ]])
    """

    activation_name = "leaky_relu"
    alpha = Setting(checks.not_negative)

    def __init__(self, alpha: float = 0.01) -> None:
        self.alpha = alpha
        super().__init__()


class Sigmoid(Activation):
    """f(x) = 1 / (1 + exp(-x)).

    >>> import numpy as np
    >>> Sigmoid().forward(np.array([[0.0]]))
    array([[0.5]])
    """

    activation_name = "sigmoid"


class Tanh(Activation):
    """f(x) = tanh(x).

    >>> import numpy as np
    >>> Tanh().forward(np.array([[0.0]]))
    array([[0.]])
    """

    activation_name = "tanh"


class ELU(Activation):
    """f(x) = x for x > 0, else alpha (exp(x) - 1), alpha > 0.

    D.-A. Clevert, T. Unterthiner, S. Hochreiter, 2016.  Raises ValueError or TypeError for
    another `alpha`.

    >>> import numpy as np
    >>> ELU().forward(np.array([[-1e9, 2.0]]))
    array([[-1.,  2.]])
    """

    activation_name = "elu"
    alpha = Setting(checks.positive)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha
        super().__init__()


class SELU(Activation):
    """f(x) = 1.0507 x for x > 0, else 1.7581 (exp(x) - 1): keeps mean 0 and variance 1.

    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, 2017.

    >>> import numpy as np
    >>> SELU().forward(np.array([[1.0]])).round(4)
    array([[1.0507]])
    """

    activation_name = "selu"


class Softplus(Activation):
    """f(x) = log(1 + exp(x)), without overflow.

    >>> import numpy as np
    >>> Softplus().forward(np.array([[1000.0]]))
    array([[1000.]])
    """

    activation_name = "softplus"


class SiLU(Activation):
    """f(x) = x sigmoid(x), also called swish (S. Elfwing, E. Uchibe, K. Doya, 2018).

    >>> import numpy as np
    >>> SiLU().forward(np.array([[0.0, 100.0]]))
    array([[  0., 100.]])
    """

    activation_name = "silu"


class GELU(Activation):
    """f(x) = x (1 + erf(x / sqrt(2))) / 2, the exact form (D. Hendrycks, K. Gimpel, 2016).

    >>> import numpy as np
    >>> GELU().forward(np.array([[0.0, 100.0]]))
    array([[  0., 100.]])
    """

    activation_name = "gelu"


class Mish(Activation):
    """f(x) = x tanh(softplus(x)) (D. Misra, 2019).

    >>> import numpy as np
    >>> Mish().forward(np.array([[0.0, 100.0]]))
    array([[  0., 100.]])
    """

    activation_name = "mish"


class Softmax(Activation):
    """f(x)_j = exp(x_j) / Σ_k exp(x_k) over the last axis, without overflow.

    For training leave it out and use `SoftmaxCrossEntropy`, which applies it itself.

    >>> import numpy as np
    >>> Softmax().forward(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """

    activation_name = "softmax"


class ParametricActivation(Layer):
    """y = x + alpha (f(x) - x): each feature learns how much of f it takes.

    D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024 (RealMLP).  `activation` is f, elementwise: a
    name or an activation layer.  `alpha` begins as 1, where y = f(x); at 0, y = x.
    Shapes: `x`, `y` (batch, ..., features); parameter `alpha` (features,).

    Raises ValueError or TypeError for `features` < 1, and for an `activation` that is unknown, the
    linear one or softmax.

    >>> import numpy as np
    >>> from fastnn import Sequential
    >>> model = Sequential(ParametricActivation(3, "relu"))
    >>> model.layers[0].alpha[...] = [1.0, 0.5, 0.0]
    >>> model.predict([[-2.0, -2.0, -2.0]])
    array([[ 0., -1., -2.]], dtype=float32)
    """

    native = True
    in_features: int
    alpha = Named("parameters")
    activation = Fixed[Activation]()
    _activation: Activation
    _alpha: Any = Placed()
    _dalpha: Any = Placed()

    def __init__(self, features: int, activation: str | Activation) -> None:
        features = checks.positive_int(features, "features")
        self._fix(in_features=features, out_features=features)
        self.activation = resolve(activation, "activation")
        name = self.activation.activation_name
        if name in ("linear", "softmax"):
            raise ValueError(f"activation: expected an elementwise one that bends, got {name}")
        self._fix(activation_name=name)

    @property
    def features(self) -> int:
        """How many features the layer takes."""
        return self.in_features

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"alpha": (self.in_features,)}

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        self._alpha.fill(1.0)

    def _argument(self, name: str) -> Any:
        return argument(self.activation) if name == "activation" else super()._argument(name)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._saved = (x,)
        f = self._activation
        return _kernels.parametric_forward(x, self._alpha, f._kind, f._alpha)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        (x,), f = self._take(), self._activation
        dalpha = self._dalpha if self._trainable else None
        return _kernels.parametric_backward(x, dy, self._alpha, dalpha, f._kind, f._alpha)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        alpha, f = self._alpha, self._activation
        return self.forward(x), lambda dy: _kernels.parametric_backward(
            x, dy, alpha, None, f._kind, f._alpha
        )


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.activation_name: kind
    for kind in (
        Linear, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, ELU, SELU, Softplus, SiLU, GELU, Mish,
    )
}  # fmt: skip


def resolve(activation: str | Activation | None, name: str) -> Activation:
    """The activation that a name or an activation stands for; errors name the argument `name`.

    >>> resolve("relu", "activation"), resolve(None, "activation")
    (ReLU(), Linear())
    """
    if activation is None:
        return Linear()
    if isinstance(activation, Activation):
        if not is_ours(type(activation)):
            raise TypeError(
                f"{name}: expected one of fastnn's own, got {activation!r}; put your own behind "
                "the layer"
            )
        return activation
    return ACTIVATIONS[checks.choice(activation, name, ACTIVATIONS)]()


def argument(activation: Activation) -> str | Activation | None:
    """The argument `activation` that makes this one: its name if it has no settings.

    >>> argument(ReLU()), argument(LeakyReLU(0.2)), argument(Linear())
    ('relu', LeakyReLU(alpha=0.2), None)
    """
    name = activation.activation_name
    if name == "linear":
        return None
    has_settings = settable(type(activation)).keys() > {"trainable"}
    return activation if has_settings else name
