"""What each operator of ONNX is to fastnn: a function for each.

It takes the reader, the node and its inputs, of which one at least depends on the network's input,
and returns the value that the node gives.  What fastnn's layers cannot compute is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import layers as L
from fastnn.onnx import periodic
from fastnn.onnx.arithmetic import affine, arithmetic, concat
from fastnn.onnx.attributes import SELU, dtype_of
from fastnn.onnx.constants import (
    BATCH,
    OTHER,
    Unknown,
    axes_of,
    axis_of,
    integers,
    plain,
    slices,
)
from fastnn.onnx.paths import (
    Codes,
    Input,
    Labels,
    Named,
    Spec,
    Value,
    features,
    is_plain,
    numbers,
    turned,
    weight,
)
from fastnn.onnx.windows import channels_last, conv, global_pool, pad, pool, reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastnn.onnx.attributes import Node
    from fastnn.onnx.paths import Size

READ: dict[str, Callable[..., Any]] = {
    "Conv": conv, "MaxPool": pool, "AveragePool": pool, "Pad": pad,
    "GlobalAveragePool": global_pool, "GlobalMaxPool": global_pool,
    "ReduceMean": reduction, "ReduceMax": reduction,
    "Add": arithmetic, "Sub": arithmetic, "Mul": arithmetic, "Div": arithmetic, "Concat": concat,
}  # fmt: skip
ML = {"Scaler", "ZipMap", "ArrayFeatureExtractor", "Binarizer"}  # of the domain ai.onnx.ml


def _read(*names: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        READ.update(dict.fromkeys(names, function))
        return function

    return register


# ---- elementwise ----


def _alone(kind: Any) -> Any:
    def read(source: Input, node: Node, x: Any) -> Any:
        return numbers(x).then(Spec(kind, node=node.label, scope=node.scope))

    return read


for _op, _kind in (
    ("Relu", L.ReLU), ("Sigmoid", L.Sigmoid), ("Tanh", L.Tanh), ("Softplus", L.Softplus),
    ("Mish", L.Mish), ("Erf", "erf"), ("Sqrt", "sqrt"), ("Round", "round"), ("Cos", "cos"),
    ("Reciprocal", "reciprocal"),
):  # fmt: skip
    READ[_op] = _alone(_kind)


@_read("LeakyRelu", "Elu")
def _(source: Input, node: Node, x: Any) -> Any:
    leaky = node.op == "LeakyRelu"
    alpha = node.take("alpha", 0.01 if leaky else 1.0)
    kind = L.LeakyReLU if leaky else L.ELU
    return numbers(x).then(Spec(kind, (alpha,), node=node.label, scope=node.scope))


@_read("Selu")
def _(source: Input, node: Node, x: Any) -> Any:
    for name, wanted in SELU.items():
        found = node.take(name, wanted)
        if source.exact or np.float32(found) != np.float32(wanted):
            raise ValueError(f"{name}: expected {wanted} to the last digit, got {found}")
    return numbers(x).then(Spec(L.SELU, node=node.label, scope=node.scope))


@_read("Gelu")
def _(source: Input, node: Node, x: Any) -> Any:
    node.expect("approximate", "none")
    return numbers(x).then(Spec(L.GELU, node=node.label, scope=node.scope))


@_read("Swish")
def _(source: Input, node: Node, x: Any) -> Any:
    node.expect("alpha", 1.0)
    return numbers(x).then(Spec(L.SiLU, node=node.label, scope=node.scope))


@_read("PRelu")
def _(source: Input, node: Node, x: Any, slope: Any) -> Any:
    x = numbers(x)
    slopes = np.unique(weight(slope, x, "slope"))
    if len(slopes) != 1:
        raise ValueError(f"slope: expected one number, got {len(slopes)} different ones")
    alpha = float(slopes[0]) if source.exact else float(str(slopes[0]))
    return x.then(Spec(L.LeakyReLU, (alpha,), node=node.label, scope=node.scope))


@_read("Clip", "Min", "Max")
def _(source: Input, node: Node, x: Any, *limits: Any) -> Any:
    """A maximum of x and 0 is a ReLU; a minimum of them may become part of one that leaks."""
    if not isinstance(x, Value) and len(limits) == 1:
        x, *limits = *limits, x  # type: ignore[assignment]
    x, names = numbers(x), ("min", "max")
    if node.op == "Clip" and not limits and node.opset < 11:
        limits = tuple(node.take(name, None) for name in names)
    elif node.op == "Min":
        limits = (None, *limits)
    low, high = (None if its is None else np.asarray(its) for its in (*limits, None, None)[:2])
    if len(limits) <= 2:
        if low is not None and not low.any() and (high is None or (high == np.inf).all()):
            return x.then(Spec(L.ReLU, node=node.label, scope=node.scope))
        if node.op == "Min" and high is not None and not high.any():
            return x.then(Spec("below", node=node.label))
    raise ValueError("expected the maximum of x and 0, got other limits")


@_read("Softmax")
def _(source: Input, node: Node, x: Any) -> Any:
    value = numbers(x)
    axis = axis_of(node.take("axis", -1 if node.opset >= 13 else 1), len(value.axes))
    value = source.fixed(value, channels=axis)
    if node.opset < 13 and any(size != 1 for size in value.sizes()[axis:]):
        raise ValueError("axis: expected the last one, as all behind it count too before opset 13")
    if value.axes[axis] != len(value.rows):
        raise ValueError("axis: expected the features or channels, got another one")
    return value.then(Spec(L.Softmax, node=node.label, scope=node.scope))


@_read("Identity", "Dropout", "Cast", "CastLike")
def _(source: Input, node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    keeps_all = isinstance(ratio, np.ndarray) and not ratio.any()
    node.take("ratio", 0.5)
    node.take("seed", 0)
    if node.op == "Dropout":
        _in_evaluation(node)
    node.take("saturate", 1)
    known = training is None or isinstance(training, np.ndarray)
    if not known or (training is not None and training.any() and not keeps_all):
        raise ValueError("training_mode: expected false")
    if node.op != "Cast" or isinstance(x, Labels | Named):
        node.take("to", 1)
        return x
    before, after = x.dtype, dtype_of(node.take("to"))
    if (before.kind == "f") != (after.kind == "f") and not is_plain(x):
        raise ValueError(
            f"expected a cast of the network's inputs, got one from {before} to {after}"
        )
    return x._replace(dtype=after)


@_read("Pow")
def _(source: Input, node: Node, x: Any, power: Any) -> Any:
    if not isinstance(power, np.ndarray) or power.size != 1 or power.item() != 2:
        raise ValueError("expected the power of 2")
    return numbers(x).then(Spec("square", node=node.label))


@_read("Sum")
def _(source: Input, node: Node, first: Any, *others: Any) -> Any:
    for other in others:
        first = arithmetic(source, node, first, other)
    return first


@_read("Neg")
def _(source: Input, node: Node, x: Any) -> Any:
    return affine(node, numbers(x), scale=np.float64(-1))


# ---- with a weight ----


def _linear(source: Input, node: Node, x: Any, array: Any, bias: Any) -> Any:
    """x @ array + bias over the last axis: a dense layer, of sequences and images a convolution
    of 1 or 1x1."""
    value = source.fixed(numbers(x), channels=-1)
    array = weight(array, value, "weight", 2, 3)
    if array.ndim == 3 and (found := periodic.product(node, value, array)) is not None:
        return found
    if len(value.axes) == 2:
        value = features(value, node.label)
    array = turned(weight(array, value, "weight", 2), value)
    count, made = array.shape
    axes = len(value.rows)
    if value.axes[-1] != axes or axes > 3:
        raise ValueError("expected features or channels in the last axis")
    if value.rows[-1] not in (None, count):
        raise ValueError(f"weight: expected {value.rows[-1]} rows, got {count}")
    arrays = {"weight": array.reshape(*(1,) * (axes - 1), count, made)}
    if bias is not None:
        arrays["bias"] = np.broadcast_to(bias, (1, made))[0]
    kind, more = ((L.Dense, ()), (L.Conv1D, (1,)), (L.Conv2D, (1,)))[axes - 1]
    spec = Spec(kind, (count, made, *more), {"bias": bias is not None}, arrays,
                node=node.label, scope=node.scope)  # fmt: skip
    return value.then(spec)._replace(rows=(*value.rows[:-1], made), order=None)


@_read("MatMul")
def _(source: Input, node: Node, x: Any, array: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        return _linear(source, node, x, array, None)
    value = _linear(source, node, x, array[:, None], None)
    return value._replace(axes=value.axes[:-1])


@_read("Gemm")
def _(source: Input, node: Node, x: Any, array: Any, bias: Any = None) -> Any:
    node.expect("transA", 0)
    node.take("broadcast", 0)
    value = numbers(x)
    array = weight(array, value, "B", 2)
    array = array.T if node.take("transB", 0) else array
    alpha, beta = node.take("alpha", 1.0), node.take("beta", 1.0)
    if len(value.axes) != 2:
        raise ValueError("expected two axes")
    array = array if alpha == 1 else (alpha * array).astype(array.dtype)
    if bias is not None:
        bias = weight(bias, value, "C")
        bias = bias if beta == 1 else (beta * bias).astype(bias.dtype)
    return _linear(source, node, x, array, bias)


def _in_evaluation(node: Node) -> None:
    """Before opset 7 an attribute says that the network is not in training."""
    if node.opset < 7 and not node.take("is_test", 0):
        raise ValueError("is_test: expected 1, got 0")


@_read("BatchNormalization")
def _(source: Input, node: Node, x: Any, *arrays: Any) -> Any:
    value = numbers(x)
    node.expect("training_mode", 0)
    node.expect("spatial", 1)
    _in_evaluation(node)
    if len(value.axes) > 2:
        value, _ = channels_last(source, value)
    else:
        value = features(source.fixed(value), node.label)
    names = ("gamma", "beta", "running_mean", "running_var")
    its = {
        name: turned(weight(array, value, name, 1), value)
        for name, array in zip(names, arrays, strict=True)
    }
    momentum = min(max(round(1 - node.take("momentum", 0.9), 7), 1e-7), 1.0)
    options = {"momentum": momentum, "eps": node.take("epsilon", 1e-5)}
    return _norm(L.BatchNorm, value, node, its, options)


def _norm(kind: Any, value: Value, node: Node, arrays: Any, options: Any) -> Any:
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) != 1 or value.rows[-1] not in (None, *sizes.copy().pop()):
        raise ValueError(f"expected arrays of {value.rows[-1]} numbers, got {sorted(sizes)}")
    ((count,),) = sizes
    return value.then(Spec(kind, (count,), options, arrays, node=node.label, scope=node.scope))


@_read("LayerNormalization")
def _(source: Input, node: Node, x: Any, gamma: Any, beta: Any = None) -> Any:
    value = source.fixed(numbers(x), channels=-1)
    axis = axis_of(node.take("axis", -1), len(value.axes))
    node.expect("stash_type", 1)
    if axis != len(value.axes) - 1 or value.axes[axis] != len(value.rows):
        raise ValueError("axis: expected the last one, which holds the features or channels")
    gamma = weight(gamma, value, "gamma", 1)
    beta = np.zeros_like(gamma) if beta is None else weight(beta, value, "beta", 1)
    its = {"gamma": turned(gamma, value), "beta": turned(beta, value)}
    return _norm(L.LayerNorm, value, node, its, {"eps": node.take("epsilon", 1e-5)})


@_read("Gather")
def _(source: Input, node: Node, data: Any, indices: Any) -> Any:
    """Rows of a table by codes are an embedding; places in x are a part of its columns."""
    if isinstance(indices, Labels):
        node.expect("axis", 0)
        return indices._replace(classes=data)
    axis = node.take("axis", 0)
    if isinstance(data, Value):
        value = source.fixed(data, channels=-1)
        if axis_of(axis, len(value.axes)) != len(value.axes) - 1 or indices.ndim > 1:
            raise ValueError("expected columns, by their numbers")
        places = integers(indices, "indices")
        first, count = places[0], value.rows[-1]
        first += count if first < 0 and count is not None else 0
        if len(places) > 1 and np.diff(places).tolist() != [1] * (len(places) - 1):
            raise ValueError("indices: expected neighbours, got others")
        part = _part(value, slice(first, first + len(places)), node)
        return part if indices.ndim else part._replace(axes=part.axes[:-1])
    if isinstance(indices, Codes):
        indices, table = indices.of._replace(dtype=np.dtype(np.int64)), indices.table
        data = data[table[: len(data)]] if table[: len(data)].min() >= 0 else None
    if not isinstance(indices, Value) or indices.dtype.kind not in "iu":
        raise ValueError("indices: expected integers, the codes of an embedding")
    value = source.fixed(indices)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.dtype.kind != "f" or axis != 0:
        raise ValueError("expected rows of a table of two axes")
    if len(value.rows) != 1:
        raise ValueError(f"indices: expected (batch, columns), got {len(value.rows) + 1} axes")
    spec = Spec(L.Embedding, data.shape, arrays={"weight": data}, node=node.label)
    then = value.then(spec)
    return then._replace(rows=(*value.rows, data.shape[1]), axes=(*value.axes, 2), dtype=data.dtype)


# ---- columns ----


def _part(value: Value, columns: slice, node: Node) -> Any:
    """Some neighbouring columns of rows of features."""
    (count,) = value.rows[-1:]
    if len(value.rows) != 1 or value.axes != (0, 1) or value.order is not None or count is None:
        raise ValueError("expected columns of (batch, features)")
    start, stop, step = columns.indices(count)
    if step != 1 or start >= stop:
        raise ValueError("expected some neighbouring columns")
    if (start, stop) == (0, count):
        return value
    spec = Spec("part", (start, stop, count), node=node.label)
    return value.then(spec)._replace(rows=(stop - start,))


@_read("Slice")
def _(source: Input, node: Node, x: Any, *limits: Any) -> Any:
    value = source.fixed(x, channels=-1)
    *others, last = slices(node, len(value.axes), limits)
    if any(each != slice(None) for each in others):
        raise ValueError("expected a slice of the features")
    return _part(value, last, node)


@_read("Split")
def _(source: Input, node: Node, x: Any, widths: Any = None) -> tuple[Value, ...]:
    value = source.fixed(x, channels=-1)
    if axis_of(node.take("axis", 0), len(value.axes)) != len(value.axes) - 1:
        raise ValueError("axis: expected the last one")
    listed = node.take("split", None) if widths is None else integers(widths, "split")
    if listed is None:
        raise ValueError("expected the widths of the parts")
    if sum(listed) != value.rows[-1] or min(listed) < 1:
        raise ValueError(f"split: expected widths that add up to {value.rows[-1]}, got {listed}")
    ends = np.cumsum(listed).tolist()
    pairs = zip(ends, listed, strict=True)
    return tuple(_part(value, slice(end - width, end), node) for end, width in pairs)


# ---- layout ----


@_read("Shape")
def _(source: Input, node: Node, x: Any) -> Any:
    start, end = node.take("start", 0), node.take("end", len(x.axes))
    sizes = [OTHER if size is None else size for size in x.sizes()]
    marks = np.empty(len(sizes) + 1, object)
    marks[:] = [BATCH, *sizes]
    return plain(marks[start:end])


@_read("Transpose")
def _(source: Input, node: Node, x: Any) -> Any:
    perm = node.take("perm", list(range(len(x.axes)))[::-1])
    if sorted(perm) != list(range(len(x.axes))) or perm[0] != 0:
        raise ValueError(f"perm: expected the batch to stay the first axis, got {perm}")
    return x._replace(axes=tuple(x.axes[i] for i in perm))


@_read("Squeeze")
def _(source: Input, node: Node, x: Any, axes: Any = None) -> Any:
    if isinstance(x, Labels):
        node.take("axes", None)
        return x
    listed = axes_of(node, axes, len(x.axes))
    if listed is None:
        raise ValueError("axes: expected to be given")
    sizes = (None, *x.sizes())
    if any(sizes[i] != 1 for i in listed):
        raise ValueError(f"axes: expected those of size 1, got {listed}")
    return x._replace(axes=tuple(a for i, a in enumerate(x.axes) if i not in listed))


@_read("Unsqueeze")
def _(source: Input, node: Node, x: Any, axes: Any = None) -> Any:
    listed = node.take("axes") if axes is None else integers(axes, "axes")
    count = len(x.axes) + len(listed)
    places = {axis_of(i, count) for i in listed}
    if 0 in places or len(places) < len(listed) or count > 8:
        raise ValueError(f"axes: expected the batch to stay the first of at most 8, got {listed}")
    left = iter(x.axes)
    return x._replace(axes=tuple(None if i in places else next(left) for i in range(count)))


@_read("Flatten")
def _(source: Input, node: Node, x: Any) -> Any:
    axis = node.take("axis", 1)
    axis += len(x.axes) if axis < 0 else 0
    if not 1 <= axis <= len(x.axes) or any(size != 1 for size in x.sizes()[: axis - 1]):
        raise ValueError(f"axis: expected 1, so that the batch stays the first axis, got {axis}")
    return _flat(source, node, x)


def _flat(source: Input, node: Node, x: Value) -> Any:
    """The numbers of each row as features; whose order is another if channels come first."""
    value = source.fixed(x, channels=-1)
    order = value.order
    if len(value.rows) > 1:
        places = [a for a in value.axes[1:] if a is not None and value.rows[a - 1] != 1]
        if places != sorted(places):
            order = value.rows, value.axes
    flat = value._replace(axes=tuple(range(len(value.rows) + 1)))
    return features(flat, node.label)._replace(order=order)


@_read("Reshape")
def _(source: Input, node: Node, x: Any, shape: Any) -> Any:
    keeps = not node.take("allowzero", 0)
    if isinstance(x, Labels):
        return x
    wanted = integers(shape, "shape")
    sizes = x.sizes()
    if not wanted:
        raise ValueError("shape: expected at least one axis")
    if keeps:
        known = (BATCH, *sizes)
        wanted = [known[i] if n == 0 and i < len(known) else n for i, n in enumerate(wanted)]
    first, *rest = wanted
    total = None if None in sizes else math.prod(sizes)
    fits = total is not None and -1 not in rest and not any(isinstance(n, Unknown) for n in rest)
    if not (first is BATCH or first == source.batch or (first == -1 and fits)):
        raise ValueError(f"shape: expected the batch to stay the first axis, got {wanted}")
    if rest.count(-1) == 1 and total is not None:
        others = math.prod(n for n in rest if n != -1)
        rest[rest.index(-1)] = total // others if others else 0
    if len(rest) == 1 and (rest[0] == -1 or rest[0] == total):
        return _flat(source, node, x)
    return _renamed(x, sizes, rest)


def _renamed(x: Value, sizes: tuple[Size, ...], wanted: list[Any]) -> Any:
    """The value with other axes of size 1 among its own."""
    places = [(a, n) for a, n in zip(x.axes[1:], sizes, strict=True) if n != 1]
    kept = [n for n in wanted if n != 1]
    if len(kept) != len(places) or any(
        n != size and not (size is None and not isinstance(n, int))
        for n, (_, size) in zip(kept, places, strict=True)
    ):
        raise ValueError(f"shape: expected {sizes} but for axes of size 1, got {wanted}")
    left = iter(places)
    return x._replace(axes=(0, *(None if n == 1 else next(left)[0] for n in wanted)))


# ---- labels, and what scikit-learn's converter writes ----


@_read("ArgMax")
def _(source: Input, node: Node, x: Any) -> Labels:
    value = source.fixed(numbers(x), channels=-1)
    node.expect("select_last_index", 0)
    node.take("keepdims", 1)
    axis = axis_of(node.take("axis", 0), len(value.axes))
    if value.axes[axis] != len(value.rows) or value.order is not None:
        raise ValueError("axis: expected the features")
    return Labels(value)


@_read("ArrayFeatureExtractor")
def _(source: Input, node: Node, classes: Any, which: Any) -> Labels:
    if not isinstance(which, Labels) or not isinstance(classes, np.ndarray):
        raise ValueError("expected classes by the place of the largest number")
    return which._replace(classes=classes.ravel())


@_read("Greater", "Binarizer")
def _(source: Input, node: Node, x: Any, limit: Any = None) -> Labels:
    node.take("threshold", 0.5)
    return Labels(numbers(x))


@_read("ZipMap")
def _(source: Input, node: Node, x: Any) -> Named:
    texts, numbered = node.take("classlabels_strings", None), node.take("classlabels_int64s", None)
    listed = numbered if texts is None else texts
    return Named(numbers(x), np.array(listed, object if texts is not None else np.int64))


@_read("Scaler")
def _(source: Input, node: Node, x: Any) -> Any:
    value = source.fixed(numbers(x))
    arrays = [np.array(node.take(name), np.float64) for name in ("offset", "scale")]
    if len(value.rows) != 1 or any(its.shape not in (value.rows, (1,)) for its in arrays):
        raise ValueError("expected (batch, features), and a number for each feature or one")
    value = affine(node, value, mean=arrays[0])
    return affine(node, value, scale=arrays[1])
