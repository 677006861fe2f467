/* The kernel bodies for float64 on whatever the compiler's baseline is. */
#define FNN_PORTABLE
#define FNN_REAL 64
#define FNN_NAME(name) fnn_##name##_f64_portable
#include "kernels.inc"
