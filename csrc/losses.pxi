# Losses.  Each face returns the mean over the batch, weighted by sample_weight, in a vector of one
# float64, and its gradient, like the outputs.  l is the loss of one row.

def check_targets(cnp.ndarray targets, cnp.ndarray outputs, double largest, /):
    """targets are like the outputs and lie in [0, largest]; largest is 1, or DBL_MAX for any."""
    check_like("targets", targets, "the outputs", outputs)
    cdef ptrdiff_t wrong = first_outside(targets, 0.0, largest)
    if wrong >= 0:
        wanted = "numbers in [0, 1]" if largest == 1.0 else "finite numbers >= 0"
        raise ValueError(f"targets: expected {wanted}, got {targets.flat[wrong]} "
                         f"in row {wrong // (outputs.size // outputs.shape[0])}")


def check_labels(cnp.ndarray targets, cnp.ndarray outputs, /):
    """targets are int64 labels (batch,), each below the number of classes."""
    cdef ptrdiff_t i, batch = outputs.shape[0], classes = outputs.shape[1]
    if (cnp.PyArray_TYPE(targets) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(targets)
            or cnp.PyArray_NDIM(targets) != 1 or targets.shape[0] != batch):
        raise ValueError(f"targets: expected C-contiguous int64 labels of shape ({batch},) for "
                         f"outputs of shape ({batch}, {classes}), got {describe(targets)}")
    cdef const int64_t *label = <const int64_t *>data(targets)
    for i in range(batch):
        if not 0 <= label[i] < classes:
            raise ValueError(f"targets: expected labels in [0, {classes}), got {label[i]}")


cdef double sum_of(cnp.ndarray x) noexcept:
    cdef double sum = 0.0
    cdef ptrdiff_t i, size = cnp.PyArray_SIZE(x)
    cdef const float *single = <const float *>data(x)
    cdef const double *double_ = <const double *>data(x)
    cdef bint is_single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32
    for i in range(size):
        sum += single[i] if is_single else double_[i]
    return sum


def check_sample_weight(cnp.ndarray weights, cnp.ndarray outputs, /):
    check_vector("sample_weight", weights, outputs, outputs.shape[0])
    cdef ptrdiff_t wrong = first_outside(weights, 0.0, DBL_MAX)
    if wrong >= 0:
        raise ValueError("sample_weight: expected finite numbers >= 0, "
                         f"got {weights[wrong]} at {wrong}")
    if first_outside(weights, 0.0, 0.0) < 0:
        raise ValueError("sample_weight: expected a number > 0 among them, got only zeros")
    if not sum_of(weights) <= DBL_MAX:
        raise ValueError("sample_weight: expected a finite sum, got one beyond float64")


cdef tuple run_loss(fnn_call *call, fnn_kernel *kernel, cnp.ndarray outputs, cnp.ndarray targets,
                    cnp.ndarray weights, double operations, cnp.ndarray quantiles=None,
                    cnp.ndarray extra=None):
    """The value and the gradient, from arrays that were checked; int64 targets are labels.

    Operations are for one element.  The caller has set the loss's constant in the call."""
    cdef bint labels = cnp.PyArray_TYPE(targets) == cnp.NPY_INT64
    cdef fnn_loss *p = &call.arguments.loss
    cdef cnp.ndarray weight_sum = empty_doubles(1), value = empty_doubles(1)
    cdef cnp.ndarray gradient = empty_like(outputs)
    cdef cnp.ndarray row_losses = empty_vector(outputs, outputs.shape[0])
    if weights is not None:
        check_sample_weight(weights, outputs)
        add_up(weights, weight_sum)
    p.batch, p.features = outputs.shape[0], outputs.shape[1]
    start(call, kernel, p.batch, operations * p.batch * p.features)
    p.outputs = reads(call, outputs, p.features)
    p.targets = reads(call, None if labels else targets, p.features)
    p.labels = <const int64_t *>reads(call, targets if labels else None, 1)
    p.weights = reads(call, weights, 1)
    p.weight_sum = <const double *>reads(call, weight_sum)
    p.quantiles, p.extra = reads(call, quantiles), reads(call, extra)
    p.gradient = writes(call, gradient, p.features)
    p.row_losses = writes(call, row_losses, 1)
    execute(call)
    add_up(row_losses, value)
    return value, gradient


def softmax_cross_entropy(cnp.ndarray logits not None, cnp.ndarray targets not None, /,
                          cnp.ndarray sample_weight=None, double label_smoothing=0.0):
    """l = -Σ_j t_j log softmax(logits)_j; targets are int64 labels (batch,), or numbers >= 0 like
    the logits, which need not sum to 1.  Smoothing s makes them (1-s) t + s/n."""
    check_real("logits", logits, 2)
    if cnp.PyArray_NDIM(targets) == 1:
        check_labels(targets, logits)
    else:
        check_targets(targets, logits, DBL_MAX)
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing: expected a number in [0, 1), got {label_smoothing}")
    cdef fnn_call call
    call.arguments.loss.smoothing = label_smoothing
    return run_loss(&call, kernels_for(logits).softmax_cross_entropy, logits, targets,
                    sample_weight, 25.0)


def sigmoid_cross_entropy(cnp.ndarray logits not None, cnp.ndarray targets not None, /,
                          cnp.ndarray sample_weight=None, cnp.ndarray pos_weight=None):
    """l = the mean over j of -p_j t log sigmoid(z) - (1-t) log(1 - sigmoid(z)); targets in [0, 1].
    `pos_weight` p (n,), positive, is 1 unless given."""
    check_real("logits", logits, 2)
    check_targets(targets, logits, 1.0)
    if pos_weight is not None:
        check_vector("pos_weight", pos_weight, logits, logits.shape[1])
        if not (pos_weight.min() > 0.0 and numpy.isfinite(pos_weight.max())):
            raise ValueError("pos_weight: expected positive numbers, finite in "
                             f"{logits.dtype}, got {pos_weight}")
    cdef fnn_call call
    return run_loss(&call, kernels_for(logits).sigmoid_cross_entropy, logits, targets,
                    sample_weight, 40.0, None, None if pos_weight is None else pos_weight - 1)


def squared_error(cnp.ndarray outputs not None, cnp.ndarray targets not None, /,
                  cnp.ndarray sample_weight=None):
    """l = the mean over j of (output - target)²."""
    check_real("outputs", outputs, 2)
    check_like("targets", targets, "the outputs", outputs)
    cdef fnn_call call
    return run_loss(&call, kernels_for(outputs).squared_error, outputs, targets, sample_weight,
                    10.0)


def absolute_error(cnp.ndarray outputs not None, cnp.ndarray targets not None, /,
                   cnp.ndarray sample_weight=None):
    """l = the mean over j of |output - target|; where they are equal, the gradient is 0."""
    check_real("outputs", outputs, 2)
    check_like("targets", targets, "the outputs", outputs)
    cdef fnn_call call
    return run_loss(&call, kernels_for(outputs).absolute_error, outputs, targets, sample_weight,
                    10.0)


def quantile(cnp.ndarray outputs not None, cnp.ndarray targets not None, /,
             cnp.ndarray sample_weight=None, cnp.ndarray quantiles=None):
    """l = the mean over j of max(q d, (q - 1) d), d = target - output, q the quantile of column j:
    0.5 unless `quantiles` are given.  Where d is 0, the gradient is 0."""
    check_real("outputs", outputs, 2)
    check_like("targets", targets, "the outputs", outputs)
    if quantiles is None:
        quantiles = numpy.full(outputs.shape[1], 0.5, outputs.dtype)
    check_vector("quantiles", quantiles, outputs, outputs.shape[1])
    if not (quantiles.min() > 0.0 and quantiles.max() < 1.0):
        raise ValueError("quantiles: expected numbers above 0 and below 1 in "
                         f"{outputs.dtype}, got {quantiles}")
    cdef fnn_call call
    return run_loss(&call, kernels_for(outputs).quantile, outputs, targets, sample_weight, 12.0,
                    quantiles)


def huber(cnp.ndarray outputs not None, cnp.ndarray targets not None, /,
          cnp.ndarray sample_weight=None, double delta=1.0):
    """l = the mean over j of d²/2 where |d| = |output - target| <= delta, else
    delta (|d| - delta/2)."""
    check_real("outputs", outputs, 2)
    check_like("targets", targets, "the outputs", outputs)
    check_constant("delta", delta, outputs)
    cdef fnn_call call
    call.arguments.loss.delta = delta
    return run_loss(&call, kernels_for(outputs).huber, outputs, targets, sample_weight, 12.0)


def poisson(cnp.ndarray outputs not None, cnp.ndarray targets not None, /,
            cnp.ndarray sample_weight=None):
    """l = the mean over j of e^output - target output; outputs are the logarithms of means."""
    check_real("outputs", outputs, 2)
    check_targets(targets, outputs, DBL_MAX)
    cdef fnn_call call
    return run_loss(&call, kernels_for(outputs).poisson, outputs, targets, sample_weight, 30.0)


def hinge(cnp.ndarray scores not None, cnp.ndarray targets not None, /,
          cnp.ndarray sample_weight=None, double margin=1.0):
    """l = Σ_{j≠y} max(0, s_j - s_y + margin), y the label; at the kink the gradient is 0."""
    check_real("scores", scores, 2)
    check_labels(targets, scores)
    check_constant("margin", margin, scores, True)
    cdef fnn_call call
    call.arguments.loss.margin = margin
    return run_loss(&call, kernels_for(scores).hinge, scores, targets, sample_weight, 16.0)
