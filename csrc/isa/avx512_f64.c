/* The kernel bodies for float64 on AVX-512. */
#define FNN_AVX512
#define FNN_REAL 64
#define FNN_NAME(name) fnn_##name##_f64_avx512
#include "kernels.inc"
