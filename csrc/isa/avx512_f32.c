/* The kernel bodies for float32 on AVX-512. */
#define FNN_AVX512
#define FNN_REAL 32
#define FNN_NAME(name) fnn_##name##_f32_avx512
#include "kernels.inc"
