/* Every C kernel of fastnn, one line each: formula, shapes, and = or +=.
 *
 * A kernel is `void kernel(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch)`.
 * It computes the units begin..end of one operation.  It knows no threads and no Python, allocates
 * nothing and cannot fail: the Cython face has checked every size before.  However the units are
 * cut into pieces, the results have the same bits.
 *
 * All arrays are C-contiguous and of the kernel's real type (float or double), unless a comment
 * says otherwise; sizes and strides count elements.  `d` before a name means its gradient.  A
 * field has one meaning; a kernel reads the fields that its formula names.
 */
#ifndef FASTNN_H
#define FASTNN_H

#include <stddef.h>
#include <stdint.h>

/* The constants of the numerics laws: to change one changes the bits of results. */
#define FNN_CHUNK_K 256     /* terms in a chunk of a matrix product */
#define FNN_CHUNK_ROWS 128  /* rows in a chunk of a sum over the batch */
#define FNN_CHUNK_TILES 128 /* tiles in a chunk of a weight's gradient (winograd.inc) */
#define FNN_CHUNK_SUM 4096  /* elements in a chunk of a sum of squares */
#define FNN_CHUNK_LANES 1024 /* elements in a chunk of a sum in virtual lanes (sums.inc) */
#define FNN_CHUNK_IMAGES 64 /* images in a chunk of a depthwise weight's gradient */
#define FNN_SUM_CHANNELS 64 /* channels in a unit of winograd_sums, from which spans are counted */

#define FNN_PACK_BYTES 512    /* length of a row in a block of a packed matrix */
#define FNN_SCRATCH (1 << 20) /* bytes of scratch that a kernel may use, 64-byte aligned */

typedef void fnn_kernel(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch);

/* ---- vectors of any length (vectors.inc) ---- */

typedef struct {
    const void *x, *addend;
    void *y;
    void *sums;          /* (chunks): of each FNN_CHUNK_SUM elements; sum_squares: in double */
    ptrdiff_t size, row; /* row: elements of a unit; units = ⌈size / row⌉ */
    double scale;
    const double *rate;  /* read when the kernel runs */
} fnn_vector;

typedef struct {
    const void *x;
    void *y;
    ptrdiff_t width, x_row, y_row; /* elements of a row: those to copy, and all of them */
} fnn_columns;

typedef struct {
    const void *values;
    double *sum;
    ptrdiff_t size;
} fnn_total;

typedef struct {
    double *value;
    const double *sum; /* of the squares, or of the absolute values */
    double scale;
} fnn_penalty;

/* ---- activations (activations.inc), over (rows, features) ---- */

enum fnn_activation_kind {
    FNN_LINEAR, FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_ELU, FNN_SELU,
    FNN_SOFTPLUS, FNN_SILU, FNN_GELU, FNN_MISH,
    FNN_ELEMENTWISE_KINDS,
    FNN_SOFTMAX = FNN_ELEMENTWISE_KINDS, /* has kernels of its own, over rows */
    FNN_ACTIVATION_KINDS
};

typedef struct {
    const void *x;     /* forward */
    const void *saved; /* backward: x or y, as activations.inc says; softmax: y */
    const void *dy;
    void *y, *dx;      /* may be x, saved or dy itself */
    const void *weight; /* (features), of parametric_* */
    void *terms;       /* like x: dweight is their sum over the rows; or NULL */
    ptrdiff_t rows, features;
    int kind;          /* fnn_activation_kind, elementwise */
    double alpha;      /* slope of leaky ReLU, scale of ELU */
} fnn_activation;

/* ---- matrix product (product.inc, half.inc, bfloat16.inc) ---- */

enum fnn_half { FNN_NO_HALF, FNN_BFLOAT16, FNN_FLOAT16 };
#define FNN_HALF_COLUMNS 128 /* of B: a strip, whose rows lie one behind the other */
#define FNN_PAIR_LINES 128   /* that pack_bfloat16 packs together */
#define FNN_PAIR_ROWS 8      /* of a tile of bfloat16_product */
#define FNN_PAIR_COLUMNS 32  /* the same; lines are filled up to a multiple of it: */
#define FNN_PAIRED_LINES(n) (((n) + FNN_PAIR_COLUMNS - 1) / FNN_PAIR_COLUMNS * FNN_PAIR_COLUMNS)

typedef struct {
    const void *a, *b, *bias; /* bias may be NULL */
    void *packed;             /* `pack` writes all of B here; `product` then reads it in place of
                               * b, unless it is NULL */
    void *c, *z;              /* z receives the value before the activation, unless it is NULL */
    ptrdiff_t M, N, K;
    ptrdiff_t a_row, a_column, b_row, b_column, c_row; /* strides; z has c's */
    int by_columns;           /* units are groups of 16 columns of C, else rows of C */
    int half;                 /* fnn_half: what `half_product` reads in `packed` */
    int activation;           /* fnn_activation_kind, elementwise */
    double alpha;
} fnn_product;

/* An operand of a product, rounded to bfloat16 and packed.  Lines are A's rows or B's columns, whose
 * terms are summed; of `line` and `term` one is 1. */
typedef struct {
    const void *x;
    uint32_t *pairs;
    ptrdiff_t lines, terms;
    ptrdiff_t line, term;     /* from one line or term of x to the next */
} fnn_pairs;

typedef struct {
    const void *x;
    void *sum;
    ptrdiff_t rows, features;
} fnn_column_sum;

/* ---- convolution (conv.inc, winograd.inc, depthwise.inc) of images (batch, height, width,
 * channels) ---- */

/* Pairs hold a number for rows and one for columns.  Channels and features are cut into `groups`
 * equal groups; the features of a group see the channels of that group. */
typedef struct {
    const void *x;      /* (batch, height, width, channels) */
    const void *weight; /* (kernel[0], kernel[1], channels / groups, features) */
    const void *bias;   /* (features), or NULL */
    const void *dz;     /* like y */
    void *y;            /* (batch, out_height, out_width, features) */
    void *z;            /* like y: the value before the activation; or NULL */
    void *dx, *dweight; /* like x and weight */
    void *padded;       /* x with its padding */
    void *packed;       /* weight, as conv_pack and winograd_pack arrange it for forward kernels */
    void *turned;       /* weight turned around, by which dz is convolved to dx */
    void *sums;         /* dweight of each span; in tiles, what winograd_weight makes it from;
                         * depthwise, of many images: their chunks' sum and its excess (sums.inc) */
    ptrdiff_t batch, height, width, channels, out_height, out_width, features, groups;
    ptrdiff_t kernel[2], stride[2], dilation[2], before[2], behind[2]; /* padding: 0 */
    int transpose;      /* weight is packed for conv_backward_input, tap by tap */
    ptrdiff_t unit_channels; /* of a group, that a unit of conv_backward_input has */
    ptrdiff_t spans;    /* of output pixels or tiles, over which dweight is summed apart */
    int activation;     /* fnn_activation_kind, elementwise */
    double alpha;
} fnn_conv;

/* ---- pooling (pool.inc), pairs as in fnn_conv ---- */

typedef struct {
    const void *x;        /* (batch, height, width, channels) */
    const void *dy;       /* like y */
    void *y, *dx;         /* y (batch, out_height, out_width, channels); dx like x */
    void *excess;         /* like x: that of dx's sums (sums.inc); NULL: none has many terms */
    ptrdiff_t batch, height, width, channels, out_height, out_width;
    ptrdiff_t kernel[2], stride[2], before[2];
    int average;          /* else the maximum */
    int count_padding;    /* the average divides by the whole kernel everywhere */
} fnn_pool;

/* ---- embeddings (embedding.inc) ---- */

typedef struct {
    const void *codes;    /* (rows): whole numbers in [0, count), as reals */
    const void *weight;   /* (count, features) */
    const void *dy;       /* (rows, features) */
    void *y, *dweight;    /* like dy and weight */
    void *sums;           /* (count, 2, features): chunks of a code, and their excess (sums.inc);
                           * NULL: none has more than one */
    ptrdiff_t count, features, rows;
} fnn_embedding;

/* ---- periodic embeddings of numbers (periodic.inc) ---- */

typedef struct {
    const void *x;                       /* (rows, features) */
    const void *frequency, *phase;       /* (features, frequencies) */
    const void *weight;                  /* (features, frequencies, out - 1) */
    const void *bias;                    /* (features, out - 1) */
    const void *dy;                      /* like y */
    void *y;                             /* (rows, features, out) */
    void *dx;                            /* like x; or NULL */
    void *dfrequency, *dphase, *dweight, *dbias; /* like the parameters; or all NULL */
    ptrdiff_t rows, features, frequencies, out;
} fnn_periodic;

/* ---- inverted dropout (dropout.inc) ---- */

typedef struct {
    const void *x, *dy;
    void *y, *dx;        /* may be x or dy itself */
    uint8_t *mask;       /* ((rows * features + 7) / 8): a bit is 1 where the element stays */
    uint64_t *counter;   /* the training step, read when the kernel runs */
    const double *rate;  /* in [0, 1); read when the kernel runs, too */
    uint64_t seed;
    uint32_t layer;
    ptrdiff_t rows, features;
} fnn_dropout;

/* ---- batch norm and layer norm (norm.inc): x̂ = (x - mean) inv_std, y = gamma x̂ + beta ----
 * mean and inv_std = 1/sqrt(variance + eps), the variance with division by the count, are
 * per feature in batch norm and per row in layer norm.  chunks = ⌈rows / FNN_CHUNK_ROWS⌉. */

typedef struct {
    const void *x, *dy;                    /* (rows, features) */
    void *y, *dx;                          /* (rows, features) */
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
    const void *targets;      /* (batch, features) */
    const int64_t *labels;    /* (batch): classes, in place of targets; or NULL */
    const void *weights;      /* (batch), or NULL for ones */
    const double *weight_sum; /* read where there are weights */
    void *gradient;           /* (batch, features) */
    void *row_losses;         /* (batch): w_i l_i / Σ w_i */
    ptrdiff_t batch, features;
    const void *quantiles;    /* (features) */
    const void *extra;        /* (features): p - 1, of sigmoid_cross_entropy; or NULL for zeros */
    double smoothing, delta, margin; /* of softmax_cross_entropy, huber, hinge */
} fnn_loss;

/* ---- optimizers (optimizers.inc), over flat vectors ---- */

/* What `hyper`, a float64 vector, holds; kernels read it when they run. */
enum fnn_hyper {
    FNN_LEARNING_RATE,
    FNN_GRADIENT_SCALE, /* multiplies every gradient: 1, or the clipping factor */
    FNN_STEP,           /* t: steps begun, counted by rules with corrections; else 0 */
    FNN_BETA1,          /* decay of momentum's velocity and Adam's mean */
    FNN_BETA2,          /* decay of RMSprop's and Adam's mean square */
    FNN_EPS,
    FNN_WEIGHT_DECAY,   /* decoupled, as in AdamW */
    FNN_CORRECTION1,    /* 1/(1 - beta1^t), or 1 for none */
    FNN_CORRECTION2,    /* 1/(1 - beta2^t), or 1 for none */
    FNN_MEAN_RATE,      /* (1 - beta1)/(1 - beta1^t): how far a corrected mean moves */
    FNN_FAULT,          /* enum fnn_fault */
    FNN_HYPER_SIZE
};

enum fnn_fault {
    FNN_NO_FAULT,
    FNN_FAULT_UPDATE, /* an update would have been infinite or NaN somewhere */
    FNN_FAULT_VALUE   /* the loss is infinite or NaN */
};

typedef struct {
    void *parameters;
    const void *gradients;
    void *mean;        /* decaying: Adam's mean of the gradients, or momentum's sum, its velocity */
    void *mean_square; /* decaying, of RMSprop and Adam */
    double *hyper;
    double rate_factor, decay_factor; /* of these elements' learning rate and weight decay */
    ptrdiff_t size, row; /* as in fnn_vector */
    int nesterov;
} fnn_update;

typedef struct {
    double *hyper;
    const double *squares; /* the sum of squares of all gradients, for clipping */
    double *norm;          /* its root */
    double max_norm;
} fnn_set_hyper;

/* ---- a program's rows and results (program.inc) ---- */

/* Where a program takes its rows from and where its results go; set before a replay. */
typedef struct {
    const void *x, *targets, *weights; /* (n, ...), by rows */
    void *outputs;        /* (n, ...): the outputs of one batch after the other; or NULL */
    double *losses;       /* (steps), or NULL */
    const double *rates;  /* (steps, columns): what changes by the step, NaN: not; or NULL */
    ptrdiff_t columns;
    const int64_t *index; /* which rows to take; NULL: all, in order */
    int64_t row, step;    /* how many rows and steps are done */
} fnn_feed;

typedef struct {
    fnn_feed *feed;
    void *const *outside; /* a member of *feed */
    void *inside;         /* (rows of the batch, ...) */
    ptrdiff_t row_bytes;
} fnn_rows;

typedef struct {
    fnn_feed *feed;
    double *value;    /* the batch's loss */
    double *hyper;
    double *number;   /* which the feed's rates of that column change */
    ptrdiff_t column;
    ptrdiff_t rows;   /* of the batch */
} fnn_batch;

/* One row per kernel: its name in the dispatch table, its formula, and what its units are.
 * An area is one chunk of FNN_CHUNK_ROWS rows by a group of 16 columns, columns fastest. */
#define FNN_KERNELS(K)                                                                         \
    K(copy)                /* y = x                               groups of 16 elements */     \
    K(copy_columns)        /* y = x, `width` columns of wider rows                 rows */     \
    K(add)                 /* y = x + addend                             `row` elements */     \
    K(add_scaled)          /* y += scale x                               `row` elements */     \
    K(lerp)                /* y += rate (x - y)                          `row` elements */     \
    K(total)               /* sum = Σ values, in double                             one */     \
    K(sum_squares)         /* sums[c] = Σ x² of chunk c, in double               chunks */     \
    K(sum_zeros)           /* sums[c] = Σ 0 x of chunk c: 0, or NaN              chunks */     \
    K(sum_abs)             /* sums[c] = Σ |x| of chunk c                         chunks */     \
    K(add_sign)            /* y += scale sign(x)                         `row` elements */     \
    K(add_penalty)         /* value += scale sum                                    one */     \
    K(activation_forward)  /* y = f(x)                                             rows */     \
    K(activation_backward) /* dx = dy f'                                           rows */     \
    K(parametric_forward)  /* y = x + weight (f(x) - x); linear: y = weight x      rows */     \
    K(parametric_backward) /* dx = dy + weight (dy f' - dy), terms = dy (f(x) - x) rows */     \
    K(softmax_forward)     /* y = e^x / Σ_features e^x                             rows */     \
    K(softmax_backward)    /* dx = y (dy - Σ_features dy y)                        rows */     \
    K(product)             /* C(M,N) = f(A(M,K) B(K,N) + bias)          rows or columns */     \
    K(pack)                /* packed = B(K,N), as the product reads it      blocks of B */     \
    K(half_product)        /* the same, packed 16-bit B     groups of FNN_HALF_COLUMNS */     \
    K(round_bfloat16)      /* y = x rounded to bfloat16           groups of 16 elements */     \
    K(pack_bfloat16)       /* pairs = x rounded to bfloat16  chunks by FNN_PAIR_LINES lines */ \
    K(bfloat16_product)    /* C = f(A B + bias), A, B of pairs  FNN_PAIR_ROWS rows or _COLUMNS */ \
    K(column_sum)          /* sum(features) = Σ_rows x             groups of 16 columns */     \
    K(conv_pad)            /* padded = x with its padding               lines of padded */     \
    K(conv_pack)           /* packed = weight, as conv_* read it       blocks of packed */     \
    K(conv_turn)           /* turned = weight turned around          a tap of one group */     \
    K(conv_forward)        /* y = f(x * weight + bias), no padding           lines of y */     \
    K(conv_backward_weight) /* sums = each span's dweight = x * dz         rows of sums */     \
    K(conv_backward_input) /* dx = dz * weight, tap by tap   an image's `unit_channels` */     \
    K(winograd_pack)       /* packed = G weight Gᵀ                groups of 16 channels */     \
    K(winograd_forward)    /* y = f(x * weight + bias), 3x3     lines of 2x2 tiles of y */     \
    K(winograd_sums)       /* sums = products over spans of tiles  see the kernel there */     \
    K(winograd_weight)     /* dweight = Gᵀ sums G                              channels */     \
    K(depthwise_forward)   /* y = f(x * weight + bias), a channel each       lines of y */     \
    K(depthwise_backward_weight) /* dweight = x * dz              groups of 16 channels */     \
    K(depthwise_backward_input) /* dx = dz * weight                         lines of dx */     \
    K(pool_forward)        /* y = the maximum or the average of windows      lines of y */     \
    K(pool_backward)       /* dx = dy at the maximum, or dy / count              images */     \
    K(embedding_forward)   /* y = weight[codes]                               rows of y */     \
    K(embedding_backward)  /* dweight[code] = Σ dy of that code         rows of dweight */     \
    K(periodic_forward)    /* y_j = [x_j, cos(2π (x_j frequency_j + phase_j)) weight_j + bias_j] rows */ \
    K(periodic_backward)   /* dx, dfrequency, dphase, dweight, dbias =          features */     \
    K(dropout_forward)     /* y = x mask / (1 - rate), mask =                      rows */     \
    K(dropout_backward)    /* dx = dy mask / (1 - rate)                            rows */     \
    K(dropout_advance)     /* counter += 1                                          one */     \
    K(batchnorm_moments)   /* partial = mean - x[0], Σ(x - mean)² of each chunk   areas */     \
    K(batchnorm_merge)     /* mean, inv_std =, running_* moved     groups of 16 columns */     \
    K(batchnorm_inv_std)   /* inv_std = 1/sqrt(running_variance + eps)  the same groups */     \
    K(batchnorm_apply)     /* y = gamma x̂ + beta, from mean and inv_std            rows */     \
    K(batchnorm_sums)      /* partial = Σ dy, Σ dy x̂ of each chunk                areas */     \
    K(batchnorm_backward)  /* dx = gamma inv_std (dy - dbeta/rows - x̂ dgamma/rows) rows */     \
    K(layernorm_forward)   /* y = gamma x̂ + beta, mean =, inv_std =                rows */     \
    K(layernorm_sums)      /* partial = Σ dy, Σ dy x̂ of each chunk                areas */     \
    K(layernorm_backward)  /* dx = inv_std (g - avg(g) - x̂ avg(g x̂)), g = dy gamma rows */     \
    K(norm_merge)          /* dbeta, dgamma = sums of partial      groups of 16 columns */     \
    K(softmax_cross_entropy) /* l = -Σ_j t_j log softmax(outputs)_j                rows */     \
    K(sigmoid_cross_entropy) /* l = avg_j (1 - t) softplus(o) + p_j t softplus(-o)  rows */     \
    K(squared_error)       /* l = avg_j (o - t)²                                   rows */     \
    K(absolute_error)      /* l = avg_j |o - t|                                    rows */     \
    K(quantile)            /* l = avg_j max(q_j (t - o), (q_j - 1) (t - o))        rows */     \
    K(huber)               /* l = avg_j of (o - t)²/2 up to delta, then straight   rows */     \
    K(poisson)             /* l = avg_j e^o - t o                                  rows */     \
    K(hinge)               /* l = Σ_{j≠y} max(0, o_j - o_y + margin), y the label  rows */     \
    K(sgd)                 /* p -= lr g                                  `row` elements */     \
    K(momentum)            /* v = β v + g; p -= lr v, or lr (g + β v)    `row` elements */     \
    K(rmsprop)             /* s = ρ s + (1-ρ) g²; p -= lr g / (sqrt(s)+eps)  `row` elements */ \
    K(adam)                /* both means; p -= lr m / (sqrt(s) + eps)    `row` elements */     \
    K(advance_step)        /* t += 1, and the corrections                           one */     \
    K(clip_value)          /* y = min(max(y, -scale), scale)             `row` elements */     \
    K(set_gradient_scale)  /* norm = sqrt(squares), gradient_scale =                one */     \
    K(take_rows)           /* inside = outside, the batch's rows                   rows */     \
    K(give_rows)           /* outside = inside                                     rows */     \
    K(check_value)         /* a value that is not finite is a fault                 one */     \
    K(take_rate)           /* number = rates[step, column], unless NaN              one */     \
    K(end_batch)           /* losses[step] = value; row += rows; step += 1          one */

typedef struct {
#define K(name) fnn_kernel *name;
    FNN_KERNELS(K)
#undef K
} fnn_kernels;

/* ---- one call: what a face fills in, the team runs, and a program records ---- */

typedef union {
    fnn_vector vector;
    fnn_columns columns;
    fnn_total total;
    fnn_penalty penalty;
    fnn_activation activation;
    fnn_product product;
    fnn_pairs pairs;
    fnn_column_sum column_sum;
    fnn_conv conv;
    fnn_pool pool;
    fnn_embedding embedding;
    fnn_periodic periodic;
    fnn_dropout dropout;
    fnn_norm norm;
    fnn_loss loss;
    fnn_update update;
    fnn_set_hyper set_hyper;
    fnn_rows rows;
    fnn_batch batch;
} fnn_arguments;

/* Memory begin..end that a call reads or writes.  It consists of lines of `line` bytes (0: it is
 * one line); unit i touches the bytes i * unit .. (i + 1) * unit of every line.  If `unit` is 0,
 * any unit may touch any of it. */
typedef struct {
    const char *begin, *end;
    ptrdiff_t unit, line;
    int writes;
} fnn_access;

#define FNN_ACCESSES 10

typedef struct {
    fnn_kernel *kernel;
    ptrdiff_t units;
    ptrdiff_t size;  /* how many of the kernel's units make one of these: 1, or those of an image */
    ptrdiff_t grain; /* the fewest units that pay as a piece of their own */
    double work;     /* about how many floating-point operations; the thread policy reads it */
    int accesses;
    fnn_access access[FNN_ACCESSES];
    fnn_arguments arguments;
} fnn_call;

/* ---- program.c: calls that were recorded, in an order fit for threads ---- */

/* Calls with the same number of units.  A thread runs one piece of the units through all of them,
 * one call after the other: no call needs what another piece of the call before gives. */
typedef struct {
    fnn_call *calls;
    int count;
    ptrdiff_t units, grain;
    ptrdiff_t bytes; /* that its calls write for a unit */
    double work;
} fnn_chain;

/* Chains that need nothing from one another, and before them calls of one unit and little work,
 * which the caller runs alone.  A phase needs what the phases before it give. */
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
    const double *fault; /* a replay ends where this is not 0 any more; NULL for none */
    int64_t alone_time, together_time; /* nanoseconds of the steps tried either way; see team.c */
    int trial;           /* steps since the last trial began */
} fnn_program;

int fnn_record(fnn_program *program, const fnn_call *call); /* appends; -1: no memory */
int fnn_schedule(fnn_program *program);                     /* -1: no memory */
/* How the last recorded call that writes begin..end touches it; NULL: none writes it. */
const fnn_access *fnn_written(const fnn_program *program, const char *begin, const char *end);
void fnn_clear(fnn_program *program);                       /* frees everything, sets all to 0 */

/* ---- dispatch.c ---- */

enum fnn_isa { FNN_ISA_PORTABLE, FNN_ISA_NEON, FNN_ISA_AVX2, FNN_ISA_AVX512, FNN_ISAS };

const char *fnn_isa_name(int isa);
int fnn_isa_available(int isa);             /* compiled in, and this machine runs it */
int fnn_isa_best(void);                     /* the highest available */
const fnn_kernels *fnn_table(int isa, int is_double); /* NULL where not compiled in */
int fnn_has_bfloat16(void);                 /* this machine runs bfloat16_product, with AVX-512 */

#endif
