# The checks that every face begins with: is this array, or this number, what the kernel expects?

cdef inline void *data(cnp.ndarray x) noexcept:
    return cnp.PyArray_DATA(x)


cdef str describe(cnp.ndarray x):
    return f"{x.dtype} of shape {(<object>x).shape}"


cdef inline ptrdiff_t features_of(cnp.ndarray x) noexcept:
    """The length of the last axis; all other axes together are the rows."""
    return x.shape[cnp.PyArray_NDIM(x) - 1]


cdef inline ptrdiff_t rows_of(cnp.ndarray x) noexcept:
    return cnp.PyArray_SIZE(x) // features_of(x)


cdef int check_real(str name, cnp.ndarray x, int ndim) except -1:
    """x is a C-contiguous, aligned float32 or float64 array of ndim dimensions, none empty.

    ndim 0 stands for any number of dimensions from 1 on."""
    if x is None:
        raise TypeError(f"{name}: expected a NumPy array, got None")
    cdef int kind = cnp.PyArray_TYPE(x)
    if kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64 or not cnp.PyArray_ISNOTSWAPPED(x):
        raise ValueError(f"{name}: expected float32 or float64, got {describe(x)}")
    if cnp.PyArray_NDIM(x) != (ndim or max(1, cnp.PyArray_NDIM(x))):
        raise ValueError(f"{name}: expected {ndim or 'some'} dimensions, got {describe(x)}")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_ISALIGNED(x)):
        raise ValueError(f"{name}: expected a C-contiguous, aligned array, got {describe(x)}")
    if cnp.PyArray_SIZE(x) == 0:
        raise ValueError(f"{name}: expected at least one element, got {describe(x)}")
    return 0


cdef int check_like(str name, cnp.ndarray x, str other_name, cnp.ndarray other) except -1:
    """x has the type and shape of other, which was checked."""
    cdef bint same = x is None or cnp.PyArray_NDIM(x) == cnp.PyArray_NDIM(other)
    if same:
        check_real(name, x, cnp.PyArray_NDIM(other))
        same = (cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(other)
                and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(other),
                                             cnp.PyArray_NDIM(x)))
    if not same:
        raise ValueError(
            f"{name}: expected an array like {other_name}, {describe(other)}, got {describe(x)}")
    return 0


cdef int check_vector(str name, cnp.ndarray x, cnp.ndarray like, ptrdiff_t length) except -1:
    """x is a vector of the given length and of like's type."""
    check_real(name, x, 1)
    if cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like) or x.shape[0] != length:
        raise ValueError(f"{name}: expected {like.dtype} of shape ({length},), got {describe(x)}")
    return 0


cdef int check_matrix(str name, cnp.ndarray x, cnp.ndarray like, ptrdiff_t rows,
                      ptrdiff_t columns) except -1:
    """x is a matrix of the given shape and of like's type."""
    check_real(name, x, 2)
    if (cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like) or x.shape[0] != rows
            or x.shape[1] != columns):
        raise ValueError(
            f"{name}: expected {like.dtype} of shape ({rows}, {columns}), got {describe(x)}")
    return 0


cdef int check_writable(str name, cnp.ndarray x) except -1:
    if not cnp.PyArray_ISWRITEABLE(x):
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return 0


cdef int check_doubles(str name, cnp.ndarray x) except -1:
    if x is None or cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT64 or not cnp.PyArray_ISCARRAY(x):
        raise ValueError(f"{name}: expected writable, contiguous float64, "
                         f"got {None if x is None else describe(x)}")
    return 0


cdef int check_hyper(cnp.ndarray hyper) except -1:
    if (cnp.PyArray_TYPE(hyper) != cnp.NPY_FLOAT64 or not cnp.PyArray_ISCARRAY(hyper)
            or cnp.PyArray_NDIM(hyper) != 1 or hyper.shape[0] != FNN_HYPER_SIZE):
        raise ValueError("hyper: expected writable, contiguous float64 of shape "
                         f"({<int>FNN_HYPER_SIZE},), got {describe(hyper)}")
    return 0


cdef int check_constant(str name, double value, cnp.ndarray x, bint zero=False) except -1:
    """value is finite and > 0 in x's type, or is 0 where zero is allowed.

    A kernel rounds it to that type, in which 0 or infinity would mean something else."""
    cdef double seen = <float>value if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 else value
    if not (0.0 < seen <= DBL_MAX or zero and value == 0.0):
        raise ValueError(f"{name}: expected {'0 or ' if zero else ''}a positive number, finite "
                         f"in {x.dtype}, got {value}")
    return 0


ctypedef fused real_type:
    float
    double


cdef ptrdiff_t first_beyond(const real_type *x, ptrdiff_t size, real_type low,
                            real_type high) noexcept:
    """As first_outside, for the elements of one real type.

    Blocks are searched without a branch: 65,536 elements take 6 us, one by one they took 50."""
    cdef ptrdiff_t begin, i
    cdef bint inside
    for begin in range(0, size, 256):
        inside = True
        for i in range(begin, min(begin + 256, size)):
            inside &= (low <= x[i]) & (x[i] <= high)
        if not inside:
            for i in range(begin, size):
                if not low <= x[i] <= high:
                    return i
    return -1


cdef ptrdiff_t first_outside(cnp.ndarray x, double low, double high) noexcept:
    """The flat index of x's first element that is not in [low, high], as NaN is not; -1: none."""
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32:
        return first_beyond(<const float *>data(x), size, <float>low, <float>min(high, FLT_MAX))
    return first_beyond(<const double *>data(x), size, low, min(high, DBL_MAX))


cdef bint is_like(value, cnp.ndarray like) noexcept:
    """Whether value is a plain, contiguous array of the same type and shape."""
    if not cnp.PyArray_CheckExact(value):
        return False
    return (cnp.PyArray_TYPE(<cnp.ndarray>value) == cnp.PyArray_TYPE(like)
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>value)
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>value, like))


def first_changed(list entries not None, /):
    """The name of the first (name, array, like) whose array is read-only, or is no longer a plain
    array of the type and shape of `like`; None if all are as they were."""
    cdef tuple entry
    for entry in entries:
        if not (cnp.PyArray_ISWRITEABLE(<cnp.ndarray?>entry[1])
                and is_like(entry[1], <cnp.ndarray?>entry[2])):
            return entry[0]
    return None


cdef bint overlap(cnp.ndarray x, cnp.ndarray y) noexcept:
    """Whether two contiguous arrays share memory."""
    cdef const char *a = <const char *>data(x)
    cdef const char *b = <const char *>data(y)
    return a < b + cnp.PyArray_NBYTES(y) and b < a + cnp.PyArray_NBYTES(x)
