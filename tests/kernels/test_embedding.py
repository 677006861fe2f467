"""The kernels of embeddings: forward, gradient, invalid codes, what their faces refuse."""

import numpy as np
import pytest

import reference
from compare import assert_same_bits
from fastnn import _kernels
from forms import unusable

# (rows of codes, codes, features)
EMBEDDINGS = [((1,), 1, 1), ((7,), 3, 15), ((4, 5), 9, 16), ((2, 3, 4), 5, 17), ((40,), 1, 33),
              ((3, 11), 100, 3), ((1, 1, 1, 2), 2, 130)]  # fmt: skip


def embedding_operands(rng, shape, count, features, dtype):
    codes = rng.integers(0, count, shape).astype(dtype)
    weight = rng.standard_normal((count, features)).astype(dtype)
    return codes, weight, rng.standard_normal((*shape, features)).astype(dtype)


def embedding(codes, weight, dy):
    dweight = np.full_like(weight, np.nan)
    _kernels.embedding_backward(codes, dy, dweight)
    return _kernels.embedding_forward(codes, weight), dweight


@pytest.mark.parametrize("shape, count, features", EMBEDDINGS)
def test_embedding(shape, count, features, dtype, isa, rng):
    """Bit for bit, NaN and infinity included: kernels only copy, and add in the batch's order."""
    codes, weight, dy = embedding_operands(rng, shape, count, features, dtype)
    for special in (0, np.nan, np.inf):
        weight.flat[0] = dy.flat[-1] = special
        y, dweight = embedding(codes, weight, dy)
        assert_same_bits(y, reference.embedding_forward(codes, weight))
        assert_same_bits(dweight, reference.embedding_backward(codes, dy, weight))


@pytest.mark.parametrize("shape, count, features", [
    ((3000,), 50, 70), ((40, 90), 1000, 65), ((2, 2000), 7, 130),
])  # fmt: skip
def test_embedding_has_the_same_bits_for_any_threads(shape, count, features, dtype, threads, rng):
    codes, weight, dy = embedding_operands(rng, shape, count, features, dtype)
    _kernels.set_threads(1)
    right = embedding(codes, weight, dy)
    for isa in _kernels.isa_levels():
        _kernels.set_isa(isa)
        _kernels.set_threads(threads)
        for actual, first in zip(embedding(codes, weight, dy), right, strict=True):
            assert_same_bits(actual, first)


@pytest.mark.parametrize("wrong", [-1, 3, 1e30, -1e30, np.nan, np.inf, -np.inf])
def test_what_is_no_code_gives_nan_and_touches_no_memory(wrong, dtype, isa, rng):
    """Layers refuse such codes, but one that is changed after the check must not crash."""
    codes, weight, dy = embedding_operands(rng, (5,), 3, 17, dtype)
    codes[2] = wrong
    y, dweight = embedding(codes, weight, dy)
    assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, axis=0)).all()
    rest = [0, 1, 3, 4]
    assert_same_bits(dweight, reference.embedding_backward(codes[rest], dy[rest], weight))


def test_first_no_code(dtype):
    codes = np.array([[0, 1, 2], [2, 0, 1]], dtype)
    assert _kernels.first_no_code(codes, 3) == -1
    assert _kernels.first_no_code(codes, 2) == 2
    for wrong in (-1, -0.5, 0.5, 3, 2.5, 1e30, np.nan, np.inf, -np.inf):
        codes[1, 1] = wrong
        assert _kernels.first_no_code(codes, 3) == 4


# ---- what the faces take ----


def calls():
    """Each face with good arguments, by name: the tests break one argument at a time."""
    codes, weight, dy = embedding_operands(np.random.default_rng(0), (2, 3), 4, 6, np.float32)
    return {
        "embedding_forward": {"codes": codes, "weight": weight},
        "embedding_backward": {"codes": codes, "dy": dy, "dweight": np.copy(weight)},
        "first_no_code": {"codes": codes, "count": 4},
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
    if name != "dweight":
        good.flags.writeable = False
        run_face(*arguments.values())
    broken = unusable(good)
    if face != "first_no_code":  # a single array may have either type
        broken.append(good.astype(np.float64))
    if name == "dy":
        broken += [good[None], good[..., :3].copy(), good[:1]]
    for wrong in broken:
        # where two arguments disagree, either may be named
        with pytest.raises((TypeError, ValueError), match=rf"^\w+(:| must) |^Argument '{name}' "):
            run_face(*(arguments | {name: wrong}).values())


def test_a_gradient_must_be_writable():
    arguments = calls()["embedding_backward"]
    arguments["dweight"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^dweight(:| must)"):
        _kernels.embedding_backward(*arguments.values())
