"""The extension compiles for Python without its global lock, whose objects have other fields."""

import os
import shutil
import subprocess
import sys
import sysconfig

import numpy
import pytest

from paths import ROOT


def test_what_cython_wrote_compiles_for_it():
    """Here with this Python's headers, told that there is no lock."""
    compiler = os.environ.get("CC", "cc").split()[0]
    written = ROOT / "build/cython/csrc/_kernels.c"
    if sys.version_info < (3, 13):
        pytest.skip("the headers of this Python do not know that build")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler {compiler}")
    if not written.exists():
        pytest.skip("no build/cython: build the extension in this tree to check its code")
    includes = (ROOT / "csrc", numpy.get_include(), sysconfig.get_path("include"))
    for source in (written, ROOT / "csrc/openmp.c"):
        command = [compiler, "-fsyntax-only", "-std=c11", "-w", "-fopenmp", "-DPy_GIL_DISABLED=1"]
        command += [f"-I{path}" for path in includes]
        result = subprocess.run([*command, source], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-2000:]
