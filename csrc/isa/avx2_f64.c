/* The kernel bodies for float64 on AVX2 with FMA. */
#define FNN_AVX2
#define FNN_REAL 64
#define FNN_NAME(name) fnn_##name##_f64_avx2
#include "kernels.inc"
