# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=False
"""The kernels' faces: each checks its arguments, allocates, releases the GIL and runs a kernel.

Internal: the layers, losses and optimizers of ``fastnn`` are the public names.  A face that ends
in ``_forward`` returns what it computes; the gradient of a parameter is an argument, which the
face sets in place.  Arrays are C-contiguous and of one real type, float32 or float64.  Arguments
without a default are positional: reading them as keywords, too, would take 33 kB of code.

There is one file per family, included below in such an order that no file needs a later one.
"""
cimport numpy as cnp
from libc.float cimport DBL_MAX, FLT_MAX
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject, _Py_REFCNT

cnp.import_array()
cdef object numpy = __import__("numpy"), os = __import__("os")

include "declarations.pxi"
include "machine.pxi"
include "arrays.pxi"
include "calls.pxi"
include "program.pxi"
include "vectors.pxi"
include "activations.pxi"
include "product.pxi"
include "windows.pxi"
include "depthwise.pxi"
include "winograd.pxi"
include "conv.pxi"
include "pool.pxi"
include "embedding.pxi"
include "periodic.pxi"
include "dropout.pxi"
include "norm.pxi"
include "losses.pxi"
include "optimizers.pxi"
