/* The elementary functions that are proved, in one order: fastnn's (ours.c), the reference's
 * (reference.c) and MPFR's (exact.c).  functions.py has the same names in the same order. */
#define FUNCTIONS(F)                                                                         \
    F(exp) F(expm1) F(log) F(tanh) F(sigmoid) F(softplus) F(normal) F(density) F(cos_turns) \
    F(sin_turns) F(silu) F(gelu) F(mish)
#define NAME(name) FUNCTION_##name,
enum { FUNCTIONS(NAME) FUNCTION_COUNT };
#undef NAME
