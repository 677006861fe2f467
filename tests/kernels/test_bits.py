"""Every kernel gives the same bits on every instruction set with fused multiply-add, and for any
cut of its units.  A C program prints checksums: it has the kernels that the last build in this tree
compiled, or compiles them here; for NEON it is cross-compiled and run under emulation."""

import os
import shutil
import subprocess
from functools import cache

import pytest

from machine import ARM, ISAS, OBJECTS, is_current
from paths import ROOT, TESTS

FLAGS = ["-O2", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]


KERNELS = [ROOT / "csrc/dispatch.c", *sorted((ROOT / "csrc/isa").glob("*.c"))]


def build(compiler, program, *options, kernels=KERNELS):
    files = [TESTS / "kernels/bits.c", *kernels]
    command = [compiler, *FLAGS, *options, f"-I{ROOT / 'csrc'}", *map(str, files)]
    result = subprocess.run(
        [*command, "-lm", "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return program


def checksums(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) > 100
    sums = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines}
    assert len(sums) == len(lines)  # of two with one name, one would never be compared
    return sums


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler {compiler}")
    built = all(is_current(path.stem) for path in KERNELS)
    kernels = [OBJECTS[path.stem] for path in KERNELS] if built else KERNELS
    return build(compiler, tmp_path_factory.mktemp("bits") / "bits", kernels=kernels)


@cache
def checksums_on(program, name, *cut):
    if subprocess.run([program, name], capture_output=True, check=False).returncode == 1:
        pytest.skip(f"this machine has no {name}")
    return checksums(program, name, *cut)


def test_the_checksums_tell_results_apart(program):
    """Without a fused multiply-add most results differ, so the comparison can fail."""
    fused = "neon" if ARM else "avx2"
    portable, fused = checksums_on(program, "portable"), checksums_on(program, fused)
    assert portable.keys() == fused.keys()
    assert sum(portable[name] != fused[name] for name in fused) > len(fused) / 2


@pytest.mark.parametrize("cut", ["1", "2", "3", "4"])
@pytest.mark.parametrize("name", ISAS)
def test_a_kernel_in_parts_has_the_bits_of_one_run(program, name, cut):
    assert checksums_on(program, name, cut) == checksums_on(program, name)


def test_avx512_has_the_bits_of_avx2(program):
    assert checksums_on(program, "avx512") == checksums_on(program, "avx2")


def test_neon_has_the_bits_of_avx2(program, tmp_path):
    compiler = "aarch64-linux-gnu-gcc"
    emulator = "qemu-aarch64-static" if shutil.which("qemu-aarch64-static") else "qemu-aarch64"
    if shutil.which(compiler) is None:
        pytest.skip(f"no cross compiler {compiler}")
    arm = build(compiler, tmp_path / "arm", "-static")
    if shutil.which(emulator) is None:
        pytest.skip(f"NEON compiles without a warning; no {emulator} to run it")
    whole = checksums_on(program, "avx2")
    for cut in ([], ["1"], ["3"]):
        assert checksums(emulator, str(arm), "neon", *cut) == whole
