# Activations of arrays of any shape: softmax over the last axis, the others elementwise.

ACTIVATIONS = {
    "linear": FNN_LINEAR, "relu": FNN_RELU, "leaky_relu": FNN_LEAKY_RELU,
    "sigmoid": FNN_SIGMOID, "tanh": FNN_TANH, "elu": FNN_ELU, "selu": FNN_SELU,
    "softplus": FNN_SOFTPLUS, "silu": FNN_SILU, "gelu": FNN_GELU, "mish": FNN_MISH,
    "softmax": FNN_SOFTMAX,
}
# The kinds whose backward needs the input x; the others need the output y alone.
SAVES_INPUT = frozenset(["silu", "gelu", "mish"])


cdef double activation_work(int kind) noexcept:
    """The work of an element: at least that of loading and storing it."""
    if kind in (FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU):
        return 8.0
    return 16.0 if kind in (FNN_SIGMOID, FNN_ELU, FNN_SELU, FNN_SILU) else 30.0


cdef cnp.ndarray run_forward(fnn_kernel *kernel, cnp.ndarray x, int kind, double alpha,
                             double work):
    """A new y from x, which was checked; work is for one element."""
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    cdef cnp.ndarray y = empty_like(x)
    p.rows, p.features, p.kind, p.alpha = rows_of(x), features_of(x), kind, alpha
    start_rows(&call, kernel, x, work)
    p.x, p.y = reads(&call, x, unit_of(x)), writes(&call, y, unit_of(x))
    execute(&call)
    return y


cdef int run_backward(fnn_kernel *kernel, cnp.ndarray saved, cnp.ndarray dy, cnp.ndarray dx,
                      int kind, double alpha, double work) except -1:
    """Sets dx from arrays that were checked; work is for one element."""
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    p.rows, p.features, p.kind, p.alpha = rows_of(dy), features_of(dy), kind, alpha
    start_rows(&call, kernel, dy, work)
    p.saved, p.dy = reads(&call, saved, unit_of(dy)), reads(&call, dy, unit_of(dy))
    p.dx = writes(&call, dx, unit_of(dy))
    return execute(&call)


cdef int check_kind(int kind, double alpha, cnp.ndarray x) except -1:
    check_constant("alpha", alpha, x, True)
    if not 0 <= kind < FNN_ACTIVATION_KINDS:
        raise ValueError(f"kind: expected one of {sorted(ACTIVATIONS.values())}, got {kind}")
    return 0


cdef cnp.ndarray softmax(cnp.ndarray x):
    """A new y from x, which was checked."""
    return run_forward(kernels_for(x).softmax_forward, x, FNN_SOFTMAX, 0.0, 20.0)


def activation_forward(cnp.ndarray x, int kind, /, double alpha=0.0):
    """y = f(x); alpha is the slope of leaky_relu (>= 0) or the scale of elu (> 0)."""
    check_real("x", x, 0)
    check_kind(kind, alpha, x)
    if kind == FNN_SOFTMAX:
        return softmax(x)
    return run_forward(kernels_for(x).activation_forward, x, kind, alpha, activation_work(kind))


cdef bint is_several(cnp.ndarray dy, cnp.ndarray saved):
    """Whether dy is like more than one saved, one below the other."""
    cdef int ndim = cnp.PyArray_NDIM(saved)
    if dy is None or ndim == 0 or cnp.PyArray_NDIM(dy) != ndim or dy.shape[0] <= saved.shape[0]:
        return False
    check_real("dy", dy, ndim)
    return (cnp.PyArray_TYPE(dy) == cnp.PyArray_TYPE(saved) and saved.shape[0] > 0
            and dy.shape[0] % saved.shape[0] == 0
            and cnp.PyArray_CompareLists(dy.shape + 1, saved.shape + 1, ndim - 1))


def activation_backward(cnp.ndarray saved, cnp.ndarray dy, int kind, /, double alpha=0.0):
    """dx = dy f'(x); saved is x for the kinds in SAVES_INPUT, else y.

    Or several of them below one another: dy may have several times as many rows as saved."""
    check_real("saved", saved, 0)
    cdef bint several = is_several(dy, saved)
    if not several:
        check_like("dy", dy, "saved", saved)
    check_kind(kind, alpha, dy)
    cdef fnn_kernel *kernel = kernels_for(dy).activation_backward
    cdef double work = 12.0 if kind < FNN_SOFTPLUS else activation_work(kind)  # a line in y: cheap
    if kind == FNN_SOFTMAX:
        kernel, work = kernels_for(dy).softmax_backward, 12.0
    cdef cnp.ndarray dx = empty_like(dy)
    if not several:
        run_backward(kernel, saved, dy, dx, kind, alpha, work)
        return dx
    cdef ptrdiff_t first, rows = saved.shape[0]
    for first in range(0, dy.shape[0], rows):
        part = slice(first, first + rows)
        run_backward(kernel, saved, dy[part], dx[part], kind, alpha, work)
    return dx


cdef int check_parametric(cnp.ndarray x, cnp.ndarray weight, int kind, double alpha) except -1:
    check_real("x", x, 0)
    check_vector("weight", weight, x, features_of(x))
    check_kind(kind, alpha, x)
    if kind == FNN_SOFTMAX:
        raise ValueError("kind: expected that of an elementwise activation, got softmax's")
    return 0


def parametric_forward(cnp.ndarray x, cnp.ndarray weight, int kind, /, double alpha=0.0):
    """y = x + weight * (f(x) - x), weight (features,); with the linear kind y = weight * x."""
    check_parametric(x, weight, kind, alpha)
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    cdef cnp.ndarray y = empty_like(x)
    p.rows, p.features, p.kind, p.alpha = rows_of(x), features_of(x), kind, alpha
    start_rows(&call, kernels_for(x).parametric_forward, x, 4.0 + activation_work(kind))
    p.x, p.weight = reads(&call, x, unit_of(x)), reads(&call, weight)
    p.y = writes(&call, y, unit_of(x))
    execute(&call)
    return y


def parametric_backward(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray weight, cnp.ndarray dweight,
                        int kind, /, double alpha=0.0):
    """Sets dweight, unless it is None, and returns dx."""
    check_parametric(x, weight, kind, alpha)
    check_like("dy", dy, "x", x)
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    cdef cnp.ndarray dx = empty_like(x), terms = None
    if dweight is not None:
        check_vector("dweight", dweight, x, features_of(x))
        check_writable("dweight", dweight)
        terms = empty_matrix(x, rows_of(x), features_of(x))
    p.rows, p.features, p.kind, p.alpha = rows_of(x), features_of(x), kind, alpha
    start_rows(&call, kernels_for(x).parametric_backward, x, 20.0 + activation_work(kind))
    p.x, p.dy = reads(&call, x, unit_of(x)), reads(&call, dy, unit_of(x))
    p.weight, p.dx = reads(&call, weight), writes(&call, dx, unit_of(x))
    p.terms = writes(&call, terms, unit_of(x))
    execute(&call)
    if terms is not None:
        sum_columns(terms, dweight)
    return dx
