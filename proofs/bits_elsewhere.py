"""The kernels' checksums on other processors, C libraries and systems, as far as an emulator runs
them: each must print the lines that AVX2 prints here.

``python proofs/bits_elsewhere.py [NAME...]``; a name is a key of TARGETS.

``tests/kernels/bits.c`` is cross-compiled by Debian's gcc-aarch64-linux-gnu and musl-tools and by
``zig cc`` (``pip install ziglang``), and run by Debian's qemu-user-static and wine64.  What is not
installed is named and left out; where nothing can run, only the compiler judges.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
FLAGS = ["-O2", "-std=c11", "-ffp-contract=off", "-fno-math-errno", f"-I{CSRC}"]
KERNELS = [CSRC / "dispatch.c", *sorted((CSRC / "isa").glob("*.c"))]
THREADS = [CSRC / f"{name}.c" for name in ("team", "workers", "callers", "program")]
WINE = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine") or "wine64"
ZIG = [sys.executable, "-m", "ziglang", "cc"]
ARM, X86 = "qemu-aarch64-static", "qemu-x86_64-static"

# name: compiler, how the program is run (None: it is not), the instruction sets that must agree
TARGETS = {
    "aarch64 Linux, GCC": (["aarch64-linux-gnu-gcc", "-static"], [ARM], ["neon"]),
    "aarch64 Linux, musl, Clang": ([*ZIG, "-target", "aarch64-linux-musl"], [ARM], ["neon"]),
    "x86-64 Linux, musl, GCC": (["musl-gcc", "-static"], [], ["avx2", "avx512"]),
    "x86-64 Linux, Clang, emulated": (
        [*ZIG, "-target", "x86_64-linux-musl"], [X86, "-cpu", "max"], ["avx2"],
    ),
    "x86-64 Windows, Clang": ([*ZIG, "-target", "x86_64-windows-gnu"], [WINE], ["avx2", "avx512"]),
    "aarch64 Windows, Clang": ([*ZIG, "-target", "aarch64-windows-gnu"], None, []),
    "aarch64 macOS, Clang": ([*ZIG, "-target", "aarch64-macos"], None, []),
    "x86-64 macOS, Clang": ([*ZIG, "-target", "x86_64-macos"], None, []),
}  # fmt: skip


def run(*command):
    environment = {**os.environ, "WINEDEBUG": "-all"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def is_here(command):
    if command[:2] == [sys.executable, "-m"]:
        return run(sys.executable, "-c", f"import {command[2]}").returncode == 0
    return not command or shutil.which(command[0]) is not None


def build(compiler, folder):
    """The program of the kernels; the code of the threads is compiled, too, but not linked."""
    for source in THREADS:
        made = run(*compiler, *FLAGS, "-c", str(source), "-o", str(folder / f"{source.stem}.o"))
        if made.returncode:
            sys.exit(f"{source.name}: {made.stderr}")
    program = folder / "bits.exe"
    files = [ROOT / "tests/kernels/bits.c", *KERNELS]
    made = run(*compiler, *FLAGS, *map(str, files), "-lm", "-o", str(program))
    if made.returncode:
        sys.exit(made.stderr)
    return program


def checksums(*command):
    """What it printed, without the line ends of its system; None: no such instruction set."""
    result = run(*command)
    if result.returncode == 1:
        return None
    lines = result.stdout.splitlines()
    if result.returncode or len(lines) < 100:
        sys.exit(f"{command}: exit {result.returncode}, {len(lines)} lines, {result.stderr[-500:]}")
    return lines


def compare(expected, folder, name):
    compiler, runner, isas = TARGETS[name]
    missing = [c[-1] if c[0] == sys.executable else c[0] for c in (compiler[:3], runner or [])
               if not is_here(c)]  # fmt: skip
    if missing:
        print(f"{name}: left out, for want of {', '.join(missing)}", flush=True)
        return
    program = build(compiler, folder)
    if runner is None:
        print(f"{name}: compiles and links; not run", flush=True)
        return
    for isa in isas:
        for cut in ([], ["3"]):
            lines = checksums(*runner, str(program), isa, *cut)
            if lines is None:
                print(f"{name}: no {isa} there", flush=True)
                break
            if lines != expected:
                apart = [one for one, two in zip(lines, expected, strict=True) if one != two]
                sys.exit(f"{name}: {isa} differs in {len(apart)} lines, first {apart[:3]}")
        else:
            print(f"{name}: {isa}, {len(expected)} checksums as AVX2's", flush=True)


def main(names):
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary) / "here"
        here.mkdir()
        expected = checksums(str(build(["cc"], here)), "avx2")
        if expected is None:
            sys.exit("this machine has no AVX2 to compare with")
        for i, name in enumerate(names or TARGETS):
            folder = Path(temporary) / str(i)
            folder.mkdir()
            compare(expected, folder, name)


if __name__ == "__main__":
    main(sys.argv[1:])
