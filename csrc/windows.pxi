# Images (batch, height, width, channels) and windows that go over them: what pooling and the three
# ways of convolution (depthwise.pxi, winograd.pxi, conv.pxi) have in common.

cdef ptrdiff_t out_size(str name, ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t stride,
                        ptrdiff_t dilation, ptrdiff_t padding) except -1:
    """How many windows lie along an axis of that size."""
    cdef ptrdiff_t covered = (kernel - 1) * dilation + 1
    if size + padding < covered:
        raise ValueError(f"{name}: expected at least {covered}, which the kernel covers, in the "
                         f"padded input, got {size + padding}")
    return (size + padding - covered) // stride + 1


cdef int check_images(str name, cnp.ndarray x, cnp.ndarray like, ptrdiff_t batch,
                      ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels) except -1:
    """x has this shape and like's type."""
    check_real(name, x, 4)
    if (cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like) or x.shape[0] != batch
            or x.shape[1] != height or x.shape[2] != width or x.shape[3] != channels):
        raise ValueError(f"{name}: expected {like.dtype} of shape ({batch}, {height}, {width}, "
                         f"{channels}), got {describe(x)}")
    return 0


cdef cnp.ndarray empty_images(cnp.ndarray like, ptrdiff_t batch, ptrdiff_t height,
                              ptrdiff_t width, ptrdiff_t channels):
    cdef cnp.npy_intp[4] shape
    shape[0], shape[1], shape[2], shape[3] = batch, height, width, channels
    return new_array(4, shape, cnp.PyArray_TYPE(like))


cdef ptrdiff_t read_by_unit(const fnn_call *call, cnp.ndarray images, bint one_line) noexcept:
    """How many elements of the images each unit of a call reads; 0 if it may read any.

    A unit that makes an image reads one image.  A unit that makes a line reads one line only if
    windows are one line high and lie over the lines that they make (one_line)."""
    if call.units == images.shape[0]:
        return cnp.PyArray_SIZE(images) // call.units
    return unit_of(images) if one_line and units_of(images) == call.units else 0


cdef bint one_line(const fnn_conv *p) noexcept:
    return p.kernel[0] == p.stride[0] == 1 and p.before[0] == 0


cdef double conv_work(const fnn_conv *p) noexcept:
    return (2.0 * p.batch * p.out_height * p.out_width * p.features * p.kernel[0] * p.kernel[1]
            * (p.channels // p.groups))


cdef ptrdiff_t count_spans(ptrdiff_t most, ptrdiff_t terms, ptrdiff_t chunk) noexcept:
    """Into how many spans of whole chunks the terms of a weight's gradient are cut."""
    return max(1, min(most, (terms + chunk - 1) // chunk))
