"""Convolution: NaN and infinity, and what its faces take or refuse."""

import itertools

import numpy as np
import pytest

import reference
from compare import assert_same_bits
from convolutions import CASES, case, operands, run, weight_gradient
from fastnn import _kernels
from forms import misaligned

# ---- NaN and infinity ----

NANS = ["3x3", "strides", "dilation", "four sides", "groups", "depthwise", "depthwise, dilation",
        "17 images", "33 channels, four chunks"]  # fmt: skip


def touched(x, weight, geometry, at, source):
    """Where the output depends on element `at` of x, or the input's gradient on that of dz."""
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
    """They reach all that depends on them, and at most the rest of its tiles of 2x2."""
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
    """Without padding, it reaches exactly the taps that meet it."""
    (x, weight, _, dz), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    for source, at in ((x, (1, 2, 1, 0)), (dz, (0, 0, 0, 1))):
        before, source[at] = source[at], np.nan
        right = np.isnan(reference.conv_backward(x, weight, dz, geometry)[1])
        assert right.any() and not right.all()
        np.testing.assert_array_equal(np.isnan(weight_gradient(x, dz, weight, geometry)), right)
        source[at] = before


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("depthwise")])
def test_padding_of_a_depthwise_convolution_is_terms_of_zero(name, dtype, isa, rng):
    """For every way of computing it: an infinite weight gives NaN where it meets padding."""
    (x, weight, _, dz), geometry = operands(rng, CASES[name], dtype), CASES[name][2]
    broken = weight.copy()
    broken[0, 0, 0, 0], x[..., 0] = np.inf, np.abs(x[..., 0])
    with np.errstate(invalid="ignore"):
        right = np.isnan(reference.conv_forward(x, broken, None, geometry))
    np.testing.assert_array_equal(np.isnan(_kernels.conv_forward(x, broken, None, geometry)), right)
    dz[0, 0, 0, 0] = np.nan  # all taps of the channel meet it, those on padding too
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
    none_else |= (face, argument, broken) == ("pad", "weight", "wrong shape")  # only more features
    if none_else or (argument, broken) == ("bias", "None"):  # a layer without bias
        faces(**given)[face]()
        return
    # where two arguments disagree, either may be named
    with pytest.raises((ValueError, TypeError), match=r"^(\w+): expected |^Argument '\w+' "):
        faces(**given)[face]()


@pytest.mark.parametrize("face", ["forward", "input", "weight"])
@pytest.mark.parametrize("geometry, message", [
    (((0, 1), ((0, 0), (0, 0)), (1, 1), 1), "geometry: expected stride, dilation and groups >= 1"),
    (((1, 1), ((0, -1), (0, 0)), (1, 1), 1), "geometry: expected stride, dilation and groups >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 0), 1), "geometry: expected stride, dilation and groups >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 0), "geometry: expected stride, dilation and groups >= 1"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 4), r"weight: expected shape \(3, 2, channels"),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 2), r"weight: expected shape \(3, 2, channels"),
    (((1, 1), ((0, 0), (0, 0)), (3, 1), 1), "height: expected at least 7, .*, got 5"),
    (((1, 1), ((0, 0), (1, 0)), (1, 5), 1), "width: expected at least 6, .*, got 5"),
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
    with pytest.raises(ValueError, match=r"^dweight: expected a writable"):
        faces(**given)["weight"]()


def test_few_images_are_cut_into_lines():
    """Lines give work to several threads; of enough images, each is one unit."""
    few = _kernels.FEW_IMAGES
    for images, units in ((few - 1, (few - 1) * 5), (few, few)):
        program, x = _kernels.Program(), np.ones((images, 5, 4, 3), np.float32)
        with program:
            _kernels.activation_forward(x, _kernels.ACTIVATIONS["relu"])
        assert program.phases() == [(0, [(1, units)])]
