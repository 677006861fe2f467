"""The arithmetic of an ONNX graph whose numbers are known when it is loaded, and of sizes.

A size that only the data bring is a mark among Python's integers (an array of objects): it may be
moved about, not reckoned with.  Nothing gets memory before its size was checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.onnx.attributes import MOST_AXES, Node, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Unknown:
    """A size that only the data bring."""

    def __repr__(self) -> str:
        return "a size that the data bring"


BATCH, OTHER = Unknown(), Unknown()


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Sizes that are all known as int64."""
    if array.dtype == object and all(isinstance(item, int) for item in array.flat):
        known: NDArray[Any] = array.astype(np.int64)
        return known
    return array


def integers(array: Any, what: str) -> list[Any]:
    """A vector or a number as a list of integers and unknown sizes."""
    if not isinstance(array, np.ndarray) or array.ndim > 1 or array.dtype.kind not in "iuO":
        raise ValueError(f"{what}: expected integers known when the file is loaded")
    return [i if isinstance(i, Unknown) else int(i) for i in np.atleast_1d(array).tolist()]


def axes_of(node: Node, array: Any, count: int) -> list[int] | None:
    """The axes of Squeeze, Unsqueeze or a reduction: an input since opset 13 or 18, else an
    attribute."""
    listed = node.take("axes", None) if array is None else integers(array, "axes")
    return None if listed is None else [axis_of(i, count) for i in listed]


def axis_of(i: Any, count: int) -> int:
    """The number of an axis, counted from the first; ValueError if there is none."""
    if not isinstance(i, int) or not -count <= i < count:
        raise ValueError(f"axis: expected -{count} to {count - 1}, got {i}")
    return i % count


# ---- operators: (node, arrays) -> array ----


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def fold(node: Node, *arrays: NDArray[Any]) -> Any:
        node.claim(math.prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        if any(a.dtype.kind not in "fiub" for a in arrays):
            raise ValueError("expected numbers known when the file is loaded")
        return np.asarray(function(*arrays))

    return fold


def _divide(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Integers are cut towards zero."""
    if a.dtype.kind == "f":
        ratio: NDArray[Any] = a / b
        return ratio
    if not b.all():
        raise ValueError("expected a divisor that is not 0")
    quotient: NDArray[Any] = np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)
    return quotient


def _gather(node: Node, data: NDArray[Any], indices: NDArray[Any]) -> Any:
    axis = axis_of(node.take("axis", 0), data.ndim)
    node.claim(data.size // max(1, data.shape[axis]) * indices.size)
    if indices.dtype.kind not in "iu":
        raise ValueError("expected integers as indices")
    return np.take(data, indices, axis)


def _concat(node: Node, *arrays: NDArray[Any]) -> Any:
    node.claim(sum(a.size for a in arrays))
    mixed = any(a.dtype == object for a in arrays)
    parts = [a.astype(object) for a in arrays] if mixed else arrays
    return np.concatenate(parts, node.take("axis"))


def _squeeze(node: Node, data: NDArray[Any], axes: Any = None) -> Any:
    listed = axes_of(node, axes, data.ndim)
    return np.squeeze(data, None if listed is None else tuple(listed))


def _unsqueeze(node: Node, data: NDArray[Any], axes: Any = None) -> Any:
    listed = node.take("axes") if axes is None else integers(axes, "axes")
    if data.ndim + len(listed) > MOST_AXES:
        raise ValueError(f"expected at most {MOST_AXES} axes")
    return np.expand_dims(data, tuple(axis_of(i, data.ndim + len(listed)) for i in listed))


def _slice(node: Node, data: NDArray[Any], *limits: Any) -> Any:
    return data[slices(node, data.ndim, limits)]


def slices(node: Node, ndim: int, limits: tuple[Any, ...]) -> tuple[slice, ...]:
    """The slices of Slice for each axis: inputs since opset 10, else attributes."""
    if not limits:
        limits = tuple(
            None if (its := node.take(key, None)) is None else np.array(its)
            for key in ("starts", "ends", "axes")
        )
    starts, ends, axes, steps = (
        None if its is None else integers(its, "limits") for its in (*limits, None, None)[:4]
    )
    if starts is None or ends is None:
        raise ValueError("starts, ends: expected integers")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * ndim
    for axis, *its in zip(axes, starts, ends, steps, strict=True):
        cut[axis_of(axis, ndim)] = slice(*its)
    return tuple(cut)


def _reshape(node: Node, data: NDArray[Any], shape: NDArray[Any]) -> Any:
    wanted = integers(shape, "shape")
    if not node.take("allowzero", 0):
        wanted = [data.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return data.reshape(wanted[: MOST_AXES + 1])


def _expand(node: Node, data: NDArray[Any], shape: NDArray[Any]) -> Any:
    wanted = np.broadcast_shapes(data.shape, tuple(integers(shape, "shape")))
    node.claim(math.prod(wanted))
    return np.broadcast_to(data, wanted)


def _constant_of_shape(node: Node, shape: NDArray[Any]) -> Any:
    wanted, value = integers(shape, "shape"), node.take("value", np.zeros(1, np.float32))
    if any(isinstance(n, Unknown) for n in wanted):
        raise ValueError("expected sizes known when the file is loaded")
    node.claim(math.prod(wanted))
    return np.full(wanted, value.reshape(()))


def _range(node: Node, start: Any, limit: Any, step: Any) -> Any:
    count = math.ceil((limit.item() - start.item()) / step.item())
    node.claim(count)
    return start + np.arange(count).astype(start.dtype) * step


def _cast(node: Node, data: NDArray[Any]) -> Any:
    node.take("saturate", 1)
    kind = node.take("to")
    if data.dtype == object or kind == 8:
        return data  # sizes, and names of classes
    node.claim(data.size)
    return data.astype(dtype_of(kind))


def _constant(node: Node) -> Any:
    for key, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"),
                       ("value_ints", "i8"), ("value", None)):  # fmt: skip
        if (value := node.take(key, None)) is not None:
            return np.asarray(value, dtype)
    raise ValueError("expected a value")


def _transpose(node: Node, data: NDArray[Any]) -> Any:
    return data.transpose(node.take("perm", None))


FOLD: dict[str, Callable[..., Any]] = {
    "Constant": _constant, "Identity": lambda node, a: a, "Cast": _cast, "Gather": _gather,
    "Concat": _concat, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Slice": _slice,
    "Reshape": _reshape, "Transpose": _transpose,
    "Expand": _expand, "ConstantOfShape": _constant_of_shape, "Range": _range,
    "Shape": lambda node, a: np.array(a.shape, np.int64),
    "Add": _elementwise(np.add), "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply), "Div": _elementwise(_divide),
    "Neg": _elementwise(np.negative), "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(np.reciprocal), "Abs": _elementwise(np.abs),
    "Less": _elementwise(np.less), "GreaterOrEqual": _elementwise(np.greater_equal),
    "Not": _elementwise(np.logical_not),
    "Where": _elementwise(np.where),
}  # fmt: skip
# those that codes may go through, and the kinds of types that tell codes from numbers there
CODED = {"Add": "iu", "Sub": "iu", "Mul": "iu", "Where": "iu", "Cast": "", "Not": "",
         "Less": "iuf", "GreaterOrEqual": "iuf"}  # fmt: skip
