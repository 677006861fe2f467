# What the faces see of fastnn.h and team.h.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "fastnn.h" nogil:
    ctypedef void fnn_kernel(const void *, ptrdiff_t, ptrdiff_t, void *)

    ctypedef struct fnn_product:
        const void *a
        const void *b
        const void *bias
        const void *packed
        void *c
        void *z
        ptrdiff_t M, N, K, a_row, a_column, b_row, b_column, c_row
        int by_columns, activation
        double alpha

    ctypedef struct fnn_column_sum:
        const void *x
        void *sum
        ptrdiff_t rows, features

    ctypedef struct fnn_conv:
        const void *x
        const void *weight
        const void *bias
        void *packed
        void *y
        void *z
        ptrdiff_t batch, height, width, channels, out_height, out_width, features, groups
        ptrdiff_t[2] kernel, stride, dilation, before, behind
        int transpose, activation
        ptrdiff_t part, spans
        double alpha

    ctypedef struct fnn_pool:
        const void *x
        const void *dy
        void *y
        void *dx
        ptrdiff_t batch, height, width, channels, out_height, out_width
        ptrdiff_t[2] kernel, stride, before
        int average, count_padding

    ctypedef struct fnn_embedding:
        const void *x
        const void *weight
        const void *dy
        void *y
        ptrdiff_t codes, features, rows

    cdef enum fnn_activation_kind:
        FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_ELU, FNN_SELU
        FNN_SOFTPLUS, FNN_SILU, FNN_GELU, FNN_MISH, FNN_ACTIVATION_KINDS

    ctypedef struct fnn_activation:
        const void *x
        const void *dy
        void *out
        ptrdiff_t rows, features
        int kind
        double alpha

    ctypedef struct fnn_norm:
        const void *x
        const void *dy
        void *out
        const void *gamma
        const void *beta
        void *mean
        void *inv_std
        void *running_mean
        void *running_variance
        void *dgamma
        void *dbeta
        void *partial
        ptrdiff_t rows, features
        double momentum, eps

    ctypedef struct fnn_loss:
        const void *outputs
        const void *targets
        const void *weights
        const double *weight_sum
        const void *constants
        void *gradient
        void *row_losses
        ptrdiff_t batch, features
        int labels
        double constant

    ctypedef struct fnn_total:
        const void *values
        double *sum
        ptrdiff_t size

    cdef enum fnn_hyper:
        FNN_LEARNING_RATE, FNN_GRADIENT_SCALE, FNN_STEP, FNN_BETA1, FNN_BETA2, FNN_EPS
        FNN_WEIGHT_DECAY, FNN_CORRECTION1, FNN_CORRECTION2, FNN_FAULT, FNN_HYPER_SIZE

    cdef enum fnn_fault:
        FNN_NO_FAULT, FNN_FAULT_UPDATE, FNN_FAULT_VALUE

    ctypedef struct fnn_update:
        void *parameters
        const void *gradients
        void *mean
        void *mean_square
        double *hyper
        ptrdiff_t size, row
        int nesterov

    ctypedef struct fnn_set_hyper:
        double *hyper
        const double *squares
        double *norm
        double max_norm

    ctypedef struct fnn_vector:
        const void *x
        void *y
        ptrdiff_t size, row
        double scale

    ctypedef struct fnn_feed:
        const void *x
        const void *targets
        const void *weights
        void *outputs
        double *losses
        const double *rates
        const int64_t *index
        int64_t row, step

    ctypedef struct fnn_rows:
        fnn_feed *feed
        void **outside
        void *inside
        ptrdiff_t row_bytes

    ctypedef struct fnn_value:
        fnn_feed *feed
        double *value
        const double *squares
        double *hyper
        double scale
        ptrdiff_t rows

    ctypedef struct fnn_dropout:
        const void *x
        void *out
        uint8_t *mask
        uint64_t *counter
        uint64_t seed
        uint32_t layer, threshold
        ptrdiff_t rows, features

    ctypedef struct fnn_kernels:
        fnn_kernel *product
        fnn_kernel *pack
        fnn_kernel *column_sum
        fnn_kernel *conv_pad
        fnn_kernel *conv_pack
        fnn_kernel *conv_turn
        fnn_kernel *conv_forward
        fnn_kernel *conv_backward_weight
        fnn_kernel *conv_backward_input
        fnn_kernel *winograd_pack
        fnn_kernel *winograd_forward
        fnn_kernel *winograd_sums
        fnn_kernel *winograd_weight
        fnn_kernel *depthwise_forward
        fnn_kernel *depthwise_backward_weight
        fnn_kernel *depthwise_backward_input
        fnn_kernel *pool_forward
        fnn_kernel *pool_backward
        fnn_kernel *embedding_forward
        fnn_kernel *embedding_backward
        fnn_kernel *activation_forward
        fnn_kernel *activation_backward
        fnn_kernel *softmax_forward
        fnn_kernel *softmax_backward
        fnn_kernel *add
        fnn_kernel *dropout_forward
        fnn_kernel *dropout_backward
        fnn_kernel *dropout_advance
        fnn_kernel *batchnorm_moments
        fnn_kernel *batchnorm_merge
        fnn_kernel *batchnorm_inv_std
        fnn_kernel *batchnorm_apply
        fnn_kernel *batchnorm_sums
        fnn_kernel *batchnorm_backward
        fnn_kernel *layernorm_forward
        fnn_kernel *layernorm_sums
        fnn_kernel *layernorm_backward
        fnn_kernel *norm_merge
        fnn_kernel *softmax_cross_entropy
        fnn_kernel *sigmoid_cross_entropy
        fnn_kernel *squared_error
        fnn_kernel *absolute_error
        fnn_kernel *quantile
        fnn_kernel *huber
        fnn_kernel *poisson
        fnn_kernel *hinge
        fnn_kernel *total
        fnn_kernel *sgd
        fnn_kernel *momentum
        fnn_kernel *rmsprop
        fnn_kernel *adam
        fnn_kernel *advance_step
        fnn_kernel *sum_squares
        fnn_kernel *set_gradient_scale
        fnn_kernel *add_scaled
        fnn_kernel *copy
        fnn_kernel *sum_zeros
        fnn_kernel *take_rows
        fnn_kernel *give_rows
        fnn_kernel *add_penalty
        fnn_kernel *check_value
        fnn_kernel *take_rate
        fnn_kernel *end_batch

    ctypedef union fnn_arguments:
        fnn_product product
        fnn_column_sum column_sum
        fnn_conv conv
        fnn_pool pool
        fnn_embedding embedding
        fnn_activation activation
        fnn_dropout dropout
        fnn_norm norm
        fnn_loss loss
        fnn_total total
        fnn_update update
        fnn_set_hyper set_hyper
        fnn_vector vector
        fnn_rows rows
        fnn_value value

    int FNN_ACCESSES

    ctypedef struct fnn_access:
        const char *begin
        const char *end
        ptrdiff_t unit, line
        int writes

    ctypedef struct fnn_call:
        fnn_kernel *kernel
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

    int FNN_CHUNK_K, FNN_CHUNK_ROWS, FNN_CHUNK_SUM, FNN_CHUNK_TILES, FNN_PACK_BYTES
    int FNN_SUM_CHANNELS
    int FNN_ISAS
    const char *fnn_isa_name(int isa)
    bint fnn_isa_available(int isa)
    int fnn_isa_best()
    const fnn_kernels *fnn_table(int isa, bint is_double)

cdef extern from "team.h" nogil:
    int FNN_MAX_THREADS
    void fnn_set_threads(int threads)
    int fnn_override_threads(int threads)
    int fnn_threads()
    double fnn_set_wake_work(double operations)
    int fnn_run(const fnn_call *call)
    ptrdiff_t fnn_replay(fnn_program *program, ptrdiff_t steps)
