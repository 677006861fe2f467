# Calls: how a face states one, says what memory it touches, and runs it; a thread that records
# has its calls and their arrays kept.

cdef extern from *:
    """
    static _Thread_local void *fnn_recorder; /* the program that the thread records, borrowed */
    static inline void *recorder(void) { return fnn_recorder; }
    static inline void set_recorder(void *program) { fnn_recorder = program; }
    """
    void *recorder() noexcept nogil
    void set_recorder(void *program) noexcept nogil


def recording():
    """Whether the calling thread records a program."""
    return recorder() != NULL


def unrecorded(function, argument):
    """function(argument), whose calls are left out of what the thread records."""
    cdef void *outer = recorder()
    set_recorder(NULL)
    try:
        return function(argument)
    finally:
        set_recorder(outer)


# Bytes from which on a new array takes the memory of one that has gone.  Calls on the two must wait
# for one another, which costs more than it gains where arrays are small.
cdef ptrdiff_t LARGE = 2**20
cdef ptrdiff_t SLACK = 4096  # so that large arrays begin at different places of a page


cdef class _Recorder:
    """Kernel calls in the order in which they were made, and the arrays they touch."""
    cdef fnn_program program
    cdef object owner       # the Hold of the model whose calls it records, None for all
    cdef list kept          # the arrays that calls touch
    cdef cnp.ndarray room   # memory for new arrays, of which `used` bytes are taken
    cdef ptrdiff_t used
    cdef list large         # (memory, where an array begins in it) of large new arrays

    def __cinit__(self):
        self.kept, self.large = [], []

    def __dealloc__(self):
        fnn_clear(&self.program)

    cdef int append(self, const fnn_call *call) except -1:
        if fnn_record(&self.program, call) != 0:
            raise MemoryError("no memory for a program")
        return 0

    cdef cnp.ndarray new_array(self, int ndim, cnp.npy_intp *shape, int kind):
        """An array on a cache line.  Arrays lie side by side, each some lines on: so those of
        equal size, a power of two say, do not compete for the same sets of the cache."""
        cdef cnp.ndarray like = cnp.PyArray_EMPTY(ndim, shape, kind, 0)
        cdef ptrdiff_t size = cnp.PyArray_NBYTES(like), room
        cdef object part
        if size >= LARGE:
            part = self.large_part(size)
        else:
            if self.room is None or cnp.PyArray_SIZE(self.room) - self.used < size:
                room = 2**16 if self.room is None else min(2 * cnp.PyArray_SIZE(self.room), 2**22)
                self.room = numpy.empty(max(room, size + 64), numpy.uint8)
                self.used = -<ptrdiff_t>data(self.room) % 64
            part = self.room[self.used:self.used + size]
            self.used += (size + 63) // 64 * 64 + 5 * 64
        return part.view((<object>like).dtype).reshape((<object>like).shape)

    cdef cnp.ndarray large_part(self, ptrdiff_t size):
        """Memory of that size, in which nobody's array lies (any more)."""
        cdef ptrdiff_t i, first
        cdef cnp.ndarray memory
        for i in range(len(self.large)):
            memory, first = self.large[i]
            if cnp.PyArray_NBYTES(memory) == size + SLACK and (<PyObject *>memory).ob_refcnt == 2:
                return memory[first:first + size]
        memory = numpy.empty(size + SLACK, numpy.uint8)
        first = (-<ptrdiff_t>data(memory)) % 64 + len(self.large) % 12 * 5 * 64
        self.large.append((memory, first))
        return memory[first:first + size]

    cdef bint is_large_part(self, cnp.ndarray x):
        """Whether x lies in memory of `large_part`, which is kept anyhow."""
        cdef object base = cnp.get_array_base(x)
        for memory, first in self.large:
            if base is memory:
                return True
        return False


cdef inline void start(fnn_call *call, fnn_kernel *kernel, ptrdiff_t units, double work) noexcept:
    """A new call of so many units; work: about how many operations it has, those of products taken
    as the measure: to load or to store an element takes as long as 4."""
    call.kernel, call.units, call.size, call.grain = kernel, units, 1, 1
    call.work, call.accesses = work, 0


cdef double copied = 8.0  # operations that an element takes which is loaded and stored


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
    if recorder() != NULL and not (<_Recorder>recorder()).is_large_part(x):
        (<_Recorder>recorder()).kept.append(x)
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
        written = fnn_written(&(<_Recorder>recorder()).program, begin,
                              begin + cnp.PyArray_NBYTES(x))
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
        (<_Recorder>recorder()).append(call)
    return 0


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp *shape, int kind):
    """A new array, with any content; a program that is being recorded makes it itself."""
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
    """A vector of float64, whatever the arrays' type: numbers one kernel leaves for another."""
    cdef cnp.npy_intp shape = length
    return new_array(1, &shape, cnp.NPY_FLOAT64)
