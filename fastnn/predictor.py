"""A network that was folded, packed and recorded once, for loops that call it often."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn._kernels as _kernels
from fastnn import half_weights
from fastnn.half_weights import HalfWeight
from fastnn.layers import Activation, BatchNorm, Dense, Dropout
from fastnn.layers.block import plain_layers
from fastnn.layers.weighted import Weighted
from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network

    Array = NDArray[Any]
    _Run = Callable[[Any, Array | None], Array | None]


class Ensemble(NamedTuple):
    """Networks, and what an estimator makes of their outputs; `export_c` writes it."""

    model: Network  # the outputs of all side by side; with the estimator's scalers
    networks: int = 1  # whose results are averaged
    link: str = "identity"  # or "softmax", "logistic", "exp": from outputs to results
    classes: Sequence[Any] | None = None
    limits: Array | None = None  # the least and the largest value of each output


class Predictor:
    """``y = predictor(x)`` for batches of `batch_size` rows, in one native call; made by
    `Sequential.predictor`.

    It has a copy of the model's parameters: after more training, `refresh` takes the new ones.
    Dropout is gone, a batch norm is folded into the dense or convolution layer before it (not
    within a `Residual`), weights are packed as the kernels read them.  With a batch norm, outputs
    may differ from those of `Sequential.predict` by rounding, with ``compute="bfloat16"`` by that
    of bfloat16; without one, their bits are the same.

    Shapes: `x` (batch_size, ...) as the model takes it, of any real type, fastest as a C-contiguous
    array of the model's; `y` (batch_size, ...).  `y` is the same array at every call, or `out` if
    that is not None.  A model that takes rows of several shapes is recorded at the first call, and
    again at a call with rows of another shape; from then on `y` is another array.  `recorded` is
    False for a model with layers of your own, which run in Python.  One thread at a time may call
    or refresh it.  A copy or pickle has the parameters that it had, and no model to refresh from.

    `weights`, "bfloat16" or "float16", rounds the weights of dense layers of a float32 model to
    16-bit numbers, the nearest, of two the even one; those within layers such as `Residual` and
    `Heads`, convolutions and biases stay as they are.  All is computed in float32: `y` has the bits
    of a float32 predictor whose (folded) weights are these numbers, on any number of threads and
    every instruction set.  A weight changes by up to 2^-8 of itself with bfloat16 (8 bits of
    precision, float32's range) and 2^-11 with float16 (11 bits; less than 6.1e-5 by up to 2^-25;
    65520 or more is an error).  One row through wide layers waits for the weights to come from
    the cache, and takes 0.5 to 0.75 of the time, two 0.7 to 0.9.  Products of more rows are faster
    with float32, so they read the rounded numbers as float32: from nine rows on if the weight has
    8 MiB or more in float32, else from three.

    Raises ValueError for another shape, TypeError or ValueError for what is no array of real
    numbers and for an `out` that is not like `y`; RuntimeError if another thread is calling it;
    when it is made, ValueError for `weights` of a float64 model, one with layers of your own or one
    that computes in bfloat16, whose weights are rounded anyway.

    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(3, 2, activation="relu"), seed=0)
    >>> predictor = model.predictor(batch_size=1)
    >>> x = np.ones((1, 3), np.float32)
    >>> bool((predictor(x) == model.predict(x)).all())
    True
    """

    def __init__(self, model: Network, batch_size: int = 1, weights: str | None = None) -> None:
        rows = checks.positive_int(batch_size, "batch_size")
        _check_weights(weights, model)
        self._model, self._source = copy.deepcopy(model), model
        self.batch_size, self.weights = rows, weights
        self._run: _Run = self._by_hand
        self.recorded = self._model._chain.native
        if self.recorded:
            self._copying = _copying(self._model, model)
            steps = fold(self._model)
            affine = [step for step in steps if isinstance(step, Affine)]
            self._folded = [step for step in affine if step.norms]
            self._halves = list[HalfWeight]()
            if weights in half_weights.NAMES:
                self._halves = [
                    step.halve(weights, _name(self._model, step), rows)
                    for step in affine
                    if isinstance(step.layer, Dense)
                ]
            self._packing = _kernels.Program()
            with self._packing:
                self._operations = [operation(step) for step in steps]
            self._run = lambda x, out: None  # the first call records
            if model._chain.dimensions == 1 and model.in_features is not None:
                self._make_ready(np.zeros((rows, model.in_features), model.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, (self._model, self.batch_size, self.weights)

    def refresh(self) -> None:
        """Take the model's present parameters and running statistics: afterwards the outputs have
        the bits of a new predictor's, unless a setting of a layer, such as `eps`, was changed.

        It costs about what packing the weights does, and no new recording; batch norms are folded
        again.  Weights of 16 bits are rounded by NumPy, some nanoseconds each.  Call it between
        training steps, when no other thread calls the predictor.  Raises RuntimeError while another
        thread trains the model; ValueError for a weight too large for `weights`, and then keeps
        what it had.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(3, 2), seed=0)
        >>> predictor, x = model.predictor(), np.ones((1, 3), np.float32)
        >>> model.flat_parameters *= 2.0
        >>> predictor.refresh()
        >>> bool((predictor(x) == model.predict(x)).all())
        True
        """
        with self._source._hold:
            if not self.recorded:
                self._model.load_state_dict(self._source.state_dict())
                return
            before = self._model.state_dict() if self._halves else {}
            self._copying.replay()
            try:
                self._prepare()
            except ValueError:
                self._model.load_state_dict(before)
                self._prepare()
                raise

    def _prepare(self) -> None:
        """Fold, round and pack the copied model's numbers."""
        for step in self._folded:
            step.fold()
        for half in self._halves:
            half.take()
        self._packing.replay()

    def _make_ready(self, x: Array) -> None:
        """Record the model for batches of x's shape."""
        model = self._model
        most = model._chain.rows_at_once(x.shape[1:], len(x), x.itemsize)
        rows = next(n for n in range(most, 0, -1) if len(x) % n == 0)
        rows = rows if 2 * rows >= most else len(x)  # a prime number of images
        predict: _Run = _kernels.unrecorded(self._record, x[:rows]).predict
        if rows < len(x):
            predict = _Sliced(predict, x, rows)
        self._run = predict
        if model._chain.codes:  # they are checked each time
            self._run = lambda x, out: predict(model._input(x, "x"), out)

    def _record(self, x: Array) -> _kernels.Program:
        program = _kernels.Program()
        program.feed(x)
        with program:
            y = program.take("x", len(x))
            for operation in self._operations:
                y = operation(y)
            program.give(y)
        return program

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        y = self._run(x, out)
        if y is None:  # x must first be checked, and converted into the kernels' form
            array = self._model._input(x, "x")
            if len(array) != self.batch_size:
                raise self._other_rows(array)
            y = self._run(array, out)
            if y is None:  # these are the first rows of their shape
                self._make_ready(array)
                y = self._run(array, out)
        assert y is not None
        return y

    def _by_hand(self, x: ArrayLike, out: Array | None) -> Array:
        y = self._model.forward(x)
        if len(y) != self.batch_size:
            raise self._other_rows(y)
        if out is None:
            return y
        _check_out(out, y)
        out[...] = y
        return out

    def _other_rows(self, rows: Array) -> ValueError:
        return ValueError(
            f"x: expected {self.batch_size} rows, got {len(rows)}; another number takes "
            f"predictor(batch_size={len(rows)})"
        )

    def __repr__(self) -> str:
        takes, gives = self._model.in_features or "any", self._model.out_features or "as many"
        what = f"{takes} -> {gives} features, {self._model.dtype}"
        what += f", weights={self.weights!r}" if self.weights else ""
        return f"<Predictor: {what}, batch_size={self.batch_size}, recorded={self.recorded}>"


def _check_weights(weights: str | None, model: Network) -> None:
    if weights is None:
        return
    checks.choice(weights, "weights", ("float32", *half_weights.NAMES))
    if model.dtype != np.float32:
        raise ValueError(f"weights: expected None for a {model.dtype} model, got {weights!r}")
    if model.compute is not None:
        raise ValueError(
            f"weights: expected None for a model that computes in {model.compute}, got {weights!r}"
        )
    if weights in half_weights.NAMES and not model._chain.native:
        raise ValueError(
            f"weights: expected None for a model with layers of your own, got {weights!r}"
        )


def _name(model: Network, step: Affine) -> str:
    """What an error calls the weight of a step."""
    weight = step.layer._weight
    name = next(name for name, array in model.parameters.items() if array is weight)
    return name + " with the batch norm behind it" * bool(step.norms)


class _Sliced:
    """`predict`, which takes `rows` rows, run on one slice after the other of batches like x."""

    def __init__(self, predict: _Run, x: Array, rows: int) -> None:
        self.predict, self.rows = predict, rows
        self.dtype, self.shape = x.dtype, x.shape
        outputs = predict(x[:rows], None)
        assert outputs is not None
        self.outputs = np.empty((len(x), *outputs.shape[1:]), outputs.dtype)

    def __call__(self, x: ArrayLike, out: Array | None) -> Array | None:
        if type(x) is not np.ndarray or x.shape != self.shape or x.dtype != self.dtype:
            return None
        if not (x.flags.c_contiguous and x.flags.aligned):
            return None
        if out is None:
            out = self.outputs
        else:
            _check_out(out, self.outputs)
            x = x.copy() if np.may_share_memory(x, out) else x
        for start in range(0, len(x), self.rows):
            rows = slice(start, start + self.rows)
            self.predict(x[rows], out[rows])
        return out


def _check_out(out: object, like: Array) -> None:
    """Raise TypeError or ValueError unless `out` is a writable array like `like`."""
    got, wanted = arrays.describe(out), arrays.describe(like)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array like the outputs, {wanted}, got {got}")
    if got != wanted or not out.flags.writeable:
        got += "" if out.flags.writeable else ", read-only"
        raise ValueError(f"out: expected an array like the outputs, {wanted}, got {got}")


def _copying(model: Network, source: Network) -> _kernels.Program:
    """A program that copies the numbers of `source` to its copy `model`."""
    program = _kernels.Program()
    with program:
        pairs = [(model.flat_parameters, source.flat_parameters)]
        pairs += [(array, source.state[name]) for name, array in model.state.items()]
        for mine, its in pairs:
            if mine.size:
                _kernels.copy(mine, its)
    return program


class Affine:
    """f(x weight + bias), weight (..., out_features): a layer and what is folded into it."""

    def __init__(self, layer: Weighted) -> None:
        self.layer, self.norms = layer, list[BatchNorm]()
        self.weight, self.bias = layer._weight, layer._bias  # the layer's own, unless there is norm
        self.activation = layer.activation
        self.half: HalfWeight | None = None

    @property
    def is_linear(self) -> bool:
        return bool(self.activation.activation_name == "linear")

    def add(self, norm: BatchNorm) -> None:
        """Let the norm, y = gamma (x - mean) / sqrt(var + eps) + beta, follow: affine as well."""
        self.norms.append(norm)
        self.weight, self.bias = np.empty_like(self.weight), np.empty_like(norm.beta)

    def fold(self) -> None:
        """Set weight and bias from the layer's and those of the norms."""
        weight = self.layer.weight.astype(np.float64)
        bias = 0.0 if self.layer.bias is None else self.layer.bias.astype(np.float64)
        for norm in self.norms:
            scale = norm.gamma / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
            weight *= scale
            bias = (bias - norm.running_mean) * scale + norm.beta
        self.weight[...], self.bias[...] = weight, bias

    def halve(self, kind: str, name: str, rows: int) -> HalfWeight:
        """Read the weight rounded to `kind` from now on."""
        self.half = HalfWeight(self.weight, kind, name, rows)
        return self.half

    def build(self) -> Callable[[Array], Array]:
        kind, alpha = self.activation._kind, self.activation._alpha
        layer, weight, bias, packed = self.layer, self.weight, self.bias, None
        if self.half is not None:
            weight, packed = self.half.wide, self.half.packed
        if packed is None:
            packed = layer._pack(weight)

        def run(x: Array) -> Array:
            y: Array = layer._multiply(layer._read(x), weight, bias, kind, alpha, False, packed)
            return y

        return run


def fold(model: Network) -> list[Any]:
    """The steps of evaluation, as few as possible: layers, or an `Affine` for some together."""
    steps: list[Any] = []
    for layer in plain_layers(model.layers):
        last = steps[-1] if steps and isinstance(steps[-1], Affine) else None
        if isinstance(layer, Dropout):
            continue
        if isinstance(layer, Weighted):
            steps.append(Affine(layer))
        elif last and last.is_linear and isinstance(layer, BatchNorm):
            last.add(layer)
        elif last and last.is_linear and isinstance(layer, Activation):
            last.activation = layer
        else:
            steps.append(layer)
    for step in steps:
        if isinstance(step, Affine) and step.norms:
            step.fold()
    return steps


def operation(step: Any) -> Callable[[Array], Array]:
    """The function that computes a step of `fold`."""
    run: Callable[[Array], Array] = step.build() if isinstance(step, Affine) else step.forward
    return run
