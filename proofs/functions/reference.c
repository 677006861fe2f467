/* The same functions of the C library, in double for float32 and in long double for float64.  This
 * file may be compiled with -ffast-math, so that the C library's vector functions are used; what
 * they are worth, exact.c finds out. */
#include <math.h>
#include <stddef.h>

#include "functions.h"

#define PI 3.14159265358979323846264338327950288L
#define ROOT_HALF 0.70710678118654752440084436210484904L
#define DENSITY 0.39894228040143267793994605993438187L /* 1 / sqrt(2 pi) */

#if FNN_REAL == 32
typedef double wide;
typedef float real;
#define C(name) name
#else
typedef long double wide;
typedef double real;
#define C(name) name##l
#endif

#define SIMD static inline __attribute__((always_inline))

SIMD wide of_exp(wide x) { return C(exp)(x); }
SIMD wide of_expm1(wide x) { return C(expm1)(x); }
SIMD wide of_log(wide x) { return C(log)(x); }
SIMD wide of_tanh(wide x) { return C(tanh)(x); }
SIMD wide of_sigmoid(wide x) {
    wide e = C(exp)(-C(fabs)(x));
    return (x < 0 ? e : 1) / (1 + e);
}
SIMD wide of_softplus(wide x) { return (x > 0 ? x : 0) + C(log1p)(C(exp)(-C(fabs)(x))); }

/* In float64, x^2 / 2 and x / sqrt(2) would be rounded, and that would weigh as much as the
 * result's rounding: x^2 is split, and what x / sqrt(2) rounds off put right by the slope. */
SIMD wide of_density(wide x) {
#if FNN_REAL == 64
    wide top = (float)x, rest = (x - top) * (x + top) / 2;
    return fabsl(x) > 100 ? x - x : expl(-top * top / 2) * expl(-rest) * DENSITY;
#else
    return exp(-x * x / 2) * (double)DENSITY;
#endif
}
SIMD wide of_normal(wide x) {
    wide z = -x * (wide)ROOT_HALF;
#if FNN_REAL == 64
    const wide more = 1.89503255889325718336e-20L; /* 1 / sqrt(2) is ROOT_HALF, as rounded, and this */
    wide off = fmal(-x, ROOT_HALF, -z) - x * more;
    return erfcl(z) / 2 - off * 2 * ROOT_HALF * of_density(x);
#endif
    return C(erfc)(z) / 2;
}
SIMD wide of_sin_turns(wide x) {
    wide r = x - C(rint)(x), size = C(fabs)(r);
    wide s = size > (wide)0.25 ? (wide)0.5 - size : size;
    return C(copysign)(C(sin)(2 * (wide)PI * s), r);
}
SIMD wide of_cos_turns(wide x) {
    wide r = x - C(rint)(x);
    return C(sin)(2 * (wide)PI * ((wide)0.25 - C(fabs)(r)));
}
SIMD wide of_silu(wide x) { return x * of_sigmoid(x); }
SIMD wide of_gelu(wide x) { return x * of_normal(x); }
SIMD wide of_mish(wide x) {
    wide e = C(exp)(-C(fabs)(x)), n = x < 0 ? e * (e + 2) : 1 + 2 * e;
    return x * (n / (n + 2 * (x < 0 ? 1 : e * e)));
}

void reference(int function, const real *x, wide *y, ptrdiff_t n) {
    switch (function) {
#define APPLY(name)       \
    case FUNCTION_##name: \
        for (ptrdiff_t i = 0; i < n; i++) y[i] = of_##name(x[i]); \
        break;
        FUNCTIONS(APPLY)
    }
}
