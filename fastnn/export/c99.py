"""export_c: a network as one C99 file, which computes the bits that a `Predictor` does."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn._version import __version__
from fastnn.export.layers import add_layers
from fastnn.export.program import Buffer, Program, Value, quantize
from fastnn.layers import Embedding
from fastnn.layers.weighted import Weighted
from fastnn.predictor import Affine, fold, operation
from fastnn.support import arrays, checks
from fastnn.support.settings import is_ours, label

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from fastnn.data import Standardizer
    from fastnn.network import Network

    Array = NDArray[Any]

_KEYWORDS = frozenset(
    # C99, and C++ for those who include the header there
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while alignas alignof and and_eq asm bitand bitor bool catch class compl
    concept const_cast consteval constexpr constinit co_await co_return co_yield decltype delete
    dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public reinterpret_cast requires static_assert static_cast
    template this thread_local throw true try typeid typename using virtual wchar_t xor xor_eq
    main""".split()
)
_MOST = 2**31 - 1  # C's int


class CFiles(NamedTuple):
    """What `export_c` has written, and how much memory it takes."""

    source: Path
    header: Path
    constants: int  # bytes of weights and other constants, which are never written into
    workspace: int  # bytes that are
    error: float | None  # of int8 weights: that of the outputs, relative to their spread


def export_c(
    model: Network,
    path: str | PathLike[str],
    name: str = "net",
    *,
    shape: tuple[int, ...] | None = None,
    weights: str = "real",
    scalers: bool = True,
    X: ArrayLike | None = None,
) -> CFiles:
    """Write the network as one C99 file, and a header of the same name beside it.

    The file needs no library but ``math.h`` (of which a fused multiply-add, a square root for
    `LayerNorm` and NaN for `Embedding`), allocates nothing and keeps all weights constant.  Its
    functions are ``void net(const float *x, float *y)`` for one row, `net_batch` for a number of
    rows and `net_with` for a workspace of your own, as threads need.  Rows and outputs lie in
    memory as NumPy's; with float64 models they are double.  ``cc -O3 -DNET_MAIN net.c -lm`` makes a
    program that reads rows of numbers and prints the outputs.

    Compiled for a processor with fused multiply-add (``-march=native`` on x86-64), outputs have the
    bits of ``model.predictor()``; for others, those of fastnn on a processor without it, or with
    ``-DEXACT`` the former, more slowly.  Not with ``-ffast-math``.  Codes of an `Embedding` that
    are none give NaN.

    Parameters
    ----------
    model : every layer of fastnn's own; dropout is gone, batch norms are folded into weights
    path : where to write, such as ``"net.c"``
    name : of the function; an identifier of C
    shape : of a row, such as ``(28, 28, 1)``, for models that take rows of several shapes
    weights : "real", the model's type, or "int8"
        In int8, those of products, convolutions and embeddings are whole numbers from -127 to 127
        times a factor for each feature: a quarter of the memory.  The header says how far outputs
        are from the model's.
    scalers : whether the model's `scaler` and `target_scaler`, if it has them, are written in
        Then x and y are in their units; y is rounded to the model's type.
    X : rows on which the error of int8 weights is measured, else 1000 random ones

    Returns the paths and sizes, `CFiles`: `source`, `header`, the bytes of `constants` and
    `workspace`, and with int8 weights `error`, the root mean square error of the outputs divided by
    their standard deviation.

    Raises ValueError or TypeError for a name that is no identifier, a path that does not end in
    ".c", a layer of your own, numbers that are not finite and a shape that the model does not take;
    OSError if the files cannot be written.

    >>> import tempfile, fastnn
    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(4, 64, activation="tanh"), Dense(64, 2), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = fastnn.export_c(model, f"{folder}/policy.c", name="policy")
    ...     print("void policy(const float *x, float *y);" in files.header.read_text())
    True
    >>> files.constants, files.workspace
    (1800, 256)
    """
    _check_name(name)
    path = _checked_path(path)
    checks.choice(weights, "weights", ("real", "int8"))
    checks.flag(scalers, "scalers")
    shape = _row_shape(model, shape)
    for layer in model.layers:
        if not is_ours(type(layer)):
            raise TypeError(f"model: expected layers of fastnn's own, got {label(layer)}")
    steps = fold(copy.deepcopy(model))
    program = Program(model.dtype, weights == "int8")
    x = Value(Buffer(0, 0, "x", shared=True), shape)
    y = _program(steps, x, program, *((model.scaler, model.target_scaler) if scalers else (None,) * 2))
    error = None
    if program.quantized:
        scaler = model.scaler if scalers else None
        error = _quantization_error(steps, _rows(model, shape, X, scaler))
    text, header = _source(name, program, x, y, path), _header(name, program, x, y, path, error)
    if name in _words(text) - {name} or name in _words(program.support()):
        raise ValueError(f"name: expected one that the file does not use itself, got {name!r}")
    path.with_suffix(".h").write_text(header, encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    bytes_of = program.dtype.itemsize
    return CFiles(
        path, path.with_suffix(".h"), program.constant_bytes, program.workspace * bytes_of, error
    )


# ---- checks ----


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name: expected an identifier of C, got {name!r}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,62}", name, re.ASCII) or name in _KEYWORDS:
        raise ValueError(f"name: expected an identifier of C that is no keyword, got {name!r}")


def _checked_path(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.c", path.name, re.ASCII):
        raise ValueError(
            f"path: expected a name of letters, digits and _.+- that ends in .c, got {path.name!r}"
        )
    return path


def _row_shape(model: Network, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if shape is None:
        if model._chain.dimensions != 1 or model.in_features is None:
            raise ValueError(
                "shape: expected that of a row, such as (28, 28, 1), since the model takes rows of "
                "several shapes; got None"
            )
        shape = (model.in_features,)
    shape = checks.shape(shape, "shape")
    model.output_shape(shape)
    return shape


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


# ---- the file ----


def _program(
    steps: list[Any],
    x: Value,
    program: Program,
    scaler: Standardizer | None,
    target_scaler: Standardizer | None,
) -> Value:
    """Add everything; returns the outputs, whose buffer is then y."""
    value = x
    if scaler is not None:
        _check_features("scaler", scaler, x)
        value = program.new(x.shape)
        piece = "standardize" + "_to_float" * (scaler.dtype == np.float32)
        program.call(piece, x, value, x.rows, x.shape[-1], *_statistics(scaler, program))
    value = add_layers(steps, value, program)
    value = program.own(value)
    if target_scaler is not None:
        _check_features("target_scaler", target_scaler, value)
        rows, n = value.rows, value.shape[-1]
        program.call("restore", value, rows, n, *_statistics(target_scaler, program))
    value.buffer.name = "y"
    if max(program.workspace, program.constant_bytes) > _MOST:
        raise ValueError("model: expected less than 2^31 numbers, got more")
    return value


def _check_features(name: str, scaler: Standardizer, value: Value) -> None:
    if len(scaler.mean) != value.shape[-1]:
        raise ValueError(
            f"{name}: expected one of {value.shape[-1]} features, got {len(scaler.mean)}; with "
            "scalers=False it is left out"
        )


def _statistics(scaler: Standardizer, program: Program) -> list[str]:
    return [program.array(each, "double") for each in (scaler.mean, scaler.std)]


def _about(name: str, program: Program, x: Value, y: Value) -> str:
    what = " to ".join(f"({', '.join(map(str, value.shape))})" for value in (x, y))
    return f"{name}: a network from rows {what}, {program.dtype.name}; written by fastnn {__version__}"


def _header(
    name: str, program: Program, x: Value, y: Value, path: Path, error: float | None
) -> str:
    real, upper = "float" if program.dtype.itemsize == 4 else "double", name.upper()
    inexact = (
        f" *\n * Weights are int8: outputs differ from the model's by {error:.2g} times their standard\n"
        " * deviation (root mean square).\n"
        if error is not None
        else ""
    )
    return f"""/* {_about(name, program, x, y)}.
 *
 * Constants take {program.constant_bytes} bytes, and the workspace
 * {program.workspace * program.dtype.itemsize}, which `{name}` and `{name}_batch` have as a static array; nothing is allocated.
{inexact} */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#define {upper}_INPUTS {x.size}
#define {upper}_OUTPUTS {y.size}
#define {upper}_WORKSPACE {max(program.workspace, 1)}

#ifdef __cplusplus
extern "C" {{
#endif

/* y[{y.size}] = the outputs for one row x[{x.size}]; they must not overlap.  One thread at a time. */
void {name}(const {real} *x, {real} *y);

/* The same for `rows` rows, one after the other. */
void {name}_batch(const {real} *x, {real} *y, size_t rows);

/* The same for one row with a workspace of {upper}_WORKSPACE numbers of the caller's own: any number
 * of threads may call it, each with its own. */
void {name}_with(const {real} *x, {real} *y, {real} *workspace);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(name: str, program: Program, x: Value, y: Value, path: Path) -> str:
    upper = name.upper()
    body, support, constants = program.body(), program.support(), "\n".join(program.constants)
    return f"""/* {_about(name, program, x, y)}.
 *
 * cc -O3 -march=native -c {path.name}; with -D{upper}_MAIN -lm it is a program. */
#include "{path.with_suffix(".h").name}"

#include <math.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

{support}
{constants}
static {"float" if program.dtype.itemsize == 4 else "double"} its_workspace[{upper}_WORKSPACE];

void {name}_with(const real *x, real *y, real *workspace) {{
    (void)workspace;
{body}
}}

void {name}(const real *x, real *y) {{ {name}_with(x, y, its_workspace); }}

void {name}_batch(const real *x, real *y, size_t rows) {{
    for (; rows > 0; rows--, x += {upper}_INPUTS, y += {upper}_OUTPUTS) {name}(x, y);
}}

#ifdef {upper}_MAIN
#include <stdio.h>

/* Reads rows of {x.size} numbers and prints the {y.size} outputs of each. */
int main(void) {{
    static real x[{upper}_INPUTS], y[{upper}_OUTPUTS];
    for (;;) {{
        for (int i = 0; i < {upper}_INPUTS; i++) {{
            double number;
            if (scanf("%lf", &number) != 1) return i > 0;
            x[i] = (real)number;
        }}
        {name}(x, y);
        for (int i = 0; i < {upper}_OUTPUTS; i++)
            printf("%.{9 if program.dtype.itemsize == 4 else 17}g%c", (double)y[i], i + 1 < {upper}_OUTPUTS ? ' ' : '\\n');
    }}
}}
#endif
"""


# ---- the error of int8 weights ----


def _rows(
    model: Network, shape: tuple[int, ...], X: ArrayLike | None, scaler: Standardizer | None
) -> Array:
    """Rows as the layers take them."""
    if X is not None:
        x = arrays.real_array(X, "X", model.dtype)
        if x.shape[1:] != shape or not len(x):
            raise ValueError(f"X: expected rows of shape {shape}, got {x.shape}")
        return model._input(x if scaler is None else scaler.transform(x), "X")
    rng, embedding = np.random.default_rng(0), model._chain.embedding
    if embedding is not None:
        return rng.integers(0, embedding.n, (1000, *shape)).astype(model.dtype)
    return rng.standard_normal((1000, *shape)).astype(model.dtype)


def _quantization_error(steps: list[Any], x: Array) -> float:
    """By how much outputs change, relative to their spread, if weights are rounded; rounds them."""
    exact = _outputs(steps, x)
    for step in steps:
        for owner in [step, *getattr(step, "_within", list)()]:
            if isinstance(owner, Affine | Weighted | Embedding):
                whole, scale = quantize(owner.weight)
                owner.weight[...] = whole * scale
    spread = float(exact.std()) or 1.0
    return float(np.sqrt(np.mean((_outputs(steps, x) - exact) ** 2))) / spread


def _outputs(steps: list[Any], x: Array) -> Array:
    for step in steps:
        x = operation(step)(x)
    return x.astype(np.float64)
