"""Types of the extension that brings OpenMP's threads (csrc/openmp.c)."""

runtime: object  # for _kernels.set_runtime
library: str  # the path of the OpenMP library that runs
