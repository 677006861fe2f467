"""Convolution over images: forward, both gradients, its bits and its order of adding."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reference
from compare import assert_close, assert_same_bits, uses_threads, wide
from convolutions import CASES, case, is_in_tiles, operands, run, weight_gradient
from fastnn import _kernels

LINEAR = _kernels.ACTIVATIONS["linear"]


def largest_of_tiles(a):
    """For each element, the largest of its tile of 2x2."""
    _, height, width, _ = a.shape
    a = np.pad(a, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    a = np.maximum(a[:, ::2], a[:, 1::2])
    a = np.maximum(a[:, :, ::2], a[:, :, 1::2])
    return a.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]


def expected(x, weight, bias, dz, geometry):
    """What the reference gives for `run`, each with what an element's rounding scales with."""
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
    """Images smaller than the kernel are enlarged."""
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

# output and gradients each have work enough for threads, 1e6 operations
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

# each has more than a chunk of terms and of output pixels
ORDERED = {
    "few features": case((2, 12, 13, 65), (3, 3), 6, padding=((1, 1), (1, 1))),
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


@pytest.mark.parametrize(
    "shape, kernel, geometry",
    [
        ((9, 12, 13, 3), (3, 3), {}),
        ((2, 17, 60, 20), (2, 5), {"stride": (1, 2)}),
        ((3, 23, 25, 34), (3, 2), {"groups": 2, "dilation": (2, 1)}),
    ],
)
@pytest.mark.parametrize("features", [4, 18])
def test_the_weight_s_gradient_is_a_sum_of_spans(shape, kernel, geometry, features, fma_isas, rng):
    shapes = case(shape, kernel, features, **geometry)
    (x, weight, _, dz), geometry = operands(rng, shapes, np.float32), shapes[2]
    dweight = reference.conv_weight_in_order(x, dz, kernel, geometry, reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
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


BESIDE = {  # cases that just miss the rules for TURNED; features or padding that meet them
    "33 features": (case((2, 8, 7, 5), (3, 3), 33, padding=((1, 1), (1, 1))), 32),
    "padding one larger": (
        case((2, 8, 7, 5), (3, 3), 4, padding=((3, 1), (1, 1))),
        ((2, 1), (1, 1)),
    ),
    "products with padding": (case((2, 9, 50, 5), (3, 3), 4), ((1, 0), (0, 0))),
}


@pytest.mark.parametrize("name", BESIDE)
def test_an_input_s_gradient_beside_the_rules_is_taken_tap_by_tap(name, dtype):
    """The recorded calls show it: with the weight turned there are more than two."""
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


@pytest.mark.parametrize("batch, channels", [(3, 65), (9, 40), (1, 40), (12, 130)])
def test_the_weight_s_gradient_in_tiles_is_a_sum_of_chains(batch, channels, fma_isas, rng):
    shapes = case((batch, 15, 14, channels), (3, 3), 25, padding=((1, 1), (2, 1)))
    (x, _, _, dz), geometry = operands(rng, shapes, np.float32), shapes[2]
    dweight = reference.conv_weight_by_tiles(x, dz, geometry[1], reference.fma32)
    for isa in fma_isas:
        _kernels.set_isa(isa)
        assert_same_bits(weight_gradient(x, dz, dweight, geometry), dweight)


@pytest.mark.parametrize("taps", [(3, 3), (1, 100)])
def test_depthwise_is_a_chain_over_the_taps(taps, fma_isas, rng):
    """Every 64 taps are a chain, and the chains' sums are added in order."""
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
        "17 images", "many features", "few features, strides, groups",
        "few features behind whole vectors"]  # fmt: skip


@pytest.mark.parametrize("activation", _kernels.ACTIVATIONS)
@pytest.mark.parametrize("name", SOME)
def test_epilogue(name, activation, dtype, isa, rng):
    """Bias and activation give the same bits as when they are applied afterwards."""
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
        with pytest.raises(ValueError, match=r"^packed: expected"):
            _kernels.conv_forward(x, weight, bias, geometry, packed=wrong)
    for groups in (0, -1, 5, 17):
        with pytest.raises(
            ValueError, match=r"groups: expected a divisor of the \d+ features, got"
        ):
            _kernels.conv_pack(weight, (*geometry[:3], groups))
