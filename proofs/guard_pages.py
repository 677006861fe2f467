"""Proves that no kernel reads or writes beyond an array, and that each writes all of its output.

    python proofs/guard_pages.py
    python proofs/guard_pages.py --quick          a few products alone

NumPy gives every array pages of its own (guard_pages/guarded.c), between two that nobody may touch
and full of NaN.  So run the tests of all kernels and layers, whose shapes lie around the boundaries
of vectors and blocks, on every instruction set, and products at many more such shapes; once with
the arrays against the page behind them, once against that before.  A step beyond ends the process.
Needs a C compiler and pytest (pip install '.[test]')."""

import argparse
import os
import subprocess
import sys
import sysconfig

import numpy as np

from compiled import CSRC, FOLDER, HERE, compile_c

TREE = CSRC.parent
TESTS = [
    "kernels", "layers", "test_losses.py", "test_loss_options.py", "test_optimizers.py",
    "test_lerp.py", "test_vector.py", "test_factors.py", "training",
]  # fmt: skip
# What says nothing about arrays: other processes, how code was compiled, memory counted in bytes
LEFT_OUT = [
    "kernels/test_bits.py", "kernels/test_machine_code.py", "kernels/test_phases.py",
    "kernels/test_proofs.py",
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shapes", type=int, default=3000, help="random shapes of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    compile_c(
        f"guarded{sysconfig.get_config_var('EXT_SUFFIX')}", [HERE / "guard_pages/guarded.c"],
        "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", f"-I{np.get_include()}",
    )  # fmt: skip
    tests = [str(TREE / "tests" / name) for name in TESTS]
    ignored = [f"--ignore={TREE / 'tests' / name}" for name in LEFT_OUT]
    shapes = 10 if options.quick else options.shapes
    print(f"seed {options.seed}, {shapes} shapes of each kind")
    for side in ("behind", "before"):
        environment = {
            **os.environ, "GUARD": side, "PYTHONPATH": str(FOLDER),
            "PROOF_SHAPES": str(shapes), "PROOF_SEED": str(options.seed),
        }  # fmt: skip
        print(f"an inaccessible page {side} every array", flush=True)
        # two runs, since the hooks of tests/ take no test from outside it
        for chosen in [[str(HERE / "guard_pages")]] + [[*ignored, *tests]] * (not options.quick):
            command = [
                sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", "-p", "guarded",
                "-p", "no:cacheprovider", *chosen,
            ]  # fmt: skip
            status = subprocess.run(command, env=environment, cwd=TREE, check=False).returncode
            if status:
                sys.exit(f"exit status {status} with a page {side} every array")
    print("no fault")


if __name__ == "__main__":
    main()
