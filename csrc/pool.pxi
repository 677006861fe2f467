# Pooling over windows of images (batch, height, width, channels).

cdef int set_windows(fnn_pool *p, cnp.ndarray x, tuple geometry, bint average,
                     bint count_padding) except -1:
    """Checks and fills in all sizes.

    geometry: (kernel, stride, padding), pairs of rows and columns, padding ((top, bottom), (left,
    right)).  Padding is smaller than the kernel, so that no window lies outside the image."""
    check_real("x", x, 4)
    kernel, stride, padding = geometry
    (top, bottom), (left, right) = padding
    p.batch, p.height, p.width, p.channels = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    p.kernel[0], p.kernel[1] = kernel
    p.stride[0], p.stride[1] = stride
    p.before[0], p.before[1], p.average, p.count_padding = top, left, average, count_padding
    if min(*kernel, *stride) < 1 or min(top, bottom, left, right) < 0:
        raise ValueError("geometry: expected kernel and stride >= 1, padding >= 0, "
                         f"got {geometry}")
    if max(top, bottom) >= p.kernel[0] or max(left, right) >= p.kernel[1]:
        raise ValueError(f"padding: expected less than the kernel, {kernel}, got {padding}")
    p.out_height = out_size("height", p.height, p.kernel[0], p.stride[0], 1, top + bottom)
    p.out_width = out_size("width", p.width, p.kernel[1], p.stride[1], 1, left + right)
    return 0


def pool_forward(cnp.ndarray x, tuple geometry, bint average, /, bint count_padding=False):
    """The maximum or the average of every window of x (batch, height, width, channels).

    geometry is as in set_windows.  With count_padding, an average counts the padding as zeros."""
    cdef fnn_call call
    cdef fnn_pool *p = &call.arguments.pool
    set_windows(p, x, geometry, average, count_padding)
    cdef cnp.ndarray y = empty_images(x, p.batch, p.out_height, p.out_width, p.channels)
    start(&call, kernels_for(x).pool_forward, units_of(y),
          <double>cnp.PyArray_SIZE(y) * p.kernel[0] * p.kernel[1])
    call.size = p.batch * p.out_height // call.units
    p.x = reads(&call, x, read_by_unit(&call, x, p.kernel[0] == p.stride[0] == 1))
    p.y = writes(&call, y, unit_of(y))
    execute(&call)
    return y


cdef bint adds_many(const fnn_pool *p) noexcept:
    """Whether an element of dx may have more terms, from windows that overlap, than a chunk."""
    cdef ptrdiff_t rows = (p.kernel[0] + p.stride[0] - 1) // p.stride[0]
    cdef ptrdiff_t columns = (p.kernel[1] + p.stride[1] - 1) // p.stride[1]
    return min(rows, p.out_height) * min(columns, p.out_width) > FNN_CHUNK_K


def pool_backward(cnp.ndarray x, cnp.ndarray y, cnp.ndarray dy, tuple geometry, bint average, /,
                  bint count_padding=False):
    """dx, from dy and from pool_forward's x, y and other arguments.  If several elements are the
    maximum, the first gets the gradient."""
    cdef fnn_call call
    cdef fnn_pool *p = &call.arguments.pool
    set_windows(p, x, geometry, average, count_padding)
    check_images("y", y, x, p.batch, p.out_height, p.out_width, p.channels)
    check_like("dy", dy, "y", y)
    cdef cnp.ndarray dx = empty_like(x), excess = empty_like(x) if adds_many(p) else None
    cdef ptrdiff_t windows = cnp.PyArray_SIZE(y) // p.batch, size = cnp.PyArray_SIZE(x) // p.batch
    start(&call, kernels_for(x).pool_backward, p.batch,
          4.0 * cnp.PyArray_SIZE(y) * p.kernel[0] * p.kernel[1])
    p.dy = reads(&call, dy, windows)
    if not average:
        p.x, p.y = reads(&call, x, size), <void *>reads(&call, y, windows)
    p.dx = writes(&call, dx, size)
    p.excess = writes(&call, excess, size)
    execute(&call)
    return dx
