"""Files of any content are read or refused: a fuzzer guided by coverage, over each reader.

    pip install '.[test]' atheris
    python proofs/fuzz_files.py [READER ...] [--runs 1000000] [--minutes M] [--seed 0]
    python proofs/fuzz_files.py READER --file FILE      reads one file, as one that was found

Without a name it goes through all readers, `--processes` at a time.  Atheris, which is libFuzzer
for Python, changes good files (readers.py) and keeps those that reach new branches of fastnn,
zipfile or csv.  Allowed is a value, or a ValueError, OSError or TypeError that names the file: any
other exception, a warning, a crash, 500 MB of memory or a minute of the processor for one file is a
fault.  The file is then kept in the folder `--faults`, and the exit status is 1.

`--sanitize` compiles the extension again, with the address sanitizer (it needs clang), and lets
atheris' own library of the sanitizer watch all memory of the process, other libraries' too."""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY = 4096 if "LD_PRELOAD" in os.environ else 768  # MiB, of which 250 are there before
PATIENCE = 60  # seconds of the processor for one file
HANGS = 600  # seconds of the clock: others may use the machine, too
SHOWN = "fuzz: "  # begins the lines of a child that its parent prints
BRANCHES_OF = ["fastnn", "zipfile", "csv"]
NAMES = [
    "model", "checkpoint", "estimator", "idx", "onnx", "torch-safetensors", "torch-npz", "keras",
    "keras-weights", "csv", "npz",
]  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(NAMES))
    parser.add_argument("--runs", type=int, default=1_000_000, help="files for each reader")
    parser.add_argument("--minutes", type=float, default=1e6, help="at most, for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--faults", default="faults", help="a folder for files that are faults")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--file", help="read this file alone")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    if unknown := set(found.readers) - set(NAMES):
        parser.error(f"unknown {', '.join(sorted(unknown))}; the readers are {', '.join(NAMES)}")
    found.readers = found.readers or NAMES
    if (found.file or found.child) and len(found.readers) != 1:
        parser.error("--file: expected one reader")
    return found


# ---- one reader --------------------------------------------------------------------------------


def fuzz(name, its):
    """Run atheris on a reader; the process ends in here."""
    import atheris

    with (
        atheris.instrument_imports(include=BRANCHES_OF),
        tempfile.TemporaryDirectory() as folder,  # in that of `main`, which removes it
    ):
        from readers import READERS, outcome

        reader, folder = READERS[name], Path(folder)
        work, corpus = folder / "work", folder / "corpus"
        work.mkdir()
        corpus.mkdir()
        seeds = reader.seeds(work)
        for i, seed in enumerate(seeds):
            (corpus / str(i)).write_bytes(seed)
            if outcome(reader, work / reader.file, seed) != "read":  # imports all that it needs
                sys.exit(f"{name}: its seed {i} is refused")
        warnings.simplefilter("error")
        counts, begun = {"read": 0, "refused": 0}, time.monotonic()

        def report():
            runs, seconds = sum(counts.values()), time.monotonic() - begun
            print(f"{SHOWN}{runs} files, {counts['read']} read, {seconds / 60:.1f} minutes")
            sys.stdout.flush()

        def one(content):
            start = time.process_time()
            try:
                counts[outcome(reader, work / reader.file, content)] += 1
                if (taken := time.process_time() - start) > PATIENCE:
                    raise AssertionError(f"{taken:.0f} s for a file, at most {PATIENCE}")
            except BaseException:
                keep(name, its, content)
            runs = sum(counts.values())
            if runs >= its.runs or time.monotonic() - begun > 60 * its.minutes:
                report()
                os._exit(0)

        def damaged(content, max_size, seed):
            chance, room = random.Random(seed), max_size
            if chance.random() < 0.3:  # most of what libFuzzer keeps is damaged already
                content = chance.choice(seeds)
            return reader.damage(content, lambda part: atheris.Mutate(part, room), chance)[:room]

        longest = 2 * max(map(len, seeds))
        atheris.Setup(
            [
                sys.argv[0], str(corpus), f"-seed={its.seed + 1}", f"-max_len={longest}",
                f"-timeout={HANGS}", f"-report_slow_units={HANGS}", f"-rss_limit_mb={MEMORY}",
                "-print_final_stats=0", "-detect_leaks=0",
                f"-artifact_prefix={Path(its.faults).resolve()}/{name}-",
            ],
            one, custom_mutator=damaged,
        )  # fmt: skip
        atheris.Fuzz()


def keep(name, its, content):
    """Keep a file that is a fault, say why, and end the process at once."""
    path = Path(its.faults) / f"{name}-{hashlib.sha1(content).hexdigest()}"
    path.write_bytes(content)
    traceback.print_exc(file=sys.stdout)
    print(f"kept as {path}", flush=True)
    os._exit(1)


def read_one(name, path):
    """What becomes of one file, in an ordinary process."""
    from readers import READERS, outcome

    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        reader, folder = READERS[name], Path(folder)
        reader.seeds(folder)  # for the files beside it
        try:
            print(outcome(reader, folder / reader.file, Path(path).read_bytes()))
        except Exception:
            traceback.print_exc()
            return 1
    return 0


# ---- all of them -------------------------------------------------------------------------------


def told(line):
    """Whether a line of a process that has failed may say why."""
    return not line.startswith(("INFO: ", "#", "WARNING: Failed to find function"))


def fuzz_apart(name, its, environment):
    """A reader in a process of its own; prints what came out, and returns whether all was well."""
    command = [sys.executable, __file__, name, "--child", "--runs", str(its.runs)]
    command += ["--minutes", str(its.minutes), "--seed", str(its.seed), "--faults", its.faults]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = process.stdout.splitlines()
    said = [line.removeprefix(SHOWN) for line in lines if line.startswith(SHOWN)]
    if process.returncode == 0 and said:
        print(f"{name:18s} {said[-1]}, no fault", flush=True)
        return True
    lines = [line for line in (process.stderr + process.stdout).splitlines() if told(line)]
    print(f"{name:18s} FAULT, exit status {process.returncode}", *lines[-60:], sep="\n", flush=True)
    return False


def sanitized(folder):
    """Compile fastnn with the sanitizer into a folder; the environment that runs it."""
    import atheris

    flags = "-fsanitize=address,fuzzer-no-link -fno-omit-frame-pointer"
    build = dict(os.environ, CC="clang", LDSHARED="clang -shared", CFLAGS=flags, LDFLAGS="")
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", f"{folder}/build"]
    print("compiling with the address sanitizer", flush=True)
    done = subprocess.run(
        [*command, "--build-lib", folder], cwd=HERE.parent, env=build, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout)
    library = Path(atheris.path()) / "asan_with_fuzzer.so"
    path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    options = "detect_leaks=0:allocator_may_return_null=1:handle_abort=1"
    return dict(os.environ, PYTHONPATH=path, LD_PRELOAD=str(library), ASAN_OPTIONS=options)


def main():
    its = arguments()
    if its.file:
        return read_one(its.readers[0], its.file)
    if its.child:
        return fuzz(its.readers[0], its)
    os.makedirs(its.faults, exist_ok=True)
    print(f"python {sysconfig.get_python_version()}, seed {its.seed}", flush=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="fastnn-fuzz-build-") as build,
        tempfile.TemporaryDirectory(prefix="fastnn-fuzz-", dir=memory) as folder,
    ):
        environment = sanitized(build) if its.sanitize else dict(os.environ)
        environment["TMPDIR"] = folder
        with ThreadPoolExecutor(its.processes) as pool:
            well = list(pool.map(lambda name: fuzz_apart(name, its, environment), its.readers))
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
