"""Proves the matrix products by the reference BLAS testers, xblat3s and xblat3d.

    python proofs/blas.py
    python proofs/blas.py --quick            the default sizes alone

Each instruction set, three ways, both real types: sizes 0 1 2 3 5 9, the testers' own, and 0 1 2 3
7 16 17 33 65.  Needs a C compiler and the testers (Debian: libblas-test; or their folder as
--testers)."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from compiled import FOLDER, HERE, ISAS, compile_c, kernel_objects

WAYS = ("rows", "columns", "packed")
GRIDS = {"default": "0 1 2 3 5 9", "larger": "0 1 2 3 7 16 17 33 65"}
THRESHOLD = 16.0  # that of the testers: in units of the real type's precision

# the testers' input: the other routines are switched off
INPUT = """'summary.out'
6
'SNAP'
-1
F
F
T
{threshold}
{count}
{sizes}
3
0.0 1.0 0.7
3
0.0 1.0 1.3
{letter}GEMM  T
"""


def find_testers(folder):
    found = [Path(folder)] if folder else [*Path("/usr/lib").glob("*/blas"), Path("/usr/lib/blas")]
    for place in found:
        if (place / "xblat3s").exists():
            return place
    sys.exit("no xblat3s: install libblas-test, or name its folder by --testers")


def summary(tester, shim, isa, way, sizes, threshold):
    """What the tester says."""
    letter = "S" if tester.name.endswith("s") else "D"
    text = INPUT.format(threshold=threshold, count=len(sizes.split()), sizes=sizes, letter=letter)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FASTNN_ISA": isa, "PROOF_WAY": way}
    path = FOLDER / "summary.out"
    path.unlink(missing_ok=True)
    result = subprocess.run(
        [tester], input=text, env=environment, cwd=FOLDER, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = path.read_text() if path.exists() else ""
    if result.returncode or "END OF TESTS" not in said:
        return said + result.stdout + result.stderr + f"\nexit status {result.returncode}"
    return said


def run(tester, shim, isa, way, grid):
    """Calls and the worst residual ratio; or what the tester said, if that is not good."""
    said = summary(tester, shim, isa, way, GRIDS[grid], THRESHOLD)
    calls = re.search(r"GEMM +PASSED THE COMPUTATIONAL TESTS \( *(\d+) CALLS\)", said)
    if not calls or "GEMM  PASSED THE TESTS OF ERROR-EXITS" not in said:
        return said
    # with a threshold of 0 it tells the worst ratio
    told = summary(tester, shim, isa, way, GRIDS[grid], "0.0")
    ratio = re.search(r"MAXIMUM TEST RATIO +([\d.]+)", told)
    return (int(calls[1]), float(ratio[1])) if ratio else told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the default sizes alone")
    parser.add_argument("--testers", help="the folder with xblat3s and xblat3d")
    options = parser.parse_args()
    folder = find_testers(options.testers)
    # beside the tester's, the shim needs no symbol but xerbla_
    shim = compile_c(
        "shim.so", [HERE / "blas/shim.c", *kernel_objects()], "-shared", "-fPIC",
        "-fvisibility=default",
    )  # fmt: skip
    total, worst = 0, 0.0
    for grid in ["default"] if options.quick else GRIDS:
        for tester in ("xblat3s", "xblat3d"):
            for isa in ISAS:
                for way in WAYS:
                    result = run(folder / tester, shim, isa, way, grid)
                    if isinstance(result, str):
                        sys.exit(f"{tester}, {isa}, {way}, {grid}\n{result}")
                    calls, ratio = result
                    total, worst = total + calls, max(worst, ratio)
                    print(f"{tester} {isa:9} {way:8} N {GRIDS[grid]:22} {calls:6} calls"
                          f"  worst ratio {ratio:.2f} of {THRESHOLD:.0f}", flush=True)  # fmt: skip
    print(f"{total} calls, worst ratio {worst:.2f}; no fault")


if __name__ == "__main__":
    main()
