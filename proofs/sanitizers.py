"""Proves by the compiler's sanitizers and by valgrind that the C code keeps to its memory, has no
undefined behaviour and no data race.

    python proofs/sanitizers.py address
    python proofs/sanitizers.py undefined
    python proofs/sanitizers.py thread
    python proofs/sanitizers.py valgrind
    ... --tests tests/kernels/test_dropout.py        these tests alone

The first three compile the extension anew, outside the tree, and run tests with it; before, and
for valgrind, the program of tests/kernels/bits.c, which calls every kernel, whole and in pieces.
Needs GCC with its sanitizers' libraries, or valgrind (Debian: gcc, valgrind), and pytest."""

import argparse
import os
import shutil
import subprocess
import sys
import time

from compiled import COMPILER, CSRC, FOLDER, HERE, ISAS, compile_c, kernel_objects

TREE = CSRC.parent
QUICK = ["kernels", "layers", "training", "test_losses.py", "test_optimizers.py", "test_vector.py"]
TESTS = {
    "address": QUICK,
    "undefined": QUICK,
    # what starts threads: kernels by their number, replayed programs, whole trainings
    "thread": [
        "kernels/test_dropout.py", "kernels/test_program.py", "kernels/test_embedding.py",
        "kernels/test_norm.py", "kernels/test_pool.py", "support/test_threads.py",
        "whole/test_determinism.py", "whole/test_all_together.py",
    ],
}  # fmt: skip
# other processes and the compiled code's form, which a sanitizer changes
LEFT_OUT = ["kernels/test_bits.py", "kernels/test_machine_code.py", "kernels/test_proofs.py"]
OPTIONS = {
    "address": {
        # Python frees little at its end; C++ libraries that it loads are not instrumented; some
        # tests ask for memory that cannot be had
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=86:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    },
    "undefined": {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=86"},
    "thread": {  # tests fork, too, and the children start threads
        "TSAN_OPTIONS": "halt_on_error=1:exitcode=86:die_after_fork=0"
        f":suppressions={HERE}/sanitizers/thread.supp"
    },
}
LIBRARY = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
BITS = TREE / "tests/kernels/bits.c"


def library(name):
    """The path of one of the compiler's libraries."""
    command = [*COMPILER, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"{' '.join(COMPILER)} has no {name}: install GCC's sanitizers")
    return path


def run(command, environment, **options):
    status = subprocess.run(
        command, env={**os.environ, **environment}, check=False, **options
    ).returncode
    if status:
        sys.exit(f"{' '.join(map(str, command))}\nexit status {status}")


def run_bits(kind, objects):
    """Every kernel on every instruction set, whole and in pieces, its checksums thrown away."""
    flags = ["-g"]
    if kind != "valgrind":
        flags += [f"-fsanitize={kind}", "-fno-sanitize-recover=all", "-O1"]
    program = compile_c("bits", [BITS, *objects], *flags)
    before, isas = [], ISAS
    if kind == "valgrind":
        if shutil.which("valgrind") is None:
            sys.exit("no valgrind: install it")
        before = ["valgrind", "--quiet", "--error-exitcode=86"]
        isas = [isa for isa in ISAS if isa != "avx512"]  # which valgrind does not know
    for isa in isas:
        for cut in ([], ["1"], ["3"]):
            command = [*before, program, isa, *cut]
            run(command, OPTIONS.get(kind, {}), stdout=subprocess.DEVNULL)
            print(f"every kernel, {isa}, {'in pieces' if cut else 'whole'}", flush=True)


def build(kind):
    """The folder with the package, its extensions compiled with this sanitizer, and the kernels."""
    compiler = FOLDER / "cc"  # keeps names and lines, which setup.py leaves out
    flags = f"-fsanitize={kind} -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
    compiler.write_text(f"""#!/bin/bash
arguments=()
for argument; do
    case $argument in
    -g0 | -Wl,--strip-all) ;;
    -O3 | -O2) arguments+=(-O1) ;;
    *) arguments+=("$argument") ;;
    esac
done
exec {" ".join(COMPILER)} "${{arguments[@]}}" {flags}
""")
    compiler.chmod(0o755)
    command = [sys.executable, "setup.py", "--quiet", "build", f"--build-base={FOLDER}/build"]
    run(command, {"CC": str(compiler)}, cwd=TREE)
    objects = next((FOLDER / "build").glob("temp*/csrc"))
    kernels = [objects / "dispatch.o", *sorted((objects / "isa").glob("*.o"))]
    package = next((FOLDER / "build").glob("lib*"))
    if kind == "thread":  # which does not see how OpenMP's library hands work to its threads
        (package / "sitecustomize.py").write_text("""import sys
sys.modules["fastnn._openmp"] = None  # as where it is not built
""")
    return package, kernels


def run_tests(kind, package, tests):
    preload = [library(LIBRARY[kind])]
    if kind == "address":  # else the sanitizer does not find how C++ throws
        preload.append(library("libstdc++.so"))
    environment = {**OPTIONS[kind], "LD_PRELOAD": " ".join(preload), "PYTHONPATH": str(package)}
    # the thread sanitizer wants memory where it lies without randomization
    before = ["setarch", "--addr-no-randomize"] if kind == "thread" else []
    python = [*before, sys.executable]
    code = "import fastnn, sys; sys.exit(not fastnn.__file__.startswith(sys.argv[1]))"
    run([*python, "-c", code, str(package)], environment, cwd=FOLDER)
    command = [
        *python, "-m", "pytest", "-q", "-n", "0", "-x", "-p", "no:cacheprovider", "-s",
        f"--rootdir={TREE}", f"-c{TREE}/pyproject.toml",
        *(f"--ignore={TREE}/tests/{name}" for name in LEFT_OUT), *map(str, tests),
    ]  # fmt: skip
    run(command, environment, cwd=FOLDER)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*TESTS, "valgrind"])
    parser.add_argument("--tests", nargs="*", help="paths from the tree's root")
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.kind == "valgrind":
        run_bits("valgrind", kernel_objects("-g"))
    else:
        package, kernels = build(options.kind)
        if options.kind != "thread":  # bits.c has one thread
            run_bits(options.kind, kernels)
        tests = options.tests or [f"tests/{name}" for name in TESTS[options.kind]]
        run_tests(options.kind, package, [TREE / name for name in tests])
    print(f"{options.kind}: no fault, {(time.perf_counter() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
