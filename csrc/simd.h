/* The vector vocabulary: every kernel body is written once, in these functions.
 *
 * A stub in isa/ has set the target and defined FNN_REAL (32 or 64) and one of FNN_AVX512,
 * FNN_AVX2, FNN_NEON and FNN_PORTABLE.  Arithmetic uses the compiler's vector operators: a + b, a -
 * b, a * b, a / b, -a.  Vectors are as wide as the instruction set's registers: a wider type would
 * go through memory, ten times slower.
 *
 * All instruction sets with fused multiply-add give the same bits: v_fma rounds once everywhere but
 * on the portable level, and a reduction runs over FNN_LANES virtual lanes, however many a vector
 * has. */
#ifndef FNN_SIMD_H
#define FNN_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FNN_REAL == 32
typedef float real;
typedef int32_t integer;
typedef uint32_t natural;
#else
typedef double real;
typedef int64_t integer;
typedef uint64_t natural;
#endif

#if defined(FNN_AVX512)
#include <immintrin.h>
#define VBYTES 64
#elif defined(FNN_AVX2)
#include <immintrin.h>
#define VBYTES 32
#elif defined(FNN_NEON)
#include <arm_neon.h>
#define VBYTES 16
#else
#define VBYTES 16
#endif

#define LESSER(a, b) ((a) < (b) ? (a) : (b))
#define VL ((ptrdiff_t)(VBYTES / sizeof(real)))
#define FNN_LANES ((ptrdiff_t)(64 / sizeof(real)))  /* virtual lanes of a reduction */
#define VECTORS_PER_LANES ((int)(64 / VBYTES))

typedef real vreal __attribute__((vector_size(VBYTES)));
typedef integer vint __attribute__((vector_size(VBYTES)));
typedef natural vnat __attribute__((vector_size(VBYTES)));
typedef real vreal_unaligned
    __attribute__((vector_size(VBYTES), aligned(sizeof(real)), may_alias));

#define SIMD static inline __attribute__((always_inline, unused))

/* Before a loop of at most 16 rounds: they are written out one after the other.  By GCC's pragma,
 * Clang 14 does that too late to keep an array in registers (a tile took 4 to 5 times as long). */
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* The compiler makes one copy of such a function, whatever constants it is called with. */
#if defined(__clang__)
#define ONCE static __attribute__((noinline))
#else
#define ONCE static __attribute__((noinline, noclone))
#endif

/* A function that is not the innermost loop: compiled to as little code as possible. */
#define SMALL static __attribute__((noinline, cold))

SIMD vreal v_load(const real *p) { return *(const vreal_unaligned *)p; }
SIMD void v_store(real *p, vreal a) { *(vreal_unaligned *)p = a; }
SIMD vreal v_set1(double a) { return (real)a - (vreal){0}; }
SIMD vreal v_zero(void) { return (vreal){0}; }

/* ---- one section per instruction set: v_fma, v_sqrt, tails, comparisons, v_select ----
 * vtail  which lanes exist: v_tail(n) is the first min(n, VL); v_tail_mask makes it a vmask
 * vmask  the result of a comparison, lane by lane; NaN compares false, but true with v_ne */

/* X86(add) is the intrinsic for vectors of reals, such as _mm512_add_ps; vraw is the type it
 * takes. */
#if defined(FNN_AVX512) && FNN_REAL == 32
typedef __m512 vraw;
typedef __mmask16 vmask;
#define X86(operation) _mm512_##operation##_ps
#define X86_COMPARE _mm512_cmp_ps_mask
#elif defined(FNN_AVX512)
typedef __m512d vraw;
typedef __mmask8 vmask;
#define X86(operation) _mm512_##operation##_pd
#define X86_COMPARE _mm512_cmp_pd_mask
#elif defined(FNN_AVX2) && FNN_REAL == 32
typedef __m256 vraw;
#define X86(operation) _mm256_##operation##_ps
#elif defined(FNN_AVX2)
typedef __m256d vraw;
#define X86(operation) _mm256_##operation##_pd
#endif

#if defined(X86)
SIMD vreal v_fma(vreal a, vreal b, vreal c) {
    return (vreal)X86(fmadd)((vraw)a, (vraw)b, (vraw)c);
}
SIMD vreal v_sqrt(vreal a) { return (vreal)X86(sqrt)((vraw)a); }
#endif

#if defined(FNN_AVX512)

typedef vmask vtail;
SIMD vtail v_tail(ptrdiff_t n) { return (vtail)(n >= VL ? (1u << VL) - 1u : (1u << n) - 1u); }
SIMD vmask v_tail_mask(vtail t) { return t; }
SIMD vreal v_load_tail(const real *p, vtail t) { return (vreal)X86(maskz_loadu)(t, p); }
SIMD void v_store_tail(real *p, vreal a, vtail t) { X86(mask_storeu)(p, t, (vraw)a); }
SIMD vmask v_lt(vreal a, vreal b) { return X86_COMPARE((vraw)a, (vraw)b, _CMP_LT_OQ); }
SIMD vmask v_le(vreal a, vreal b) { return X86_COMPARE((vraw)a, (vraw)b, _CMP_LE_OQ); }
SIMD vmask v_ne(vreal a, vreal b) { return X86_COMPARE((vraw)a, (vraw)b, _CMP_NEQ_UQ); }
SIMD vreal v_select(vmask m, vreal yes, vreal no) {
    return (vreal)X86(mask_blend)(m, (vraw)no, (vraw)yes);
}

#else

typedef vint vmask;
SIMD vmask v_lt(vreal a, vreal b) { return a < b; }
SIMD vmask v_le(vreal a, vreal b) { return a <= b; }
SIMD vmask v_ne(vreal a, vreal b) { return a != b; }

#endif

#if defined(FNN_AVX2)

typedef __m256i vtail;
SIMD vtail v_tail(ptrdiff_t n) {
    static const integer keep[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    n = n > VL ? VL : n;
    return _mm256_loadu_si256((const __m256i *)(keep + 8 - n));
}
SIMD vmask v_tail_mask(vtail t) { return (vmask)t; }
SIMD vreal v_load_tail(const real *p, vtail t) { return (vreal)X86(maskload)(p, t); }
SIMD void v_store_tail(real *p, vreal a, vtail t) { X86(maskstore)(p, t, (vraw)a); }
SIMD vreal v_select(vmask m, vreal yes, vreal no) {
    return (vreal)X86(blendv)((vraw)no, (vraw)yes, (vraw)m);
}

#elif !defined(FNN_AVX512) /* NEON and portable: 16-byte vectors */

typedef ptrdiff_t vtail;
SIMD vtail v_tail(ptrdiff_t n) { return n > VL ? VL : n; }
SIMD vmask v_tail_mask(vtail t) {
    vmask m = {0};
    for (ptrdiff_t i = 0; i < VL; i++) m[i] = i < t ? -1 : 0;
    return m;
}
SIMD vreal v_load_tail(const real *p, vtail t) {
    vreal a = {0};
    for (ptrdiff_t i = 0; i < VL; i++)
        if (i < t) a[i] = p[i];
    return a;
}
SIMD void v_store_tail(real *p, vreal a, vtail t) {
    for (ptrdiff_t i = 0; i < VL; i++)
        if (i < t) p[i] = a[i];
}
SIMD vreal v_select(vmask m, vreal yes, vreal no) {
    return (vreal)(((vint)yes & m) | ((vint)no & ~m));
}
#if defined(FNN_NEON) && FNN_REAL == 32
SIMD vreal v_fma(vreal a, vreal b, vreal c) {
    return (vreal)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SIMD vreal v_sqrt(vreal a) { return (vreal)vsqrtq_f32((float32x4_t)a); }
#elif defined(FNN_NEON)
SIMD vreal v_fma(vreal a, vreal b, vreal c) {
    return (vreal)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
SIMD vreal v_sqrt(vreal a) { return (vreal)vsqrtq_f64((float64x2_t)a); }
#else
SIMD vreal v_fma(vreal a, vreal b, vreal c) { return a * b + c; } /* rounds twice */
SIMD vreal v_sqrt(vreal a) {
    for (ptrdiff_t i = 0; i < VL; i++)
        a[i] = FNN_REAL == 32 ? __builtin_sqrtf((float)a[i]) : __builtin_sqrt(a[i]);
    return a;
}
#endif

#endif

/* ---- random bits: lanes of 32 and 64 bits, whatever the real type ----
 * v_multiply_low  products of the lower halves of the 64-bit lanes
 * v_at_least      one bit for each 32-bit lane, a >= b unsigned, the lowest lane first
 * v_mask          the VL lowest bits as a vmask
 * v_upper         the upper halves of the 64-bit lanes as lower halves; the upper ones are undefined
 * v_xor3          a ^ b ^ c
 * v_any           whether any lane of a vmask is set */

typedef uint32_t vword __attribute__((vector_size(VBYTES)));
typedef uint64_t vwide __attribute__((vector_size(VBYTES)));

SIMD vword v_word(uint32_t a) { return a - (vword){0}; }
SIMD vwide v_wide(uint64_t a) { return a - (vwide){0}; }
SIMD vwide v_even_numbers(void) {
    static const uint64_t even[8] = {0, 2, 4, 6, 8, 10, 12, 14};
    vwide a;
    memcpy(&a, even, sizeof a);
    return a;
}
#if defined(FNN_AVX512)
SIMD vwide v_multiply_low(vwide a, vwide b) {
    return (vwide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
SIMD unsigned v_at_least(vword a, vword b) {
    return _mm512_cmpge_epu32_mask((__m512i)a, (__m512i)b);
}
SIMD vmask v_mask(unsigned bits) { return (vmask)bits; }
SIMD int v_any(vmask m) { return m != 0; }
SIMD vwide v_upper(vwide a) { return (vwide)_mm512_movehdup_ps((__m512)a); }
SIMD vwide v_xor3(vwide a, vwide b, vwide c) {
    return (vwide)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
}
#else
SIMD vwide v_xor3(vwide a, vwide b, vwide c) { return a ^ b ^ c; }
#if defined(FNN_AVX2)
SIMD vwide v_upper(vwide a) { return (vwide)_mm256_movehdup_ps((__m256)a); }
SIMD int v_any(vmask m) { return _mm256_movemask_epi8((__m256i)m) != 0; }
#else
SIMD vwide v_upper(vwide a) { return a >> 32; }
SIMD int v_any(vmask m) { return (((vwide)m)[0] | ((vwide)m)[1]) != 0; }
#endif
#if defined(FNN_AVX2)
SIMD vwide v_multiply_low(vwide a, vwide b) {
    return (vwide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
SIMD unsigned v_at_least(vword a, vword b) {
    return (unsigned)_mm256_movemask_ps((__m256)(__m256i)(a >= b));
}
#elif defined(FNN_NEON)
SIMD vwide v_multiply_low(vwide a, vwide b) {
    return (vwide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
SIMD unsigned v_at_least(vword a, vword b) {
    return vaddvq_u32((uint32x4_t)((vword)(a >= b) & (vword){1, 2, 4, 8}));
}
#else
SIMD vwide v_multiply_low(vwide a, vwide b) { return (a & 0xffffffff) * (b & 0xffffffff); }
SIMD unsigned v_at_least(vword a, vword b) {
    vword one = (vword)(a >= b) & (vword){1, 2, 4, 8};
    return one[0] | one[1] | one[2] | one[3];
}
#endif
SIMD vmask v_mask(unsigned bits) {
    static const integer bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    vint lane;
    memcpy(&lane, bit, sizeof lane);
    return (((integer)bits - (vint){0}) & lane) == lane;
}
#endif

/* ---- functions made of the above ---- */

/* 2^n, and a 2^n rounded once, for whole n: the bits of n + bias are moved into the exponent. */
SIMD vreal v_power2(vreal n) {
    const double magic = FNN_REAL == 32 ? 0x1.8p23 + 127 : 0x1.8p52 + 1023;
    return (vreal)((vnat)(n + v_set1(magic)) << (FNN_REAL == 32 ? 23 : 52));
}
SIMD vreal v_scale(vreal a, vreal n) { /* in two factors: 2^n itself may not be a normal number */
#if defined(FNN_AVX512)
    return (vreal)X86(scalef)((vraw)a, (vraw)n);
#else
    vreal magic = v_set1(FNN_REAL == 32 ? 0x1.8p23 : 0x1.8p52);
    vreal half = v_fma(n, v_set1(0.5), magic) - magic;
    return a * v_power2(half) * v_power2(n - half);
#endif
}

/* A vector of a row that has n elements left; n may be <= 0.  If n < VL, the lanes behind them read
 * as zero and are not stored, and v_fill_n takes them from `rest`. */
SIMD vtail v_tail_n(ptrdiff_t n) { return v_tail(n > 0 ? n : 0); }
SIMD vreal v_load_n(const real *p, ptrdiff_t n) {
    return n >= VL ? v_load(p) : v_load_tail(p, v_tail_n(n));
}
SIMD void v_store_n(real *p, vreal a, ptrdiff_t n) {
    if (n >= VL)
        v_store(p, a);
    else
        v_store_tail(p, a, v_tail_n(n));
}
SIMD vmask v_first(ptrdiff_t n) { return v_tail_mask(v_tail_n(n)); } /* the first n lanes */
SIMD vreal v_fill_n(vreal a, ptrdiff_t n, vreal rest) {
    return n >= VL ? a : v_select(v_first(n), a, rest);
}

/* The larger (smaller) of two; a NaN in `a` remains, a NaN in `b` is ignored.  So does x86's
 * maximum, which is b > a ? b : a: one instruction and not two, and 2 cycles of latency and not
 * 7. */
#if defined(X86)
SIMD vreal v_max(vreal a, vreal b) { return (vreal)X86(max)((vraw)b, (vraw)a); }
SIMD vreal v_min(vreal a, vreal b) { return (vreal)X86(min)((vraw)b, (vraw)a); }
#else
SIMD vreal v_max(vreal a, vreal b) { return v_select(v_lt(a, b), b, a); }
SIMD vreal v_min(vreal a, vreal b) { return v_select(v_lt(b, a), b, a); }
#endif

#define REAL_SIGN_BIT ((natural)1 << (FNN_REAL - 1))
SIMD vreal v_abs(vreal a) { return (vreal)((vnat)a & ~(REAL_SIGN_BIT - (vnat){0})); }
SIMD vreal v_copysign(vreal magnitude, vreal sign) {
    vnat bit = REAL_SIGN_BIT - (vnat){0};
    return (vreal)(((vnat)magnitude & ~bit) | ((vnat)sign & bit));
}

/* The nearest whole number, of two the even one. */
#if defined(FNN_AVX512)
SIMD vreal v_round(vreal a) { return (vreal)X86(roundscale)((vraw)a, 0); }
#elif defined(FNN_AVX2)
SIMD vreal v_round(vreal a) { return (vreal)X86(round)((vraw)a, 0); }
#elif defined(FNN_NEON) && FNN_REAL == 32
SIMD vreal v_round(vreal a) { return (vreal)vrndnq_f32((float32x4_t)a); }
#elif defined(FNN_NEON)
SIMD vreal v_round(vreal a) { return (vreal)vrndnq_f64((float64x2_t)a); }
#else
SIMD vreal v_round(vreal a) {
    const vreal whole = v_set1(FNN_REAL == 32 ? 0x1p23 : 0x1p52), size = v_abs(a);
    return v_copysign(v_select(v_lt(size, whole), size + whole - whole, size), a);
}
#endif

/* A loop over an elementary function computes several vectors side by side, since each is one long
 * chain.  GCC leaves the chains one behind the other unless it schedules before it allocates
 * registers, as it does from INTERLEAVED to END_INTERLEAVED. */
#if defined(__GNUC__) && !defined(__clang__)
#define INTERLEAVED                    \
    _Pragma("GCC push_options")        \
    _Pragma("GCC optimize(\"schedule-insns\", \"sched-pressure\")")
#define END_INTERLEAVED _Pragma("GCC pop_options")
#else
#define INTERLEAVED
#define END_INTERLEAVED
#endif

/* For each vector of elements first..last: i is its first element, v its number among the virtual
 * lanes. */
#define FOR_LANES(i, v, first, last)                                                   \
    for (ptrdiff_t i##_first = (first); i##_first < (last); i##_first += FNN_LANES)    \
        _Pragma("GCC unroll 4")                                                        \
        for (ptrdiff_t v = 0, i = i##_first; v < VECTORS_PER_LANES && i < (last); v++, i += VL)

/* The lanes of two vectors in turn, a0 b0 a1 b1 ..., of their lower or upper halves. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif
#if VBYTES * 8 / FNN_REAL == 16
SIMD vreal v_interleave_low(vreal a, vreal b) {
    return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
SIMD vreal v_interleave_high(vreal a, vreal b) {
    return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif VBYTES * 8 / FNN_REAL == 8
SIMD vreal v_interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
SIMD vreal v_interleave_high(vreal a, vreal b) {
    return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#elif VBYTES * 8 / FNN_REAL == 4
SIMD vreal v_interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
SIMD vreal v_interleave_high(vreal a, vreal b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
#else
SIMD vreal v_interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 2); }
SIMD vreal v_interleave_high(vreal a, vreal b) { return SHUFFLE(a, b, 1, 3); }
#endif

/* v_unpack_low (high): the lanes of the lower (upper) halves of each 16-byte part of a and b, in
 * turn. v_even_parts (odd): the parts with even (odd) numbers, first a's, then b's. */
#if defined(X86)
SIMD vreal v_unpack_low(vreal a, vreal b) { return (vreal)X86(unpacklo)((vraw)a, (vraw)b); }
SIMD vreal v_unpack_high(vreal a, vreal b) { return (vreal)X86(unpackhi)((vraw)a, (vraw)b); }
#else
SIMD vreal v_unpack_low(vreal a, vreal b) { return v_interleave_low(a, b); }
SIMD vreal v_unpack_high(vreal a, vreal b) { return v_interleave_high(a, b); }
#endif
#if defined(FNN_AVX512)
SIMD vreal v_even_parts(vreal a, vreal b) {
    return (vreal)_mm512_shuffle_f64x2((__m512d)a, (__m512d)b, 0x88);
}
SIMD vreal v_odd_parts(vreal a, vreal b) {
    return (vreal)_mm512_shuffle_f64x2((__m512d)a, (__m512d)b, 0xdd);
}
#elif defined(FNN_AVX2)
SIMD vreal v_even_parts(vreal a, vreal b) {
    return (vreal)_mm256_permute2f128_pd((__m256d)a, (__m256d)b, 0x20);
}
SIMD vreal v_odd_parts(vreal a, vreal b) {
    return (vreal)_mm256_permute2f128_pd((__m256d)a, (__m256d)b, 0x31);
}
#else /* one part */
SIMD vreal v_even_parts(vreal a, vreal b) { return (void)b, a; }
SIMD vreal v_odd_parts(vreal a, vreal b) { return (void)a, b; }
#endif

#if FNN_REAL == 32
/* x rounded to the nearest bfloat16, of two the even one.  What is nearer to 0 than 2^-56 becomes 0:
 * bfloat16.inc says why. */
SIMD vreal v_bfloat16(vreal x) {
    const vword bits = (vword)x, even = bits >> 16 & v_word(1);
    const vreal near = (vreal)(bits + v_word(0x7fff) + even), zero = x * v_zero(); /* or NaN */
    const vreal y = v_select(v_le(v_set1(0x1p-56), v_abs(x)), near, zero);
    return (vreal)((vword)y & v_word(0xffff0000));
}

/* ---- 16-bit numbers, widened exactly: FNN_BFLOAT16 is the upper half of a float32 ----
 * v_widen       2 VL of them, as two vectors
 * v_in_order    these two, or sums of such lane by lane, in the order in which the numbers lie.
 * bfloat16 comes as the even and the odd ones, since a load, a shift and an `and` then make two
 * vectors of them, on every instruction set. */
typedef vword vword_unaligned __attribute__((aligned(2), may_alias));

#if defined(FNN_AVX512)
#define WIDENS_FLOAT16 1
SIMD vreal v_float16(const uint16_t *p) {
    return (vreal)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
#elif defined(FNN_AVX2)
#define WIDENS_FLOAT16 1
SIMD vreal v_float16(const uint16_t *p) {
    return (vreal)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
#elif defined(FNN_NEON)
#define WIDENS_FLOAT16 1
SIMD vreal v_float16(const uint16_t *p) {
    return (vreal)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
#else
#define WIDENS_FLOAT16 0
SIMD vreal v_float16(const uint16_t *p) { return (void)p, v_zero(); }
#endif

/* A float16 in the upper half of each lane.  Its exponent counts from 15 and not from 127, which
 * the factor makes good, also of denormals; the largest stands for infinity and NaN. */
SIMD vreal v_widen_upper(vword word) {
    const vreal x = (vreal)((word & v_word(0x7fff0000)) >> 3) * v_set1(0x1p112);
    const vmask special = v_le(v_set1(0x1p16), x);
    const vreal infinite = (vreal)((vword)x | v_word(0x7f800000));
    return v_copysign(v_select(special, infinite, x), (vreal)word);
}

SIMD void v_widen(const int kind, const uint16_t *p, vreal x[2]) {
    if (kind == FNN_FLOAT16 && WIDENS_FLOAT16) {
        x[0] = v_float16(p), x[1] = v_float16(p + VL);
        return;
    }
    const vword both = *(const vword_unaligned *)p, odd = both & v_word(0xffff0000);
    x[0] = kind == FNN_BFLOAT16 ? (vreal)(both << 16) : v_widen_upper(both << 16);
    x[1] = kind == FNN_BFLOAT16 ? (vreal)odd : v_widen_upper(odd);
}

SIMD void v_in_order(const int kind, vreal x[2]) {
    if (kind == FNN_FLOAT16 && WIDENS_FLOAT16) return;
    const vreal even = x[0], odd = x[1];
    x[0] = v_interleave_low(even, odd), x[1] = v_interleave_high(even, odd);
}
#endif

/* The sum of the 64 bytes of virtual lanes, in an order that does not depend on the width of
 * vectors: the upper half is added to the lower until one lane is left.  low + high has every sum
 * twice. */
SIMD real sum_lanes(const vreal lanes[VECTORS_PER_LANES]) {
    vreal a[VECTORS_PER_LANES];
    for (int v = 0; v < VECTORS_PER_LANES; v++) a[v] = lanes[v];
    for (int half = VECTORS_PER_LANES / 2; half > 0; half /= 2)
        for (int v = 0; v < half; v++) a[v] += a[v + half];
    for (ptrdiff_t half = VL / 2; half > 0; half /= 2)
        a[0] = v_interleave_low(a[0], a[0]) + v_interleave_high(a[0], a[0]);
    return a[0][0];
}

#endif
