# Convolution with kernels of 3x3 at stride 1 in tiles of 2x2 outputs; conv.pxi has the faces.

cdef bint in_tiles(const fnn_conv *p) noexcept:
    """Whether a convolution is computed in tiles: if it has enough channels and features.

    Tiles save 20 of 36 multiplications, but transform all channels and features, whatever the size
    of the images.  Forward, 32 to 32 channels are 1.5 times as fast as in conv.inc, 64 to 64 1.7.
    16 to 32 and 17 to 33, at 1.1 and 1.2, are left to conv.inc, where an output is one chain."""
    return (p.kernel[0] == 3 and p.kernel[1] == 3 and p.groups == 1
            and p.stride[0] == 1 and p.stride[1] == 1
            and p.dilation[0] == 1 and p.dilation[1] == 1
            and p.channels * p.features >= 12 * (p.channels + p.features))


cdef ptrdiff_t tiles_size(const fnn_conv *p) noexcept:
    """The size of a packed weight: 16 times position_size of winograd.inc."""
    return 16 * (packed_size(p.channels, p.features) + 16)


cdef cnp.ndarray tiles_pack(cnp.ndarray weight):
    """The weight as winograd_forward reads it."""
    cdef fnn_call call
    cdef fnn_conv *p = &call.arguments.conv
    p.channels, p.features = weight.shape[2], weight.shape[3]
    cdef cnp.ndarray packed = empty_vector(weight, tiles_size(p))
    start(&call, kernels_for(weight).winograd_pack, (p.channels + 15) // 16,
          copied * cnp.PyArray_SIZE(packed))
    p.weight, p.packed = reads(&call, weight), writes(&call, packed)
    execute(&call)
    return packed


# The fewest tiles of a piece, since each piece reads the whole weight (1x14x14, 256 to 256
# channels, the weight packed before: from 305 to 255 us on two threads).
cdef ptrdiff_t PIECE_TILES = 28


cdef int tiles_forward(fnn_call *call, cnp.ndarray x, cnp.ndarray bias, cnp.ndarray packed,
                       cnp.ndarray y, cnp.ndarray z) except -1:
    """Sets y and z, if there is one; the call has its sizes and activation."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef ptrdiff_t lines = (p.out_height + 1) // 2
    cdef bint whole = p.batch >= few_images  # units are images, else lines of tiles
    start(call, kernels_for(x).winograd_forward, p.batch if whole else p.batch * lines,
          conv_work(p) / 2)
    call.size = lines if whole else 1
    cdef ptrdiff_t tiles = call.size * ((p.out_width + 1) // 2)
    call.grain = (PIECE_TILES + tiles - 1) // tiles
    p.x = reads(call, x, unit_of(x) if whole else 0)
    p.bias, p.packed = reads(call, bias), <void *>reads(call, packed)
    p.y = writes(call, y, unit_of(y) if whole else 0)
    p.z = writes(call, z, unit_of(y) if whole else 0)
    return execute(call)


# How many units a weight's gradient has with all its spans, so that many threads have work.
# Another number gives other bits, as with the constants of the numerics laws in fastnn.h.
cdef ptrdiff_t SUM_UNITS = 16


cdef int tiles_backward_weight(fnn_call *call, cnp.ndarray x, cnp.ndarray dz,
                               cnp.ndarray dweight) except -1:
    """Sets dweight; the call has its sizes."""
    cdef fnn_conv *p = &call.arguments.conv
    cdef const fnn_kernels *kernels = kernels_for(x)
    cdef ptrdiff_t units = 4 * ((p.channels + FNN_SUM_CHANNELS - 1) // FNN_SUM_CHANNELS)
    cdef ptrdiff_t tiles = p.batch * ((p.out_height + 1) // 2) * ((p.out_width + 1) // 2)
    p.spans = count_spans(SUM_UNITS // units, tiles, FNN_CHUNK_TILES)
    cdef cnp.ndarray sums = empty_vector(x, p.spans * 16 * (p.channels * p.features + 16))
    start(call, kernels.winograd_sums, p.spans * units, conv_work(p) / 2)
    p.x, p.dz, p.sums = reads(call, x), reads(call, dz), writes(call, sums)
    execute(call)
    start(call, kernels.winograd_weight, p.channels, copied * cnp.PyArray_SIZE(sums))
    p.sums, p.dweight = <void *>reads(call, sums), writes(call, dweight)
    return execute(call)
