/* sgemm_ and dgemm_ by fastnn's product, for the reference BLAS testers alone: C = alpha op(A) op(B)
 * + beta C, columns contiguous.  To fastnn, whose rows are contiguous, that is the product of op(B)ᵀ
 * and op(A)ᵀ; transposes and leading dimensions are its strides.  With alpha = 1 and beta = 0 it
 * writes C itself; else alpha and beta are applied to its product in plain C.
 *
 * FASTNN_ISA names the instruction set; PROOF_WAY how the product is computed: `rows` and `columns`
 * say what its units are, `packed` that `pack` arranges op(A)ᵀ before.  Units run in two pieces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastnn.h"

void xerbla_(const char *name, const int *position, size_t length);

static int chosen_isa(void) {
    const char *name = getenv("FASTNN_ISA");
    for (int isa = 0; isa < FNN_ISAS; isa++)
        if (name && !strcmp(name, fnn_isa_name(isa)) && fnn_isa_available(isa)) return isa;
    fprintf(stderr, "FASTNN_ISA: expected one of this machine's instruction sets\n");
    exit(2);
}

static void *memory(size_t bytes) {
    void *at = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!at) exit(2);
    return at;
}

static void in_two(fnn_kernel *kernel, const void *arguments, ptrdiff_t units) {
    static void *scratch;
    if (!scratch) scratch = memory(FNN_SCRATCH);
    if (units / 2) kernel(arguments, 0, units / 2, scratch);
    if (units) kernel(arguments, units / 2, units, scratch);
}

/* p.c = the product of p.a and p.b */
static void multiply(fnn_product *p, int is_double) {
    const fnn_kernels *kernels = fnn_table(chosen_isa(), is_double);
    const char *way = getenv("PROOF_WAY");
    const size_t size = is_double ? 8 : 4;
    void *packed = NULL;
    p->by_columns = way && !strcmp(way, "columns");
    if (way && !strcmp(way, "packed")) {
        const ptrdiff_t chunks = (p->K + FNN_CHUNK_K - 1) / FNN_CHUNK_K;
        const ptrdiff_t groups = (p->N * (ptrdiff_t)size + FNN_PACK_BYTES - 1) / FNN_PACK_BYTES;
        fnn_product packing = *p;
        packing.packed = packed = memory((size_t)(p->K * ((p->N + 15) / 16 * 16)) * size);
        in_two(kernels->pack, &packing, chunks * groups);
        p->packed = packed;
    }
    in_two(kernels->product, p, p->by_columns ? (p->N + 15) / 16 : p->M);
    free(packed);
}

static int is_transposed(char flag) { return strchr("TtCc", flag) != NULL && flag; }
static int is_flag(char flag) { return flag && strchr("NnTtCc", flag) != NULL; }

#define GEMM(name, NAME, real, is_double)                                                         \
    void name(const char *flag_a, const char *flag_b, const int *m, const int *n, const int *k,   \
              const real *alpha, const real *a, const int *lda, const real *b, const int *ldb,    \
              const real *beta, real *c, const int *ldc) {                                        \
        const int turn_a = is_transposed(*flag_a), turn_b = is_transposed(*flag_b);               \
        const int rows_a = turn_a ? *k : *m, rows_b = turn_b ? *n : *k;                           \
        const int wrong = !is_flag(*flag_a) ? 1 : !is_flag(*flag_b) ? 2 : *m < 0 ? 3              \
                        : *n < 0 ? 4 : *k < 0 ? 5 : *lda < (rows_a > 1 ? rows_a : 1) ? 8          \
                        : *ldb < (rows_b > 1 ? rows_b : 1) ? 10 : *ldc < (*m > 1 ? *m : 1) ? 13   \
                        : 0;                                                                      \
        if (wrong) {                                                                              \
            xerbla_(NAME, &wrong, 6);                                                             \
            return;                                                                               \
        }                                                                                         \
        const int has_product = *m && *n && *k && *alpha != 0;                                    \
        const int straight = has_product && *alpha == 1 && *beta == 0;                            \
        real *product = straight ? c : memory((size_t)*m * (size_t)*n * sizeof(real));            \
        fnn_product p = {.a = b, .b = a, .c = product, .M = *n, .N = *m, .K = *k,                 \
                         .a_row = turn_b ? 1 : *ldb, .a_column = turn_b ? *ldb : 1,               \
                         .b_row = turn_a ? 1 : *lda, .b_column = turn_a ? *lda : 1,               \
                         .c_row = straight ? *ldc : *m};                                          \
        if (has_product) multiply(&p, is_double);                                                 \
        if (straight) return;                                                                     \
        for (ptrdiff_t j = 0; j < *n; j++)                                                        \
            for (ptrdiff_t i = 0; i < *m; i++) {                                                  \
                real *to = c + j * *ldc + i;                                                      \
                const real rest = *beta == 0 ? 0 : *beta * *to;                                   \
                *to = has_product ? *alpha * product[j * *m + i] + rest : rest;                   \
            }                                                                                     \
        free(product);                                                                            \
    }

GEMM(sgemm_, "SGEMM ", float, 0)
GEMM(dgemm_, "DGEMM ", double, 1)
