# Batch norm and layer norm over x (..., features); rows: the product of all axes but the last.

cdef fnn_norm *new_norm(fnn_call *call, cnp.ndarray x, cnp.ndarray gamma) except NULL:
    """Checks x and gamma, and fills in what every call of a norm's needs."""
    if cnp.PyArray_NDIM(x) == 0:
        raise ValueError(f"x must have at least one dimension, got {describe(x)}")
    check_real("x", x, cnp.PyArray_NDIM(x))
    cdef fnn_norm *p = &call.arguments.norm
    p.features = x.shape[cnp.PyArray_NDIM(x) - 1]
    p.rows = cnp.PyArray_SIZE(x) // p.features
    check_vector("gamma", gamma, x, p.features)
    p.x, p.gamma = data(x), data(gamma)
    return p


cdef int by_rows(fnn_call *call, fnn_kernel *kernel, double operations) except -1:
    """Runs a kernel that is cut by rows; operations: for each element."""
    cdef fnn_norm *p = &call.arguments.norm
    call.kernel, call.units, call.work = kernel, p.rows, operations * p.rows * p.features
    return execute(call)


cdef int by_features(fnn_call *call, fnn_kernel *kernel, double operations) except -1:
    """Runs a kernel that is cut by groups of 16 features; operations: for each feature."""
    call.kernel, call.units = kernel, (call.arguments.norm.features + 15) // 16
    call.work = operations * call.arguments.norm.features
    return execute(call)


cdef int over_rows(fnn_call *call, cnp.ndarray x, fnn_kernel *sums, fnn_kernel *merge) except -1:
    """Two sums over the rows: of every chunk, by areas, then merged."""
    cdef fnn_norm *p = &call.arguments.norm
    cdef ptrdiff_t chunks = (p.rows + FNN_CHUNK_ROWS - 1) // FNN_CHUNK_ROWS
    cdef cnp.ndarray partial = empty_matrix(x, 2 * chunks, p.features)
    p.partial = data(partial)
    call.kernel, call.units = sums, chunks * ((p.features + 15) // 16)
    call.work = 5.0 * p.rows * p.features
    execute(call)
    return by_features(call, merge, 6.0 * chunks + 20.0)


def batchnorm_forward(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta,
                      cnp.ndarray running_mean, cnp.ndarray running_var, double momentum,
                      double eps):
    """y = gamma * x̂ + beta with the batch's statistics, which also move running_*, in place.

    Returns y, mean, inv_std (features,).  The variance is the biased one; two rows at least."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_vector("beta", beta, x, p.features)
    check_vector("running_mean", running_mean, x, p.features)
    check_writable("running_mean", running_mean)
    check_vector("running_var", running_var, x, p.features)
    check_writable("running_var", running_var)
    check_constant("eps", eps, x)
    check_constant("momentum", momentum, x, True)
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must be between 0 and 1, got {momentum}")
    if p.rows == 1:
        raise ValueError("batch norm cannot be trained on one row: its variance would be zero, "
                         f"got x of shape {tuple(x.shape[i] for i in range(x.ndim))}")
    cdef cnp.ndarray mean = empty_vector(x, p.features), inv_std = empty_vector(x, p.features)
    cdef cnp.ndarray y = empty_like(x)
    p.beta, p.out, p.mean, p.inv_std = data(beta), data(y), data(mean), data(inv_std)
    p.running_mean, p.running_variance = data(running_mean), data(running_var)
    p.momentum, p.eps = momentum, eps
    cdef const fnn_kernels *kernels = kernels_for(x)
    over_rows(&call, x, kernels.batchnorm_moments, kernels.batchnorm_merge)
    by_rows(&call, kernels.batchnorm_apply, 3.0)
    return y, mean, inv_std


def batchnorm_evaluate(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta,
                       cnp.ndarray running_mean, cnp.ndarray running_var, double eps):
    """y = gamma * x̂ + beta with the running statistics."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_vector("beta", beta, x, p.features)
    check_vector("running_mean", running_mean, x, p.features)
    check_vector("running_var", running_var, x, p.features)
    check_constant("eps", eps, x)
    cdef cnp.ndarray inv_std = empty_vector(x, p.features), y = empty_like(x)
    p.beta, p.out, p.mean, p.inv_std = data(beta), data(y), data(running_mean), data(inv_std)
    p.running_variance, p.eps = data(running_var), eps
    cdef const fnn_kernels *kernels = kernels_for(x)
    by_features(&call, kernels.batchnorm_inv_std, 20.0)
    by_rows(&call, kernels.batchnorm_apply, 3.0)
    return y


cdef fnn_norm *new_backward(fnn_call *call, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray gamma,
                            cnp.ndarray dgamma, cnp.ndarray dbeta) except NULL:
    cdef fnn_norm *p = new_norm(call, x, gamma)
    check_like("dy", dy, "x", x)
    check_vector("dgamma", dgamma, x, p.features)
    check_writable("dgamma", dgamma)
    check_vector("dbeta", dbeta, x, p.features)
    check_writable("dbeta", dbeta)
    p.dy, p.dgamma, p.dbeta = data(dy), data(dgamma), data(dbeta)
    return p


def batchnorm_backward(cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray gamma,
                       cnp.ndarray mean, cnp.ndarray inv_std, cnp.ndarray dgamma,
                       cnp.ndarray dbeta):
    """Sets dgamma and dbeta, and returns dx, from forward's x, mean and inv_std."""
    cdef fnn_call call
    cdef fnn_norm *p = new_backward(&call, x, dy, gamma, dgamma, dbeta)
    check_vector("mean", mean, x, p.features)
    check_vector("inv_std", inv_std, x, p.features)
    cdef cnp.ndarray dx = empty_like(x)
    p.out, p.mean, p.inv_std = data(dx), data(mean), data(inv_std)
    cdef const fnn_kernels *kernels = kernels_for(x)
    over_rows(&call, x, kernels.batchnorm_sums, kernels.norm_merge)
    by_rows(&call, kernels.batchnorm_backward, 5.0)
    return dx


def layernorm_forward(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta, double eps):
    """y = gamma * x̂ + beta, x̂ over each row's features.  Returns y, mean, inv_std (rows,)."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_vector("beta", beta, x, p.features)
    check_constant("eps", eps, x)
    cdef cnp.ndarray mean = empty_vector(x, p.rows), inv_std = empty_vector(x, p.rows)
    cdef cnp.ndarray y = empty_like(x)
    p.beta, p.out, p.mean, p.inv_std, p.eps = data(beta), data(y), data(mean), data(inv_std), eps
    by_rows(&call, kernels_for(x).layernorm_forward, 9.0)
    return y, mean, inv_std


def layernorm_backward(cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray gamma,
                       cnp.ndarray mean, cnp.ndarray inv_std, cnp.ndarray dgamma,
                       cnp.ndarray dbeta):
    """Sets dgamma and dbeta, and returns dx, from forward's x, mean and inv_std."""
    cdef fnn_call call
    cdef fnn_norm *p = new_backward(&call, x, dy, gamma, dgamma, dbeta)
    check_vector("mean", mean, x, p.rows)
    check_vector("inv_std", inv_std, x, p.rows)
    cdef cnp.ndarray dx = empty_like(x)
    p.out, p.mean, p.inv_std = data(dx), data(mean), data(inv_std)
    cdef const fnn_kernels *kernels = kernels_for(x)
    over_rows(&call, x, kernels.layernorm_sums, kernels.norm_merge)
    by_rows(&call, kernels.layernorm_backward, 12.0)
    return dx
