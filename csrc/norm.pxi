# Batch norm and layer norm over x (..., features); all axes but the last together are the rows.

cdef fnn_norm *new_norm(fnn_call *call, cnp.ndarray x, cnp.ndarray gamma) except NULL:
    """Checks x and gamma, and fills in their sizes."""
    check_real("x", x, 0)
    cdef fnn_norm *p = &call.arguments.norm
    p.rows, p.features = rows_of(x), features_of(x)
    check_vector("gamma", gamma, x, p.features)
    return p


cdef void by_features(fnn_call *call, fnn_kernel *kernel, double operations) noexcept:
    """Begins a call whose units are groups of 16 features; operations are for a feature."""
    start(call, kernel, (call.arguments.norm.features + 15) // 16,
          operations * call.arguments.norm.features)


cdef ptrdiff_t chunks_of(const fnn_norm *p) noexcept:
    return (p.rows + FNN_CHUNK_ROWS - 1) // FNN_CHUNK_ROWS


cdef void by_areas(fnn_call *call, fnn_kernel *kernel, double operations) noexcept:
    """Begins a call whose units are areas, chunk by 16 features; operations are for an element."""
    cdef fnn_norm *p = &call.arguments.norm
    start(call, kernel, chunks_of(p) * ((p.features + 15) // 16), operations * p.rows * p.features)


cdef ptrdiff_t column_of(const fnn_norm *p) noexcept:
    """How many elements of every row an area has, if there is one chunk; else 0."""
    return 16 if chunks_of(p) == 1 else 0


cdef int apply(fnn_call *call, cnp.ndarray x, cnp.ndarray gamma, cnp.ndarray beta,
               cnp.ndarray mean, cnp.ndarray inv_std, cnp.ndarray y) except -1:
    """Sets y = gamma * x̂ + beta, from the features' statistics."""
    cdef fnn_norm *p = &call.arguments.norm
    start_rows(call, kernels_for(x).batchnorm_apply, x, 8.0)
    p.x, p.y = reads(call, x, unit_of(x)), writes(call, y, unit_of(x))
    p.gamma, p.beta = reads(call, gamma), reads(call, beta)
    p.mean, p.inv_std = <void *>reads(call, mean), <void *>reads(call, inv_std)
    return execute(call)


def batchnorm_forward(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta,
                      cnp.ndarray running_mean, cnp.ndarray running_var, double momentum,
                      double eps, /):
    """y = gamma * x̂ + beta with the statistics of the batch, of two rows at least.

    running_mean and running_var move towards them, in place.  The variance is the biased one.
    Returns y, mean (features,) and inv_std (features,)."""
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
        raise ValueError(f"momentum: expected a number in [0, 1], got {momentum}")
    if p.rows == 1:
        raise ValueError("x: expected at least two rows to train batch norm, as the variance of "
                         f"one is zero, got {describe(x)}")
    p.momentum, p.eps = momentum, eps
    cdef cnp.ndarray mean = empty_vector(x, p.features), inv_std = empty_vector(x, p.features)
    cdef cnp.ndarray y = empty_like(x), partial = empty_matrix(x, 2 * chunks_of(p), p.features)
    cdef const fnn_kernels *kernels = kernels_for(x)
    by_areas(&call, kernels.batchnorm_moments, 8.0)
    p.x = reads(&call, x, column_of(p), p.features)
    p.partial = writes(&call, partial, column_of(p), p.features)
    execute(&call)
    by_features(&call, kernels.batchnorm_merge, 6.0 * chunks_of(p) + 20.0)
    p.x = reads(&call, x, 16, p.features)
    p.partial = <void *>reads(&call, partial, 16, p.features)
    p.mean, p.inv_std = writes(&call, mean, 16), writes(&call, inv_std, 16)
    p.running_mean = writes(&call, running_mean, 16)
    p.running_variance = writes(&call, running_var, 16)
    execute(&call)
    apply(&call, x, gamma, beta, mean, inv_std, y)
    return y, mean, inv_std


def batchnorm_evaluate(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta,
                       cnp.ndarray running_mean, cnp.ndarray running_var, double eps, /):
    """y = gamma * x̂ + beta with the running statistics."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_vector("beta", beta, x, p.features)
    check_vector("running_mean", running_mean, x, p.features)
    check_vector("running_var", running_var, x, p.features)
    check_constant("eps", eps, x)
    cdef cnp.ndarray inv_std = empty_vector(x, p.features), y = empty_like(x)
    p.eps = eps
    by_features(&call, kernels_for(x).batchnorm_inv_std, 20.0)
    p.running_variance = <void *>reads(&call, running_var, 16)
    p.inv_std = writes(&call, inv_std, 16)
    execute(&call)
    apply(&call, x, gamma, beta, running_mean, inv_std, y)
    return y


cdef fnn_norm *new_backward(fnn_call *call, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray gamma,
                            cnp.ndarray dgamma, cnp.ndarray dbeta) except NULL:
    """Checks the arrays that both norms take, and fills in their sizes."""
    cdef fnn_norm *p = new_norm(call, x, gamma)
    check_like("dy", dy, "x", x)
    check_vector("dgamma", dgamma, x, p.features)
    check_writable("dgamma", dgamma)
    check_vector("dbeta", dbeta, x, p.features)
    check_writable("dbeta", dbeta)
    return p


cdef int sum_up(fnn_call *call, fnn_kernel *sums, cnp.ndarray x, cnp.ndarray dy,
                cnp.ndarray mean, cnp.ndarray inv_std, cnp.ndarray dgamma,
                cnp.ndarray dbeta) except -1:
    """Sets dgamma and dbeta, sums over the rows: first those of every chunk, then all."""
    cdef fnn_norm *p = &call.arguments.norm
    cdef cnp.ndarray partial = empty_matrix(x, 2 * chunks_of(p), p.features)
    by_areas(call, sums, 10.0)
    p.x = reads(call, x, column_of(p), p.features)
    p.dy = reads(call, dy, column_of(p), p.features)
    p.partial = writes(call, partial, column_of(p), p.features)
    p.mean, p.inv_std = <void *>reads(call, mean), <void *>reads(call, inv_std)
    execute(call)
    by_features(call, kernels_for(x).norm_merge, 6.0 * chunks_of(p) + 20.0)
    p.partial = <void *>reads(call, partial, 16, p.features)
    p.dgamma, p.dbeta = writes(call, dgamma, 16), writes(call, dbeta, 16)
    return execute(call)


def batchnorm_backward(cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray gamma,
                       cnp.ndarray mean, cnp.ndarray inv_std, cnp.ndarray dgamma,
                       cnp.ndarray dbeta, /):
    """Sets dgamma and dbeta, and returns dx, from forward's x, mean and inv_std."""
    cdef fnn_call call
    cdef fnn_norm *p = new_backward(&call, x, dy, gamma, dgamma, dbeta)
    check_vector("mean", mean, x, p.features)
    check_vector("inv_std", inv_std, x, p.features)
    cdef cnp.ndarray dx = empty_like(x)
    sum_up(&call, kernels_for(x).batchnorm_sums, x, dy, mean, inv_std, dgamma, dbeta)
    start_rows(&call, kernels_for(x).batchnorm_backward, x, 12.0)
    p.x, p.dy = reads(&call, x, unit_of(x)), reads(&call, dy, unit_of(x))
    p.gamma = reads(&call, gamma)
    p.dgamma, p.dbeta = <void *>reads(&call, dgamma), <void *>reads(&call, dbeta)
    p.mean, p.inv_std = <void *>reads(&call, mean), <void *>reads(&call, inv_std)
    p.dx = writes(&call, dx, unit_of(x))
    execute(&call)
    return dx


def layernorm_forward(cnp.ndarray x not None, cnp.ndarray gamma, cnp.ndarray beta, double eps, /):
    """y = gamma * x̂ + beta with each row's statistics.  Returns y, mean and inv_std (rows,)."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_vector("beta", beta, x, p.features)
    check_constant("eps", eps, x)
    cdef cnp.ndarray mean = empty_vector(x, p.rows), inv_std = empty_vector(x, p.rows)
    cdef cnp.ndarray y = empty_like(x)
    p.eps = eps
    start_rows(&call, kernels_for(x).layernorm_forward, x, 20.0)
    p.x, p.y = reads(&call, x, unit_of(x)), writes(&call, y, unit_of(x))
    p.gamma, p.beta = reads(&call, gamma), reads(&call, beta)
    p.mean, p.inv_std = writes(&call, mean, call.size), writes(&call, inv_std, call.size)
    execute(&call)
    return y, mean, inv_std


def layernorm_backward(cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray gamma,
                       cnp.ndarray mean, cnp.ndarray inv_std, /, cnp.ndarray dgamma=None,
                       cnp.ndarray dbeta=None):
    """Sets dgamma and dbeta, unless both are None, and returns dx, from forward's x, mean and
    inv_std."""
    cdef fnn_call call
    cdef fnn_norm *p = new_norm(&call, x, gamma)
    check_like("dy", dy, "x", x)
    check_vector("mean", mean, x, p.rows)
    check_vector("inv_std", inv_std, x, p.rows)
    cdef cnp.ndarray dx = empty_like(x)
    if dgamma is not None or dbeta is not None:
        new_backward(&call, x, dy, gamma, dgamma, dbeta)
        sum_up(&call, kernels_for(x).layernorm_sums, x, dy, mean, inv_std, dgamma, dbeta)
    start_rows(&call, kernels_for(x).layernorm_backward, x, 20.0)
    p.x, p.dy = reads(&call, x, unit_of(x)), reads(&call, dy, unit_of(x))
    p.mean = <void *>reads(&call, mean, call.size)
    p.inv_std = <void *>reads(&call, inv_std, call.size)
    p.gamma, p.dx = reads(&call, gamma), writes(&call, dx, unit_of(x))
    execute(&call)
    return dx
