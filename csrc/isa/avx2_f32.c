/* The kernel bodies for float32 on AVX2 with FMA. */
#define FNN_AVX2
#define FNN_REAL 32
#define FNN_NAME(name) fnn_##name##_f32_avx2
#include "kernels.inc"
