/* The tables of kernels, one for each instruction set and real type, and which set this machine
 * has. */
#include "fastnn.h"

#define DECLARE(isa) extern const fnn_kernels fnn_kernels_f32_##isa, fnn_kernels_f64_##isa;
DECLARE(portable) DECLARE(neon) DECLARE(avx2) DECLARE(avx512)

#define COMPILED(isa) {#isa, &fnn_kernels_f32_##isa, &fnn_kernels_f64_##isa}
#define MISSING(isa) {#isa, NULL, NULL}
#if defined(__x86_64__)
#define ON_X86 COMPILED
#else
#define ON_X86 MISSING
#endif
#if defined(__aarch64__)
#define ON_ARM COMPILED
#else
#define ON_ARM MISSING
#endif

static const struct {
    const char *name;
    const fnn_kernels *f32, *f64;
} levels[FNN_ISAS] = {
    [FNN_ISA_PORTABLE] = COMPILED(portable),
    [FNN_ISA_NEON] = ON_ARM(neon),
    [FNN_ISA_AVX2] = ON_X86(avx2),
    [FNN_ISA_AVX512] = ON_X86(avx512),
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
