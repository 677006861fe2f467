# Periodic embeddings of numbers.

cdef fnn_periodic *new_periodic(fnn_call *call, cnp.ndarray x, cnp.ndarray frequency,
                                cnp.ndarray phase, cnp.ndarray weight) except NULL:
    """Checks x and the parameters, and fills in the sizes."""
    check_real("x", x, 2)
    check_real("frequency", frequency, 2)
    check_matrix("frequency", frequency, x, x.shape[1], frequency.shape[1])
    check_like("phase", phase, "frequency", frequency)
    check_real("weight", weight, 3)
    cdef fnn_periodic *p = &call.arguments.periodic
    p.rows, p.features, p.frequencies = x.shape[0], x.shape[1], frequency.shape[1]
    p.out = weight.shape[2] + 1
    if (cnp.PyArray_TYPE(weight) != cnp.PyArray_TYPE(x) or weight.shape[0] != p.features
            or weight.shape[1] != p.frequencies):
        raise ValueError(f"weight: expected {x.dtype} of shape ({p.features}, {p.frequencies}, "
                         f"out - 1), got {describe(weight)}")
    if p.frequencies > MOST_FREQUENCIES or p.out > MOST_OUT:
        raise ValueError(f"weight: expected at most {MOST_FREQUENCIES} frequencies and "
                         f"{MOST_OUT} outputs a feature, got {describe(weight)}")
    return p


# What backward needs of one feature lies in a thread's scratch.
MOST_FREQUENCIES, MOST_OUT = 256, 64


cdef double periodic_work(const fnn_periodic *p, double turn, double output) noexcept:
    """The work of an element of x, from that of each frequency and of each output of one."""
    return p.frequencies * (turn + output * p.out) + 8.0 * p.out


def periodic_forward(cnp.ndarray x, cnp.ndarray frequency, cnp.ndarray phase, cnp.ndarray weight,
                     cnp.ndarray bias, /):
    """y[:, j] = [x_j, cos(2 pi (x_j frequency_j + phase_j)) @ weight_j + bias_j] for all features,
    side by side: x (batch, features), frequency and phase (features, frequencies), weight
    (features, frequencies, out - 1), bias (features, out - 1), y (batch, features * out)."""
    cdef fnn_call call
    cdef fnn_periodic *p = new_periodic(&call, x, frequency, phase, weight)
    check_matrix("bias", bias, x, p.features, p.out - 1)
    cdef cnp.ndarray y = empty_matrix(x, p.rows, p.features * p.out)
    start_rows(&call, kernels_for(x).periodic_forward, x, periodic_work(p, 20.0, 2.0))
    p.x, p.y = reads(&call, x, unit_of(x)), writes(&call, y, unit_of(y))
    p.frequency, p.phase = reads(&call, frequency), reads(&call, phase)
    p.weight, p.bias = reads(&call, weight), reads(&call, bias)
    execute(&call)
    return y


def periodic_backward(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray frequency, cnp.ndarray phase,
                      cnp.ndarray weight, /, list gradients=None, bint input_gradient=True):
    """Sets `gradients`, those of frequency, phase, weight and bias, unless it is None; returns dx,
    or None without input_gradient."""
    cdef fnn_call call
    cdef fnn_periodic *p = new_periodic(&call, x, frequency, phase, weight)
    check_matrix("dy", dy, x, p.rows, p.features * p.out)
    cdef cnp.ndarray dfrequency = None, dphase = None, dweight = None, dbias = None, dx = None
    if gradients is not None:
        dfrequency, dphase, dweight, dbias = gradients
        check_like("dfrequency", dfrequency, "frequency", frequency)
        check_like("dphase", dphase, "frequency", frequency)
        check_like("dweight", dweight, "weight", weight)
        check_matrix("dbias", dbias, x, p.features, p.out - 1)
        for name, array in zip(("dfrequency", "dphase", "dweight", "dbias"), gradients):
            check_writable(name, array)
    if input_gradient:
        dx = empty_like(x)
    cdef ptrdiff_t count = p.frequencies, others = p.out - 1
    start(&call, kernels_for(x).periodic_backward, p.features,
          cnp.PyArray_SIZE(x) * periodic_work(p, 40.0, 4.0))
    p.x, p.dy = reads(&call, x, 1, p.features), reads(&call, dy, p.out, p.features * p.out)
    p.frequency, p.phase = reads(&call, frequency, count), reads(&call, phase, count)
    p.weight, p.dx = reads(&call, weight, count * others), writes(&call, dx, 1, p.features)
    p.dfrequency, p.dphase = writes(&call, dfrequency, count), writes(&call, dphase, count)
    p.dweight, p.dbias = writes(&call, dweight, count * others), writes(&call, dbias, others)
    execute(&call)
    return dx
