# How this extension was compiled, for fastnn.build_info().
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


def isa_compiled():
    """The instruction sets that are compiled in, lowest first."""
    return [fnn_isa_name(i).decode() for i in range(FNN_ISAS) if fnn_table(i, False) != NULL]
