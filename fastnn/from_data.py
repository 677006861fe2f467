"""The first values of dense layers from data: units whose sums, over the rows, have the standard
deviation 1 and change their sign among the rows."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers import Dense
from fastnn.support import arrays, checks
from fastnn.support.settings import label

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network

_ROWS = 4096  # by so many a standard deviation is known to 1 %
_MIXED = 5  # rows, for a bias


def initialize_from_data(model: Network, X: ArrayLike, *, seed: int = 0) -> None:
    """Begin the weights and biases of all dense layers anew, such that they suit the rows of `X`.

    Layer by layer, in the order in which the rows go through the model, each weight is drawn from a
    normal distribution of variance 1 / in_features, and each column of it divided by the standard
    deviation over the rows of its unit's sum z = x @ weight.  A unit whose sum does not vary keeps
    what was drawn.  The bias is minus a mean of z over five rows, drawn for each unit, with random
    weights: each activation has its middle at some point among the rows (D. Holzmüller,
    L. Grinsztajn, I. Steinwart, 2024; the bias is he+5 of I. Steinwart, 2019).

    Shapes: `X` (n, ..., in_features), as `fit` takes it, scaled as for training.  Of more than 4096
    rows so many are used, drawn at random.  All other layers are as in evaluation and stay as they
    are: also those that are frozen, convolutions and embeddings.  Dense layers within others, as in
    a `Residual` or in `Heads`, count too.  `seed` decides what is drawn.  An optimizer that has
    trained the model keeps its numbers, so make a new one.

    Raises TypeError or ValueError as `predict` does, for a model without dense layers that train
    and where a unit's sums or weights are not finite: the model is then unchanged.  RuntimeError if
    another thread is training the model.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 100, activation="selu"), fastnn.Dense(100, 10))
    >>> initialize_from_data(model, X)
    >>> z = X @ model.parameters["0.weight"]
    >>> bool(abs(z.std(axis=0) - 1).max() < 1e-5)
    True
    """
    checks.objects(model=model)
    seed = checks.seed(seed)
    X = arrays.numeric_array(X, "X")
    if len(X) > _ROWS:
        X = X[np.sort(np.random.default_rng([seed, 0, 1]).choice(len(X), _ROWS, replace=False))]
    x = model._input(X, "X")
    with model.exclusive("initialize_from_data"):
        model._check_written()
        begun = copy.deepcopy(model)  # nothing is half done, whoever predicts meanwhile
        dense = [layer for layer, _ in begun._chain.walk() if isinstance(layer, Dense)]
        dense = [layer for layer in dense if layer.trainable]
        if not dense:
            raise ValueError("model: expected one with dense layers that train, got none")
        for i, layer in enumerate(dense, 1):  # whatever is around it hands it its inputs
            rng = np.random.default_rng([seed, i, 1])
            vars(layer)["forward"] = partial(_begin_and_run, layer, rng)
        begun._evaluate(x)
        model.flat_parameters[...] = begun.flat_parameters


def _begin_and_run(
    layer: Dense, rng: np.random.Generator, x: NDArray[Any], training: bool = False
) -> NDArray[Any]:
    """The layer's outputs for the rows x, after its weight and bias were drawn for them."""
    weight, bias = layer._weight, layer._bias
    weight[...] = rng.standard_normal(weight.shape) / np.sqrt(layer.in_features)
    # sums in double, row after row, as no BLAS would promise
    z = _kernels.dense_forward(x, weight).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = z.sum(axis=0) / len(z)
        variance = np.square(z - mean).sum(axis=0) / len(z)
    if not np.isfinite(variance).all():
        raise ValueError(f"X: gives sums that are not finite in {label(layer)}")
    constant = arrays.is_constant(variance, mean, len(z), weight.dtype)
    scale = np.where(constant, 1.0, np.sqrt(variance))
    with np.errstate(over="ignore"):
        weight[...] = weight / scale
    if not np.isfinite(weight).all():
        raise ValueError(f"X: too small, gives weights that are not finite in {label(layer)}")
    if bias is not None:
        rows = rng.integers(0, len(z), (_MIXED, len(bias)))
        part = rng.standard_exponential(rows.shape)
        chosen = z[rows, np.arange(len(bias))] / scale
        bias[...] = -(part / part.sum(axis=0) * chosen).sum(axis=0)
    return type(layer).forward(layer, x, training)
