"""The machine code in the last build's object files (build/): no wide vectors in baseline code, no
vector spilled to memory in the hot loops of products and other kernels."""

import re
import shutil
import subprocess

import pytest

from machine import OBJECTS, is_current


def disassemble(name):
    """{function: [(address, instruction)]} of an object file."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    if name not in OBJECTS:
        pytest.skip(f"no {name}.o in build/: build the extension in this tree to check its code")
    if not is_current(name):
        pytest.skip(f"{name}.o is older than the sources: build the extension again")
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(OBJECTS[name])], text=True,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    if "file format elf64-x86-64" not in text:
        pytest.skip("machine code of another architecture")
    functions, current = {}, []
    for line in text.splitlines():
        if label := re.match(r"[0-9a-f]+ <(.+)>:", line):
            current = functions.setdefault(label[1], [])
        elif instruction := re.match(r" *([0-9a-f]+):\t(.*)", line):
            current.append((int(instruction[1], 16), instruction[2].split("#")[0].strip()))
    return functions


def users(functions, pattern):
    return {
        name for name, code in functions.items()
        if any(re.search(pattern, instruction) for _, instruction in code)
    }  # fmt: skip


@pytest.mark.parametrize("name", [
    "_kernels", "program", "team", "workers", "callers", "openmp", "dispatch",
    "portable_f32", "portable_f64",
])  # fmt: skip
def test_baseline_code_has_no_wide_vectors(name):
    """It runs on any x86-64: no register wider than 16 bytes, no VEX or EVEX instruction."""
    functions = disassemble(name)
    assert (
        functions and users(functions, r"%[yz]mm|%k[0-7]|^v(mov|add|mul|sub|fm|xor|pxor)") == set()
    )


@pytest.mark.parametrize("name", ["avx2_f32", "avx2_f64"])
def test_avx2_code_has_no_avx512(name):
    functions = disassemble(name)
    assert users(functions, r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])") == set()
    assert users(functions, r"vfmadd.*%ymm")


@pytest.mark.parametrize("name", ["avx512_f32", "avx512_f64"])
def test_avx512_code_uses_its_registers(name):
    assert users(disassemble(name), r"vfmadd.*%zmm")


def innermost_loops(code):
    """The bodies of the loops that hold no other loop: from a backward jump's target to it."""
    position = {address: i for i, (address, _) in enumerate(code)}
    loops = []
    for i, (address, instruction) in enumerate(code):
        jump = re.match(r"j\w+ +([0-9a-f]+) ", instruction)
        if jump and int(jump[1], 16) <= address and int(jump[1], 16) in position:
            loops.append((position[int(jump[1], 16)], i))
    return [
        [instruction for _, instruction in code[first : last + 1]]
        for first, last in loops
        if not any((first, last) != (a, b) and first <= a and b <= last for a, b in loops)
    ]


def on_stack(code):
    """The pattern of a vector's address on this function's stack."""
    frame = any(re.match(r"mov +%rsp,%rbp", instruction) for _, instruction in code[:8])
    return r"\(%rsp|\(%rbp" if frame else r"\(%rsp"


WIDE = pytest.mark.parametrize("name, register", [
    ("avx512_f32", "zmm"), ("avx512_f64", "zmm"),
    ("avx2_f32", "ymm"), ("avx2_f64", "ymm"),
])  # fmt: skip


MULTIPLY_ADD = r"vfmadd|vdpbf16ps"


def spilled(code, register):
    """What the innermost loops of multiply-adds load or store of vectors on the stack, and how many
    multiply-adds the longest of them has.

    AVX2 has no register left for the mask of an edge tile: such a loop alone may load the mask."""
    stack = on_stack(code)
    counts = [
        (sum(bool(re.match(MULTIPLY_ADD, i)) for i in loop), loop) for loop in innermost_loops(code)
    ]
    loops = [loop for count, loop in counts if count]
    found = []
    for loop in loops:
        spills = [i for i in loop if f"%{register}" in i and re.search(stack, i)]
        if any("vmaskmov" in i for i in loop) and len(spills) == 1:
            spills = [i for i in spills if not re.search(rf"{stack}.*\),%ymm", i)]
        found += spills
    return found, max((count for count, _ in counts), default=0)


@WIDE
def test_no_accumulator_is_spilled_in_the_products_inner_loops(name, register):
    """Vector loads and stores on the stack within the loop over k would halve its speed."""
    functions = disassemble(name)
    tiles = {f: code for f, code in functions.items() if re.fullmatch(r"(rows|columns)_\d+", f)}
    assert len(tiles) == {"zmm": 28, "ymm": 12}[register]
    most = []
    for function, code in tiles.items():
        spills, longest = spilled(code, register)
        assert longest, f"{function} has no loop of multiply-adds"
        assert spills == [], f"{function}: {spills}"
        most.append(longest)
    assert max(most) >= {"zmm": 28, "ymm": 12}[register], "the full tile's loop was not found"


def test_no_accumulator_of_bfloat16s_tiles_is_spilled():
    functions = disassemble("avx512_f32")
    for rows in (2, 8):
        spills, longest = spilled(functions[f"pair_rows_{rows}"], "zmm")
        assert longest >= 2 * rows, f"pair_rows_{rows}: the loop was not found"
        assert spills == [], f"pair_rows_{rows}: {spills}"


# What else has hot loops whose vectors fit into the registers.  AVX2's 16 do not hold all that the
# optimizers need; nor do they, or AVX-512's 32, hold the constants of the elementary functions.
HOT = (
    r"packing_panel|half_rows?|add_line_\d|sum_near_\d|"
    r"fnn_(sgd|batchnorm_(apply|backward|moments))_.+"
)
HOT_WITH_32 = rf"{HOT}|fnn_(adam|momentum|rmsprop|batchnorm_sums|layernorm_sums)_.+"


@WIDE
def test_no_vector_is_spilled_in_other_hot_loops(name, register):
    functions = disassemble(name)
    if b"clang version" in OBJECTS[name].read_bytes():
        pytest.skip("Clang unrolls other loops, and keeps sums of some on the stack")
    pattern = {"zmm": HOT_WITH_32, "ymm": HOT}[register]
    found = {f: code for f, code in functions.items() if re.fullmatch(pattern, f)}
    halves = 2 * name.endswith("f32")  # weights of 16 bits are computed in float32
    assert len(found) == {"zmm": 14, "ymm": 9}[register] + halves, sorted(found)
    for function, code in found.items():
        spills, longest = spilled(code, register)
        assert longest, f"{function} has no loop of multiply-adds"
        assert spills == [], f"{function}: {spills}"


@WIDE
def test_crosswise_tiles_stay_in_registers(name, register):
    """The loop over whole blocks is the one with the most multiply-adds.  AVX2's 16 registers are
    just too few for 8 rows and a block of 8; for one row GCC keeps a few vectors on the stack,
    which costs nothing measurable."""
    functions = disassemble(name)
    lanes = {"zmm": 64, "ymm": 32}[register] // (4 if name.endswith("f32") else 8)
    for rows in range(2, 9):
        code = functions[f"cross_{rows}"]
        loops = [loop for loop in innermost_loops(code) if any("vfmadd" in i for i in loop)]
        loop = max(loops, key=lambda loop: sum("vfmadd" in i for i in loop))
        multiply_adds = sum("vfmadd" in i for i in loop)
        assert multiply_adds == lanes * rows * (2 if rows == 2 else 1)
        spills = [i for i in loop if f"%{register}" in i and re.search(on_stack(code), i)]
        assert len(spills) <= multiply_adds // 8, f"cross_{rows}: {spills}"
