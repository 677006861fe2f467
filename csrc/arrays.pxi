# What every face begins with (is this array what the kernel expects?) and ends with (run it).

cdef int active_isa = fnn_isa_best()


def isa_levels():
    """The instruction sets that are compiled in and that this machine runs, lowest first."""
    return [fnn_isa_name(i).decode() for i in range(FNN_ISAS) if fnn_isa_available(i)]


def get_isa():
    """The instruction set whose kernels run now."""
    return fnn_isa_name(active_isa).decode()


def set_isa(str name not None):
    """Run the kernels of another instruction set that this machine has."""
    global active_isa
    for i in range(FNN_ISAS):
        if fnn_isa_available(i) and fnn_isa_name(i).decode() == name:
            active_isa = i
            return
    raise ValueError(f"FASTNN_ISA must be one of {', '.join(isa_levels())}, got {name!r}")


def set_threads(int threads):
    """Threads for the whole process: 1 to MAX_THREADS, checked by fastnn.set_num_threads."""
    fnn_set_threads(threads)


def override_threads(int threads):
    """Threads for the calling thread alone, 0 for none of its own; returns what was set."""
    return fnn_override_threads(threads)


def set_wake_work(double operations):
    """Sleeping threads are woken for so many operations, which tests lower; returns the last."""
    return fnn_set_wake_work(operations)


def get_threads():
    """How many threads the calling thread's kernels may use."""
    return fnn_threads()


MAX_THREADS = FNN_MAX_THREADS


cdef inline const fnn_kernels *kernels_for(cnp.ndarray x) noexcept:
    return fnn_table(active_isa, cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)


cdef inline void start(fnn_call *call, fnn_kernel *kernel, ptrdiff_t units, double work) noexcept:
    """A new call of so many units; work: about how many operations it has, those of products taken
    as the measure: to load or to store an element takes as long as 4."""
    call.kernel, call.units, call.size, call.grain = kernel, units, 1, 1
    call.work, call.accesses = work, 0


cdef double copied = 8.0  # operations that an element takes which is loaded and stored


cdef inline void *touches(fnn_call *call, cnp.ndarray x, ptrdiff_t unit, ptrdiff_t line,
                          bint writes) except? NULL:
    """Notes that the call touches x: so many elements of each line by each unit, line 0: all of x
    being one; with unit 0, any by any unit.

    Returns where x's elements lie, or NULL for None.  A program that is being recorded keeps x."""
    if x is None:
        return NULL
    if call.accesses == FNN_ACCESSES:
        raise RuntimeError("a call touches more arrays than FNN_ACCESSES in fastnn.h")
    cdef fnn_access *access = &call.access[call.accesses]
    call.accesses += 1
    access.begin = <const char *>cnp.PyArray_DATA(x)
    access.end = access.begin + cnp.PyArray_NBYTES(x)
    access.unit, access.writes = unit * cnp.PyArray_ITEMSIZE(x), writes
    access.line = 0 if line == cnp.PyArray_SIZE(x) else line * cnp.PyArray_ITEMSIZE(x)
    if recorder() != NULL and not (<Program>recorder()).is_large_part(x):
        (<Program>recorder()).kept.append(x)
    return cnp.PyArray_DATA(x)


cdef inline const void *reads(fnn_call *call, cnp.ndarray x, ptrdiff_t unit=0,
                              ptrdiff_t line=0) except? NULL:
    return touches(call, x, unit, line, False)


cdef inline void *writes(fnn_call *call, cnp.ndarray x, ptrdiff_t unit=0,
                         ptrdiff_t line=0) except? NULL:
    return touches(call, x, unit, line, True)


cdef ptrdiff_t written_unit(cnp.ndarray x) noexcept:
    """How many elements a unit has of a call over x's: as many as one had of the recorded call that
    last wrote x, where these lie together, so that a thread does both; else 16."""
    cdef const char *begin = <const char *>data(x)
    cdef const fnn_access *written = NULL
    if recorder() != NULL:
        written = fnn_written(&(<Program>recorder()).program, begin, begin + cnp.PyArray_NBYTES(x))
    if written == NULL or written.unit == 0 or written.line != 0:
        return 16
    return written.unit // cnp.PyArray_ITEMSIZE(x)


cdef int execute(fnn_call *call) except -1:
    """Runs the call, and records it if the calling thread is recording."""
    cdef int status
    with nogil:
        status = fnn_run(call)
    if status != 0:
        raise MemoryError("no memory for the threads' scratch space")
    if recorder() != NULL:
        (<Program>recorder()).append(call)
    return 0


cdef str describe(cnp.ndarray x):
    return f"{x.dtype} of shape {tuple(x.shape[i] for i in range(x.ndim))}"


cdef int check_real(str name, cnp.ndarray x, int ndim) except -1:
    """x is a C-contiguous, aligned float32 or float64 array of ndim dimensions, none empty.

    ndim 0: any number of them but none."""
    if x is None:
        raise TypeError(f"{name} must be a NumPy array, got None")
    cdef int kind = cnp.PyArray_TYPE(x)
    if kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64 or not cnp.PyArray_ISNOTSWAPPED(x):
        raise ValueError(f"{name} must be float32 or float64, got {describe(x)}")
    if cnp.PyArray_NDIM(x) != (ndim or max(1, cnp.PyArray_NDIM(x))):
        raise ValueError(f"{name} must have {ndim or 'some'} dimensions, got {describe(x)}")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_ISALIGNED(x)):
        raise ValueError(f"{name} must be C-contiguous and aligned, got {describe(x)}")
    if cnp.PyArray_SIZE(x) == 0:
        raise ValueError(f"{name} must not be empty, got {describe(x)}")
    return 0


def first_read_only(list entries not None):
    """The name of the first of the (name, array) into which nobody may write, or None."""
    cdef tuple entry
    for entry in entries:
        if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray?>entry[1]):
            return entry[0]
    return None


cdef inline ptrdiff_t features_of(cnp.ndarray x) noexcept:
    """The length of the last axis; all other axes together are the rows."""
    return x.shape[cnp.PyArray_NDIM(x) - 1]


cdef inline ptrdiff_t rows_of(cnp.ndarray x) noexcept:
    return cnp.PyArray_SIZE(x) // features_of(x)


cdef ptrdiff_t few_images = 16  # of fewer, each is cut into lines
FEW_IMAGES = few_images


cdef inline ptrdiff_t units_of(cnp.ndarray x) noexcept:
    """Into how many units calls over x are cut: rows; whole images or sequences; or lines of
    these if they are few.  Calls of the same number can follow one another in a thread."""
    if cnp.PyArray_NDIM(x) < 3:
        return rows_of(x)
    return x.shape[0] if x.shape[0] >= few_images else x.shape[0] * x.shape[1]


cdef inline ptrdiff_t unit_of(cnp.ndarray x) noexcept:
    """The elements of one of units_of(x)."""
    return cnp.PyArray_SIZE(x) // units_of(x)


cdef inline void start_rows(fnn_call *call, fnn_kernel *kernel, cnp.ndarray x,
                            double work) noexcept:
    """A new call of a kernel over x's rows, cut into units_of(x); work is for one element."""
    start(call, kernel, units_of(x), work * cnp.PyArray_SIZE(x))
    call.size = rows_of(x) // call.units


cdef int check_like(str name, cnp.ndarray x, str other_name, cnp.ndarray other) except -1:
    """x has other's type and shape (and other was checked)."""
    cdef bint same = x is None or cnp.PyArray_NDIM(x) == cnp.PyArray_NDIM(other)
    if same:
        check_real(name, x, cnp.PyArray_NDIM(other))
        same = (cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(other)
                and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(other),
                                             cnp.PyArray_NDIM(x)))
    if not same:
        raise ValueError(f"{name} must be like {other_name}, {describe(other)}, got {describe(x)}")
    return 0


cdef int check_vector(str name, cnp.ndarray x, cnp.ndarray like, ptrdiff_t length) except -1:
    """x is a vector of that length and of like's type."""
    check_real(name, x, 1)
    if cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like) or x.shape[0] != length:
        raise ValueError(f"{name} must be {like.dtype} of shape ({length},), got {describe(x)}")
    return 0


cdef int check_matrix(str name, cnp.ndarray x, cnp.ndarray like, ptrdiff_t rows,
                      ptrdiff_t columns) except -1:
    """x is a matrix of that shape and of like's type."""
    check_real(name, x, 2)
    if (cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like) or x.shape[0] != rows
            or x.shape[1] != columns):
        raise ValueError(
            f"{name} must be {like.dtype} of shape ({rows}, {columns}), got {describe(x)}")
    return 0


cdef int check_writable(str name, cnp.ndarray x) except -1:
    if not cnp.PyArray_ISWRITEABLE(x):
        raise ValueError(f"{name} must be writable, got a read-only array")
    return 0


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp *shape, int kind):
    """A new array, with any content; a program that is being recorded makes it itself."""
    if recorder() != NULL:
        return (<Program>recorder()).new_array(ndim, shape, kind)
    return cnp.PyArray_EMPTY(ndim, shape, kind, 0)


cdef cnp.ndarray empty_like(cnp.ndarray x):
    """A new array of x's type and shape."""
    return new_array(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))


cdef cnp.ndarray empty_vector(cnp.ndarray like, ptrdiff_t length):
    cdef cnp.npy_intp shape = length
    return new_array(1, &shape, cnp.PyArray_TYPE(like))


cdef cnp.ndarray empty_matrix(cnp.ndarray like, ptrdiff_t rows, ptrdiff_t columns):
    cdef cnp.npy_intp[2] shape
    shape[0], shape[1] = rows, columns
    return new_array(2, shape, cnp.PyArray_TYPE(like))


cdef cnp.ndarray empty_doubles(ptrdiff_t length):
    """A vector of float64, whatever the arrays' type: numbers one kernel leaves for another."""
    cdef cnp.npy_intp shape = length
    return new_array(1, &shape, cnp.NPY_FLOAT64)


cdef inline void *data(cnp.ndarray x) noexcept:
    return cnp.PyArray_DATA(x)


def all_finite(cnp.ndarray x not None):
    """Whether no element is infinite or NaN."""
    check_real("x", x, cnp.PyArray_NDIM(x))
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    cdef ptrdiff_t i, chunks
    p.size = cnp.PyArray_SIZE(x)
    chunks = (p.size + FNN_CHUNK_SUM - 1) // FNN_CHUNK_SUM
    cdef cnp.ndarray sums = empty_vector(x, chunks)
    start(&call, kernels_for(x).sum_zeros, chunks, 2.0 * p.size)
    p.x, p.y = reads(&call, x, FNN_CHUNK_SUM), writes(&call, sums, 1)
    execute(&call)
    return first_outside(sums, 0.0, 0.0) < 0
