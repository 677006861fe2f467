"""Builds the one extension module, ``fastnn._kernels``, from ``csrc/``.

Everything else about the package stands in pyproject.toml.
"""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

sources = ["csrc/_kernels.pyx", *sorted(map(str, Path("csrc").glob("*.c")))]
depends = sorted(
    str(path) for kind in ("*.h", "*.inc", "*.pxi") for path in Path("csrc").glob(kind)
)

extension = Extension(
    "fastnn._kernels",
    sources=sources,
    depends=depends,
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    libraries=["m"],
    extra_compile_args=["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fopenmp"],
    extra_link_args=["-fopenmp"],
)

setup(ext_modules=cythonize([extension], build_dir="build/cython"))
