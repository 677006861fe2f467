"""Builds the extension modules from ``csrc/``: ``fastnn._kernels``, and where the compiler has
OpenMP ``fastnn._openmp``.

Everything else about the package stands in pyproject.toml.
"""

import os
import subprocess
import sys
from itertools import chain
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sources = ["csrc/_kernels.pyx", *sorted(map(str, Path("csrc").rglob("*.c")))]
sources.remove("csrc/openmp.c")
depends = ["setup.py"]
depends += sorted(
    str(path) for kind in ("*.h", "*.inc", "*.pxi") for path in Path("csrc").glob(kind)
)

compile_args = ["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-pthread"]
link_args = ["-pthread"]
# no debug information, no tables for unwinding (C has no exceptions; 60 kB) and no symbols but the
# module's own, whatever Python's flags ask for
compile_args += ["-g0", "-fno-asynchronous-unwind-tables", "-fvisibility=hidden"]
# code beside constants, not on pages of its own
link_args += ["-Wl,--strip-all", "-Wl,-z,noseparate-code"] * (sys.platform == "linux")


# What Cython writes: with GCC 150 kB less than with -O3, and no slower.  (-Os takes off another
# 30 kB, but makes calls 3-8 % slower.)  Nobody would read warnings about it.
CYTHON_ARGS = ["-O2", "-w"]
CYTHON_ARGS_GCC = [
    "-falign-functions=1", "-falign-loops=1", "-falign-jumps=1",
    "-freorder-blocks-algorithm=simple", "--param=max-inline-insns-single=2",
    "--param=max-inline-insns-auto=2",
]  # fmt: skip


# The kernels for x86 without AVX2; kernels.inc says the same to GCC: 125 kB less.
PORTABLE_ARGS_CLANG = ["-Os"]


def is_gcc(command):
    """Whether this compiler is GCC itself: Clang calls itself so too, but lacks some arguments."""
    macros = subprocess.run(
        [*command, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=False
    ).stdout
    return "__GNUC__" in macros and "__clang__" not in macros


# On Windows clang-cl compiles, since Microsoft's own compiler knows no vector types.  These lines
# are not tested: what was run there are kernels that another Clang made.
CLANG_CL_ARGS = ["/O2", "/std:c11", "/clang:-ffp-contract=off", "/clang:-fno-math-errno"]


class Build(build_ext):
    """Compiles as many files at a time as there are cores."""

    def finalize_options(self):
        super().finalize_options()
        if self.editable_mode:  # keeps them too, so that tests/kernels can look at the machine code
            self.build_temp = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"

    def take_clang_cl(self):
        self.compiler.initialize()
        self.compiler.cc = "clang-cl.exe"
        self.extensions = [e for e in self.extensions if e.name == "fastnn._kernels"]
        for extension in self.extensions:
            extension.libraries = []
            extension.extra_compile_args, extension.extra_link_args = CLANG_CL_ARGS, []

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            self.take_clang_cl()
            super().build_extensions()
            return
        compile_in_order = self.compiler.compile
        gcc = is_gcc(self.compiler.compiler_so)  # with its arguments: it may be "ccache cc"
        extra_args = {"_kernels": CYTHON_ARGS + CYTHON_ARGS_GCC * gcc}
        for name in ("portable_f32", "portable_f64"):
            extra_args[name] = PORTABLE_ARGS_CLANG * (not gcc)

        def compile_one(source, options):
            extra = extra_args.get(Path(source).stem, [])
            options = {**options, "extra_postargs": [*options["extra_postargs"], *extra]}
            return compile_in_order([source], **options)

        def compile_files(sources, **options):
            with ThreadPool() as pool:
                objects = pool.map(lambda source: compile_one(source, options), sources, 1)
            return list(chain.from_iterable(objects))

        self.compiler.compile = compile_files
        super().build_extensions()


kernels = Extension(
    "fastnn._kernels",
    sources=sources,
    depends=depends,
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    libraries=["m"],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)
openmp = Extension(
    "fastnn._openmp",
    sources=["csrc/openmp.c"],
    depends=["csrc/runtime.h"],
    include_dirs=["csrc"],
    extra_compile_args=[*compile_args, "-fopenmp"],
    extra_link_args=[*link_args, "-fopenmp"],
    optional=True,  # fastnn.build_info() says whether it is there
)

setup(
    ext_modules=[*cythonize([kernels], build_dir="build/cython"), openmp],
    cmdclass={"build_ext": Build},
)
