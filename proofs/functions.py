"""Proves the bounds on the error of the elementary functions in docs/background/numerics.md.

    python proofs/functions.py                         all 2^32 float32 numbers, 10^8 float64 ones
    python proofs/functions.py --every 4096 --samples 1e5        seconds instead of an hour

float32 is judged by the C library's double, float64 by its long double; and both of these by MPFR.
NumPy's own test vectors are run too.  Needs a C compiler and MPFR (Debian: libmpfr-dev)."""

import argparse
import ctypes
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from compiled import CSRC, HERE, ISAS, compile_c

INF = np.inf
FUSED, PLAIN = 0, 1  # with fused multiply-add, and without

# name: zones, each (up to which x, bound in float32, in float64), as numerics.md states them; where
# the bound is a pair, the second is that without fused multiply-add.  WEAK: the factor of x is
# denormal there, and its last place weighs |x| units of the result.
WEAK = "weak"
TURNS = ((2.4, 3.3), (2.7, 3.5))
ZONES = {
    "exp": [(INF, 1.1, 1.0)],
    "expm1": [(INF, 1.7, 2.0)],
    "log": [(INF, 0.9, 0.9)],
    "tanh": [(INF, 2.7, 2.6)],
    "sigmoid": [(INF, 2.5, 2.4)],
    "softplus": [(INF, (1.9, 2.4), (2.0, 2.4))],
    "normal": [(INF, 4.5, 5.5)],
    "density": [(INF, 2.3, 2.3)],
    "cos_turns": [(INF, *TURNS)],
    "sin_turns": [(INF, *TURNS)],
    "silu": [((-87.3, -708.4), WEAK, WEAK), (INF, 3.3, 3.4)],
    "gelu": [
        ((-12.9, -37.4), WEAK, WEAK), (-5, 8, 8), (-0.5, 21, 8), (0.5, 17, 8), (INF, 7, 8),
    ],
    "mish": [((-87.3, -708.4), WEAK, WEAK), (INF, 4.8, 4.8)],
}  # fmt: skip
NAMES = list(ZONES)
AT_INFINITY = {  # f(inf), f(-inf)
    "exp": (INF, 0), "expm1": (INF, -1), "log": (INF, np.nan), "tanh": (1, -1), "sigmoid": (1, 0),
    "softplus": (INF, 0), "normal": (1, 0), "density": (0, 0), "cos_turns": (np.nan, np.nan),
    "sin_turns": (np.nan, np.nan), "silu": (INF, 0), "gelu": (INF, 0), "mish": (INF, 0),
}  # fmt: skip
REFERENCE_BOUND = 0.02  # how wrong the reference may be, in units of the result
TARGETS = {
    "portable": ["-DFNN_PORTABLE"], "neon": ["-DFNN_NEON"],
    "avx2": ["-DFNN_AVX2", "-mavx2", "-mfma"],
    "avx512": ["-DFNN_AVX512", "-mavx2", "-mfma",
               *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl"))],
}  # fmt: skip
BLOCK = 1 << 16


def either(value, which):
    return value[which] if isinstance(value, tuple) else value


class Judge:
    """One real type: fastnn's functions on each instruction set, the reference and MPFR."""

    def __init__(self, bits):
        self.bits, self.dtype = bits, np.float32 if bits == 32 else np.float64
        self.wide = np.float64 if bits == 32 else np.longdouble
        # the C library's vector functions, by -ffast-math, take a tenth of the time
        fast = ["-march=native", "-ffast-math"] if bits == 32 else []
        self.ours = {isa: self._library(f"ours_{isa}", "ours", TARGETS[isa]) for isa in ISAS}
        self.reference = self._library("reference", "reference", fast)
        self.judge = self._library("judge", "judge", ["-march=native"])
        self.judge.worst_error.restype = ctypes.c_double
        self.judge.find_error.restype = ctypes.c_ssize_t
        self.exact = self._library("exact", "exact", ["-lmpfr", "-lgmp"])
        self.exact.distance.restype = ctypes.c_double

    def _library(self, name, source, options):
        source, real = HERE / "functions" / f"{source}.c", f"-DFNN_REAL={self.bits}"
        compiled = compile_c(f"{name}_{self.bits}.o", [source], "-c", "-fPIC", real, *options)
        # linked apart: a library linked by -ffast-math turns denormal numbers into 0
        libraries = [option for option in options if option.startswith("-l")]
        return ctypes.CDLL(
            str(compile_c(f"{name}_{self.bits}.so", [compiled], "-shared", *libraries))
        )

    def values(self, library, name, x, dtype):
        """f(x) by that library's function of its own name."""
        padded = np.zeros(-(-len(x) // 64) * 64, self.dtype)
        padded[: len(x)] = x
        y = np.empty(len(padded), dtype)
        function = library.reference if library is self.reference else library.ours
        function(NAMES.index(name), pointer(padded), pointer(y), size(len(padded)))
        return y[: len(x)]

    def zones(self, name, x, isa):
        """For each zone: where in the sorted x it begins and ends, its number and its bound."""
        begin = 0
        for number, (limit, *bounds) in enumerate(ZONES[name]):
            end = int(np.searchsorted(x, either(limit, self.bits == 64)))
            bound = either(bounds[self.bits == 64], PLAIN if isa == "portable" else FUSED)
            if end > begin:
                yield begin, end, number, bound
            begin = end

    def errors(self, x, worst):
        """Raises in worst[name, isa, zone] the largest error seen over x, which is sorted and
        finite."""
        for name in NAMES:
            reference = self.values(self.reference, name, x, self.wide)
            for isa, library in self.ours.items():
                y = self.values(library, name, x, self.dtype)
                for begin, end, zone, bound in self.zones(name, x, isa):
                    part = (pointer(y[begin:]), pointer(reference[begin:]), size(end - begin))
                    error = self.judge.worst_error(*part)
                    if bound == WEAK:  # how many units of |x| there are
                        error /= abs(float(x[end - 1]))
                    if error > worst.get((name, isa, zone), (-1.0,))[0]:
                        if bound == WEAK:
                            at = float(x[end - 1])
                        else:
                            found = self.judge.find_error(*part, ctypes.c_double(error))
                            at = float(x[begin + found])
                        worst[name, isa, zone] = (error, at)

    def special(self):
        """Faults at infinity and NaN."""
        x = np.array([INF, -INF, np.nan, -np.nan], self.dtype)
        for isa, library in self.ours.items():
            for name in NAMES:
                y = self.values(library, name, x, self.dtype)
                expected = np.array([*AT_INFINITY[name], np.nan, np.nan], self.dtype)
                if not np.array_equal(y, expected, equal_nan=True):
                    yield f"{name} of {x} on {isa} is {y}, not {expected}"


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


size = ctypes.c_ssize_t


def float32_blocks(every):
    """All numbers, or of blocks one in `every`, sorted; without infinity and NaN."""
    for block in range(0, 0x7F800000 // BLOCK, every):
        bits = np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.uint32)
        for sign in (0, 1 << 31):
            yield np.sort((bits | np.uint32(sign)).view(np.float32))


def float64_blocks(samples, seed):
    """Random numbers: a third of all bit patterns, a third of 2^-60 to 2^11, a third where
    activations bend."""
    rng = np.random.default_rng(seed)
    for _ in range(-(-samples // BLOCK)):
        n = BLOCK // 3
        patterns = rng.integers(0, 1 << 64, BLOCK - 2 * n, np.uint64).view(np.float64)
        powers = np.exp2(rng.uniform(-60, 11, n)) * rng.choice([-1.0, 1.0], n)
        x = np.concatenate([patterns, powers, rng.uniform(-40, 40, n)])
        yield np.sort(x[np.isfinite(x)])


def largest_errors(judge, blocks, workers):
    """worst of errors() over all blocks; says every minute how many are done."""

    def run(x):
        worst = {}
        judge.errors(x, worst)
        return worst

    def take(task):
        for key, value in task.result().items():
            worst[key] = max(worst.get(key, (-1.0, 0.0)), value)

    worst, pending, said = {}, [], time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for done, block in enumerate(blocks):
            pending.append(pool.submit(run, block))
            if len(pending) == 4 * workers:
                take(pending.pop(0))
            if time.perf_counter() - said > 60:
                said = time.perf_counter()
                print(f"  {done * BLOCK:.3g} numbers", file=sys.stderr, flush=True)
        for task in pending:
            take(task)
    return worst


def report(judge, worst):
    """Prints the table; returns the faults."""
    for name in NAMES:
        for zone, (limit, *bounds) in enumerate(ZONES[name]):
            limit = either(limit, judge.bits == 64)
            label = name if len(ZONES[name]) == 1 else f"{name}, x < {limit:g}"
            for isa in ISAS:
                bound = either(bounds[judge.bits == 64], PLAIN if isa == "portable" else FUSED)
                error, at = worst.get((name, isa, zone), (0.0, 0.0))
                if bound == WEAK:
                    text, bad = f"{error:8.4f} |x|   of 1 |x|", not error <= 1
                else:
                    text, bad = f"{error:8.4f}       of {bound:4}", not error <= bound
                print(f"  {label:18} {isa:9} {text:24} at {at:.9g}{'  WRONG' * bad}", flush=True)
                if bad:
                    yield f"{label} on {isa}: {error:.4f} ULP at {at!r}"


def judged_by_mpfr(judge, x):
    """Prints how wrong the reference is; returns the faults."""
    for name in NAMES:
        reference = judge.values(judge.reference, name, x, judge.wide)
        at = ctypes.c_ssize_t()
        wrong = judge.exact.distance(
            NAMES.index(name), pointer(x), pointer(reference), size(len(x)), ctypes.byref(at)
        )
        print(f"  {name:18} {wrong:.6f} at {float(x[at.value]):.9g}", flush=True)
        if not wrong <= REFERENCE_BOUND:
            yield f"the reference of {name} is off by {wrong} at {x[at.value]!r}"


def numpy_vectors(judges):
    """Faults in NumPy's vectors, whose outputs are correctly rounded."""
    folder = Path(np.__file__).parent / "_core/tests/data"
    count, kind = 0, {"np.float32": (0, np.uint32), "np.float64": (1, np.uint64)}
    for name in ("exp", "expm1", "log", "tanh"):
        path = folder / f"umath-validation-set-{name}.csv"
        if not path.exists():
            yield f"this NumPy has no {path.name}"
            continue
        rows = [line.split(",") for line in path.read_text().splitlines() if line.startswith("np")]
        for dtype, (which, natural) in kind.items():
            judge = judges[which]
            bits = [[int(cell, 16) for cell in row[1:3]] for row in rows if row[0] == dtype]
            x, expected = np.array(bits, natural).view(judge.dtype).T.copy()
            count += len(x)
            bound = either(either(ZONES[name][0][1 + which], FUSED), FUSED) + 0.5
            unit = np.maximum(
                np.spacing(np.abs(expected)), np.finfo(judge.dtype).smallest_subnormal
            )
            for isa, library in judge.ours.items():
                y = judge.values(library, name, x, judge.dtype)
                with np.errstate(invalid="ignore", over="ignore"):
                    bad = np.abs(y - expected) / unit > bound
                same = (y == expected) | (np.isnan(y) & np.isnan(expected))
                finite = np.isfinite(expected) & np.isfinite(y)
                for i in np.flatnonzero(np.where(finite, bad, ~same)):
                    yield f"NumPy's {name}({x[i]!r}) is {expected[i]!r}, not {y[i]!r} on {isa}"
    print(f"NumPy's vectors: {count} numbers on each instruction set")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="one in so many blocks of float32")
    parser.add_argument("--samples", type=float, default=1e8, help="float64 numbers")
    parser.add_argument("--exact", type=int, default=20_000, help="numbers that MPFR judges")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    begin, faults, judges = time.perf_counter(), [], [Judge(32), Judge(64)]
    print(f"{CSRC.name}: {', '.join(ISAS)}; seed {options.seed}")
    rng = np.random.default_rng(options.seed)
    for judge in judges:
        x = np.concatenate(list(float64_blocks(2 * options.exact, options.seed + 1)))
        x = rng.choice(x, options.exact)
        with np.errstate(over="ignore"):
            x = np.unique(x.astype(judge.dtype))
        x = x[np.isfinite(x)]
        print(f"float{judge.bits}: the reference against MPFR, {len(x)} numbers, in ULP")
        faults += [*judge.special(), *judged_by_mpfr(judge, x)]
    faults += numpy_vectors(judges)
    blocks = [float32_blocks(options.every), float64_blocks(int(options.samples), options.seed)]
    for judge, numbers in zip(judges, blocks, strict=True):
        worst = largest_errors(judge, numbers, options.workers)
        minutes = (time.perf_counter() - begin) / 60
        print(f"float{judge.bits}: the largest errors in ULP, after {minutes:.1f} minutes")
        faults += report(judge, worst)
    print("\n".join(faults) or "no fault")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
