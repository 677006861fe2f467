"""Pooling over windows: forward, gradients, NaN, what their faces refuse."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reference
from compare import assert_close, assert_same_bits, uses_threads, wide
from fastnn import _kernels
from forms import unusable

# name -> (average, count_padding)
KINDS = {"maximum": (False, False), "average": (True, False), "average, padding": (True, True)}


def case(x, kernel, stride=None, padding=((0, 0), (0, 0))):
    """The shape of the images, and the faces' `geometry`."""
    return x, (kernel, kernel if stride is None else stride, padding)


# Channels around a vector's width; images around 16 (fewer are cut by line); windows apart, side by
# side, overlapping, over the edge.
CASES = {
    "one pixel": case((1, 1, 1, 1), (1, 1)),
    "one pixel, padded": case((2, 1, 1, 3), (3, 2), (1, 1), ((1, 1), (1, 1))),
    "2x2": case((3, 6, 8, 3), (2, 2)),
    "2x2, odd sizes": case((3, 7, 9, 17), (2, 2)),
    "3x3 by 2": case((2, 9, 7, 16), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "3x3 by 1": case((2, 5, 8, 15), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "windows apart": case((2, 11, 13, 5), (2, 3), (4, 5)),
    "rows apart, columns not": case((2, 11, 9, 33), (2, 3), (3, 1)),
    "columns apart, rows not": case((2, 9, 11, 4), (3, 2), (1, 2)),
    "four sides": case((2, 6, 5, 7), (3, 4), (2, 1), ((0, 2), (3, 1))),
    "a window all but in the padding": case((2, 3, 4, 2), (4, 5), (3, 4), ((3, 3), (4, 4))),
    "the whole image": case((5, 7, 6, 33), (7, 6), (1, 1)),
    "larger than the image": case((2, 3, 4, 5), (5, 6), (1, 1), ((2, 1), (1, 2))),
    "a line": case((3, 1, 40, 6), (1, 3), (1, 2)),
    "a column": case((3, 40, 1, 6), (4, 1), (3, 1)),
    "15 images": case((15, 4, 5, 3), (2, 2), (1, 1)),
    "16 images": case((16, 4, 5, 3), (2, 2), (2, 1)),
    "17 images": case((17, 4, 5, 3), (2, 3), (2, 2), ((1, 0), (0, 2))),
}


def operands(rng, shapes, dtype):
    """x, and dy of the output's shape."""
    x = rng.standard_normal(shapes[0]).astype(dtype)
    y = _kernels.pool_forward(x, shapes[1], False)
    return x, rng.standard_normal(y.shape).astype(dtype)


def run(x, dy, geometry, kind):
    y = _kernels.pool_forward(x, geometry, *kind)
    return y, _kernels.pool_backward(x, y, dy, geometry, *kind)


def assert_right(x, dy, geometry, kind, dtype):
    """A maximum is one of the elements, bit for bit; a sum is judged by its terms' size."""
    y, dx = run(x, dy, geometry, kind)
    right = reference.pool_forward(wide(x), geometry, *kind)
    if kind[0]:
        assert_close(y, right, dtype, reference.pool_forward(abs(wide(x)), geometry, *kind))
    else:
        assert_same_bits(y, right.astype(dtype))
    right = reference.pool_backward(wide(x), wide(dy), geometry, *kind)
    assert_close(dx, right, dtype, reference.pool_backward(wide(x), abs(wide(dy)), geometry, *kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_against_the_reference(name, kind, dtype, isa, rng):
    assert_right(*operands(rng, CASES[name], dtype), CASES[name][1], KINDS[kind], dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_around_the_vectors(kind, dtype, isa, rng):
    for channels in [*range(1, 19), 31, 32, 33, 65]:
        for stride in ((2, 2), (1, 2)):
            shapes = case((2, 5, 4, channels), (2, 2), stride, ((1, 0), (0, 1)))
            assert_right(*operands(rng, shapes, dtype), shapes[1], KINDS[kind], dtype)


axis = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3),
                 st.integers(0, 3))  # fmt: skip


@pytest.mark.parametrize("isa", _kernels.isa_levels())
@settings(
    derandomize=True, deadline=None, max_examples=60, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    axes=st.tuples(axis, axis), channels=st.integers(1, 40), double=st.booleans(),
    batch=st.sampled_from([1, 2, 15, 16, 17]), kind=st.sampled_from(list(KINDS)),
)  # fmt: skip
def test_any_shape(isa, axes, channels, double, batch, kind):
    _kernels.set_isa(isa)
    size, kernel, stride, before, behind = zip(*axes, strict=True)
    padding = tuple((min(a, k - 1), min(b, k - 1))
                    for a, b, k in zip(before, behind, kernel, strict=True))  # fmt: skip
    size = [max(n, k - sum(p)) for n, k, p in zip(size, kernel, padding, strict=True)]
    shapes = case((batch, *size, channels), kernel, stride, padding)
    dtype = np.float64 if double else np.float32
    arrays = operands(np.random.default_rng(0), shapes, dtype)
    assert_right(*arrays, shapes[1], KINDS[kind], dtype)


# ---- maxima that are equal, NaN, infinity ----


@pytest.mark.parametrize("name", CASES)
def test_the_first_of_equal_elements_has_the_gradient(name, dtype, isa, rng):
    x, dy = operands(rng, CASES[name], dtype)
    for values in (rng.integers(0, 2, x.shape), np.zeros(x.shape), np.full(x.shape, -np.inf)):
        assert_right(values.astype(dtype), dy, CASES[name][1], KINDS["maximum"], dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_nan_in_nan_out(name, kind, dtype, isa, rng):
    """Exactly the windows with a NaN give NaN, wherever in the window it is."""
    x, dy = operands(rng, CASES[name], dtype)
    geometry = CASES[name][1]
    x[rng.random(x.shape) < 0.1] = np.nan
    y, dx = run(x, dy, geometry, KINDS[kind])
    np.testing.assert_array_equal(
        np.isnan(y), np.isnan(reference.pool_forward(x, geometry, *KINDS[kind]))
    )
    right = reference.pool_backward(x, dy, geometry, *KINDS[kind])
    assert_close(dx, right, dtype, 10 * np.abs(dy).max())
    dy[rng.random(dy.shape) < 0.1] = np.nan
    right = reference.pool_backward(x, dy, geometry, *KINDS[kind])
    dx = run(x, dy, geometry, KINDS[kind])[1]
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(right))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_infinity(kind, value, dtype, isa, rng):
    shapes = CASES["3x3 by 2"]
    x, dy = operands(rng, shapes, dtype)
    x[rng.random(x.shape) < 0.2] = value
    y, dx = run(x, dy, shapes[1], KINDS[kind])
    right = reference.pool_forward(x, shapes[1], *KINDS[kind])
    assert_close(y, right, dtype, 10 * np.abs(x[np.isfinite(x)]).max())
    right = reference.pool_backward(x, dy, shapes[1], *KINDS[kind])
    assert_close(dx, right, dtype, 10 * np.abs(dy).max())


# ---- the same bits ----

# both ways have work enough for threads, 1e6 operations
THREADED = {
    "few images": case((3, 40, 75, 33), (5, 6), (2, 3), ((2, 2), (0, 5))),
    "overlapping": case((5, 20, 12, 100), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "many images": case((33, 22, 21, 80), (3, 2), (2, 2)),
    "the whole image": case((48, 40, 20, 33), (40, 20)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", THREADED)
def test_same_bits_for_any_threads_and_isa(name, kind, dtype, threads, rng):
    """Pooling has no fused multiply-adds, so the portable level has the same bits too."""
    (x, dy), geometry = operands(rng, THREADED[name], dtype), THREADED[name][1]
    assert uses_threads(lambda: _kernels.pool_forward(x, geometry, *KINDS[kind]))
    _kernels.set_threads(1)
    first = run(x, dy, geometry, KINDS[kind])
    assert uses_threads(lambda: _kernels.pool_backward(x, first[0], dy, geometry, *KINDS[kind]))
    _kernels.set_threads(threads)
    for isa in _kernels.isa_levels():
        _kernels.set_isa(isa)
        for actual, right in zip(run(x, dy, geometry, KINDS[kind]), first, strict=True):
            assert_same_bits(actual, right)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_has_the_same_bits_alone_and_among_others(kind, dtype, isa, rng):
    shapes = case((17, 8, 9, 5), (3, 3), (2, 1), ((1, 1), (2, 0)))
    x, dy = operands(rng, shapes, dtype)
    whole = run(x, dy, shapes[1], KINDS[kind])
    for part in (slice(1), slice(3, 7), slice(0, 16)):
        for some, all_ in zip(run(x[part], dy[part], shapes[1], KINDS[kind]), whole, strict=True):
            assert_same_bits(some, all_[part])


# ---- what the faces take ----


def calls():
    """Each face with good arguments, by name: the tests break one argument at a time."""
    rng = np.random.default_rng(0)
    geometry = ((2, 3), (2, 1), ((1, 0), (0, 2)))
    x, dy = operands(rng, ((2, 5, 4, 6), geometry), np.float32)
    options = {"geometry": geometry, "average": False}
    return {
        "pool_forward": {"x": x} | options,
        "pool_backward": {"x": x, "y": np.copy(dy), "dy": dy} | options,
    }


ARRAYS = [
    (face, name) for face, arguments in calls().items()
    for name, value in arguments.items() if isinstance(value, np.ndarray)
]  # fmt: skip


@pytest.mark.parametrize("face, name", ARRAYS)
def test_faces_check_their_arrays(face, name):
    arguments = calls()[face]
    run_face = getattr(_kernels, face)
    run_face(*arguments.values())
    good = arguments[name]
    good.flags.writeable = False
    run_face(*arguments.values())
    broken = unusable(good)
    if face != "pool_forward":  # a single array may have either type
        broken.append(good.astype(np.float64))
    if name != "x":
        broken += [good[None], good[..., :3].copy(), good[:1]]
    for wrong in broken:
        # where two arguments disagree, either may be named
        with pytest.raises((TypeError, ValueError), match=rf"^\w+: expected |^Argument '{name}' "):
            run_face(*(arguments | {name: wrong}).values())


@pytest.mark.parametrize("face", ["pool_forward", "pool_backward"])
@pytest.mark.parametrize("geometry, message", [
    (((0, 1), (1, 1), ((0, 0), (0, 0))), "geometry: expected kernel and stride >= 1, padding"),
    (((1, 1), (1, 0), ((0, 0), (0, 0))), "geometry: expected kernel and stride >= 1, padding"),
    (((2, 2), (1, 1), ((0, 0), (-1, 0))), "geometry: expected kernel and stride >= 1, padding"),
    (((2, 2), (1, 1), ((0, 2), (0, 0))), "padding: expected less than the kernel, .*, got"),
    (((2, 2), (1, 1), ((0, 0), (2, 0))), "padding: expected less than the kernel, .*, got"),
    (((6, 2), (1, 1), ((0, 0), (0, 0))), "height: expected at least 6, .*, got 5"),
    (((2, 7), (1, 1), ((0, 0), (1, 1))), "width: expected at least 7, .*, got 6"),
])  # fmt: skip
def test_faces_check_the_geometry(face, geometry, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        getattr(_kernels, face)(*(calls()[face] | {"geometry": geometry}).values())


@pytest.mark.parametrize("wrong", [(), (1, 2, 3), ((1, 1), (1, 1), 0), ((1, 1), ("a", 1), (0, 0)),
                                   ((2**64, 1), (1, 1), ((0, 0), (0, 0)))])  # fmt: skip
@pytest.mark.parametrize("face", ["pool_forward", "pool_backward"])
def test_a_geometry_that_is_none_is_an_error(face, wrong):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        getattr(_kernels, face)(*(calls()[face] | {"geometry": wrong}).values())
