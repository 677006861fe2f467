# Embeddings: rows of a weight, looked up by codes.  Codes are whole numbers in a real array.

cdef int check_codes(cnp.ndarray codes, cnp.ndarray weight) except -1:
    check_real("codes", codes, 0)
    check_real("weight", weight, 2)
    if cnp.PyArray_TYPE(codes) != cnp.PyArray_TYPE(weight):
        raise ValueError(f"codes: expected {weight.dtype}, as the weight, got {codes.dtype}")
    return 0


def first_no_code(cnp.ndarray codes not None, ptrdiff_t count, /):
    """The flat index of the first code that is no whole number in [0, count); -1: all are."""
    check_real("codes", codes, 0)
    cdef ptrdiff_t i
    cdef bint wide = cnp.PyArray_TYPE(codes) == cnp.NPY_FLOAT64
    cdef double code
    for i in range(cnp.PyArray_SIZE(codes)):
        code = (<double *>data(codes))[i] if wide else (<float *>data(codes))[i]
        if not (0 <= code < count and code == <ptrdiff_t>code):
            return i
    return -1


def embedding_forward(cnp.ndarray codes, cnp.ndarray weight, /):
    """y[..., :] = weight[codes[...]]; codes have any shape and are in [0, len(weight))."""
    check_codes(codes, weight)
    cdef fnn_call call
    cdef fnn_embedding *p = &call.arguments.embedding
    cdef int i, ndim = cnp.PyArray_NDIM(codes)
    cdef cnp.npy_intp[33] shape
    for i in range(ndim):
        shape[i] = codes.shape[i]
    shape[ndim] = p.features = weight.shape[1]
    p.count, p.rows = weight.shape[0], cnp.PyArray_SIZE(codes)
    cdef cnp.ndarray y = new_array(ndim + 1, shape, cnp.PyArray_TYPE(codes))
    start_rows(&call, kernels_for(codes).embedding_forward, y, 1.0)
    p.codes = reads(&call, codes, p.rows // call.units)
    p.weight, p.y = reads(&call, weight), writes(&call, y, unit_of(y))
    execute(&call)
    return y


def embedding_backward(cnp.ndarray codes, cnp.ndarray dy, cnp.ndarray dweight, /):
    """Sets each row of dweight to the sum of dy (codes' shape, features) over its code."""
    check_codes(codes, dweight)
    check_real("dy", dy, cnp.PyArray_NDIM(codes) + 1)
    check_writable("dweight", dweight)
    cdef fnn_call call
    cdef fnn_embedding *p = &call.arguments.embedding
    cdef cnp.ndarray sums = None
    p.count, p.features, p.rows = dweight.shape[0], dweight.shape[1], cnp.PyArray_SIZE(codes)
    if (cnp.PyArray_TYPE(dy) != cnp.PyArray_TYPE(codes) or features_of(dy) != p.features
            or rows_of(dy) != p.rows):
        raise ValueError(f"dy: expected {codes.dtype}, {p.features} features for each code, "
                         f"got {describe(dy)}")
    start(&call, kernels_for(codes).embedding_backward, p.count,
          2.0 * cnp.PyArray_SIZE(dy) + cnp.PyArray_SIZE(dweight))
    call.grain = (p.count + 7) // 8  # each piece looks at all codes
    p.codes, p.dy = reads(&call, codes), reads(&call, dy)
    p.dweight = writes(&call, dweight, p.features)
    if p.rows > FNN_CHUNK_K:
        sums = empty_matrix(dweight, p.count, 2 * p.features)
    p.sums = writes(&call, sums, 2 * p.features)
    execute(&call)
