/* The largest error of results y against a reference, in units in the last place of the real type.
 * The unit is that
 * of the reference rounded to the real type.  Infinity counts as the power of two behind the largest
 * number; NaN must meet NaN. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FNN_REAL == 32
typedef double wide;
typedef float real;
#define TOP 0x1p128
#else
typedef long double wide;
typedef double real;
#define TOP 0x1p1024L
#endif

static inline wide limited(wide a) { return a > TOP ? TOP : a < -TOP ? -TOP : a; }

static inline double error_of(real result, wide reference) {
    const wide y = limited(result), r = limited(reference);
    const real rounded = (real)r; /* whose last place is the unit, as in the tests */
#if FNN_REAL == 32
    uint32_t bits;
    float factor;
    memcpy(&bits, &rounded, 4);
    int32_t exponent = (int32_t)(bits >> 23 & 255);
    exponent = exponent < 1 ? 1 : exponent > 254 ? 254 : exponent;
    bits = (uint32_t)(254 - exponent) << 23; /* 2^(127 - exponent) */
    memcpy(&factor, &bits, 4);
    if (exponent == 254) factor = 0x1p-127f;
    const double error = fabs(y - r) * factor * 0x1p23;
#else
    int exponent;
    (void)frexp(rounded, &exponent);
    exponent = rounded == 0 || exponent < -1021 ? -1021 : isinf(rounded) ? 1024 : exponent;
    const double error = (double)ldexpl(fabsl(y - r), 53 - exponent);
#endif
    const int is_nan = result != result, should = reference != reference;
    return is_nan | should ? (is_nan & should ? 0 : (double)INFINITY) : error;
}

double worst_error(const real *y, const wide *reference, ptrdiff_t n) {
    int64_t worst = 0; /* errors are not negative: their bits have their order */
    for (ptrdiff_t i = 0; i < n; i++) {
        double error = error_of(y[i], reference[i]);
        int64_t bits;
        memcpy(&bits, &error, 8);
        worst = bits > worst ? bits : worst;
    }
    double error;
    memcpy(&error, &worst, 8);
    return error;
}

ptrdiff_t find_error(const real *y, const wide *reference, ptrdiff_t n, double error) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (error_of(y[i], reference[i]) == error) return i;
    return -1;
}
