# Convolution over images (batch, height, width, channels).


cdef int check_type(str name, cnp.ndarray x, cnp.ndarray like) except -1:
    check_real(name, x, 4)
    if cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like):
        raise ValueError(f"{name} must be {like.dtype}, got {x.dtype}")
    return 0


cdef void set_weight(fnn_conv *p, cnp.ndarray weight, ptrdiff_t groups) noexcept:
    p.kernel[0], p.kernel[1], p.features = weight.shape[0], weight.shape[1], weight.shape[3]
    p.channels, p.groups = weight.shape[2] * groups, groups


cdef int set_kernel(fnn_conv *p, cnp.ndarray weight, tuple stride, tuple dilation,
                    ptrdiff_t groups) except -1:
    set_weight(p, weight, groups)
    p.stride[0], p.stride[1] = stride
    p.dilation[0], p.dilation[1] = dilation
    return 0


cdef int set_geometry(fnn_conv *p, tuple shape, cnp.ndarray weight, tuple geometry) except -1:
    """shape: the images', (batch, height, width, channels); geometry: (stride, padding, dilation,
    groups), the first three as pairs of rows and columns, padding ((top, bottom), (left, right)).
    """
    check_real("weight", weight, 4)
    stride, padding, dilation, groups = geometry
    (top, bottom), (left, right) = padding
    set_kernel(p, weight, stride, dilation, groups)
    p.batch, p.height, p.width, p.channels = shape
    p.before[0], p.before[1], p.behind[0], p.behind[1] = top, left, bottom, right
    p.transpose = False
    if min(top, bottom, left, right) < 0 or min(*stride, *dilation, groups) < 1:
        raise ValueError(f"stride, dilation and groups must be >= 1, padding >= 0, got {geometry}")
    if p.features % p.groups or p.channels != weight.shape[2] * p.groups:
        raise ValueError(f"weight must be ({p.kernel[0]}, {p.kernel[1]}, channels / groups, "
                         f"features) for {p.channels} channels and {groups} groups, "
                         f"got {describe(weight)}")
    p.out_height = out_size("height", p.height, p.kernel[0], p.stride[0], p.dilation[0],
                            top + bottom)
    p.out_width = out_size("width", p.width, p.kernel[1], p.stride[1], p.dilation[1],
                           left + right)
    return 0


cdef bint is_depthwise(const fnn_conv *p) noexcept:
    """Each channel has a kernel of its own."""
    return p.groups == p.channels == p.features and p.channels > 1


cdef cnp.ndarray pad(fnn_conv *geometry, cnp.ndarray x):
    """The images with their padding, which then are those of the geometry; x itself without."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    cdef ptrdiff_t rows = geometry.before[0] + geometry.behind[0]
    cdef ptrdiff_t columns = geometry.before[1] + geometry.behind[1]
    if rows + columns == 0:
        return x
    cdef cnp.ndarray y = empty_images(x, geometry.batch, geometry.height + rows,
                                      geometry.width + columns, geometry.channels)
    p[0] = geometry[0]
    start(&call, kernels_for(x).conv_pad, units_of(y), copied * cnp.PyArray_SIZE(y))
    call.size = y.shape[0] * y.shape[1] // call.units
    p.x = reads(&call, x, unit_of(x) if units_of(x) == call.units else 0)
    p.y = writes(&call, y, unit_of(y))
    execute(&call)
    geometry.height, geometry.width = y.shape[1], y.shape[2]
    geometry.before[0] = geometry.before[1] = geometry.behind[0] = geometry.behind[1] = 0
    return y


cdef bint pads_itself(const fnn_conv *p) noexcept:
    """Its kernels need no copy of the images with their padding."""
    return is_depthwise(p) or in_tiles(p)


def conv_pad(cnp.ndarray x, cnp.ndarray weight, tuple geometry):
    """The images as both ways read them, and the geometry whose padding is what they still lack: a
    copy with all of it, or x itself where there is none or the kernels need no copy."""
    cdef fnn_conv p
    check_images("x", x)
    check_type("weight", weight, x)
    set_geometry(&p, shape_of(x), weight, geometry)
    if pads_itself(&p):
        return x, geometry
    stride, _, dilation, groups = geometry
    return pad(&p, x), (stride, ((0, 0), (0, 0)), dilation, groups)


cdef bint one_line(const fnn_conv *p) noexcept:
    return p.kernel[0] == p.stride[0] == 1 and p.before[0] == 0


cdef double conv_work(const fnn_conv *p) noexcept:
    return (2.0 * p.batch * p.out_height * p.out_width * p.features * p.kernel[0] * p.kernel[1]
            * (p.channels // p.groups))


cdef cnp.ndarray pack(cnp.ndarray weight, ptrdiff_t groups, bint transpose):
    """The weight as the kernels read it."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    set_weight(p, weight, groups)
    p.transpose = transpose
    cdef ptrdiff_t channels = weight.shape[2], features = p.features // groups
    cdef ptrdiff_t taps = p.kernel[0] * p.kernel[1], itemsize = cnp.PyArray_ITEMSIZE(weight)
    cdef ptrdiff_t K = features if transpose else taps * channels
    cdef ptrdiff_t N = channels if transpose else features
    cdef ptrdiff_t count = groups * taps if transpose else groups
    cdef ptrdiff_t blocks = ((K + FNN_CHUNK_K - 1) // FNN_CHUNK_K
                             * ((N * itemsize + FNN_PACK_BYTES - 1) // FNN_PACK_BYTES))
    cdef cnp.ndarray packed = empty_vector(weight, count * packed_size(K, N))
    start(&call, kernels_for(weight).conv_pack, count * blocks, 8.0 * count * K * N)
    p.weight, p.packed = reads(&call, weight), writes(&call, packed)
    execute(&call)
    return packed


cdef cnp.ndarray pack_as_read(const fnn_conv *p, cnp.ndarray weight):
    """As the forward kernel reads it that p's sizes ask for; None if as it lies."""
    if is_depthwise(p):
        return None
    return pack_for_tiles(weight) if in_tiles(p) else pack(weight, p.groups, False)


def conv_pack(cnp.ndarray weight, tuple geometry):
    """A copy of weight as conv_forward reads it, to be passed as `packed`; good until the weight
    changes.  The geometry is conv_forward's, whatever its padding.  None for a kernel of each
    channel's own, which needs no copy."""
    cdef fnn_conv p
    check_real("weight", weight, 4)
    stride, _, dilation, groups = geometry
    if groups < 1 or weight.shape[3] % groups:
        raise ValueError(f"groups must divide the features, {weight.shape[3]}, got {groups}")
    set_kernel(&p, weight, stride, dilation, groups)
    return pack_as_read(&p, weight)


def conv_forward(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, tuple geometry,
                 int activation=FNN_LINEAR, double alpha=0.0, bint keep_z=False,
                 cnp.ndarray packed=None):
    """y = activation(z), z = x * weight + bias; x (batch, height, width, channels), weight (kernel
    height, kernel width, channels / groups, features), bias (features,) or None.

    geometry: (stride, padding, dilation, groups), as in set_geometry.  Returns y, or (y, z) with
    keep_z.  packed: conv_pack(weight, geometry)."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    check_images("x", x)
    check_type("weight", weight, x)
    set_geometry(p, shape_of(x), weight, geometry)
    if bias is not None:
        check_vector("bias", bias, x, p.features)
    check_kind(activation, alpha, x)
    cdef bint depthwise = is_depthwise(p), tiles = in_tiles(p)
    if packed is not None:
        check_vector("packed", packed, x, tiles_size(p) if tiles else p.groups * packed_size(
            p.kernel[0] * p.kernel[1] * weight.shape[2], p.features // p.groups))
    else:
        packed = pack_as_read(p, weight)
    cdef cnp.ndarray y = empty_images(x, p.batch, p.out_height, p.out_width, p.features)
    cdef cnp.ndarray z = empty_like(y) if keep_z else None
    p.activation, p.alpha = activation, alpha
    if tiles:
        convolve_tiles(&call, x, bias, packed, y, z)
        return (y, z) if keep_z else y
    x = x if depthwise else pad(p, x)
    cdef const fnn_kernels *kernels = kernels_for(x)
    start(&call, kernels.depthwise_forward if depthwise else kernels.conv_forward, units_of(y),
          conv_work(p))
    call.size = p.batch * p.out_height // call.units
    p.x = reads(&call, x, own_part(&call, x, one_line(p)))
    p.bias, p.weight = reads(&call, bias), reads(&call, weight) if depthwise else NULL
    p.packed = NULL if depthwise else <void *>reads(&call, packed)
    p.y, p.z = writes(&call, y, unit_of(y)), writes(&call, z, unit_of(y))
    execute(&call)
    return (y, z) if keep_z else y


cdef int check_outputs(fnn_conv *p, cnp.ndarray x, cnp.ndarray dz) except -1:
    """dz is like the outputs."""
    check_images("dz", dz)
    if (cnp.PyArray_TYPE(dz) != cnp.PyArray_TYPE(x) or dz.shape[0] != p.batch
            or dz.shape[1] != p.out_height or dz.shape[2] != p.out_width
            or dz.shape[3] != p.features):
        raise ValueError(f"dz must be {x.dtype} of shape ({p.batch}, {p.out_height}, "
                         f"{p.out_width}, {p.features}), got {describe(dz)}")
    return 0


# A piece has so many rows of dweight at least, since each reads all of x and dz (64 to 64 channels,
# 1x1, 32x28x28: from 614 to 483 us on two threads; 17 to 17, 3x3: from 461 to 363).
cdef ptrdiff_t WEIGHT_ROWS = 112


# With spans it has so many rows, each of which reads its span alone: threads read less, and many
# have work where there are few rows (28x28x1 to 32 features: from 190 to 140 us on two threads).
# Other numbers give other bits, as those of fastnn.h's numerics laws do.
cdef ptrdiff_t SPANS_ROWS = 512
cdef ptrdiff_t SPANS_MOST = 16


cdef ptrdiff_t count_spans(ptrdiff_t most, ptrdiff_t terms, ptrdiff_t chunk) noexcept:
    """Into how many spans of whole chunks the terms of a weight's gradient are cut."""
    return max(1, min(most, (terms + chunk - 1) // chunk))


cdef int spans_backward_weight(fnn_call *call, cnp.ndarray x, cnp.ndarray dz,
                               cnp.ndarray dweight) except -1:
    """Of a call whose sizes are set."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef ptrdiff_t size = cnp.PyArray_SIZE(dweight), rows = size // p.features
    p.spans = count_spans(min(SPANS_ROWS // rows, SPANS_MOST),
                          p.batch * p.out_height * p.out_width, FNN_CHUNK_K)
    cdef cnp.ndarray sums = dweight if p.spans == 1 else empty_matrix(x, p.spans, size)
    start(call, kernels_for(x).conv_backward_weight, p.spans * rows, conv_work(p))
    call.grain = WEIGHT_ROWS
    p.x, p.z = reads(call, x), <void *>reads(call, dz)
    p.y = writes(call, sums, p.features)
    execute(call)
    if p.spans > 1:
        dense_backward_bias(sums, dweight.reshape(-1))


def conv_backward_weight(cnp.ndarray x, cnp.ndarray dz, cnp.ndarray dweight, tuple geometry):
    """Sets dweight, like weight, from conv_forward's x and dz, like its y."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    check_images("x", x)
    check_type("dweight", dweight, x)
    set_geometry(p, shape_of(x), dweight, geometry)
    check_outputs(p, x, dz)
    check_writable("dweight", dweight)
    cdef bint depthwise = is_depthwise(p)
    if in_tiles(p):
        tiles_backward_weight(&call, x, dz, dweight)
        return
    if not depthwise:
        spans_backward_weight(&call, pad(p, x), dz, dweight)
        return
    start(&call, kernels_for(x).depthwise_backward_weight, (p.channels + 15) // 16, conv_work(p))
    p.x, p.z, p.y = reads(&call, x), <void *>reads(&call, dz), writes(&call, dweight)
    execute(&call)


cdef cnp.ndarray turn(cnp.ndarray weight, ptrdiff_t groups):
    """The weight by which dz is convolved to the input's gradient at stride 1."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    set_weight(p, weight, groups)
    cdef cnp.ndarray turned = empty_images(weight, p.kernel[0], p.kernel[1], p.features // groups,
                                           p.channels)
    start(&call, kernels_for(weight).conv_turn, p.kernel[0] * p.kernel[1] * groups,
          copied * cnp.PyArray_SIZE(weight))
    p.weight, p.y = reads(&call, weight), writes(&call, turned)
    execute(&call)
    return turned


cdef tuple turned_padding(const fnn_conv *p):
    """Of dz for it; negative where x's is larger than the kernel covers, less one."""
    cdef ptrdiff_t rows = (p.kernel[0] - 1) * p.dilation[0]
    cdef ptrdiff_t columns = (p.kernel[1] - 1) * p.dilation[1]
    return (rows - p.before[0], rows - p.behind[0]), (columns - p.before[1], columns - p.behind[1])


cdef double share_inside(ptrdiff_t out, ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t dilation,
                         ptrdiff_t before) noexcept:
    """The share of the turned convolution's products along an axis that are with dz."""
    cdef ptrdiff_t tap, at, first, last, count = 0
    for tap in range(kernel):
        at = tap * dilation - before
        first, last = max(0, -at), min(out, size - at)
        count += max(0, last - first)
    return <double>count / (kernel * size)


cdef bint is_turned(const fnn_conv *p):
    """Whether the input's gradient at stride 1 is the convolution of dz, padded, with the weight
    turned around.  Products with that padding are wasted: it pays where they are few, and taps have
    few features (up to 32: 1.2 to 1.7 times as fast; 64: 0.9) or it is done in tiles."""
    cdef bint tiles = in_tiles(p)
    if p.stride[0] > 1 or p.stride[1] > 1 or is_depthwise(p):
        return False
    if not tiles and p.features // p.groups > 32:
        return False
    if min([min(sides) for sides in turned_padding(p)]) < 0:
        return False
    return (share_inside(p.out_height, p.height, p.kernel[0], p.dilation[0], p.before[0])
            * share_inside(p.out_width, p.width, p.kernel[1], p.dilation[1], p.before[1])
            > (0.6 if tiles else 0.8))


# Of few images' gradient, a unit has so many channels: a tile's (1x28x28x64: from 229 to 133 us).
cdef ptrdiff_t INPUT_CHANNELS = 32


def conv_backward_input(tuple shape, cnp.ndarray dz, cnp.ndarray weight, tuple geometry):
    """dx, of conv_forward's x, whose shape is given, from dz, like its y."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape must be (batch, height, width, channels), got {shape}")
    set_geometry(p, shape, weight, geometry)
    check_outputs(p, weight, dz)
    if is_turned(p):
        stride, _, dilation, groups = geometry
        turned = stride, turned_padding(p), dilation, groups
        return conv_forward(dz, turn(weight, groups), None, turned)
    cdef cnp.ndarray dx = empty_images(dz, p.batch, p.height, p.width, p.channels)
    if is_depthwise(p):
        start(&call, kernels_for(dz).depthwise_backward_input, units_of(dx), conv_work(p))
        call.size = p.batch * p.height // call.units
        p.weight = reads(&call, weight)
    else:
        packed, p.part = pack(weight, p.groups, True), weight.shape[2]
        if p.batch < few_images:
            p.part = min(p.part, INPUT_CHANNELS)
        start(&call, kernels_for(dz).conv_backward_input,
              p.batch * ((weight.shape[2] + p.part - 1) // p.part), conv_work(p))
        p.transpose, p.packed = True, <void *>reads(&call, packed)
    # parts of channels may be as many as dz has lines, but are none
    p.z = <void *>reads(&call, dz, own_part(&call, dz, is_depthwise(p) and one_line(p)))
    cdef bint whole = call.units == p.batch or is_depthwise(p)
    p.y = writes(&call, dx, cnp.PyArray_SIZE(dx) // call.units if whole else 0)
    execute(&call)
    return dx
