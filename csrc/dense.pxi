# Dense layers: the matrix product in the three forms training needs.

cdef int multiply(cnp.ndarray a, bint transpose_a, cnp.ndarray b, bint transpose_b,
                  cnp.ndarray c, cnp.ndarray bias, cnp.ndarray z, int activation,
                  double alpha) except -1:
    """c = activation(op(a) op(b) + bias), everything already checked."""
    cdef fnn_call call
    cdef fnn_product *p = &call.arguments.product
    p.M, p.N, p.K = c.shape[0], c.shape[1], a.shape[0] if transpose_a else a.shape[1]
    p.a_row, p.a_column = 1 if transpose_a else a.shape[1], a.shape[1] if transpose_a else 1
    p.b_row, p.b_column = 1 if transpose_b else b.shape[1], b.shape[1] if transpose_b else 1
    p.c_row = c.shape[1]
    p.activation, p.alpha = activation, alpha
    # the longer side is cut, so that the threads together read the fewest bytes
    p.by_columns = p.N > p.M
    start(&call, kernels_for(c).product, (p.N + 15) // 16 if p.by_columns else p.M,
          2.0 * p.M * p.N * p.K)
    # a piece of rows packs B anew, a piece of columns should hold two tiles beside one another
    call.grain = 4 if p.by_columns else 56
    cdef ptrdiff_t row = 0 if p.by_columns else p.N
    p.a = reads(&call, a, 0 if p.by_columns or transpose_a else p.K)
    p.b, p.bias = reads(&call, b), reads(&call, bias)
    p.c, p.z = writes(&call, c, row), writes(&call, z, row)
    return execute(&call)


def dense_forward(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias=None,
                  int activation=FNN_LINEAR, double alpha=0.0, bint keep_z=False):
    """y = activation(z), z = x @ weight + bias; x (batch, in), weight (in, out), bias (out,).

    Returns y, or (y, z) with keep_z."""
    check_real("x", x, 2)
    check_real("weight", weight, 2)
    check_matrix("weight", weight, x, x.shape[1], weight.shape[1])
    if bias is not None:
        check_vector("bias", bias, x, weight.shape[1])
    check_kind(activation, alpha, x)
    cdef cnp.ndarray y = empty_matrix(x, x.shape[0], weight.shape[1])
    cdef cnp.ndarray z = empty_like(y) if keep_z else None
    multiply(x, False, weight, False, y, bias, z, activation, alpha)
    return (y, z) if keep_z else y


def dense_backward_input(cnp.ndarray dz, cnp.ndarray weight):
    """dx = dz @ weight.T; dz (batch, out), weight (in, out)."""
    check_real("dz", dz, 2)
    check_real("weight", weight, 2)
    check_matrix("weight", weight, dz, weight.shape[0], dz.shape[1])
    cdef cnp.ndarray dx = empty_matrix(dz, dz.shape[0], weight.shape[0])
    multiply(dz, False, weight, True, dx, None, None, FNN_LINEAR, 0.0)
    return dx


def dense_backward_weight(cnp.ndarray x, cnp.ndarray dz, cnp.ndarray dweight):
    """Sets dweight = x.T @ dz; x (batch, in), dz (batch, out), dweight (in, out)."""
    check_real("x", x, 2)
    check_real("dz", dz, 2)
    check_matrix("dz", dz, x, x.shape[0], dz.shape[1])
    check_matrix("dweight", dweight, x, x.shape[1], dz.shape[1])
    check_writable("dweight", dweight)
    multiply(x, True, dz, False, dweight, None, None, FNN_LINEAR, 0.0)


def dense_backward_bias(cnp.ndarray dz, cnp.ndarray dbias):
    """Sets dbias = dz.sum(axis=0); dz (batch, out), dbias (out,)."""
    check_real("dz", dz, 2)
    check_vector("dbias", dbias, dz, dz.shape[1])
    check_writable("dbias", dbias)
    cdef fnn_call call
    cdef fnn_column_sum *p = &call.arguments.column_sum
    p.rows, p.features = dz.shape[0], dz.shape[1]
    start(&call, kernels_for(dz).column_sum, (p.features + 15) // 16, <double>p.rows * p.features)
    p.x, p.sum = reads(&call, dz), writes(&call, dbias, 16)
    execute(&call)
