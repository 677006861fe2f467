"""Batches: every row once, in an order that follows from the seed."""

import numpy as np
import pytest

from fastnn import batches


@pytest.mark.parametrize("n, size", [(10, 3), (10, 10), (10, 11), (9, 3), (1, 1), (5, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_cover_the_rows_once(n, size, drop_last):
    X, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)
    loader = batches(X, y, batch_size=size, seed=1, drop_last=drop_last)
    got = list(loader)
    assert len(got) == len(loader) == (n // size if drop_last else -(-n // size))
    for xb, yb in got:
        np.testing.assert_array_equal(xb, X[yb])
        assert xb.flags.c_contiguous and not np.shares_memory(xb, X)
    seen = np.concatenate([yb for _, yb in got]) if got else np.array([], int)
    assert len(np.unique(seen)) == len(seen) == (n // size * size if drop_last else n)


def test_order_follows_the_seed():
    X = y = np.arange(100)

    def orders(epochs=2, **options):
        loader = batches(X, y, batch_size=9, **options)
        return [np.concatenate([yb for _, yb in loader]) for _ in range(epochs)]

    first = orders(seed=3)
    for a, b in zip(orders(seed=3), first, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != first[1]).any() and (orders(seed=4)[0] != first[0]).any()
    np.testing.assert_array_equal(orders(shuffle=False)[0], y)


def test_batches_keep_dtypes_and_carry_weights():
    X, y = np.ones((4, 2), np.float16), np.arange(4, dtype=np.uint8)
    for xb, yb, wb in batches(X, y, batch_size=2, sample_weight=[1, 2, 3, 4], shuffle=False):
        assert xb.dtype == np.float16 and yb.dtype == np.uint8
        np.testing.assert_array_equal(wb, yb + 1)


@pytest.mark.parametrize("options, message", [
    *(({"batch_size": size}, "batch_size: expected an integer >= 1, got")
      for size in (0, -1, 2.0, True)),
    ({"y": np.arange(3)}, "the arrays differ .*: X has 4, y has 3"),
    ({"X": np.ones((0, 2)), "y": np.ones(0)}, "X and y: no rows"),
    ({"X": np.full((4, 2), "a")}, "X: expected real numbers"),
    ({"sample_weight": [1, 2]}, "the arrays differ .*: .*sample_weight has 2"),
    ({"X": 1.0}, "X: expected an array of rows"),
    *(({"seed": seed}, "seed: expected an integer from 0") for seed in (-1, "a")),
])  # fmt: skip
def test_batches_refuses(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        batches(**({"X": np.ones((4, 2)), "y": np.arange(4)} | options))


@pytest.mark.parametrize("name", ["shuffle", "drop_last"])
@pytest.mark.parametrize("value", ["no", 0, None])
def test_flags_of_batches_are_true_or_false(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got {value!r}"):
        batches([[0.0]], [0], **{name: value})
