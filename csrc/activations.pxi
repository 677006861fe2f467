# Activations, elementwise over (rows, features).

def activation_forward(cnp.ndarray x, int kind, double alpha=0.0):
    """y = f(x); x (rows, features)."""
    check_real("x", x, 2)
    cdef cnp.ndarray y = empty_like(x)
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    p.x, p.dy, p.out, p.kind, p.alpha = data(x), NULL, data(y), kind, alpha
    p.rows, p.features = x.shape[0], x.shape[1]
    call.kernel = kernels_for(x).activation_forward
    call.units, call.work = p.rows, 16.0 * p.rows * p.features
    execute(&call)
    return y
