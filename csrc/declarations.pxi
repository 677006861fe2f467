# What the faces see of fastnn.h and team.h.
cdef extern from "fastnn.h" nogil:
    ctypedef void fnn_kernel(const void *, ptrdiff_t, ptrdiff_t, void *)

    ctypedef struct fnn_product:
        const void *a
        const void *b
        const void *bias
        void *c
        void *z
        ptrdiff_t M, N, K, a_row, a_column, b_row, b_column, c_row
        int by_columns, activation
        double alpha

    ctypedef struct fnn_column_sum:
        const void *x
        void *sum
        ptrdiff_t rows, features

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

    ctypedef struct fnn_kernels:
        fnn_kernel *product
        fnn_kernel *column_sum
        fnn_kernel *activation_forward
        fnn_kernel *activation_backward
        fnn_kernel *softmax_forward
        fnn_kernel *softmax_backward

    ctypedef union fnn_arguments:
        fnn_product product
        fnn_column_sum column_sum
        fnn_activation activation

    ctypedef struct fnn_call:
        fnn_kernel *kernel
        ptrdiff_t units
        double work
        fnn_arguments arguments

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
    int fnn_openmp()
    int fnn_reserve()
    void fnn_run(const fnn_call *call)
