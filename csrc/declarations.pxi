# What the faces see of fastnn.h and team.h, whose comments say what each of these is.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "fastnn.h" nogil:
    ctypedef void fnn_kernel(const void *, ptrdiff_t, ptrdiff_t, void *)

# Names for pointers, of which Cython wants one a line if they are spelled out.
ctypedef const void *const_pointer
ctypedef void *pointer
ctypedef fnn_kernel *kernel_pointer

cdef extern from "fastnn.h" nogil:
    ctypedef struct fnn_vector:
        const_pointer x, addend
        pointer y, sums
        ptrdiff_t size, row
        double scale
        const double *rate

    ctypedef struct fnn_columns:
        const_pointer x
        pointer y
        ptrdiff_t width, x_row, y_row

    ctypedef struct fnn_total:
        const_pointer values
        double *sum
        ptrdiff_t size

    ctypedef struct fnn_penalty:
        double *value
        const double *sum
        double scale

    cdef enum fnn_activation_kind:
        FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_ELU, FNN_SELU
        FNN_SOFTPLUS, FNN_SILU, FNN_GELU, FNN_MISH, FNN_SOFTMAX, FNN_ACTIVATION_KINDS

    ctypedef struct fnn_activation:
        const_pointer x, saved, dy, weight
        pointer y, dx, terms
        ptrdiff_t rows, features
        int kind
        double alpha

    cdef enum fnn_half:
        FNN_NO_HALF, FNN_BFLOAT16, FNN_FLOAT16

    int FNN_HALF_COLUMNS, FNN_PAIR_LINES, FNN_PAIR_ROWS, FNN_PAIR_COLUMNS
    ptrdiff_t FNN_PAIRED_LINES(ptrdiff_t lines)

    ctypedef struct fnn_product:
        const_pointer a, b, bias
        pointer packed, c, z
        ptrdiff_t M, N, K, a_row, a_column, b_row, b_column, c_row
        int by_columns, half, activation
        double alpha

    ctypedef struct fnn_pairs:
        const_pointer x
        uint32_t *pairs
        ptrdiff_t lines, terms, line, term

    ctypedef struct fnn_column_sum:
        const_pointer x
        pointer sum
        ptrdiff_t rows, features

    ctypedef struct fnn_conv:
        const_pointer x, weight, bias, dz
        pointer y, z, dx, dweight, padded, packed, turned, sums
        ptrdiff_t batch, height, width, channels, out_height, out_width, features, groups
        ptrdiff_t[2] kernel, stride, dilation, before, behind
        int transpose, activation
        ptrdiff_t unit_channels, spans
        double alpha

    ctypedef struct fnn_pool:
        const_pointer x, dy
        pointer y, dx, excess
        ptrdiff_t batch, height, width, channels, out_height, out_width
        ptrdiff_t[2] kernel, stride, before
        int average, count_padding

    ctypedef struct fnn_embedding:
        const_pointer codes, weight, dy
        pointer y, dweight, sums
        ptrdiff_t count, features, rows

    ctypedef struct fnn_periodic:
        const_pointer x, frequency, phase, weight, bias, dy
        pointer y, dx, dfrequency, dphase, dweight, dbias
        ptrdiff_t rows, features, frequencies, out

    ctypedef struct fnn_dropout:
        const_pointer x, dy
        pointer y, dx
        uint8_t *mask
        uint64_t *counter
        const double *rate
        uint64_t seed
        uint32_t layer
        ptrdiff_t rows, features

    ctypedef struct fnn_norm:
        const_pointer x, dy, gamma, beta
        pointer y, dx, mean, inv_std, running_mean, running_variance, dgamma, dbeta, partial
        ptrdiff_t rows, features
        double momentum, eps

    ctypedef struct fnn_loss:
        const_pointer outputs, targets, weights, quantiles, extra
        const int64_t *labels
        const double *weight_sum
        pointer gradient, row_losses
        ptrdiff_t batch, features
        double smoothing, delta, margin

    cdef enum fnn_hyper:
        FNN_LEARNING_RATE, FNN_GRADIENT_SCALE, FNN_STEP, FNN_BETA1, FNN_BETA2, FNN_EPS
        FNN_WEIGHT_DECAY, FNN_CORRECTION1, FNN_CORRECTION2, FNN_MEAN_RATE, FNN_FAULT
        FNN_HYPER_SIZE

    cdef enum fnn_fault:
        FNN_NO_FAULT, FNN_FAULT_UPDATE, FNN_FAULT_VALUE

    ctypedef struct fnn_update:
        pointer parameters, mean, mean_square
        const_pointer gradients
        double *hyper
        ptrdiff_t size, row
        double rate_factor, decay_factor
        int nesterov

    ctypedef struct fnn_set_hyper:
        double *hyper
        double *norm
        const double *squares
        double max_norm

    ctypedef struct fnn_feed:
        const_pointer x, targets, weights
        pointer outputs
        double *losses
        const double *rates
        ptrdiff_t columns
        const int64_t *index
        int64_t row, step

    ctypedef struct fnn_rows:
        fnn_feed *feed
        void **outside
        pointer inside
        ptrdiff_t row_bytes

    ctypedef struct fnn_batch:
        fnn_feed *feed
        double *value
        double *hyper
        double *number
        ptrdiff_t column, rows

    ctypedef struct fnn_kernels:
        kernel_pointer copy, copy_columns, add, add_scaled, lerp
        kernel_pointer total, sum_squares, sum_zeros, sum_abs, add_penalty, add_sign
        kernel_pointer activation_forward, activation_backward, softmax_forward, softmax_backward
        kernel_pointer parametric_forward, parametric_backward
        kernel_pointer product, pack, half_product, column_sum
        kernel_pointer round_bfloat16, pack_bfloat16, bfloat16_product
        kernel_pointer conv_pad, conv_pack, conv_turn
        kernel_pointer conv_forward, conv_backward_weight, conv_backward_input
        kernel_pointer winograd_pack, winograd_forward, winograd_sums, winograd_weight
        kernel_pointer depthwise_forward, depthwise_backward_weight, depthwise_backward_input
        kernel_pointer pool_forward, pool_backward
        kernel_pointer embedding_forward, embedding_backward
        kernel_pointer periodic_forward, periodic_backward
        kernel_pointer dropout_forward, dropout_backward, dropout_advance
        kernel_pointer batchnorm_moments, batchnorm_merge, batchnorm_inv_std, batchnorm_apply
        kernel_pointer batchnorm_sums, batchnorm_backward
        kernel_pointer layernorm_forward, layernorm_sums, layernorm_backward, norm_merge
        kernel_pointer softmax_cross_entropy, sigmoid_cross_entropy, squared_error, absolute_error
        kernel_pointer quantile, huber, poisson, hinge
        kernel_pointer sgd, momentum, rmsprop, adam, advance_step, clip_value, set_gradient_scale
        kernel_pointer take_rows, give_rows, check_value, take_rate, end_batch

    ctypedef union fnn_arguments:
        fnn_vector vector
        fnn_columns columns
        fnn_total total
        fnn_penalty penalty
        fnn_activation activation
        fnn_product product
        fnn_pairs pairs
        fnn_column_sum column_sum
        fnn_conv conv
        fnn_pool pool
        fnn_embedding embedding
        fnn_periodic periodic
        fnn_dropout dropout
        fnn_norm norm
        fnn_loss loss
        fnn_update update
        fnn_set_hyper set_hyper
        fnn_rows rows
        fnn_batch batch

    int FNN_ACCESSES

    ctypedef struct fnn_access:
        const char *begin
        const char *end
        ptrdiff_t unit, line
        int writes

    ctypedef struct fnn_call:
        kernel_pointer kernel
        ptrdiff_t units, size, grain
        double work
        int accesses
        fnn_access *access
        fnn_arguments arguments

    ctypedef struct fnn_chain:
        int count
        ptrdiff_t units

    ctypedef struct fnn_phase:
        int alones, chains
        const fnn_chain *chain

    ctypedef struct fnn_program:
        const fnn_phase *phase
        int count, phases
        double work
        const double *fault

    int fnn_record(fnn_program *program, const fnn_call *call)
    int fnn_schedule(fnn_program *program)
    const fnn_access *fnn_written(const fnn_program *program, const char *begin, const char *end)
    void fnn_clear(fnn_program *program)

    int FNN_CHUNK_K, FNN_CHUNK_ROWS, FNN_CHUNK_SUM, FNN_CHUNK_TILES, FNN_CHUNK_IMAGES
    int FNN_PACK_BYTES
    int FNN_SUM_CHANNELS
    int FNN_ISAS, FNN_ISA_AVX512
    const char *fnn_isa_name(int isa)
    bint fnn_isa_available(int isa)
    int fnn_isa_best()
    const fnn_kernels *fnn_table(int isa, bint is_double)
    bint fnn_has_bfloat16()

cdef extern from "team.h" nogil:
    int FNN_MAX_THREADS
    ctypedef struct fnn_runtime:
        const char *name
    const fnn_runtime fnn_own_runtime
    void fnn_set_up_threads()
    void fnn_set_runtime(const fnn_runtime *runtime)
    const fnn_runtime *fnn_override_runtime(const fnn_runtime *runtime)
    const fnn_runtime *fnn_current_runtime()
    int fnn_is_forked()
    void fnn_set_threads(int threads)
    int fnn_override_threads(int threads)
    int fnn_threads()
    int fnn_granted_threads()
    double fnn_set_wake_work(double operations)
    int fnn_run(const fnn_call *call)

    ctypedef struct fnn_turn:
        fnn_program *program
        ptrdiff_t steps
    ptrdiff_t fnn_replay(const fnn_turn *turn, int turns, ptrdiff_t rounds)
