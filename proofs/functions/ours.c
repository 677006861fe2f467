/* fastnn's elementary functions over arrays, for one instruction set and one real type, which the
 * compiler's arguments name as the stubs in csrc/isa/ do. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNEL(name) \
    void name(const void *arguments, ptrdiff_t begin, ptrdiff_t end, void *scratch)
#define FNN_NAME(name) name

#include "fastnn.h"
#include "simd.h"
#include "math.inc"
#include "sums.inc"

#include "activations.inc"
#include "functions.h"

static vreal of_exp(vreal x) { return v_exp(x); }
static vreal of_expm1(vreal x) { return v_expm1(x); }
static vreal of_log(vreal x) { return v_log(x); }
static vreal of_tanh(vreal x) { return v_tanh(x); }
static vreal of_sigmoid(vreal x) { return v_sigmoid(x); }
static vreal of_softplus(vreal x) { return v_softplus(x); }
static vreal of_density(vreal x) {
    vreal density;
    v_normal(x, &density);
    return density;
}
static vreal of_normal(vreal x) {
    vreal density;
    return v_normal(x, &density);
}
static vreal of_cos_turns(vreal x) { return v_cos_turns(x - v_round(x)); }
static vreal of_sin_turns(vreal x) { return v_sin_turns(x - v_round(x)); }
static vreal of_silu(vreal x) { return silu(x, x); }
static vreal of_mish(vreal x) { return mish(x, x); }
static vreal of_gelu(vreal x) {
    vreal y = gelu(x, x);
    mend_far(0, 1, &x, &y);
    return y;
}

/* y = f(x) for n elements, a multiple of the widest vector's. */
void ours(int function, const real *x, real *y, ptrdiff_t n) {
    switch (function) {
#define APPLY(name)             \
    case FUNCTION_##name:       \
        for (ptrdiff_t i = 0; i < n; i += VL) v_store(y + i, of_##name(v_load(x + i))); \
        break;
        FUNCTIONS(APPLY)
    }
}
