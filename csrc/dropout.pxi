# Inverted dropout, whose masks depend on (seed, step, layer, row * features + column) alone.

cdef int check_counter(cnp.ndarray counter) except -1:
    """The counter is a uint64 array of one element, the training step."""
    if counter is None:
        raise TypeError("counter: expected a NumPy array, got None")
    if (cnp.PyArray_TYPE(counter) != cnp.NPY_UINT64 or not cnp.PyArray_ISNOTSWAPPED(counter)
            or not cnp.PyArray_ISALIGNED(counter) or cnp.PyArray_NDIM(counter) != 1
            or counter.shape[0] != 1):
        raise ValueError(f"counter: expected uint64 of shape (1,), got {describe(counter)}")
    return 0


cdef fnn_dropout *new_dropout(fnn_call *call, fnn_kernel *kernel, cnp.ndarray x, cnp.ndarray rate,
                              double work) except NULL:
    """Begins a call over the rows of x, or of dy; work is for one element."""
    cdef fnn_dropout *p = &call.arguments.dropout
    check_doubles("rate", rate)
    if cnp.PyArray_SIZE(rate) != 1:
        raise ValueError(f"rate: expected one number, got {describe(rate)}")
    if not 0.0 <= (<const double *>data(rate))[0] < 1.0:
        raise ValueError(f"rate: expected a number in [0, 1), got {rate.item()}")
    p.rows, p.features = rows_of(x), features_of(x)
    start_rows(call, kernel, x, work)
    p.rate = <const double *>reads(call, rate)
    return p


def dropout_forward(cnp.ndarray x, cnp.ndarray rate, seed, cnp.ndarray counter, layer, /):
    """Returns y = x * mask / (1 - rate) and the mask, whose bit is 1 where an element stays.

    rate[0], float64, and counter[0], the training step, are read when the kernel runs.  The rate is
    rounded to a multiple of 1/65536.  mask is ((x.size + 7) // 8,) uint8, x flattened, the lowest
    bit first."""
    check_real("x", x, 0)
    check_counter(counter)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected an integer in [0, 2**64), got {seed}")
    if not 0 <= layer < 2**32:
        raise ValueError(f"layer: expected an integer in [0, 2**32), got {layer}")
    cdef cnp.npy_intp mask_size = (cnp.PyArray_SIZE(x) + 7) // 8
    cdef cnp.ndarray y = empty_like(x), mask = new_array(1, &mask_size, cnp.NPY_UINT8)
    cdef fnn_call call
    cdef fnn_dropout *p = new_dropout(&call, kernels_for(x).dropout_forward, x, rate, 20.0)
    p.x, p.y = reads(&call, x, unit_of(x)), writes(&call, y, unit_of(x))
    p.mask = <uint8_t *>writes(&call, mask, unit_of(x))  # units that touch one byte store the same
    p.counter, p.seed, p.layer = <uint64_t *>reads(&call, counter), seed, layer
    execute(&call)
    return y, mask


def dropout_backward(cnp.ndarray dy, cnp.ndarray mask, cnp.ndarray rate, /):
    """dx = dy * mask / (1 - rate), with the mask of dropout_forward and the rate that it had."""
    check_real("dy", dy, 0)
    if mask is None:
        raise TypeError("mask: expected a NumPy array, got None")
    cdef ptrdiff_t length = (cnp.PyArray_SIZE(dy) + 7) // 8
    if (cnp.PyArray_TYPE(mask) != cnp.NPY_UINT8 or cnp.PyArray_NDIM(mask) != 1
            or not cnp.PyArray_IS_C_CONTIGUOUS(mask) or mask.shape[0] != length):
        raise ValueError(f"mask: expected C-contiguous uint8 of shape ({length},), "
                         f"got {describe(mask)}")
    cdef cnp.ndarray dx = empty_like(dy)
    cdef fnn_call call
    cdef fnn_dropout *p = new_dropout(&call, kernels_for(dy).dropout_backward, dy, rate, 8.0)
    p.dy, p.dx = reads(&call, dy, unit_of(dy)), writes(&call, dx, unit_of(dy))
    p.mask = <uint8_t *>reads(&call, mask, unit_of(dy))
    execute(&call)
    return dx


def advance(cnp.ndarray counter, /):
    """counter[0] += 1: the masks of the next training step are others."""
    check_counter(counter)
    check_writable("counter", counter)
    cdef fnn_call call
    start(&call, fnn_table(active_isa, False).dropout_advance, 1, 1.0)
    call.arguments.dropout.counter = <uint64_t *>writes(&call, counter)
    execute(&call)
