# Convolution over images (batch, height, width, channels): the faces, and the general way.
#
# A convolution is computed in tiles (winograd.pxi) or channel by channel (depthwise.pxi) where that
# is faster, else by patches: the product of what lies under each output pixel with the weight.

cdef int check_type(str name, cnp.ndarray x, cnp.ndarray like) except -1:
    check_real(name, x, 4)
    if cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(like):
        raise ValueError(f"{name}: expected {like.dtype}, got {x.dtype}")
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
    """Checks and fills in all sizes.

    shape: the images', (batch, height, width, channels); geometry: (stride, padding, dilation,
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
        raise ValueError("geometry: expected stride, dilation and groups >= 1, padding >= 0, "
                         f"got {geometry}")
    if p.features % p.groups or p.channels != weight.shape[2] * p.groups:
        raise ValueError(f"weight: expected shape ({p.kernel[0]}, {p.kernel[1]}, channels / "
                         f"groups, features) for {p.channels} channels and {groups} groups, "
                         f"got {describe(weight)}")
    p.out_height = out_size("height", p.height, p.kernel[0], p.stride[0], p.dilation[0],
                            top + bottom)
    p.out_width = out_size("width", p.width, p.kernel[1], p.stride[1], p.dilation[1],
                           left + right)
    return 0


# ---- padding and packing ----

cdef cnp.ndarray pad(fnn_conv *geometry, cnp.ndarray x):
    """A copy of the images with their padding, whose sizes the geometry gets; x if it has none."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    cdef ptrdiff_t rows = geometry.before[0] + geometry.behind[0]
    cdef ptrdiff_t columns = geometry.before[1] + geometry.behind[1]
    if rows + columns == 0:
        return x
    cdef cnp.ndarray padded = empty_images(x, geometry.batch, geometry.height + rows,
                                           geometry.width + columns, geometry.channels)
    p[0] = geometry[0]
    start(&call, kernels_for(x).conv_pad, units_of(padded), copied * cnp.PyArray_SIZE(padded))
    call.size = padded.shape[0] * padded.shape[1] // call.units
    p.x = reads(&call, x, unit_of(x) if units_of(x) == call.units else 0)
    p.padded = writes(&call, padded, unit_of(padded))
    execute(&call)
    geometry.height, geometry.width = padded.shape[1], padded.shape[2]
    geometry.before[0] = geometry.before[1] = geometry.behind[0] = geometry.behind[1] = 0
    return padded


def conv_pad(cnp.ndarray x, cnp.ndarray weight, tuple geometry, /):
    """The images as forward and backward read them, and the geometry with the padding that they
    still lack: a copy with all padding, or x itself where it needs none or where tiles and
    depthwise kernels read it without a copy."""
    cdef fnn_conv p
    check_real("x", x, 4)
    check_type("weight", weight, x)
    set_geometry(&p, (<object>x).shape, weight, geometry)
    if is_depthwise(&p) or in_tiles(&p):
        return x, geometry
    stride, _, dilation, groups = geometry
    return pad(&p, x), (stride, ((0, 0), (0, 0)), dilation, groups)


cdef cnp.ndarray patches_pack(cnp.ndarray weight, ptrdiff_t groups, bint transpose):
    """The weight as conv_forward reads it; transposed, as conv_backward_input does."""
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


cdef cnp.ndarray pack_for_forward(const fnn_conv *p, cnp.ndarray weight):
    """The weight as the forward kernel for p's sizes reads it; None: it reads the weight itself."""
    if is_depthwise(p):
        return None
    return tiles_pack(weight) if in_tiles(p) else patches_pack(weight, p.groups, False)


def conv_pack(cnp.ndarray weight, tuple geometry, /):
    """A copy of weight as conv_forward reads it, to be passed as `packed`; good until the weight
    changes.  The geometry is conv_forward's with any padding.  None for depthwise kernels, which
    need no copy."""
    cdef fnn_conv p
    check_real("weight", weight, 4)
    stride, _, dilation, groups = geometry
    if groups < 1 or weight.shape[3] % groups:
        raise ValueError(
            f"groups: expected a divisor of the {weight.shape[3]} features, got {groups}")
    set_kernel(&p, weight, stride, dilation, groups)
    return pack_for_forward(&p, weight)


# ---- forward ----

cdef int patches_forward(fnn_call *call, cnp.ndarray x, cnp.ndarray bias, cnp.ndarray packed,
                         cnp.ndarray y, cnp.ndarray z) except -1:
    """Sets y and z, if there is one; the call has its sizes and activation, x its padding."""
    cdef fnn_conv *p = &call.arguments.conv
    start(call, kernels_for(x).conv_forward, units_of(y), conv_work(p))
    call.size = p.batch * p.out_height // call.units
    p.x = reads(call, x, read_by_unit(call, x, one_line(p)))
    p.bias, p.packed = reads(call, bias), <void *>reads(call, packed)
    p.y, p.z = writes(call, y, unit_of(y)), writes(call, z, unit_of(y))
    return execute(call)


def conv_forward(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, tuple geometry, /,
                 int activation=FNN_LINEAR, double alpha=0.0, bint keep_z=False,
                 cnp.ndarray packed=None):
    """y = activation(z), z = x * weight + bias; x (batch, height, width, channels), weight (kernel
    height, kernel width, channels / groups, features), bias (features,) or None.

    geometry: (stride, padding, dilation, groups), as in set_geometry.  Returns y, or (y, z) with
    keep_z.  packed: conv_pack(weight, geometry)."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    check_real("x", x, 4)
    check_type("weight", weight, x)
    set_geometry(p, (<object>x).shape, weight, geometry)
    if bias is not None:
        check_vector("bias", bias, x, p.features)
    check_kind(activation, alpha, x)
    if packed is not None:
        check_vector("packed", packed, x, tiles_size(p) if in_tiles(p) else p.groups * packed_size(
            p.kernel[0] * p.kernel[1] * weight.shape[2], p.features // p.groups))
    else:
        packed = pack_for_forward(p, weight)
    cdef cnp.ndarray y = empty_images(x, p.batch, p.out_height, p.out_width, p.features)
    # softmax needs all features, so it is a call of its own after the convolution
    cdef bint linear = activation == FNN_SOFTMAX
    cdef cnp.ndarray z = empty_like(y) if keep_z and not linear else None
    p.activation, p.alpha = FNN_LINEAR if linear else activation, alpha
    if in_tiles(p):
        tiles_forward(&call, x, bias, packed, y, z)
    elif is_depthwise(p):
        depthwise_forward(&call, x, weight, bias, y, z)
    else:
        patches_forward(&call, pad(p, x), bias, packed, y, z)
    if linear:
        y, z = softmax(y), y
    return (y, z) if keep_z else y


# ---- backward to the weight ----

# The fewest rows of dweight in a piece, since each piece reads all of x and dz (64 to 64 channels,
# 1x1, 32x28x28: from 614 to 483 us on two threads; 17 to 17, 3x3: from 461 to 363).
cdef ptrdiff_t WEIGHT_ROWS = 112


# With spans, a weight's gradient has about so many rows, and each reads only its span: threads read
# less, and many have work where dweight has few rows (28x28x1 to 32 features: from 190 to 140 us on
# two threads).  Other numbers give other bits, as with the constants of the numerics laws.
cdef ptrdiff_t SPANS_ROWS = 512
cdef ptrdiff_t SPANS_MOST = 16


cdef int patches_backward_weight(fnn_call *call, cnp.ndarray x, cnp.ndarray dz,
                                 cnp.ndarray dweight) except -1:
    """Sets dweight; the call has its sizes, x its padding."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef ptrdiff_t size = cnp.PyArray_SIZE(dweight), rows = size // p.features
    p.spans = count_spans(min(SPANS_ROWS // rows, SPANS_MOST),
                          p.batch * p.out_height * p.out_width, FNN_CHUNK_K)
    cdef cnp.ndarray sums = dweight if p.spans == 1 else empty_matrix(x, p.spans, size)
    start(call, kernels_for(x).conv_backward_weight, p.spans * rows, conv_work(p))
    call.grain = WEIGHT_ROWS
    p.x, p.dz, p.sums = reads(call, x), reads(call, dz), writes(call, sums, p.features)
    execute(call)
    if p.spans > 1:
        dense_backward_bias(sums, dweight.reshape(-1))
    return 0


def conv_backward_weight(cnp.ndarray x, cnp.ndarray dz, cnp.ndarray dweight, tuple geometry, /):
    """Sets dweight, like weight, from conv_forward's x and dz, like its y."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    check_real("x", x, 4)
    check_type("dweight", dweight, x)
    set_geometry(p, (<object>x).shape, dweight, geometry)
    check_images("dz", dz, x, p.batch, p.out_height, p.out_width, p.features)
    check_writable("dweight", dweight)
    if in_tiles(p):
        tiles_backward_weight(&call, x, dz, dweight)
    elif is_depthwise(p):
        depthwise_backward_weight(&call, x, dz, dweight)
    else:
        patches_backward_weight(&call, pad(p, x), dz, dweight)


# ---- backward to the input ----

cdef cnp.ndarray turn(cnp.ndarray weight, ptrdiff_t groups):
    """The weight turned around: dz convolved with it, at stride 1, is the input's gradient."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    set_weight(p, weight, groups)
    cdef cnp.ndarray turned = empty_images(weight, p.kernel[0], p.kernel[1], p.features // groups,
                                           p.channels)
    start(&call, kernels_for(weight).conv_turn, p.kernel[0] * p.kernel[1] * groups,
          copied * cnp.PyArray_SIZE(weight))
    p.weight, p.turned = reads(&call, weight), writes(&call, turned)
    execute(&call)
    return turned


cdef tuple turned_padding(const fnn_conv *p):
    """The padding of dz for that convolution; negative where x has more padding than the kernel
    reaches over the edge."""
    cdef ptrdiff_t rows = (p.kernel[0] - 1) * p.dilation[0]
    cdef ptrdiff_t columns = (p.kernel[1] - 1) * p.dilation[1]
    return (rows - p.before[0], rows - p.behind[0]), (columns - p.before[1], columns - p.behind[1])


cdef double fraction_inside(ptrdiff_t out, ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t dilation,
                            ptrdiff_t before) noexcept:
    """The fraction of its products, along an axis, that are with dz and not with its padding."""
    cdef ptrdiff_t tap, at, first, last, count = 0
    for tap in range(kernel):
        at = tap * dilation - before
        first, last = max(0, -at), min(out, size - at)
        count += max(0, last - first)
    return <double>count / (kernel * size)


cdef bint is_turned(const fnn_conv *p):
    """Whether the input's gradient is computed as a convolution of dz with the turned weight.

    Products with the padding of dz are wasted, so this pays where they are few, and where taps
    have few features (up to 32: 1.2 to 1.7 times as fast; 64: 0.9) or tiles do it."""
    cdef bint tiles = in_tiles(p)
    if p.stride[0] > 1 or p.stride[1] > 1 or is_depthwise(p):
        return False
    if not tiles and p.features // p.groups > 32:
        return False
    if min([min(sides) for sides in turned_padding(p)]) < 0:
        return False
    return (fraction_inside(p.out_height, p.height, p.kernel[0], p.dilation[0], p.before[0])
            * fraction_inside(p.out_width, p.width, p.kernel[1], p.dilation[1], p.before[1])
            > (0.6 if tiles else 0.8))


# Channels of a unit if the images are few: those of a tile (1x28x28x64: from 229 to 133 us).
cdef ptrdiff_t INPUT_CHANNELS = 32


cdef int taps_backward_input(fnn_call *call, cnp.ndarray dz, cnp.ndarray weight,
                             cnp.ndarray dx) except -1:
    """Sets dx, tap by tap; the call has its sizes."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef cnp.ndarray packed = patches_pack(weight, p.groups, True)
    cdef ptrdiff_t channels = weight.shape[2]
    p.unit_channels = min(channels, INPUT_CHANNELS) if p.batch < few_images else channels
    start(call, kernels_for(dz).conv_backward_input,
          p.batch * ((channels + p.unit_channels - 1) // p.unit_channels), conv_work(p))
    p.transpose, p.packed = True, <void *>reads(call, packed)
    # units that are groups of channels may be as many as dz has lines, so they are not taken for
    # lines
    p.dz = reads(call, dz, read_by_unit(call, dz, False))
    p.dx = writes(call, dx, cnp.PyArray_SIZE(dx) // call.units if call.units == p.batch else 0)
    return execute(call)


def conv_backward_input(tuple shape, cnp.ndarray dz, cnp.ndarray weight, tuple geometry, /):
    """dx, the gradient of conv_forward's x, which has the given shape; dz is like its y."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape: expected (batch, height, width, channels), got {shape}")
    set_geometry(p, shape, weight, geometry)
    check_images("dz", dz, weight, p.batch, p.out_height, p.out_width, p.features)
    if is_turned(p):
        stride, _, dilation, groups = geometry
        turned = stride, turned_padding(p), dilation, groups
        return conv_forward(dz, turn(weight, groups), None, turned)
    cdef cnp.ndarray dx = empty_images(dz, p.batch, p.height, p.width, p.channels)
    if is_depthwise(p):
        depthwise_backward_input(&call, dz, weight, dx)
    else:
        taps_backward_input(&call, dz, weight, dx)
    return dx
