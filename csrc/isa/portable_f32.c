/* The kernel bodies for float32 on whatever the compiler's baseline is. */
#define FNN_PORTABLE
#define FNN_REAL 32
#define FNN_NAME(name) fnn_##name##_f32_portable
#include "kernels.inc"
