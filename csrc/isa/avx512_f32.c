/* The kernel bodies for float32 on AVX-512. */
#if defined(__x86_64__)
#define FNN_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define FNN_AVX512
#define FNN_REAL 32
#define FNN_NAME(name) fnn_##name##_f32_avx512
#include "kernels.inc"
#endif
