"""Types of the extension that brings OpenMP's threads (csrc/openmp.c)."""

runtime: object  # for _kernels.set_runtime
path: str  # of the OpenMP library that runs
