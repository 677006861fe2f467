# Optimizers: each updates flat vectors in place.  Their numbers are in `hyper`, a float64 vector
# that the kernels read when they run.

# The index of each number in hyper, whose length is len(HYPER).  A new hyper has ones for
# gradient_scale, correction1 and correction2, else zeros.
HYPER = {
    "learning_rate": FNN_LEARNING_RATE,
    "gradient_scale": FNN_GRADIENT_SCALE,  # multiplies every gradient: 1, or the clipping factor
    "step": FNN_STEP,  # how many times advance_step ran
    "beta1": FNN_BETA1,  # decay of momentum's velocity, and of Adam's mean
    "beta2": FNN_BETA2,  # decay of RMSprop's and Adam's mean square
    "eps": FNN_EPS,
    "weight_decay": FNN_WEIGHT_DECAY,  # decoupled, as in AdamW
    "correction1": FNN_CORRECTION1,  # 1/(1 - beta1^step), or 1 for none
    "correction2": FNN_CORRECTION2,  # 1/(1 - beta2^step), or 1 for none
    "mean_rate": FNN_MEAN_RATE,  # (1 - beta1)/(1 - beta1^step): how far a corrected mean moves
    "fault": FNN_FAULT,  # not 0 after an update or a loss that was not finite
}

FAULT_VALUE = FNN_FAULT_VALUE  # what hyper's fault is after a loss that is not finite


cdef fnn_update *new_update(fnn_call *call, fnn_kernel *kernel, double operations,
                            cnp.ndarray parameters, cnp.ndarray gradients, cnp.ndarray mean,
                            cnp.ndarray mean_square, cnp.ndarray hyper,
                            double rate_factor, double decay_factor=1.0) except NULL:
    """Checks the vectors, of which mean and mean_square may be None, and fills in the call.

    The factors are those of these elements' learning rate and weight decay.  Operations are for
    one element.  hyper counts as read, though units may store the same fault."""
    check_real("parameters", parameters, 1)
    check_writable("parameters", parameters)
    check_like("gradients", gradients, "parameters", parameters)
    cdef cnp.ndarray state
    for state in (mean, mean_square):
        if state is not None:
            check_like("the optimizer's state", state, "parameters", parameters)
            check_writable("the optimizer's state", state)
    check_hyper(hyper)
    cdef fnn_update *p = &call.arguments.update
    p.size, p.row, p.nesterov = parameters.shape[0], written_unit(gradients), 0
    p.rate_factor, p.decay_factor = rate_factor, decay_factor
    start(call, kernel, (p.size + p.row - 1) // p.row, operations * p.size)
    p.parameters, p.gradients = writes(call, parameters, p.row), reads(call, gradients, p.row)
    p.mean, p.mean_square = writes(call, mean, p.row), writes(call, mean_square, p.row)
    p.hyper = <double *>reads(call, hyper)
    return p


def sgd(cnp.ndarray parameters not None, cnp.ndarray gradients not None,
        cnp.ndarray hyper not None, /, double rate_factor=1.0):
    """parameters -= rate * g, where g = gradient_scale * gradients and rate = learning_rate *
    rate_factor, as below."""
    cdef fnn_call call
    new_update(&call, kernels_for(parameters).sgd, 10.0, parameters, gradients, None, None, hyper,
               rate_factor)
    execute(&call)


def momentum(cnp.ndarray parameters not None, cnp.ndarray gradients not None,
             cnp.ndarray velocity not None, cnp.ndarray hyper not None, /, bint nesterov=False,
             double rate_factor=1.0):
    """velocity = beta1 * velocity + g; parameters -= rate * velocity, or, with nesterov,
    rate * (g + beta1 * velocity)."""
    cdef fnn_call call
    new_update(&call, kernels_for(parameters).momentum, 16.0, parameters, gradients, velocity, None,
               hyper, rate_factor)
    call.arguments.update.nesterov = nesterov
    execute(&call)


def rmsprop(cnp.ndarray parameters not None, cnp.ndarray gradients not None,
            cnp.ndarray mean_square not None, cnp.ndarray hyper not None, /,
            double rate_factor=1.0):
    """mean_square = beta2 * mean_square + (1 - beta2) * g²;
    parameters -= rate * g / (sqrt(mean_square * correction2) + eps)."""
    cdef fnn_call call
    new_update(&call, kernels_for(parameters).rmsprop, 20.0, parameters, gradients, None,
               mean_square, hyper, rate_factor)
    execute(&call)


def adam(cnp.ndarray parameters not None, cnp.ndarray gradients not None,
         cnp.ndarray mean not None, cnp.ndarray mean_square not None, cnp.ndarray hyper not None, /,
         double rate_factor=1.0, double decay_factor=1.0):
    """mean = beta1 * mean + (1 - beta1) * g; mean_square likewise with beta2 and g²;
    parameters -= rate * weight_decay * decay_factor * parameters; then
    parameters -= rate * mean * correction1 / (sqrt(mean_square * correction2) + eps)."""
    cdef fnn_call call
    new_update(&call, kernels_for(parameters).adam, 25.0, parameters, gradients, mean, mean_square,
               hyper, rate_factor, decay_factor)
    execute(&call)


def advance_step(cnp.ndarray hyper not None, /):
    """step += 1, then correction1, correction2 and mean_rate for that step."""
    check_hyper(hyper)
    cdef fnn_call call
    start(&call, kernels_for(hyper).advance_step, 1, 100.0)
    call.arguments.set_hyper.hyper = <double *>writes(&call, hyper)
    execute(&call)


def clip_value(cnp.ndarray gradients not None, double limit, /):
    """gradients = min(max(gradients, -limit), limit), in place; NaN remains."""
    check_real("gradients", gradients, cnp.PyArray_NDIM(gradients))
    check_writable("gradients", gradients)
    check_constant("clip_value", limit, gradients)
    cdef fnn_call call
    cdef fnn_vector *p = &call.arguments.vector
    p.size, p.row, p.scale = cnp.PyArray_SIZE(gradients), written_unit(gradients), limit
    start(&call, kernels_for(gradients).clip_value, (p.size + p.row - 1) // p.row, 8.0 * p.size)
    p.y = writes(&call, gradients, p.row)
    execute(&call)


def clip_norm(cnp.ndarray gradients not None, cnp.ndarray hyper not None, double max_norm, /):
    """hyper's gradient_scale = 1, or max_norm / norm where norm > max_norm.  Returns norm = sqrt(Σ g²)."""
    check_real("gradients", gradients, cnp.PyArray_NDIM(gradients))
    check_hyper(hyper)
    check_constant("clip_norm", max_norm, gradients)
    cdef fnn_call call
    cdef fnn_set_hyper *p = &call.arguments.set_hyper
    cdef cnp.ndarray squares = squares_of(gradients), norm = empty_doubles(1)
    start(&call, kernels_for(hyper).set_gradient_scale, 1, 20.0)
    p.hyper, p.max_norm = <double *>writes(&call, hyper), max_norm
    p.squares, p.norm = <const double *>reads(&call, squares), <double *>writes(&call, norm)
    execute(&call)
    return (<double *>data(norm))[0]
