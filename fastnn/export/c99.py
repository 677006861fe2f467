"""export_c: a network as one C99 file, which computes the bits that a `Predictor` does."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn._version import __version__
from fastnn.data import TableEncoder
from fastnn.export.ends import add_outputs, add_scaler, description, exported, row_shape
from fastnn.export.layers import add_layers
from fastnn.export.program import Buffer, Program, Value, quantize
from fastnn.files import safefile
from fastnn.layers import Embedding, Layer
from fastnn.layers.weighted import Weighted
from fastnn.predictor import Affine, fold, operation
from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from fastnn.data import Standardizer
    from fastnn.export.ends import Estimator
    from fastnn.network import Network

    Array = NDArray[Any]

# words of C99, and of C++ for those who include the header there
_KEYWORDS = """
    auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while alignas alignof and and_eq asm bitand bitor bool catch
    class compl concept const_cast consteval constexpr constinit co_await co_return co_yield
    decltype delete dynamic_cast explicit export false friend mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public reinterpret_cast requires
    static_assert static_cast template this thread_local throw true try typeid typename using
    virtual wchar_t xor xor_eq main NULL NAN INFINITY HUGE_VAL
"""
_LIBRARY = """
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs
    fdim floor fma fmax fmin fmod frexp hypot ilogb j0 j1 jn ldexp lgamma llrint llround log log10
    log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow remainder remquo rint
    round scalb scalbln scalbn sin sinh sqrt tan tanh tgamma trunc y0 y1 yn
"""  # of math.h, each also with an f or an l behind it
_MOST = 2**31 - 1  # C's int


class CFiles(NamedTuple):
    """What `export_c` returns; its docstring tells more."""

    source: Path
    header: Path
    constants: int
    workspace: int
    error: float | None


def export_c(
    model: Network | Estimator,
    path: str | PathLike[str],
    name: str = "net",
    *,
    shape: tuple[int, ...] | None = None,
    weights: str = "real",
    scalers: bool = True,
    X: ArrayLike | None = None,
) -> CFiles:
    """Write the network as one C99 file, and a header of the same name beside it.

    Nothing is allocated, the weights are constant, and of the library only ``math.h`` is needed:
    ``fmaf``, which is an instruction, and ``sqrtf`` for `LayerNorm`.  The header declares
    ``void net(const float *x, float *y)`` for one row, `net_batch` for several and `net_with` for
    threads, each with a workspace of its own.  Rows and outputs lie in memory as in NumPy; with
    float64 models they are double.  ``cc -O3 -march=native -DNET_MAIN net.c -lm`` makes a program
    that reads rows, a line each, and prints outputs.

    Compiled for processors with fused multiply-add (on x86-64 by ``-march=native`` or
    ``-march=x86-64-v3``), the outputs have the bits of ``model.predictor()``.  For others they have
    those of fastnn on such a processor, or with ``-DEXACT`` the former, slowly.  ``-ffast-math``
    takes this promise away.  Of an `Embedding`, codes that are none give NaN.  A model with
    ``compute="bfloat16"`` is computed in float32 there, with the weights as they are.

    Parameters
    ----------
    model : a `Sequential` of fastnn's own layers, or an estimator of `fastnn.sklearn` after `fit`
        As in a `Predictor`, dropout is gone and a batch norm behind a layer is part of its weights.
        Of a classifier y are the probabilities (of "hinge" scores), of a regressor the values, of
        several networks their mean.
    path : such as ``"net.c"``
    name : of the function, an identifier of C
    shape : of a row, such as ``(28, 28, 1)``, for a model that takes several
    weights : "real", or "int8" for memory that is scarce
        Then the weights of products, convolutions and embeddings are whole numbers from -127 to 127
        times a factor for each feature.  The header states the error of the outputs.
    scalers : whether the model's `scaler` and `target_scaler`, if there are any, are written in
        Then x and y have their units; y is rounded to the model's dtype.
    X : rows on which the error of int8 weights is measured, instead of 1000 random ones

    Returns a tuple: paths of `source` and `header`, the bytes of `constants` and `workspace`, and
    the `error` of int8 weights, the outputs' root mean square error over their standard deviation.

    Raises ValueError or TypeError for a layer of your own, a name that is no identifier or that the
    file uses itself, a path that does not end in .c, a shape that the model does not take,
    parameters that are not finite, scalers of other sizes and categories that are numbers but no
    doubles; scikit-learn's NotFittedError before `fit`; OSError if it cannot write.

    >>> import tempfile
    >>> from fastnn import Dense, Sequential, export_c
    >>> model = Sequential(Dense(4, 64, activation="tanh"), Dense(64, 2), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = export_c(model, f"{folder}/policy.c", name="policy")
    ...     "void policy(const float *x, float *y);" in files.header.read_text()
    True
    >>> files.constants, files.workspace
    (1800, 256)
    """
    _check_name(name)
    path = _checked_path(path)
    checks.choice(weights, "weights", ("real", "int8"))
    ensemble = exported(model, checks.flag(scalers, "scalers"))
    network = ensemble.model
    scaler, target_scaler = (network.scaler, network.target_scaler) if scalers else (None, None)
    shape = row_shape(network, shape, scaler)
    steps = fold(copy.deepcopy(network))
    is_table = isinstance(scaler, TableEncoder)
    program = Program(network.dtype, weights == "int8", entry_double=is_table)
    entries = (scaler.n_features_in_,) if isinstance(scaler, TableEncoder) else shape
    x = Value(Buffer(0, math.prod(entries), "x", shared=True), entries)
    rows = add_scaler(scaler, x, shape, program)
    y = add_outputs(ensemble, target_scaler, add_layers(steps, rows, program), program)
    if max(program.workspace, program.constant_bytes) > _MOST:
        raise ValueError("model: expected less than 2^31 numbers, got more")
    error = None
    if program.quantized:
        error = _quantization_error(steps, _rows(network, shape, X, scaler))
    source = _source(name, program, x, y, path)
    header = _header(name, program, x, y, error, description(scaler, ensemble))
    if name in _taken(_source("", program, x, y, Path(".c"))):
        raise ValueError(f"name: expected one that the file does not use itself, got {name!r}")
    for file, text in ((path.with_suffix(".h"), header), (path, source)):
        safefile.replace(str(file), text.encode())
    workspace = program.workspace * program.dtype.itemsize
    return CFiles(path, path.with_suffix(".h"), program.constant_bytes, workspace, error)


export_c.__module__ = "fastnn"


# ---- checks ----


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name: expected an identifier of C, got {name!r}")
    taken = name in _words(_KEYWORDS) or _words(_LIBRARY) & {name, re.sub("[fl]$", "", name)}
    if taken or not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,62}", name, re.ASCII):
        raise ValueError(f"name: expected an identifier of C that means nothing else, got {name!r}")


def _checked_path(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.c", path.name, re.ASCII):
        raise ValueError(
            f"path: expected a name of letters, digits and _.+- that ends in .c, got {path.name!r}"
        )
    return path


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _taken(source: str) -> set[str]:
    """The names of a file's outermost level and of its program."""
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    program = re.sub(r"""(["']).*?\1""", "", code.partition("#ifdef _MAIN")[2])
    return _words("\n".join([*re.findall(r"^\S.*", code, re.MULTILINE), program]))


# ---- the file ----


def _about(name: str, program: Program, x: Value, y: Value) -> str:
    what = " to ".join(f"({', '.join(map(str, value.shape))})" for value in (x, y))
    return f"{name}: a network, {what}, {program.dtype.name}; written by fastnn {__version__}"


def _header(
    name: str, program: Program, x: Value, y: Value, error: float | None, described: str
) -> str:
    workspace = program.workspace * program.dtype.itemsize
    if error is None:
        weights = ""
    else:
        weights = f"""
 * int8 weights: the outputs' root mean square error is {error:.2g} of their standard deviation"""
    return _HEADER.format(
        about=_about(name, program, x, y), name=name, NAME=name.upper(), real=program.real,
        entry=program.entry, x=x.size, y=y.size, described=described,
        numbers=max(program.workspace, 1), constants=program.constant_bytes,
        workspace=workspace, weights=weights,
    )  # fmt: skip


def _source(name: str, program: Program, x: Value, y: Value, path: Path) -> str:
    return _SOURCE.format(
        about=_about(name, program, x, y), name=name, NAME=name.upper(), x=x.size, y=y.size,
        file=path.name, header=path.with_suffix(".h").name, support=program.support(),
        constants="\n".join(program.constants), body=program.body(),
        digits=9 if program.entry == "float" else 17,
    )  # fmt: skip


_HEADER = """\
/* {about}
 *
{described} * constants: {constants} bytes
 * workspace: {workspace} bytes, a static array of {name} and {name}_batch{weights} */
#ifndef {NAME}_H
#define {NAME}_H

#include <stddef.h>

#define {NAME}_INPUTS {x}
#define {NAME}_OUTPUTS {y}
#define {NAME}_WORKSPACE {numbers}

#ifdef __cplusplus
extern "C" {{
#endif

/* y[{y}] = the outputs for the row x[{x}]; the two do not overlap.  One thread at a time. */
void {name}(const {entry} *x, {entry} *y);

/* The same for several rows, one behind the other. */
void {name}_batch(const {entry} *x, {entry} *y, size_t rows);

/* The same for one row, with a workspace of {NAME}_WORKSPACE numbers: any number of threads may
 * call it, each with its own. */
void {name}_with(const {entry} *x, {entry} *y, {real} *workspace);

#ifdef __cplusplus
}}
#endif

#endif
"""

_SOURCE = """\
/* {about}
 *
 * cc -O3 -march=native -c {file}
 * cc -O3 -march=native -D{NAME}_MAIN {file} -lm    reads rows and prints outputs */
#include "{header}"

#include <math.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

{support}
{constants}
static real its_workspace[{NAME}_WORKSPACE];

void {name}_with(const entry *x, entry *y, real *workspace) {{
    (void)workspace;
{body}
}}

void {name}(const entry *x, entry *y) {{ {name}_with(x, y, its_workspace); }}

void {name}_batch(const entry *x, entry *y, size_t rows) {{
    for (; rows > 0; rows--, x += {NAME}_INPUTS, y += {NAME}_OUTPUTS) {name}(x, y);
}}

#ifdef {NAME}_MAIN
#include <stdio.h>
#include <stdlib.h>

/* Prints {y} outputs for each line of {x} numbers; 2 at the first line that is something else. */
int main(int argc, char **argv) {{
    static entry x[{NAME}_INPUTS], y[{NAME}_OUTPUTS];
    static char text[512];
    unsigned long line = 1, numbers = 0;
    int c, length = 0, comma = 0;
    if (argc > 1) {{
        fprintf(stderr, "usage: %s < rows.txt    (lines of {x} numbers)\\n", argv[0]);
        return 2;
    }}
    do {{
        c = getchar();
        const int blank = c == ' ' || c == '\\t' || c == '\\r', ends = c == '\\n' || c == EOF;
        if (!blank && !ends && c != ',') {{
            if (length < 511) text[length++] = (char)(c < ' ' ? '?' : c);
            continue;
        }}
        text[length] = 0;
        /* a number ends here, or none stands before or behind a comma */
        if (length > 0 || (comma && !blank) || (c == ',' && numbers == 0)) {{
            char *end;
            const double number = strtod(text, &end);
            if (end == text || *end || length == 511) {{
                fflush(stdout);
                fprintf(stderr, "line %lu: expected {x} numbers, got '%.40s'\\n", line, text);
                return 2;
            }}
            if (numbers < {NAME}_INPUTS) x[numbers] = (entry)number;
            numbers++;
            length = comma = 0;
        }}
        if (c == ',') comma = 1;
        if (ends && numbers > 0) {{
            if (numbers != {NAME}_INPUTS) {{
                fflush(stdout);
                fprintf(stderr, "line %lu: expected {x} numbers, got %lu\\n", line, numbers);
                return 2;
            }}
            {name}(x, y);
            for (int i = 0; i < {NAME}_OUTPUTS; i++)
                printf("%.{digits}g%c", (double)y[i], i + 1 < {NAME}_OUTPUTS ? ' ' : '\\n');
            numbers = 0;
        }}
        line += (unsigned long)ends;
    }} while (c != EOF);
    return 0;
}}
#endif
"""


# ---- the error of int8 weights ----


def _rows(
    model: Network, shape: tuple[int, ...], X: Any, scaler: Standardizer | TableEncoder | None
) -> Array:
    """Rows as the layers take them."""
    if X is not None:
        if isinstance(scaler, TableEncoder):
            return model._input(scaler.transform(X), "X")
        x = arrays.real_array(X, "X", model.dtype)
        if x.shape[1:] != shape or not len(x):
            raise ValueError(f"X: expected rows of shape {shape}, got {x.shape}")
        return model._input(x if scaler is None else scaler.transform(x), "X")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, *shape)).astype(model.dtype)
    for embedding, columns in model._chain.codes:
        x[:, columns] = rng.integers(0, embedding.n, x[:, columns].shape)
    return x


def _quantization_error(steps: list[Any], x: Array) -> float:
    """By how much outputs change, relative to their spread, if weights are rounded; rounds them."""
    exact = _outputs(steps, x)
    _round_weights(steps)
    spread = float(exact.std()) or 1.0
    return float(np.sqrt(np.mean((_outputs(steps, x) - exact) ** 2))) / spread


def _round_weights(steps: Iterable[Any]) -> None:
    for step in steps:
        if isinstance(step, Affine | Weighted | Embedding):
            whole, scale = quantize(step.weight)
            step.weight[...] = whole * scale
        elif isinstance(step, Layer):
            _round_weights(step._within())


def _outputs(steps: list[Any], x: Array) -> Array:
    for step in steps:
        x = operation(step)(x)
    return x.astype(np.float64)
