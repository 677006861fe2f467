"""The matrix product in its three forms, with bias and activation in the epilogue."""

import functools
import itertools

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads, wide
from fastnn import _kernels

# One below, equal and one above the tiles' rows (14, 6, 8, 4), their columns (whole vectors), the
# chunk of K, and the fewest rows for which B is packed (43, 25, 19 or 13); then shapes far from
# square, and shapes with enough work for threads, 1e6 operations.
ROWS = [*range(1, 16), 19, 25, 29, 43]
COLUMNS = [1, 2, 10, 15, 16, 17, 31, 32, 33, 64, 129]
TERMS = [1, 2, 255, 256, 257, 513]
FAR_FROM_SQUARE = [
    (1, 1, 1), (1, 2000, 1), (1, 1, 2000), (2000, 1, 1), (1, 3, 1100), (1100, 3, 2), (3, 1030, 2),
    (61, 40, 1041), (500, 20, 33), (1, 513, 513), (57, 257, 65),
]  # fmt: skip
THREADED = [(129, 257, 65), (7, 513, 300), (600, 40, 33), (1, 800, 900), (33, 1025, 16)]


def operands(rng, rows, terms, columns, dtype):
    x = rng.standard_normal((rows, terms)).astype(dtype)
    weight = rng.standard_normal((terms, columns)).astype(dtype)
    return x, weight, rng.standard_normal(columns).astype(dtype)


def transposed(x):
    return np.ascontiguousarray(x.T)


def run(form, x, weight):
    """x @ weight by one of the three forms, operands turned as that form expects them."""
    if form == "forward":
        return _kernels.dense_forward(x, weight)
    if form == "input":  # dz @ W.T
        return _kernels.dense_backward_input(x, transposed(weight))
    out = np.full((x.shape[0], weight.shape[1]), np.nan, x.dtype)  # X.T @ dz
    _kernels.dense_backward_weight(transposed(x), weight, out)
    return out


FORMS = ["forward", "input", "weight"]


def product(x, weight):
    """x @ weight, and what the rounding of each element scales with: |x| @ |weight|."""
    x, weight = wide(x), wide(weight)
    return x @ weight, np.abs(x) @ np.abs(weight)


@pytest.mark.parametrize("terms", TERMS)
def test_shapes_around_the_tiles(terms, dtype, rng):
    x, weight, _ = operands(rng, max(ROWS), terms, max(COLUMNS), dtype)
    expected, magnitude = product(x, weight)
    for isa, form in itertools.product(_kernels.isa_levels(), FORMS):
        _kernels.set_isa(isa)
        for rows, columns in itertools.product(ROWS, COLUMNS):
            part = np.s_[:rows, :columns]
            y = run(form, x[:rows].copy(), weight[:, :columns].copy())
            assert_close(y, expected[part], dtype, magnitude[part])


@pytest.mark.parametrize("shape", FAR_FROM_SQUARE, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_shapes_far_from_square(form, shape, dtype, isa, rng):
    x, weight, _ = operands(rng, *shape, dtype)
    expected, magnitude = product(x, weight)
    assert_close(run(form, x, weight), expected, dtype, magnitude)


@pytest.mark.parametrize("shape", THREADED, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_same_bits_for_any_threads_and_fma_isa(form, shape, dtype, threads, fma_isas, rng):
    x, weight, _ = operands(rng, *shape, dtype)
    assert uses_threads(lambda: run(form, x, weight))
    _kernels.set_threads(1)
    first = {isa: (_kernels.set_isa(isa), run(form, x, weight))[1] for isa in fma_isas}
    portable = (_kernels.set_isa("portable"), run(form, x, weight))[1]
    _kernels.set_threads(threads)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(run(form, x, weight), first[fma_isas[0]])
    _kernels.set_isa("portable")
    assert_same_bits(run(form, x, weight), portable)


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_one_chain_of_fused_multiply_adds(form, fma_isas, rng):
    x, weight, _ = operands(rng, 15, 513, 33, np.float32)
    expected = reference.product_in_order(x, weight, reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(run(form, x, weight), expected)


@pytest.mark.parametrize("form", FORMS)
def test_float64_is_one_chain_of_fused_multiply_adds(form, fma_isas, rng):
    x, weight, _ = operands(rng, 9, 259, 19, np.float64)
    fma = np.vectorize(reference.fma64, otypes=[np.float64])
    rows, columns = [0, 8], [0, 7, 18]
    expected = reference.product_in_order(x[rows], weight[:, columns], fma)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        actual = np.ascontiguousarray(run(form, x, weight)[np.ix_(rows, columns)])
        assert_same_bits(actual, expected)


def test_the_emulated_fused_multiply_add_rounds_once(rng):
    """fma32 against exact fractions, on operands chosen so that rounding twice would differ."""
    a = (1 + rng.integers(0, 2**23, 2000) * 2.0**-23).astype(np.float32)
    b = (1 + rng.integers(0, 2**23, 2000) * 2.0**-23).astype(np.float32)
    c = (-a.astype(np.float64) * b).astype(np.float32)  # the sum is the product's rounding error
    c[::2] = (a * np.float32(2.0**25))[::2]
    for got, *terms in zip(reference.fma32(a, b, c), a, b, c, strict=True):
        exact = np.longdouble(0) + float(terms[0]) * float(terms[1])
        exact += np.longdouble(terms[2])  # 64 bits: exact for these operands
        error = abs(np.longdouble(got) - exact)
        for neighbour in (np.nextafter(got, np.float32(np.inf)), np.nextafter(got, -np.float32(1))):
            assert error <= abs(np.longdouble(neighbour) - exact)


@pytest.mark.parametrize("activation", _kernels.ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_epilogue(bias, activation, dtype, isa, threads, rng):
    """Bias and activation in the product give the same bits as when they are applied afterwards.
    The second shape is cut by rows, the last by columns; both have enough work for threads."""
    kind, alpha = _kernels.ACTIVATIONS[activation], 0.25
    for shape in [(3, 5, 2), (200, 90, 33), (15, 257, 150)]:
        x, weight, b = operands(rng, *shape, dtype)
        b = b if bias else None
        expected_z = _kernels.dense_forward(x, weight) + (b if bias else 0)
        expected = _kernels.activation_forward(expected_z, kind, alpha)
        y, z = _kernels.dense_forward(x, weight, b, kind, alpha, True)
        call = functools.partial(_kernels.dense_forward, x, weight, b, kind, alpha)
        assert uses_threads(call) == (shape != (3, 5, 2))
        assert_same_bits(z, expected_z)
        assert_same_bits(y, expected)
        assert_same_bits(_kernels.dense_forward(x, weight, b, kind, alpha, False), expected)


def test_a_packed_weight_gives_the_same_bits(dtype, isa, threads, rng):
    """Sizes around the packed blocks: 128 float32 or 64 float64 columns by 256 terms."""
    for rows, terms, columns in itertools.product(
        [1, 2, 9, 33], [1, 17, 256, 257, 600], [1, 7, 8, 9, 16, 17, 63, 65, 128, 129, 300]
    ):
        x, weight, _ = operands(rng, rows, terms, columns, dtype)
        packed = _kernels.pack_weight(weight)
        assert packed.ctypes.data % 64 == 0
        expected = _kernels.dense_forward(x, weight)
        assert_same_bits(_kernels.dense_forward(x, weight, packed=packed), expected)


def test_with_a_packed_weight_the_weight_is_not_read(dtype, isa, rng):
    for rows, columns in [(3, 40), (40, 5), (100, 200)]:
        x, weight, _ = operands(rng, rows, 30, columns, dtype)
        expected, packed = _kernels.dense_forward(x, weight), _kernels.pack_weight(weight)
        weight[:] = np.nan
        assert_same_bits(_kernels.dense_forward(x, weight, packed=packed), expected)


def test_a_packed_weight_of_another_shape_or_type_is_refused(rng):
    x, weight, _ = operands(rng, 4, 20, 5, np.float32)
    packed = _kernels.pack_weight(weight)
    for wrong in (packed[:-1], packed.astype(np.float64), packed[None]):
        with pytest.raises(ValueError, match="packed: expected"):
            _kernels.dense_forward(x, weight, packed=wrong)
    with pytest.raises(ValueError, match="weight: expected at least one element"):
        _kernels.pack_weight(weight[:0])


@pytest.mark.parametrize("terms", [1, 5, 257])
@pytest.mark.parametrize("columns", [1, 2, 4, 8, 9, 12, 13, 15, 20, 100])
def test_with_any_threads_narrow_results_are_turned_in_whole_blocks(terms, columns, dtype, rng):
    """A narrow C, or the columns behind a wider one's whole vectors, is computed transposed, 512
    rows at a time; bias and activation give the same as elsewhere."""
    kind = _kernels.ACTIVATIONS["relu"]
    for rows in [16, 511, 512, 513, 1030]:
        x, weight, bias = operands(rng, rows, terms, columns, dtype)
        expected, magnitude = product(x, weight)
        for isa, threads in itertools.product(_kernels.isa_levels(), (1, 2, 3, 7)):
            _kernels.set_isa(isa)
            _kernels.set_threads(threads)
            assert_close(run("weight", x, weight), expected, dtype, magnitude)
            assert_close(run("input", x, weight), expected, dtype, magnitude)
            y, z = _kernels.dense_forward(x, weight, bias, kind, 0.0, True)
            assert_same_bits(z, _kernels.dense_forward(x, weight) + bias)
            assert_same_bits(y, np.maximum(z, 0))


@pytest.mark.parametrize("shape", [(1, 1), (127, 15), (128, 16), (129, 17), (1000, 33)])
def test_bias_gradient(shape, dtype, isa, rng):
    dz = rng.standard_normal(shape).astype(dtype)
    dbias = np.full(shape[1], np.nan, dtype)
    _kernels.dense_backward_bias(dz, dbias)
    assert_close(dbias, wide(dz).sum(axis=0), dtype, magnitude=np.abs(wide(dz)).sum(axis=0))


@pytest.mark.parametrize("shape", [(4099, 300), (70001, 17)])
def test_bias_gradient_has_the_same_bits_for_any_threads_and_isa(shape, dtype, threads, rng):
    """It only adds, so the portable level has the same bits too."""
    dz = rng.standard_normal(shape).astype(dtype)
    assert uses_threads(lambda: _kernels.dense_backward_bias(dz, np.empty(shape[1], dtype)))
    results = []
    for n, isa in itertools.product((1, threads), _kernels.isa_levels()):
        _kernels.set_threads(n)
        _kernels.set_isa(isa)
        results.append(np.full(shape[1], np.nan, dtype))
        _kernels.dense_backward_bias(dz, results[-1])
        assert_same_bits(results[-1], results[0])


def test_nan_and_infinity_reach_exactly_their_row(dtype, isa, rng):
    x, weight, _ = operands(rng, 15, 20, 33, dtype)
    x[3, 4], x[9, 0] = np.nan, np.inf
    for form in FORMS:
        y = run(form, x, weight)
        assert np.isnan(y[3]).all() and np.isinf(y[9]).all()
        assert np.isfinite(np.delete(y, [3, 9], axis=0)).all()


def test_an_infinite_weight_times_zero_is_nan(dtype, isa):
    """No term of the product is skipped, not even for a zero row."""
    x, weight = np.zeros((2, 3), dtype), np.full((3, 4), np.inf, dtype)
    for form in FORMS:
        assert np.isnan(run(form, x, weight)).all()


def test_operands_are_not_changed_and_outputs_are_set_not_added(dtype, isa, rng):
    x, weight, bias = operands(rng, 7, 20, 5, dtype)
    dz = rng.standard_normal((7, 5)).astype(dtype)
    given = [a.copy() for a in (x, weight, bias, dz)]
    for array in (x, weight, bias, dz):
        array.flags.writeable = False
    dweight, dbias = np.full((20, 5), 9, dtype), np.full(5, 9, dtype)
    _kernels.dense_forward(x, weight, bias)
    _kernels.dense_backward_input(dz, weight)
    _kernels.dense_backward_weight(x, dz, dweight)
    _kernels.dense_backward_bias(dz, dbias)
    for array, before in zip((x, weight, bias, dz), given, strict=True):
        assert_same_bits(array, before)
    assert_close(dweight, wide(x).T @ wide(dz), dtype, factor=10)
    assert_close(dbias, wide(dz).sum(axis=0), dtype, factor=10)


def faces(x, weight, bias, dz):
    return {
        "forward": lambda: _kernels.dense_forward(x, weight, bias),
        "input": lambda: _kernels.dense_backward_input(dz, weight),
        "weight": lambda: _kernels.dense_backward_weight(x, dz, np.empty_like(weight)),
        "bias": lambda: _kernels.dense_backward_bias(dz, np.empty_like(bias)),
    }


def wrong_shape(a):
    return np.concatenate([a, a], axis=-1)


BROKEN = {
    "another type": lambda a: a.astype(np.float64),
    "half": lambda a: a.astype(np.float16),
    "integers": lambda a: a.astype(np.int32),
    "big-endian": lambda a: a.astype(">f4"),
    "Fortran order": lambda a: wrong_shape(a)[..., ::2],
    "one dimension more": lambda a: a[None],
    "wrong shape": wrong_shape,
    "empty": lambda a: a[..., :0],
    "None": lambda a: None,
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("face, argument", [
    ("forward", "x"), ("forward", "weight"), ("forward", "bias"), ("input", "dz"),
    ("input", "weight"), ("weight", "x"), ("weight", "dz"), ("bias", "dz"),
])  # fmt: skip
def test_faces_check_their_arguments(face, argument, broken, rng):
    x, weight, bias = operands(rng, 4, 3, 5, np.float32)
    arguments = {"x": x, "weight": weight, "bias": bias, "dz": np.ones((4, 5), np.float32)}
    faces(**arguments)[face]()
    arguments[argument] = BROKEN[broken](arguments[argument])
    if (argument, broken) == ("bias", "None"):  # a layer without bias
        faces(**arguments)[face]()
        return
    # where two arguments disagree, either may be named
    with pytest.raises(
        (ValueError, TypeError), match=r"^(x|weight|bias|dz|dweight|dbias): expected "
    ):
        faces(**arguments)[face]()


def test_gradients_must_be_writable(rng):
    x, weight, bias = operands(rng, 4, 3, 5, np.float32)
    dz = np.ones((4, 5), np.float32)
    weight.flags.writeable = bias.flags.writeable = False
    with pytest.raises(ValueError, match="dweight: expected a writable"):
        _kernels.dense_backward_weight(x, dz, weight)
    with pytest.raises(ValueError, match="dbias: expected a writable"):
        _kernels.dense_backward_bias(dz, bias)
