"""C functions of one row, compiled and called for all rows by a loop in C."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOOP = """
void all_rows(const float *x, float *y, long rows) {
    for (long i = 0; i < rows; i++)
        ONE_ROW(x + i * INPUTS, y + i * OUTPUTS);
}
"""
FLAGS = ["-O3", "-march=native", "-fPIC", "-shared", "-w"]


def loop(
    folder: Path, call: str, x: np.ndarray, outputs: int, options: Sequence[str] = ()
) -> Callable[[], Any]:
    """A step that predicts all rows: `folder` has net.c, of which `call` takes (x, y)."""
    source, library = folder / "rows.c", Path(tempfile.mkdtemp(dir=folder)) / "rows.so"
    names = (
        f"#define INPUTS {x.shape[1]}\n#define OUTPUTS {outputs}\n#define ONE_ROW(x, y) {call}\n"
    )
    source.write_text(f'#include "net.c"\n{names}{LOOP}')
    subprocess.run(
        ["cc", *FLAGS, *options, f"-I{folder}", str(source), "-o", str(library), "-lm"], check=True
    )
    y = np.empty((len(x), outputs), np.float32)
    function = ctypes.CDLL(str(library)).all_rows
    arguments = (*(array.ctypes.data_as(ctypes.c_void_p) for array in (x, y)), len(x))

    def step() -> np.ndarray:
        function(*arguments)
        return y

    step()
    return step
