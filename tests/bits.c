/* Prints a checksum of what each kernel computes from the same numbers, on the instruction set
 * named in the first argument: test_bits.py compares them, NEON's under emulation too. */
#include "fastnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 200000 /* elements of each array */
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

static void run_all(const fnn_kernels *kernel, int d) {
    void *a = make(d, 88172645463325252u), *b = make(d, 362436069362436069u);
    void *out = make(d, 1), *scratch = aligned_alloc(64, FNN_SCRATCH);
    char *many = make(d, 521288629521288629u); /* vectors of 1000 elements: at(i) */
#define at(i) (many + (i)*8000)
    const ptrdiff_t n = ROWS * FEATURES, groups = (FEATURES + 15) / 16;
    const ptrdiff_t areas = (ROWS + FNN_CHUNK_ROWS - 1) / FNN_CHUNK_ROWS * groups;

    static const ptrdiff_t shapes[][3] = {{1, 1, 1}, {3, 7, 5}, {13, 31, 300}, {29, 65, 257},
                                          {100, 130, 513}, {2, 300, 64}};
    for (int shape = 0; shape < 6; shape++)
        for (int form = 0; form < 3; form++) {
            const ptrdiff_t M = shapes[shape][0], N = shapes[shape][1], K = shapes[shape][2];
            fnn_product p = {.a = a, .b = b, .bias = b, .c = out, .M = M, .N = N, .K = K, .c_row = N};
            p.a_row = form == 1 ? 1 : K, p.a_column = form == 1 ? M : 1;
            p.b_row = form == 2 ? 1 : N, p.b_column = form == 2 ? K : 1;
            kernel->product(&p, 0, M, scratch);
            report("product", 3 * shape + form, d, out, M * N);
        }
    fnn_column_sum columns = {.x = a, .sum = out, .rows = ROWS, .features = FEATURES};
    kernel->column_sum(&columns, 0, groups, scratch);
    report("column_sum", 0, d, out, FEATURES);

    for (int kind = 0; kind < FNN_ACTIVATION_KINDS; kind++) {
        fnn_activation p = {.x = a, .dy = b, .out = out, .rows = ROWS, .features = FEATURES,
                            .kind = kind, .alpha = 0.5};
        kernel->activation_forward(&p, 0, ROWS, scratch);
        report("activation_forward", kind, d, out, n);
        kernel->activation_backward(&p, 0, ROWS, scratch);
        report("activation_backward", kind, d, out, n);
    }
    fnn_activation softmax = {.x = a, .dy = b, .out = out, .rows = ROWS, .features = FEATURES};
    kernel->softmax_forward(&softmax, 0, ROWS, scratch);
    report("softmax_forward", 0, d, out, n);
    kernel->softmax_backward(&softmax, 0, ROWS, scratch);
    report("softmax_backward", 0, d, out, n);

    uint64_t counter = 7;
    uint8_t mask[(ROWS * FEATURES + 7) / 8];
    fnn_dropout dropout = {.x = a, .out = out, .mask = mask, .counter = &counter, .seed = 123456789,
                           .layer = 3, .threshold = 20000, .rows = ROWS, .features = FEATURES};
    kernel->dropout_forward(&dropout, 0, ROWS, scratch);
    report("dropout_forward", 0, d, out, n);
    kernel->dropout_backward(&dropout, 0, ROWS, scratch);
    report("dropout_backward", 0, d, out, n);

    fnn_norm norm = {.x = a, .dy = b, .out = out, .gamma = at(0), .beta = at(1), .mean = at(2),
                     .inv_std = at(3), .running_mean = at(4), .running_variance = at(5),
                     .dgamma = at(6), .dbeta = at(7), .partial = at(8), .rows = ROWS,
                     .features = FEATURES, .momentum = 0.1, .eps = 1e-5};
    kernel->batchnorm_moments(&norm, 0, areas, scratch);
    kernel->batchnorm_merge(&norm, 0, groups, scratch);
    report("batchnorm_merge", 0, d, at(2), 4 * (8000 / (d ? 8 : 4)));
    kernel->batchnorm_apply(&norm, 0, ROWS, scratch);
    report("batchnorm_apply", 0, d, out, n);
    kernel->batchnorm_sums(&norm, 0, areas, scratch);
    kernel->norm_merge(&norm, 0, groups, scratch);
    kernel->batchnorm_backward(&norm, 0, ROWS, scratch);
    report("batchnorm_backward", 0, d, out, n);
    kernel->layernorm_forward(&norm, 0, ROWS, scratch);
    report("layernorm_forward", 0, d, out, n);
    kernel->layernorm_sums(&norm, 0, areas, scratch);
    kernel->norm_merge(&norm, 0, groups, scratch);
    report("norm_merge", 0, d, at(6), 2 * (8000 / (d ? 8 : 4)));
    kernel->layernorm_backward(&norm, 0, ROWS, scratch);
    report("layernorm_backward", 0, d, out, n);

    double weight_sum = 3.5, total;
    int64_t labels[ROWS];
    fnn_loss loss = {.outputs = a, .targets = b, .weights = at(1), .weight_sum = &weight_sum,
                     .gradient = out, .row_losses = at(0), .batch = ROWS, .features = FEATURES,
                     .constant = 0.3};
    fnn_kernel *dense[] = {kernel->softmax_cross_entropy, kernel->sigmoid_cross_entropy,
                           kernel->squared_error, kernel->absolute_error, kernel->huber,
                           kernel->softmax_cross_entropy, kernel->hinge};
    for (int i = 0; i < 14; i++) {
        static const ptrdiff_t features[] = {FEATURES, 10};
        loss.features = features[i / 7];
        loss.labels = i % 7 >= 5;
        loss.targets = loss.labels ? (const void *)labels : b;
        for (int row = 0; row < ROWS; row++) labels[row] = row * 7 % loss.features;
        dense[i % 7](&loss, 0, ROWS, scratch);
        report("loss", i, d, out, ROWS * loss.features);
        fnn_total sum = {.values = at(0), .sum = &total, .size = ROWS};
        kernel->total(&sum, 0, 1, scratch);
        report(d ? "total of float64" : "total of float32", i, 1, &total, 1);
    }

    double hyper[FNN_HYPER_SIZE] = {[FNN_LEARNING_RATE] = 0.01, [FNN_GRADIENT_SCALE] = 0.5,
                                    [FNN_BETA1] = 0.9, [FNN_BETA2] = 0.99, [FNN_EPS] = 1e-8,
                                    [FNN_WEIGHT_DECAY] = 0.1};
    fnn_update update = {.parameters = out, .gradients = a, .mean = at(0), .mean_square = at(2),
                         .hyper = hyper, .size = 999, .row = 16};
    memset(at(2), 0, 8000);
    kernel->sgd(&update, 0, 63, scratch);
    kernel->momentum(&update, 0, 63, scratch);
    kernel->rmsprop(&update, 0, 63, scratch);
    fnn_set_hyper advance = {.hyper = hyper};
    kernel->advance_step(&advance, 0, 1, scratch);
    kernel->adam(&update, 0, 63, scratch);
    report("updates", 0, d, out, 999);
    fnn_vector vector = {.x = a, .y = out, .size = 999, .row = 16, .scale = 0.7};
    kernel->add_scaled(&vector, 0, 63, scratch);
    report("add_scaled", 0, d, out, 999);
    double sums[2];
    fnn_vector squares = {.x = a, .y = sums, .size = FNN_CHUNK_SUM + 999};
    kernel->sum_squares(&squares, 0, 2, scratch);
    report("sum_squares", d, 1, sums, 2);
    free(a), free(b), free(out), free(many), free(scratch);
}

int main(int count, char **arguments) {
    for (int isa = 0; isa < FNN_ISAS; isa++) {
        if (count < 2 || strcmp(arguments[1], fnn_isa_name(isa)) || !fnn_isa_available(isa)) continue;
        for (int is_double = 0; is_double < 2; is_double++) run_all(fnn_table(isa, is_double), is_double);
        return 0;
    }
    return 1;
}
