/* The tables of kernels, one for each instruction set and real type, and which set this machine
 * has. */
#include "fastnn.h"

#define TABLES(isa) extern const fnn_kernels fnn_kernels_f32_##isa, fnn_kernels_f64_##isa;
TABLES(portable)
#if defined(__x86_64__)
TABLES(avx2)
TABLES(avx512)
#elif defined(__aarch64__)
TABLES(neon)
#endif
#undef TABLES

static const struct {
    const char *name;
    const fnn_kernels *f32, *f64;
} levels[FNN_ISAS] = {
    [FNN_ISA_PORTABLE] = {"portable", &fnn_kernels_f32_portable, &fnn_kernels_f64_portable},
#if defined(__x86_64__)
    [FNN_ISA_NEON] = {"neon", NULL, NULL},
    [FNN_ISA_AVX2] = {"avx2", &fnn_kernels_f32_avx2, &fnn_kernels_f64_avx2},
    [FNN_ISA_AVX512] = {"avx512", &fnn_kernels_f32_avx512, &fnn_kernels_f64_avx512},
#elif defined(__aarch64__)
    [FNN_ISA_NEON] = {"neon", &fnn_kernels_f32_neon, &fnn_kernels_f64_neon},
    [FNN_ISA_AVX2] = {"avx2", NULL, NULL},
    [FNN_ISA_AVX512] = {"avx512", NULL, NULL},
#else
    [FNN_ISA_NEON] = {"neon", NULL, NULL},
    [FNN_ISA_AVX2] = {"avx2", NULL, NULL},
    [FNN_ISA_AVX512] = {"avx512", NULL, NULL},
#endif
};

const char *fnn_isa_name(int isa) { return levels[isa].name; }

const fnn_kernels *fnn_table(int isa, int is_double) {
    return is_double ? levels[isa].f64 : levels[isa].f32;
}

int fnn_isa_available(int isa) {
    if (!levels[isa].f32) return 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == FNN_ISA_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == FNN_ISA_AVX512)
        return fnn_isa_available(FNN_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return 1;
}

int fnn_isa_best(void) {
    int isa = FNN_ISAS - 1;
    while (!fnn_isa_available(isa)) isa--;
    return isa;
}
