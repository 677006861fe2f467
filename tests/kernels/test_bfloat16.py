"""Dense products of operands rounded to bfloat16: by the instruction for them or without it, bit
for bit the sums that float32 makes of the rounded numbers."""

import itertools

import numpy as np
import pytest

from compare import assert_same_bits, uses_threads
from fastnn import _kernels

# Around a tile (8 by 32, or 2 rows), the strips and groups of lines (16, 32, 128), the rows that
# are computed together (128), a pair, and the chunk of K; then shapes for threads.
ROWS = [1, 2, 3, 7, 8, 9, 16, 33]
COLUMNS = [1, 15, 16, 17, 31, 32, 33, 64, 130]
TERMS = [1, 2, 15, 16, 17, 255, 256, 257, 513]
LARGE = [(129, 40, 65), (300, 257, 35), (136, 520, 40), (9, 300, 600)]
FORMS = ["forward", "input", "weight"]


@pytest.fixture(params=["instruction", "rounded"])
def way(request, isa):
    """With the instruction, and without it as on any other CPU."""
    _kernels.set_bfloat16(request.param == "instruction")
    if request.param == "instruction" and not _kernels.has_bfloat16():
        pytest.skip(f"{isa} has no instruction for bfloat16 here")
    return request.param


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def run(form, x, weight, bfloat16):
    """x @ weight by one of the three forms, operands turned as that form expects them."""
    if form == "forward":
        return _kernels.dense_forward(x, weight, bfloat16=bfloat16)
    if form == "input":  # dz @ W.T
        return _kernels.dense_backward_input(x, np.ascontiguousarray(weight.T), bfloat16)
    out = np.full((x.shape[0], weight.shape[1]), np.nan, x.dtype)  # X.T @ dz
    _kernels.dense_backward_weight(np.ascontiguousarray(x.T), weight, out, bfloat16)
    return out


# ---- the reference, in float64 ----


def rounded(x):
    """x with 8 bits of precision, of two nearest the even one; 0 for what is below 2^-56."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    with np.errstate(over="ignore"):
        near = np.ldexp(np.rint(mantissa * 256) / 256, exponent).astype(np.float32)
    return np.where(np.abs(x) < 2.0**-56, np.float32(0), near)


def fused(a, b, c):
    """a b + c, rounded once to float32: a b is exact in float64, and its sum with c is rounded to
    the neighbour whose last bit is odd, which float32's rounding then sees on the right side."""
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    rest = total - product
    error = (product - (total - rest)) + (c - rest)
    even = total.view(np.int64) & 1 == 0
    moved = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    with np.errstate(over="ignore"):
        return np.where((error != 0) & even, moved, total).astype(np.float32)


def chain(x, weight):
    """x @ weight as the laws say: one chain over k in chunks of 256."""
    x, weight = rounded(x), rounded(weight)
    sums = []
    for k in range(0, x.shape[1], 256):
        sums.append(np.zeros((x.shape[0], weight.shape[1]), np.float32))
        for i in range(k, min(k + 256, x.shape[1])):
            sums[-1] = fused(x[:, i, None], weight[i], sums[-1])
    total = sums[0]
    for more in sums[1:]:
        total = total + more
    return total


# ---- rounding ----


def test_operands_are_rounded_to_the_nearest(way):
    """All upper halves, with lower ones around the middle; a product with 1 adds 0 to it."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (upper[:, None] | lower).view(np.float32).reshape(-1, 1)
    one = np.ones((1, 1), np.float32)
    expected = np.where(np.isfinite(x), rounded(np.where(np.isfinite(x), x, 0)), x)
    expected[expected == 0] = 0  # and not -0
    assert np.isinf(expected).sum() == 8  # both infinities, and of either sign the largest three
    assert_same_bits(_kernels.dense_forward(x, one, bfloat16=True), expected)
    assert_same_bits(_kernels.dense_forward(one, x.T.copy(), bfloat16=True), expected.T)


# ---- products ----


@pytest.mark.parametrize("form", FORMS)
def test_the_chain_of_fused_multiply_adds(form, way, rng):
    """Operands of very different sizes, whose sums tell orders apart.  Portable code, too: products
    are exact, so that it makes no difference whether they are fused."""
    for shape in [(9, 515, 33), (2, 300, 17), (8, 256, 32)]:
        x, weight = normal(rng, *shape[:2]), normal(rng, *shape[1:])
        x *= np.exp2(rng.integers(-60, 40, x.shape)).astype(np.float32)
        weight *= np.exp2(rng.integers(-60, 40, weight.shape)).astype(np.float32)
        expected = chain(x, weight)
        assert_same_bits(run(form, x, weight, True), expected)
        backwards = chain(x[:, ::-1], weight[::-1])
        assert (backwards != expected).mean() > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_shapes_around_the_tiles(form, way, rng):
    for shape in [*itertools.product(ROWS, TERMS, COLUMNS), *LARGE]:
        x, weight = normal(rng, *shape[:2]), normal(rng, *shape[1:])
        expected = run(form, rounded(x), rounded(weight), False)
        assert_same_bits(run(form, x, weight, True), expected)


def test_sums_without_denormals_have_the_same_bits(way, rng):
    """Products down to 2^-112, and sums that cancel."""
    x = normal(rng, 16, 400) * np.exp2(rng.integers(-62, -50, (16, 400))).astype(np.float32)
    weight = normal(rng, 400, 40) * np.exp2(rng.integers(-62, -50, (400, 40))).astype(np.float32)
    x[:, 1::2] = x[:, ::2]
    weight[1::2] = -weight[::2] * np.float32(1 + 2**-7)
    expected = _kernels.dense_forward(rounded(x), rounded(weight))
    small = np.abs(expected)
    assert 0 < small.max() < 2.0**-90
    assert_same_bits(_kernels.dense_forward(x, weight, bfloat16=True), expected)


def test_infinity_and_nan(way, rng):
    x, weight = normal(rng, 9, 300), normal(rng, 300, 40)
    x[0, 7], x[1, 8], x[2, 299] = np.nan, np.inf, 3.4e38  # the last one is rounded to infinity
    weight[9, 3], weight[10, 4], weight[8, 5] = np.inf, np.nan, 0
    with np.errstate(invalid="ignore"):
        expected = _kernels.dense_forward(rounded(x), rounded(weight))
    assert np.isnan(expected[0]).all() and np.isnan(expected[1, 5]) and np.isinf(expected[2, 0])
    assert_same_bits(_kernels.dense_forward(x, weight, bfloat16=True), expected)


@pytest.mark.parametrize("activation", ["linear", "gelu", "softmax"])
def test_epilogue(activation, way, rng):
    for shape, keep_z in itertools.product([(1, 300, 150), (35, 20, 40), (8, 64, 64)], (0, 1)):
        x, weight, bias = normal(rng, *shape[:2]), normal(rng, *shape[1:]), normal(rng, shape[2])
        options = bias, _kernels.ACTIVATIONS[activation], 0.0, bool(keep_z)
        expected = _kernels.dense_forward(rounded(x), rounded(weight), *options)
        got = _kernels.dense_forward(x, weight, *options, bfloat16=True)
        packed = _kernels.pack_weight(weight, bfloat16=True)
        again = _kernels.dense_forward(x, np.full_like(weight, np.nan), *options, packed, True)
        for a, b, c in zip(got, expected, again, strict=True):
            assert_same_bits(a, b)
            assert_same_bits(c, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(129, 513, 200), (200, 257, 700)])
def test_same_bits_for_any_threads_and_fma_isa(form, shape, threads, fma_isas, rng):
    x, weight = normal(rng, *shape[:2]), normal(rng, *shape[1:])
    assert uses_threads(lambda: run(form, x, weight, True))
    expected = run(form, rounded(x), rounded(weight), False)
    for isa, use in itertools.product(fma_isas, (True, False)):
        _kernels.set_isa(isa)
        _kernels.set_bfloat16(use)
        assert_same_bits(run(form, x, weight, True), expected)


# ---- what is refused ----


def test_float64_is_refused(rng):
    x = rng.standard_normal((3, 3))
    for form in FORMS:
        with pytest.raises(ValueError, match="bfloat16: expected float32, got float64"):
            run(form, x, x, True)
    with pytest.raises(ValueError, match="bfloat16: expected float32, got float64"):
        _kernels.pack_weight(x, True)


def test_a_weight_packed_for_something_else_is_refused(way, rng):
    x, weight = normal(rng, 2, 21), normal(rng, 21, 5)
    packed = _kernels.pack_weight(weight, True)
    halves = np.zeros(21 * 32, np.uint16)
    for wrong in (packed[:-1], packed[None], packed.astype(np.int64), halves):
        with pytest.raises(ValueError, match="packed: expected"):
            _kernels.dense_forward(x, weight, packed=wrong, bfloat16=True)
    if way == "instruction":
        with pytest.raises(ValueError, match="packed: expected float32"):
            _kernels.dense_forward(x, weight, packed=packed)
        with pytest.raises(ValueError, match="packed: expected uint32"):
            _kernels.dense_forward(x, weight, packed=_kernels.pack_weight(weight), bfloat16=True)
