"""Convolution and pooling: operators over images and sequences, whose channels ONNX has before the
positions and fastnn behind them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import layers as L
from fastnn.onnx.constants import axes_of, integers
from fastnn.onnx.paths import Spec, numbers, weight

if TYPE_CHECKING:
    from fastnn.onnx.attributes import Node
    from fastnn.onnx.paths import Input, Size, Value


def channels_last(source: Input, x: Value) -> tuple[Value, list[int]]:
    """The value with its channels in ONNX's axis 1, and which of ONNX's positions (0 for axis 2)
    are axes of fastnn's array, in order: the others have size 1 and are not in it."""
    value = source.fixed(x, channels=1)
    wanted, sizes = len(value.rows), (None, *value.sizes())
    order = [*range(2, len(value.axes)), 1]
    for i in list(order):
        if len(order) > wanted and value.axes[i] is None:
            order.remove(i)
    if len(order) != wanted or order[-1:] != [1] or value.order is not None or any(
        value.axes[i] != place if sizes[i] != 1 else value.rows[place - 1] != 1
        for place, i in enumerate(order, 1)
    ):  # fmt: skip
        raise ValueError("expected channels in axis 1 and positions in order behind it")
    places = {i: place for place, i in enumerate(order, 1)}
    axes = (0, *(places.get(i) for i in range(1, len(value.axes))))
    return value._replace(axes=axes), [i - 2 for i in order[:-1]]


def _list(node: Node, name: str, default: list[int]) -> list[int]:
    found: list[int] = node.take(name, default)
    if len(found) != len(default):
        raise ValueError(f"{name}: expected {len(default)} numbers, got {len(found)}")
    return found


class _Windows:
    """Kernel, stride, dilation and padding over those positions that fastnn's array has."""

    def __init__(self, node: Node, x: Value, kernel: list[int], keep: list[int]) -> None:
        n = len(kernel)
        self.stride = _list(node, "strides", [1] * n)
        self.dilation = _list(node, "dilations", [1] * n)
        pads, auto = _list(node, "pads", [0] * 2 * n), node.take("auto_pad", "NOTSET")
        if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise ValueError(
                f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {auto}"
            )
        pads = pads if auto == "NOTSET" else [0] * 2 * n
        for i in set(range(n)) - set(keep):
            if kernel[i] != 1 or pads[i] or pads[i + n]:
                raise ValueError("expected a kernel of 1 without padding along an axis of size 1")
        self.keep, self.kernel, self.auto = keep, kernel, auto
        self.sides = [[pads[i], pads[i + n]] for i in range(n)]
        self.sizes: list[Size] = [x.sizes()[i + 1] for i in range(n)]

    def _covered(self, i: int) -> int:
        return (self.kernel[i] - 1) * self.dilation[i] + 1

    def lower(self) -> None:
        """Pad as "same", with the larger half before."""
        for i in self.keep if self.auto == "SAME_LOWER" else ():
            size = self.sizes[i]
            if size is None:
                raise ValueError("auto_pad: expected an image of known size for SAME_LOWER")
            total = max(
                0, (-(-size // self.stride[i]) - 1) * self.stride[i] + self._covered(i) - size
            )
            self.sides[i] = [total - total // 2, total // 2]

    def ceil(self, counted: bool) -> None:
        """One window more at the end where the last does not reach it, unless it begins behind."""
        for i in self.keep if self.auto in ("NOTSET", "VALID") else ():
            size, stride, (before, behind) = self.sizes[i], self.stride[i], self.sides[i]
            if size is None:
                raise ValueError("ceil_mode: expected an image of known size")
            places = math.ceil((size + before + behind - self._covered(i)) / stride) + 1
            places -= (places - 1) * stride >= size + before
            more = (places - 1) * stride + self._covered(i) - size - before
            if more > behind and counted:
                raise ValueError("ceil_mode: expected no window that count_include_pad counts")
            self.sides[i][1] = max(behind, more)

    def plain(self, numbers: list[int]) -> Any:
        kept = tuple(numbers[i] for i in self.keep)
        return kept if len(kept) == 2 else kept[0]

    def padding(self) -> Any:
        if self.auto == "SAME_UPPER":
            return "same"
        return tuple(side for i in self.keep for side in self.sides[i])


def _behind(value: Value, spec: Spec) -> Value:
    """The value behind a layer with windows."""
    shape: tuple[Size, ...]
    if None in value.rows:
        channels = spec.args[1] if "weight" in spec.arrays else value.rows[-1]
        shape = (*(None for _ in value.rows[1:]), channels)
        spec.kind(*spec.args, **spec.options)
    else:
        shape = spec.kind(*spec.args, **spec.options).output_shape(value.rows)
    return value.then(spec)._replace(rows=shape)


def conv(source: Input, node: Node, x: Any, array: Any, bias: Any = None) -> Value:
    value, keep = channels_last(source, numbers(x))
    array = weight(array, value, "W", len(value.axes))
    kernel, groups = list(array.shape[2:]), node.take("group", 1)
    if node.take("kernel_shape", kernel) != kernel:
        raise ValueError(f"kernel_shape: expected {kernel} as the weight has, got another")
    windows = _Windows(node, value, kernel, keep)
    windows.lower()
    before = value.step.spec
    if before is not None and before.kind == "pad":
        if windows.auto.startswith("SAME"):
            raise ValueError("auto_pad: expected none behind a Pad")
        for i, sides in zip(keep, before.args, strict=True):
            windows.sides[i] = [a + b for a, b in zip(windows.sides[i], sides, strict=True)]
        inner = [n - sum(s) if n else n for n, s in zip(value.rows, before.args, strict=False)]
        value = value.earlier()._replace(rows=(*inner, value.rows[-1]))
    made, channels = array.shape[0], array.shape[1] * groups
    flat = np.moveaxis(array, (0, 1), (-1, -2))
    shape = tuple(kernel[i] for i in keep)
    arrays = {"weight": flat.reshape(*shape, array.shape[1], made)}
    if bias is not None:
        arrays["bias"] = weight(bias, value, "B", 1)
        if len(bias) != made:
            raise ValueError(f"B: expected {made} numbers, got {len(bias)}")
    named = {"node": node.label, "scope": node.scope}
    options: dict[str, Any] = {"bias": bias is not None}
    if not keep:
        if groups != 1:
            raise ValueError("group: expected 1 over images of one pixel")
        return _behind(value, Spec(L.Dense, (channels, made), options, arrays, **named))
    options |= {
        "stride": windows.plain(windows.stride), "padding": windows.padding(),
        "dilation": windows.plain(windows.dilation), "groups": groups,
    }  # fmt: skip
    kind = L.Conv1D if len(keep) == 1 else L.Conv2D
    args = (channels, made, shape if len(keep) == 2 else shape[0])
    if len(keep) > 2:
        raise ValueError("expected a convolution over one axis or two")
    return _behind(value, Spec(kind, args, options, arrays, **named))


def pool(source: Input, node: Node, x: Any) -> Value:
    value, keep = channels_last(source, numbers(x))
    kernel = _list(node, "kernel_shape", [0] * (len(value.axes) - 2))
    windows = _Windows(node, value, kernel, keep)
    average = node.op == "AveragePool"
    counted = bool(node.take("count_include_pad", 0)) if average else False
    node.take("storage_order", 0)
    windows.lower()
    if any(windows.dilation[i] != 1 for i in keep) or len(keep) > 2:
        raise ValueError("expected windows over one axis or two, without dilation")
    if node.take("ceil_mode", 0):
        windows.ceil(counted)
    if not keep:
        return value
    kinds = (L.AvgPool1D, L.AvgPool2D) if average else (L.MaxPool1D, L.MaxPool2D)
    options = {"stride": windows.plain(windows.stride), "padding": windows.padding()}
    options |= {"count_padding": True} if counted else {}
    args = (windows.plain(kernel),)
    return _behind(value, Spec(kinds[len(keep) - 1], args, options, node=node.label))


def global_pool(source: Input, node: Node, x: Any) -> Value:
    value, _ = channels_last(source, numbers(x))
    return _pooled(value, "Average" in node.op, node, (0, 1, *[None] * (len(value.axes) - 2)))


def _pooled(value: Value, average: bool, node: Node, axes: tuple[Size, ...]) -> Value:
    if len(value.rows) > 3:
        raise ValueError("expected positions along one axis or two")
    if len(value.rows) > 1:
        kinds = (
            (L.GlobalAvgPool1D, L.GlobalAvgPool2D) if average
            else (L.GlobalMaxPool1D, L.GlobalMaxPool2D)
        )  # fmt: skip
        value = value.then(Spec(kinds[len(value.rows) - 2], node=node.label))
    return value._replace(rows=value.rows[-1:], axes=axes)


def reduction(source: Input, node: Node, x: Any, axes: Any = None) -> Value:
    """Over all positions a global pool; over the features the mean is part of a layer norm."""
    value = numbers(x)
    listed, keeps = axes_of(node, axes, len(value.axes)), node.take("keepdims", 1)
    node.take("noop_with_empty_axes", 0)
    if not listed or 0 in listed:
        raise ValueError("axes: expected positions or features")
    others = [i for i in range(1, len(value.axes)) if i not in listed]
    positions = len(others) == 1 and not (keeps and listed == [2])  # else the features, if open
    value = source.fixed(value, channels=others[-1] if positions else listed[-1])
    channels = len(value.rows)
    if listed == [len(value.axes) - 1] and value.axes[-1] == channels:
        if node.op == "ReduceMean" and keeps:
            return value.then(Spec("mean", node=node.label))
        raise ValueError("axes: expected positions, got the features")
    reduced = {value.axes[i] for i in listed} - {None}
    if reduced != set(range(1, channels)):
        raise ValueError("axes: expected all positions of an image or sequence")
    left = (
        0 if i == 0 else None if i in listed or a is None else 1 for i, a in enumerate(value.axes)
    )
    kept = tuple(a for i, a in enumerate(left) if keeps or i not in listed)
    return _pooled(value, node.op == "ReduceMean", node, kept)


def pad(source: Input, node: Node, x: Any, *arrays: Any) -> Value:
    """Zeros around an image, which the convolution behind it takes as its padding."""
    value = numbers(x)
    node.expect("mode", "constant")
    count = len(value.axes)
    pads, number, listed = (*arrays, None, None, None)[:3]
    sizes = node.take("pads") if pads is None else integers(pads, "pads")
    zero = node.take("value", 0.0) if number is None else float(np.asarray(number).item())
    axes = list(range(count)) if listed is None else [i % count for i in integers(listed, "axes")]
    if zero or len(sizes) != 2 * len(axes) or min(sizes) < 0:
        raise ValueError("expected zeros, so many before and behind each axis")
    pairs = zip(sizes, sizes[len(axes) :], strict=False)
    around = {i: pair for i, pair in zip(axes, pairs, strict=False) if any(pair)}
    if not around:
        return value
    value = source.fixed(value, channels=1 if 1 not in around else count - 1)
    sides = {value.axes[i]: pair for i, pair in around.items()}
    positions = range(1, len(value.rows))
    if not sides.keys() <= set(positions) or value.order is not None:
        raise ValueError("pads: expected them around the positions of an image or sequence")
    each = tuple(sides.get(place, (0, 0)) for place in positions)
    rows = [n + sum(pair) if n else n for n, pair in zip(value.rows, each, strict=False)]
    return value.then(Spec("pad", each, node=node.label))._replace(rows=(*rows, value.rows[-1]))
