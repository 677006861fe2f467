"""The product with a weight of 16-bit numbers has the bits of that with the same in float32."""

import itertools

import numpy as np
import pytest

from compare import assert_same_bits, uses_threads
from fastnn import _kernels
from fastnn.half_weights import NAMES, HalfWeight, rounded, widened

# Around a tile's rows, the strip (128), its rest (32), whole vectors, and the chunk of K.
ROWS = [1, 2, 3, 8]
TERMS = [1, 2, 255, 256, 257, 600]
COLUMNS = [1, 15, 16, 31, 32, 33, 64, 97, 128, 129, 300]


def operands(rng, rows, terms, columns, kind):
    """x, the packed weight, and the numbers in it as float32."""
    x = rng.standard_normal((rows, terms)).astype(np.float32)
    weight = rng.standard_normal((terms, columns)).astype(np.float32)
    packed = HalfWeight(weight, kind, "weight", 1).packed
    assert packed.ctypes.data % 64 == 0
    return x, packed, widened(rounded(weight, kind))


@pytest.mark.parametrize("kind", NAMES)
def test_shapes_around_the_tiles(kind, isa, rng):
    for shape in itertools.product(ROWS, TERMS, COLUMNS):
        x, packed, weight = operands(rng, *shape, kind)
        expected = _kernels.dense_forward(x, weight)
        assert_same_bits(_kernels.dense_forward(x, weight, packed=packed), expected)


@pytest.mark.parametrize("kind", NAMES)
def test_every_number_is_widened_exactly(kind, isa):
    """Denormals, infinities and NaN too; a product with 1 adds 0 and so makes -0 to 0."""
    numbers = np.arange(2**16, dtype=np.uint16)
    numbers = numbers.view(np.float16) if kind == "float16" else numbers
    exact = widened(numbers)[None]
    x = np.ones((1, 1), np.float32)
    expected = np.where(exact == 0, np.float32(0), exact)
    assert_same_bits(_kernels.dense_forward(x, exact, packed=numbers), expected)
    assert (np.isnan(exact).sum() == 2 * 1023) == (kind == "float16")


@pytest.mark.parametrize("activation", ["linear", "gelu", "softmax"])
@pytest.mark.parametrize("kind", NAMES)
def test_epilogue(kind, activation, isa, rng):
    for shape, keep_z in itertools.product([(1, 300, 150), (3, 20, 40)], (False, True)):
        x, packed, weight = operands(rng, *shape, kind)
        options = rng.standard_normal(shape[2]).astype(np.float32), _kernels.ACTIVATIONS[activation]
        expected = _kernels.dense_forward(x, weight, *options, 0.0, keep_z)
        got = _kernels.dense_forward(x, weight, *options, 0.0, keep_z, packed)
        for a, b in zip(got, expected, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("kind", NAMES)
def test_same_bits_for_any_threads_and_fma_isa(kind, rows, threads, fma_isas, rng):
    x, packed, weight = operands(rng, rows, 700, 900, kind)
    assert uses_threads(lambda: _kernels.dense_forward(x, weight, packed=packed))
    expected = _kernels.dense_forward(x, weight)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.dense_forward(x, weight, packed=packed), expected)


def test_the_weight_itself_is_not_read(isa, rng):
    x, packed, weight = operands(rng, 2, 30, 40, "bfloat16")
    expected = _kernels.dense_forward(x, weight)
    weight[:] = np.nan
    assert_same_bits(_kernels.dense_forward(x, weight, packed=packed), expected)


def test_a_packed_weight_of_another_shape_or_type_is_refused(rng):
    x, packed, weight = operands(rng, 2, 20, 5, "bfloat16")
    spread = np.zeros(2 * packed.size, np.uint16)[::2]
    for wrong in (packed[:-1], packed[None], packed.astype(np.int16), packed.astype(">u2"), spread):
        with pytest.raises(ValueError, match=r"packed: expected float16 or uint16 of shape \(640,"):
            _kernels.dense_forward(x, weight, packed=wrong)
    with pytest.raises(ValueError, match=r"beside float32, got uint16 .* beside float64"):
        _kernels.dense_forward(x.astype(float), weight.astype(float), packed=packed)
