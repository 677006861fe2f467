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
#define FNN_CHUNK_TILES 128 /* in tiles, a weight's gradient adds in chunks of this many tiles */
#define FNN_SUM_CHANNELS 64 /* of a unit of winograd_sums, by which its spans are counted */
#define FNN_PACK_BYTES 512 /* of a row in a block of a packed matrix */
#define FNN_CHUNK_SUM 4096 /* a sum of squares adds in chunks of this many elements */

#define FNN_SCRATCH (1 << 20) /* bytes of scratch a kernel may use, 64-byte aligned */

typedef void fnn_kernel(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch);

/* ---- matrix product (product.inc) ---- */

typedef struct {
    const void *a, *b, *bias; /* bias may be NULL */
    const void *packed;       /* the whole B as `pack` left it: b is not read; or NULL */
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

/* ---- convolution (conv.inc, winograd.inc, depthwise.inc) of images (batch, height, width,
 * channels) ---- */

/* Pairs are of rows and columns.  Channels and features are cut into `groups` equal groups, and
 * the features of one see the channels of one. */
typedef struct {
    const void *x;      /* (batch, height, width, channels) */
    const void *weight; /* (kernel[0], kernel[1], channels / groups, features) */
    const void *bias;   /* (features), or NULL */
    void *packed;       /* the weight as conv_pack or winograd_pack left it; or winograd_sums's */
    void *y; /* forward: (batch, out_height, out_width, features); backward: dx or dweight */
    void *z; /* forward: the value before the activation is kept, or NULL; backward: dz */
    ptrdiff_t batch, height, width, channels, out_height, out_width, features, groups;
    ptrdiff_t kernel[2], stride[2], dilation[2], before[2], behind[2]; /* padding: 0 */
    int transpose;      /* packed for conv_backward_input, tap by tap, */
    ptrdiff_t part;     /* of which a unit has so many channels of a group */
    ptrdiff_t spans;    /* dweight is summed apart over so many, of tiles or output pixels */
    int activation;     /* fnn_activation_kind */
    double alpha;
} fnn_conv;

/* ---- pooling (pool.inc), pairs as in fnn_conv ---- */

typedef struct {
    const void *x;        /* (batch, height, width, channels) */
    const void *dy;       /* like y */
    void *y, *dx;         /* y (batch, out_height, out_width, channels); dx like x */
    ptrdiff_t batch, height, width, channels, out_height, out_width;
    ptrdiff_t kernel[2], stride[2], before[2];
    int average;          /* else the maximum */
    int count_padding;    /* the average divides by the whole kernel everywhere */
} fnn_pool;

/* ---- embeddings (embedding.inc) ---- */

typedef struct {
    const void *x;      /* (rows): codes, whole numbers in [0, codes), as reals */
    const void *weight; /* (codes, features) */
    const void *dy;     /* (rows, features) */
    void *y;            /* forward: (rows, features); backward: dweight (codes, features) */
    ptrdiff_t codes, features, rows;
} fnn_embedding;

/* ---- activations (activations.inc), over (rows, features), softmax, a sum ---- */

enum fnn_activation_kind {
    FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_ELU, FNN_SELU,
    FNN_SOFTPLUS, FNN_SILU, FNN_GELU, FNN_MISH,
    FNN_ACTIVATION_KINDS
};

typedef struct {
    const void *x;  /* forward: the input; backward: what was saved (see activations.inc) */
    const void *dy; /* backward, and the second of a sum */
    void *out;      /* y, or dx; may be x or dy itself */
    ptrdiff_t rows, features;
    int kind;       /* fnn_activation_kind; not softmax's */
    double alpha;   /* slope of leaky ReLU, scale of ELU */
} fnn_activation;

/* ---- inverted dropout (dropout.inc) ---- */

typedef struct {
    const void *x;       /* forward: the input; backward: dy */
    void *out;           /* y, or dx; may be x */
    uint8_t *mask;       /* ((rows * features + 7) / 8), one bit an element: kept */
    uint64_t *counter;   /* the training step, read when the kernel runs */
    uint64_t seed;
    uint32_t layer, threshold; /* rate = threshold / 65536 */
    ptrdiff_t rows, features;
} fnn_dropout;

/* ---- batch norm and layer norm (norm.inc): x̂ = (x - mean) inv_std, y = gamma x̂ + beta ----
 * mean and inv_std = 1/sqrt(variance + eps), the variance with division by the count, are
 * per feature in batch norm and per row in layer norm.  chunks = ⌈rows / FNN_CHUNK_ROWS⌉. */

typedef struct {
    const void *x, *dy;                    /* (rows, features) */
    void *out;                             /* y, or dx */
    const void *gamma, *beta;              /* (features) */
    void *mean, *inv_std;                  /* (features) or (rows) */
    void *running_mean, *running_variance; /* (features): (1-momentum) running + momentum batch */
    void *dgamma, *dbeta;                  /* (features): Σ dy x̂, Σ dy */
    void *partial;                         /* (chunks, 2, features): two sums of every chunk */
    ptrdiff_t rows, features;
    double momentum, eps;
} fnn_norm;

/* ---- losses (losses.inc): Σ w_i l_i / Σ w_i and its gradient in one pass over the rows ---- */

typedef struct {
    const void *outputs;      /* (batch, features) */
    const void *targets;      /* (batch, features), or int64 labels (batch) */
    const void *weights;      /* (batch), or NULL for ones */
    const double *weight_sum; /* read where there are weights */
    const void *constants;    /* (features): the quantile of each column */
    void *gradient;           /* (batch, features) */
    void *row_losses;         /* (batch): w_i l_i / Σ w_i */
    ptrdiff_t batch, features;
    int labels;      /* softmax cross-entropy: targets are labels */
    double constant; /* label smoothing, Huber's delta, or the hinge's margin */
} fnn_loss;

typedef struct {
    const void *values;
    double *sum;
    ptrdiff_t size;
} fnn_total;

/* ---- optimizers (optimizers.inc), over flat vectors ---- */

/* What `hyper`, a float64 vector, holds; kernels read it when they run. */
enum fnn_hyper {
    FNN_LEARNING_RATE,
    FNN_GRADIENT_SCALE, /* multiplies every gradient: 1, or the clipping factor */
    FNN_STEP,           /* t: steps begun, counted by rules with corrections; else 0 */
    FNN_BETA1,          /* decay of momentum's velocity and Adam's mean */
    FNN_BETA2,          /* decay of RMSprop's and Adam's mean square */
    FNN_EPS,
    FNN_WEIGHT_DECAY, /* decoupled, as in AdamW */
    FNN_CORRECTION1,  /* 1/(1 - beta1^t), or 1 for none */
    FNN_CORRECTION2,  /* 1/(1 - beta2^t), or 1 for none */
    FNN_FAULT,        /* enum fnn_fault */
    FNN_HYPER_SIZE
};

enum fnn_fault {
    FNN_NO_FAULT,
    FNN_FAULT_UPDATE, /* an update would have been infinite or NaN somewhere */
    FNN_FAULT_VALUE   /* the loss is */
};

typedef struct {
    void *parameters;
    const void *gradients;
    void *mean;        /* momentum's velocity, Adam's mean */
    void *mean_square; /* RMSprop and Adam */
    double *hyper;
    ptrdiff_t size, row; /* row: elements of a unit; units = ⌈size / row⌉ */
    int nesterov;
} fnn_update;

typedef struct {
    double *hyper;
    const double *squares; /* clip: the sum of squares of all gradients */
    double *norm;          /* clip: its root */
    double max_norm;
} fnn_set_hyper;

typedef struct {
    const void *x;
    void *y;             /* sum_squares: (chunks), in double */
    ptrdiff_t size, row; /* row: as in fnn_update; of add_scaled only */
    double scale;
} fnn_vector;

/* ---- a program's rows and results (program.inc) ---- */

/* Whose rows a program takes and where its results go; set before a replay. */
typedef struct {
    const void *x, *targets, *weights; /* (n, ...), by rows */
    void *outputs;        /* (n, ...), or NULL: the outputs of one batch after the other */
    double *losses;       /* (steps), or NULL */
    const double *rates;  /* (steps) learning rates, or NULL */
    const int64_t *index; /* which rows to take, or NULL for all in order */
    int64_t row, step;    /* that were done */
} fnn_feed;

typedef struct {
    fnn_feed *feed;
    void *const *outside; /* a member of *feed */
    void *inside;
    ptrdiff_t row_bytes;
} fnn_rows;

typedef struct {
    fnn_feed *feed;
    double *value;         /* the batch's loss */
    const double *squares; /* of a layer's weights, for its penalty */
    double *hyper;
    double scale;
    ptrdiff_t rows; /* of the batch */
} fnn_value;

/* One row per kernel: name in the dispatch table, units it may be cut into.
 * An area is one chunk of FNN_CHUNK_ROWS rows by a group of 16 columns, columns fastest. */
#define FNN_KERNELS(K)                                                                       \
    K(product)             /* C(M,N) = f(A(M,K) B(K,N) + bias)             rows or columns */ \
    K(pack)                /* c = B(K,N), as the product reads it       blocks of B */            \
    K(column_sum)          /* sum(features) = Σ_rows x            groups of 16 columns */     \
    K(conv_pad)            /* y = x with its padding            lines of the padded images */ \
    K(conv_pack)           /* packed = weight, as the others read it           blocks of it */ \
    K(conv_turn)           /* y = weight turned around, as for dx          groups of the taps */ \
    K(conv_forward)        /* y = f(x * weight + bias), x padded         lines of the output */ \
    K(conv_backward_weight) /* y = spans' dweight(kernel * channels, features) = x * dz   rows */ \
    K(conv_backward_input) /* dx = dz * weight, tap by tap  images' parts of the channels */ \
    K(winograd_pack)       /* packed = G weight G^T                   groups of 16 channels */     \
    K(winograd_forward)    /* y = f(x * weight + bias), 3x3     rows of 2x2 tiles of the output */ \
    K(winograd_sums)       /* packed = dweight's sums over spans of tiles          see there */ \
    K(winograd_weight)     /* dweight = G^T packed G                             channels */     \
    K(depthwise_forward)   /* y = f(x * weight + bias), channel by channel             lines */ \
    K(depthwise_backward_weight) /* dweight = x * dz             groups of 16 channels */       \
    K(depthwise_backward_input) /* dx = dz * weight                           lines of dx */    \
    K(pool_forward)        /* y = the maximum or the average of windows    lines of the output */ \
    K(pool_backward)       /* dx = dy where the maximum was, or its shares            images */ \
    K(embedding_forward)   /* y = weight[x]                                       rows of x */ \
    K(embedding_backward)  /* dweight[code] = Σ dy where x is code            rows of dweight */ \
    K(activation_forward)  /* y = f(x)                                              rows */   \
    K(activation_backward) /* dx = dy f'                                            rows */   \
    K(softmax_forward)     /* y = e^x / Σ_features e^x                              rows */   \
    K(softmax_backward)    /* dx = y (dy - Σ_features dy y)                         rows */   \
    K(add)                 /* out = x + dy                                          rows */   \
    K(dropout_forward)     /* y = x mask / (1 - rate), mask =                       rows */   \
    K(dropout_backward)    /* dx = dy mask / (1 - rate)                             rows */   \
    K(dropout_advance)     /* counter += 1                                          one  */   \
    K(batchnorm_moments)   /* partial = mean - x[0], Σ(x - mean)² of each chunk    areas */   \
    K(batchnorm_merge)     /* mean, inv_std =, running_* updated  groups of 16 columns */     \
    K(batchnorm_inv_std)   /* inv_std = 1/sqrt(running_variance + eps)   groups of 16 */      \
    K(batchnorm_apply)     /* y = gamma x̂ + beta, statistics given                 rows */   \
    K(batchnorm_sums)      /* partial = Σ dy, Σ dy x̂ of each chunk                areas */   \
    K(batchnorm_backward)  /* dx = gamma inv_std (dy - dbeta/rows - x̂ dgamma/rows) rows */   \
    K(layernorm_forward)   /* y = gamma x̂ + beta, mean =, inv_std =               rows */    \
    K(layernorm_sums)      /* partial = Σ dy, Σ dy x̂ of each chunk                areas */   \
    K(layernorm_backward)  /* dx = inv_std (g - avg(g) - x̂ avg(g x̂)), g = dy gamma  rows */ \
    K(norm_merge)          /* dbeta, dgamma = sums of partial     groups of 16 columns */     \
    K(softmax_cross_entropy) /* l = -Σ_j t_j log softmax(outputs)_j                rows */    \
    K(sigmoid_cross_entropy) /* l = avg_j softplus(o) - t o                        rows */    \
    K(squared_error)       /* l = avg_j (o - t)²                                   rows */    \
    K(absolute_error)      /* l = avg_j |o - t|                                    rows */    \
    K(quantile)            /* l = avg_j max(q_j (t - o), (q_j - 1) (t - o))        rows */    \
    K(huber)               /* l = avg_j of (o - t)²/2 to delta, then straight      rows */    \
    K(poisson)             /* l = avg_j e^o - t o                                  rows */    \
    K(hinge)               /* l = Σ_{j≠y} max(0, o_j - o_y + margin)               rows */    \
    K(total)               /* sum = Σ values, in double                               1 */    \
    K(sgd)                 /* p -= lr g                         `row` elements */             \
    K(momentum)            /* v = β v + g; p -= lr v, or lr (g + β v)    `row` elements */    \
    K(rmsprop)             /* s = ρ s + (1-ρ) g²; p -= lr g / (sqrt(s)+eps)   `row` */        \
    K(adam)                /* both means; p -= lr m / (sqrt(s) + eps)      `row` elements */  \
    K(advance_step)        /* t += 1, and the corrections                             1 */    \
    K(sum_squares)         /* y[c] = Σ x² of chunk c, in double  chunks of FNN_CHUNK_SUM */   \
    K(set_gradient_scale)  /* norm = sqrt(squares), gradient_scale =                  1 */    \
    K(add_scaled)          /* y += scale x                              `row` elements */     \
    K(copy)                /* y = x                              groups of 16 elements */     \
    K(sum_zeros)           /* y[c] = Σ 0 x of chunk c: 0, or NaN chunks of FNN_CHUNK_SUM */   \
    K(take_rows)           /* inside = outside, the batch's rows                    rows */   \
    K(give_rows)           /* outside = inside                                      rows */   \
    K(add_penalty)         /* value += scale squares                                one  */   \
    K(check_value)         /* a value that is not finite is a fault                 one  */   \
    K(take_rate)           /* hyper's learning rate = rates[step]                   one  */   \
    K(end_batch)           /* losses[step] = value; row += rows; step += 1          one  */

typedef struct {
#define K(name) fnn_kernel *name;
    FNN_KERNELS(K)
#undef K
} fnn_kernels;

/* ---- one call: what a face fills in, the team runs, and a program records ---- */

typedef union {
    fnn_product product;
    fnn_column_sum column_sum;
    fnn_conv conv;
    fnn_pool pool;
    fnn_embedding embedding;
    fnn_activation activation;
    fnn_dropout dropout;
    fnn_norm norm;
    fnn_loss loss;
    fnn_total total;
    fnn_update update;
    fnn_set_hyper set_hyper;
    fnn_vector vector;
    fnn_rows rows;
    fnn_value value;
} fnn_arguments;

/* Memory that a call reads or writes: unit bytes of each line of so many bytes by each of its
 * units, one after the other (line 0: all of it is one), or, with unit 0, any of it by any unit. */
typedef struct {
    const char *begin, *end;
    ptrdiff_t unit, line;
    int writes;
} fnn_access;

#define FNN_ACCESSES 8

typedef struct {
    fnn_kernel *kernel;
    ptrdiff_t units;
    ptrdiff_t size;  /* of the kernel's units that one of these has: 1, or those of an image */
    ptrdiff_t grain; /* the fewest units that it pays to run apart from the others */
    double work; /* about how many floating-point operations: all that the thread policy reads */
    int accesses;
    fnn_access access[FNN_ACCESSES];
    fnn_arguments arguments;
} fnn_call;

/* ---- program.c: calls that were recorded, in an order fit for threads ---- */

/* Calls with the same number of units.  A piece of the units goes through all of them, one after
 * the other: no call needs what another piece of the one before gives. */
typedef struct {
    fnn_call *calls;
    int count;
    ptrdiff_t units, grain;
    ptrdiff_t bytes; /* that its calls write for a unit */
    double work;
} fnn_chain;

/* Calls of one unit and little work, which the caller runs first, and chains that need nothing
 * from one another.  A phase needs what the phases before it give. */
typedef struct {
    fnn_call *alone;
    int alones, chains;
    fnn_chain *chain;
    double work; /* of the chains */
} fnn_phase;

typedef struct {
    fnn_call *calls; /* as recorded; fnn_schedule sorts them */
    fnn_phase *phase;
    fnn_chain *chain;
    int count, capacity, phases;
    double work;
    const double *fault; /* a replay ends where this becomes other than 0; NULL for none */
    int64_t alone_time, together_time; /* nanoseconds of the steps tried either way; see team.c */
    int trial;           /* steps since the last trial began */
} fnn_program;

int fnn_record(fnn_program *program, const fnn_call *call); /* appends; -1: no memory */
int fnn_schedule(fnn_program *program);                     /* -1: no memory */
/* How the last recorded call that writes begin..end touches it; NULL: none does. */
const fnn_access *fnn_written(const fnn_program *program, const char *begin, const char *end);
void fnn_clear(fnn_program *program);                       /* frees everything, sets all to 0 */

/* ---- dispatch.c ---- */

enum fnn_isa { FNN_ISA_PORTABLE, FNN_ISA_NEON, FNN_ISA_AVX2, FNN_ISA_AVX512, FNN_ISAS };

const char *fnn_isa_name(int isa);
int fnn_isa_available(int isa);             /* compiled in, and this machine runs it */
int fnn_isa_best(void);                     /* the highest available */
const fnn_kernels *fnn_table(int isa, int is_double); /* NULL where not compiled in */

#endif
