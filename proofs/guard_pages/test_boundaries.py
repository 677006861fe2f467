"""The products at shapes around every block boundary of csrc/product.inc, in the three forms that
training needs and packed, on every instruction set; and that the guard pages are there."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import guarded
from fastnn import _kernels

LIMIT = int(os.environ.get("PROOF_SHAPES", "3000"))  # random shapes for each of the below
SEED = int(os.environ.get("PROOF_SEED", "1"))

# A boundary, one below and one above: tiles of 4, 6, 8 and 14 rows and their doubles, vectors of 2
# to 16 and tiles of up to 16 vectors, FEW_TERMS, NARROW and TAIL_TERMS, strips of 16 and 32
# columns, groups of 64 and 128, FNN_CHUNK_K, BLOCK_COLUMNS, TRANSPOSED_ROWS
BOUNDARIES = (
    1,
    2,
    4,
    6,
    8,
    10,
    12,
    14,
    15,
    16,
    24,
    28,
    32,
    48,
    56,
    64,
    96,
    112,
    128,
    256,
    512,
    1024,
)
SIZES = sorted({max(b + d, 1) for b in BOUNDARIES for d in (-1, 0, 1)})
SMALL = [n for n in SIZES if n <= 33]
FORMS = {
    "forward": lambda a, b: _kernels.dense_forward(a, b),
    "packed": lambda a, b: _kernels.dense_forward(a, b, packed=_kernels.pack_weight(b)),
    "input": lambda a, b: _kernels.dense_backward_input(a, np.ascontiguousarray(b.T)),
    "weight": lambda a, b: weight_gradient(np.ascontiguousarray(a.T), b),
}


def weight_gradient(x, dz):
    dweight = np.empty((x.shape[1], dz.shape[1]), x.dtype)  # NaN, by the guarded memory
    _kernels.dense_backward_weight(x, dz, dweight)
    return dweight


def shapes():
    """(M, N, K): all small ones, then random ones of any size, the larger the fewer."""
    rng = np.random.default_rng(SEED)
    small = [(m, n, k) for m in SMALL for n in SMALL for k in SMALL]
    rng.shuffle(small)
    large = rng.choice(SIZES, (100 * LIMIT, 3))
    large = large[large.prod(axis=1) < rng.uniform(0, 3e6, len(large))]
    return [*map(tuple, small[:LIMIT]), *map(tuple, large[:LIMIT])]


@pytest.fixture(params=_kernels.isa_levels())
def isa(request):
    before = _kernels.get_isa()
    _kernels.set_isa(request.param)
    yield
    _kernels.set_isa(before)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_products_around_every_boundary(form, dtype):
    rng = np.random.default_rng(SEED)
    numbers = rng.standard_normal(2 * max(SIZES) ** 2).astype(dtype)
    for M, N, K in shapes():
        at = rng.integers(0, 1000)
        a, b = np.empty((M, K), dtype), np.empty((K, N), dtype)
        a[:] = numbers[at : at + M * K].reshape(M, K)
        b[:] = numbers[-K * N :].reshape(K, N)
        c = FORMS[form](a, b)
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        bound = (K + 2) * np.finfo(dtype).eps * (abs(wide_a) @ abs(wide_b))
        if dtype == np.float64:  # NumPy's own product is rounded as well
            bound *= 2
        assert (abs(c - wide_a @ wide_b) <= bound).all(), (M, N, K)


@pytest.mark.parametrize("offset", [-1, 1], ids=["before", "behind"])
def test_a_step_beyond_an_array_ends_the_process(offset):
    """On the side that GUARD says; on the other the page may still be the array's own."""
    if (offset == 1) != (os.environ.get("GUARD", "behind") == "behind"):
        pytest.skip("the other side")
    program = (
        "import guarded, numpy as np, ctypes\n"
        "a = np.empty(1001, np.float32)\n"
        "assert np.isnan(a).all()\n"
        f"at = a.ctypes.data + ({offset} > 0) * a.nbytes - ({offset} < 0)\n"
        "print(ctypes.c_ubyte.from_address(at).value)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(guarded.__file__)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False
    )
    assert result.returncode == -signal.SIGSEGV, result.stderr
