/* The kernel bodies for float64 on NEON, which every 64-bit Arm has. */
#define FNN_NEON
#define FNN_REAL 64
#define FNN_NAME(name) fnn_##name##_f64_neon
#include "kernels.inc"
