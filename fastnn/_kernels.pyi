"""Types of the compiled kernels' faces; what each computes stands in csrc/*.pxi."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # C-contiguous float32 or float64

# threads, instruction sets, how it was compiled
MAX_THREADS: int
COMPILER: str

def isa_levels() -> list[str]: ...
def isa_compiled() -> list[str]: ...
def get_isa() -> str: ...
def set_isa(name: str) -> None: ...
def set_threads(threads: int) -> None: ...
def override_threads(threads: int) -> int: ...
def get_threads() -> int: ...

# dense
def pack_weight(weight: Array, transpose: bool = False) -> Array: ...
@overload
def dense_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: int = 0,
    alpha: float = 0.0,
    keep_z: Literal[False] = False,
    packed: Array | None = None,
) -> Array: ...
@overload
def dense_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    activation: int,
    alpha: float,
    keep_z: Literal[True],
    packed: Array | None = None,
) -> tuple[Array, Array]: ...
def dense_backward_input(dz: Array, weight: Array, packed: Array | None = None) -> Array: ...
def dense_backward_weight(x: Array, dz: Array, dweight: Array) -> None: ...
def dense_backward_bias(dz: Array, dbias: Array) -> None: ...

# activations
ACTIVATIONS: Mapping[str, int]
SAVES_INPUT: frozenset[str]

def activation_forward(x: Array, kind: int, alpha: float = 0.0) -> Array: ...
def activation_backward(saved: Array, dy: Array, kind: int, alpha: float = 0.0) -> Array: ...
def softmax_forward(x: Array) -> Array: ...
def softmax_backward(y: Array, dy: Array) -> Array: ...

# dropout
def dropout_forward(
    x: Array, rate: float, seed: int, counter: NDArray[np.uint64], layer: int
) -> tuple[Array, NDArray[np.uint8]]: ...
def dropout_backward(dy: Array, mask: NDArray[np.uint8], rate: float) -> Array: ...
def advance(counter: NDArray[np.uint64]) -> None: ...

# normalisation
def batchnorm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]: ...
def batchnorm_evaluate(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array, eps: float
) -> Array: ...
def batchnorm_backward(
    x: Array, dy: Array, gamma: Array, mean: Array, inv_std: Array, dgamma: Array, dbeta: Array
) -> Array: ...
def layernorm_forward(
    x: Array, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Array, Array]: ...
def layernorm_backward(
    x: Array, dy: Array, gamma: Array, mean: Array, inv_std: Array, dgamma: Array, dbeta: Array
) -> Array: ...

# losses
def softmax_cross_entropy(
    logits: Array, targets: Array, sample_weight: Array | None = None, label_smoothing: float = 0.0
) -> tuple[float, Array]: ...
def sigmoid_cross_entropy(
    logits: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[float, Array]: ...
def squared_error(
    outputs: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[float, Array]: ...
def absolute_error(
    outputs: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[float, Array]: ...
def huber(
    outputs: Array, targets: Array, sample_weight: Array | None = None, delta: float = 1.0
) -> tuple[float, Array]: ...
def hinge(
    scores: Array, targets: Array, sample_weight: Array | None = None, margin: float = 1.0
) -> tuple[float, Array]: ...

# optimizers; HYPER: the index in hyper of each number
HYPER: Mapping[str, int]

def sgd(parameters: Array, gradients: Array, hyper: NDArray[np.float64]) -> None: ...
def momentum(
    parameters: Array,
    gradients: Array,
    velocity: Array,
    hyper: NDArray[np.float64],
    nesterov: bool,
) -> None: ...
def rmsprop(
    parameters: Array, gradients: Array, mean_square: Array, hyper: NDArray[np.float64]
) -> None: ...
def adam(
    parameters: Array,
    gradients: Array,
    mean: Array,
    mean_square: Array,
    hyper: NDArray[np.float64],
) -> None: ...
def adam_advance(hyper: NDArray[np.float64]) -> None: ...
def clip_norm(gradients: Array, hyper: NDArray[np.float64], max_norm: float) -> float: ...
def add_scaled(y: Array, x: Array, a: float) -> None: ...
def sum_squares(x: Array) -> float: ...
