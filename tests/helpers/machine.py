"""The instruction sets of this architecture, whether this machine runs them or not, and what this
Python's last build in this tree compiled."""

import platform
import sys

from paths import ROOT

ARM = platform.machine() in ("aarch64", "arm64")
ISAS = ["portable", "neon"] if ARM else ["portable", "avx2", "avx512"]

OBJECTS = {
    path.stem: path
    for path in (ROOT / "build").glob(f"temp.*{sys.implementation.cache_tag}*/**/*.o")
}
SOURCES = [*(ROOT / "csrc").rglob("*.inc"), *(ROOT / "csrc").rglob("*.[ch]"), ROOT / "setup.py"]


def is_current(name):
    """Whether the object file of that name is there and no older than any source."""
    newest = max(path.stat().st_mtime for path in SOURCES)
    return name in OBJECTS and OBJECTS[name].stat().st_mtime >= newest
