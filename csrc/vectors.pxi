# Operations on vectors of any length that belong to no family of layers.

def copy(cnp.ndarray y not None, cnp.ndarray x not None):
    """y = x, in place; a program records it, as it does not record NumPy."""
    check_real("x", x, cnp.PyArray_NDIM(x))
    check_like("y", y, "x", x)
    check_writable("y", y)
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    p.size = cnp.PyArray_SIZE(x)
    start(&call, kernels_for(x).copy, (p.size + 15) // 16, copied * p.size)
    p.x, p.y = reads(&call, x, 16), writes(&call, y, 16)
    execute(&call)


def add(cnp.ndarray a, cnp.ndarray b):
    """a + b, arrays of one shape."""
    check_real("a", a, 0)
    check_like("b", b, "a", a)
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    cdef cnp.ndarray y = empty_like(a)
    p.size, p.row = cnp.PyArray_SIZE(a), features_of(a)
    start_rows(&call, kernels_for(a).add, a, 2.0)
    p.x, p.addend = reads(&call, a, unit_of(a)), reads(&call, b, unit_of(a))
    p.y = writes(&call, y, unit_of(a))
    execute(&call)
    return y


def add_scaled(cnp.ndarray y not None, cnp.ndarray x not None, double a):
    """y += a * x, in place; for L2's gradient."""
    check_real("y", y, cnp.PyArray_NDIM(y))
    check_writable("y", y)
    check_like("x", x, "y", y)
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    p.size, p.row, p.scale = cnp.PyArray_SIZE(y), written_unit(y), a
    start(&call, kernels_for(y).add_scaled, (p.size + p.row - 1) // p.row, 8.0 * p.size)
    p.x, p.y = reads(&call, x, p.row), writes(&call, y, p.row)
    execute(&call)


def lerp(cnp.ndarray a not None, cnp.ndarray b not None, cnp.ndarray rate not None):
    """a += rate[0] * (b - a), in place; a rate of 1 gives b's bits.  rate is float64 of shape (1,),
    read when the call runs."""
    check_real("a", a, cnp.PyArray_NDIM(a))
    check_writable("a", a)
    check_like("b", b, "a", a)
    check_doubles("rate", rate)
    if cnp.PyArray_SIZE(rate) != 1:
        raise ValueError(f"rate: expected one number, got {describe(rate)}")
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    p.size, p.row = cnp.PyArray_SIZE(a), written_unit(b)
    start(&call, kernels_for(a).lerp, (p.size + p.row - 1) // p.row, 10.0 * p.size)
    p.x, p.y = reads(&call, b, p.row), writes(&call, a, p.row)
    p.rate = <const double *>reads(&call, rate)
    execute(&call)


cdef int add_up(cnp.ndarray values, cnp.ndarray cell) except -1:
    """cell[0] = the sum of all values, in double and in a fixed order."""
    cdef fnn_call call
    cdef fnn_total *p = &call.arguments.total
    p.size = cnp.PyArray_SIZE(values)
    start(&call, kernels_for(values).total, 1, <double>p.size)
    p.values, p.sum = reads(&call, values), <double *>writes(&call, cell)
    return execute(&call)


cdef cnp.ndarray squares_of(cnp.ndarray x):
    """A new vector of one element, the sum of x's squares, added chunk by chunk."""
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    cdef ptrdiff_t chunks = (size + FNN_CHUNK_SUM - 1) // FNN_CHUNK_SUM
    cdef cnp.ndarray sums = empty_doubles(chunks), cell = empty_doubles(1)
    start(&call, kernels_for(x).sum_squares, chunks, 4.0 * size)
    p.x, p.sums, p.size = reads(&call, x, FNN_CHUNK_SUM), writes(&call, sums, 1), size
    execute(&call)
    add_up(sums, cell)
    return cell


def add_penalty(cnp.ndarray value not None, cnp.ndarray weight not None, double scale):
    """value[0] += scale * Σ weight², value being float64: L2's penalty."""
    check_doubles("value", value)
    check_real("weight", weight, cnp.PyArray_NDIM(weight))
    cdef fnn_call call
    cdef fnn_penalty *p = &call.arguments.penalty
    cdef cnp.ndarray squares = squares_of(weight)
    start(&call, fnn_table(active_isa, False).add_penalty, 1, 10.0)
    p.value, p.scale = <double *>writes(&call, value), scale
    p.squares = <const double *>reads(&call, squares)
    execute(&call)


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
    p.x, p.sums = reads(&call, x, FNN_CHUNK_SUM), writes(&call, sums, 1)
    execute(&call)
    return first_outside(sums, 0.0, 0.0) < 0
