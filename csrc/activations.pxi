# Activations, elementwise over arrays of any shape, softmax over the last axis, and a sum.

ACTIVATIONS = {
    "linear": FNN_LINEAR, "relu": FNN_RELU, "leaky_relu": FNN_LEAKY_RELU,
    "sigmoid": FNN_SIGMOID, "tanh": FNN_TANH, "elu": FNN_ELU, "selu": FNN_SELU,
    "softplus": FNN_SOFTPLUS, "silu": FNN_SILU, "gelu": FNN_GELU, "mish": FNN_MISH,
}
# whose backward needs the input x; the others need the output y alone
SAVES_INPUT = frozenset(["silu", "gelu", "mish"])


cdef double activation_work(int kind) noexcept:
    """About how many operations an element takes, or as long as it takes to move it."""
    if kind in (FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU):
        return 8.0
    return 16.0 if kind in (FNN_SIGMOID, FNN_ELU, FNN_SELU, FNN_SILU) else 30.0


cdef int run_activation(fnn_kernel *kernel, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray out,
                        int kind, double alpha, double work) except -1:
    """Everything already checked; work is for one element."""
    cdef fnn_call call
    cdef fnn_activation *p = &call.arguments.activation
    p.rows, p.features, p.kind, p.alpha = rows_of(x), features_of(x), kind, alpha
    start_rows(&call, kernel, x, work)
    p.x, p.dy = reads(&call, x, unit_of(x)), reads(&call, dy, unit_of(x))
    p.out = writes(&call, out, unit_of(x))
    return execute(&call)


cdef int check_kind(int kind, double alpha, cnp.ndarray x) except -1:
    check_constant("alpha", alpha, x, True)
    if not 0 <= kind < FNN_ACTIVATION_KINDS:
        raise ValueError(f"kind must be one of {sorted(ACTIVATIONS.values())}, got {kind}")
    return 0


def activation_forward(cnp.ndarray x, int kind, double alpha=0.0):
    """y = f(x).  alpha: the slope of leaky_relu (>= 0), the scale of elu (> 0)."""
    check_real("x", x, 0)
    check_kind(kind, alpha, x)
    cdef cnp.ndarray y = empty_like(x)
    run_activation(kernels_for(x).activation_forward, x, None, y, kind, alpha,
                   activation_work(kind))
    return y


def activation_backward(cnp.ndarray saved, cnp.ndarray dy, int kind, double alpha=0.0):
    """dx = dy f'; saved is x for the kinds in SAVES_INPUT, else y."""
    check_real("saved", saved, 0)
    check_like("dy", dy, "saved", saved)
    check_kind(kind, alpha, dy)
    cdef cnp.ndarray dx = empty_like(dy)
    cdef bint cheap = kind < FNN_SOFTPLUS # the slope is a line in y
    run_activation(kernels_for(dy).activation_backward, saved, dy, dx, kind, alpha,
                   12.0 if cheap else activation_work(kind))
    return dx


def softmax_forward(cnp.ndarray x):
    """y = exp(x) / exp(x).sum(over the last axis), without overflow."""
    check_real("x", x, 0)
    cdef cnp.ndarray y = empty_like(x)
    run_activation(kernels_for(x).softmax_forward, x, None, y, 0, 0.0, 20.0)
    return y


def softmax_backward(cnp.ndarray y, cnp.ndarray dy):
    """dx = y (dy - (dy y).sum(over the last axis)); y is softmax_forward's."""
    check_real("y", y, 0)
    check_like("dy", dy, "y", y)
    cdef cnp.ndarray dx = empty_like(dy)
    run_activation(kernels_for(dy).softmax_backward, y, dy, dx, 0, 0.0, 12.0)
    return dx


def add(cnp.ndarray a, cnp.ndarray b):
    """a + b, arrays of one shape."""
    check_real("a", a, 0)
    check_like("b", b, "a", a)
    cdef cnp.ndarray out = empty_like(a)
    run_activation(kernels_for(a).add, a, b, out, 0, 0.0, 2.0)
    return out
