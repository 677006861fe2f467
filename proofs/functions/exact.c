/* The same functions by MPFR with 200 bits, to judge the reference: the largest distance of
 * reference and exact value, in units in the last place of a float32 or float64 result. */
#include <math.h>
#include <mpfr.h>
#include <stddef.h>

#include "functions.h"

#define BITS 200
#if FNN_REAL == 32
typedef double wide;
typedef float real;
#define MANTISSA 24
#define LEAST (-149) /* the least denormal number is 2^LEAST, infinity begins at 2^LARGEST */
#define LARGEST 128
#define SET mpfr_set_d
#else
typedef long double wide;
typedef double real;
#define MANTISSA 53
#define LEAST (-1074)
#define LARGEST 1024
#define SET mpfr_set_ld
#endif

static mpfr_t x, y, a, b;

/* y = sin(2 pi q), where q is the distance of |x - round(x)| to a quarter for the cosine, and to 0
 * or a half for the sine: so that where the result is 0, it is 0 here. */
static void turns(int cosine) {
    mpfr_rint(a, x, MPFR_RNDN);
    mpfr_sub(a, x, a, MPFR_RNDN);
    const int negative = mpfr_signbit(a);
    mpfr_abs(a, a, MPFR_RNDN);
    if (cosine)
        mpfr_d_sub(a, 0.25, a, MPFR_RNDN);
    else if (mpfr_cmp_d(a, 0.25) > 0)
        mpfr_d_sub(a, 0.5, a, MPFR_RNDN);
    mpfr_const_pi(b, MPFR_RNDN);
    mpfr_mul(a, a, b, MPFR_RNDN);
    mpfr_mul_ui(a, a, 2, MPFR_RNDN);
    mpfr_sin(y, a, MPFR_RNDN);
    if (!cosine && negative) mpfr_neg(y, y, MPFR_RNDN);
}

static void value(int function) {
    switch (function) {
    case FUNCTION_exp: mpfr_exp(y, x, MPFR_RNDN); return;
    case FUNCTION_expm1: mpfr_expm1(y, x, MPFR_RNDN); return;
    case FUNCTION_log: mpfr_log(y, x, MPFR_RNDN); return;
    case FUNCTION_tanh: mpfr_tanh(y, x, MPFR_RNDN); return;
    case FUNCTION_silu:
    case FUNCTION_sigmoid: /* 1 / (1 + e^-x) */
        mpfr_neg(a, x, MPFR_RNDN);
        mpfr_exp(a, a, MPFR_RNDN);
        mpfr_add_ui(a, a, 1, MPFR_RNDN);
        mpfr_ui_div(y, 1, a, MPFR_RNDN);
        if (function == FUNCTION_silu) mpfr_mul(y, y, x, MPFR_RNDN);
        return;
    case FUNCTION_mish:
    case FUNCTION_softplus: /* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
        mpfr_abs(a, x, MPFR_RNDN);
        mpfr_neg(a, a, MPFR_RNDN);
        mpfr_exp(a, a, MPFR_RNDN);
        mpfr_log1p(y, a, MPFR_RNDN);
        if (mpfr_sgn(x) > 0) mpfr_add(y, y, x, MPFR_RNDN);
        if (function == FUNCTION_softplus) return;
        mpfr_tanh(y, y, MPFR_RNDN);
        mpfr_mul(y, y, x, MPFR_RNDN);
        return;
    case FUNCTION_gelu:
    case FUNCTION_normal: /* erfc(-x / sqrt(2)) / 2 */
        mpfr_sqrt_ui(a, 2, MPFR_RNDN);
        mpfr_div(a, x, a, MPFR_RNDN);
        mpfr_neg(a, a, MPFR_RNDN);
        mpfr_erfc(y, a, MPFR_RNDN);
        mpfr_div_ui(y, y, 2, MPFR_RNDN);
        if (function == FUNCTION_gelu) mpfr_mul(y, y, x, MPFR_RNDN);
        return;
    case FUNCTION_density: /* e^(-x^2/2) / sqrt(2 pi) */
        mpfr_sqr(a, x, MPFR_RNDN);
        mpfr_div_si(a, a, -2, MPFR_RNDN);
        mpfr_exp(y, a, MPFR_RNDN);
        mpfr_const_pi(b, MPFR_RNDN);
        mpfr_mul_ui(b, b, 2, MPFR_RNDN);
        mpfr_rec_sqrt(b, b, MPFR_RNDN);
        mpfr_mul(y, y, b, MPFR_RNDN);
        return;
    case FUNCTION_cos_turns: turns(1); return;
    case FUNCTION_sin_turns: turns(0); return;
    }
}

static int is_beyond(mpfr_t number) { /* it rounds to infinity, or is */
    return mpfr_inf_p(number) || (mpfr_regular_p(number) && mpfr_get_exp(number) > LARGEST);
}

double distance(int function, const real *numbers, const wide *reference, ptrdiff_t n,
                ptrdiff_t *at) {
    double worst = 0;
    mpfr_inits2(BITS, x, y, a, b, (mpfr_ptr)0);
    for (ptrdiff_t i = 0; i < n; i++) {
        mpfr_set_d(x, numbers[i], MPFR_RNDN);
        value(function);
        SET(a, reference[i], MPFR_RNDN);
        if ((mpfr_nan_p(y) && mpfr_nan_p(a)) || (is_beyond(y) && is_beyond(a))) continue;
        mpfr_exp_t unit = mpfr_regular_p(y) ? mpfr_get_exp(y) - MANTISSA : LEAST;
        if (unit < LEAST) unit = LEAST;
        mpfr_sub(a, a, y, MPFR_RNDN);
        mpfr_mul_2si(a, a, -unit, MPFR_RNDN);
        const double error = fabs(mpfr_get_d(a, MPFR_RNDN));
        if (!(error <= worst)) worst = error, *at = i;
    }
    mpfr_clears(x, y, a, b, (mpfr_ptr)0);
    return worst;
}
