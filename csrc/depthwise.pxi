# Convolution in which each channel has a kernel of its own; conv.pxi has the faces.

cdef bint is_depthwise(const fnn_conv *p) noexcept:
    return p.groups == p.channels == p.features and p.channels > 1


cdef int depthwise_forward(fnn_call *call, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias,
                           cnp.ndarray y, cnp.ndarray z) except -1:
    """Sets y and z, if there is one; the call has its sizes and activation."""
    cdef fnn_conv *p = &call.arguments.conv
    start(call, kernels_for(x).depthwise_forward, units_of(y), conv_work(p))
    call.size = p.batch * p.out_height // call.units
    p.x = reads(call, x, read_by_unit(call, x, one_line(p)))
    p.bias, p.weight = reads(call, bias), reads(call, weight)
    p.y, p.z = writes(call, y, unit_of(y)), writes(call, z, unit_of(y))
    return execute(call)


cdef int depthwise_backward_weight(fnn_call *call, cnp.ndarray x, cnp.ndarray dz,
                                   cnp.ndarray dweight) except -1:
    """Sets dweight; the call has its sizes."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef cnp.ndarray sums = None
    if p.batch > FNN_CHUNK_IMAGES:
        sums = empty_matrix(x, 2, cnp.PyArray_SIZE(dweight))
    start(call, kernels_for(x).depthwise_backward_weight, (p.channels + 15) // 16, conv_work(p))
    p.x, p.dz, p.dweight = reads(call, x), reads(call, dz), writes(call, dweight)
    p.sums = writes(call, sums)
    return execute(call)


cdef int depthwise_backward_input(fnn_call *call, cnp.ndarray dz, cnp.ndarray weight,
                                  cnp.ndarray dx) except -1:
    """Sets dx; the call has its sizes."""
    cdef fnn_conv *p = &call.arguments.conv
    start(call, kernels_for(dz).depthwise_backward_input, units_of(dx), conv_work(p))
    call.size = p.batch * p.height // call.units
    p.weight, p.dz = reads(call, weight), reads(call, dz, read_by_unit(call, dz, one_line(p)))
    p.dx = writes(call, dx, unit_of(dx))
    return execute(call)
