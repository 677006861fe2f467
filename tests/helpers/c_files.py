"""Networks written in C, compiled and called."""

import ctypes
import platform
import re
import shutil
import subprocess

import numpy as np
import pytest

import fastnn

COMPILERS = ("gcc", "clang")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
NATIVE = ("-march=native",) if platform.machine() == "x86_64" else ()


def compiler(name):
    """The compiler of this name; the test is skipped if there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    return found


class Compiled:
    """The functions of a network or estimator written by export_c; arguments as export_c's, but for
    the path."""

    def __init__(self, model, folder, command="gcc", flags=("-O3", *NATIVE), **arguments):
        self.files = fastnn.export_c(model, folder / "net.c", **arguments)
        library, name = folder / f"{arguments.get('name', 'net')}.so", arguments.get("name", "net")
        subprocess.run(
            [compiler(command), *STRICT, *flags, "-fPIC", "-shared", self.files.source, "-o",
             library, "-lm"], check=True,
        )  # fmt: skip
        loaded = ctypes.CDLL(str(library))
        self.one, self.batch = getattr(loaded, name), getattr(loaded, f"{name}_batch")
        self.with_workspace = getattr(loaded, f"{name}_with")
        self.one.restype = self.batch.restype = self.with_workspace.restype = None
        header = self.files.header.read_text()
        ctype = re.search(r"\(const (\w+) \*x, \1 \*y\);", header)[1]
        self.dtype = np.dtype({"float": "float32", "double": "float64"}[ctype])
        self.outputs = (int(re.search(r"_OUTPUTS (\d+)", header)[1]),)
        if hasattr(model, "output_shape"):
            shape = arguments.get("shape") or (model.in_features,)
            self.outputs = model.output_shape(shape)

    def __call__(self, x):
        """The outputs of a batch; the numbers behind them must stay as they are."""
        assert x.dtype == self.dtype and x.flags.c_contiguous
        size = len(x) * int(np.prod(self.outputs))
        y = np.full(size + 8, 123.0, x.dtype)
        self.batch(*map(address, (x, y)), ctypes.c_size_t(len(x)))
        assert (y[size:] == 123).all()
        return y[:size].reshape(len(x), *self.outputs)


def address(array):
    return array.ctypes.data_as(ctypes.c_void_p)
