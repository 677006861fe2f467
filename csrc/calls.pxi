# Calls.  A face fills in a call, notes which memory its units touch, and runs it.  If the thread
# records, its recorder keeps a copy of the call, and the arrays.

cdef extern from *:
    """
    static _Thread_local void *fnn_recorder; /* what the thread records in; a borrowed reference */
    static inline void *recorder(void) { return fnn_recorder; }
    static inline void set_recorder(void *program) { fnn_recorder = program; }
    """
    void *recorder() noexcept nogil
    void set_recorder(void *program) noexcept nogil


def recording():
    """Whether the calling thread records a program."""
    return recorder() != NULL


def unrecorded(function, argument, /):
    """function(argument), whose calls are not recorded."""
    cdef void *outer = recorder()
    set_recorder(NULL)
    try:
        return function(argument)
    finally:
        set_recorder(outer)


# From this size in bytes on, a new array takes the memory of one that is gone.  Calls on the two
# must wait for one another, which costs more than it gains where arrays are small.
cdef ptrdiff_t LARGE = 2**20
cdef ptrdiff_t SLACK = 4096  # large arrays begin at different offsets into a page


cdef class _Recorder:
    """Kernel calls in the order in which they were made, and the arrays they touch."""
    cdef fnn_program program
    cdef object owner       # the Hold of the model whose calls are recorded; None: of any model
    cdef list arrays        # those that calls touch, except new large ones
    cdef cnp.ndarray block  # memory for new small arrays, of which `used` bytes are in use
    cdef ptrdiff_t used
    cdef list large         # (memory, offset in it) of new large arrays

    def __cinit__(self):
        self.arrays, self.large = [], []

    def __dealloc__(self):
        fnn_clear(&self.program)

    cdef int append(self, const fnn_call *call) except -1:
        if fnn_record(&self.program, call) != 0:
            raise MemoryError("no memory for a program")
        return 0

    cdef cnp.ndarray new_array(self, int ndim, cnp.npy_intp *shape, int kind):
        """A new array that begins on a cache line.  Between two arrays some lines are left free:
        arrays whose size is a power of two would compete for the same sets of the cache."""
        cdef cnp.ndarray like = cnp.PyArray_EMPTY(ndim, shape, kind, 0)
        cdef ptrdiff_t size = cnp.PyArray_NBYTES(like), bytes
        cdef object memory
        if size >= LARGE:
            memory = self.large_part(size)
        else:
            if self.block is None or cnp.PyArray_SIZE(self.block) - self.used < size:
                bytes = 2**16
                if self.block is not None:
                    bytes = min(2 * cnp.PyArray_SIZE(self.block), 2**22)
                self.block = numpy.empty(max(bytes, size + 64), numpy.uint8)
                self.used = -<ptrdiff_t>data(self.block) % 64
            memory = self.block[self.used:self.used + size]
            self.used += (size + 63) // 64 * 64 + 5 * 64
        return memory.view((<object>like).dtype).reshape((<object>like).shape)

    cdef cnp.ndarray large_part(self, ptrdiff_t size):
        """Memory for a large array: that of one which nobody refers to any more, or new memory."""
        cdef ptrdiff_t i, first
        cdef cnp.ndarray memory
        for i in range(len(self.large)):
            memory, first = self.large[i]
            if cnp.PyArray_NBYTES(memory) == size + SLACK and _Py_REFCNT(<PyObject *>memory) == 2:
                return memory[first:first + size]
        memory = numpy.empty(size + SLACK, numpy.uint8)
        first = (-<ptrdiff_t>data(memory)) % 64 + len(self.large) % 12 * 5 * 64
        self.large.append((memory, first))
        return memory[first:first + size]

    cdef bint is_large_part(self, cnp.ndarray x):
        """Whether x lies in memory that large_part gave, which is listed in `large`."""
        cdef object base = cnp.get_array_base(x)
        for memory, first in self.large:
            if base is memory:
                return True
        return False


cdef inline void start(fnn_call *call, fnn_kernel *kernel, ptrdiff_t units, double work) noexcept:
    """Begins a call of so many units.

    work: about how many operations it has, counted in multiplications or additions of a product;
    to load or to store an element takes as long as 4 of them."""
    call.kernel, call.units, call.size, call.grain = kernel, units, 1, 1
    call.work, call.accesses = work, 0


cdef double copied = 8.0  # the work of an element that is loaded and stored


cdef ptrdiff_t few_images = 16  # if there are fewer, a unit is a line and not an image
FEW_IMAGES = few_images


cdef inline ptrdiff_t units_of(cnp.ndarray x) noexcept:
    """How many units a call over x has.  A unit is a row; or an image or a sequence; or, if these
    are few, a line of one.  Calls with equally many units can follow one another in a thread."""
    if cnp.PyArray_NDIM(x) < 3:
        return rows_of(x)
    return x.shape[0] if x.shape[0] >= few_images else x.shape[0] * x.shape[1]


cdef inline ptrdiff_t unit_of(cnp.ndarray x) noexcept:
    """How many elements of x one of units_of(x) has."""
    return cnp.PyArray_SIZE(x) // units_of(x)


cdef inline void start_rows(fnn_call *call, fnn_kernel *kernel, cnp.ndarray x,
                            double work) noexcept:
    """Begins a call of units_of(x) units, of a kernel over x's rows; work is for an element."""
    start(call, kernel, units_of(x), work * cnp.PyArray_SIZE(x))
    call.size = rows_of(x) // call.units


cdef inline void *touches(fnn_call *call, cnp.ndarray x, ptrdiff_t unit, ptrdiff_t line,
                          bint writes) except? NULL:
    """Notes that the call touches x: each unit so many elements of every line of x, which has
    `line` elements (0: all of x is one line); if `unit` is 0, any unit any element.

    Returns where x's elements lie, or NULL for None.  The thread's recorder keeps x."""
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
    if recorder() != NULL and not (<_Recorder>recorder()).is_large_part(x):
        (<_Recorder>recorder()).arrays.append(x)
    return cnp.PyArray_DATA(x)


cdef inline const void *reads(fnn_call *call, cnp.ndarray x, ptrdiff_t unit=0,
                              ptrdiff_t line=0) except? NULL:
    return touches(call, x, unit, line, False)


cdef inline void *writes(fnn_call *call, cnp.ndarray x, ptrdiff_t unit=0,
                         ptrdiff_t line=0) except? NULL:
    return touches(call, x, unit, line, True)


cdef ptrdiff_t written_unit(cnp.ndarray x) noexcept:
    """How many elements of x a unit of an elementwise call should have.

    If a recorded call wrote x and the elements of its unit lie together, it is that many: then the
    thread that wrote them goes on with them.  Else it is 16."""
    cdef const char *begin = <const char *>data(x)
    cdef const fnn_access *written = NULL
    if recorder() != NULL:
        written = fnn_written(&(<_Recorder>recorder()).program, begin,
                              begin + cnp.PyArray_NBYTES(x))
    if written == NULL or written.unit == 0 or written.line != 0:
        return 16
    return written.unit // cnp.PyArray_ITEMSIZE(x)


cdef int execute(fnn_call *call) except -1:
    """Runs the call, and records it if the thread records."""
    cdef int status
    with nogil:
        status = fnn_run(call)
    if status != 0:
        raise MemoryError("no memory for the threads' scratch space")
    if recorder() != NULL:
        (<_Recorder>recorder()).append(call)
    return 0


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp *shape, int kind):
    """A new array with any content; if the thread records, in its recorder's memory."""
    if recorder() != NULL:
        return (<_Recorder>recorder()).new_array(ndim, shape, kind)
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
    """A vector of float64 for what one kernel computes for another, whatever the arrays' type."""
    cdef cnp.npy_intp shape = length
    return new_array(1, &shape, cnp.NPY_FLOAT64)
