# Operations on vectors of any length that belong to no family of layers.

def copy(cnp.ndarray y not None, cnp.ndarray x not None, /):
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


cdef int copy_columns(cnp.ndarray y, ptrdiff_t y_first, cnp.ndarray x, ptrdiff_t x_first,
                      ptrdiff_t width) except -1:
    """Sets so many columns of y, from y_first on, to those of x, from x_first on."""
    cdef fnn_call call
    cdef fnn_columns *p = &call.arguments.columns
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    start_rows(&call, kernels_for(x).copy_columns, x, copied * width / features_of(x))
    p.x = <const char *>reads(&call, x, unit_of(x)) + x_first * size
    p.y = <char *>writes(&call, y, unit_of(y)) + y_first * size
    p.width, p.x_row, p.y_row = width, features_of(x), features_of(y)
    return execute(&call)


def join_columns(list parts not None, /):
    """The arrays side by side on the last axis, in a new one; their other axes are the same."""
    cdef cnp.ndarray part, first = None, y
    cdef cnp.npy_intp[32] shape
    cdef ptrdiff_t i, column = 0
    for part in parts:
        check_real("parts", part, 0)
        first = part if first is None else first
        if not (cnp.PyArray_TYPE(part) == cnp.PyArray_TYPE(first)
                and cnp.PyArray_NDIM(part) == cnp.PyArray_NDIM(first)
                and cnp.PyArray_CompareLists(part.shape, first.shape, cnp.PyArray_NDIM(part) - 1)):
            raise ValueError(f"parts: expected arrays like the first, {describe(first)}, but for "
                             f"the last axis, got {describe(part)}")
        column += features_of(part)
    if first is None:
        raise ValueError("parts: expected at least one array, got none")
    for i in range(cnp.PyArray_NDIM(first)):
        shape[i] = first.shape[i]
    shape[cnp.PyArray_NDIM(first) - 1] = column
    y, column = new_array(cnp.PyArray_NDIM(first), shape, cnp.PyArray_TYPE(first)), 0
    for part in parts:
        copy_columns(y, column, part, 0, features_of(part))
        column += features_of(part)
    return y


def split_columns(cnp.ndarray x, tuple widths not None, /):
    """New arrays of so many columns each, which join_columns would put together to x."""
    check_real("x", x, 0)
    cdef cnp.ndarray part
    cdef cnp.npy_intp[32] shape
    cdef ptrdiff_t i, width, column = 0
    if sum(widths) != features_of(x) or not widths or min(widths) < 1:
        raise ValueError(f"widths: expected numbers >= 1 with the sum {features_of(x)}, "
                         f"got {widths}")
    for i in range(cnp.PyArray_NDIM(x)):
        shape[i] = x.shape[i]
    parts = []
    for width in widths:
        shape[cnp.PyArray_NDIM(x) - 1] = width
        part = new_array(cnp.PyArray_NDIM(x), shape, cnp.PyArray_TYPE(x))
        copy_columns(part, 0, x, column, width)
        column += width
        parts.append(part)
    return parts


cdef int sum_columns(cnp.ndarray x, cnp.ndarray sums) except -1:
    """sums = x.sum(axis=0), of a matrix x."""
    cdef fnn_call call
    cdef fnn_column_sum *p = &call.arguments.column_sum
    p.rows, p.features = x.shape[0], x.shape[1]
    start(&call, kernels_for(x).column_sum, (p.features + 15) // 16, <double>p.rows * p.features)
    p.x, p.sum = reads(&call, x, 16, p.features), writes(&call, sums, 16)
    return execute(&call)


def add(cnp.ndarray a, cnp.ndarray b, /):
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


cdef int add_scaled_by(fnn_kernel *kernel, cnp.ndarray y, cnp.ndarray x, double a) except -1:
    """y += a * f(x), in place, with the kernel's f."""
    check_real("y", y, cnp.PyArray_NDIM(y))
    check_writable("y", y)
    check_like("x", x, "y", y)
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    p.size, p.row, p.scale = cnp.PyArray_SIZE(y), written_unit(y), a
    start(&call, kernel, (p.size + p.row - 1) // p.row, 8.0 * p.size)
    p.x, p.y = reads(&call, x, p.row), writes(&call, y, p.row)
    return execute(&call)


def add_scaled(cnp.ndarray y not None, cnp.ndarray x not None, double a, /):
    """y += a * x, in place; for L2's gradient."""
    add_scaled_by(kernels_for(y).add_scaled, y, x, a)


def add_sign(cnp.ndarray y not None, cnp.ndarray x not None, double a, /):
    """y += a * sign(x), in place; for L1's gradient.  The sign of 0 is 0."""
    add_scaled_by(kernels_for(y).add_sign, y, x, a)


def lerp(cnp.ndarray a not None, cnp.ndarray b not None, cnp.ndarray rate not None, /):
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


cdef cnp.ndarray sum_by(fnn_kernel *sum_chunks, cnp.ndarray x, bint in_double):
    """A new vector of one element, the sum that the kernel makes of x, added chunk by chunk; the
    kernel's sums are of x's type, or in double."""
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    cdef ptrdiff_t chunks = (size + FNN_CHUNK_SUM - 1) // FNN_CHUNK_SUM
    cdef cnp.ndarray sums = empty_doubles(chunks) if in_double else empty_vector(x, chunks)
    cdef cnp.ndarray cell = empty_doubles(1)
    start(&call, sum_chunks, chunks, 4.0 * size)
    p.x, p.sums, p.size = reads(&call, x, FNN_CHUNK_SUM), writes(&call, sums, 1), size
    execute(&call)
    add_up(sums, cell)
    return cell


cdef cnp.ndarray squares_of(cnp.ndarray x):
    """A new vector of one element, the sum of x's squares."""
    return sum_by(kernels_for(x).sum_squares, x, True)


cdef int add_to(cnp.ndarray value, cnp.ndarray sum, double scale) except -1:
    """value[0] += scale * sum[0]."""
    cdef fnn_call call
    cdef fnn_penalty *p = &call.arguments.penalty
    start(&call, fnn_table(active_isa, False).add_penalty, 1, 10.0)
    p.value, p.scale = <double *>writes(&call, value), scale
    p.sum = <const double *>reads(&call, sum)
    return execute(&call)


def add_penalty(cnp.ndarray value not None, cnp.ndarray weight not None, double scale, /):
    """value[0] += scale * Σ weight², value being float64: L2's penalty."""
    check_doubles("value", value)
    check_real("weight", weight, cnp.PyArray_NDIM(weight))
    add_to(value, squares_of(weight), scale)


def add_penalty_l1(cnp.ndarray value not None, cnp.ndarray weight not None, double scale, /):
    """value[0] += scale * Σ |weight|, value being float64: L1's penalty."""
    check_doubles("value", value)
    check_real("weight", weight, cnp.PyArray_NDIM(weight))
    add_to(value, sum_by(kernels_for(weight).sum_abs, weight, False), scale)


def all_finite(cnp.ndarray x not None, /):
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
