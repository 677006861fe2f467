/* The tables of kernels, one for each instruction set and real type, and which set this machine
 * has. */
#include "fastnn.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#endif

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

#if defined(__x86_64__)
/* __builtin_cpu_supports needs a library that is not linked on Windows, and that knows nothing where
 * zig brings it.  The bits are those of the processor's manual; the system must keep the wide
 * registers (XCR0), too. */
static int has_avx2_or_avx512(int avx512) {
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx2 = 1u << 5;
    const unsigned wide = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const uint32_t kept = avx512 ? 0xe6 : 0x06, needed = avx512 ? avx2 | wide : avx2;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave)) != (fma | osxsave)) return 0;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & kept) != kept || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b & needed) == needed;
}
#endif

int fnn_has_bfloat16(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return fnn_isa_available(FNN_ISA_AVX512) && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a >> 5 & 1);
#else
    return 0;
#endif
}

int fnn_isa_available(int isa) {
    if (!levels[isa].f32) return 0;
#if defined(__x86_64__)
    if (isa == FNN_ISA_AVX2 || isa == FNN_ISA_AVX512)
        return has_avx2_or_avx512(isa == FNN_ISA_AVX512);
#endif
    return 1;
}

int fnn_isa_best(void) {
    int isa = FNN_ISAS - 1;
    while (!fnn_isa_available(isa)) isa--;
    return isa;
}
