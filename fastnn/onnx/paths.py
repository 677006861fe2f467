"""What the values of an ONNX graph are to fastnn: paths of layers from the input, and where the
axes of each value lie in fastnn's array, whose channels come last.  At last a path is a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.layers import (
    Activation,
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Heads,
    Linear,
    Residual,
    Scale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Array = Any
Size = int | None  # None: not known before data come
_EPS = 2.0**-20  # var = 1 - eps and eps add up to exactly 1, in float32 too


@dataclass(frozen=True, eq=False)
class Spec:
    """A layer to be, or a part of a formula that will be one: "affine" is (x - mean) scale + shift,
    "part" some columns, "bend" f(x) - x, "pad" zeros around an image; "erf", "mean", "square",
    "center" (x - mean), "sqrt", "cos" are what they are called."""

    kind: Any
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    paths: tuple[tuple[Spec, ...], ...] = ()
    node: str = ""
    scope: str = ""
    dtype: Any = None


def is_activation(spec: Spec) -> bool:
    return isinstance(spec.kind, type) and issubclass(spec.kind, Activation)


class Step:
    """A layer behind what comes before it; the input has none.  What several nodes take is
    `shared`: a layer behind it stays apart."""

    __slots__ = ("before", "depth", "shared", "spec")

    def __init__(self, before: Step | None = None, spec: Spec | None = None) -> None:
        self.before, self.spec, self.shared = before, spec, False
        self.depth: int = 0 if before is None else before.depth + 1

    def behind(self, *specs: Spec) -> Step:
        step = self
        for spec in specs:
            step = Step(step, spec)
        return step

    def path(self) -> tuple[Spec, ...]:
        """All layers from the input to here."""
        specs: list[Spec] = []
        step = self
        while step.before is not None and step.spec is not None:
            specs.append(step.spec)
            step = step.before
        return tuple(reversed(specs))


def fork(*ends: Step) -> tuple[Step, list[tuple[Spec, ...]]]:
    """The last step that several paths have in common, and what each has behind it."""
    rests: list[list[Spec]] = [[] for _ in ends]
    steps = list(ends)
    while any(step is not steps[0] for step in steps):
        deepest = max(step.depth for step in steps)
        for i, step in enumerate(steps):
            if step.depth == deepest:
                rests[i].append(step.spec)  # type: ignore[arg-type]
                steps[i] = step.before  # type: ignore[assignment]
    return steps[0], [tuple(reversed(rest)) for rest in rests]


class Open(tuple[Size, ...]):
    """The shape of a row whose number of features is known when the layout of the input is."""

    __slots__ = ()


class Value(NamedTuple):
    """Numbers that depend on the input.

    `rows` is the shape of a row in fastnn; `axes` says for each axis in ONNX which axis of fastnn's
    array it is, None for one of size 1 that this lacks.  While the layout of the input is open,
    `loose`, both are about the array as the file describes it.  `order` is set where an image was
    flattened whose channels come first in ONNX: the `rows` and `axes` that it had."""

    step: Step
    rows: tuple[Size, ...]
    axes: tuple[Size, ...]
    dtype: Any
    loose: bool = False
    order: tuple[tuple[Size, ...], tuple[Size, ...]] | None = None

    def sizes(self) -> tuple[Size, ...]:
        """The sizes of all axes in ONNX but the first, which is the batch."""
        return tuple(1 if a is None else self.rows[a - 1] for a in self.axes[1:])

    def width(self) -> Any:
        """How many features or channels it has, or an `Open` shape."""
        return Open(self.rows) if self.loose else self.rows[-1]

    def earlier(self) -> Value:
        """The value before its last layer, which keeps the shape."""
        assert self.step.before is not None
        return self._replace(step=self.step.before)

    def then(self, spec: Spec) -> Value:
        """The value behind a layer that keeps the shape."""
        return self._replace(step=self.step.behind(replace(spec, dtype=self.dtype)))


class Input:
    """The network's input: its number of rows where the file is for one only, whether its numbers
    are float64, and whether the model takes them with the file's axis 1 moved behind the others,
    which is open (None) until an operator tells where the channels are."""

    def __init__(self, value: Value, batch: int | None) -> None:
        self.axes, self.batch = value.axes, batch
        self.exact = value.dtype == np.float64
        self.moved: bool | None = None

    def fixed(self, value: Value, channels: int | None = None) -> Value:
        """The value with axes of fastnn's array; `channels` is the axis in ONNX that must hold its
        features or channels."""
        if not value.loose:
            return value
        last = len(self.axes) - 1
        if self.moved is None:
            self.moved = channels is not None and value.axes[channels] == 1
        if self.moved:
            places = {None: None, 0: 0, 1: last} | {i: i - 1 for i in range(2, last + 1)}
            axes = tuple(places[a] for a in value.axes)
            value = value._replace(rows=(*value.rows[1:], value.rows[0]), axes=axes)
        return value._replace(loose=False)


class Labels(NamedTuple):
    """The place of the largest number of each row, or its class."""

    of: Value
    classes: Array | None = None


class Named(NamedTuple):
    """Numbers with the name of each column, as a ZipMap gives them."""

    of: Value
    classes: Array


class Codes(NamedTuple):
    """What a formula makes of the input's codes 0, 1, ...: `table` has its result for each."""

    of: Value
    table: Array


def codes_of(inputs: Sequence[Any], kinds: str) -> Value | None:
    """The codes that all inputs follow from, beside single constants; None for others.  `kinds` are
    those of NumPy's types that a code may have."""
    found = []
    for value in inputs:
        if isinstance(value, Codes):
            found.append(value.of)
        elif isinstance(value, Value) and value.dtype.kind in kinds and is_plain(value):
            found.append(value)
        elif not isinstance(value, np.ndarray) or value.size != 1:
            return None
    alike = all((v.step, v.axes) == (found[0].step, found[0].axes) for v in found)
    return found[0] if found and alike else None


def is_plain(value: Value) -> bool:
    """Whether it is the input or columns of it."""
    step: Step | None = value.step
    while step is not None and step.spec is not None:
        if step.spec.kind != "part":
            return False
        step = step.before
    return True


def turned(array: NDArray[Any], value: Value) -> NDArray[Any]:
    """An array whose first axis is the features of a flattened value, in fastnn's order."""
    if value.order is None:
        return array
    rows, axes = value.order
    sizes = Value(Step(), rows, axes, None).sizes()
    if None in sizes:
        raise ValueError("expected an image of known height and width before it is flattened")
    if math.prod(sizes) != len(array):  # type: ignore[arg-type]
        raise ValueError(f"expected {math.prod(sizes)} features, got {len(array)}")  # type: ignore[arg-type]
    places = [0 if a is None else a for a in axes[1:]]
    by_place = sorted(range(len(places)), key=places.__getitem__)
    whole = array.reshape(*sizes, *array.shape[1:])  # type: ignore[arg-type]
    rest = range(len(sizes), whole.ndim)
    return whole.transpose(*by_place, *rest).reshape(array.shape)


def numbers(value: Any, what: str = "input") -> Value:
    """A value of real numbers that depend on the input."""
    if not isinstance(value, Value) or value.dtype.kind != "f":
        raise ValueError(f"{what}: expected numbers that follow from the network's input")
    return value


def weight(array: Any, value: Value, what: str, *ndims: int) -> Any:
    """An array known when the file is loaded, of the value's type."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{what}: expected an array that the file has")
    if array.dtype != value.dtype or (ndims and array.ndim not in ndims):
        got = f"{array.dtype} {array.shape}"
        axes = f" with {ndims[0]} axes" if ndims else ""
        raise ValueError(f"{what}: expected an array of {value.dtype}{axes}, got {got}")
    return array


def features(value: Value, node: str) -> Value:
    """Rows of one axis; what else is of size 1 in ONNX becomes one by a `Flatten`."""
    if len(value.axes) != 2 and len(value.axes) != len(value.rows) + 1:
        raise ValueError(f"expected (batch, features), got {len(value.axes)} axes")
    if len(value.rows) == 1:
        return value._replace(axes=(0, 1))
    count = None if None in value.rows else math.prod(value.rows)  # type: ignore[arg-type]
    flat = value.then(Spec(Flatten, node=node))
    return flat._replace(rows=(count,), axes=(0, 1))


# ---- the model ---------------------------------------------------------------------------------


class Builder:
    """Makes the layers of a path, and notes the arrays of each by the model's name for it."""

    def __init__(self, dtype: Any, room: int) -> None:
        self.dtype, self.room = dtype, room
        self.arrays: dict[str, Array] = {}

    def layers(self, specs: Sequence[Spec], prefix: str = "") -> tuple[Any, ...]:
        """The layers of a path; an activation joins the layer before it if both have one scope."""
        made: list[Any] = []
        for spec in specs:
            try:
                made.append(self._layer(spec, f"{prefix}{len(made)}."))
            except (TypeError, ValueError) as error:
                text = str(error)
                raise ValueError(text if text[:4] == "node" else f"{spec.node}: {text}") from None
        return tuple(made) or (Linear(),)

    def _layer(self, spec: Spec, name: str) -> Any:
        if spec.kind == "affine":
            spec = _scaling(spec)
        if isinstance(spec.kind, str):
            raise ValueError(f"expected a layer of fastnn's, got {spec.kind!r} by itself")
        if spec.dtype != self.dtype and spec.kind is not Embedding:
            raise ValueError(
                f"expected numbers of {self.dtype} as in the other layers, got {spec.dtype}"
                + ("; scalers=True makes it the model's scaler" if spec.kind is BatchNorm else "")
            )
        self.arrays |= {name + key: array for key, array in spec.arrays.items()}
        if spec.kind is Residual:
            f, shortcut = spec.paths
            other = self._path(shortcut, name + "shortcut.") if shortcut else None
            return Residual(*self.layers(f, name), shortcut=other)
        if spec.paths:
            paths = [
                self._path(path, f"{name}{i}.") if path or spec.kind is Heads else None
                for i, path in enumerate(spec.paths)
            ]
            made = list(zip(spec.args, paths, strict=True)) if spec.kind is Columns else paths
            return spec.kind(*made)
        return spec.kind(*spec.args, **spec.options)

    def _path(self, specs: tuple[Spec, ...], name: str) -> Any:
        """One layer, or a block of several."""
        if len(specs) > 1:
            return Block(*self.layers(specs, name))
        return self._layer(specs[0], name) if specs else Linear()

    def check(self, layers: tuple[Any, ...]) -> None:
        """Raise ValueError if the layers have more numbers than the file has room for."""
        count = 0
        for layer in layers:
            count += sum(math.prod(shape) for shape in layer.parameter_shapes().values())
            count += sum(math.prod(array.shape) for array in layer.state.values())
        if count * np.dtype(self.dtype).itemsize > self.room:
            raise ValueError(f"expected weights in proportion to the file, got {count} numbers")


def _scaling(spec: Spec) -> Spec:
    """What (x - mean) scale + shift is as a layer: a `Scale`, or a `BatchNorm` of variance 1."""
    mean, scale, shift = (spec.arrays[name] for name in ("mean", "scale", "shift"))
    (features,) = spec.args
    if features is None:
        raise ValueError("expected a known number of channels")
    if not mean.any() and not shift.any():
        return replace(spec, kind=Scale, arrays={"scale": scale})
    arrays = {"gamma": scale, "beta": shift, "running_mean": mean, "running_var": 1 - _EPS}
    return replace(spec, kind=BatchNorm, options={"eps": _EPS}, arrays=arrays)


def check_uses(specs: tuple[Spec, ...], seen: set[int]) -> None:
    """Raise ValueError unless each layer is used once; a network could grow without end else."""
    for spec in specs:
        if id(spec) in seen:
            raise ValueError(
                f"{spec.node}: expected paths that part and join again, got one of several uses"
            )
        seen.add(id(spec))
        for path in spec.paths:
            check_uses(path, seen)


def settled(specs: tuple[Spec, ...], moved: bool | None) -> tuple[Spec, ...]:
    """The path with numbers of features in place of open shapes; `moved` is the input's."""

    def number(value: Any) -> Any:
        return value[0 if moved else -1] if isinstance(value, Open) else value

    return tuple(
        replace(
            spec,
            args=tuple(map(number, spec.args)),
            paths=tuple(settled(path, moved) for path in spec.paths),
        )
        for spec in specs
    )


def fused(specs: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """The path with activations as part of the layer before, where both come from one layer of the
    network that was written: their nodes' names have one scope, as in "dense/MatMul", "dense/Relu".
    """
    made: list[Spec] = []
    for spec in specs:
        spec = replace(spec, paths=tuple(map(fused, spec.paths))) if spec.paths else spec
        last = made[-1] if made else None
        if (
            last is not None
            and last.kind in (Dense, Conv1D, Conv2D)
            and last.scope
            and last.scope == spec.scope
            and "activation" not in last.options
            and is_activation(spec)
            and spec.dtype == last.dtype
        ):
            its = spec.kind(*spec.args) if spec.args else spec.kind.activation_name
            made[-1] = replace(last, options={**last.options, "activation": its})
        else:
            made.append(spec)
    return tuple(made)
