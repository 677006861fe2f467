"""What each layer becomes in C: a function for each kind of layer.

It takes the layer, the value that the layer takes and the program, adds calls of pieces of C
(functions.inc, kernels.inc), and returns the value that the layer gives: in a new buffer, or in the
one it took after `program.own`.  A new layer is such a function, and its piece if there is none."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.export.program import Behind, Buffer, Program, Value
from fastnn.layers import (
    ELU,
    Activation,
    BatchNorm,
    Block,
    Columns,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    LayerNorm,
    LeakyReLU,
    Linear,
    ParametricActivation,
    PeriodicEmbedding,
    Residual,
    Scale,
    Softmax,
)
from fastnn.layers.convolution import _Convolution
from fastnn.layers.pooling import _GlobalPool, _Pool
from fastnn.layers.weighted import Weighted
from fastnn.predictor import Affine
from fastnn.support.settings import is_plain, label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def add_layers(layers: Iterable[Any], x: Value, program: Program) -> Value:
    """Add layers, or steps of a predictor, one after the other."""
    for layer in layers:
        if type(layer) is Block:  # it releases what it took
            x = add_layers(layer.layers, x, program)
            continue
        its = layer.layer if isinstance(layer, Affine) else layer
        program.note(f"{type(its).__name__} of ({', '.join(map(str, x.shape))})")
        y = add(layer, x, program)
        if y.buffer is not x.buffer:
            program.release(x)
        x = y
    return x


def add(layer: Any, x: Value, program: Program) -> Value:
    """Add one layer, or one step of a predictor; TypeError if it is not fastnn's own."""
    if not is_plain(layer):
        raise TypeError(f"model: expected layers of fastnn's own, got {label(layer)}")
    return _add(layer, x, program)


@singledispatch
def _add(layer: Any, x: Value, program: Program) -> Value:
    raise TypeError(f"model: {label(layer)} cannot be written in C yet")


@_add.register
def _(layer: Dropout, x: Value, program: Program) -> Value:
    return x


@_add.register
def _(layer: Flatten, x: Value, program: Program) -> Value:
    return Value(x.buffer, (x.size,))


@_add.register
def _(layer: Block, x: Value, program: Program) -> Value:
    return add_layers(layer.layers, x, program)


@_add.register
def _(layer: Residual, x: Value, program: Program) -> Value:
    before, x.buffer.shared = x.buffer.shared, True
    y = program.own(add_layers(layer.layers, x, program))
    other = x if layer.shortcut is None else add(layer.shortcut, x, program)
    x.buffer.shared = before
    program.call("add", y, other, y.size)
    if other.buffer is not x.buffer:
        program.release(other)
    return y


@_add.register
def _(layer: Heads, x: Value, program: Program) -> Value:
    width = layer.output_shape(x.shape)
    y, at = program.new(width), 0
    before, x.buffer.shared = x.buffer.shared, True
    for head in layer.layers:
        its = add(head, x, program)
        program.call("join", its, its.rows, its.shape[-1], Behind(y, at), width[-1])
        at += its.shape[-1]
        if its.buffer is not x.buffer:
            program.release(its)
    x.buffer.shared = before
    return y


@_add.register
def _(layer: Columns, x: Value, program: Program) -> Value:
    width = layer.output_shape(x.shape)[0]
    y, first, at = program.new((width,)), 0, 0
    for count, part in layer.parts:
        taken = its = Value(Buffer(0, count, Behind(x, first), shared=True), (count,))
        if part is not None:
            its = add(part, taken, program)
        program.call("join", its, 1, its.size, Behind(y, at), width)
        if its.buffer is not taken.buffer:
            program.release(its)
        first, at = first + count, at + its.size
    return y


# ---- elementwise ----

_NAMES = {"tanh": "hyperbolic_tangent"}


@_add.register
def _(layer: Activation, x: Value, program: Program) -> Value:
    if isinstance(layer, Linear):
        return x
    y = program.own(x)
    if isinstance(layer, Softmax):
        program.call("softmax", y, y.rows, y.shape[-1])
        return y
    name = _NAMES.get(layer.activation_name, layer.activation_name)
    alpha = [program.number(layer.alpha)] if isinstance(layer, LeakyReLU | ELU) else []
    program.call(name, y, y.size, *alpha)
    return y


@_add.register
def _(layer: Scale, x: Value, program: Program) -> Value:
    y = program.own(x)
    program.call("scale", y, y.rows, y.shape[-1], program.array(layer.scale))
    return y


@_add.register
def _(layer: ParametricActivation, x: Value, program: Program) -> Value:
    y, f = program.own(x), program.new(x.shape)
    program.call("copy", y, f, y.size)
    add(layer.activation, f, program)
    program.call("mix", y, f, y.rows, y.shape[-1], program.array(layer.alpha))
    program.release(f)
    return y


@_add.register
def _(layer: PeriodicEmbedding, x: Value, program: Program) -> Value:
    y = program.new(layer.output_shape(x.shape))
    sizes = x.size, layer.frequencies, layer.out
    arrays = [layer.frequency, layer.phase, layer.weight, layer.bias]
    program.call("periodic", x, *sizes, *map(program.array, arrays), y)
    return y


@_add.register
def _(layer: BatchNorm, x: Value, program: Program) -> Value:
    y, real = program.own(x), program.dtype.type
    variance = layer.running_var
    scale = (real(1) / np.sqrt(variance + real(layer.eps)) + (variance - variance)) * layer.gamma
    arrays = [program.array(each) for each in (layer.running_mean, scale, layer.beta)]
    program.call("batch_norm", y, y.rows, y.shape[-1], *arrays)
    return y


@_add.register
def _(layer: LayerNorm, x: Value, program: Program) -> Value:
    y = program.own(x)
    arrays = [program.array(each) for each in (layer.gamma, layer.beta)]
    program.call("layer_norm", y, y.rows, y.shape[-1], *arrays, program.number(layer.eps))
    return y


# ---- with a weight ----


@_add.register
def _(layer: Weighted, x: Value, program: Program) -> Value:
    return _add(Affine(layer), x, program)


@_add.register
def _(step: Affine, x: Value, program: Program) -> Value:
    layer = step.layer
    y = program.new(layer.output_shape(x.shape))
    if isinstance(layer, Dense):
        weight, scale = program.weight(step.weight, blocks=1)
        program.call("product", x, x.size, weight, y, y.size)
    else:
        assert isinstance(layer, _Convolution)
        scale = _convolution(layer, step.weight, x, y, program)
    if scale:
        program.call("scale_rows", y, y.rows, y.shape[-1], scale)
    if step.bias is not None:
        program.call("add_rows", y, y.rows, y.shape[-1], program.array(step.bias))
    return add(step.activation, y, program)


def _convolution(
    layer: _Convolution, weight: NDArray[Any], x: Value, y: Value, program: Program
) -> str | None:
    """Add the product of a convolution, which is computed as csrc/conv.pxi chooses."""
    weight = layer._image_weight(weight)
    g = _windows(x, y, layer.windows, layer.dimensions, layer.groups, program)
    channels, features = layer.in_features, layer.out_features
    if layer.groups == channels == features > 1:
        name, scratch = "depthwise", channels
        constant, scale = program.weight(weight)
    elif program.quantized or not _in_tiles(layer):
        name, scratch = "convolve", math.prod(weight.shape[:3])
        constant, scale = program.weight(weight, layer.groups)
    else:
        name, scratch = "winograd", 16 * (channels + features)
        positions = np.concatenate(_transformed(weight), axis=1)  # (channels, 16 * features)
        constant, scale = program.weight(positions, blocks=16)
    room = program.new((scratch,))
    program.call(name, x, g, constant, room, y)
    program.release(room)
    return scale


def _in_tiles(layer: _Convolution) -> bool:
    """Whether the kernels compute it in tiles, as in_tiles in csrc/winograd.pxi."""
    w, channels, features = layer.windows, layer.in_features, layer.out_features
    plain = w.kernel == (3, 3) and w.stride == w.dilation == (1, 1) and layer.groups == 1
    return plain and channels * features >= 12 * (channels + features)


def _transformed(weight: NDArray[Any]) -> list[NDArray[Any]]:
    """G g Gᵀ of csrc/winograd.inc: at each of the 16 positions a matrix (channels, features)."""
    half = weight.dtype.type(0.5)

    def transform(a: Any, b: Any, c: Any) -> list[Any]:
        total = a + c
        return [a, half * (total + b), half * (total - b), c]

    rows = [transform(*weight[i]) for i in range(3)]
    columns = [transform(*(row[j] for row in rows)) for j in range(4)]
    return [columns[i % 4][i // 4] for i in range(16)]


@_add.register
def _(layer: Embedding, x: Value, program: Program) -> Value:
    y = program.new(layer.output_shape(x.shape))
    table, scale = program.weight(layer.weight)
    program.call("embedding", x, x.size, table, layer.n, layer.features, y)
    if scale:
        program.call("scale_rows", y, y.rows, y.shape[-1], scale)
    return y


# ---- pools ----


def _windows(
    x: Value, y: Value, windows: Any, dimensions: int, groups: int, program: Program
) -> str:
    """The geometry in C of windows over x, which give y; a sequence is an image of one line."""
    taken, given = (1, *x.shape)[-3:], (1, *y.shape)[-3:]
    before = tuple(sides[0] for sides in windows.around(taken[:2]))
    sizes = [windows.kernel, windows.stride, windows.dilation, before]
    return program.struct("windows", [*taken, *given, groups, *sizes])


def _pool(x: Value, y: Value, g: str, average: bool, count_padding: Any, program: Program) -> None:
    if average:
        program.call("pool_average", x, g, int(count_padding), y)
    else:
        program.call("pool_max", x, g, y)


@_add.register
def _(layer: _Pool, x: Value, program: Program) -> Value:
    y = program.new(layer.output_shape(x.shape))
    g = _windows(x, y, layer.windows, layer.dimensions, 1, program)
    _pool(x, y, g, layer.average, layer.count_padding, program)
    return y


@_add.register
def _(layer: _GlobalPool, x: Value, program: Program) -> Value:
    y, size = program.new(layer.output_shape(x.shape)), (1, *x.shape)[-3:]
    fields: list[int | tuple[int, ...]] = [*size, 1, 1, size[2], 1, size[:2]]
    fields += [(1, 1), (1, 1), (0, 0)]  # one window, which covers everything
    _pool(x, y, program.struct("windows", fields), layer.average, False, program)
    return y
