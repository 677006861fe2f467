# What convolution and pooling share: images (batch, height, width, channels), and windows on them.

cdef ptrdiff_t out_size(str name, ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t stride,
                        ptrdiff_t dilation, ptrdiff_t padding) except -1:
    """Over how many places a kernel goes along an axis of that size, padding included."""
    cdef ptrdiff_t covered = (kernel - 1) * dilation + 1
    if size + padding < covered:
        raise ValueError(f"{name}: the kernel covers {covered}, the padded input has "
                         f"{size + padding}")
    return (size + padding - covered) // stride + 1


cdef inline tuple shape_of(cnp.ndarray x):
    return (x.shape[0], x.shape[1], x.shape[2], x.shape[3])


cdef int check_images(str name, cnp.ndarray x) except -1:
    return check_real(name, x, 4)


cdef cnp.ndarray empty_images(cnp.ndarray like, ptrdiff_t batch, ptrdiff_t height,
                              ptrdiff_t width, ptrdiff_t channels):
    cdef cnp.npy_intp[4] shape
    shape[0], shape[1], shape[2], shape[3] = batch, height, width, channels
    return new_array(4, shape, cnp.PyArray_TYPE(like))


cdef ptrdiff_t own_part(const fnn_call *call, cnp.ndarray images, bint one_line) noexcept:
    """How many elements of the images each unit of a call over windows reads, 0 for any of them:
    its image; where units are lines, its line only if windows are one line high, in place."""
    if call.units == images.shape[0]:
        return cnp.PyArray_SIZE(images) // call.units
    return unit_of(images) if one_line and units_of(images) == call.units else 0
