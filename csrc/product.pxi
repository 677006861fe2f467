# The matrix product, in the three forms that training needs: dense layers.

cdef int multiply(cnp.ndarray a, bint transpose_a, cnp.ndarray b, bint transpose_b,
                  cnp.ndarray c, cnp.ndarray bias, cnp.ndarray z, int activation,
                  double alpha, cnp.ndarray packed, bint bfloat16) except -1:
    """Sets c = activation(a b + bias), with a and b transposed where the flags say so; z, if there
    is one, is what the activation takes.  bfloat16: a and b are rounded to it first; `packed` is so
    already.  Everything was checked."""
    cdef fnn_call call
    cdef fnn_product *p = &call.arguments.product
    p.M, p.N, p.K = c.shape[0], c.shape[1], a.shape[0] if transpose_a else a.shape[1]
    p.a_row, p.a_column = 1 if transpose_a else a.shape[1], a.shape[1] if transpose_a else 1
    p.b_row, p.b_column = 1 if transpose_b else b.shape[1], b.shape[1] if transpose_b else 1
    p.c_row = c.shape[1]
    p.activation, p.alpha = activation, alpha
    # The longer side is cut into units: so the threads together read the fewest bytes.  A weight's
    # gradient prefers rows: the update goes on with them while they are in the cache.  (Units of
    # columns gain nothing there: two threads update 784x128 no faster than one, as prefetchers run
    # on into the other thread's columns.)
    p.by_columns = p.N > (4 * p.M if transpose_a else p.M)
    p.half = half_of(packed)
    if p.half:
        return multiply_half(&call, a, c, bias, z, packed)
    if bfloat16 and has_bfloat16():
        return multiply_pairs(&call, pairs_of(a, not transpose_a),
                              pairs_of(b, transpose_b) if packed is None else packed, c, bias, z)
    if bfloat16:
        a, b = rounded_to_bfloat16(a), rounded_to_bfloat16(b) if packed is None else b
    # to read an element takes as long as four multiply-adds, which matters where a side is short
    start(&call, kernels_for(c).product, (p.N + 15) // 16 if p.by_columns else p.M,
          2.0 * p.K * (<double>p.M * p.N + 4.0 * (p.M + p.N)))
    call.grain = grain_of(p)
    cdef ptrdiff_t unit = 16 if p.by_columns else p.N, line = p.N if p.by_columns else 0
    p.a = reads(&call, a, 0 if p.by_columns or transpose_a else p.K)
    p.b, p.bias, p.packed = reads(&call, b), reads(&call, bias), <void *>reads(&call, packed)
    p.c, p.z = writes(&call, c, unit, line), writes(&call, z, unit, line)
    return execute(&call)


cdef cnp.ndarray rounded_to_bfloat16(cnp.ndarray x):
    """x rounded to bfloat16, as float32."""
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    cdef cnp.ndarray y = empty_like(x)
    p.size = cnp.PyArray_SIZE(x)
    start(&call, kernels_for(x).round_bfloat16, (p.size + 15) // 16, copied * p.size)
    p.x, p.y = reads(&call, x, 16), writes(&call, y, 16)
    execute(&call)
    return y


cdef cnp.ndarray pairs_of(cnp.ndarray x, bint lines_are_rows):
    """x rounded to bfloat16 and packed, as bfloat16.inc says."""
    cdef fnn_call call
    cdef fnn_pairs *p = &call.arguments.pairs
    p.lines, p.terms = x.shape[not lines_are_rows], x.shape[lines_are_rows]
    p.line = x.shape[1] if lines_are_rows else 1
    p.term = 1 if lines_are_rows else x.shape[1]
    cdef cnp.npy_intp size = FNN_PAIRED_LINES(p.lines) * ((p.terms + 1) // 2)
    cdef cnp.npy_intp room = size + 16
    cdef cnp.ndarray memory = new_array(1, &room, cnp.NPY_UINT32)
    cdef ptrdiff_t first = -<ptrdiff_t>data(memory) % 64 // 4  # on a cache line
    cdef cnp.ndarray pairs = memory[first:first + size]
    cdef ptrdiff_t chunks = (p.terms + FNN_CHUNK_K - 1) // FNN_CHUNK_K
    cdef ptrdiff_t groups = (p.lines + FNN_PAIR_LINES - 1) // FNN_PAIR_LINES
    start(&call, kernels_for(x).pack_bfloat16, chunks * groups, copied * cnp.PyArray_SIZE(x))
    p.x, p.pairs = reads(&call, x), <uint32_t *>writes(&call, pairs)
    execute(&call)
    return pairs


cdef int multiply_pairs(fnn_call *call, cnp.ndarray a, cnp.ndarray b, cnp.ndarray c,
                        cnp.ndarray bias, cnp.ndarray z) except -1:
    """The same for what pairs_of gave; the call has its sizes and activation."""
    cdef fnn_product *p = &call.arguments.product
    cdef ptrdiff_t size = FNN_PAIR_COLUMNS if p.by_columns else FNN_PAIR_ROWS
    cdef ptrdiff_t line = p.N if p.by_columns else 0
    start(call, kernels_for(c).bfloat16_product, ((p.N if p.by_columns else p.M) + size - 1) // size,
          p.K * (<double>p.M * p.N + 4.0 * (p.M + p.N)))
    call.grain = 4
    cdef ptrdiff_t unit = size if p.by_columns else size * p.N
    p.a, p.b, p.bias = reads(call, a), reads(call, b), reads(call, bias)
    p.c, p.z = writes(call, c, unit, line), writes(call, z, unit, line)
    return execute(call)


cdef int half_of(cnp.ndarray packed) noexcept:
    """The fnn_half of a packed weight."""
    if packed is None or cnp.PyArray_ITEMSIZE(packed) != 2:
        return FNN_NO_HALF
    return FNN_FLOAT16 if cnp.PyArray_TYPE(packed) == cnp.NPY_FLOAT16 else FNN_BFLOAT16


cdef int multiply_half(fnn_call *call, cnp.ndarray a, cnp.ndarray c, cnp.ndarray bias,
                       cnp.ndarray z, cnp.ndarray packed) except -1:
    """The same with a packed weight of 16-bit numbers; the call has its sizes and activation."""
    cdef fnn_product *p = &call.arguments.product
    cdef ptrdiff_t unit = FNN_HALF_COLUMNS
    start(call, kernels_for(c).half_product, (p.N + unit - 1) // unit,
          2.0 * p.K * (<double>p.M * p.N + 4.0 * p.M + 2.0 * p.N))
    call.grain = 2 if p.M <= 2 else 1  # as grain_of
    p.a, p.bias, p.packed = reads(call, a), reads(call, bias), <void *>reads(call, packed)
    p.c, p.z = writes(call, c, unit, p.N), writes(call, z, unit, p.N)
    return execute(call)


cdef ptrdiff_t grain_of(const fnn_product *p) noexcept:
    """The fewest units that pay as a piece.

    A piece of rows packs B anew, which takes as long as 13 rows do (with pieces of 256 rows and not
    112, 512x1024x512 is 9 % faster).  A piece of columns should hold two tiles side by side; one of
    a single row should be wide, as B's rows come fastest in long stretches."""
    if not p.by_columns:
        return 256
    return 16 if p.M <= 2 and p.b_column == 1 else 4


cdef int check_bfloat16(bint bfloat16, cnp.ndarray x) except -1:
    if bfloat16 and cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32:
        raise ValueError(f"bfloat16: expected float32, got {x.dtype}")
    return 0


cdef int check_half(cnp.ndarray packed, cnp.ndarray x, ptrdiff_t length) except -1:
    cdef bint right = (cnp.PyArray_TYPE(packed) in (cnp.NPY_FLOAT16, cnp.NPY_UINT16)
                       and cnp.PyArray_ISCARRAY_RO(packed) and cnp.PyArray_NDIM(packed) == 1)
    if cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32 or not right or packed.shape[0] != length:
        raise ValueError(f"packed: expected float16 or uint16 of shape ({length},) beside float32, "
                         f"got {describe(packed)} beside {x.dtype}")
    return 0


cdef int check_pairs(cnp.ndarray packed, cnp.ndarray weight) except -1:
    cdef ptrdiff_t length = FNN_PAIRED_LINES(weight.shape[1]) * ((weight.shape[0] + 1) // 2)
    if not (cnp.PyArray_TYPE(packed) == cnp.NPY_UINT32 and cnp.PyArray_ISCARRAY_RO(packed)
            and cnp.PyArray_NDIM(packed) == 1 and packed.shape[0] == length):
        raise ValueError(f"packed: expected uint32 of shape ({length},), got {describe(packed)}")
    return 0


cdef ptrdiff_t packed_size(ptrdiff_t K, ptrdiff_t N) noexcept:
    return K * ((N + 15) // 16 * 16)


def pack_weight(cnp.ndarray weight, /, bint bfloat16=False):
    """A copy of weight as dense_forward reads it fastest, to be passed as `packed` beside it and
    `bfloat16`; good until the weight, the instruction set or set_bfloat16 changes."""
    check_real("weight", weight, 2)
    check_bfloat16(bfloat16, weight)
    if bfloat16 and has_bfloat16():
        return pairs_of(weight, False)
    if bfloat16:
        weight = rounded_to_bfloat16(weight)
    cdef fnn_call call
    cdef fnn_product *p = &call.arguments.product
    p.K, p.N, p.b_row, p.b_column = weight.shape[0], weight.shape[1], weight.shape[1], 1
    cdef ptrdiff_t size = packed_size(p.K, p.N), itemsize = cnp.PyArray_ITEMSIZE(weight)
    cdef cnp.ndarray memory = empty_vector(weight, size + 64 // itemsize)
    cdef ptrdiff_t first = -<ptrdiff_t>data(memory) % 64 // itemsize  # on a cache line
    cdef cnp.ndarray packed = memory[first:first + size]
    cdef ptrdiff_t chunks = (p.K + FNN_CHUNK_K - 1) // FNN_CHUNK_K
    cdef ptrdiff_t groups = (p.N * itemsize + FNN_PACK_BYTES - 1) // FNN_PACK_BYTES
    start(&call, kernels_for(weight).pack, chunks * groups, 8.0 * p.K * p.N)
    p.b, p.packed = reads(&call, weight), writes(&call, packed)
    execute(&call)
    return packed


def dense_forward(cnp.ndarray x, cnp.ndarray weight, /, cnp.ndarray bias=None,
                  int activation=FNN_LINEAR, double alpha=0.0, bint keep_z=False,
                  cnp.ndarray packed=None, bint bfloat16=False):
    """y = activation(z), z = x @ weight + bias; x (batch, in), weight (in, out), bias (out,).

    Returns y, or (y, z) with keep_z.  packed: pack_weight(weight, bfloat16), read in place of
    weight; or float16 or, for bfloat16, uint16 in the order that half.inc states.
    bfloat16: x and weight are rounded to it, and the sums are those of float32."""
    check_real("x", x, 2)
    check_real("weight", weight, 2)
    check_matrix("weight", weight, x, x.shape[1], weight.shape[1])
    if bias is not None:
        check_vector("bias", bias, x, weight.shape[1])
    check_bfloat16(bfloat16, x)
    if packed is not None and bfloat16 and has_bfloat16():
        check_pairs(packed, weight)
    elif half_of(packed) and not bfloat16:
        check_half(packed, x, weight.shape[0] * ((weight.shape[1] + 31) // 32 * 32))
    elif packed is not None:
        check_vector("packed", packed, x, packed_size(weight.shape[0], weight.shape[1]))
    check_kind(activation, alpha, x)
    cdef cnp.ndarray y = empty_matrix(x, x.shape[0], weight.shape[1]), z = None
    if activation == FNN_SOFTMAX:  # it needs whole rows, so it is a call of its own
        multiply(x, False, weight, False, y, bias, None, FNN_LINEAR, 0.0, packed, bfloat16)
        y, z = softmax(y), y
    else:
        z = empty_like(y) if keep_z else None
        multiply(x, False, weight, False, y, bias, z, activation, alpha, packed, bfloat16)
    return (y, z) if keep_z else y


def dense_backward_input(cnp.ndarray dz, cnp.ndarray weight, bint bfloat16=False, /):
    """dx = dz @ weight.T; dz (batch, out), weight (in, out); bfloat16 as in dense_forward."""
    check_real("dz", dz, 2)
    check_real("weight", weight, 2)
    check_matrix("weight", weight, dz, weight.shape[0], dz.shape[1])
    check_bfloat16(bfloat16, dz)
    cdef cnp.ndarray dx = empty_matrix(dz, dz.shape[0], weight.shape[0])
    multiply(dz, False, weight, True, dx, None, None, FNN_LINEAR, 0.0, None, bfloat16)
    return dx


def dense_backward_weight(cnp.ndarray x, cnp.ndarray dz, cnp.ndarray dweight,
                          bint bfloat16=False, /):
    """Sets dweight = x.T @ dz; x (batch, in), dz (batch, out), dweight (in, out); bfloat16 as in
    dense_forward."""
    check_real("x", x, 2)
    check_real("dz", dz, 2)
    check_matrix("dz", dz, x, x.shape[0], dz.shape[1])
    check_matrix("dweight", dweight, x, x.shape[1], dz.shape[1])
    check_writable("dweight", dweight)
    check_bfloat16(bfloat16, x)
    multiply(x, True, dz, False, dweight, None, None, FNN_LINEAR, 0.0, None, bfloat16)


def dense_backward_bias(cnp.ndarray dz, cnp.ndarray dbias, /):
    """Sets dbias = dz.sum(axis=0); dz (batch, out), dbias (out,)."""
    check_real("dz", dz, 2)
    check_vector("dbias", dbias, dz, dz.shape[1])
    check_writable("dbias", dbias)
    sum_columns(dz, dbias)
