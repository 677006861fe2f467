"""The formula of a `PeriodicEmbedding` as `export` writes it: of each number x of a row, in axes
(batch, features, 1, 1), waves cos(2 pi (x frequency + phase)), their products with a weight and a
bias, and x itself beside them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastnn.layers import PeriodicEmbedding
from fastnn.onnx.paths import Spec, fork

if TYPE_CHECKING:
    from fastnn.onnx.attributes import Node
    from fastnn.onnx.paths import Value

_AXES = (0, 1, None, None)


def with_constant(node: Node, value: Value, array: Any) -> Value | None:
    """A product with the frequencies, or a sum with the phases or the bias; None for another."""
    last = value.step.spec
    if value.axes != _AXES or array.ndim != 3 or array.shape[:2] != (*value.rows, 1):
        return None
    if node.op == "Mul" and (last is None or last.kind != "waves"):
        return value.then(Spec("waves", arrays={"frequency": array[:, 0]}, node=node.label))
    for kind, name in (("waves", "phase"), ("periodic", "bias")):
        if node.op == "Add" and last is not None and last.kind == kind and name not in last.arrays:
            arrays = {**last.arrays, name: array[:, 0]}
            return value.earlier().then(replace(last, arrays=arrays))
    return None


def product(node: Node, value: Value, weight: Any) -> Value | None:
    """The product of the waves with the weight; None for another."""
    before = value.step
    specs: list[Spec] = []
    while before.spec is not None and len(specs) < 3:
        specs.append(before.spec)
        before = before.before  # type: ignore[assignment]
    if [spec.kind for spec in specs] != ["cos", "affine", "waves"] or "phase" not in specs[
        2
    ].arrays:
        return None
    its, turn = specs[2].arrays, specs[1].arrays
    two_pi = turn["scale"].size == 1 and turn["scale"].item() == value.dtype.type(2 * math.pi)
    sizes = its["frequency"].shape
    if not two_pi or turn["mean"].any() or turn["shift"].any() or weight.shape[:2] != sizes:
        return None
    arrays = {**its, "weight": weight}
    return value._replace(step=before).then(Spec("periodic", arrays=arrays, node=node.label))


def joined(node: Node, values: list[Value], axis: int) -> Value | None:
    """x and the products beside it; None for other values."""
    if len(values) != 2 or axis != 3 or values[0][1:] != values[1][1:] or values[0].axes != _AXES:
        return None
    step, (own, found) = fork(values[0].step, values[1].step)
    if own or len(found) != 1 or found[0].kind != "periodic" or "bias" not in found[0].arrays:
        return None
    features, frequencies, out = found[0].arrays["weight"].shape
    if found[0].arrays["bias"].shape != (features, out):
        raise ValueError("bias: expected as many columns as the weight has")
    spec = Spec(PeriodicEmbedding, (features, frequencies, out + 1), arrays=found[0].arrays)
    value = values[0]._replace(step=step).then(replace(spec, node=node.label))
    return value._replace(rows=(features * (out + 1),))
