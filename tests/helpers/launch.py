"""Programs on several processes of this machine, started by mpirun."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optional import import_quietly
from paths import PACKAGE, TESTS

MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


def needs_mpi():
    """Skip the test where there is no MPI."""
    import_quietly("mpi4py")
    if MPIRUN is None:
        pytest.skip("no mpirun is installed")


def start(ranks, *program, options=("--bind-to", "none"), **environment):
    """mpirun with a Python program, which finds the fastnn under test, on so many processes."""
    version = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True).stdout
    as_root = ("--allow-run-as-root", "--oversubscribe") if "Open MPI" in version else ()
    path = os.pathsep.join([str(PACKAGE.parent), str(TESTS / "helpers")])
    return subprocess.Popen(
        [MPIRUN, *as_root, *options, "-n", str(ranks), sys.executable, *program], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


def outcome(ranks, program, *arguments, **more):
    """The return code, the lines of the output, sorted, and the errors of a program in a string."""
    process = start(ranks, "-c", program, *arguments, **more)
    out, err = process.communicate(timeout=100)
    return process.returncode, sorted(out.splitlines()), err
