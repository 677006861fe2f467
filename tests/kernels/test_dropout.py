"""Dropout: the masks are the reference's, bit for bit, and depend only on seed, step, layer and
the element's number."""

import numpy as np
import pytest

import reference
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import _kernels

# Features at, below and above a group of 16 lanes and a block of 128 elements; rows that end inside
# a byte of the mask, inside a block, and with a block.
SHAPES = [(1, 1), (3, 7), (2, 15), (2, 16), (2, 17), (1, 127), (2, 128), (3, 129), (2, 300), (5, 8),
          (90, 130), (64, 2), (37, 10), (1, 255), (1, 256), (1, 257), (2, 384),
          (300, 1)]  # fmt: skip
RATES = [0.0, 0.1, 0.2, 0.5, 0.75, 0.99]


def counter(step):
    return np.array([step], np.uint64)


def number(rate):
    return np.array([rate])


def drop(x, rate=0.5, seed=0, step=0, layer=0):
    return _kernels.dropout_forward(x, number(rate), seed, counter(step), layer)


def backward(dy, mask, rate):
    return _kernels.dropout_backward(dy, mask, number(rate))


def keep_of(y, mask, shape):
    """The mask's bits, lowest first, which must agree with the zeros of y (x has none)."""
    size = int(np.prod(shape))
    assert mask.dtype == np.uint8 and mask.shape == ((size + 7) // 8,)
    bits = np.unpackbits(mask, bitorder="little")
    keep = bits[:size].astype(bool).reshape(shape)
    np.testing.assert_array_equal(y != 0, keep)
    assert not bits[size:].any(), "bits past the last element are set"
    return keep


def test_reference_philox_gives_the_known_answers():
    """Random123's kat_vectors for philox4x32-10."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for words, key, answer in known:
        assert tuple(int(word) for word in reference.philox(words, key)) == answer


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_masks(shape, rate, dtype, isa, rng):
    """What is kept is scaled by exactly the reference's factor; the rest is 0."""
    key = {"seed": 2**63 + 5, "step": 3, "layer": 2}
    x, dy = (1 + rng.random((2, *shape))).astype(dtype)
    y, mask = drop(x, rate, **key)
    keep = reference.dropout_keep(*shape, rate, **key)
    np.testing.assert_array_equal(keep_of(y, mask, shape), keep)
    scale, zero = dtype.type(reference.dropout_scale(rate)), dtype.type(0)
    assert_same_bits(y, np.where(keep, x * scale, zero))
    assert_same_bits(backward(dy, mask, rate), np.where(keep, dy * scale, zero))


@pytest.mark.parametrize("shape", [(700, 1030), (70001, 10), (30011, 31)], ids=str)
def test_exact_masks_on_any_threads(shape, threads, dtype, isa):
    """There is enough work for threads; their shares begin inside blocks and inside bytes."""
    x = np.ones(shape, dtype)
    assert uses_threads(lambda: drop(x, 0.3, seed=1))
    y, mask = drop(x, 0.3, seed=1)
    keep = reference.dropout_keep(*shape, 0.3, seed=1, step=0, layer=0)
    np.testing.assert_array_equal(keep_of(y, mask, shape), keep)
    np.testing.assert_array_equal(backward(x, mask, 0.3), y)
    assert uses_threads(lambda: backward(x, mask, 0.3))


KEYS = [
    {}, {"seed": 1}, {"seed": 2**32}, {"seed": 2**64 - 1}, {"step": 1}, {"step": 2**32},
    {"step": 2**33 + 7}, {"step": 2**64 - 1}, {"layer": 1}, {"layer": 1000},
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_every_part_of_the_key_counts(key, isa):
    x = np.ones((4, 200), np.float32)
    y, mask = drop(x, **key)
    full = {"seed": 0, "step": 0, "layer": 0} | key
    keep = reference.dropout_keep(4, 200, 0.5, **full)
    np.testing.assert_array_equal(keep_of(y, mask, x.shape), keep)
    if key:
        assert (keep != reference.dropout_keep(4, 200, 0.5, 0, 0, 0)).any()


def test_a_row_has_the_mask_that_it_has_in_any_batch():
    big, small = np.ones((50, 33), np.float32), np.ones((7, 33), np.float32)
    assert_same_bits(drop(big)[0][:7].copy(), drop(small)[0])


@pytest.mark.parametrize("shape", [(4, 3, 20), (40,)])
def test_rows_are_all_axes_but_the_last(shape, dtype, isa):
    x = np.ones(shape, dtype)
    y, mask = drop(x)
    flat, flat_mask = drop(x.reshape(-1, shape[-1]))
    assert y.shape == shape
    assert_same_bits(y.reshape(flat.shape), flat)
    np.testing.assert_array_equal(mask, flat_mask)
    assert backward(x, mask, 0.5).shape == shape


@pytest.mark.parametrize("rate", RATES)
def test_expectation(rate, dtype):
    """The mean of the outputs is that of the inputs, to 5 standard errors of 400,000 draws."""
    x = np.ones((400, 1000), dtype)
    y, _ = drop(x, rate, seed=12)
    dropped = reference.dropout_threshold(rate) / 65536
    error = 5 * np.sqrt(dropped / (1 - dropped) / x.size)
    assert abs(y.mean(dtype=np.float64) - 1) <= error + 1e-7
    for axis in (0, 1):  # neither rows nor columns are special
        spread = 6 * np.sqrt(dropped / (1 - dropped) / x.shape[axis])
        assert np.abs(y.mean(axis=axis, dtype=np.float64) - 1).max() <= spread + 1e-6


def test_neighbouring_steps_layers_and_seeds_are_uncorrelated():
    def centred(**key):
        return drop(np.ones((200, 500)), **key)[0].ravel() - 1

    base = centred()
    for key in ({"step": 1}, {"layer": 1}, {"seed": 1}, {"step": 1, "layer": 1}):
        assert abs((base * centred(**key)).mean()) < 5 / np.sqrt(base.size)
    for lag in (1, 2, 8, 16, 128, 500):
        assert abs((base[lag:] * base[:-lag]).mean()) < 5 / np.sqrt(base.size - lag)


def test_rate_zero_keeps_all_and_the_highest_rate_stays_finite(dtype, isa):
    x = np.linspace(-3, 3, 90, dtype=dtype).reshape(2, 45)
    y, mask = drop(x, 0.0)
    assert_same_bits(y, x)
    assert_same_bits(backward(x, mask, 0.0), x)
    highest = np.nextafter(1.0, 0.0)
    y, mask = drop(np.ones((300, 300), dtype), highest)
    assert np.isfinite(y).all() and set(np.unique(y)) <= {0, 65536}
    assert_close(backward(np.ones_like(y), mask, highest), y.astype(float), dtype)


def test_nan_stays_nan_dropped_or_kept(dtype, isa):
    """What is dropped is multiplied by 0, so that nothing broken is hidden."""
    keep = reference.dropout_keep(1, 40, 0.5, 0, 0, 0)
    for value in (np.nan, np.inf, -np.inf):
        y, mask = drop(np.full((1, 40), value, dtype))
        np.testing.assert_array_equal(y, np.where(keep, value, np.nan))
        dx = backward(np.full((1, 40), value, dtype), mask, 0.5)
        np.testing.assert_array_equal(dx, y)


def test_the_rate_is_read_when_the_kernel_runs(dtype, isa):
    """A replay takes what the rate is by then, with the threshold and the scale of that."""
    x, rate, program = np.ones((3, 50), dtype), number(0.5), _kernels.Program()
    with program:
        y, mask = _kernels.dropout_forward(x, rate, 0, counter(0), 0)
        dx = _kernels.dropout_backward(x, mask, rate)
    for rate[0] in (0.2, 0.0, 0.75):
        y[:], mask[:], dx[:] = 9, 9, 9
        program.replay()
        for mine, expected in zip((y, mask), drop(x, rate[0]), strict=True):
            assert_same_bits(mine, expected)
        assert_same_bits(dx, y)


def test_the_counter_is_read_when_the_kernel_runs_and_advances():
    steps, x = counter(2**32 - 1), np.ones((2, 50), np.float32)
    first, _ = _kernels.dropout_forward(x, number(0.5), 0, steps, 0)
    _kernels.advance(steps)
    assert steps[0] == 2**32
    second, _ = _kernels.dropout_forward(x, number(0.5), 0, steps, 0)
    np.testing.assert_array_equal(first != 0, reference.dropout_keep(2, 50, 0.5, 0, 2**32 - 1, 0))
    np.testing.assert_array_equal(second != 0, reference.dropout_keep(2, 50, 0.5, 0, 2**32, 0))


X = np.ones((2, 20), np.float32)
WRONG = {
    "rate 1": (X, number(1.0), 0, counter(0), 0),
    "rate < 0": (X, number(-0.1), 0, counter(0), 0),
    "rate NaN": (X, number(np.nan), 0, counter(0), 0),
    "seed < 0": (X, number(0.5), -1, counter(0), 0),
    "seed too large": (X, number(0.5), 2**64, counter(0), 0),
    "counter of another type": (X, number(0.5), 0, np.zeros(1, np.int32), 0),
    "counter of another shape": (X, number(0.5), 0, np.zeros((1, 1), np.uint64), 0),
    "no counter": (X, number(0.5), 0, None, 0),
    "integers": (X.astype(int), number(0.5), 0, counter(0), 0),
    "not contiguous": (X[:, ::2], number(0.5), 0, counter(0), 0),
    "a rate that is no array": (X, 0.5, 0, counter(0), 0),
    "a rate of float32": (X, np.full(1, 0.5, np.float32), 0, counter(0), 0),
    "two rates": (X, np.full(2, 0.5), 0, counter(0), 0),
    "no x": (None, number(0.5), 0, counter(0), 0),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_forward_refuses(wrong):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _kernels.dropout_forward(*WRONG[wrong])


@pytest.mark.parametrize("mask", [
    None, np.zeros((1, 5), np.uint8), np.zeros(4, np.uint8), np.zeros(6, np.uint8),
    np.zeros(5, np.int8), np.zeros(5), np.zeros(10, np.uint8)[::2],
])  # fmt: skip
def test_backward_refuses_a_mask_of_another_shape(mask):
    with pytest.raises((TypeError, ValueError), match="mask"):
        backward(X, mask, 0.5)
