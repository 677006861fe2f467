"""The instruction sets of this architecture, whether this machine runs them or not."""

import platform

ARM = platform.machine() in ("aarch64", "arm64")
ISAS = ["portable", "neon"] if ARM else ["portable", "avx2", "avx512"]
