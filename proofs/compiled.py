"""What the proofs that compile C have in common: the compiler, the instruction sets of this machine,
and how a difference is counted."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fastnn

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
KERNELS = [CSRC / "dispatch.c", *sorted((CSRC / "isa").glob("*.c"))]
ISAS = fastnn.build_info()["isa_available"]
COMPILER = os.environ.get("CC", "cc").split()

# as setup.py compiles the kernels
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", f"-I{CSRC}"]

_folder = tempfile.TemporaryDirectory(prefix="fastnn-proof-")
FOLDER = Path(_folder.name)


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


def kernel_objects():
    """The kernels of all instruction sets, compiled once, one file beside the other."""
    running = []
    for source in KERNELS:
        path = FOLDER / f"{source.stem}.o"
        command = [*COMPILER, *FLAGS, "-fPIC", "-c", str(source), "-o", str(path)]
        running.append((path, subprocess.Popen(command)))
        if len(running) % (os.cpu_count() or 1) == 0:
            running[-1][1].wait()
    for path, process in running:
        if process.wait():
            sys.exit(f"{path.stem} does not compile")
    return [path for path, _ in running]
