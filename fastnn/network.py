"""Network: layers over one flat vector of parameters and one of gradients, and their mathematics.

It converts and checks what comes in once, so that the layers need not, and sees to it that one
thread at a time trains it.  It knows no training loop."""

from __future__ import annotations

import copy
import itertools
import math
import operator
import sys
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

import fastnn._kernels as _kernels
from fastnn import states
from fastnn.data.belongings import check_classes, check_scaler, check_target_scaler
from fastnn.layers.block import as_layer
from fastnn.layers.chain import Chain, check_layers, numbered
from fastnn.layers.embedding import Embedding
from fastnn.layers.layer import Arrays, Layer, Place
from fastnn.layers.periodic import PeriodicEmbedding
from fastnn.support import arrays, checks
from fastnn.support.settings import Checked, Fixed, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray
    from typing_extensions import Self

    from fastnn.layers.layer import SupportsForwardBackward


BELONGINGS = ("scaler", "target_scaler", "classes")  # for the user's own use, beside the layers


class Network:
    """What a `Sequential` is without training loop and files: see there.

    Users make a `Sequential`; every module below `model` takes a `Network`."""

    __slots__ = (  # so that a misspelt attribute is refused; a derived class may add any
        "__weakref__",
        "_chain",
        "_classes",
        "_compute",
        "_counter",
        "_dtype",
        "_flat_gradients",
        "_flat_parameters",
        "_gradients",
        "_hold",
        "_l1",
        "_l2",
        "_layers",
        "_layout",
        "_parameters",
        "_passes",
        "_penalty_scale",
        "_pending",
        "_random",
        "_scaler",
        "_seed",
        "_slices",
        "_state",
        "_target_scaler",
        "_trainer",
        "_written",
    )  # fmt: skip
    layers = Fixed[tuple["Layer | SupportsForwardBackward", ...]]()
    seed = Fixed[int]()
    l1 = Fixed[float]()
    l2 = Fixed[float]()
    dtype = Fixed["np.dtype[Any]"]()
    compute = Fixed["str | None"]()
    _dtype: np.dtype[Any]
    parameters = Fixed[Arrays]()
    gradients = Fixed[Arrays]()
    state = Fixed[Arrays]()
    scaler = Checked(check_scaler)
    target_scaler = Checked(check_target_scaler)
    classes = Checked(check_classes)

    def __init__(
        self,
        *layers: Layer | SupportsForwardBackward,
        seed: int = 0,
        dtype: DTypeLike = "float32",
        l1: float = 0.0,
        l2: float = 0.0,
        compute: str | None = None,
    ) -> None:
        self.seed = checks.seed(seed)
        self.l1 = checks.not_negative(l1, "l1")
        self.l2 = checks.not_negative(l2, "l2")
        self.layers = tuple(map(as_layer, layers))
        check_layers(numbered(self.layers))
        self.compute = compute
        self._set_up(arrays.real_dtype(dtype), passes=0)
        self._initialize()

    # ---- layers --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer | SupportsForwardBackward]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: slice) -> Self: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """``model[2]`` is the model's own layer, ``model[:4]`` a new model of copies of these
        layers, with what they have learnt and the model's dtype, compute, seed, l1 and l2, but
        without its scalers and classes.

        Training the one does not change the other.  Raises IndexError for a number without a
        layer, TypeError for what is neither a number nor a slice, ValueError for a slice without
        layers or with layers that do not follow one another.

        >>> from fastnn import Dense, ReLU, Sequential
        >>> model = Sequential(Dense(4, 8), ReLU(), Dense(8, 2), seed=0)
        >>> len(model), model[-1], model[-1] is model.layers[2]
        (3, Dense(8, 2), True)
        >>> features = model[:2].predict(np.ones((5, 4)))  # of the last hidden layer
        >>> features.shape
        (5, 8)
        """
        n = len(self.layers)
        if isinstance(index, slice):
            layers = self.layers[index]
            if not layers:
                raise ValueError(f"index: expected at least one of {n} layers, got {index}")
            others = {"layers": copy.deepcopy(layers), **dict.fromkeys(BELONGINGS)}
            return self._restore(self.__getstate__() | others)
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"index: expected an integer or a slice, got {index!r}")
        if not -n <= operator.index(index) < n:
            raise IndexError(f"index: expected a layer's number from {-n} to {n - 1}, got {index}")
        return self.layers[index]

    # ---- memory --------------------------------------------------------------------------------

    def _set_up(self, dtype: np.dtype[Any], passes: int) -> None:
        """Make everything that follows from `layers` and `dtype`, after so many training passes."""
        self._chain = Chain(self.layers)
        self._chain.check_embeddings()
        self.dtype = dtype
        _check_compute(self.compute, dtype)
        self._counter = np.array([passes], np.uint64)  # training passes that a file counts
        self._hold = _kernels.Hold()  # the thread that trains this network has it
        self._passes = 0  # training passes begun on this object
        self._penalty_scale = np.ones(1)  # the part of the penalty that one batch bears
        self._pending: tuple[int, ...] | None = None  # shape of outputs that await their gradient
        self._trainer: int | None = None  # the thread that ran the last training forward
        self._random = any(getattr(layer, "random", False) for layer in self.layers)
        self._lay_out()
        for name in BELONGINGS:
            setattr(self, name, None)
        state = self._chain.state()
        state = {name: array.astype(dtype, order="C") for name, array in state.items()}
        inner = itertools.count(2**32 - 1, -1)
        place = Place(
            0, dtype, self.seed, self._counter, self.l1, self.l2, self._penalty_scale, inner,
            self.compute == "bfloat16",
        )  # fmt: skip
        positions = (i for i, _, _ in self._chain.stateful())
        self._chain.build(self.parameters, self.gradients, state, place, positions)
        self.state = Arrays(state)
        named = {**self.parameters, **self.state}.items()
        self._layout = dtype, *((name, array.shape) for name, array in named)
        flat = {"flat_parameters": self._flat_parameters, "flat_gradients": self._flat_gradients}
        written = [
            *self.parameters.items(), *self.state.items(), *self.gradients.items(), *flat.items()
        ]  # fmt: skip
        self._written = [(name, array, array.view()) for name, array in written]

    def _lay_out(self) -> None:
        """Make the flat vectors and the parameters' views of them, each on a line of the cache."""
        shapes, size = self._chain.parameter_shapes(), 0
        step = arrays.ALIGNMENT // self.dtype.itemsize
        self._slices: dict[str, slice] = {}  # each parameter's elements in the flat vectors
        for name, shape in shapes.items():
            self._slices[name] = slice(size, size + math.prod(shape))
            size += -(-math.prod(shape) // step) * step
        if size * self.dtype.itemsize > sys.maxsize:
            raise ValueError(f"layers: {size} parameters are more than memory can address")
        self._flat_parameters = arrays.aligned_zeros(size, self.dtype)
        self._flat_gradients = arrays.aligned_zeros(size, self.dtype)
        self.parameters, self.gradients = (
            Arrays(
                {name: flat[self._slices[name]].reshape(shape) for name, shape in shapes.items()}
            )
            for flat in (self._flat_parameters, self._flat_gradients)
        )

    @property
    def in_features(self) -> int | None:
        """How many features or channels the model takes; None: any."""
        return self._chain.in_features

    @property
    def out_features(self) -> int | None:
        """How many it gives; None: as many as it takes, or unknown before data come."""
        return self._chain.out_features

    @property
    def flat_parameters(self) -> NDArray[Any]:
        """All parameters in one vector, with gaps of zeros."""
        return self._flat_parameters

    @flat_parameters.setter
    def flat_parameters(self, vector: NDArray[Any]) -> None:
        _check_same(vector, self._flat_parameters, "flat_parameters")

    @property
    def flat_gradients(self) -> NDArray[Any]:
        """All gradients in one vector, laid out as `flat_parameters`."""
        return self._flat_gradients

    @flat_gradients.setter
    def flat_gradients(self, vector: NDArray[Any]) -> None:
        _check_same(vector, self._flat_gradients, "flat_gradients")

    def _check_written(self) -> None:
        name = _kernels.first_changed(self._written)
        if name is None:
            return
        array, like = next(entry[1:] for entry in self._written if entry[0] == name)
        if not array.flags.writeable:
            raise ValueError(f"{name}: expected a writable array, found it read-only")
        wanted = arrays.describe(like)
        strided = f" with strides {array.strides}" if arrays.describe(array) == wanted else ""
        raise ValueError(
            f"{name}: expected {wanted} as the model made it, found it changed in place to "
            f"{arrays.describe(array)}{strided}"
        )

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
        x = self._input(x, "x")
        if not training:
            return self._evaluate(x)
        with self._hold:
            self._begin()
            if self._random:
                _kernels.advance(self._counter)
            y = self._chain.forward(x, True)
            self._pending = y.shape
            return _apart(y, x)

    def _begin(self) -> None:
        """Note that the calling thread begins a training pass."""
        self._check_written()
        self._pending, self._trainer = None, get_ident()
        self._passes += 1

    def _evaluate(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs for an input that was checked."""
        if _kernels.recording():  # a training step, which this interrupts
            return _kernels.unrecorded(self._evaluate, x)
        y = self._chain.forward(x, False)
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
            dy = arrays.outputs_gradient(gradient, shape, self._dtype)
            self._pending = None
            if input_gradient:
                return _apart(self._chain.backward(dy), dy)
            self._chain.backward_parameters(dy)
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
            self._check_written()
            rule(self._flat_parameters, self._flat_gradients)

    def _frozen(self) -> set[str]:
        """The names of the parameters that training does not change."""
        return set(self._chain.frozen())

    def _trains_natively(self) -> bool:
        """Whether forward, backward and update are those of this class, so that no Python of the
        user's runs between their kernels."""
        return all(
            getattr(getattr(self, name), "__func__", None) is getattr(Network, name)
            for name in ("forward", "backward", "update")
        )

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
        x, chain = arrays.real_array(value, name, self._dtype), self._chain
        if x.shape != chain.checked_shape:
            chain.check_input(x.shape, name)
        if chain.codes:
            # integers become the same codes, or numbers beyond all codes
            whole = isinstance(value, np.ndarray) and value.dtype.kind in "biu"
            chain.check_codes(x if whole else value, name)
        return x

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The outputs' shape for inputs of that shape, both without the batch.

        Raises ValueError or TypeError for a shape that the model does not take, and RuntimeError
        where a layer of one's own, without the base `Layer`, does not say what it gives.

        >>> from fastnn import Dense, Flatten, Sequential
        >>> Sequential(Flatten(), Dense(784, 10)).output_shape((28, 28, 1))
        (10,)
        """
        shape = checks.shape(shape, "shape")
        self._chain.check_input((1, *shape), "shape")
        outputs = self._chain.output_row(shape)
        if outputs is None:
            raise RuntimeError("output_shape: a layer without the base Layer does not say its own")
        return outputs

    def predict(self, X: ArrayLike, batch_size: int = 1024) -> NDArray[Any]:
        """The outputs for all rows, in evaluation: running statistics, no dropout.

        Shapes: `X` (n, ..., in_features), the outputs (n, ..., out_features).  Rows go through
        `batch_size` at a time, which bounds the memory; the results' bits do not depend on it.
        Raises as `forward` does, and TypeError or ValueError unless batch_size >= 1.

        >>> from fastnn import Dense, Sequential
        >>> Sequential(Dense(3, 2)).predict(np.ones((5, 3)), batch_size=2).shape
        (5, 2)
        """
        batch_size = checks.positive_int(batch_size, "batch_size")
        if not isinstance(X, np.ndarray):
            if self._chain.codes:  # which are checked before they are rounded
                X = arrays.numeric_array(X, "X")
            else:
                X = arrays.real_array(X, "X", self._dtype)
        if X.ndim > 2:
            self._chain.check_input(X.shape, "X")
            itemsize = self.dtype.itemsize
            batch_size = self._chain.rows_at_once(X.shape[1:], batch_size, itemsize)
        if X.ndim == 0 or len(X) <= batch_size:
            return self._evaluate(self._input(X, "X"))
        self._chain.check_input(X.shape, "X")
        n = len(X)
        first = self._evaluate(self._input(X[:batch_size], "X"))
        outputs = np.empty((n, *first.shape[1:]), first.dtype)
        outputs[:batch_size] = first
        for start in range(batch_size, n, batch_size):
            part = slice(start, start + batch_size)
            outputs[part] = self._evaluate(self._input(X[part], "X"))
        return outputs

    def penalty(self, batch_size: int) -> float:
        """The penalty of `l1` and `l2`, Σ λ1 / batch_size |weight| + λ2 / (2 batch_size) weight²,
        that belongs to a batch's loss; frozen layers have none.

        Its gradient is part of `gradients` already, with the batch's own size.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(1, 1), l2=0.5)
        >>> model.parameters["0.weight"][...] = 2.0
        >>> model.penalty(batch_size=10)
        0.1
        """
        batch_size = checks.positive_int(batch_size, "batch_size")
        value = np.zeros(1)
        self._chain.add_penalty(value, batch_size)
        return float(value[0])

    # ---- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all parameters and running statistics by name.

        >>> from fastnn import BatchNorm, Sequential
        >>> list(Sequential(BatchNorm(2)).state_dict())
        ['0.gamma', '0.beta', '0.running_mean', '0.running_var']
        """
        return {name: array.copy() for name, array in self._named().items()}

    def load_state_dict(
        self, state: Mapping[str, ArrayLike], strict: bool = True
    ) -> states.IncompatibleKeys:
        """Copy in what `state_dict` gave, rounded to the model's dtype.

        Unless `strict`, what the model lacks or the state lacks is passed over.  The result names
        these, ``(missing_keys, unexpected_keys)``; both lists are empty after a strict call.
        Another shape is an error all the same: of a head for other classes, leave out the arrays.

        Weights of PyTorch lie the other way round: `fastnn.torch.load_state_dict` turns them.  Its
        tensors, names and shapes are refused here, and so are square weights alone, which would fit
        either way, if they share a tensor's memory.  Nothing tells that copies of these were not
        transposed.

        Raises one ValueError that lists all misshapen arrays and, if `strict`, all missing and
        unknown ones, and ValueError or TypeError for what is no array of real numbers: the model
        is then unchanged.  RuntimeError if another thread is training the model.

        >>> from fastnn import Dense, Sequential
        >>> model, state = Sequential(Dense(1, 1)), {"0.weight": [[1.0]], "0.scale": [1.0]}
        >>> model.load_state_dict(state)
        Traceback (most recent call last):
        ValueError: state: missing 0.bias; unknown 0.scale
        >>> model.load_state_dict(state, strict=False)
        IncompatibleKeys(missing_keys=['0.bias'], unexpected_keys=['0.scale'])
        """
        checks.flag(strict, "strict")
        mine = self._named()
        new, lacking = states.fitting(state, mine, self.dtype, strict, self._turned_in_pytorch())
        with self.exclusive("load_state_dict"):
            self._check_written()
            for name, array in new.items():
                mine[name][...] = array
        return lacking

    def lerp(self, other: Network, tau: float) -> None:
        """Move all parameters and running statistics towards those of `other`, in place:
        p += tau (other's p - p).

        What target networks and Polyak averages do (T. Lillicrap et al., 2016, soft updates).
        `tau` lies in [0, 1]; with 1 they become `other`'s, bit for bit.

        Raises TypeError for what is no model, ValueError for one whose arrays have other names,
        shapes or another dtype, for another tau, and where an array was made read-only;
        RuntimeError if another thread is training the model.

        >>> import copy
        >>> from fastnn import Dense, Sequential
        >>> critic = Sequential(Dense(3, 1))
        >>> target = copy.deepcopy(critic)
        >>> critic.flat_parameters += 1.0
        >>> before = target.parameters["0.weight"].copy()
        >>> target.lerp(critic, 0.25)
        >>> bool(abs(target.parameters["0.weight"] - before - 0.25).max() < 1e-6)
        True
        """
        rate = np.array([checks.zero_to_one(tau, "tau")])
        if not isinstance(other, Network):
            raise TypeError(f"other: expected a model, got {arrays.describe(other)}")
        if other._layout != self._layout:
            raise ValueError(
                f"other: expected the layout of this model, {self._other_layout(other)}"
            )
        with self._hold:
            self._check_written()
            if self._flat_parameters.size:
                _kernels.lerp(self._flat_parameters, other._flat_parameters, rate)
            for name, array in self.state.items():
                if array.size:
                    _kernels.lerp(np.atleast_1d(array), np.atleast_1d(other.state[name]), rate)

    def _other_layout(self, other: Network) -> str:
        """The first thing in which the layout of `other` is another, in words."""
        if self.dtype != other.dtype:
            return f"{self.dtype}, got {other.dtype}"
        mine, its = ({n: a.shape for n, a in model._named().items()} for model in (self, other))
        name = next(name for name in (*mine, *its) if mine.get(name) != its.get(name))
        return f"with {name} of shape {mine.get(name)}, got {its.get(name)}"

    def _turned_in_pytorch(self) -> list[str]:
        """The names of the weights that are (out, in) there; embeddings' are as they are here."""
        kept = [
            layer.weight
            for layer, _ in self._chain.walk()
            if isinstance(layer, Embedding | PeriodicEmbedding)
        ]
        named = [(n, a) for n, a in self.parameters.items() if n.endswith(".weight")]
        return [n for n, a in named if not any(a is weight for weight in kept)]

    def _named(self) -> dict[str, NDArray[Any]]:
        """Parameters and state, layer by layer."""
        named = {**self.parameters, **self.state}
        return {
            f"{layer_name}.{name}": named[f"{layer_name}.{name}"]
            for _, layer_name, layer in self._chain.stateful()
            for name in (*layer.parameters, *layer.state)
        }

    def __getstate__(self) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "l1": self.l1,
            "l2": self.l2,
            "compute": self.compute,
            "counter": int(self._counter[0]),
            **{name: getattr(self, name) for name in BELONGINGS},
        }  # the layers have copies of their parameters

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layers, self.seed = state["layers"], state["seed"]
        self.l1, self.l2 = state["l1"], state["l2"]
        self.compute = state.get("compute")
        self._set_up(np.dtype(state["dtype"]), state["counter"])
        for name in BELONGINGS:
            setattr(self, name, state.get(name))
        if "parameters" not in state:
            self._initialize()
            return
        for name, array in self.parameters.items():  # new layers, from a file
            array[...] = state["parameters"][name]

    def _initialize(self) -> None:
        self._chain.initialize(lambda i: np.random.default_rng([self.seed, i]))

    @classmethod
    def _restore(cls, state: dict[str, Any]) -> Self:
        """The network that a state describes, from `__getstate__` or, with parameters, a file."""
        network = cls.__new__(cls)
        network.__setstate__(state)
        return network

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # two networks cannot share a layer

    def __repr__(self) -> str:
        lines = "".join(f"    {label(layer)},\n" for layer in self.layers)
        options = f"seed={self.seed}, dtype={self.dtype.name!r}"
        options += f", l1={self.l1!r}" if self.l1 else ""
        options += f", l2={self.l2!r}" if self.l2 else ""
        options += f", compute={self.compute!r}" if self.compute else ""
        return f"{type(self).__name__}(\n{lines}    {options},\n)"


def _check_compute(compute: Any, dtype: np.dtype[Any]) -> None:
    if compute is None:
        return
    if compute != "bfloat16":
        kind = ValueError if isinstance(compute, str) else TypeError
        raise kind(f"compute: expected None or 'bfloat16', got {compute!r}")
    if dtype != np.float32:
        raise ValueError(f"compute: expected None for a {dtype} model, got {compute!r}")


def _check_same(vector: Any, own: NDArray[Any], name: str) -> None:
    """Raise unless it is the same vector, which ``model.flat_parameters *= 0.5`` assigns."""
    if vector is not own:
        raise AttributeError(
            f"{name}: expected values written into the vector, as in model.{name}[...] = values; "
            f"got {arrays.describe(vector)}"
        )


def _apart(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """`y`, copied if it lies where `x` does, which is the caller's."""
    return y.copy() if np.may_share_memory(y, x) else y
