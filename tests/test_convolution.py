"""Convolution over images: forward, both gradients, its order of adding, what its faces refuse."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reference
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import _kernels

LINEAR = _kernels.ACTIVATIONS["linear"]


def case(
    x, kernel, features, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1
):  # fmt: skip
    """Shapes of images and weight, and the geometry as the faces take it."""
    weight = (*kernel, x[3] // groups, features)
    return x, weight, (stride, padding, dilation, groups)


# Channels and features around the vectors and the tiles' columns, places around the tiles' rows,
# taps times channels around the chunk of 256, images around 16, below which lines are cut.
CASES = {
    "one pixel": case((1, 1, 1, 1), (1, 1), 1),
    "one pixel, padded": case((1, 1, 1, 3), (3, 3), 2, padding=((1, 1), (1, 1))),
    "one pixel of many images": case((300, 1, 1, 5), (1, 1), 3),
    "1x1": case((3, 5, 4, 17), (1, 1), 33),
    "1x1, strided": case((2, 5, 6, 16), (1, 1), 15, stride=(2, 3)),
    "kernel as large as the image": case((5, 4, 3, 3), (4, 3), 17),
    "kernel larger than the image": case((2, 2, 3, 3), (5, 4), 5, padding=((2, 1), (1, 2))),
    "3x3": case((2, 9, 7, 3), (3, 3), 16, padding=((1, 1), (1, 1))),
    "one channel": case((3, 8, 9, 1), (3, 3), 15),
    "15 channels": case((2, 5, 8, 15), (3, 2), 16),
    "16 channels": case((2, 5, 8, 16), (2, 3), 17),
    "17 channels": case((2, 5, 8, 17), (3, 3), 1),
    "33 channels, four chunks": case((2, 5, 6, 33), (5, 5), 3, padding=((2, 2), (2, 2))),
    "256 terms": case((1, 5, 5, 64), (2, 2), 5),
    "257 terms": case((1, 4, 260, 1), (1, 257), 5),
    "many features": case((1, 4, 5, 3), (3, 3), 200, padding=((1, 1), (1, 1))),
    "129 features": case((2, 3, 5, 17), (2, 2), 129),
    "four sides": case((2, 6, 5, 4), (3, 4), 6, padding=((0, 3), (2, 1))),
    "padding larger than the kernel": case((2, 3, 4, 3), (2, 2), 5, padding=((3, 4), (5, 2))),
    "padding alone at a whole line": case((1, 1, 2, 2), (1, 1), 3, padding=((2, 2), (0, 9))),
    "strides": case((2, 9, 11, 3), (3, 3), 8, stride=(2, 3), padding=((1, 1), (2, 0))),
    "strides larger than the kernel": case((2, 11, 9, 3), (2, 1), 4, stride=(4, 3)),
    "a stride that leaves pixels over": case((2, 8, 10, 3), (3, 3), 4, stride=(3, 4)),
    "dilation": case((2, 9, 10, 3), (3, 3), 7, dilation=(2, 3), padding=((2, 2), (1, 3))),
    "dilation and strides": case(
        (2, 11, 13, 5), (3, 2), 9, (3, 2), ((4, 0), (1, 5)), dilation=(2, 4)
    ),
    "dilation over nothing but padding": case(
        (2, 2, 2, 3), (3, 3), 4, padding=((5, 5), (5, 5)), dilation=(5, 5)
    ),
    "a line": case((3, 1, 40, 6), (1, 5), 9, padding=((0, 0), (4, 0))),
    "a column": case((3, 40, 1, 6), (5, 1), 9, stride=(3, 1)),
    "15 images": case((15, 4, 3, 3), (2, 2), 5),
    "16 images": case((16, 4, 3, 3), (2, 2), 5),
    "17 images": case((17, 4, 3, 3), (2, 2), 5, padding=((1, 0), (0, 1))),
    "tiles": case((2, 8, 6, 24), (3, 3), 24, padding=((1, 1), (1, 1))),
    "tiles, some cut": case((3, 9, 7, 33), (3, 3), 25),
    "tiles of one output": case((5, 3, 3, 24), (3, 3), 33),
    "tiles of one pixel": case((17, 1, 1, 32), (3, 3), 31, padding=((1, 1), (1, 1))),
    "tiles on a line": case((2, 1, 13, 33), (3, 3), 24, padding=((2, 1), (0, 3))),
    "tiles over nothing but padding": case((2, 2, 3, 24), (3, 3), 25, padding=((5, 4), (7, 3))),
    "tiles of 300 channels": case((2, 5, 4, 300), (3, 3), 13, padding=((0, 1), (1, 0))),
    "tiles of 300 features": case((2, 4, 5, 17), (3, 3), 300, padding=((1, 1), (1, 1))),
    "tiles of both": case((1, 3, 4, 257), (3, 3), 258, padding=((1, 1), (0, 1))),
    "tiles of 16 images": case((16, 5, 9, 40), (3, 3), 36, padding=((1, 0), (0, 2))),
    "groups": case((2, 5, 6, 6), (3, 3), 9, groups=3, padding=((1, 1), (1, 1))),
    "groups, strides, dilation": case(
        (2, 9, 11, 34), (3, 2), 68, (2, 1), ((3, 1), (0, 2)), (2, 3), groups=2
    ),
    "groups of one channel": case((2, 5, 6, 3), (3, 3), 6, groups=3),
    "groups of one feature": case((2, 5, 6, 6), (3, 3), 3, groups=3),
    "groups of four chunks": case((1, 4, 5, 90), (5, 5), 4, groups=2, padding=((2, 2), (2, 2))),
    "depthwise": case((2, 7, 6, 17), (3, 3), 17, groups=17, padding=((1, 1), (1, 1))),
    "depthwise, two channels": case((3, 5, 9, 2), (2, 5), 2, groups=2),
    "depthwise, 33 channels": case(
        (17, 5, 4, 33), (3, 2), 33, (2, 1), ((2, 0), (1, 3)), groups=33
    ),
    "depthwise, dilation": case(
        (2, 9, 8, 16), (3, 3), 16, (1, 2), ((2, 5), (4, 0)), (2, 3), groups=16
    ),
    "depthwise, strides larger than the kernel": case(
        (2, 9, 8, 15), (2, 2), 15, stride=(3, 4), groups=15
    ),
    "depthwise, channels part by part": case(
        (2, 5, 60, 150), (3, 3), 150, groups=150, padding=((1, 1), (1, 1))
    ),
    "depthwise, 5x5, strides": case(
        (2, 9, 12, 18), (5, 5), 18, (2, 2), ((2, 2), (2, 2)), groups=18
    ),
    "depthwise, strides and dilation": case(
        (2, 14, 15, 5), (2, 3), 5, (2, 2), ((1, 0), (3, 2)), (3, 3), 5
    ),
    "depthwise, strides that are multiples of the dilation": case(
        (2, 13, 14, 3), (3, 2), 3, (4, 2), ((2, 1), (0, 1)), (2, 1), 3
    ),
    "depthwise, 7x4": case((17, 8, 19, 5), (7, 4), 5, groups=5, padding=((3, 3), (1, 2))),
    "depthwise, a line too long to be copied whole": case(
        (2, 1, 6000, 3), (1, 5), 3, groups=3, padding=((0, 0), (4, 0))
    ),
    "depthwise, dilation over more than a band": case(
        (1, 2, 8100, 2), (2, 3), 2, dilation=(1, 4000), groups=2
    ),
    "depthwise, many taps": case(
        (2, 12, 11, 3), (9, 10), 3, groups=3, padding=((4, 4), (9, 12))
    ),
}  # fmt: skip


def wide(x):
    """In the precision that judges: float64 for float32, long double for float64."""
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def operands(rng, shapes, dtype):
    """x, weight, bias and dz, which is like the output."""
    x_shape, weight_shape, geometry = shapes
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    places = reference.patch_matrix(x[:, :, :, :1], weight_shape[:2], geometry)[1]
    dz = rng.standard_normal((*places, weight_shape[3])).astype(dtype)
    return x, weight, rng.standard_normal(weight_shape[3]).astype(dtype), dz


def weight_gradient(x, dz, weight, geometry):
    dweight = np.full_like(weight, np.nan)
    _kernels.conv_backward_weight(x, dz, dweight, geometry)
    return dweight


def run(x, weight, bias, dz, geometry):
    """Output, gradient of the input, gradient of the weight."""
    return (
        _kernels.conv_forward(x, weight, bias, geometry),
        _kernels.conv_backward_input(x.shape, dz, weight, geometry),
        weight_gradient(x, dz, weight, geometry),
    )


def is_in_tiles(weight, geometry):
    """Whether csrc/winograd.inc does it: of numbers of one size, as here, its rounding scales with
    the largest of 2x2 outputs."""
    *kernel, channels, features = weight.shape
    stride, _, *others = geometry
    enough = channels * features >= 12 * (channels + features)
    return kernel == [3, 3] and stride == (1, 1) and others == [(1, 1), 1] and enough


def largest_of_tiles(a):
    """For each element the largest of the 2x2 it lies in."""
    _, height, width, _ = a.shape
    a = np.pad(a, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    a = np.maximum(a[:, ::2], a[:, 1::2])
    a = np.maximum(a[:, :, ::2], a[:, :, 1::2])
    return a.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]


def expected(x, weight, bias, dz, geometry):
    """The same by the reference, and what the rounding of each element scales with."""
    arrays = [wide(array) for array in (x, weight, bias, dz)]
    results = []
    for a, b, c, d in (arrays, map(np.abs, arrays)):
        backward = reference.conv_backward(a, b, d, geometry)[:2]
        results.append((reference.conv_forward(a, b, c, geometry), *backward))
    right, (y, dx, dweight) = results
    if is_in_tiles(weight, geometry):
        all_taps = np.broadcast_to(dweight.max(axis=(0, 1)), dweight.shape)
        y, dx, dweight = largest_of_tiles(y), largest_of_tiles(dx), all_taps
    return zip(right, (y, dx, dweight), strict=True)


def assert_right(arrays, geometry, dtype):
    for actual, (right, magnitude) in zip(
        run(*arrays, geometry), expected(*arrays, geometry), strict=True
    ):
        assert_close(actual, right, dtype, magnitude)


@pytest.mark.parametrize("name", CASES)
def test_against_the_reference(name, dtype, isa, rng):
    arrays = operands(rng, CASES[name], dtype)
    assert_right(arrays, CASES[name][2], dtype)


@pytest.mark.parametrize("features", [1, 3, 15, 16, 17, 33])
def test_channels_and_features_around_the_vectors(features, dtype, isa, rng):
    for channels, padding in itertools.product([1, 3, 15, 16, 17, 33], [0, 1]):
        shapes = case((1, 3, 4, channels), (2, 3), features, padding=((padding, 0), (0, padding)))
        assert_right(operands(rng, shapes, dtype), shapes[2], dtype)


@pytest.mark.parametrize("groups", [1, 17])
def test_places_around_the_tiles(groups, dtype, isa, rng):
    for width, height in itertools.product([*range(1, 17), 29], [1, 3]):
        shapes = case((2, height, width, 17), (1, 1), 17, groups=groups)
        assert_right(operands(rng, shapes, dtype), shapes[2], dtype)


axis = st.tuples(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.integers(0, 5),
    st.integers(1, 3),
)  # fmt: skip


ANY = settings(
    derandomize=True, deadline=None, max_examples=60, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
any_axes, any_batch = st.tuples(axis, axis), st.sampled_from([1, 2, 15, 16, 17])


def assert_right_for(axes, batch, channels, features, groups, double):
    """Images are made as large as the kernel asks."""
    size, kernel, stride, before, behind, dilation = zip(*axes, strict=True)
    padding = tuple(zip(before, behind, strict=True))
    missing = [max(0, (k - 1) * d + 1 - n - sum(p))
               for n, k, d, p in zip(size, kernel, dilation, padding, strict=True)]  # fmt: skip
    shape = (batch, size[0] + missing[0], size[1] + missing[1], channels)
    shapes = case(shape, kernel, features, stride, padding, dilation, groups)
    dtype = np.float64 if double else np.float32
    assert_right(operands(np.random.default_rng(0), shapes, dtype), shapes[2], dtype)


@pytest.mark.parametrize("isa", _kernels.isa_levels())
@ANY
@given(
    axes=any_axes, groups=st.integers(1, 4), channels=st.integers(1, 9),
    features=st.integers(1, 9), batch=any_batch, double=st.booleans(),
)  # fmt: skip
def test_any_shape(isa, axes, groups, channels, features, batch, double):
    _kernels.set_isa(isa)
    assert_right_for(axes, batch, groups * channels, groups * features, groups, double)


side = st.tuples(st.integers(1, 12), st.integers(0, 4), st.integers(0, 4))


@pytest.mark.parametrize("isa", _kernels.isa_levels())
@ANY
@given(
    sides=st.tuples(side, side), channels=st.integers(24, 70), features=st.integers(24, 70),
    batch=any_batch, double=st.booleans(),
)  # fmt: skip
def test_any_shape_in_tiles(isa, sides, channels, features, batch, double):
    _kernels.set_isa(isa)
    axes = tuple((size, 3, 1, before, behind, 1) for size, before, behind in sides)
    assert_right_for(axes, batch, channels, features, 1, double)


@pytest.mark.parametrize("isa", _kernels.isa_levels())
@ANY
@given(axes=any_axes, channels=st.integers(2, 40), batch=any_batch, double=st.booleans())
def test_any_depthwise_shape(isa, axes, channels, batch, double):
    _kernels.set_isa(isa)
    assert_right_for(axes, batch, channels, channels, channels, double)


# ---- the same bits ----

# each part has work enough for threads, 1e6 operations
THREADED = {
    "few images": case((2, 40, 37, 8), (3, 3), 17, padding=((1, 1), (1, 1))),
    "one image": case((1, 30, 41, 20), (3, 3), 33, (1, 2), ((2, 0), (0, 3))),
    "many images": case((33, 9, 8, 16), (3, 3), 33, padding=((1, 1), (1, 1))),
    "lines": case((3, 1, 1000, 9), (1, 5), 16),
    "many channels": case((3, 5, 7, 130), (3, 3), 20, dilation=(1, 2)),
    "tiles": case((3, 21, 22, 24), (3, 3), 40, padding=((1, 1), (1, 1))),
    "tiles, one image": case((1, 41, 30, 33), (3, 3), 24),
    "tiles, many images": case((17, 8, 7, 70), (3, 3), 33, padding=((2, 0), (0, 1))),
    "groups": case((7, 17, 16, 24), (3, 3), 36, groups=3, padding=((0, 1), (2, 1))),
    "depthwise": case((5, 40, 41, 48), (3, 3), 48, (1, 1), ((1, 1), (1, 1)), groups=48),
    "depthwise, many images": case((40, 20, 15, 33), (3, 3), 33, (2, 1), groups=33),
}


@pytest.mark.parametrize("name", THREADED)
def test_same_bits_for_any_threads_and_fma_isa(name, dtype, threads, fma_isas, rng):
    arrays, geometry = operands(rng, THREADED[name], dtype), THREADED[name][2]
    x, weight, bias, dz = arrays
    assert uses_threads(lambda: _kernels.conv_forward(x, weight, bias, geometry))
    assert uses_threads(lambda: weight_gradient(x, dz, weight, geometry))
    if len(x) > 1:
        assert uses_threads(lambda: _kernels.conv_backward_input(x.shape, dz, weight, geometry))
    for isas in (fma_isas, ["portable"]):
        _kernels.set_threads(1)
        _kernels.set_isa(isas[0])
        first = run(*arrays, geometry)
        _kernels.set_threads(threads)
        for isa in isas:
            _kernels.set_isa(isa)
            for actual, right in zip(run(*arrays, geometry), first, strict=True):
                assert_same_bits(actual, right)


@pytest.mark.parametrize("name", ["few images", "tiles", "groups", "depthwise"])
def test_an_image_has_the_same_bits_alone_and_among_others(name, dtype, isa, rng):
    """Few images are cut into lines, many are not."""
    (_, *image), weight_shape, geometry = THREADED[name]
    x, weight, bias, dz = operands(rng, ((17, *image), weight_shape, geometry), dtype)
    y, dx, _ = run(x, weight, bias, dz, geometry)
    for part in (slice(1), slice(3, 7), slice(0, 16)):
        some = run(x[part], weight, bias, dz[part], geometry)
        assert_same_bits(some[0], y[part])
        assert_same_bits(some[1], dx[part])


# ---- the order of adding ----

# more than a chunk of terms forward, more than a chunk of places
ORDERED = {
    "three chunks": case((2, 12, 13, 33), (4, 5), 18, (1, 1), ((1, 3), (2, 0))),
    "strides and dilation": case((3, 23, 23, 29), (3, 3), 5, (2, 2), ((1, 1), (4, 0)), (2, 1)),
    "groups": case((2, 12, 13, 62), (3, 3), 36, groups=2, padding=((1, 1), (1, 1))),
}


@pytest.mark.parametrize("name", ORDERED)
def test_float32_is_one_chain_of_fused_multiply_adds(name, fma_isas, rng):
    (x, weight, _, dz), geometry = operands(rng, ORDERED[name], np.float32), ORDERED[name][2]
    y = reference.conv_in_order(x, weight, geometry, reference.fma32)
    kernel = weight.shape[:2]
    dweight = reference.conv_weight_in_order(x, dz, kernel, geometry, reference.fma32)
    assert weight[..., 0].size > reference.CHUNK and dz[..., 0].size > reference.CHUNK
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.conv_forward(x, weight, None, geometry), y)
        assert_same_bits(weight_gradient(x, dz, weight, geometry), dweight)


def test_float64_is_one_chain_of_fused_multiply_adds(fma_isas, rng):
    shapes = case((1, 17, 17, 29), (3, 3), 2, padding=((1, 0), (0, 1)))
    (x, weight, _, dz), geometry = operands(rng, shapes, np.float64), shapes[2]
    fma = np.vectorize(reference.fma64, otypes=[np.float64])
    corner = np.s_[:, :3, :4]
    y = reference.conv_in_order(x[:, :4, :6], weight, geometry, fma)[corner]
    some = np.s_[..., [0, 28]]
    dweight = reference.conv_weight_in_order(x[some], dz, (3, 3), geometry, fma)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        actual = _kernels.conv_forward(x, weight, None, geometry)[corner]
        assert_same_bits(np.ascontiguousarray(actual), y)
        actual = weight_gradient(x, dz, weight, geometry)[:, :, [0, 28]]
        assert_same_bits(np.ascontiguousarray(actual), dweight)


IN_TILES = ["tiles", "tiles, some cut", "tiles of 300 channels", "tiles of both"]


@pytest.mark.parametrize("name", IN_TILES)
def test_tiles_are_sums_of_chains(name, fma_isas, rng):
    (x, weight, *_), (_, padding, *_) = operands(rng, CASES[name], np.float32), CASES[name][2]
    y = reference.conv_by_tiles(x, weight, padding, reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.conv_forward(x, weight, None, CASES[name][2]), y)


TURNED = {
    "tiles": case((2, 9, 12, 24), (3, 3), 33, padding=((1, 1), (0, 1))),
    "three chunks": case((2, 12, 13, 18), (4, 5), 30, padding=((1, 3), (2, 2))),
    "dilation": case((3, 23, 23, 5), (3, 3), 29, (1, 1), ((2, 1), (2, 3)), (2, 2)),
    "groups": case((2, 12, 13, 36), (3, 3), 62, groups=2, padding=((1, 1), (1, 1))),
}


@pytest.mark.parametrize("name", TURNED)
def test_the_input_s_gradient_at_stride_1_is_a_convolution_with_the_weight_turned(
    name, fma_isas, rng
):
    (x, weight, _, dz), geometry = operands(rng, TURNED[name], np.float32), TURNED[name][2]
    stride, padding, dilation, groups = geometry
    extents = [(n - 1) * d for n, d in zip(weight.shape[:2], dilation, strict=True)]
    around = tuple((n - before, n - behind)
                   for n, (before, behind) in zip(extents, padding, strict=True))  # fmt: skip
    parts = np.split(weight[::-1, ::-1], groups, axis=3)
    turned = np.concatenate([part.swapaxes(2, 3) for part in parts], axis=3)
    if is_in_tiles(weight, geometry):
        dx = reference.conv_by_tiles(dz, turned, around, reference.fma32)
    else:
        back = (stride, around, dilation, groups)
        dx = reference.conv_in_order(dz, turned, back, reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.conv_backward_input(x.shape, dz, weight, geometry), dx)


BESIDE = {  # as near to TURNED's rules as can be, on the other side
    "33 features": (case((2, 8, 7, 5), (3, 3), 33, padding=((1, 1), (1, 1))), 32),
    "padding one larger": (
        case((2, 8, 7, 5), (3, 3), 4, padding=((3, 1), (1, 1))),
        ((2, 1), (1, 1)),
    ),
    "products with padding": (case((2, 9, 50, 5), (3, 3), 4), ((1, 0), (0, 0))),
}


@pytest.mark.parametrize("name", BESIDE)
def test_beside_the_rules_it_is_taken_tap_by_tap(name, dtype):
    """Which shows in the calls: one convolves where three turn, pack and convolve."""
    (x_shape, weight_shape, geometry), other = BESIDE[name]

    def phases(features, padding):
        x, weight, geometry = case(x_shape, weight_shape[:2], features, padding=padding)
        x, weight, _, dz = operands(np.random.default_rng(0), (x, weight, geometry), dtype)
        program = _kernels.Program()
        with program:
            _kernels.conv_backward_input(x.shape, dz, weight, geometry)
        return sum(alone + sum(count for count, _ in chains) for alone, chains in program.phases())

    features, padding = weight_shape[3], geometry[1]
    inside = (other, padding) if isinstance(other, int) else (features, other)
    assert phases(features, padding) == 2
    assert phases(*inside) > 2


def test_the_weight_s_gradient_in_tiles_is_a_sum_of_chains(fma_isas, rng):
    shapes = case((3, 15, 14, 65), (3, 3), 25, padding=((1, 1), (2, 1)))
    (x, _, _, dz), geometry = operands(rng, shapes, np.float32), shapes[2]
    dweight = reference.conv_weight_by_tiles(x, dz, geometry[1], reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(weight_gradient(x, dz, dweight, geometry), dweight)


@pytest.mark.parametrize("taps", [(3, 3), (1, 100)])
def test_depthwise_is_a_chain_over_the_taps(taps, fma_isas, rng):
    """64 taps taken together are a chain of their own."""
    shapes = case((2, 5, 103, 18), taps, 18, groups=18)
    (x, weight, *_), geometry = operands(rng, shapes, np.float32), shapes[2]
    under = list(reference.under_taps(x, taps, (1, 1)))
    total = 0
    for first in range(0, len(under), 64):
        chain = np.zeros_like(under[0])
        for part, tap in zip(under[first:][:64], weight.reshape(-1, 18)[first:], strict=False):
            chain = reference.fma32(*np.broadcast_arrays(part, tap), chain)
        total = chain if first == 0 else total + chain
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(_kernels.conv_forward(x, weight, None, geometry), total)


# ---- epilogue, packed weights ----

SOME = ["3x3", "33 channels, four chunks", "tiles", "tiles of 300 channels", "groups", "depthwise",
        "17 images", "many features"]  # fmt: skip


@pytest.mark.parametrize("activation", _kernels.ACTIVATIONS)
@pytest.mark.parametrize("name", SOME)
def test_epilogue(name, activation, dtype, isa, rng):
    """Bias and activation give the same bits as the activation on its own."""
    (x, weight, bias, _), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    kind, alpha = _kernels.ACTIVATIONS[activation], 0.25
    for b in (bias, None):
        expected_z = _kernels.conv_forward(x, weight, None, geometry) + (0 if b is None else b)
        y, z = _kernels.conv_forward(x, weight, b, geometry, kind, alpha, True)
        assert_same_bits(z, expected_z)
        assert_same_bits(y, _kernels.activation_forward(expected_z, kind, alpha))
        assert_same_bits(_kernels.conv_forward(x, weight, b, geometry, kind, alpha), y)


@pytest.mark.parametrize("name", CASES)
def test_a_packed_weight_gives_the_same_bits_and_is_all_that_is_read(name, dtype, isa, rng):
    (x, weight, bias, _), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    y = _kernels.conv_forward(x, weight, bias, geometry)
    packed = _kernels.conv_pack(weight, geometry)
    assert (packed is None) == name.startswith("depthwise")
    if packed is not None:
        weight[:] = np.nan
    assert_same_bits(_kernels.conv_forward(x, weight, bias, geometry, packed=packed), y)


@pytest.mark.parametrize("name", ["3x3", "tiles"])
def test_a_packed_weight_of_another_shape_or_type_is_refused(name, rng):
    (x, weight, bias, _), geometry = operands(rng, CASES[name], np.float32), CASES[name][2]
    packed = _kernels.conv_pack(weight, geometry)
    for wrong in (packed[:-1], np.zeros(packed.shape), packed[None], packed[::2]):
        with pytest.raises(ValueError, match=r"^packed must"):
            _kernels.conv_forward(x, weight, bias, geometry, packed=wrong)
    for groups in (0, -1, 5, 17):
        with pytest.raises(ValueError, match=r"groups must divide the features, \d+, got"):
            _kernels.conv_pack(weight, (*geometry[:3], groups))


# ---- NaN and infinity ----

NANS = ["3x3", "strides", "dilation", "four sides", "groups", "depthwise", "depthwise, dilation",
        "17 images", "33 channels, four chunks"]  # fmt: skip


def touched(x, weight, geometry, at, source):
    """Where the output depends on that element of x, or the input's gradient on one of dz."""
    mark, ones = np.zeros(source.shape), np.ones(weight.shape)
    mark[at] = 1
    if source is x:
        return reference.conv_forward(mark, ones, None, geometry) > 0
    return reference.conv_backward(np.zeros(x.shape), ones, mark, geometry)[0] > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NANS)
def test_nan_and_infinity_reach_exactly_what_depends_on_them(name, value, dtype, isa, rng):
    (x, weight, _, dz), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    for source, last in itertools.product((x, dz), (True, False)):
        at = tuple(n - 1 if last else n // 2 for n in source.shape)
        broken = source.copy()
        broken[at] = value
        reached = touched(x, weight, geometry, at, source)
        if source is x:
            result = _kernels.conv_forward(broken, weight, None, geometry)
        else:
            result = _kernels.conv_backward_input(x.shape, broken, weight, geometry)
        np.testing.assert_array_equal(~np.isfinite(result), reached)
        if np.isnan(value):
            assert np.isnan(result[reached]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_no_more_than_a_tile(value, dtype, isa, rng):
    """All that depends on them, and what else lies in its tile of 2x2."""
    (x, weight, _, dz), geometry = operands(rng, CASES["tiles"], dtype), CASES["tiles"][2]
    for source, last in itertools.product((x, dz), (True, False)):
        at = tuple(n - 1 if last else n // 2 for n in source.shape)
        broken = source.copy()
        broken[at] = value
        reached = touched(x, weight, geometry, at, source)
        in_tiles = reached.reshape(2, 4, 2, 3, 2, 24).any(axis=(2, 4), keepdims=True)
        in_tiles = np.broadcast_to(in_tiles, (2, 4, 2, 3, 2, 24)).reshape(reached.shape)
        if source is x:
            result = _kernels.conv_forward(broken, weight, None, geometry)
        else:
            result = _kernels.conv_backward_input(x.shape, broken, weight, geometry)
        assert not np.isfinite(result[reached]).any()
        assert np.isfinite(result[~in_tiles]).all()
        if np.isnan(value):
            assert np.isnan(result[reached]).all()
        arrays = (broken, dz) if source is x else (x, broken)
        gradient = weight_gradient(*arrays, weight, geometry)
        at_channel = np.s_[:, :, at[3]] if source is x else np.s_[:, :, :, at[3]]
        assert not np.isfinite(gradient[at_channel][1, 1]).any()
        gradient[at_channel] = 0
        assert np.isfinite(gradient).all()
    weight[1, 2, 3, 5] = value
    result = _kernels.conv_forward(x, weight, None, geometry)
    assert not np.isfinite(result[:, :, :-1, 5]).any()
    assert np.isfinite(np.delete(result, 5, axis=3)).all()


@pytest.mark.parametrize("name", ["15 images", "groups of one channel", "depthwise, two channels"])
def test_nan_reaches_the_weight(name, dtype, isa, rng):
    """Exactly the taps that meet it, where nothing is padded."""
    (x, weight, _, dz), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    for source, at in ((x, (1, 2, 1, 0)), (dz, (0, 0, 0, 1))):
        before, source[at] = source[at], np.nan
        right = np.isnan(reference.conv_backward(x, weight, dz, geometry)[1])
        assert right.any() and not right.all()
        np.testing.assert_array_equal(np.isnan(weight_gradient(x, dz, weight, geometry)), right)
        source[at] = before


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("depthwise")])
def test_padding_of_a_depthwise_convolution_is_terms_of_zero(name, dtype, isa, rng):
    """Whichever way its size is taken: an infinite weight shows where it meets padding."""
    (x, weight, _, dz), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    broken = weight.copy()
    broken[0, 0, 0, 0], x[..., 0] = np.inf, np.abs(x[..., 0])
    with np.errstate(invalid="ignore"):
        right = np.isnan(reference.conv_forward(x, broken, None, geometry))
    np.testing.assert_array_equal(np.isnan(_kernels.conv_forward(x, broken, None, geometry)), right)
    dz[0, 0, 0, 0] = np.nan  # under which all taps of the channel lie, those on padding, too
    gradient = weight_gradient(x, dz, weight, geometry)
    assert np.isnan(gradient[..., 0]).all() and np.isfinite(gradient[..., 1:]).all()


@pytest.mark.parametrize("groups", [1, 4])
def test_an_infinite_weight_times_zero_is_nan(groups, dtype, isa):
    """No term is skipped."""
    x, dz = np.zeros((2, 3, 3, 4), dtype), np.zeros((2, 2, 2, 4), dtype)
    weight = np.full((2, 2, 4 // groups, 4), np.inf, dtype)
    geometry = ((1, 1), ((0, 0), (0, 0)), (1, 1), groups)
    assert np.isnan(_kernels.conv_forward(x, weight, None, geometry)).all()
    assert np.isnan(_kernels.conv_backward_input(x.shape, dz, weight, geometry)).all()


# ---- what the faces take ----


@pytest.mark.parametrize("name", ["3x3", "tiles", "groups", "depthwise"])
def test_operands_are_read_only_and_gradients_are_set_not_added(name, dtype, isa, rng):
    arrays, geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    first = run(*arrays, geometry)
    x, weight, _, dz = arrays
    dweight = np.full(weight.shape, 9, dtype)
    _kernels.conv_backward_weight(x, dz, dweight, geometry)
    assert_same_bits(dweight, first[2])
    for array, old in zip(arrays, before, strict=True):
        assert_same_bits(array, old)


def faces(x, weight, bias, dz, dweight, geometry):
    return {
        "forward": lambda: _kernels.conv_forward(x, weight, bias, geometry),
        "input": lambda: _kernels.conv_backward_input((2, 5, 4, 6), dz, weight, geometry),
        "weight": lambda: _kernels.conv_backward_weight(x, dz, dweight, geometry),
        "pack": lambda: _kernels.conv_pack(weight, geometry),
        "pad": lambda: _kernels.conv_pad(x, weight, geometry),
    }


def misaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


BROKEN = {
    "another type": lambda a: a.astype(np.float64),
    "half": lambda a: a.astype(np.float16),
    "integers": lambda a: a.astype(np.int32),
    "big-endian": lambda a: a.astype(">f4"),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[..., ::-1],
    "misaligned": misaligned,
    "one dimension more": lambda a: a[None],
    "one dimension less": lambda a: a[0],
    "wrong shape": lambda a: np.concatenate([a, a], axis=-1),
    "empty": lambda a: a[..., :0],
    "None": lambda a: None,
}
TAKES = [
    ("forward", "x"), ("forward", "weight"), ("forward", "bias"), ("input", "dz"),
    ("input", "weight"), ("weight", "x"), ("weight", "dz"), ("weight", "dweight"),
    ("pack", "weight"), ("pad", "x"), ("pad", "weight"),
]  # fmt: skip


def arguments(groups=1):
    shapes = case((2, 5, 4, 6), (3, 2), 6, groups=groups)
    arrays = operands(np.random.default_rng(0), shapes, np.float32)
    given = dict(zip(("x", "weight", "bias", "dz"), arrays, strict=True))
    return given | {"dweight": np.zeros_like(given["weight"]), "geometry": shapes[2]}


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("face, argument", TAKES)
def test_faces_check_their_arguments(face, argument, broken, groups):
    given = arguments(groups)
    faces(**given)[face]()
    given[argument] = BROKEN[broken](given[argument])
    none_else = face == "pack" and broken in ("another type", "wrong shape")
    none_else |= (face, argument, broken) == ("pad", "weight", "wrong shape")  # more features
    if none_else or (argument, broken) == ("bias", "None"):  # a layer without bias
        faces(**given)[face]()
        return
    # where two arguments disagree, either may be named
    with pytest.raises((ValueError, TypeError), match=r"^(\w+) must |^Argument '\w+' "):
        faces(**given)[face]()


@pytest.mark.parametrize("face", ["forward", "input", "weight"])
@pytest.mark.parametrize("geometry, message", [
    (((0, 1), ((0, 0), (0, 0)), (1, 1), 1), "stride, dilation and groups must be >= 1"),
    (((1, 1), ((0, -1), (0, 0)), (1, 1), 1), "stride, dilation and groups must be >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 0), 1), "stride, dilation and groups must be >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 0), "stride, dilation and groups must be >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 4), r"weight must be \(3, 2, channels / groups, features"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 2), r"weight must be \(3, 2, channels / groups, features"),
    (((1, 1), ((0, 0), (0, 0)), (3, 1), 1), "height: the kernel covers 7, the padded input has 5"),
    (((1, 1), ((0, 0), (1, 0)), (1, 5), 1), "width: the kernel covers 6, the padded input has 5"),
])  # fmt: skip
def test_faces_check_the_geometry(face, geometry, message):
    given = arguments()
    with pytest.raises(ValueError, match=f"^{message}"):
        faces(**given | {"geometry": geometry})[face]()


@pytest.mark.parametrize("wrong", [
    (), None, (1, 2, 3), ((1, 1), 0, (1, 1), 1), ((1,), ((0, 0), (0, 0)), (1, 1), 1),
    (("a", 1), ((0, 0), (0, 0)), (1, 1), 1), ((1, 1), ((0, 0), (0, 0)), (1, 2**64), 1),
])  # fmt: skip
@pytest.mark.parametrize("face", ["forward", "input", "weight"])
def test_a_geometry_that_is_none_is_an_error(face, wrong):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        faces(**arguments() | {"geometry": wrong})[face]()


def test_padding(dtype, threads, rng):
    for batch, sides in itertools.product([1, 15, 16], itertools.product([0, 2], repeat=4)):
        padding = sides[:2], sides[2:]
        x_shape, weight, geometry = case((batch, 5, 4, 7), (3, 3), 5, padding=padding)
        x, weight = rng.standard_normal(x_shape).astype(dtype), np.ones(weight, dtype)
        padded, rest = _kernels.conv_pad(x, weight, geometry)
        assert_same_bits(padded, reference.pad_images(x, padding))
        assert (padded is x) == (sum(sides) == 0)
        assert rest == ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)


@pytest.mark.parametrize("name", ["tiles", "depthwise"])
def test_what_needs_no_copy_with_its_padding_is_given_none(name, dtype, rng):
    (x, weight, *_), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    images, rest = _kernels.conv_pad(x, weight, geometry)
    assert images is x
    assert rest == geometry


@pytest.mark.parametrize("wrong", [
    (), (2, 5, 4), (2, 5, 4, 0), (2, 5, 4, 7), (2, 5, 5, 6), None, (2, 5, 4, "a"), (2**64, 5, 4, 6),
])  # fmt: skip
def test_a_shape_that_is_none_is_refused(wrong):
    given = arguments()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _kernels.conv_backward_input(wrong, given["dz"], given["weight"], given["geometry"])


def test_gradients_must_be_writable():
    given = arguments()
    given["dweight"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^dweight must be writable"):
        faces(**given)["weight"]()


def test_few_images_are_cut_into_lines():
    """So that more than one thread has work; enough of them are cut whole."""
    few = _kernels.FEW_IMAGES
    for images, units in ((few - 1, (few - 1) * 5), (few, few)):
        program, x = _kernels.Program(), np.ones((images, 5, 4, 3), np.float32)
        with program:
            _kernels.activation_forward(x, _kernels.ACTIVATIONS["relu"])
        assert program.phases() == [(0, [(1, units)])]
