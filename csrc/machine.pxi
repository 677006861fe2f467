# The machine: its instruction sets, its threads, and how this extension was compiled.

cdef int active_isa = fnn_isa_best()


def isa_levels():
    """The instruction sets that are compiled in and that this machine runs, lowest first."""
    return [fnn_isa_name(i).decode() for i in range(FNN_ISAS) if fnn_isa_available(i)]


def isa_compiled():
    """The instruction sets that are compiled in, lowest first."""
    return [fnn_isa_name(i).decode() for i in range(FNN_ISAS) if fnn_table(i, False) != NULL]


def get_isa():
    """The instruction set whose kernels run."""
    return fnn_isa_name(active_isa).decode()


def set_isa(str name not None, /):
    """Run the kernels of one of `isa_levels()` from now on."""
    global active_isa
    for i in range(FNN_ISAS):
        if fnn_isa_available(i) and fnn_isa_name(i).decode() == name:
            active_isa = i
            return
    raise ValueError(f"FASTNN_ISA: expected one of {', '.join(isa_levels())}, got {name!r}")


cdef bint bfloat16_allowed = fnn_has_bfloat16()


def set_bfloat16(bint use, /):
    """Whether products of bfloat16 use the instruction for them where it is; tests switch it off."""
    global bfloat16_allowed
    bfloat16_allowed = use and fnn_has_bfloat16()


cpdef bint has_bfloat16() noexcept:
    """Whether products of bfloat16 use the instruction for them: the active set is AVX-512, and the
    CPU has AVX512_BF16."""
    return bfloat16_allowed and active_isa == FNN_ISA_AVX512


cdef inline const fnn_kernels *kernels_for(cnp.ndarray x) noexcept:
    return fnn_table(active_isa, cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)


MAX_THREADS = FNN_MAX_THREADS
fnn_set_up_threads()


def set_threads(int threads, /):
    """How many threads each calling thread may use, 1 to MAX_THREADS (which is not checked)."""
    fnn_set_threads(threads)


def override_threads(int threads, /):
    """The same for the calling thread alone; 0: as for all.  Returns what was set before."""
    return fnn_override_threads(threads)


def get_threads():
    """How many threads the calling thread's kernels may use."""
    return fnn_threads()


def granted_threads():
    """How many of them its next large call would use, since callers share them."""
    return fnn_granted_threads()


OWN_RUNTIME = PyCapsule_New(<void *>&fnn_own_runtime, "fnn_runtime", NULL)


def set_runtime(runtime not None, /):
    """Where threads come from: OWN_RUNTIME, or that of fastnn._openmp."""
    fnn_set_runtime(<const fnn_runtime *>PyCapsule_GetPointer(runtime, "fnn_runtime"))


def override_runtime(runtime, /):
    """The same for the calling thread alone; None: as for all.  Returns what was set before."""
    cdef const fnn_runtime *wanted = NULL
    if runtime is not None:
        wanted = <const fnn_runtime *>PyCapsule_GetPointer(runtime, "fnn_runtime")
    cdef const fnn_runtime *before = fnn_override_runtime(wanted)
    return None if before == NULL else PyCapsule_New(<void *>before, "fnn_runtime", NULL)


def get_runtime():
    """The name of the runtime whose threads the calling thread's kernels use."""
    return fnn_current_runtime().name.decode()


def is_forked():
    """Whether this process was forked from one that had imported this module."""
    return bool(fnn_is_forked())


def set_wake_work(double operations, /):
    """From how many operations on workers are woken; tests lower it.  Returns it as it was."""
    return fnn_set_wake_work(operations)


# For fastnn.build_info().
cdef extern from *:
    """
    #if defined(__clang__)
    #define FNN_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define FNN_COMPILER "GCC " __VERSION__
    #else
    #define FNN_COMPILER "unknown"
    #endif
    """
    const char *FNN_COMPILER

COMPILER = FNN_COMPILER.decode().strip()
