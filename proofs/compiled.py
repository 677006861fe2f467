"""What the proofs that compile C have in common: the compiler, the kernels, the instruction sets of
this machine."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fastnn

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
ISAS = fastnn.build_info()["isa_available"]
COMPILER = os.environ.get("CC", "cc").split()

# as setup.py compiles the kernels
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", f"-I{CSRC}"]

FOLDER = Path(tempfile.mkdtemp(prefix="fastnn-proof-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def compile_c(name, sources, *options):
    """The path of what the compiler makes of these files."""
    if shutil.which(COMPILER[0]) is None:
        sys.exit(f"no C compiler {COMPILER[0]}: install one, or name one by CC")
    path = FOLDER / name
    libraries = [] if "-c" in options else ["-lm"]
    command = [*COMPILER, *FLAGS, *map(str, sources), *options, *libraries, "-o", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")
    return path


def kernel_objects(*options):
    """The kernels of all instruction sets, as many files at a time as there are cores."""
    sources = [CSRC / "dispatch.c", *sorted((CSRC / "isa").glob("*.c"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compile_one = partial(_compile_object, options=options)
        return list(pool.map(compile_one, sources))


def _compile_object(source, options):
    return compile_c(f"{source.stem}.o", [source], "-c", "-fPIC", *options)
