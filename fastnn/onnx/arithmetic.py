"""Sums and products in an ONNX graph: with constants they shift and scale, or are a bias; of two
values that part and meet again they are a residual block, or the formula of an activation or a
norm, which is recognised by its parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import layers as L
from fastnn.onnx import periodic
from fastnn.onnx.attributes import SELU
from fastnn.onnx.constants import axis_of
from fastnn.onnx.paths import Spec, Value, features, fork, is_activation, numbers, turned, weight

if TYPE_CHECKING:
    from fastnn.onnx.attributes import Node
    from fastnn.onnx.paths import Input, Step

_ZERO, _ONE = np.float64(0), np.float64(1)
_WEIGHTED = (L.Dense, L.Conv1D, L.Conv2D)


def arithmetic(source: Input, node: Node, a: Any, b: Any) -> Value:
    """Add, Sub, Mul and Div."""
    aligned = bool(node.opset < 7 and node.take("broadcast", 0))
    if isinstance(a, Value) and isinstance(b, Value):
        return _combined(source, node, numbers(a), numbers(b))
    value = numbers(a if isinstance(a, Value) else b)
    constant = weight(b if isinstance(a, Value) else a, value, "constant")
    if aligned and (axis := node.take("axis", None)) is not None:  # of the constant's first
        behind = len(value.axes) - axis - constant.ndim
        constant = constant.reshape(*constant.shape, *(1,) * behind)
    if (found := periodic.with_constant(node, value, constant)) is not None:
        return found
    value, constant = _aligned(source, value, constant)
    if node.op in ("Add", "Sum"):
        return affine(node, value, shift=constant)
    if node.op == "Mul":
        return affine(node, value, scale=constant)
    if node.op == "Sub" and value is not None and isinstance(a, Value):
        return affine(node, value, mean=constant)
    if node.op == "Sub":
        return affine(node, affine(node, value, scale=np.float64(-1)), shift=constant)
    if not isinstance(a, Value) or not constant.all():
        raise ValueError("expected a divisor that is a constant and not 0")
    return affine(node, value, std=constant)


def _aligned(source: Input, value: Value, array: Any) -> tuple[Value, Any]:
    """The value, and a constant as a number or as one for each feature or channel."""
    count = len(value.axes)
    if array.ndim > count:
        raise ValueError(f"constant: expected at most {count} axes, got {array.ndim}")
    shape = (1,) * (count - array.ndim) + array.shape
    along = [i for i, size in enumerate(shape) if size != 1]
    if not along:
        if array.ndim == count - 1 > 1 and value.sizes()[0] == 1:  # as of the only channel
            value = source.fixed(value, channels=1)
        one = array.ndim > 0 and value.rows[-1] == 1
        return value, array.reshape((1,) if one else ()).astype(np.float64)
    value = source.fixed(value, channels=along[0])
    if len(along) > 1 or along == [0] or value.axes[along[0]] != len(value.rows):
        raise ValueError(
            f"constant: expected a number, or one for each feature or channel, got {array.shape}"
        )
    if value.rows[-1] not in (None, array.size):
        raise ValueError(f"constant: expected {value.rows[-1]} numbers, got {array.size}")
    return value, turned(array.ravel(), value).astype(np.float64)


def affine(
    node: Node,
    value: Value,
    *,
    mean: Any = None,
    scale: Any = None,
    std: Any = None,
    shift: Any = None,
) -> Value:
    """The value minus `mean`, times `scale`, divided by `std` or plus `shift`, one of these; joined
    with what was done to it just before, if this is of the same layer and nothing else takes it."""
    last, count = None if value.step.shared else value.step.spec, value.width()
    done = None if last is None else _within(last, count, scale, shift)
    if done is not None:
        return value.earlier().then(done)
    names = ("mean", "scale", "std", "shift")
    m, s, d, t = _ZERO, _ONE, _ONE, _ZERO
    alike = ("affine", value.dtype, node.scope)
    if last is not None and (last.kind, last.dtype, last.scope) != alike:
        last = None
    if last is not None:
        m, s, d, t = (last.arrays[name] for name in names)
        value = value.earlier()
    if mean is not None:
        alone = np.all(s == 1) and not np.any(t)
        m, t = (m + mean, t) if alone else (m, t - mean)
    elif shift is not None:
        t = t + shift
    elif std is not None:
        s, d, t = s / std, d * std, t / std
    else:
        s, d, t = s * scale, d / scale, t * scale
    nothing = not np.any(m) and np.all(s == 1) and not np.any(t)
    if nothing and (last is not None or not any(map(np.ndim, (m, s, t)))):
        return value
    arrays = dict(zip(names, map(np.asarray, (m, s, d, t)), strict=True))
    return value.then(Spec("affine", (count,), arrays=arrays, node=node.label, scope=node.scope))


def _within(last: Spec, count: Any, scale: Any, shift: Any) -> Spec | None:
    """The layer with a bias, or a norm with the factor and the summand that its formula lacked,
    whose arrays have no axes then; None for any other."""
    if shift is not None and last.kind in _WEIGHTED and not last.options["bias"]:
        bias = np.broadcast_to(shift, last.args[1])
        return replace(
            last, options={**last.options, "bias": True}, arrays={**last.arrays, "bias": bias}
        )
    if last.kind is L.LayerNorm and np.ndim(last.arrays["beta"]) == 0:
        if shift is not None:
            return replace(last, arrays={**last.arrays, "beta": np.atleast_1d(shift)})
        if scale is not None and np.ndim(last.arrays["gamma"]) == 0:
            return replace(last, arrays={**last.arrays, "gamma": np.atleast_1d(scale)})
    if (
        last.kind is L.ELU
        and scale is not None
        and (*last.args, *np.ravel(scale)) == tuple(SELU.values())
    ):
        return replace(last, kind=L.SELU, args=())
    return None


# ---- two values ----


def _combined(source: Input, node: Node, a: Value, b: Value) -> Value:
    if not (a.loose and b.loose):
        a, b = source.fixed(a), source.fixed(b)
    if a[1:] != b[1:]:
        raise ValueError(f"expected two values of one shape, got {a.sizes()} and {b.sizes()}")
    step, (x, y) = fork(a.step, b.step)
    op = "Add" if node.op == "Sum" else node.op
    formula, width = _FORMULAS[op], a.width()
    found = formula(step, x, y, width)
    if found is None and op in ("Add", "Mul"):
        found = formula(step, y, x, width)
    if found is None and op == "Add":
        x, y = (x, y) if x else (y or (Spec(L.Linear, dtype=a.dtype),), x)
        found = step, Spec(L.Residual, paths=(x, y))
    if found is None and op == "Mul":
        found = step, Spec("times", paths=(x, y))
    if found is None:
        raise ValueError("expected paths that are added, or the formula of an activation or a norm")
    step, spec = found
    value = a._replace(step=step)
    if spec is None:
        return value
    if isinstance(spec, tuple):
        spec, factor = spec
        named = replace(spec, node=node.label, scope=node.scope)
        return affine(node, value.then(named), scale=factor)
    return value.then(replace(spec, node=node.label, scope=node.scope))


Specs = tuple[Spec, ...]


def _kinds(specs: Specs) -> list[Any]:
    return [spec.kind for spec in specs]


def _scale(spec: Spec) -> Any:
    """The factors of a part that multiplies only, else None."""
    its = spec.arrays
    plain = spec.kind == "affine" and not its["mean"].any() and not its["shift"].any()
    return its["scale"] if plain else None


def _number(array: Any) -> float:
    """The number if the array is of one, else NaN."""
    return float(array.item()) if array is not None and array.size == 1 else math.nan


def _product(step: Step, x: Specs, y: Specs, width: Any) -> Any:
    """x f(x) for the activations that are so, SiLU, Mish and GELU, and x x."""
    kinds = _kinds(y)
    if not x and not y:
        return step, Spec("square")
    if not x and kinds == [L.Sigmoid]:
        return step, Spec(L.SiLU)
    if not x and kinds == [L.Softplus, L.Tanh]:
        return step, Spec(L.Mish)
    if kinds == ["affine", "erf", "affine"] and len(x) <= 1:  # k x (c + c erf(x / sqrt(2)))
        k = _number(_scale(x[0])) if x else 1.0
        inner, c = _number(_scale(y[0])), _number(y[2].arrays["scale"])
        digits = 1e-15 if y[0].dtype == np.float64 else 1.2e-7
        shift = _number(y[2].arrays["shift"] - c * y[2].arrays["mean"])
        if abs(inner * math.sqrt(2) - 1) < digits and shift == c and math.isfinite(k):
            return step, (Spec(L.GELU), np.float64(2 * k * c))
    return None


def _sum(step: Step, x: Specs, y: Specs, width: Any) -> Any:
    """Activations that leak, or are blended with x, and a layer norm as Keras computes it."""
    kinds = _kinds(y)
    scale = _scale(y[-1]) if y else None
    if not x and kinds == ["bend", "affine"] and scale is not None:
        f = y[0].args[0]
        its = f.kind(*f.args)
        return step, Spec(L.ParametricActivation, (width, its), arrays={"alpha": scale})
    if _kinds(x) == [L.ReLU] and scale is not None and scale.size == 1:
        if kinds == ["below", "affine"]:
            return step, Spec(L.LeakyReLU, (scale.item(),))
        if kinds == ["below", L.ELU, "affine"] and y[1].args == (1.0,):
            return step, Spec(L.ELU, (scale.item(),))
    if _kinds(x) == ["times"] and kinds in (["times"], ["times", "affine"]):
        return _norm_of_products(step, x[0].paths, y, width)
    return None


def _norm_of_products(step: Step, product: tuple[Specs, ...], y: Specs, width: Any) -> Any:
    """x r - mean r (+ beta) for r = gamma / sqrt(var + eps)."""
    (own, r), (minus, its) = product, y[0].paths
    kinds = ["center", "square", "mean", "affine", "sqrt", "reciprocal", "affine"]
    same = len(r) == len(its) and all(a is b for a, b in zip(r, its, strict=True))
    eps = _eps(r[3]) if _kinds(r) in (kinds, kinds[:-1]) else math.nan
    if own or not same or not eps > 0 or _kinds(minus) != ["mean", "affine"]:
        return None
    gamma = _scale(r[6]) if len(r) > 6 else _ONE
    beta = y[1].arrays["shift"] if len(y) > 1 else _ZERO
    if _number(_scale(minus[1])) != -1 or gamma is None or (len(y) > 1 and not _is_shift(y[1])):
        return None
    return step, Spec(L.LayerNorm, (width,), {"eps": eps}, {"gamma": gamma, "beta": beta})


def _is_shift(spec: Spec) -> bool:
    its = spec.arrays
    return spec.kind == "affine" and not its["mean"].any() and bool((its["scale"] == 1).all())


def _eps(spec: Spec) -> float:
    """The number that is added, else NaN."""
    return _number(spec.arrays["shift"]) if _is_shift(spec) else math.nan


def _difference(step: Step, x: Specs, y: Specs, width: Any) -> Any:
    """Steps towards a layer norm, x - mean; a blended activation, f(x) - x; waves in turns."""
    kinds = _kinds(y)
    if not x and kinds == ["mean"]:
        return step, Spec("center")
    if not x and kinds == ["round"] and step.spec is not None and step.spec.kind == "waves":
        return step, None
    if len(x) == 1 and not y and is_activation(x[0]):
        return step, Spec("bend", x)
    return None


def _quotient(step: Step, x: Specs, y: Specs, width: Any) -> Any:
    """A layer norm: (x - mean) / sqrt(var + eps)."""
    last, before = step.spec, step.before
    eps = _eps(y[2]) if _kinds(y) == ["square", "mean", "affine", "sqrt"] else math.nan
    if x or last is None or before is None or last.kind != "center" or not eps > 0:
        return None
    return before, Spec(L.LayerNorm, (width,), {"eps": eps}, {"gamma": _ONE, "beta": _ZERO})


_FORMULAS: dict[str, Any] = {"Mul": _product, "Add": _sum, "Sub": _difference, "Div": _quotient}


def concat(source: Input, node: Node, *inputs: Any) -> Value:
    """Columns where each path begins with some columns of x, one behind the other, else heads."""
    axis = axis_of(node.take("axis"), len(numbers(inputs[0]).axes))
    values = [source.fixed(numbers(value), channels=axis) for value in inputs]
    if len(values[0].axes) == 2:
        values = [features(value, node.label) for value in values]
    first = values[0]
    if (found := periodic.joined(node, values, axis)) is not None:
        return found
    if first.axes[axis] != len(first.rows) or any(
        (v.rows[:-1], v.axes, v.order, v.dtype) != (first.rows[:-1], first.axes, None, first.dtype)
        for v in values
    ):
        raise ValueError("axis: expected the features or channels, of values that are alike else")
    widths = [value.rows[-1] for value in values]
    if None in widths:
        raise ValueError("expected a known number of features")
    step, paths = fork(*(value.step for value in values))
    parts = [path[0].args for path in paths if path and path[0].kind == "part"]
    spec = Spec(L.Heads, paths=tuple(paths), node=node.label)
    if parts:
        ends = [0, *(stop for _, stop, _ in parts)]
        if len(parts) < len(paths) or ends != [*(start for start, _, _ in parts), parts[0][2]]:
            raise ValueError("expected all columns in order, each once")
        within = tuple(path[1:] for path in paths)
        taken = tuple(stop - start for start, stop, _ in parts)
        spec = Spec(L.Columns, taken, paths=within, node=node.label)
    return first._replace(step=step, rows=(*first.rows[:-1], sum(widths))).then(spec)  # type: ignore[arg-type]
