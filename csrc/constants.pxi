# Numbers that a call takes as constants.  A kernel rounds them to the arrays' own type, and one
# that is 0 or infinite there would mean something else.

cdef int check_constant(str name, double value, cnp.ndarray x, bint zero=False) except -1:
    """value is finite and > 0 in x's own type, or is 0 where that is allowed."""
    cdef double seen = <float>value if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 else value
    if not (0.0 < seen <= DBL_MAX or zero and value == 0.0):
        raise ValueError(f"{name} must be {'0 or ' if zero else ''}positive and finite in "
                         f"{x.dtype}, got {value}")
    return 0
