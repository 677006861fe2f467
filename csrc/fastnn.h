/* Every C kernel of fastnn, one line each: formula, shapes, and = or +=.
 *
 * A kernel is `void kernel(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch)`.
 * It does the part [begin, end) of its work, counted in the units that fnn_call.units states,
 * knows no threads and no Python, allocates nothing and cannot fail: the Cython face has
 * checked every size before.  Any cut of [0, units) into parts gives the same bits.
 *
 * All arrays are C-contiguous, of the kernel's own real type (float or double), unless a
 * comment says otherwise; sizes and strides count elements.  `d` before a name: its gradient.
 */
#ifndef FASTNN_H
#define FASTNN_H

#include <stddef.h>
#include <stdint.h>

/* The library-wide constants of the numerics laws: changing one changes results' bits. */
#define FNN_CHUNK_K 256    /* a matrix product adds in chunks of this many terms */
#define FNN_CHUNK_ROWS 128 /* a reduction over the batch adds in chunks of this many rows */

#define FNN_SCRATCH (1 << 20) /* bytes of scratch a kernel may use, 64-byte aligned */

typedef void fnn_kernel(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch);

/* ---- matrix product (gemm.inc) ---- */

typedef struct {
    const void *a, *b, *bias; /* bias may be NULL */
    void *c, *z;              /* z: where the value before the activation is kept, or NULL */
    ptrdiff_t M, N, K;
    ptrdiff_t a_row, a_column, b_row, b_column, c_row; /* strides; z has c's */
    int by_columns;   /* units are groups of 16 columns of C, else rows of C */
    int activation;   /* fnn_activation_kind */
    double alpha;
} fnn_product;

typedef struct {
    const void *x;
    void *sum;
    ptrdiff_t rows, features;
} fnn_column_sum;

/* ---- activations (activations.inc), elementwise over (rows, features), and softmax ---- */

enum fnn_activation_kind {
    FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_ELU, FNN_SELU,
    FNN_SOFTPLUS, FNN_SILU, FNN_GELU, FNN_MISH,
    FNN_ACTIVATION_KINDS
};

typedef struct {
    const void *x;  /* forward: the input; backward: what was saved (see activations.inc) */
    const void *dy; /* backward only */
    void *out;      /* y, or dx; may be x or dy itself */
    ptrdiff_t rows, features;
    int kind;       /* fnn_activation_kind; not softmax's */
    double alpha;   /* slope of leaky ReLU, scale of ELU */
} fnn_activation;

/* One row per kernel: name in the dispatch table, units it may be cut into. */
#define FNN_KERNELS(K)                                                                       \
    K(product)             /* C(M,N) = f(A(M,K) B(K,N) + bias)             rows or columns */ \
    K(column_sum)          /* sum(features) = Σ_rows x            groups of 16 columns */     \
    K(activation_forward)  /* y = f(x)                                              rows */   \
    K(activation_backward) /* dx = dy f'                                            rows */   \
    K(softmax_forward)     /* y = e^x / Σ_features e^x                              rows */   \
    K(softmax_backward)    /* dx = y (dy - Σ_features dy y)                         rows */

typedef struct {
#define K(name) fnn_kernel *name;
    FNN_KERNELS(K)
#undef K
} fnn_kernels;

/* ---- one call: what a face fills in, the team runs, and a program will record ---- */

typedef union {
    fnn_product product;
    fnn_column_sum column_sum;
    fnn_activation activation;
} fnn_arguments;

typedef struct {
    fnn_kernel *kernel;
    ptrdiff_t units;
    double work; /* about how many floating-point operations: all that the thread policy reads */
    fnn_arguments arguments;
} fnn_call;

/* ---- dispatch.c ---- */

enum fnn_isa { FNN_ISA_PORTABLE, FNN_ISA_NEON, FNN_ISA_AVX2, FNN_ISA_AVX512, FNN_ISAS };

const char *fnn_isa_name(int isa);
int fnn_isa_available(int isa);             /* compiled in, and this machine runs it */
int fnn_isa_best(void);                     /* the highest available */
const fnn_kernels *fnn_table(int isa, int is_double); /* NULL where not compiled in */

#endif
