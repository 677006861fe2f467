/* Prints a checksum of what each kernel computes from the same numbers, on the instruction set
 * named by the first argument; test_bits.py compares them, NEON's under emulation too.  With a
 * second argument, 1 to 4, each kernel runs in three pieces, cut differently for each number, the
 * last one first and the scratch full of NaN: the same checksums are expected. */
#include "fastnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <malloc.h>
#define aligned_alloc(alignment, size) _aligned_malloc(size, alignment)
#endif

#define SIZE 320000 /* elements of each array */
#define ROWS 300
#define FEATURES 37

static void *make(int is_double, uint64_t state) { /* numbers in [-2, 2): xorshift */
    void *array = aligned_alloc(64, SIZE * sizeof(double));
    for (ptrdiff_t i = 0; i < SIZE; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        double value = (double)(state >> 11) / 9007199254740992.0 * 4 - 2;
        if (is_double)
            ((double *)array)[i] = value;
        else
            ((float *)array)[i] = (float)value;
    }
    return array;
}

static void report(const char *name, int variant, int is_double, const void *array, ptrdiff_t n) {
    uint64_t sum = 1469598103934665603u; /* FNV-1a */
    const unsigned char *bytes = array;
    for (ptrdiff_t i = 0; i < n * (is_double ? 8 : 4); i++) sum = (sum ^ bytes[i]) * 1099511628211u;
    printf("%s %d float%d %016llx\n", name, variant, is_double ? 64 : 32, (unsigned long long)sum);
}

#define KERNELS (sizeof(fnn_kernels) / sizeof(fnn_kernel *))
static int cut;
#define NAME(name) #name,
static const char *const names[] = {FNN_KERNELS(NAME)};
#undef NAME
static char ran[KERNELS];

static void run(const fnn_kernels *table, fnn_kernel *const *kernel, const void *arguments,
                ptrdiff_t units, void *scratch) {
    const ptrdiff_t first = cut ? cut * units / 5 + (units > 5) : units;
    const ptrdiff_t second = first + (units - first + 1) / 3;
    const ptrdiff_t bounds[] = {0, first, second, units};
    for (int part = 2; part >= 0; part--) {
        memset(scratch, 0xff, FNN_SCRATCH);
        if (bounds[part] < bounds[part + 1])
            (*kernel)(arguments, bounds[part], bounds[part + 1], scratch);
    }
    ran[kernel - (fnn_kernel *const *)table] = 1;
}
#define RUN(name, arguments, units) run(kernel, &kernel->name, arguments, units, scratch)

/* Convolution in tiles: images of 7x8, from 260 channels to 29 features and from 37 to 262. */
static void run_winograd(const fnn_kernels *kernel, int d, void *const *array, void *scratch) {
    const void *a = array[0], *b = array[1];
    void *out = array[2], *z = array[3], *packed = array[4];
    for (int variant = 0; variant < 4; variant++) {
        const ptrdiff_t channels = variant % 2 ? 37 : 260;
        const ptrdiff_t features = variant % 2 ? 262 : 29;
        fnn_conv p = {.x = a, .weight = b, .bias = b, .dz = b, .packed = packed, .sums = packed,
                      .y = out, .z = z, .dweight = out, .batch = 9, .height = 7, .width = 8, .channels = channels,
                      .features = features, .before = {variant, 1}, .out_height = 5 + 2 * variant,
                      .out_width = 7, .spans = variant % 2 + 1, .activation = FNN_TANH};
        const ptrdiff_t pixels = 9 * p.out_height * 7;
        const ptrdiff_t groups = (channels + FNN_SUM_CHANNELS - 1) / FNN_SUM_CHANNELS;
        RUN(winograd_pack, &p, (channels + 15) / 16);
        RUN(winograd_forward, &p, 9 * ((p.out_height + 1) / 2));
        report("winograd_forward", variant, d, out, pixels * features);
        report("winograd_forward's z", variant, d, z, pixels * features);
        RUN(winograd_sums, &p, 4 * groups * p.spans);
        report("winograd_sums", variant, d, packed, channels * features);
        RUN(winograd_weight, &p, channels);
        report("winograd_weight", variant, d, out, 9 * channels * features);
    }
}

/* Convolution of images of 11x9 from 48 channels to 40 features, in one group and in two, padded
 * and strided; and pooling. */
static void run_convolution(const fnn_kernels *kernel, int d, void *const *array, void *scratch) {
    const void *a = array[0], *b = array[1];
    void *out = array[2], *z = array[3], *packed = array[4];
    for (int variant = 0; variant < 4; variant++) {
        const ptrdiff_t groups = variant % 2 + 1, stride = variant / 2 + 1;
        fnn_conv p = {.x = a, .weight = b, .bias = b, .dz = z, .packed = packed, .y = out, .z = z,
                      .dx = out, .dweight = out, .padded = array[5], .turned = out, .sums = out,
                      .batch = 5, .height = 11, .width = 9, .channels = 48, .features = 40,
                      .groups = groups, .kernel = {3, 4}, .stride = {1, stride},
                      .dilation = {1, groups}, .before = {1, 2}, .behind = {1, 2},
                      .activation = FNN_TANH};
        p.out_height = (p.height + 2 - 3) + 1;
        p.out_width = (p.width + 4 - 3 * groups - 1) / stride + 1;
        const ptrdiff_t item = d ? 8 : 4, places = p.batch * p.out_height * p.out_width;
        const ptrdiff_t K = 12 * 48 / groups, N = 40 / groups;
        fnn_conv padded = p;
        RUN(conv_pad, &padded, p.batch * (p.height + 2));
        report("conv_pad", variant, d, array[5], p.batch * (p.height + 2) * (p.width + 4) * 48);
        padded = p, padded.x = array[5], padded.height += 2, padded.width += 4;
        RUN(conv_pack, &p,
            groups * ((K + FNN_CHUNK_K - 1) / FNN_CHUNK_K) * ((N * item + 511) / 512));
        RUN(conv_turn, &p, 12 * groups);
        report("conv_turn", variant, d, out, K * 40);
        RUN(conv_forward, &padded, p.batch * p.out_height);
        report("conv_forward", variant, d, out, places * 40);
        padded.spans = places > FNN_CHUNK_K ? 2 : 1;
        RUN(conv_backward_weight, &padded, padded.spans * K);
        report("conv_backward_weight", variant, d, out, padded.spans * K * 40);
        p.transpose = 1;
        RUN(conv_pack, &p, groups * 12 * ((48 / groups * item + 511) / 512));
        p.unit_channels = variant / 2 ? 16 : 48 / groups;
        RUN(conv_backward_input, &p, p.batch * ((48 / groups + p.unit_channels - 1) / p.unit_channels));
        report("conv_backward_input", variant, d, out, 5 * 11 * 9 * 48);
        p.features = p.groups = 48;
        RUN(depthwise_forward, &p, p.batch * p.out_height);
        report("depthwise_forward", variant, d, out, places * 48);
        RUN(depthwise_backward_weight, &p, 3);
        report("depthwise_backward_weight", variant, d, out, 12 * 48);
        RUN(depthwise_backward_input, &p, p.batch * p.height);
        report("depthwise_backward_input", variant, d, out, 5 * 11 * 9 * 48);
    }
    for (int variant = 0; variant < 4; variant++) {
        fnn_pool p = {.x = a, .dy = b, .y = z, .dx = out, .batch = 5, .height = 11, .width = 9,
                      .channels = 37, .out_height = 6, .kernel = {3, 2}, .stride = {2, 1},
                      .before = {1, 0}, .average = variant % 2, .count_padding = variant / 2};
        p.stride[1] += variant / 2, p.out_width = (p.width - 2) / p.stride[1] + 1;
        RUN(pool_forward, &p, p.batch * p.out_height);
        report("pool_forward", variant, d, z, p.batch * p.out_height * p.out_width * 37);
        RUN(pool_backward, &p, p.batch);
        report("pool_backward", variant, d, out, 5 * 11 * 9 * 37);
    }
}

/* Periodic embeddings of fewer and of more rows than a chunk has. */
static void run_periodic(const fnn_kernels *kernel, int d, void *const *array, void *scratch) {
    static const ptrdiff_t rows[] = {37, 1500};
    char *const gradients = array[4];
    for (int variant = 0; variant < 2; variant++) {
        fnn_periodic p = {.x = array[0], .frequency = array[1], .phase = array[0],
                          .weight = array[1], .bias = array[1], .dy = array[1], .y = array[2],
                          .dx = array[2], .dfrequency = gradients, .dphase = gradients + 8000,
                          .dweight = gradients + 16000, .dbias = gradients + 24000,
                          .rows = rows[variant], .features = 7, .frequencies = 5, .out = 4};
        RUN(periodic_forward, &p, p.rows);
        report("periodic_forward", variant, d, p.y, p.rows * 28);
        RUN(periodic_backward, &p, 7);
        report("periodic_backward", variant, d, p.dx, p.rows * 7);
        static const ptrdiff_t sizes[] = {35, 35, 105, 21};
        for (int i = 0; i < 4; i++)
            report("periodic_backward's sums", 4 * variant + i, d, gradients + 8000 * i, sizes[i]);
    }
}

/* Sums of more terms than a chunk has. */
static void run_long_sums(const fnn_kernels *kernel, int d, void *const *array, void *scratch) {
    const void *a = array[0], *b = array[1];
    void *out = array[2], *z = array[3], *sums = array[4], *row_values = array[5];
    static const ptrdiff_t features[] = {1025, 2500};
    for (int variant = 0; variant < 2; variant++) {
        const ptrdiff_t n = features[variant];
        fnn_activation softmax = {.x = a, .saved = a, .dy = b, .y = out, .dx = out, .rows = 9,
                                  .features = n};
        RUN(softmax_forward, &softmax, 9);
        report("softmax_forward of long rows", variant, d, out, 9 * n);
        RUN(softmax_backward, &softmax, 9);
        report("softmax_backward of long rows", variant, d, out, 9 * n);
        fnn_norm norm = {.x = a, .dy = b, .y = out, .dx = out, .gamma = b, .beta = a, .rows = 9,
                         .mean = z, .inv_std = row_values, .features = n, .eps = 1e-5};
        RUN(layernorm_forward, &norm, 9);
        report("layernorm_forward of long rows", variant, d, out, 9 * n);
        RUN(layernorm_backward, &norm, 9);
        report("layernorm_backward of long rows", variant, d, out, 9 * n);
        double weight_sum = 3.5, sum;
        int64_t labels[9] = {3, 5, n - 1, 1023, 1024, 0, 7, 9, 2};
        fnn_kernel *const *losses[] = {&kernel->softmax_cross_entropy,
                                       &kernel->sigmoid_cross_entropy, &kernel->squared_error,
                                       &kernel->absolute_error, &kernel->huber, &kernel->quantile,
                                       &kernel->poisson, &kernel->sigmoid_cross_entropy,
                                       &kernel->softmax_cross_entropy, &kernel->hinge};
        for (int i = 0; i < 10; i++) {
            fnn_loss loss = {.outputs = a, .targets = b, .weights = b, .weight_sum = &weight_sum,
                             .gradient = out, .row_losses = row_values, .batch = 9, .features = n,
                             .smoothing = 0.3, .delta = 0.3, .margin = 0.3, .quantiles = b,
                             .extra = i == 7 ? b : NULL, .labels = i < 8 ? NULL : labels};
            run(kernel, losses[i], &loss, 9, scratch);
            report("gradient of long rows", 10 * variant + i, d, out, 9 * n);
            report("loss of long rows", 10 * variant + i, d, row_values, 9);
        }
        fnn_total total = {.values = a, .sum = &sum, .size = n};
        RUN(total, &total, 1);
        report(d ? "long total of float64" : "long total of float32", variant, 1, &sum, 1);
        fnn_column_sum columns = {.x = a, .sum = out, .rows = n, .features = 37};
        RUN(column_sum, &columns, 3);
        report("column_sum of many rows", variant, d, out, 37);
        for (ptrdiff_t i = 0; i < n; i++)
            d ? (((double *)z)[i] = i * i % 3) : (((float *)z)[i] = (float)(i * i % 3));
        fnn_embedding embedding = {.codes = z, .dy = b, .dweight = out, .sums = sums, .count = 5,
                                   .features = 37, .rows = n};
        RUN(embedding_backward, &embedding, 5);
        report("embedding_backward of many rows", variant, d, out, 5 * 37);
    }
    for (int variant = 0; variant < 4; variant++) {
        fnn_pool p = {.x = a, .dy = b, .y = z, .dx = out, .batch = 3, .height = 30, .width = 50,
                      .channels = 37, .out_height = 6, .kernel = {25, 23}, .stride = {1, 1},
                      .average = variant % 2, .excess = sums};
        p.stride[1] += variant / 2, p.out_width = 27 / p.stride[1] + 1;
        RUN(pool_forward, &p, p.batch * p.out_height);
        report("pool_forward of large windows", variant, d, z, 3 * 6 * p.out_width * 37);
        RUN(pool_backward, &p, p.batch);
        report("pool_backward of large windows", variant, d, out, 3 * 30 * 50 * 37);
    }
    static const ptrdiff_t images[][3] = {{130, 5, 8}, {2, 41, 30}, {2, 3, 700}, {65, 17, 16}};
    for (int variant = 0; variant < 8; variant++) {
        const ptrdiff_t *image = images[variant / 2], stride = variant % 2 ? 3 : 1;
        fnn_conv p = {.x = a, .dz = b, .dweight = out, .sums = image[0] > 64 ? sums : NULL,
                      .batch = image[0], .height = image[1], .width = image[2],
                      .channels = 17, .features = 17, .groups = 17, .kernel = {3, 4},
                      .stride = {1, stride}, .dilation = {1, 1}, .before = {1, 2},
                      .out_height = image[1], .out_width = (image[2] - 1) / stride + 1};
        RUN(depthwise_backward_weight, &p, 2);
        report("depthwise_backward_weight of many pixels", variant, d, out, 12 * 17);
    }
}

/* A product of bfloat16: of rounded operands, and where there is the instruction, of packed ones. */
static void run_bfloat16(const fnn_kernels *kernel, const ptrdiff_t shape[3], int variant,
                         void *const *array, void *scratch) {
    const int form = variant % 3, packs = kernel == fnn_table(FNN_ISA_AVX512, 0) && fnn_has_bfloat16();
    const ptrdiff_t M = shape[0], N = shape[1], K = shape[2];
    float *rounded = array[4];
    uint32_t *pairs = array[4];
    fnn_product p = {.bias = array[1], .c = array[2], .z = array[3], .M = M, .N = N, .K = K,
                     .c_row = N, .activation = FNN_GELU, .by_columns = variant % 2};
    p.a_row = form == 1 ? 1 : K, p.a_column = form == 1 ? M : 1;
    p.b_row = form == 2 ? 1 : N, p.b_column = form == 2 ? K : 1;
    fnn_vector x = {.x = array[0], .y = rounded, .size = M * K};
    fnn_vector y = {.x = array[1], .y = rounded + SIZE, .size = K * N};
    RUN(round_bfloat16, &x, (M * K + 15) / 16);
    RUN(round_bfloat16, &y, (K * N + 15) / 16);
    p.a = x.y, p.b = y.y;
    RUN(product, &p, p.by_columns ? (N + 15) / 16 : M);
    report("product of bfloat16", variant, 0, p.c, M * N);
    if (packs) memset(p.c, 0, (size_t)(M * N) * sizeof(float));
    fnn_pairs a = {array[0], pairs, M, K, p.a_row, p.a_column};
    fnn_pairs b = {array[1], pairs + SIZE, N, K, p.b_column, p.b_row};
    const ptrdiff_t chunks = packs * ((K + FNN_CHUNK_K - 1) / FNN_CHUNK_K);
    RUN(pack_bfloat16, &a, chunks * ((M + FNN_PAIR_LINES - 1) / FNN_PAIR_LINES));
    RUN(pack_bfloat16, &b, chunks * ((N + FNN_PAIR_LINES - 1) / FNN_PAIR_LINES));
    p.a = a.pairs, p.b = b.pairs;
    RUN(bfloat16_product, &p, packs * (p.by_columns ? (N + FNN_PAIR_COLUMNS - 1) / FNN_PAIR_COLUMNS
                                                    : (M + FNN_PAIR_ROWS - 1) / FNN_PAIR_ROWS));
    report("bfloat16_product", variant, 0, p.c, M * N);
    report("bfloat16_product's z", variant, 0, p.z, M * N);
}

static void run_all(const fnn_kernels *kernel, int d) {
    void *a = make(d, 88172645463325252u), *b = make(d, 362436069362436069u);
    void *out = make(d, 1), *z = make(d, 2), *packed = make(d, 3);
    void *scratch = aligned_alloc(64, FNN_SCRATCH);
    char *many = make(d, 521288629521288629u); /* vectors of 1000 elements: at(i) */
#define at(i) (many + (i)*8000)
    const ptrdiff_t n = ROWS * FEATURES, groups = (FEATURES + 15) / 16;
    const ptrdiff_t areas = (ROWS + FNN_CHUNK_ROWS - 1) / FNN_CHUNK_ROWS * groups;

    static const ptrdiff_t shapes[][3] = {{1, 1, 1}, {3, 7, 5}, {13, 31, 300}, {29, 65, 257},
                                          {100, 130, 513}, {2, 300, 64}};
    for (int shape = 0; shape < 6; shape++)
        for (int form = 0; form < 3; form++) {
            const ptrdiff_t M = shapes[shape][0], N = shapes[shape][1], K = shapes[shape][2];
            fnn_product p = {.a = a, .b = b, .bias = b, .c = out, .M = M, .N = N, .K = K,
                             .c_row = N};
            p.a_row = form == 1 ? 1 : K, p.a_column = form == 1 ? M : 1;
            p.b_row = form == 2 ? 1 : N, p.b_column = form == 2 ? K : 1;
            for (int by_columns = 0; by_columns < 2; by_columns++) {
                p.by_columns = by_columns, p.activation = by_columns ? FNN_GELU : FNN_LINEAR;
                p.z = by_columns ? z : NULL;
                RUN(product, &p, by_columns ? (N + 15) / 16 : M);
                report("product", 6 * shape + 2 * form + by_columns, d, out, M * N);
            }
            report("product's z", 3 * shape + form, d, z, M * N);
            if (form == 1) continue;
            const ptrdiff_t chunks = (K + FNN_CHUNK_K - 1) / FNN_CHUNK_K;
            fnn_product packing = {.b = b, .packed = packed, .N = N, .K = K, .b_row = p.b_row,
                                   .b_column = p.b_column};
            RUN(pack, &packing, chunks * ((N * (d ? 8 : 4) + 511) / 512));
            p.packed = packed, p.by_columns = 0;
            RUN(product, &p, M);
            report("packed product", 3 * shape + form, d, out, M * N);
        }
    uint16_t *halves = packed; /* in both kinds numbers of moderate size */
    for (int i = 0; i < 2 * SIZE; i++) halves[i] = (uint16_t)(i % 2 << 15 | (0x3a00 + i % 900));
    for (int variant = 0; variant < 8 && !d; variant++) {
        fnn_product p = {.a = a, .bias = b, .packed = halves, .c = out, .z = z, .M = variant / 2 + 1,
                         .N = 313, .K = 300, .a_row = 300, .c_row = 313, .activation = FNN_TANH,
                         .half = variant % 2 ? FNN_FLOAT16 : FNN_BFLOAT16};
        RUN(half_product, &p, (p.N + FNN_HALF_COLUMNS - 1) / FNN_HALF_COLUMNS);
        report("half_product", variant, d, out, p.M * p.N);
        report("half_product's z", variant, d, z, p.M * p.N);
    }
    for (int variant = 0; variant < 18 && !d; variant++)
        run_bfloat16(kernel, shapes[variant / 3], variant, (void *[]){a, b, out, z, packed}, scratch);
    fnn_column_sum columns = {.x = a, .sum = out, .rows = ROWS, .features = FEATURES};
    RUN(column_sum, &columns, groups);
    report("column_sum", 0, d, out, FEATURES);

    fnn_embedding embedding = {.codes = at(9), .weight = a, .dy = b, .y = out, .dweight = out,
                               .count = 50, .features = FEATURES, .rows = 900};
    for (int i = 0; i < 900; i++)
        d ? (((double *)at(9))[i] = i * i % 47) : (((float *)at(9))[i] = (float)(i * i % 47));
    RUN(embedding_forward, &embedding, 900);
    report("embedding_forward", 0, d, out, 900 * FEATURES);
    RUN(embedding_backward, &embedding, 50);
    report("embedding_backward", 0, d, out, 50 * FEATURES);

    void *const images[] = {a, b, out, z, packed, make(d, 4)};
    run_winograd(kernel, d, images, scratch);
    run_convolution(kernel, d, images, scratch);
    run_periodic(kernel, d, images, scratch);
    run_long_sums(kernel, d, images, scratch);
    free(images[5]);

    for (int kind = 0; kind < FNN_ELEMENTWISE_KINDS; kind++) {
        fnn_activation p = {.x = a, .saved = a, .dy = b, .y = out, .dx = out, .rows = ROWS,
                            .features = FEATURES, .kind = kind, .alpha = 0.5};
        RUN(activation_forward, &p, ROWS);
        report("activation_forward", kind, d, out, n);
        RUN(activation_backward, &p, ROWS);
        report("activation_backward", kind, d, out, n);
        p.weight = at(1), p.terms = z;
        RUN(parametric_forward, &p, ROWS);
        report("parametric_forward", kind, d, out, n);
        RUN(parametric_backward, &p, ROWS);
        report("parametric_backward", kind, d, out, n);
        report("parametric_backward's terms", kind, d, z, n);
    }
    fnn_activation softmax = {.x = a, .saved = a, .dy = b, .y = out, .dx = out, .rows = ROWS,
                              .features = FEATURES};
    RUN(softmax_forward, &softmax, ROWS);
    report("softmax_forward", 0, d, out, n);
    RUN(softmax_backward, &softmax, ROWS);
    report("softmax_backward", 0, d, out, n);
    fnn_vector sum = {.x = a, .addend = b, .y = out, .size = n, .row = FEATURES};
    RUN(add, &sum, ROWS);
    report("add", 0, d, out, n);

    uint64_t counter = 7;
    double rate = 20000 / 65536.0;
    uint8_t mask[(ROWS * FEATURES + 7) / 8];
    fnn_dropout dropout = {.x = a, .dy = a, .y = out, .dx = out, .mask = mask, .counter = &counter,
                           .rate = &rate, .seed = 123456789, .layer = 3, .rows = ROWS,
                           .features = FEATURES};
    RUN(dropout_forward, &dropout, ROWS);
    report("dropout_forward", 0, d, out, n);
    report("dropout_forward's mask", d, 0, mask, sizeof mask / 4);
    RUN(dropout_backward, &dropout, ROWS);
    report("dropout_backward", 0, d, out, n);
    RUN(dropout_advance, &dropout, 1);
    report("dropout_advance", d, 1, &counter, 1);

    fnn_norm norm = {.x = a, .dy = b, .y = out, .dx = out, .gamma = at(0), .beta = at(1),
                     .mean = at(2), .inv_std = at(3), .running_mean = at(4), .running_variance = at(5),
                     .dgamma = at(6), .dbeta = at(7), .partial = at(8), .rows = ROWS,
                     .features = FEATURES, .momentum = 0.1, .eps = 1e-5};
    RUN(batchnorm_moments, &norm, areas);
    RUN(batchnorm_merge, &norm, groups);
    report("batchnorm_merge", 0, d, at(2), 4 * (8000 / (d ? 8 : 4)));
    RUN(batchnorm_apply, &norm, ROWS);
    report("batchnorm_apply", 0, d, out, n);
    RUN(batchnorm_sums, &norm, areas);
    RUN(norm_merge, &norm, groups);
    RUN(batchnorm_backward, &norm, ROWS);
    report("batchnorm_backward", 0, d, out, n);
    for (ptrdiff_t i = 0; i < FEATURES; i++) /* a variance is not negative */
        d ? (((double *)at(5))[i] += 3) : (((float *)at(5))[i] += 3);
    RUN(batchnorm_inv_std, &norm, groups);
    report("batchnorm_inv_std", 0, d, at(3), FEATURES);
    RUN(layernorm_forward, &norm, ROWS);
    report("layernorm_forward", 0, d, out, n);
    RUN(layernorm_sums, &norm, areas);
    RUN(norm_merge, &norm, groups);
    report("norm_merge", 0, d, at(6), 2 * (8000 / (d ? 8 : 4)));
    RUN(layernorm_backward, &norm, ROWS);
    report("layernorm_backward", 0, d, out, n);

    double weight_sum = 3.5, total;
    int64_t labels[ROWS];
    fnn_loss loss = {.outputs = a, .targets = b, .weights = at(1), .weight_sum = &weight_sum,
                     .gradient = out, .row_losses = at(0), .batch = ROWS, .features = FEATURES,
                     .smoothing = 0.3, .delta = 0.3, .margin = 0.3, .quantiles = at(2)};
    fnn_kernel *const *losses[] = {&kernel->softmax_cross_entropy, &kernel->sigmoid_cross_entropy,
                                   &kernel->squared_error, &kernel->absolute_error, &kernel->huber,
                                   &kernel->quantile, &kernel->poisson,
                                   &kernel->sigmoid_cross_entropy,
                                   &kernel->softmax_cross_entropy, &kernel->hinge};
    for (int i = 0; i < 20; i++) {
        static const ptrdiff_t features[] = {FEATURES, 10};
        loss.features = features[i / 10];
        loss.labels = i % 10 >= 8 ? labels : NULL;
        loss.extra = i % 10 == 7 ? at(2) : NULL;
        for (int row = 0; row < ROWS; row++) labels[row] = row * 7 % loss.features;
        run(kernel, losses[i % 10], &loss, ROWS, scratch);
        report("loss", i, d, out, ROWS * loss.features);
        fnn_total losses_sum = {.values = at(0), .sum = &total, .size = ROWS};
        RUN(total, &losses_sum, 1);
        report(d ? "total of float64" : "total of float32", i, 1, &total, 1);
    }

    double hyper[FNN_HYPER_SIZE] = {[FNN_LEARNING_RATE] = 0.01, [FNN_GRADIENT_SCALE] = 0.5,
                                    [FNN_BETA1] = 0.9, [FNN_BETA2] = 0.99, [FNN_EPS] = 1e-8,
                                    [FNN_WEIGHT_DECAY] = 0.1};
    fnn_update update = {.parameters = out, .gradients = a, .mean = at(0), .mean_square = at(2),
                         .rate_factor = 0.7, .decay_factor = 0.3, .hyper = hyper, .size = 999,
                         .row = 16};
    memset(at(2), 0, 8000);
    RUN(sgd, &update, 63);
    RUN(momentum, &update, 63);
    update.nesterov = 1;
    RUN(momentum, &update, 63);
    RUN(rmsprop, &update, 63);
    fnn_set_hyper advance = {.hyper = hyper};
    RUN(advance_step, &advance, 1);
    RUN(adam, &update, 63);
    report("updates", 0, d, out, 999);
    fnn_vector vector = {.x = a, .y = out, .size = 999, .row = 16, .scale = 0.7};
    RUN(add_scaled, &vector, 63);
    report("add_scaled", 0, d, out, 999);
    RUN(add_sign, &vector, 63);
    report("add_sign", 0, d, out, 999);
    RUN(clip_value, &vector, 63);
    report("clip_value", 0, d, out, 999);
    fnn_columns part = {.x = a, .y = out, .width = 5, .x_row = 9, .y_row = 7};
    RUN(copy_columns, &part, 100);
    report("copy_columns", 0, d, out, 700);
    vector.rate = &vector.scale;
    RUN(lerp, &vector, 63);
    report("lerp", 0, d, out, 999);
    vector = (fnn_vector){.x = a, .y = at(0), .sums = at(0), .size = n};
    RUN(sum_squares, &vector, (n + FNN_CHUNK_SUM - 1) / FNN_CHUNK_SUM);
    report("sum_squares", d, 1, at(0), 3);
    total *= total; /* as squares have, a sum that is not negative */
    fnn_set_hyper clip = {.hyper = hyper, .squares = &total, .norm = &weight_sum, .max_norm = 0.1};
    RUN(set_gradient_scale, &clip, 1);
    report("hyper after clipping", d, 1, hyper, FNN_HYPER_SIZE);
    RUN(copy, &vector, (n + 15) / 16);
    report("copy", 0, d, at(0), n);
    RUN(sum_zeros, &vector, (n + FNN_CHUNK_SUM - 1) / FNN_CHUNK_SUM);
    report("sum_zeros", 0, d, at(0), 3);
    RUN(sum_abs, &vector, (n + FNN_CHUNK_SUM - 1) / FNN_CHUNK_SUM);
    report("sum_abs", 0, d, at(0), 3);
    int64_t index[2 * ROWS];
    for (int i = 0; i < 2 * ROWS; i++) index[i] = i * 7 % ROWS;
    fnn_feed feed = {.x = a, .outputs = z, .losses = hyper + 1, .index = index, .row = 20};
    fnn_rows rows = {.feed = &feed, .outside = (void *const *)&feed.x, .inside = out,
                     .row_bytes = FEATURES * (d ? 8 : 4)};
    RUN(take_rows, &rows, ROWS);
    report("take_rows", 0, d, out, n);
    feed.index = NULL;
    RUN(take_rows, &rows, ROWS);
    report("take_rows", 1, d, out, n);
    rows.outside = &feed.outputs;
    RUN(give_rows, &rows, ROWS);
    report("give_rows", 0, d, (char *)z + 20 * rows.row_bytes, n);
    fnn_batch batch = {.feed = &feed, .value = &total, .hyper = hyper, .rows = ROWS};
    fnn_penalty penalty = {.value = &total, .sum = hyper, .scale = 0.1};
    RUN(add_penalty, &penalty, 1);
    feed.rates = hyper + 2, feed.columns = 1, batch.number = hyper;
    RUN(take_rate, &batch, 1);
    report("take_rate", d, 1, hyper, 1);
    RUN(end_batch, &batch, 1);
    total /= 0.0;
    RUN(check_value, &batch, 1);
    report("hyper", d, 1, hyper, FNN_HYPER_SIZE);
    free(z), free(packed);
    free(a), free(b), free(out), free(many), free(scratch);
}

int main(int count, char **arguments) {
    if (count > 2) cut = atoi(arguments[2]);
    for (int isa = 0; isa < FNN_ISAS; isa++) {
        if (count < 2 || strcmp(arguments[1], fnn_isa_name(isa)) || !fnn_isa_available(isa))
            continue;
        for (int is_double = 0; is_double < 2; is_double++)
            run_all(fnn_table(isa, is_double), is_double);
        for (size_t i = 0; i < KERNELS; i++)
            if (!ran[i]) {
                fprintf(stderr, "the kernel %s does not run in bits.c\n", names[i]);
                return 2;
            }
        return 0;
    }
    return 1;
}
