/* The kernel bodies for float32 on NEON, which every 64-bit Arm has. */
#define FNN_NEON
#define FNN_REAL 32
#define FNN_NAME(name) fnn_##name##_f32_neon
#include "kernels.inc"
