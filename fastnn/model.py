"""Sequential: a chain of layers over one flat vector of parameters and one of gradients.

It converts and checks what comes in once, so that the layers need not; and it sees to it that
one thread at a time trains it."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from contextlib import contextmanager
from threading import get_ident
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _arrays, _chain, _checks, _kernels, _summary
from fastnn._layer import Arrays, Layer, Place, axis_name, label, shape_text
from fastnn._settings import Fixed
from fastnn.embedding import Embedding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from fastnn._layer import SupportsForwardBackward
    from fastnn.callbacks import Callback
    from fastnn.history import History
    from fastnn.losses import Loss
    from fastnn.metrics import Metric
    from fastnn.optimizers import Optimizer
    from fastnn.predictor import Predictor
    from fastnn.schedules import Factors

_CACHE_BYTES = 2**22  # shared by the outputs of one layer


class Sequential:
    """Layers one after the other: each takes what the one before gives.

    `seed` (0 .. 2^64 - 1) decides how the parameters begin and what dropout drops; `dtype` is
    float32 or float64; `l2` is the λ of the penalty for dense layers that state none.

    ``layers`` is a tuple; ``parameters``, ``gradients`` and ``state`` (running statistics) map
    names such as ``"0.weight"`` to arrays, views of the vectors ``flat_parameters`` and
    ``flat_gradients``, in which each begins at a multiple of 64 bytes and the gaps are 0.
    Write into these arrays: nothing can replace them.  `copy`, `pickle` and `copy.deepcopy` work.

    Evaluation changes nothing, so that any number of threads may do it at once.  The forward,
    backward and update of one training step belong to one thread: RuntimeError else.

    Raises ValueError where the layers' sizes do not follow one another, TypeError or ValueError
    for what is no layer and for settings out of their range.

    >>> from fastnn import Dense, ReLU, Sequential
    >>> model = Sequential(Dense(4, 8), ReLU(), Dense(8, 2), seed=0)
    >>> model.predict(np.zeros((3, 4))).shape
    (3, 2)
    >>> {name: array.shape for name, array in model.parameters.items()}
    {'0.weight': (4, 8), '0.bias': (8,), '2.weight': (8, 2), '2.bias': (2,)}
    >>> Sequential(Dense(4, 8), Dense(9, 2))
    Traceback (most recent call last):
    ValueError: layer 1, Dense(9, 2), takes 9 features, but layer 0, Dense(4, 8), gives 8
    """

    __slots__ = (  # so that a misspelt attribute is refused; a derived class may add any
        "__weakref__", "_codes", "_counter", "_dtype", "_ends", "_first_trained", "_fitting",
        "_flat_gradients", "_flat_parameters", "_hold", "_l2", "_layers", "_parts", "_passes",
        "_path", "_pending", "_random", "_rows", "_seed", "_share", "_trainer", "_writable",
        "gradients", "parameters", "state",
    )  # fmt: skip
    layers = Fixed[tuple["Layer | SupportsForwardBackward", ...]]()
    seed = Fixed[int]()
    l2 = Fixed[float]()
    dtype = Fixed["np.dtype[Any]"]()
    _dtype: np.dtype[Any]
    parameters: Mapping[str, NDArray[Any]]
    gradients: Mapping[str, NDArray[Any]]
    state: Mapping[str, NDArray[Any]]

    def __init__(
        self,
        *layers: Layer | SupportsForwardBackward,
        seed: int = 0,
        dtype: DTypeLike = "float32",
        l2: float = 0.0,
    ) -> None:
        self.seed = _checks.seed(seed)
        self.l2 = _checks.not_negative(l2, "l2")
        self.layers = layers
        _chain.check_layers(layers)
        self._ends = _chain.follow(layers)
        self._counter = np.zeros(1, np.uint64)
        self._set_up(_arrays.real_dtype(dtype))
        for i, layer in enumerate(layers):
            if isinstance(layer, Layer):
                layer.initialize(
                    np.random.default_rng([self.seed, i]), _chain.following(layers[i:])
                )

    # ---- memory --------------------------------------------------------------------------------

    def _set_up(self, dtype: np.dtype[Any]) -> None:
        """Everything that follows from `layers` and `dtype`: buffers, views, the way through."""
        self.dtype = dtype
        self._hold = _kernels.Hold()  # of the thread that trains it
        self._passes = 0  # of training that were begun
        self._share = np.ones(1)  # of the penalty, that one batch bears
        self._pending: tuple[int, ...] | None = None  # shape of outputs that await their gradient
        self._trainer: int | None = None  # the thread that ran the last training forward
        self._fitting: tuple[int, ...] = ()  # the shape of the last input that was good
        # of its rows, and of their outputs
        self._rows: tuple[tuple[int, ...], tuple[int, ...] | None] = ((), None)
        self._lay_out()
        self._path = [_chain.native(self.layers[i:], dtype) for i in range(len(self.layers))]
        first = self.layers[0]
        self._codes = first if isinstance(first, Embedding) else None
        self._random = any(getattr(layer, "random", False) for layer in self.layers)
        trained = [not c.native or bool(c.parameters) for c in self._path]
        # before this layer, nothing needs a gradient
        self._first_trained = trained.index(True) if any(trained) else len(trained)

    def _lay_out(self) -> None:
        """New flat vectors, and every layer's views of them."""
        names: list[tuple[int, str, tuple[int, ...], int]] = []
        step, size = _arrays.ALIGNMENT // self.dtype.itemsize, 0
        for i, layer in enumerate(self.layers):
            for name, shape in _chain.parameter_shapes(i, layer).items():
                names.append((i, name, shape, size))
                size += -(-math.prod(shape) // step) * step
        if size * self.dtype.itemsize > sys.maxsize:
            raise ValueError(f"layers: {size} parameters are more than memory can address")
        self._flat_parameters = _arrays.aligned_zeros(size, self.dtype)
        self._flat_gradients = _arrays.aligned_zeros(size, self.dtype)
        views: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {}) for _ in self.layers]
        self._parts: list[slice] = []  # of the flat vectors, array by array
        for i, name, shape, start in names:
            part = slice(start, start + math.prod(shape))
            self._parts.append(part)
            views[i][0][name] = self._flat_parameters[part].reshape(shape)
            views[i][1][name] = self._flat_gradients[part].reshape(shape)
        self._build([(Arrays(p), Arrays(g)) for p, g in views])

    def _build(self, views: list[tuple[Arrays, Arrays]]) -> None:
        """Hand the layers their views, and list all arrays by name."""
        parameters: dict[str, NDArray[Any]] = {}
        gradients: dict[str, NDArray[Any]] = {}
        state: dict[str, NDArray[Any]] = {}
        inner = itertools.count(2**32 - 1, -1)
        for i, (layer, mine) in enumerate(zip(self.layers, views, strict=True)):
            if not isinstance(layer, Layer):
                continue
            if layer.state:
                layer.state = Arrays({k: v.astype(self.dtype) for k, v in layer.state.items()})
            place = Place(i, self.dtype, self.seed, self._counter, self.l2, self._share, inner)
            layer.build(*mine, place)
            for into, arrays in ((parameters, mine[0]), (gradients, mine[1]), (state, layer.state)):
                into.update({f"{i}.{name}": array for name, array in arrays.items()})
        self._writable = [*parameters.items(), *state.items(), *gradients.items()]
        self.parameters, self.gradients = MappingProxyType(parameters), MappingProxyType(gradients)
        self.state = MappingProxyType(state)

    @property
    def in_features(self) -> int | None:
        """How many features or channels the model takes; None: any."""
        return self._ends.in_features

    @property
    def out_features(self) -> int | None:
        """How many it gives; None: as many as it takes, or unknown before data come."""
        return self._ends.out_features

    @property
    def flat_parameters(self) -> NDArray[Any]:
        """All parameters in one vector, with gaps of zeros."""
        return self._flat_parameters

    @property
    def flat_gradients(self) -> NDArray[Any]:
        """All gradients in one vector, laid out as `flat_parameters`."""
        return self._flat_gradients

    def _check_writable(self) -> None:
        name = _kernels.first_read_only(self._writable)
        if name is not None:
            raise ValueError(f"{name}: expected a writable array, found it read-only")

    # ---- forward, backward, update -------------------------------------------------------------

    def forward(self, x: ArrayLike, training: bool = False) -> NDArray[Any]:
        """The outputs for a batch; with `training`, what `backward` needs is kept.

        Shapes: `x` (batch, ..., in_features) of any real type, as the layers take it: images are
        (batch, height, width, channels), sequences (batch, length, channels).  The outputs are
        (batch, ..., out_features) of the model's type.  Until `backward`, leave `x` and the
        outputs as they are.

        Raises TypeError or ValueError for what is no array of real numbers or has another shape,
        for a batch of one where batch norm trains, and in training for read-only parameters;
        RuntimeError if another thread is training the model.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(64, 10))
        >>> model.forward(np.ones((2, 65)))
        Traceback (most recent call last):
        ValueError: x: layer 0, Dense(64, 10), takes 64 features, got 65 (shape (2, 65))
        """
        x = y = self._input(x, "x")
        if not training:
            return self._evaluate(x)
        with self._hold:
            self._begin()
            if self._random:
                _kernels.advance(self._counter)
            for layer in self._path:
                y = layer.forward(y, True)
            self._pending = y.shape
            return _apart(y, x)

    def _begin(self) -> None:
        """A training step of the calling thread's."""
        self._check_writable()
        self._pending, self._trainer = None, get_ident()
        self._passes += 1

    def _evaluate(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs for an input that was checked."""
        if _kernels.recording():  # by a training step that this interrupts
            return _kernels.unrecorded(self._evaluate, x)
        y = x
        for layer in self._path:
            y = layer.forward(y, False)
        return y if y.base is None and y is not x else _apart(y, x)

    def backward(self, gradient: ArrayLike, input_gradient: bool = False) -> NDArray[Any] | None:
        """Set `gradients` from the outputs' gradient, after one `forward` in training.

        Shapes: `gradient` as the outputs.  Returns None, or with `input_gradient` the gradient
        of `x`, which training does not need.

        Raises RuntimeError without a training `forward` before it, or if that was another
        thread's; ValueError for a gradient of another shape.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(2, 1, weight_init="zeros"))
        >>> y = model.forward([[3.0, 4.0]], training=True)
        >>> model.backward([[1.0]])
        >>> model.gradients["0.weight"].ravel()
        array([3., 4.], dtype=float32)
        """
        with self._hold:
            self._check_trainer()
            shape = self._pending
            if shape is None:
                raise RuntimeError("backward needs a forward(x, training=True) before each call")
            dy = given = _arrays.real_array(gradient, "gradient", self._dtype)
            if dy.shape != shape:
                raise ValueError(f"gradient: expected the outputs' shape {shape}, got {dy.shape}")
            self._pending = None
            if input_gradient:
                for layer in reversed(self._path):
                    dy = layer.backward(dy)
                return _apart(dy, given)
            first = self._first_trained
            for layer in self._path[:first:-1]:
                dy = layer.backward(dy)
            if first < len(self._path):
                self._path[first].backward_parameters(dy)
            return None

    def update(self, rule: Callable[[NDArray[Any], NDArray[Any]], None]) -> None:
        """Run ``rule(flat_parameters, flat_gradients)``, which changes them in place.

        What optimizers do.  Raises as `backward` does for another thread's training, RuntimeError
        between a forward in training and its backward, and ValueError where an array was made
        read-only.
        """
        with self._hold:
            self._check_trainer()
            if self._pending is not None:
                raise RuntimeError("the gradients are not yet those of the last forward: call "
                                   "model.backward(gradient) before the update")  # fmt: skip
            self._check_writable()
            rule(self._flat_parameters, self._flat_gradients)

    @contextmanager
    def exclusive(self, what: str = "training") -> Iterator[None]:
        """``with model.exclusive("fit"):`` no other thread can train the model meanwhile.

        Raises RuntimeError if one does already; `what` is named in the message.
        """
        self._hold.check(what)
        with self._hold:
            yield

    def _check_trainer(self) -> None:
        if self._trainer is not None and self._trainer != get_ident():
            raise RuntimeError(
                "another thread has begun a training step on this model since; forward, backward "
                "and update of a step belong to one thread"
            )

    def _input(self, value: ArrayLike, name: str) -> NDArray[Any]:
        """`value` as the first layer takes it."""
        x = _arrays.real_array(value, name, self._dtype)
        if x.shape != self._fitting:
            self._check_shape(x.shape, name)
        if self._codes is not None:
            self._codes.check(x, name)
        return x

    def _check_shape(self, shape: tuple[int, ...], name: str) -> None:
        """ValueError for what the layers do not take; what they take is remembered."""
        row = shape[1:]
        if not row or row != self._rows[0] or 0 in shape:
            self._check_row(shape, name)
            self._rows = row, self._shapes(row, name)[-1]
        self._fitting = shape

    def _check_row(self, shape: tuple[int, ...], name: str) -> None:
        """Against what the first layers say, before the data go through all of them."""
        features, i, dimensions = self.in_features, self._ends.first_sized, self._ends.dimensions
        if len(shape) < 2 or dimensions not in (None, len(shape) - 1):
            wanted = shape_text(dimensions, features)
            raise ValueError(f"{name}: expected shape {wanted}, got {shape}")
        if 0 in shape:
            raise ValueError(f"{name}: expected rows and features, got none: shape {shape}")
        if features is not None and shape[-1] != features:
            swapped = len(shape) > 2 and shape[1] == features
            hint = "; looks like NCHW: use fastnn.to_nhwc(x)" if swapped else ""
            raise ValueError(
                f"{name}: layer {i}, {label(self.layers[i])}, takes {features} "
                f"{axis_name(dimensions)}, got {shape[-1]} (shape {shape}){hint}"
            )

    def _shapes(self, row: tuple[int, ...], name: str) -> list[tuple[int, ...] | None]:
        """The shapes of all layers' outputs, None from where it is unknown, for rows such as X's
        that are of that shape."""
        try:
            return _chain.shapes_after(self.layers, row)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _shape_after(self, row: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of the outputs for a row of that shape, None where a layer does not say."""
        known, outputs = self._rows
        return outputs if known == row else self._shapes(row, "x")[-1]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The outputs' shape for inputs of that shape, both without the batch.

        Raises ValueError or TypeError for a shape that the model does not take, and RuntimeError
        where a layer of one's own, without the base `Layer`, does not say what it gives.

        >>> from fastnn import Dense, Flatten, Sequential
        >>> Sequential(Flatten(), Dense(784, 10)).output_shape((28, 28, 1))
        (10,)
        """
        shape = _checks.shape(shape, "shape")
        self._check_shape((1, *shape), "shape")
        outputs = self._shape_after(shape)
        if outputs is None:
            raise RuntimeError("output_shape: a layer without the base Layer does not say its own")
        return outputs

    # ---- use -----------------------------------------------------------------------------------

    def predict(self, X: ArrayLike, batch_size: int = 1024) -> NDArray[Any]:
        """The outputs for all rows, in evaluation: running statistics, no dropout.

        Shapes: `X` (n, ..., in_features), the outputs (n, ..., out_features).  Rows go through
        `batch_size` at a time, which bounds the memory; the results' bits do not depend on it.
        Raises as `forward` does, and TypeError or ValueError unless batch_size >= 1.

        >>> from fastnn import Dense, Sequential
        >>> Sequential(Dense(3, 2)).predict(np.ones((5, 3)), batch_size=2).shape
        (5, 2)
        """
        batch_size = _checks.positive_int(batch_size, "batch_size")
        if not isinstance(X, np.ndarray):
            X = _arrays.numeric_array(X, "X")
        if X.ndim > 2:
            self._check_shape(X.shape, "X")
            batch_size = self._rows_at_once(X.shape[1:], batch_size)
        if X.ndim == 0 or len(X) <= batch_size:
            return self._evaluate(self._input(X, "X"))
        self._check_shape(X.shape, "X")
        n = len(X)
        first = self._evaluate(self._input(X[:batch_size], "X"))
        outputs = np.empty((n, *first.shape[1:]), first.dtype)
        outputs[:batch_size] = first
        for start in range(batch_size, n, batch_size):
            part = slice(start, start + batch_size)
            outputs[part] = self._evaluate(self._input(X[part], "X"))
        return outputs

    def _rows_at_once(self, row: tuple[int, ...], most: int) -> int:
        """How many rows of that shape, at most `most`, best go through all layers together: so
        many images that what a layer leaves for the next is in a cache then."""
        if len(row) == 1:
            return most
        shapes = self._shapes(row, "x")
        largest = max(math.prod(shape) for shape in [row, *shapes] if shape is not None)
        return min(most, max(_kernels.FEW_IMAGES, _CACHE_BYTES // (largest * self._dtype.itemsize)))

    def predictor(self, batch_size: int = 1) -> Predictor:
        """Inference made ready for many calls on `batch_size` rows each: see `Predictor`.

        >>> from fastnn import Dense, Sequential
        >>> predictor = Sequential(Dense(3, 2)).predictor(batch_size=5)
        >>> predictor(np.ones((5, 3))).shape
        (5, 2)
        """
        from fastnn.predictor import Predictor

        return Predictor(self, batch_size)

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: Loss,
        metrics: Sequence[str | Metric] | None = None,
        sample_weight: ArrayLike | None = None,
        batch_size: int = 1024,
    ) -> dict[str, float]:
        """``{"loss": ..., "accuracy": ...}`` of the model's predictions, without L2 penalty.

        Shapes and `metrics` are as in `fit`.  Raises TypeError or ValueError as `fit` does.

        >>> from fastnn import Dense, MeanSquaredError, Sequential
        >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
        >>> model.evaluate([[1.0], [2.0]], [1.0, 2.0], loss=MeanSquaredError())
        {'loss': 2.5}
        """
        from fastnn.training import evaluate

        return evaluate(self, X, y, loss, metrics, sample_weight, batch_size)

    def fit(
        self,
        X: ArrayLike | Iterable[Sequence[ArrayLike]],
        y: ArrayLike | None = None,
        *,
        loss: Loss,
        optimizer: Optimizer,
        epochs: int = 10,
        batch_size: int = 32,
        validation_data: tuple[ArrayLike, ...] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        metrics: Sequence[str | Metric] | None = None,
        schedule: Factors | None = None,
        accumulate: int = 1,
        callbacks: Iterable[Callback] = (),
        resume: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> History:
        """Train on the rows of `X` and `y` for `epochs` passes; returns the `History`.

        Shapes: `X` (n, ...) as the model takes it, `y` (n,) or (n, outputs) as the loss takes it,
        `sample_weight` (n,), not negative; a row of weight 0 takes no part.  `class_weight`, a dict
        by label, 1 for those that it lacks, or ``"balanced"``, multiplies the rows' weights.
        `validation_data`, ``(X, y)`` or ``(X, y, sample_weight)``, is evaluated after every epoch.

        An `X` in float32, C-contiguous, is used where it is: a `numpy.memmap` stays on disk.
        Without `y`, `X` is an iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``, gone
        through once an epoch; then `batch_size`, `shuffle` and `seed` mean nothing, and a
        `schedule` needs its ``len()``.

        The order of the rows depends on `seed` only, so that a second `fit` with the same seed
        repeats the order of the first; the last batch of an epoch may be shorter.  `loss` is one
        of fastnn's or any callable like them (see `Loss`).  `metrics` holds names
        (``"accuracy"``, ``"r2"``; see `fastnn.metrics`) or functions ``metric(outputs, targets)``,
        which get targets (n,) as (n, 1) where the outputs are so; by default the accuracy for
        losses that classify, else none.  `progress` shows a bar on a terminal, a line per epoch
        elsewhere.

        The optimizer's learning rate is multiplied, step by step, by what `schedule` gives (see
        `fastnn.schedules`); after each epoch it is as before.  `accumulate` batches together make
        an update (see `TrainStep`).  `callbacks` are told about the epochs (see `Callback`).

        `resume` names the file of a checkpoint (see `ModelCheckpoint`) to go on from, to `epochs`
        in all and with the same bits as if the training had never stopped.  Model, optimizer, order
        and history are as saved, with what may be set at any time, such as learning rates; the
        other arguments must be as before.

        Ctrl-C ends the training and returns the history of the finished epochs, with
        ``history.interrupted`` set; the model keeps what it has learnt.

        Raises TypeError or ValueError before the first step for arrays, labels or settings that
        make no sense, naming them, and for a checkpoint of another architecture, rule, metrics or
        number of rows, listing all; OSError for one that cannot be read; RuntimeError if the model
        is being trained by another thread; FloatingPointError when training diverges, saying at
        which epoch, step and learning rate: the model keeps its last finite parameters.  Warns of
        a model that ends in the sigmoid or softmax that its loss applies itself.

        >>> from fastnn import SGD, Dense, MeanSquaredError, Sequential
        >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
        >>> history = model.fit(
        ...     [[1.0], [2.0]], [2.0, 4.0], loss=MeanSquaredError(), optimizer=SGD(0.1),
        ...     epochs=9, progress=False,
        ... )
        >>> len(history.loss), history.loss[-1] < 0.1
        (9, True)
        """
        from fastnn.training import fit

        return fit(
            self,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            shuffle=shuffle,
            seed=seed,
            sample_weight=sample_weight,
            class_weight=class_weight,
            metrics=metrics,
            schedule=schedule,
            accumulate=accumulate,
            callbacks=callbacks,
            resume=resume,
            progress=progress,
        )

    def penalty(self, batch_size: int) -> float:
        """The L2 penalty Σ λ / (2 batch_size) ‖weight‖² that belongs to a batch's loss.

        Its gradient is part of `gradients` already, with the batch's own size.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(1, 1), l2=0.5)
        >>> model.parameters["0.weight"][...] = 2.0
        >>> model.penalty(batch_size=10)
        0.1
        """
        batch_size = _checks.positive_int(batch_size, "batch_size")
        value = np.zeros(1)
        self._add_penalty(value, batch_size)
        return float(value[0])

    def _add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        for layer in self.layers:
            if isinstance(layer, Layer):
                layer.add_penalty(value, batch_size)

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """A table of the layers, their outputs' shapes and how many parameters they have.

        `input_shape`, of a row, such as (28, 28, 1), tells what is unknown before data come.
        Layers within a `Residual` stand below it; its count is that of all of them.
        Raises ValueError or TypeError for one that the model does not take.

        >>> from fastnn import Dense, ReLU, Sequential
        >>> print(Sequential(Dense(64, 128), ReLU(), Dense(128, 10)).summary())
           layer           output        parameters
        0  Dense(64, 128)  (batch, 128)       8,320
        1  ReLU()          (batch, 128)           0
        2  Dense(128, 10)  (batch, 10)        1,290
        9,610 parameters, 38.4 kB in float32
        """
        if input_shape is not None:
            input_shape = _checks.shape(input_shape, "input_shape")
            self._check_shape((1, *input_shape), "input_shape")
        return _summary.table(self.layers, self.in_features, self.dtype, input_shape)

    # ---- state ---------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file that `fastnn.load` reads: see `fastnn.save`."""
        from fastnn.persistence import save

        save(self, path)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all parameters and running statistics by name.

        >>> from fastnn import BatchNorm, Sequential
        >>> list(Sequential(BatchNorm(2)).state_dict())
        ['0.gamma', '0.beta', '0.running_mean', '0.running_var']
        """
        return {name: array.copy() for name, array in self._named().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy in what `state_dict` gave, rounded to the model's dtype.

        Raises one ValueError that lists all missing, unknown and misshapen arrays, and ValueError
        or TypeError for what is no array of real numbers: the model is then unchanged.
        RuntimeError if another thread is training the model.

        >>> from fastnn import Dense, Sequential
        >>> Sequential(Dense(1, 1)).load_state_dict({"0.weight": [[1.0]], "0.scale": [1.0]})
        Traceback (most recent call last):
        ValueError: state: missing 0.bias; unknown 0.scale
        """
        mine = self._named()
        missing = [name for name in mine if name not in state]
        unknown = [name for name in state if name not in mine]
        new = {
            name: _arrays.real_array(state[name], name, self.dtype).copy()  # may be a view of mine
            for name in mine
            if name in state
        }
        misshapen = [
            f"{name} expected {mine[name].shape}, got {array.shape}"
            for name, array in new.items()
            if array.shape != mine[name].shape
        ]
        groups = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
        faults = [f"{what} {', '.join(names)}" for what, names in groups.items() if names]
        if faults:
            raise ValueError(f"state: {'; '.join(faults)}")
        with self.exclusive("load_state_dict"):
            self._check_writable()
            for name, array in new.items():
                mine[name][...] = array

    def _named(self) -> dict[str, NDArray[Any]]:
        """Parameters and state, layer by layer."""
        named = {**self.parameters, **self.state}
        return {f"{i}.{name}": named[f"{i}.{name}"] for i, name in self._names()}

    def _names(self) -> Iterator[tuple[int, str]]:
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Layer):
                yield from ((i, name) for name in (*layer.parameters, *layer.state))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "l2": self.l2,
            "counter": int(self._counter[0]),
            "parameters": {name: array.copy() for name, array in self.parameters.items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layers, self.seed, self.l2 = state["layers"], state["seed"], state["l2"]
        self._ends = _chain.follow(self.layers)
        self._counter = np.array([state["counter"]], np.uint64)
        self._set_up(np.dtype(state["dtype"]))
        for name, array in self.parameters.items():
            array[...] = state["parameters"][name]

    def __copy__(self) -> Sequential:
        return copy.deepcopy(self)  # two models cannot share a layer

    def __repr__(self) -> str:
        lines = "".join(f"    {label(layer)},\n" for layer in self.layers)
        options = f"seed={self.seed}, dtype={self.dtype.name!r}"
        options += f", l2={self.l2!r}" if self.l2 else ""
        return f"Sequential(\n{lines}    {options},\n)"


def _apart(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """`y`, copied if it lies where `x` does, which is its user's."""
    return y.copy() if np.may_share_memory(y, x) else y
