"""Programs in a fresh Python, for what a process does only once: its threads, its environment."""

import os
import subprocess
import sys

import pytest

from paths import PACKAGE

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ENVIRONMENT = ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "FASTNN_ISA")

# The beginning of every program: a product with enough work for threads.
HEAD = """
import os, sys
import numpy as np

def tasks():
    return len(os.listdir("/proc/self/task"))

def product(rows=300):
    x = np.arange(rows * 200, dtype=np.float32).reshape(rows, 200) % 7
    return fastnn._kernels.dense_forward(x, np.ones((200, 150), np.float32))
"""


def python(program, warnings="error", **environment):
    """The output, in words, of a program in a fresh Python that finds the fastnn under test."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ENVIRONMENT and not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    result = subprocess.run(
        [sys.executable, "-W", warnings, "-c", HEAD + program], text=True, capture_output=True,
        timeout=120, cwd=PACKAGE.parent, env=clean | environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.split()
